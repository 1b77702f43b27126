//! `harness certs`: certificates, passwords and a Mosquitto configuration for each security level, in a folder.

use super::complain;
use crate::ca::pki::{KEPT_FILE, KeepError, LIST, Pki, serial_in};
use crate::ca::wall_clock;
use crate::certs::{self, LEVELS, Made, OPERATOR, Wish};
use crate::files::{self, Existing, Readers};
use crate::scenario::value::Period;
use crate::{exit, say};
use std::path::{Path, PathBuf};

/// Clients at most.
const CLIENTS_MAX: usize = 1000;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
    harness certs --out certs                                     for a broker on this machine and one client, device_0070
    harness certs --out certs --name broker.lan --name 192.168.1.10 --client door --client window
    harness certs --out certs --clients-only --client garage      one more client, of the same authority
    harness certs --out certs --crl                               with a revocation list, which mutual-tls.conf names
    harness certs --out certs --revoke garage                     garage.crt is on the list from now on: kill -HUP the broker

The authority is kept in authority.pem: whoever has that file can make certificates that your devices trust. Keys and passwords are in
files that only their owner can read, in a folder that only its owner can enter. Nothing that is there is replaced without --force, the
authority never: a new one is made in a new folder.

Exit codes: 0 made, 2 wrong input or something is there already, 3 they could not be made.")]
pub(super) struct Certs {
    /// The folder; made if it is not there.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// A name or address that clients reach the broker by; may be given several times [default: localhost and 127.0.0.1].
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// A client's name, which is its user name too; may be given several times.
    #[arg(long, value_name = "NAME", default_value = "device_0070")]
    client: Vec<String>,
    /// How long certificates are valid.
    #[arg(long, default_value = "365d", value_name = "PERIOD", value_parser = super::ca::lifetime)]
    lifetime: i64,
    /// Makes only the clients' files, by the authority that is in the folder.
    #[arg(long)]
    clients_only: bool,
    /// Makes a revocation list, too, as good as the certificates: revoked.crl.
    #[arg(long)]
    crl: bool,
    /// Puts this client's certificate on the revocation list that is in the folder, and makes nothing else; may be given several times.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["clients_only", "crl", "force"])]
    revoke: Vec<String>,
    /// Replaces files that are there; the authority stays.
    #[arg(long)]
    force: bool,
    /// One JSON object on standard output, for machines: the files, and the commands that use them.
    #[arg(long)]
    json: bool,
}

impl Certs {
    pub(super) fn run(mut self) -> u8 {
        if self.name.is_empty() {
            self.name = vec!["localhost".into(), "127.0.0.1".into()];
        }
        match self.make() {
            Ok(told) => {
                say::line(told);
                exit::PASS
            }
            Err((why, code)) => complain(why, code),
        }
    }

    fn make(&self) -> Result<String, (String, u8)> {
        let wrong = |why: String| (why, exit::WRONG_INPUT);
        let broken = |why: String| (why, exit::INCONCLUSIVE);
        self.check_names().map_err(wrong)?;
        if !self.revoke.is_empty() {
            return self.revoke().map_err(wrong);
        }
        if self.clients_only && !self.out.join(KEPT_FILE).is_file() {
            return Err(wrong(format!("there is no authority in {}; make one without --clients-only", self.out.display())));
        }
        let pki = Pki::kept(&self.out, wall_clock()).map_err(|error| match error {
            KeepError::Open { .. } | KeepError::Wrong { .. } => wrong(error.to_string()),
            _ => broken(error.to_string()),
        })?;
        let folder = self.out.canonicalize().map_err(|e| broken(format!("could not find {}: {e}", self.out.display())))?;
        let list = || pki.kept_list(&folder).and_then(|revoked| Ok(pki.crl(&revoked, wall_clock(), self.lifetime)?));
        let wish = Wish {
            crl: self.crl.then(list).transpose().map_err(|e| wrong(e.to_string()))?,
            names: &self.name,
            clients: &self.client,
            lifetime_s: self.lifetime,
            now: wall_clock(),
            folder: &folder,
            root: crate::child::is_root(),
        };
        let (made, passwords) = if self.clients_only {
            let (made, passwords) = certs::make_clients(&pki, &wish).map_err(|e| wrong(e.to_string()))?;
            (made, Some(passwords))
        } else {
            (certs::make(&pki, &wish).map_err(|e| wrong(e.to_string()))?, None)
        };
        if !self.force {
            let there: Vec<&str> =
                made.iter().map(|m| m.name.as_str()).filter(|name| self.out.join(name).symlink_metadata().is_ok()).collect();
            if !there.is_empty() {
                let names = there.join(", ");
                return Err(wrong(format!(
                    "{} already has {names}; nothing was written (--force replaces them)",
                    self.out.display()
                )));
            }
        }
        let existing = if self.force { Existing::Replaced } else { Existing::Kept };
        for file in &made {
            let path = self.out.join(&file.name);
            files::write(&path, &file.text, file.readers, existing)
                .map_err(|e| broken(format!("could not write {}: {e}", path.display())))?;
        }
        if let Some(lines) = passwords {
            self.add_passwords(&lines).map_err(broken)?;
        }
        Ok(if self.json { self.as_json(&made) } else { self.in_words(&made) })
    }

