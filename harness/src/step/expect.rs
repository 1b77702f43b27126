//! What can be expected of the tape: one source, and what it must say. Shared by `wait-for`, `expect-none` and `never`.

use super::packet::PacketSeen;
use super::{Progress, Watch};
use crate::broker::LogEvent;
use crate::event::{CaRequest, Event, Exchange, MqttMessage, Power, Source, What};
use crate::pattern::{Pattern, TopicFilter};
use crate::scenario::value::{ReportName, StateName, Text};
use device_core::report::Report;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One source, and what it is expected to say.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Expectation {
    /// A line on the device's console.
    Device(DeviceSays),
    /// The device enters this state: `state: MQTT_CONNECTED`.
    State(StateName),
    /// A message on the broker.
    Mqtt(Message),
    /// A request to the CA, and how it was answered: `ca: sign-csr`.
    Ca(CaMet),
    /// A line of the broker's log.
    Broker(Said),
    /// A packet between the device and a scripted broker: `packet: pingreq`.
    Packet(PacketSeen),
    /// Something on the wire between the device and a server.
    Link(LinkSays),
    /// An answer of the device's HTTP API to a step's call.
    Http(Answer),
    /// The time server: `time: asked`.
    Time(TimeMet),
    /// The device's power: `power: cut`.
    Power(PowerMet),
}

/// A line, by report, by text or by pattern; all that is given must hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct DeviceSays {
    /// A report of the device's vocabulary, such as `certificate-stored`. It holds on every target, whatever its log looks like.
    pub report: Option<ReportName>,
    /// Fields of the report and the values they must have, such as `reason: wrong-password`.
    pub with: BTreeMap<String, Text>,
    /// A text in the line.
    pub text: Option<String>,
    /// A pattern that the line must meet.
    pub pattern: Option<Pattern>,
}

/// A line, by what it means, by text or by pattern; all that is given must hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Said {
    /// What the line means. It holds for every version of Mosquitto, whatever its words.
    pub event: Option<LogEvent>,
    /// A text in the line.
    pub text: Option<String>,
    /// A pattern that the line must meet.
    pub pattern: Option<Pattern>,
}

/// A message on the broker; all that is given must hold.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Message {
    /// Its topic, with `+` and `#`.
    pub topic: TopicFilter,
    /// The whole payload.
    #[serde(default)]
    pub payload: Option<String>,
    /// A text in the payload.
    #[serde(default)]
    pub text: Option<String>,
    /// A pattern that the payload must meet.
    #[serde(default)]
    pub pattern: Option<Pattern>,
    /// Whether it was published to be retained.
    #[serde(default)]
    pub retained: Option<bool>,
}

/// A request to the CA; all that is given must hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(transform = or_request)]
pub struct CaMet {
    /// What was asked for; unset: anything.
    pub request: Option<CaCall>,
    /// The HTTP status answered.
    pub status: Option<u16>,
    /// The outcome: `issued`, `issued-again`, `refused`, or a refusal's reason.
    pub outcome: Option<String>,
    /// A misbehaviour that took part.
    pub lie: Option<String>,
}

/// What can be asked of the CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum CaCall {
    /// A certificate.
    #[serde(rename = "sign-csr")]
    SignCsr,
    /// A new certificate for the old one.
    #[serde(rename = "renew")]
    Renew,
    /// The CA's own certificate.
    #[serde(rename = "ca.crt")]
    CaCertificate,
    /// The revocation list.
    #[serde(rename = "crl")]
    Crl,
    /// Anything.
    #[serde(rename = "any")]
    Any,
}

impl CaCall {
    fn name(self) -> &'static str {
        match self {
            CaCall::SignCsr => "sign-csr",
            CaCall::Renew => "renew",
            CaCall::CaCertificate => "ca.crt",
            CaCall::Crl => "crl",
            CaCall::Any => "any",
        }
    }
}

fn or_request(schema: &mut schemars::Schema) {
    let full = schema.clone();
    *schema =
        schemars::json_schema!({ "anyOf": [{ "type": "string", "enum": ["sign-csr", "renew", "ca.crt", "crl", "any"] }, full] });
}

/// Something on the wire.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LinkSays {
    /// The device opened a connection: `opened: broker`.
    Opened(LinkTo),
    /// A ClientHello.
    Hello(Hello),
    /// A ServerHello.
    Chosen(Chosen),
    /// The device answered the server's wish for a certificate (readable in TLS 1.2 only).
    ClientCertificate(ClientCertificate),
    /// An alert in the clear.
    Alert(Alert),
    /// A connection ended: `closed: broker`.
    Closed(LinkTo),
}

