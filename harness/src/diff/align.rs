//! Lays two strands beside each other and finds where they part.

use super::strand::{Connection, Key, SESSION, Strands, Told};
use crate::event::Source;
use std::collections::BTreeMap;

/// The longest cycle of failures that counts as one more try, in events.
const CYCLE_MAX: usize = 8;
/// Events of failures while the broker was switched off that are passed over at most.
const AWAY_MAX: usize = 3_000;
/// The most cycles one trace may have more than the other.
const CYCLES_MAX: usize = 1_000;
/// A strand that ended early is compared only where the trial went on for so many times the time that its next event took the other, …
const CHANCE_FACTOR: u64 = 4;
/// … and this besides, in microseconds.
const CHANCE_US: u64 = 100_000;

/// A strand that parts.
pub(super) struct StrandParting {
    pub source: Source,
    pub strand: String,
    /// Whether it is of the way to the broker, or what goes over it.
    pub of_connection: bool,
    /// Whether it is the broker that differs: it knows the session of a device, or not, after it was switched off.
    pub by_chance: bool,
    /// For the order: steps begun, and microseconds.
    pub when: (usize, u64),
    /// The event and its words.
    pub left: Option<(usize, String)>,
    pub right: Option<(usize, String)>,
    /// The last event both have before it.
    pub left_after: Option<usize>,
    pub right_after: Option<usize>,
}

impl StrandParting {
    /// The events of both sides, when both have one.
    fn at(&self) -> Option<(usize, usize)> {
        Some((self.left.as_ref()?.0, self.right.as_ref()?.0))
    }
}

/// How many more failed tries each trace had, by what was tried.
type Extra = BTreeMap<String, usize>;

/// Every strand that parts, in no order.
pub(super) fn partings(a: &Strands, b: &Strands) -> Vec<StrandParting> {
    let mut out = all_partings(a, b);
    // Whether a broker that was switched off still knows the device is chance, and what follows from it too.
    let session = out.iter().filter(|parting| parting.by_chance).min_by_key(|parting| parting.when).and_then(StrandParting::at);
    for (from_left, from_right) in session.into_iter().chain(a.renewing.zip(b.renewing)) {
        let before = |event: &Option<(usize, String)>, from: usize| event.as_ref().is_none_or(|(index, _)| *index < from);
        out.retain(|parting| !parting.of_connection || (before(&parting.left, from_left) && before(&parting.right, from_right)));
    }
    out
}

fn all_partings(a: &Strands, b: &Strands) -> Vec<StrandParting> {
    let mut out = Vec::new();
    let (ahead, back) = (Common::of(a, b), Common::of(b, a));
    let (mut more_a, mut more_b) = (Extra::new(), Extra::new());
    let session = Key { source: Source::Device, matter: SESSION.into() };
    let mut keys: Vec<&Key> = a.strands.keys().chain(b.strands.keys().filter(|key| !a.strands.contains_key(key))).collect();
    // First, since it tells how much more often was tried.
    keys.sort_by_key(|key| **key != session);
    for key in keys {
        let none = Vec::new();
        let (left, right) = (a.strands.get(key).unwrap_or(&none), b.strands.get(key).unwrap_or(&none));
        let spare = if *key == session { None } else { Some((total(&more_a), total(&more_b))) };
        let pair = Pair {
            left,
            right,
            a,
            b,
            ahead: &ahead,
            back: &back,
            ends_when_cut: matches!(key.source, Source::Broker | Source::Mqtt),
        };
        if let Some((i, j)) = pair.part(spare, &mut more_a, &mut more_b) {
            out.extend(pair.parting(key.source, key.to_string(), (i, j), Seen::InTime));
        }
    }
    let servers = a.links.keys().chain(b.links.keys().filter(|key| !a.links.contains_key(*key)));
    for server in servers {
        let none = Vec::new();
        let (left, right) = (a.links.get(server).unwrap_or(&none), b.links.get(server).unwrap_or(&none));
        out.extend(link(server, (left, a), (right, b), (&ahead, &back), (total(&more_a), total(&more_b))));
    }
    out
}

fn total(more: &Extra) -> usize {
    more.values().sum()
}

/// Whether an event that only one trace has could have come after the other's end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    InTime,
    ForSure,
}

struct Pair<'s> {
    left: &'s [Told],
    right: &'s [Told],
    a: &'s Strands,
    b: &'s Strands,
    /// What is common to both, by the left trace's events and by the right one's.
    ahead: &'s Common,
    back: &'s Common,
    /// Whether what follows depends on what was cut off: packets that were under way are sent again, with numbers that go on.
    ends_when_cut: bool,
}

