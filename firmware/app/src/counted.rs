//! Tests count the heap: how much more of it a thread has used at most than it had when it began.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use std::alloc::System;

#[global_allocator]
static HEAP: Counted = Counted;

std::thread_local! {
    static USED: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

struct Counted;

fn count(more: usize, less: usize) {
    // A thread that ends counts no more.
    let _ = USED.try_with(|used| {
        let now = used.get().0.saturating_add_unsigned(more).saturating_sub_unsigned(less);
        used.set((now, used.get().1.max(now)));
    });
}

#[expect(unsafe_code, reason = "an allocator is")]
// SAFETY: passes every call to the system's, and counts.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

/// What this made, and the most bytes of heap that it held at once. Growing counts as on the board: the old block and the new one.
pub(crate) fn most<T>(make: impl FnOnce() -> T) -> (T, usize) {
    let before = USED.with(|used| {
        let (now, _) = used.get();
        used.set((now, now));
        now
    });
    let made = make();
    let most = USED.with(|used| used.get().1) - before;
    (made, usize::try_from(most).unwrap_or(0))
}
