//! TLS towards the CA and the broker: whom the device trusts, judged by the device's own clock, and why a handshake failed.
//!
//! A server's certificate is judged by RFC 5280 and RFC 9525 as webpki does, and by keyUsage (RFC 5280 §4.2.1.3) besides, which webpki
//! does not read. Resumption is off and no post-quantum group is offered, as on the ESP32.

use crate::net::{BoxStream, failure, io_failure};
use device_core::alert;
use device_core::config::TlsVersions;
use device_core::input::{NetFailure, NetFailureKind};
use device_core::output::{ClientIdentity, Trust};
use device_core::time::UnixTime;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, TrustAnchor, UnixTime as Date};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, InvalidMessage, OtherError, SignatureScheme,
    SupportedProtocolVersion,
};
use std::cell::Cell;
use std::fmt;
use std::io;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The one crypto provider, ring, shared by every connection; it never changes.
pub(crate) static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
/// The system's roots, read once: they are some hundred KiB, too many for each twin to have its own.
static SYSTEM_ROOTS: LazyLock<Arc<Anchors>> = LazyLock::new(|| {
    let found = rustls_native_certs::load_native_certs();
    Arc::new(Anchors::of(found.certs.into_iter()))
});

/// How long a server that was refused may take to hear why (wall clock).
pub const ALERT_LIMIT: Duration = Duration::from_millis(200);
/// How many bytes it may still send meanwhile.
const UNREAD_MAX: u64 = 1024 * 1024;

/// What one TLS connection of the twin is to be.
#[derive(Debug)]
pub struct Terms<'a> {
    /// Whom to trust.
    pub trust: &'a Trust,
    /// What to show.
    pub identity: Option<&'a ClientIdentity>,
    /// What to offer.
    pub versions: TlsVersions,
    /// The date by the device's clock; `None`: nobody has told it, and certificates are judged as of 1970.
    pub date: Option<UnixTime>,
}

impl Terms<'_> {
    /// The client these terms make. Nothing is sent.
    ///
    /// # Errors
    /// `BadIdentity`: the certificate or key shown cannot be used. `UnknownIssuer`: there is no anchor to trust.
    pub fn client(&self) -> Result<Arc<ClientConfig>, NetFailure> {
        self.client_by(Arc::new(DeviceDate::new(self.date)))
    }

    /// The client these terms make, with this clock.
    fn client_by(&self, clock: Arc<DeviceDate>) -> Result<Arc<ClientConfig>, NetFailure> {
        let verifier: Arc<dyn ServerCertVerifier> = match self.trust {
            Trust::Anybody => Arc::new(Anybody),
            Trust::System if SYSTEM_ROOTS.usable.is_empty() => {
                return Err(failure(NetFailureKind::UnknownIssuer, "the system has no trust anchors"));
            }
            Trust::System => Arc::new(Judge { anchors: SYSTEM_ROOTS.clone() }),
            Trust::Anchors(pem) => Arc::new(Judge { anchors: Arc::new(Anchors::from_pem(pem)?) }),
        };
        let versions: &[&SupportedProtocolVersion] = match self.versions {
            TlsVersions::Both => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersions::Only12 => &[&rustls::version::TLS12],
            TlsVersions::Only13 => &[&rustls::version::TLS13],
        };
        let builder = ClientConfig::builder_with_details(PROVIDER.clone(), clock)
            .with_protocol_versions(versions)
            .map_err(|e| failure(NetFailureKind::Tls, e.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let bad = |what: &str, e: &dyn fmt::Display| failure(NetFailureKind::BadIdentity, format!("own {what}: {e}"));
                let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes())
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|e| bad("certificate", &e))?;
                if chain.is_empty() {
                    return Err(bad("certificate", &"no PEM certificate in it"));
                }
                let key = PrivateKeyDer::from_pem_slice(identity.key.expose().as_bytes())
                    .map_err(|_| bad("key", &"no PEM private key in it"))?;
                builder.with_client_auth_cert(chain, key).map_err(|e| bad("certificate or key", &e))?
            }
        };
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// SHA-256 over all of the terms but the date, each part behind its length.
    fn digest(&self) -> [u8; 32] {
        let (kind, anchors) = match self.trust {
            Trust::Anybody => (0, ""),
            Trust::System => (1, ""),
            Trust::Anchors(pem) => (2, pem.as_str()),
        };
        let versions = match self.versions {
            TlsVersions::Both => 0,
            TlsVersions::Only12 => 1,
            TlsVersions::Only13 => 2,
        };
        let identity = self.identity.map(|i| [i.certificate.as_str(), i.key.expose()]);
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        hash.update(&[kind, versions, u8::from(identity.is_some())]);
        for part in [anchors].into_iter().chain(identity.into_iter().flatten()) {
            hash.update(&part.len().to_le_bytes());
            hash.update(part.as_bytes());
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(hash.finish().as_ref());
        digest
    }
}

