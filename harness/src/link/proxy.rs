//! A link: a TCP proxy in front of one server, that forwards bytes as they come and reads the TLS hellos in passing.
//!
//! No byte waits for anything but the other side's readiness to take it: no timer, no Nagle. An end of stream is passed on as one,
//! and so is a reset. A server that refuses the connection cannot be imitated to the last: the device is connected to the link
//! already, and is then reset at once.

use super::hello::{Heard, Reading, Side};
use crate::event::{ClientHello, ServerHello, Source, What};
use crate::trace::tape::Tape;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

/// Connections through one link at a time; more wait to be accepted.
pub const CONNECTIONS_MAX: usize = 4096;
/// How long the server may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Bytes moved at once.
const CHUNK: usize = 16 * 1024;

/// A link to one server. Closed, with all connections through it, when dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    /// What events call the server.
    name: String,
    upstream: RwLock<Option<SocketAddr>>,
    tape: Tape,
    count: AtomicU32,
}

impl Link {
    /// Opens a link on a free port of 127.0.0.1 to this server. `name` is what events call the server: `ca`, `broker`.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(name: &str, upstream: SocketAddr, tape: &Tape) -> io::Result<Link> {
        Link::start_at((Ipv4Addr::LOCALHOST, 0).into(), name, upstream, tape).await
    }

    /// The same at this address; port 0 is any free one.
    ///
    /// # Errors
    /// When the address is not this machine's, or the port is taken.
    pub async fn start_at(listen: SocketAddr, name: &str, upstream: SocketAddr, tape: &Tape) -> io::Result<Link> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let upstream = RwLock::new(Some(upstream));
        let shared = Arc::new(Shared { name: name.to_owned(), upstream, tape: tape.clone(), count: AtomicU32::new(0) });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Ok(Link { address, shared, accepting })
    }

    /// Where the device connects to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends new connections to another server; none: they are reset at once, as if nothing listened. Those that are open stay.
    pub fn set_upstream(&self, upstream: Option<SocketAddr>) {
        *self.shared.upstream.write().unwrap_or_else(|e| e.into_inner()) = upstream;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and with it all connections.
    let mut connections = JoinSet::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((device, _)) => {
                let shared = shared.clone();
                connections.spawn(async move {
                    shared.connection(device).await;
                    drop(place);
                });
            }
            Err(e) => {
                shared.tape.say(Source::Runner, What::Broke { why: format!("the link to {} cannot accept: {e}", shared.name) });
                // Out of descriptors: until one is free, accept fails at once.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// One connection as its two directions see it.
struct Connection<'a> {
    shared: &'a Shared,
    number: u32,
    reading: Mutex<Reading>,
    up: AtomicU64,
    down: AtomicU64,
}

impl Shared {
    fn say(&self, what: What) {
        self.tape.say(Source::Link, what);
    }

    async fn connection(&self, mut device: TcpStream) {
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        self.say(What::Opened { to: self.name.clone(), connection: number });
        let connection =
            Connection { shared: self, number, reading: Mutex::default(), up: AtomicU64::new(0), down: AtomicU64::new(0) };
        let upstream = *self.upstream.read().unwrap_or_else(|e| e.into_inner());
        let server = match upstream {
            Some(address) => tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(address)).await.ok().and_then(Result::ok),
            None => None,
        };
        match server {
            Some(mut server) => {
                if connection.forward(&mut device, &mut server).await.is_err() {
                    // Best effort: a socket that cannot be told so is closed in the ordinary way.
                    let _ = (device.set_zero_linger(), server.set_zero_linger());
                }
            }
            None => drop(device.set_zero_linger()),
        }
        drop(device);
        self.say(What::Closed {
            to: self.name.clone(),
            connection: number,
            bytes_up: connection.up.into_inner(),
            bytes_down: connection.down.into_inner(),
        });
    }
}

impl Connection<'_> {
    /// Forwards both ways until both have ended; an error (a reset) on either ends both at once.
    async fn forward(&self, device: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
        device.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let ((device_in, device_out), (server_in, server_out)) = (device.split(), server.split());
        let up = self.direction(Side::Device, device_in, server_out, &self.up);
        let down = self.direction(Side::Server, server_in, device_out, &self.down);
        tokio::try_join!(up, down).map(drop)
    }

    async fn direction(&self, from: Side, mut read: ReadHalf<'_>, mut write: WriteHalf<'_>, bytes: &AtomicU64) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let n = read.read(&mut chunk).await?;
            if n == 0 {
                return write.shutdown().await;
            }
            bytes.fetch_add(n as u64, Ordering::Relaxed);
            self.hear(from, &chunk[..n]);
            write.write_all(&chunk[..n]).await?;
        }
    }

    fn hear(&self, from: Side, bytes: &[u8]) {
        let heard = self.reading.lock().unwrap_or_else(|e| e.into_inner()).pass(from, bytes);
        for heard in heard {
            let (to, connection) = (self.shared.name.clone(), self.number);
            self.shared.say(match heard {
                Heard::ClientHello { versions, sni, suites, groups } => {
                    What::ClientHello(ClientHello { to, connection, versions, sni, suites, groups })
                }
                Heard::HelloRetryRequest { version, suite } => {
                    What::Note(format!("{to} {connection}: HelloRetryRequest for TLS {version}, {suite}"))
                }
                Heard::ServerHello { version, suite } => What::ServerHello(ServerHello { to, connection, version, suite }),
                Heard::ClientCertificate { sent } => What::ClientCertificate { to, connection, sent },
                Heard::Alert { by, name } => {
                    let by = match by {
                        Side::Device => "device",
                        Side::Server => "server",
                    };
                    What::Alert { to, connection, by: by.into(), name }
                }
            });
        }
    }
}
