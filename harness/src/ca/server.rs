//! The fake CA's HTTPS listener: TLS and HTTP with a limit on everything, and `fake` in the middle.

use super::fake::{Answer, CutEnd, FakeCa, Pieces, Refusal, Reply, RollOver};
use super::misbehaviour::Lie;
use super::pki::{Identity, Pki, PkiError, Revoked};
use super::token::TokenSpec;
use super::{Clock, Today};
use crate::event::{Source, What};
use crate::trace::tape::Tape;
use bytes::Bytes;
use device_core::secret::Secret;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// The longest body that is read, bytes.
pub const BODY_MAX: usize = 64 * 1024;
/// How much of a longer body is taken in and thrown away, so that its sender hears the 413 instead of a reset; bytes.
pub const BODY_DRAINED_MAX: usize = 64 * 1024 * 1024;
/// Open connections; further ones wait to be accepted.
pub const CONNECTIONS_MAX: usize = 256;
/// Longest TLS handshake: a chip that is simulated slowly needs half of that for its arithmetic.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(60);
/// Longest wait for a request's header, also between two requests.
pub const HEADER_MAX: Duration = Duration::from_secs(10);
/// Longest wait for a request's body.
pub const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest life of a connection.
pub const CONNECTION_TIME_MAX: Duration = Duration::from_secs(120);
/// How long nothing is accepted after the system could not give a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Bytes of an unknown path that are told to the tape.
const PATH_TOLD_MAX: usize = 64;

/// What a CA server is made of.
#[derive(Clone)]
pub struct CaParts {
    /// Who signs; one may serve many trials.
    pub pki: Arc<Pki>,
    /// Where requests are told.
    pub tape: Tape,
    /// The testbed's date.
    pub clock: Clock,
    /// Where to listen: `127.0.0.1:0` in trials.
    pub listen: SocketAddr,
    /// DNS names and IP addresses it is reached by: those of its server certificate.
    pub names: Vec<String>,
    /// How long devices' certificates are valid, seconds.
    pub lifetime_s: i64,
}

impl CaParts {
    /// A CA on a free port of 127.0.0.1, also known as `localhost`, whose certificates last
    /// [`LIFETIME_S`](super::fake::LIFETIME_S).
    pub fn new(pki: Arc<Pki>, tape: Tape, clock: Clock) -> Self {
        CaParts {
            pki,
            tape,
            clock,
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            lifetime_s: super::fake::LIFETIME_S,
        }
    }
}

impl std::fmt::Debug for CaParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CaParts").field("listen", &self.listen).field("names", &self.names).finish_non_exhaustive()
    }
}

/// The CA could not be started or told to lie: the testbed's fault.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// No listener.
    #[error("the CA could not listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// No certificate for the listener.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The TLS library refuses the listener's certificate.
    #[error("the CA's TLS could not be set up: {0}")]
    Tls(String),
}

/// A running CA: `POST /sign-csr`, `POST /renew` (over mutual TLS), `GET /ca.crt`, `GET /crl.pem`. Ends when dropped.
#[derive(Debug)]
pub struct CaServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    ca: Mutex<FakeCa>,
    listener: Mutex<Presented>,
    parts: CaParts,
}

/// As whom connections are accepted, and which lies are in that.
#[derive(Clone)]
struct Presented {
    tls: Arc<ServerConfig>,
    lies: Vec<String>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.parts.fmt(f)
    }
}

