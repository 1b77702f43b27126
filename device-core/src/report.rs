//! The console's log lines: what a device says, written and parsed in one file.
//!
//! A line is ESP-IDF's: `I (1234) mqtt: Connected to broker (session_present=0)`: level letter, milliseconds since boot, tag, text.
//! What comes from outside (an SSID, a server's words) is escaped, so that it can neither end a line nor pass for another field.

use crate::state::State;
use crate::time::{Instant, UnixTime};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write as _;

/// The longest line, in bytes; what does not fit is cut.
pub const LINE_MAX: usize = 512;
/// The longest word in the middle of a line, in bytes after escaping; what does not fit is cut and ends in `…`.
pub const FIELD_MAX: usize = 140;

/// Declares the vocabulary: a row is a report, its place in stories, its level, its tag, its text and an example.
/// In a text, a quoted part is literal, `field` is a word (blanks and brackets escaped) and `(field)` runs to the end of the line.
macro_rules! vocabulary {
    ($( $(#[$doc:meta])* $variant:ident { $($field:ident : $ty:ty),* } $name:literal $story:ident $level:literal $tag:literal [$($part:tt)*] $example:literal; )*) => {
        /// What a device can say. Each has a name in kebab-case (`certificate-stored`) that scenarios use.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the fields are the words of the line")]
        pub enum Report {
            $( $(#[$doc])* $variant { $($field: $ty),* }, )*
        }

        impl Report {
            /// The whole vocabulary.
            pub const WORDS: &'static [Word] = &[ $( Word { name: $name, story: vocabulary!(@story $story), example: concat!($tag, ": ", $example), fields: &[$(stringify!($field)),*] } ),* ];

            /// Whether [`Report::fields`] of a report of this name can ever show this text in this field: no text in a number.
            pub fn field_can_be(name: &str, field: &str, text: &str) -> bool {
                match (name, field) {
                    $( $( ($name, stringify!($field)) => can_be::<$ty>(text), )* )*
                    _ => false,
                }
            }

            /// The report of this name with these fields, each in the words that [`Report::fields`] gives; none when there is no such
            /// report.
            ///
            /// # Errors
            /// The name of a field that is missing, or cannot be read.
            pub fn from_fields(name: &str, value: impl Fn(&str) -> Option<String>) -> Option<Result<Report, &'static str>> {
                match name {
                    $( $name => {
                        let read = || Ok(Report::$variant {
                            $($field: value(stringify!($field)).and_then(|text| Field::read(&text)).ok_or(stringify!($field))?),*
                        });
                        Some(read())
                    } )*
                    _ => None,
                }
            }

            /// This report's row in the vocabulary.
            pub fn word(&self) -> &'static Word {
                enum Place { $( $variant ),* }
                let place = match self { $( Report::$variant { .. } => Place::$variant ),* };
                &Self::WORDS[place as usize]
            }

            /// Its fields by name, each as the console writes it at the end of a line.
            pub fn fields(&self) -> Vec<(&'static str, String)> {
                match self {
                    $( Report::$variant { $($field),* } => vec![ $( (stringify!($field), {
                        let mut out = String::new();
                        $field.write(&mut out, Extent::Tail);
                        out
                    }) ),* ], )*
                }
            }

            /// The line, without a line end.
            pub fn line(&self, at: Instant) -> String {
                let mut out = String::new();
                match self {
                    $( Report::$variant { $($field),* } => {
                        let _ = write!(out, concat!($level, " ({}) ", $tag, ": "), at.as_millis());
                        $( vocabulary!(@write out $part); )*
                    } )*
                }
                out
            }

            /// What the text said under `tag` means, if it is one of the vocabulary's.
            pub fn parse(tag: &str, text: &str) -> Option<Report> {
                $( if tag == $tag && let Some(report) = (|| {
                    let rest = text;
                    $( vocabulary!(@declare $field); )*
                    $( let rest = vocabulary!(@read rest $part); )*
                    rest.is_empty().then_some(())?;
                    Some(Report::$variant { $($field: $field?),* })
                })() {
                    return Some(report);
                } )*
                None
            }

            #[cfg(test)]
            fn samples(text: &str, number: u64) -> alloc::vec::Vec<Report> {
                alloc::vec![ $( Report::$variant { $($field: <$ty as Field>::sample(text, number)),* } ),* ]
            }
        }
    };
    (@story story) => { true };
    (@story aside) => { false };
    (@write $out:ident $literal:literal) => { $out.push_str($literal) };
    (@write $out:ident ($field:ident)) => { $field.write(&mut $out, Extent::Tail) };
    (@write $out:ident $field:ident) => { $field.write(&mut $out, Extent::Word) };
    (@declare $field:ident) => { let $field; };
    (@read $rest:ident $literal:literal) => { $rest.strip_prefix($literal)? };
    (@read $rest:ident ($field:ident)) => {{ $field = Field::read($rest); "" }};
    (@read $rest:ident $field:ident) => {{
        let (word, rest) = $rest.split_at($rest.find(DELIMITERS).unwrap_or($rest.len()));
        $field = Field::read(word);
        rest
    }};
}

vocabulary! {
    /// `booting`: first line after power-on.
    Booting { version: String } "booting" story "I" "boot" ["device-core " (version)] "device-core 0.1.0";
    /// `console-ready`: commands are read from now on.
    ConsoleReady {} "console-ready" aside "I" "console" ["Ready"] "Ready";
    /// `state`: the state machine moved.
    State { from: State, to: State } "state" story "I" "state" [from " -> " to] "AP_MODE -> WIFI_CONNECTING";
    /// `status`: where the device stands, as the command `status` asks.
    Status { state: State, connected: bool, produced: u64, delivered: u64, queued: u64, dropped: u64, connects: u64 } "status" aside "I" "console"
        ["Status: " state " connected=" connected " produced=" produced " delivered=" delivered " queued=" queued " dropped=" dropped " connects=" connects]
        "Status: MQTT_CONNECTED connected=1 produced=5 delivered=3 queued=2 dropped=0 connects=1";
    /// `help`: one command of the console.
    Help { text: String } "help" aside "I" "console" ["Help: " (text)] "Help: status";
    /// `settings-saved`: `save` wrote the staged settings.
    SettingsSaved { count: u32 } "settings-saved" aside "I" "config" ["Saved " count " settings"] "Saved 3 settings";
    /// `setting-refused`: a setting from the environment, from storage, or a combination of settings cannot be used.
    SettingRefused { why: String } "setting-refused" story "E" "config" ["Refused: " (why)] "Refused: MQTT_PORT: met `x`, allowed 1-65535";
    /// `command-done`: a command that has no line of its own was carried out.
    CommandDone { command: String } "command-done" aside "I" "console" ["Done: " (command)] "Done: clock jump";
    /// `command-refused`: and why.
    CommandRefused { why: String } "command-refused" story "E" "console" ["Refused: " (why)] "Refused: unknown command";
    /// `settings`: one setting as `show` prints it; secrets as `<set>`.
    Setting { name: String, value: String } "settings" aside "I" "config" ["Setting " name " = " (value)] "Setting MQTT_PASSWORD = <set>";
    /// `ap-started`.
    ApStarted { ssid: String } "ap-started" story "I" "wifi" ["Access point started: " (ssid)] "Access point started: ESP32-Prov";
    /// `ap-stopped`.
    ApStopped {} "ap-stopped" story "I" "wifi" ["Access point stopped"] "Access point stopped";
    /// `http-listening`: where the provisioning API answers.
    HttpListening { address: String } "http-listening" aside "I" "http" ["Listening on " (address)] "Listening on 192.168.4.1:80";
    /// `provision-refused`.
    ProvisionRefused { status: u16, why: String } "provision-refused" story "W" "http" ["Provisioning refused (" status "): " (why)]
        "Provisioning refused (400): ssid: met 33 bytes, allowed 1-32";
    /// `credentials-saved`.
    CredentialsSaved { device_id: String } "credentials-saved" story "I" "http" ["Credentials saved for " (device_id)] "Credentials saved for device_0070";
    /// `wifi-connecting`.
    WifiConnecting { ssid: String } "wifi-connecting" aside "I" "wifi" ["Connecting to " (ssid)] "Connecting to lab";
    /// `wifi-connected`.
    WifiConnected { ip: [u8; 4] } "wifi-connected" story "I" "wifi" ["Connected, address " ip] "Connected, address 192.168.1.100";
    /// `wifi-failed`: `reason` is `wrong-password`, `not-found`, `no-address` or `lost`.
    WifiFailed { reason: String } "wifi-failed" story "W" "wifi" ["Not connected: " (reason)] "Not connected: wrong-password";
    /// `time-set`: `by` is `sntp` or `console`.
    TimeSet { unix: UnixTime, by: String } "time-set" aside "I" "time" ["Time is " unix " by " (by)] "Time is 2026-01-01T00:00:00Z by sntp";
    /// `time-unknown`: nobody told the time; certificates are judged as of 1970 (not yet valid) until somebody does.
    TimeUnknown { why: String } "time-unknown" story "W" "time" ["Time is unknown: " (why)] "Time is unknown: SNTP_HOST is not set";
    /// `key-made`.
    KeyMade {} "key-made" story "I" "cert" ["Made a new ECDSA P-256 key"] "Made a new ECDSA P-256 key";
    /// `csr-submitted`.
    CsrSubmitted { url: String } "csr-submitted" aside "I" "cert" ["Submitting CSR to " (url)] "Submitting CSR to https://ca.example:8443/sign-csr";
    /// `certificate-stored`.
    CertificateStored { subject: String, not_after: UnixTime } "certificate-stored" story "I" "cert"
        ["Certificate stored: CN=" subject ", valid until " not_after] "Certificate stored: CN=device_0070, valid until 2027-01-01T00:00:00Z";
    /// `certificate-refused`: the CA's answer was not stored.
    CertificateRefused { why: String } "certificate-refused" story "E" "cert" ["Certificate refused: " (why)] "Certificate refused: another-key";
    /// `enrollment-refused`: the CA said no (401, 403); back to AP_MODE.
    EnrollmentRefused { status: u16 } "enrollment-refused" story "E" "cert" ["CA refused with " status] "CA refused with 401";
    /// `enrollment-failed`: to be tried again.
    EnrollmentFailed { why: String } "enrollment-failed" aside "W" "cert" ["Enrollment failed: " (why)] "Enrollment failed: status 503";
    /// `renewal-due`.
    RenewalDue { not_after: UnixTime } "renewal-due" story "I" "cert" ["Renewal is due, valid until " not_after] "Renewal is due, valid until 2027-01-01T00:00:00Z";
    /// `renewal-stored`.
    RenewalStored { not_after: UnixTime } "renewal-stored" story "I" "cert" ["Renewed, valid until " not_after] "Renewed, valid until 2028-01-01T00:00:00Z";
    /// `renewal-failed`: the old identity stays in use.
    RenewalFailed { why: String } "renewal-failed" aside "W" "cert" ["Renewal failed: " (why)] "Renewal failed: status 503";
    /// `certificate-expired`: the device's own certificate.
    CertificateExpired { not_after: UnixTime } "certificate-expired" story "E" "cert" ["Certificate expired at " not_after] "Certificate expired at 2026-01-01T00:00:00Z";
    /// `security-level`: `plain`, `server-tls` or `mutual-tls`, said before the first connection.
    SecurityLevel { level: String } "security-level" story "I" "mqtt" ["Security level: " (level)] "Security level: mutual-tls";
    /// `trust-anchor`: where the broker's anchor comes from: `configured`, `enrolled`, `system` or `none`.
    TrustAnchor { source: String } "trust-anchor" story "I" "mqtt" ["Trust anchor: " (source)] "Trust anchor: enrolled";
    /// `tls-insecure`: the warning that cannot be missed.
    TlsInsecure {} "tls-insecure" story "W" "mqtt"
        ["!!! INSECURE: MQTT_TLS_INSECURE is set, the server's certificate is NOT checked, anybody can pose as the broker !!!"]
        "!!! INSECURE: MQTT_TLS_INSECURE is set, the server's certificate is NOT checked, anybody can pose as the broker !!!";
    /// `mqtt-connecting`.
    MqttConnecting { uri: String, client_id: String, version: String } "mqtt-connecting" aside "I" "mqtt" ["Connecting to " uri " as " client_id " (" version ")"]
        "Connecting to mqtts://broker.example.com:8883 as device_0070 (v5)";
    /// `mqtt-connected`: S0's line.
    MqttConnected { session_present: bool } "mqtt-connected" story "I" "mqtt" ["Connected to broker (session_present=" session_present ")"]
        "Connected to broker (session_present=0)";
    /// `mqtt-connect-failed`: no stream; `why` is a kebab-case kind, such as `wrong-name`.
    MqttConnectFailed { why: String, detail: String } "mqtt-connect-failed" aside "W" "mqtt" ["Connection failed (" why "): " (detail)]
        "Connection failed (wrong-name): certificate not valid for name";
    /// `mqtt-refused`: CONNACK said no.
    MqttRefused { code: u8 } "mqtt-refused" aside "E" "mqtt" ["Broker refused the connection, code " code] "Broker refused the connection, code 135";
    /// `mqtt-disconnected`.
    MqttDisconnected { why: String } "mqtt-disconnected" aside "W" "mqtt" ["Disconnected: " (why)] "Disconnected: reset";
    /// `subscribed`.
    Subscribed { topic: String } "subscribed" story "I" "mqtt" ["Subscribed to " (topic)] "Subscribed to devices/device_0070/command";
    /// `subscribe-refused`.
    SubscribeRefused { topic: String, code: u8 } "subscribe-refused" story "E" "mqtt" ["Subscription to " topic " refused, code " code]
        "Subscription to devices/device_0070/command refused, code 135";
    /// `publish-refused`: the broker's PUBACK said no.
    PublishRefused { topic: String, code: u8 } "publish-refused" story "E" "mqtt" ["Publication on " topic " refused, code " code]
        "Publication on devices/device_0070/telemetry refused, code 135";
    /// `delivered`: a reading was acknowledged.
    Delivered { number: u64 } "delivered" aside "I" "telemetry" ["Reading " number " delivered"] "Reading 7 delivered";
    /// `command-received`: an order came on `devices/<id>/command`.
    OrderReceived { bytes: u32 } "command-received" story "I" "mqtt" ["Order received, " bytes " bytes"] "Order received, 12 bytes";
    /// `queued`: a reading waits while offline.
    Queued { number: u64, depth: u32 } "queued" aside "I" "telemetry" ["Reading " number " queued, " depth " waiting"] "Reading 8 queued, 2 waiting";
    /// `queue-dropped`: the queue was full; the oldest reading went.
    QueueDropped { number: u64, total: u64 } "queue-dropped" aside "W" "telemetry" ["Queue full: reading " number " dropped, " total " in all"]
        "Queue full: reading 1 dropped, 1 in all";
    /// `queue-drained`: everything that waited has been acknowledged.
    QueueDrained { count: u32 } "queue-drained" aside "I" "telemetry" ["Queue drained, " count " delivered"] "Queue drained, 8 delivered";
    /// `backoff`: the next try of `what` (`mqtt`, `enrollment`, `wifi`, `renewal`, `time`) comes in so many milliseconds.
    Backoff { what: String, ms: u64, attempt: u32 } "backoff" aside "I" "retry" ["Next try of " what " in " ms " ms, attempt " attempt]
        "Next try of mqtt in 1342 ms, attempt 2";
    /// `storage-failed`.
    StorageFailed { why: String } "storage-failed" story "E" "storage" ["Not stored: " (why)] "Not stored: credentials: full";
    /// `factory-reset`.
    FactoryReset {} "factory-reset" story "W" "storage" ["Factory reset: everything is forgotten"] "Factory reset: everything is forgotten";
    /// `clock-jumped`: on simulated targets, the device clock moved forward by so many milliseconds.
    ClockJumped { ms: u64 } "clock-jumped" aside "I" "time" ["Clock jumped by " ms " ms"] "Clock jumped by 60000 ms";
    /// `memory`: how the firmware's heap is doing, in bytes; said once connected, and with the status.
    Memory { used: u64, high_water: u64, largest_free: u64 } "memory" aside "I" "heap"
        ["In use " used ", at most " high_water ", largest free block " largest_free] "In use 61440, at most 80192, largest free block 110592";
}

impl Report {
    /// A log line taken apart and what it means, if it is of the vocabulary.
    pub fn from_line(line: &str) -> Option<(Line<'_>, Report)> {
        let line = parse_line(line)?;
        Some((line, Report::parse(line.tag, line.text)?))
    }
}

/// One row of the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// The name scenarios use.
    pub name: &'static str,
    /// Whether it belongs to the story a golden tells (retries, keepalive and times do not).
    pub story: bool,
    /// An example line, without level and time: `mqtt: Connected to broker (session_present=0)`.
    pub example: &'static str,
    /// The names of its fields, in snake_case.
    pub fields: &'static [&'static str],
}

