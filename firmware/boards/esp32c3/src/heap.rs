//! The heap that Rust, Mbed TLS and the radio share, and how full it has been.

use core::alloc::{GlobalAlloc as _, Layout};
use core::sync::atomic::Ordering;
use esp_alloc::export::enumset::EnumSet;
use esp_alloc::{EspHeap, HEAP, MemoryCapability};
use esp_hal::ram;
use portable_atomic::{AtomicBool, AtomicUsize};

/// The part that lies beside the statics, in bytes. What neither takes is the stack.
const BESIDE_STATICS: usize = 160 * 1024;
/// The part that lies where the bootloader was, in bytes: what is left between the statics' memory and the ROM's.
const BOOTLOADER: usize = 64 * 1024;

const BUDGET: usize = app::heap_budget(include_str!("../../../budgets.toml"), "esp32c3");

static USED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// Blocks are being tried, not taken.
static TRYING: AtomicBool = AtomicBool::new(false);

/// Gives the heap its memory; called once, before anything allocates.
pub fn start() {
    esp_alloc::heap_allocator!(size: BESIDE_STATICS);
    esp_alloc::heap_allocator!(#[ram(reclaimed)] size: BOOTLOADER);
}

/// Called by the allocator with every block that was asked for, by whomever.
#[unsafe(no_mangle)]
fn _esp_alloc_alloc(_: &EspHeap, _: EnumSet<MemoryCapability>, block: usize, size: usize) {
    if block != 0 && !TRYING.load(Ordering::Relaxed) {
        let used = USED.fetch_add(size, Ordering::Relaxed) + size;
        PEAK.fetch_max(used, Ordering::Relaxed);
    }
}

/// Called by the allocator with every block that was given back.
#[unsafe(no_mangle)]
fn _esp_alloc_dealloc(_: &EspHeap, block: usize, size: usize) {
    if block != 0 && !TRYING.load(Ordering::Relaxed) {
        USED.fetch_sub(size, Ordering::Relaxed);
    }
}

/// How the heap is doing.
pub fn state() -> app::Heap {
    app::Heap {
        used: USED.load(Ordering::Relaxed),
        high_water: PEAK.load(Ordering::Relaxed),
        largest_free: largest_free(),
        budget: BUDGET,
    }
}

/// The largest block that could be had now, in bytes, to within 64; tried, not looked up, since the allocator does not say.
fn largest_free() -> usize {
    let (mut fits, mut fails) = (0, BESIDE_STATICS.max(BOOTLOADER) + 1);
    while fails - fits > 64 {
        let size = fits.midpoint(fails);
        let Ok(layout) = Layout::from_size_align(size, 4) else { break };
        // The radio's threads allocate too, and are to be counted.
        let had = critical_section::with(|_| {
            TRYING.store(true, Ordering::Relaxed);
            // SAFETY: the layout is not empty, and a block that was had is given back at once.
            let had = unsafe {
                let at = HEAP.alloc(layout);
                if !at.is_null() {
                    HEAP.dealloc(at, layout);
                }
                !at.is_null()
            };
            TRYING.store(false, Ordering::Relaxed);
            had
        });
        if had { fits = size } else { fails = size }
    }
    fits
}
