//! What a device's log tells: how far it came, where it stopped, what is likely wrong, and which scenario shows that.

mod cause;
mod death;

use crate::event::{Event, Source, What, printable};
use crate::invariant::{self, Breach};
use crate::scenario::Scenario;
use crate::script::{Action, Script};
use crate::trace::log::{Log, Meant};
use crate::verdict::Judgement;
use cause::{cause, stands_still};
use death::Death;
use device_core::report::Report;
use device_core::state::State;
use serde_json::json;
use std::fmt;

/// What a log tells.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    /// The state furthest on the way to a session that the device was in since its last boot; none when no line was understood.
    pub reached: Option<State>,
    /// The state it was in at the end.
    pub at_end: Option<State>,
    /// The device's id, where a line says it.
    pub device_id: Option<String>,
    /// How often it booted.
    pub boots: u32,
    /// Lines that were understood, of all.
    pub understood: (usize, usize),
    /// What it did wrong by the rules that hold always: a crash, a secret said.
    pub breaches: Vec<String>,
    /// The trouble it had not got over at the end.
    pub trouble: Option<Trouble>,
    /// Whether a line said a password; it is not shown.
    pub says_password: bool,
}

/// What is likely wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    /// The line that says so, or how long the state had lasted.
    pub line: String,
    /// What is likely wrong.
    pub likely: &'static str,
    /// The next thing to do.
    pub help: &'static str,
    /// The scenario that shows it, below the folder `scenarios`; none for what the firmware itself does wrong.
    pub scenario: Option<&'static str>,
    /// The report that says so, where one does.
    pub report: Option<Report>,
}

impl Trouble {
    /// Whether the broker said no; the connection that it then ends is no trouble of its own.
    fn is_refusal(&self) -> bool {
        matches!(self.report, Some(Report::MqttRefused { .. }))
    }
}

impl Diagnosis {
    /// Whether the device was connected at the end, and nothing was wrong with it.
    pub fn is_well(&self) -> bool {
        self.at_end == Some(State::MqttConnected) && self.trouble.is_none() && self.breaches.is_empty()
    }

    /// Whether anything in the log could be understood.
    pub fn is_understood(&self) -> bool {
        self.reached.is_some() || self.trouble.is_some() || !self.breaches.is_empty()
    }

    /// The number of the state it reached, from 1.
    fn stage(&self) -> Option<usize> {
        State::ALL.iter().position(|state| Some(*state) == self.reached).map(|place| place + 1)
    }

    /// For machines.
    pub fn json(&self) -> serde_json::Value {
        let trouble = self.trouble.as_ref().map(|trouble| {
            json!({
                "line": trouble.line, "likely": trouble.likely, "next": trouble.help,
                "scenario": trouble.scenario.map(file), "command": trouble.scenario.map(command),
                "report": trouble.report.as_ref().map(|report| report.word().name),
            })
        });
        json!({
            "version": 1, "reached": self.reached.map(State::name), "stage": self.stage(), "stages": State::ALL.len(),
            "at_end": self.at_end.map(State::name), "device_id": self.device_id, "boots": self.boots,
            "understood": self.understood.0, "lines": self.understood.1, "well": self.is_well(), "wrong": self.breaches,
            "says_password": self.says_password, "trouble": trouble,
        })
    }
}

/// A scenario's file.
fn file(scenario: &str) -> String {
    format!("scenarios/{scenario}.yaml")
}

/// The command that shows it.
fn command(scenario: &str) -> String {
    format!("harness run {}", file(scenario))
}

/// Looks at a log by the device's state machine.
pub fn diagnose(log: &Log) -> Diagnosis {
    let mut told = Diagnosis {
        reached: None,
        at_end: None,
        device_id: None,
        boots: log.boots,
        understood: (0, 0),
        breaches: Vec::new(),
        trouble: None,
        says_password: log.says_password,
    };
    let mut rules = invariant::all();
    let mut over_at: Option<State> = None;
    let mut died: Option<Death> = None;
    // The line that a meaning is of.
    let mut last = "";
    for (event, meant) in log.events.iter().zip(&log.meant) {
        for breach in rules.iter_mut().filter_map(|rule| rule.observe(event)) {
            if let Breach::Fails(text) | Breach::Dies(text) = breach
                && !told.breaches.contains(&text)
            {
                told.breaches.push(text);
            }
        }
        if matches!(event.what, What::Power(_)) {
            (told.reached, told.at_end) = (None, None);
        }
        let What::Line(line) = &event.what else { continue };
        if meant.is_none() {
            last = line;
            told.understood.1 += 1;
            if let Some(death) = Death::in_line(line)
                && died.is_none_or(|earlier| death.tells_more_than(earlier))
            {
                told.trouble = Some(death.trouble(line));
                over_at = None;
                died = Some(death);
            }
        }
        let Some((said, report)) = Report::from_line(line) else { continue };
        told.understood.0 += 1;
        if let Report::CredentialsSaved { device_id: id } | Report::MqttConnecting { client_id: id, .. } = &report
            && meant.is_none()
        {
            told.device_id = Some(id.clone());
        }
        if let Some(state) = state_of(&report) {
            told.at_end = Some(state);
            told.reached = told.reached.max(Some(state));
            if over_at.is_some_and(|over| state > over) || (state == State::MqttConnected && died.is_some_and(Death::may_pass)) {
                (told.trouble, over_at, died) = (None, None, None);
            }
        }
        let follows = *meant == Some(Meant::Follows) && told.trouble.is_some();
        if let Some((likely, help, scenario, over)) = cause(&report)
            && died.is_none()
            && !follows
            // A follow-up of the same trouble says less than its first line.
            && !matches!(report, Report::EnrollmentFailed { ref why } if why.starts_with("certificate refused"))
            && !(matches!(report, Report::MqttDisconnected { .. }) && told.trouble.as_ref().is_some_and(Trouble::is_refusal))
        {
            let line = if meant.is_some() { last.trim() } else { said.text };
            let line = printable(line).into_owned();
            told.trouble = Some(Trouble { line, likely, help, scenario: Some(scenario), report: Some(report) });
            over_at = Some(over);
        }
    }
    if told.trouble.is_none() {
        told.trouble = told.at_end.and_then(stands_still);
    }
    told
}

