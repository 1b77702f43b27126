//! `harness up`: the servers of a testbed, for devices that are not ours and for people with curl.

use super::{BrokerOption, complain, run};
use crate::broker::{Acl, Backend, BrokerSpec, Lines, Login, Storage, Tap, tap::Tls};
use crate::ca::{CaParts, CaServer, TokenSpec, misbehaviour::Lie};
use crate::child::PrivateDir;
use crate::event::{Event, What};
use crate::scenario::{header, problem::Problem, typed, yaml};
use crate::testbed::TAP;
use crate::time_server::TimeServer;
use crate::trace::{redact::Redactor, tape::Tape};
use crate::world::{World, wall_unix};
use crate::{exit, say};
use device_core::config::{Security, TlsVersions};
use std::fmt;
use std::net::SocketAddr;
use std::path::Display;
use std::sync::Arc;
use tokio::sync::mpsc::Receiver;

/// Where the device of the guide's lines serves its HTTP API.
const DEVICE: &str = "127.0.0.1:8080";

#[derive(Debug, clap::Args)]
pub(super) struct Up {
    #[command(flatten)]
    broker: BrokerOption,
    /// How the broker is protected.
    #[arg(long, default_value = "mutual-tls", value_parser = ["mutual-tls", "server-tls", "plain"])]
    security: String,
    /// How the CA misbehaves, as in a scenario: `expired`, `{refuse: {status: 503, times: 2}}`; may be given several times.
    #[arg(long, value_name = "LIE")]
    misbehave: Vec<String>,
    /// The CA's port [default: a free one].
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "PORT")]
    ca_port: u16,
    /// Provisioning tokens to make; each is good for one device.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    tokens: u8,
}

impl Up {
    pub(super) fn run(self) -> u8 {
        let mut lies = Vec::new();
        for text in &self.misbehave {
            match lie(text) {
                Ok(lie) => lies.push(lie),
                Err(why) => return complain(format!("--misbehave {text}: {why}"), exit::WRONG_INPUT),
            }
        }
        let world = match World::open(&self.broker.broker) {
            Ok(world) => Arc::new(world),
            Err(error) => return complain(error, exit::INCONCLUSIVE),
        };
        let outcome = world.runtime().block_on(self.serve(&world, lies));
        world.close();
        match outcome {
            Ok(()) => exit::PASS,
            Err(why) => complain(why, exit::INCONCLUSIVE),
        }
    }

    async fn serve(&self, world: &World, lies: Vec<Lie>) -> Result<(), Box<dyn std::error::Error>> {
        let security = match self.security.as_str() {
            "plain" => Security::Plain,
            "server-tls" => Security::ServerTls,
            _ => Security::MutualTls,
        };
        // From here on: whoever reads the first line may already want the end.
        let interrupted = run::interruption();
        let (tape, events) = Tape::new(Redactor::new());
        let clock: crate::ca::Clock = Arc::new(wall_unix);
        let listen = SocketAddr::from(([127, 0, 0, 1], self.ca_port));
        let ca = CaServer::start(CaParts { listen, ..CaParts::new(world.pki().clone(), tape.clone(), clock.clone()) }).await?;
        ca.misbehave(lies)?;
        let time = TimeServer::start(tape.clone(), clock).await?;

        let server = match security {
            Security::Plain => None,
            _ => Some(world.server_identity(&header::BrokerSpec::default())?),
        };
        let operator = world.tap_identity()?;
        let mutual = security == Security::MutualTls;
        let mut started = world
            .own_broker(BrokerSpec {
                security,
                plain_beside: false,
                server: server.as_deref().cloned(),
                client_ca: mutual.then(|| world.pki().device_ca_pem()),
                crl: None,
                tls: TlsVersions::Both,
                users: Vec::new(),
                acl: if mutual { Acl::Devices { operators: vec![TAP.into()] } } else { Acl::Open },
                storage: Storage::EachChange,
            })
            .await?;
        let endpoint = started.broker.endpoint().clone();
        let _log = started.broker.log().forward(Lines::All, &tape);
        let tls = server.as_deref().map(|s| Tls::pinned(&s.chain_pem, mutual.then_some(&*operator))).transpose()?;
        let _tap = Tap::connect(&endpoint, Login { user: None, tls }, &["#".to_owned()], &tape).await?;

        let folder = PrivateDir::new("up")?;
        let root = folder.write("ca.crt", world.pki().root_pem().as_bytes())?;
        let certificate = folder.write("operator.crt", operator.chain_pem.as_bytes())?;
        let key = folder.write("operator.key", operator.key_pem.expose().as_bytes())?;
        let tokens = (0..self.tokens).map(|_| ca.mint_token(TokenSpec::default())).collect::<Result<Vec<_>, _>>()?;
        let guide = Guide {
            security,
            root: root.display(),
            operator: (certificate.display(), key.display()),
            ca_port: ca.address().port(),
            broker_port: endpoint.address.port(),
            broker: started.broker.backend(),
            time: time.address(),
            tokens: tokens.iter().map(|token| token.expose()).collect(),
        };
        say::words(guide);

        let ended = tokio::select! {
            () = print(events) => started.broker.log().has_died(),
            () = interrupted => false,
        };
        started.broker.stop().await?;
        if ended { Err("the broker ended".into()) } else { Ok(()) }
    }
}

