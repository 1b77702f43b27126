//! A trace as strands: what one source said of one matter, in order and in stable words.

use crate::event::{CaRequest, Ended, Event, Exchange, MqttMessage, Power, Source, What};
use crate::golden::{Reach, Words};
use crate::invariant::crash_in;
use crate::runner::DEVICE_ID;
use crate::scenario;
use crate::script::Script;
use crate::trace::read::Trace;
use device_core::report::Report;
use device_core::state::State;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The strand of the device's way to a session: what it retries is told here.
pub(super) const SESSION: &str = "session";

/// A matter of a source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub source: Source,
    /// Such as `telemetry`; empty: all that the source says.
    pub matter: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gap = if self.matter.is_empty() { "" } else { " " };
        write!(f, "{}{gap}{}", self.source, self.matter)
    }
}

/// What is compared of an event, and which event that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub text: String,
    pub index: usize,
    /// Of a back-off: what is tried again.
    pub retry: Option<String>,
}

/// One connection on a link.
#[derive(Clone, Debug, Default)]
pub(super) struct Connection {
    pub told: Vec<Told>,
    /// Whether the server answered; none while neither an answer nor an end has been seen.
    pub answered: Option<bool>,
}

impl Connection {
    pub fn story(&self) -> impl Iterator<Item = &str> {
        // What a connection that nobody answered still sent depends on when it was cut.
        let shown = if self.answered == Some(false) { 1 } else { self.told.len() };
        self.told[..shown].iter().map(|told| told.text.as_str())
    }
}

/// What two traces are compared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Between {
    /// Of one target: everything.
    Runs,
    /// Of two: not what each has of its own.
    Targets,
}

/// A trace, cut into strands.
pub(super) struct Strands {
    pub strands: BTreeMap<Key, Vec<Told>>,
    /// By server, in the order in which they were opened.
    pub links: BTreeMap<String, Vec<Connection>>,
    /// Where in its list the connection of a server and number is.
    open: BTreeMap<(String, u32), usize>,
    /// The first event that belongs to the taking down, or the number of events.
    pub end: usize,
    pub end_us: u64,
    /// The events at which a step began or had acted, in order.
    pub steps: Vec<usize>,
    /// When each event was, microseconds, and how many steps had begun.
    pub when: Vec<(usize, u64)>,
    /// By event, whether the broker was switched off then.
    pub broker_off: Vec<bool>,
    /// By event, how often power or the broker had been switched off: what is under way then may or may not be seen.
    pub epoch: Vec<usize>,
    /// By epoch, when it ended, microseconds.
    pub epoch_ends: Vec<u64>,
    /// The first event of a renewal that ran while the device connected: it does both at once, in an order that is chance.
    pub renewing: Option<usize>,
    /// By source, how far the scenario has waited; nothing when it cannot be read.
    pub reach: Reach,
}

impl Strands {
    pub fn of(trace: &Trace, between: Between) -> Strands {
        let events = &trace.events;
        let end = end_of(events);
        let words = Words::of(events)
            .and_device(trace.header.facts.get(DEVICE_ID).map_or("", String::as_str))
            .and_host(trace.header.host());
        let mut strands = Strands {
            strands: BTreeMap::new(),
            links: BTreeMap::new(),
            open: BTreeMap::new(),
            end,
            end_us: events.get(end).or(events.last()).map_or(0, |event| event.at_us),
            steps: Vec::new(),
            when: Vec::with_capacity(events.len()),
            broker_off: Vec::with_capacity(events.len()),
            epoch: Vec::with_capacity(events.len()),
            epoch_ends: Vec::new(),
            renewing: None,
            reach: reach(trace).unwrap_or_default(),
        };
        let (mut steps, mut attempts, mut off) = (0, BTreeMap::new(), false);
        let interrupted = events[..end].iter().any(|event| interrupts(&event.what));
        let mut connected = false;
        for (index, event) in events.iter().enumerate() {
            steps += usize::from(matches!(event.what, What::StepBegan { .. }));
            if let What::BrokerPower { now } = &event.what {
                off = now != "started";
            }
            strands.when.push((steps, event.at_us));
            strands.broker_off.push(off);
            strands.epoch.push(strands.epoch_ends.len());
            if matches!(event.what, What::StepBegan { .. } | What::Acted { .. }) {
                strands.steps.push(index);
            }
            if interrupts(&event.what) {
                strands.epoch_ends.push(event.at_us);
            }
            if index >= end {
                break;
            }
            if strands.renewing.is_none() && renews_while_connecting(event, &mut connected) {
                strands.renewing = Some(index);
            }
            if event.from == Source::Link {
                strands.link(&words, event, index, between);
                continue;
            }
            if between == Between::Targets && matches!(event.what, What::Stored { .. }) {
                continue;
            }
            // Whether a device is missed, and its last will published, before it is back or the broker gone is chance.
            if interrupted && matches!(&event.what, What::Message(message) if message.payload.contains("offline")) {
                continue;
            }
            let Some((matter, text, retry)) = told(&words, between, event, &mut attempts) else { continue };
            let key = Key { source: event.from, matter };
            let strand = strands.strands.entry(key).or_default();
            // A datagram may be lost, and is sent again.
            if event.from == Source::Time && strand.last().is_some_and(|last| last.text == text) {
                continue;
            }
            strand.push(Told { text, index, retry });
        }
        strands.epoch_ends.push(strands.end_us);
        strands
    }

