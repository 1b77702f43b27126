//! RFC 1662's own encoding: flags, escapes, and the text between frames.

use super::intruder::{Fate, Intruder};
use super::{Piece, RAW_MAX, checked, fcs, printable};
use alloc::vec::Vec;

const FLAG: u8 = 0x7E;
const ESCAPE: u8 = 0x7D;
const ADDRESS: u8 = 0xFF;
const CONTROL: u8 = 0x03;

pub(super) fn encode(body: &[u8], accm: u32, out: &mut Vec<u8>) {
    out.push(FLAG);
    for &byte in body.iter().chain(&fcs(body).to_le_bytes()) {
        if matches!(byte, FLAG | ESCAPE) || (byte < 0x20 && accm >> byte & 1 == 1) {
            out.extend([ESCAPE, byte ^ 0x20]);
        } else {
            out.push(byte);
        }
    }
    out.push(FLAG);
}

/// The splitter of this encoding.
#[derive(Debug, Default)]
pub(super) struct Hdlc {
    state: State,
    /// The frame so far, as it came, from its address on.
    raw: Vec<u8>,
    pub(super) intruder: Option<Intruder>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// Flags have come, so many of which are `~` if text follows.
    Flagged(u32),
    /// In a frame; or, with nothing in `raw`, behind a broken one, where nothing is text before it proves to be.
    Frame,
    /// At a line feed in a frame, or in an intruder's line; the frame goes on behind it.
    Intruded,
}

impl Hdlc {
    pub(super) fn feed(&mut self, mut bytes: &[u8], on: &mut impl FnMut(Piece<'_>)) {
        while let Some(&byte) = bytes.first() {
            let plain = match self.state {
                State::Text => bytes.iter().position(|byte| matches!(*byte, FLAG | ADDRESS)).unwrap_or(bytes.len()),
                _ => 0,
            };
            if plain > 0 {
                on(Piece::Text(&bytes[..plain]));
            } else {
                self.byte(byte, on);
            }
            bytes = &bytes[plain.max(1)..];
        }
    }

    fn byte(&mut self, byte: u8, on: &mut impl FnMut(Piece<'_>)) {
        match (self.state, &mut self.intruder) {
            (State::Intruded, Some(intruder)) => {
                if let Fate::Back { held, .. } = intruder.byte(byte, on) {
                    self.take_back(&held, on);
                }
            }
            (State::Frame, Some(intruder)) if byte == b'\n' && !self.raw.is_empty() => {
                intruder.begin();
                self.state = State::Intruded;
            }
            (State::Flagged(1), Some(intruder)) if byte == b'\n' => {
                intruder.begin();
                self.begin(&[FLAG]);
                self.state = State::Intruded;
            }
            _ => self.plain_byte(byte, on),
        }
    }

    fn plain_byte(&mut self, byte: u8, on: &mut impl FnMut(Piece<'_>)) {
        match self.state {
            State::Text | State::Flagged(_) if byte == ADDRESS => self.begin(&[ADDRESS]),
            State::Text if byte == FLAG => self.state = State::Flagged(1),
            State::Text => on(Piece::Text(&[byte])),
            State::Flagged(shown) if byte == FLAG => self.state = State::Flagged(shown.saturating_add(1)),
            // The address is lost, and what follows is no text.
            State::Flagged(shown) if matches!(byte, CONTROL | ESCAPE) => self.begin(&[FLAG, byte][usize::from(shown == 0)..]),
            State::Flagged(shown) => {
                show_flags(shown, on);
                on(Piece::Text(&[byte]));
                self.state = State::Text;
            }
            State::Frame | State::Intruded if byte == FLAG => self.end(on),
            State::Frame | State::Intruded => {
                self.raw.push(byte);
                if byte == b'\n'
                    && let Some(text) = self.text()
                {
                    on(Piece::Text(text));
                    self.raw.clear();
                    self.state = State::Text;
                } else if self.raw.len() > RAW_MAX {
                    on(Piece::Bad);
                    self.raw.clear();
                }
            }
        }
    }

    fn begin(&mut self, raw: &[u8]) {
        self.raw.clear();
        self.raw.extend_from_slice(raw);
        self.state = State::Frame;
    }

    /// A flag ends the frame, and may begin the next.
    fn end(&mut self, on: &mut impl FnMut(Piece<'_>)) {
        self.state = State::Flagged(0);
        if self.raw.is_empty() {
            return;
        }
        if let Some(text) = self.text() {
            on(Piece::Text(text));
            self.state = State::Flagged(1);
        } else {
            let complete = unescape(&mut self.raw);
            let frame = self.raw.strip_prefix(&[FLAG]).unwrap_or(&self.raw);
            on(checked(frame).filter(|_| complete).map_or(Piece::Bad, Piece::Frame));
        }
        self.raw.clear();
    }

    /// What the line shows if this is no frame after all: everything can be printed, and nothing looks like an escape, of which every frame
    /// has one (its control field) unless it has an unprintable character there.
    fn text(&self) -> Option<&[u8]> {
        let addressed = self.raw.strip_prefix(&[ADDRESS]);
        let text = addressed.unwrap_or(&self.raw);
        let escape = |pair: &[u8]| pair[0] == ESCAPE && matches!(pair[1], 0x20..0x40 | 0x5D | 0x5E);
        let begins_escaped = text.strip_prefix(&[FLAG]).unwrap_or(text).starts_with(&[ESCAPE, CONTROL ^ 0x20]);
        let frame = begins_escaped || (addressed.is_some() && text.windows(2).any(escape));
        (!frame && printable(text)).then_some(text)
    }

    pub(super) fn idle(&mut self, on: &mut impl FnMut(Piece<'_>)) {
        if let (State::Intruded, Some(intruder)) = (self.state, &mut self.intruder)
            && let Fate::Back { held, .. } = intruder.back()
        {
            self.take_back(&held, on);
        }
        match self.state {
            State::Flagged(shown) => {
                show_flags(shown, on);
                self.state = State::Text;
            }
            State::Frame if !self.raw.is_empty() => {
                if let Some(text) = self.text() {
                    on(Piece::Text(text));
                    self.state = State::Text;
                } else {
                    on(Piece::Bad);
                }
                self.raw.clear();
            }
            _ => {}
        }
    }

    /// The frame goes on with what was held.
    fn take_back(&mut self, held: &[u8], on: &mut impl FnMut(Piece<'_>)) {
        self.state = State::Frame;
        let Some((first, rest)) = held.split_first() else { return };
        self.plain_byte(*first, on);
        self.feed(rest, on);
    }

    pub(super) fn undecided(&self) -> bool {
        match self.state {
            State::Text | State::Flagged(0) => false,
            State::Frame => !self.raw.is_empty(),
            State::Flagged(_) | State::Intruded => true,
        }
    }
}

/// Takes the escapes out, in place; false when the sender gave the frame up (an escape before its end).
fn unescape(raw: &mut Vec<u8>) -> bool {
    let mut escaped = false;
    raw.retain_mut(|byte| {
        let escape = !escaped && *byte == ESCAPE;
        if escaped {
            *byte ^= 0x20;
        }
        escaped = escape;
        !escape
    });
    !escaped
}

fn show_flags(mut count: u32, on: &mut impl FnMut(Piece<'_>)) {
    const SOME: [u8; 16] = [FLAG; 16];
    while count > 0 {
        let now = count.min(16);
        on(Piece::Text(&SOME[..now as usize]));
        count -= now;
    }
}
