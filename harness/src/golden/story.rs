//! Tells what happened in words that are the same in every run.

use super::Reach;
use crate::event::{Event, MqttPacket, Source, What, printable};
use crate::verdict::Place;
use device_core::report::Report;
use regex::Regex;
use serde_json::Value;
use std::fmt::Write as _;
use std::sync::LazyLock;

/// The sources that have a section, in the order of the sections. A broker's log differs between versions, so of a
/// broker only scripted packets are told; the clock's server and the runner have nothing to tell that the others do not.
const SECTIONS: [Source; 6] = [Source::Device, Source::Http, Source::Ca, Source::Mqtt, Source::Broker, Source::Link];
/// What a device in this process calls the machine of its servers: this one.
pub(crate) const OWN_HOST: &str = "localhost";
/// Lines of one section at most.
const LINES_MAX: usize = 500;

/// What happened up to a `snapshot` step, in stable words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// The golden's name, as the step gives it.
    pub name: String,
    /// The step.
    pub place: Place,
    /// The story.
    pub text: String,
}

impl Story {
    /// Tells the story of these events, as far as `reach` goes, of a device that calls the machine of its servers `host`.
    pub fn new(name: String, place: Place, events: &[Event], reach: &Reach, host: &str) -> Story {
        let words = Words::of(events).and_host(host);
        let mut text = String::new();
        for source in SECTIONS {
            let mut lines: Vec<String> = Vec::new();
            for event in events.iter().take(reach.of(source)).filter(|event| event.from == source) {
                let Some(line) = words.tell(&event.what) else { continue };
                // Messages come as often as time allows, connections as often as they fail: that they came is the story.
                let told = match source {
                    Source::Mqtt => lines.contains(&line),
                    Source::Link => lines.last() == Some(&line),
                    _ => false,
                };
                if !told && lines.len() < LINES_MAX {
                    lines.push(line);
                }
            }
            if !lines.is_empty() {
                let _ = writeln!(text, "{source}");
                lines.iter().for_each(|line| {
                    let _ = writeln!(text, "  {line}");
                });
            }
        }
        Story { name, place, text }
    }
}

/// The words that stand for what differs from run to run.
pub(crate) struct Words {
    device_ids: Vec<String>,
    host: String,
}

impl Words {
    /// The words for these events: their device ids have one.
    pub(crate) fn of(events: &[Event]) -> Words {
        let mut device_ids = Vec::new();
        for event in events {
            let id = match &event.what {
                What::Request(request) => request.device_id.clone(),
                What::Line(line) if event.from == Source::Device => match Report::from_line(line) {
                    Some((_, Report::CredentialsSaved { device_id })) => Some(device_id),
                    _ => None,
                },
                _ => None,
            };
            device_ids.extend(id.filter(|id| !id.is_empty() && !device_ids.contains(id)));
        }
        // The longest first, so that one that begins like another is not cut in two.
        device_ids.sort_by_key(|id| std::cmp::Reverse(id.len()));
        Words { device_ids, host: OWN_HOST.to_owned() }
    }

    /// The same words, with one more device id that has a word.
    pub(crate) fn and_device(mut self, id: &str) -> Words {
        if !id.is_empty() && !self.device_ids.iter().any(|known| known == id) {
            self.device_ids.push(id.to_owned());
            self.device_ids.sort_by_key(|id| std::cmp::Reverse(id.len()));
        }
        self
    }

    /// The same words, for a device that calls the machine of its servers so.
    pub(crate) fn and_host(self, host: &str) -> Words {
        Words { host: host.to_owned(), ..self }
    }

    /// A server's name as a device asked for it, which is the one it was told or another.
    pub(crate) fn server_name(&self, name: &str) -> String {
        if name == self.host { "<host>".to_owned() } else { self.stable(name) }
    }

    fn tell(&self, what: &What) -> Option<String> {
        match what {
            What::Line(line) => {
                let (line, report) = Report::from_line(line)?;
                let word = report.word();
                word.story.then(|| format!("{}: {}", word.name, self.stable(line.text)))
            }
            What::Exchange(exchange) => {
                let answer =
                    exchange.status.map_or("no answer".into(), |status| format!("{status} {}", self.shape_of(&exchange.body)));
                Some(format!("{} {} -> {answer}", exchange.method, self.stable(&exchange.path)))
            }
            What::Request(request) => {
                let mut line = self.stable(&request.what);
                if let Some(id) = &request.device_id {
                    let _ = write!(line, " from {}", self.stable(id));
                }
                let status = request.status.map_or("no answer".into(), |status| status.to_string());
                let _ = write!(line, " -> {status} {}", self.stable(&request.outcome));
                if !request.lies.is_empty() {
                    let _ = write!(line, " (lies: {})", request.lies.join(", "));
                }
                Some(line)
            }
            What::Message(message) => {
                let retained = if message.retained { " (retained)" } else { "" };
                Some(format!("{}{retained} {}", self.stable(&message.topic), self.shape_of(&message.payload)))
            }
            What::Packet(packet) => self.tell_packet(packet),
            // Versions, suites and client certificates are not told: they differ between the rows of a matrix, and TLS 1.3 hides the last.
            What::ClientHello(hello) => {
                let name =
                    hello.sni.as_deref().map_or("no server name".into(), |sni| format!("server name {}", self.server_name(sni)));
                Some(format!("{}: ClientHello, {name}", hello.to))
            }
            _ => None,
        }
    }

    /// What the device sent, and what the broker made of it where it lied. Pings are no story, nor which ids and how many connections there were.
    fn tell_packet(&self, packet: &MqttPacket) -> Option<String> {
        if packet.kind == "pingreq" || (packet.by == "broker" && packet.lies.is_empty()) {
            return None;
        }
        let stable = MqttPacket { connection: 0, id: None, bytes: 0, ..packet.clone() };
        let line = stable.to_string();
        Some(self.stable(line.strip_prefix("#0 ").unwrap_or(&line)))
    }

