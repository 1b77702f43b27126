//! When to try again: exponentially later, with jitter, and at once again only after things were stable for a while.

use crate::rng::Rng;
use core::time::Duration;

/// The shortest wait.
pub const WAIT_MIN: Duration = Duration::from_secs(1);
/// The longest wait.
pub const WAIT_MAX: Duration = Duration::from_secs(120);
/// A connection that lasted so long was stable: the next wait is a short one again. One that is cut before counts as a failure.
pub const STABLE_AFTER: Duration = Duration::from_secs(30);

/// Equal jitter: the n-th wait (from 0) lies between `c/2` and `c`, where `c` is `2^(n+1)` seconds and at most `WAIT_MAX`.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The wait before the next try.
    pub fn next(&mut self, rng: &mut Rng) -> Duration {
        let ceiling = WAIT_MIN.saturating_mul(2u32.saturating_pow(self.attempts.saturating_add(1).min(16))).min(WAIT_MAX);
        self.attempts = self.attempts.saturating_add(1);
        let half = ceiling / 2;
        half + Duration::from_millis(rng.up_to(u64::try_from(half.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How many tries failed since the last reset.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Forgets the failures.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn waits_grow_within_their_bounds_and_differ() {
        for seed in 0..50 {
            let (mut rng, mut backoff) = (Rng::new(seed), Backoff::default());
            for n in 0..100u32 {
                let ceiling = Duration::from_secs(2u64.saturating_pow(n + 1)).min(WAIT_MAX);
                let wait = backoff.next(&mut rng);
                assert!(wait >= ceiling / 2 && wait <= ceiling && wait >= WAIT_MIN, "seed {seed}, try {n}: {wait:?}");
            }
            backoff.reset();
            assert!(backoff.next(&mut rng) <= Duration::from_secs(2));
        }
        let firsts: Vec<_> = (0..50).map(|seed| Backoff::default().next(&mut Rng::new(seed))).collect();
        assert!(firsts.iter().any(|w| *w != firsts[0]), "no jitter");
    }
}
