//! Console lines that are numbered and checked, both ways, over a serial line that loses bytes: what is lost is noticed and said again.
//!
//! A numbered line ends in ` ^…*CCCC`: `CCCC` is the frame check sequence of RFC 1662 ([`fcs`]) over everything before the `*`, four hexadecimal
//! digits. `BBBB` is the boot, four hexadecimal digits that the device draws when it starts; `N` counts from 1.
//!
//! | the device says | |
//! |---|---|
//! | `TEXT ^BBBB.N*CCCC` | its line `N` |
//! | `^BBBB.O.N.H*CCCC` | where it stands: it can repeat the lines from `O`, has said `N`, and has heard the pieces up to `H` |
//!
//! | the host says | |
//! |---|---|
//! | `TEXT ^BBBB.N*CCCC` | piece `N`, a whole command; `N<` begins a command of several pieces, `N-` goes on with it, `N>` ends it |
//! | `^BBBB.A-Z*CCCC` | say the lines `A` to `Z` again |
//! | `^?*CCCC` | where do you stand? |
//! | `^ COMMAND` | for a person at a terminal: a command without number |
//!
//! The device takes pieces in order, each once, and only those for its own boot, so that a command whose answer was lost is not carried out
//! again, not even by the next boot. It says where it stands after each piece, in answer to both questions where it has nothing to repeat, and
//! after anything else it hears. It keeps the last [`KEPT_MAX`] bytes of lines. Its last words (a panic) and its boot loader's first are not
//! numbered: the host passes on whatever has neither `^` nor `*`.
//!
//! [`DeviceEnd`] and [`HostEnd`] are the two ends, without a clock and without I/O.

mod device;
mod host;

pub use device::{DeviceEnd, Heard};
pub use host::{HostEnd, Note, Output, Since};

use super::frame::fcs;
use alloc::format;
use alloc::string::String;
use core::fmt;

/// The bytes of lines that a device can repeat.
pub const KEPT_MAX: usize = 4 * 1024;
/// The bytes of a command that go in one piece, so that a long command need not arrive whole at once.
pub const PIECE_MAX: usize = 240;
/// The bytes of pieces that the host sends before it hears that they have come: less than any device's receiver holds.
pub const WINDOW: usize = 1024;

/// The most bytes that a number adds to a line, its blank included.
pub const SUFFIX_MAX: usize = " ^03fa.4294967295*1234".len();

/// Tells a device's boots apart; drawn when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot(pub u16);

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0)
    }
}

impl Boot {
    fn read(text: &str) -> Option<Boot> {
        (text.len() == 4).then(|| u16::from_str_radix(text, 16).ok()).flatten().map(Boot)
    }
}

/// What a device says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said<'a> {
    Line { boot: Boot, number: u32, text: &'a str },
    State { boot: Boot, oldest: u32, said: u32, heard: u32 },
}

/// What a device is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told<'a> {
    Piece { boot: Boot, number: u32, place: Place, text: &'a str },
    Again { boot: Boot, from: u32, to: u32 },
    Where,
}

/// Where a piece has its place in a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Whole,
    First,
    Middle,
    Last,
}

impl Place {
    const MARKS: [(Place, &'static str); 4] = [(Place::First, "<"), (Place::Middle, "-"), (Place::Last, ">"), (Place::Whole, "")];

    fn mark(self) -> &'static str {
        Self::MARKS.iter().find(|(place, _)| *place == self).map_or("", |(_, mark)| mark)
    }

    /// Whether its command is complete with it.
    fn ends(self) -> bool {
        matches!(self, Place::Whole | Place::Last)
    }
}

/// Whether a device seems to have numbered this line, whole or damaged: before the first such line, a host cannot know that it is to keep
/// to these rules.
pub fn seems_numbered(line: &str) -> bool {
    let seal = line.rsplit_once('*').filter(|(_, check)| check.len() == 4 && check.bytes().all(|byte| byte.is_ascii_hexdigit()));
    seal.is_some_and(|(text, _)| text.contains('^'))
}

impl<'a> Said<'a> {
    fn line(&self) -> String {
        match self {
            Said::Line { boot, number, text } => sealed(format!("{text} ^{boot}.{number}")),
            Said::State { boot, oldest, said, heard } => sealed(format!("^{boot}.{oldest}.{said}.{heard}")),
        }
    }

