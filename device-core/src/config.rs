//! A device's settings: one table of names with every spelling the seeds use, parsed once into values that cannot be wrong.

use crate::secret::Secret;
use alloc::string::String;

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

/// The MQTT protocol version spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MqttVersion {
    /// 3.1.1 (protocol level 4).
    V311,
    /// 5.0 (protocol level 5), the default.
    #[default]
    V5,
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
}
