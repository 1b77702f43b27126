//! A scenario as a machine: fed events, drained of actions; it has no clock, no socket and no thread.
//!
//! It is the same machine in a run and in a replay. Nothing but events changes its judgement, so the two cannot disagree.
//!
//! # What a step reads
//!
//! Each source has a reader: a position on the tape. Beginning a step that acts moves all readers to that moment; a watch that is met
//! moves the readers of the sources it reads to just past the event that met it, and no others. So a line said while a step acted is
//! not lost, a stale line cannot satisfy a later step, and how the sources interleave does not matter. Time that passes meets some
//! watches too (`delay`, `expect-none`); it moves no reader.
//!
//! A watch of bytes (`wait-serial`) can be met within a line; what is left of the line is for the next watch of bytes, as long as nothing
//! else has moved the reader of the console. In a file of Wokwi's steps alone ([`Dialect::Wokwi`]) no act moves a reader and a `delay`
//! moves the console's, since there the simulation stands still between steps.
//!
//! # Time
//!
//! Limits are device time: the wall clock plus every jump the device reports (`clock-jumped`). A jump that a step orders does not count
//! against the limit of the trial. An event that is stamped later than a
//! limit is proof that the limit passed, and `DeadlinePassed` is only the event that says so when nobody else speaks.

use crate::event::{Ended, Event, Power, Source, What};
use crate::golden::{OWN_HOST, Reach, Story};
use crate::invariant::{self, Breach, Invariant};
use crate::scenario::{Dialect, Scenario};
use crate::step::{Progress, Watch};
use crate::verdict::{Finding, Judgement, Place, SHOWN_MAX, Shown, Verdict, WARNINGS_MAX, lasting};
use device_core::report::Report;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a step may act, wall clock, before patience is multiplied in. Every wait inside an act is bounded by less; this ends a hang.
pub const ACT_MAX: Duration = Duration::from_secs(120);
/// How long a trial may take, wall clock, before patience is multiplied in, however much device time it was given.
pub const TRIAL_WALL_MAX: Duration = Duration::from_secs(600);
/// How long a device that dies, or whose testbed could not act, is listened to: it may say where, or that it was the reason.
pub const LAST_WORDS: Duration = Duration::from_millis(250);
/// Events of one trial at most.
pub const EVENTS_MAX: usize = 200_000;
/// Bounds of patience: a slower target than this does not exist, a faster one needs no limits.
const PATIENCE: std::ops::RangeInclusive<f32> = 0.01..=1_000.0;
/// What came instead of what was waited for: this many are told.
const NEAR_MAX: usize = 3;

/// What the script wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To begin this step: say `StepBegan`; then, if the step has an act, do it and say `Acted` or `ActFailed`.
    Begin {
        /// Which, from 0.
        step: usize,
    },
}

/// A scenario being judged.
#[derive(Debug)]
pub struct Script<'s> {
    scenario: &'s Scenario,
    patience: f32,
    host: String,
    events: Vec<Event>,
    /// By source: what has been read.
    readers: [usize; Source::ALL.len()],
    /// What a watch of bytes left of a line, and the position of the console's reader that it belongs to.
    left: Option<(usize, String)>,
    /// What has been said of a console line that has not ended.
    open: String,
    /// Lines of which a beginning was said before, as position on the tape and bytes said.
    begun: BTreeMap<usize, usize>,
    /// By source: what has been waited for; acts do not move it.
    reach: Reach,
    /// Jumps of the device clock so far, in microseconds.
    jumped_us: u64,
    /// The part of them that came while a step acted, or waited for what came of it: its own doing.
    ordered_us: u64,
    stage: Stage,
    nevers: Vec<Option<Box<dyn Watch>>>,
    invariants: Vec<Box<dyn Invariant>>,
    snapshots: Vec<(usize, Reach)>,
    warnings: Vec<Finding>,
    asked: Option<usize>,
    /// The first gap on the tape, as a finding.
    gap: Option<Finding>,
    /// The trial failed for something that was not seen, or seen wrong.
    missed: bool,
}

