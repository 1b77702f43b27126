//! The ways in which the server can misbehave, each by name.

use crate::scenario::value::Period;
use device_core::rng::Rng;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::str::FromStr;
use std::time::Duration;

/// The words, for help.
pub const WORDS: &str =
    "unauthorized, unavailable, stall:BYTES, cut:BYTES, error:BYTES, delay:TIME, split:BYTES, merge:BYTES, lose:ONE-IN";

/// One way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// `unauthorized`: every token is refused (401).
    Unauthorized,
    /// `unavailable`: no connection is taken (503).
    Unavailable,
    /// `stall:BYTES`: after so many bytes of the device's, nothing more is sent, answers included; the connection stays.
    Stall(u64),
    /// `cut:BYTES`: after so many bytes of the device's, the connection is cut with no word (clients call that 1006).
    Cut(u64),
    /// `error:BYTES`: after so many bytes of the device's, an `error` message ends the simulation.
    Error(u64),
    /// `delay:TIME`: whatever is sent comes so much later, as over a long way.
    Delay(Duration),
    /// `split:BYTES`: what the device says comes in pieces of so many bytes at most.
    Split(NonZeroUsize),
    /// `merge:BYTES`: what the device says comes once there are so many bytes, or after [`MERGE_QUIET`].
    Merge(NonZeroUsize),
    /// `lose:N`: one byte in N is lost on the way, by chance, in each direction.
    Lose(NonZeroU32),
}

/// How long merged bytes wait for more.
pub const MERGE_QUIET: Duration = Duration::from_millis(50);

impl FromStr for Lie {
    type Err = String;

    fn from_str(text: &str) -> Result<Lie, String> {
        let (word, value) = text.split_once(':').unwrap_or((text, ""));
        let wrong = || format!("there is {WORDS}");
        let bytes = || value.parse().map_err(|_| wrong());
        let some = || value.parse::<NonZeroU64>().ok().and_then(|n| NonZeroUsize::try_from(n).ok()).ok_or_else(wrong);
        Ok(match word {
            "unauthorized" if value.is_empty() => Lie::Unauthorized,
            "unavailable" if value.is_empty() => Lie::Unavailable,
            "stall" => Lie::Stall(bytes()?),
            "cut" => Lie::Cut(bytes()?),
            "error" => Lie::Error(bytes()?),
            "delay" => Lie::Delay(Period::parse(value)?.0),
            "split" => Lie::Split(some()?),
            "merge" => Lie::Merge(some()?),
            "lose" => Lie::Lose(value.parse().map_err(|_| wrong())?),
            _ => return Err(wrong()),
        })
    }
}

/// What happens instead of more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Silence.
    Stall,
    /// The connection is cut.
    Cut,
    /// An `error` message.
    Error,
}

/// All that one connection meets.
#[derive(Clone, Debug)]
pub struct Lies {
    /// The HTTP status in place of a connection.
    pub refuses: Option<u16>,
    /// After how many bytes of the device's, what.
    pub stop: Option<(u64, Stop)>,
    /// How much later everything comes.
    pub delay: Duration,
    /// The most bytes of one event.
    pub split: usize,
    /// The fewest bytes of one event.
    pub merge: usize,
    one_in: Option<NonZeroU32>,
}

impl Lies {
    /// These; of one kind the last counts.
    pub fn of(lies: &[Lie]) -> Lies {
        let mut all = Lies { refuses: None, stop: None, delay: Duration::ZERO, split: usize::MAX, merge: 1, one_in: None };
        for lie in lies {
            match *lie {
                Lie::Unauthorized => all.refuses = Some(401),
                Lie::Unavailable => all.refuses = Some(503),
                Lie::Stall(after) => all.stop = Some((after, Stop::Stall)),
                Lie::Cut(after) => all.stop = Some((after, Stop::Cut)),
                Lie::Error(after) => all.stop = Some((after, Stop::Error)),
                Lie::Delay(delay) => all.delay = delay,
                Lie::Split(bytes) => all.split = bytes.get(),
                Lie::Merge(bytes) => all.merge = bytes.get(),
                Lie::Lose(one_in) => all.one_in = Some(one_in),
            }
        }
        all
    }

    /// A lossy direction. The same seed loses the same bytes.
    pub fn loss(&self, seed: u64) -> Loss {
        Loss { one_in: self.one_in, rng: Rng::new(seed) }
    }
}

/// Loses bytes of a stream.
#[derive(Clone, Debug)]
pub struct Loss {
    one_in: Option<NonZeroU32>,
    rng: Rng,
}

impl Loss {
    /// What is left of these bytes.
    pub fn pass(&mut self, bytes: &mut Vec<u8>) {
        if let Some(one_in) = self.one_in {
            bytes.retain(|_| !self.rng.draw().is_multiple_of(one_in.get().into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lies_are_read_and_wrong_ones_are_answered_with_those_there_are() {
        assert_eq!("unauthorized".parse(), Ok(Lie::Unauthorized));
        assert_eq!("stall:0".parse(), Ok(Lie::Stall(0)));
        assert_eq!("delay:60ms".parse(), Ok(Lie::Delay(Duration::from_millis(60))));
        for wrong in ["", "stal:1", "stall", "stall:x", "unauthorized:1", "split:0", "lose:0", "lose:-1"] {
            assert_eq!(wrong.parse::<Lie>(), Err(format!("there is {WORDS}")), "{wrong}");
        }
        assert!("delay:60".parse::<Lie>().is_err());
        let lies = Lies::of(&[Lie::Cut(1), Lie::Stall(7), Lie::Unavailable]);
        assert_eq!((lies.stop, lies.refuses), (Some((7, Stop::Stall)), Some(503)));
    }

    #[test]
    fn one_byte_in_n_is_lost() {
        let mut loss = Lies::of(&["lose:100".parse().unwrap()]).loss(1);
        let mut bytes = vec![7; 1_000_000];
        loss.pass(&mut bytes);
        assert!((989_000..991_000).contains(&bytes.len()), "{}", bytes.len());
        let mut bytes = vec![7; 1000];
        Lies::of(&[]).loss(1).pass(&mut bytes);
        assert_eq!(bytes.len(), 1000);
    }
}
