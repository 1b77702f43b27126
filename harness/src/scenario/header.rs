//! The keys of a scenario file beside its steps: the device, and the world it is put into.

use super::value::{Date, Period, Text};
use crate::broker::scripted;
use crate::ca::misbehaviour::Lie;
use crate::pattern::Pattern;
use device_core::config;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;

/// A scenario: what is done to a device, in which surroundings, and what must be seen.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(title = "Scenario", transform = require_name_version_steps)]
pub struct Header {
    /// What is shown, in one line, as a sentence about the device.
    pub name: String,
    /// The language's version: 1.
    pub version: Version,
    /// Who wrote it; not read.
    pub author: Option<Text>,
    /// More words for readers; not read.
    pub description: Option<Text>,
    /// The device and its settings.
    pub device: DeviceSpec,
    /// The broker the device is to connect to.
    pub broker: BrokerSpec,
    /// The certificate authority.
    pub ca: CaSpec,
    /// The date, and who tells it.
    pub time: TimeSpec,
    /// The Wi-Fi networks around the device; unset: one, `lab` with the password `correct-horse`.
    pub air: Option<Vec<Network>>,
    /// `skip`: the device clock jumps over waits (back-off, keepalive, telemetry, renewal); `real`: it does not.
    pub clock: ClockMode,
    /// Parameters and their values, a list or a mapping of name to value; every combination is a trial of its own. `mqtt`, `tls`
    /// and `security` set the device (and the security level of the broker); any other is used as `${name}` in the
    /// file, or as `${name.key}` where its value is a mapping.
    pub matrix: BTreeMap<String, serde_json::Value>,
    /// Combinations of the matrix to leave out, each a mapping of parameter to value.
    pub exclude: Vec<BTreeMap<String, Text>>,
    /// The targets it is for; unset: all.
    pub targets: Option<Vec<String>>,
    /// What a target must be able to do, besides what the steps need anyway.
    pub needs: Vec<Capability>,
    /// The limit of the whole trial, in device time; unset: 2m.
    pub within: Option<Period>,
    /// What must not be seen at any time of the trial: a list of expectations as in `wait-for`.
    #[schemars(with = "Vec<crate::step::expect::Expectation>")]
    pub never: Unread,
    /// Texts, or patterns as `{ pattern: … }`, that no line of the device's console may have: the first one ends the trial as failed.
    pub fail_on: Vec<FailOn>,
    /// What is done, and what must be seen, in order.
    #[schemars(schema_with = "crate::scenario::schema::steps")]
    pub steps: Unread,
}

fn require_name_version_steps(schema: &mut schemars::Schema) {
    schema.insert("required".into(), serde_json::json!(["name", "version", "steps"]));
}

/// A part of the file that is read elsewhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unread;

impl<'de> Deserialize<'de> for Unread {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Unread, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Unread)
    }
}

/// What no line of the console may have; one of the two.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(transform = or_text)]
pub struct FailOn {
    /// A text in the line.
    pub text: Option<String>,
    /// A pattern that the line meets.
    pub pattern: Option<Pattern>,
}

fn or_text(schema: &mut schemars::Schema) {
    let full = schema.clone();
    *schema = schemars::json_schema!({ "anyOf": [{ "type": "string" }, full] });
}

/// The version of the language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version;

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
        struct One;
        impl serde::de::Visitor<'_> for One {
            type Value = Version;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number 1")
            }
            fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<Version, E> {
                if n == 1 {
                    return Ok(Version);
                }
                Err(E::custom(format!("version {n}\nthis harness reads version 1; write `version: 1`")))
            }
            fn visit_f64<E: serde::de::Error>(self, n: f64) -> Result<Version, E> {
                // `1.0` is the number 1, as YAML and Wokwi have it.
                if n == 1.0 {
                    return Ok(Version);
                }
                Err(E::custom(format!("version {n}\nthis harness reads version 1; write `version: 1`")))
            }
        }
        deserializer.deserialize_any(One)
    }
}

impl JsonSchema for Version {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Version".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "const": 1, "description": "The language's version: 1." })
    }
}

