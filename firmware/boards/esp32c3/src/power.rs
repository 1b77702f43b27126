//! How a run ends: the reset, and what it was for, which is said at the next start.

use crate::uart;
use core::sync::atomic::Ordering;
use esp_hal::ram;
use esp_hal::rtc_cntl::SocResetReason;
use portable_atomic::AtomicU32;

/// What a reset of our own was for; kept in memory that outlives it.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Cause {
    /// The device was told to restart.
    Reboot = 0x5EB0_0701,
    /// A power cut that the device was told to have.
    PowerCut = 0x5EB0_0702,
    /// A panic or an exception.
    Panic = 0x5EB0_0703,
    /// The watchdog.
    Hang = 0x5EB0_0704,
}

#[ram(unstable(rtc_fast, persistent))]
static CAUSE: AtomicU32 = AtomicU32::new(0);

/// Starts the device again, as a reset button does.
pub fn reboot() -> ! {
    restart(Cause::Reboot)
}

/// Ends the device in the middle of whatever it does. Nobody can put a plug in again, so the power is back at once.
pub fn cut() -> ! {
    restart(Cause::PowerCut)
}

/// Starts the device again, when what it said is out.
pub fn restart(cause: Cause) -> ! {
    uart::drain();
    CAUSE.store(cause as u32, Ordering::Relaxed);
    esp_hal::system::software_reset()
}

/// Why the device has started, in ESP-IDF's words where it has some. Asked once.
pub fn why_started() -> &'static str {
    let cause = CAUSE.swap(0, Ordering::Relaxed);
    match esp_hal::system::reset_reason() {
        Some(SocResetReason::ChipPowerOn) => "power-on",
        Some(SocResetReason::SysBrownOut) => "brownout",
        Some(SocResetReason::CoreSw | SocResetReason::Cpu0Sw) => match cause {
            c if c == Cause::Reboot as u32 => "reboot",
            c if c == Cause::PowerCut as u32 => "power cut",
            c if c == Cause::Panic as u32 => "panic",
            c if c == Cause::Hang as u32 => "task watchdog",
            _ => "software",
        },
        Some(
            SocResetReason::CoreMwdt0
            | SocResetReason::CoreMwdt1
            | SocResetReason::Cpu0Mwdt0
            | SocResetReason::Cpu0Mwdt1
            | SocResetReason::CoreRtcWdt
            | SocResetReason::Cpu0RtcWdt
            | SocResetReason::SysRtcWdt
            | SocResetReason::SysSuperWdt,
        ) => "watchdog",
        Some(SocResetReason::CoreDeepSleep) => "deep sleep",
        Some(SocResetReason::CoreUsbUart | SocResetReason::CoreUsbJtag) => "USB",
        _ => "unknown",
    }
}
