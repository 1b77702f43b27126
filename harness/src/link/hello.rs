//! Reads TLS hello messages in passing: what was offered, chosen and refused in the clear, as evidence from the wire.
//!
//! It sees copies of the bytes of one connection, never holds or changes them, and stops for good at the first encrypted record, at
//! anything that is not TLS, and at [`READ_MAX`] bytes a direction.

use device_core::alert;
use tls_parser::{TlsCipherSuite, TlsExtension, TlsVersion};

/// Bytes read in one direction of one connection before reading is given up.
pub const READ_MAX: usize = 64 * 1024;
/// RFC 8446 section 5.1 and RFC 5246 section 6.2.3: the longest record, with expansion.
const RECORD_MAX: usize = (1 << 14) + 2048;
/// RFC 8446 section 4.1.3: the random of a ServerHello that is a HelloRetryRequest.
const RETRY_RANDOM: [u8; 32] = [
    0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91, 0xC2, 0xA2, 0x11, 0x16, 0x7A,
    0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C,
];

/// One side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The device, which is the TLS client.
    Device,
    /// The server.
    Server,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A ClientHello; the second one after a HelloRetryRequest too.
    ClientHello {
        /// Versions offered, such as `1.3`.
        versions: Vec<String>,
        /// Server name indication.
        sni: Option<String>,
        /// Cipher suites, IANA names.
        suites: Vec<String>,
        /// Groups, IANA names.
        groups: Vec<String>,
    },
    /// The server asks for another ClientHello (TLS 1.3), for this version and suite.
    HelloRetryRequest {
        /// Version.
        version: String,
        /// Suite.
        suite: String,
    },
    /// A ServerHello.
    ServerHello {
        /// Version chosen.
        version: String,
        /// Suite chosen.
        suite: String,
    },
    /// The device's Certificate message (TLS 1.2), with a certificate in it or empty.
    ClientCertificate {
        /// Whether one was in it.
        sent: bool,
    },
    /// An alert in the clear.
    Alert {
        /// Who sent it.
        by: Side,
        /// RFC 8446 name, or `alert-N`.
        name: String,
    },
}

/// The reading of one connection.
#[derive(Debug, Default)]
pub struct Reading {
    device: Direction,
    server: Direction,
    retried: bool,
}

#[derive(Debug, Default)]
struct Direction {
    /// Bytes of a record that is not whole yet.
    records: Vec<u8>,
    /// Bytes of a handshake message that is not whole yet.
    messages: Vec<u8>,
    read: usize,
    changed_cipher: bool,
    done: bool,
}

impl Reading {
    /// Reads bytes that pass from this side; what was heard in them.
    pub fn pass(&mut self, from: Side, bytes: &[u8]) -> Vec<Heard> {
        let mut heard = Vec::new();
        let way = self.way(from);
        if way.done {
            return heard;
        }
        way.read += bytes.len();
        if way.read > READ_MAX {
            way.end();
            return heard;
        }
        way.records.extend_from_slice(bytes);
        while let Some((kind, body)) = self.way(from).next_record() {
            self.record(from, kind, &body, &mut heard);
        }
        heard
    }

    /// Whether there is nothing more to read on either side.
    pub fn is_done(&self) -> bool {
        self.device.done && self.server.done
    }

    fn way(&mut self, from: Side) -> &mut Direction {
        match from {
            Side::Device => &mut self.device,
            Side::Server => &mut self.server,
        }
    }

    fn record(&mut self, from: Side, kind: u8, body: &[u8], heard: &mut Vec<Heard>) {
        let retried = self.retried;
        let way = self.way(from);
        match kind {
            20 => way.changed_cipher = true,
            // After it all is encrypted, but for the hellos that follow a HelloRetryRequest (RFC 8446 appendix D.4).
            _ if way.changed_cipher && !retried => way.end(),
            21 => match body {
                [_level, description] => heard.push(Heard::Alert { by: from, name: alert_name(*description) }),
                _ => way.end(),
            },
            22 => {
                way.messages.extend_from_slice(body);
                while let Some((kind, body)) = self.way(from).next_message() {
                    match (from, kind) {
                        (Side::Device, 1) => heard.extend(client_hello(&body)),
                        (Side::Server, 2) => {
                            let hello = server_hello(&body);
                            self.retried |= matches!(hello, Some(Heard::HelloRetryRequest { .. }));
                            heard.extend(hello);
                        }
                        // The list's length is the first thing in it.
                        (Side::Device, 11) if body.len() >= 3 => {
                            heard.push(Heard::ClientCertificate { sent: body[..3] != [0, 0, 0] });
                        }
                        _ => {}
                    }
                }
            }
            _ => way.end(),
        }
    }
}

impl Direction {
    fn end(&mut self) {
        *self = Direction { done: true, ..Direction::default() };
    }