/// Which connection.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(transform = or_server)]
pub struct LinkTo {
    /// To which server; unset: any.
    pub to: Option<Server>,
}

fn or_server(schema: &mut schemars::Schema) {
    let full = schema.clone();
    *schema = schemars::json_schema!({ "anyOf": [{ "type": "string", "enum": ["ca", "broker", "broker-plain"] }, full] });
}

/// A server the device connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Server {
    /// The CA.
    Ca,
    /// The broker.
    Broker,
    /// The broker's second port, without TLS (`broker: { plain-too: true }`).
    BrokerPlain,
}

impl Server {
    fn name(self) -> &'static str {
        match self {
            Server::Ca => "ca",
            Server::Broker => "broker",
            Server::BrokerPlain => "broker-plain",
        }
    }
}

/// A ClientHello; all that is given must hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Hello {
    /// To which server; unset: any.
    pub to: Option<Server>,
    /// The server name it asks for.
    pub sni: Option<String>,
    /// A TLS version it offers: `"1.2"`, `"1.3"`.
    pub version: Option<String>,
    /// A TLS version it must not offer.
    pub not_version: Option<String>,
    /// A cipher suite it offers, by its IANA name.
    pub suite: Option<String>,
    /// A cipher suite it offers is none of these, by their IANA names.
    pub suite_beyond: Option<Vec<String>>,
    /// A group it offers, by its IANA name.
    pub group: Option<String>,
}

/// A ServerHello; all that is given must hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Chosen {
    /// By which server; unset: any.
    pub to: Option<Server>,
    /// The TLS version chosen.
    pub version: Option<String>,
    /// The cipher suite chosen, by its IANA name.
    pub suite: Option<String>,
}

/// A client certificate; all that is given must hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ClientCertificate {
    /// To which server; unset: any.
    pub to: Option<Server>,
    /// Whether there was one.
    pub sent: Option<bool>,
}

/// An alert; all that is given must hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Alert {
    /// On the link to which server; unset: any.
    pub to: Option<Server>,
    /// Who sent it.
    pub by: Option<Peer>,
    /// Its RFC 8446 name, such as `unknown_ca`.
    pub name: Option<String>,
}

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// The device.
    Device,
    /// The server.
    Server,
}

/// An answer of the device's HTTP API; all that is given must hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Answer {
    /// The path that was called.
    pub path: Option<String>,
    /// The status answered.
    #[schemars(range(min = 100, max = 599))]
    pub status: Option<u16>,
    /// A text in the answer's body.
    pub body_contains: Option<String>,
}

/// What the time server can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TimeMet {
    /// The device asked for the time.
    Asked,
}

/// What can become of the device's power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PowerMet {
    /// It was cut just before the write that `cut-before` names.
    Cut,
}

pub(super) fn has<T>(wish: Option<&T>, holds: impl FnOnce(&T) -> bool) -> bool {
    wish.is_none_or(holds)
}

fn line(what: &What) -> Option<&str> {
    match what {
        What::Line(line) | What::Partial(line) => Some(line),
        _ => None,
    }
}

impl Expectation {
    /// The source it reads.
    pub fn source(&self) -> Source {
        match self {
            Expectation::Device(_) | Expectation::State(_) => Source::Device,
            Expectation::Mqtt(_) => Source::Mqtt,
            Expectation::Ca(_) => Source::Ca,
            Expectation::Broker(_) | Expectation::Packet(_) => Source::Broker,
            Expectation::Link(_) => Source::Link,
            Expectation::Http(_) => Source::Http,
            Expectation::Time(_) => Source::Time,
            Expectation::Power(_) => Source::Runner,
        }
    }

    /// Whether this event is what is expected.
    pub fn meets(&self, event: &Event) -> bool {
        if event.from != self.source() {
            return false;
        }
        match (self, &event.what) {
            (Expectation::Device(wish), what) => line(what).is_some_and(|line| wish.meets(line)),
            (Expectation::State(state), what) => {
                let report = line(what).and_then(Report::from_line).map(|(_, report)| report);
                matches!(report, Some(Report::State { to, .. }) if to == state.0)
            }
            (Expectation::Mqtt(wish), What::Message(message)) => wish.meets(message),
            (Expectation::Ca(wish), What::Request(request)) => wish.meets(request),
            (Expectation::Broker(wish), what) => line(what).is_some_and(|line| {
                has(wish.event.as_ref(), |event| event.is_said_by(line))
                    && has(wish.text.as_ref(), |text| line.contains(text.as_str()))
                    && has(wish.pattern.as_ref(), |p| p.matches(line))
            }),
            (Expectation::Packet(wish), What::Packet(packet)) => wish.meets(packet),
            (Expectation::Link(wish), what) => wish.meets(what),
            (Expectation::Http(wish), What::Exchange(exchange)) => wish.meets(exchange),
            (Expectation::Time(TimeMet::Asked), What::TimeAsked { .. }) => true,
            (Expectation::Power(PowerMet::Cut), What::Power(Power::CutBefore { .. } | Power::CutAt { .. })) => true,
            _ => false,
        }
    }

