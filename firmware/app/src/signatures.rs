//! Signatures on certificates, checked with the arithmetic that TLS uses: ECDSA on P-256 and P-384, and RSA. Mbed TLS has no Ed25519.

use alloc::vec::Vec;
use core::mem::MaybeUninit;
use device_core::enrollment::{Algorithm, Signatures};
use mbedtls_rs::sys::{
    mbedtls_md_type_t, mbedtls_md_type_t_MBEDTLS_MD_SHA256 as SHA256, mbedtls_md_type_t_MBEDTLS_MD_SHA384 as SHA384,
    mbedtls_md_type_t_MBEDTLS_MD_SHA512 as SHA512, mbedtls_pk_context, mbedtls_pk_free, mbedtls_pk_get_bitlen, mbedtls_pk_init,
    mbedtls_pk_parse_public_key, mbedtls_pk_verify,
};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// The shortest RSA key that is believed, in bits.
const RSA_BITS_MIN: usize = 2048;
/// The longest.
const RSA_BITS_MAX: usize = 8192;

/// What stands in front of the key in a SubjectPublicKeyInfo (RFC 5280 section 4.1): its algorithm.
const P256: &[u8] =
    &[0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const RSA: &[u8] = &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// Checks signatures with Mbed TLS.
#[derive(Debug)]
pub(crate) struct MbedSignatures;

impl Signatures for MbedSignatures {
    fn verify(&self, algorithm: Algorithm, public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
        let (key, digest, hash): (_, _, Vec<u8>) = match algorithm {
            Algorithm::EcdsaP256Sha256 => (P256, SHA256, Sha256::digest(message).to_vec()),
            Algorithm::EcdsaP256Sha384 => (P256, SHA384, Sha384::digest(message).to_vec()),
            Algorithm::EcdsaP384Sha256 => (P384, SHA256, Sha256::digest(message).to_vec()),
            Algorithm::EcdsaP384Sha384 => (P384, SHA384, Sha384::digest(message).to_vec()),
            Algorithm::RsaPkcs1Sha256 => (RSA, SHA256, Sha256::digest(message).to_vec()),
            Algorithm::RsaPkcs1Sha384 => (RSA, SHA384, Sha384::digest(message).to_vec()),
            Algorithm::RsaPkcs1Sha512 => (RSA, SHA512, Sha512::digest(message).to_vec()),
            Algorithm::Ed25519 => return false,
        };
        spki(key, public_key).is_some_and(|spki| verify(&spki, key == RSA, digest, &hash, signature))
    }
}

/// A SubjectPublicKeyInfo in DER; `None`: longer than any key that is believed.
fn spki(algorithm: &[u8], public_key: &[u8]) -> Option<Vec<u8>> {
    let mut bits = Vec::with_capacity(public_key.len() + 1);
    bits.push(0);
    bits.extend(public_key);
    let mut body = algorithm.to_vec();
    wrap(0x03, &bits, &mut body)?;
    let mut der = Vec::with_capacity(body.len() + 4);
    wrap(0x30, &body, &mut der)?;
    Some(der)
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

#[expect(unsafe_code, reason = "mbedtls-rs wraps private keys and certificates, not public keys")]
fn verify(spki: &[u8], rsa: bool, digest: mbedtls_md_type_t, hash: &[u8], signature: &[u8]) -> bool {
    let mut key = MaybeUninit::<mbedtls_pk_context>::uninit();
    // SAFETY: the context is made by its own function, used only then, and freed once; every pointer goes with its slice's length.
    unsafe {
        mbedtls_pk_init(key.as_mut_ptr());
        let key = key.assume_init_mut();
        let read = mbedtls_pk_parse_public_key(key, spki.as_ptr(), spki.len()) == 0;
        let believed = read && (!rsa || (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&mbedtls_pk_get_bitlen(key)));
        let good = believed && mbedtls_pk_verify(key, digest, hash.as_ptr(), hash.len(), signature.as_ptr(), signature.len()) == 0;
        mbedtls_pk_free(key);
        good
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p256::SecretKey;
    use p256::ecdsa::signature::Signer as _;
    use p256::ecdsa::{DerSignature, SigningKey};

    /// Of `message`, made with openssl for this test: an RSA-2048 key (RSAPublicKey) and a signature with SHA-384.
    const RSA_KEY: &str = "3082010a0282010100866cf09c95e8613b6b4d7c4f78bda9fd14d5753c6f5176b8c78d4afe6ab5a38d10f780371708fd63a1a796599b27\
        64882ac5cfedcf9856c4317d576c61c9ff500571597d63a87bd20eaf5f85b6c5423d8ea5b3b11eae28c94a2824799008e216b608e8b185\
        c82d3fd6335f1adbed338b4984f42fc083de29a11c2a7267f7ea529fbc1c289f95d57c651641a4121ef649edc37a53c2a3840ee63445cb\
        3c812e0b8ca07fb0e5a924e135917fe767e41b8758582887fdcb4d967ab55e38b76b262c0ebd7f4d53efd8112094d5eacf2a0439c0775c\
        f19a266786987dedeea4d3446888b9c751d20d4644a5afd96b746abbfb8147004a047968353fb88942ff02b4fd0203010001";
    const RSA_SIGNATURE: &str = "7499405ec80c72fe15be4f3ddd3d35e9cbcdb26d585c5aba93f70df77a34ae43531d0c8a56ab59256c98316ac28a1fd4b05fdd92ae16f8\
        89f85f022fa2c91fdfebd5e5926a13ec7014976faee9815a70387be09b6b08fc9be1c5217f3a1cbe5d7c03991c1cc2c16a680e253c6d64\
        30f35f9ef51b203e46c6fee08b86cba63ffb22709254bc1b15d6c2e94519ce7490266a4fb2b3cc96233fb291fc17fa602280312986037c\
        50fe2ee89b820d1920bf0d8cecddca9a45dd99e05e0db5d96941c1aae2e32598137da682c937a00ada74f012a630cbc7313f434693b315\
        8b21062491d42cc002de6623a5620fd5d1b191a2480d93186cffa0503601fde6b483038c";
    /// The same: a point on P-384, and a signature with SHA-256.
    const P384_POINT: &str = "04ff89e39b97fca4feaca404a43e26c45019f7bc7936f8e16eeac7d220cd74e7b3813a28477a251fd510cdb02b7356df30447baf3fb902\
        e3ba9a5bb7a9ff35f620bd8ffca222dbb1f56a69345d6e3a3935d52d221a8b0971367b88681038725499";
    const P384_SIGNATURE: &str = "306502303fa384bdc0aa2ce6359e3856dc7531a2a343363ae46ca9e459a4dd24586e2750bd7d24f31e5b2ce4ad6082f1a1db064b023100\
        b2fef420e077cf7a68f8a892e91f41b78fd927af09f662f2ae41f3a70cc38e0e8379155b52093698d6e503b2669194f3";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn signatures_verify_and_those_of_others_do_not() {
        let key = SigningKey::from(SecretKey::from_slice(&[7; 32]).unwrap());
        let signature: DerSignature = key.sign(b"message");
        let point = key.verifying_key().to_sec1_bytes().to_vec();
        for (algorithm, key, signature) in [
            (Algorithm::EcdsaP256Sha256, point, signature.as_bytes().to_vec()),
            (Algorithm::EcdsaP384Sha256, bytes(P384_POINT), bytes(P384_SIGNATURE)),
            (Algorithm::RsaPkcs1Sha384, bytes(RSA_KEY), bytes(RSA_SIGNATURE)),
        ] {
            assert!(MbedSignatures.verify(algorithm, &key, b"message", &signature), "{algorithm:?}");
            assert!(!MbedSignatures.verify(algorithm, &key, b"massage", &signature), "{algorithm:?}");
            assert!(!MbedSignatures.verify(Algorithm::Ed25519, &key, b"message", &signature));
            assert!(!MbedSignatures.verify(Algorithm::EcdsaP256Sha384, &key, b"message", &signature));
            for n in 0..signature.len() {
                assert!(!MbedSignatures.verify(algorithm, &key, b"message", &signature[..n]), "{algorithm:?}, {n} bytes");
            }
            assert!(!MbedSignatures.verify(algorithm, &key[1..], b"message", &signature), "{algorithm:?}");
        }
    }
}
