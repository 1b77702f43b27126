//! The broker's side of a session under test: hears the client through an independent codec, answers with bytes written by hand.
#![allow(dead_code, unused_macros, reason = "each test file uses its part")]

use device_core::config::MqttVersion;
use device_core::secret::Secret;
use device_core::session::{Message, Session, SessionConfig, SessionEvent};
use device_core::time::Instant;
use mqtt_protocol_core::mqtt::packet::{Property, Qos, SubEntry, v3_1_1, v5_0};
use std::time::Duration;

/// Makes each function two tests, one for each version.
macro_rules! in_both_versions {
    ($($name:ident),* $(,)?) => {
        mod v5 { $(#[test] fn $name() { super::$name(super::V5) })* }
        mod v311 { $(#[test] fn $name() { super::$name(super::V311) })* }
    };
}

pub const ACK_TIMEOUT_MS: u64 = 10_000;
pub const KEEPALIVE_S: u16 = 60;
pub const FILTER: &str = "devices/d1/command";

/// A packet of the client, as the independent codec reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Connect(Box<Connect>),
    Publish { id: Option<u16>, dup: bool, retain: bool, topic: String, payload: Vec<u8> },
    PubAck { id: u16 },
    Subscribe { id: u16, filters: Vec<(String, u8)> },
    PingReq,
    Disconnect { code: u8 },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connect {
    pub client_id: String,
    pub clean: bool,
    pub keepalive_s: u16,
    pub username: Option<String>,
    pub password: Option<Vec<u8>>,
    pub will: Option<(String, Vec<u8>, bool)>,
    /// v5: (identifier, number), in order.
    pub properties: Vec<(u8, u32)>,
}

/// Reads one packet of the client; panics when the codec does not take it whole.
pub fn hear(version: MqttVersion, packet: &[u8]) -> Said {
    let first = packet[0];
    let digits = packet[1..].iter().position(|b| b & 0x80 == 0).expect("a remaining length") + 1;
    let remaining = packet[1..=digits].iter().rev().fold(0, |sum, b| sum * 128 + usize::from(b & 0x7f));
    let body = &packet[1 + digits..];
    assert_eq!(body.len(), remaining, "remaining length of {packet:02x?}");
    let v5 = version == MqttVersion::V5;
    match (first >> 4, v5) {
        (1, true) => {
            let (p, used) = v5_0::Connect::parse(body).expect("CONNECT");
            assert_eq!((first, used), (0x10, body.len()));
            assert!(!p.will_flag() || p.will_qos() == Qos::AtLeastOnce);
            Said::Connect(Box::new(Connect {
                client_id: p.client_id().into(),
                clean: p.clean_start(),
                keepalive_s: p.keep_alive(),
                username: p.user_name().map(Into::into),
                password: p.password().map(Into::into),
                will: p.will_topic().map(|t| (t.into(), p.will_payload().unwrap_or_default().into(), p.will_retain())),
                properties: p
                    .props()
                    .iter()
                    .map(|p| match p {
                        Property::SessionExpiryInterval(v) => (0x11, v.val()),
                        Property::ReceiveMaximum(v) => (0x21, u32::from(v.val())),
                        Property::MaximumPacketSize(v) => (0x27, v.val()),
                        other => panic!("unexpected property {other:?}"),
                    })
                    .collect(),
            }))
        }
        (1, false) => {
            let (p, used) = v3_1_1::Connect::parse(body).expect("CONNECT");
            assert_eq!((first, used), (0x10, body.len()));
            assert!(!p.will_flag() || p.will_qos() == Qos::AtLeastOnce);
            Said::Connect(Box::new(Connect {
                client_id: p.client_id().into(),
                clean: p.clean_session(),
                keepalive_s: p.keep_alive(),
                username: p.user_name().map(Into::into),
                password: p.password().map(Into::into),
                will: p.will_topic().map(|t| (t.into(), p.will_payload().unwrap_or_default().into(), p.will_retain())),
                properties: Vec::new(),
            }))
        }
        (3, true) => {
            let (p, used) = v5_0::Publish::parse(first & 0x0f, body.into()).expect("PUBLISH");
            assert_eq!(used, body.len());
            assert_eq!(p.qos() == Qos::AtLeastOnce, p.packet_id().is_some());
            Said::Publish {
                id: p.packet_id(),
                dup: p.dup(),
                retain: p.retain(),
                topic: p.topic_name().into(),
                payload: p.payload().as_slice().into(),
            }
        }
        (3, false) => {
            let (p, used) = v3_1_1::Publish::parse(first & 0x0f, body.into()).expect("PUBLISH");
            assert_eq!(used, body.len());
            assert_eq!(p.qos() == Qos::AtLeastOnce, p.packet_id().is_some());
            Said::Publish {
                id: p.packet_id(),
                dup: p.dup(),
                retain: p.retain(),
                topic: p.topic_name().into(),
                payload: p.payload().as_slice().into(),
            }
        }
        (4, true) => {
            let (p, used) = v5_0::Puback::parse(body).expect("PUBACK");
            assert_eq!((first, used), (0x40, body.len()));
            assert!(p.reason_code().is_none_or(|c| c as u8 == 0));
            Said::PubAck { id: p.packet_id() }
        }
        (4, false) => {
            let (p, used) = v3_1_1::Puback::parse(body).expect("PUBACK");
            assert_eq!((first, used), (0x40, body.len()));
            Said::PubAck { id: p.packet_id() }
        }
        (8, true) => {
            let (p, used) = v5_0::Subscribe::parse(body).expect("SUBSCRIBE");
            assert_eq!((first, used), (0x82, body.len()));
            Said::Subscribe { id: p.packet_id(), filters: filters(p.entries()) }
        }
        (8, false) => {
            let (p, used) = v3_1_1::Subscribe::parse(body).expect("SUBSCRIBE");
            assert_eq!((first, used), (0x82, body.len()));
            Said::Subscribe { id: p.packet_id(), filters: filters(p.entries()) }
        }
        (12, _) => {
            assert_eq!(packet, [0xc0, 0]);
            Said::PingReq
        }
        (14, true) => {
            let (p, used) = v5_0::Disconnect::parse(body).expect("DISCONNECT");
            assert_eq!((first, used), (0xe0, body.len()));
            Said::Disconnect { code: p.reason_code().map_or(0, |c| c as u8) }
        }
        (14, false) => {
            assert_eq!(packet, [0xe0, 0]);
            Said::Disconnect { code: 0 }
        }
        _ => panic!("not a client's packet: {packet:02x?}"),
    }
}

fn filters(entries: &[SubEntry]) -> Vec<(String, u8)> {
    entries.iter().map(|e| (e.topic_filter().into(), e.sub_opts().to_buffer()[0])).collect()
}

/// A packet: its first byte and its body.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut left = body.len();
    while left >= 128 {
        out.push((left % 128) as u8 | 0x80);
        left /= 128;
    }
    out.push(left as u8);
    out.extend(body);
    out
}

/// CONNACK with these v5 properties (ignored in v3.1.1).
pub fn connack(version: MqttVersion, present: bool, code: u8, properties: &[u8]) -> Vec<u8> {
    let mut body = vec![u8::from(present), code];
    if version == MqttVersion::V5 {
        body.push(properties.len() as u8);
        body.extend(properties);
    }
    packet(0x20, &body)
}

/// PUBACK with success, or with a code (v5).
pub fn puback(id: u16, code: u8) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    if code == 0 { packet(0x40, &[high, low]) } else { packet(0x40, &[high, low, code]) }
}

/// SUBACK.
pub fn suback(version: MqttVersion, id: u16, codes: &[u8]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == MqttVersion::V5 {
        body.push(0);
    }
    body.extend(codes);
    packet(0x90, &body)
}

/// PUBLISH to the client, at QoS 1 when there is an id.
pub fn publish(version: MqttVersion, id: Option<u16>, topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend(topic.as_bytes());
    body.extend(id.iter().flat_map(|id| id.to_be_bytes()));
    if version == MqttVersion::V5 {
        body.push(0);
    }
    body.extend(payload);
    packet(if id.is_some() { 0x32 } else { 0x30 }, &body)
}

pub const PINGRESP: [u8; 2] = [0xd0, 0];

/// What came out of the session: what it said to the broker, what it told its owner.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Out {
    pub said: Vec<Said>,
    pub told: Vec<SessionEvent>,
}

impl Out {
    /// The reason of the `Close`, when there was one.
    pub fn closed(&self) -> Option<&str> {
        self.told.iter().find_map(|e| match e {
            SessionEvent::Close(why) => Some(why.as_str()),
            _ => None,
        })
    }

    /// (id, DUP) of each PUBLISH said, in order.
    pub fn publishes(&self) -> Vec<(u16, bool)> {
        self.said
            .iter()
            .filter_map(|s| match s {
                Said::Publish { id, dup, .. } => Some((id.unwrap_or(0), *dup)),
                _ => None,
            })
            .collect()
    }

    /// The id of the SUBSCRIBE, when there was one.
    pub fn subscribe_id(&self) -> Option<u16> {
        self.said.iter().find_map(|s| match s {
            Said::Subscribe { id, .. } => Some(*id),
            _ => None,
        })
    }
}

/// A session, its clock and the wire between it and the test.
pub struct Rig {
    pub session: Session,
    pub version: MqttVersion,
    pub now: Instant,
}

pub fn config(version: MqttVersion) -> SessionConfig {
    SessionConfig {
        client_id: "d1".into(),
        version,
        keepalive_s: KEEPALIVE_S,
        username: None,
        password: None,
        will: None,
        ack_timeout_ms: ACK_TIMEOUT_MS as u32,
        packet_limit: 1024,
        subscriptions: vec![FILTER.into()],
    }
}

pub fn full_config(version: MqttVersion) -> SessionConfig {
    SessionConfig {
        username: Some("user".into()),
        password: Some(Secret::new("hunter2")),
        will: Some(message("devices/d1/status", b"offline", true)),
        ..config(version)
    }
}

pub fn message(topic: &str, payload: &[u8], retain: bool) -> Message {
    Message { topic: topic.into(), payload: payload.into(), retain }
}

impl Rig {
    pub fn new(version: MqttVersion) -> Self {
        Rig::with(config(version))
    }

    pub fn with(config: SessionConfig) -> Self {
        Rig { version: config.version, session: Session::new(config), now: Instant(1_000) }
    }

    /// A rig whose session is up and subscribed; the broker has nothing in flight.
    pub fn up(version: MqttVersion) -> Self {
        Rig::up_with(version, &[])
    }

    /// As `up`, with v5 CONNACK properties.
    pub fn up_with(version: MqttVersion, properties: &[u8]) -> Self {
        let mut rig = Rig::new(version);
        rig.connect();
        let out = rig.receive(&connack(version, false, 0, properties));
        let id = out.subscribe_id().expect("a SUBSCRIBE");
        assert!(rig.receive(&suback(version, id, &[1])).closed().is_none());
        rig
    }

    pub fn drain(&mut self) -> Out {
        let mut out = Out::default();
        while let Some(event) = self.session.poll() {
            match event {
                SessionEvent::Send(bytes) => out.said.push(hear(self.version, &bytes)),
                event => out.told.push(event),
            }
        }
        out
    }

    pub fn connect(&mut self) -> Out {
        self.session.connect(self.now);
        self.drain()
    }

    /// Cuts the connection, connects again and lets the broker accept.
    pub fn reconnect(&mut self, present: bool, properties: &[u8]) -> Out {
        self.session.transport_closed();
        self.connect();
        self.receive(&connack(self.version, present, 0, properties))
    }

    pub fn receive(&mut self, bytes: &[u8]) -> Out {
        self.session.received(self.now, bytes);
        self.drain()
    }

    /// Lets time pass and ticks once.
    pub fn after(&mut self, ms: u64) -> Out {
        self.now = self.now + Duration::from_millis(ms);
        self.session.tick(self.now);
        self.drain()
    }

    /// Publishes `t` = token's text.
    pub fn publish(&mut self, token: u64) -> Out {
        self.session.publish(self.now, token, message("t", token.to_string().as_bytes(), false)).expect("room");
        self.drain()
    }

    /// (milliseconds from now, whether an answer is owed)
    pub fn deadline(&self) -> Option<(u64, bool)> {
        self.session.deadline().map(|(at, owed)| (at.since(self.now).as_millis() as u64, owed))
    }
}

/// The session closes, and a v5 broker is told this code first.
pub fn assert_violation(out: &Out, version: MqttVersion, code: u8) {
    let why = out.closed().unwrap_or_else(|| panic!("not closed: {out:?}"));
    assert!(why.starts_with("the broker broke the protocol: "), "{why}");
    let said = if version == MqttVersion::V5 { vec![Said::Disconnect { code }] } else { vec![] };
    assert_eq!(out.said, said, "{why}");
}
