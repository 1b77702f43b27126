//! Certificates for a key that the device does not hold.

use super::Misbehaviour;
use crate::ca::Today;
use crate::ca::fake::{CertifiedKey, Unsigned};

pub(super) struct WrongKey;

impl Misbehaviour for WrongKey {
    fn certificate(&self, certificate: &mut Unsigned, _today: Today) -> bool {
        certificate.key = CertifiedKey::Another;
        true
    }
}
