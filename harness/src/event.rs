//! What the testbed saw: one event, from one source, at one moment. Everything is judged from these and nothing else.

use device_core::storage::Moment;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Who says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The device's console.
    Device,
    /// The device's HTTP API, seen by its client.
    Http,
    /// The certificate authority.
    Ca,
    /// The time server.
    Time,
    /// Messages on the broker, seen by the tap.
    Mqtt,
    /// The broker's log.
    Broker,
    /// The wire between the device and a server.
    Link,
    /// The runner: steps, acts, time that passed.
    Runner,
}

impl Source {
    /// Every source.
    pub const ALL: [Source; 8] =
        [Source::Device, Source::Http, Source::Ca, Source::Time, Source::Mqtt, Source::Broker, Source::Link, Source::Runner];

    /// The name, as scenarios and reports use it.
    pub fn name(self) -> &'static str {
        match self {
            Source::Device => "device",
            Source::Http => "http",
            Source::Ca => "ca",
            Source::Time => "time",
            Source::Mqtt => "mqtt",
            Source::Broker => "broker",
            Source::Link => "link",
            Source::Runner => "runner",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Microseconds of wall clock since the trial began. Never goes back on a tape.
    pub at_us: u64,
    /// Who says it.
    pub from: Source,
    /// What happened.
    pub what: What,
}

/// What happened. Texts are already redacted when an event is built into a tape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum What {
    /// Device, broker: a line was said (without its line end).
    Line(String),
    /// Device: what has been said, since the last such event, of a line that has not ended: a prompt, or the end of the stream. When the
    /// line ends after all, it comes as a whole.
    Partial(String),
    /// Device: the target ended by itself. A crash is the device's fault, a loss the testbed's.
    Ended(Ended),
    /// Device: its storage was written, as a target sees it that keeps it. One write is one event.
    Stored {
        /// What changed in it: `settings`, `credentials`, `key`, `certificate`, …; several, with commas, when they changed at once.
        what: String,
    },
    /// Http: an exchange with the device's HTTP API.
    Exchange(Exchange),
    /// Ca: a request came and was answered (or deliberately not).
    Request(CaRequest),
    /// Time: a request came and was answered (or not).
    TimeAsked {
        /// The date given, seconds since 1970; none when silent.
        told_unix: Option<i64>,
    },
    /// Mqtt: a message was delivered to the tap.
    Message(MqttMessage),
    /// Broker: a packet between the device and a scripted broker.
    Packet(Box<MqttPacket>),
    /// Link: a connection was opened by the device, to this server (`ca`, `broker`).
    Opened {
        /// Which server.
        to: String,
        /// Counts connections on this link from 1.
        connection: u32,
    },
    /// Link: a ClientHello passed.
    ClientHello(ClientHello),
    /// Link: a ServerHello passed.
    ServerHello(ServerHello),
    /// Link: the device sent a client certificate (readable in TLS 1.2 only; in 1.3 it is encrypted and never claimed).
    ClientCertificate {
        /// Which server.
        to: String,
        /// Which connection.
        connection: u32,
        /// Whether a certificate was in the message.
        sent: bool,
    },
    /// Link: an alert passed in the clear.
    Alert {
        /// Which server.
        to: String,
        /// Which connection.
        connection: u32,
        /// Who sent it: `device` or `server`.
        by: String,
        /// RFC 8446 name, such as `unknown_ca`.
        name: String,
    },
    /// Link: a connection ended.
    Closed {
        /// Which server.
        to: String,
        /// Which connection.
        connection: u32,
        /// Bytes from device to server, and back.
        bytes_up: u64,
        /// Bytes from server to device.
        bytes_down: u64,
    },
    /// Runner: power was switched on, off, or cut at a write.
    Power(Power),
    /// Runner: the broker was started, stopped or killed by a step.
    BrokerPower {
        /// `started`, `stopped` or `killed`.
        now: String,
    },
    /// Runner: this step began. Steps count from 0.
    StepBegan {
        /// Which step.
        step: usize,
    },
    /// Runner: what this step did is done (a pure expectation has none).
    Acted {
        /// Which step.
        step: usize,
    },
    /// Runner: what this step tried could not be done, by the testbed's fault.
    ActFailed {
        /// Which step.
        step: usize,
        /// Why, with the next thing to do.
        why: String,
    },
    /// Runner: the deadline the script had asked for passed. This is how time gets on the tape.
    DeadlinePassed,
    /// Runner: something of the testbed broke that no step asked for.
    Broke {
        /// What and why.
        why: String,
    },
    /// Runner: a part of what the device said or was told is lost for good on its way. What is not seen afterwards proves nothing.
    Gap {
        /// What was lost, and where.
        why: String,
    },
    /// Runner: a note for readers; never judged.
    Note(String),
    /// Runner: the trial was ended from outside (Ctrl-C, the overall limit of the run).
    Interrupted,
}

