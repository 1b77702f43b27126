//! The scripted broker: a small honest broker of our own that can be told to lie, packet by packet and in its TLS.
//!
//! The device is served on one listener, where the lies are told. The operator's tap is served on another, honestly and in the clear, so that
//! what reaches the operator is seen by an independent client as ever. One file a lie, and one line in `lies!` below, which declares module,
//! variant and name. Lies compose: each is asked in the order in which the scenario names them.

mod hub;
mod opening;
mod saying;
mod server;
mod talk;
mod wire;

pub(crate) use server::Parts;
pub use server::Scripted;
pub use wire::PACKET_MAX;

use opening::Opening;
use saying::Saying;
use schemars::JsonSchema;
use serde::Deserialize;
use std::num::NonZeroU32;

/// The two places in which a broker can be wrong; honest by default. A hook says whether it changed anything: what took part is told on
/// the tape, and counted where a lie is told a number of `times`.
trait Misbehaviour {
    /// Changes what a connection begins with: the certificate, or TLS itself. Asked only where the listener speaks TLS.
    fn opening(&self, _opening: &mut Opening<'_>) -> bool {
        false
    }
    /// Changes a packet that is about to be sent to the device.
    fn saying(&self, _saying: &mut Saying) -> bool {
        false
    }
    /// How often it takes part before the broker is honest again; for ever when none.
    fn times(&self) -> Option<NonZeroU32>;
}

macro_rules! lies {
    ($($(#[doc = $doc:literal])+ $name:literal $module:ident::$Lie:ident;)+) => {
        $(mod $module;)+

        /// One lie, as a scenario names it: `withhold: puback`, or `withhold: { answer: puback, times: 2 }`.
        #[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
        pub enum Lie {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $Lie($module::$Lie),)+
        }

        impl Lie {
            /// Every lie's name, in the order of this table.
            pub const NAMES: &[&str] = &[$($name),+];

            /// Its name in a scenario and on the tape.
            pub fn name(&self) -> &'static str {
                match self { $(Lie::$Lie(_) => $name,)+ }
            }

            fn behaviour(&self) -> &dyn Misbehaviour {
                match self { $(Lie::$Lie(lie) => lie,)+ }
            }
        }
    };
}

lies! {
    /// Sends no answer of this kind, and acts as if it had: `withhold: connack`, `withhold: { answer: puback, times: 1 }`. Answers are `connack`,
    /// `puback`, `suback`, `pingresp`, `order` (a PUBLISH to the device) and `any`.
    "withhold" withhold::Withhold;
    /// Answers with this code: `refuse: { answer: connack, code: 0x87 }`; a SUBACK has it for each filter.
    "refuse" refuse::Refuse;
    /// Answers with another packet id than the device's: `wrong-id: puback`.
    "wrong-id" wrong_id::WrongId;
    /// Sends a packet that is not well formed: `malform: { answer: suback, how: reserved-flags }`, or `endless-length`, `short-length`,
    /// `reserved-type`.
    "malform" malform::Malform;
    /// Sends these bytes in place of a packet, or after it: `bytes: { instead-of: connack, hex: "20 02 00 00" }`.
    "bytes" bytes::Bytes;
    /// Cuts the connection after an answer: `cut: connack`. No goodbye, neither of MQTT nor of TLS.
    "cut" cut::Cut;
    /// Says goodbye after an answer, with a reason (v5; on v3.1.1 the connection ends without a word): `disconnect: { after: connack, reason: 0x8b }`.
    "disconnect" disconnect::Disconnect;
    /// Says in CONNACK that it has the device's session, or has not, whatever is true: `session-present: claimed`, or `denied`.
    "session-present" session_present::SessionPresent;
    /// Names limits in CONNACK (v5), and keeps to them: `limits: { receive-maximum: 1 }`. It ends a connection that does not.
    "limits" limits::Limits;
    /// Sends each order of QoS 1 a second time at once, with DUP and the same packet id: `duplicate-order: { times: 1 }`.
    "duplicate-order" duplicate_order::DuplicateOrder;
    /// Fills each order up, so that its packet has so many bytes: `large-order: { bytes: 16384 }`. It does not care what the device takes.
    "large-order" large_order::LargeOrder;
    /// Shows another server certificate than an honest one: `certificate: truncated`, or `garbage`, `nothing`, `bad-signature`,
    /// `no-intermediate`, `large` (30 KiB, good), `huge` (130 KiB, good).
    "certificate" certificate::Certificate;
    /// Answers the ClientHello with something that is not TLS, and closes: `not-tls: http`, or `garbage`, `nothing`.
    "not-tls" not_tls::NotTls;
    /// Cuts the connection when it has sent so many bytes of the TLS handshake: `cut-handshake: { at-bytes: 60 }`.
    "cut-handshake" cut_handshake::CutHandshake;
}

/// An answer of the broker, by the packet that it is; `order` is a message for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// CONNACK.
    Connack,
    /// PUBACK.
    Puback,
    /// SUBACK.
    Suback,
    /// PINGRESP.
    Pingresp,
    /// A PUBLISH to the device.
    Order,
    /// Any of these.
    Any,
}

