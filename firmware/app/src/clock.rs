//! The device clock: the board's monotonic clock since boot, plus jumps.

use core::time::Duration;
use device_core::output::{Deadline, DeadlineKind};
use device_core::time::Instant as DeviceInstant;
use embassy_time::Instant;

/// A device that owes itself only its next try has waited this long (wall clock) before its clock jumps: a broker that is away for a second
/// then costs some hundred tries, not ten thousand.
pub const QUIET_BACKOFF: Duration = Duration::from_millis(5);
/// How long the line has been quiet (wall clock) before the clock of a device with nothing to wait for jumps.
pub const QUIET: Duration = Duration::from_millis(20);
/// How long the line has been quiet (wall clock) before the clock of a device that a peer owes an answer jumps: longer than a peer that
/// means to answer takes on a machine that is busy with something else.
pub const QUIET_ANSWER: Duration = Duration::from_secs(1);
/// The same over a line that loses bytes: TCP says what was lost again after a second, and after two more.
pub const QUIET_ANSWER_LOSSY: Duration = Duration::from_secs(4);

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
        let awake = Duration::from_micros(self.boot.elapsed().as_micros());
        DeviceInstant(0) + awake.saturating_add(self.jumped)
    }

    /// Goes forward, to `JUMPED_MAX` at most.
    pub fn jump(&mut self, by: Duration) {
        self.jumped = self.jumped.saturating_add(by).min(JUMPED_MAX);
    }

    /// The moment of the board's clock at which this clock will show `at`; `None`: beyond the end of counting.
    pub fn wall(&self, at: DeviceInstant) -> Option<Instant> {
        let since_boot = Duration::from_millis(at.as_millis()).saturating_sub(self.jumped);
        self.boot.checked_add(ticks(since_boot))
    }
}

/// The board clock's duration; a time beyond its counting is cut.
pub(crate) fn ticks(d: Duration) -> embassy_time::Duration {
    embassy_time::Duration::from_micros(u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
}

/// How quiet it must have been before the clock may jump to this deadline.
pub(crate) fn quiet_before(deadline: Deadline, connected: bool, lossy: bool) -> Duration {
    match deadline.kind {
        DeadlineKind::Answer if lossy => QUIET_ANSWER_LOSSY,
        DeadlineKind::Answer => QUIET_ANSWER,
        DeadlineKind::Backoff => QUIET_BACKOFF,
        _ if connected => QUIET,
        _ => QUIET_BACKOFF,
    }
}
