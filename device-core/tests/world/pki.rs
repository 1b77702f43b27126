//! A certificate authority for tests, and the arithmetic of signatures by ring.

use device_core::enrollment::{Algorithm, Signatures};
use device_core::time::UnixTime;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequest, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

/// 2026-01-01: when everything here is valid from.
pub const BEGIN: UnixTime = UnixTime(1_767_225_600);
/// How long a device's certificate is valid, in seconds: 90 days.
pub const LIFE_S: i64 = 90 * 86_400;

/// Signatures by ring.
#[derive(Debug)]
pub struct Ring;

impl Signatures for Ring {
    fn verify(&self, algorithm: Algorithm, public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn VerificationAlgorithm = match algorithm {
            Algorithm::EcdsaP256Sha256 => &signature::ECDSA_P256_SHA256_ASN1,
            Algorithm::EcdsaP256Sha384 => &signature::ECDSA_P256_SHA384_ASN1,
            Algorithm::EcdsaP384Sha256 => &signature::ECDSA_P384_SHA256_ASN1,
            Algorithm::EcdsaP384Sha384 => &signature::ECDSA_P384_SHA384_ASN1,
            Algorithm::RsaPkcs1Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::RsaPkcs1Sha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Algorithm::RsaPkcs1Sha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Algorithm::Ed25519 => &signature::ED25519,
        };
        UnparsedPublicKey::new(algorithm, public_key).verify(message, signature).is_ok()
    }
}

/// A CA's certificate and key, and the PEM of the intermediates between it and its anchor.
pub struct Authority {
    pub issuer: Issuer<'static, KeyPair>,
    pub pem: String,
    pub chain: String,
}

pub fn date(unix: UnixTime) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(unix.0).expect("a date")
}

/// A CA's parameters: valid for ten years from `BEGIN`.
pub fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([]).expect("params");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date(BEGIN);
    params.not_after = date(UnixTime(BEGIN.0 + 10 * 365 * 86_400));
    params
}

impl Authority {
    /// A root.
    pub fn root(name: &str) -> Authority {
        Authority::root_of(ca_params(name))
    }

    pub fn root_of(params: CertificateParams) -> Authority {
        let key = KeyPair::generate().expect("key");
        let pem = params.self_signed(&key).expect("root").pem();
        Authority { issuer: Issuer::new(params, key), pem, chain: String::new() }
    }

    /// An intermediate below this.
    pub fn below(&self, params: CertificateParams) -> Authority {
        let key = KeyPair::generate().expect("key");
        let certificate = params.signed_by(&key, &self.issuer).expect("intermediate").pem();
        Authority { chain: format!("{certificate}{}", self.chain), issuer: Issuer::new(params, key), pem: self.pem.clone() }
    }

    /// A certificate over this key, with the chain behind it.
    pub fn issue(&self, params: &CertificateParams, key: &impl PublicKeyData) -> String {
        format!("{}{}", params.signed_by(key, &self.issuer).expect("certificate").pem(), self.chain)
    }
}

/// A device certificate's parameters: valid from `from` for `LIFE_S`.
pub fn device_params(device_id: &str, from: UnixTime) -> CertificateParams {
    let mut params = CertificateParams::new([]).expect("params");
    params.distinguished_name.push(DnType::CommonName, device_id);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = date(from);
    params.not_after = date(UnixTime(from.0 + LIFE_S));
    params
}

/// A new key, or the one given, and a CSR for it.
pub fn csr(device_id: &str, key: Option<&str>) -> (KeyPair, String) {
    let key = key.map_or_else(|| KeyPair::generate().expect("key"), |pem| KeyPair::from_pem(pem).expect("key"));
    let mut params = CertificateParams::new([]).expect("params");
    params.distinguished_name.push(DnType::CommonName, device_id);
    let csr: CertificateSigningRequest = params.serialize_request(&key).expect("csr");
    let pem = csr.pem().expect("pem");
    (key, pem)
}
