//! The certificates of a testbed: one root, an intermediate for devices, an intermediate for servers, and what they sign.

mod crl;
mod keep;

pub use crl::{CRL_VALID_S, LIST, REVOKED_MAX, Revoked, serial_in};
pub use keep::{FILE as KEPT_FILE, KeepError};

use device_core::secret::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, RootCertStore};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use time::OffsetDateTime;

/// Seconds in a day.
pub const DAY_S: i64 = 86_400;
/// How long before it is made a PKI is valid: a scenario's date may lie before the wall clock.
pub const BACK_DATED_S: i64 = 10 * 365 * DAY_S;
/// How long after it is made a PKI is valid: a scenario's date may lie after the wall clock.
pub const VALID_S: i64 = 25 * 365 * DAY_S;

/// The PKI could not make a key or a certificate: the testbed's fault.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A name is neither an IP address nor a host name that a certificate can carry.
    #[error("`{0}` is neither an IP address nor a host name a certificate can carry")]
    Name(String),
    /// The cryptography failed.
    #[error("making a key or a certificate: {0}")]
    Crypto(String),
}

impl From<rcgen::Error> for PkiError {
    fn from(error: rcgen::Error) -> Self {
        PkiError::Crypto(error.to_string())
    }
}

/// A certificate chain and its key, as files hold them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, then its intermediate; PEM.
    pub chain_pem: String,
    /// The private key; PKCS#8 PEM.
    pub key_pem: Secret,
}

/// What a server's certificate is to say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerSpec {
    /// DNS names and IP addresses, for subjectAltName; the first is the common name too.
    pub names: Vec<String>,
    /// Valid from, seconds since 1970; as long as the PKI when none.
    pub not_before: Option<i64>,
    /// Valid until, seconds since 1970; as long as the PKI when none.
    pub not_after: Option<i64>,
    /// What makes it unfit for a server.
    pub flaw: Option<ServerFlaw>,
}

/// What makes a certificate unfit for a server, though it is signed, in its time and for the right host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServerFlaw {
    /// No subjectAltName: the first name is the common name alone (RFC 9525 §6.3: not to be looked at).
    CommonNameOnly,
    /// extendedKeyUsage anyExtendedKeyUsage in place of serverAuth (CA/Browser Forum BR 7.1.2.7.10).
    AnyPurpose,
    /// It is a CA's: CA:TRUE, keyCertSign.
    Authority,
}

impl ServerSpec {
    /// A certificate for these names, valid as long as the PKI.
    pub fn new<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        ServerSpec { names: names.into_iter().map(Into::into).collect(), not_before: None, not_after: None, flaw: None }
    }
}

/// What an end-entity certificate says, before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Subject, the common name alone.
    pub common_name: String,
    /// subjectAltName.
    pub names: Vec<String>,
    /// Valid from, seconds since 1970.
    pub not_before: i64,
    /// Valid until, seconds since 1970.
    pub not_after: i64,
    /// extendedKeyUsage.
    pub purposes: Vec<ExtendedKeyUsagePurpose>,
    /// basicConstraints and keyUsage.
    pub role: Role,
}

/// Whether a certificate may sign certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// CA:FALSE, keyUsage digitalSignature.
    EndEntity,
    /// CA:TRUE, keyUsage digitalSignature and keyCertSign.
    Authority,
}

/// A signed certificate and the facts a tape tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The certificate, PEM.
    pub pem: String,
    /// Its serial number, hex.
    pub serial: String,
    /// What it says.
    pub draft: Draft,
}

/// A root, and the two intermediates that sign for it.
///
/// A device needs the root alone; servers and devices send their intermediate. The intermediates are bound to their purpose by
/// extendedKeyUsage, so that neither can issue for the other. All keys are P-256. One PKI may serve any number of trials.
#[derive(Debug)]
pub struct Pki {
    made_at: i64,
    serials: Serials,
    root: Authority,
    devices: Authority,
    servers: Authority,
    device_verifier: Arc<dyn ClientCertVerifier>,
}

/// Why a client certificate is not a device's of this PKI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadClient {
    /// Past its notAfter.
    #[error("the client certificate has expired")]
    Expired,
    /// Before its notBefore.
    #[error("the client certificate is not valid yet")]
    NotYetValid,
    /// Not issued for a client by this PKI.
    #[error("the client certificate is not one of this CA for a device")]
    NotOurs,
}

impl BadClient {
    /// The reason in a word, for the tape.
    pub fn outcome(self) -> &'static str {
        match self {
            BadClient::Expired => "client-certificate-expired",
            BadClient::NotYetValid => "client-certificate-not-yet-valid",
            BadClient::NotOurs => "client-certificate-unknown",
        }
    }
}

