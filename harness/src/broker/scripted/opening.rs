//! What a connection begins with: TLS as the broker's certificate has it, or what a lie makes of it.

use crate::broker::{BrokerError, BrokerSpec};
use crate::ca::pki::{Identity, Pki, ServerSpec};
use crate::link::alert_name;
use device_core::config::{Security, TlsVersions};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What a connection is to begin with.
pub(super) struct Opening<'a> {
    /// The certificates shown, the server's own first; whatever they hold is sent as it is.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Sent in place of TLS.
    pub(super) instead: Option<Vec<u8>>,
    /// The connection is cut when so many bytes of the handshake have been sent.
    pub(super) cut_at: Option<usize>,
    key: PrivateKeyDer<'static>,
    pki: &'a Pki,
    names: &'a [String],
}

impl<'a> Opening<'a> {
    /// The honest one.
    pub(super) fn new(identity: &Identity, pki: &'a Pki, names: &'a [String]) -> Result<Opening<'a>, BrokerError> {
        let (chain, key) = parts(identity)?;
        Ok(Opening { chain, instead: None, cut_at: None, key, pki, names })
    }

    /// A good certificate that holds so many further names.
    pub(super) fn add_names(&mut self, count: usize) -> bool {
        let filler = (0..count).map(|n| format!("filler-{n:05}.with-a-long-name.to-fill-the-certificate.invalid"));
        let spec = ServerSpec::new(self.names.iter().cloned().chain(filler));
        let made = self.pki.server(&spec).ok().and_then(|identity| parts(&identity).ok());
        made.map(|(chain, key)| (self.chain, self.key) = (chain, key)).is_some()
    }
}

fn parts(identity: &Identity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), BrokerError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(identity.chain_pem.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.expose().as_bytes());
    Ok((chain.map_err(unusable)?, key.map_err(unusable)?))
}

fn unusable(why: impl std::fmt::Display) -> BrokerError {
    BrokerError::new(format!("the scripted broker's TLS cannot be set up: {why}"), "report this as a bug")
}

/// The side of TLS that this connection is to see.
pub(super) fn acceptor(opening: &Opening<'_>, spec: &BrokerSpec) -> Result<TlsAcceptor, BrokerError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: &[&rustls::SupportedProtocolVersion] = match spec.tls {
        TlsVersions::Both => rustls::ALL_VERSIONS,
        TlsVersions::Only12 => &[&rustls::version::TLS12],
        TlsVersions::Only13 => &[&rustls::version::TLS13],
    };
    let key = provider.key_provider.load_private_key(opening.key.clone_key()).map_err(unusable)?;
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).map_err(unusable)?;
    let builder = match &spec.client_ca {
        Some(anchors) if spec.security == Security::MutualTls => {
            let mut roots = RootCertStore::empty();
            for anchor in CertificateDer::pem_slice_iter(anchors.as_bytes()) {
                roots.add(anchor.map_err(unusable)?).map_err(unusable)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(unusable)?)
        }
        _ => builder.with_no_client_auth(),
    };
    // Not checked against its key, nor looked at: it is shown as it is.
    let shown = SingleCertAndKey::from(CertifiedKey::new(opening.chain.clone(), key));
    let mut config = builder.with_cert_resolver(Arc::new(shown));
    // Nothing is resumed: each connection shows what a device does with a whole handshake.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Shakes hands over this stream.
///
/// # Errors
/// The alert that the device sent, as `alert unknown_ca`, or what else went wrong.
pub(super) async fn handshake(acceptor: TlsAcceptor, stream: Limited) -> Result<TlsStream<Limited>, String> {
    acceptor.accept(stream).await.map_err(|e| match e.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::AlertReceived(alert)) => format!("alert {}", alert_name(u8::from(*alert))),
        _ => e.to_string(),
    })
}

/// A stream that breaks when so many bytes have been written to it.
#[derive(Debug)]
pub(super) struct Limited {
    stream: TcpStream,
    left: Option<usize>,
}

impl Limited {
    pub(super) fn new(stream: TcpStream, left: Option<usize>) -> Limited {
        Limited { stream, left }
    }
}

impl AsyncRead for Limited {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Limited {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let most = self.left.unwrap_or(bytes.len()).min(bytes.len());
        if most == 0 && !bytes.is_empty() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, "cut here")));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, &bytes[..most]);
        if let (Poll::Ready(Ok(count)), Some(left)) = (&written, &mut self.left) {
            *left -= count;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
