//! What a broker says, line by line, to as many listeners as there are trials on it.

use crate::event::{Source, What};
use crate::trace::tape::Tape;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Lines a listener may be behind; one that falls further behind is told how many it lost.
const BEHIND_MAX: usize = 16_384;
/// Last lines kept for an error's text.
const TAIL_MAX: usize = 40;
/// Longest line in bytes; the rest of a longer one is dropped. Mosquitto's own limit is about 1 KiB.
const LINE_MAX: usize = 8192;

/// What is said on the tape of a broker that ended although nobody of us ended it.
pub(crate) const DIED: &str =
    "the broker ended, although nobody here ended it; look at its last lines, and at who else ends processes";

/// What one broker says, over all its starts. A cheap handle.
#[derive(Clone, Debug)]
pub struct Log {
    lines: broadcast::Sender<Arc<str>>,
    tail: Arc<Mutex<VecDeque<Arc<str>>>>,
    life: watch::Sender<Life>,
}

/// Whether the broker behind a log runs, as far as we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Off, starting, or somebody else's.
    Unwatched,
    /// It ended before it served.
    Stillborn,
    /// It serves, until we end it.
    Serves,
    /// It ended although nobody of us ended it.
    Died,
}

/// Which lines a listener wants. Lines about taps are left out always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lines {
    /// All: the broker serves one trial.
    All,
    /// Those that name this device, for a broker that serves several trials. Lines that name nobody (a failed handshake) are left out.
    Of(String),
}

impl Lines {
    fn want(&self, line: &str) -> bool {
        if line.contains(super::tap::TAP) {
            return false;
        }
        match self {
            Lines::All => true,
            Lines::Of(id) => names(line, id),
        }
    }
}

/// Whether a line holds an id as a whole word, so that `esp-1` is not found in `esp-12`.
fn names(line: &str, id: &str) -> bool {
    let part_of_id = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !id.is_empty()
        && line.match_indices(id).any(|(at, _)| !line[..at].ends_with(part_of_id) && !line[at + id.len()..].starts_with(part_of_id))
}

impl Log {
    pub(super) fn new() -> Self {
        Log { lines: broadcast::channel(BEHIND_MAX).0, tail: Arc::default(), life: watch::Sender::new(Life::Unwatched) }
    }

    /// The lines said from now on.
    pub fn lines(&self) -> broadcast::Receiver<Arc<str>> {
        self.lines.subscribe()
    }

    /// The last lines said, oldest first, at most 40.
    pub fn tail(&self) -> Vec<Arc<str>> {
        self.tail.lock().unwrap_or_else(|e| e.into_inner()).iter().cloned().collect()
    }

