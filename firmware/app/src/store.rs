//! What outlives a power cut: the stored set, in flash, in ESP-IDF's own NVS format; and the points at which the power may be cut.
//!
//! The set is one blob, `set` in the namespace `device_config`: JSON, as in the twin's `device.json`. NVS writes a blob beside the one it
//! replaces and drops that one last, so a cut at any point leaves the old set or the new one. What is replaced is overwritten with zeros, since
//! a key or a token may be in it.

use crate::flash::Flash;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use device_core::storage::{NAMESPACE, StorageFailure, Stored, Write};
use embedded_storage::nor_flash::{NorFlash, ReadNorFlash as _};
use esp_nvs::error::Error;
use esp_nvs::{FLASH_SECTOR_SIZE, Key, Nvs};
use serde::{Deserialize, Serialize};

/// The version of the blob's format.
const FORMAT: u32 = 1;
const CONFIG: Key = Key::from_str(NAMESPACE);
const SET: Key = Key::from_str("set");
const UNREADABLE: Key = Key::from_str("unreadable");

/// The NVS partition.
pub(crate) struct Storage<F: NorFlash>(State<F>);

enum State<F: NorFlash> {
    Open(Nvs<Flash<F>>),
    /// The flash refuses; why.
    Dead(String),
}

/// What storage held.
pub(crate) struct Loaded {
    /// The set; empty when there was none.
    pub stored: Stored,
    /// Why it is empty, when something unreadable was found; to be said on the console.
    pub trouble: Option<String>,
}

/// A set that could not be saved.
pub(crate) struct SaveError {
    /// What the device is told.
    pub failure: StorageFailure,
    /// What the console is told.
    pub text: String,
}

#[derive(Serialize)]
struct Contents<'a> {
    format: u32,
    stored: &'a Stored,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Found {
    format: u32,
    stored: Stored,
}

impl<F: NorFlash> Storage<F> {
    /// Opens the partition, as at power-on: what a cut left undone is finished or undone. Sectors that hold rubbish count as empty.
    pub fn open(flash: Flash<F>) -> Storage<F> {
        let size = flash.capacity() / FLASH_SECTOR_SIZE * FLASH_SECTOR_SIZE;
        match Nvs::new(0, size, flash) {
            Ok(mut nvs) => {
                nvs.set_purge_mode(true);
                Storage(State::Open(nvs))
            }
            Err(e) => Storage(State::Dead(format!("NVS: {e}"))),
        }
    }

    /// Opens it again, as after a reset.
    pub fn reopen(self) -> Storage<F> {
        match self.0 {
            State::Open(nvs) => Storage::open(nvs.into_inner()),
            State::Dead(why) => Storage(State::Dead(why)),
        }
    }

    /// The open NVS.
    ///
    /// # Errors
    /// Why there is none, in one line.
    pub fn nvs(&mut self) -> Result<&mut Nvs<Flash<F>>, String> {
        match &mut self.0 {
            State::Open(nvs) => Ok(nvs),
            State::Dead(why) => Err(why.clone()),
        }
    }

    /// What is stored. Never fails: what cannot be read counts as not there, and says so.
    pub fn load(&mut self) -> Loaded {
        match self.read() {
            Ok(stored) => Loaded { stored: stored.unwrap_or_default(), trouble: None },
            Err(why) => {
                Loaded { stored: Stored::default(), trouble: Some(format!("{NAMESPACE}/set: {why}; starting unprovisioned")) }
            }
        }
    }

    fn read(&mut self) -> Result<Option<Stored>, String> {
        let nvs = self.nvs()?;
        let text: Vec<u8> = match nvs.get(&CONFIG, &SET) {
            Ok(text) => text,
            Err(Error::KeyNotFound | Error::NamespaceNotFound) => return Ok(None),
            Err(e) => return Err(format!("{e}")),
        };
        // The parser's own message could show a piece of what is stored.
        let found: Result<Found, _> =
            serde_json::from_slice(&text).map_err(|e| format!("not readable at line {}, column {}", e.line(), e.column()));
        let why = match found {
            Ok(Found { format: FORMAT, stored }) => return Ok(Some(stored)),
            Ok(Found { format, .. }) => format!("format {format} is not known here"),
            Err(why) => why,
        };
        // A key may be in it.
        match nvs.set(&CONFIG, &UNREADABLE, &text[..]).and_then(|()| nvs.delete(&CONFIG, &SET)) {
            Ok(()) => Err(format!("{why}; kept as {NAMESPACE}/unreadable")),
            Err(e) => Err(format!("{why}; and could not be moved aside: {e}")),
        }
    }

    /// Replaces the set, in one piece.
    ///
    /// # Errors
    /// No room, or flash that refuses; the old set is still there.
    pub fn save(&mut self, set: &Stored) -> Result<(), SaveError> {
        let failed = |failure, why: &str| SaveError { failure, text: format!("could not write {NAMESPACE}/set: {why}") };
        let text = serde_json::to_vec(&Contents { format: FORMAT, stored: set })
            .map_err(|_| failed(StorageFailure::Failed, "it cannot be written as JSON"))?;
        let nvs = self.nvs().map_err(|why| failed(StorageFailure::Failed, &why))?;
        nvs.set(&CONFIG, &SET, &text[..]).map_err(|e| match e {
            Error::FlashFull | Error::ValueTooLong => failed(StorageFailure::Full, "no room"),
            e => failed(StorageFailure::Failed, &format!("{e}")),
        })
    }
}

/// Points at which the power is cut; they count from when they are armed, over reboots too.
#[derive(Debug, Default)]
pub(crate) struct CutPoints(Vec<Armed>);

#[derive(Debug)]
struct Armed {
    write: Write,
    nth: u32,
    seen: u32,
}

impl CutPoints {
    /// Cuts the power just before the `nth` (from 1) write of this kind from now on. Replaces what was armed for this kind.
    pub fn arm(&mut self, write: Write, nth: u32) {
        self.0.retain(|armed| armed.write != write);
        self.0.push(Armed { write, nth: nth.max(1), seen: 0 });
    }

    /// A write is about to happen: whether it is cut. The point is spent by that.
    pub fn reach(&mut self, write: Write) -> bool {
        let Some(place) = self.0.iter().position(|armed| armed.write == write) else { return false };
        self.0[place].seen += 1;
        let reached = self.0[place].seen >= self.0[place].nth;
        if reached {
            self.0.remove(place);
        }
        reached
    }
}