impl CaServer {
    /// Listens and serves, on the runtime it is called on.
    ///
    /// # Errors
    /// When it cannot listen, or its names cannot stand in a certificate.
    pub async fn start(parts: CaParts) -> Result<CaServer, CaError> {
        let cannot_listen = |source| CaError::Listen { address: parts.listen, source };
        let listener = TcpListener::bind(parts.listen).await.map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        let mut ca = FakeCa::new(parts.pki.clone(), parts.lifetime_s);
        let presented = present(&mut ca, &parts)?;
        let shared = Arc::new(Shared { ca: Mutex::new(ca), listener: Mutex::new(presented), parts });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Ok(CaServer { address, shared, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who signs.
    pub fn pki(&self) -> &Arc<Pki> {
        &self.shared.parts.pki
    }

    /// A new token that nobody can guess. The tape keeps it secret.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn mint_token(&self, spec: TokenSpec) -> Result<Secret, PkiError> {
        let token = lock(&self.shared.ca).mint_token(spec)?;
        self.shared.parts.tape.redactor().register("token", token.expose());
        Ok(token)
    }

    /// Makes a token of the caller's choice known, to the CA and as a secret to the tape.
    pub fn accept_token(&self, token: &Secret, spec: TokenSpec) {
        self.shared.parts.tape.redactor().register("token", token.expose());
        lock(&self.shared.ca).accept_token(token, spec);
    }

    /// Tells these lies from now on, in place of those before. A lie about the listener is seen by connections opened from now on.
    ///
    /// # Errors
    /// When a certificate for the listener cannot be made.
    pub fn misbehave(&self, lies: Vec<Lie>) -> Result<(), CaError> {
        let mut ca = lock(&self.shared.ca);
        ca.misbehave(lies);
        let presented = present(&mut ca, &self.shared.parts)?;
        *lock(&self.shared.listener) = presented;
        Ok(())
    }

    /// Is followed by another CA from now on, as far as this.
    pub fn roll_over(&self, next: Arc<Pki>, phase: RollOver) {
        lock(&self.shared.ca).roll_over(next, phase);
    }

    /// Goes by this list of revoked certificates, as by one that was kept.
    pub fn take_up(&self, revoked: Revoked) {
        lock(&self.shared.ca).take_up(revoked);
    }

    /// Revokes all that this device was issued; how many of them were good until now. Whoever has a list needs the new one.
    pub fn revoke(&self, device_id: &str) -> usize {
        lock(&self.shared.ca).revoke(device_id, today(&self.shared.parts.clock))
    }

    /// The revocation list as of now, PEM.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn crl(&self) -> Result<String, PkiError> {
        lock(&self.shared.ca).crl(today(&self.shared.parts.clock))
    }

    /// Is honest from now on.
    ///
    /// # Errors
    /// When a certificate for the listener cannot be made.
    pub fn heal(&self) -> Result<(), CaError> {
        self.misbehave(Vec::new())
    }

    /// Ends it: the listener closes, and open connections are cut.
    pub async fn stop(mut self) {
        self.accepting.abort();
        // Wait until the port is free; a task that was aborted ends with an error that says so.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for CaServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The wall clock, seconds since 1970.
pub fn wall_clock() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn today(clock: &Clock) -> Today {
    Today { testbed: clock(), wall: wall_clock() }
}

fn present(ca: &mut FakeCa, parts: &CaParts) -> Result<Presented, CaError> {
    let (listener, signer, lies) = ca.listener(today(&parts.clock), &parts.names)?;
    let identity = signer.server(&listener.server)?;
    Ok(Presented { tls: Arc::new(tls(&identity, &parts.pki)?), lies })
}

fn tls(identity: &Identity, pki: &Pki) -> Result<ServerConfig, CaError> {
    let cannot = |error: &dyn std::fmt::Display| CaError::Tls(error.to_string());
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(identity.chain_pem.as_bytes()).collect::<Result<_, _>>().map_err(|e| cannot(&e))?;
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.expose().as_bytes()).map_err(|e| cannot(&e))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| cannot(&e))?
        .with_client_cert_verifier(Arc::new(AnyClient(pki.device_verifier().clone())))
        .with_single_cert(chain, key)
        .map_err(|e| cannot(&e))?;
    // Nothing is resumed: each connection shows what a device does with a whole handshake.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Takes a client certificate or none; that the client holds its key is verified, whose it is `renew` decides, so that the refusal
/// is an answer and on the tape.
#[derive(Debug)]
struct AnyClient(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Dropped with this task: its connections end with it.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: they come back when connections end.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Small answers are not to wait for the acknowledgement of the last one.
        let _ = stream.set_nodelay(true);
        let shared = shared.clone();
        connections.spawn(async move {
            let _ = timeout(CONNECTION_TIME_MAX, serve(stream, shared)).await;
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let presented = lock(&shared.listener).clone();
    let Ok(Ok(stream)) = timeout(HANDSHAKE_MAX, TlsAcceptor::from(presented.tls).accept(stream)).await else { return };
    let client: Option<Vec<CertificateDer<'static>>> = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec);
    let (client, lies) = (client.as_deref(), &presented.lies);
    let (shared, reset) = (&shared, &AtomicBool::new(false));
    let service = hyper::service::service_fn(move |request| async move {
        let Answer { reply, mut told } = answer(request, client, shared).await;
        told.lies.splice(0..0, lies.iter().cloned());
        shared.parts.tape.say(Source::Ca, What::Request(told));
        if reply.cut.is_some_and(|cut| cut.end == CutEnd::Reset) {
            reset.store(true, Ordering::Relaxed);
        }
        if !reply.pace.before.is_zero() {
            tokio::time::sleep(reply.pace.before).await;
        }
        Ok::<_, Infallible>(response(reply))
    });
    let mut connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_MAX)
        .max_buf_size(BODY_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let _ = (&mut connection).await;
    if reset.load(Ordering::Relaxed) {
        // Best effort: a socket that cannot be told so is closed in the ordinary way.
        let _ = connection.into_parts().io.into_inner().get_ref().0.set_zero_linger();
    }
}

async fn answer(request: Request<Incoming>, client: Option<&[CertificateDer<'_>]>, shared: &Shared) -> Answer {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let what = match path {
        "/sign-csr" | "/renew" | "/ca.crt" => path[1..].to_owned(),
        "/crl.pem" => "crl".to_owned(),
        _ => path.chars().take(PATH_TOLD_MAX).collect(),
    };
    let body = read(body, &head.headers).await;
    let needed = match path {
        "/sign-csr" | "/renew" => Method::POST,
        "/ca.crt" | "/crl.pem" => Method::GET,
        _ => return FakeCa::answer_other(what, Err(Refusal::new(404, "not-found", "there is no such path"))),
    };
    if head.method != needed {
        let mut answer = FakeCa::answer_other(what, Err(Refusal::new(405, "wrong-method", format!("use {needed}"))));
        answer.reply.headers.push(("allow", needed.to_string()));
        return answer;
    }
    let body = match body {
        Ok(body) => body,
        Err(refusal) => return FakeCa::answer_other(what, Err(refusal)),
    };
    if path == "/ca.crt" {
        let pem = shared.parts.pki.root_pem();
        return FakeCa::answer_other(what, Ok(Reply::pem(pem)));
    }
    if path == "/crl.pem" {
        let list = lock(&shared.ca).crl(today(&shared.parts.clock));
        return FakeCa::answer_other(what, list.map(|pem| Reply::pem(&pem)).map_err(Refusal::from));
    }
    if !is_json(&head.headers) {
        let refusal = Refusal::new(415, "wrong-content-type", "the Content-Type is not application/json");
        return FakeCa::answer_other(what, Err(refusal));
    }
    let today = today(&shared.parts.clock);
    let mut ca = lock(&shared.ca);
    match path {
        "/renew" => ca.renew(today, client, &body),
        _ => ca.sign_csr(today, only(&head.headers, AUTHORIZATION), &body),
    }
}

/// The value of a header that is there once and is ASCII.
fn only(headers: &HeaderMap, name: hyper::header::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    only(headers, CONTENT_TYPE)
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim_matches([' ', '\t']).eq_ignore_ascii_case("application/json"))
}

/// Reads a body within its limits. One that is too long is thrown away as it comes, up to a second limit.
async fn read(mut body: Incoming, headers: &HeaderMap) -> Result<Vec<u8>, Refusal> {
    let too_large = || Refusal::new(413, "too-large", "the body is longer than 64 KiB");
    let said: Option<u64> = only(headers, CONTENT_LENGTH).and_then(|length| length.parse().ok());
    if said.is_some_and(|length| length > BODY_DRAINED_MAX as u64) {
        return Err(too_large());
    }
    let (mut taken, mut length) = (Vec::new(), 0_usize);
    let all = async {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Err(Refusal::new(400, "body-broken", "the body could not be read")) };
            let Some(data) = frame.data_ref() else { continue };
            length = length.saturating_add(data.len());
            if length <= BODY_MAX {
                taken.extend_from_slice(data);
            } else if length > BODY_DRAINED_MAX {
                break;
            }
        }
        if length > BODY_MAX { Err(too_large()) } else { Ok(()) }
    };
    match timeout(BODY_TIME_MAX, all).await {
        Ok(read) => read.map(|()| taken),
        Err(_) => Err(Refusal::new(408, "timed-out", "the body did not come within 10 seconds")),
    }
}

fn response(reply: Reply) -> Response<ReplyBody> {
    let length = reply.body.len();
    let mut body = Bytes::from(reply.body);
    if let Some(cut) = reply.cut {
        body.truncate(cut.at_bytes);
    }
    let cut = body.len() < length;
    let pieces = reply.pace.pieces.map(|pieces| (pieces, Box::pin(tokio::time::sleep(pieces.every))));
    let mut response = Response::new(ReplyBody { length: length as u64, left: body, pieces, cut, flushed: false });
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    for (name, value) in reply.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}

/// A body that may drip, and may be cut: it announces all its bytes, sends some, and fails.
struct ReplyBody {
    length: u64,
    left: Bytes,
    /// Its pieces, and when the next one may go.
    pieces: Option<(Pieces, Pin<Box<Sleep>>)>,
    cut: bool,
    flushed: bool,
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let this = &mut *self;
        if !this.left.is_empty() {
            let mut length = this.left.len();
            if let Some((pieces, next)) = &mut this.pieces {
                ready!(next.as_mut().poll(cx));
                next.set(tokio::time::sleep(pieces.every));
                length = length.min(pieces.bytes.get());
            }
            return Poll::Ready(Some(Ok(Frame::data(this.left.split_to(length)))));
        }
        if !self.cut {
            return Poll::Ready(None);
        }
        // hyper flushes when a body has nothing ready; failing at once would take the bytes before the cut along.
        if !std::mem::replace(&mut self.flushed, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(std::io::Error::other("cut, as the CA was told to"))))
    }

    fn is_end_stream(&self) -> bool {
        !self.cut && self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}