    fn link(&mut self, words: &Words, event: &Event, index: usize, between: Between) {
        let own = between == Between::Runs;
        let (to, number, text, answered) = match &event.what {
            What::Opened { to, connection } => (to, *connection, "opened".to_owned(), None),
            What::ClientHello(hello) => {
                let name = hello.sni.as_deref().map_or("none".into(), |sni| words.server_name(sni));
                (&hello.to, hello.connection, format!("ClientHello: TLS {}, server name {name}", hello.versions.join("/")), None)
            }
            What::ServerHello(hello) => {
                let suite = if own { format!(", {}", hello.suite) } else { String::new() };
                (&hello.to, hello.connection, format!("ServerHello: TLS {}{suite}", hello.version), Some(true))
            }
            What::ClientCertificate { to, connection, sent } => {
                (to, *connection, format!("client certificate {}", if *sent { "sent" } else { "withheld" }), None)
            }
            What::Alert { to, connection, by, name } if own => (to, *connection, format!("alert {name} by {by}"), Some(true)),
            What::Closed { to, connection, bytes_down, .. } => (to, *connection, "closed".to_owned(), Some(*bytes_down > 0)),
            _ => return,
        };
        let connections = self.links.entry(to.clone()).or_default();
        let key = (to.clone(), number);
        // In a trace that was edited, a number may stand twice, or for nothing that was opened.
        if text == "opened" || !self.open.contains_key(&key) {
            self.open.insert(key.clone(), connections.len());
            connections.push(Connection::default());
        }
        let Some(connection) = self.open.get(&key).and_then(|place| connections.get_mut(*place)) else { return };
        connection.told.push(Told { text, index, retry: None });
        connection.answered = match (connection.answered, answered) {
            (Some(true), _) => Some(true),
            (before, None) => before,
            (_, now) => now,
        };
    }
}

/// Whether something is switched off, so that what is under way does not come to its end.
fn interrupts(what: &What) -> bool {
    match what {
        What::Power(power) => *power != Power::On,
        What::BrokerPower { now } => now != "started",
        _ => false,
    }
}

/// Whether a renewal is due while the device is not connected, so that it does both at once.
fn renews_while_connecting(event: &Event, connected: &mut bool) -> bool {
    let What::Line(line) = &event.what else { return false };
    match Report::from_line(line) {
        Some((_, Report::State { to, .. })) => *connected = to == State::MqttConnected,
        Some((_, Report::Booting { .. })) => *connected = false,
        Some((_, Report::RenewalDue { .. })) => return event.from == Source::Device && !*connected,
        _ => {}
    }
    false
}

/// Where the taking down begins: at the last power-off, when it is no step's and nothing is switched on after it.
fn end_of(events: &[Event]) -> usize {
    let acts = |what: &What| matches!(what, What::Power(Power::On | Power::Off) | What::StepBegan { .. } | What::Acted { .. });
    let last = events.iter().rposition(|event| acts(&event.what));
    last.filter(|at| matches!(events[*at].what, What::Power(Power::Off))).unwrap_or(events.len())
}