/// A log line taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// `E`, `W`, `I`, `D` or `V`.
    pub level: char,
    /// Milliseconds since boot.
    pub at: Instant,
    /// Who says it.
    pub tag: &'a str,
    /// What.
    pub text: &'a str,
}

/// Takes an ESP-IDF log line apart. Colours, a line end and garbage before the line (a partial line cut off by a reset) are passed over.
pub fn parse_line(line: &str) -> Option<Line<'_>> {
    let mut line = line;
    while let Some(shorter) = line.strip_suffix(['\r', '\n']).or_else(|| line.strip_suffix("\x1b[0m")) {
        line = shorter;
    }
    line.char_indices().filter(|(_, c)| LEVELS.contains(c)).find_map(|(start, level)| {
        let rest = line[start + 1..].strip_prefix(" (")?;
        let digits = rest.bytes().take(DIGITS_MAX).take_while(u8::is_ascii_digit).count();
        let at = Instant(rest[..digits].parse().ok()?);
        let rest = rest[digits..].strip_prefix(") ")?;
        let end = rest.bytes().take(TAG_MAX + 1).position(|b| !b.is_ascii_graphic() || b == b':').filter(|end| *end > 0)?;
        let (tag, text) = rest.split_at(end);
        Some(Line { level, at, tag, text: text.strip_prefix(": ")? })
    })
}

