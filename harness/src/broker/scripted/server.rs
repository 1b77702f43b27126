//! The scripted broker's listeners and connections.

use super::hub::Hub;
use super::opening::{Limited, Opening, acceptor, handshake};
use super::saying::End;
use super::talk::{Talk, drain};
use super::wire::Connect;
use super::{Lie, Lies};
use crate::broker::{Backend, Broker, BrokerError, BrokerSpec, Endpoint, Log};
use crate::ca::pki::Pki;
use crate::event::{MqttPacket, Source, What};
use crate::trace::tape::Tape;
use async_trait::async_trait;
use device_core::config::{MqttVersion, Security};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// Open connections; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// Longest TLS handshake, and longest wait for CONNECT behind it.
pub(super) const HELLO_MAX: Duration = Duration::from_secs(10);
/// Longest time that a client may take to read what it is sent.
pub(super) const WRITE_MAX: Duration = Duration::from_secs(10);
/// How long nothing is accepted after the system could not give a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections of the operator are counted from here, the device's from 1.
const OPERATOR_FROM: u32 = 1 << 31;

/// What a scripted broker is made of.
pub(crate) struct Parts {
    /// What Mosquitto would be told. An access control list is not kept here.
    pub(crate) spec: BrokerSpec,
    /// Who signs its certificates.
    pub(crate) pki: Arc<Pki>,
    /// The names in its certificate.
    pub(crate) names: Vec<String>,
    /// The lies it begins with.
    pub(crate) lies: Vec<Lie>,
    /// Whether it still knows what it knew when it is started again.
    pub(crate) keeps: bool,
    /// Where the device's packets are told.
    pub(crate) tape: Tape,
}

/// A scripted broker that runs, or has run. Ends when dropped.
#[derive(Debug)]
pub struct Scripted {
    backend: Backend,
    endpoint: Endpoint,
    operator: Endpoint,
    log: Log,
    shared: Arc<Shared>,
    serving: Option<JoinHandle<()>>,
}

/// What its connections share.
pub(super) struct Shared {
    parts: Parts,
    pub(super) hub: Mutex<Hub>,
    pub(super) lies: Mutex<Lies>,
    devices: AtomicU32,
    operators: AtomicU32,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("lies", &self.lies).finish_non_exhaustive()
    }
}

/// Who a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Face {
    Device,
    Operator,
}

impl Scripted {
    /// Listens and serves, on the runtime it is called on, on free ports of 127.0.0.1.
    ///
    /// # Errors
    /// When no port can be had.
    pub(crate) async fn start(mut parts: Parts) -> Result<Scripted, BrokerError> {
        let lies = Mutex::new(Lies::new(std::mem::take(&mut parts.lies)));
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (device, operator) = (listen(free).await?, listen(free).await?);
        let host = parts.names.first().cloned().unwrap_or_default();
        let endpoint =
            |listener: &TcpListener| Ok(Endpoint { host: host.clone(), address: listener.local_addr().map_err(no_port)? });
        let backend = Backend { name: "scripted", version: env!("CARGO_PKG_VERSION").into(), place: String::new() };
        let (endpoint, at_operator) = (endpoint(&device)?, endpoint(&operator)?);
        let (devices, operators) = (AtomicU32::new(1), AtomicU32::new(OPERATOR_FROM));
        let shared = Arc::new(Shared { parts, hub: Mutex::default(), lies, devices, operators });
        let serving = Some(tokio::spawn(accept(device, operator, shared.clone())));
        Ok(Scripted { backend, endpoint, operator: at_operator, log: Log::new(), shared, serving })
    }