/// The device: its protocol, its security level, its settings.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct DeviceSpec {
    /// The MQTT version it speaks; unset: v5.
    pub mqtt: MqttVersion,
    /// The TLS versions it offers; unset: both.
    pub tls: TlsVersions,
    /// How its MQTT connection is protected; unset: mutual-tls, for which it enrols.
    pub security: Level,
    /// How often it publishes a reading: 10ms to 24h, or 0 for never; unset: 0 (readings come by the step `telemetry` only).
    pub telemetry_period: Period,
    /// Its MQTT keepalive, 5s to 65535s; unset: 60s.
    pub keepalive: Option<Period>,
    /// Further settings, by the names the console knows (`QUEUE_LIMIT: 4`).
    pub settings: BTreeMap<String, Text>,
}

impl Default for Period {
    fn default() -> Period {
        Period(std::time::Duration::ZERO)
    }
}

/// The broker.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct BrokerSpec {
    /// How its listener is protected; unset: as the device.
    pub security: Option<Level>,
    /// Whether it listens on a second port, without TLS, as for a migration. A device with `security: plain` connects there.
    pub plain_too: bool,
    /// Whether it has the CA's revocation list, so that the step `revoke` takes effect. Not shared with other trials then.
    pub crl: bool,
    /// Left out: a mistake that says so.
    #[schemars(skip)]
    pub websockets: LeftOut,
    /// The TLS versions it accepts; unset: both.
    pub tls: TlsVersions,
    /// Users and their passwords; unset: anybody (under mutual TLS: whoever shows a certificate of the CA).
    pub users: BTreeMap<String, Text>,
    /// Mosquitto's access control list, as text; unset: everything is allowed.
    pub acl: Option<String>,
    /// The names in its server certificate; unset: those the device connects to.
    pub names: Option<Vec<String>>,
    /// What is wrong with its server certificate; unset: nothing.
    pub certificate: ServerCertificate,
    /// What it still has when it was stopped or killed and is started again; unset: everything.
    pub keeps: Keeps,
    /// In place of Mosquitto, a broker of our own that lies in these ways from the start, and is honest otherwise: `scripted: []` is wholly
    /// honest. What the device sends it is read by `packet`.
    pub scripted: Option<Vec<scripted::Lie>>,
    /// Not shared with other trials. Set by itself where the scenario switches the broker, or reads its log.
    pub exclusive: bool,
}

/// What this harness leaves out by name, so that nobody looks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut;

impl<'de> Deserialize<'de> for LeftOut {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<LeftOut, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer)?;
        Err(serde::de::Error::custom(
            "MQTT over websockets\nthis harness leaves it out: Mosquitto 2.0 binds such a listener to every address of the machine. \
             Devices speak MQTT over TCP or TLS: leave `websockets` out",
        ))
    }
}

/// What a broker keeps over a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Keeps {
    /// Retained messages, the sessions of its clients and what waits for them.
    #[default]
    Everything,
    /// Nothing: it knows nobody.
    Nothing,
}

/// A server certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ServerCertificate {
    /// Nothing is wrong with it.
    #[default]
    Good,
    /// It has expired.
    Expired,
    /// It was issued by a CA the device does not trust.
    UnknownCa,
    /// It has no subjectAltName: the host that the device calls is its common name alone.
    CommonNameOnly,
    /// Its extendedKeyUsage is `any`, and not serverAuth.
    AnyPurpose,
    /// It is a CA's own.
    Authority,
    /// It was issued by the CA that is to follow this one, which a device trusts once the CA has told it (`ca: { roll-over: … }`).
    NextCa,
}

/// The certificate authority.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct CaSpec {
    /// How it misbehaves, from the start; unset: not at all.
    pub misbehave: Vec<Lie>,
    /// How long the certificates it issues are valid; unset: 90d.
    pub lifetime: Option<Period>,
}

/// The date, and who tells it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TimeSpec {
    /// The date the trial begins at, for device and CA; unset: `now`.
    pub date: Date,
    /// How the time server behaves; unset: honest.
    pub server: TimeServer,
}

/// How the time server behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TimeServer {
    /// It tells the date.
    #[default]
    Honest,
    /// It never answers.
    Silent,
}

