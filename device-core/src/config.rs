//! A device's settings: one table of names with every spelling the seeds use, parsed once into values that cannot be wrong.

use crate::provisioning::{PASSWORD_MAX, PASSWORD_MIN};
use crate::secret::Secret;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString as _};
use core::fmt;
use core::ops::RangeInclusive;

/// How the MQTT connection is protected (S2's three levels).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Security {
    /// Plain MQTT.
    Plain,
    /// TLS; only the server shows a certificate.
    ServerTls,
    /// TLS; both sides show a certificate.
    MutualTls,
}

impl Security {
    /// Its name on the console: `plain`, `server-tls` or `mutual-tls`.
    pub const fn name(self) -> &'static str {
        match self {
            Security::Plain => "plain",
            Security::ServerTls => "server-tls",
            Security::MutualTls => "mutual-tls",
        }
    }
}

/// The MQTT protocol version spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MqttVersion {
    /// 3.1.1 (protocol level 4).
    V311,
    /// 5.0 (protocol level 5), the default.
    #[default]
    V5,
}

impl MqttVersion {
    /// S0's word for it: `v3.1.1` or `v5`.
    pub const fn name(self) -> &'static str {
        match self {
            MqttVersion::V311 => "v3.1.1",
            MqttVersion::V5 => "v5",
        }
    }
}

/// The TLS versions offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersions {
    /// 1.2 and 1.3, the default.
    #[default]
    Both,
    /// 1.2 only.
    Only12,
    /// 1.3 only.
    Only13,
}

/// One setting's row in the table: its canonical name, its other spellings, whether its value is secret, and what it is for.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Canonical name; environment variable and console name alike, such as `MQTT_HOST`.
    pub name: &'static str,
    /// Other spellings accepted for it.
    pub aliases: &'static [&'static str],
    /// Whether the value must never be shown.
    pub secret: bool,
    /// Whether an environment variable of this name holds a file's path rather than the value (PEM files).
    pub file: bool,
    /// One line for `--help`.
    pub help: &'static str,
}

/// A device's settings, merged from the environment, the console and storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `MQTT_USE_TLS`; unset: see `security`.
    pub use_tls: Option<bool>,
    /// `MQTT_HOST` | `MQTT_BROKER_HOST`.
    pub mqtt_host: Option<String>,
    /// `MQTT_PORT` | `MQTT_BROKER_PORT`; unset: 8883 with TLS, 1883 without.
    pub mqtt_port: Option<u16>,
    /// `MQTT_USER` | `MQTT_USERNAME`.
    pub mqtt_user: Option<String>,
    /// `MQTT_PASSWORD`.
    pub mqtt_password: Option<Secret>,
    /// `MQTT_CA_CERTS` | `MQTT_CA_CERT`: PEM text. Wins over the stored CA certificate; unset and not enrolled: system roots.
    pub mqtt_ca: Option<String>,
    /// `MQTT_TLS_INSECURE`: the server's certificate is not checked. Said loudly.
    pub mqtt_insecure: bool,
    /// `MQTT_CERTFILE` | `MQTT_CLIENT_CERT`: PEM text; makes enrolment unnecessary.
    pub mqtt_certificate: Option<String>,
    /// `MQTT_KEYFILE` | `MQTT_CLIENT_KEY`: PEM text.
    pub mqtt_key: Option<Secret>,
    /// `MQTT_CLIENT_ID`; unset: the device id.
    pub mqtt_client_id: Option<String>,
    /// `MQTT_VERSION`: `5` | `3.1.1`.
    pub mqtt_version: MqttVersion,
    /// `MQTT_KEEPALIVE`: seconds, 5–65535; unset: 60.
    pub keepalive_s: Option<u16>,
    /// `TLS_VERSIONS`: `1.2` | `1.3` | `1.2,1.3`.
    pub tls_versions: TlsVersions,
    /// `BACKEND_URL`: base URL of the CA, `https://host[:port][/path]`. Set: the device enrols and uses mutual TLS.
    pub backend_url: Option<String>,
    /// `BACKEND_CA`: PEM text; unset: system roots.
    pub backend_ca: Option<String>,
    /// `SNTP_HOST`: `host[:port]`; unset: no time but what the console gives.
    pub sntp_host: Option<String>,
    /// `TELEMETRY_PERIOD_MS`: 0 (off) or 10–86 400 000; unset: 10 000.
    pub telemetry_period_ms: Option<u32>,
    /// `QUEUE_LIMIT`: readings kept while offline, 1–1000; unset: 64.
    pub queue_limit: Option<u16>,
    /// `ACK_TIMEOUT_MS`: how long an acknowledgement may take before the connection is given up, 100–300 000; unset: 10 000.
    pub ack_timeout_ms: Option<u32>,
    /// `AP_PASSWORD`: 8–63 bytes, or `open`, which is empty here; unset: [`AP_PASSWORD`].
    pub ap_password: Option<Secret>,
}

