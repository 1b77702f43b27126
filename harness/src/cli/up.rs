//! `harness up`: the servers of a testbed, for devices that are not ours and for people with curl.

use super::{BrokerOption, complain, run};
use crate::broker::{Acl, Backend, BrokerSpec, Lines, Login, Storage, Tap, tap::Tls};
use crate::ca::{CaParts, CaServer, TokenSpec, misbehaviour::Lie};
use crate::child::PrivateDir;
use crate::event::{Event, What};
use crate::link::proxy::Link;
use crate::scenario::{header, problem::Problem, typed, yaml};
use crate::testbed::{TAP, server_names};
use crate::time_server::TimeServer;
use crate::trace::{redact::Redactor, tape::Tape};
use crate::world::{World, wall_unix};
use crate::{exit, say};
use device_core::config::{Security, TlsVersions};
use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Display;
use std::sync::Arc;
use tokio::sync::mpsc::Receiver;

/// Where the device of the guide's lines serves its HTTP API.
const DEVICE: &str = "127.0.0.1:8080";

/// An address for examples (RFC 5737).
const EXAMPLE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));

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
    /// For boards on the network: the servers listen at this address of this machine, and their certificates carry it. Whoever reaches
    /// it reaches them.
    #[arg(long, value_name = "ADDRESS", value_parser = lan)]
    lan: Option<IpAddr>,
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
        let place = self.lan.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let mut parts = CaParts::new(world.pki().clone(), tape.clone(), clock.clone());
        parts.listen = (place, self.ca_port).into();
        let mut names = server_names();
        names.extend(self.lan.map(|address| address.to_string()).filter(|address| !names.contains(address)));
        parts.names.clone_from(&names);
        let ca = CaServer::start(parts).await?;
        ca.misbehave(lies)?;
        let time = TimeServer::start_at(place, tape.clone(), clock).await?;

        let server = match security {
            Security::Plain => None,
            _ => Some(world.server_identity(&header::BrokerSpec { names: Some(names), ..Default::default() })?),
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

        // The broker itself stays on loopback, whichever it is. The link has the same port where that is free.
        let link = match self.lan {
            None => None,
            Some(lan) => {
                let at = |port| Link::start_at((lan, port).into(), "broker", endpoint.address, &tape);
                Some(match at(endpoint.address.port()).await {
                    Ok(link) => link,
                    Err(_) => at(0).await?,
                })
            }
        };
        let folder = PrivateDir::new("up")?;
        let root = folder.write("ca.crt", world.pki().root_pem().as_bytes())?;
        let certificate = folder.write("operator.crt", operator.chain_pem.as_bytes())?;
        let key = folder.write("operator.key", operator.key_pem.expose().as_bytes())?;
        let tokens = (0..self.tokens).map(|_| ca.mint_token(TokenSpec::default())).collect::<Result<Vec<_>, _>>()?;
        let guide = Guide {
            security,
            lan: self.lan,
            root: root.display(),
            operator: (certificate.display(), key.display()),
            ca_port: ca.address().port(),
            broker_port: link.as_ref().map_or(endpoint.address, Link::address).port(),
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

/// An address of this machine in the network.
fn lan(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr =
        text.parse().map_err(|_| format!("it is not an address, such as {}", own_address().unwrap_or(EXAMPLE)))?;
    let many = address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST);
    if address.is_unspecified() || many {
        return Err(format!("boards cannot connect to it: name the address they reach this machine by{}", suggestion()));
    }
    match UdpSocket::bind((address, 0)) {
        Ok(_) => Ok(address),
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
            Err(format!("it is no address of this machine{}", suggestion()))
        }
        Err(error) => Err(format!("nothing can listen there: {error}")),
    }
}

fn suggestion() -> String {
    own_address().map_or_else(String::new, |address| format!("; {address} is"))
}

/// The address this machine sends from to the rest of the world. Nothing is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((EXAMPLE, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_unspecified())
}

/// How to use what runs: lines to copy and paste.
struct Guide<'a> {
    security: Security,
    /// The address in the network; none: this machine alone is served.
    lan: Option<IpAddr>,
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
        let Guide { security, lan, root, operator: (certificate, key), ca_port, broker_port, broker, time, tokens } = self;
        let scheme = if *security == Security::Plain { "mqtt" } else { "mqtts" };
        let host = lan.map_or_else(|| "localhost".to_owned(), |address| address.to_string());
        let url = super::ca::host(&host);
        if lan.is_some() {
            let open = match security {
                Security::MutualTls => "whoever has a token gets a certificate, and with it the broker",
                _ => "the broker is open to all of them",
            };
            writeln!(f, "warning  whoever reaches {host} reaches these servers; {open}. End them when you are done.\n")?;
        }
        writeln!(f, "CA       https://{url}:{ca_port}   its root: {root}")?;
        writeln!(f, "broker   {scheme}://{url}:{broker_port}   {broker}, {}", security.name())?;
        writeln!(f, "time     {time} (SNTP)")?;
        for token in tokens {
            writeln!(f, "token    {token}   (provisioning, for one device)")?;
        }
        let trust = if *security == Security::Plain { String::new() } else { format!(" --cafile {root}") };
        let identity = if *security == Security::MutualTls { format!(" --cert {certificate} --key {key}") } else { String::new() };
        writeln!(f, "\nWatch the broker:")?;
        writeln!(f, "  mosquitto_sub -h {host} -p {broker_port}{trust}{identity} -t '#' -v")?;

        let device = match security {
            Security::MutualTls => format!("BACKEND_URL=https://{url}:{ca_port} BACKEND_CA={root} MQTT_USE_TLS=true"),
            Security::ServerTls => format!("MQTT_USE_TLS=true MQTT_CA_CERTS={root}"),
            Security::Plain => "MQTT_USE_TLS=false".into(),
        };
        writeln!(f, "\nA device for it, in another terminal (another --state and --http make another device):")?;
        writeln!(
            f,
            "  {device} MQTT_HOST={host} MQTT_PORT={broker_port} SNTP_HOST={time} \\\n    cargo run -p sim-device -- --http {DEVICE}"
        )?;
        if lan.is_some() {
            writeln!(f, "\nA board takes the same settings from its console:")?;
            if *security == Security::MutualTls {
                writeln!(f, "  set BACKEND_URL https://{url}:{ca_port}")?;
            }
            if *security != Security::Plain {
                let anchor = if *security == Security::MutualTls { "BACKEND_CA" } else { "MQTT_CA_CERTS" };
                writeln!(f, "  set {anchor} PEM          as one line, which this prints: awk '{{printf \"%s\\\\n\", $0}}' {root}")?;
            }
            writeln!(f, "  set MQTT_USE_TLS {}", *security != Security::Plain)?;
            writeln!(f, "  set MQTT_HOST {host}\n  set MQTT_PORT {broker_port}\n  set SNTP_HOST {time}\n  save")?;
        }
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
            "    curl --cacert {root} https://{url}:{ca_port}/sign-csr -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' -d @-"
        )?;
        writeln!(f, "\nWhat happens (Ctrl-C ends everything):")
    }
}
