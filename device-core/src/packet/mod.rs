//! The MQTT packets a client needs, v5 and v3.1.1: what it sends is encoded, what it receives is checked strictly before it is believed.
//!
//! Nothing here keeps state: the frame of a packet ([`length`]), its content ([`decode()`]), and the client's own packets ([`mod@encode`]).
//! A received byte string is either a packet that a broker may send to a client that never uses QoS 2, topic aliases or enhanced
//! authentication, or a [`Violation`] with the reason code that v5 wants in the DISCONNECT.

pub mod decode;
pub mod encode;
mod properties;
pub mod reason;

pub use decode::{ConnAck, Packet, Publish, decode, length};
pub use encode::{Connect, Unencodable};

use core::fmt;

/// The largest value a variable byte integer can hold, and so the largest Remaining Length [MQTT5 1.5.5].
pub const REMAINING_LENGTH_MAX: usize = 268_435_455;

/// How the broker broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The reason code a v5 client says in its DISCONNECT.
    pub code: u8,
    /// What was wrong, in words that hold nothing the broker sent.
    pub what: &'static str,
}

impl Violation {
    /// The bytes are no MQTT packet (0x81).
    pub const fn malformed(what: &'static str) -> Self {
        Violation { code: reason::MALFORMED_PACKET, what }
    }

    /// The packet is well formed, but not allowed here (0x82).
    pub const fn protocol(what: &'static str) -> Self {
        Violation { code: reason::PROTOCOL_ERROR, what }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:02x}, {})", self.what, self.code, reason::name(self.code))
    }
}

/// Whether this may be the topic of a PUBLISH: 1–65,535 bytes without wildcards and NUL [MQTT5 4.7].
pub fn is_topic_name(topic: &str) -> bool {
    (1..=usize::from(u16::MAX)).contains(&topic.len()) && !topic.contains(['#', '+', '\0'])
}

/// Whether this may be subscribed to: as a topic name, but a level may be `+`, and the last one `#` [MQTT5 4.7.1].
pub fn is_topic_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').rev();
    (1..=usize::from(u16::MAX)).contains(&filter.len())
        && !filter.contains('\0')
        && levels.next().is_some_and(|last| last == "#" || is_filter_level(last))
        && levels.all(is_filter_level)
}

fn is_filter_level(level: &str) -> bool {
    level == "+" || !level.contains(['#', '+'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_have_no_wildcards() {
        for good in ["a", "/", "a/b", "$SYS/x", "ä/b c"] {
            assert!(is_topic_name(good), "{good}");
        }
        for bad in ["", "a/+", "#", "a\0b"] {
            assert!(!is_topic_name(bad), "{bad:?}");
        }
        assert!(is_topic_name(&"t".repeat(65_535)));
        assert!(!is_topic_name(&"t".repeat(65_536)));
    }

    #[test]
    fn a_wildcard_fills_its_level() {
        for good in ["a", "#", "+", "a/+/b", "a/#", "+/+/#", "/", "$share/g/a"] {
            assert!(is_topic_filter(good), "{good}");
        }
        for bad in ["", "a#", "#/a", "a+", "a/b+/c", "a\0"] {
            assert!(!is_topic_filter(bad), "{bad:?}");
        }
    }
}