/// `MQTT_PORT` when TLS is used and none is set.
pub const TLS_PORT: u16 = 8883;
/// `MQTT_PORT` when TLS is not used and none is set.
pub const PLAIN_PORT: u16 = 1883;
/// `MQTT_KEEPALIVE` when none is set, in seconds.
pub const KEEPALIVE_S: u16 = 60;
/// `TELEMETRY_PERIOD_MS` when none is set.
pub const TELEMETRY_PERIOD_MS: u32 = 10_000;
/// `QUEUE_LIMIT` when none is set, in readings.
pub const QUEUE_LIMIT: u16 = 64;
/// `ACK_TIMEOUT_MS` when none is set.
pub const ACK_TIMEOUT_MS: u32 = 10_000;
/// `AP_PASSWORD` when none is set (S4).
pub const AP_PASSWORD: &str = "prov12345678";
/// The longest value of a setting that is not a PEM file, in bytes.
pub const VALUE_MAX: usize = 512;
/// The longest PEM value, in bytes.
pub const PEM_MAX: usize = 16 * 1024;

const KEEPALIVE_RANGE: RangeInclusive<u64> = 5..=65_535;
const TELEMETRY_RANGE: RangeInclusive<u64> = 10..=86_400_000;
const QUEUE_RANGE: RangeInclusive<u64> = 1..=1000;
const ACK_TIMEOUT_RANGE: RangeInclusive<u64> = 100..=300_000;

