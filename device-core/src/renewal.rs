//! When a certificate is renewed: at two thirds of its life, while it can still prove who asks.

use crate::enrollment::Validity;
use crate::time::UnixTime;

/// The date at which renewal is due: two thirds of the way from notBefore to notAfter.
pub fn due(validity: Validity) -> UnixTime {
    let life = validity.not_after.0.saturating_sub(validity.not_before.0).max(0);
    UnixTime(validity.not_before.0.saturating_add(life / 3 * 2 + life % 3 * 2 / 3))
}

/// Whether a certificate is past its last moment.
pub fn expired(validity: Validity, now: UnixTime) -> bool {
    now > validity.not_after
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn due_at_two_thirds() {
        for (from, to, at) in [(0, 90, 60), (1000, 1001, 1000), (1000, 1002, 1001), (10, 10, 10), (10, 0, 10)] {
            assert_eq!(due(Validity { not_before: UnixTime(from), not_after: UnixTime(to) }), UnixTime(at));
        }
        let validity = Validity { not_before: UnixTime(0), not_after: UnixTime(90) };
        assert!(!expired(validity, UnixTime(90)) && expired(validity, UnixTime(91)));
    }

    proptest! {
        #[test]
        fn due_lies_within_the_life(from: i32, life: u32) {
            let (not_before, not_after) = (UnixTime(from.into()), UnixTime(i64::from(from) + i64::from(life)));
            let at = due(Validity { not_before, not_after });
            prop_assert!(not_before <= at && at <= not_after);
        }
    }
}
