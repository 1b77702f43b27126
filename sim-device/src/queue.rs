//! Readings that wait for the broker, kept over power cuts: in SQLite or in memory.

use crate::store::{OpenError, lock, private};
use device_core::output::Reading;
use rusqlite::{Connection, params};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The readings that are read back after a start, at most; the device keeps at most 1,000.
pub const READINGS_MAX: usize = 4096;
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
const VERSION: i64 = 1;

/// Keeps readings in order until they are taken out by number. Each change is durable when the call returns.
pub trait Queue: Send + Sync {
    /// Everything that waits, the oldest first, and what could not be read.
    fn load(&self) -> (Vec<Reading>, Option<String>);

    /// Adds a reading; a number that is there already is replaced.
    ///
    /// # Errors
    /// A medium that refuses, in one line for the console.
    fn push(&self, reading: &Reading) -> Result<(), String>;

    /// Takes out the reading with this number, if it is there.
    ///
    /// # Errors
    /// A medium that refuses, in one line for the console.
    fn pop(&self, number: u64) -> Result<(), String>;
}

/// Keeps readings in this process; clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryQueue(Arc<Mutex<BTreeMap<u64, String>>>);

impl Queue for MemoryQueue {
    fn load(&self) -> (Vec<Reading>, Option<String>) {
        let readings = lock(&self.0);
        (readings.iter().map(|(&number, payload)| Reading { number, payload: payload.clone() }).collect(), None)
    }

    fn push(&self, reading: &Reading) -> Result<(), String> {
        lock(&self.0).insert(reading.number, reading.payload.clone());
        Ok(())
    }

    fn pop(&self, number: u64) -> Result<(), String> {
        lock(&self.0).remove(&number);
        Ok(())
    }
}

/// Keeps readings in an SQLite file: write-ahead log, synced at each change, readable by the owner only.
#[derive(Debug)]
pub struct SqliteQueue {
    connection: Mutex<Connection>,
    path: PathBuf,
    /// Said once, at the first load: the file found was not usable and has been moved aside.
    trouble: Mutex<Option<String>>,
}

impl SqliteQueue {
    /// Opens or creates the file. One that is no queue is moved aside (`.unreadable`) and said.
    ///
    /// # Errors
    /// No file can be made here.
    pub fn open(path: impl Into<PathBuf>) -> Result<SqliteQueue, OpenError> {
        let path = path.into();
        let (connection, trouble) = match connect(&path) {
            Ok(connection) => (connection, None),
            Err(why) => {
                let aside = path.with_extension("unreadable");
                fs::rename(&path, &aside).map_err(|e| OpenError::Io { what: "move aside", path: path.clone(), why: e })?;
                for journal in ["-wal", "-shm"] {
                    let mut name = path.clone().into_os_string();
                    name.push(journal);
                    // It belongs to the file moved aside, and is of no use to the new one.
                    let _ = fs::remove_file(name);
                }
                let again = connect(&path).map_err(|e| OpenError::Io {
                    what: "create",
                    path: path.clone(),
                    why: std::io::Error::other(e),
                })?;
                (again, Some(format!("{}: {why}; kept as {}; starting with no readings", path.display(), aside.display())))
            }
        };
        Ok(SqliteQueue { connection: Mutex::new(connection), path, trouble: Mutex::new(trouble) })
    }