impl Pair<'_> {
    /// Where they part; none when they do not. `spare`: how many cycles either may have more; none: this strand is the one that tells.
    fn part(&self, spare: Option<(usize, usize)>, more_a: &mut Extra, more_b: &mut Extra) -> Option<(usize, usize)> {
        let (mut i, mut j) = (0, 0);
        let (mut spare_a, mut spare_b) = spare.unwrap_or((CYCLES_MAX, CYCLES_MAX));
        loop {
            match (self.left.get(i), self.right.get(j)) {
                (Some(left), Some(right)) if left.text == right.text => {
                    // The same words, but said before and after something was switched off: one may be the other's repetition.
                    if self.ends_when_cut && self.cut_off(i, j).is_some() {
                        return None;
                    }
                    i += 1;
                    j += 1;
                    continue;
                }
                (None, None) => return None,
                _ => {}
            }
            let needs_retry = spare.is_none();
            let skip_left = || skip(self.left, i, self.right.get(j), spare_a, needs_retry);
            let skip_right = || skip(self.right, j, self.left.get(i), spare_b, needs_retry);
            let away_left = || away(self.left, i, self.right.get(j), self.a).filter(|_| needs_retry);
            let away_right = || away(self.right, j, self.left.get(i), self.b).filter(|_| needs_retry);
            if let Some((skipped, cycles, what)) = skip_left().or_else(away_left) {
                i += skipped;
                spare_a -= cycles;
                if needs_retry {
                    *more_a.entry(what).or_default() += cycles;
                }
            } else if let Some((skipped, cycles, what)) = skip_right().or_else(away_right) {
                j += skipped;
                spare_b -= cycles;
                if needs_retry {
                    *more_b.entry(what).or_default() += cycles;
                }
            } else if let Some((cut_left, cut_right)) = self.cut_off(i, j) {
                if self.ends_when_cut {
                    return None;
                }
                i += cut_left;
                j += cut_right;
            } else {
                return Some((i, j));
            }
        }
    }

    /// Whether the sides differ only in whether the broker still knows the device's session, after it was switched off in both.
    fn session_by_chance(&self, left: Option<&Told>, right: Option<&Told>) -> bool {
        let (Some(left), Some(right)) = (left, right) else { return false };
        let present = |told: &Told| {
            told.text.replacen("CONNACK to <device> (1,", "CONNACK to <device> (0,", 1).replacen(
                "session_present=1",
                "session_present=0",
                1,
            )
        };
        let interrupted = |trace: &Strands, told: &Told| trace.epoch.get(told.index).is_some_and(|epoch| *epoch > 0);
        present(left) == present(right) && interrupted(self.a, left) && interrupted(self.b, right)
    }

    /// How many events of the strand that is an epoch behind (on the left, on the right) were cut off in the other trace by what was
    /// switched off, if they were.
    fn cut_off(&self, i: usize, j: usize) -> Option<(usize, usize)> {
        let (left, right) = (self.left.get(i)?, self.right.get(j)?);
        let epoch = |trace: &Strands, told: &Told| trace.epoch.get(told.index).copied();
        let (one, other) = (epoch(self.a, left)?, epoch(self.b, right)?);
        let rest = |strand: &[Told], at: usize, trace: &Strands, of: usize| {
            strand[at..].iter().take_while(|told| epoch(trace, told) == Some(of)).count()
        };
        if one < other && !had_its_chance(self.a, left.index, self.ahead, self.b, one) {
            Some((rest(self.left, i, self.a, one), 0))
        } else if other < one && !had_its_chance(self.b, right.index, self.back, self.a, other) {
            Some((0, rest(self.right, j, self.b, other)))
        } else {
            None
        }
    }

    /// The parting at these places, unless one strand merely ended before the other's next event could come.
    fn parting(&self, source: Source, strand: String, (i, j): (usize, usize), seen: Seen) -> Option<StrandParting> {
        let (left, right) = (self.left.get(i), self.right.get(j));
        let (left_after, right_after) = (before(self.left, i), before(self.right, j));
        let missing = match (left, right) {
            (Some(_), Some(_)) => true,
            _ if seen == Seen::ForSure => true,
            (Some(_), None) => {
                waited_for(self.a, source, self.left, i) || had_its_chance(self.a, left?.index, self.ahead, self.b, LAST)
            }
            (None, Some(_)) => {
                waited_for(self.b, source, self.right, j) || had_its_chance(self.b, right?.index, self.back, self.a, LAST)
            }
            (None, None) => false,
        };
        let when_left = left.and_then(|told| self.a.when.get(told.index));
        let when_right = right.and_then(|told| self.b.when.get(told.index));
        let when = when_left.into_iter().chain(when_right).min().copied()?;
        let event = |told: Option<&Told>| told.map(|told| (told.index, told.text.clone()));
        let of_connection = strand == "device session"
            || strand == "device orders"
            || source == Source::Broker
            || strand.starts_with("link broker");
        missing.then(|| StrandParting {
            source,
            strand,
            of_connection,
            by_chance: self.session_by_chance(left, right),
            when,
            left: event(left),
            right: event(right),
            left_after,
            right_after,
        })
    }
}

