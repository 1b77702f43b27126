//! Certificates that have already expired.

use super::Misbehaviour;
use crate::ca::Today;
use crate::ca::fake::Unsigned;
use crate::ca::pki::DAY_S;

pub(super) struct Expired;

impl Misbehaviour for Expired {
    fn certificate(&self, certificate: &mut Unsigned, today: Today) -> bool {
        let lifetime = certificate.draft.not_after.saturating_sub(certificate.draft.not_before);
        certificate.draft.not_after = today.testbed.min(today.wall).saturating_sub(DAY_S);
        certificate.draft.not_before = certificate.draft.not_after.saturating_sub(lifetime);
        true
    }
}
