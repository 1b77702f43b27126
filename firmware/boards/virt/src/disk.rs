//! The flash: a host's file behind virtio-blk, byte for byte the NVS partition, that behaves as NOR flash does.

use crate::virtio::{Memory, Window};
use core::ops::Range;
use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write};
use static_cell::ConstStaticCell;
use virtio_drivers::device::blk::{SECTOR_SIZE, VirtIOBlk};
use virtio_drivers::transport::mmio::MmioTransport;

/// What is erased together, in bytes.
const ERASE_BYTES: usize = 4096;
/// What is written together, in bytes.
const WORD_BYTES: usize = 4;
/// The largest partition, in bytes.
const BYTES_MAX: usize = 512 * 1024;

/// What the file holds. A chip's flash is memory too: reading it takes no time to speak of, asking the host for every word would.
static CONTENTS: ConstStaticCell<[u8; BYTES_MAX]> = ConstStaticCell::new([0; BYTES_MAX]);

/// The partition.
pub struct Flash {
    disk: VirtIOBlk<Memory, MmioTransport<'static>>,
    contents: &'static mut [u8],
}

impl Flash {
    /// Opens the disk in `window`.
    ///
    /// # Errors
    ///
    /// The disk's own, when it does not do what virtio says, and `Unsupported` when it is read-only, larger than 512 KiB, or its size
    /// is not a multiple of 4,096 bytes, three at least, as NVS needs.
    pub fn start(window: Window) -> Result<Self, virtio_drivers::Error> {
        let mut disk = VirtIOBlk::<Memory, _>::new(window.transport)?;
        let bytes = usize::try_from(disk.capacity()).unwrap_or(usize::MAX).saturating_mul(SECTOR_SIZE);
        if disk.readonly() || !bytes.is_multiple_of(ERASE_BYTES) || !(3 * ERASE_BYTES..=BYTES_MAX).contains(&bytes) {
            return Err(virtio_drivers::Error::Unsupported);
        }
        let contents = &mut CONTENTS.take()[..bytes];
        disk.read_blocks(0, contents)?;
        Ok(Self { disk, contents })
    }

    /// Writes the sectors that `changed` touches to the file.
    fn keep(&mut self, changed: Range<usize>) -> Result<(), NorFlashErrorKind> {
        let (first, end) = (changed.start / SECTOR_SIZE, changed.end.div_ceil(SECTOR_SIZE));
        if first == end {
            return Ok(());
        }
        let sectors = &self.contents[first * SECTOR_SIZE..end * SECTOR_SIZE];
        self.disk.write_blocks(first, sectors).map_err(|_| NorFlashErrorKind::Other)
    }
}

impl ErrorType for Flash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = WORD_BYTES;

    fn read(&mut self, offset: u32, into: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, into.len())?;
        into.copy_from_slice(&self.contents[offset as usize..][..into.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.contents.len()
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = WORD_BYTES;
    const ERASE_SIZE: usize = ERASE_BYTES;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_erase(self, from, to)?;
        let erased = from as usize..to as usize;
        self.contents[erased.clone()].fill(0xFF);
        self.keep(erased)
    }

    /// Clears bits and sets none, as flash does: what is written over something else than erased bytes is neither.
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len())?;
        let written = offset as usize..offset as usize + bytes.len();
        for (old, new) in self.contents[written.clone()].iter_mut().zip(bytes) {
            *old &= new;
        }
        self.keep(written)
    }
}
