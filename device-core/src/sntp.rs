//! The SNTP client's two packets (RFC 4330 section 5, RFC 5905 section 7.3): the request, and what a reply must look like to be believed.

use crate::time::UnixTime;
use core::fmt;

/// The port of a time server.
pub const PORT: u16 = 123;
/// The length of a packet without authenticator, in bytes.
pub const PACKET: usize = 48;

/// Seconds from 1900 to 1970.
const UNIX_EPOCH: i64 = 2_208_988_800;
/// Seconds of an NTP era.
const ERA: i64 = 1 << 32;

/// Why a reply is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SntpError {
    /// Shorter than a packet.
    Short,
    /// Not a server's reply (mode 4).
    Mode(u8),
    /// Not version 3 or 4.
    Version(u8),
    /// The originate timestamp is not the nonce: an answer to somebody else, a late one, or a forged one.
    NotOurs,
    /// Kiss-o'-death (stratum 0), with its code: do not ask again soon.
    Kiss([u8; 4]),
    /// Stratum above 15: the server has no time itself.
    Stratum(u8),
    /// Leap indicator 3: the server's clock is not set.
    Unsynchronised,
    /// No transmit timestamp.
    NoTime,
}

impl fmt::Display for SntpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SntpError::Short => f.write_str("the reply is short"),
            SntpError::Mode(mode) => write!(f, "the reply has mode {mode}"),
            SntpError::Version(version) => write!(f, "the reply has version {version}"),
            SntpError::NotOurs => f.write_str("the reply is not to our request"),
            SntpError::Kiss(code) => write!(f, "kiss-o'-death {}", code.escape_ascii()),
            SntpError::Stratum(stratum) => write!(f, "the server has stratum {stratum}"),
            SntpError::Unsynchronised => f.write_str("the server's clock is not set"),
            SntpError::NoTime => f.write_str("the reply holds no time"),
        }
    }
}

impl core::error::Error for SntpError {}

/// A request: version 4, mode 3, all zero but for the transmit timestamp, which is a random nonce (the device's date is not told).
pub fn request(nonce: u64) -> [u8; PACKET] {
    let mut packet = [0; PACKET];
    packet[0] = 4 << 3 | 3;
    packet[40..].copy_from_slice(&nonce.to_be_bytes());
    packet
}

/// The date in the reply to the request with this nonce, to the nearest second.
///
/// Timestamps whose top bit is clear are of the era that begins in 2036 (RFC 4330 section 3): dates from 1968 to 2104 are told apart.
///
/// # Errors
/// Anything but a well-formed, synchronised answer to our own request.
pub fn reply(packet: &[u8], nonce: u64) -> Result<UnixTime, SntpError> {
    let packet: &[u8; PACKET] = packet.first_chunk().ok_or(SntpError::Short)?;
    let word = |at: usize| u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
    let (leap, version, mode, stratum) = (packet[0] >> 6, packet[0] >> 3 & 7, packet[0] & 7, packet[1]);
    if mode != 4 {
        return Err(SntpError::Mode(mode));
    }
    if !(3..=4).contains(&version) {
        return Err(SntpError::Version(version));
    }
    if (u64::from(word(24)) << 32 | u64::from(word(28))) != nonce {
        return Err(SntpError::NotOurs);
    }
    match stratum {
        0 => return Err(SntpError::Kiss([packet[12], packet[13], packet[14], packet[15]])),
        1..=15 => {}
        _ => return Err(SntpError::Stratum(stratum)),
    }
    if leap == 3 {
        return Err(SntpError::Unsynchronised);
    }
    let (seconds, fraction) = (word(40), word(44));
    if seconds == 0 && fraction == 0 {
        return Err(SntpError::NoTime);
    }
    let era = if seconds >> 31 == 1 { 0 } else { ERA };
    Ok(UnixTime(i64::from(seconds) + era - UNIX_EPOCH + i64::from(fraction >> 31)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONCE: u64 = 0x0123_4567_89ab_cdef;

    fn honest(seconds: u32, fraction: u32) -> [u8; PACKET] {
        let mut packet = [0; PACKET];
        packet[0] = 4 << 3 | 4;
        packet[1] = 2;
        packet[24..32].copy_from_slice(&NONCE.to_be_bytes());
        packet[40..44].copy_from_slice(&seconds.to_be_bytes());
        packet[44..].copy_from_slice(&fraction.to_be_bytes());
        packet
    }

    #[test]
    fn the_request_tells_only_the_nonce() {
        let packet = request(NONCE);
        assert_eq!((packet[0], &packet[1..40], &packet[40..]), (0x23, &[0; 39][..], &NONCE.to_be_bytes()[..]));
    }

    #[test]
    fn eras_and_fractions() {
        for (seconds, fraction, unix) in [
            (2_208_988_800, 0, 0),
            (3_976_214_400, 0, 1_767_225_600),
            (3_976_214_399, 0x8000_0000, 1_767_225_600),
            (u32::MAX, 0, 2_085_978_495),
            (0, 1, 2_085_978_496),
            (0x7fff_ffff, 0, 4_233_462_143),
        ] {
            assert_eq!(reply(&honest(seconds, fraction), NONCE), Ok(UnixTime(unix)));
        }
    }

    #[test]
    fn what_is_not_an_honest_answer_is_refused() {
        let with = |at: usize, byte: u8| {
            let mut packet = honest(3_976_214_400, 0);
            packet[at] = byte;
            packet
        };
        for (packet, error) in [
            (with(0, 0x23), SntpError::Mode(3)),
            (with(0, 0x25), SntpError::Mode(5)),
            (with(0, 2 << 3 | 4), SntpError::Version(2)),
            (with(0, 0xe4), SntpError::Unsynchronised),
            (with(1, 0), SntpError::Kiss([0; 4])),
            (with(1, 16), SntpError::Stratum(16)),
            (with(31, 0), SntpError::NotOurs),
            (honest(0, 0), SntpError::NoTime),
        ] {
            assert_eq!(reply(&packet, NONCE), Err(error));
        }
        assert_eq!(reply(&honest(1, 1)[..47], NONCE), Err(SntpError::Short));
        assert!(reply(&[&honest(3_976_214_400, 0)[..], &[0; 20]].concat(), NONCE).is_ok(), "an authenticator may follow");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(packet: alloc::vec::Vec<u8>, nonce: u64) {
            let _ = reply(&packet, nonce);
        }
    }
}
