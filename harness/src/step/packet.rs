//! What can be expected of a packet between the device and a scripted broker.

use super::expect::{Parts, Peer, has, shown};
use crate::event::MqttPacket;
use crate::pattern::TopicFilter;
use schemars::JsonSchema;
use serde::Deserialize;
use std::fmt;

/// A packet; all that is given must hold.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(transform = or_kind)]
pub struct PacketSeen {
    /// Which packet.
    pub kind: PacketKind,
    /// Who sent it; unset: who alone can, of a `lie` the server, else the device.
    #[serde(default)]
    pub by: Option<Peer>,
    /// On which of the device's connections to the broker, counted from 1.
    #[serde(default)]
    pub connection: Option<u32>,
    /// Its packet id.
    #[serde(default)]
    pub id: Option<u16>,
    /// Whether it says that it was sent before.
    #[serde(default)]
    pub dup: Option<bool>,
    /// QoS of a publish, the highest asked for of a subscribe.
    #[serde(default)]
    pub qos: Option<u8>,
    /// Whether a publish is to be retained.
    #[serde(default)]
    pub retained: Option<bool>,
    /// The topic of a publish, with `+` and `#`.
    #[serde(default)]
    pub topic: Option<TopicFilter>,
    /// Its reason or return code, 0 where it has none.
    #[serde(default)]
    pub code: Option<u8>,
    /// Whether the same packet with the same id was sent before and not acknowledged.
    #[serde(default)]
    pub again: Option<Again>,
    /// A text in what was wrong: of a `handshake` the device's alert, such as `alert unknown_ca`.
    #[serde(default)]
    pub why: Option<String>,
    /// A misbehaviour that took part (of a packet of the broker).
    #[serde(default)]
    pub lie: Option<String>,
}

fn or_kind(schema: &mut schemars::Schema) {
    let full = schema.clone();
    let kinds: Vec<_> = PacketKind::ALL.iter().map(|kind| kind.name()).collect();
    *schema = schemars::json_schema!({ "anyOf": [{ "type": "string", "enum": kinds }, full] });
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $Kind:ident $name:literal)+) => {
        /// A packet's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
        pub enum PacketKind {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $Kind,)+
        }

        impl PacketKind {
            /// Every one.
            const ALL: &[PacketKind] = &[$(PacketKind::$Kind),+];

            fn name(self) -> &'static str {
                match self { $(PacketKind::$Kind => $name,)+ }
            }
        }
    };
}

kinds! {
    /// CONNECT.
    Connect "connect"
    /// CONNACK.
    Connack "connack"
    /// PUBLISH.
    Publish "publish"
    /// PUBACK.
    Puback "puback"
    /// SUBSCRIBE.
    Subscribe "subscribe"
    /// SUBACK.
    Suback "suback"
    /// UNSUBSCRIBE.
    Unsubscribe "unsubscribe"
    /// UNSUBACK.
    Unsuback "unsuback"
    /// PINGREQ.
    Pingreq "pingreq"
    /// PINGRESP.
    Pingresp "pingresp"
    /// DISCONNECT.
    Disconnect "disconnect"
    /// What is no packet, or is not allowed there: the device's fault.
    Wrong "wrong"
    /// A TLS handshake that failed (by the device, or while it was at it), or in which a lie was told (by the server).
    Handshake "handshake"
}

/// Where a packet was sent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Again {
    /// On the same connection.
    Live,
    /// On an earlier connection of the session.
    AfterReconnect,
    /// Nowhere.
    Never,
}

impl Again {
    fn name(self) -> Option<&'static str> {
        match self {
            Again::Live => Some("live"),
            Again::AfterReconnect => Some("after-reconnect"),
            Again::Never => None,
        }
    }
}

impl PacketSeen {
    pub(super) fn meets(&self, packet: &MqttPacket) -> bool {
        packet.kind == self.kind.name()
            && packet.by == peer(self.by())
            && has(self.connection.as_ref(), |connection| packet.connection == *connection)
            && has(self.id.as_ref(), |id| packet.id == Some(*id))
            && has(self.dup.as_ref(), |dup| packet.dup == *dup)
            && has(self.qos.as_ref(), |qos| packet.qos == Some(*qos))
            && has(self.retained.as_ref(), |retained| packet.retained == *retained)
            && has(self.topic.as_ref(), |wish| packet.topic.as_ref().is_some_and(|topic| wish.matches(topic)))
            && has(self.code.as_ref(), |code| packet.code.unwrap_or(0) == *code)
            && has(self.again.as_ref(), |again| packet.again.as_deref() == again.name())
            && has(self.why.as_ref(), |text| packet.why.as_ref().is_some_and(|why| why.contains(text.as_str())))
            && has(self.lie.as_ref(), |lie| packet.lies.contains(lie))
    }

    /// Who sends it: who it says, or the only one who can, or the device.
    fn by(&self) -> Peer {
        use PacketKind::{Connack, Pingresp, Suback, Unsuback};
        let brokers_only = matches!(self.kind, Connack | Suback | Unsuback | Pingresp);
        self.by.unwrap_or(if brokers_only || self.lie.is_some() { Peer::Server } else { Peer::Device })
    }
}

/// As the tape has it.
fn peer(peer: Peer) -> &'static str {
    match peer {
        Peer::Device => "device",
        Peer::Server => "broker",
    }
}

impl fmt::Display for PacketSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "packet {} by {}", self.kind.name(), peer(self.by()))?;
        let again = self.again.map(|again| again.name().unwrap_or("never"));
        let why = self.why.as_ref().map(|text| crate::scenario::yaml::shown(text));
        let code = self.code.map(|code| format!("0x{code:02x}"));
        Parts(f)
            .say("connection", shown(&self.connection))?
            .say("id", shown(&self.id))?
            .say("topic", shown(&self.topic))?
            .say("qos", shown(&self.qos))?
            .say("retained", shown(&self.retained))?
            .say("dup", shown(&self.dup))?
            .say("code", shown(&code))?
            .say("again", shown(&again))?
            .say("why", shown(&why))?
            .say("lie", shown(&self.lie))?;
        Ok(())
    }
}
