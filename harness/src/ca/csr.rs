//! A certificate signing request, read once: strict PEM, its own signature verified, a strong key, one common name.

use base64::Engine;
use rcgen::{PublicKeyData, SignatureAlgorithm};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_PKCS1_SHA256WITHRSA,
    OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// The longest request that is read, bytes of PEM. One for RSA 4096 with a hundred names needs about 5 KiB.
pub const CSR_MAX: usize = 32 * 1024;
/// The RSA moduli that are accepted, bits.
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

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
    #[error("the CSR's signature algorithm is not accepted: use SHA-256, SHA-384 or SHA-512")]
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
    /// SHA-256 of the request's DER: what "the same request" means.
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
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| BadCsr::NotDer)?;
        if !rest.is_empty() {
            return Err(BadCsr::NotDer);
        }
        let algorithm = &request.signature_algorithm.algorithm;
        let accepted = [
            OID_SIG_ECDSA_WITH_SHA256,
            OID_SIG_ECDSA_WITH_SHA384,
            OID_PKCS1_SHA256WITHRSA,
            OID_PKCS1_SHA384WITHRSA,
            OID_PKCS1_SHA512WITHRSA,
        ];
        let key = device_key(&request.certification_request_info.subject_pki).ok_or(BadCsr::WeakKey)?;
        if !accepted.contains(algorithm) {
            return Err(BadCsr::WeakSignature);
        }
        request.verify_signature().map_err(|_| BadCsr::BadSignature)?;
        let mut names = request.certification_request_info.subject.iter_common_name();
        let (Some(name), None) = (names.next(), names.next()) else { return Err(BadCsr::NoName) };
        let common_name = name.as_str().map_err(|_| BadCsr::NoName)?.to_owned();
        Ok(Csr { common_name, key, fingerprint: sha256(der) })
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
