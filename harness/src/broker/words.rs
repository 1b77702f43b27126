//! What Mosquitto says in its log, in one table: each event by the words of version 2.0 and of 2.1.
//!
//! The words of 2.0 were recorded of 2.0.11; those of 2.1 are those of its sources (2.1.2). Versions are not told apart when a log is
//! read: no version says what means something else in the other.

use schemars::JsonSchema;
use serde::Deserialize;
use std::fmt;

/// Something that Mosquitto says in its log, whatever its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogEvent {
    /// A client was let in.
    Connected,
    /// A client said goodbye.
    Disconnected,
    /// A client was gone without a goodbye.
    Closed,
    /// A client was thrown out by another one with its client id.
    TakenOver,
    /// A client was refused or thrown out: its user, password or certificate does not suffice.
    NotAuthorised,
    /// A client was silent for longer than its keepalive allows.
    TimedOut,
    /// A client did not keep to the protocol; so a TLS handshake that failed ends, too.
    ProtocolError,
    /// A TLS handshake failed.
    TlsFailed,
    /// The access control list forbade a publication.
    PublishDenied,
    /// The broker was asked to read its files again.
    Reloading,
}

/// An event, the patterns of 2.0 and those of 2.1. `*` is any text.
type Row = (LogEvent, &'static [&'static str], &'static [&'static str]);

const TABLE: &[Row] = &[
    (
        LogEvent::Connected,
        &["New client connected from *:* as * (p*, c*, k*)."],
        &["New client connected from *:* as * (p*, c*, k*)."],
    ),
    (LogEvent::Disconnected, &["Client * disconnected."], &["Client * [*:*] disconnected."]),
    (LogEvent::Closed, &["Client * closed its connection."], &["Client * [*:*] disconnected: connection closed by client."]),
    (
        LogEvent::TakenOver,
        &["Client * already connected, closing old connection."],
        &["Client * [*:*] disconnected: session taken over."],
    ),
    (LogEvent::NotAuthorised, &["Client * disconnected, not authorised."], &["Client * [*:*] disconnected: not authorised."]),
    (LogEvent::TimedOut, &["Client * has exceeded timeout, disconnecting."], &["Client * [*:*] disconnected: exceeded timeout."]),
    (
        LogEvent::ProtocolError,
        &["Client * disconnected due to protocol error.", "Client * disconnected: Protocol error."],
        &["Client * [*:*] disconnected: protocol error."],
    ),
    (
        LogEvent::TlsFailed,
        &["OpenSSL Error[*]: error:*", "Client connection from * failed: error:*"],
        &["OpenSSL Error *[*]: error:*", "OpenSSL Error[*]: error:*"],
    ),
    (LogEvent::PublishDenied, &["Denied PUBLISH from * (*"], &["Denied PUBLISH from * (*"]),
    (LogEvent::Reloading, &["Reloading config."], &["Reloading config."]),
];

impl LogEvent {
    /// Whether this line says so, by any version.
    pub fn is_said_by(self, line: &str) -> bool {
        TABLE
            .iter()
            .filter(|(event, ..)| *event == self)
            .any(|(_, of_2_0, of_2_1)| of_2_0.iter().chain(*of_2_1).any(|pattern| matches(pattern, line)))
    }
}

/// The name, as scenarios have it.
impl fmt::Display for LogEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogEvent::Connected => "connected",
            LogEvent::Disconnected => "disconnected",
            LogEvent::Closed => "closed",
            LogEvent::TakenOver => "taken-over",
            LogEvent::NotAuthorised => "not-authorised",
            LogEvent::TimedOut => "timed-out",
            LogEvent::ProtocolError => "protocol-error",
            LogEvent::TlsFailed => "tls-failed",
            LogEvent::PublishDenied => "publish-denied",
            LogEvent::Reloading => "reloading",
        })
    }
}

/// Whether a whole line is this pattern. A part between two `*` is taken where it comes first, which is right as long as no part is
/// found within what another stands for.
fn matches(pattern: &str, line: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == line };
    let Some(mut line) = line.strip_prefix(first) else { return false };
    let (parts, last) = rest.rsplit_once('*').map_or((None, rest), |(parts, last)| (Some(parts), last));
    for part in parts.into_iter().flat_map(|parts| parts.split('*')) {
        let Some((_, after)) = line.split_once(part) else { return false };
        line = after;
    }
    line.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_versions_are_understood() {
        // 2.0: recorded. 2.1: as its sources print them.
        for (event, line) in [
            (LogEvent::Connected, "New client connected from 127.0.0.1:53774 as alice-ok (p2, c1, k60, u'alice')."),
            (LogEvent::Connected, "New client connected from 127.0.0.1:53774 as alice-ok (p5, c0, k60)."),
            (LogEvent::Connected, "New client connected from 127.0.0.1:53774 as alice-ok (p4, c1, k60, u'alice')."),
            (LogEvent::Disconnected, "Client pers disconnected."),
            (LogEvent::Disconnected, "Client pers [127.0.0.1:53774] disconnected."),
            (LogEvent::Closed, "Client dropper closed its connection."),
            (LogEvent::Closed, "Client dropper [127.0.0.1:53774] disconnected: connection closed by client."),
            (LogEvent::TakenOver, "Client twin already connected, closing old connection."),
            (LogEvent::TakenOver, "Client twin [127.0.0.1:53774] disconnected: session taken over."),
            (LogEvent::NotAuthorised, "Client <unknown> disconnected, not authorised."),
            (LogEvent::NotAuthorised, "Client <unknown> [::1:53774] disconnected: not authorised."),
            (LogEvent::TimedOut, "Client slow has exceeded timeout, disconnecting."),
            (LogEvent::TimedOut, "Client slow [127.0.0.1:53774] disconnected: exceeded timeout."),
            (LogEvent::ProtocolError, "Client <unknown> disconnected due to protocol error."),
            (LogEvent::ProtocolError, "Client <unknown> disconnected: Protocol error."),
            (LogEvent::ProtocolError, "Client <unknown> [127.0.0.1:53774] disconnected: protocol error."),
            (LogEvent::TlsFailed, "OpenSSL Error[0]: error:0A000086:SSL routines::certificate verify failed"),
            (LogEvent::TlsFailed, "Client connection from 127.0.0.1 failed: error:0A00010B:SSL routines::wrong version number."),
            (LogEvent::PublishDenied, "Denied PUBLISH from alice-v5 (d0, q1, r0, m1, 'dev/bob/up', ... (1 bytes))"),
            (LogEvent::Reloading, "Reloading config."),
        ] {
            assert!(event.is_said_by(line), "{line}");
            let all: Vec<LogEvent> = TABLE.iter().map(|row| row.0).filter(|event| event.is_said_by(line)).collect();
            assert_eq!(all, [event], "{line} means one thing");
        }
        assert!(!LogEvent::Connected.is_said_by("New connection from 127.0.0.1:53684 on port 28883."));
        assert!(!LogEvent::Disconnected.is_said_by("Client x has been disconnected"));
    }
}
