//! MQTT packets from the broker's side, v3.1.1 and v5: what a client says is read strictly, what the broker says is written plainly.
//!
//! Written apart from the codec of the device's core, so that the device's packets are read by somebody else.

use device_core::config::MqttVersion;

/// The longest packet taken from a client, bytes.
pub const PACKET_MAX: usize = 1 << 20;

pub(super) const SESSION_EXPIRY: u8 = 0x11;
pub(super) const SERVER_KEEP_ALIVE: u8 = 0x13;
pub(super) const RECEIVE_MAXIMUM: u8 = 0x21;
pub(super) const MAXIMUM_QOS: u8 = 0x24;
pub(super) const RETAIN_AVAILABLE: u8 = 0x25;
pub(super) const MAXIMUM_PACKET_SIZE: u8 = 0x27;

/// What is wrong with a client's bytes: the v5 reason code, and a few words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) code: u8,
    pub(super) what: &'static str,
}

fn malformed(what: &'static str) -> Wrong {
    Wrong { code: 0x81, what }
}

fn protocol(what: &'static str) -> Wrong {
    Wrong { code: 0x82, what }
}

/// A packet of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Connect(Box<Connect>),
    Publish(Publish),
    PubAck { id: u16, code: u8 },
    Subscribe { id: u16, filters: Vec<Filter> },
    Unsubscribe { id: u16, filters: Vec<String> },
    PingReq,
    Disconnect { code: u8 },
}

/// What a CONNECT says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connect {
    pub(super) version: MqttVersion,
    pub(super) client_id: String,
    pub(super) clean: bool,
    pub(super) keepalive_s: u16,
    pub(super) will: Option<Publish>,
    pub(super) user: Option<String>,
    pub(super) password: Option<Vec<u8>>,
    /// How long the session is kept, seconds; v3.1.1: for ever, unless it is clean.
    pub(super) expiry_s: u32,
    pub(super) receive_maximum: u16,
    pub(super) packet_max: u32,
}

/// A message on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Publish {
    /// None at QoS 0.
    pub(super) id: Option<u16>,
    pub(super) dup: bool,
    pub(super) retain: bool,
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
}

/// What is subscribed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) path: String,
    pub(super) qos: u8,
    /// v5: messages keep their retain flag.
    pub(super) as_published: bool,
    /// v5: 0, 1 or 2; 0 in v3.1.1.
    pub(super) retain_handling: u8,
}

/// A packet of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Say {
    /// Properties, by number, are v5's.
    ConnAck {
        present: bool,
        code: u8,
        properties: Vec<(u8, u32)>,
    },
    PubAck {
        id: u16,
        code: u8,
    },
    SubAck {
        id: u16,
        codes: Vec<u8>,
    },
    UnsubAck {
        id: u16,
        count: usize,
    },
    PingResp,
    Publish(Publish),
    Disconnect {
        code: u8,
    },
}

/// How many bytes the packet has that `bytes` begins with; none before its fixed header is whole.
pub(super) fn frame(bytes: &[u8]) -> Result<Option<usize>, Wrong> {
    let Some((_, rest)) = bytes.split_first() else { return Ok(None) };
    match number(rest) {
        Ok((length, digits)) if 1 + digits + length > PACKET_MAX => Err(Wrong { code: 0x95, what: "packet too large" }),
        Ok((length, digits)) => Ok(Some(1 + digits + length)),
        Err(_) if rest.len() < 4 => Ok(None),
        Err(wrong) => Err(wrong),
    }
}

