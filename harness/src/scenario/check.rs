//! One row of a file, from nodes to a [`Scenario`]: every key, every step, and what only the whole can say.

use super::header::{Capability, ClockMode, FailOn, Header, Level, Network};
use super::problem::{Diagnostics, Problem, choice, nearest, place};
use super::yaml::{Node, Value};
use super::{Dialect, MakeWatch, Never, Scenario, StepAt, WITHIN_DEFAULT, typed, wokwi};
use crate::event::Source;
use crate::matrix::{Row, name_device};
use crate::step::expect::{DeviceSays, Expectation, Seen};
use crate::step::{VERBS, verb};
use device_core::config::{self, Config};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The most steps a scenario may have.
pub const STEPS_MAX: usize = 1_000;
/// The most expectations under `never`: each looks at every event.
pub const NEVER_MAX: usize = 64;
/// The longest name, in characters.
const NAME_MAX: usize = 120;

/// What a scenario is made from, again for each device id.
pub(super) struct Origin {
    pub(super) file: Arc<Text>,
    pub(super) row: Row,
    pub(super) dialect: Dialect,
}

/// A file's text, and what is known of it.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) path: PathBuf,
    pub(super) source: String,
    pub(super) sha256: String,
    /// Of all rows; known once they are all read.
    pub(super) secrets: OnceLock<Vec<(&'static str, String)>>,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.file.path.display(), self.row.name)
    }
}