const fn plain(name: &'static str, aliases: &'static [&'static str], help: &'static str) -> Setting {
    Setting { name, aliases, secret: false, file: false, help }
}

const fn file(name: &'static str, aliases: &'static [&'static str], help: &'static str) -> Setting {
    Setting { name, aliases, secret: false, file: true, help }
}

const fn secret(setting: Setting) -> Setting {
    Setting { secret: true, ..setting }
}

/// Every setting there is.
pub const SETTINGS: &[Setting] = &[
    plain("MQTT_USE_TLS", &[], "true or false; unset: TLS when enrolled, when given a client certificate, or on port 8883"),
    plain("MQTT_HOST", &["MQTT_BROKER_HOST"], "the broker's host name or address"),
    plain("MQTT_PORT", &["MQTT_BROKER_PORT"], "the broker's port; unset: 8883 with TLS, 1883 without"),
    plain("MQTT_USER", &["MQTT_USERNAME"], "user name for the broker"),
    secret(plain("MQTT_PASSWORD", &[], "password for the broker")),
    file("MQTT_CA_CERTS", &["MQTT_CA_CERT"], "anchors for the broker, PEM; unset: the enrolled CA, else the system's roots"),
    plain("MQTT_TLS_INSECURE", &[], "true: the broker's certificate is not checked; for experiments only"),
    file("MQTT_CERTFILE", &["MQTT_CLIENT_CERT"], "the device's certificate, PEM; makes enrolment unnecessary"),
    secret(file("MQTT_KEYFILE", &["MQTT_CLIENT_KEY"], "the key of MQTT_CERTFILE, PEM")),
    plain("MQTT_CLIENT_ID", &[], "MQTT client identifier; unset: the device id"),
    plain("MQTT_VERSION", &[], "5 or 3.1.1; unset: 5"),
    plain("MQTT_KEEPALIVE", &[], "seconds, 5-65535; unset: 60"),
    plain("TLS_VERSIONS", &[], "1.2, 1.3 or 1.2,1.3; unset: both"),
    plain("BACKEND_URL", &[], "base URL of the CA, https://host[:port][/path]; set: the device enrols and uses mutual TLS"),
    file("BACKEND_CA", &[], "anchors for the CA's server, PEM; unset: the system's roots"),
    plain("SNTP_HOST", &[], "time server, host[:port]; unset: no date but what the console tells"),
    plain("TELEMETRY_PERIOD_MS", &[], "0 (off) or 10-86400000; unset: 10000"),
    plain("QUEUE_LIMIT", &[], "readings kept while offline, 1-1000; unset: 64"),
    plain("ACK_TIMEOUT_MS", &[], "how long an acknowledgement may take, 100-300000; unset: 10000"),
    secret(plain("AP_PASSWORD", &[], "WPA2 password of the provisioning access point, 8-63 bytes, or open; unset: prov12345678")),
];

/// The setting of that name or other spelling, if there is one.
pub fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|s| s.name == name || s.aliases.contains(&name))
}

/// A setting that cannot be used: which, what was met (never a secret's value), and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The setting's name as given.
    pub name: String,
    /// What was met.
    pub met: String,
    /// What is allowed.
    pub allowed: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: met {}, allowed {}", self.name, self.met, self.allowed)
    }
}

impl core::error::Error for ConfigError {}

