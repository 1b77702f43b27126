//! Reads a trace that anybody may have written: every length, depth, number and count has a limit.

use super::format::{EVENTS_MAX, End, EndLine, FORMAT, Header, LINE_MAX, TRACE_MAX, VERSION};
use crate::event::Event;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// A trace, read as far as it can be.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// What it says about itself.
    pub header: Header,
    /// The events, in order.
    pub events: Vec<Event>,
    /// How the run judged it; none when the run did not come to its end.
    pub end: Option<End>,
    /// Where reading stopped, when that was before the end.
    pub truncated: Option<Truncated>,
}

/// Where and why a trace could not be read further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncated {
    /// The line that could not be read, from 1.
    pub at_line: usize,
    /// Why, in a lower-case fragment.
    pub why: String,
}

/// A trace that cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be opened or read.
    #[error("could not read {path}: {why}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// Not a plain file: a folder, a pipe, a device.
    #[error("{0} is not a plain file; a trace is one")]
    NotAFile(PathBuf),
    /// More bytes than a trace may have.
    #[error("the trace has {bytes} bytes, more than the {TRACE_MAX} allowed")]
    TooLarge {
        /// How many.
        bytes: u64,
    },
    /// The first line is no header of this format.
    #[error("not a trace: its first line is no `{FORMAT}` header ({why})")]
    NoHeader {
        /// What is wrong with it.
        why: String,
    },
    /// Written by a later harness.
    #[error(
        "the trace has format version {found}, this harness reads up to {VERSION}: read it with the harness that wrote it ({tool})"
    )]
    TooNew {
        /// Its version.
        found: u64,
        /// The harness that wrote it.
        tool: String,
    },
}

/// Reads the trace in this file.
///
/// # Errors
/// When it is no plain file, cannot be read, is too large, has no header, or has a later format. A trace that goes wrong after its
/// header is no error: it is read up to there, and says so.
pub fn read(path: &Path) -> Result<Trace, ReadError> {
    let io = |why| ReadError::Io { path: path.into(), why };
    // Looked at before it is opened: opening a pipe waits for its other end.
    let facts = std::fs::metadata(path).map_err(io)?;
    if !facts.is_file() {
        return Err(ReadError::NotAFile(path.into()));
    }
    if facts.len() > TRACE_MAX {
        return Err(ReadError::TooLarge { bytes: facts.len() });
    }
    read_from(File::open(path).map_err(io)?).map_err(|e| match e {
        ReadError::Io { why, .. } => io(why),
        e => e,
    })
}

/// Reads a trace from bytes.
///
/// # Errors
/// As [`read`].
pub fn read_from(bytes: impl Read) -> Result<Trace, ReadError> {
    // One byte more than allowed, to notice a file that grew.
    let mut lines = Lines { input: BufReader::new(bytes.take(TRACE_MAX + 1)), line: Vec::new(), number: 0, read: 0 };
    let header = match lines.next() {
        Line::Whole(line) => read_header(line)?,
        Line::End => return Err(ReadError::NoHeader { why: "the file is empty".into() }),
        Line::Cut(why) => return Err(ReadError::NoHeader { why }),
        Line::Broken(why) => return Err(ReadError::Io { path: PathBuf::new(), why }),
    };
    let mut trace = Trace { header, events: Vec::new(), end: None, truncated: None };
    let stopped = loop {
        let line = match lines.next() {
            Line::Whole(line) => line,
            Line::End if trace.end.is_some() => break None,
            Line::End => break Some("it ends before the trial did".to_owned()),
            Line::Cut(why) => break Some(why),
            Line::Broken(why) => break Some(why.to_string()),
        };
        if trace.end.is_some() {
            break Some("something follows its end".into());
        }
        if let Ok(EndLine { end }) = serde_json::from_slice(line) {
            trace.end = Some(end);
            continue;
        }
        // serde_json refuses more than 128 levels of nesting.
        let event: Event = match serde_json::from_slice(line) {
            Ok(event) => event,
            Err(e) => break Some(format!("not an event: {e}")),
        };
        if trace.events.last().is_some_and(|last| last.at_us > event.at_us) {
            break Some("time goes backward".into());
        }
        if trace.events.len() >= EVENTS_MAX {
            break Some(format!("more than {EVENTS_MAX} events"));
        }
        trace.events.push(event);
    };
    trace.truncated = stopped.map(|why| Truncated { at_line: lines.number, why });
    Ok(trace)
}

fn read_header(line: &[u8]) -> Result<Header, ReadError> {
    let no_header = |why: serde_json::Error| ReadError::NoHeader { why: why.to_string() };
    // First only what tells whose line this is: a later version may differ in all else.
    let any: serde_json::Value = serde_json::from_slice(line).map_err(no_header)?;
    if any["format"] != FORMAT {
        return Err(ReadError::NoHeader { why: "no `format` field that says so".into() });
    }
    match any["version"].as_u64() {
        Some(found) if found > u64::from(VERSION) => {
            let tool = any["tool"].as_str().unwrap_or("unknown").chars().take(80).collect::<String>();
            return Err(ReadError::TooNew { found, tool: crate::event::printable(&tool).into_owned() });
        }
        Some(1..) => {}
        _ => return Err(ReadError::NoHeader { why: "no `version` field from 1 up".into() }),
    }
    let header: Header = serde_json::from_value(any).map_err(no_header)?;
    // JSON has no NaN, but 1e999 is read as infinite and -1 as a number.
    if !(header.patience.is_finite() && header.patience > 0.0) {
        return Err(ReadError::NoHeader { why: format!("patience is {}, not a positive number", header.patience) });
    }
    Ok(header)
}

/// Lines of bounded length.
struct Lines<R> {
    input: BufReader<io::Take<R>>,
    line: Vec<u8>,
    number: usize,
    read: u64,
}

enum Line<'l> {
    Whole(&'l [u8]),
    /// A line that is no line, and why.
    Cut(String),
    Broken(io::Error),
    End,
}

impl<R: Read> Lines<R> {
    fn next(&mut self) -> Line<'_> {
        self.line.clear();
        self.number += 1;
        let took = match (&mut self.input).take(LINE_MAX as u64 + 1).read_until(b'\n', &mut self.line) {
            Ok(took) => took,
            Err(e) => return Line::Broken(e),
        };
        self.read += took as u64;
        match self.line.split_last() {
            _ if self.read > TRACE_MAX => Line::Cut(format!("more than {TRACE_MAX} bytes")),
            None => Line::End,
            Some((b'\n', line)) => Line::Whole(line),
            Some(_) if took > LINE_MAX => Line::Cut(format!("a line of more than {LINE_MAX} bytes")),
            Some(_) => Line::Cut("it is cut off in the middle of a line".into()),
        }
    }
}
