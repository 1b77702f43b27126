//! A bad line: bytes that are lost, and bytes that nobody said.

use device_core::rng::Rng;

/// Bytes of garbage at one place, at most.
const GARBAGE_MAX: u64 = 24;

/// How bad a line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Badness {
    /// One byte of so many is lost, in the mean; none: none is.
    pub lose_one_in: Option<u32>,
    /// Behind one line end of so many comes garbage, in the mean; none: none does.
    pub garbage_one_in: Option<u32>,
}

/// One direction of a bad line.
#[derive(Debug)]
pub struct Noise {
    badness: Badness,
    rng: Rng,
}

impl Noise {
    /// A line as bad as this; the same seed makes it bad at the same places.
    pub fn new(badness: Badness, seed: u64) -> Noise {
        Noise { badness, rng: Rng::new(seed) }
    }

    /// What arrives of these bytes.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut arrived = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if !self.strikes(self.badness.lose_one_in) {
                arrived.push(*byte);
            }
            if *byte == b'\n' && self.strikes(self.badness.garbage_one_in) {
                let count = 1 + self.rng.up_to(GARBAGE_MAX - 1);
                arrived.extend((0..count).map(|_| self.rng.up_to(0xff) as u8));
            }
        }
        arrived
    }

    fn strikes(&mut self, one_in: Option<u32>) -> bool {
        one_in.is_some_and(|one_in| self.rng.up_to(u64::from(one_in.max(1)) - 1) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_bad_as_it_is_said_to_be() {
        let said = b"ten bytes\n".repeat(10_000);
        assert_eq!(Noise::new(Badness::default(), 1).pass(&said), said);
        let lost = Noise::new(Badness { lose_one_in: Some(1000), garbage_one_in: None }, 1).pass(&said);
        assert!((60..=140).contains(&(said.len() - lost.len())), "{} lost", said.len() - lost.len());
        let dirty = Noise::new(Badness { lose_one_in: None, garbage_one_in: Some(100) }, 1).pass(&said);
        assert!((300..=3000).contains(&(dirty.len() - said.len())), "{} more", dirty.len() - said.len());
        assert_eq!(Noise::new(Badness { lose_one_in: Some(1), garbage_one_in: None }, 1).pass(&said), b"");
    }
}
