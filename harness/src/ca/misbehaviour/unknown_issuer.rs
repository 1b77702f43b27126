//! Certificates from a CA that nobody trusts.

use super::Misbehaviour;
use crate::ca::Today;
use crate::ca::fake::{IssuedBy, Unsigned};

pub(super) struct UnknownIssuer;

impl Misbehaviour for UnknownIssuer {
    fn certificate(&self, certificate: &mut Unsigned, _today: Today) -> bool {
        certificate.issued_by = IssuedBy::Stranger;
        true
    }
}