#[derive(Debug)]
enum Stage {
    /// This step is to begin.
    Ready(usize),
    /// This step is under way.
    Busy(Busy),
    /// The testbed could not act, and the device may still turn out to be the reason; or the device dies, and may still say where.
    LastWords { until_us: u64, verdict: Verdict, finding: Finding },
    /// The trial is over.
    Over { verdict: Verdict, findings: Vec<Finding> },
}

#[derive(Debug)]
struct Busy {
    step: usize,
    began_us: u64,
    acting: bool,
    watch: Option<Watching>,
}

#[derive(Debug)]
struct Watching {
    watch: Box<dyn Watch>,
    /// The next event to look at.
    next: usize,
    /// When it ends, in device time; unknown while the step acts.
    until_us: Option<u64>,
}

/// What ends first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    Watch,
    Act,
    Trial,
    Wall,
    LastWords,
}

impl<'s> Script<'s> {
    /// A script at its beginning. `patience` multiplies every limit (bounded to 0.01–1000; what is no number counts as 1).
    pub fn new(scenario: &'s Scenario, patience: f32) -> Script<'s> {
        let patience = if patience.is_nan() { 1.0 } else { patience.clamp(*PATIENCE.start(), *PATIENCE.end()) };
        let mut script = Script {
            scenario,
            patience,
            host: OWN_HOST.to_owned(),
            events: Vec::new(),
            readers: [0; Source::ALL.len()],
            left: None,
            open: String::new(),
            begun: BTreeMap::new(),
            reach: Reach::default(),
            jumped_us: 0,
            ordered_us: 0,
            stage: Stage::Ready(0),
            nevers: scenario.never.iter().map(|never| Some((never.watch.0)())).collect(),
            invariants: invariant::all(),
            snapshots: Vec::new(),
            warnings: Vec::new(),
            asked: None,
            gap: None,
            missed: false,
        };
        script.ready(0);
        script
    }

    /// The same script, for a device that calls the machine of its servers so; unset: localhost.
    pub fn host(self, name: &str) -> Script<'s> {
        Script { host: name.to_owned(), ..self }
    }

    /// Takes the next event of the tape.
    pub fn handle(&mut self, event: &Event) {
        self.pass_time(event.at_us);
        if self.finished() {
            return self.excuse(event);
        }
        if self.events.len() >= EVENTS_MAX {
            let finding = Finding::new(format!("the tape is full: more than {EVENTS_MAX} events"));
            return self.give_up(finding.help("find out which source talks so much; `last` shows the end of the tape"));
        }
        self.note_pieces(event);
        self.events.push(event.clone());
        let acts = self.step().and_then(|step| self.scenario.steps.get(step)).is_some_and(|step| step.act.is_some());
        let by_act = acts && matches!(self.stage, Stage::Busy(_));
        let dead = self.is_dead();
        if dead && !matches!(event.what, What::Ended(Ended::Crashed { .. })) {
            return;
        }
        if !dead {
            self.check_rules(event);
        }
        if !self.finished() {
            self.follow(event);
            self.watch();
        }
        if let What::Line(line) = &event.what
            && event.from == Source::Device
            && let Some((_, Report::ClockJumped { ms })) = Report::from_line(line)
        {
            let us = ms.saturating_mul(1_000);
            self.jumped_us = self.jumped_us.saturating_add(us);
            if by_act {
                self.ordered_us = self.ordered_us.saturating_add(us);
            }
        }
    }

    /// What is to be done now. Says each action once.
    pub fn poll(&mut self) -> Option<Action> {
        match self.stage {
            Stage::Ready(step) if self.asked != Some(step) => {
                self.asked = Some(step);
                Some(Action::Begin { step })
            }
            _ => None,
        }
    }

    /// When `DeadlinePassed` is to be said, in microseconds of wall clock since the trial began; it may lie in the past. None when the
    /// trial is over.
    pub fn deadline(&self) -> Option<u64> {
        self.limit().map(|(at_us, _)| at_us)
    }

