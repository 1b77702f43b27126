//! The watchdog: an interrupt that looks whether the executor runs its tasks, and says where it hangs if not; behind it the chip's own, for a
//! device that does not even take interrupts. A task feeds both.

use core::cell::RefCell;
use core::sync::atomic::Ordering;
use critical_section::Mutex;
use embassy_time::{Duration, Instant, Timer};
use esp_hal::Blocking;
use esp_hal::handler;
use esp_hal::interrupt::Priority;
use esp_hal::peripherals::RTC_TIMER;
use esp_hal::rtc_cntl::{Rtc, RwdtStage};
use esp_hal::timer::PeriodicTimer;
use esp_hal::timer::systimer::Alarm;
use portable_atomic::AtomicU8;

/// How often the interrupt looks.
const LOOK_EVERY: esp_hal::time::Duration = esp_hal::time::Duration::from_millis(500);
/// How often it may look in vain before the device has hung: twenty seconds, since one step of a handshake takes some on a chip that is
/// simulated slowly.
const LOOKS_MAX: u8 = 40;
/// How long the chip's own watchdog waits, which says nothing.
const CHIP_LIMIT: esp_hal::time::Duration = esp_hal::time::Duration::from_secs(30);
/// How often both hear that tasks are being run.
const FEED_EVERY: Duration = Duration::from_millis(500);

static LOOKS: AtomicU8 = AtomicU8::new(0);
static TIMER: Mutex<RefCell<Option<PeriodicTimer<'static, Blocking>>>> = Mutex::new(RefCell::new(None));

/// Starts both watchdogs; `feed` must run from then on, with what comes back.
pub fn start(alarm: Alarm<'static>, rtc: RTC_TIMER<'static>) -> Rtc<'static> {
    let mut rtc = Rtc::new(rtc);
    rtc.rwdt.set_timeout(RwdtStage::Stage0, CHIP_LIMIT);
    rtc.rwdt.enable();
    let mut timer = PeriodicTimer::new(alarm);
    timer.set_interrupt_handler(on_interrupt);
    timer.listen();
    // The timer refuses nothing that is so short.
    let _ = timer.start(LOOK_EVERY);
    critical_section::with(|cs| TIMER.borrow_ref_mut(cs).replace(timer));
    rtc
}

#[handler(priority = Priority::Priority2)]
fn on_interrupt() {
    critical_section::with(|cs| {
        if let Some(timer) = &mut *TIMER.borrow_ref_mut(cs) {
            timer.clear_interrupt();
        }
    });
    if LOOKS.fetch_add(1, Ordering::Relaxed) >= LOOKS_MAX {
        crate::fault::on_hang(Instant::now().as_millis());
    }
}

/// Tells both, as long as tasks are run.
#[embassy_executor::task]
pub async fn feed(mut chip: Rtc<'static>) -> ! {
    loop {
        LOOKS.store(0, Ordering::Relaxed);
        chip.rwdt.feed();
        Timer::after(FEED_EVERY).await;
    }
}
