//! How much memory a connected mutual-TLS twin costs: `cargo run --release -p sim-device --example fleet -- [TWINS] [AT ONCE]`.
//!
//! CA and broker are this program once more, in a process of their own, so that only the twins are counted. Linux only.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

#[path = "../tests/whole/fake.rs"]
mod fake;

use device_core::secret::Secret;
use fake::{Authority, broker, ca, honest};
use sim_device::{Parts, run};
use std::io::{BufRead as _, BufReader as StdReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, duplex, split};

/// Twins that enrol at once unless told otherwise; many more would overrun a listener's backlog.
const AT_ONCE: usize = 32;

fn main() {
    let argument = std::env::args().nth(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let at_once = std::env::args().nth(2).map_or(AT_ONCE, |n| n.parse().unwrap());
    match argument.as_deref() {
        Some("servers") => runtime.block_on(servers()),
        count => runtime.block_on(fleet(count.map_or(1000, |n| n.parse().unwrap()), at_once)),
    }
}

/// Says three lines: the CA's port, the broker's, and the anchor with its line ends escaped.
async fn servers() {
    let authority = Arc::new(Authority::new("Fleet"));
    let issuer = authority.clone();
    let (ca, _) = ca(authority.server("localhost", |_| {}), move |body| honest(&issuer, body)).await;
    let mut server = authority.server("localhost", |_| {});
    server.clients = Some(authority.root.der().clone());
    let broker = broker(server).await;
    println!("{}\n{}\n{}", ca.port(), broker.port(), authority.pem().escape_default());
    std::future::pending().await
}

async fn fleet(count: usize, at_once: usize) {
    let mut child = Command::new(std::env::current_exe().unwrap()).arg("servers").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = StdReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let (ca, broker, anchor) =
        (lines.next().unwrap(), lines.next().unwrap(), lines.next().unwrap().replace("\\r", "").replace("\\n", "\n"));

    let mut running = Vec::new();
    let mut base = 0;
    let mut begun = Instant::now();
    let mut starting = Vec::new();
    for n in 0..=count {
        let settings = [
            ("BACKEND_URL", format!("https://localhost:{ca}")),
            ("BACKEND_CA", anchor.clone()),
            ("MQTT_HOST", "localhost".to_owned()),
            ("MQTT_PORT", broker.clone()),
            ("TELEMETRY_PERIOD_MS", "0".to_owned()),
        ];
        let environment = settings.map(|(name, value)| (name.to_owned(), Secret::new(value))).into();
        let (host, device) = duplex(256);
        let (console_in, console_out) = split(device);
        running.push(tokio::spawn(run(Parts { environment, ..Parts::default() }, console_in, console_out)));
        let (said, mut told) = split(host);
        starting.push(tokio::spawn(async move {
            let order = format!(
                "time 1790000000\nprovision {{\"ssid\":\"lab\",\"password\":\"correct-horse\",\"device_id\":\"device_{n:05}\",\"provisioning_token\":\"t\"}}\n"
            );
            told.write_all(order.as_bytes()).await.unwrap();
            let mut lines = BufReader::with_capacity(256, said).lines();
            while !lines.next_line().await.unwrap().unwrap().contains("Subscribed") {}
            // The console stays open, so that the twin stays on; its buffer is not the twin's.
            lines.into_inner().into_inner().unsplit(told)
        }));
        if n == 0 || starting.len() == at_once || n == count {
            for starting in starting.drain(..) {
                std::mem::forget(starting.await.unwrap());
            }
        }
        if n == 0 {
            // The first one pays for what all share: the runtime, the crypto provider, lazily read tables.
            (base, begun) = (resident(), Instant::now());
        }
    }
    let took = begun.elapsed();
    println!(
        "{count} twins enrolled and connected in {:.2} s ({:.2} ms each, servers beside)",
        took.as_secs_f64(),
        took.as_secs_f64() * 1e3 / count as f64
    );
    println!(
        "{:.1} KiB resident each, an open HTTP listener and the test's console pipe included",
        (resident() - base) as f64 / 1024.0 / count as f64
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}
