//! Certificates that claim to be a CA's.

use super::Misbehaviour;
use crate::ca::Today;
use crate::ca::fake::Unsigned;
use crate::ca::pki::Role;

pub(super) struct CaTrue;

impl Misbehaviour for CaTrue {
    fn certificate(&self, certificate: &mut Unsigned, _today: Today) -> bool {
        certificate.draft.role = Role::Authority;
        true
    }
}