/// The most digits of a time, and the longest tag: what lies between a level and its text is bounded, so that a hostile line costs little.
const DIGITS_MAX: usize = 20;
const TAG_MAX: usize = 32;
const LEVELS: [char; 5] = ['E', 'W', 'I', 'D', 'V'];
/// What ends a word; escaped inside one.
const DELIMITERS: [char; 3] = [' ', ')', ','];

/// Where a field stands: in the middle of the text, or up to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Word,
    Tail,
}

/// A field of a line. `read` takes what `write` wrote.
trait Field: Sized {
    fn write(&self, out: &mut String, extent: Extent);
    fn read(text: &str) -> Option<Self>;
    #[cfg(test)]
    fn sample(text: &str, number: u64) -> Self;
}

fn can_be<F: Field>(text: &str) -> bool {
    let mut out = String::new();
    let Some(field) = F::read(text) else { return false };
    field.write(&mut out, Extent::Tail);
    out == text
}

impl Field for String {
    fn write(&self, out: &mut String, extent: Extent) {
        let max = if extent == Extent::Word { out.len() + FIELD_MAX } else { LINE_MAX } - '…'.len_utf8();
        for c in self.chars() {
            let before = out.len();
            if c == '\\' {
                out.push_str("\\\\");
            } else if must_escape(c) || (extent == Extent::Word && DELIMITERS.contains(&c)) {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            } else {
                out.push(c);
            }
            if out.len() > max {
                out.truncate(before);
                out.push('…');
                break;
            }
        }
    }