/// How a target ended by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ended {
    /// Panic, watchdog, abort: the device's fault.
    Crashed {
        /// What it said.
        why: String,
        /// Where it was, innermost first, where an image tells.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        backtrace: Vec<String>,
    },
    /// The emulator, cable or process went away: the testbed's fault.
    Lost {
        /// What is known.
        why: String,
    },
}

/// Power, as the runner switches it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Power {
    /// On.
    On,
    /// Off.
    Off,
    /// Cut just before a write to storage, as armed by a step.
    CutBefore {
        /// The write's name (`device_core::storage::Write`).
        write: String,
    },
    /// Cut at a write to the storage medium, as armed by a step.
    CutAt {
        /// Which write since power-on, from 1.
        nth: u32,
        /// How much of it was done.
        moment: Moment,
    },
}

/// An exchange with the device's HTTP API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// Method.
    pub method: String,
    /// Path.
    pub path: String,
    /// Status; none when no answer came.
    pub status: Option<u16>,
    /// The answer's body (bounded, redacted), or why no answer came.
    pub body: String,
}

/// A request to the CA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaRequest {
    /// What was asked: `sign-csr`, `renew`, `ca.crt`, `crl`, or the path.
    pub what: String,
    /// The device id in the request, if one could be read.
    pub device_id: Option<String>,
    /// HTTP status answered; none when the connection was cut instead.
    pub status: Option<u16>,
    /// Outcome in a word: `issued`, `issued-again`, `refused`, or the refusal's reason; never a secret.
    pub outcome: String,
    /// Which misbehaviour took part, by name.
    pub lies: Vec<String>,
    /// Facts of the certificate issued, by field name (`subject`, `not_after`, `serial`).
    pub issued: BTreeMap<String, String>,
}

/// A message on the broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttMessage {
    /// Topic.
    pub topic: String,
    /// Payload as text (lossy, bounded).
    pub payload: String,
    /// QoS it was delivered with.
    pub qos: u8,
    /// Whether it came as a retained message or carries the retain-as-published flag.
    pub retained: bool,
}

/// A packet between the device and a scripted broker, or its TLS handshake. Never a payload, nor what a CONNECT says of who it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MqttPacket {
    /// Counts the device's connections to the broker from 1.
    pub connection: u32,
    /// Who sent it: `device` or `broker`.
    pub by: String,
    /// `connect`, `publish`, …; `wrong`: what is no packet, or not allowed there; `handshake`: that of TLS, where it failed or a lie was told.
    pub kind: String,
    /// Packet id.
    pub id: Option<u16>,
    /// Whether it says that it was sent before.
    pub dup: bool,
    /// QoS of a publish, the highest asked for of a subscribe.
    pub qos: Option<u8>,
    /// Whether it is to be retained, or was.
    pub retained: bool,
    /// The topic, or the filters.
    pub topic: Option<String>,
    /// Reason or return code.
    pub code: Option<u8>,
    /// Bytes of the packet.
    pub bytes: u32,
    /// Of the device's: the same packet with the same id was sent before and not acknowledged, on this connection (`live`) or on an earlier
    /// one (`after-reconnect`).
    pub again: Option<String>,
    /// What was wrong, in words; of a handshake the device's alert: `alert unknown_ca`.
    pub why: Option<String>,
    /// Of the broker's: which misbehaviour took part, by name.
    pub lies: Vec<String>,
}

/// A ClientHello, read in passing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientHello {
    /// Which server: `ca` or `broker`.
    pub to: String,
    /// Which connection.
    pub connection: u32,
    /// Versions offered, such as `1.3`.
    pub versions: Vec<String>,
    /// Server name indication.
    pub sni: Option<String>,
    /// Cipher suites, IANA names (hex when unknown).
    pub suites: Vec<String>,
    /// Groups, IANA names.
    pub groups: Vec<String>,
}

