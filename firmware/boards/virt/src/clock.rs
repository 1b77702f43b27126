//! Time since power-on for embassy, in microseconds, and the watchdog that rides on the same timer.

use crate::machine::{MTIME, MTIMECMP, read, write};
use crate::trap::Frame;
use core::cell::{Cell, RefCell};
use core::task::Waker;
use critical_section::{CriticalSection, Mutex};
use embassy_time_driver::Driver;
use embassy_time_queue_utils::Queue;

const MTIME_PER_TICK: u64 = 10;
/// How often the watchdog looks, in ticks.
const LOOK_EVERY: u64 = 500_000;
/// How often it may look in vain before the device has hung: five seconds, as ESP-IDF's task watchdog.
const LOOKS_MAX: u8 = 10;

struct Clock {
    alarms: Mutex<RefCell<Queue>>,
    look_at: Mutex<Cell<u64>>,
    looks: Mutex<Cell<u8>>,
}

embassy_time_driver::time_driver_impl!(static CLOCK: Clock = Clock {
    alarms: Mutex::new(RefCell::new(Queue::new())),
    look_at: Mutex::new(Cell::new(LOOK_EVERY)),
    looks: Mutex::new(Cell::new(0)),
});

impl Driver for Clock {
    fn now(&self) -> u64 {
        loop {
            let high = read(MTIME + 4);
            let low = read(MTIME);
            if read(MTIME + 4) == high {
                return (u64::from(high) << 32 | u64::from(low)) / MTIME_PER_TICK;
            }
        }
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| {
            if self.alarms.borrow_ref_mut(cs).schedule_wake(at, waker) {
                self.set_alarm(cs);
            }
        });
    }
}

impl Clock {
    /// Wakes what is due and sets the timer for what comes next; a moment already past interrupts at once.
    fn set_alarm(&self, cs: CriticalSection<'_>) {
        let next = self.alarms.borrow_ref_mut(cs).next_expiration(self.now()).min(self.look_at.borrow(cs).get());
        let at = next.saturating_mul(MTIME_PER_TICK);
        // The low word is out of the way while the two halves do not belong together.
        write(MTIMECMP, u32::MAX);
        write(MTIMECMP + 4, (at >> 32) as u32);
        write(MTIMECMP, at as u32);
    }
}

/// Starts the timer, and the watchdog with it.
pub fn start() {
    critical_section::with(|cs| CLOCK.set_alarm(cs));
}

/// Milliseconds since power-on.
pub fn now_ms() -> u64 {
    CLOCK.now() / 1000
}

/// Tells the watchdog that tasks are being run.
pub fn feed() {
    critical_section::with(|cs| CLOCK.looks.borrow(cs).set(0));
}

/// Called on the timer's interrupt.
///
/// The watchdog counts how often it looked, not what the clock says: a host that stops QEMU for a minute is no hang of the device.
pub fn on_interrupt(frame: &Frame) {
    critical_section::with(|cs| {
        let now = CLOCK.now();
        if now >= CLOCK.look_at.borrow(cs).get() {
            CLOCK.look_at.borrow(cs).set(now + LOOK_EVERY);
            let looks = CLOCK.looks.borrow(cs).get() + 1;
            CLOCK.looks.borrow(cs).set(looks);
            if looks >= LOOKS_MAX {
                crate::fault::on_hang(frame);
            }
        }
        CLOCK.set_alarm(cs);
    });
}
