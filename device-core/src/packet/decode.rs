//! The packets a broker may send, read strictly: anything else is a [`Violation`], whatever the bytes.

use super::{Violation, is_topic_name, properties, reason};
use crate::config::MqttVersion;

/// A packet from the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// CONNACK.
    ConnAck(ConnAck),
    /// PUBLISH at QoS 0 or 1.
    Publish(Publish<'a>),
    /// PUBACK; `code` is 0 in v3.1.1.
    PubAck {
        /// Packet id.
        id: u16,
        /// v5 reason code.
        code: u8,
    },
    /// SUBACK.
    SubAck {
        /// Packet id.
        id: u16,
        /// A code for each filter: the QoS granted (0 or 1; we never ask for 2), or 0x80 and above.
        codes: &'a [u8],
    },
    /// PINGRESP.
    PingResp,
    /// DISCONNECT (v5).
    Disconnect {
        /// Reason code.
        code: u8,
    },
}

/// What a CONNACK says. Limits that v3.1.1 does not know, or v5 did not name, have the value that limits nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// Whether the broker still has the session.
    pub session_present: bool,
    /// 0: accepted. Otherwise the v3.1.1 return code or v5 reason code.
    pub code: u8,
    /// How many QoS 1 PUBLISHes may be unacknowledged at once.
    pub receive_maximum: u16,
    /// The largest packet the broker accepts, bytes.
    pub packet_max: u32,
    /// Whether QoS 1 may be published.
    pub qos1: bool,
    /// Whether retained messages may be published.
    pub retain: bool,
    /// The keepalive the broker wants in place of ours, seconds.
    pub keepalive_s: Option<u16>,
    /// How long the broker keeps the session in place of what we asked for, seconds.
    pub session_expiry_s: Option<u32>,
}

/// What a PUBLISH says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Packet id; there is one at QoS 1 and none at QoS 0.
    pub id: Option<u16>,
    /// Whether the broker may have sent it before.
    pub dup: bool,
    /// Whether it was retained.
    pub retain: bool,
    /// Topic name.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a [u8],
}

const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const SUBACK: u8 = 9;
const PINGRESP: u8 = 13;
const DISCONNECT: u8 = 14;

/// How many bytes the packet has that `bytes` begins with, once its fixed header is all there; `None` before that.
///
/// # Errors
/// A type or flags that a broker may not send to us, a Remaining Length that is not minimal or has more than four bytes, or a packet
/// larger than `limit` bytes: known from the header alone, before anything is kept.
pub fn length(version: MqttVersion, bytes: &[u8], limit: u32) -> Result<Option<usize>, Violation> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    check_first_byte(version, first)?;
    match variable(rest)? {
        Some((remaining, digits)) => match 1 + digits + remaining {
            total if u32::try_from(total).is_ok_and(|t| t <= limit) => Ok(Some(total)),
            _ => Err(Violation { code: reason::PACKET_TOO_LARGE, what: "packet larger than the limit" }),
        },
        None => Ok(None),
    }
}

/// Reads one whole packet, as long as [`length`] said.
///
/// # Errors
/// Anything that the version's specification does not allow a broker to send to this client.
pub fn decode(version: MqttVersion, bytes: &[u8]) -> Result<Packet<'_>, Violation> {
    let (&first, rest) = bytes.split_first().ok_or(Violation::malformed("empty packet"))?;
    check_first_byte(version, first)?;
    let (remaining, digits) = variable(rest)?.ok_or(Violation::malformed("packet cut short"))?;
    let mut body = Reader::new(rest.get(digits..).unwrap_or_default());
    if body.rest.len() != remaining {
        return Err(Violation::malformed("packet and its length differ"));
    }
    let packet = match first >> 4 {
        CONNACK => connack(version, &mut body)?,
        PUBLISH => publish(version, first, &mut body)?,
        PUBACK => puback(version, &mut body)?,
        SUBACK => suback(version, &mut body)?,
        DISCONNECT => disconnect(&mut body)?,
        _ => Packet::PingResp,
    };
    if body.is_empty() { Ok(packet) } else { Err(Violation::malformed("bytes after the end of the packet")) }
}

