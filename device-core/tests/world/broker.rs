//! A broker of a few lines, written apart from the device's codec: it reads whole packets and says what an honest broker would.

/// A packet from the device, as far as the tests look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Connect,
    Subscribe { id: u16 },
    Publish { id: u16, topic: String, payload: Vec<u8>, dup: bool },
    PingReq,
    Disconnect,
    Other(u8),
}

/// Takes the bytes of one `Send` apart.
pub fn packets(bytes: &[u8], v5: bool) -> Vec<Packet> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        let (length, tail) = length(tail);
        let (body, after) = tail.split_at(length);
        rest = after;
        let word = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
        found.push(match first >> 4 {
            1 => Packet::Connect,
            3 => {
                let topic_end = 2 + usize::from(word(0));
                let id = word(topic_end);
                let mut payload = &body[topic_end + 2..];
                if v5 {
                    let (properties, after) = self::length(payload);
                    payload = &after[properties..];
                }
                let topic = String::from_utf8(body[2..topic_end].to_vec()).expect("a topic");
                Packet::Publish { id, topic, payload: payload.to_vec(), dup: first & 8 != 0 }
            }
            8 => Packet::Subscribe { id: word(0) },
            12 => Packet::PingReq,
            14 => Packet::Disconnect,
            kind => Packet::Other(kind),
        });
    }
    found
}

/// A variable byte integer and what follows it.
fn length(bytes: &[u8]) -> (usize, &[u8]) {
    let (mut value, mut shift) = (0usize, 0);
    for (at, byte) in bytes.iter().enumerate() {
        value |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return (value, &bytes[at + 1..]);
        }
    }
    panic!("a packet cut short in one Send")
}

/// CONNACK with this code.
pub fn connack(v5: bool, session_present: bool, code: u8) -> Vec<u8> {
    let head = [0x20, if v5 { 3 } else { 2 }, u8::from(session_present), code];
    head.into_iter().chain(v5.then_some(0)).collect()
}

/// SUBACK for one filter.
pub fn suback(v5: bool, id: u16, code: u8) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    if v5 { vec![0x90, 4, high, low, 0, code] } else { vec![0x90, 3, high, low, code] }
}

/// PUBACK, with a reason code on v5 only.
pub fn puback(v5: bool, id: u16, code: u8) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    if v5 && code != 0 { vec![0x40, 3, high, low, code] } else { vec![0x40, 2, high, low] }
}

/// PINGRESP.
pub const PINGRESP: [u8; 2] = [0xd0, 0];