    /// What serde cannot say: that something must be given, and that a report has the fields named.
    ///
    /// # Errors
    /// Two lines: what was met, and what to write instead.
    pub fn check(&self) -> Result<(), String> {
        let empty = |what: &str, keys: &str| Err(format!("a {what} of which nothing is said\ngive one of: {keys}"));
        match self {
            Expectation::Device(wish) => {
                if wish.report.is_none() && wish.text.is_none() && wish.pattern.is_none() && wish.with.is_empty() {
                    return empty("device line", "report, text, pattern");
                }
                let Some(ReportName(name)) = &wish.report else {
                    return if wish.with.is_empty() {
                        Ok(())
                    } else {
                        Err("`with` without `report`\nname the report whose fields these are".into())
                    };
                };
                let Some(word) = Report::WORDS.iter().find(|w| w.name == name) else { return Ok(()) };
                let fields: Vec<String> = word.fields.iter().map(|f| f.replace('_', "-")).collect();
                let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
                if let Some(key) = wish.with.keys().find(|key| !fields.contains(&key.as_str())) {
                    return Err(format!(
                        "`{key}` is no field of the report `{name}`\n{}",
                        crate::scenario::problem::choice(key, &fields)
                    ));
                }
                // What is put in later, such as `${device}`, is not known yet.
                let never =
                    |key: &str, text: &str| !text.contains("${") && !Report::field_can_be(name, &key.replace('-', "_"), text);
                match wish.with.iter().find(|(key, text)| never(key, &text.0)) {
                    Some((key, text)) => Err(format!(
                        "`{key}` of the report `{name}` is never `{}`\nwrite it as the device does: `{}`",
                        text.0, word.example
                    )),
                    None => Ok(()),
                }
            }
            Expectation::Broker(wish) if wish.event.is_none() && wish.text.is_none() && wish.pattern.is_none() => {
                empty("broker line", "event, text, pattern")
            }
            _ => Ok(()),
        }
    }
}

impl DeviceSays {
    fn meets(&self, line: &str) -> bool {
        let report = || Report::from_line(line).map(|(_, report)| report);
        has(self.text.as_ref(), |text| line.contains(text.as_str()))
            && has(self.pattern.as_ref(), |pattern| pattern.matches(line))
            && has(self.report.as_ref(), |name| {
                report().is_some_and(|report| {
                    let fields = report.fields();
                    report.word().name == name.0
                        && self.with.iter().all(|(key, wish)| {
                            fields.iter().any(|(name, value)| name.replace('_', "-") == *key && *value == wish.0)
                        })
                })
            })
    }
}

impl Message {
    fn meets(&self, message: &MqttMessage) -> bool {
        self.topic.matches(&message.topic)
            && has(self.payload.as_ref(), |payload| message.payload == **payload)
            && has(self.text.as_ref(), |text| message.payload.contains(text.as_str()))
            && has(self.pattern.as_ref(), |pattern| pattern.matches(&message.payload))
            && has(self.retained.as_ref(), |retained| message.retained == *retained)
    }
}

impl CaMet {
    fn meets(&self, request: &CaRequest) -> bool {
        has(self.request.as_ref(), |call| *call == CaCall::Any || request.what == call.name())
            && has(self.status.as_ref(), |status| request.status == Some(*status))
            && has(self.outcome.as_ref(), |outcome| request.outcome == **outcome)
            && has(self.lie.as_ref(), |lie| request.lies.contains(lie))
    }
}

