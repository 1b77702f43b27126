//! What a simulated board is told before its device begins: chance, the air, and where its power goes.
//!
//! A simulated board has no radio and no hand on its plug, and the console opens too late for a device that joins its network as it boots.
//! So whoever switches it on leaves it a text, one line each, which outlives a reset of the device and not its power:
//!
//! | line | does |
//! |---|---|
//! | `seed N` | where the device's chance comes from |
//! | `air add …`, `cut before …` | as on the console ([`crate::command`]) |
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
}

impl Default for Surroundings {
    fn default() -> Surroundings {
        let lab = AirChange::Add { ssid: "lab".into(), password: Secret::new("correct-horse"), rssi: -48, channel: 6, dhcp: true };
        Surroundings { seed: 0, air: vec![lab], cuts: Vec::new() }
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
        let mut read = Surroundings { seed: 0, air: Vec::new(), cuts: Vec::new() };
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            if let Some(seed) = line.strip_prefix("seed ") {
                read.seed = seed.trim().parse().map_err(|_| CommandError::allowed("seed N"))?;
                continue;
            }
            match Command::parse(line)? {
                Command::Air(add @ AirChange::Add { .. }) => read.air.push(add),
                Command::Cut { write, nth } => read.cuts.push((write, nth)),
                _ => return Err(CommandError::allowed("seed N, air add …, cut before …")),
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
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    #[test]
    fn what_is_written_is_read() {
        let bare = Surroundings { seed: 7, air: Vec::new(), cuts: Vec::new() };
        assert_eq!(Surroundings::parse(&bare.text()), Ok(bare.clone()), "an empty air is not the default");
        let AirChange::Add { password, .. } = &Surroundings::default().air[0] else { panic!("the default adds") };
        let cafe = AirChange::Add { ssid: "my \"café\"\n".into(), password: password.clone(), rssi: -90, channel: 1, dhcp: false };
        let full = Surroundings {
            air: vec![Surroundings::default().air.remove(0), cafe],
            cuts: vec![(Write::Certificate, 2), (Write::QueuePop, 1)],
            ..bare
        };
        assert_eq!(Surroundings::parse(&full.text()), Ok(full));
        assert_eq!(Surroundings::parse("\r\n"), Ok(Surroundings::default()));
    }

    #[test]
    fn anything_else_is_refused() {
        for line in ["seed", "seed -1", "seed x", "air remove lab", "cut", "status", "rubbish \u{1}", "air add lab"] {
            let text = format!("seed 1\n{line}\n");
            let error = Surroundings::parse(&text).expect_err(line).to_string();
            assert!(error.contains("allowed"), "{error}");
        }
        assert!(Surroundings::parse(&"\n".repeat(TEXT_MAX + 1)).is_err());
    }
}