/// The client of the last connection, for a device that connects again by the same terms: reading certificates and key is a tenth of what a
/// connection costs it. It costs no memory while that connection is open.
#[derive(Clone, Default)]
pub struct LastClient(Arc<Mutex<Option<Known>>>);

struct Known {
    digest: [u8; 32],
    clock: Arc<DeviceDate>,
    client: Arc<ClientConfig>,
}

impl LastClient {
    /// The client these terms make, by their date.
    ///
    /// # Errors
    /// As [`Terms::client`]; the last client is kept.
    pub fn client(&self, terms: &Terms<'_>) -> Result<Arc<ClientConfig>, NetFailure> {
        let digest = terms.digest();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = last.as_ref().filter(|known| known.digest == digest) {
            known.clock.set(terms.date);
            return Ok(known.client.clone());
        }
        let clock = Arc::new(DeviceDate::new(terms.date));
        let client = terms.client_by(clock.clone())?;
        *last = Some(Known { digest, clock, client: client.clone() });
        Ok(client)
    }
}

impl fmt::Debug for LastClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LastClient")
    }
}

/// Does the handshake with `host` over this stream, before `by`.
///
/// # Errors
/// The certificate's fault, the peer's alert, the stream's failure, or the time limit. A TLS 1.3 server judges the client's certificate
/// later: that refusal comes from the first read, and [`stream_failure`] names it.
pub(crate) async fn handshake(
    stream: BoxStream,
    host: &str,
    client: Arc<ClientConfig>,
    by: Instant,
) -> Result<BoxStream, NetFailure> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| failure(NetFailureKind::WrongName, format!("{host} is no name a certificate can carry")))?;
    match timeout_at(by, tokio_rustls::TlsConnector::from(client).connect(name, stream).into_fallible()).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err((e, stream))) => {
            // The alert is not to be overtaken by the reset that closing over unread bytes would be.
            let _ = timeout(ALERT_LIMIT, hang_up(stream)).await;
            Err(stream_failure(&e, "TLS handshake"))
        }
        Err(_) => Err(failure(NetFailureKind::TimedOut, "TLS handshake: no answer in time")),
    }
}

/// Says that nothing more comes, and takes what still comes, as far as it matters to nobody.
async fn hang_up(mut stream: BoxStream) -> io::Result<u64> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(UNREAD_MAX), &mut tokio::io::sink()).await
}

/// The failure that an I/O error of a stream (with or without TLS) stands for; `what` was being done.
pub(crate) fn stream_failure(e: &io::Error, what: &str) -> NetFailure {
    match e.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(e) => tls_failure(e),
        None => io_failure(e, what),
    }
}

fn tls_failure(e: &Error) -> NetFailure {
    match e {
        Error::InvalidCertificate(e) => certificate_failure(e),
        Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            failure(NetFailureKind::Tls, "no common TLS version (alert protocol_version)")
        }
        Error::PeerIncompatible(e) => failure(NetFailureKind::Tls, format!("no common TLS version or algorithm: {e:?}")),
        Error::AlertReceived(alert) => failure(NetFailureKind::Alert, format!("the server sent alert {}", alert_name(*alert))),
        Error::NoCertificatesPresented => failure(NetFailureKind::BadCertificate, "the server shows no certificate"),
        Error::InvalidMessage(InvalidMessage::CertificatePayloadTooLarge | InvalidMessage::HandshakePayloadTooLarge) => {
            failure(NetFailureKind::TooLarge, "the server's certificates are too large")
        }
        Error::InvalidMessage(e) => failure(NetFailureKind::Tls, format!("not TLS, or broken TLS: {e:?}")),
        e => failure(NetFailureKind::Tls, e.to_string()),
    }
}

