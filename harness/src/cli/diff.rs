//! `harness diff`: where two recorded runs part.

use super::complain;
use crate::diff::{Parting, diff};
use crate::trace::read::{ReadError, Trace, read};
use crate::{exit, say};
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Compares what each source told, strand by strand and in stable words: ports, dates, times and measured values do not matter, nor does
how the sources interleave, how often something was tried before it could succeed, or what the trial's end cut off. Packet ids, DUP,
reason codes, back-off attempts, connections, alerts and the order of what is stored do matter.

    harness run scenarios/broker/killed.yaml --traces before
    harness run scenarios/broker/killed.yaml --traces after
    harness diff before/NAME.jsonl after/NAME.jsonl

Exit codes: 0 they do not part, 1 they part, 2 a file is no trace.")]
pub(super) struct Diff {
    /// The first trace, as `harness run` wrote it.
    left: PathBuf,
    /// The second trace.
    right: PathBuf,
    /// One JSON object on standard output, for machines.
    #[arg(long)]
    json: bool,
}

/// What `--json` says.
#[derive(Serialize)]
struct Document<'d> {
    version: u32,
    same: bool,
    left: String,
    right: String,
    parting: Option<&'d Parting>,
    remarks: &'d [String],
}

impl Diff {
    pub(super) fn run(self) -> u8 {
        let traces = open(&self.left).and_then(|left| Ok((left, open(&self.right)?)));
        match traces {
            Ok((left, right)) => tell(&Sides { left: (&self.left, &left), right: (&self.right, &right) }, self.json),
            Err(why) => complain(why, exit::WRONG_INPUT),
        }
    }
}

/// Two traces and their files.
pub(super) struct Sides<'s> {
    pub left: (&'s Path, &'s Trace),
    pub right: (&'s Path, &'s Trace),
}

/// Reads a trace; or says what is wrong, with the file's name.
pub(super) fn open(path: &Path) -> Result<Trace, String> {
    read(path).map_err(|error| match error {
        ReadError::Io { .. } | ReadError::NotAFile(_) => error.to_string(),
        error => format!("{}: {error}", path.display()),
    })
}

/// Compares, says what came of it, and gives the exit code.
pub(super) fn tell(sides: &Sides<'_>, json: bool) -> u8 {
    let ((left_file, left), (right_file, right)) = (sides.left, sides.right);
    let parting = diff(left, right);
    let remarks = remarks(sides);
    if json {
        let document = Document {
            version: 1,
            same: parting.is_none(),
            left: left_file.to_string_lossy().into_owned(),
            right: right_file.to_string_lossy().into_owned(),
            parting: parting.as_ref(),
            remarks: &remarks,
        };
        // Strings, numbers and lists only: it cannot fail.
        say::line(serde_json::to_string(&document).unwrap_or_default());
    } else {
        match &parting {
            Some(parting) => {
                say::line(format_args!("left:  {}\nright: {}", left_file.display(), right_file.display()));
                say::words(parting)
            }
            None => say::line(format_args!("the traces do not part: {} and {} events", left.events.len(), right.events.len())),
        };
        remarks.iter().for_each(|remark| say::aside(format_args!("harness: {remark}")));
    }
    if parting.is_none() { exit::PASS } else { exit::FAIL }
}

/// What the reader should know about the traces.
fn remarks(sides: &Sides<'_>) -> Vec<String> {
    let ((_, left), (_, right)) = (sides.left, sides.right);
    let mut remarks = Vec::new();
    if left.header.scenario.sha256 != right.header.scenario.sha256 {
        remarks.push("the traces are of different scenarios, or of different versions of one".to_owned());
    } else if left.header.row != right.header.row {
        remarks.push("the traces are of different rows of the scenario's matrix".to_owned());
    }
    for (name, trace) in [("left", left), ("right", right)] {
        if let Some(cut) = &trace.truncated {
            let why = crate::event::printable(&cut.why).into_owned();
            remarks.push(format!("the {name} trace is read up to line {} only: {why}", cut.at_line));
        }
    }
    if let (Some(one), Some(other)) = (&left.end, &right.end)
        && one.verdict != other.verdict
    {
        remarks.push(format!("the left run ended as {}, the right one as {}", one.verdict, other.verdict));
    }
    remarks
}
