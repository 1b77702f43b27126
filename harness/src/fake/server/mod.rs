//! A server of Wokwi's simulation API that works: real firmware in QEMU behind the protocol, on loopback.
//!
//! `WOKWI_CLI_TOKEN=… fake-wokwi-server` says on standard output where it listens (`ws://127.0.0.1:PORT`); clients find it by
//! `WOKWI_CLI_SERVER` and need the same token. Each connection has a board of its own, which ends with it.

mod board;
mod lie;
mod pause;
mod project;
mod session;

use super::api;
use crate::{child, say};
use clap::Parser;
use lie::{Lie, Lies};
use session::End;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, StatusCode, header};

/// Connections at once; each has an emulator.
const CONNECTIONS_MAX: usize = 16;
/// How long a client may take to become one.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// A fake of Wokwi's server: its WebSocket API, with firmware for QEMU's machine virt behind it.
///
/// Clients need the token that is in WOKWI_CLI_TOKEN here.
#[derive(Debug, Parser)]
#[command(name = "fake-wokwi-server", version, max_term_width = 110)]
struct Options {
    /// Where to listen. Any port of this machine that is free, unless one is named.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The emulator.
    #[arg(long, value_name = "PATH", env = "HARNESS_EMULATOR", default_value = "qemu-system-riscv32")]
    emulator: PathBuf,
    /// A way to misbehave, and again for another: unauthorized, unavailable, stall:BYTES, cut:BYTES, error:BYTES (after so many bytes of
    /// the device's), delay:TIME (of everything), split:BYTES, merge:BYTES (the most, the fewest bytes at once), lose:N (one byte in N).
    #[arg(long = "lie", value_name = "LIE")]
    lies: Vec<Lie>,
    /// Lies to so many first connections only, and is honest to the next.
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    lies_first: u64,
    /// Ends when standard input ends, for whoever starts it as a child.
    #[arg(long)]
    ends_with_input: bool,
}

/// Serves until a signal ends it.
pub fn main() -> ExitCode {
    let options = Options::parse();
    let Some(token) = std::env::var_os("WOKWI_CLI_TOKEN").filter(|token| !token.is_empty()) else {
        say::aside("fake-wokwi-server: set WOKWI_CLI_TOKEN to a word of your own; clients are asked for it");
        return ExitCode::from(2);
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error),
    };
    let served = runtime.block_on(serve(options, token));
    // Standard input may never end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    child::finish();
    served.map_or_else(|error| complain(&error), |()| ExitCode::SUCCESS)
}

fn complain(error: &std::io::Error) -> ExitCode {
    say::aside(format_args!("fake-wokwi-server: {error}"));
    ExitCode::from(2)
}

async fn serve(options: Options, token: OsString) -> std::io::Result<()> {
    let listener = TcpListener::bind(options.listen).await?;
    say::line(format_args!("ws://{}", listener.local_addr()?));
    // Dropped in the end, and the boards with them.
    let mut connections = JoinSet::new();
    let (token, emulator): (Arc<OsString>, Arc<Path>) = (Arc::new(token), options.emulator.into());
    let mut ended = Box::pin(ending(options.ends_with_input));
    for number in 1_u64.. {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            ended = &mut ended => return ended,
        };
        while connections.try_join_next().is_some() {}
        let mut lies = Lies::of(if number <= options.lies_first { &options.lies } else { &[] });
        if connections.len() >= CONNECTIONS_MAX {
            lies.refuses = Some(503);
        }
        let (token, emulator) = (token.clone(), emulator.clone());
        connections.spawn(async move {
            if let Err(why) = connection(stream, &token, &emulator, lies).await {
                say::aside(format_args!("fake-wokwi-server: connection {number}: {why}"));
            }
        });
    }
    Ok(())
}

/// Waits until this process is to end.
async fn ending(with_input: bool) -> std::io::Result<()> {
    let input = async {
        if !with_input {
            std::future::pending::<()>().await;
        }
        let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await;
    };
    #[cfg(unix)]
    let mut asked = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    #[cfg(unix)]
    let asked = asked.recv();
    #[cfg(not(unix))]
    let asked = std::future::pending::<()>();
    tokio::select! {
        () = input => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = asked => Ok(()),
    }
}

/// One connection; why it ended, unless the client just left.
async fn connection(stream: TcpStream, token: &OsString, emulator: &Path, lies: Lies) -> Result<(), String> {
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let refuses = lies.refuses;
    #[expect(clippy::result_large_err, reason = "the library's own shape")]
    let check = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        let status = refuses.unwrap_or(if is_bearer(request.headers(), token) { 200 } else { 401 });
        if status == 200 {
            return Ok(response);
        }
        let mut refused = ErrorResponse::new(None);
        *refused.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Err(refused)
    };
    let handshake = tokio_tungstenite::accept_hdr_async_with_config(stream, check, Some(api::limits()));
    let socket = match tokio::time::timeout(HANDSHAKE_LIMIT, handshake).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err("no request came".into()),
    };
    match session::serve(socket, emulator, lies).await {
        End::Left => Ok(()),
        End::Cut => Err("cut, as it was told to".into()),
        End::Fatal(message) => Err(message),
    }
}

fn is_bearer(headers: &HeaderMap, token: &OsString) -> bool {
    let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    given.and_then(|given| given.strip_prefix(b"Bearer ")) == Some(token.as_encoded_bytes())
}
