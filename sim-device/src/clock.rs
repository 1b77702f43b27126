//! The device clock: the wall's monotonic clock since boot, plus jumps.

use device_core::output::{Deadline, DeadlineKind};
use device_core::time::Instant as DeviceInstant;
use std::time::Duration;
use tokio::time::Instant;

/// A device that owes itself only its next try has waited this long (wall clock) before its clock jumps: a broker that is away for a second
/// then costs some hundred tries, not ten thousand.
pub const QUIET_BACKOFF: Duration = Duration::from_millis(5);
/// How long the line has been quiet (wall clock) before the clock of a device with nothing to wait for jumps.
pub const QUIET: Duration = Duration::from_millis(20);
/// How long the line has been quiet (wall clock) before the clock of a device that a peer owes an answer jumps: longer than a peer that
/// means to answer takes on a machine that is busy with something else.
pub const QUIET_ANSWER: Duration = Duration::from_secs(1);

/// The farthest that jumps may bring a clock, all together: a thousand years. Beyond it deadlines would run into the end of counting.
pub const JUMPED_MAX: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);

/// One boot's clock.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    boot: Instant,
    jumped: Duration,
}

impl Clock {
    /// Starts at zero.
    pub fn new() -> Clock {
        Clock { boot: Instant::now(), jumped: Duration::ZERO }
    }

    /// Milliseconds since boot, jumps included.
    pub fn now(&self) -> DeviceInstant {
        DeviceInstant(0) + self.boot.elapsed().saturating_add(self.jumped)
    }

    /// Goes forward, to `JUMPED_MAX` at most.
    pub fn jump(&mut self, by: Duration) {
        self.jumped = self.jumped.saturating_add(by).min(JUMPED_MAX);
    }

    /// The wall-clock moment at which this clock will show `at`; `None`: not within a century.
    pub fn wall(&self, at: DeviceInstant) -> Option<Instant> {
        let since_boot = Duration::from_millis(at.as_millis()).saturating_sub(self.jumped);
        self.boot.checked_add(since_boot)
    }
}

/// How quiet it must have been before the clock may jump to this deadline.
pub(crate) fn quiet_before(deadline: Deadline, connected: bool) -> Duration {
    match deadline.kind {
        DeadlineKind::Answer => QUIET_ANSWER,
        DeadlineKind::Backoff => QUIET_BACKOFF,
        _ if connected => QUIET,
        _ => QUIET_BACKOFF,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn jumps_add_up_and_the_wall_follows() {
        let mut clock = Clock::new();
        tokio::time::advance(Duration::from_millis(7)).await;
        assert_eq!(clock.now(), DeviceInstant(7));
        clock.jump(Duration::from_secs(100));
        assert_eq!(clock.now(), DeviceInstant(100_007));
        assert_eq!(clock.wall(DeviceInstant(100_010)), Some(Instant::now() + Duration::from_millis(3)));
        assert!(clock.wall(DeviceInstant(5)).unwrap() <= Instant::now(), "a past deadline is due");
        clock.jump(Duration::MAX);
        assert_eq!(clock.now(), DeviceInstant(7) + JUMPED_MAX);
    }
}