/// How far the recorded scenario waited for each source.
fn reach(trace: &Trace) -> Option<Reach> {
    let recorded = &trace.header.scenario;
    let rows = scenario::read(Path::new(&recorded.path), recorded.text.as_bytes()).ok()?;
    let row = rows.into_iter().find(|row| row.row_values() == trace.header.row)?;
    let scenario = row.for_device(trace.header.facts.get(DEVICE_ID)?).ok()?;
    let mut script = Script::new(&scenario, trace.header.patience);
    trace.events.iter().for_each(|event| script.handle(event));
    Some(script.reach())
}

/// The matter, the words, and what is retried; none for what is no part of a comparison.
type Matter = (String, String, Option<String>);

fn told(words: &Words, between: Between, event: &Event, attempts: &mut BTreeMap<String, u32>) -> Option<Matter> {
    let plain = |matter: &str, text: String| Some((matter.to_owned(), text, None));
    match &event.what {
        What::Line(line) if event.from == Source::Device => device(words, between, line, attempts),
        What::Line(line) if event.from == Source::Broker => broker(words, line),
        What::Ended(Ended::Crashed { .. }) => plain("session", "crashed".into()),
        What::Ended(Ended::Lost { .. }) => plain("session", "lost".into()),
        What::Stored { what } => plain("storage", format!("stored {}", words.stable(what))),
        What::Exchange(Exchange { method, path, status, body }) => {
            // Counts depend on the moment of asking.
            let answer =
                status.map_or("no answer".into(), |status| format!("{status} {}", body_of(words, body, Numbers::Measured)));
            plain("", format!("{method} {} -> {answer}", words.stable(path)))
        }
        What::Request(CaRequest { what, device_id, status, outcome, lies, issued: _ }) => {
            let from = device_id.as_deref().map_or("nobody".into(), |id| words.stable(id));
            let status = status.map_or("no answer".into(), |status| status.to_string());
            let lies = if lies.is_empty() { String::new() } else { format!(" (lies: {})", lies.join(", ")) };
            plain("", format!("{} from {from} -> {status} {}{lies}", words.stable(what), words.stable(outcome)))
        }
        What::TimeAsked { told_unix } => plain("", if told_unix.is_some() { "asked, told" } else { "asked, silent" }.into()),
        What::Message(MqttMessage { topic, payload, qos, retained }) => {
            let topic = words.stable(topic);
            let retained = if *retained { ", retained" } else { "" };
            Some((
                format!("topic {topic}"),
                format!("{topic} (QoS {qos}{retained}) {}", body_of(words, payload, Numbers::Told)),
                None,
            ))
        }
        What::Power(_) | What::BrokerPower { .. } => plain("power", event.what.to_string()),
        What::ActFailed { .. } => plain("acts", words.stable(&event.what.to_string())),
        What::Interrupted | What::Broke { .. } | What::Gap { .. } => plain("trial", words.stable(&event.what.to_string())),
        _ => None,
    }
}

