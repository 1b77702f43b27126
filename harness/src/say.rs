//! Words to the user, on standard output and standard error, either of which may be closed: `harness run | head -1` is no mistake.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Nobody reads standard output any more.
static UNREAD: AtomicBool = AtomicBool::new(false);
/// Why standard output took no more words, where that is not its reader's choice (a full disk).
static LOST: Mutex<Option<String>> = Mutex::new(None);

/// Says a line on standard output; false when nobody reads it any more.
pub(crate) fn line(text: impl Display) -> bool {
    words(format_args!("{text}\n"))
}

/// Says words on standard output, with no line end after them; false when nobody reads them any more.
pub(crate) fn words(text: impl Display) -> bool {
    said(|out| write!(out, "{text}"))
}

fn said(say: impl FnOnce(&mut io::StdoutLock<'_>) -> io::Result<()>) -> bool {
    if UNREAD.load(Ordering::Relaxed) {
        return false;
    }
    let mut out = io::stdout().lock();
    if let Err(error) = say(&mut out).and_then(|()| out.flush()) {
        UNREAD.store(true, Ordering::Relaxed);
        if error.kind() != ErrorKind::BrokenPipe {
            *LOST.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        }
        return false;
    }
    true
}

/// Passes bytes on to standard output as they are; false when nobody reads them any more.
pub(crate) fn bytes(bytes: &[u8]) -> bool {
    said(|out| out.write_all(bytes))
}

/// Passes bytes on to standard error as they are, if anybody reads it.
pub(crate) fn bytes_aside(bytes: &[u8]) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(bytes).and_then(|()| err.flush());
}

/// Says a line on standard error, if anybody reads it.
pub(crate) fn aside(text: impl Display) {
    let mut err = io::stderr().lock();
    let _ = writeln!(err, "{text}").and_then(|()| err.flush());
}

/// Why words on standard output were lost, if they were although somebody wanted them.
pub(crate) fn lost() -> Option<String> {
    LOST.lock().unwrap_or_else(PoisonError::into_inner).take()
}
