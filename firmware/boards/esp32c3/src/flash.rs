//! The chip's flash: the NVS partition, and the partition with the text about the board's surroundings. Both are found in the partition table.

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;
use critical_section::Mutex;
use device_core::surroundings::TEXT_MAX;
use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write};
use esp_bootloader_esp_idf::partitions::{PARTITION_TABLE_MAX_LEN, read_partition_table};
use esp_hal::peripherals::FLASH;
use esp_storage::{FlashStorage, FlashStorageError};

/// What is erased together, in bytes.
const SECTOR: u32 = 4096;
/// What is written together, in bytes: no less, …
const WORD: u32 = 4;
/// … and no more.
const PAGE: u32 = 256;
/// The smallest NVS partition, in bytes.
const NVS_MIN: u32 = 3 * SECTOR;
const NVS: &str = "device_config";
const SURROUNDINGS: &str = "surroundings";
/// Partition type `data`.
const DATA: u8 = 1;

/// The flash, when nobody uses it.
static CHIP: Mutex<Cell<Option<FlashStorage<'static>>>> = Mutex::new(Cell::new(None));
static TEXT: Mutex<Cell<Option<Partition>>> = Mutex::new(Cell::new(None));

/// Uses the flash.
fn with<T>(use_it: impl FnOnce(&mut FlashStorage<'static>) -> Result<T, FlashStorageError>) -> Result<T, NorFlashErrorKind> {
    // Only the executor's tasks come here, and none waits in the middle.
    let mut chip = critical_section::with(|cs| CHIP.borrow(cs).take()).ok_or(NorFlashErrorKind::Other)?;
    let done = use_it(&mut chip);
    critical_section::with(|cs| CHIP.borrow(cs).set(Some(chip)));
    done.map_err(|_| NorFlashErrorKind::Other)
}

/// Opens the flash and finds the NVS partition; [`surroundings`] and [`keep_surroundings`] can be called from then on.
///
/// # Errors
/// What is wrong with the partition table, in one line.
pub fn start(flash: FLASH<'static>) -> Result<Partition, &'static str> {
    let mut chip = FlashStorage::new(flash);
    let mut table = alloc::vec![0; PARTITION_TABLE_MAX_LEN];
    let table = read_partition_table(&mut chip, &mut table).map_err(|_| "the flash has no usable partition table at 0x8000")?;
    let find = |name: &str, size_min: u32| {
        let is = |e: &_| esp_is(e, name, size_min);
        table.iter().find(is).map(|e| Partition { start: e.offset(), size: e.len() / SECTOR * SECTOR })
    };
    let nvs = find(NVS, NVS_MIN).ok_or("the partition table has no data partition device_config of 12 KiB or more")?;
    let text = find(SURROUNDINGS, SECTOR);
    critical_section::with(|cs| {
        TEXT.borrow(cs).set(text);
        CHIP.borrow(cs).set(Some(chip));
    });
    Ok(nvs)
}

fn esp_is(entry: &esp_bootloader_esp_idf::partitions::PartitionEntry, name: &str, size_min: u32) -> bool {
    entry.raw_type() == DATA && entry.label_as_str() == name && entry.len() >= size_min && !entry.is_read_only()
}

/// The text about the board's surroundings; empty when the partition is erased, or not there. It ends at the first byte that is 0 or 0xFF.
///
/// # Errors
/// Flash that cannot be read, or a text that is not UTF-8.
pub fn surroundings() -> Result<String, &'static str> {
    let Some(mut partition) = critical_section::with(|cs| TEXT.borrow(cs).get()) else { return Ok(String::new()) };
    let mut text = Vec::new();
    let mut chunk = [0; 256];
    for at in (0..partition.size.min(TEXT_MAX as u32)).step_by(chunk.len()) {
        partition.read(at, &mut chunk).map_err(|_| "the flash cannot be read")?;
        let end = chunk.iter().position(|byte| matches!(byte, 0 | 0xFF));
        text.extend_from_slice(&chunk[..end.unwrap_or(chunk.len())]);
        if end.is_some() {
            break;
        }
    }
    String::from_utf8(text).map_err(|_| "they are not UTF-8")
}

/// Keeps a text about the board's surroundings, for the next start; an empty one is none.
///
/// # Errors
/// No partition for it, a text too long for it, or flash that refuses.
pub fn keep_surroundings(text: &str) -> Result<(), &'static str> {
    let mut partition =
        critical_section::with(|cs| TEXT.borrow(cs).get()).ok_or("the partition table has no partition surroundings")?;
    if text.len() > partition.size as usize {
        return Err("the text is longer than the partition");
    }
    // Flash wears out, and a board on a test bench is told the same before every trial.
    if surroundings().is_ok_and(|kept| kept == text) {
        return Ok(());
    }
    let refused = |_| "the flash refuses";
    partition.erase(0, partition.size).map_err(refused)?;
    // The beginning comes last: without it there is no text, wherever the power goes.
    for (i, part) in text.as_bytes().chunks(PAGE as usize).enumerate().rev() {
        let mut page = [0xFF; PAGE as usize];
        page[..part.len()].copy_from_slice(part);
        partition.write(i as u32 * PAGE, &page[..part.len().next_multiple_of(WORD as usize)]).map_err(refused)?;
    }
    Ok(())
}

/// A partition of the flash.
#[derive(Clone, Copy)]
pub struct Partition {
    start: u32,
    size: u32,
}

impl ErrorType for Partition {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Partition {
    const READ_SIZE: usize = WORD as usize;

    fn read(&mut self, offset: u32, into: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, into.len())?;
        with(|chip| chip.read_nor(self.start + offset, into))
    }

    fn capacity(&self) -> usize {
        self.size as usize
    }
}

impl NorFlash for Partition {
    const WRITE_SIZE: usize = WORD as usize;
    const ERASE_SIZE: usize = SECTOR as usize;

    /// Sector by sector: while one is erased nothing interrupts, and the console's port can hold no more than 11 ms of bytes.
    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_erase(self, from, to)?;
        (from..to).step_by(SECTOR as usize).try_for_each(|at| with(|chip| chip.erase(self.start + at, self.start + at + SECTOR)))
    }

    /// Page by page, for the same reason: each takes a millisecond.
    fn write(&mut self, offset: u32, mut bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len())?;
        let mut at = self.start + offset;
        while !bytes.is_empty() {
            let (page, rest) = bytes.split_at(bytes.len().min((PAGE - at % PAGE) as usize));
            with(|chip| chip.write_nor(at, page))?;
            at += page.len() as u32;
            bytes = rest;
        }
        Ok(())
    }
}