impl Pki {
    /// A new PKI made at this date of the wall clock (seconds since 1970), with a random part to its serial numbers.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn new(now: i64) -> Result<Pki, PkiError> {
        let mut prefix = [0; 8];
        fill_random(&mut prefix)?;
        Pki::with_serials(now, u64::from_be_bytes(prefix))
    }

    /// The same, with serial numbers made of `prefix` (its two lowest bits are not used) and a count from 1.
    ///
    /// # Errors
    /// When the system has no random numbers (keys are made from them).
    pub fn with_serials(now: i64, prefix: u64) -> Result<Pki, PkiError> {
        let serials = Serials { prefix: prefix >> 2 | 1 << 62, used: AtomicU64::new(0) };
        let tag = format!("{:08x}", prefix as u32);
        let root = Authority::root(now, &serials, &format!("Harness Root {tag}"))?;
        let devices = root.subordinate(now, &serials, &format!("Harness Devices {tag}"), ExtendedKeyUsagePurpose::ClientAuth)?;
        let servers = root.subordinate(now, &serials, &format!("Harness Servers {tag}"), ExtendedKeyUsagePurpose::ServerAuth)?;
        let device_verifier = verifier(&root.der)?;
        Ok(Pki { made_at: now, serials, root, devices, servers, device_verifier })
    }

    /// When it was made, seconds since 1970.
    pub fn made_at(&self) -> i64 {
        self.made_at
    }

    /// The root certificate, PEM: the one anchor of devices, taps and probes.
    pub fn root_pem(&self) -> &str {
        &self.root.pem
    }

    /// The intermediate that signs devices' certificates, PEM.
    pub fn device_intermediate_pem(&self) -> &str {
        &self.devices.pem
    }

    /// What a broker needs to verify devices' certificates, also from a device that sends no intermediate: root and intermediate, PEM.
    pub fn device_ca_pem(&self) -> String {
        format!("{}{}", self.root.pem, self.devices.pem)
    }

    /// The device a client certificate (and what was sent along) belongs to, if it is one of this PKI on this date.
    ///
    /// # Errors
    /// When it is not.
    pub fn device_of(&self, chain: &[CertificateDer<'_>], now: i64) -> Result<String, BadClient> {
        let (leaf, sent) = chain.split_first().ok_or(BadClient::NotOurs)?;
        // A device may leave its intermediate out: we know it.
        let mut intermediates: Vec<CertificateDer<'_>> = sent.to_vec();
        intermediates.push(self.devices.der.clone());
        let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap_or(0)));
        self.device_verifier.verify_client_cert(leaf, &intermediates, now).map_err(|error| match error {
            rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
                BadClient::Expired
            }
            rustls::Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
                BadClient::NotYetValid
            }
            _ => BadClient::NotOurs,
        })?;
        let (_, certificate) = x509_parser::parse_x509_certificate(leaf).map_err(|_| BadClient::NotOurs)?;
        let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        Ok(name.ok_or(BadClient::NotOurs)?.to_owned())
    }

    /// Verifies that a TLS client holds the key of the certificate it shows, and decides about that certificate as of the wall clock.
    pub(crate) fn device_verifier(&self) -> &Arc<dyn ClientCertVerifier> {
        &self.device_verifier
    }

    /// A server's identity: a new key and a certificate for serverAuth.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn server(&self, spec: &ServerSpec) -> Result<Identity, PkiError> {
        let draft = Draft {
            common_name: spec.names.first().cloned().unwrap_or_default(),
            names: if spec.flaw == Some(ServerFlaw::CommonNameOnly) { Vec::new() } else { spec.names.clone() },
            not_before: spec.not_before.unwrap_or(self.made_at.saturating_sub(BACK_DATED_S)),
            not_after: spec.not_after.unwrap_or(self.made_at.saturating_add(VALID_S)),
            purposes: vec![match spec.flaw {
                Some(ServerFlaw::AnyPurpose) => ExtendedKeyUsagePurpose::Any,
                _ => ExtendedKeyUsagePurpose::ServerAuth,
            }],
            role: if spec.flaw == Some(ServerFlaw::Authority) { Role::Authority } else { Role::EndEntity },
        };
        self.identity(&self.servers, &draft)
    }

    /// A client's identity, for taps, probes and devices that come with one: a new key and a certificate for clientAuth with this
    /// common name, valid as long as the PKI.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn client(&self, common_name: &str) -> Result<Identity, PkiError> {
        let draft = Draft {
            common_name: common_name.to_owned(),
            names: Vec::new(),
            not_before: self.made_at.saturating_sub(BACK_DATED_S),
            not_after: self.made_at.saturating_add(VALID_S),
            purposes: vec![ExtendedKeyUsagePurpose::ClientAuth],
            role: Role::EndEntity,
        };
        self.identity(&self.devices, &draft)
    }

    /// Signs a certificate for a device's key.
    ///
    /// # Errors
    /// When a name of the draft cannot stand in a certificate.
    pub fn sign_device(&self, draft: &Draft, key: &impl PublicKeyData) -> Result<Signed, PkiError> {
        self.devices.sign(draft, key, &self.serials)
    }

    fn identity(&self, authority: &Authority, draft: &Draft) -> Result<Identity, PkiError> {
        let key = KeyPair::generate()?;
        let signed = authority.sign(draft, &key, &self.serials)?;
        Ok(Identity { chain_pem: format!("{}{}", signed.pem, authority.pem), key_pem: Secret::new(key.serialize_pem()) })
    }
}