/// A ServerHello, read in passing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerHello {
    /// Which server.
    pub to: String,
    /// Which connection.
    pub connection: u32,
    /// Version chosen.
    pub version: String,
    /// Suite chosen.
    pub suite: String,
}

impl What {
    /// Visits every text in the event: what a redactor must look at. A new text that is not listed here does not compile.
    pub fn for_each_text(&mut self, see: &mut dyn FnMut(&mut String)) {
        match self {
            What::Line(text) | What::Partial(text) | What::Note(text) | What::Stored { what: text } => see(text),
            What::Ended(Ended::Crashed { why, backtrace }) => {
                see(why);
                backtrace.iter_mut().for_each(see);
            }
            What::Ended(Ended::Lost { why }) => see(why),
            What::Exchange(Exchange { method, path, status: _, body }) => [method, path, body].into_iter().for_each(see),
            What::Request(CaRequest { what, device_id, status: _, outcome, lies, issued }) => {
                see(what);
                device_id.iter_mut().for_each(&mut *see);
                see(outcome);
                lies.iter_mut().for_each(&mut *see);
                *issued = std::mem::take(issued)
                    .into_iter()
                    .map(|(mut key, mut value)| {
                        see(&mut key);
                        see(&mut value);
                        (key, value)
                    })
                    .collect();
            }
            What::Message(MqttMessage { topic, payload, qos: _, retained: _ }) => [topic, payload].into_iter().for_each(see),
            What::Packet(packet) => {
                let MqttPacket {
                    connection: _,
                    by,
                    kind,
                    id: _,
                    dup: _,
                    qos: _,
                    retained: _,
                    topic,
                    code: _,
                    bytes: _,
                    again,
                    why,
                    lies,
                } = &mut **packet;
                [by, kind].into_iter().chain(topic).chain(again).chain(why).chain(lies).for_each(see);
            }
            What::Opened { to, connection: _ }
            | What::ClientCertificate { to, connection: _, sent: _ }
            | What::Closed { to, connection: _, bytes_up: _, bytes_down: _ } => see(to),
            What::ClientHello(ClientHello { to, connection: _, versions, sni, suites, groups }) => {
                see(to);
                versions.iter_mut().chain(sni).chain(suites).chain(groups).for_each(see);
            }
            What::ServerHello(ServerHello { to, connection: _, version, suite }) => [to, version, suite].into_iter().for_each(see),
            What::Alert { to, connection: _, by, name } => [to, by, name].into_iter().for_each(see),
            What::Power(Power::CutBefore { write: text })
            | What::BrokerPower { now: text }
            | What::ActFailed { step: _, why: text }
            | What::Broke { why: text }
            | What::Gap { why: text } => see(text),
            What::TimeAsked { told_unix: _ }
            | What::Power(Power::On | Power::Off | Power::CutAt { .. })
            | What::StepBegan { step: _ }
            | What::Acted { step: _ }
            | What::DeadlinePassed
            | What::Interrupted => {}
        }
    }
}

impl What {
    /// Visits every list in the event, so that it can be bounded.
    pub fn for_each_list(&mut self, see: &mut dyn FnMut(&mut Vec<String>)) {
        match self {
            What::ClientHello(hello) => [&mut hello.versions, &mut hello.suites, &mut hello.groups].into_iter().for_each(see),
            What::Request(request) => see(&mut request.lies),
            What::Packet(packet) => see(&mut packet.lies),
            What::Ended(Ended::Crashed { backtrace, .. }) => see(backtrace),
            _ => {}
        }
    }
}

