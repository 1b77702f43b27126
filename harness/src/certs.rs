//! Certificates for a broker and its clients, as files a person starts Mosquitto with: one configuration for each security level.
//!
//! A root that devices trust; one intermediate for servers and one for clients, neither good for the other's purpose; a server
//! certificate with its names in subjectAltName; a certificate and a password for each client; an ACL. Keys are P-256.

use crate::broker::password_line;
use crate::ca::pki::{DAY_S, Draft, Identity, LIST, Pki, PkiError, Role, ServerSpec, fill_random};
use crate::files::Readers;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use device_core::secret::Secret;
use rcgen::{ExtendedKeyUsagePurpose, KeyPair};
use std::path::Path;

/// The client that may read and write everything.
pub const OPERATOR: &str = "operator";
/// How long before they are made certificates are valid: a device's clock may be late.
const BACK_DATED_S: i64 = DAY_S;

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Wish<'w> {
    /// Names and addresses of the broker.
    pub names: &'w [String],
    /// Clients, by their common name, besides the operator.
    pub clients: &'w [String],
    /// How long certificates are valid, seconds.
    pub lifetime_s: i64,
    /// The wall clock, seconds since 1970.
    pub now: i64,
    /// Where the files will be; the configurations name it.
    pub folder: &'w Path,
    /// The revocation list, PEM, where the broker is to have one.
    pub crl: Option<String>,
    /// Whether Mosquitto will be started by root, as which it would not read the keys of others.
    pub root: bool,
}

/// A file to write.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its name in the folder.
    pub name: String,
    /// What it is for.
    pub what: String,
    /// What it holds.
    pub text: String,
    /// Who may read it.
    pub readers: Readers,
}

impl Made {
    fn open(name: impl Into<String>, what: impl Into<String>, text: impl Into<String>) -> Made {
        Made { name: name.into(), what: what.into(), text: text.into(), readers: Readers::All }
    }

    fn secret(name: impl Into<String>, what: impl Into<String>, text: impl Into<String>) -> Made {
        Made { readers: Readers::Owner, ..Made::open(name, what, text) }
    }
}

/// A security level's configuration: its name, its port, what it is.
pub const LEVELS: [(&str, u16, &str); 3] = [
    ("plain", 1883, "no TLS, no passwords; on this machine only"),
    ("server-tls", 8883, "TLS, clients log in with a password"),
    ("mutual-tls", 8883, "TLS, clients show a certificate, whose name is their user name"),
];

/// The files of a broker with all its clients.
///
/// # Errors
/// When a name cannot stand in a certificate, or the system has no random numbers.
pub fn make(pki: &Pki, wish: &Wish<'_>) -> Result<Vec<Made>, PkiError> {
    let spec = ServerSpec {
        not_before: Some(wish.now.saturating_sub(BACK_DATED_S)),
        not_after: Some(wish.now.saturating_add(wish.lifetime_s)),
        ..ServerSpec::new(wish.names)
    };
    let server = pki.server(&spec)?;
    let mut made = vec![
        Made::open("ca.crt", "the root: what devices and clients trust", pki.root_pem()),
        Made::open("clients-ca.crt", "what the broker trusts to sign clients", pki.device_ca_pem()),
        Made::open("server.crt", format!("the broker's, for {}", wish.names.join(", ")), server.chain_pem),
        Made::secret("server.key", "its key", server.key_pem.expose()),
    ];
    let mut passwords = String::new();
    for name in wish.clients.iter().map(String::as_str).chain([OPERATOR]) {
        let (files, line) = client_files(pki, name, wish)?;
        made.extend(files);
        passwords.push_str(&line);
    }
    made.push(Made::secret("passwords", "Mosquitto's password file", passwords));
    made.extend(wish.crl.iter().map(|crl| Made::open(LIST, "the revocation list: who is no longer a client", crl)));
    made.push(Made::secret("acl", "who may read and write what", acl()));
    for (level, port, what) in LEVELS {
        made.push(Made::open(format!("{level}.conf"), format!("Mosquitto, port {port}: {what}"), conf(level, port, what, wish)));
    }
    Ok(made)
}