impl Config {
    /// Sets what is called `name` in any spelling. An empty value sets the default again.
    ///
    /// # Errors
    /// An unknown name, or a value outside what the setting allows; nothing is changed then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let Some(setting) = setting(name) else {
            return Err(ConfigError { name: shown(name), met: "no setting of that name".into(), allowed: names() });
        };
        let max = if setting.file { PEM_MAX } else { VALUE_MAX };
        let mut parse = |value: &str, allowed: &mut String| -> Option<()> {
            *allowed = format!("at most {max} bytes");
            (value.len() <= max).then_some(())?;
            let value = (!value.is_empty()).then_some(value);
            match setting.name {
                "MQTT_USE_TLS" => self.use_tls = when(value, |v| boolean(v, allowed))?,
                "MQTT_HOST" => self.mqtt_host = when(value, |v| host(v, allowed))?,
                "MQTT_PORT" => self.mqtt_port = when(value, |v| number(v, 1..=65_535, allowed))?,
                "MQTT_USER" => self.mqtt_user = when(value, |v| text(v, allowed))?,
                "MQTT_PASSWORD" => self.mqtt_password = when(value, |v| text(v, allowed))?.map(Secret::new),
                "MQTT_CA_CERTS" => self.mqtt_ca = when(value, |v| pem(v, CERTIFICATE, allowed))?,
                "MQTT_TLS_INSECURE" => self.mqtt_insecure = when(value, |v| boolean(v, allowed))?.unwrap_or(false),
                "MQTT_CERTFILE" => self.mqtt_certificate = when(value, |v| pem(v, CERTIFICATE, allowed))?,
                "MQTT_KEYFILE" => self.mqtt_key = when(value, |v| pem(v, KEY, allowed))?.map(Secret::new),
                "MQTT_CLIENT_ID" => self.mqtt_client_id = when(value, |v| text(v, allowed))?,
                "MQTT_VERSION" => self.mqtt_version = when(value, |v| mqtt_version(v, allowed))?.unwrap_or_default(),
                "MQTT_KEEPALIVE" => self.keepalive_s = when(value, |v| number(v, KEEPALIVE_RANGE, allowed))?,
                "TLS_VERSIONS" => self.tls_versions = when(value, |v| tls_versions(v, allowed))?.unwrap_or_default(),
                "BACKEND_URL" => self.backend_url = when(value, |v| url(v, allowed))?,
                "BACKEND_CA" => self.backend_ca = when(value, |v| pem(v, CERTIFICATE, allowed))?,
                "SNTP_HOST" => self.sntp_host = when(value, |v| host(v, allowed))?,
                "TELEMETRY_PERIOD_MS" => self.telemetry_period_ms = when(value, |v| period(v, allowed))?,
                "QUEUE_LIMIT" => self.queue_limit = when(value, |v| number(v, QUEUE_RANGE, allowed))?,
                "ACK_TIMEOUT_MS" => self.ack_timeout_ms = when(value, |v| number(v, ACK_TIMEOUT_RANGE, allowed))?,
                "AP_PASSWORD" => self.ap_password = when(value, |v| ap_password(v, allowed))?,
                _ => return None,
            }
            Some(())
        };
        let mut allowed = String::new();
        parse(value, &mut allowed).ok_or_else(|| ConfigError {
            name: name.into(),
            met: if setting.secret || setting.file { format!("{} bytes", value.len()) } else { format!("`{}`", shown(value)) },
            allowed,
        })
    }

    /// The settings of a whole map, as storage keeps them.
    ///
    /// # Errors
    /// The first one that cannot be used.
    pub fn from_settings(settings: &BTreeMap<String, Secret>) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        settings.iter().try_for_each(|(name, value)| config.set(name, value.expose()))?;
        Ok(config)
    }

    /// Whether the settings fit together.
    ///
    /// # Errors
    /// A client certificate without its key, or the reverse.
    pub fn check(&self) -> Result<(), ConfigError> {
        let half =
            |name: &str, met: &str| Err(ConfigError { name: name.into(), met: met.into(), allowed: "both or neither".into() });
        match (&self.mqtt_certificate, &self.mqtt_key) {
            (Some(_), None) => half("MQTT_KEYFILE", "none, though MQTT_CERTFILE is set"),
            (None, Some(_)) => half("MQTT_CERTFILE", "none, though MQTT_KEYFILE is set"),
            _ => Ok(()),
        }
    }

    /// How the connection to the broker is protected.
    ///
    /// `MQTT_USE_TLS=false` is plain whatever else is set. A client certificate or `BACKEND_URL` means mutual TLS;
    /// `MQTT_USE_TLS=true` or port 8883 without one of them, TLS with the server's certificate only; nothing of these, plain.
    pub fn security(&self) -> Security {
        let identity = self.mqtt_certificate.is_some() || self.backend_url.is_some();
        match self.use_tls {
            Some(false) => Security::Plain,
            _ if identity => Security::MutualTls,
            Some(true) => Security::ServerTls,
            None if self.mqtt_port == Some(TLS_PORT) => Security::ServerTls,
            None => Security::Plain,
        }
    }

    /// The broker's port.
    pub fn port(&self) -> u16 {
        self.mqtt_port.unwrap_or(if self.security() == Security::Plain { PLAIN_PORT } else { TLS_PORT })
    }

    /// Whether the device needs a certificate from the CA before it can talk to the broker.
    pub fn enrols(&self) -> bool {
        self.security() == Security::MutualTls && self.mqtt_certificate.is_none()
    }
}

/// What `show` prints for a setting's value: secrets and files are not shown.
pub fn shown_value(setting: &Setting, value: &Secret) -> String {
    match setting {
        _ if value.is_empty() => "<default>".into(),
        Setting { secret: true, .. } => "<set>".into(),
        Setting { file: true, .. } => format!("<{} bytes>", value.expose().len()),
        _ => value.expose().into(),
    }
}

/// A value that is there must parse; one that is not is none.
fn when<T>(value: Option<&str>, parse: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(value) => parse(value).map(Some),
    }
}

