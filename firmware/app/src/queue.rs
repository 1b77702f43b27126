//! Readings that wait for the broker, kept over power cuts: in flash, one NVS string each in the namespace `queue`.

use crate::store::Storage;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use device_core::output::Reading;
use embedded_storage::nor_flash::NorFlash;
use esp_nvs::Key;

const QUEUE: Key = Key::from_str("queue");

/// The readings that are read back after a start, at most; the device keeps at most 1,000.
pub const READINGS_MAX: usize = 4096;

impl<F: NorFlash> Storage<F> {
    /// Everything that waits, the oldest first, and what could not be read.
    pub fn readings(&mut self) -> (Vec<Reading>, Option<String>) {
        let could_not = |e: &dyn core::fmt::Display| Some(format!("could not read the queue: {e}"));
        let nvs = match self.nvs() {
            Ok(nvs) => nvs,
            // Said with the stored set already.
            Err(_) => return (Vec::new(), None),
        };
        let mut trouble = None;
        let mut keys: Vec<Key> = Vec::new();
        for key in nvs.keys().take(READINGS_MAX) {
            match key {
                Ok((namespace, key)) if namespace == QUEUE => keys.push(key),
                Ok(_) => {}
                Err(e) => trouble = could_not(&e),
            }
        }
        let mut readings = Vec::with_capacity(keys.len());
        for key in keys {
            let Ok(number) = u64::from_str_radix(key.as_str(), 16) else { continue };
            match nvs.get(&QUEUE, &key) {
                Ok(payload) => readings.push(Reading { number, payload }),
                Err(e) => trouble = could_not(&e),
            }
        }
        readings.sort_by_key(|r| r.number);
        (readings, trouble)
    }

    /// Adds a reading; a number that is there already is replaced. Durable when it returns.
    ///
    /// # Errors
    /// Flash that is full or refuses, in one line for the console.
    pub fn push(&mut self, reading: &Reading) -> Result<(), String> {
        let key = key(reading.number).ok_or("could not write to the queue: the number is too large")?;
        self.nvs()?.set(&QUEUE, &key, reading.payload.as_str()).map_err(|e| format!("could not write to the queue: {e}"))
    }

    /// Takes out the reading with this number, if it is there.
    ///
    /// # Errors
    /// Flash that refuses, in one line for the console.
    pub fn pop(&mut self, number: u64) -> Result<(), String> {
        let Some(key) = key(number) else { return Ok(()) };
        self.nvs()?.delete(&QUEUE, &key).map_err(|e| format!("could not delete from the queue: {e}"))
    }
}

/// An NVS key has 15 bytes at most.
fn key(number: u64) -> Option<Key> {
    let text = format!("{number:x}");
    (text.len() <= esp_nvs::MAX_KEY_LENGTH).then(|| Key::from_str(&text))
}