/// What decides whether a client's certificate is a device's below this root.
fn verifier(root: &CertificateDer<'static>) -> Result<Arc<dyn ClientCertVerifier>, PkiError> {
    let mut anchors = RootCertStore::empty();
    anchors.add(root.clone()).map_err(|error| PkiError::Crypto(error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let built = WebPkiClientVerifier::builder_with_provider(Arc::new(anchors), provider).allow_unauthenticated().build();
    built.map_err(|error| PkiError::Crypto(error.to_string()))
}

/// Fills `bytes` from the system's random numbers.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), PkiError> {
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(bytes)
        .map_err(|_| PkiError::Crypto("the system gives no random numbers".into()))
}

/// Serial numbers that are unique within a PKI, and as good as unique among PKIs (RFC 5280 §4.1.2.2: positive, at most 20 bytes).
#[derive(Debug)]
struct Serials {
    prefix: u64,
    used: AtomicU64,
}

impl Serials {
    fn next(&self) -> Vec<u8> {
        let count = self.used.fetch_add(1, Ordering::Relaxed) + 1;
        [self.prefix.to_be_bytes(), count.to_be_bytes()].concat()
    }
}

/// A certificate that signs.
struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Authority").field(&self.issuer).finish()
    }
}

impl Authority {
    fn root(now: i64, serials: &Serials, name: &str) -> Result<Authority, PkiError> {
        let key = KeyPair::generate()?;
        let params = authority_params(now, serials, name, BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key)?;
        Ok(Authority { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) })
    }

    fn subordinate(
        &self,
        now: i64,
        serials: &Serials,
        name: &str,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<Authority, PkiError> {
        let key = KeyPair::generate()?;
        let mut params = authority_params(now, serials, name, BasicConstraints::Constrained(0));
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Authority { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) })
    }

    fn sign(&self, draft: &Draft, key: &impl PublicKeyData, serials: &Serials) -> Result<Signed, PkiError> {
        let serial = serials.next();
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&draft.common_name);
        params.subject_alt_names = draft.names.iter().map(|name| alternative_name(name)).collect::<Result<_, _>>()?;
        params.not_before = date(draft.not_before);
        params.not_after = date(draft.not_after);
        params.extended_key_usages = draft.purposes.clone();
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.is_ca = match draft.role {
            Role::EndEntity => IsCa::ExplicitNoCa,
            Role::Authority => {
                params.key_usages.push(KeyUsagePurpose::KeyCertSign);
                IsCa::Ca(BasicConstraints::Unconstrained)
            }
        };
        params.serial_number = Some(serial.clone().into());
        let certificate = params.signed_by(key, &self.issuer)?;
        Ok(Signed { pem: certificate.pem(), serial: hex(&serial), draft: draft.clone() })
    }
}

fn authority_params(now: i64, serials: &Serials, name: &str, constraints: BasicConstraints) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.serial_number = Some(serials.next().into());
    params.not_before = date(now.saturating_sub(BACK_DATED_S));
    params.not_after = date(now.saturating_add(VALID_S));
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, DnValue::Utf8String(name.to_owned()));
    subject
}

fn alternative_name(name: &str) -> Result<SanType, PkiError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let is_host = !name.is_empty() && name.len() <= 253 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._*".contains(&b));
    match name.try_into() {
        Ok(host) if is_host => Ok(SanType::DnsName(host)),
        _ => Err(PkiError::Name(name.to_owned())),
    }
}

/// A date that X.509 can hold: whatever a scenario's clock says is kept between 1970 and the end of 9999.
pub(crate) fn date(unix: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(unix.clamp(0, 253_402_300_799)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
