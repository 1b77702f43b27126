//! The text-safe encoding: a line `~P<base64>` for each frame.

use super::intruder::{Fate, Intruder};
use super::{FRAME_MAX, Piece, RAW_MAX, checked, fcs};
use alloc::vec;
use alloc::vec::Vec;
use base64ct::{Base64, Encoding as _};

/// What a frame's line begins with.
const START: &[u8] = b"~P";
/// What the base64 of every frame begins with: address and control.
const ADDRESSED: &[u8] = b"/w";
/// More characters of base64 than these are no word any more: the shortest frame (LCP with an empty packet) has 14.
const WORD_MAX: usize = 12;

pub(super) fn encode(body: &[u8], out: &mut Vec<u8>) {
    let frame = [body, &fcs(body).to_le_bytes()].concat();
    let mut line = vec![0; Base64::encoded_len(&frame)];
    out.extend_from_slice(START);
    // It fits: the length is the encoder's own.
    out.extend_from_slice(Base64::encode(&frame, &mut line).unwrap_or_default().as_bytes());
    out.push(b'\n');
}

/// The splitter of this encoding.
#[derive(Debug, Default)]
pub(super) struct Armour {
    state: State,
    /// What may be a frame's line, from its start on.
    raw: Vec<u8>,
    pub(super) intruder: Option<Intruder>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    LineStart,
    Text,
    /// `raw` begins like a frame's line; at a line's start or not.
    Candidate {
        line_start: bool,
    },
    Frame,
    Intruded,
}

impl Armour {
    pub(super) fn feed(&mut self, mut bytes: &[u8], on: &mut impl FnMut(Piece<'_>)) {
        while let Some(&byte) = bytes.first() {
            let plain = match self.state {
                State::Text => bytes.iter().position(|byte| matches!(*byte, b'~' | b'\n')).unwrap_or(bytes.len()),
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
        match self.state {
            State::LineStart if matches!(byte, b'~' | b'P' | b'/') => self.begin(byte, true),
            State::Text if byte == b'~' => self.begin(byte, false),
            State::LineStart | State::Text => {
                on(Piece::Text(&[byte]));
                self.state = if byte == b'\n' { State::LineStart } else { State::Text };
            }
            State::Candidate { line_start } => {
                self.raw.push(byte);
                if begins(&self.raw, line_start) {
                    if self.raw.len() >= START.len() && (self.raw.starts_with(START) || self.raw.ends_with(ADDRESSED)) {
                        self.state = State::Frame;
                    }
                } else {
                    self.no_frame(on);
                }
            }
            State::Frame if byte == b'~' => {
                self.end(None, on);
                let line_start = self.state == State::LineStart;
                self.begin(byte, line_start);
            }
            State::Frame if byte == b'\n' => self.end(Some(byte), on),
            State::Frame => {
                self.raw.push(byte);
                if !self.is_long() && !matches!(byte, b'\r' | b'=') && !is_base64(byte) {
                    on(Piece::Text(&self.raw));
                    self.raw.clear();
                    self.state = State::Text;
                } else if self.raw.len() > RAW_MAX {
                    // Nothing of this is shown before its line ends.
                    on(Piece::Bad);
                    self.raw.truncate(FRAME_MAX);
                }
            }
            State::Intruded => {
                let Some(intruder) = &mut self.intruder else { return };
                if let Fate::Back { held, after } = intruder.byte(byte, on) {
                    self.take_back(&held, after, on);
                }
            }
        }
    }

    fn begin(&mut self, byte: u8, line_start: bool) {
        self.raw.clear();
        self.raw.push(byte);
        self.state = State::Candidate { line_start };
    }

    /// What began like a frame's line is text, but its end may begin another.
    fn no_frame(&mut self, on: &mut impl FnMut(Piece<'_>)) {
        let raw = core::mem::take(&mut self.raw);
        self.state = State::Text;
        if let Some((first, rest)) = raw.split_first() {
            on(Piece::Text(&[*first]));
            self.feed(rest, on);
        }
    }

    /// A frame's line ends, with a line feed or where the next begins.
    fn end(&mut self, line_end: Option<u8>, on: &mut impl FnMut(Piece<'_>)) {
        self.state = State::LineStart;
        if let Some(body) = self.body() {
            on(Piece::Frame(&body));
        } else if line_end.is_some()
            && let Some(intruder) = &mut self.intruder
        {
            intruder.begin();
            self.state = State::Intruded;
            return;
        } else {
            self.give_up(line_end, on);
        }
        self.raw.clear();
    }

    fn give_up(&mut self, line_end: Option<u8>, on: &mut impl FnMut(Piece<'_>)) {
        if self.is_long() {
            on(Piece::Bad);
        } else {
            self.raw.extend(line_end);
            on(Piece::Text(&self.raw));
            self.state = if line_end.is_some() { State::LineStart } else { State::Text };
        }
        self.raw.clear();
    }

    /// Body and check sequence of the line, if they are right.
    fn body(&self) -> Option<Vec<u8>> {
        let at = self.raw.windows(ADDRESSED.len()).take(START.len() + 1).position(|window| window == ADDRESSED)?;
        let line = self.raw[at..].strip_suffix(b"\r").unwrap_or(&self.raw[at..]);
        let mut frame = line.to_vec();
        let length = checked(Base64::decode_in_place(&mut frame).ok()?)?.len();
        frame.truncate(length);
        Some(frame)
    }

    /// There is too much base64 for a word of text.
    fn is_long(&self) -> bool {
        let text = self.raw.strip_prefix(START).unwrap_or(&self.raw);
        text.get(..=WORD_MAX).is_some_and(|beginning| beginning.iter().all(|byte| is_base64(*byte)))
    }

    pub(super) fn idle(&mut self, on: &mut impl FnMut(Piece<'_>)) {
        if let (State::Intruded, Some(intruder)) = (self.state, &mut self.intruder)
            && let Fate::Back { held, after } = intruder.back()
        {
            self.take_back(&held, after, on);
        }
        match self.state {
            State::Candidate { .. } => {
                on(Piece::Text(&self.raw));
                self.raw.clear();
                self.state = State::Text;
            }
            State::Frame => {
                self.state = State::Text;
                self.give_up(None, on);
            }
            _ => {}
        }
    }

    /// No intruder: the line ended where its line feed was. After one, the line goes on.
    fn take_back(&mut self, held: &[u8], after: bool, on: &mut impl FnMut(Piece<'_>)) {
        if after {
            self.state = State::Frame;
            self.feed(held, on);
        } else {
            let (first, rest) = held.split_first().map_or((None, held), |(first, rest)| (Some(*first), rest));
            self.state = State::LineStart;
            self.give_up(first, on);
            self.feed(rest, on);
        }
    }

    pub(super) fn undecided(&self) -> bool {
        matches!(self.state, State::Candidate { .. } | State::Frame | State::Intruded)
    }
}

/// `raw` is the beginning of a frame's line: whole, or, at a line's start, with `~` or `P` lost.
fn begins(raw: &[u8], line_start: bool) -> bool {
    let like = |start: &[u8]| start.starts_with(raw) || raw.starts_with(start);
    like(START) || (line_start && (like(b"~/w") || like(b"P/w") || like(ADDRESSED)))
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}
