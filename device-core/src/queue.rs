//! Readings on their way: each is held until its PUBACK, in order, up to a limit beyond which the oldest is dropped and counted.

use crate::output::Reading;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// The queue in memory; its durable twin is kept by the shell through `Output::QueuePush` and `QueuePop`.
#[derive(Clone, Debug)]
pub struct Queue {
    entries: VecDeque<Entry>,
    limit: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    reading: Reading,
    /// Handed to the session, which sends it again by itself until it is acknowledged.
    sent: bool,
}

impl Queue {
    /// The queue as it was stored, oldest first. What is stored is kept, even when it is over the limit.
    pub fn restored(readings: Vec<Reading>, limit: usize) -> Self {
        let mut readings = readings;
        readings.sort_by_key(|r| r.number);
        readings.dedup_by_key(|r| r.number);
        Queue { entries: readings.into_iter().map(|reading| Entry { reading, sent: false }).collect(), limit }
    }

    /// Changes the limit; takes effect with the next reading.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The reading that must go before another is pushed: the oldest that the session does not have. `None`: there is room, or the session
    /// has all (then the queue grows by at most the session's window).
    pub fn make_room(&mut self) -> Option<u64> {
        if self.entries.len() < self.limit {
            return None;
        }
        let oldest = self.entries.iter().position(|e| !e.sent)?;
        self.entries.remove(oldest).map(|e| e.reading.number)
    }

    /// Appends a reading.
    pub fn push(&mut self, reading: Reading) {
        self.entries.push_back(Entry { reading, sent: false });
    }

    /// The oldest reading that the session does not have; it counts as handed over then.
    pub fn hand_over(&mut self) -> Option<&Reading> {
        let entry = self.entries.iter_mut().find(|e| !e.sent)?;
        entry.sent = true;
        Some(&entry.reading)
    }

    /// The session is a new one: whatever the old one had, it has no more.
    pub fn take_back(&mut self) {
        self.entries.iter_mut().for_each(|e| e.sent = false);
    }

    /// Removes the reading of this number; says whether it was there.
    pub fn remove(&mut self, number: u64) -> bool {
        let before = self.entries.len();
        self.entries.retain(|e| e.reading.number != number);
        self.entries.len() < before
    }

    /// How many readings are held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The highest number held.
    pub fn last_number(&self) -> Option<u64> {
        self.entries.back().map(|e| e.reading.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn reading(number: u64) -> Reading {
        Reading { number, payload: String::new() }
    }

    fn push(queue: &mut Queue, number: u64) -> Option<u64> {
        let dropped = queue.make_room();
        queue.push(reading(number));
        dropped
    }

    #[test]
    fn the_oldest_goes_first_and_only_when_full() {
        let mut queue = Queue::restored(Vec::new(), 2);
        assert_eq!([1, 2, 3].map(|n| push(&mut queue, n)), [None, None, Some(1)]);
        assert_eq!(queue.hand_over().map(|r| r.number), Some(2));
        assert_eq!(push(&mut queue, 4), Some(3), "what the session has is not dropped");
        assert_eq!(queue.hand_over().map(|r| r.number), Some(4));
        assert_eq!(queue.hand_over(), None);
        assert_eq!((push(&mut queue, 5), queue.len()), (None, 3));
        assert!(queue.remove(2) && !queue.remove(2));
        queue.take_back();
        assert_eq!(queue.hand_over().map(|r| r.number), Some(4));
    }

    #[test]
    fn what_was_stored_comes_back_in_order() {
        let mut queue = Queue::restored([7, 5, 6, 6].map(reading).into(), 2);
        assert_eq!((queue.len(), queue.last_number()), (3, Some(7)));
        assert_eq!([(); 4].map(|()| queue.hand_over().map(|r| r.number)), [Some(5), Some(6), Some(7), None]);
    }
}
