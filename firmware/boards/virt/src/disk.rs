//! The flash: a host's file behind virtio-blk, byte for byte the NVS partition, that behaves as NOR flash does.

use crate::virtio::{Memory, Window};
use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write};
use virtio_drivers::device::blk::{SECTOR_SIZE, VirtIOBlk};
use virtio_drivers::transport::mmio::MmioTransport;

/// What is erased together, in bytes.
const ERASE_BYTES: usize = 4096;
/// What is written together, in bytes.
const WORD_BYTES: usize = 4;

/// The partition.
pub struct Flash {
    disk: VirtIOBlk<Memory, MmioTransport<'static>>,
    bytes: usize,
}

impl Flash {
    /// Opens the disk in `window`.
    ///
    /// # Errors
    ///
    /// The disk's own, when it does not do what virtio says, and `Unsupported` when it is read-only or its size is not a multiple of
    /// 4,096 bytes, three at least, as NVS needs.
    pub fn start(window: Window) -> Result<Self, virtio_drivers::Error> {
        let disk = VirtIOBlk::<Memory, _>::new(window.transport)?;
        let bytes = usize::try_from(disk.capacity()).unwrap_or(usize::MAX).saturating_mul(SECTOR_SIZE);
        if disk.readonly() || !bytes.is_multiple_of(ERASE_BYTES) || bytes < 3 * ERASE_BYTES {
            return Err(virtio_drivers::Error::Unsupported);
        }
        Ok(Self { disk, bytes })
    }

    /// Calls `each` for every sector that `bytes` bytes from `offset` touch, with its number, the range in it and the range in the bytes.
    fn sectors(
        &mut self,
        offset: u32,
        bytes: usize,
        mut each: impl FnMut(&mut Self, usize, core::ops::Range<usize>, core::ops::Range<usize>) -> Result<(), NorFlashErrorKind>,
    ) -> Result<(), NorFlashErrorKind> {
        let mut done = 0;
        while done < bytes {
            let at = offset as usize + done;
            let within = at % SECTOR_SIZE;
            let count = (SECTOR_SIZE - within).min(bytes - done);
            each(self, at / SECTOR_SIZE, within..within + count, done..done + count)?;
            done += count;
        }
        Ok(())
    }

    fn read_sector(&mut self, number: usize) -> Result<[u8; SECTOR_SIZE], NorFlashErrorKind> {
        let mut sector = [0; SECTOR_SIZE];
        self.disk.read_blocks(number, &mut sector).map_err(|_| NorFlashErrorKind::Other)?;
        Ok(sector)
    }

    fn write_sector(&mut self, number: usize, sector: &[u8; SECTOR_SIZE]) -> Result<(), NorFlashErrorKind> {
        self.disk.write_blocks(number, sector).map_err(|_| NorFlashErrorKind::Other)
    }
}

impl ErrorType for Flash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = WORD_BYTES;

    fn read(&mut self, offset: u32, into: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, into.len())?;
        self.sectors(offset, into.len(), |flash, number, within, here| {
            into[here].copy_from_slice(&flash.read_sector(number)?[within]);
            Ok(())
        })
    }

    fn capacity(&self) -> usize {
        self.bytes
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = WORD_BYTES;
    const ERASE_SIZE: usize = ERASE_BYTES;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_erase(self, from, to)?;
        self.sectors(from, (to - from) as usize, |flash, number, _, _| flash.write_sector(number, &[0xFF; SECTOR_SIZE]))
    }

    /// Clears bits and sets none, as flash does: what is written over something else than erased bytes is neither.
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len())?;
        self.sectors(offset, bytes.len(), |flash, number, within, here| {
            let mut sector = flash.read_sector(number)?;
            for (old, new) in sector[within].iter_mut().zip(&bytes[here]) {
                *old &= new;
            }
            flash.write_sector(number, &sector)
        })
    }
}
