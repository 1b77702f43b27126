//! What a broker is to be, and Mosquitto's configuration files for it.

use crate::ca::pki::Identity;
use base64::prelude::{BASE64_STANDARD, Engine};
use device_core::config::{Security, TlsVersions};
use device_core::secret::Secret;
use sha2::{Digest, Sha512};
use std::sync::atomic::{AtomicU64, Ordering};

/// A user with a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name; must not hold a colon or a line end.
    pub name: String,
    /// Password.
    pub password: Secret,
}

/// Who may do what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Acl {
    /// Everybody everything that is not `$SYS`.
    #[default]
    Open,
    /// Each device (its user name is its certificate's CN or its login) reads and writes `devices/<user name>/#`; operators, by
    /// user name, everything.
    Devices {
        /// User names of operators: the tap, the probes.
        operators: Vec<String>,
    },
    /// An ACL file in Mosquitto's words.
    Text(String),
}

/// What a broker keeps over a restart: retained messages, sessions that are to persist and what is queued for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// Nothing.
    #[default]
    None,
    /// What it holds when it is stopped in good order. A kill loses everything (Mosquitto by itself stores every 30 minutes).
    OnStop,
    /// Every change, at the end of the turn of its loop in which it was made. A kill loses what came in the turn that was not stored
    /// yet, though it may have been acknowledged; a turn with a change costs a write and an fsync of the whole store (5 ms here).
    EachChange,
}

/// Where a broker lives, as it sees it itself.
pub(super) struct Place {
    /// The folder that its files are written to.
    pub files: String,
    /// The folder that it stores in.
    pub store: String,
    /// Port and address.
    pub listener: String,
    /// Those of the plain listener beside it.
    pub plain_listener: Option<String>,
    /// Whether it stays root. Otherwise a root becomes the user `mosquitto` before the key is read.
    pub stay_root: bool,
}

/// What a broker is to be. It listens on loopback, on a port of its own or on two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerSpec {
    /// Plain: anonymous unless there are users. Server TLS: the same, over TLS. Mutual TLS: a client certificate of `client_ca` is
    /// demanded and its CN is the user name.
    pub security: Security,
    /// Whether a plain listener stands beside the one with TLS. Mosquitto has one list of users, one ACL and one opinion of anonymous
    /// clients for both, but demands a certificate on the one with mutual TLS only.
    pub plain_beside: bool,
    /// The server's certificate; needed unless plain.
    pub server: Option<Identity>,
    /// PEM: the authority (or several) of client certificates; needed for mutual TLS.
    pub client_ca: Option<String>,
    /// PEM: revoked client certificates. While it is stale, Mosquitto refuses every client.
    pub crl: Option<String>,
    /// TLS versions accepted.
    pub tls: TlsVersions,
    /// Users; none: anonymous clients are let in.
    pub users: Vec<User>,
    /// Who may do what.
    pub acl: Acl,
    /// What is kept over a restart.
    pub storage: Storage,
}

impl BrokerSpec {
    /// A plain broker, open to all.
    pub fn plain() -> Self {
        BrokerSpec {
            security: Security::Plain,
            plain_beside: false,
            server: None,
            client_ca: None,
            crl: None,
            tls: TlsVersions::Both,
            users: Vec::new(),
            acl: Acl::Open,
            storage: Storage::None,
        }
    }

    /// A broker with server TLS, open to all.
    pub fn server_tls(server: Identity) -> Self {
        BrokerSpec { security: Security::ServerTls, server: Some(server), ..BrokerSpec::plain() }
    }

    /// A broker with mutual TLS, for devices whose CN is their name, and for these operators.
    pub fn mutual_tls(server: Identity, client_ca: impl Into<String>, operators: Vec<String>) -> Self {
        BrokerSpec {
            security: Security::MutualTls,
            client_ca: Some(client_ca.into()),
            acl: Acl::Devices { operators },
            ..BrokerSpec::server_tls(server)
        }
    }

    /// What is missing in it or cannot be written down, in words; nothing when it is whole.
    pub(super) fn fault(&self) -> Option<String> {
        if self.security != Security::Plain && self.server.is_none() {
            return Some("TLS needs the server's certificate".into());
        }
        if self.security == Security::MutualTls && self.client_ca.is_none() {
            return Some("mutual TLS needs the authority of the client certificates".into());
        }
        if self.security == Security::Plain && self.plain_beside {
            return Some("a plain listener beside a plain one".into());
        }
        let operators = match &self.acl {
            Acl::Devices { operators } => operators.as_slice(),
            _ => &[],
        };
        let names = self.users.iter().map(|u| &u.name).chain(operators);
        if let Some(name) = names.into_iter().find(|n| n.is_empty() || n.contains([':', '\n', '\r', '\0'])) {
            return Some(format!("the user name {name:?} is empty or holds a colon or a line end"));
        }
        None
    }