/// A line of the device's console. What is outside its vocabulary is told only where it says that the device died.
fn device(words: &Words, between: Between, line: &str, attempts: &mut BTreeMap<String, u32>) -> Option<Matter> {
    let Some((said, report)) = Report::from_line(line) else {
        return crash_in(line).map(|last| (SESSION.to_owned(), format!("crashed: {last}"), None));
    };
    let name = report.word().name;
    let text = |matter: &str, text: String| Some((matter.to_owned(), format!("{name}: {text}"), None));
    // A failure's kind is stable; what the system says of it is not.
    let kind = |why: &str| match why.split(": ").next().unwrap_or(why) {
        // How a connection that ends at once looks is the network stack's choice.
        "reset" | "refused" | "ended" if between == Between::Targets => "cut".into(),
        kind => words.stable(kind),
    };
    match &report {
        // How much memory is in use is measured.
        Report::ClockJumped { .. } | Report::Memory { .. } => None,
        // Whether the network is up before or after the first settings are told is chance.
        Report::HttpListening { .. } => text("http", words.stable(said.text)),
        Report::ConsoleReady {} | Report::Help { .. } | Report::Status { .. } | Report::Setting { .. } => {
            text("console", words.stable(said.text))
        }
        Report::CommandDone { .. } | Report::CommandRefused { .. } => text("console", words.stable(said.text)),
        Report::Delivered { .. } | Report::Queued { .. } | Report::QueueDropped { .. } | Report::QueueDrained { .. } => {
            text("telemetry", words.stable(said.text))
        }
        Report::PublishRefused { .. } => text("telemetry", words.stable(said.text)),
        Report::OrderReceived { .. } => text("orders", words.stable(said.text)),
        Report::TimeSet { .. } | Report::TimeUnknown { .. } => text("time", words.stable(said.text)),
        Report::ProvisionRefused { .. } => text("requests", words.stable(said.text)),
        Report::RenewalDue { .. } | Report::RenewalStored { .. } => text("renewal", words.stable(said.text)),
        Report::RenewalFailed { why } => text("renewal", kind(why)),
        Report::EnrollmentFailed { why } | Report::MqttDisconnected { why } => text(SESSION, kind(why)),
        Report::MqttConnectFailed { why, .. } => text(SESSION, kind(why)),
        Report::Backoff { what, attempt, .. } => {
            let last = attempts.insert(what.clone(), *attempt).unwrap_or(0);
            let matter = if matches!(what.as_str(), "mqtt" | "enrollment" | "wifi") { SESSION } else { what };
            let number = match attempt {
                1 => "attempt 1".into(),
                n if *n == last.saturating_add(1) => "one attempt more".into(),
                n => format!("attempt {n} after {last}"),
            };
            Some((matter.to_owned(), format!("backoff: next try of {}, {number}", words.stable(what)), Some(what.clone())))
        }
        _ => text(SESSION, words.stable(said.text)),
    }
}

/// A line of the broker's log that names the device. The others (listeners, its database, other clients) come as they like.
fn broker(words: &Words, line: &str) -> Option<Matter> {
    // Continuation lines; the lines that follow say the same again.
    if line.starts_with('\t') {
        return None;
    }
    let text = words.stable(line);
    if !text.contains("<device>") || text.contains("PINGREQ") || text.contains("PINGRESP") {
        return None;
    }
    let matter = if text.starts_with("Sending PUBLISH") {
        "orders"
    } else if text.starts_with("Sending ") {
        "answers"
    } else if text.starts_with("Received PUBACK") {
        "receipts"
    } else if ["closed its connection", "Socket error", "already connected", "disconnected:", "exceeded timeout"]
        .iter()
        .any(|end| text.contains(end))
    {
        // Whether an end without DISCONNECT is seen as a close, a reset or a takeover is chance.
        return Some(("endings".into(), "the connection ended without DISCONNECT".into(), None));
    } else {
        "receives"
    };
    // The size of a payload is that of the numbers in it.
    let text = match text.rsplit_once(", ... (") {
        Some((start, _)) if matter == "receives" || matter == "orders" => format!("{start})"),
        _ => text,
    };
    Some((matter.into(), text, None))
}

/// What the whole numbers of a body are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Numbers {
    /// Part of what is told: the number of a reading.
    Told,
    /// Measured, or counted.
    Measured,
}

/// A body or payload in stable words: of JSON every name and value but those that are measured.
fn body_of(words: &Words, body: &str, numbers: Numbers) -> String {
    match serde_json::from_str::<Value>(body) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => shape(words, &value, "", numbers),
        _ => words.stable(body),
    }
}

fn shape(words: &Words, value: &Value, name: &str, numbers: Numbers) -> String {
    match value {
        Value::Object(fields) => {
            let field =
                |(name, value): (&String, &Value)| format!("{}: {}", words.stable(name), shape(words, value, name, numbers));
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(|item| shape(words, item, name, numbers)).collect::<Vec<_>>().join(", "))
        }
        Value::Number(_) if numbers == Numbers::Measured => "<number>".into(),
        Value::Number(number) if number.is_f64() || name.ends_with("_ms") || name.contains("uptime") => "<number>".into(),
        Value::String(text) => words.stable(text),
        value => words.stable(&value.to_string()),
    }
}
