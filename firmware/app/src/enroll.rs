//! Enrolment's errands: making a key and a CSR, and one HTTPS exchange with the CA.

use device_core::enrollment::{Algorithm, Signatures};

/// Checks signatures on certificates: ECDSA on P-256 with SHA-256, which is what the device's own key is.
#[derive(Debug)]
pub(crate) struct P256Signatures;

impl Signatures for P256Signatures {
    fn verify(&self, _: Algorithm, _: &[u8], _: &[u8], _: &[u8]) -> bool {
        false
    }
}
