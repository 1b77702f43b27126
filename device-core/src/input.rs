//! All that can happen to a device: facts, told by its shell.

use crate::output::RequestId;
use crate::secret::Secret;
use crate::storage::StorageFailure;
use crate::time::UnixTime;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A fact. Each one that answers an [`Output`](crate::output::Output) says which. No `Debug`: a console line may hold a password.
#[derive(Clone)]
pub enum Input<'a> {
    /// Time has passed: the deadline was reached (or the shell simply looked again). Harmless at any time.
    Tick,
    /// A line came in on the console, without its line end.
    ConsoleLine(&'a str),
    /// An HTTP request came in; answered by `Output::Respond` with the same id.
    Http(RequestId, Request<'a>),
    /// The HTTP listener is up, at this `host:port`. Answers `StartAp` (and again after `JoinWifi`, where the address changes).
    HttpListening(&'a str),
    /// Answers `Store`.
    Stored(Result<(), StorageFailure>),
    /// Answers `KeepSurroundings`: it was kept, or why not, in a few words.
    SurroundingsKept(Result<(), &'a str>),
    /// Answers `Scan`.
    Scanned(Vec<Network>),
    /// Answers `JoinWifi`: on the network, with this IPv4 address.
    WifiUp {
        /// The address DHCP gave.
        ip: [u8; 4],
    },
    /// Answers `JoinWifi`, or comes unasked when the link is lost.
    WifiDown(WifiFailure),
    /// Answers `SyncTime`.
    TimeSynced(Result<UnixTime, ()>),
    /// Answers `MakeCsr`.
    CsrMade {
        /// PKCS#8 PEM of the key (the one given, or a new one).
        key: Secret,
        /// The CSR, PEM.
        csr: String,
    },
    /// Answers `PostCsr`: what the CA said.
    CaReplied {
        /// HTTP status.
        status: u16,
        /// Body; the shell stops reading at `enrollment::REPLY_LIMIT` bytes and says `CaFailed(TooLarge)` then.
        body: &'a [u8],
    },
    /// Answers `PostCsr`: no whole answer came.
    CaFailed(&'a NetFailure),
    /// Answers `Connect`: the stream to the broker is up (TLS done, where there is TLS).
    Connected,
    /// Answers `Connect`: it is not.
    ConnectFailed(&'a NetFailure),
    /// Bytes came from the broker.
    Received(&'a [u8]),
    /// The broker's stream has ended, by whomever. Never follows an `Output::Close`.
    Closed(&'a NetFailure),
}

/// An HTTP request as the shell read it; the device parses body and headers. Its `Debug` shows neither, since both hold secrets.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Method, such as `POST`.
    pub method: &'a str,
    /// Path without the query.
    pub path: &'a str,
    /// `Authorization` header.
    pub authorization: Option<&'a str>,
    /// `Content-Type` header.
    pub content_type: Option<&'a str>,
    /// Body. The shell stops reading at `provisioning::BODY_LIMIT` + 1 bytes.
    pub body: &'a [u8],
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} {}, {} bytes)", self.method, self.path, self.body.len())
    }
}

/// A network seen in a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Name, at most 32 bytes.
    pub ssid: String,
    /// Signal, dBm.
    pub rssi: i8,
    /// 1–13.
    pub channel: u8,
    /// Whether a password is needed.
    pub secure: bool,
}

/// Why the device is not on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WifiFailure {
    /// The network refused the password.
    WrongPassword,
    /// No network of that name.
    NotFound,
    /// Joined, but no address came in time.
    NoAddress,
    /// It was up and went away.
    Lost,
}

/// Why a connection did not come about, or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetFailure {
    /// What kind of failure.
    pub kind: NetFailureKind,
    /// One line for the log; no secrets.
    pub text: String,
}

/// Kinds of connection failure; the device's decisions hang on these, its log on the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NetFailureKind {
    /// The name does not resolve.
    NoSuchHost,
    /// Connection refused.
    Refused,
    /// No route, or the network is down.
    Unreachable,
    /// The time limit passed.
    TimedOut,
    /// Reset, or ended in the middle.
    Reset,
    /// The peer closed in good order.
    Ended,
    /// The server's certificate has expired.
    CertificateExpired,
    /// The server's certificate is not valid yet.
    CertificateNotYetValid,
    /// No path from the server's certificate to a trust anchor.
    UnknownIssuer,
    /// The server's certificate is for another name.
    WrongName,
    /// The server's certificate may not be used for this (key usage, extended key usage, CA bit).
    WrongUsage,
    /// The server's certificate is malformed or otherwise unacceptable.
    BadCertificate,
    /// The peer refused us with a TLS alert.
    Alert,
    /// TLS failed otherwise (no common version, garbage).
    Tls,
    /// The answer is not HTTP, or breaks its rules.
    BadReply,
    /// The answer is over the limit.
    TooLarge,
    /// The device's own certificate or key cannot be used.
    BadIdentity,
}

impl WifiFailure {
    /// Its word on the console and in `/status`.
    pub const fn word(self) -> &'static str {
        match self {
            WifiFailure::WrongPassword => "wrong-password",
            WifiFailure::NotFound => "not-found",
            WifiFailure::NoAddress => "no-address",
            WifiFailure::Lost => "lost",
        }
    }
}

impl NetFailureKind {
    /// Its word on the console and in `/status`.
    pub const fn word(self) -> &'static str {
        match self {
            NetFailureKind::NoSuchHost => "no-such-host",
            NetFailureKind::Refused => "refused",
            NetFailureKind::Unreachable => "unreachable",
            NetFailureKind::TimedOut => "timed-out",
            NetFailureKind::Reset => "reset",
            NetFailureKind::Ended => "ended",
            NetFailureKind::CertificateExpired => "certificate-expired",
            NetFailureKind::CertificateNotYetValid => "certificate-not-yet-valid",
            NetFailureKind::UnknownIssuer => "unknown-issuer",
            NetFailureKind::WrongName => "wrong-name",
            NetFailureKind::WrongUsage => "wrong-usage",
            NetFailureKind::BadCertificate => "bad-certificate",
            NetFailureKind::Alert => "alert",
            NetFailureKind::Tls => "tls",
            NetFailureKind::BadReply => "bad-reply",
            NetFailureKind::TooLarge => "too-large",
            NetFailureKind::BadIdentity => "bad-identity",
        }
    }
}
