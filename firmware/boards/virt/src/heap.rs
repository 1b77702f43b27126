//! The heap that Rust and Mbed TLS share, and how full it has been.

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::Ordering;
use embedded_alloc::TlsfHeap;
use portable_atomic::AtomicUsize;

/// The heap's size in bytes: what an ESP32-C3 has left beside its radio's code, its stacks and its statics.
pub const SIZE: usize = 192 * 1024;

const BUDGET: usize = app::heap_budget(include_str!("../../../budgets.toml"), "virt");

#[global_allocator]
static HEAP: Counted = Counted { heap: TlsfHeap::empty(), used: AtomicUsize::new(0), peak: AtomicUsize::new(0) };

#[repr(align(16))]
struct Arena(core::cell::UnsafeCell<[u8; SIZE]>);

// SAFETY: only the allocator touches the arena, and it keeps to critical sections.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(core::cell::UnsafeCell::new([0; SIZE]));

/// An allocator that counts what its users asked for.
struct Counted {
    heap: TlsfHeap,
    used: AtomicUsize,
    peak: AtomicUsize,
}

// SAFETY: passes every call to the allocator below it, and counts.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise, passed on.
        let at = unsafe { GlobalAlloc::alloc(&self.heap, layout) };
        if !at.is_null() {
            let used = self.used.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
            self.peak.fetch_max(used, Ordering::Relaxed);
        }
        at
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        self.used.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { GlobalAlloc::dealloc(&self.heap, at, layout) }
    }
}

/// Gives the heap its memory; called once, before anything allocates.
pub fn start() {
    // SAFETY: nothing else touches the arena, and this runs once, before any other code.
    unsafe { HEAP.heap.init(ARENA.0.get().expose_provenance(), SIZE) }
}

/// How the heap is doing.
pub fn state() -> app::Heap {
    app::Heap {
        used: HEAP.used.load(Ordering::Relaxed),
        high_water: HEAP.peak.load(Ordering::Relaxed),
        largest_free: largest_free(),
        budget: BUDGET,
    }
}

/// The largest block that could be had now, in bytes, to within 64; tried, not looked up, since the allocator does not say.
fn largest_free() -> usize {
    let (mut fits, mut fails) = (0, SIZE + 1);
    while fails - fits > 64 {
        let size = fits.midpoint(fails);
        let Ok(layout) = Layout::from_size_align(size, 4) else { break };
        // SAFETY: the layout is not empty, and a block that was had is given back at once, past the counting.
        let had = unsafe {
            let at = GlobalAlloc::alloc(&HEAP.heap, layout);
            if !at.is_null() {
                GlobalAlloc::dealloc(&HEAP.heap, at, layout);
            }
            !at.is_null()
        };
        if had { fits = size } else { fails = size }
    }
    fits
}