/// The state that a line proves.
fn state_of(report: &Report) -> Option<State> {
    Some(match report {
        Report::State { to, .. } => *to,
        Report::Status { state, .. } => *state,
        Report::Booting { .. } => State::Init,
        Report::ApStarted { .. } => State::ApMode,
        Report::WifiConnecting { .. } => State::WifiConnecting,
        Report::WifiConnected { .. } => State::WifiConnected,
        Report::CsrSubmitted { .. } => State::SubmitCsr,
        Report::MqttConnecting { .. } | Report::MqttConnectFailed { .. } | Report::MqttRefused { .. } => State::MqttConnecting,
        Report::MqttConnected { .. } => State::MqttConnected,
        Report::WifiFailed { .. } => State::WifiConnecting,
        _ => return None,
    })
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (understood, lines) = self.understood;
        match (self.reached, self.stage()) {
            (Some(reached), Some(stage)) => {
                writeln!(f, "reached {reached} (stage {stage} of {}); {understood} of {lines} lines understood", State::ALL.len())?;
            }
            _ if self.is_understood() => writeln!(f, "no stage seen; {understood} of {lines} lines understood")?,
            _ => {
                writeln!(f, "nothing understood: none of {lines} lines is of a vocabulary that is known")?;
                return writeln!(f, "  next: write down what its lines mean: harness init writes a vocabulary.yaml to begin with");
            }
        }
        if let Some(end) = self.at_end.filter(|end| Some(*end) != self.reached) {
            writeln!(f, "  at the end: {end}")?;
        }
        if self.boots > 1 {
            writeln!(f, "  booted {} times", self.boots)?;
        }
        for breach in &self.breaches {
            writeln!(f, "  wrong: {breach}")?;
        }
        if self.says_password {
            writeln!(f, "  odd: its log says a password, for everybody to read (shown here as ***)")?;
        }
        let Some(Trouble { line, likely, help, scenario, report: _ }) = &self.trouble else {
            return writeln!(f, "  no trouble that was not got over");
        };
        writeln!(f, "  stopped at: {line}\n  likely: {likely}\n  next: {help}")?;
        match scenario {
            Some(scenario) => writeln!(f, "  shown by: {}", command(scenario)),
            None => Ok(()),
        }
    }
}

/// Judges a log by a scenario: what it does is taken as done, and what it expects of other sources than the console is left out, as the
/// second part says, by line of the file. A log that ends before the scenario does is inconclusive.
pub fn judge(log: &Log, mut scenario: Scenario) -> (Judgement, Vec<usize>) {
    let mut left_out = Vec::new();
    for step in &mut scenario.steps {
        let elsewhere = step.watch.as_ref().is_some_and(|make| (make.0)().reads() != [Source::Device]);
        if elsewhere {
            left_out.push(step.line);
            step.watch = None;
        }
        step.snapshot = None;
    }
    scenario.steps.retain(|step| step.act.is_some() || step.watch.is_some());
    let mut script = Script::new(&scenario, 1.0);
    let mut events = log.events.iter();
    let mut at_us = 0;
    while !script.finished() {
        if let Some(Action::Begin { step }) = script.poll() {
            script.handle(&Event { at_us, from: Source::Runner, what: What::StepBegan { step } });
            if scenario.steps.get(step).is_some_and(|step| step.act.is_some()) {
                script.handle(&Event { at_us, from: Source::Runner, what: What::Acted { step } });
            }
            continue;
        }
        let Some(event) = events.next() else { break };
        at_us = event.at_us;
        script.handle(event);
    }
    (script.judgement(), left_out)
}
