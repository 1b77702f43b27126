//! The pen every source holds: `Tape::say` stamps, redacts and sends an event to the runner's one receiver.

use super::format::{LIST_MAX, TEXT_MAX};
use super::redact::{KeyLines, Redactor};
use crate::event::{Event, Source, What};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::mpsc::{self, error::TrySendError};

/// Events on their way to the runner that it has not taken yet. What is said beyond this is lost, and the tape says so with
/// `Broke` as soon as it can: the trial ends as inconclusive.
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
    out: Mutex<Out>,
}

#[derive(Debug)]
struct Out {
    to: mpsc::Sender<Event>,
    lost: u64,
    keys: KeyLines,
}

impl Out {
    fn send(&mut self, event: Event) {
        if self.lost > 0 {
            let why = format!("more than {TAPE_AHEAD_MAX} events came faster than they were judged, {} were lost", self.lost);
            match self.to.try_send(Event { at_us: event.at_us, from: Source::Runner, what: What::Broke { why } }) {
                Ok(()) => self.lost = 0,
                Err(_) => return self.lost += 1,
            }
        }
        // The receiver is gone only when the trial is over: nothing is lost then.
        if let Err(TrySendError::Full(_)) = self.to.try_send(event) {
            self.lost += 1;
        }
    }
}

impl Tape {
    /// A new tape, which begins now, and its one receiver. Nothing reaches it that the redactor has not seen.
    pub fn new(redactor: Redactor) -> (Tape, mpsc::Receiver<Event>) {
        let (to, events) = mpsc::channel(TAPE_AHEAD_MAX);
        (
            Tape {
                inner: Arc::new(Inner {
                    began: Instant::now(),
                    redactor,
                    out: Mutex::new(Out { to, lost: 0, keys: KeyLines::default() }),
                }),
            },
            events,
        )
    }

    /// Says that something happened now. Secrets are replaced and what is too long is cut before anybody else sees it.
    pub fn say(&self, from: Source, mut what: What) {
        let redactor = &self.inner.redactor;
        what.for_each_list(&mut |list| list.truncate(LIST_MAX));
        if !matches!(what, What::Line(_) | What::Partial(_)) {
            what.for_each_text(&mut |text| bound(redactor, text));
        }
        let mut out = self.inner.out.lock().unwrap_or_else(|e| e.into_inner());
        if let What::Line(line) | What::Partial(line) = &mut what {
            out.keys.redact(from, line);
            bound(redactor, line);
        }
        let at_us = u64::try_from(self.inner.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        out.send(Event { at_us, from, what });
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

/// Redacts first: a secret that is cut in two is no longer found.
fn bound(redactor: &Redactor, text: &mut String) {
    redactor.redact(text);
    if text.len() > TEXT_MAX {
        text.truncate(text.floor_char_boundary(TEXT_MAX));
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_said() {
        let (tape, mut events) = Tape::new(Redactor::new());
        for _ in 0..TAPE_AHEAD_MAX + 3 {
            tape.say(Source::Runner, What::DeadlinePassed);
        }
        for _ in 0..TAPE_AHEAD_MAX {
            assert!(matches!(events.try_recv(), Ok(Event { what: What::DeadlinePassed, .. })));
        }
        assert!(events.try_recv().is_err());
        tape.say(Source::Runner, What::DeadlinePassed);
        assert!(matches!(events.try_recv(), Ok(Event { what: What::Broke { why }, .. }) if why.contains("3 were lost")));
        assert!(matches!(events.try_recv(), Ok(Event { what: What::DeadlinePassed, .. })));
    }

    #[test]
    fn a_secret_at_the_cut_is_not_cut_in_two() {
        let (tape, mut events) = Tape::new(Redactor::new());
        tape.redactor().register("token", "correct-horse");
        tape.say(Source::Device, What::Line(format!("{}correct-horse", "x".repeat(TEXT_MAX - 5))));
        let Ok(Event { what: What::Line(line), .. }) = events.try_recv() else { panic!("no line") };
        assert!(!line.contains("corre"), "{}", &line[TEXT_MAX - 20..]);
        assert!(line.len() <= TEXT_MAX + '…'.len_utf8());
    }
}