    /// Adds to the list that is there.
    fn revoke(&self) -> Result<String, String> {
        for needed in [KEPT_FILE, LIST] {
            if !self.out.join(needed).is_file() {
                return Err(format!("there is no {needed} in {}; make it with --crl", self.out.display()));
            }
        }
        let pki = Pki::kept(&self.out, wall_clock()).map_err(|e| e.to_string())?;
        let mut revoked = pki.kept_list(&self.out).map_err(|e| e.to_string())?;
        for name in &self.revoke {
            let path = self.out.join(format!("{name}.crt"));
            let text = std::fs::read_to_string(&path).map_err(|e| format!("could not read {}: {e}", path.display()))?;
            revoked.add(&serial_in(&text).map_err(|why| format!("could not revoke {}: {why}", path.display()))?, wall_clock());
        }
        pki.keep_list(&self.out, &revoked, wall_clock(), self.lifetime).map_err(|e| e.to_string())?;
        Ok(if self.json {
            serde_json::json!({"version": 1, "revoked": self.revoke, "list": revoked.count()}).to_string()
        } else {
            format!("{} on the list; a running Mosquitto reads it again on SIGHUP.", revoked.count())
        })
    }

    /// A client that is added later is added to the broker's passwords too, in place of an older line of the same name.
    fn add_passwords(&self, lines: &str) -> Result<(), String> {
        let path = self.out.join("passwords");
        let cannot = |e: std::io::Error| format!("could not add to {}: {e}", path.display());
        if !path.is_file() {
            return Ok(());
        }
        let before = std::fs::read_to_string(&path).map_err(cannot)?;
        let stays = |line: &&str| !self.client.iter().any(|name| line.split(':').next() == Some(name));
        let mut all: String = before.lines().filter(stays).map(|line| format!("{line}\n")).collect();
        all.push_str(lines);
        files::write(&path, &all, Readers::Owner, Existing::Replaced).map_err(cannot)
    }

    fn check_names(&self) -> Result<(), String> {
        let fits = |name: &str| {
            (1..=64).contains(&name.len())
                && !name.starts_with('.')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if let Some(name) = self.client.iter().chain(&self.revoke).find(|name| !fits(name)) {
            return Err(format!("--client {name}: a client's name is 1 to 64 of A-Z a-z 0-9 _ - . and does not begin with a dot"));
        }
        let taken = ["server", "ca", "clients-ca", "authority", OPERATOR];
        if let Some(name) = self.client.iter().find(|name| taken.contains(&name.as_str())) {
            return Err(format!("--client {name}: files of that name are made anyway; choose another"));
        }
        let mut sorted: Vec<&String> = self.client.iter().collect();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("--client {} is there twice", twice[0]));
        }
        if self.client.len() > CLIENTS_MAX {
            return Err(format!("there are more than {CLIENTS_MAX} clients"));
        }
        Ok(())
    }

    /// For each level: how to start the broker, to listen as the operator, and to publish as the first client.
    fn commands(&self) -> Vec<(&'static str, [String; 3])> {
        let file = |name: &str| word(&self.out.join(name));
        let (host, client) = (word(Path::new(&self.name[0])), &self.client[0]);
        let each = |(level, port, _): (&'static str, u16, &str)| {
            let as_whom = |who: &str| match level {
                "plain" => format!("-h 127.0.0.1 -p {port}"),
                "server-tls" => {
                    let (trust, password) = (file("ca.crt"), file(&format!("{who}.password")));
                    format!("-h {host} -p {port} --cafile {trust} -u {who} -P \"$(cat {password})\"")
                }
                _ => {
                    let (trust, certificate, key) = (file("ca.crt"), file(&format!("{who}.crt")), file(&format!("{who}.key")));
                    format!("-h {host} -p {port} --cafile {trust} --cert {certificate} --key {key}")
                }
            };
            let start = format!("mosquitto -c {}", file(&format!("{level}.conf")));
            let listen = format!("mosquitto_sub {} -t '#' -v", as_whom(OPERATOR));
            let publish = format!("mosquitto_pub {} -q 1 -t devices/{client}/telemetry -m 21.5", as_whom(client));
            (level, [start, listen, publish])
        };
        LEVELS.into_iter().map(each).collect()
    }

    fn in_words(&self, made: &[Made]) -> String {
        let mut lines = vec![format!(
            "In {}, for {}:",
            self.out.display(),
            Period(std::time::Duration::from_secs(self.lifetime.unsigned_abs()))
        )];
        let width = made.iter().map(|m| m.name.len()).max().unwrap_or(0).max(KEPT_FILE.len());
        lines.push(format!("  {KEPT_FILE:width$}  the authority: keep it to yourself"));
        lines.extend(made.iter().map(|m| format!("  {:width$}  {}", m.name, m.what)));
        if self.clients_only {
            lines.push("\nA running Mosquitto reads its passwords again on SIGHUP.".into());
            return lines.join("\n");
        }
        for (level, commands) in self.commands() {
            lines.push(format!("\n{level}:"));
            lines.extend(commands.map(|command| format!("  {command}")));
        }
        let (root, server) = (word(&self.out.join("ca.crt")), word(&self.out.join("server.crt")));
        lines.push(format!("\nLook at them:\n  openssl verify -purpose sslserver -CAfile {root} -untrusted {server} {server}"));
        lines.push(format!("  openssl x509 -in {server} -noout -subject -ext subjectAltName -dates"));
        lines.join("\n")
    }

    fn as_json(&self, made: &[Made]) -> String {
        let file = |m: &Made| serde_json::json!({"name": m.name, "what": m.what, "secret": m.readers == Readers::Owner});
        let commands = |(level, [start, listen, publish]): (&str, [String; 3])| serde_json::json!({"level": level, "start": start, "listen": listen, "publish": publish});
        let levels: Vec<_> = if self.clients_only { Vec::new() } else { self.commands().into_iter().map(commands).collect() };
        let files: Vec<_> = made.iter().map(file).collect();
        serde_json::json!({"version": 1, "folder": self.out.to_string_lossy(), "files": files, "levels": levels}).to_string()
    }
}

/// A path or name as a shell takes it.
fn word(path: &Path) -> String {
    crate::report::console::shell_word(&path.to_string_lossy())
}