    /// A device cannot be blamed for what it did on a testbed that turns out to have broken: the end of a broker, say, is seen by the
    /// device and by the testbed at the same moment, and either may be heard first.
    fn excuse(&mut self, event: &Event) {
        let finding = match &event.what {
            What::Broke { why } => Finding::new(format!("the testbed broke: {why}")).when(event.at_us),
            What::Gap { why } if self.missed => gap(why, event.at_us),
            _ => return,
        };
        if let Stage::Over { verdict: verdict @ Verdict::Fail, findings } = &mut self.stage {
            *verdict = Verdict::Inconclusive;
            let mut finding = finding;
            finding.place = findings.first().and_then(|finding| finding.place.clone());
            findings.insert(0, finding);
        }
    }

    /// Whether the trial is over. Later events change nothing, except that a testbed that broke, or lost a part of what was said, excuses
    /// a device that failed.
    pub fn finished(&self) -> bool {
        matches!(self.stage, Stage::Over { .. })
    }

    /// The verdict so far; final once [`finished`](Script::finished). A tape that ends before its scenario does is inconclusive.
    pub fn judgement(&self) -> Judgement {
        let (verdict, findings) = match &self.stage {
            Stage::Over { verdict, findings } => (*verdict, findings.clone()),
            Stage::LastWords { verdict, finding, .. } => (*verdict, vec![finding.clone()]),
            Stage::Ready(step) | Stage::Busy(Busy { step, .. }) => {
                let mut finding = Finding::new("the tape ends before the scenario does").at(self.place(*step));
                finding.at_us = self.events.last().map(|event| event.at_us);
                finding.last = self.last(&Source::ALL, 0);
                (Verdict::Inconclusive, vec![finding.help("run it again: the rest of the trial was not recorded")])
            }
        };
        let verdict = if verdict == Verdict::Pass && !self.warnings.is_empty() { Verdict::PassWithWarnings } else { verdict };
        Judgement { verdict, findings, warnings: self.warnings.clone() }
    }

    /// The stories to compare with goldens, one for each `snapshot` step that was reached; none where a part of them is lost.
    pub fn stories(&self) -> Vec<Story> {
        if self.gap.is_some() {
            return Vec::new();
        }
        let of = |(step, reach): &(usize, Reach)| {
            let name = self.scenario.steps.get(*step)?.snapshot.clone()?;
            Some(Story::new(name, self.place(*step), &self.events, reach, &self.host))
        };
        self.snapshots.iter().filter_map(of).collect()
    }

    /// By source, how far it has waited.
    pub(crate) fn reach(&self) -> Reach {
        self.reach
    }

    /// What has been heard so far, oldest first.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The rules that hold in every scenario come first, so that a secret (which the tape only has in redacted form) ends the trial
    /// before a pattern that names it could tell a run from its replay.
    fn check_rules(&mut self, event: &Event) {
        let breaches: Vec<Breach> = self.invariants.iter_mut().filter_map(|rule| rule.observe(event)).collect();
        for breach in breaches {
            let (Breach::Fails(text) | Breach::Dies(text) | Breach::Warns(text)) = &breach;
            let mut finding = Finding::new(text).when(event.at_us);
            finding.place = self.step().map(|step| self.place(step));
            finding.last = self.last(&[event.from], 0);
            match breach {
                Breach::Fails(_) => self.fail(finding),
                Breach::Dies(_) => self.listen(Verdict::Fail, event.at_us, finding),
                Breach::Warns(_) => self.warn(finding),
            }
        }
        for (index, slot) in self.nevers.iter_mut().enumerate() {
            let Some(never) = slot.as_mut().filter(|never| never.reads().contains(&event.from)) else { continue };
            let progress = never.observe(event);
            if progress == Progress::Waiting || matches!(self.stage, Stage::Over { .. }) {
                continue;
            }
            let mut text = format!("never to be seen, but was: {}", never.describe());
            if let Progress::Failed(why) = progress {
                text = format!("{text}: {why}");
            }
            *slot = None;
            let line = self.scenario.never[index].line;
            let place = Place { file: self.scenario.path.clone(), line, step: None, name: "never".into() };
            let mut finding = Finding::new(text).at(place).when(event.at_us);
            finding.last = last(&self.events, &[event.from], 0);
            self.stage = Stage::Over { verdict: Verdict::Fail, findings: vec![finding] };
        }
    }

