//! Enrolment's two errands: making a key and a CSR, and one HTTPS exchange with the CA.

use crate::net::{Net, failure, limit};
use crate::tls::{Terms, handshake, stream_failure};
use bytes::Bytes;
use device_core::enrollment::{Algorithm, REPLY_LIMIT, Signatures};
use device_core::input::{NetFailure, NetFailureKind};
use device_core::output::{CONNECT_LIMIT, Post};
use device_core::secret::Secret;
use device_core::time::UnixTime;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::error::Error as _;
use std::io;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The bytes of the largest head of an answer.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long after the system had no random numbers for a key it is asked again.
const KEY_AGAIN: Duration = Duration::from_secs(1);

/// A key (the one given, or a new one on P-256 in PKCS#8 PEM) and the CSR (PEM) that it signed, with CN = device id and nothing else asked for.
///
/// # Errors
/// The given key cannot be used; one line, no part of the key in it.
pub(crate) async fn make_csr(device_id: &str, given: Option<&Secret>) -> Result<(Secret, String), String> {
    let key = match given {
        Some(pem) => read_key(pem.expose()).ok_or("the device's key cannot be read")?,
        None => loop {
            match KeyPair::generate() {
                Ok(key) => break key,
                Err(_) => sleep(KEY_AGAIN).await,
            }
        },
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, device_id);
    let csr = params.serialize_request(&key).and_then(|csr| csr.pem()).map_err(|e| format!("could not make a CSR: {e}"))?;
    Ok((given.cloned().unwrap_or_else(|| Secret::new(key.serialize_pem())), csr))
}

/// Reads PKCS#8, or SEC1 (`EC PRIVATE KEY`) of P-256.
fn read_key(pem: &str) -> Option<KeyPair> {
    match PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()? {
        PrivateKeyDer::Pkcs8(key) => KeyPair::try_from(&key).ok(),
        PrivateKeyDer::Sec1(key) => {
            // RFC 5958 around RFC 5915: version 0, id-ecPublicKey with prime256v1, the key in an octet string.
            const ALGORITHM: [u8; 24] = [
                0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
                0xce, 0x3d, 0x03, 0x01, 0x07,
            ];
            let inner = key.secret_sec1_der();
            let mut body = ALGORITHM.to_vec();
            wrap(0x04, inner, &mut body)?;
            let mut der = Vec::new();
            wrap(0x30, &body, &mut der)?;
            KeyPair::try_from(&PrivatePkcs8KeyDer::from(der)).ok()
        }
        _ => None,
    }
}

/// Appends one DER value of at most 65,535 bytes.
fn wrap(tag: u8, content: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let [high, low] = u16::try_from(content.len()).ok()?.to_be_bytes();
    out.push(tag);
    match (high, low) {
        (0, 0..=0x7f) => out.push(low),
        (0, _) => out.extend([0x81, low]),
        _ => out.extend([0x82, high, low]),
    }
    out.extend(content);
    Some(())
}

/// What the CA said: status and body.
pub(crate) type Reply = (u16, Vec<u8>);

/// Posts to the CA. Nothing of the request leaves before the server is verified; a redirect is an answer like any other.
///
/// # Errors
/// No whole answer came `within` this time, or it was over `REPLY_LIMIT` bytes.
pub(crate) async fn post(net: Net, post: Box<Post>, date: Option<UnixTime>, within: Duration) -> Result<Reply, NetFailure> {
    match timeout(within, exchange(net, &post, date)).await {
        Ok(result) => result,
        Err(_) => Err(failure(NetFailureKind::TimedOut, format!("no whole answer from the CA within {} ms", within.as_millis()))),
    }
}

async fn exchange(net: Net, post: &Post, date: Option<UnixTime>) -> Result<Reply, NetFailure> {
    let wrong_url = || failure(NetFailureKind::NoSuchHost, format!("{} is not of the form https://host[:port]/path", post.url));
    let url: Uri = post.url.parse().map_err(|_| wrong_url())?;
    let (Some("https"), Some(authority)) = (url.scheme_str(), url.authority()) else { return Err(wrong_url()) };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let path = url.path_and_query().map_or("/", |p| p.as_str());
    let mut request = Request::post(path)
        .header(HOST, authority.as_str())
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json")
        .header(CONNECTION, "close")
        .body(Full::new(Bytes::from(post.body.clone())))
        .map_err(|_| wrong_url())?;
    if let Some(bearer) = &post.bearer {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", bearer.expose()))
            .map_err(|_| failure(NetFailureKind::BadIdentity, "the provisioning token cannot be sent in a header"))?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let by = limit(CONNECT_LIMIT);
    let client = Terms { trust: &post.trust, identity: post.identity.as_ref(), versions: post.tls_versions, date }.client()?;
    let stream = net.connect(host, authority.port_u16().unwrap_or(443), by).await?;
    let stream = handshake(stream, host, client, by).await?;

    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| http_failure(&e))?;
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(async {
        let reply = sender.send_request(request).await.map_err(|e| http_failure(&e))?;
        let status = reply.status().as_u16();
        Ok((status, read_reply(reply.into_body()).await?))
    });
    tokio::select! {
        reply = &mut answer => reply,
        // The connection may end before its last bytes have been taken out; its failure comes out of the answer too.
        _ = &mut connection => answer.await,
    }
}

