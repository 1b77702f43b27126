//! A scenario, checked: what is to be done, in which surroundings, and what must be seen.
//!
//! Text to scenario, one direction: `yaml` (text to nodes that know their place) → `matrix` (one document for each row) → `check`
//! (nodes to types through `typed`, `header` and `step`) → [`Scenario`]. Mistakes on the way are [`problem::Problem`]s; `load` shows
//! them together.

mod check;
pub mod header;
mod load;
pub mod manual;
pub mod problem;
pub mod schema;
pub mod typed;
pub mod value;
pub(crate) mod wokwi;
pub mod yaml;
mod yaml_1_1;

pub(crate) use load::bytes;
pub use load::{File, FindError, find, load, read};
pub use manual::manual;
pub use problem::Diagnostics;

use crate::step::{Act, Watch};
use crate::trace::format::Recorded;
use header::{BrokerSpec, CaSpec, Capability, ClockMode, DeviceSpec, Network, TimeSpec};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The limit of a trial whose scenario names none, in device time.
pub const WITHIN_DEFAULT: Duration = Duration::from_secs(120);

/// Whose file it is, which decides what a step reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// A step of this harness is in it: what is said from the beginning of a step that acts is read.
    #[default]
    Own,
    /// Only Wokwi's steps are in it. There the simulation stands still between steps: nothing is passed over by writing, and a `delay`
    /// passes over all that is said meanwhile. Power is on from the start, and `${…}` is a text like any other unless there is a matrix.
    Wokwi,
}

/// The shortest secret of a scenario, in bytes.
const SECRET_MIN: usize = 8;

/// Makes a fresh watch for each trial.
pub struct MakeWatch(pub Box<dyn Fn() -> Box<dyn Watch> + Send + Sync>);

impl fmt::Debug for MakeWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&(self.0)().describe())
    }
}

/// One row of a scenario file, loaded and checked.
#[derive(Debug)]
pub struct Scenario {
    /// `name:`.
    pub name: String,
    /// The file it came from, relative to where it was looked for.
    pub path: PathBuf,
    /// SHA-256 of the file's bytes, hex.
    pub sha256: String,
    /// The row of the matrix, such as `mqtt=v5,tls=1.3`; empty without a matrix.
    pub row: String,
    /// Whose file it is.
    pub dialect: Dialect,
    /// `device:`.
    pub device: DeviceSpec,
    /// `broker:`. `exclusive` is set where a step switches it or an expectation reads its log.
    pub broker: BrokerSpec,
    /// `ca:`.
    pub ca: CaSpec,
    /// `time:`.
    pub time: TimeSpec,
    /// `air:`, or the one network that is there when nothing is said.
    pub air: Vec<Network>,
    /// `clock:`.
    pub clock: ClockMode,
    /// `targets:`; none: every target.
    pub targets: Option<Vec<String>>,
    /// What the target must be able to do: the file's `needs` and those of its steps, sorted.
    pub needs: Vec<Capability>,
    /// The steps, in order.
    pub steps: Vec<StepAt>,
    /// `never:` and `fail-on:`: expectations that no event of the whole trial may meet.
    pub never: Vec<Never>,
    /// `within:`: the limit of the whole trial, device time.
    pub within: Duration,
    origin: Arc<check::Origin>,
}

impl Scenario {
    /// What its trials are called: the file without its ending, as it lies below the folder `scenarios` (or with its folder's name
    /// alone), and the row: `happy/mutual-tls[mqtt=v5,tls=1.3]`.
    pub fn trial_name(&self) -> String {
        let path = self.path.with_extension("");
        let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
        let below = match parts.iter().rposition(|part| part == "scenarios") {
            Some(at) if at + 1 < parts.len() => at + 1,
            _ => parts.len().saturating_sub(2),
        };
        let name = parts[below..].join("/");
        if self.row.is_empty() { name } else { format!("{name}[{}]", self.row) }
    }

    /// The row of the matrix, as parameter and value.
    pub fn row_values(&self) -> BTreeMap<String, String> {
        let pairs = self.row.split(',').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// What a trace keeps of it.
    pub fn recorded(&self) -> Recorded {
        Recorded {
            name: self.name.clone(),
            path: self.path.to_string_lossy().into_owned(),
            sha256: self.sha256.clone(),
            text: self.origin.text().to_owned(),
        }
    }

    /// What the file holds, in any row, that must not be seen: a label and the secret. A word of under eight bytes is none: no password
    /// or token that works is shorter.
    pub fn secrets(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.origin.secrets().iter().map(|(label, secret)| (*label, secret.as_str()))
    }

    fn own_secrets(&self) -> Vec<(&'static str, String)> {
        let mut secrets: Vec<_> = self.air.iter().map(|network| ("wifi-password", network.password.clone())).collect();
        secrets.extend(self.broker.users.values().map(|word| ("mqtt-password", word.0.clone())));
        let settings = self.device.settings.iter().filter(|(name, _)| device_core::config::setting(name).is_some_and(|s| s.secret));
        secrets.extend(settings.map(|(_, value)| ("setting", value.0.clone())));
        secrets.extend(self.steps.iter().filter_map(|step| step.act.as_ref()).flat_map(|act| act.secrets()));
        secrets.retain(|(_, secret)| secret.len() >= SECRET_MIN);
        secrets
    }

    /// Whether a step starts, stops or kills the broker.
    pub fn switches_broker(&self) -> bool {
        self.steps.iter().any(|step| step.verb == "broker")
    }

    /// The same scenario for this device: its id stands wherever the file says `${device}`.
    ///
    /// # Errors
    /// When the id makes a mistake of the file, which an id of 1–64 of `A-Za-z0-9_-` does not.
    pub fn for_device(&self, device_id: &str) -> Result<Scenario, Diagnostics> {
        self.origin.scenario(device_id)
    }
}

/// A step and where it stands in the file.
#[derive(Debug)]
pub struct StepAt {
    /// The step's own `name:`, if it has one.
    pub name: Option<String>,
    /// Its verb, such as `wait-for`.
    pub verb: &'static str,
    /// Line in the file, from 1.
    pub line: usize,
    /// Column in the file, from 1.
    pub column: usize,
    /// What it does.
    pub act: Option<Box<dyn Act>>,
    /// What it expects; made anew for each trial.
    pub watch: Option<MakeWatch>,
    /// `snapshot:` steps: the golden's name.
    pub snapshot: Option<String>,
}

/// What must never be seen.
#[derive(Debug)]
pub struct Never {
    /// Line in the file, from 1.
    pub line: usize,
    /// The expectation; meeting it fails the trial.
    pub watch: MakeWatch,
}
