//! The pen every source holds: `Tape::say` stamps, redacts and sends an event to the runner's one receiver.

use super::redact::Redactor;
use crate::event::{Event, Source, What};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::mpsc;

/// Events on their way to the runner that it has not taken yet. A source that runs ahead further than this loses its oldest
/// right to be heard: the trial ends as inconclusive.
pub const TAPE_AHEAD_MAX: usize = 65_536;

/// A cheap handle to the trial's tape; every source has a clone.
#[derive(Clone, Debug)]
pub struct Tape {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    began: Instant,
    redactor: Redactor,
    // One lock around stamp and send, so that stamps never go back on the tape.
    out: Mutex<mpsc::UnboundedSender<Event>>,
}

impl Tape {
    /// A new tape, which begins now, and its one receiver. Nothing reaches it that the redactor has not seen.
    pub fn new(redactor: Redactor) -> (Tape, mpsc::UnboundedReceiver<Event>) {
        let (out, events) = mpsc::unbounded_channel();
        (Tape { inner: Arc::new(Inner { began: Instant::now(), redactor, out: Mutex::new(out) }) }, events)
    }

    /// Says that something happened now.
    pub fn say(&self, from: Source, mut what: What) {
        what.for_each_text(&mut |text| self.inner.redactor.redact(text));
        let out = self.inner.out.lock().unwrap_or_else(|e| e.into_inner());
        let at_us = u64::try_from(self.inner.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        // The receiver is gone only when the trial is over.
        let _ = out.send(Event { at_us, from, what });
    }

    /// The redactor, to make further secrets known to.
    pub fn redactor(&self) -> &Redactor {
        &self.inner.redactor
    }

    /// When the tape began.
    pub fn began(&self) -> Instant {
        self.inner.began
    }
}
