//! The trace format: JSON Lines; first the header, then one event a line, then (when the trial ended in good order) the end.
//!
//! ```json
//! {"format":"harness-trace","version":2,"scenario":{"name":"…","path":"…","sha256":"…","text":"…"},"target":"twin",…}
//! {"at_us":1204,"from":"device","what":{"line":"I (3) boot: device-core 0.1.0"}}
//! {"end":{"verdict":"pass","at_us":41322}}
//! ```

use crate::verdict::Verdict;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The format's name, in every header.
pub const FORMAT: &str = "harness-trace";
/// The version written. A reader knows this one and all before it.
///
/// Version 2 added the event `stored`.
pub const VERSION: u32 = 2;

/// The longest line, in bytes. A writer cuts texts far below this.
pub const LINE_MAX: usize = 1 << 20;
/// The largest trace, in bytes.
pub const TRACE_MAX: u64 = 64 << 20;
/// The most events; also the most a script takes.
pub const EVENTS_MAX: usize = crate::script::EVENTS_MAX;
/// The longest text in one event, in bytes; what does not fit is cut and ends in `…`.
pub const TEXT_MAX: usize = 16 << 10;
/// The most entries of a list in one event (cipher suites, lies); what does not fit is left out.
pub const LIST_MAX: usize = 200;

/// What a trace says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// The format's version.
    pub version: u32,
    /// The scenario, whole, so that a replay needs nothing else.
    pub scenario: Recorded,
    /// The matrix row that was run, as parameter and value; empty without a matrix.
    #[serde(default)]
    pub row: BTreeMap<String, String>,
    /// The target's name.
    pub target: String,
    /// Further facts of the target, for readers.
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
    /// The target's slowness: multiplies every limit.
    pub patience: f32,
    /// The seed of everything that was left to chance.
    #[serde(default)]
    pub seed: u64,
    /// The version of the harness.
    pub tool: String,
    /// The broker's kind and version, such as `process, mosquitto 2.0.18`.
    #[serde(default)]
    pub broker: String,
    /// When the trial began, seconds since 1970.
    pub started_unix: i64,
}

impl Header {
    /// What the device called the machine of the testbed's servers; `localhost` in traces that do not say.
    pub fn host(&self) -> &str {
        self.facts.get(crate::runner::HOST).map_or(crate::golden::OWN_HOST, String::as_str)
    }
}

/// The scenario a trace was recorded with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// `name:`.
    pub name: String,
    /// Its file, relative to where it was looked for.
    pub path: String,
    /// SHA-256 of the file's bytes, hex.
    pub sha256: String,
    /// The file, with secrets redacted.
    pub text: String,
}

/// How a trial ended, as the run judged it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The verdict.
    pub verdict: Verdict,
    /// When, in microseconds since the trial began.
    pub at_us: u64,
}

/// The line that ends a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndLine {
    /// How it ended.
    pub end: End,
}