    fn follow(&mut self, event: &Event) {
        match &event.what {
            What::StepBegan { step } => match self.stage {
                Stage::Ready(next) if next == *step => self.begin(next, event.at_us),
                _ => self.warn(Finding::new(format!("step {} began out of turn", step + 1)).when(event.at_us)),
            },
            What::Acted { step } => match &mut self.stage {
                Stage::Busy(busy) if busy.acting && busy.step == *step => {
                    busy.acting = false;
                    let from_us = event.at_us.saturating_add(self.jumped_us);
                    if let Some(watching) = &mut busy.watch {
                        watching.until_us = Some(from_us.saturating_add(limit_us(watching.watch.within(), self.patience)));
                    }
                    // What the act itself said is complete, whatever else went on meanwhile.
                    self.reach.advance(Source::Http, self.events.len());
                    self.end_step_if_done();
                }
                _ => self.warn(Finding::new(format!("step {} acted out of turn", step + 1)).when(event.at_us)),
            },
            What::ActFailed { step, why } => {
                let mut finding = Finding::new(format!("the testbed could not act: {why}")).at(self.place(*step)).when(event.at_us);
                finding.last = self.last(&Source::ALL, 0);
                self.listen(Verdict::Inconclusive, event.at_us, finding);
            }
            What::Ended(Ended::Crashed { why, backtrace }) => {
                let mut finding = Finding::new(format!("the device crashed: {why}")).when(event.at_us);
                finding.place = self.step().map(|step| self.place(step));
                finding.near = backtrace.clone();
                finding.last = self.last(&[Source::Device], 0);
                self.fail(finding);
            }
            What::Ended(Ended::Lost { why }) => {
                self.give_up(
                    Finding::new(format!("the device was lost: {why}"))
                        .when(event.at_us)
                        .help("look at the target, not at the device"),
                );
            }
            What::Broke { why } => self.give_up(Finding::new(format!("the testbed broke: {why}")).when(event.at_us)),
            What::Gap { why } if self.gap.is_none() => {
                let finding = gap(why, event.at_us);
                self.warn(finding.clone());
                self.gap = Some(finding);
            }
            What::Interrupted => self.give_up(Finding::new("interrupted from outside").when(event.at_us)),
            _ => {}
        }
    }

    fn begin(&mut self, step: usize, at_us: u64) {
        let scenario = self.scenario;
        let Some(it) = scenario.steps.get(step) else { return };
        if it.act.is_some() && scenario.dialect == Dialect::Own {
            self.readers = [self.events.len(); Source::ALL.len()];
        }
        if it.snapshot.is_some() {
            self.snapshots.push((step, self.reach));
        }
        let watch = it.watch.as_ref().map(|make| {
            let watch = (make.0)();
            let from_us = at_us.saturating_add(self.jumped_us);
            let until_us = it.act.is_none().then(|| from_us.saturating_add(limit_us(watch.within(), self.patience)));
            let next = watch.reads().iter().map(|source| self.readers[*source as usize]).min().unwrap_or(self.events.len());
            Watching { watch, next, until_us }
        });
        self.stage = Stage::Busy(Busy { step, began_us: at_us, acting: it.act.is_some(), watch });
        self.show_left(at_us);
        self.end_step_if_done();
    }