/// Reads one whole packet. The version is known once there was a CONNECT.
pub(super) fn read(version: Option<MqttVersion>, packet: &[u8]) -> Result<Heard, Wrong> {
    let (&first, rest) = packet.split_first().ok_or(malformed("no packet"))?;
    let (_, digits) = number(rest)?;
    let mut body = Reader(rest.get(digits..).unwrap_or_default());
    let (kind, flags) = (first >> 4, first & 0x0f);
    let wanted = if matches!(kind, 8 | 10) { 2 } else { 0 };
    if kind != 3 && flags != wanted {
        return Err(malformed("reserved flags"));
    }
    let heard = match (kind, version) {
        (1, None) => Heard::Connect(Box::new(connect(&mut body)?)),
        (_, None) => return Err(protocol("a packet before CONNECT")),
        (1, Some(_)) => return Err(protocol("a second CONNECT")),
        (3, Some(version)) => Heard::Publish(publish(version, flags, &mut body)?),
        (4, Some(version)) => {
            let id = body.id()?;
            let code = if version == MqttVersion::V5 && !body.0.is_empty() { body.byte()? } else { 0 };
            if !body.0.is_empty() {
                body.properties(version)?;
            }
            Heard::PubAck { id, code }
        }
        (8, Some(version)) => {
            let id = body.id()?;
            body.properties(version)?;
            let mut filters = Vec::new();
            while !body.0.is_empty() {
                let (path, options) = (body.text()?, body.byte()?);
                let reserved = if version == MqttVersion::V5 { 0xc0 } else { 0xfc };
                if options & reserved != 0 || options & 3 == 3 || options >> 4 == 3 {
                    return Err(malformed("subscription options"));
                }
                let (as_published, retain_handling) = (options & 8 != 0, options >> 4);
                filters.push(Filter { path, qos: options & 3, as_published, retain_handling });
            }
            if filters.is_empty() {
                return Err(protocol("SUBSCRIBE to nothing"));
            }
            Heard::Subscribe { id, filters }
        }
        (10, Some(version)) => {
            let id = body.id()?;
            body.properties(version)?;
            let mut filters = Vec::new();
            while !body.0.is_empty() {
                filters.push(body.text()?);
            }
            Heard::Unsubscribe { id, filters }
        }
        (12, Some(_)) => Heard::PingReq,
        (14, Some(version)) => {
            let code = if version == MqttVersion::V5 && !body.0.is_empty() { body.byte()? } else { 0 };
            if !body.0.is_empty() {
                body.properties(version)?;
            }
            Heard::Disconnect { code }
        }
        (5..=7, Some(_)) => return Err(protocol("QoS 2, which is not served")),
        _ => return Err(protocol("no packet of a client")),
    };
    if body.0.is_empty() { Ok(heard) } else { Err(malformed("bytes after the end of the packet")) }
}

fn connect(body: &mut Reader<'_>) -> Result<Connect, Wrong> {
    let name = body.text()?;
    let version = match (name.as_str(), body.byte()?) {
        ("MQTT", 4) => MqttVersion::V311,
        ("MQTT", 5) => MqttVersion::V5,
        _ => return Err(Wrong { code: 0x84, what: "neither MQTT 3.1.1 nor 5" }),
    };
    let (flags, keepalive_s) = (body.byte()?, body.short()?);
    let has = |bit: u8| flags & bit != 0;
    if has(0x01) || (!has(0x04) && has(0x38)) || flags & 0x18 == 0x18 {
        return Err(malformed("CONNECT flags"));
    }
    if version == MqttVersion::V311 && has(0x40) && !has(0x80) {
        return Err(malformed("a password without a user name"));
    }
    let properties = body.properties(version)?;
    let property = |id: u8| properties.iter().find(|(known, _)| *known == id).map(|(_, value)| *value);
    let kept = if has(0x02) { 0 } else { u32::MAX };
    let expiry_s = if version == MqttVersion::V5 { property(SESSION_EXPIRY).unwrap_or(0) } else { kept };
    let client_id = body.text()?;
    let will = match has(0x04) {
        true => {
            body.properties(version)?;
            let (topic, payload) = (body.text()?, body.binary()?.to_vec());
            // What is published of it has an id of its own; whether it has one at all is its QoS.
            Some(Publish { id: has(0x18).then_some(0), dup: false, retain: has(0x20), topic, payload })
        }
        false => None,
    };
    let user = if has(0x80) { Some(body.text()?) } else { None };
    let password = if has(0x40) { Some(body.binary()?.to_vec()) } else { None };
    Ok(Connect {
        version,
        client_id,
        clean: has(0x02),
        keepalive_s,
        will,
        user,
        password,
        expiry_s,
        receive_maximum: property(RECEIVE_MAXIMUM).map_or(u16::MAX, |value| value as u16),
        packet_max: property(MAXIMUM_PACKET_SIZE).unwrap_or(u32::MAX),
    })
}

fn publish(version: MqttVersion, flags: u8, body: &mut Reader<'_>) -> Result<Publish, Wrong> {
    let topic = body.text()?;
    if topic.is_empty() || topic.contains(['#', '+']) {
        return Err(Wrong { code: 0x90, what: "no topic name" });
    }
    let id = match flags >> 1 & 3 {
        0 if flags & 8 != 0 => return Err(malformed("DUP at QoS 0")),
        0 => None,
        1 => Some(body.id()?),
        _ => return Err(Wrong { code: 0x9b, what: "QoS 2, which is not served" }),
    };
    body.properties(version)?;
    let payload = std::mem::take(&mut body.0).to_vec();
    Ok(Publish { id, dup: flags & 8 != 0, retain: flags & 1 != 0, topic, payload })
}

