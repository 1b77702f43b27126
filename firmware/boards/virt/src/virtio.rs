//! The machine's virtio windows: which device is where, the memory shared with them, and their interrupts.

use crate::machine::{VIRTIO, VIRTIO_STEP, VIRTIO_WINDOWS, read, write};
use crate::plic;
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use embassy_sync::waitqueue::AtomicWaker;
use portable_atomic::AtomicUsize;
use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

/// A queue takes two pages; network card, disk and randomness have four between them.
const PAGES: usize = 8;
const DEVICE_TYPE: usize = 0x08;
const NOTIFY: usize = 0x50;
const INTERRUPT_STATUS: usize = 0x60;
const INTERRUPT_DONE: usize = 0x64;

static WAKERS: [AtomicWaker; VIRTIO_WINDOWS] = [const { AtomicWaker::new() }; VIRTIO_WINDOWS];

/// A device and where it is.
pub struct Window {
    /// The way to the device.
    pub transport: MmioTransport<'static>,
    /// Which window it is, counted from 0.
    pub index: usize,
}

/// Finds the first device of a kind.
pub fn find(kind: DeviceType) -> Option<Window> {
    (0..VIRTIO_WINDOWS).find_map(|index| {
        let window = VIRTIO + index * VIRTIO_STEP;
        // Looked at first: a transport that is not kept resets its device, which may be in use.
        if read(window + DEVICE_TYPE) != kind as u32 {
            return None;
        }
        let header = NonNull::new(core::ptr::with_exposed_provenance_mut(window))?;
        // SAFETY: the machine has a virtio window here, whether or not a device is behind it.
        let transport = unsafe { MmioTransport::new(header, VIRTIO_STEP) }.ok()?;
        Some(Window { transport, index })
    })
}

/// Lets the device of window `index` interrupt, and says whom it wakes.
pub fn listen(index: usize) -> &'static AtomicWaker {
    plic::enable(index as u32 + 1);
    &WAKERS[index]
}

/// Tells the device of window `index` that something was put into its queue `queue`.
///
/// The drivers tell it themselves, except when they think that it looks anyway; that thought of theirs is wrong once in 65,536
/// buffers, when their counter starts again.
pub fn notify(index: usize, queue: u16) {
    write(VIRTIO + index * VIRTIO_STEP + NOTIFY, queue.into());
}

/// Called on the interrupt of window `index`.
pub fn on_interrupt(index: usize) {
    let window = VIRTIO + index * VIRTIO_STEP;
    write(window + INTERRUPT_DONE, read(window + INTERRUPT_STATUS));
    WAKERS[index].wake();
}

#[repr(align(4096))]
struct Pool(UnsafeCell<[u8; PAGES * PAGE_SIZE]>);

// SAFETY: each page is handed out once, to one driver.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool(UnsafeCell::new([0; PAGES * PAGE_SIZE]));
static POOL_USED: AtomicUsize = AtomicUsize::new(0);

/// Memory as the drivers see it: an address is the same for processor and device.
pub struct Memory;

// SAFETY: the pool's pages are zero, aligned, and each is handed out once; there is no other translation of addresses.
unsafe impl Hal for Memory {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let page = POOL_USED.fetch_add(pages, Ordering::Relaxed);
        // Zero is how a driver hears that there is no memory.
        let none = (0, NonNull::dangling());
        if page + pages > PAGES {
            return none;
        }
        // SAFETY: inside the pool.
        let at = unsafe { POOL.0.get().cast::<u8>().add(page * PAGE_SIZE) };
        NonNull::new(at).map_or(none, |at| (at.as_ptr().expose_provenance() as PhysAddr, at))
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
        NonNull::new(core::ptr::with_exposed_provenance_mut(address as usize)).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr().expose_provenance() as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}