    /// Shows a watch of bytes what the one before it left of a line.
    fn show_left(&mut self, at_us: u64) {
        let Stage::Busy(busy) = &mut self.stage else { return };
        let Some(watching) = busy.watch.as_mut().filter(|watching| watching.watch.reads_bytes()) else { return };
        let Some((at, text)) = self.left.take().filter(|(at, _)| *at == self.readers[Source::Device as usize]) else { return };
        match watching.watch.observe(&Event { at_us, from: Source::Device, what: What::Partial(text) }) {
            Progress::Waiting => {}
            Progress::Met => busy.watch = None,
            Progress::MetLeaving(rest) => {
                self.left = Some((at, rest));
                busy.watch = None;
            }
            Progress::Failed(why) => self.watch_failed(why, at_us),
        }
    }

    /// Keeps in mind which lines of the console come in pieces: first what has been said of them, in the end the whole line.
    fn note_pieces(&mut self, event: &Event) {
        match &event.what {
            What::Partial(text) if event.from == Source::Device => self.open.push_str(text),
            What::Line(line) if event.from == Source::Device && !self.open.is_empty() => {
                if line.starts_with(&self.open) {
                    self.begun.insert(self.events.len(), self.open.len());
                }
                self.open.clear();
            }
            What::Power(Power::On) => self.open.clear(),
            _ => {}
        }
    }

    /// Shows the current watch what it has not seen.
    fn watch(&mut self) {
        let Stage::Busy(Busy { watch: Some(watching), .. }) = &mut self.stage else { return };
        while let Some(event) = self.events.get(watching.next) {
            watching.next += 1;
            if !watching.watch.reads().contains(&event.from) || watching.next <= self.readers[event.from as usize] {
                continue;
            }
            let mut event = Cow::Borrowed(event);
            if watching.watch.reads_bytes()
                && let (What::Line(line), Some(said)) = (&event.what, self.begun.get(&(watching.next - 1)))
            {
                let rest = What::Line(line.get(*said..).unwrap_or_default().to_owned());
                event = Cow::Owned(Event { at_us: event.at_us, from: event.from, what: rest });
            }
            match watching.watch.observe(&event) {
                Progress::Waiting => {}
                met @ (Progress::Met | Progress::MetLeaving(_)) => {
                    for source in watching.watch.reads() {
                        let reader = &mut self.readers[*source as usize];
                        *reader = watching.next.max(*reader);
                    }
                    self.reach.advance(event.from, watching.next);
                    if let Progress::MetLeaving(rest) = met {
                        self.left = Some((self.readers[Source::Device as usize], rest));
                    }
                    return self.watch_is_met();
                }
                Progress::Failed(why) => {
                    let at_us = event.at_us;
                    return self.watch_failed(why, at_us);
                }
            }
        }
    }

    /// In a file of Wokwi's, what was said during a delay is not read any more.
    fn pass_over_delay(&mut self) {
        let delays = self.step().and_then(|step| self.scenario.steps.get(step)).is_some_and(|step| step.verb == "delay");
        if delays && self.scenario.dialect == Dialect::Wokwi {
            self.readers[Source::Device as usize] = self.events.len();
        }
    }

    fn watch_is_met(&mut self) {
        if let Stage::Busy(busy) = &mut self.stage {
            busy.watch = None;
        }
        self.end_step_if_done();
    }

    fn watch_failed(&mut self, why: String, at_us: u64) {
        let Stage::Busy(Busy { step, watch: Some(watching), .. }) = &self.stage else { return };
        let from = watching.watch.reads().iter().map(|source| self.readers[*source as usize]).min().unwrap_or(0);
        let mut finding = Finding::new(why).at(self.place(*step)).when(at_us);
        finding.near = near(&self.events, watching.watch.reads(), from);
        finding.last = self.last(watching.watch.reads(), 0);
        self.miss(finding);
    }

    fn end_step_if_done(&mut self) {
        if let Stage::Busy(Busy { step, acting: false, watch: None, .. }) = self.stage {
            self.ready(step + 1);
        }
    }

    fn ready(&mut self, step: usize) {
        self.stage = if step < self.scenario.steps.len() {
            Stage::Ready(step)
        } else {
            Stage::Over { verdict: Verdict::Pass, findings: vec![] }
        };
    }

