//! Lines `[name] text` of somebody else in the middle of a frame.

use super::{Piece, RAW_MAX};
use alloc::vec::Vec;

/// Follows a line feed in a frame, to see whether it belongs to an intruder's lines.
#[derive(Debug)]
pub(super) struct Intruder {
    /// What each of its lines begins with.
    prefix: Vec<u8>,
    /// What has come since the frame was left.
    held: Vec<u8>,
    /// A whole line has been cut out.
    cut: bool,
}

/// What becomes of a byte.
pub(super) enum Fate {
    /// It is kept until more has come.
    Held,
    /// No line of the intruder, or no further one: these bytes belong where the frame was left. `after` a line that was cut out, or not.
    Back { held: Vec<u8>, after: bool },
}

impl Intruder {
    pub(super) fn new(name: &str) -> Intruder {
        Intruder { prefix: [b"[", name.as_bytes(), b"] "].concat(), held: Vec::new(), cut: false }
    }

    /// A line feed has come in the middle of a frame.
    pub(super) fn begin(&mut self) {
        self.held.clear();
        self.held.push(b'\n');
        self.cut = false;
    }

    pub(super) fn byte(&mut self, byte: u8, on: &mut impl FnMut(Piece<'_>)) -> Fate {
        self.held.push(byte);
        let line = &self.held[usize::from(!self.cut)..];
        let common = line.len().min(self.prefix.len());
        if line[..common] != self.prefix[..common] {
            return self.back();
        }
        if common == self.prefix.len() && (byte == b'\n' || line.len() >= RAW_MAX) {
            on(Piece::Text(line));
            self.held.clear();
            self.cut = true;
        }
        Fate::Held
    }

    /// Gives up: what is held belongs where the frame was left.
    pub(super) fn back(&mut self) -> Fate {
        Fate::Back { held: core::mem::take(&mut self.held), after: self.cut }
    }
}
