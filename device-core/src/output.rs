//! All a device can ask of its shell: wishes, carried out in order.

use crate::config::{Security, TlsVersions};
use crate::report::Report;
use crate::secret::Secret;
use crate::storage::{Stored, Write};
use crate::surroundings::Surroundings;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Tells an HTTP request from the next; chosen by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A wish. Its `Debug` shows no secret: of bytes to the broker only how many, since a CONNECT holds the password.
#[derive(Clone)]
pub enum Output {
    /// Print this line on the console (`report::Report::line`).
    Report(Report),
    /// Replace the stored set as one; answered by `Input::Stored`. No other `Store` comes before the answer.
    Store {
        /// Which write this is: a point at which power may be cut.
        write: Write,
        /// The whole new set.
        set: Box<Stored>,
    },
    /// Append to the durable queue, before any later output is carried out.
    QueuePush(Reading),
    /// The reading with this number was acknowledged (or dropped): remove it from the durable queue.
    QueuePop(u64),
    /// Answer an HTTP request.
    Respond(RequestId, Response),
    /// Look for networks; answered by `Input::Scanned`.
    Scan,
    /// Open the provisioning access point and serve HTTP; answered by `Input::HttpListening`.
    StartAp {
        /// Name of the access point.
        ssid: String,
        /// Its WPA2 password; empty for an open one.
        password: Secret,
    },
    /// Close the access point. HTTP goes on being served (on the station side).
    StopAp,
    /// Join this network; answered by `Input::WifiUp` or `WifiDown`.
    JoinWifi {
        /// Network name.
        ssid: String,
        /// Passphrase; empty for an open network.
        password: Secret,
    },
    /// Leave the network. An answer to an earlier `JoinWifi` no longer comes.
    LeaveWifi,
    /// Ask the time server; answered by `Input::TimeSynced`. The shell's limit is 3 s.
    SyncTime {
        /// `host[:port]`, port 123 when absent.
        host: String,
    },
    /// Make a CSR with CN = device id; answered by `Input::CsrMade`.
    MakeCsr {
        /// The common name.
        device_id: String,
        /// The key to use; `None`: make a new ECDSA P-256 key.
        key: Option<Secret>,
    },
    /// POST to the CA; answered by `Input::CaReplied` or `CaFailed`. Nothing is sent before the server is verified.
    PostCsr(Box<Post>),
    /// Open a stream to the broker; answered by `Input::Connected` or `ConnectFailed`. The shell's limit is `CONNECT_LIMIT`.
    Connect(Box<Connect>),
    /// Send these bytes on the broker's stream.
    Send(Vec<u8>),
    /// Close the broker's stream (or give up opening it), without waiting. No `Closed` or `ConnectFailed` follows.
    Close,
    /// Jump the device clock forward (console, simulated targets only).
    JumpClock(core::time::Duration),
    /// Set up the simulated surroundings (console, simulated targets only).
    Air(AirChange),
    /// Have the power cut just before the `nth` write of this kind from now on (console, simulated targets only).
    Cut {
        /// The kind of write: a `Store` with this name, a `QueuePush` or a `QueuePop`.
        write: Write,
        /// The how-manieth of its kind, from 1.
        nth: u32,
    },
    /// May the shell jump to the device's deadline while only that is waited for? (console, simulated targets only)
    SkipWaits(bool),
    /// Keep this text where the board looks at its next start, or that there is none; answered by `Input::SurroundingsKept`.
    KeepSurroundings(Option<Box<Surroundings>>),
    /// Restart, as after a power cycle.
    Reboot,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Output::Report(report) => f.debug_tuple("Report").field(report).finish(),
            Output::Store { write, set } => f.debug_struct("Store").field("write", write).field("set", set).finish(),
            Output::QueuePush(reading) => f.debug_tuple("QueuePush").field(reading).finish(),
            Output::QueuePop(number) => f.debug_tuple("QueuePop").field(number).finish(),
            Output::Respond(id, response) => f.debug_tuple("Respond").field(id).field(response).finish(),
            Output::Scan => f.write_str("Scan"),
            Output::StartAp { ssid, .. } => f.debug_struct("StartAp").field("ssid", ssid).finish(),
            Output::StopAp => f.write_str("StopAp"),
            Output::JoinWifi { ssid, password } => {
                f.debug_struct("JoinWifi").field("ssid", ssid).field("password", password).finish()
            }
            Output::LeaveWifi => f.write_str("LeaveWifi"),
            Output::SyncTime { host } => f.debug_struct("SyncTime").field("host", host).finish(),
            Output::MakeCsr { device_id, key } => {
                f.debug_struct("MakeCsr").field("device_id", device_id).field("key", key).finish()
            }
            Output::PostCsr(post) => f.debug_tuple("PostCsr").field(post).finish(),
            Output::Connect(connect) => f.debug_tuple("Connect").field(connect).finish(),
            Output::Send(bytes) => write!(f, "Send({} bytes)", bytes.len()),
            Output::Close => f.write_str("Close"),
            Output::JumpClock(by) => f.debug_tuple("JumpClock").field(by).finish(),
            Output::Air(change) => f.debug_tuple("Air").field(change).finish(),
            Output::Cut { write, nth } => f.debug_struct("Cut").field("write", write).field("nth", nth).finish(),
            Output::SkipWaits(on) => f.debug_tuple("SkipWaits").field(on).finish(),
            Output::KeepSurroundings(kept) => f.debug_tuple("KeepSurroundings").field(kept).finish(),
            Output::Reboot => f.write_str("Reboot"),
        }
    }
}

