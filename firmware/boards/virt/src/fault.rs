//! A device that cannot go on says why, in ESP-IDF's words, and ends: panic, trap, stack overflow, watchdog.

use crate::{clock, power, trap, uart::LastWords};
use core::fmt::{self, Write as _};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};
use riscv::register::{mcause, mepc, mtval};

unsafe extern "C" {
    static _guard_start: u8;
    static _guard_size: u8;
    static _stack_start: u8;
}

const FRAMES_MAX: usize = 40;

/// Makes the memory below the stack untouchable, for this program too; the processor keeps to it until it is reset.
pub fn start() {
    // A power of two as the bits below its address say how large it is; locked, no rights.
    let address = (guard().start >> 2) | ((guard().len() >> 3) - 1);
    // SAFETY: the linker keeps this memory free of anything.
    unsafe { core::arch::asm!("csrw pmpaddr0, {0}", "csrw pmpcfg0, {1}", in(reg) address, in(reg) 0x98) };
}

/// Ends the device after a fault or an interrupt that nobody serves.
pub fn on_trap(frame: &trap::Frame) -> ! {
    let value = mtval::read();
    let cause = mcause::read();
    let what = match cause.code() {
        _ if guard().contains(&value) => "Stack protection fault",
        _ if cause.is_interrupt() => "Unexpected interrupt",
        0 => "Instruction address misaligned",
        1 => "Instruction access fault",
        2 => "Illegal instruction",
        3 => "Breakpoint",
        4 => "Load address misaligned",
        5 => "Load access fault",
        6 => "Store address misaligned",
        7 => "Store access fault",
        _ => "Unknown fault",
    };
    die(format_args!("Guru Meditation Error: Core  0 panic'ed ({what}). Exception was unhandled."), Some(frame))
}

/// Ends the device after no task was run for too long.
pub fn on_hang(frame: &trap::Frame) -> ! {
    let now = clock::now_ms();
    die(
        format_args!(
            "E ({now}) task_wdt: Task watchdog got triggered. The executor did not run its tasks in time.\n\
             Guru Meditation Error: Core  0 panic'ed (Task watchdog)."
        ),
        Some(frame),
    )
}

#[panic_handler]
fn on_panic(info: &PanicInfo<'_>) -> ! {
    let (file, line) = info.location().map_or(("?", 0), |at| (at.file(), at.line()));
    die(format_args!("Guru Meditation Error: Core  0 panic'ed (Panic). {} at {file}:{line}", info.message()), None)
}

/// Says `why`, then where, and ends. `frame` is what was interrupted; without one, the caller is meant.
fn die(why: fmt::Arguments<'_>, frame: Option<&trap::Frame>) -> ! {
    static DYING: AtomicBool = AtomicBool::new(false);
    riscv::interrupt::disable();
    if !DYING.load(Ordering::Relaxed) {
        DYING.store(true, Ordering::Relaxed);
        let _ = writeln!(LastWords, "{}\n{why}", app::serial::broken_off());
        let _ = match frame {
            Some(frame) => {
                let (at, cause, value) = (mepc::read(), mcause::read().bits(), mtval::read());
                let _ = writeln!(LastWords, "MEPC    : {at:#010x}  RA      : {:#010x}  SP      : {:#010x}", frame.ra, frame.sp);
                let _ = writeln!(LastWords, "MCAUSE  : {cause:#010x}  MTVAL   : {value:#010x}");
                backtrace(Some((at, frame.sp)), frame.fp)
            }
            None => backtrace(None, frame_pointer()),
        };
    }
    power::exit(power::CRASHED)
}

/// Writes `Backtrace: 0xPC:0xSP …`, innermost first, each address inside the instruction that called.
fn backtrace(first: Option<(usize, usize)>, mut fp: usize) -> fmt::Result {
    write!(LastWords, "Backtrace:")?;
    if let Some((pc, sp)) = first {
        write!(LastWords, " {pc:#010x}:{sp:#010x}")?;
    }
    for _ in 0..FRAMES_MAX {
        // The return address and the caller's frame pointer lie just below where a frame begins.
        if !(fp.is_multiple_of(4) && is_stack(fp.wrapping_sub(8)) && is_stack(fp.wrapping_sub(1))) {
            break;
        }
        // SAFETY: inside one of the two stacks, and aligned.
        let (ra, caller) = unsafe {
            let words = core::ptr::with_exposed_provenance::<usize>(fp);
            (words.sub(1).read_volatile(), words.sub(2).read_volatile())
        };
        if ra < 2 || caller <= fp && !trap::stack().contains(&fp) {
            break;
        }
        write!(LastWords, " {:#010x}:{fp:#010x}", ra - 2)?;
        fp = caller;
    }
    writeln!(LastWords)
}

fn is_stack(address: usize) -> bool {
    (guard().end..(&raw const _stack_start).expose_provenance()).contains(&address) || trap::stack().contains(&address)
}

fn guard() -> core::ops::Range<usize> {
    let start = (&raw const _guard_start).expose_provenance();
    start..start + (&raw const _guard_size).addr()
}

#[inline(always)]
fn frame_pointer() -> usize {
    let fp: usize;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mv {}, s0", out(reg) fp, options(nomem, nostack, preserves_flags)) };
    fp
}
