//! What outlives a power cut: the stored set, as a file or in memory, and the points at which the power may be cut.

use device_core::storage::{Moment, StorageFailure, Stored, Write};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The bytes of the largest stored set that is read.
pub const FILE_LIMIT: u64 = 1024 * 1024;
/// The version of the file's format.
const FORMAT: u32 = 1;
const FILE: &str = "device.json";
const NEW: &str = "device.json.new";
const UNREADABLE: &str = "device.json.unreadable";
const LOCK: &str = "lock";

/// Keeps the stored set over power cuts. A write is all or nothing.
pub trait Store: Send + Sync {
    /// What is stored. Never fails: what cannot be read counts as not there, and says so.
    fn load(&self) -> Loaded;

    /// Replaces the set. May block for as long as the medium needs.
    ///
    /// # Errors
    /// No room, or a medium that refuses; the old set is still there.
    fn save(&self, set: &Stored) -> Result<(), SaveError>;

    /// Does what is done of a `save` when the power goes in the middle of it: here nothing that a `load` could find.
    fn tear(&self, _set: &Stored) {}
}

/// What a store held.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The set; empty when there was none.
    pub stored: Stored,
    /// Why it is empty, when something unreadable was found; to be said on the console.
    pub trouble: Option<String>,
}

/// A set that could not be saved.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct SaveError {
    /// What the device is told.
    pub failure: StorageFailure,
    /// What the console is told.
    pub text: String,
}

/// Keeps the set in this process; clones share it. It survives the twin, not the process.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Mutex<Stored>>);

impl MemoryStore {
    /// Holds this set from the start.
    pub fn holding(set: Stored) -> MemoryStore {
        MemoryStore(Arc::new(Mutex::new(set)))
    }

    /// What is stored now.
    pub fn stored(&self) -> Stored {
        lock(&self.0).clone()
    }
}

impl Store for MemoryStore {
    fn load(&self) -> Loaded {
        Loaded { stored: self.stored(), trouble: None }
    }

    fn save(&self, set: &Stored) -> Result<(), SaveError> {
        *lock(&self.0) = set.clone();
        Ok(())
    }
}

/// Keeps the set in `device.json` of a directory that nobody else uses meanwhile.
///
/// A write goes to a new file (0600 from its creation), which is synced and renamed over the old one, and then the directory is synced. The
/// directory is created with 0700. A file that cannot be read is moved aside to `device.json.unreadable`, since a key may be in it.
#[derive(Debug)]
pub struct FileStore {
    directory: PathBuf,
    /// Holds the lock until the store is dropped or the process ends, however it ends.
    lock: File,
}

impl Drop for FileStore {
    fn drop(&mut self) {
        // By word, since closing the file does not unlock it while a child that is just being started still has a copy of it.
        let _ = self.lock.unlock();
    }
}

/// A state directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else has it.
    #[error("{} is in use by another sim-device; give this one its own --state directory", .0.display())]
    InUse(PathBuf),
    /// The operating system refuses.
    #[error("could not {what} {}: {why}", .path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system says.
        why: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    format: u32,
    stored: Stored,
}

impl FileStore {
    /// Uses this directory, and creates it when it is not there.
    ///
    /// # Errors
    /// The directory is in use, or cannot be created or written to.
    pub fn open(directory: impl Into<PathBuf>) -> Result<FileStore, OpenError> {
        let directory = directory.into();
        let io = |what, path: &Path| {
            let path = path.to_owned();
            move |why| OpenError::Io { what, path, why }
        };
        create_directory(&directory).map_err(io("create", &directory))?;
        let path = directory.join(LOCK);
        let lock = private(OpenOptions::new().create(true).truncate(false).write(true)).open(&path).map_err(io("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(FileStore { directory, lock }),
            Err(fs::TryLockError::WouldBlock) => Err(OpenError::InUse(directory)),
            Err(fs::TryLockError::Error(why)) => Err(io("lock", &path)(why)),
        }
    }

    /// The directory it uses.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn read(&self) -> Result<Option<Stored>, String> {
        let path = self.directory.join(FILE);
        match fs::symlink_metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.to_string()),
            Ok(meta) if !meta.is_file() => return Err("not a file".to_owned()),
            Ok(meta) if meta.len() > FILE_LIMIT => return Err(format!("over {FILE_LIMIT} bytes")),
            Ok(_) => {}
        }
        let mut text = Vec::new();
        File::open(&path).and_then(|f| f.take(FILE_LIMIT).read_to_end(&mut text)).map_err(|e| e.to_string())?;
        // The parser's own message could show a piece of what is stored.
        let contents: Contents =
            serde_json::from_slice(&text).map_err(|e| format!("not readable at line {}, column {}", e.line(), e.column()))?;
        match contents.format {
            FORMAT => Ok(Some(contents.stored)),
            other => Err(format!("format {other} is not known here")),
        }
    }

    fn write(&self, set: &Stored) -> io::Result<()> {
        let text = serde_json::to_vec(&Contents { format: FORMAT, stored: set.clone() }).map_err(io::Error::other)?;
        let new = self.directory.join(NEW);
        // A left-over of a cut; whatever its mode was, ours begins anew.
        match fs::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = private(OpenOptions::new().create_new(true).write(true)).open(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&new, self.directory.join(FILE))?;
        sync_directory(&self.directory)
    }
}

