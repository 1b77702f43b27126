//! A device that cannot go on says why, in ESP-IDF's words, and starts again: panic, trap, stack overflow, watchdog.

use crate::power::{self, Cause};
use crate::uart::LastWords;
use core::fmt::{self, Write as _};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};
use riscv::register::{mcause, mepc, mtval};

const FRAMES_MAX: usize = 40;
/// Where stacks are: the main one, and the radio's on the heap.
const MEMORY: core::ops::Range<usize> = 0x3FC8_0000..0x3FCE_0000;
/// Where code is: ROM, memory, flash.
const CODE: core::ops::Range<usize> = 0x4000_0000..0x4280_0000;

/// Ends the device after no task was run for too long. Called by an interrupt.
pub fn on_hang(now_ms: u64) -> ! {
    die(
        Cause::Hang,
        format_args!(
            "E ({now_ms}) task_wdt: Task watchdog got triggered. The executor did not run its tasks in time.\n\
             Guru Meditation Error: Core  0 panic'ed (Task watchdog)."
        ),
        Some(mepc::read()),
    )
}

/// Exceptions arrive here too: esp-hal makes a panic of each.
#[panic_handler]
fn on_panic(info: &PanicInfo<'_>) -> ! {
    let (file, line) = info.location().map_or(("?", 0), |at| (at.file(), at.line()));
    if file.ends_with("exception_handler/mod.rs") {
        die(
            Cause::Panic,
            format_args!("Guru Meditation Error: Core  0 panic'ed ({}). Exception was unhandled.", exception()),
            Some(mepc::read()),
        )
    }
    die(Cause::Panic, format_args!("Guru Meditation Error: Core  0 panic'ed (Panic). {} at {file}:{line}", info.message()), None)
}

/// What the processor says has happened.
fn exception() -> &'static str {
    unsafe extern "C" {
        static __stack_chk_guard: u32;
    }
    const CODES: usize = 0x1F;
    match mcause::read().bits() & CODES {
        3 if mtval::read() == (&raw const __stack_chk_guard).addr() => "Stack protection fault",
        14 => "Stack protection fault",
        0 => "Instruction address misaligned",
        1 => "Instruction access fault",
        2 => "Illegal instruction",
        3 => "Breakpoint",
        4 => "Load address misaligned",
        5 => "Load access fault",
        6 => "Store address misaligned",
        7 => "Store access fault",
        _ => "Unknown fault",
    }
}

/// Says `why`, then where, and starts again. `at`: what was interrupted.
fn die(cause: Cause, why: fmt::Arguments<'_>, at: Option<usize>) -> ! {
    static DYING: AtomicBool = AtomicBool::new(false);
    riscv::interrupt::disable();
    if !DYING.load(Ordering::Relaxed) {
        DYING.store(true, Ordering::Relaxed);
        let _ = writeln!(LastWords, "{}\n{why}", app::serial::broken_off());
        if let Some(at) = at {
            let (cause, value) = (mcause::read().bits(), mtval::read());
            let _ = writeln!(LastWords, "MEPC    : {at:#010x}  MCAUSE  : {cause:#010x}  MTVAL   : {value:#010x}");
        }
        let _ = backtrace(at, frame_pointer());
    }
    power::restart(cause)
}

/// Writes `Backtrace: 0xPC:0xSP …`, innermost first, each address inside the instruction that called. What was interrupted comes first, then
/// what interrupted it, down to there, and on.
fn backtrace(first: Option<usize>, mut fp: usize) -> fmt::Result {
    write!(LastWords, "Backtrace:")?;
    if let Some(pc) = first {
        write!(LastWords, " {pc:#010x}:{fp:#010x}")?;
    }
    for _ in 0..FRAMES_MAX {
        // The return address and the caller's frame pointer lie just below where a frame begins.
        if !(fp.is_multiple_of(4) && MEMORY.contains(&fp.wrapping_sub(8)) && MEMORY.contains(&fp.wrapping_sub(1))) {
            break;
        }
        // SAFETY: inside the chip's memory, and aligned.
        let (ra, caller) = unsafe {
            let words = core::ptr::with_exposed_provenance::<usize>(fp);
            (words.sub(1).read_volatile(), words.sub(2).read_volatile())
        };
        if !CODE.contains(&ra) || caller == fp {
            break;
        }
        write!(LastWords, " {:#010x}:{fp:#010x}", ra - 2)?;
        fp = caller;
    }
    writeln!(LastWords)
}

#[inline(always)]
fn frame_pointer() -> usize {
    let fp: usize;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mv {}, s0", out(reg) fp, options(nomem, nostack, preserves_flags)) };
    fp
}
