//! Roots and certificates for the measurement: chains of one certificate, every key of one kind.

use super::case::Key;
use crate::ca::pki::Identity;
use crate::child;
use device_core::output::ClientIdentity;
use device_core::secret::Secret;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::error::Error;
use std::process::Stdio;

/// The certificates of a case.
#[derive(Debug)]
pub(super) struct Authority {
    pub root_pem: String,
    pub server: Identity,
    pub client: ClientIdentity,
}

impl Authority {
    /// Makes keys and certificates. RSA keys come from the `openssl` program: ring, the provider here, makes none.
    pub fn new(key: Key) -> Result<Authority, Box<dyn Error + Send + Sync>> {
        let root_key = key_pair(key)?;
        let mut params = params("Bench Root", Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root_pem = params.self_signed(&root_key)?.pem();
        let issuer = Issuer::new(params, root_key);
        let leaf = |name: &str, purpose| -> Result<(String, Secret), Box<dyn Error + Send + Sync>> {
            let key = key_pair(key)?;
            let mut params = self::params(name, vec![name.to_owned()])?;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![purpose];
            Ok((params.signed_by(&key, &issuer)?.pem(), Secret::new(key.serialize_pem())))
        };
        let (chain_pem, key_pem) = leaf("localhost", ExtendedKeyUsagePurpose::ServerAuth)?;
        let (certificate, key) = leaf("bench", ExtendedKeyUsagePurpose::ClientAuth)?;
        Ok(Authority { root_pem, server: Identity { chain_pem, key_pem }, client: ClientIdentity { certificate, key } })
    }
}

fn params(name: &str, names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn key_pair(key: Key) -> Result<KeyPair, Box<dyn Error + Send + Sync>> {
    match key {
        Key::P256 => Ok(KeyPair::generate()?),
        Key::Rsa2048 => {
            let made = child::command("openssl")
                .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .output()
                .map_err(|e| format!("RSA keys need the program openssl: {e}"))?;
            if !made.status.success() {
                return Err(format!("openssl could not make an RSA key: {}", made.status).into());
            }
            Ok(KeyPair::from_pem(std::str::from_utf8(&made.stdout)?)?)
        }
    }
}