    /// Takes the next whole record: its type and body.
    fn next_record(&mut self) -> Option<(u8, Vec<u8>)> {
        // What does not begin as TLS does is something else: MQTT in the clear begins with 0x10.
        let [kind, rest @ ..] = self.records.as_slice() else { return None };
        if !(20..=23).contains(kind) || rest.first().is_some_and(|major| *major != 3) {
            self.end();
            return None;
        }
        let [_major, _minor, high, low, body @ ..] = rest else { return None };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length > RECORD_MAX {
            self.end();
            return None;
        }
        let taken = (*kind, body.get(..length)?.to_vec());
        self.records.drain(..5 + length);
        Some(taken)
    }

    /// Takes the next whole handshake message: its type and body.
    fn next_message(&mut self) -> Option<(u8, Vec<u8>)> {
        let [kind, a, b, c, body @ ..] = self.messages.as_slice() else { return None };
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        if length > READ_MAX {
            self.end();
            return None;
        }
        let taken = (*kind, body.get(..length)?.to_vec());
        self.messages.drain(..4 + length);
        Some(taken)
    }
}

fn client_hello(body: &[u8]) -> Option<Heard> {
    let (_, hello) = tls_parser::parse_tls_handshake_client_hello(body).ok()?;
    let extensions =
        hello.ext.and_then(|e| tls_parser::parse_tls_client_hello_extensions(e).ok()).map_or_else(Vec::new, |(_, e)| e);
    let (mut versions, mut sni, mut groups) = (vec![version_name(hello.version)], None, Vec::new());
    for extension in extensions {
        match extension {
            TlsExtension::SupportedVersions(offered) => versions = offered.into_iter().map(version_name).collect(),
            TlsExtension::SNI(names) => {
                sni = names.into_iter().find(|(kind, _)| kind.0 == 0).map(|(_, name)| String::from_utf8_lossy(name).into_owned());
            }
            TlsExtension::EllipticCurves(offered) => groups = offered.into_iter().map(|g| group_name(g.0)).collect(),
            _ => {}
        }
    }
    let suites = hello.ciphers.iter().map(|c| suite_name(c.0)).collect();
    Some(Heard::ClientHello { versions, sni, suites, groups })
}

fn server_hello(body: &[u8]) -> Option<Heard> {
    let (_, hello) = tls_parser::parse_tls_handshake_server_hello(body).ok()?;
    let extensions =
        hello.ext.and_then(|e| tls_parser::parse_tls_server_hello_extensions(e).ok()).map_or_else(Vec::new, |(_, e)| e);
    let chosen = extensions.iter().find_map(|e| match e {
        TlsExtension::SupportedVersions(chosen) => chosen.first().copied(),
        _ => None,
    });
    let (version, suite) = (version_name(chosen.unwrap_or(hello.version)), suite_name(hello.cipher.0));
    Some(if hello.random == RETRY_RANDOM {
        Heard::HelloRetryRequest { version, suite }
    } else {
        Heard::ServerHello { version, suite }
    })
}

/// RFC 8701: values that mean nothing and change from one connection to the next.
fn is_grease(value: u16) -> bool {
    value & 0x0F0F == 0x0A0A && value >> 8 == value & 0xFF
}

fn version_name(version: TlsVersion) -> String {
    match version.0 {
        0x0304 => "1.3".into(),
        0x0303 => "1.2".into(),
        0x0302 => "1.1".into(),
        0x0301 => "1.0".into(),
        0x0300 => "SSL 3.0".into(),
        value if is_grease(value) => "GREASE".into(),
        other => format!("0x{other:04x}"),
    }
}

fn suite_name(suite: u16) -> String {
    match TlsCipherSuite::from_id(suite) {
        Some(known) => known.name.to_owned(),
        None if is_grease(suite) => "GREASE".into(),
        None => format!("0x{suite:04x}"),
    }
}

/// Names of the IANA registry "TLS Supported Groups".
fn group_name(group: u16) -> String {
    match group {
        19 => "secp192r1".into(),
        21 => "secp224r1".into(),
        22 => "secp256k1".into(),
        23 => "secp256r1".into(),
        24 => "secp384r1".into(),
        25 => "secp521r1".into(),
        26 => "brainpoolP256r1".into(),
        27 => "brainpoolP384r1".into(),
        28 => "brainpoolP512r1".into(),
        29 => "x25519".into(),
        30 => "x448".into(),
        256 => "ffdhe2048".into(),
        257 => "ffdhe3072".into(),
        258 => "ffdhe4096".into(),
        259 => "ffdhe6144".into(),
        260 => "ffdhe8192".into(),
        4587 => "SecP256r1MLKEM768".into(),
        4588 => "X25519MLKEM768".into(),
        value if is_grease(value) => "GREASE".into(),
        other => format!("0x{other:04x}"),
    }
}

/// The alert's name, or `alert-N` for one without.
pub(crate) fn alert_name(description: u8) -> String {
    alert::name(description).map_or_else(|| format!("alert-{description}"), str::to_owned)
}