impl Origin {
    pub(super) fn secrets(&self) -> &[(&'static str, String)] {
        self.file.secrets.get().map_or(&[], Vec::as_slice)
    }

    pub(super) fn text(&self) -> &str {
        &self.file.source
    }

    pub(super) fn scenario(self: &Arc<Self>, device_id: &str) -> Result<Scenario, Diagnostics> {
        let mut problems = Vec::new();
        let scenario = self.check(device_id, &mut problems);
        match scenario {
            Some(scenario) if problems.iter().all(|p| p.warning) => Ok(scenario),
            _ => Err(Diagnostics::new(&self.file.path, &self.file.source, problems)),
        }
    }

    /// The scenario, and all that is wrong with it; none when something is.
    pub(super) fn check(self: &Arc<Self>, device_id: &str, problems: &mut Vec<Problem>) -> Option<Scenario> {
        let plain = self.dialect == Dialect::Wokwi && self.row.doc.get("matrix").is_none();
        let doc = &if plain { self.row.doc.clone() } else { name_device(&self.row.doc, device_id) };
        let found = problems.len();
        let header = header(doc, self.dialect, problems);
        let mut never = self.never(doc.get("never"), problems);
        never.extend(self.fail_on(doc.get("fail-on"), problems));
        let (mut steps, needs) = self.steps(doc.get("steps"), problems);
        if self.dialect == Dialect::Wokwi && !steps.is_empty() {
            let at = doc.get("steps").map_or(0..0, |steps| steps.at.clone());
            steps.insert(0, self.power_on(at)?);
        }
        if problems[found..].iter().any(|p| !p.warning) {
            return None;
        }
        let mut header = header?;
        let mut needs: BTreeSet<Capability> = needs.into_iter().chain(header.needs.iter().copied()).collect();
        if header.clock == ClockMode::Skip {
            needs.extend([Capability::ClockJump, Capability::Console]);
        }
        if !header.device.settings.is_empty() {
            needs.insert(Capability::Console);
        }
        // What it stored before its power went is there when it comes back.
        if steps.iter().filter(|step| step.verb == "power-on").count() > 1 {
            needs.insert(Capability::Storage);
        }
        // On a shared broker the log's lines that name no device (a refused handshake) cannot be told apart.
        let reads_log = |watch: &MakeWatch| (watch.0)().reads().contains(&Source::Broker);
        header.broker.exclusive |= header.broker.crl;
        header.broker.exclusive |= steps.iter().any(|step| step.verb == "broker" || step.watch.as_ref().is_some_and(reads_log));
        header.broker.exclusive |= never.iter().any(|never| reads_log(&never.watch));
        let scripted = header.broker.scripted.is_some();
        header.broker.exclusive |= scripted;
        problems.extend(scripts(doc, scripted));
        if problems[found..].iter().any(|p| !p.warning) {
            return None;
        }
        Some(Scenario {
            name: header.name,
            path: self.file.path.clone(),
            sha256: self.file.sha256.clone(),
            row: self.row.name.clone(),
            dialect: self.dialect,
            device: header.device,
            broker: header.broker,
            ca: header.ca,
            time: header.time,
            air: header.air.unwrap_or_else(|| vec![Network::lab()]),
            clock: header.clock,
            targets: header.targets,
            needs: needs.into_iter().collect(),
            steps,
            never,
            within: header.within.map_or(WITHIN_DEFAULT, |within| within.0),
            origin: self.clone(),
        })
    }

    fn never(&self, node: Option<&Node>, problems: &mut Vec<Problem>) -> Vec<Never> {
        let Some(items) = list(node, "never", problems) else { return Vec::new() };
        if items.len() > NEVER_MAX {
            let at = items[NEVER_MAX].at.clone();
            problems.push(Problem::new(
                at,
                format!("{} expectations under `never`", items.len()),
                format!("allowed: up to {NEVER_MAX}"),
            ));
            return Vec::new();
        }
        let mut never = Vec::new();
        for item in items {
            match typed::read::<Expectation>(item) {
                Err(mistakes) => problems.extend(mistakes),
                Ok(wish) => match wish.check() {
                    Err(message) => problems.push(two_lines(item.at.clone(), &message)),
                    Ok(()) => {
                        let wish = Arc::new(wish);
                        let watch = MakeWatch(Box::new(move || Box::new(Seen { wish: wish.clone() })));
                        never.push(Never { line: place(&self.file.source, item.at.start).0, watch });
                    }
                },
            }
        }
        never
    }

    /// Texts and patterns of the console, as `never: [{ device: … }]` would have them.
    fn fail_on(&self, node: Option<&Node>, problems: &mut Vec<Problem>) -> Vec<Never> {
        let items = node.and_then(|node| if let Value::List(items) = &node.value { Some(items) } else { None });
        let mut never = Vec::new();
        if let Some(extra) = items.and_then(|items| items.get(NEVER_MAX)) {
            problems.push(Problem::new(extra.at.clone(), "too many texts under `fail-on`", format!("allowed: up to {NEVER_MAX}")));
        }
        for item in items.into_iter().flatten().take(NEVER_MAX) {
            // What cannot be read has been said with the header.
            let Ok(FailOn { text, pattern }) = typed::read::<FailOn>(item) else { continue };
            if text.is_some() == pattern.is_some() || text.as_ref().is_some_and(String::is_empty) {
                let help = "each is a text, or `{ pattern: … }`";
                problems.push(Problem::new(item.at.clone(), "nothing in particular under `fail-on`", help));
                continue;
            }
            let wish = Arc::new(Expectation::Device(DeviceSays { text, pattern, ..DeviceSays::default() }));
            let watch = MakeWatch(Box::new(move || Box::new(Seen { wish: wish.clone() })));
            never.push(Never { line: place(&self.file.source, item.at.start).0, watch });
        }
        never
    }

    /// The step every file of Wokwi's begins with without saying it.
    fn power_on(&self, at: Range<usize>) -> Option<StepAt> {
        let (line, column) = place(&self.file.source, at.start);
        let word = verb("power-on")?;
        let act = (word.read)(&Node { at, value: Value::Map(Vec::new()) }).ok()?.act;
        let name = Some("power on, as every Wokwi file begins".to_owned());
        Some(StepAt { name, verb: word.name, line, column, act, watch: None, snapshot: None })
    }

    fn steps(&self, node: Option<&Node>, problems: &mut Vec<Problem>) -> (Vec<StepAt>, Vec<Capability>) {
        let Some(items) = list(node, "steps", problems) else { return (Vec::new(), Vec::new()) };
        match (items.len(), node) {
            (0, Some(node)) => {
                problems.push(Problem::warning(node.at.clone(), "no steps", "the trial passes at once, and shows nothing"))
            }
            (1..=STEPS_MAX, _) => {}
            (count, _) => {
                let at = items.get(STEPS_MAX).map_or(0..0, |item| item.at.clone());
                problems.push(Problem::new(
                    at,
                    format!("{count} steps"),
                    format!("allowed: up to {STEPS_MAX}; split the scenario"),
                ));
                return (Vec::new(), Vec::new());
            }
        }
        let (mut steps, mut needs): (Vec<StepAt>, Vec<Capability>) = (Vec::new(), Vec::new());
        for item in items {
            let Some((step, step_needs)) = self.step(item, problems) else { continue };
            if let Some(name) = &step.snapshot
                && steps.iter().any(|other| other.snapshot.as_ref() == Some(name))
            {
                problems.push(Problem::new(
                    item.at.clone(),
                    format!("a second snapshot `{name}`"),
                    "snapshots of one scenario have different names",
                ));
            }
            steps.push(step);
            needs.extend(step_needs);
        }
        (steps, needs)
    }

    fn step(&self, item: &Node, problems: &mut Vec<Problem>) -> Option<(StepAt, Vec<Capability>)> {
        let words = || VERBS.iter().map(|v| v.name).collect::<Vec<_>>();
        let wokwis = self.dialect == Dialect::Wokwi;
        let empty = Vec::new();
        let entries = match &item.value {
            Value::Map(entries) => Some(entries),
            Value::List(items) if items.is_empty() && wokwis => Some(&empty),
            _ => None,
        };
        let Some(entries) = entries else {
            let met = format!("{} as a step", item.describe());
            let help = match &item.value {
                Value::Scalar { text, .. } => match verb(text.trim()).map(|v| v.name).or_else(|| nearest(text, words())) {
                    Some(word) => format!("write `- {word}: …`, or `- {word}: {{}}` where nothing is to be set"),
                    None if item.describe() == "nothing" => "a step that is empty: remove it".into(),
                    None => format!("a step is a verb with its value, `- delay: 500ms`; verbs: {}", words().join(", ")),
                },
                _ => format!("a step is a verb with its value, `- delay: 500ms`; verbs: {}", words().join(", ")),
            };
            problems.push(Problem::new(item.at.clone(), met, help));
            return None;
        };
        let name = entries.iter().find(|(key, _)| key.text == "name").map(|(_, value)| value);
        let name = match name.map(typed::read::<super::value::Text>) {
            Some(Ok(name)) => Some(name.0),
            Some(Err(mistakes)) => {
                problems.extend(mistakes.into_iter().map(|p| Problem { warning: wokwis, ..p }));
                None
            }
            None => None,
        };
        let verbs: Vec<_> = entries.iter().filter(|(key, _)| key.text != "name").collect();
        let unknown: Vec<_> = verbs.iter().filter(|(key, _)| verb(&key.text).is_none()).collect();
        if !unknown.is_empty() {
            let has_verb = unknown.len() < verbs.len();
            for (key, _) in unknown {
                let wokwi =
                    verbs.iter().find(|(key, _)| wokwi::VERBS.contains(&key.text.as_str())).map(|(key, _)| key.text.as_str());
                let beside = match (has_verb, key.text.as_str()) {
                    (true, "timeout" | "within" | "times") if wokwi == Some("wait-serial") => {
                        "the limit stands inside of the verb: `wait-serial: { text: …, within: 5s }`; Wokwi has none".to_string()
                    }
                    (true, "timeout" | "within") if wokwi.is_some() => {
                        "this step has no limit of its own; that of the trial is `within: 30s` at the top of the file".to_string()
                    }
                    (true, "timeout" | "within" | "times") => {
                        "limits stand inside of the verb: `wait-for: { …, within: 5s }`".to_string()
                    }
                    (_, word) if let Some(help) = wokwi::instead_of(word) => help.to_string(),
                    (true, _) => format!("{}; beside its verb a step has `name` only", choice(&key.text, &words())),
                    (false, _) => choice(&key.text, &words()),
                };
                let what = if has_verb { "key" } else { "verb" };
                problems.push(Problem::new(key.at.clone(), format!("unknown {what} `{}`", key.text), beside));
            }
            return None;
        }
        let (verb, meaning, at) = if wokwis {
            let (verb, meaning) = wokwi::step(item, &verbs, problems)?;
            (verb, meaning, verbs.iter().find(|(key, _)| key.text == verb).map_or(&item.at, |(_, value)| &value.at))
        } else {
            let (key, value) = match &verbs[..] {
                [one] => one,
                [] => {
                    let help = format!("verbs: {}", words().join(", "));
                    problems.push(Problem::new(item.at.clone(), "a step without a verb", help));
                    return None;
                }
                [(first, _), (second, _), ..] => {
                    let met = format!("two verbs in one step, `{}` and `{}`", first.text, second.text);
                    let help = format!("one step each: begin a new line with `- {}:`", second.text);
                    problems.push(Problem::new(second.at.clone(), met, help));
                    return None;
                }
            };
            let verb = verb(&key.text)?;
            let told = |mistakes: Vec<_>| problems.extend(mistakes.into_iter().map(|p| wokwi::of(p, &key.text, value)));
            (verb.name, (verb.read)(value).map_err(told).ok()?, &value.at)
        };
        let (line, column) = place(&self.file.source, item.at.start);
        problems.extend(meaning.warnings.iter().map(|text| Problem { warning: true, ..two_lines(at.clone(), text) }));
        let (act, watch, snapshot) = (meaning.act, meaning.watch, meaning.snapshot);
        Some((StepAt { name, verb, line, column, act, watch, snapshot }, meaning.needs))
    }
}

/// What only a scripted broker can do, and what it cannot.
fn scripts(doc: &Node, scripted: bool) -> Vec<Problem> {
    let key = |node: &Node, word: &str| node.entries().iter().find(|(key, _)| key.text == word).map(|(key, _)| key.at.clone());
    if scripted {
        let beside = |(word, what): (&str, &str)| {
            let at = doc.get("broker").and_then(|broker| key(broker, word))?;
            Some(Problem::new(
                at,
                format!("`{word}` beside `scripted`"),
                format!("the scripted broker has no {what}: remove one of the two"),
            ))
        };
        let lacking = [("acl", "access control list"), ("plain-too", "second port"), ("crl", "revocation list")];
        return lacking.into_iter().filter_map(beside).collect();
    }
    let items = |word: &str| match doc.get(word).map(|node| &node.value) {
        Some(Value::List(items)) => items.as_slice(),
        _ => &[],
    };
    let expected = items("steps").iter().flat_map(|step| [step.get("wait-for"), step.get("expect-none")]).flatten();
    let packets = expected.chain(items("never")).filter_map(|node| key(node, "packet"));
    let acts = items("steps").iter().filter_map(|step| step.get("broker"));
    let lies = acts.filter_map(|node| match &node.value {
        Value::Scalar { text, .. } if text == "heal" => Some(node.at.clone()),
        _ => key(node, "misbehave"),
    });
    let met = "a real broker, of which this cannot be had";
    let help = "write `broker: { scripted: [] }` at the top of the file; in the list stand the lies it begins with";
    packets.chain(lies).map(|at| Problem::new(at, met, help)).collect()
}

fn two_lines(at: Range<usize>, message: &str) -> Problem {
    let (met, help) = message.split_once('\n').unwrap_or((message, ""));
    Problem::new(at, met, help)
}

fn list<'a>(node: Option<&'a Node>, key: &str, problems: &mut Vec<Problem>) -> Option<&'a [Node]> {
    match &node?.value {
        Value::List(items) => Some(items),
        _ => {
            let node = node?;
            problems.push(Problem::new(
                node.at.clone(),
                format!("{key}: {}", node.describe()),
                format!("allowed: a list: under `{key}:`, lines that begin with `- `"),
            ));
            None
        }
    }
}

