//! When the simulation pauses: the pause points that wait, and the simulated clock they are measured by. Pure: `now` is an argument.

use std::time::{Duration, Instant};

/// Pause points that may wait at once.
const POINTS_MAX: usize = 64;
/// Bytes of a text that is waited for.
const BYTES_MAX: usize = 64 * 1024;

/// Simulated time: it runs with the wall clock while the simulation runs, and stands still in its pauses.
#[derive(Debug, Default)]
pub struct Clock {
    before: Duration,
    since: Option<Instant>,
}

impl Clock {
    /// Nanoseconds since the simulation began.
    pub fn nanos(&self, now: Instant) -> u64 {
        let running = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        u64::try_from((self.before + running).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.since.is_some()
    }

    /// Runs from now on.
    pub fn start(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// Stands still from now on.
    pub fn stop(&mut self, now: Instant) {
        self.before = Duration::from_nanos(self.nanos(now));
        self.since = None;
    }

    /// The moment at which it will show so many nanoseconds; none while it stands still.
    pub fn moment(&self, nanos: u64) -> Option<Instant> {
        self.since?.checked_add(Duration::from_nanos(nanos).saturating_sub(self.before))
    }
}

/// What a pause point waits for.
#[derive(Clone, Debug)]
enum Until {
    /// These bytes, in what the device says.
    Bytes(Needle),
    /// This moment, in simulated nanoseconds.
    Nanos(u64),
}

/// A point at which the simulation pauses, once.
#[derive(Clone, Debug)]
struct Point {
    id: Option<String>,
    kind: &'static str,
    until: Until,
}

/// A point that was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The client's name for it; none for the end of a `pauseAfter`.
    pub id: Option<String>,
    /// Its type, as the client calls it.
    pub kind: &'static str,
}

/// All that wait.
#[derive(Debug, Default)]
pub struct Points(Vec<Point>);

impl Points {
    /// Waits for bytes that are yet to be said.
    ///
    /// # Errors
    /// No bytes or more than 65536, or more than 64 points, in words.
    pub fn add_bytes(&mut self, id: String, bytes: Vec<u8>) -> Result<(), String> {
        if bytes.is_empty() || bytes.len() > BYTES_MAX {
            return Err(format!("a serial-bytes pause point has 1 to {BYTES_MAX} bytes"));
        }
        self.add(Point { id: Some(id), kind: "serial-bytes", until: Until::Bytes(Needle::new(bytes)) })
    }

    /// Waits for a moment.
    ///
    /// # Errors
    /// More than 64 points, in words.
    pub fn add_moment(&mut self, id: Option<String>, kind: &'static str, nanos: u64) -> Result<(), String> {
        self.add(Point { id, kind, until: Until::Nanos(nanos) })
    }

    fn add(&mut self, point: Point) -> Result<(), String> {
        if self.0.len() == POINTS_MAX {
            return Err(format!("{POINTS_MAX} pause points wait already"));
        }
        if point.id.is_some() && self.0.iter().any(|known| known.id == point.id) {
            return Err("a pause point of this id waits already".into());
        }
        self.0.push(point);
        Ok(())
    }

    /// Takes one away; whether it was there.
    pub fn remove(&mut self, id: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|point| point.id.as_deref() != Some(id));
        self.0.len() < before
    }

    /// Looks at what the device said: how many bytes of it belong before the pause, and why it pauses. Of several that are met by the same
    /// byte the first added is reached now, and the next before any further byte.
    pub fn look(&mut self, said: &[u8]) -> Option<(usize, Reached)> {
        if let Some(reached) = self.take(|until| matches!(until, Until::Bytes(needle) if needle.is_met())) {
            return Some((0, reached));
        }
        for (at, byte) in said.iter().enumerate() {
            let mut met = false;
            for point in &mut self.0 {
                if let Until::Bytes(needle) = &mut point.until {
                    met |= needle.take(*byte);
                }
            }
            if met {
                let reached = self.take(|until| matches!(until, Until::Bytes(needle) if needle.is_met()))?;
                return Some((at + 1, reached));
            }
        }
        None
    }

    /// The next moment that is waited for, in simulated nanoseconds.
    pub fn next_moment(&self) -> Option<u64> {
        self.0.iter().filter_map(|point| if let Until::Nanos(nanos) = point.until { Some(nanos) } else { None }).min()
    }

    /// What is reached at this moment, the earliest first.
    pub fn due(&mut self, nanos: u64) -> Option<Reached> {
        let next = self.next_moment().filter(|next| *next <= nanos)?;
        self.take(|until| matches!(until, Until::Nanos(moment) if *moment == next))
    }

    fn take(&mut self, wanted: impl Fn(&Until) -> bool) -> Option<Reached> {
        let at = self.0.iter().position(|point| wanted(&point.until))?;
        let Point { id, kind, .. } = self.0.remove(at);
        Some(Reached { id, kind })
    }
}