    /// What Mosquitto would have to read anew to become this other broker, and reads at its start only; nothing when SIGHUP is enough.
    pub(super) fn read_at_start_only(&self, other: &BrokerSpec) -> Option<&'static str> {
        let differs = [
            (self.security != other.security || self.plain_beside != other.plain_beside, "its listeners"),
            (self.client_ca != other.client_ca, "the authority of the client certificates"),
            (self.crl.is_some() != other.crl.is_some(), "whether there is a revocation list"),
            (self.tls != other.tls, "the TLS versions"),
            (self.storage != other.storage, "what is stored"),
        ];
        differs.into_iter().find_map(|(differs, what)| differs.then_some(what))
    }

    /// The files of this broker by name, `mosquitto.conf` among them.
    pub(super) fn files(&self, place: &Place) -> Vec<(&'static str, String)> {
        let mut files = Vec::new();
        let mut conf = String::new();
        let mut say = |line: String| {
            conf.push_str(&line);
            conf.push('\n');
        };
        let path = |name: &str| format!("{}/{name}", place.files);
        if place.stay_root {
            say("user root".into());
        }
        for line in ["log_dest stderr", "log_type all", "connection_messages true", "log_timestamp false", "set_tcp_nodelay true"] {
            say(line.into());
        }
        // Bounds: a forgotten session ends, and a device that is away has this many messages kept for it.
        for line in ["persistent_client_expiration 1d", "max_queued_messages 10000"] {
            say(line.into());
        }
        match self.storage {
            Storage::None => say("persistence false".into()),
            Storage::OnStop | Storage::EachChange => {
                say("persistence true".into());
                say(format!("persistence_location {}/", place.store));
                let each = self.storage == Storage::EachChange;
                say(format!("autosave_interval {}", u8::from(each)));
                say(format!("autosave_on_changes {each}"));
            }
        }
        let mut file = |name: &'static str, content: String| {
            files.push((name, content));
            path(name)
        };
        match &self.acl {
            Acl::Open => {}
            Acl::Devices { operators } => say(format!("acl_file {}", file("acl", devices_acl(operators)))),
            Acl::Text(text) => say(format!("acl_file {}", file("acl", text.clone()))),
        }
        if !self.users.is_empty() {
            let lines = self.users.iter().map(user_line).collect();
            say(format!("password_file {}", file("passwords", lines)));
        }
        let mutual = self.security == Security::MutualTls;
        say(format!("allow_anonymous {}", self.users.is_empty() && (!mutual || self.plain_beside)));
        if let Some(listener) = place.plain_listener.as_ref().filter(|_| self.plain_beside) {
            say(format!("listener {listener}"));
        }
        say(format!("listener {}", place.listener));
        if self.security != Security::Plain {
            if let Some(server) = &self.server {
                say(format!("certfile {}", file("server.crt", server.chain_pem.clone())));
                say(format!("keyfile {}", file("server.key", server.key_pem.expose().to_owned())));
            }
            if self.tls == TlsVersions::Only13 {
                say("tls_version tlsv1.3".into());
            }
            if self.tls == TlsVersions::Only12 {
                file("openssl.cnf", OPENSSL_ONLY_12.into());
            }
        }
        if mutual {
            if let Some(ca) = &self.client_ca {
                say(format!("cafile {}", file("clients.crt", ca.clone())));
            }
            if let Some(crl) = &self.crl {
                say(format!("crlfile {}", file("clients.crl", crl.clone())));
            }
            say("require_certificate true".into());
            say("use_identity_as_username true".into());
        }
        files.push(("mosquitto.conf", conf));
        files
    }
}

/// Mosquitto's `tls_version` is a least version; only OpenSSL's own configuration, named by `OPENSSL_CONF`, sets a greatest one.
const OPENSSL_ONLY_12: &str = "openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = versions\n[versions]\n\
                               MinProtocol = TLSv1.2\nMaxProtocol = TLSv1.2\n";

fn devices_acl(operators: &[String]) -> String {
    let mut acl = String::new();
    for operator in operators {
        acl.push_str(&format!("user {operator}\ntopic readwrite #\ntopic read $SYS/#\n\n"));
    }
    acl.push_str("pattern readwrite devices/%u/#\n");
    acl
}

/// A user's line of the password file.
fn user_line(user: &User) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // Salt is to make equal passwords look different in a file that lives for one run and is ours alone: it need not be secret.
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let salt = &Sha512::digest(format!("{}/{count}/{}", std::process::id(), user.name))[..12];
    password_line(&user.name, &user.password, salt)
}

