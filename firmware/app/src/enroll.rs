//! Enrolment's errands: making a key and a CSR, and one HTTPS exchange with the CA.

use crate::clock::ticks;
use crate::net::{Buffers, Stream, failure, host_and_port};
use crate::reply::{self, Unreadable};
use crate::rng::BoardRng;
use crate::tls::{Library, Terms, handshake, session_failure};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::str::FromStr as _;
use device_core::enrollment::REPLY_LIMIT;
use device_core::input::{NetFailure, NetFailureKind};
use device_core::output::{CONNECT_LIMIT, POST_LIMIT, Post};
use device_core::secret::Secret;
use device_core::time::UnixTime;
use embassy_net::Stack;
use embassy_time::{Instant, with_timeout};
use embedded_io_async::{Read, Write};
use mbedtls_rs::SessionError;
use p256::SecretKey;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::Generate as _;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use x509_cert::Certificate;
use x509_cert::builder::{Builder as _, RequestBuilder};
use x509_cert::der::{Encode as _, EncodePem as _};
use x509_cert::name::Name;

/// A key (the one given, or a new one on P-256 in PKCS#8 PEM) and the CSR (PEM) that it signed, with CN = device id and nothing else asked for.
///
/// # Errors
/// The given key cannot be used; one line, no part of the key in it.
pub(crate) fn make_csr(mut rng: BoardRng, device_id: &str, given: Option<&Secret>) -> Result<(Secret, String), String> {
    let key = match given {
        Some(pem) => read_key(pem.expose()).ok_or("the device's key cannot be read")?,
        None => SecretKey::generate_from_rng(&mut rng),
    };
    let could_not = "could not make a CSR";
    let pem = match given {
        Some(pem) => pem.clone(),
        None => Secret::new(key.to_pkcs8_pem(LineEnding::LF).map_err(|_| could_not)?.as_str()),
    };
    let name = Name::from_str(&format!("CN={device_id}")).map_err(|_| could_not)?;
    let builder = RequestBuilder::new(name).map_err(|_| could_not)?;
    let csr = builder.build::<_, DerSignature>(&SigningKey::from(&key)).map_err(|_| could_not)?;
    Ok((pem, csr.to_pem(LineEnding::LF).map_err(|_| could_not)?))
}

/// Reads PKCS#8, or SEC1 (`EC PRIVATE KEY`), of P-256.
fn read_key(pem: &str) -> Option<SecretKey> {
    SecretKey::from_pkcs8_pem(pem).or_else(|_| SecretKey::from_sec1_pem(pem)).ok()
}

/// Whether the first certificate of this PEM text carries the key. A key that is not on P-256 is given the benefit of the doubt: the
/// server will see.
pub(crate) fn belong_together(certificate: &str, key: &str) -> bool {
    let Some(key) = read_key(key) else { return true };
    let Ok(certificate) = Certificate::load_pem_chain(certificate.as_bytes()) else { return false };
    let carried = certificate.first().and_then(|c| c.tbs_certificate().subject_public_key_info().to_der().ok());
    let own = key.public_key().to_public_key_der().ok();
    carried.zip(own).is_some_and(|(carried, own)| carried == own.as_bytes())
}

/// What the CA said: status and body.
pub(crate) type Reply = (u16, Vec<u8>);

/// Posts to the CA. Nothing of the request leaves before the server is verified; a redirect is an answer like any other.
///
/// # Errors
/// No whole answer came within `POST_LIMIT`, or it was over `REPLY_LIMIT` bytes.
pub(crate) async fn post(
    stack: Stack<'static>,
    library: Library,
    post: Box<Post>,
    date: Option<UnixTime>,
) -> Result<Reply, NetFailure> {
    let mut buffers = Buffers::new();
    let limit = library.limit(POST_LIMIT);
    match with_timeout(ticks(limit), exchange(stack, library, &post, date, &mut buffers)).await {
        Ok(result) => result,
        Err(_) => Err(failure(NetFailureKind::TimedOut, format!("no whole answer from the CA within {} ms", limit.as_millis()))),
    }
}

async fn exchange(
    stack: Stack<'static>,
    library: Library,
    post: &Post,
    date: Option<UnixTime>,
    buffers: &mut Buffers,
) -> Result<Reply, NetFailure> {
    let wrong_url = || failure(NetFailureKind::NoSuchHost, format!("{} is not of the form https://host[:port]/path", post.url));
    let rest = post.url.strip_prefix("https://").ok_or_else(wrong_url)?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let (host, port) = host_and_port(authority, 443).ok_or_else(wrong_url)?;
    let by = Instant::now() + ticks(library.limit(CONNECT_LIMIT));
    let client = Terms { trust: &post.trust, identity: post.identity.as_ref(), versions: post.tls_versions, date }.client()?;
    let mut stream = Stream::connect(stack, buffers, host, port, by).await?;
    let answer = match handshake(library, &mut stream, host, client, by).await {
        Ok(mut session) => {
            let answer = ask(&mut session, authority, path, post).await;
            // The answer is whole, or worthless; whether the server hears the end is its own affair.
            let _ = with_timeout(ticks(crate::tls::ALERT_LIMIT), session.close()).await;
            answer
        }
        Err(why) => Err(why),
    };
    stream.close().await;
    answer
}

async fn ask(
    session: &mut (impl Read<Error = SessionError> + Write<Error = SessionError>),
    authority: &str,
    path: &str,
    post: &Post,
) -> Result<Reply, NetFailure> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\naccept: application/json\r\nconnection: close\r\ncontent-length: {}\r\n",
        post.body.len()
    );
    if let Some(bearer) = &post.bearer {
        request += &format!("authorization: Bearer {}\r\n", bearer.expose());
    }
    request += "\r\n";
    // A server that refuses what it hears says so in its answer, or in an alert, which is worth more than the failed write.
    request += &post.body;
    if session.write_all(request.as_bytes()).await.is_ok() {
        let _ = session.flush().await;
    }
    drop(request);
    reply::read(session, REPLY_LIMIT).await.map_err(|e| match e {
        Unreadable::Stream(e) => session_failure(&e, 0, "exchange with the CA"),
        Unreadable::Ended => failure(NetFailureKind::Reset, "the CA's answer ended in the middle"),
        Unreadable::NotHttp(why) => failure(NetFailureKind::BadReply, format!("the CA's answer is not HTTP: {why}")),
        Unreadable::TooLarge => failure(NetFailureKind::TooLarge, format!("the CA's answer is over {REPLY_LIMIT} bytes")),
    })
}
