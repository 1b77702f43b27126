//! Scenarios built by hand, and a runner that needs no testbed.

#![allow(dead_code, reason = "no test file uses all of it")]

use harness::event::{Event, Source, What};
use harness::scenario::{MakeWatch, Never, Scenario, StepAt};
use harness::script::{Action, Script};
use harness::step::{Act, Progress, Watch};
use harness::testbed::{ActError, Testbed};
use harness::verdict::Judgement;
use std::path::Path;
use std::time::Duration;

/// What it means that the time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUp {
    /// What was waited for did not come.
    TooLate,
    /// What must not come did not.
    Good,
}

/// Waits for a line that contains a text.
#[derive(Clone, Debug)]
pub struct Says {
    pub from: Vec<Source>,
    pub text: &'static str,
    pub within: Duration,
    pub time_up: TimeUp,
}

impl Watch for Says {
    fn reads(&self) -> &[Source] {
        &self.from
    }
    fn observe(&mut self, event: &Event) -> Progress {
        match (&event.what, self.time_up) {
            (What::Line(line), TimeUp::TooLate) if line.contains(self.text) => Progress::Met,
            (What::Line(line), TimeUp::Good) if line.contains(self.text) => Progress::Failed(format!("{} came", self.text)),
            _ => Progress::Waiting,
        }
    }
    fn within(&self) -> Duration {
        self.within
    }
    fn time_up(&mut self) -> Progress {
        match self.time_up {
            TimeUp::TooLate => Progress::Waiting,
            TimeUp::Good => Progress::Met,
        }
    }
    fn describe(&self) -> String {
        format!("a line with {}", self.text)
    }
}

#[derive(Debug)]
struct Nothing;

#[async_trait::async_trait]
impl Act for Nothing {
    async fn act(&self, _: &mut Testbed) -> Result<(), ActError> {
        Ok(())
    }
}

fn step(verb: &'static str, watch: Option<Says>) -> StepAt {
    let watch = watch.map(|says| MakeWatch(Box::new(move || Box::new(says.clone()))));
    StepAt { name: None, verb, line: 1, column: 1, act: None, watch, snapshot: None }
}

/// A step that waits 10 s.
pub fn wait(from: Source, text: &'static str) -> StepAt {
    step("wait-for", Some(Says { from: vec![from], text, within: Duration::from_secs(10), time_up: TimeUp::TooLate }))
}

/// A step during which, for a second, a line must not come.
pub fn none(from: Source, text: &'static str) -> StepAt {
    step("expect-none", Some(Says { from: vec![from], text, within: Duration::from_secs(1), time_up: TimeUp::Good }))
}

/// A step that acts.
pub fn act() -> StepAt {
    StepAt { act: Some(Box::new(Nothing)), ..step("power-on", None) }
}

/// A step that acts and waits for what comes of it.
pub fn act_and_wait(from: Source, text: &'static str) -> StepAt {
    StepAt { act: Some(Box::new(Nothing)), ..wait(from, text) }
}

/// A step that compares the story.
pub fn snapshot(name: &str) -> StepAt {
    StepAt { snapshot: Some(name.into()), ..step("snapshot", None) }
}

/// A scenario of these steps, which is the file's in everything else.
pub fn scenario(steps: Vec<StepAt>) -> Scenario {
    const FILE: &[u8] = b"name: by hand\nversion: 1\nwithin: 60s\nsteps:\n  - power-on: {}\n";
    let file = harness::scenario::read(Path::new("by-hand.yaml"), FILE).expect("a scenario");
    let mut scenario = file.into_iter().next().expect("a row");
    scenario.steps = steps;
    scenario
}

/// The scenario, in which this must never be said on the device's console.
pub fn never(mut scenario: Scenario, text: &'static str) -> Scenario {
    let says = Says { from: vec![Source::Device], text, within: Duration::ZERO, time_up: TimeUp::TooLate };
    scenario.never.push(Never { line: 2, watch: MakeWatch(Box::new(move || Box::new(says.clone()))) });
    scenario
}

/// A line.
pub fn line(at_us: u64, from: Source, text: &str) -> Event {
    Event { at_us, from, what: What::Line(text.into()) }
}

/// Runs the scenario as the runner does, in a world that says these events. Every act ends a microsecond after it began. Returns the
/// tape and the judgement.
pub fn drive(scenario: &Scenario, world: &[Event]) -> (Vec<Event>, Judgement) {
    let mut script = Script::new(scenario, 1.0);
    let mut tape: Vec<Event> = Vec::new();
    let mut now = 0;
    let mut world = world.iter().peekable();
    while !script.finished() {
        let mut say = |at_us: u64, from, what, script: &mut Script<'_>| {
            now = at_us.max(now);
            tape.push(Event { at_us: now, from, what });
            script.handle(&tape[tape.len() - 1]);
            now
        };
        if let Some(Action::Begin { step }) = script.poll() {
            let at_us = say(0, Source::Runner, What::StepBegan { step }, &mut script);
            if scenario.steps[step].act.is_some() {
                say(at_us + 1, Source::Runner, What::Acted { step }, &mut script);
            }
            continue;
        }
        let deadline = script.deadline().expect("a script that is not finished has a deadline");
        match world.peek() {
            Some(event) if event.at_us < deadline => {
                say(event.at_us, event.from, event.what.clone(), &mut script);
                world.next();
            }
            _ => {
                say(deadline, Source::Runner, What::DeadlinePassed, &mut script);
            }
        }
    }
    (tape, script.judgement())
}