/// The header, key by key, so that one wrong key does not hide another.
fn header(doc: &Node, dialect: Dialect, problems: &mut Vec<Problem>) -> Option<Header> {
    let Value::Map(entries) = &doc.value else {
        problems.push(Problem::new(
            doc.at.clone(),
            format!("{} where a mapping is meant", doc.describe()),
            "a scenario is a mapping with at least `name`, `version: 1` and `steps`",
        ));
        return None;
    };
    let found = problems.len();
    for entry in entries {
        let alone = Node { at: doc.at.clone(), value: Value::Map(vec![entry.clone()]) };
        if let Err(mistakes) = typed::read::<Header>(&alone) {
            problems.extend(mistakes);
        }
    }
    for (key, example) in [("name", "name: A device provisions itself"), ("version", "version: 1"), ("steps", "steps: […]")] {
        let mistyped = problems[found..].iter().any(|p| p.help.contains(&format!("did you mean `{key}`")));
        if doc.get(key).is_none() && !mistyped {
            let start = entries.first().map_or(0, |(key, _)| key.at.start);
            problems.push(Problem::new(
                start..start,
                format!("`{key}` is missing"),
                format!("add `{example}` at the top of the file"),
            ));
        }
    }
    if problems[found..].iter().any(|p| !p.warning) {
        return None;
    }
    let header: Header = typed::read(doc).map_err(|mistakes| problems.extend(mistakes)).ok()?;
    let at = |keys: &[&str]| keys.iter().try_fold(doc, |node, key| node.get(key)).map_or(0..0, |node| node.at.clone());
    odd_name(&header.name, dialect, at(&["name"]), problems);
    ranges(&header, &at, problems);
    settings(doc, &header, problems);
    Some(header)
}