/// A Wi-Fi network of the simulated surroundings.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Network {
    /// Its name, 1 to 32 bytes.
    pub ssid: String,
    /// Its password; empty: an open network.
    #[serde(default)]
    pub password: String,
    /// Signal strength in dBm; unset: -50.
    #[serde(default = "default_rssi")]
    #[schemars(range(min = -120, max = 0))]
    pub rssi: i8,
    /// Channel, 1 to 13; unset: 6.
    #[serde(default = "default_channel")]
    #[schemars(range(min = 1, max = 13))]
    pub channel: u8,
    /// Whether its DHCP server answers; unset: true.
    #[serde(default = "default_dhcp")]
    pub dhcp: bool,
}

fn default_rssi() -> i8 {
    -50
}
fn default_channel() -> u8 {
    6
}
fn default_dhcp() -> bool {
    true
}

impl Network {
    /// The network every scenario has that names none.
    pub fn lab() -> Network {
        Network { ssid: "lab".into(), password: "correct-horse".into(), rssi: -50, channel: 6, dhcp: true }
    }
}

/// Whether the device clock may jump over waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClockMode {
    /// It runs as the wall clock does.
    #[default]
    Real,
    /// It jumps over the device's own waits (on simulated targets).
    Skip,
}

/// What a target may be unable to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// Its HTTP API can be reached.
    Http,
    /// Its power can be switched off, and on again.
    PowerSwitch,
    /// Power can be cut at a chosen write to storage.
    PowerCut,
    /// Its clock can jump.
    ClockJump,
    /// Its Wi-Fi surroundings are simulated.
    Air,
    /// Its pins can be read.
    Pins,
    /// Buttons, knobs and sensors around it can be operated.
    Controls,
    /// What its displays show can be seen.
    Display,
    /// Its screens can be touched.
    Touch,
    /// Custom chips around it can be heard.
    Chips,
    /// What it stored outlives its power.
    Storage,
    /// It takes this project's console commands.
    Console,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Capability::Http => "http",
            Capability::PowerSwitch => "power-switch",
            Capability::PowerCut => "power-cut",
            Capability::ClockJump => "clock-jump",
            Capability::Air => "air",
            Capability::Pins => "pins",
            Capability::Controls => "controls",
            Capability::Display => "display",
            Capability::Touch => "touch",
            Capability::Chips => "chips",
            Capability::Storage => "storage",
            Capability::Console => "console",
        })
    }
}

/// The MQTT version a device speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum MqttVersion {
    /// 5.0.
    #[default]
    #[serde(rename = "v5")]
    V5,
    /// 3.1.1.
    #[serde(rename = "v3.1.1")]
    V311,
}

impl From<MqttVersion> for config::MqttVersion {
    fn from(version: MqttVersion) -> config::MqttVersion {
        match version {
            MqttVersion::V5 => config::MqttVersion::V5,
            MqttVersion::V311 => config::MqttVersion::V311,
        }
    }
}

/// TLS versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum TlsVersions {
    /// 1.2 and 1.3.
    #[default]
    #[serde(rename = "both")]
    Both,
    /// 1.2 only.
    #[serde(rename = "1.2")]
    Only12,
    /// 1.3 only.
    #[serde(rename = "1.3")]
    Only13,
}

impl From<TlsVersions> for config::TlsVersions {
    fn from(versions: TlsVersions) -> config::TlsVersions {
        match versions {
            TlsVersions::Both => config::TlsVersions::Both,
            TlsVersions::Only12 => config::TlsVersions::Only12,
            TlsVersions::Only13 => config::TlsVersions::Only13,
        }
    }
}

/// How an MQTT connection is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Not at all.
    Plain,
    /// TLS; only the server shows a certificate.
    ServerTls,
    /// TLS; both sides show a certificate.
    #[default]
    MutualTls,
}

impl From<Level> for config::Security {
    fn from(level: Level) -> config::Security {
        match level {
            Level::Plain => config::Security::Plain,
            Level::ServerTls => config::Security::ServerTls,
            Level::MutualTls => config::Security::MutualTls,
        }
    }
}