/// The shell gives up a connection to broker or CA (TCP and TLS together) after this.
pub const CONNECT_LIMIT: core::time::Duration = core::time::Duration::from_secs(5);
/// The shell gives up a whole exchange with the CA after this.
pub const POST_LIMIT: core::time::Duration = core::time::Duration::from_secs(10);

/// An answer to an HTTP request; always `application/json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// JSON text.
    pub body: String,
    /// `Allow` header, with 405.
    pub allow: Option<&'static str>,
}

/// A measurement on its way to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Counts up by one from 1 for each reading made, over reboots too as long as one is queued.
    pub number: u64,
    /// The JSON payload.
    pub payload: String,
}

/// Whom the device trusts to be the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// These anchors, PEM.
    Anchors(String),
    /// The system's roots.
    System,
    /// Anybody (`MQTT_TLS_INSECURE`).
    Anybody,
}

/// The device's own certificate and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// PEM: leaf first.
    pub certificate: String,
    /// PKCS#8 or SEC1 PEM.
    pub key: Secret,
}

/// A request to the CA.
#[derive(Clone, Debug)]
pub struct Post {
    /// Whole URL.
    pub url: String,
    /// Bearer token; none when renewing over mutual TLS.
    pub bearer: Option<Secret>,
    /// JSON body.
    pub body: String,
    /// Whom to trust.
    pub trust: Trust,
    /// Shown to the CA when renewing.
    pub identity: Option<ClientIdentity>,
    /// TLS versions offered.
    pub tls_versions: TlsVersions,
}

/// A connection to the broker.
#[derive(Clone, Debug)]
pub struct Connect {
    /// Host name or address; also the name that is verified and sent as SNI.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Level.
    pub security: Security,
    /// Whom to trust; unread when plain.
    pub trust: Trust,
    /// Shown to the broker under mutual TLS.
    pub identity: Option<ClientIdentity>,
    /// TLS versions offered.
    pub tls_versions: TlsVersions,
}

/// A change of the simulated Wi-Fi surroundings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AirChange {
    /// A network appears, or changes.
    Add {
        /// Name.
        ssid: String,
        /// Passphrase; empty for an open network.
        password: Secret,
        /// dBm.
        rssi: i8,
        /// 1–13.
        channel: u8,
        /// Whether its DHCP server answers.
        dhcp: bool,
    },
    /// A network disappears.
    Remove {
        /// Name.
        ssid: String,
    },
}

/// When a device next wants to be ticked, and whether it waits for a peer until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// The moment.
    pub at: crate::time::Instant,
    /// What for.
    pub kind: DeadlineKind,
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeadlineKind {
    /// The next try.
    Backoff,
    /// The next reading.
    Telemetry,
    /// PINGREQ is due.
    Keepalive,
    /// The certificate is due for renewal.
    Renewal,
    /// The back-off is forgotten after a stable time.
    Stable,
    /// The broker owes an answer (acknowledgement, PINGRESP, CONNACK), whatever else is due first: jumped to only after the line has been quiet
    /// for long, since the time that passes is the answer's time too.
    Answer,
}
