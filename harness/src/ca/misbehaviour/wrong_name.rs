//! Certificates for another device's name.

use super::Misbehaviour;
use crate::ca::Today;
use crate::ca::fake::Unsigned;

pub(super) struct WrongName;

/// What a name other than the device's is; a device of just this name gets the second.
const OTHERS: [&str; 2] = ["another-device", "yet-another-device"];

impl Misbehaviour for WrongName {
    fn certificate(&self, certificate: &mut Unsigned, _today: Today) -> bool {
        let draft = &mut certificate.draft;
        let other = if draft.common_name == OTHERS[0] { OTHERS[1] } else { OTHERS[0] };
        draft.common_name = other.to_owned();
        true
    }
}