fn before(strand: &[Told], at: usize) -> Option<usize> {
    at.checked_sub(1).and_then(|last| strand.get(last)).map(|told| told.index)
}

/// Whether the scenario waited for this event, or for a later one of the same strand: then it is no matter of time.
fn waited_for(trace: &Strands, source: Source, strand: &[Told], at: usize) -> bool {
    let reach = trace.reach.of(source);
    strand[at..].iter().any(|told| told.index + 1 == reach)
}

/// The epoch at whose end a trial ends.
const LAST: usize = usize::MAX;

/// Events that both traces have, as far as that is plain: for each of the first trace, in order, the last one of the second trace that
/// it or an earlier one is.
struct Common(Vec<(usize, usize)>);

impl Common {
    fn of(a: &Strands, b: &Strands) -> Common {
        let mut pairs: Vec<(usize, usize)> = a.steps.iter().copied().zip(b.steps.iter().copied()).collect();
        for (key, left) in &a.strands {
            let Some(right) = b.strands.get(key) else { continue };
            let same = left.iter().zip(right).take_while(|(left, right)| left.text == right.text);
            pairs.extend(same.map(|(left, right)| (left.index, right.index)));
        }
        pairs.sort_unstable();
        let mut last = 0;
        for (_, other) in &mut pairs {
            last = last.max(*other);
            *other = last;
        }
        Common(pairs)
    }

    /// The last common event before this one: its place in the first trace, and how far the second trace was then.
    fn before(&self, event: usize) -> Option<(usize, usize)> {
        self.0.partition_point(|(one, _)| *one < event).checked_sub(1).and_then(|last| self.0.get(last)).copied()
    }
}

/// Whether the trial that lacks an event of the longer one went on for long enough, in this epoch, for it to come.
fn had_its_chance(longer: &Strands, event: usize, common: &Common, shorter: &Strands, epoch: usize) -> bool {
    let at = |trace: &Strands, index: usize| trace.when.get(index).map_or(0, |(_, at_us)| *at_us);
    let (from, shorter_from) = common.before(event).map_or((0, 0), |(one, other)| (at(longer, one), at(shorter, other)));
    let took = at(longer, event).saturating_sub(from);
    let end = shorter.epoch_ends.get(epoch).copied().unwrap_or(shorter.end_us);
    end.saturating_sub(shorter_from) >= took.saturating_mul(CHANCE_FACTOR).saturating_add(CHANCE_US)
}

/// How many events from `at` on are further cycles of the failure before them, so that the strand goes on with `next`, how many cycles
/// that is, and of what.
fn skip(strand: &[Told], at: usize, next: Option<&Told>, cycles_max: usize, needs_retry: bool) -> Option<(usize, usize, String)> {
    for length in 1..=CYCLE_MAX.min(at) {
        let mut skipped = 0;
        while skipped / length < cycles_max && repeats(strand, at + skipped, length) {
            skipped += length;
            let after = strand.get(at + skipped);
            let goes_on = match (after, next) {
                (Some(after), Some(next)) => after.text == next.text,
                (None, None) => true,
                _ => false,
            };
            let retried = strand[at..at + skipped].iter().find_map(|told| told.retry.clone());
            if goes_on && (retried.is_some() || !needs_retry) {
                return Some((skipped, skipped / length, retried.unwrap_or_default()));
            }
        }
    }
    None
}

/// How many events from `at` on are a failure to connect, and its retry, while the broker was switched off, so that the strand goes on
/// with `next`: the other trace may have tried only once it was back.
fn away(strand: &[Told], at: usize, next: Option<&Told>, trace: &Strands) -> Option<(usize, usize, String)> {
    let failed = strand.get(at)?;
    let off = |at: usize| strand.get(at).and_then(|told| trace.broker_off.get(told.index)).is_some_and(|off| *off);
    let fails = |told: &Told| told.text.starts_with("mqtt-connect-failed");
    // It may have been off when the connection was opened, and on when that had failed.
    if !fails(failed) || !(off(at) || at.checked_sub(1).is_some_and(off)) {
        return None;
    }
    let goes_on = |told: &Told| next.is_some_and(|next| next.text == told.text);
    let length = strand[at..].iter().take(AWAY_MAX).position(goes_on)?;
    let mut retried = strand[at..at + length].iter().filter_map(|told| told.retry.clone());
    let what = retried.next()?;
    Some((length, 1 + retried.count(), what))
}