    /// A payload's shape: of JSON the names and the stable values, of anything else its stable words.
    fn shape_of(&self, payload: &str) -> String {
        match serde_json::from_str::<Value>(payload) {
            Ok(value @ (Value::Object(_) | Value::Array(_))) => self.shape(&value),
            _ => self.stable(payload),
        }
    }

    fn shape(&self, value: &Value) -> String {
        match value {
            Value::Object(fields) => {
                let fields: Vec<String> =
                    fields.iter().map(|(name, value)| format!("{}: {}", printable(name), self.shape(value))).collect();
                format!("{{{}}}", fields.join(", "))
            }
            Value::Array(items) => {
                let mut shapes: Vec<String> = items.iter().map(|item| self.shape(item)).collect();
                shapes.dedup();
                format!("[{}]", shapes.join(", "))
            }
            Value::Number(_) => "<number>".into(),
            Value::String(text) => self.stable(text),
            Value::Bool(_) | Value::Null => value.to_string(),
        }
    }

    /// The text with a word for everything that differs from run to run; printable.
    pub(crate) fn stable(&self, text: &str) -> String {
        let mut text = printable(text).into_owned();
        for id in &self.device_ids {
            text = text.replace(id, "<device>");
        }
        for (pattern, word) in VARIABLE.iter() {
            if let std::borrow::Cow::Owned(stable) = pattern.replace_all(&text, *word) {
                text = stable;
            }
        }
        text
    }
}

/// What differs from run to run, and the word for it. Status codes, reason codes and flags are short numbers: they stay.
static VARIABLE: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let patterns = [
        (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "<date>"),
        (r"\b\d{1,3}(\.\d{1,3}){3}(:\d+)?\b", "<address>"),
        (r"\[[0-9a-fA-F:]*:[0-9a-fA-F:]*\](:\d+)?", "<address>"),
        (r"\b(localhost|host):\d+\b", "<address>"),
        (r"\b\d+\.\d+\.\d+(-[0-9A-Za-z.]+)?\b", "<version>"),
        (r"\b\d+(\.\d+)? ?(us|µs|ms|s|min)\b", "<time>"),
        (r"\b(([0-9a-fA-F]{2}:){7,}[0-9a-fA-F]{2}|[0-9a-fA-F]{16,})\b", "<hex>"),
        (r"\b\d{4,}\b", "<number>"),
    ];
    patterns.into_iter().filter_map(|(pattern, word)| Some((Regex::new(pattern).ok()?, word))).collect()
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{CaRequest, MqttMessage};

    #[test]
    fn every_pattern_is_one() {
        assert_eq!(VARIABLE.len(), 8);
    }

    #[test]
    fn what_differs_has_a_word_and_codes_stay() {
        let words = Words { device_ids: vec!["device_0070".into()], host: "10.0.2.2".into() };
        assert_eq!(words.server_name("10.0.2.2"), "<host>");
        assert_eq!(words.server_name("localhost"), "localhost");
        for (text, stable) in [
            (
                "Certificate stored: CN=device_0070, valid until 2027-01-01T00:00:00Z",
                "Certificate stored: CN=<device>, valid until <date>",
            ),
            ("CA refused with 401", "CA refused with 401"),
            ("Connected to broker (session_present=0)", "Connected to broker (session_present=0)"),
            ("Connecting to mqtts://127.0.0.1:38123 (v5)", "Connecting to mqtts://<address> (v5)"),
            ("device-core 0.1.0", "device-core <version>"),
            ("Next try of mqtt in 1342 ms, attempt 2", "Next try of mqtt in <time>, attempt 2"),
            ("GET https://localhost:8443/ca.crt", "GET https://<address>/ca.crt"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
        ] {
            assert_eq!(words.stable(text), stable);
        }
    }

    #[test]
    fn a_section_ends_where_the_waiting_did() {
        let line = |at_us, text: &str| Event { at_us, from: Source::Device, what: What::Line(format!("I (1) {text}")) };
        let request = What::Request(CaRequest {
            what: "sign-csr".into(),
            device_id: Some("d1".into()),
            status: Some(200),
            outcome: "issued".into(),
            lies: vec![],
            issued: Default::default(),
        });
        let message = |n: u32| {
            What::Message(MqttMessage {
                topic: "devices/d1/telemetry".into(),
                payload: format!(r#"{{"number":{n},"ok":true}}"#),
                qos: 1,
                retained: false,
            })
        };
        let events = [
            line(1, "boot: device-core 0.1.0"),
            line(2, "console: Ready"),
            Event { at_us: 3, from: Source::Ca, what: request },
            line(4, "cert: Made a new ECDSA P-256 key"),
            Event { at_us: 5, from: Source::Mqtt, what: message(1) },
            Event { at_us: 6, from: Source::Mqtt, what: message(2) },
            line(7, "wifi: Access point stopped"),
        ];
        let mut reach = Reach::default();
        reach.advance(Source::Device, 4);
        reach.advance(Source::Ca, 3);
        reach.advance(Source::Mqtt, 6);
        let place = Place { file: "x.yaml".into(), line: 1, step: Some(0), name: "snapshot".into() };
        let story = Story::new("story".into(), place, &events, &reach, OWN_HOST);
        let expected = "device\n  booting: device-core <version>\n  key-made: Made a new ECDSA P-256 key\n\
             ca\n  sign-csr from <device> -> 200 issued\n\
             mqtt\n  devices/<device>/telemetry {number: <number>, ok: true}\n";
        assert_eq!(story.text, expected);
    }
}