fn check_first_byte(version: MqttVersion, first: u8) -> Result<(), Violation> {
    match (first >> 4, first & 0x0f) {
        (PUBLISH, flags) => match (flags >> 1) & 3 {
            0 if flags & 0x08 != 0 => Err(Violation::malformed("DUP at QoS 0")),
            0 | 1 => Ok(()),
            2 => Err(Violation::protocol("QoS 2 PUBLISH, though QoS 1 was asked for")),
            _ => Err(Violation::malformed("QoS 3")),
        },
        (DISCONNECT, _) if version == MqttVersion::V311 => Err(Violation::protocol("DISCONNECT from a v3.1.1 broker")),
        (CONNACK | PUBACK | SUBACK | PINGRESP | DISCONNECT, 0) => Ok(()),
        (CONNACK | PUBACK | SUBACK | PINGRESP | DISCONNECT, _) => Err(Violation::malformed("reserved flags set")),
        (0, _) => Err(Violation::malformed("packet type 0")),
        (5..=7, _) => Err(Violation::protocol("QoS 2 acknowledgement, though nothing was sent at QoS 2")),
        (11, _) => Err(Violation::protocol("UNSUBACK without UNSUBSCRIBE")),
        (15, _) if version == MqttVersion::V311 => Err(Violation::malformed("packet type 15")),
        (15, _) => Err(Violation::protocol("AUTH, though no authentication method was named")),
        _ => Err(Violation::protocol("a packet that only clients send")),
    }
}

fn connack<'a>(version: MqttVersion, body: &mut Reader<'a>) -> Result<Packet<'a>, Violation> {
    let flags = body.byte()?;
    let code = body.byte()?;
    if flags & !1 != 0 {
        return Err(Violation::malformed("reserved CONNACK flags set"));
    }
    let legal = match version {
        MqttVersion::V311 => code <= 5,
        MqttVersion::V5 => matches!(code, 0 | 0x80..=0x8a | 0x8c | 0x90 | 0x95 | 0x97 | 0x99..=0x9d | 0x9f),
    };
    if !legal {
        return Err(Violation::protocol("unknown CONNACK code"));
    }
    if code != 0 && flags != 0 {
        return Err(Violation::protocol("session present in a refusal"));
    }
    let mut ack = ConnAck {
        session_present: flags != 0,
        code,
        receive_maximum: u16::MAX,
        packet_max: u32::MAX,
        qos1: true,
        retain: true,
        keepalive_s: None,
        session_expiry_s: None,
    };
    if version == MqttVersion::V5 {
        properties::read(body, properties::IN_CONNACK, |id, number| match id {
            properties::RECEIVE_MAXIMUM => ack.receive_maximum = number as u16,
            properties::MAXIMUM_PACKET_SIZE => ack.packet_max = number,
            properties::MAXIMUM_QOS => ack.qos1 = number != 0,
            properties::RETAIN_AVAILABLE => ack.retain = number != 0,
            properties::SERVER_KEEP_ALIVE => ack.keepalive_s = Some(number as u16),
            properties::SESSION_EXPIRY_INTERVAL => ack.session_expiry_s = Some(number),
            _ => {}
        })?;
    }
    Ok(Packet::ConnAck(ack))
}

fn publish<'a>(version: MqttVersion, first: u8, body: &mut Reader<'a>) -> Result<Packet<'a>, Violation> {
    let topic = body.text()?;
    if !topic.is_empty() && !is_topic_name(topic) {
        return Err(Violation { code: reason::TOPIC_NAME_INVALID, what: "wildcard in a topic name" });
    }
    let id = if first & 0x06 != 0 { Some(body.packet_id()?) } else { None };
    if version == MqttVersion::V5 {
        properties::read(body, properties::IN_PUBLISH, |_, _| {})?;
    }
    if topic.is_empty() {
        return Err(Violation::protocol("empty topic name"));
    }
    Ok(Packet::Publish(Publish { id, dup: first & 0x08 != 0, retain: first & 1 != 0, topic, payload: body.take_rest() }))
}

