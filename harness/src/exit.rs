//! Exit codes: one for each verdict, and one for a whole run.

use crate::verdict::Verdict;

/// Everything passed.
pub const PASS: u8 = 0;
/// A device failed, or warned while warnings are denied.
pub const FAIL: u8 = 1;
/// The input is wrong: a scenario, a trace, an option.
pub const WRONG_INPUT: u8 = 2;
/// The testbed broke; nothing is known about the device.
pub const INCONCLUSIVE: u8 = 3;
/// Nothing passed or failed: the target lacks a capability, or is known to fail.
pub const SKIP: u8 = 4;

/// Whether a pass with warnings is still a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warnings {
    /// It is.
    Allowed,
    /// It is not (`--deny-warnings`).
    Denied,
}

/// The exit code of one verdict.
pub fn code(verdict: Verdict, warnings: Warnings) -> u8 {
    match verdict {
        Verdict::Pass => PASS,
        Verdict::PassWithWarnings if warnings == Warnings::Denied => FAIL,
        Verdict::PassWithWarnings => PASS,
        Verdict::Fail => FAIL,
        Verdict::Inconclusive => INCONCLUSIVE,
        Verdict::Skip | Verdict::KnownGap => SKIP,
    }
}

/// The exit code of a run, given the codes of its parts: the worst of them, where wrong input (2) is worse than a failure (1), a
/// failure worse than inconclusive (3), and that worse than a pass (0). A run is a skip (4) only when everything in it was skipped
/// or is a known gap.
/// Codes that are none of these count as failures. A run of nothing is wrong input: a glob that matches no file must not look green.
pub fn worst(codes: impl IntoIterator<Item = u8>) -> u8 {
    let rank = |code: u8| match code {
        SKIP => 0,
        PASS => 1,
        INCONCLUSIVE => 2,
        WRONG_INPUT => 4,
        _ => 3,
    };
    codes.into_iter().max_by_key(|&code| rank(code)).unwrap_or(WRONG_INPUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_has_its_code() {
        let codes = Verdict::ALL.map(|verdict| (code(verdict, Warnings::Allowed), code(verdict, Warnings::Denied)));
        assert_eq!(codes, [(0, 0), (0, 1), (1, 1), (3, 3), (4, 4), (4, 4)]);
    }

    #[test]
    fn the_worst_of_a_run_counts() {
        let cases: [(&[u8], u8); 8] =
            [(&[], 2), (&[4, 4], 4), (&[4, 0], 0), (&[0, 3], 3), (&[3, 1, 0], 1), (&[1, 2, 3], 2), (&[0, 101], 101), (&[0], 0)];
        for (codes, all) in cases {
            assert_eq!(worst(codes.iter().copied()), all, "{codes:?}");
        }
    }
}