/// A variable byte integer: its value, and how many bytes it has.
fn number(bytes: &[u8]) -> Result<(usize, usize), Wrong> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok((value, at + 1));
        }
    }
    Err(malformed("length"))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Wrong> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(malformed("a field past the end"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Wrong> {
        Ok(self.take(1)?[0])
    }

    fn short(&mut self) -> Result<u16, Wrong> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn id(&mut self) -> Result<u16, Wrong> {
        match self.short()? {
            0 => Err(protocol("packet id 0")),
            id => Ok(id),
        }
    }

    fn binary(&mut self) -> Result<&'a [u8], Wrong> {
        let length = self.short()?;
        self.take(usize::from(length))
    }

    fn text(&mut self) -> Result<String, Wrong> {
        let text = std::str::from_utf8(self.binary()?).map_err(|_| malformed("a text that is not UTF-8"))?;
        if text.contains('\0') { Err(malformed("NUL in a text")) } else { Ok(text.to_owned()) }
    }

    /// The properties that are numbers; none in v3.1.1.
    fn properties(&mut self, version: MqttVersion) -> Result<Vec<(u8, u32)>, Wrong> {
        let mut numbers = Vec::new();
        if version != MqttVersion::V5 {
            return Ok(numbers);
        }
        let (length, digits) = number(self.0)?;
        self.take(digits)?;
        let mut section = Reader(self.take(length)?);
        while !section.0.is_empty() {
            let id = section.byte()?;
            match id {
                0x01 | 0x17 | 0x19 => numbers.push((id, u32::from(section.byte()?))),
                RECEIVE_MAXIMUM | 0x22 | 0x23 => numbers.push((id, u32::from(section.short()?))),
                0x02 | SESSION_EXPIRY | 0x18 | MAXIMUM_PACKET_SIZE => {
                    let bytes = section.take(4)?;
                    numbers.push((id, u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])));
                }
                0x03 | 0x08 | 0x09 | 0x15 | 0x16 | 0x1f => drop(section.binary()?),
                0x26 => drop((section.binary()?, section.binary()?)),
                0x0b => {
                    let (_, digits) = number(section.0)?;
                    section.take(digits)?;
                }
                _ => return Err(malformed("a property that a client does not have")),
            }
        }
        Ok(numbers)
    }
}

impl Say {
    /// The packet's name, as scenarios have it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Say::ConnAck { .. } => "connack",
            Say::PubAck { .. } => "puback",
            Say::SubAck { .. } => "suback",
            Say::UnsubAck { .. } => "unsuback",
            Say::PingResp => "pingresp",
            Say::Publish(_) => "publish",
            Say::Disconnect { .. } => "disconnect",
        }
    }

    /// The packet's bytes.
    pub(super) fn bytes(&self, version: MqttVersion) -> Vec<u8> {
        let v5 = version == MqttVersion::V5;
        let none: &[u8] = if v5 { &[0] } else { &[] };
        match self {
            Say::ConnAck { present, code, properties } => {
                let mut body = vec![u8::from(*present), *code];
                if v5 {
                    let mut section = Vec::new();
                    for (id, value) in properties {
                        section.push(*id);
                        match *id {
                            MAXIMUM_QOS | RETAIN_AVAILABLE => section.push(*value as u8),
                            SERVER_KEEP_ALIVE | RECEIVE_MAXIMUM => section.extend((*value as u16).to_be_bytes()),
                            _ => section.extend(value.to_be_bytes()),
                        }
                    }
                    put_number(&mut body, section.len());
                    body.extend(section);
                }
                packet(0x20, &body)
            }
            Say::PubAck { id, code } if v5 && *code != 0 => packet(0x40, &[&id.to_be_bytes()[..], &[*code]].concat()),
            Say::PubAck { id, .. } => packet(0x40, &id.to_be_bytes()),
            Say::SubAck { id, codes } => packet(0x90, &[&id.to_be_bytes()[..], none, codes].concat()),
            Say::UnsubAck { id, count } => {
                let codes = vec![0; if v5 { *count } else { 0 }];
                packet(0xb0, &[&id.to_be_bytes()[..], none, &codes].concat())
            }
            Say::PingResp => packet(0xd0, &[]),
            Say::Publish(publish) => {
                let flags = u8::from(publish.dup) << 3 | u8::from(publish.id.is_some()) << 1 | u8::from(publish.retain);
                let length = u16::try_from(publish.topic.len()).unwrap_or(u16::MAX);
                let mut body = [&length.to_be_bytes()[..], &publish.topic.as_bytes()[..usize::from(length)]].concat();
                body.extend(publish.id.iter().flat_map(|id| id.to_be_bytes()));
                body.extend(none);
                body.extend(&publish.payload);
                packet(0x30 | flags, &body)
            }
            Say::Disconnect { code } if v5 => packet(0xe0, &[*code]),
            Say::Disconnect { .. } => packet(0xe0, &[]),
        }
    }
}

