//! `harness ca`: the fake CA on its own, for devices that are not ours.

use super::{complain, run, up};
use crate::ca::pki::{CRL_VALID_S, DAY_S, Pki, Revoked, serial_in};
use crate::ca::{CaParts, CaServer, TokenSpec, misbehaviour::Lie, wall_clock};
use crate::event::{Event, What};
use crate::files::{self, Existing, Readers};
use crate::scenario::value::Period;
use crate::trace::{redact::Redactor, tape::Tape};
use crate::{exit, say};
use device_core::secret::Secret;
use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Where tokens may be given besides a file.
const TOKENS_VARIABLE: &str = "HARNESS_CA_TOKENS";
/// Tokens accepted from a file or the variable at most.
const TOKENS_MAX: usize = 10_000;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A device enrols with POST /sign-csr: `Authorization: Bearer TOKEN`, {\"device_id\": …, \"csr\": PEM}. It renews with POST /renew over
mutual TLS. GET /ca.crt is the root, GET /crl.pem the revocation list (good for 30 days). harness/openapi/ca.yaml describes all of it.

    harness ca --dir my-ca --out . --name 192.168.1.10 --listen 192.168.1.10:8443
    harness ca --dir my-ca --revoke device_0070.crt           that certificate is on the list from now on, and cannot be renewed
    harness ca --misbehave expired                            every certificate has expired
    harness ca --misbehave '{refuse: {status: 503, times: 2}}'   as in a scenario's `ca: misbehave:`

Tokens of your own are read from a file or from $HARNESS_CA_TOKENS (separated by blanks), so that no list of processes shows them.
Each is good for one device. What was spent or issued is not kept over a restart; with --dir, the authority and its revocation list
are.

Exit codes: 0 ended by Ctrl-C, 2 wrong input, 3 it could not serve.")]
pub(super) struct Ca {
    /// Where to listen; port 0 is any free one. Boards reach this machine by its address in the network, not by 127.0.0.1.
    #[arg(long, default_value = "127.0.0.1:8443", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// A name or address that devices reach it by, for its certificate; may be given several times [default: localhost and the address].
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// How long devices' certificates are valid.
    #[arg(long, default_value = "90d", value_name = "PERIOD", value_parser = lifetime)]
    lifetime: i64,
    /// A way to be wrong, as in a scenario; may be given several times.
    #[arg(long, value_name = "LIE")]
    misbehave: Vec<String>,
    /// Tokens to make up and print.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1000))]
    tokens: u16,
    /// A file of tokens to accept, one a line.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Writes the root certificate there, as `ca.crt`, for devices and for curl.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Keeps the authority in this folder, and takes it up again: devices trust it over restarts. Only its owner can read it.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Revokes the certificate in this PEM file; may be given several times. The list is kept in the folder.
    #[arg(long, value_name = "FILE", requires = "dir")]
    revoke: Vec<PathBuf>,
    /// One JSON object a line on standard output, for machines: `{"listening": …}` first, then a request each.
    #[arg(long)]
    json: bool,
}

impl Ca {
    pub(super) fn run(self) -> u8 {
        let (lies, tokens) = match self.read() {
            Ok(read) => read,
            Err(why) => return complain(why, exit::WRONG_INPUT),
        };
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return complain(format!("could not start the asynchronous runtime: {error}"), exit::INCONCLUSIVE),
        };
        match runtime.block_on(self.serve(lies, &tokens)) {
            Ok(()) => exit::PASS,
            Err(error) => complain(error, exit::INCONCLUSIVE),
        }
    }

    fn read(&self) -> Result<(Vec<Lie>, Vec<Secret>), String> {
        let lie = |text: &String| up::lie(text).map_err(|why| format!("--misbehave {text}: {why}"));
        let lies = self.misbehave.iter().map(lie).collect::<Result<_, _>>()?;
        let mut tokens: Vec<Secret> = match std::env::var(TOKENS_VARIABLE) {
            Ok(words) => words.split_whitespace().map(Secret::new).collect(),
            Err(_) => Vec::new(),
        };
        if let Some(path) = &self.token_file {
            let text = std::fs::read_to_string(path).map_err(|e| format!("could not read {}: {e}", path.display()))?;
            tokens.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(Secret::new));
        }
        // What a device cannot send in its header no CA can be asked with.
        let good =
            |token: &Secret| (1..=512).contains(&token.expose().len()) && token.expose().bytes().all(|b| b.is_ascii_graphic());
        if let Some(at) = tokens.iter().position(|token| !good(token)) {
            return Err(format!("token {} is not 1 to 512 printable ASCII characters without blanks", at + 1));
        }
        if tokens.len() > TOKENS_MAX {
            return Err(format!("there are more than {TOKENS_MAX} tokens"));
        }
        Ok((lies, tokens))
    }

    fn names(&self) -> Vec<String> {
        if !self.name.is_empty() {
            return self.name.clone();
        }
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let address = self.listen.ip();
        if !address.is_unspecified() && !names.contains(&address.to_string()) {
            names.push(address.to_string());
        }
        names
    }

    /// What is kept of revoked certificates, and what was asked to be.
    fn revoked(&self, pki: &Pki) -> Result<Revoked, Box<dyn Error>> {
        let Some(folder) = &self.dir else { return Ok(Revoked::default()) };
        let mut revoked = pki.kept_list(folder)?;
        for path in &self.revoke {
            let text = std::fs::read_to_string(path).map_err(|e| format!("could not read {}: {e}", path.display()))?;
            let serial = serial_in(&text).map_err(|why| format!("could not revoke {}: {why}", path.display()))?;
            revoked.add(&serial, wall_clock());
        }
        if !self.revoke.is_empty() {
            pki.keep_list(folder, &revoked, wall_clock(), CRL_VALID_S)?;
        }
        Ok(revoked)
    }

    async fn serve(&self, lies: Vec<Lie>, tokens: &[Secret]) -> Result<(), Box<dyn Error>> {
        let pki = Arc::new(match &self.dir {
            Some(folder) => Pki::kept(folder, wall_clock())?,
            None => Pki::new(wall_clock())?,
        });
        let revoked = self.revoked(&pki)?;
        let root = match &self.out {
            Some(folder) => {
                let path = folder.join("ca.crt");
                std::fs::create_dir_all(folder)
                    .and_then(|()| files::write(&path, pki.root_pem(), Readers::All, Existing::Replaced))
                    .map_err(|e| format!("could not write {}: {e}", path.display()))?;
                Some(path)
            }
            None => None,
        };
        let interrupted = run::interruption();
        let (tape, mut events) = Tape::new(Redactor::new());
        let names = self.names();
        let parts = CaParts {
            listen: self.listen,
            names: names.clone(),
            lifetime_s: self.lifetime,
            ..CaParts::new(pki.clone(), tape, Arc::new(wall_clock))
        };
        let ca = CaServer::start(parts).await?;
        ca.take_up(revoked);
        ca.misbehave(lies)?;
        for token in tokens {
            ca.accept_token(token, TokenSpec::default());
        }
        let minted = (0..self.tokens).map(|_| ca.mint_token(TokenSpec::default())).collect::<Result<Vec<_>, _>>()?;
        let address = format!("https://{}:{}", host(&names[0]), ca.address().port());
        if self.json {
            let tokens: Vec<&str> = minted.iter().map(Secret::expose).collect();
            let root = root.map(|path| path.display().to_string());
            say::line(serde_json::json!({"version": 1, "listening": ca.address().to_string(), "url": address, "names": names,
                                         "tokens": tokens, "ca_crt": root, "ca_pem": pki.root_pem()}));
        } else {
            self.introduce(&address, &pki, root, tokens.len(), &minted);
        }
        let told = async {
            while let Some(event) = events.recv().await {
                if !self.tell(&event) {
                    break;
                }
            }
        };
        tokio::select! {
            () = told => {}
            () = interrupted => {}
        }
        ca.stop().await;
        Ok(())
    }

    fn introduce(&self, address: &str, pki: &Pki, root: Option<PathBuf>, known: usize, minted: &[Secret]) {
        say::line(format_args!("CA       {address}"));
        match &root {
            Some(path) => say::line(format_args!("root     {}", path.display())),
            None => say::words(format_args!("root     (--out FOLDER writes it to a file)\n{}", pki.root_pem())),
        };
        if known > 0 {
            say::line(format_args!("tokens   {known} of yours"));
        }
        for token in minted {
            say::line(format_args!("token    {}", token.expose()));
        }
        let trust = root.map_or_else(|| "ca.crt".to_owned(), |path| path.display().to_string());
        say::line(format_args!("\nTry it:"));
        say::line(format_args!(
            "  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout d1.key -subj /CN=d1 -out d1.csr"
        ));
        say::line(format_args!("  jq -n --rawfile csr d1.csr '{{device_id: \"d1\", csr: $csr}}' |"));
        say::line(format_args!("    curl --cacert {trust} {address}/sign-csr -H 'Authorization: Bearer TOKEN' --json @-"));
        say::line(format_args!(
            "\nWhat is asked (Ctrl-C ends it; a certificate lasts {} days):",
            self.lifetime as f64 / DAY_S as f64
        ));
    }

    /// Tells what was asked; false when nobody reads it any more.
    fn tell(&self, event: &Event) -> bool {
        let What::Request(request) = &event.what else { return true };
        if self.json {
            say::line(serde_json::json!({"at_us": event.at_us, "request": request}))
        } else {
            say::line(format_args!("{:9.3}  {}", event.at_us as f64 / 1e6, event.what))
        }
    }
}

/// A host as a URL has it.
pub(super) fn host(name: &str) -> String {
    if name.contains(':') { format!("[{name}]") } else { name.to_owned() }
}

/// How long a certificate is valid, seconds.
pub(super) fn lifetime(text: &str) -> Result<i64, String> {
    let period = Period::parse(text).map_err(|why| why.replace('\n', "; "))?;
    match i64::try_from(period.0.as_secs()) {
        Ok(seconds) if seconds > 0 => Ok(seconds),
        _ => Err("a certificate is valid for at least a second".into()),
    }
}