/// Whether the `length` events at `at` say what the `length` before them said.
fn repeats(strand: &[Told], at: usize, length: usize) -> bool {
    let Some(cycle) = strand.get(at..at + length) else { return false };
    let same = |was: &Told, is: &Told| {
        // A back-off that goes on; its first try may be the one before.
        let goes_on = is.retry.is_some() && was.retry == is.retry && is.text.ends_with("one attempt more");
        was.text == is.text || (goes_on && was.text.ends_with(", attempt 1"))
    };
    strand[at - length..at].iter().zip(cycle).all(|(was, is)| same(was, is))
}

/// How often the device said that it connects to the broker.
fn tries(trace: &Strands) -> usize {
    let session = Key { source: Source::Device, matter: SESSION.into() };
    let says = |told: &&Told| told.text.starts_with("mqtt-connecting");
    trace.strands.get(&session).map_or(0, |strand| strand.iter().filter(says).count())
}

/// Where the connections to a server part. One that is the last one's like may be more in the trace that tried more often.
fn link(
    server: &str,
    (left, a): (&[Connection], &Strands),
    (right, b): (&[Connection], &Strands),
    (ahead, back): (&Common, &Common),
    (mut spare_a, mut spare_b): (usize, usize),
) -> Option<StrandParting> {
    let alike = |one: &Connection, other: &Connection| one.story().eq(other.story());
    let unanswered = |one: &Connection| one.answered == Some(false);
    let (mut i, mut j) = (0, 0);
    loop {
        let (one, other) = (left.get(i), right.get(j));
        match (one, other) {
            (None, None) => return None,
            (Some(one), Some(other)) if alike(one, other) => {
                i += 1;
                j += 1;
                continue;
            }
            _ => {}
        }
        if spare_a > 0 && one.is_some_and(|one| unanswered(one) || (i > 0 && alike(one, &left[i - 1]))) {
            i += 1;
            spare_a -= 1;
        } else if spare_b > 0 && other.is_some_and(|other| unanswered(other) || (j > 0 && alike(other, &right[j - 1]))) {
            j += 1;
            spare_b -= 1;
        } else {
            let strand = format!("link {server}, connection {}", i.max(j) + 1);
            let none = Connection::default();
            // A connection more in one trace is missing in the other as a whole.
            let goes_on = |strand: &[Connection], next: usize, with: Option<&Connection>| {
                strand.get(next).zip(with).is_some_and(|(next, with)| alike(next, with))
            };
            let more_left = left.len() > right.len() && goes_on(left, i + 1, other);
            let more_right = right.len() > left.len() && goes_on(right, j + 1, one);
            let (one, other) = match (more_left, more_right) {
                (true, false) => (one.unwrap_or(&none), &none),
                (false, true) => (&none, other.unwrap_or(&none)),
                _ => (one.unwrap_or(&none), other.unwrap_or(&none)),
            };
            let at = one.told.iter().zip(&other.told).take_while(|(one, other)| one.text == other.text).count();
            let earlier =
                |connections: &[Connection], until: usize| connections.iter().take(until).flat_map(|c| c.told.clone()).collect();
            // The connections before it stand before it in the strand.
            let (mut all_left, mut all_right): (Vec<Told>, Vec<Told>) = (earlier(left, i), earlier(right, j));
            let (at_left, at_right) = (all_left.len() + at, all_right.len() + at);
            all_left.extend(one.told.iter().cloned());
            all_right.extend(other.told.iter().cloned());
            let pair = Pair { left: &all_left, right: &all_right, a, b, ahead, back, ends_when_cut: false };
            // A device says that it connects before it does.
            let unsaid = |trace: &Strands, connections: &[Connection]| server == "broker" && connections.len() > tries(trace);
            let seen = if more_left != more_right || (at == 0 && unsaid(a, left) != unsaid(b, right)) {
                Seen::ForSure
            } else {
                Seen::InTime
            };
            match pair.parting(Source::Link, strand, (at_left, at_right), seen) {
                Some(parting) => return Some(parting),
                // Cut off by the trial's end: so is everything after it.
                None if left.get(i + 1).is_none() && right.get(j + 1).is_none() => return None,
                None => {
                    i += 1;
                    j += 1;
                }
            }
        }
    }
}