/// The event in one printable line, for people.
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            What::Line(line) => line.clone(),
            What::Partial(text) => format!("{text} (no line end)"),
            What::Ended(Ended::Crashed { why, .. }) => format!("crashed: {why}"),
            What::Ended(Ended::Lost { why }) => format!("lost: {why}"),
            What::Stored { what } => format!("stored {what}"),
            What::Exchange(Exchange { method, path, status: Some(status), body }) => format!("{method} {path} -> {status} {body}"),
            What::Exchange(Exchange { method, path, status: None, body }) => format!("{method} {path} -> no answer: {body}"),
            What::Request(request) => {
                let mut text = request.what.clone();
                if let Some(id) = &request.device_id {
                    text += &format!(" from {id}");
                }
                text += &match request.status {
                    Some(status) => format!(" -> {status} {}", request.outcome),
                    None => format!(" -> no answer: {}", request.outcome),
                };
                if !request.lies.is_empty() {
                    text += &format!(" (lies: {})", request.lies.join(", "));
                }
                text
            }
            What::TimeAsked { told_unix: Some(unix) } => format!("asked for the time, told {unix}"),
            What::TimeAsked { told_unix: None } => "asked for the time, kept silent".into(),
            What::Message(MqttMessage { topic, payload, qos, retained }) => {
                format!("{topic} (QoS {qos}{}) {payload}", if *retained { ", retained" } else { "" })
            }
            What::Packet(packet) => packet.to_string(),
            What::Opened { to, connection } => format!("{to} #{connection} opened"),
            What::ClientHello(hello) => format!(
                "{} #{} ClientHello: TLS {}, server name {}",
                hello.to,
                hello.connection,
                hello.versions.join("/"),
                hello.sni.as_deref().unwrap_or("none")
            ),
            What::ServerHello(hello) => {
                format!("{} #{} ServerHello: TLS {}, {}", hello.to, hello.connection, hello.version, hello.suite)
            }
            What::ClientCertificate { to, connection, sent } => {
                format!("{to} #{connection} client certificate {}", if *sent { "sent" } else { "withheld" })
            }
            What::Alert { to, connection, by, name } => format!("{to} #{connection} alert {name} by {by}"),
            What::Closed { to, connection, bytes_up, bytes_down } => {
                format!("{to} #{connection} closed, {bytes_up} bytes up, {bytes_down} down")
            }
            What::Power(Power::On) => "power on".into(),
            What::Power(Power::Off) => "power off".into(),
            What::Power(Power::CutBefore { write }) => format!("power cut before {write}"),
            What::Power(Power::CutAt { nth, moment: Moment::Torn }) => format!("power cut in the middle of write {nth}"),
            What::Power(Power::CutAt { nth, moment }) => format!("power cut {} write {nth}", moment.name()),
            What::BrokerPower { now } => format!("broker {now}"),
            What::StepBegan { step } => format!("step {} began", step + 1),
            What::Acted { step } => format!("step {} acted", step + 1),
            What::ActFailed { step, why } => format!("step {} could not act: {why}", step + 1),
            What::DeadlinePassed => "deadline passed".into(),
            What::Broke { why } => format!("broke: {why}"),
            What::Gap { why } => format!("lost: {why}"),
            What::Note(text) => text.clone(),
            What::Interrupted => "interrupted".into(),
        };
        f.write_str(&printable(&text))
    }
}

/// The packet in one line, for people.
impl fmt::Display for MqttPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {}: {}", self.connection, self.by, self.kind)?;
        if let Some(id) = self.id {
            write!(f, " {id}")?;
        }
        if let Some(topic) = &self.topic {
            write!(f, " {topic}")?;
        }
        if let Some(qos) = self.qos {
            write!(f, ", QoS {qos}")?;
        }
        for (holds, word) in [(self.retained, "retained"), (self.dup, "DUP")] {
            if holds {
                write!(f, ", {word}")?;
            }
        }
        if let Some(code) = self.code.filter(|code| *code != 0) {
            write!(f, ", code 0x{code:02x}")?;
        }
        if self.bytes > 0 {
            write!(f, ", {} bytes", self.bytes)?;
        }
        if let Some(again) = &self.again {
            write!(f, ", again ({again})")?;
        }
        if let Some(why) = &self.why {
            write!(f, ": {why}")?;
        }
        if !self.lies.is_empty() {
            write!(f, " (lies: {})", self.lies.join(", "))?;
        }
        Ok(())
    }
}

/// The text with every character that could move a terminal's cursor, reorder a line or hide in it written as an escape.
pub fn printable(text: &str) -> std::borrow::Cow<'_, str> {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{00ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    if !text.contains(hidden) {
        return text.into();
    }
    text.chars().map(|c| if hidden(c) { c.escape_default().to_string() } else { c.to_string() }).collect::<String>().into()
}
