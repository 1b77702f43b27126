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

/// How a set was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    /// Beside the old one, which is gone now.
    Beside,
    /// Alone: the partition was damaged and has been erased, with whatever else was in it.
    Anew,
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
    /// Opens the partition, as at power-on: what a cut left undone is finished or undone, and what it left of a set that was replaced is
    /// overwritten. Sectors that hold rubbish count as empty.
    pub fn open(flash: Flash<F>) -> Storage<F> {
        let mut storage = Storage::mount(flash);
        if let Ok(nvs) = storage.nvs() {
            // Flash that refuses says so when the set is read.
            let _ = nvs.purge_all(&CONFIG);
        }
        storage
    }

    fn mount(flash: Flash<F>) -> Storage<F> {
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
            dead => Storage(dead),
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

    /// Replaces the set, in one piece, and sees that it would be found after the next start. Where it would not, since bits have changed by
    /// themselves, the partition is erased and the set written anew; says whether that was so.
    ///
    /// # Errors
    /// No room, or flash that refuses; the old set is still there.
    pub fn save(&mut self, set: &Stored) -> Result<Saved, SaveError> {
        let failed = |failure, why: &str| SaveError { failure, text: format!("could not write {NAMESPACE}/set: {why}") };
        let text = serde_json::to_vec(&Contents { format: FORMAT, stored: set })
            .map_err(|_| failed(StorageFailure::Failed, "it cannot be written as JSON"))?;
        for saved in [Saved::Beside, Saved::Anew] {
            let nvs = self.nvs().map_err(|why| failed(StorageFailure::Failed, &why))?;
            nvs.set(&CONFIG, &SET, &text[..]).map_err(|e| match e {
                Error::FlashFull | Error::ValueTooLong => failed(StorageFailure::Full, "no room"),
                e => failed(StorageFailure::Failed, &format!("{e}")),
            })?;
            self.restart(false);
            let found: Result<Vec<u8>, _> = self.nvs().map_err(|why| failed(StorageFailure::Failed, &why))?.get(&CONFIG, &SET);
            if found.is_ok_and(|found| found == text) {
                return Ok(saved);
            }
            self.restart(true);
        }
        Err(failed(StorageFailure::Failed, "it does not read back"))
    }

    /// Opens the partition again, as it is or erased.
    fn restart(&mut self, erase: bool) {
        let dead = Storage(State::Dead("NVS: being opened".into()));
        *self = match core::mem::replace(self, dead).0 {
            State::Open(nvs) => {
                let mut flash = nvs.into_inner();
                let size = u32::try_from(flash.capacity() / FLASH_SECTOR_SIZE * FLASH_SECTOR_SIZE).unwrap_or(0);
                match erase.then(|| flash.erase(0, size)) {
                    Some(Err(_)) => Storage(State::Dead("NVS: the partition cannot be erased".into())),
                    _ => Storage::mount(flash),
                }
            }
            State::Dead(why) => Storage(State::Dead(why)),
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flash::tests::{Chip, Moment};
    use alloc::string::ToString as _;
    use alloc::vec;
    use device_core::output::Reading;
    use device_core::secret::Secret;
    use device_core::storage::{Credentials, Identity, Issued};

    /// 24 KiB, ESP-IDF's smallest usual partition, fills soonest.
    const SECTORS: usize = 6;

    fn open(chip: &Chip) -> Storage<Chip> {
        chip.power_on();
        Storage::open(Flash(chip.clone()))
    }

    /// What a provisioning run writes, in order.
    fn run() -> Vec<Stored> {
        let mut set = Stored::default();
        let mut sets = vec![];
        set.settings.insert("BACKEND_CA".into(), Secret::new("-----BEGIN CERTIFICATE-----\n".repeat(30)));
        sets.push(set.clone());
        set.credentials = Some(Credentials {
            ssid: "lab".into(),
            password: Secret::new("correct-horse"),
            device_id: "device_0070".into(),
            provisioning_token: Some(Secret::new("spend-me-once")),
            user_token: Secret::new("user"),
            confirmed: false,
        });
        sets.push(set.clone());
        set.identity = Some(Identity { key: Secret::new("-----BEGIN PRIVATE KEY-----".repeat(9)), issued: None });
        sets.push(set.clone());
        if let Some(identity) = &mut set.identity {
            identity.issued = Some(Issued { certificate: "A".repeat(900), ca_certificate: "B".repeat(800) });
        }
        if let Some(credentials) = &mut set.credentials {
            credentials.provisioning_token = None;
        }
        sets.push(set);
        sets
    }

    #[test]
    fn a_set_is_there_after_the_next_start() {
        let chip = Chip::blank(SECTORS);
        assert_eq!(open(&chip).load().stored, Stored::default());
        let mut storage = open(&chip);
        for set in run() {
            assert!(storage.save(&set).is_ok());
            storage = storage.reopen();
            assert_eq!(storage.load().stored, set);
        }
    }

    #[test]
    fn what_was_replaced_cannot_be_found_any_more() {
        let chip = Chip::blank(SECTORS);
        let mut storage = open(&chip);
        let sets = run();
        for set in &sets {
            assert!(storage.save(set).is_ok());
        }
        let found = |what: &str| chip.bytes().windows(what.len()).any(|w| w == what.as_bytes());
        assert!(found("correct-horse") && !found("spend-me-once"), "a token is forgotten after use");
        assert!(storage.save(&Stored::default()).is_ok());
        assert!(!found("correct-horse") && !found("PRIVATE KEY"), "a reset is complete");
    }

    #[test]
    fn every_operation_of_a_provisioning_run_survives_a_cut() {
        let sets = run();
        let mut cuts = 0;
        for moment in Moment::ALL {
            for operation in 0.. {
                let chip = Chip::blank(SECTORS);
                let mut storage = open(&chip);
                chip.cut_after(operation, moment);
                // The one that was in flash for sure, and the one that was being written.
                let (mut before, mut during) = (Stored::default(), None);
                for set in &sets {
                    during = Some(set.clone());
                    if storage.save(set).is_err() {
                        break;
                    }
                    before = set.clone();
                    during = None;
                }
                if !chip.is_off() {
                    break;
                }
                cuts += 1;
                let mut storage = open(&chip);
                let Loaded { stored, trouble } = storage.load();
                assert_eq!(trouble, None, "{moment:?} operation {operation}");
                assert!(stored == before || Some(&stored) == during.as_ref(), "{moment:?} operation {operation}: a mixed set");
                // And it takes the rest of the run.
                for set in &sets {
                    assert!(storage.save(set).is_ok(), "{moment:?} operation {operation}");
                }
                assert_eq!(open(&chip).load().stored, sets[sets.len() - 1]);
            }
        }
        assert!(cuts > 100, "{cuts} cuts");
        std::println!("{cuts} power cuts");
    }

    #[test]
    fn sectors_that_are_used_again_survive_a_cut_too() {
        let sets = run();
        let (old, new) = (&sets[2], &sets[3]);
        let reading =
            |number: u64| Reading { number, payload: "{\"number\":1,\"uptime_ms\":1,\"temperature_c\":20.5}".to_string() };
        // Until the oldest sectors have been erased and written again.
        let used = |chip: &Chip| {
            let mut storage = open(chip);
            for n in 0..60 {
                assert!(storage.save(if n % 2 == 0 { &sets[1] } else { old }).is_ok());
                assert_eq!(storage.push(&reading(n)), Ok(()));
                if n > 3 {
                    assert_eq!(storage.pop(n - 3), Ok(()));
                }
            }
            assert!(storage.save(old).is_ok());
            storage
        };
        let mut cuts = 0;
        for moment in Moment::ALL {
            for operation in 0.. {
                let chip = Chip::blank(SECTORS);
                let mut storage = used(&chip);
                chip.cut_after(operation, moment);
                for n in 60..72 {
                    // Long enough to go round.
                    if storage.save(if n % 2 == 0 { new } else { old }).is_err()
                        || storage.push(&reading(n)).is_err()
                        || storage.pop(n - 3).is_err()
                    {
                        break;
                    }
                }
                if !chip.is_off() {
                    break;
                }
                cuts += 1;
                let mut storage = open(&chip);
                let Loaded { stored, trouble } = storage.load();
                assert_eq!(trouble, None, "{moment:?} operation {operation}");
                assert!(stored == *old || stored == *new, "{moment:?} operation {operation}: a mixed set");
                let (readings, trouble) = storage.readings();
                assert_eq!(trouble, None, "{moment:?} operation {operation}");
                let numbers: Vec<u64> = readings.iter().map(|r| r.number).collect();
                assert!(numbers.len() >= 3 && numbers.is_sorted(), "{moment:?} operation {operation}: {numbers:?}");
            }
        }
        assert!(cuts > 200, "{cuts} cuts");
        std::println!("{cuts} power cuts");
    }

    #[test]
    fn nothing_of_a_replaced_set_outlives_the_start_after_a_cut() {
        let sets = run();
        let (old, new) = (&sets[2], &sets[0]);
        let shows = |chip: &Chip| chip.bytes().windows(13).any(|bytes| bytes == b"spend-me-once");
        let mut cuts = 0;
        // Not `Torn`: an entry whose overwriting was cut in its middle is found no more.
        for moment in [Moment::Before, Moment::After] {
            for operation in 0.. {
                let chip = Chip::blank(SECTORS);
                let mut storage = open(&chip);
                assert!(storage.save(old).is_ok() && shows(&chip));
                chip.cut_after(operation, moment);
                let _ = storage.save(new);
                if !chip.is_off() {
                    break;
                }
                cuts += 1;
                if open(&chip).load().stored == *new {
                    assert!(!shows(&chip), "{moment:?} operation {operation}");
                }
            }
        }
        assert!(cuts > 15, "{cuts} cuts");
    }

    #[test]
    fn rubbish_starts_unprovisioned_and_is_overcome() {
        let mut seed = 0x9e37_79b9_u32;
        let mut byte = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        for round in 0..200 {
            let chip = Chip::blank(SECTORS);
            assert!(open(&chip).save(&run()[3]).is_ok());
            let mut bytes = chip.bytes();
            let flips = if round < 20 { bytes.len() } else { 1 + usize::from(byte()) };
            for _ in 0..flips {
                let at = (usize::from(byte()) << 8 | usize::from(byte())) % bytes.len();
                bytes[at] = byte();
            }
            let chip = Chip::holding(bytes);
            let mut storage = open(&chip);
            let stored = storage.load().stored;
            assert!(stored == Stored::default() || stored == run()[3], "round {round}");
            let _ = storage.readings();
            assert!(storage.save(&run()[2]).is_ok(), "round {round}");
            assert_eq!(open(&chip).load().stored, run()[2], "round {round}");
        }
    }

    #[test]
    fn what_is_no_set_is_kept_aside_and_not_shown() {
        let chip = Chip::blank(SECTORS);
        for text in [&b"{\"format\":1,\"stored\":{\"hush\":1}}"[..], b"{\"format\":2,\"stored\":{}}", b"hush"] {
            let mut storage = open(&chip);
            assert_eq!(storage.nvs().map(|nvs| nvs.set(&CONFIG, &SET, text)), Ok(Ok(())));
            let Loaded { stored, trouble } = open(&chip).load();
            let trouble = trouble.unwrap_or_default();
            assert_eq!(stored, Stored::default());
            assert!(trouble.contains("unreadable") && !trouble.contains("hush"), "{trouble}");
            assert_eq!(open(&chip).nvs().map(|nvs| nvs.get(&CONFIG, &UNREADABLE)), Ok(Ok(text.to_vec())));
            assert_eq!(open(&chip).load().trouble, None);
        }
    }

    #[test]
    fn a_set_too_large_leaves_the_old_one() {
        let chip = Chip::blank(SECTORS);
        let mut storage = open(&chip);
        assert!(storage.save(&run()[3]).is_ok());
        let mut large = run()[3].clone();
        large.settings.insert("MQTT_CA_CERTS".into(), Secret::new("x".repeat(16 * 1024)));
        assert_eq!(storage.save(&large).err().map(|e| e.failure), Some(StorageFailure::Full));
        assert_eq!(open(&chip).load().stored, run()[3]);
    }

    #[test]
    fn readings_come_back_in_order() {
        let chip = Chip::blank(SECTORS);
        let mut storage = open(&chip);
        for n in [1, 2, 3, 0x1f, 4] {
            assert_eq!(storage.push(&Reading { number: n, payload: format!("{{\"n\":{n}}}") }), Ok(()));
        }
        assert_eq!((storage.pop(2), storage.pop(99)), (Ok(()), Ok(())));
        let (readings, trouble) = open(&chip).readings();
        assert_eq!(trouble, None);
        assert_eq!(readings.iter().map(|r| r.number).collect::<Vec<_>>(), [1, 3, 4, 0x1f]);
        assert_eq!(readings[3].payload, "{\"n\":31}");
    }

    #[test]
    fn cut_points_count_from_when_they_are_armed() {
        let mut cuts = CutPoints::default();
        assert!(!cuts.reach(Write::Key));
        cuts.arm(Write::Key, 2);
        assert!(!cuts.reach(Write::Certificate) && !cuts.reach(Write::Key) && cuts.reach(Write::Key));
        assert!(!cuts.reach(Write::Key), "spent");
    }
}
