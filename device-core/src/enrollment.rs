//! Enrolment: the request to the CA, its reply, and everything that is checked before a certificate is stored (RFC 5280, section 6).
//!
//! The certificate must carry the device's own key and name, may be used by a client, is valid now, and leads over its intermediates, in
//! order, to one of the anchors that came with it. Signature arithmetic is the shell's ([`Signatures`]). A critical extension that is not
//! understood here, name constraints among them, is refused.

use crate::time::UnixTime;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::json;
use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, DecodePem, Reader, SliceReader, Tag, Tagged};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};
use x509_cert::request::CertReq;
use x509_cert::spki::AlgorithmIdentifierOwned;

/// The longest reply read, in bytes: a device's heap must hold it, its texts and the set made of them, beside two TLS connections.
pub const REPLY_LIMIT: usize = 16 * 1024;
/// The most certificates in a chain: the device's own and its intermediates.
pub const CHAIN_MAX: usize = 6;
/// The most anchors in `ca_certificate`.
pub const ANCHORS_MAX: usize = 8;

/// A signature algorithm with the kind of key it goes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256; the key is an uncompressed point, the signature is DER.
    EcdsaP256Sha256,
    /// ECDSA on P-256 with SHA-384.
    EcdsaP256Sha384,
    /// ECDSA on P-384 with SHA-256.
    EcdsaP384Sha256,
    /// ECDSA on P-384 with SHA-384.
    EcdsaP384Sha384,
    /// RSASSA-PKCS1-v1_5 with SHA-256; the key is a DER `RSAPublicKey`.
    RsaPkcs1Sha256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RsaPkcs1Sha384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RsaPkcs1Sha512,
    /// Ed25519; key and signature are raw.
    Ed25519,
}

/// The arithmetic of signatures, which the shell brings: the twin's is ring, the firmware's p256.
pub trait Signatures: fmt::Debug + Send + Sync {
    /// Whether `signature` over `message` was made by the key whose `subjectPublicKey` bits are `public_key`.
    /// An algorithm that the shell does not know verifies nothing.
    fn verify(&self, algorithm: Algorithm, public_key: &[u8], message: &[u8], signature: &[u8]) -> bool;
}

/// Why a certificate is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unfit {
    /// The reply is not the JSON it should be.
    BadReply,
    /// Not PEM, not DER, not a certificate, or one that contradicts itself.
    Malformed,
    /// More certificates than `CHAIN_MAX` or `ANCHORS_MAX`.
    TooMany,
    /// It carries another key than the one in the CSR.
    AnotherKey,
    /// It carries another name than the device id.
    AnotherName,
    /// It is a CA's.
    IsACa,
    /// Its key usage or extended key usage does not allow a TLS client.
    WrongUsage,
    /// It expired.
    Expired,
    /// It is not valid yet, or the device does not know the date.
    NotYetValid,
    /// No anchor of the reply issued it.
    UnknownIssuer,
    /// It names the right issuer, but the signature is not that issuer's.
    BadSignature,
    /// A certificate that follows in the chain did not issue the one before it.
    BrokenChain,
    /// An intermediate or anchor may not issue certificates.
    IssuerNotACa,
    /// An intermediate's or anchor's path length is exceeded.
    PathTooLong,
    /// An intermediate or anchor is not valid now.
    IssuerExpired,
    /// A critical extension is not understood.
    CriticalExtension,
    /// The signature algorithm is not among `Algorithm`.
    WeakAlgorithm,
}

