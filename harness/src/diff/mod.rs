//! Names the first event at which two traces part.
//!
//! Each source is cut into strands in which order holds in every run (the device's session, its telemetry, each topic, what the broker
//! received, …) and told in stable words: no ports, dates, times or payloads that are measured. Strands are compared one by one, so the
//! interleaving of sources does not matter. Kept are packet ids, DUP, reason codes, back-off attempts, connections, alerts and the order
//! of everything that a device stores.
//!
//! Two things differ between runs that are the same, and are no difference: how often something was tried before it could succeed
//! (a retry more of the same failure), and how far a strand came before the trial's end cut it off.
//!
//! Between traces of two targets the same is compared but for what is theirs: the cipher suite agreed, and which alert is sent in the clear,
//! is the TLS library's choice; how a connection that ends at once looks, the network stack's; and only the twin tells what it stores.

mod align;
mod strand;

use crate::event::{Event, Source};
use crate::trace::read::Trace;
use crate::verdict::Shown;
use serde::Serialize;
use std::fmt;
use strand::{Between, Strands};

/// Events shown before the one at which the traces part, at most.
const BEFORE_MAX: usize = 6;

/// Where two traces part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Parting {
    /// The source that parts first.
    pub source: Source,
    /// What is compared there, such as `device session` or `link broker, connection 2`.
    pub strand: String,
    /// What the first trace has there.
    pub left: Side,
    /// What the second trace has there.
    pub right: Side,
    /// The other strands that part, later, in the order in which they do.
    pub also: Vec<String>,
}

/// One trace's side of a parting.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// The event; none where the trace has nothing more in this strand.
    pub event: Option<At>,
    /// What the trace shows before it, of every source, oldest first.
    pub before: Vec<Shown>,
}

/// An event of a trace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct At {
    /// Its line in the trace's file, from 1.
    pub line: usize,
    /// When, in microseconds since the trial began.
    pub at_us: u64,
    /// As it is compared: in stable words.
    pub told: String,
    /// As it is.
    pub text: String,
}

/// Compares two traces; none when they do not part.
pub fn diff(left: &Trace, right: &Trace) -> Option<Parting> {
    let between = if left.header.target == right.header.target { Between::Runs } else { Between::Targets };
    let (a, b) = (Strands::of(left, between), Strands::of(right, between));
    let mut partings = align::partings(&a, &b);
    partings.sort_by_key(|parting| parting.when);
    let mut partings = partings.into_iter();
    let first = partings.next()?;
    let mut also: Vec<String> = Vec::new();
    for other in partings {
        if !also.contains(&other.strand) {
            also.push(other.strand);
        }
    }
    Some(Parting {
        source: first.source,
        strand: first.strand,
        left: side(left, &a, first.left, first.left_after),
        right: side(right, &b, first.right, first.right_after),
        also,
    })
}

/// `after`: the event of the strand that both have, after which this trace has `event`, or nothing.
fn side(trace: &Trace, strands: &Strands, event: Option<(usize, String)>, after: Option<usize>) -> Side {
    let end = match &event {
        Some((index, _)) => *index,
        // What came next shows why nothing did.
        None => after.map_or(0, |index| index + 1 + BEFORE_MAX / 2).min(strands.end),
    };
    let shown = |event: &Event| !matches!(event.what, crate::event::What::DeadlinePassed);
    let mut before: Vec<Shown> = trace.events[..end.min(trace.events.len())]
        .iter()
        .rev()
        .filter(|event| shown(event))
        .take(BEFORE_MAX)
        .map(Shown::from)
        .collect();
    before.reverse();
    let event = event.and_then(|(index, told)| {
        let event = trace.events.get(index)?;
        // The header is line 1.
        Some(At { line: index + 2, at_us: event.at_us, told, text: Shown::from(event).text })
    });
    Side { event, before }
}

impl fmt::Display for Parting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the traces part at {}:", self.strand)?;
        for (name, side) in [("left", &self.left), ("right", &self.right)] {
            writeln!(f, "  {name}:")?;
            for shown in &side.before {
                writeln!(f, "    {:>10.3} s  {:<6}  {}", shown.at_us as f64 / 1e6, shown.from, shown.text)?;
            }
            match &side.event {
                Some(at) => {
                    writeln!(f, "  > {:>10.3} s  {:<6}  {}  (line {})", at.at_us as f64 / 1e6, self.source, at.text, at.line)?
                }
                None => writeln!(f, "  >                 {:<6}  nothing more", self.source)?,
            }
        }
        if !self.also.is_empty() {
            writeln!(f, "  later also: {}", self.also.join(", "))?;
        }
        Ok(())
    }
}