impl Answer {
    fn is(self, kind: &str) -> bool {
        match self {
            Answer::Connack => kind == "connack",
            Answer::Puback => kind == "puback",
            Answer::Suback => kind == "suback",
            Answer::Pingresp => kind == "pingresp",
            Answer::Order => kind == "publish",
            Answer::Any => true,
        }
    }
}

/// The lies that are being told, and how often each still is.
#[derive(Debug, Default)]
struct Lies(Vec<(Lie, Option<u32>)>);

impl Lies {
    fn new(lies: Vec<Lie>) -> Lies {
        let told = |lie: Lie| {
            let left = lie.behaviour().times().map(NonZeroU32::get);
            (lie, left)
        };
        Lies(lies.into_iter().map(told).collect())
    }

    /// Asks every lie that is still told, and names those that took part.
    fn tell(&mut self, mut hook: impl FnMut(&dyn Misbehaviour) -> bool) -> Vec<String> {
        let mut names = Vec::new();
        for (lie, left) in self.0.iter_mut().filter(|(_, left)| *left != Some(0)) {
            if hook(lie.behaviour()) {
                *left = left.map(|left| left - 1);
                names.push(lie.name().to_owned());
            }
        }
        names
    }
}

/// The schema of a lie whose most important key may stand for the whole.
fn or_word(schema: &mut schemars::Schema) {
    let full = schema.clone();
    *schema = schemars::json_schema!({ "anyOf": [{ "type": "string" }, full] });
}

#[cfg(test)]
mod tests {
    use super::wire::{Publish, Say, frame};
    use super::*;
    use device_core::config::MqttVersion;

    fn lie(json: serde_json::Value) -> Lie {
        serde_json::from_value(json).unwrap()
    }

    fn order() -> Saying {
        let publish = Publish { id: Some(1), topic: "devices/d1/command".into(), payload: b"blink".to_vec(), ..Publish::default() };
        Saying::new(MqttVersion::V5, Say::Publish(publish))
    }

    #[test]
    fn a_lie_is_told_as_often_as_it_is_to_be() {
        let twice = serde_json::json!({ "withhold": { "answer": "puback", "times": 2 } });
        let always = serde_json::json!({ "cut": { "after": "any" } });
        let mut lies = Lies::new(vec![lie(twice), lie(always)]);
        let mut told = |packet: Say| lies.tell(|lie| lie.saying(&mut Saying::new(MqttVersion::V5, packet.clone())));
        assert_eq!(told(Say::PubAck { id: 1, code: 0 }), ["withhold", "cut"]);
        assert_eq!(told(Say::PingResp), ["cut"], "it took no part");
        assert_eq!(told(Say::PubAck { id: 1, code: 0 }), ["withhold", "cut"]);
        assert_eq!(told(Say::PubAck { id: 1, code: 0 }), ["cut"]);
    }

    #[test]
    fn a_large_order_has_the_bytes_it_is_to_have() {
        // Where the length field grows, one size cannot be had: then it is a byte less.
        for bytes in [100, 128, 129, 1_000, 16_383, 16_384, 16_385, 131_072, PACKET_MAX] {
            let mut saying = order();
            let large = lie(serde_json::json!({ "large-order": { "bytes": bytes } }));
            assert!(large.behaviour().saying(&mut saying));
            let length = saying.bytes().len();
            assert!(length == bytes || length + 1 == bytes, "{length} for {bytes}");
            assert_eq!(frame(&saying.bytes()), Ok(Some(length)));
        }
        let mut saying = order();
        lie(serde_json::json!({ "large-order": { "bytes": 16_384 } })).behaviour().saying(&mut saying);
        assert_eq!(saying.bytes().len(), 16_384, "a TLS record");
    }

    #[test]
    fn broken_packets_are_broken() {
        for (how, expected) in
            [("endless-length", "d0ffffffff00"), ("short-length", "d00000"), ("reserved-flags", "d600"), ("reserved-type", "0000")]
        {
            let mut saying = Saying::new(MqttVersion::V5, Say::PingResp);
            lie(serde_json::json!({ "malform": { "answer": "pingresp", "how": how } })).behaviour().saying(&mut saying);
            assert_eq!(crate::ca::pki::hex(&saying.bytes()), expected, "{how}");
        }
    }

    #[test]
    fn bytes_are_sent_as_they_are_written() {
        let mut saying = Saying::new(MqttVersion::V5, Say::ConnAck { present: false, code: 0, properties: vec![] });
        lie(serde_json::json!({ "bytes": { "hex": "20 02\n00 00" } })).behaviour().saying(&mut saying);
        assert_eq!(saying.bytes(), [0x20, 3, 0, 0, 0, 0x20, 2, 0, 0]);
        for wrong in ["2", "zz", "0x20"] {
            let refused = serde_json::from_value::<Lie>(serde_json::json!({ "bytes": { "hex": wrong } })).unwrap_err();
            assert!(refused.to_string().contains("two hex digits"), "{refused}");
        }
    }
}
