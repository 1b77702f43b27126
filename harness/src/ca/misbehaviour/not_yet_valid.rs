//! Certificates that are not valid yet.

use super::Misbehaviour;
use crate::ca::Today;
use crate::ca::fake::Unsigned;
use crate::ca::pki::DAY_S;

pub(super) struct NotYetValid;

impl Misbehaviour for NotYetValid {
    fn certificate(&self, certificate: &mut Unsigned, today: Today) -> bool {
        let lifetime = certificate.draft.not_after.saturating_sub(certificate.draft.not_before);
        certificate.draft.not_before = today.testbed.max(today.wall).saturating_add(DAY_S);
        certificate.draft.not_after = certificate.draft.not_before.saturating_add(lifetime);
        true
    }
}