impl LinkSays {
    fn meets(&self, what: &What) -> bool {
        let to = |wish: &Option<Server>, to: &str| has(wish.as_ref(), |server| server.name() == to);
        match (self, what) {
            (LinkSays::Opened(wish), What::Opened { to: server, .. }) => to(&wish.to, server),
            (LinkSays::Closed(wish), What::Closed { to: server, .. }) => to(&wish.to, server),
            (LinkSays::Hello(wish), What::ClientHello(hello)) => {
                to(&wish.to, &hello.to)
                    && has(wish.sni.as_ref(), |sni| hello.sni.as_ref() == Some(sni))
                    && has(wish.version.as_ref(), |version| hello.versions.contains(version))
                    && has(wish.not_version.as_ref(), |version| !hello.versions.contains(version))
                    && has(wish.suite.as_ref(), |suite| hello.suites.contains(suite))
                    && has(wish.suite_beyond.as_ref(), |known| hello.suites.iter().any(|suite| !known.contains(suite)))
                    && has(wish.group.as_ref(), |group| hello.groups.contains(group))
            }
            (LinkSays::Chosen(wish), What::ServerHello(hello)) => {
                to(&wish.to, &hello.to)
                    && has(wish.version.as_ref(), |version| hello.version == **version)
                    && has(wish.suite.as_ref(), |suite| hello.suite == **suite)
            }
            (LinkSays::ClientCertificate(wish), What::ClientCertificate { to: server, sent, .. }) => {
                to(&wish.to, server) && has(wish.sent.as_ref(), |wish| wish == sent)
            }
            (LinkSays::Alert(wish), What::Alert { to: server, by, name, .. }) => {
                let peer = |peer: &Peer| by == if *peer == Peer::Device { "device" } else { "server" };
                to(&wish.to, server) && has(wish.by.as_ref(), peer) && has(wish.name.as_ref(), |wish| wish == name)
            }
            _ => false,
        }
    }
}

impl Answer {
    fn meets(&self, exchange: &Exchange) -> bool {
        has(self.path.as_ref(), |path| exchange.path == **path)
            && has(self.status.as_ref(), |status| exchange.status == Some(*status))
            && has(self.body_contains.as_ref(), |text| exchange.body.contains(text.as_str()))
    }
}

/// Says the parts that are given, one after the other.
pub(super) struct Parts<'a, 'f>(pub(super) &'a mut fmt::Formatter<'f>);

impl Parts<'_, '_> {
    pub(super) fn say(&mut self, word: &str, value: Option<&dyn fmt::Display>) -> Result<&mut Self, fmt::Error> {
        if let Some(value) = value {
            write!(self.0, " {word} {value}")?;
        }
        Ok(self)
    }
}

fn quoted(text: Option<&String>) -> Option<String> {
    text.map(|text| crate::scenario::yaml::shown(text))
}

pub(super) fn shown<T: fmt::Display>(value: &Option<T>) -> Option<&dyn fmt::Display> {
    value.as_ref().map(|value| value as &dyn fmt::Display)
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// In one line, as it is written in a scenario.
impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expectation::Device(wish) => {
                f.write_str("device")?;
                let mut parts = Parts(f);
                parts.say("report", wish.report.as_ref().map(|r| &r.0 as &dyn fmt::Display))?;
                for (field, value) in &wish.with {
                    parts.say(field, Some(&value.0))?;
                }
                parts.say("text", shown(&quoted(wish.text.as_ref())))?.say("pattern", shown(&wish.pattern))?;
            }
            Expectation::State(state) => write!(f, "state {}", state.0)?,
            Expectation::Mqtt(wish) => {
                write!(f, "mqtt message on {}", wish.topic)?;
                let retained = wish.retained.map(|r| if r { "yes" } else { "no" });
                Parts(f)
                    .say("payload", shown(&quoted(wish.payload.as_ref())))?
                    .say("text", shown(&quoted(wish.text.as_ref())))?
                    .say("pattern", shown(&wish.pattern))?
                    .say("retained", shown(&retained))?;
            }
            Expectation::Ca(wish) => {
                write!(f, "ca request {}", wish.request.map_or("any", CaCall::name))?;
                Parts(f).say("status", shown(&wish.status))?.say("outcome", shown(&wish.outcome))?.say("lie", shown(&wish.lie))?;
            }
            Expectation::Broker(wish) => {
                f.write_str("broker log")?;
                Parts(f)
                    .say("event", shown(&wish.event))?
                    .say("text", shown(&quoted(wish.text.as_ref())))?
                    .say("pattern", shown(&wish.pattern))?;
            }
            Expectation::Packet(wish) => write!(f, "{wish}")?,
            Expectation::Link(wish) => wish.describe(f)?,
            Expectation::Http(wish) => {
                f.write_str("http answer")?;
                Parts(f)
                    .say("path", shown(&wish.path))?
                    .say("status", shown(&wish.status))?
                    .say("containing", shown(&quoted(wish.body_contains.as_ref())))?;
            }
            Expectation::Time(TimeMet::Asked) => f.write_str("time asked")?,
            Expectation::Power(PowerMet::Cut) => f.write_str("power cut")?,
        }
        Ok(())
    }
}

