//! PPP frames on a line shared with text: how a frame is written, and how frames and text are told apart again (RFC 1662).
//!
//! Two encodings carry the same frames. [`Encoding::Hdlc`] is RFC 1662's own, as ESP-IDF's PPPoS speaks it; it needs a line that keeps all
//! 256 values. [`Encoding::Text`] is a line `~P<base64>` for each frame, a third longer, for a line that keeps only text.
//!
//! What counts as a frame: in HDLC, what follows a flag and the address (`7E FF`), or the address alone, since lwIP leaves the flag out when
//! the last frame is less than 100 ms ago, and FF is in no UTF-8; `7E` before anything else is the text `~`. What is broken is dropped and
//! counted ([`Piece::Bad`]); it is shown as text only if every byte of it can be printed.

mod armour;
mod hdlc;
mod intruder;

use alloc::vec::Vec;
use armour::Armour;
use hdlc::Hdlc;

/// The longest body of a frame, in bytes: address, control, protocol and a packet of 1500; without frame check sequence.
pub const FRAME_MAX: usize = 1504;
/// The most bytes on the line that are kept for one frame: every byte of the longest escaped, and then some.
pub const RAW_MAX: usize = 3200;
/// When the line has been silent for this long, call [`Splitter::idle`], in milliseconds.
pub const IDLE_MS: u64 = 200;
/// Escapes every control character: the ACCM a PPP sender begins with, and the one to ask for where text is cut into frames.
pub const ACCM_ALL: u32 = 0xFFFF_FFFF;
/// What every body begins with: all stations, unnumbered information.
pub const ADDRESS_CONTROL: [u8; 2] = [0xFF, 0x03];

/// How frames are written on the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// RFC 1662's flags and escapes.
    #[default]
    Hdlc,
    /// `~P<base64 of body and frame check sequence>` and a line feed.
    Text,
}

/// What a line carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Some bytes of the console's text, as they came; not necessarily whole lines.
    Text(&'a [u8]),
    /// A frame's body from address to packet, its check sequence right; at most [`FRAME_MAX`] bytes.
    Frame(&'a [u8]),
    /// Something that began as a frame and was broken.
    Bad,
}

/// The frame check sequence of a body (RFC 1662, appendix C.2), as it goes on the line low byte first.
pub fn fcs(body: &[u8]) -> u16 {
    !body.iter().fold(0xFFFF, |fcs: u16, byte| (fcs >> 8) ^ TABLE[usize::from((fcs ^ u16::from(*byte)) & 0xFF)])
}

const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let (mut value, mut bit) = (at as u16, 0);
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0x8408 } else { value >> 1 };
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
};

/// Appends a frame to `out`, as it goes on the line. `accm` says which control characters are escaped, one bit each; the text encoding needs
/// none. LCP packets are always sent with [`ACCM_ALL`] (RFC 1662 section 7).
pub fn encode(encoding: Encoding, body: &[u8], accm: u32, out: &mut Vec<u8>) {
    match encoding {
        Encoding::Hdlc => hdlc::encode(body, accm, out),
        Encoding::Text => armour::encode(body, out),
    }
}

/// Tells frames and text on a line apart, however the line's bytes are cut into chunks.
///
/// It keeps at most about [`RAW_MAX`] bytes, and never holds text back except what may still turn out to be a frame:
/// [`idle`](Splitter::idle) decides about that.
#[derive(Debug)]
pub struct Splitter {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Hdlc(Hdlc),
    Text(Armour),
}

impl Splitter {
    /// A splitter at the beginning of a line.
    pub fn new(encoding: Encoding) -> Splitter {
        let kind = match encoding {
            Encoding::Hdlc => Kind::Hdlc(Hdlc::default()),
            Encoding::Text => Kind::Text(Armour::default()),
        };
        Splitter { kind }
    }

    /// Cuts lines `[name] text` of somebody else out of the middle of frames: wokwi-cli writes such lines where the stream happens to be. They
    /// become text. With HDLC the sender must escape line feeds ([`ACCM_ALL`]); without, a frame that holds one may be taken for broken.
    #[must_use]
    pub fn intruded_by(mut self, name: &str) -> Splitter {
        let intruder = Some(intruder::Intruder::new(name));
        match &mut self.kind {
            Kind::Hdlc(hdlc) => hdlc.intruder = intruder,
            Kind::Text(armour) => armour.intruder = intruder,
        }
        self
    }

    /// Takes what came over the line.
    pub fn feed(&mut self, bytes: &[u8], on: &mut impl FnMut(Piece<'_>)) {
        match &mut self.kind {
            Kind::Hdlc(hdlc) => hdlc.feed(bytes, on),
            Kind::Text(armour) => armour.feed(bytes, on),
        }
    }

    /// The line has been silent for [`IDLE_MS`]: what is held back is decided. A frame in the middle is broken.
    pub fn idle(&mut self, on: &mut impl FnMut(Piece<'_>)) {
        match &mut self.kind {
            Kind::Hdlc(hdlc) => hdlc.idle(on),
            Kind::Text(armour) => armour.idle(on),
        }
    }

    /// Something is held back that [`idle`](Splitter::idle) would decide about.
    pub fn undecided(&self) -> bool {
        match &self.kind {
            Kind::Hdlc(hdlc) => hdlc.undecided(),
            Kind::Text(armour) => armour.undecided(),
        }
    }
}

/// The body of a frame whose check sequence is right, from body and check sequence.
fn checked(frame: &[u8]) -> Option<&[u8]> {
    let (body, check) = frame.split_last_chunk::<2>()?;
    let right = body.len() <= FRAME_MAX && body.starts_with(&ADDRESS_CONTROL) && fcs(body) == u16::from_le_bytes(*check);
    right.then_some(body)
}

/// Every character can be shown on a console.
fn printable(bytes: &[u8]) -> bool {
    let shown = |character: char| !character.is_control() || matches!(character, '\t' | '\r' | '\n' | '\u{7}' | '\u{8}' | '\u{1b}');
    core::str::from_utf8(bytes).is_ok_and(|text| text.chars().all(shown))
}