    fn parse(line: &'a str) -> Option<Said<'a>> {
        let (text, seal) = open(line)?;
        let (boot, rest) = seal.split_once('.')?;
        let boot = Boot::read(boot)?;
        match text {
            Some(text) => Some(Said::Line { boot, number: number(rest)?, text }),
            None => {
                let mut fields = rest.split('.').map(number);
                let (oldest, said, heard) = (fields.next()??, fields.next()??, fields.next()??);
                fields.next().is_none().then_some(Said::State { boot, oldest, said, heard })
            }
        }
    }

    fn boot(&self) -> Boot {
        match self {
            Said::Line { boot, .. } | Said::State { boot, .. } => *boot,
        }
    }
}

impl<'a> Told<'a> {
    fn line(&self) -> String {
        match self {
            Told::Piece { boot, number, place, text } => sealed(format!("{text} ^{boot}.{number}{}", place.mark())),
            Told::Again { boot, from, to } => sealed(format!("^{boot}.{from}-{to}")),
            Told::Where => sealed("^?".into()),
        }
    }

    fn parse(line: &'a str) -> Option<Told<'a>> {
        let (text, seal) = open(line)?;
        if (text, seal) == (None, "?") {
            return Some(Told::Where);
        }
        let (boot, rest) = seal.split_once('.')?;
        let boot = Boot::read(boot)?;
        match text {
            Some(text) => {
                let (place, rest) = Place::MARKS.iter().find_map(|(place, mark)| Some((*place, rest.strip_suffix(mark)?)))?;
                Some(Told::Piece { boot, number: number(rest)?, place, text })
            }
            None => {
                let (from, to) = rest.split_once('-')?;
                Some(Told::Again { boot, from: number(from)?, to: number(to)? })
            }
        }
    }
}

/// A line with its checksum.
fn sealed(line: String) -> String {
    let check = fcs(line.as_bytes());
    format!("{line}*{check:04x}")
}

/// The text of a line, if it has one, and what is between `^` and `*`; none if the checksum is not right.
fn open(line: &str) -> Option<(Option<&str>, &str)> {
    let (line, check) = line.rsplit_once('*')?;
    (check.len() == 4 && u16::from_str_radix(check, 16) == Ok(fcs(line.as_bytes()))).then_some(())?;
    match line.rsplit_once(" ^") {
        Some((text, seal)) => Some((Some(text), seal)),
        None => Some((None, line.strip_prefix('^')?)),
    }
}

/// A decimal number, digits only.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: Boot = Boot(0x03fa);

    #[test]
    fn lines_look_as_the_table_says() {
        // Check sequences by another implementation of the X.25 CRC.
        let line = Said::Line { boot: BOOT, number: 7, text: "I (5) wifi: Access point started: ESP32-Prov" };
        assert_eq!(line.line(), "I (5) wifi: Access point started: ESP32-Prov ^03fa.7*d1b2");
        assert_eq!(Said::State { boot: BOOT, oldest: 3, said: 9, heard: 2 }.line(), "^03fa.3.9.2*4a28");
        assert_eq!(Told::Piece { boot: BOOT, number: 1, place: Place::Whole, text: "status" }.line(), "status ^03fa.1*aa27");
        assert_eq!(Told::Again { boot: BOOT, from: 4, to: 6 }.line(), "^03fa.4-6*d6f5");
        assert_eq!(Told::Where.line(), "^?*8fd4");
    }

    #[test]
    fn what_is_written_is_read() {
        for text in ["", " ", "x", "a ^03fa.7*1234", "^", " ^*", "grüße \t"] {
            let said = Said::Line { boot: BOOT, number: u32::MAX, text };
            assert_eq!(Said::parse(&said.line()), Some(said));
            for (place, _) in Place::MARKS {
                let told = Told::Piece { boot: BOOT, number: 1, place, text };
                assert_eq!(Told::parse(&told.line()), Some(told));
            }
        }
        let state = Said::State { boot: BOOT, oldest: 1, said: 0, heard: 0 };
        assert_eq!(Said::parse(&state.line()), Some(state));
        for told in [Told::Where, Told::Again { boot: BOOT, from: 1, to: 1 }] {
            assert_eq!(Told::parse(&told.line()), Some(told));
        }
    }

    #[test]
    fn any_byte_lost_or_changed_or_doubled_shows() {
        let line = Said::Line { boot: BOOT, number: 12, text: "I (71) mqtt: Connected to broker (session_present=0)" }.line();
        for at in 0..line.len() {
            let (before, after) = (&line[..at], &line[at + 1..]);
            for damaged in
                [format!("{before}{after}"), format!("{before}#{after}"), format!("{before}{}{}", &line[at..=at], &line[at..])]
            {
                assert_eq!(Said::parse(&damaged), None, "{damaged}");
            }
        }
    }

    #[test]
    fn a_right_checksum_makes_no_sense_of_nonsense() {
        for line in [
            "",
            "x",
            "x ^",
            "x ^03fa",
            "x ^03fa.",
            "x ^3fa.1",
            "x ^03fa.-1",
            "x ^03fa.+1",
            "x ^03fa.4294967296",
            "^03fa.1.2",
            "^03fa.1.2.3.4",
            "^?x",
        ] {
            let line = sealed(line.into());
            assert_eq!((Said::parse(&line), Told::parse(&line)), (None, None), "{line}");
        }
    }
}
