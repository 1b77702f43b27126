//! The console's log lines: what a device says, written and parsed in one file.
//!
//! A line is ESP-IDF's: `I (1234) mqtt: Connected to broker (session_present=0)`: level letter, milliseconds since boot, tag, text.

use crate::state::State;
use crate::time::{Instant, UnixTime};
use alloc::string::String;

/// What a device can say. Each has a name in kebab-case (`certificate-stored`) that scenarios use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the words of the line")]
pub enum Report {
    /// `booting`: first line after power-on.
    Booting { version: String },
    /// `console-ready`: commands are read from now on.
    ConsoleReady,
    /// `state`: the state machine moved.
    State { from: State, to: State },
    /// `settings-saved`: `save` wrote the staged settings.
    SettingsSaved { count: u32 },
    /// `command-done`: a command that has no line of its own was carried out.
    CommandDone { command: String },
    /// `command-refused`: and why.
    CommandRefused { why: String },
    /// `settings`: one setting as `show` prints it; secrets as `<set>`.
    Setting { name: String, value: String },
    /// `ap-started`.
    ApStarted { ssid: String },
    /// `ap-stopped`.
    ApStopped,
    /// `http-listening`: where the provisioning API answers.
    HttpListening { address: String },
    /// `provision-refused`.
    ProvisionRefused { status: u16, why: String },
    /// `credentials-saved`.
    CredentialsSaved { device_id: String },
    /// `wifi-connecting`.
    WifiConnecting { ssid: String },
    /// `wifi-connected`.
    WifiConnected { ip: [u8; 4] },
    /// `wifi-failed`: `reason` is `wrong-password`, `not-found`, `no-address` or `lost`.
    WifiFailed { reason: String },
    /// `time-set`: `by` is `sntp` or `console`.
    TimeSet { unix: UnixTime, by: String },
    /// `time-unknown`: nobody told the time; certificates cannot be checked against the date until somebody does.
    TimeUnknown { why: String },
    /// `key-made`.
    KeyMade,
    /// `csr-submitted`.
    CsrSubmitted { url: String },
    /// `certificate-stored`.
    CertificateStored { subject: String, not_after: UnixTime },
    /// `certificate-refused`: the CA's answer was not stored.
    CertificateRefused { why: String },
    /// `enrollment-refused`: the CA said no (401, 403); back to AP_MODE.
    EnrollmentRefused { status: u16 },
    /// `enrollment-failed`: to be tried again.
    EnrollmentFailed { why: String },
    /// `renewal-due`.
    RenewalDue { not_after: UnixTime },
    /// `renewal-stored`.
    RenewalStored { not_after: UnixTime },
    /// `renewal-failed`: the old identity stays in use.
    RenewalFailed { why: String },
    /// `certificate-expired`: the device's own certificate.
    CertificateExpired { not_after: UnixTime },
    /// `security-level`: `plain`, `server-tls` or `mutual-tls`, said before the first connection.
    SecurityLevel { level: String },
    /// `trust-anchor`: where the broker's anchor comes from: `configured`, `enrolled`, `system` or `none`.
    TrustAnchor { source: String },
    /// `tls-insecure`: the warning that cannot be missed.
    TlsInsecure,
    /// `mqtt-connecting`.
    MqttConnecting { uri: String, client_id: String, version: String },
    /// `mqtt-connected`: S0's line.
    MqttConnected { session_present: bool },
    /// `mqtt-connect-failed`: no stream; `why` is a kebab-case kind, such as `wrong-name`.
    MqttConnectFailed { why: String, detail: String },
    /// `mqtt-refused`: CONNACK said no.
    MqttRefused { code: u8 },
    /// `mqtt-disconnected`.
    MqttDisconnected { why: String },
    /// `subscribed`.
    Subscribed { topic: String },
    /// `subscribe-refused`.
    SubscribeRefused { topic: String, code: u8 },
    /// `publish-refused`: the broker's PUBACK said no.
    PublishRefused { topic: String, code: u8 },
    /// `delivered`: a reading was acknowledged.
    Delivered { number: u64 },
    /// `command-received`: an order came on `devices/<id>/command`.
    OrderReceived { bytes: u32 },
    /// `queued`: a reading waits while offline.
    Queued { number: u64, depth: u32 },
    /// `queue-dropped`: the queue was full; the oldest reading went.
    QueueDropped { number: u64, total: u64 },
    /// `queue-drained`: everything that waited has been acknowledged.
    QueueDrained { count: u32 },
    /// `backoff`: the next try of `what` (`mqtt`, `enrollment`, `wifi`, `renewal`) comes in so many milliseconds.
    Backoff { what: String, ms: u64, attempt: u32 },
    /// `storage-failed`.
    StorageFailed { why: String },
    /// `factory-reset`.
    FactoryReset,
    /// `clock-jumped`: on simulated targets, the device clock moved forward by so many milliseconds.
    ClockJumped { ms: u64 },
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
