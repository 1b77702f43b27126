//! Writes a trace while the trial runs: a line an event, each handed to the system at once, so that a killed run leaves a readable file.

use super::format::{End, EndLine, Header};
use super::redact::Redactor;
use crate::event::Event;
use crate::verdict::Verdict;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A trace being written.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    line: Vec<u8>,
    last_us: u64,
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
        let mut writer = Writer { path: path.into(), file: options.open(path)?, line: Vec::new(), last_us: 0 };
        let mut header = header.clone();
        redactor.redact(&mut header.scenario.text);
        header.row.values_mut().chain(header.facts.values_mut()).for_each(|value| redactor.redact(value));
        writer.write(&header)?;
        Ok(writer)
    }

    /// Adds an event.
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
        Ok(self.path)
    }

    /// Where the trace is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, value)?;
        self.line.push(b'\n');
        self.file.write_all(&self.line)
    }
}