fn certificate_failure(e: &CertificateError) -> NetFailure {
    use CertificateError as E;
    let kind = match e {
        E::Expired | E::ExpiredContext { .. } => NetFailureKind::CertificateExpired,
        E::NotValidYet | E::NotValidYetContext { .. } => NetFailureKind::CertificateNotYetValid,
        E::UnknownIssuer => NetFailureKind::UnknownIssuer,
        E::NotValidForName | E::NotValidForNameContext { .. } => NetFailureKind::WrongName,
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => NetFailureKind::WrongUsage,
        E::Other(OtherError(inner)) => match (inner.downcast_ref::<WrongUsage>(), inner.downcast_ref::<webpki::Error>()) {
            (Some(_), _) => NetFailureKind::WrongUsage,
            (_, Some(webpki::Error::CaUsedAsEndEntity | webpki::Error::EndEntityUsedAsCa)) => NetFailureKind::WrongUsage,
            _ => NetFailureKind::BadCertificate,
        },
        _ => NetFailureKind::BadCertificate,
    };
    let text = match e {
        E::ExpiredContext { time, not_after } => {
            format!("the server's certificate expired at {} and it is {}", date(*not_after), date(*time))
        }
        E::NotValidYetContext { time, not_before } => {
            format!("the server's certificate is valid from {} and it is {}", date(*not_before), date(*time))
        }
        E::NotValidForNameContext { expected, presented } if presented.is_empty() => {
            format!("the server's certificate has no subjectAltName that could be {}", expected.to_str())
        }
        E::NotValidForNameContext { expected, presented } => {
            format!("the server's certificate is for {} and not for {}", presented.join(", "), expected.to_str())
        }
        E::UnknownIssuer => "no path from the server's certificate to a trust anchor".to_owned(),
        E::Other(OtherError(inner)) => match inner.downcast_ref::<webpki::Error>() {
            Some(
                webpki::Error::UnsupportedSignatureAlgorithmContext(_)
                | webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_),
            ) => "the server's certificate is signed with an algorithm that is not accepted".to_owned(),
            _ => format!("the server's certificate: {inner}"),
        },
        e => format!("the server's certificate: {e}"),
    };
    failure(kind, text)
}

fn date(date: Date) -> UnixTime {
    UnixTime(i64::try_from(date.as_secs()).unwrap_or(i64::MAX))
}

/// The alert's name, or its number.
fn alert_name(alert: AlertDescription) -> String {
    let number = u8::from(alert);
    alert::name(number).map_or_else(|| format!("number {number}"), str::to_owned)
}

/// The date by the device's clock, going on from when the connection was begun.
#[derive(Debug)]
struct DeviceDate(Mutex<(Instant, u64)>);

impl DeviceDate {
    fn new(date: Option<UnixTime>) -> Self {
        DeviceDate(Mutex::new(Self::begun(date)))
    }

    /// Another connection begins, at this date.
    fn set(&self, date: Option<UnixTime>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Self::begun(date);
    }

    fn begun(date: Option<UnixTime>) -> (Instant, u64) {
        (Instant::now(), date.and_then(|d| u64::try_from(d.0).ok()).unwrap_or(0))
    }
}

impl rustls::time_provider::TimeProvider for DeviceDate {
    fn current_time(&self) -> Option<Date> {
        let (begun, date) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Date::since_unix_epoch(Duration::from_secs(date.saturating_add(begun.elapsed().as_secs()))))
    }
}