impl Store for FileStore {
    fn load(&self) -> Loaded {
        match self.read() {
            Ok(stored) => Loaded { stored: stored.unwrap_or_default(), trouble: None },
            Err(why) => {
                let path = self.directory.join(FILE);
                let aside = self.directory.join(UNREADABLE);
                let kept = match fs::rename(&path, &aside) {
                    Ok(()) => format!("kept as {UNREADABLE}"),
                    Err(e) => format!("and could not be moved aside: {e}"),
                };
                Loaded {
                    stored: Stored::default(),
                    trouble: Some(format!("{}: {why}; {kept}; starting unprovisioned", path.display())),
                }
            }
        }
    }

    fn save(&self, set: &Stored) -> Result<(), SaveError> {
        self.write(set).map_err(|e| SaveError {
            failure: match e.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StorageFailure::Full,
                _ => StorageFailure::Failed,
            },
            text: format!("could not write {}: {e}", self.directory.join(FILE).display()),
        })
    }

    fn tear(&self, set: &Stored) {
        // The new file is begun and not renamed; whether even that worked is nobody's to know.
        if let Ok(text) = serde_json::to_vec(&Contents { format: FORMAT, stored: set.clone() }) {
            let mut options = OpenOptions::new();
            let file = private(options.create(true).truncate(true).write(true)).open(self.directory.join(NEW));
            let _ = file.and_then(|mut file| file.write_all(&text[..text.len() / 2]));
        }
    }
}

/// Opens for the owner only, from the first moment.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

fn create_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Makes a rename durable. Windows has no such thing to do.
fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

/// Points at which the power is cut: at the nth write of a kind, or of any. Clones share them; they count from when they are armed, over
/// reboots too.
#[derive(Clone, Debug, Default)]
pub struct CutPoints(Arc<Mutex<Vec<Armed>>>);

#[derive(Debug)]
struct Armed {
    /// The kind; none: any.
    write: Option<Write>,
    nth: u32,
    seen: u32,
    moment: Moment,
}

impl CutPoints {
    /// None yet.
    pub fn new() -> CutPoints {
        CutPoints::default()
    }

    /// Cuts the power just before the `nth` (from 1) write of this kind from now on. Replaces what was armed for this kind.
    pub fn arm(&self, write: Write, nth: u32) {
        self.add(Armed { write: Some(write), nth: nth.max(1), seen: 0, moment: Moment::Before });
    }

    /// Cuts the power at the `nth` (from 1) write of any kind from now on. Replaces what was armed for any kind.
    pub fn arm_any(&self, nth: u32, moment: Moment) {
        self.add(Armed { write: None, nth: nth.max(1), seen: 0, moment });
    }

    fn add(&self, armed: Armed) {
        let mut points = lock(&self.0);
        points.retain(|known| known.write != armed.write);
        points.push(armed);
    }

    /// Forgets every point.
    pub fn disarm(&self) {
        lock(&self.0).clear();
    }

    /// A write is about to happen: the point that cuts it, which is spent by that, and when in the write it does.
    pub(crate) fn reach(&self, write: Write) -> Option<(u32, Moment)> {
        let mut points = lock(&self.0);
        points.iter_mut().filter(|armed| armed.write.is_none_or(|kind| kind == write)).for_each(|armed| armed.seen += 1);
        let struck = points.iter().position(|armed| armed.seen >= armed.nth)?;
        let Armed { nth, moment, .. } = points.swap_remove(struck);
        Some((nth, moment))
    }
}