impl Unfit {
    /// Its word on the console.
    pub const fn word(self) -> &'static str {
        match self {
            Unfit::BadReply => "bad-reply",
            Unfit::Malformed => "malformed",
            Unfit::TooMany => "too-many-certificates",
            Unfit::AnotherKey => "another-key",
            Unfit::AnotherName => "another-name",
            Unfit::IsACa => "is-a-ca",
            Unfit::WrongUsage => "wrong-usage",
            Unfit::Expired => "expired",
            Unfit::NotYetValid => "not-yet-valid",
            Unfit::UnknownIssuer => "unknown-issuer",
            Unfit::BadSignature => "bad-signature",
            Unfit::BrokenChain => "broken-chain",
            Unfit::IssuerNotACa => "issuer-not-a-ca",
            Unfit::PathTooLong => "path-too-long",
            Unfit::IssuerExpired => "issuer-expired",
            Unfit::CriticalExtension => "critical-extension",
            Unfit::WeakAlgorithm => "weak-algorithm",
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl core::error::Error for Unfit {}

/// The body of a request to the CA.
pub fn request(device_id: &str, csr: &str) -> String {
    format!("{}", json!({ "device_id": device_id, "csr": csr }))
}

/// What the CA replied: PEM texts, unchecked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The device's certificate, and intermediates after it.
    pub certificate: String,
    /// The anchors.
    pub ca_certificate: String,
}

impl Reply {
    /// Reads the reply's JSON. Unknown fields are passed over, duplicate ones refused.
    ///
    /// # Errors
    /// `Unfit::BadReply`.
    pub fn parse(body: &[u8]) -> Result<Reply, Unfit> {
        #[derive(Deserialize)]
        struct Body {
            certificate: Content,
            ca_certificate: Content,
        }
        let object = body.len() <= REPLY_LIMIT && body.trim_ascii_start().starts_with(b"{");
        let body: Body = object.then(|| serde_json::from_slice(body).ok()).flatten().ok_or(Unfit::BadReply)?;
        Ok(Reply { certificate: body.certificate.content, ca_certificate: body.ca_certificate.content })
    }
}

/// The object around each text of a reply.
struct Content {
    content: String,
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Content, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Content;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            // The error that serde makes of a text repeats all of it, escaped: more than a device's heap may hold.
            fn visit_str<E: Error>(self, _: &str) -> Result<Content, E> {
                Err(E::custom("a text"))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
                let mut content = None;
                while let Some(name) = map.next_key::<String>()? {
                    match &*name {
                        "content" if content.is_some() => return Err(A::Error::duplicate_field("content")),
                        "content" => content = Some(map.next_value()?),
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(Content { content: content.ok_or_else(|| A::Error::missing_field("content"))? })
            }
        }
        deserializer.deserialize_any(Fields)
    }
}

/// When a certificate is valid, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// notBefore.
    pub not_before: UnixTime,
    /// notAfter.
    pub not_after: UnixTime,
}

/// When the first certificate of this PEM text is valid.
///
/// # Errors
/// `Unfit::Malformed`.
pub fn validity(pem: &str) -> Result<Validity, Unfit> {
    certificates(pem, CHAIN_MAX)?.first().map(Parsed::validity).ok_or(Unfit::Malformed)
}

/// Checks what came for `csr` before it is stored.
///
/// # Errors
/// The first reason not to.
pub fn check(reply: &Reply, device_id: &str, csr: &str, now: UnixTime, signatures: &dyn Signatures) -> Result<Validity, Unfit> {
    let own_key = CertReq::from_pem(csr.trim()).map_err(|_| Unfit::Malformed)?.info.public_key;
    let chain = certificates(&reply.certificate, CHAIN_MAX)?;
    let anchors = certificates(&reply.ca_certificate, ANCHORS_MAX)?;
    let leaf = chain.first().ok_or(Unfit::Malformed)?;
    if anchors.is_empty() {
        return Err(Unfit::UnknownIssuer);
    }
    if *leaf.certificate.tbs_certificate().subject_public_key_info() != own_key {
        return Err(Unfit::AnotherKey);
    }
    leaf.check_leaf(device_id, now)?;
    for (below, pair) in chain.windows(2).enumerate() {
        // The root may come along at the end of the chain.
        if below + 2 == chain.len() && anchors.iter().any(|a| a.der == pair[1].der) {
            break;
        }
        let [subject, issuer] = pair else { break };
        if !issuer.named_by(subject) {
            return Err(Unfit::BrokenChain);
        }
        issuer.check_issuer(below, now)?;
        issuer.verifies(subject, signatures)?;
    }
    let root_came_along = chain.len() > 1 && anchors.iter().any(|a| chain.last().is_some_and(|c| c.der == a.der));
    let last = chain.len() - 1 - usize::from(root_came_along);
    let mut reason = Unfit::UnknownIssuer;
    for anchor in anchors.iter().filter(|a| a.named_by(&chain[last])) {
        match anchor.check_issuer(last, now).and_then(|()| anchor.verifies(&chain[last], signatures)) {
            Ok(()) => return Ok(leaf.validity()),
            Err(why) => reason = why,
        }
    }
    Err(reason)
}

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
const ANY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
/// Key usage, subject alternative name, basic constraints, extended key usage: what may be critical.
const UNDERSTOOD: [ObjectIdentifier; 4] = [
    ObjectIdentifier::new_unwrap("2.5.29.15"),
    ObjectIdentifier::new_unwrap("2.5.29.17"),
    ObjectIdentifier::new_unwrap("2.5.29.19"),
    ObjectIdentifier::new_unwrap("2.5.29.37"),
];