fn puback<'a>(version: MqttVersion, body: &mut Reader<'a>) -> Result<Packet<'a>, Violation> {
    let id = body.packet_id()?;
    let mut code = 0;
    if version == MqttVersion::V5 && !body.is_empty() {
        code = body.byte()?;
        if !matches!(code, 0 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99) {
            return Err(Violation::protocol("unknown PUBACK code"));
        }
        if !body.is_empty() {
            properties::read(body, properties::IN_ACK, |_, _| {})?;
        }
    }
    Ok(Packet::PubAck { id, code })
}

fn suback<'a>(version: MqttVersion, body: &mut Reader<'a>) -> Result<Packet<'a>, Violation> {
    let id = body.packet_id()?;
    if version == MqttVersion::V5 {
        properties::read(body, properties::IN_ACK, |_, _| {})?;
    }
    let codes = body.take_rest();
    for &code in codes {
        match (version, code) {
            (_, 0 | 1 | 0x80) => {}
            (_, 2) => return Err(Violation::protocol("QoS 2 granted, though QoS 1 was asked for")),
            (MqttVersion::V5, 0x83 | 0x87 | 0x8f | 0x91 | 0x97 | 0x9e | 0xa1 | 0xa2) => {}
            _ => return Err(Violation::protocol("unknown SUBACK code")),
        }
    }
    if codes.is_empty() {
        return Err(Violation::malformed("SUBACK without codes"));
    }
    Ok(Packet::SubAck { id, codes })
}

fn disconnect<'a>(body: &mut Reader<'a>) -> Result<Packet<'a>, Violation> {
    let mut code = 0;
    if !body.is_empty() {
        code = body.byte()?;
        if !matches!(code, 0 | 0x80..=0x83 | 0x87 | 0x89 | 0x8b..=0x90 | 0x93..=0xa2) {
            return Err(Violation::protocol("unknown DISCONNECT code"));
        }
        if !body.is_empty() {
            properties::read(body, properties::IN_DISCONNECT, |_, _| {})?;
        }
    }
    Ok(Packet::Disconnect { code })
}

/// Reads a variable byte integer: its value and how many bytes it took, or `None` when it goes on past the end.
fn variable(bytes: &[u8]) -> Result<Option<(usize, usize)>, Violation> {
    let mut value = 0;
    for (i, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return match byte {
                0 if i > 0 => Err(Violation::malformed("length not in its shortest form")),
                _ => Ok(Some((value, i + 1))),
            };
        }
    }
    if bytes.len() >= 4 { Err(Violation::malformed("length of more than four bytes")) } else { Ok(None) }
}

/// What is left of a packet or of a part of it.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Reader { rest }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Violation> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Violation::malformed("field past the end of the packet"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn take_rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Violation::malformed("field past the end of the packet"))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Violation> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn short(&mut self) -> Result<u16, Violation> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn long(&mut self) -> Result<u32, Violation> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn variable(&mut self) -> Result<usize, Violation> {
        let (value, digits) = variable(self.rest)?.ok_or(Violation::malformed("field past the end of the packet"))?;
        self.take(digits)?;
        Ok(value)
    }

    pub(super) fn binary(&mut self) -> Result<&'a [u8], Violation> {
        let length = self.short()?;
        self.take(usize::from(length))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Violation> {
        let text = core::str::from_utf8(self.binary()?).map_err(|_| Violation::malformed("text is not UTF-8"))?;
        if text.contains('\0') { Err(Violation::malformed("NUL in a text")) } else { Ok(text) }
    }

    fn packet_id(&mut self) -> Result<u16, Violation> {
        match self.short()? {
            0 => Err(Violation::protocol("packet id 0")),
            id => Ok(id),
        }
    }
}
