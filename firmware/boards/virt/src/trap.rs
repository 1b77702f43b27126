//! Where interrupts and faults arrive: saves what was running, on a stack of its own, and asks who is meant.

use crate::{clock, fault, plic};
use core::arch::global_asm;
use riscv::register::{mcause, mie, mscratch, mstatus, mtvec};

/// Interrupts and faults run here, so that a stack that has overflowed can still be reported.
const STACK_BYTES: usize = 8 * 1024;

#[repr(align(16))]
struct Stack(core::cell::UnsafeCell<[u8; STACK_BYTES]>);

// SAFETY: only the processor writes it, as a stack.
unsafe impl Sync for Stack {}

static STACK: Stack = Stack(core::cell::UnsafeCell::new([0; STACK_BYTES]));

/// What was running: the registers that a call may change, and those that tell where it was.
#[repr(C)]
pub struct Frame {
    /// The return address.
    pub ra: usize,
    /// The stack pointer.
    pub sp: usize,
    /// The frame pointer.
    pub fp: usize,
    others: [usize; 17],
}

// A trap inside a trap finds mscratch at the top of the trap's stack again and overwrites what is there: it is a fault, and final.
global_asm!(
    r#"
    .section .trap, "ax"
    .balign 4
    .global _trap_entry
_trap_entry:
    csrrw sp, mscratch, sp
    addi  sp, sp, -80
    sw ra, 0(sp)
    sw s0, 8(sp)
    sw t0, 12(sp)
    sw t1, 16(sp)
    sw t2, 20(sp)
    sw t3, 24(sp)
    sw t4, 28(sp)
    sw t5, 32(sp)
    sw t6, 36(sp)
    sw a0, 40(sp)
    sw a1, 44(sp)
    sw a2, 48(sp)
    sw a3, 52(sp)
    sw a4, 56(sp)
    sw a5, 60(sp)
    sw a6, 64(sp)
    sw a7, 68(sp)
    csrr t0, mscratch
    sw t0, 4(sp)
    addi t0, sp, 80
    csrw mscratch, t0
    mv a0, sp
    call {trap}
    lw ra, 0(sp)
    lw t0, 12(sp)
    lw t1, 16(sp)
    lw t2, 20(sp)
    lw t3, 24(sp)
    lw t4, 28(sp)
    lw t5, 32(sp)
    lw t6, 36(sp)
    lw a0, 40(sp)
    lw a1, 44(sp)
    lw a2, 48(sp)
    lw a3, 52(sp)
    lw a4, 56(sp)
    lw a5, 60(sp)
    lw a6, 64(sp)
    lw a7, 68(sp)
    lw sp, 4(sp)
    mret
    "#,
    trap = sym trap,
);

unsafe extern "C" {
    fn _trap_entry();
}

/// Lets interrupts and faults arrive; called once, before anything that interrupts is started.
pub fn start() {
    let top = STACK.0.get().expose_provenance() + STACK_BYTES;
    // SAFETY: the entry is aligned, saves and restores all it changes, and finds its stack in mscratch.
    unsafe {
        mscratch::write(top);
        mtvec::write(mtvec::Mtvec::new(_trap_entry as *const () as usize, mtvec::TrapMode::Direct));
        mie::set_mext();
        mie::set_mtimer();
        mstatus::set_mie();
    }
}

/// The lowest and the highest address of the trap's stack.
pub fn stack() -> core::ops::Range<usize> {
    let start = STACK.0.get().expose_provenance();
    start..start + STACK_BYTES
}

extern "C" fn trap(frame: &Frame) {
    const TIMER: usize = 7;
    const EXTERNAL: usize = 11;
    let cause = mcause::read();
    match cause.code() {
        TIMER if cause.is_interrupt() => clock::on_interrupt(frame),
        EXTERNAL if cause.is_interrupt() => plic::on_interrupt(),
        _ => fault::on_trap(frame),
    }
}