/// A certificate, with the bytes it came in: signatures are over bytes, not over what was read out of them.
struct Parsed {
    certificate: Certificate,
    der: Vec<u8>,
}

/// The certificates of a PEM text that holds nothing else but white space.
fn certificates(pem: &str, max: usize) -> Result<Vec<Parsed>, Unfit> {
    const END: &str = "-----END CERTIFICATE-----";
    let mut found = Vec::new();
    let mut rest = pem.trim();
    while !rest.is_empty() {
        if found.len() == max {
            return Err(Unfit::TooMany);
        }
        let end = rest.find(END).ok_or(Unfit::Malformed)? + END.len();
        found.push(Parsed::from_pem(&rest[..end])?);
        rest = rest[end..].trim_start();
    }
    Ok(found)
}

impl Parsed {
    fn from_pem(pem: &str) -> Result<Parsed, Unfit> {
        let (label, der) = x509_cert::der::pem::decode_vec(pem.as_bytes()).map_err(|_| Unfit::Malformed)?;
        if label != "CERTIFICATE" {
            return Err(Unfit::Malformed);
        }
        let certificate = Certificate::from_der(&der).map_err(|_| Unfit::Malformed)?;
        let tbs = certificate.tbs_certificate();
        let mut seen: Vec<_> = tbs.extensions().into_iter().flatten().map(|e| e.extn_id).collect();
        seen.sort_unstable();
        let twice = seen.windows(2).any(|pair| pair[0] == pair[1]);
        if twice || tbs.signature() != certificate.signature_algorithm() {
            return Err(Unfit::Malformed);
        }
        Ok(Parsed { certificate, der })
    }