    fn say(&self, what: &str, e: &rusqlite::Error) -> String {
        format!("could not {what} {}: {e}", self.path.display())
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // Created by us first, since SQLite's own files would have the process's default mode; its journals copy the mode of the file.
    private(OpenOptions::new().create(true).truncate(false).write(true))
        .open(path)
        .map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match version {
        0 => {
            connection
                .execute_batch("CREATE TABLE IF NOT EXISTS readings (number INTEGER PRIMARY KEY, payload TEXT NOT NULL) STRICT")?;
            connection.pragma_update(None, "user_version", VERSION)?;
        }
        VERSION => {}
        other => return Err(rusqlite::Error::IntegralValueOutOfRange(0, other)),
    }
    // A damaged table shows here rather than in the middle of a run.
    connection.query_row("SELECT count(*), max(payload) FROM readings", [], |_| Ok(()))?;
    Ok(connection)
}

impl Queue for SqliteQueue {
    fn load(&self) -> (Vec<Reading>, Option<String>) {
        let trouble = lock(&self.trouble).take();
        let connection = lock(&self.connection);
        let read = || {
            let mut statement = connection.prepare_cached("SELECT number, payload FROM readings ORDER BY number LIMIT ?1")?;
            let rows = statement.query_map([i64::try_from(READINGS_MAX).unwrap_or(i64::MAX)], |row| {
                Ok(Reading { number: row.get::<_, i64>(0)?.cast_unsigned(), payload: row.get(1)? })
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        match read() {
            Ok(readings) => (readings, trouble),
            Err(e) => (Vec::new(), Some(self.say("read", &e))),
        }
    }

    fn push(&self, reading: &Reading) -> Result<(), String> {
        let connection = lock(&self.connection);
        let mut statement = connection
            .prepare_cached("INSERT OR REPLACE INTO readings (number, payload) VALUES (?1, ?2)")
            .map_err(|e| self.say("write to", &e))?;
        statement.execute(params![reading.number.cast_signed(), reading.payload]).map(drop).map_err(|e| self.say("write to", &e))
    }

    fn pop(&self, number: u64) -> Result<(), String> {
        let connection = lock(&self.connection);
        let mut statement =
            connection.prepare_cached("DELETE FROM readings WHERE number = ?1").map_err(|e| self.say("delete from", &e))?;
        statement.execute(params![number.cast_signed()]).map(drop).map_err(|e| self.say("delete from", &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(number: u64) -> Reading {
        Reading { number, payload: format!("{{\"n\":{number}}}") }
    }

    fn numbers(queue: &dyn Queue) -> Vec<u64> {
        queue.load().0.iter().map(|r| r.number).collect()
    }

    fn keeps_order(queue: &dyn Queue) {
        for n in [1, 2, 3, 10, 4] {
            queue.push(&reading(n)).unwrap();
        }
        queue.pop(2).unwrap();
        queue.pop(99).unwrap();
        assert_eq!(numbers(queue), [1, 3, 4, 10]);
        assert_eq!(queue.load().0[0], reading(1));
    }

    #[test]
    fn both_kinds_keep_order() {
        let at = tempfile::tempdir().unwrap();
        keeps_order(&MemoryQueue::default());
        keeps_order(&SqliteQueue::open(at.path().join("queue.sqlite")).unwrap());
    }

    #[test]
    fn readings_are_there_after_the_next_start_and_private() {
        let at = tempfile::tempdir().unwrap();
        let path = at.path().join("queue.sqlite");
        let queue = SqliteQueue::open(&path).unwrap();
        queue.push(&reading(7)).unwrap();
        #[cfg(unix)]
        for file in fs::read_dir(at.path()).unwrap() {
            use std::os::unix::fs::PermissionsExt as _;
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
        }
        // What a cut leaves: the files as they are now, copied while the queue is open.
        let cut = tempfile::tempdir().unwrap();
        for file in fs::read_dir(at.path()).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), cut.path().join(file.file_name())).unwrap();
        }
        assert_eq!(numbers(&SqliteQueue::open(cut.path().join("queue.sqlite")).unwrap()), [7]);
        drop(queue);
        assert_eq!(numbers(&SqliteQueue::open(&path).unwrap()), [7]);
    }

    #[test]
    fn a_file_that_is_no_queue_is_kept_and_said() {
        let at = tempfile::tempdir().unwrap();
        let path = at.path().join("queue.sqlite");
        fs::write(&path, vec![0x5a; 10_000]).unwrap();
        let queue = SqliteQueue::open(&path).unwrap();
        let (readings, trouble) = queue.load();
        assert!(readings.is_empty());
        assert!(trouble.unwrap().contains("queue.unreadable"));
        assert_eq!(fs::read(path.with_extension("unreadable")).unwrap(), vec![0x5a; 10_000]);
        queue.push(&reading(1)).unwrap();
        assert_eq!(numbers(&queue), [1]);
    }
}