    async fn end(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            // Wait until the ports are free; a task that was aborted ends with an error that says so.
            let _ = serving.await;
        }
        if !self.shared.parts.keeps {
            *lock(&self.shared.hub) = Hub::default();
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

#[async_trait]
impl Broker for Scripted {
    fn backend(&self) -> &Backend {
        &self.backend
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn operator(&self) -> &Endpoint {
        &self.operator
    }

    fn log(&self) -> &Log {
        &self.log
    }

    async fn start(&mut self) -> Result<(), BrokerError> {
        if self.serving.is_none() {
            let (device, operator) = (listen(self.endpoint.address).await?, listen(self.operator.address).await?);
            self.serving = Some(tokio::spawn(accept(device, operator, self.shared.clone())));
        }
        Ok(())
    }

    async fn stop(&mut self) -> Result<(), BrokerError> {
        self.end().await;
        Ok(())
    }

    async fn kill(&mut self) -> Result<(), BrokerError> {
        self.end().await;
        Ok(())
    }

    fn misbehave(&self, lies: &[Lie]) -> Result<(), BrokerError> {
        *lock(&self.shared.lies) = Lies::new(lies.to_vec());
        Ok(())
    }
}

/// Its content; what panicked while it was held does not matter.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn listen(at: SocketAddr) -> Result<TcpListener, BrokerError> {
    TcpListener::bind(at).await.map_err(no_port)
}

fn no_port(why: std::io::Error) -> BrokerError {
    BrokerError::new(format!("the scripted broker has no port: {why}"), "see that the loopback interface is up and ports are free")
}

async fn accept(device: TcpListener, operator: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Dropped with this task: its connections end with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = device.accept() => accepted.map(|(stream, _)| (stream, Face::Device)),
            accepted = operator.accept() => accepted.map(|(stream, _)| (stream, Face::Operator)),
        };
        let Ok((stream, face)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let shared = shared.clone();
        connections.spawn(async move {
            shared.serve(stream, face).await;
            drop(place);
        });
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, stream: TcpStream, face: Face) {
        // Small answers are not to wait for the acknowledgement of the last one.
        let _ = stream.set_nodelay(true);
        let count = if face == Face::Device { &self.devices } else { &self.operators };
        let number = count.fetch_add(1, Ordering::Relaxed);
        // A second hold on the socket, to end it under TLS.
        let Ok((stream, socket)) = stream.into_std().and_then(|std| Ok((TcpStream::from_std(std.try_clone()?)?, std))) else {
            return;
        };
        if face == Face::Operator || self.parts.spec.security == Security::Plain {
            return self.talk(stream, socket, face, number).await;
        }
        if let Some(stream) = self.open(stream, number).await {
            self.talk(stream, socket, face, number).await;
        }
    }

    /// Shakes hands, or does what a lie does in its place.
    async fn open(&self, mut stream: TcpStream, number: u32) -> Option<tokio_rustls::server::TlsStream<Limited>> {
        let broke = |why: BrokerError| self.parts.tape.say(Source::Runner, What::Broke { why: why.to_string() });
        let identity = self.parts.spec.server.as_ref()?;
        let mut opening = Opening::new(identity, &self.parts.pki, &self.parts.names).map_err(broke).ok()?;
        let lies = lock(&self.lies).tell(|lie| lie.opening(&mut opening));
        if !lies.is_empty() {
            self.tell(MqttPacket { lies, ..event(number, "broker", "handshake") });
        }
        if let Some(bytes) = opening.instead {
            // The ClientHello first; what is not read would break the connection before the answer is heard.
            let _ = timeout(HELLO_MAX, stream.read(&mut [0; 4096])).await;
            let _ = timeout(WRITE_MAX, stream.write_all(&bytes)).await;
            let _ = stream.shutdown().await;
            drain(&mut stream).await;
            return None;
        }
        let acceptor = acceptor(&opening, &self.parts.spec).map_err(broke).ok()?;
        let shaken = timeout(HELLO_MAX, handshake(acceptor, Limited::new(stream, opening.cut_at))).await;
        match shaken.unwrap_or_else(|_| Err(format!("no handshake within {} s", HELLO_MAX.as_secs()))) {
            Ok(stream) => Some(stream),
            Err(why) => {
                self.tell(MqttPacket { why: Some(why), ..event(number, "device", "handshake") });
                None
            }
        }
    }

    /// Tells a packet to the tape.
    pub(super) fn tell(&self, packet: MqttPacket) {
        self.parts.tape.say(Source::Broker, What::Packet(Box::new(packet)));
    }

    async fn talk<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &self,
        stream: S,
        socket: std::net::TcpStream,
        face: Face,
        number: u32,
    ) {
        let mut talk = Talk::new(self, stream, face, number);
        let end = talk.whole().await;
        match end {
            End::Cut => drop(socket.shutdown(Shutdown::Write)),
            End::Left | End::Closed => drop(timeout(WRITE_MAX, talk.stream.shutdown()).await),
        }
        drain(&mut talk.stream).await;
    }

    /// The CONNACK code for who wants to come in.
    pub(super) fn admit(&self, connect: &Connect, face: Face) -> u8 {
        let v5 = connect.version == MqttVersion::V5;
        let users = &self.parts.spec.users;
        let known = || {
            let password = connect.password.as_deref().unwrap_or_default();
            users.iter().any(|user| Some(&user.name) == connect.user.as_ref() && user.password.expose().as_bytes() == password)
        };
        match () {
            () if connect.client_id.is_empty() => {
                if v5 {
                    0x85
                } else {
                    2
                }
            }
            () if face == Face::Device && !users.is_empty() && !known() => {
                if v5 {
                    0x87
                } else {
                    5
                }
            }
            () => 0,
        }
    }
}

/// Nothing more than who sent what.
pub(super) fn event(connection: u32, by: &str, kind: &str) -> MqttPacket {
    MqttPacket { connection, by: by.into(), kind: kind.into(), ..MqttPacket::default() }
}