    fn read(text: &str) -> Option<String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('\\') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('\\') {
                out.push('\\');
                rest = after;
            } else {
                let (hex, after) = rest.strip_prefix("u{")?.split_once('}')?;
                out.push(char::from_u32(u32::from_str_radix(hex, 16).ok()?)?);
                rest = after;
            }
        }
        out.push_str(rest);
        Some(out)
    }

    #[cfg(test)]
    fn sample(text: &str, _: u64) -> Self {
        text.into()
    }
}

/// Control characters, and the invisible ones that reorder or split a line on a terminal.
fn must_escape(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

macro_rules! number_fields {
    ($($number:ty),*) => { $(
        impl Field for $number {
            fn write(&self, out: &mut String, _: Extent) {
                let _ = write!(out, "{self}");
            }
            fn read(text: &str) -> Option<Self> {
                text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
            }
            #[cfg(test)]
            fn sample(_: &str, number: u64) -> Self {
                number as $number
            }
        }
    )* };
}
number_fields!(u8, u16, u32, u64);

impl Field for bool {
    fn write(&self, out: &mut String, _: Extent) {
        out.push(if *self { '1' } else { '0' });
    }
    fn read(text: &str) -> Option<Self> {
        match text {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        }
    }
    #[cfg(test)]
    fn sample(_: &str, number: u64) -> Self {
        number % 2 == 1
    }
}

impl Field for State {
    fn write(&self, out: &mut String, _: Extent) {
        out.push_str(self.name());
    }
    fn read(text: &str) -> Option<Self> {
        State::from_name(text)
    }
    #[cfg(test)]
    fn sample(_: &str, number: u64) -> Self {
        State::ALL[(number % State::ALL.len() as u64) as usize]
    }
}

impl Field for UnixTime {
    fn write(&self, out: &mut String, _: Extent) {
        let _ = write!(out, "{self}");
    }
    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
    #[cfg(test)]
    fn sample(_: &str, number: u64) -> Self {
        UnixTime(number as i64)
    }
}

impl Field for [u8; 4] {
    fn write(&self, out: &mut String, _: Extent) {
        let _ = write!(out, "{}", core::net::Ipv4Addr::from(*self));
    }
    fn read(text: &str) -> Option<Self> {
        text.parse::<core::net::Ipv4Addr>().ok().map(|ip| ip.octets())
    }
    #[cfg(test)]
    fn sample(_: &str, number: u64) -> Self {
        (number as u32).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use proptest::prelude::*;

    #[test]
    fn every_example_means_its_word() {
        for word in Report::WORDS {
            let line = format!("I (7) {}", word.example);
            let (_, report) = Report::from_line(&line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(report.word(), word);
            assert_eq!(report.line(Instant(7))[1..], line[1..]);
        }
    }

    #[test]
    fn names_are_unique_kebab_case() {
        for (i, word) in Report::WORDS.iter().enumerate() {
            assert!(word.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", word.name);
            assert!(Report::WORDS[..i].iter().all(|w| w.name != word.name), "{}", word.name);
        }
    }

    #[test]
    fn the_wording_is_the_documented_one() {
        let line =
            Report::MqttConnecting { uri: "mqtts://broker.example.com:8883".into(), client_id: "a b".into(), version: "v5".into() };
        assert_eq!(line.line(Instant(1234)), r"I (1234) mqtt: Connecting to mqtts://broker.example.com:8883 as a\u{20}b (v5)");
        assert_eq!(
            Report::MqttConnected { session_present: false }.line(Instant(5)),
            "I (5) mqtt: Connected to broker (session_present=0)"
        );
    }

    #[test]
    fn colours_line_ends_and_garbage_are_passed_over() {
        for line in ["\x1b[0;32mI (42) wifi: x y \x1b[0m\r\n", "\u{fffd}\u{fffd}I (42) wifi: x y ", "I (41) mqI (42) wifi: x y \r"]
        {
            assert_eq!(parse_line(line), Some(Line { level: 'I', at: Instant(42), tag: "wifi", text: "x y " }), "{line:?}");
        }
        for line in ["", "I", "I (", "I (x) a: b", "I (1) : b", "I (99999999999999999999) a: b", "X (1) a: b", "I (+1) a: b"] {
            assert_eq!(parse_line(line), None, "{line:?}");
        }
    }

    #[test]
    fn long_text_is_bounded() {
        for report in Report::samples(&"é\n".repeat(2000), u64::MAX) {
            let line = report.line(Instant(u64::MAX));
            assert!(line.len() <= LINE_MAX, "{}", line.len());
            assert!(Report::from_line(&line).is_some_and(|(_, r)| r.word() == report.word()), "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(text in "(?s).{0,24}", number: u64, at: u64) {
            for report in Report::samples(&text, number >> 2) {
                let line = report.line(Instant(at));
                prop_assert!(!line.contains(|c: char| c.is_control()));
                let (parsed, again) = Report::from_line(&line).expect("a line of the vocabulary");
                prop_assert_eq!((parsed.at, again), (Instant(at), report));
            }
        }

        #[test]
        fn garbage_is_no_trouble(line in "(?s).{0,80}", tail in "(?s).{0,40}") {
            let _ = Report::from_line(&line);
            let _ = Report::from_line(&format!("I (1) mqtt: Connected{tail}"));
        }
    }
}
