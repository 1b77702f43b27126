//! The addresses of QEMU's `virt` machine, and how a register is read and written.

/// The 16550 serial port.
pub const UART0: usize = 0x1000_0000;
/// The interrupt line of [`UART0`].
pub const UART0_LINE: u32 = 10;
/// The device that ends or resets the machine.
pub const TEST: usize = 0x10_0000;
/// The timer's compare register, 64 bits.
pub const MTIMECMP: usize = 0x0200_4000;
/// The timer, 64 bits, 10 MHz.
pub const MTIME: usize = 0x0200_BFF8;
/// The interrupt controller.
pub const PLIC: usize = 0x0C00_0000;
/// The first of the virtio windows; the others follow [`VIRTIO_STEP`] bytes apart.
pub const VIRTIO: usize = 0x1000_1000;
/// The size of a virtio window in bytes.
pub const VIRTIO_STEP: usize = 0x1000;
/// How many virtio windows there are; the interrupt line of window `i`, counted from 0, is `i + 1`.
pub const VIRTIO_WINDOWS: usize = 8;
/// Where the host may leave a text about the device's surroundings (`surroundings`); memory that nothing else uses.
pub const SURROUNDINGS: usize = 0x8080_0000;
/// Where the device keeps such a text of its own over a reset; memory that nothing else uses.
pub const KEPT: usize = 0x80A0_0000;
/// Where the host says how the device is to break (`provoke`); memory that nothing else uses.
pub const PROVOKE: usize = 0x8090_0000;
/// An address with nothing behind it.
pub const NOTHING: usize = 0x10;

/// Reads a register of 32 bits at one of this module's addresses.
pub fn read(address: usize) -> u32 {
    // SAFETY: every address of this module is a register or memory of the machine that no Rust object lives at; one with nothing behind it traps.
    unsafe { core::ptr::with_exposed_provenance::<u32>(address).read_volatile() }
}

/// Writes a register of 32 bits at one of this module's addresses.
pub fn write(address: usize, value: u32) {
    // SAFETY: as for `read`.
    unsafe { core::ptr::with_exposed_provenance_mut::<u32>(address).write_volatile(value) }
}

/// Reads a register of 8 bits at one of this module's addresses.
pub fn read_byte(address: usize) -> u8 {
    // SAFETY: as for `read`.
    unsafe { core::ptr::with_exposed_provenance::<u8>(address).read_volatile() }
}

/// Writes a register of 8 bits at one of this module's addresses.
pub fn write_byte(address: usize, value: u8) {
    // SAFETY: as for `read`.
    unsafe { core::ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(value) }
}
