//! Small fakes of the servers a device talks to: an authority, an HTTPS CA and a broker that acknowledges everything.

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// An authority that issues both servers' and devices' certificates.
pub struct Authority {
    pub root: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        Authority::with(name, |_| {})
    }

    pub fn with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        change(&mut params);
        Authority { root: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    pub fn pem(&self) -> String {
        self.root.pem()
    }

    /// A server's configuration with a certificate for this name, changed before it is signed.
    pub fn server(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Server {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.root).unwrap();
        Server {
            chain: vec![certificate.der().clone()],
            key: key.serialize_der(),
            versions: vec![&rustls::version::TLS13, &rustls::version::TLS12],
            clients: None,
        }
    }

    /// Issues what the CSR asks for, for TLS clients.
    pub fn issue(&self, csr: &str) -> String {
        let mut csr = CertificateSigningRequestParams::from_pem(csr).unwrap();
        csr.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        csr.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        csr.signed_by(&self.root).unwrap().pem()
    }
}

/// A TLS server to be.
pub struct Server {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: Vec<u8>,
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// Who may come, when clients must show a certificate.
    pub clients: Option<CertificateDer<'static>>,
}

impl Server {
    pub fn acceptor(self) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&self.versions).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key));
        let config = match self.clients {
            None => builder.with_no_client_auth(),
            Some(root) => {
                let mut roots = RootCertStore::empty();
                roots.add(root).unwrap();
                builder.with_client_cert_verifier(
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap(),
                )
            }
        };
        TlsAcceptor::from(Arc::new(config.with_single_cert(self.chain, key).unwrap()))
    }
}

/// What a fake CA was asked: `Authorization` and body of each request.
pub type Asked = Arc<Mutex<Vec<(String, String)>>>;

/// Serves `POST /sign-csr` over TLS until the test ends; answers with what `reply` makes of the body.
pub async fn ca(server: Server, reply: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) -> (SocketAddr, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Asked::default();
    let (log, acceptor, reply) = (asked.clone(), server.acceptor(), Arc::new(reply));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (acceptor, log, reply) = (acceptor.clone(), log.clone(), reply.clone());
            tokio::spawn(async move {
                // A handshake that fails is what half of these tests are about.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = hyper::service::service_fn(|request: hyper::Request<Incoming>| async {
                    let (head, body) = request.into_parts();
                    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
                    let bearer = head.headers.get("authorization").map_or("", |v| v.to_str().unwrap()).to_owned();
                    let (status, text) = reply(&body);
                    log.lock().unwrap().push((bearer, body));
                    let answer = hyper::Response::builder().status(status).header("location", "https://elsewhere.invalid/");
                    Ok::<_, Infallible>(answer.body(Full::new(Bytes::from(text))).unwrap())
                });
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (address, asked)
}

/// The reply of an honest CA to this body.
pub fn honest(authority: &Authority, body: &str) -> (u16, String) {
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let certificate = authority.issue(body["csr"].as_str().unwrap());
    (
        200,
        serde_json::json!({ "certificate": { "content": certificate }, "ca_certificate": { "content": authority.pem() } })
            .to_string(),
    )
}

/// Serves MQTT over TLS until the test ends.
pub async fn broker(server: Server) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = server.acceptor();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    // A client that goes away has gone away.
                    let _ = acknowledge(stream).await;
                }
            });
        }
    });
    address
}

/// Speaks MQTT v5 as little as a device needs: CONNACK, SUBACK, PUBACK and PINGRESP.
async fn acknowledge(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    loop {
        let kind = stream.read_u8().await?;
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let byte = stream.read_u8().await?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        match kind >> 4 {
            1 => stream.write_all(&[0x20, 3, 0, 0, 0]).await?,
            3 => {
                let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                stream.write_all(&[0x40, 2, body[2 + topic], body[3 + topic]]).await?;
            }
            8 => stream.write_all(&[0x90, 4, body[0], body[1], 0, 1]).await?,
            12 => stream.write_all(&[0xd0, 0]).await?,
            14 => return Ok(()),
            _ => {}
        }
        stream.flush().await?;
    }
}