/// Trust anchors, and which of them may not sign certificates by their own keyUsage.
#[derive(Debug, Default)]
struct Anchors {
    usable: Vec<TrustAnchor<'static>>,
    /// Public keys (SPKI) of anchors whose keyUsage lacks keyCertSign.
    no_signers: Vec<Vec<u8>>,
}

impl Anchors {
    fn of(certificates: impl Iterator<Item = CertificateDer<'static>>) -> Anchors {
        let mut anchors = Anchors::default();
        for certificate in certificates {
            let Ok(anchor) = webpki::anchor_from_trusted_cert(&certificate) else { continue };
            if !may(&certificate, Purpose::SignCertificates) {
                anchors.no_signers.push(anchor.subject_public_key_info.to_vec());
            }
            anchors.usable.push(anchor.to_owned());
        }
        anchors
    }

    fn from_pem(pem: &str) -> Result<Anchors, NetFailure> {
        let read = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        let certificates =
            read.map_err(|e| failure(NetFailureKind::UnknownIssuer, format!("the trust anchors are not PEM: {e}")))?;
        let anchors = Anchors::of(certificates.into_iter());
        match anchors.usable.is_empty() {
            true => Err(failure(NetFailureKind::UnknownIssuer, "no usable certificate among the trust anchors")),
            false => Ok(anchors),
        }
    }
}

/// What a certificate's key is used for here.
#[derive(Clone, Copy, PartialEq)]
enum Purpose {
    /// The server signs the handshake with it (every suite rustls offers is ephemeral).
    SignHandshakes,
    /// It has signed another certificate of the path.
    SignCertificates,
}

/// Whether the certificate's keyUsage, if it has one, allows this. Unreadable counts as no.
fn may(certificate: &[u8], purpose: Purpose) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    match certificate.key_usage() {
        Ok(None) => true,
        Ok(Some(usage)) if purpose == Purpose::SignHandshakes => usage.value.digital_signature(),
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        Err(_) => false,
    }
}

/// keyUsage forbids what the certificate is used for.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum WrongUsage {
    #[error("its keyUsage lacks digitalSignature")]
    Leaf,
    #[error("its issuer's keyUsage lacks keyCertSign")]
    Issuer,
}