    fn validity(&self) -> Validity {
        let unix = |time: x509_cert::time::Time| UnixTime(i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX));
        let validity = self.certificate.tbs_certificate().validity();
        Validity { not_before: unix(validity.not_before), not_after: unix(validity.not_after) }
    }

    /// The extension, if it is there and can be read.
    fn extension<'a, T: Decode<'a, Error = x509_cert::der::Error> + x509_cert::der::oid::AssociatedOid>(
        &'a self,
    ) -> Result<Option<T>, Unfit> {
        let found = self.certificate.tbs_certificate().get_extension::<T>().map_err(|_| Unfit::Malformed)?;
        Ok(found.map(|(_, extension)| extension))
    }

    fn check_leaf(&self, device_id: &str, now: UnixTime) -> Result<(), Unfit> {
        self.check_critical()?;
        self.check_names(device_id)?;
        if self.extension::<BasicConstraints>()?.is_some_and(|c| c.ca) {
            return Err(Unfit::IsACa);
        }
        let signs = self.extension::<KeyUsage>()?.is_none_or(|u| u.digital_signature());
        if !signs || !self.allows_clients()? {
            return Err(Unfit::WrongUsage);
        }
        let validity = self.validity();
        if now < validity.not_before {
            return Err(Unfit::NotYetValid);
        }
        if now > validity.not_after {
            return Err(Unfit::Expired);
        }
        Ok(())
    }

    /// The one common name and every DNS name must be the device's.
    fn check_names(&self, device_id: &str) -> Result<(), Unfit> {
        let mut names = self.certificate.tbs_certificate().subject().iter().filter(|a| a.oid == COMMON_NAME);
        let text = [Tag::Utf8String, Tag::PrintableString, Tag::Ia5String];
        let own = |value: &x509_cert::attr::AttributeValue| text.contains(&value.tag()) && value.value() == device_id.as_bytes();
        let (Some(name), None) = (names.next(), names.next()) else { return Err(Unfit::AnotherName) };
        let alternatives = self.extension::<SubjectAltName>()?;
        let dns_own = alternatives.iter().flat_map(|a| a.0.iter()).all(|n| match n {
            GeneralName::DnsName(dns) => dns.as_str().eq_ignore_ascii_case(device_id),
            _ => true,
        });
        if own(&name.value) && dns_own { Ok(()) } else { Err(Unfit::AnotherName) }
    }

    fn allows_clients(&self) -> Result<bool, Unfit> {
        let usage = self.extension::<ExtendedKeyUsage>()?;
        Ok(usage.is_none_or(|u| u.0.contains(&CLIENT_AUTH) || u.0.contains(&ANY_USAGE)))
    }

    fn check_critical(&self) -> Result<(), Unfit> {
        let extensions = self.certificate.tbs_certificate().extensions().into_iter().flatten();
        let foreign = extensions.into_iter().any(|e| e.critical && !UNDERSTOOD.contains(&e.extn_id));
        if foreign { Err(Unfit::CriticalExtension) } else { Ok(()) }
    }

    /// Whether this may issue, with so many intermediates between it and the leaf.
    fn check_issuer(&self, below: usize, now: UnixTime) -> Result<(), Unfit> {
        self.check_critical()?;
        let constraints = self.extension::<BasicConstraints>()?.filter(|c| c.ca).ok_or(Unfit::IssuerNotACa)?;
        let signs = self.extension::<KeyUsage>()?.is_none_or(|u| u.key_cert_sign());
        if !signs || !self.allows_clients()? {
            return Err(Unfit::IssuerNotACa);
        }
        if constraints.path_len_constraint.is_some_and(|max| below > usize::from(max)) {
            return Err(Unfit::PathTooLong);
        }
        let validity = self.validity();
        if now < validity.not_before || now > validity.not_after { Err(Unfit::IssuerExpired) } else { Ok(()) }
    }

    fn named_by(&self, subject: &Parsed) -> bool {
        subject.certificate.tbs_certificate().issuer() == self.certificate.tbs_certificate().subject()
    }

    fn verifies(&self, subject: &Parsed, signatures: &dyn Signatures) -> Result<(), Unfit> {
        let key = self.certificate.tbs_certificate().subject_public_key_info();
        let algorithm = algorithm(subject.certificate.signature_algorithm(), &key.algorithm).ok_or(Unfit::WeakAlgorithm)?;
        let message = subject.signed_bytes().ok_or(Unfit::Malformed)?;
        let signature = subject.certificate.signature().as_bytes().ok_or(Unfit::Malformed)?;
        let public_key = key.subject_public_key.as_bytes().ok_or(Unfit::Malformed)?;
        if signatures.verify(algorithm, public_key, message, signature) { Ok(()) } else { Err(Unfit::BadSignature) }
    }

    /// The `tbsCertificate` as it came.
    fn signed_bytes(&self) -> Option<&[u8]> {
        let mut outer = SliceReader::new(&self.der).ok()?;
        outer
            .sequence(|inner| {
                let signed = inner.tlv_bytes();
                let rest = inner.remaining_len();
                inner.read_slice(rest)?;
                signed
            })
            .ok()
    }
}

/// The algorithm of a signature by such a key, if the two fit together and are strong enough.
fn algorithm(signature: &AlgorithmIdentifierOwned, key: &AlgorithmIdentifierOwned) -> Option<Algorithm> {
    const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
    const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
    const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
    const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
    const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
    const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
    const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
    const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
    const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
    const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
    let curve = || key.parameters.as_ref().and_then(|p| p.decode_as::<ObjectIdentifier>().ok());
    match (signature.oid, key.oid) {
        (ECDSA_SHA256, EC) if curve() == Some(P256) => Some(Algorithm::EcdsaP256Sha256),
        (ECDSA_SHA384, EC) if curve() == Some(P256) => Some(Algorithm::EcdsaP256Sha384),
        (ECDSA_SHA256, EC) if curve() == Some(P384) => Some(Algorithm::EcdsaP384Sha256),
        (ECDSA_SHA384, EC) if curve() == Some(P384) => Some(Algorithm::EcdsaP384Sha384),
        (RSA_SHA256, RSA) => Some(Algorithm::RsaPkcs1Sha256),
        (RSA_SHA384, RSA) => Some(Algorithm::RsaPkcs1Sha384),
        (RSA_SHA512, RSA) => Some(Algorithm::RsaPkcs1Sha512),
        (ED25519, ED25519) => Some(Algorithm::Ed25519),
        _ => None,
    }
}