/// A lie, as a scenario writes it.
pub(super) fn lie(text: &str) -> Result<Lie, String> {
    let told =
        |problems: Vec<Problem>| problems.into_iter().map(|p| format!("{}; {}", p.met, p.help)).collect::<Vec<_>>().join("; ");
    typed::read(&yaml::parse(text).map_err(told)?).map_err(told)
}

/// Tells what happens until nobody reads it any more.
async fn print(mut events: Receiver<Event>) {
    while let Some(event) = events.recv().await {
        if !say::line(format_args!("{:9.3}  {:6}  {}", event.at_us as f64 / 1e6, event.from, event.what)) {
            return;
        }
        if let What::Broke { .. } = event.what {
            return;
        }
    }
}

/// How to use what runs: lines to copy and paste.
struct Guide<'a> {
    security: Security,
    root: Display<'a>,
    operator: (Display<'a>, Display<'a>),
    ca_port: u16,
    broker_port: u16,
    broker: &'a Backend,
    time: SocketAddr,
    tokens: Vec<&'a str>,
}

impl fmt::Display for Guide<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Guide { security, root, operator: (certificate, key), ca_port, broker_port, broker, time, tokens } = self;
        let scheme = if *security == Security::Plain { "mqtt" } else { "mqtts" };
        writeln!(f, "CA       https://localhost:{ca_port}   its root: {root}")?;
        writeln!(f, "broker   {scheme}://localhost:{broker_port}   {broker}, {}", security.name())?;
        writeln!(f, "time     {time} (SNTP)")?;
        for token in tokens {
            writeln!(f, "token    {token}   (provisioning, for one device)")?;
        }
        let trust = if *security == Security::Plain { String::new() } else { format!(" --cafile {root}") };
        let identity = if *security == Security::MutualTls { format!(" --cert {certificate} --key {key}") } else { String::new() };
        writeln!(f, "\nWatch the broker:")?;
        writeln!(f, "  mosquitto_sub -h localhost -p {broker_port}{trust}{identity} -t '#' -v")?;

        let device = match security {
            Security::MutualTls => format!("BACKEND_URL=https://localhost:{ca_port} BACKEND_CA={root} MQTT_USE_TLS=true"),
            Security::ServerTls => format!("MQTT_USE_TLS=true MQTT_CA_CERTS={root}"),
            Security::Plain => "MQTT_USE_TLS=false".into(),
        };
        writeln!(f, "\nA device for it, in another terminal (another --state and --http make another device):")?;
        writeln!(
            f,
            "  {device} MQTT_HOST=localhost MQTT_PORT={broker_port} SNTP_HOST={time} \\\n    cargo run -p sim-device -- --http {DEVICE}"
        )?;
        let token = tokens.first().copied().unwrap_or("TOKEN");
        writeln!(f, "\nProvision it, as an app would:")?;
        writeln!(
            f,
            "  curl http://{DEVICE}/provision -H 'Authorization: Bearer user-token' -H 'Content-Type: application/json' \\"
        )?;
        writeln!(
            f,
            "    -d '{{\"ssid\":\"lab\",\"password\":\"correct-horse\",\"device_id\":\"device_0070\",\"provisioning_token\":\"{token}\"}}'"
        )?;
        writeln!(f, "  curl http://{DEVICE}/status")?;

        let token = tokens.get(1).copied().unwrap_or(token);
        writeln!(f, "\nEnrol by hand (openssl makes the key and the CSR, the CA answers with the certificate and its issuers):")?;
        writeln!(
            f,
            "  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout my.key -out my.csr -subj /CN=my-device"
        )?;
        writeln!(f, "  printf '{{\"device_id\":\"my-device\",\"csr\":\"%s\"}}' \"$(sed 's/$/\\\\n/' my.csr | tr -d '\\n')\" | \\")?;
        writeln!(
            f,
            "    curl --cacert {root} https://localhost:{ca_port}/sign-csr -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' -d @-"
        )?;
        writeln!(f, "\nWhat happens (Ctrl-C ends everything):")
    }
}