/// Verifies servers: path, dates, purpose, keyUsage, name.
#[derive(Debug)]
struct Judge {
    anchors: Arc<Anchors>,
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: Date,
    ) -> Result<ServerCertVerified, Error> {
        let leaf = EndEntityCert::try_from(end_entity).map_err(certificate_error)?;
        let misused = Cell::new(None);
        let check = |path: &webpki::VerifiedPath<'_>| {
            let issuers_may = path.intermediate_certificates().all(|c| may(&c.der(), Purpose::SignCertificates))
                && !self.anchors.no_signers.iter().any(|spki| spki[..] == path.anchor().subject_public_key_info[..]);
            if !may(end_entity, Purpose::SignHandshakes) {
                misused.set(Some(WrongUsage::Leaf));
            } else if !issuers_may {
                misused.set(Some(WrongUsage::Issuer));
            } else {
                return Ok(());
            }
            // webpki goes on to look for another path.
            Err(webpki::Error::UnknownIssuer)
        };
        leaf.verify_for_usage(
            PROVIDER.signature_verification_algorithms.all,
            &self.anchors.usable,
            intermediates,
            now,
            KeyUsage::server_auth(),
            None,
            Some(&check),
        )
        .map_err(|e| match misused.get() {
            Some(usage) => CertificateError::Other(OtherError(Arc::new(usage))),
            None => certificate_error(e),
        })?;
        leaf.verify_is_valid_for_subject_name(name).map_err(certificate_error)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        s: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(m, c, s, &PROVIDER.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        s: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(m, c, s, &PROVIDER.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

/// The words rustls has for webpki's verdicts; they choose the alert that the server is sent.
fn certificate_error(e: webpki::Error) -> CertificateError {
    use webpki::Error as E;
    match e {
        E::BadDer | E::BadDerTime | E::TrailingData(_) => CertificateError::BadEncoding,
        E::CertNotValidYet { time, not_before } => CertificateError::NotValidYetContext { time, not_before },
        E::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        E::InvalidCertValidity => CertificateError::Expired,
        E::UnknownIssuer => CertificateError::UnknownIssuer,
        E::CertNotValidForName(c) => CertificateError::NotValidForNameContext { expected: c.expected, presented: c.presented },
        E::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => CertificateError::InvalidPurpose,
        e => CertificateError::Other(OtherError(Arc::new(e))),
    }
}

/// Trusts whoever holds the key of whatever certificate is shown (`MQTT_TLS_INSECURE`).
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: Date,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        s: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(m, c, s, &PROVIDER.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        s: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(m, c, s, &PROVIDER.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use device_core::secret::Secret;

    #[test]
    fn alerts_have_the_names_of_the_rfc() {
        for (alert, name) in [
            (AlertDescription::CertificateRequired, "certificate_required"),
            (AlertDescription::UnknownCA, "unknown_ca"),
            (AlertDescription::UnknownPSKIdentity, "unknown_psk_identity"),
            (AlertDescription::BadRecordMac, "bad_record_mac"),
            (AlertDescription::Unknown(99), "number 99"),
        ] {
            assert_eq!(alert_name(alert), name);
        }
    }

    #[test]
    fn no_post_quantum_group_is_offered() {
        assert!(PROVIDER.kx_groups.iter().all(|g| format!("{:?}", g.name()).to_ascii_lowercase().find("mlkem").is_none()));
    }

    #[tokio::test]
    async fn a_server_that_is_refused_may_finish_and_hears_the_alert() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let server = tokio::spawn(async move {
            theirs.write_all(&[0x55; 100_000]).await?;
            let mut heard = Vec::new();
            theirs.read_to_end(&mut heard).await?;
            Ok::<_, io::Error>(heard)
        });
        let terms = Terms { trust: &Trust::Anybody, identity: None, versions: TlsVersions::Both, date: None };
        let by = Instant::now() + Duration::from_secs(5);
        let e = handshake(Box::new(ours), "localhost", terms.client().unwrap(), by).await.err().unwrap();
        assert_eq!(e.kind, NetFailureKind::Tls, "{}", e.text);
        let heard = server.await.unwrap().expect("what the server had to say was taken");
        // The record of an alert, fatal.
        assert_eq!(heard[heard.len() - 7..heard.len() - 1], [0x15, 3, 3, 0, 2, 2], "{heard:?}");
    }

    #[test]
    fn a_client_is_made_again_when_anything_but_the_date_differs() {
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        let other = rcgen::KeyPair::generate().unwrap();
        let (one, two) = (Trust::Anchors(pem.clone()), Trust::Anchors(format!("{pem}{pem}")));
        let identity = |key: &rcgen::KeyPair| ClientIdentity { certificate: pem.clone(), key: Secret::new(key.serialize_pem()) };
        let (mine, theirs) = (identity(&key), identity(&other));
        let at = |date| Terms { trust: &one, identity: Some(&mine), versions: TlsVersions::Both, date: Some(UnixTime(date)) };
        let last = LastClient::default();
        let first = last.client(&at(5)).unwrap();
        let again = last.client(&at(1_000_000)).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        assert!(again.time_provider.current_time().unwrap().as_secs() >= 1_000_000, "the new date counts");
        for different in [
            Terms { trust: &two, ..at(5) },
            Terms { trust: &Trust::Anybody, ..at(5) },
            Terms { identity: None, ..at(5) },
            Terms { versions: TlsVersions::Only12, ..at(5) },
        ] {
            let before = last.client(&at(5)).unwrap();
            assert!(!Arc::ptr_eq(&before, &last.client(&different).unwrap()), "{different:?}");
        }
        assert!(last.client(&Terms { identity: Some(&theirs), ..at(5) }).is_err(), "a key that does not fit is looked at");
    }

    #[test]
    fn anchors_that_are_none_are_refused() {
        for pem in ["", "rubbish", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert_eq!(Anchors::from_pem(pem).unwrap_err().kind, NetFailureKind::UnknownIssuer, "{pem}");
        }
    }
}
