//! What is measured: each kind of handshake a device and a broker can have.

use device_core::config::{Security, TlsVersions};

/// The kind of every key in a case's chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    P256,
    Rsa2048,
}

/// One kind of connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub security: Security,
    /// Unread when plain.
    pub key: Key,
    /// Unread when plain.
    pub version: TlsVersions,
    /// Whether the handshake goes on from an earlier session.
    pub resumed: bool,
}

impl Case {
    /// The plain one first, then TLS; RSA only when there are RSA keys.
    pub fn all(keys: &[Key]) -> Vec<Case> {
        let plain = Case { security: Security::Plain, key: Key::P256, version: TlsVersions::Both, resumed: false };
        let mut cases = vec![plain];
        for &key in keys {
            for security in [Security::ServerTls, Security::MutualTls] {
                for version in [TlsVersions::Only12, TlsVersions::Only13] {
                    cases.extend([false, true].map(|resumed| Case { security, key, version, resumed }));
                }
            }
        }
        cases
    }

    /// `TLS 1.3 P-256 mutual full`.
    pub fn name(&self) -> String {
        let auth = match self.security {
            Security::Plain => return "plain".to_owned(),
            Security::ServerTls => "server",
            Security::MutualTls => "mutual",
        };
        let version = if self.version == TlsVersions::Only12 { "1.2" } else { "1.3" };
        let key = if self.key == Key::P256 { "P-256" } else { "RSA-2048" };
        format!("TLS {version} {key} {auth} {}", if self.resumed { "resumed" } else { "full" })
    }
}