/// Bytes looked for in a stream, one at a time (Knuth, Morris, Pratt).
#[derive(Clone, Debug)]
struct Needle {
    bytes: Vec<u8>,
    /// How much of the beginning is there again where the first n + 1 bytes end.
    again: Vec<usize>,
    met: usize,
}

impl Needle {
    fn new(bytes: Vec<u8>) -> Needle {
        let mut again = vec![0; bytes.len()];
        let mut met = 0;
        for at in 1..bytes.len() {
            met = next(&bytes, &again, met, bytes[at]);
            again[at] = met;
        }
        Needle { bytes, again, met: 0 }
    }

    fn is_met(&self) -> bool {
        self.met == self.bytes.len()
    }

    /// Whether the bytes end with this one.
    fn take(&mut self, byte: u8) -> bool {
        if !self.is_met() {
            self.met = next(&self.bytes, &self.again, self.met, byte);
        }
        self.is_met()
    }
}

fn next(bytes: &[u8], again: &[usize], mut met: usize, byte: u8) -> usize {
    while met > 0 && bytes[met] != byte {
        met = again[met - 1];
    }
    met + usize::from(bytes[met] == byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(id: &str, kind: &'static str) -> Reached {
        Reached { id: Some(id.into()), kind }
    }

    #[test]
    fn bytes_are_found_across_chunks_and_not_twice() {
        let mut points = Points::default();
        points.add_bytes("a".into(), b"aab".to_vec()).unwrap();
        assert_eq!(points.look(b"xaa"), None);
        assert_eq!(points.look(b"abz"), Some((2, reached("a", "serial-bytes"))), "aaab holds aab");
        assert_eq!(points.look(b"aab"), None, "a point is reached once");
        points.add_bytes("b".into(), b"aab".to_vec()).unwrap();
        assert_eq!(points.look(b"b"), None, "what was said before the point was added does not count");
    }

    #[test]
    fn every_split_of_every_text_finds_what_a_search_finds() {
        let mut rng = device_core::rng::Rng::new(5);
        for _ in 0..2000 {
            let mut word = |most: u64| (0..=rng.up_to(most)).map(|_| b'a' + (rng.draw() % 2) as u8).collect::<Vec<u8>>();
            let (needle, hay) = (word(5), word(30));
            let found = hay.windows(needle.len()).position(|w| w == needle).map(|at| at + needle.len());
            let cut = (hay.len() / 2).min(found.map_or(usize::MAX, |at| at - 1));
            let mut points = Points::default();
            points.add_bytes("a".into(), needle).unwrap();
            assert_eq!(points.look(&hay[..cut]), None);
            assert_eq!(points.look(&hay[cut..]).map(|(at, _)| cut + at), found);
        }
    }

    #[test]
    fn two_points_at_one_byte_are_both_reached() {
        let mut points = Points::default();
        points.add_bytes("long".into(), b"boot ok".to_vec()).unwrap();
        points.add_bytes("short".into(), b"ok".to_vec()).unwrap();
        assert_eq!(points.look(b"boot ok!"), Some((7, reached("long", "serial-bytes"))));
        assert_eq!(points.look(b"!"), Some((0, reached("short", "serial-bytes"))));
        assert_eq!(points.look(b"!"), None);
    }

    #[test]
    fn moments_come_in_order_and_points_have_limits() {
        let mut points = Points::default();
        points.add_moment(Some("late".into()), "time-absolute", 20).unwrap();
        points.add_moment(Some("soon".into()), "time-relative", 10).unwrap();
        assert!(points.add_moment(Some("soon".into()), "time-relative", 30).is_err());
        assert_eq!((points.next_moment(), points.due(9)), (Some(10), None));
        assert_eq!(points.due(30), Some(reached("soon", "time-relative")));
        assert!(points.remove("late") && !points.remove("late"));
        assert_eq!((points.due(30), points.next_moment()), (None, None));
        assert!(points.add_bytes("none".into(), vec![]).is_err());
        for _ in 0..POINTS_MAX {
            points.add_moment(None, "time-relative", 1).unwrap();
        }
        assert!(points.add_moment(None, "time-relative", 1).is_err());
    }

    #[test]
    fn simulated_time_stands_still_in_a_pause() {
        let at = |ms| Instant::now() + Duration::from_millis(ms);
        let (zero, mut clock) = (at(0), Clock::default());
        let after = |ms| zero + Duration::from_millis(ms);
        assert_eq!((clock.nanos(after(5)), clock.moment(1)), (0, None));
        clock.start(after(10));
        clock.start(after(11));
        assert_eq!((clock.nanos(after(15)), clock.runs()), (5_000_000, true));
        clock.stop(after(15));
        assert_eq!(clock.nanos(after(100)), 5_000_000);
        clock.start(after(100));
        assert_eq!(clock.moment(7_000_000), Some(after(102)));
        assert_eq!(clock.moment(1), Some(after(100)), "what has passed is due at once");
    }
}