    /// Lets every limit pass that lies at or before this moment.
    fn pass_time(&mut self, now_us: u64) {
        while let Some((at_us, limit)) = self.limit().filter(|(at_us, _)| *at_us <= now_us) {
            match (limit, &mut self.stage) {
                (Limit::Watch, Stage::Busy(Busy { watch: Some(watching), .. })) => match watching.watch.time_up() {
                    Progress::Met | Progress::MetLeaving(_) => {
                        self.pass_over_delay();
                        self.watch_is_met();
                    }
                    Progress::Failed(why) => self.watch_failed(why, at_us),
                    Progress::Waiting => {
                        let waited = lasting(patient(watching.watch.within(), self.patience));
                        let what = watching.watch.describe();
                        self.watch_failed(format!("waited {waited} for {what}"), at_us);
                    }
                },
                (Limit::LastWords, Stage::LastWords { verdict, finding, .. }) => {
                    let (verdict, finding) = (*verdict, finding.clone());
                    self.end(verdict, finding);
                }
                (Limit::Trial, _) => {
                    let within = lasting(patient(self.scenario.within, self.patience));
                    let mut finding = Finding::new(format!("the trial took longer than its limit, {within}")).when(at_us);
                    finding.place = self.step().map(|step| self.place(step));
                    finding.last = self.last(&Source::ALL, 0);
                    let acting = matches!(self.stage, Stage::Busy(Busy { acting: true, .. }) | Stage::Ready(_));
                    finding.help = Some("raise `within:` at the top of the scenario, or find out what takes so long".into());
                    if acting { self.give_up(finding) } else { self.miss(finding) }
                }
                (Limit::Act | Limit::Wall, _) => {
                    let what = if limit == Limit::Act { "the step did not end its act" } else { "the trial did not end" };
                    let max = if limit == Limit::Act { ACT_MAX } else { TRIAL_WALL_MAX };
                    let max = lasting(patient(max, self.patience));
                    self.give_up(Finding::new(format!("{what} within {max} of wall clock")).when(at_us));
                }
                (Limit::Watch | Limit::LastWords, _) => return,
            }
        }
    }

    /// The limit that passes first, on the wall clock.
    fn limit(&self) -> Option<(u64, Limit)> {
        let wall = |device_us: u64| device_us.saturating_sub(self.jumped_us);
        let own = match &self.stage {
            Stage::Over { .. } => return None,
            Stage::Ready(_) => None,
            Stage::LastWords { until_us, .. } => return Some((*until_us, Limit::LastWords)),
            Stage::Busy(Busy { acting: true, began_us, .. }) => {
                Some((began_us.saturating_add(limit_us(ACT_MAX, self.patience)), Limit::Act))
            }
            Stage::Busy(Busy { watch, .. }) => {
                watch.as_ref().and_then(|watching| watching.until_us).map(|until_us| (wall(until_us), Limit::Watch))
            }
        };
        let within_us = limit_us(self.scenario.within, self.patience).saturating_add(self.ordered_us);
        let trial = (wall(within_us), Limit::Trial);
        let total = (limit_us(TRIAL_WALL_MAX, self.patience), Limit::Wall);
        own.into_iter().chain([trial, total]).min_by_key(|(at_us, _)| *at_us)
    }

    /// Listens for a while to what the device still has to say; what it died of counts before what else went wrong.
    fn listen(&mut self, verdict: Verdict, now_us: u64, finding: Finding) {
        if self.finished() || self.is_dead() || (verdict == Verdict::Inconclusive && matches!(self.stage, Stage::LastWords { .. }))
        {
            return;
        }
        let until_us = now_us.saturating_add(limit_us(LAST_WORDS, self.patience));
        self.stage = Stage::LastWords { until_us, verdict, finding };
    }

    fn is_dead(&self) -> bool {
        matches!(self.stage, Stage::LastWords { verdict: Verdict::Fail, .. })
    }

