//! What a simulated board is told before its device begins: chance, the air, and where its power goes.
//!
//! A simulated board has no radio and no hand on its plug, and the console opens too late for a device that joins its network as it boots.
//! So whoever switches it on leaves it a text, one line each, which outlives a reset of the device and not its power:
//!
//! | line | does |
//! |---|---|
//! | `seed N` | where the device's chance comes from |
//! | `air add …`, `cut before …` | as on the console ([`crate::command`]) |
//! | `link console`, `link console text` | the network goes over the console's line, as PPP in frames or in lines of text |
//! | `lines numbered` | the console's lines are numbered and checked, both ways ([`crate::serial::numbered`]) |
//!
//! Without a text the air holds one network, `lab`, with the password `correct-horse`.

use crate::command::{Command, CommandError};
use crate::output::AirChange;
use crate::secret::Secret;
use crate::storage::Write;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// The longest text, in bytes.
pub const TEXT_MAX: usize = 16 * 1024;

/// What a simulated board is told before its device begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// Where the device's chance comes from; 0 when nothing was said.
    pub seed: u64,
    /// The networks in range, as they would be added on the console.
    pub air: Vec<AirChange>,
    /// Where the power is cut: just before the how-manieth write of a kind since power-on, from 1.
    pub cuts: Vec<(Write, u32)>,
    /// What the network goes over.
    pub link: Link,
    /// Whether the console's lines are numbered and checked.
    pub numbered: bool,
}

/// What the device's network goes over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// What the board has: its radio or card.
    #[default]
    Board,
    /// PPP over the console's line, in HDLC frames.
    Console,
    /// PPP over the console's line, in lines of text.
    ConsoleText,
}

impl Default for Surroundings {
    fn default() -> Surroundings {
        let lab = AirChange::Add { ssid: "lab".into(), password: Secret::new("correct-horse"), rssi: -48, channel: 6, dhcp: true };
        Surroundings { seed: 0, air: vec![lab], cuts: Vec::new(), link: Link::Board, numbered: false }
    }
}

impl Surroundings {
    /// Reads a text; an empty one is the default.
    ///
    /// # Errors
    /// A text over [`TEXT_MAX`], or a line that is none of those above. Nothing of a line is repeated, since it may be secret.
    pub fn parse(text: &str) -> Result<Surroundings, CommandError> {
        if text.len() > TEXT_MAX {
            return Err(CommandError::allowed("at most 16384 bytes"));
        }
        if text.trim().is_empty() {
            return Ok(Surroundings::default());
        }
        let mut read = Surroundings { air: Vec::new(), ..Surroundings::default() };
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            if let Some(seed) = line.strip_prefix("seed ") {
                read.seed = seed.trim().parse().map_err(|_| CommandError::allowed("seed N"))?;
                continue;
            }
            let refused =
                || CommandError::allowed("seed N, air add …, cut before …, link console, link console text, lines numbered");
            let mut words = line.split_whitespace();
            match words.next() {
                Some("link") => {
                    read.link = match (words.next(), words.next(), words.next()) {
                        (Some("console"), None, None) => Link::Console,
                        (Some("console"), Some("text"), None) => Link::ConsoleText,
                        _ => return Err(refused()),
                    };
                }
                Some("lines") if words.eq(["numbered"]) => read.numbered = true,
                // Nothing else is given to the console's parser, which would give a text inside the text back to this one.
                Some("air" | "cut") => match Command::parse(line)? {
                    Command::Air(add @ AirChange::Add { .. }) => read.air.push(add),
                    Command::Cut { write, nth } => read.cuts.push((write, nth)),
                    _ => return Err(refused()),
                },
                _ => return Err(refused()),
            }
        }
        Ok(read)
    }

    /// The text that says this; never empty. Holds the networks' passwords.
    pub fn text(&self) -> String {
        let mut text = format!("seed {}\n", self.seed);
        for change in &self.air {
            text += &(Command::Air(change.clone()).line() + "\n");
        }
        for &(write, nth) in &self.cuts {
            text += &(Command::Cut { write, nth }.line() + "\n");
        }
        text += match self.link {
            Link::Board => "",
            Link::Console => "link console\n",
            Link::ConsoleText => "link console text\n",
        };
        if self.numbered {
            text += "lines numbered\n";
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    #[test]
    fn what_is_written_is_read() {
        let bare = Surroundings { seed: 7, air: Vec::new(), ..Surroundings::default() };
        assert_eq!(Surroundings::parse(&bare.text()), Ok(bare.clone()), "an empty air is not the default");
        let AirChange::Add { password, .. } = &Surroundings::default().air[0] else { panic!("the default adds") };
        let cafe = AirChange::Add { ssid: "my \"café\"\n".into(), password: password.clone(), rssi: -90, channel: 1, dhcp: false };
        let full = Surroundings {
            air: vec![Surroundings::default().air.remove(0), cafe],
            cuts: vec![(Write::Certificate, 2), (Write::QueuePop, 1)],
            link: Link::ConsoleText,
            numbered: true,
            ..bare
        };
        assert_eq!(Surroundings::parse(&full.text()), Ok(full));
        let link = |text| Surroundings::parse(text).map(|read| read.link);
        assert_eq!((link("seed 1\n"), link(" link console\r\n")), (Ok(Link::Board), Ok(Link::Console)));
        assert_eq!(Surroundings::parse("\r\n"), Ok(Surroundings::default()));
    }

    #[test]
    fn anything_else_is_refused() {
        let lines = ["seed", "seed -1", "seed x", "air remove lab", "cut", "status", "rubbish \u{1}", "air add lab"];
        let newer =
            ["link", "link card", "link console frames", "link console text text", "lines", "lines counted", "lines numbered 2"];
        for line in lines.into_iter().chain(newer) {
            let text = format!("seed 1\n{line}\n");
            let error = Surroundings::parse(&text).expect_err(line).to_string();
            assert!(error.contains("allowed"), "{error}");
        }
        assert!(Surroundings::parse(&"\n".repeat(TEXT_MAX + 1)).is_err());
        assert!(Surroundings::parse(&"surroundings ".repeat(1000)).is_err(), "texts inside texts are not followed");
    }
}