    /// Puts the lines said from now on that are wanted on a tape, until the answer is dropped.
    pub fn forward(&self, wanted: Lines, tape: &Tape) -> Forward {
        let (mut lines, mut life, tape) = (self.lines(), self.life.subscribe(), tape.clone());
        Forward(tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    // Its last words first.
                    biased;
                    next = lines.recv() => next,
                    Ok(()) = async { life.wait_for(|life| *life == Life::Died).await.map(drop) } => {
                        tape.say(Source::Runner, What::Broke { why: DIED.into() });
                        break;
                    }
                };
                match next {
                    Ok(line) if wanted.want(&line) => tape.say(Source::Broker, What::Line(line.to_string())),
                    Ok(_) => {}
                    Err(RecvError::Lagged(lost)) => {
                        tape.say(Source::Runner, What::Broke { why: format!("{lost} lines of the broker's log were lost") });
                    }
                    Err(RecvError::Closed) => break,
                }
            }
        }))
    }

    /// Whether the broker ended although nobody of us ended it.
    pub fn has_died(&self) -> bool {
        *self.life.borrow() == Life::Died
    }

    /// Waits until it has; for ever, if it does not.
    pub async fn died(&self) {
        if self.life.subscribe().wait_for(|life| *life == Life::Died).await.is_err() {
            std::future::pending().await
        }
    }

    /// Whether the broker is ours and should be serving now.
    pub fn should_serve(&self) -> bool {
        matches!(*self.life.borrow(), Life::Serves | Life::Died)
    }

    /// From here on an end is no surprise: it starts, or we end it.
    pub(super) fn unwatch(&self) {
        self.life.send_replace(Life::Unwatched);
    }

    /// It serves; from here on its end is a surprise.
    pub(super) fn serves(&self) {
        self.life.send_modify(|life| *life = if *life == Life::Stillborn { Life::Died } else { Life::Serves });
    }

    /// Its process has ended.
    pub(super) fn ended(&self) {
        self.life.send_modify(|life| *life = if *life == Life::Serves { Life::Died } else { Life::Stillborn });
    }

    pub(super) fn say(&self, line: &str) {
        let line: Arc<str> = line.into();
        let mut tail = self.tail.lock().unwrap_or_else(|e| e.into_inner());
        if tail.len() == TAIL_MAX {
            tail.pop_front();
        }
        tail.push_back(line.clone());
        drop(tail);
        // Nobody need listen.
        let _ = self.lines.send(line);
    }

    pub(super) fn forget_tail(&self) {
        self.tail.lock().unwrap_or_else(|e| e.into_inner()).clear();
    }

    /// Reads lines until the stream ends, and the broker with it.
    pub(super) async fn read(&self, mut from: impl AsyncRead + Unpin) {
        let mut chunk = [0; 4096];
        let mut lines = Cutter::new(self);
        while let Ok(n @ 1..) = from.read(&mut chunk).await {
            lines.take(&chunk[..n]);
        }
        drop(lines);
        self.ended();
    }
}

/// Cuts a stream of bytes into lines of a log. Dropped: what is left is a line.
pub(super) struct Cutter<'a> {
    log: &'a Log,
    line: Vec<u8>,
}

impl<'a> Cutter<'a> {
    pub(super) fn new(log: &'a Log) -> Self {
        Cutter { log, line: Vec::new() }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                self.log.say(String::from_utf8_lossy(&self.line).trim_end_matches('\r'));
                self.line.clear();
            } else if self.line.len() < LINE_MAX {
                self.line.push(byte);
            }
        }
    }
}

impl Drop for Cutter<'_> {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.log.say(&String::from_utf8_lossy(&self.line));
        }
    }
}

/// Lines on their way to a tape; ends when dropped.
#[derive(Debug)]
pub struct Forward(JoinHandle<()>);

impl Drop for Forward {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_as_a_whole_word_only() {
        let line = "New client connected from 127.0.0.1:53774 as esp-1 (p2, c1, k60, u'esp-1').";
        assert!(names(line, "esp-1"));
        for other in ["esp", "esp-", "sp-1", "esp-12", "2", ""] {
            assert!(!names(line, other), "{other}");
        }
        assert!(names("Denied PUBLISH from a (d0, q1, r0, m1, 'devices/esp-1/up', ... (1 bytes))", "esp-1"));
        assert!(!names("esp-12 esp-1x", "esp-1") && names("esp-12 esp-1", "esp-1"));
    }

    #[tokio::test]
    async fn lines_are_cut_at_line_ends_and_bounded() {
        let log = Log::new();
        let mut lines = log.lines();
        let long = "x".repeat(LINE_MAX + 10);
        log.read(format!("one\r\n\n{long}\nlast").as_bytes()).await;
        assert_eq!(&*lines.recv().await.unwrap(), "one");
        assert_eq!(&*lines.recv().await.unwrap(), "");
        assert_eq!(lines.recv().await.unwrap().len(), LINE_MAX);
        assert_eq!(&*lines.recv().await.unwrap(), "last");
        for n in 0..100 {
            log.say(&n.to_string());
        }
        assert_eq!((log.tail().len(), &*log.tail()[0]), (TAIL_MAX, "60"));
    }
}
