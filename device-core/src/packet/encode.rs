//! The packets a client sends, as bytes.

use super::{REMAINING_LENGTH_MAX, is_topic_filter, is_topic_name, properties};
use crate::config::MqttVersion;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// What a CONNECT says. The session is never clean: the broker keeps it for `session_expiry_s` (v5) or as long as it likes (v3.1.1).
#[derive(Clone, Copy)]
pub struct Connect<'a> {
    /// Protocol version.
    pub version: MqttVersion,
    /// Client identifier.
    pub client_id: &'a str,
    /// Seconds; 0 switches keepalive off.
    pub keepalive_s: u16,
    /// User name. An empty one is sent when there is a password only, which v3.1.1 forbids [MQTT-3.1.2-22] and not every v5 broker takes.
    pub username: Option<&'a str>,
    /// Password.
    pub password: Option<&'a str>,
    /// Last will, at QoS 1.
    pub will: Option<Will<'a>>,
    /// v5: how long the broker keeps the session after a disconnection, seconds.
    pub session_expiry_s: u32,
    /// v5: how many QoS 1 PUBLISHes of the broker may be unacknowledged at once; not 0.
    pub receive_maximum: u16,
    /// v5: the largest packet accepted, bytes; not 0.
    pub packet_limit: u32,
}

/// A last will.
#[derive(Clone, Copy)]
pub struct Will<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// Payload, at most 65,535 bytes.
    pub payload: &'a [u8],
    /// Retain flag.
    pub retain: bool,
}

/// Why something cannot be said in MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unencodable {
    /// A text or the packet is longer than its length field can say.
    TooLong,
    /// A text holds NUL, or is no topic name or filter.
    BadText,
}

impl fmt::Display for Unencodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unencodable::TooLong => "longer than its length field can say",
            Unencodable::BadText => "a text that MQTT does not allow",
        })
    }
}

/// CONNECT.
///
/// # Errors
/// `Unencodable` when a text or the will's payload is longer than 65,535 bytes, holds NUL, or the will's topic is none.
pub fn connect(c: &Connect<'_>) -> Result<Vec<u8>, Unencodable> {
    let v5 = c.version == MqttVersion::V5;
    let username = c.username.or(c.password.map(|_| ""));
    let mut flags = 0;
    let mut body = Vec::with_capacity(64);
    if let Some(will) = c.will {
        flags |= 0x04 | 0x08 | if will.retain { 0x20 } else { 0 };
    }
    flags |= if username.is_some() { 0x80 } else { 0 } | if c.password.is_some() { 0x40 } else { 0 };
    put_text(&mut body, "MQTT")?;
    body.extend([if v5 { 5 } else { 4 }, flags]);
    body.extend(c.keepalive_s.to_be_bytes());
    if v5 {
        body.push(5 + 3 + 5);
        body.push(properties::SESSION_EXPIRY_INTERVAL);
        body.extend(c.session_expiry_s.to_be_bytes());
        body.push(properties::RECEIVE_MAXIMUM);
        body.extend(c.receive_maximum.to_be_bytes());
        body.push(properties::MAXIMUM_PACKET_SIZE);
        body.extend(c.packet_limit.to_be_bytes());
    }
    put_text(&mut body, c.client_id)?;
    if let Some(will) = c.will {
        if !is_topic_name(will.topic) {
            return Err(Unencodable::BadText);
        }
        if v5 {
            body.push(0);
        }
        put_text(&mut body, will.topic)?;
        put_binary(&mut body, will.payload)?;
    }
    if let Some(username) = username {
        put_text(&mut body, username)?;
    }
    if let Some(password) = c.password {
        put_binary(&mut body, password.as_bytes())?;
    }
    let mut out = start(0x10, body.len())?;
    out.extend(body);
    Ok(out)
}

/// PUBLISH: at QoS 1 with an id, at QoS 0 without one (and then never with `dup`).
///
/// # Errors
/// `BadText` when the topic is no topic name, `TooLong` when the packet does not fit its length field.
pub fn publish(
    version: MqttVersion,
    id: Option<u16>,
    dup: bool,
    retain: bool,
    topic: &str,
    payload: &[u8],
) -> Result<Vec<u8>, Unencodable> {
    if !is_topic_name(topic) {
        return Err(if topic.len() > usize::from(u16::MAX) { Unencodable::TooLong } else { Unencodable::BadText });
    }
    let v5 = version == MqttVersion::V5;
    let first = 0x30 | if id.is_some() { 0x02 | if dup { 0x08 } else { 0 } } else { 0 } | u8::from(retain);
    let mut out = start(first, 2 + topic.len() + if id.is_some() { 2 } else { 0 } + usize::from(v5) + payload.len())?;
    put_text(&mut out, topic)?;
    if let Some(id) = id {
        out.extend(id.to_be_bytes());
    }
    if v5 {
        out.push(0);
    }
    out.extend_from_slice(payload);
    Ok(out)
}

/// PUBACK with success.
pub fn puback(id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    Vec::from([0x40, 2, high, low])
}

/// SUBSCRIBE to these filters at QoS 1.
///
/// # Errors
/// `BadText` when one is no topic filter or there is none, `TooLong` when the packet does not fit its length field.
pub fn subscribe(version: MqttVersion, id: u16, filters: &[String]) -> Result<Vec<u8>, Unencodable> {
    if filters.is_empty() || !filters.iter().all(|f| is_topic_filter(f)) {
        return Err(Unencodable::BadText);
    }
    let v5 = version == MqttVersion::V5;
    let entries: usize = filters.iter().map(|f| 2 + f.len() + 1).sum();
    let mut out = start(0x82, 2 + usize::from(v5) + entries)?;
    out.extend(id.to_be_bytes());
    if v5 {
        out.push(0);
    }
    for filter in filters {
        put_text(&mut out, filter)?;
        out.push(1);
    }
    Ok(out)
}

/// PINGREQ.
pub fn pingreq() -> Vec<u8> {
    Vec::from([0xc0, 0])
}

/// DISCONNECT. v3.1.1 has no reason code.
pub fn disconnect(version: MqttVersion, code: u8) -> Vec<u8> {
    match (version, code) {
        (MqttVersion::V311, _) | (MqttVersion::V5, 0) => Vec::from([0xe0, 0]),
        (MqttVersion::V5, code) => Vec::from([0xe0, 1, code]),
    }
}

/// The fixed header, in a vector that has room for the rest.
fn start(first: u8, remaining: usize) -> Result<Vec<u8>, Unencodable> {
    if remaining > REMAINING_LENGTH_MAX {
        return Err(Unencodable::TooLong);
    }
    let mut out = Vec::with_capacity(5 + remaining);
    out.push(first);
    let mut left = remaining;
    loop {
        let digit = (left % 128) as u8;
        left /= 128;
        out.push(if left > 0 { digit | 0x80 } else { digit });
        if left == 0 {
            return Ok(out);
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) -> Result<(), Unencodable> {
    if text.contains('\0') {
        return Err(Unencodable::BadText);
    }
    put_binary(out, text.as_bytes())
}

fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Unencodable> {
    let length = u16::try_from(bytes.len()).map_err(|_| Unencodable::TooLong)?;
    out.extend(length.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// The name of the packet these bytes begin, for logs and `Debug`.
pub fn name(bytes: &[u8]) -> &'static str {
    match bytes.first().map(|first| first >> 4) {
        Some(1) => "CONNECT",
        Some(3) => "PUBLISH",
        Some(4) => "PUBACK",
        Some(8) => "SUBSCRIBE",
        Some(12) => "PINGREQ",
        Some(14) => "DISCONNECT",
        _ => "nothing",
    }
}