/// A packet: its first byte, its length, its body.
pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    put_number(&mut bytes, body.len());
    bytes.extend(body);
    bytes
}

fn put_number(bytes: &mut Vec<u8>, mut value: usize) {
    loop {
        let digit = (value % 128) as u8;
        value /= 128;
        bytes.push(if value > 0 { digit | 0x80 } else { digit });
        if value == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use device_core::packet::{self as core, encode};

    #[test]
    fn what_the_device_writes_is_read() {
        for version in [MqttVersion::V311, MqttVersion::V5] {
            let connect = encode::connect(&encode::Connect {
                version,
                client_id: "d1",
                keepalive_s: 60,
                username: Some("user"),
                password: Some("word"),
                will: Some(encode::Will { topic: "t", payload: b"gone", retain: true }),
                session_expiry_s: 7,
                receive_maximum: 8,
                packet_limit: 1000,
            });
            let connect = connect.unwrap();
            assert_eq!(frame(&connect), Ok(Some(connect.len())));
            let Ok(Heard::Connect(read_back)) = read(None, &connect) else { panic!("no CONNECT") };
            assert_eq!((read_back.client_id.as_str(), read_back.keepalive_s, read_back.clean), ("d1", 60, false));
            assert_eq!(read_back.will.unwrap().payload, b"gone");
            assert_eq!(read_back.password.unwrap(), b"word");
            let v5 = version == MqttVersion::V5;
            assert_eq!(read_back.expiry_s, if v5 { 7 } else { u32::MAX });
            assert_eq!(read_back.packet_max, if v5 { 1000 } else { u32::MAX });
            let publish = encode::publish(version, Some(7), true, false, "a/b", b"x").unwrap();
            let expected = Publish { id: Some(7), dup: true, retain: false, topic: "a/b".into(), payload: b"x".to_vec() };
            assert_eq!(read(Some(version), &publish), Ok(Heard::Publish(expected)));
            let subscribe = encode::subscribe(version, 9, &["a/#".to_owned()]).unwrap();
            let filter = Filter { path: "a/#".into(), qos: 1, as_published: false, retain_handling: 0 };
            assert_eq!(read(Some(version), &subscribe), Ok(Heard::Subscribe { id: 9, filters: vec![filter] }));
            assert_eq!(read(Some(version), &encode::puback(3)), Ok(Heard::PubAck { id: 3, code: 0 }));
            assert_eq!(read(Some(version), &encode::pingreq()), Ok(Heard::PingReq));
            let code = if v5 { 4 } else { 0 };
            assert_eq!(read(Some(version), &encode::disconnect(version, 4)), Ok(Heard::Disconnect { code }));
        }
    }

    #[test]
    fn what_the_broker_writes_the_device_reads() {
        for version in [MqttVersion::V311, MqttVersion::V5] {
            let properties = vec![(RECEIVE_MAXIMUM, 3), (MAXIMUM_QOS, 1), (MAXIMUM_PACKET_SIZE, 900), (SERVER_KEEP_ALIVE, 5)];
            let publish = Publish { id: Some(4), dup: true, retain: true, topic: "t".into(), payload: vec![7; 200] };
            for say in [
                Say::ConnAck { present: true, code: 0, properties },
                Say::PubAck { id: 1, code: 0 },
                Say::SubAck { id: 1, codes: vec![1, 0x80] },
                Say::PingResp,
                Say::Publish(publish),
            ] {
                let bytes = say.bytes(version);
                assert_eq!(core::length(version, &bytes, 10_000), Ok(Some(bytes.len())), "{say:?}");
                core::decode(version, &bytes).unwrap_or_else(|e| panic!("{say:?}: {e}"));
            }
        }
        let goodbye = Say::Disconnect { code: 0x8b }.bytes(MqttVersion::V5);
        assert_eq!(core::decode(MqttVersion::V5, &goodbye), Ok(core::Packet::Disconnect { code: 0x8b }));
    }

    #[test]
    fn any_bytes_are_a_packet_or_wrong() {
        let mut state = 7u64;
        for length in 0..400usize {
            for first in 0..=255u8 {
                let mut bytes = vec![first, (length % 128) as u8];
                for _ in 0..length % 128 {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    bytes.push((state >> 59) as u8);
                }
                for version in [None, Some(MqttVersion::V311), Some(MqttVersion::V5)] {
                    let _ = (frame(&bytes), read(version, &bytes));
                }
            }
        }
        assert!(frame(&[0x30, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert_eq!(frame(&[0x30, 0xff]), Ok(None));
        assert!(read(Some(MqttVersion::V311), &[0x80, 2, 0, 1]).is_err(), "SUBSCRIBE needs flags 2");
    }
}
