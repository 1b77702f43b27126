//! The firmware on QEMU's stock `virt` machine: real TCP/IP, TLS and storage, on a board that everybody has.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "a board is where registers, interrupts and C are")]

mod heap;
mod machine;
mod power;
mod uart;

use core::fmt::Write as _;
use core::panic::PanicInfo;

#[embassy_executor::main(entry = "riscv_rt::entry")]
async fn main(_spawner: embassy_executor::Spawner) {
    heap::start();
    let _ = writeln!(uart::LastWords, "I (0) boot: virt {}", env!("CARGO_PKG_VERSION"));
    core::future::pending().await
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(uart::LastWords, "Guru Meditation Error: Core  0 panic'ed (Panic). {info}");
    power::exit(power::CRASHED)
}
