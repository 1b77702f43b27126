//! Writes a trace while the trial runs, a line an event. The runner hands the lines to the system before it waits for anything, so that a
//! killed run leaves a readable file.

use super::format::{End, EndLine, Header};
use super::redact::Redactor;
use crate::event::Event;
use crate::verdict::Verdict;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Lines that are kept until `flush`, bytes; what exceeds it is handed to the system at once.
const KEPT_MAX: usize = 64 * 1024;

/// A trace being written. What was not flushed is written when it is dropped.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    lines: Vec<u8>,
    last_us: u64,
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Nobody is left to hear that it failed; `finish` says so.
        let _ = self.flush();
    }
}

impl Writer {
    /// Begins a trace in a new file that only its owner may read; a file of that name is replaced, never followed or shared.
    /// The header's scenario text is redacted here; events are redacted by the tape they come from.
    ///
    /// # Errors
    /// When the file cannot be made or written.
    pub fn create(path: &Path, header: &Header, redactor: &Redactor) -> io::Result<Writer> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut writer = Writer { path: path.into(), file: options.open(path)?, lines: Vec::new(), last_us: 0 };
        let mut header = header.clone();
        redactor.redact(&mut header.scenario.text);
        header.row.values_mut().chain(header.facts.values_mut()).for_each(|value| redactor.redact(value));
        writer.write(&header)?;
        Ok(writer)
    }

    /// Adds an event, which reaches the file with the next [`Writer::flush`].
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn event(&mut self, event: &Event) -> io::Result<()> {
        self.last_us = event.at_us;
        self.write(event)
    }

    /// Ends the trace in good order and says where it is.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(mut self, verdict: Verdict) -> io::Result<PathBuf> {
        let end = EndLine { end: End { verdict, at_us: self.last_us } };
        self.write(&end)?;
        self.flush()?;
        Ok(std::mem::take(&mut self.path))
    }

    /// Hands everything so far to the system.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(&self.lines);
        self.lines.clear();
        written
    }

    /// Where the trace is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.lines, value)?;
        self.lines.push(b'\n');
        if self.lines.len() > KEPT_MAX { self.flush() } else { Ok(()) }
    }
}