impl LinkSays {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkSays::Opened(wish) => {
                f.write_str("link opened")?;
                Parts(f).say("to", shown(&wish.to))?;
            }
            LinkSays::Closed(wish) => {
                f.write_str("link closed")?;
                Parts(f).say("to", shown(&wish.to))?;
            }
            LinkSays::Hello(wish) => {
                f.write_str("link hello")?;
                Parts(f)
                    .say("to", shown(&wish.to))?
                    .say("sni", shown(&wish.sni))?
                    .say("version", shown(&wish.version))?
                    .say("not-version", shown(&wish.not_version))?
                    .say("suite", shown(&wish.suite))?
                    .say("suite-beyond", shown(&wish.suite_beyond.as_ref().map(|known| known.join(", "))))?
                    .say("group", shown(&wish.group))?;
            }
            LinkSays::Chosen(wish) => {
                f.write_str("link chosen")?;
                Parts(f).say("to", shown(&wish.to))?.say("version", shown(&wish.version))?.say("suite", shown(&wish.suite))?;
            }
            LinkSays::ClientCertificate(wish) => {
                f.write_str("link client-certificate")?;
                Parts(f).say("to", shown(&wish.to))?.say("sent", shown(&wish.sent))?;
            }
            LinkSays::Alert(wish) => {
                f.write_str("link alert")?;
                let by = wish.by.map(|by| if by == Peer::Device { "device" } else { "server" });
                Parts(f).say("to", shown(&wish.to))?.say("by", shown(&by))?.say("name", shown(&wish.name))?;
            }
        }
        Ok(())
    }
}

/// Waits until an expectation has been met so many times.
#[derive(Clone, Debug)]
pub(super) struct Await {
    pub(super) wish: Arc<Expectation>,
    pub(super) times: u32,
    pub(super) met: u32,
    pub(super) within: Duration,
}

impl Watch for Await {
    fn reads(&self) -> &[Source] {
        source_of(&self.wish)
    }
    fn observe(&mut self, event: &Event) -> Progress {
        if self.wish.meets(event) {
            self.met += 1;
        }
        if self.met >= self.times { Progress::Met } else { Progress::Waiting }
    }
    fn within(&self) -> Duration {
        self.within
    }
    fn time_up(&mut self) -> Progress {
        let within = crate::scenario::value::Period(self.within);
        let seen = if self.times > 1 { format!(" (seen {} of {} times)", self.met, self.times) } else { String::new() };
        Progress::Failed(format!("not seen within {within}: {}{seen}", self.wish))
    }
    fn describe(&self) -> String {
        if self.times > 1 { format!("{}, {} times", self.wish, self.times) } else { self.wish.to_string() }
    }
}

/// Fails when an expectation is met before the time is up.
#[derive(Clone, Debug)]
pub(super) struct Absent {
    pub(super) wish: Arc<Expectation>,
    pub(super) lasting: Duration,
}

impl Watch for Absent {
    fn reads(&self) -> &[Source] {
        source_of(&self.wish)
    }
    fn observe(&mut self, event: &Event) -> Progress {
        if self.wish.meets(event) {
            Progress::Failed(format!("seen, though it should not be: {}", self.wish))
        } else {
            Progress::Waiting
        }
    }
    fn within(&self) -> Duration {
        self.lasting
    }
    fn time_up(&mut self) -> Progress {
        Progress::Met
    }
    fn describe(&self) -> String {
        format!("none of: {}", self.wish)
    }
}

fn source_of(wish: &Expectation) -> &'static [Source] {
    Source::ALL.iter().position(|s| *s == wish.source()).map_or(&[], |at| std::slice::from_ref(&SOURCES[at]))
}

static SOURCES: [Source; 8] = Source::ALL;

/// Meets as soon as an expectation is seen, whenever that is: what `never` watches for.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) wish: Arc<Expectation>,
}

impl Watch for Seen {
    fn reads(&self) -> &[Source] {
        source_of(&self.wish)
    }
    fn observe(&mut self, event: &Event) -> Progress {
        if self.wish.meets(event) { Progress::Met } else { Progress::Waiting }
    }
    fn within(&self) -> Duration {
        Duration::MAX
    }
    fn time_up(&mut self) -> Progress {
        Progress::Waiting
    }
    fn describe(&self) -> String {
        self.wish.to_string()
    }
}
