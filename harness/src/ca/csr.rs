//! A certificate signing request, read once: strict PEM, its own signature verified, a strong key, one common name.

use base64::Engine;
use rcgen::{PublicKeyData, SignatureAlgorithm};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_PKCS1_SHA256WITHRSA,
    OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, Oid,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Version};

/// The longest request that is read, bytes of PEM. One for RSA 4096 with a hundred names needs about 5 KiB.
pub const CSR_MAX: usize = 32 * 1024;
/// The RSA moduli that are accepted, bits.
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// The signature algorithms that are accepted, and how each is written (RFC 5758 §3.2, RFC 4055 §5).
static SIGNATURES: [(Oid<'static>, &[u8]); 5] = [
    (OID_SIG_ECDSA_WITH_SHA256, &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]),
    (OID_SIG_ECDSA_WITH_SHA384, &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3]),
    (OID_PKCS1_SHA256WITHRSA, &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 11, 5, 0]),
    (OID_PKCS1_SHA384WITHRSA, &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 12, 5, 0]),
    (OID_PKCS1_SHA512WITHRSA, &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 13, 5, 0]),
];

/// Why a request is refused. The texts are shown to the requester and hold nothing of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCsr {
    /// Not one PEM block.
    #[error("the CSR is not exactly one PEM block `CERTIFICATE REQUEST`")]
    NotPem,
    /// Longer than [`CSR_MAX`].
    #[error("the CSR is longer than 32 KiB")]
    TooLong,
    /// Not PKCS #10.
    #[error("the CSR is not DER of a PKCS #10 request")]
    NotDer,
    /// The signature is not one of this key over this request.
    #[error("the CSR's signature does not match its key")]
    BadSignature,
    /// Signed with SHA-1, MD5 or another algorithm that is not accepted.
    #[error("the CSR's signature algorithm is not accepted: use SHA-256 or SHA-384, with an RSA key also SHA-512")]
    WeakSignature,
    /// Not a key that is accepted.
    #[error("the CSR's key is not accepted: use P-256, P-384, or RSA of 2048 to 4096 bits")]
    WeakKey,
    /// Not exactly one readable common name.
    #[error("the CSR's subject does not hold exactly one common name")]
    NoName,
}

/// A public key that is accepted, to be written into a certificate in its one canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKey {
    bits: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
}

impl PublicKeyData for DeviceKey {
    fn der_bytes(&self) -> &[u8] {
        &self.bits
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

/// What a request is believed: who asks, with which key. Whatever else it wishes for is not even kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Csr {
    /// The one common name.
    pub common_name: String,
    /// The key it proved to hold.
    pub key: DeviceKey,
    /// SHA-256 of what the request's signature covers: what "the same request" means. The signature itself is not part of it: a device
    /// that lost power after its request was answered keeps its key, and signs the same request anew.
    pub fingerprint: [u8; 32],
}

impl Csr {
    /// Reads and verifies a PEM request. Line ends may be LF or CRLF, blank space may surround the block; nothing else may.
    ///
    /// # Errors
    /// When anything about it is not as it must be.
    pub fn from_pem(pem: &str) -> Result<Csr, BadCsr> {
        if pem.len() > CSR_MAX {
            return Err(BadCsr::TooLong);
        }
        Csr::from_der(&pem_block(pem).ok_or(BadCsr::NotPem)?)
    }

    fn from_der(der: &[u8]) -> Result<Csr, BadCsr> {
        let (_, request) = X509CertificationRequest::from_der(der).map_err(|_| BadCsr::NotDer)?;
        let info = &request.certification_request_info;
        // The one version there is (RFC 2986 §4.1).
        if info.version != X509Version::V1 {
            return Err(BadCsr::NotDer);
        }
        let key = device_key(&info.subject_pki).ok_or(BadCsr::WeakKey)?;
        let oid = &request.signature_algorithm.algorithm;
        let (_, algorithm) = SIGNATURES.iter().find(|(accepted, _)| accepted == oid).ok_or(BadCsr::WeakSignature)?;
        // The parser is lenient about what the signature does not cover: tags, unused bits, parameters, what follows.
        let signature = tlv(0x03, &[&[0], request.signature_value.data.as_ref()]);
        if tlv(0x30, &[info.raw, algorithm, &signature]) != der {
            return Err(BadCsr::NotDer);
        }
        request.verify_signature().map_err(|_| BadCsr::BadSignature)?;
        let mut names = info.subject.iter_common_name();
        let (Some(name), None) = (names.next(), names.next()) else { return Err(BadCsr::NoName) };
        let common_name = name.as_str().map_err(|_| BadCsr::NoName)?.to_owned();
        Ok(Csr { common_name, key, fingerprint: sha256(info.raw) })
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}

fn device_key(key: &SubjectPublicKeyInfo<'_>) -> Option<DeviceKey> {
    let bits = key.subject_public_key.data.to_vec();
    let kind = &key.algorithm.algorithm;
    if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = key.algorithm.parameters.as_ref()?.as_oid().ok()?;
        let (algorithm, length) = match () {
            () if curve == OID_EC_P256 => (&rcgen::PKCS_ECDSA_P256_SHA256, 65),
            () if curve == OID_NIST_EC_P384 => (&rcgen::PKCS_ECDSA_P384_SHA384, 97),
            () => return None,
        };
        // Uncompressed points only (RFC 5480 §2.2); that the point lies on the curve is checked with the signature.
        return (bits.len() == length && bits.first() == Some(&4)).then_some(DeviceKey { bits, algorithm });
    }
    if *kind == OID_PKCS1_RSAENCRYPTION {
        let Ok(PublicKey::RSA(rsa)) = key.parsed() else { return None };
        let modulus = rsa.modulus.iter().position(|byte| *byte != 0).map(|at| &rsa.modulus[at..])?;
        let length = modulus.len() * 8 - modulus.first()?.leading_zeros() as usize;
        return RSA_BITS.contains(&length).then_some(DeviceKey { bits, algorithm: &rcgen::PKCS_RSA_SHA256 });
    }
    None
}

/// A DER element of at most 64 KiB around these parts.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut der = match content.len() {
        length @ 0..=0x7f => vec![tag, length as u8],
        length @ 0x80..=0xff => vec![tag, 0x81, length as u8],
        length => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    der.extend(content);
    der
}

/// The bytes of the one block of a PEM text (RFC 7468, strict apart from line lengths).
fn pem_block(pem: &str) -> Option<Vec<u8>> {
    let pem = pem.trim_matches([' ', '\t', '\r', '\n']);
    // The second label is what OpenSSL's `-newhdr` and some older tools write.
    let base64 = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"]
        .iter()
        .find_map(|label| pem.strip_prefix(&format!("-----BEGIN {label}-----"))?.strip_suffix(&format!("-----END {label}-----")))?;
    let base64: String = base64.chars().filter(|c| !matches!(c, ' ' | '\t' | '\r' | '\n')).collect();
    base64::engine::general_purpose::STANDARD.decode(base64).ok().filter(|der| !der.is_empty())
}