/// Wokwi takes any text for a name.
fn odd_name(name: &str, dialect: Dialect, at: Range<usize>, problems: &mut Vec<Problem>) {
    let name = name.trim();
    let (met, help) = if name.is_empty() {
        ("an empty name", "say in one line what is shown".to_owned())
    } else if name.chars().count() > NAME_MAX || name.contains('\n') {
        ("a long name", format!("one line of up to {NAME_MAX} characters; the rest belongs under `description`"))
    } else {
        return;
    };
    problems.push(Problem { warning: dialect == Dialect::Wokwi, ..Problem::new(at, met, help) });
}

/// Limits that types do not have.
fn ranges(header: &Header, at: &dyn Fn(&[&str]) -> Range<usize>, problems: &mut Vec<Problem>) {
    let mut refuse = |wrong: bool, keys: &[&str], met: String, help: &str| {
        if wrong {
            problems.push(Problem::new(at(keys), met, help));
        }
    };
    let period = header.device.telemetry_period.0;
    let allowed = period.is_zero() || (Duration::from_millis(10)..=Duration::from_secs(86_400)).contains(&period);
    refuse(
        !allowed,
        &["device", "telemetry-period"],
        format!("telemetry-period: {}", header.device.telemetry_period),
        "allowed: 0, or 10ms to 24h",
    );
    if let Some(keepalive) = header.device.keepalive {
        let allowed = keepalive.0.subsec_nanos() == 0 && (5..=65_535).contains(&keepalive.0.as_secs());
        refuse(!allowed, &["device", "keepalive"], format!("keepalive: {keepalive}"), "allowed: whole seconds, 5s to 65535s");
    }
    for network in header.air.iter().flatten() {
        let ssid = &network.ssid;
        refuse(
            !(1..=32).contains(&ssid.len()),
            &["air"],
            format!("the network name {}", super::yaml::shown(ssid)),
            "allowed: 1 to 32 bytes",
        );
        let password = network.password.len();
        refuse(
            password != 0 && !(8..=64).contains(&password),
            &["air"],
            format!("a password of {password} bytes"),
            "allowed: none, 8 to 63 bytes, or 64 hexadecimal digits",
        );
        refuse(!(1..=13).contains(&network.channel), &["air"], format!("channel {}", network.channel), "allowed: 1 to 13");
    }
    if let Some(lifetime) = header.ca.lifetime {
        refuse(lifetime.0 < Duration::from_secs(1), &["ca", "lifetime"], format!("lifetime: {lifetime}"), "allowed: 1s or more");
    }
    if let Some(within) = header.within {
        refuse(within.0.is_zero(), &["within"], "no time".into(), "a trial takes some time");
    }
    let security = header.broker.security.unwrap_or(header.device.security);
    refuse(
        header.broker.plain_too && security == Level::Plain,
        &["broker", "plain-too"],
        "a plain port beside a plain one".into(),
        "write `security: mutual-tls` or `security: server-tls` under `broker:`, or leave `plain-too` out",
    );
    refuse(
        header.broker.crl && security != Level::MutualTls,
        &["broker", "crl"],
        format!("a revocation list, and no client certificates ({})", config::Security::from(security).name()),
        "only a broker with `security: mutual-tls` has use for it",
    );
    if let Some(names) = &header.broker.names {
        refuse(names.is_empty(), &["broker", "names"], "no names".into(), "give at least one, or leave `names` out");
    }
    if let Some(targets) = &header.targets {
        refuse(targets.is_empty(), &["targets"], "no targets".into(), "give at least one, or leave `targets` out to mean all");
    }
}

/// The device's own opinion of the settings it will be told.
fn settings(doc: &Node, header: &Header, problems: &mut Vec<Problem>) {
    let Some(node) = doc.get("device").and_then(|device| device.get("settings")) else { return };
    let mut config = Config::default();
    for (key, value) in node.entries() {
        let Some(text) = header.device.settings.get(&key.text) else { continue };
        if let Err(error) = config.set(&key.text, &text.0) {
            match device_core::config::setting(&key.text) {
                Some(_) => problems.push(Problem::new(
                    value.at.clone(),
                    format!("{}: {}", key.text, error.met),
                    format!("allowed: {}", error.allowed),
                )),
                None => {
                    let names: Vec<_> = device_core::config::SETTINGS.iter().map(|s| s.name).collect();
                    problems.push(Problem::new(
                        key.at.clone(),
                        format!("unknown setting `{}`", key.text),
                        choice(&key.text, &names),
                    ));
                }
            }
        }
    }
}
