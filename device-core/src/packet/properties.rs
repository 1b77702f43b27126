//! MQTT v5 properties as a broker may send them: each legal in its packet, said once, of its type and within its range.

use super::decode::Reader;
use super::{Violation, is_topic_name, reason};

pub(super) const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
pub(super) const SERVER_KEEP_ALIVE: u8 = 0x13;
pub(super) const RECEIVE_MAXIMUM: u8 = 0x21;
pub(super) const MAXIMUM_QOS: u8 = 0x24;
pub(super) const RETAIN_AVAILABLE: u8 = 0x25;
pub(super) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
const RESPONSE_TOPIC: u8 = 0x08;
const SUBSCRIPTION_IDENTIFIER: u8 = 0x0b;
const TOPIC_ALIAS: u8 = 0x23;
const USER_PROPERTY: u8 = 0x26;
const REASON_STRING: u8 = 0x1f;
const SERVER_REFERENCE: u8 = 0x1c;

/// What a CONNACK may hold for a client that asked for no enhanced authentication and no response information, whose answers are
/// therefore forbidden [MQTT-4.12.0-6, MQTT-3.1.2-28].
pub(super) const IN_CONNACK: &[u8] = &[
    SESSION_EXPIRY_INTERVAL,
    0x12, // assigned client identifier
    SERVER_KEEP_ALIVE,
    SERVER_REFERENCE,
    REASON_STRING,
    RECEIVE_MAXIMUM,
    0x22, // topic alias maximum
    MAXIMUM_QOS,
    RETAIN_AVAILABLE,
    USER_PROPERTY,
    MAXIMUM_PACKET_SIZE,
    0x28, // wildcard subscription available
    0x29, // subscription identifiers available
    0x2a, // shared subscription available
];
/// What a PUBLISH may hold.
pub(super) const IN_PUBLISH: &[u8] = &[
    0x01, // payload format indicator
    0x02, // message expiry interval
    0x03, // content type
    RESPONSE_TOPIC,
    0x09, // correlation data
    SUBSCRIPTION_IDENTIFIER,
    TOPIC_ALIAS,
    USER_PROPERTY,
];
/// What a PUBACK or SUBACK may hold.
pub(super) const IN_ACK: &[u8] = &[REASON_STRING, USER_PROPERTY];
/// What a broker's DISCONNECT may hold (no session expiry [MQTT-3.14.2-2]).
pub(super) const IN_DISCONNECT: &[u8] = &[REASON_STRING, USER_PROPERTY, SERVER_REFERENCE];

/// Reads a property section (length and properties) and hands each property with a number to `each`, by its identifier.
pub(super) fn read(reader: &mut Reader<'_>, legal: &[u8], mut each: impl FnMut(u8, u32)) -> Result<(), Violation> {
    let length = reader.variable()?;
    let mut section = Reader::new(reader.take(length)?);
    let mut seen = 0u64;
    while !section.is_empty() {
        let id = section.variable()?;
        let id = u8::try_from(id).ok().filter(|&id| id < 64).ok_or(Violation::malformed("unknown property"))?;
        let number = read_value(&mut section, id)?;
        if !legal.contains(&id) {
            return Err(Violation::protocol("property not allowed in this packet"));
        }
        let repeatable = matches!(id, USER_PROPERTY | SUBSCRIPTION_IDENTIFIER);
        if seen & (1 << id) != 0 && !repeatable {
            return Err(Violation::protocol("property said twice"));
        }
        seen |= 1 << id;
        each(id, number);
    }
    Ok(())
}

/// Reads one value, checks its range, and gives the number it is (0 for texts and bytes).
fn read_value(section: &mut Reader<'_>, id: u8) -> Result<u32, Violation> {
    let number = match id {
        0x01 | 0x17 | 0x19 | MAXIMUM_QOS | RETAIN_AVAILABLE | 0x28 | 0x29 | 0x2a => match section.byte()? {
            flag @ 0..=1 => u32::from(flag),
            _ => return Err(Violation::protocol("property out of its range")),
        },
        SERVER_KEEP_ALIVE | RECEIVE_MAXIMUM | 0x22 | TOPIC_ALIAS => u32::from(section.short()?),
        0x02 | SESSION_EXPIRY_INTERVAL | 0x18 | MAXIMUM_PACKET_SIZE => section.long()?,
        SUBSCRIPTION_IDENTIFIER => u32::try_from(section.variable()?).unwrap_or(u32::MAX),
        0x03 | 0x12 | 0x15 | 0x1a | SERVER_REFERENCE | REASON_STRING => section.text().map(|_| 0)?,
        RESPONSE_TOPIC => {
            if !is_topic_name(section.text()?) {
                return Err(Violation::protocol("response topic is no topic name"));
            }
            0
        }
        0x09 | 0x16 => section.binary().map(|_| 0)?,
        USER_PROPERTY => section.text().and_then(|_| section.text()).map(|_| 0)?,
        _ => return Err(Violation::malformed("unknown property")),
    };
    match id {
        // No alias was offered, so the broker's own maximum for us is 0 [MQTT-3.1.2-26].
        TOPIC_ALIAS => Err(Violation { code: reason::TOPIC_ALIAS_INVALID, what: "topic alias, though none was offered" }),
        RECEIVE_MAXIMUM | MAXIMUM_PACKET_SIZE | SUBSCRIPTION_IDENTIFIER if number == 0 => {
            Err(Violation::protocol("property out of its range"))
        }
        _ => Ok(number),
    }
}