    /// Ends the trial, since something was not seen or seen wrong: the device's fault, unless a part of what was said is lost.
    fn miss(&mut self, finding: Finding) {
        match self.gap.clone() {
            None => {
                self.missed = true;
                self.fail(finding);
            }
            Some(mut gap) => {
                gap.place.clone_from(&finding.place);
                self.warnings.retain(|warning| warning.text != gap.text);
                self.stage = Stage::Over { verdict: Verdict::Inconclusive, findings: vec![gap, finding] };
            }
        }
    }

    fn fail(&mut self, finding: Finding) {
        self.end(Verdict::Fail, finding);
    }

    fn give_up(&mut self, mut finding: Finding) {
        if finding.place.is_none() {
            finding.place = self.step().map(|step| self.place(step));
        }
        if finding.last.is_empty() {
            finding.last = self.last(&Source::ALL, 0);
        }
        self.end(Verdict::Inconclusive, finding);
    }

    fn end(&mut self, verdict: Verdict, finding: Finding) {
        if !self.finished() {
            self.stage = Stage::Over { verdict, findings: vec![finding] };
        }
    }

    fn warn(&mut self, warning: Finding) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(warning);
        }
    }

    fn step(&self) -> Option<usize> {
        match &self.stage {
            Stage::Ready(step) | Stage::Busy(Busy { step, .. }) => Some(*step),
            Stage::LastWords { finding, .. } => finding.place.as_ref().and_then(|place| place.step),
            Stage::Over { .. } => None,
        }
    }

    fn place(&self, step: usize) -> Place {
        let at = self.scenario.steps.get(step);
        let name = at.map_or("no such step", |at| at.name.as_deref().unwrap_or(at.verb));
        Place { file: self.scenario.path.clone(), line: at.map_or(1, |at| at.line), step: Some(step), name: name.into() }
    }

    fn last(&self, sources: &[Source], from: usize) -> Vec<Shown> {
        last(&self.events, sources, from)
    }
}

/// That a part of what was said is lost.
fn gap(why: &str, at_us: u64) -> Finding {
    let finding = Finding::new(format!("a part of the console is lost: {why}")).when(at_us);
    finding.help("look at the cable and the port, not at the device; its story is not compared")
}

fn patient(limit: Duration, patience: f32) -> Duration {
    Duration::try_from_secs_f64(limit.as_secs_f64() * f64::from(patience)).unwrap_or(Duration::MAX)
}

fn limit_us(limit: Duration, patience: f32) -> u64 {
    u64::try_from(patient(limit, patience).as_micros()).unwrap_or(u64::MAX)
}

/// The last events of these sources, oldest first.
fn last(events: &[Event], sources: &[Source], from: usize) -> Vec<Shown> {
    let mut shown: Vec<Shown> =
        events[from..].iter().rev().filter(|event| sources.contains(&event.from)).take(SHOWN_MAX).map(Shown::from).collect();
    shown.reverse();
    shown
}

/// What came instead: the last refusals and errors among what a watch read.
fn near(events: &[Event], sources: &[Source], from: usize) -> Vec<String> {
    let told = |event: &Event| match &event.what {
        What::Line(line) => {
            let (line, report) = Report::from_line(line)?;
            let name = report.word().name;
            matches!(line.level, 'E' | 'W').then(|| format!("report `{name}` came instead: {}", crate::event::printable(line.text)))
        }
        What::Request(request) if !request.outcome.starts_with("issued") => Some(format!("the CA was asked: {}", event.what)),
        What::Exchange(exchange) if exchange.status.is_none_or(|status| status >= 400) => {
            Some(format!("the device answered: {}", event.what))
        }
        What::Alert { .. } => Some(format!("on the wire: {}", event.what)),
        _ => None,
    };
    let mut near: Vec<String> =
        events[from..].iter().rev().filter(|event| sources.contains(&event.from)).filter_map(told).take(NEAR_MAX).collect();
    near.reverse();
    near
}