/// The files of further clients, and nothing else. A password must be added to the broker's file by hand: its lines are returned too.
///
/// # Errors
/// When the system has no random numbers.
pub fn make_clients(pki: &Pki, wish: &Wish<'_>) -> Result<(Vec<Made>, String), PkiError> {
    let (mut made, mut passwords) = (Vec::new(), String::new());
    for name in wish.clients {
        let (files, line) = client_files(pki, name, wish)?;
        made.extend(files);
        passwords.push_str(&line);
    }
    Ok((made, passwords))
}

fn client_files(pki: &Pki, name: &str, wish: &Wish<'_>) -> Result<([Made; 3], String), PkiError> {
    let identity = client(pki, name, wish)?;
    let (mut password, mut salt) = ([0; 24], [0; 12]);
    fill_random(&mut password)?;
    fill_random(&mut salt)?;
    let password = Secret::new(BASE64_URL_SAFE_NO_PAD.encode(password));
    let line = password_line(name, &password, &salt);
    let files = [
        Made::open(format!("{name}.crt"), format!("the certificate of {name}, with its intermediate"), identity.chain_pem),
        Made::secret(format!("{name}.key"), "its key", identity.key_pem.expose()),
        Made::secret(format!("{name}.password"), "its password, where the level wants one", password.expose()),
    ];
    Ok((files, line))
}

fn client(pki: &Pki, name: &str, wish: &Wish<'_>) -> Result<Identity, PkiError> {
    let draft = Draft {
        common_name: name.to_owned(),
        names: Vec::new(),
        not_before: wish.now.saturating_sub(BACK_DATED_S),
        not_after: wish.now.saturating_add(wish.lifetime_s),
        purposes: vec![ExtendedKeyUsagePurpose::ClientAuth],
        role: Role::EndEntity,
    };
    let key = KeyPair::generate()?;
    let signed = pki.sign_device(&draft, &key)?;
    let chain_pem = format!("{}{}", signed.pem, pki.device_intermediate_pem());
    Ok(Identity { chain_pem, key_pem: Secret::new(key.serialize_pem()) })
}

fn acl() -> String {
    format!(
        "# {OPERATOR} sees and may do everything; each other client has the topics below devices/ITS-NAME/.\n\
         user {OPERATOR}\ntopic readwrite #\ntopic read $SYS/#\n\npattern readwrite devices/%u/#\n"
    )
}

fn conf(level: &str, port: u16, what: &str, wish: &Wish<'_>) -> String {
    let path = |name: &str| wish.folder.join(name).display().to_string();
    let mut lines =
        vec![format!("# Mosquitto 2.x, {level}: {what}."), format!("#   mosquitto -c {}", path(&format!("{level}.conf")))];
    if wish.root {
        lines.push(
            "# Root made these files, and Mosquitto would become the user `mosquitto`, who cannot read the keys. For a service:"
                .into(),
        );
        lines.push(format!("#   chown -R mosquitto {}    and leave the next line out", wish.folder.display()));
        lines.push("user root".into());
    }
    if level == "plain" {
        // An open broker is for the machine it runs on.
        lines.extend([format!("listener {port} 127.0.0.1"), "allow_anonymous true".into()]);
        return lines.join("\n") + "\n";
    }
    lines.extend([
        "allow_anonymous false".into(),
        format!("acl_file {}", path("acl")),
        format!("listener {port}"),
        format!("certfile {}", path("server.crt")),
        format!("keyfile {}", path("server.key")),
        "# The least version: TLS 1.2 and 1.3 are spoken.".into(),
        "tls_version tlsv1.2".into(),
    ]);
    if level == "server-tls" {
        lines.push(format!("password_file {}", path("passwords")));
    } else {
        lines.extend([
            format!("cafile {}", path("clients-ca.crt")),
            "require_certificate true".into(),
            "# The certificate's common name is the user name, which the ACL goes by.".into(),
            "use_identity_as_username true".into(),
        ]);
        if wish.crl.is_some() {
            lines.push(
                "# Read at the start and on SIGHUP. Without the file a reload lets everybody in; once it is too old, nobody."
                    .into(),
            );
            lines.push(format!("crlfile {}", path(LIST)));
        }
    }
    lines.join("\n") + "\n"
}