const CERTIFICATE: &[(&str, &str)] = &[("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----")];
const KEY: &[(&str, &str)] = &[
    ("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"),
    ("-----BEGIN EC PRIVATE KEY-----", "-----END EC PRIVATE KEY-----"),
    ("-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----"),
];

fn boolean(value: &str, allowed: &mut String) -> Option<bool> {
    *allowed = "true or false".into();
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn number<T: TryFrom<u64>>(value: &str, range: RangeInclusive<u64>, allowed: &mut String) -> Option<T> {
    *allowed = format!("{}-{}", range.start(), range.end());
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    let number = digits.then(|| value.parse().ok())??;
    range.contains(&number).then(|| T::try_from(number).ok())?
}

fn period(value: &str, allowed: &mut String) -> Option<u32> {
    let period = if value == "0" { Some(0) } else { number(value, TELEMETRY_RANGE, allowed) };
    allowed.insert_str(0, "0 or ");
    period
}

fn mqtt_version(value: &str, allowed: &mut String) -> Option<MqttVersion> {
    *allowed = "5 or 3.1.1".into();
    match value {
        "5" | "5.0" | "v5" => Some(MqttVersion::V5),
        "3.1.1" | "v3.1.1" | "311" => Some(MqttVersion::V311),
        _ => None,
    }
}

fn tls_versions(value: &str, allowed: &mut String) -> Option<TlsVersions> {
    *allowed = "1.2, 1.3 or 1.2,1.3".into();
    match value {
        "1.2" => Some(TlsVersions::Only12),
        "1.3" => Some(TlsVersions::Only13),
        "1.2,1.3" | "1.3,1.2" => Some(TlsVersions::Both),
        _ => None,
    }
}

fn text(value: &str, allowed: &mut String) -> Option<String> {
    *allowed = "text without control characters".into();
    (!value.chars().any(char::is_control)).then(|| value.to_string())
}

fn ap_password(value: &str, allowed: &mut String) -> Option<Secret> {
    *allowed = "8-63 bytes of printable ASCII, or open".into();
    if value == "open" {
        return Some(Secret::new(""));
    }
    let printable = value.bytes().all(|b| (b' '..=b'~').contains(&b));
    (printable && (PASSWORD_MIN..=PASSWORD_MAX).contains(&value.len())).then(|| Secret::new(value))
}

fn host(value: &str, allowed: &mut String) -> Option<String> {
    *allowed = "a host name or address of at most 253 bytes".into();
    let fits = value.len() <= 253 && value.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b));
    fits.then(|| value.to_string())
}

fn url(value: &str, allowed: &mut String) -> Option<String> {
    *allowed = "https://host[:port][/path]".into();
    let rest = value.strip_prefix("https://")?;
    let authority = rest.split('/').next().filter(|a| !a.is_empty())?;
    host(authority, &mut String::new())?;
    let graphic = rest.bytes().all(|b| b.is_ascii_graphic() && !b"?#@\"<>\\^`{|}".contains(&b));
    graphic.then(|| value.trim_end_matches('/').to_string())
}

fn pem(value: &str, labels: &[(&str, &str)], allowed: &mut String) -> Option<String> {
    *allowed = format!("PEM ({} ...)", labels[0].0);
    let whole = labels.iter().any(|(begin, end)| value.find(begin).is_some_and(|at| value[at..].contains(end)));
    whole.then(|| value.to_string())
}

fn names() -> String {
    let mut out = String::new();
    for setting in SETTINGS {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(setting.name);
    }
    out
}