async fn read_reply(mut body: Incoming) -> Result<Vec<u8>, NetFailure> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame.map_err(|e| http_failure(&e))?.data_ref() {
            if read.len() + data.len() > REPLY_LIMIT {
                return Err(failure(NetFailureKind::TooLarge, format!("the CA's answer is over {REPLY_LIMIT} bytes")));
            }
            read.extend_from_slice(data);
        }
    }
    Ok(read)
}

fn http_failure(e: &hyper::Error) -> NetFailure {
    let mut source = e.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return stream_failure(io, "exchange with the CA");
        }
        source = cause.source();
    }
    if e.is_incomplete_message() {
        return failure(NetFailureKind::Reset, "the CA's answer ended in the middle");
    }
    failure(NetFailureKind::BadReply, format!("the CA's answer is not HTTP: {e}"))
}

/// Checks signatures on certificates with the arithmetic that TLS uses.
#[derive(Debug)]
pub(crate) struct RingSignatures;

impl Signatures for RingSignatures {
    fn verify(&self, algorithm: Algorithm, public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
        use webpki::ring as by;
        let algorithm = match algorithm {
            Algorithm::EcdsaP256Sha256 => by::ECDSA_P256_SHA256,
            Algorithm::EcdsaP256Sha384 => by::ECDSA_P256_SHA384,
            Algorithm::EcdsaP384Sha256 => by::ECDSA_P384_SHA256,
            Algorithm::EcdsaP384Sha384 => by::ECDSA_P384_SHA384,
            Algorithm::RsaPkcs1Sha256 => by::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::RsaPkcs1Sha384 => by::RSA_PKCS1_2048_8192_SHA384,
            Algorithm::RsaPkcs1Sha512 => by::RSA_PKCS1_2048_8192_SHA512,
            Algorithm::Ed25519 => by::ED25519,
        };
        algorithm.verify_signature(public_key, message, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{PublicKeyData as _, SigningKey as _};
    use x509_parser::prelude::FromDer as _;

    /// `openssl ecparam -name prime256v1 -genkey -noout`, made for this test.
    const SEC1: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIH9oX4PyHiRfcRvUAdLLV/PsNR8bT+4RFSVUKx3nDU/8oAoGCCqGSM49
AwEHoUQDQgAE3fGw9FigFECXPfcItNQEeUYS77N2jhZwkhQ9i1GUCJasQ/dnfLyz
j8xY4EaHXT4BYsZUtlGXpGyynNKLzEVz/g==
-----END EC PRIVATE KEY-----
";

    #[tokio::test]
    async fn the_csr_carries_the_name_and_the_key_and_asks_for_nothing() {
        let (key, csr) = make_csr("device_0070", None).await.unwrap();
        let der = pem(&csr);
        let (_, parsed) = x509_parser::certification_request::X509CertificationRequest::from_der(&der).unwrap();
        let info = &parsed.certification_request_info;
        assert_eq!(info.subject.to_string(), "CN=device_0070");
        assert_eq!(parsed.requested_extensions().map_or(0, Iterator::count), 0);
        let key = KeyPair::from_pem(key.expose()).unwrap();
        assert_eq!(info.subject_pki.raw, key.subject_public_key_info());
        assert!(RingSignatures.verify(
            Algorithm::EcdsaP256Sha256,
            &info.subject_pki.subject_public_key.data,
            info.raw,
            &parsed.signature_value.data
        ));
    }

    #[tokio::test]
    async fn a_given_key_is_used_and_rubbish_refused_without_showing_it() {
        let (key, first) = make_csr("a", None).await.unwrap();
        let (again, second) = make_csr("a", Some(&key)).await.unwrap();
        assert_eq!(again, key);
        let spki = |csr: &str| {
            let der = pem(csr);
            let (_, parsed) = x509_parser::certification_request::X509CertificationRequest::from_der(&der).unwrap();
            parsed.certification_request_info.subject_pki.raw.to_vec()
        };
        assert_eq!(spki(&first), spki(&second));
        let e = make_csr("a", Some(&Secret::new("hush-hush"))).await.unwrap_err();
        assert!(!e.contains("hush"), "{e}");
        let (sec1, _) = make_csr("a", Some(&Secret::new(SEC1))).await.unwrap();
        assert_eq!(sec1.expose(), SEC1);
    }

    #[test]
    fn signatures_of_others_do_not_verify() {
        let (ours, theirs) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let signature = ours.sign(b"message").unwrap();
        let verify = |key: &KeyPair, m: &[u8]| RingSignatures.verify(Algorithm::EcdsaP256Sha256, key.der_bytes(), m, &signature);
        assert!(verify(&ours, b"message"));
        assert!(!verify(&theirs, b"message"));
        assert!(!verify(&ours, b"massage"));
        assert!(!RingSignatures.verify(Algorithm::Ed25519, ours.der_bytes(), b"message", &signature));
    }

    fn pem(text: &str) -> Vec<u8> {
        rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(text.as_bytes()).unwrap().to_vec()
    }
}
