//! How a run ends: what QEMU's exit status says, and the reset that ends nothing.

use crate::{machine, uart::LastWords};
use core::fmt::{Arguments, Write as _};

/// Exit status after a power cut that the device was told to have.
pub const POWER_CUT: u32 = 10;
/// Exit status after a panic, a trap, a stack overflow or a watchdog; the console says which.
pub const CRASHED: u32 = 11;
/// Exit status when the machine is not what this board needs; the console says what is wrong.
pub const WRONG_MACHINE: u32 = 12;

const EXIT: u32 = 0x3333;
const RESET: u32 = 0x7777;

/// Starts the device again, as a reset button does; with `-no-reboot` QEMU ends with status 0 instead.
pub fn reboot() -> ! {
    machine::write(machine::TEST, RESET);
    wait()
}

/// Ends the device at once, in the middle of whatever it does; QEMU's exit status is [`POWER_CUT`].
pub fn cut() -> ! {
    exit(POWER_CUT)
}

/// Says what is wrong with the machine, and ends; QEMU's exit status is [`WRONG_MACHINE`].
pub fn refuse(why: Arguments<'_>) -> ! {
    let _ = writeln!(LastWords, "E (0) board: {why}");
    exit(WRONG_MACHINE)
}

/// Ends the device; QEMU's exit status is `status`, 1–255.
pub fn exit(status: u32) -> ! {
    machine::write(machine::TEST, status << 16 | EXIT);
    wait()
}

/// The machine ends between two instructions soon after it was told to.
fn wait() -> ! {
    loop {
        riscv::asm::wfi();
    }
}