/// At most 40 characters of what was met, so that an error stays a line.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn with(settings: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        settings.iter().try_for_each(|(n, v)| config.set(n, v))?;
        Ok(config)
    }

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    const KEY_PEM: &str = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";

    #[test]
    fn every_name_is_taken_and_can_be_unset() {
        for setting in SETTINGS {
            for name in setting.aliases.iter().chain([&setting.name]) {
                assert_eq!(Config::default().set(name, ""), Ok(()), "{name}");
                let others = SETTINGS.iter().filter(|s| s.name == *name || s.aliases.contains(name)).count();
                assert_eq!(others, 1, "{name}");
            }
        }
    }

    #[test]
    fn the_level_follows_the_settings() {
        for (settings, security, port) in [
            (&[][..], Security::Plain, 1883),
            (&[("MQTT_USE_TLS", "true")], Security::ServerTls, 8883),
            (&[("MQTT_BROKER_PORT", "8883")], Security::ServerTls, 8883),
            (&[("MQTT_CLIENT_CERT", PEM), ("MQTT_CLIENT_KEY", KEY_PEM)], Security::MutualTls, 8883),
            (&[("BACKEND_URL", "https://ca")], Security::MutualTls, 8883),
            (&[("BACKEND_URL", "https://ca"), ("MQTT_USE_TLS", "false")], Security::Plain, 1883),
            (&[("MQTT_USE_TLS", "0"), ("MQTT_PORT", "8883")], Security::Plain, 8883),
        ] {
            let config = with(settings).expect("good settings");
            assert_eq!((config.security(), config.port(), config.check()), (security, port, Ok(())), "{settings:?}");
        }
        assert!(with(&[("MQTT_CERTFILE", PEM)]).expect("alone is good").check().is_err());
        assert!(with(&[("MQTT_KEYFILE", KEY_PEM)]).expect("alone is good").check().is_err());
    }

    #[test]
    fn bad_values_are_refused_and_named() {
        let long = "x".repeat(VALUE_MAX + 1);
        for (name, value) in [
            ("MQTT_PORT", "0"),
            ("MQTT_PORT", "65536"),
            ("MQTT_PORT", "+1"),
            ("MQTT_USE_TLS", "maybe"),
            ("MQTT_HOST", "mqtt://host"),
            ("MQTT_HOST", "a b"),
            ("MQTT_USER", "a\nb"),
            ("MQTT_USER", &long),
            ("MQTT_VERSION", "4"),
            ("MQTT_KEEPALIVE", "4"),
            ("TLS_VERSIONS", "1.1"),
            ("BACKEND_URL", "http://ca"),
            ("BACKEND_URL", "https://"),
            ("BACKEND_URL", "https://user@ca"),
            ("BACKEND_CA", "garbage"),
            ("MQTT_CA_CERTS", KEY_PEM),
            ("TELEMETRY_PERIOD_MS", "9"),
            ("QUEUE_LIMIT", "1001"),
            ("ACK_TIMEOUT_MS", "99"),
            ("AP_PASSWORD", "1234567"),
            ("AP_PASSWORD", "Open"),
            ("AP_PASSWORD", "12345678\u{7f}"),
            ("MQTT_HOSTS", "x"),
        ] {
            let mut config = Config::default();
            let error = config.set(name, value).expect_err(name);
            assert_eq!((error.name.as_str(), &config), (name, &Config::default()));
            assert!(!error.allowed.is_empty());
        }
    }

    #[test]
    fn a_refused_secret_is_not_repeated() {
        for (name, value) in [("MQTT_PASSWORD", "hunter2\n"), ("AP_PASSWORD", "hunter2"), ("MQTT_KEYFILE", "hunter2")] {
            let error = Config::default().set(name, value).expect_err(name);
            assert!(!alloc::format!("{error} {error:?}").contains("hunter2"));
        }
        let config = with(&[("MQTT_PASSWORD", "hunter2"), ("MQTT_KEYFILE", KEY_PEM)]).expect("good");
        assert!(!alloc::format!("{config:?}").contains("hunter2"));
        let shown: Vec<String> = SETTINGS.iter().filter(|s| s.secret).map(|s| shown_value(s, &Secret::new("hunter2"))).collect();
        assert!(shown.iter().all(|s| s == "<set>"));
    }
}
