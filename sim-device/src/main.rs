//! The twin as a program: its standard output is the device's console, its standard input takes the console's commands.

use clap::Parser;
use device_core::command::HELP;
use device_core::config::SETTINGS;
use sim_device::{AirNetwork, End, FileStore, Parts, SqliteQueue, environment, run};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

/// A software twin of an ESP32-class device: provisioned over HTTP, enrolled by CSR, talks MQTT.
#[derive(Parser)]
#[command(version, after_long_help = guide(), after_help = "Try --help for examples, the environment variables and the console's commands.")]
struct Arguments {
    /// Directory of the device's storage: credentials, key, certificate, readings. One device at a time may use it; remove it for a new device.
    #[arg(long, value_name = "DIR", default_value = "sim-device-state")]
    state: PathBuf,

    /// Where the provisioning API listens; port 0 takes a free one. The console says which.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    http: SocketAddr,

    /// A Wi-Fi network in the simulated air, open without a password; may be given many times [default: lab:correct-horse].
    #[arg(long, value_name = "SSID[:PASSWORD]", value_parser = network)]
    air: Vec<AirNetwork>,

    /// Seed of the device's jitter and readings; the clock chooses one otherwise.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let environment = match environment::settings(|name| std::env::var_os(name)) {
        Ok(environment) => environment,
        Err(e) => return fail(&e),
    };
    // The device itself would only complain on its console; here somebody can still choose another.
    if let Err(e) = std::net::TcpListener::bind(arguments.http) {
        return fail(&format_args!("could not listen on {}: {e}; give another --http ADDRESS:PORT", arguments.http));
    }
    let store = match FileStore::open(&arguments.state) {
        Ok(store) => store,
        Err(e) => return fail(&e),
    };
    let queue = match SqliteQueue::open(arguments.state.join("queue.sqlite")) {
        Ok(queue) => queue,
        Err(e) => return fail(&e),
    };
    let mut parts = Parts { environment, store: Arc::new(store), queue: Arc::new(queue), http: arguments.http, ..Parts::default() };
    if !arguments.air.is_empty() {
        parts.networks = arguments.air;
    }
    parts.seed = arguments.seed.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() ^ u64::from(d.subsec_nanos()).rotate_left(32))
    });
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return fail(&e),
    };
    runtime.block_on(async {
        // Standard input may end; the device goes on, as a board does whose serial cable is pulled.
        let device = run(parts, tokio::io::stdin().chain(Never), tokio::io::stdout());
        tokio::select! {
            End::ConsoleClosed | End::PowerCut { .. } = device => {}
            () = told_to_end() => {}
        }
    });
    // The thread that reads standard input cannot be woken; nothing waits for it.
    runtime.shutdown_background();
    ExitCode::SUCCESS
}

/// Wrong input, or a state directory that cannot be used: nothing has begun.
fn fail(e: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("sim-device: {e}");
    ExitCode::from(2)
}

fn network(text: &str) -> Result<AirNetwork, String> {
    let (ssid, password) = text.split_once(':').unwrap_or((text, ""));
    if !(1..=32).contains(&ssid.len()) {
        return Err("an SSID has 1 to 32 bytes; write SSID or SSID:PASSWORD".to_owned());
    }
    if !password.is_empty() && !(8..=64).contains(&password.len()) {
        return Err("a Wi-Fi password has 8 to 63 bytes, or 64 hex digits; leave it out for an open network".to_owned());
    }
    Ok(AirNetwork::new(ssid, password))
}

/// Ctrl-C, or SIGTERM where there is one.
async fn told_to_end() {
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        return;
    }
    // Without a way to hear of it, the system's default ends the process all the same.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Never says anything and never ends.
struct Never;

impl AsyncRead for Never {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Poll::Pending
    }
}

fn guide() -> String {
    let mut text = String::from(
        "\
A first run, beside a CA and a broker with mutual TLS:
  BACKEND_URL=https://localhost:8443 BACKEND_CA=ca.crt MQTT_HOST=localhost sim-device --http 127.0.0.1:8080

Then, from another terminal, as an app would do it:
  curl http://127.0.0.1:8080/local-wifi
  curl -X POST http://127.0.0.1:8080/provision \\
    -H 'Content-Type: application/json' -H 'Authorization: Bearer YOUR_BEARER_TOKEN' \\
    -d '{\"ssid\":\"lab\",\"password\":\"correct-horse\",\"device_id\":\"device_0070\",\"provisioning_token\":\"your_prov_token\"}'
  curl http://127.0.0.1:8080/status

Plain MQTT, without a CA:
  MQTT_HOST=127.0.0.1 MQTT_PORT=1883 sim-device

Environment variables (other spellings in parentheses); they win over what is saved on the console:
",
    );
    for setting in SETTINGS {
        let names = match setting.aliases {
            [] => setting.name.to_owned(),
            aliases => format!("{} ({})", setting.name, aliases.join(", ")),
        };
        let file = if setting.file { "path of a file: " } else { "" };
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {names:40} {file}{}", setting.help);
    }
    text.push_str("\nCommands on standard input:\n");
    for command in HELP {
        let _ = writeln!(text, "  {command}");
    }
    text.push_str("\nExit status: 0 after Ctrl-C, SIGTERM or a power cut; 2 when an argument, a variable or the state directory cannot be used.");
    text
}