/// What a panicking thread left is still whole here: every change is one assignment.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use device_core::secret::Secret;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn set(token: &str) -> Stored {
        Stored { settings: BTreeMap::from([("MQTT_PASSWORD".to_owned(), Secret::new(token))]), ..Stored::default() }
    }

    #[test]
    fn a_set_is_there_after_the_next_start() {
        let at = tempfile::tempdir().unwrap();
        let store = FileStore::open(at.path().join("a/b")).unwrap();
        assert_eq!(store.load().stored, Stored::default());
        assert_eq!(store.load().trouble, None, "nothing stored is no trouble");
        store.save(&set("one")).unwrap();
        store.save(&set("two")).unwrap();
        drop(store);
        let store = FileStore::open(at.path().join("a/b")).unwrap();
        assert_eq!(store.load().stored, set("two"));
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read() {
        use std::os::unix::fs::PermissionsExt as _;
        let at = tempfile::tempdir().unwrap();
        let store = FileStore::open(at.path().join("state")).unwrap();
        // A left-over that everybody may read must not lend its mode to the new file.
        fs::write(store.directory().join(NEW), "left over").unwrap();
        store.save(&set("one")).unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(store.directory()), 0o700);
        assert_eq!(mode(&store.directory().join(FILE)), 0o600);
        assert_eq!(mode(&store.directory().join(LOCK)), 0o600);
    }

    #[test]
    fn a_store_that_is_dropped_is_free_at_once() {
        let at = tempfile::tempdir().unwrap();
        let store = FileStore::open(at.path()).unwrap();
        // As a child has it between its fork and its exec.
        let copy = store.lock.try_clone().unwrap();
        drop(store);
        FileStore::open(at.path()).unwrap();
        drop(copy);
    }

    #[test]
    fn a_directory_has_one_user() {
        let at = tempfile::tempdir().unwrap();
        let first = FileStore::open(at.path()).unwrap();
        let second = FileStore::open(at.path()).unwrap_err();
        assert!(second.to_string().contains("in use"), "{second}");
        drop(first);
        FileStore::open(at.path()).unwrap();
    }

    #[test]
    fn every_truncation_starts_unprovisioned_and_is_kept() {
        let at = tempfile::tempdir().unwrap();
        let store = FileStore::open(at.path()).unwrap();
        store.save(&set("hush-hush")).unwrap();
        let whole = fs::read(at.path().join(FILE)).unwrap();
        for n in 0..whole.len() {
            fs::write(at.path().join(FILE), &whole[..n]).unwrap();
            let loaded = store.load();
            assert_eq!(loaded.stored, Stored::default());
            let trouble = loaded.trouble.unwrap();
            assert!(trouble.contains(UNREADABLE) && !trouble.contains("hush"), "{trouble}");
            assert_eq!(fs::read(at.path().join(UNREADABLE)).unwrap(), whole[..n]);
        }
        fs::write(at.path().join(FILE), br#"{"format":2,"stored":{}}"#).unwrap();
        assert!(store.load().trouble.unwrap().contains("format 2"));
        fs::create_dir(at.path().join(FILE)).unwrap();
        assert!(store.load().trouble.unwrap().contains("not a file"));
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let at = tempfile::tempdir().unwrap();
            let store = FileStore::open(at.path()).unwrap();
            fs::write(at.path().join(FILE), &bytes).unwrap();
            prop_assert_eq!(store.load().stored, Stored::default());
            store.save(&set("after")).unwrap();
            prop_assert_eq!(store.load().stored, set("after"));
        }
    }

    #[test]
    fn a_refusing_medium_leaves_the_old_set() {
        let at = tempfile::tempdir().unwrap();
        let store = FileStore::open(at.path()).unwrap();
        store.save(&set("old")).unwrap();
        // A directory in the temporary file's place makes the write fail for every user, root included.
        fs::create_dir(at.path().join(NEW)).unwrap();
        let e = store.save(&set("new")).unwrap_err();
        assert_eq!(e.failure, StorageFailure::Failed);
        assert!(e.text.contains(FILE), "{e}");
        assert_eq!(store.load().stored, set("old"));
    }

    #[test]
    fn cut_points_count_from_when_they_are_armed() {
        let cuts = CutPoints::new();
        assert_eq!(cuts.reach(Write::Key), None);
        cuts.arm(Write::Key, 2);
        assert_eq!(cuts.reach(Write::Certificate), None);
        assert_eq!(cuts.reach(Write::Key), None);
        assert_eq!(cuts.clone().reach(Write::Key), Some((2, Moment::Before)));
        assert_eq!(cuts.reach(Write::Key), None, "spent");
        cuts.arm_any(2, Moment::Torn);
        assert_eq!(cuts.reach(Write::Key), None);
        assert_eq!(cuts.reach(Write::QueuePush), Some((2, Moment::Torn)));
        assert_eq!(cuts.reach(Write::Key), None, "spent");
    }
}
