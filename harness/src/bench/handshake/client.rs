//! One connection, from nothing to CONNACK, and how long each part of it took.

use super::authority::Authority;
use super::case::Case;
use device_core::config::Security;
use device_core::output::Trust;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use sim_device::{LastClient, Terms};
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A connection that is not there in this time ends the measurement.
const LIMIT: Duration = Duration::from_secs(10);
/// Sessions a client keeps, tickets of TLS 1.3 among them.
const SESSIONS: usize = 8;
const CONNACK_LEN: usize = 4;
const DISCONNECT: [u8; 2] = [0xe0, 0];

/// Whose TLS is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// The twin's: its verifier and its clock, and its way of keeping the last connection's certificates and key read.
    Twin,
    /// tokio-rustls as it comes, everything prepared before: what the twin's is compared with.
    Raw,
}

/// A client with its own session store: tickets are for one use, so that clients that share them resume only some of the time.
pub(super) struct Client {
    pub case: Case,
    who: Who,
    authority: Arc<Authority>,
    /// None when plain.
    prepared: Option<Arc<ClientConfig>>,
    last: LastClient,
}

/// How long the parts of a connection took, and what kind of handshake it was.
#[derive(Debug)]
pub(super) struct Sample {
    /// Settings read, TCP, TLS, CONNECT to CONNACK.
    ///
    /// Under TLS 1.3 the server judges the client's certificate in the last part: only the sum compares with TLS 1.2.
    pub parts: [Duration; 4],
    pub kind: Option<HandshakeKind>,
}

impl Client {
    pub fn new(case: Case, who: Who, authority: &Arc<Authority>) -> Result<Client, Box<dyn Error + Send + Sync>> {
        let last = LastClient::default();
        let prepared = match (case.security, who) {
            (Security::Plain, _) => None,
            (_, Who::Twin) => Some(as_twin(&case, authority, &last)?),
            (_, Who::Raw) => Some(Arc::new(raw(&case, authority)?)),
        };
        Ok(Client { case, who, authority: authority.clone(), prepared, last })
    }

    fn config(&self) -> Result<Option<Arc<ClientConfig>>, io::Error> {
        match (&self.prepared, self.who) {
            (Some(_), Who::Twin) if !self.case.resumed => {
                as_twin(&self.case, &self.authority, &self.last).map(Some).map_err(io::Error::other)
            }
            (prepared, _) => Ok(prepared.clone()),
        }
    }

    /// Connects, and takes the connection down in good order after the clock has stopped, so that the broker is idle again.
    pub async fn connect(&self, to: SocketAddr, id: &str) -> io::Result<Sample> {
        tokio::time::timeout(LIMIT, self.connect_now(to, id)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn connect_now(&self, to: SocketAddr, id: &str) -> io::Result<Sample> {
        let began = Instant::now();
        let config = self.config()?;
        let set_up = Instant::now();
        let mut tcp = TcpStream::connect(to).await?;
        tcp.set_nodelay(true)?;
        let connected = Instant::now();
        let (secured, kind, done) = match config {
            None => (connected, None, session(&mut tcp, id).await?),
            Some(config) => {
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                let mut tls = TlsConnector::from(config).connect(name, tcp).await?;
                let secured = Instant::now();
                let kind = tls.get_ref().1.handshake_kind();
                (secured, kind, session(&mut tls, id).await?)
            }
        };
        let parts = [set_up - began, connected - set_up, secured - connected, done - secured];
        Ok(Sample { parts, kind })
    }
}

/// CONNECT to CONNACK; gives when that came.
async fn session(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), id: &str) -> io::Result<Instant> {
    stream.write_all(&connect_packet(id)).await?;
    stream.flush().await?;
    let mut answer = [0; CONNACK_LEN];
    stream.read_exact(&mut answer).await?;
    let done = Instant::now();
    if answer != [0x20, 2, 0, 0] {
        return Err(io::Error::other(format!("the broker refused the connection: {answer:02x?}")));
    }
    stream.write_all(&DISCONNECT).await?;
    stream.flush().await?;
    // However the broker ends it.
    let _ = stream.read(&mut answer).await;
    Ok(done)
}

/// CONNECT of MQTT 3.1.1 with a clean session; `id` is short.
fn connect_packet(id: &str) -> Vec<u8> {
    let length = u8::try_from(id.len()).unwrap_or(u8::MAX).min(100);
    let mut packet = vec![0x10, 12 + length, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, length];
    packet.extend_from_slice(&id.as_bytes()[..usize::from(length)]);
    packet
}

fn as_twin(case: &Case, authority: &Authority, last: &LastClient) -> Result<Arc<ClientConfig>, String> {
    let trust = Trust::Anchors(authority.root_pem.clone());
    let identity = (case.security == Security::MutualTls).then_some(&authority.client);
    let date = Some(device_core::time::UnixTime(crate::world::wall_unix()));
    let terms = Terms { trust: &trust, identity, versions: case.version, date };
    let client = last.client(&terms).map_err(|failure| failure.text)?;
    if !case.resumed {
        return Ok(client);
    }
    let mut client = Arc::unwrap_or_clone(client);
    client.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(Arc::new(client))
}

/// rustls' own verifier. ring offers no post-quantum group, whose key share would be most of the first flight.
pub(super) fn raw(case: &Case, authority: &Authority) -> Result<ClientConfig, Box<dyn Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.root_pem.as_bytes())?)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(super::versions(case))?
        .with_root_certificates(roots);
    let mut config = match case.security {
        Security::MutualTls => {
            let chain = vec![CertificateDer::from_pem_slice(authority.client.certificate.as_bytes())?];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(authority.client.key.expose().as_bytes())?)?
        }
        _ => builder.with_no_client_auth(),
    };
    config.resumption = if case.resumed { Resumption::in_memory_sessions(SESSIONS) } else { Resumption::disabled() };
    Ok(config)
}