/// A line of a password file, as `mosquitto_passwd` writes it (`$6$`: salted SHA-512).
pub(crate) fn password_line(name: &str, password: &Secret, salt: &[u8]) -> String {
    let hash = Sha512::new().chain_update(password.expose()).chain_update(salt).finalize();
    format!("{name}:$6${}${}\n", BASE64_STANDARD.encode(salt), BASE64_STANDARD.encode(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Identity {
        Identity { chain_pem: "CHAIN".into(), key_pem: Secret::new("KEY") }
    }

    fn home(stay_root: bool) -> Place {
        Place {
            files: "/home".into(),
            store: "/home".into(),
            listener: "4711 127.0.0.1".into(),
            plain_listener: Some("4712 127.0.0.1".into()),
            stay_root,
        }
    }

    fn conf(spec: &BrokerSpec, root: bool) -> String {
        let files = spec.files(&home(root));
        files.into_iter().find(|(name, _)| *name == "mosquitto.conf").unwrap().1
    }

    #[test]
    fn mutual_tls_demands_a_certificate_and_takes_its_name() {
        let spec = BrokerSpec::mutual_tls(server(), "CA", vec!["operator".into()]);
        assert_eq!(spec.fault(), None);
        let conf = conf(&spec, true);
        for line in [
            "user root",
            "listener 4711 127.0.0.1",
            "allow_anonymous false",
            "require_certificate true",
            "use_identity_as_username true",
            "cafile /home/clients.crt",
            "acl_file /home/acl",
            "persistence false",
        ] {
            assert!(conf.lines().any(|l| l == line), "{line} in:\n{conf}");
        }
    }

    #[test]
    fn plain_lets_everybody_in_unless_there_are_users() {
        let mut spec = BrokerSpec::plain();
        assert!(conf(&spec, false).contains("allow_anonymous true"));
        assert!(!conf(&spec, false).contains("user root"));
        spec.users.push(User { name: "alice".into(), password: Secret::new("correct horse") });
        assert!(conf(&spec, false).contains("allow_anonymous false"));
        let files = spec.files(&home(false));
        let passwords = &files.iter().find(|(name, _)| *name == "passwords").unwrap().1;
        assert!(passwords.starts_with("alice:$6$") && !passwords.contains("horse"), "{passwords}");
    }

    #[test]
    fn two_listeners_let_anonymous_clients_in_by_the_plain_one() {
        let mutual = BrokerSpec::mutual_tls(server(), "CA", Vec::new());
        assert!(!conf(&mutual, false).contains("4712"));
        let both = conf(&BrokerSpec { plain_beside: true, ..mutual }, false);
        let at = |line: &str| both.lines().position(|l| l == line).unwrap_or_else(|| panic!("{line} in:\n{both}"));
        assert!(at("allow_anonymous true") < at("listener 4712 127.0.0.1"));
        assert!(at("listener 4712 127.0.0.1") < at("listener 4711 127.0.0.1"));
        assert!(at("listener 4711 127.0.0.1") < at("require_certificate true"), "of the last listener only");
        assert!(BrokerSpec { plain_beside: true, ..BrokerSpec::plain() }.fault().is_some());
    }

    #[test]
    fn what_a_running_mosquitto_does_not_read_again_is_known() {
        let spec = BrokerSpec { crl: Some("CRL".into()), ..BrokerSpec::mutual_tls(server(), "CA", Vec::new()) };
        let other = Identity { chain_pem: "OTHER".into(), key_pem: Secret::new("KEY") };
        for again in [
            BrokerSpec { server: Some(other), ..spec.clone() },
            BrokerSpec { crl: Some("MORE".into()), ..spec.clone() },
            BrokerSpec { acl: Acl::Text("topic #".into()), ..spec.clone() },
        ] {
            assert_eq!(spec.read_at_start_only(&again), None);
        }
        for (not_again, what) in [
            (BrokerSpec { client_ca: Some("BOTH".into()), ..spec.clone() }, "authority"),
            (BrokerSpec { crl: None, ..spec.clone() }, "revocation"),
            (BrokerSpec { plain_beside: true, ..spec.clone() }, "listeners"),
        ] {
            assert!(spec.read_at_start_only(&not_again).unwrap().contains(what));
        }
    }

    #[test]
    fn a_spec_that_cannot_be_written_down_says_so() {
        let mut spec = BrokerSpec::plain();
        spec.users.push(User { name: "a:b\n".into(), password: Secret::new("") });
        assert!(spec.fault().unwrap().contains("a:b"));
        assert!(BrokerSpec { security: Security::ServerTls, ..BrokerSpec::plain() }.fault().is_some());
        assert!(BrokerSpec { security: Security::MutualTls, ..BrokerSpec::server_tls(server()) }.fault().is_some());
    }
}
