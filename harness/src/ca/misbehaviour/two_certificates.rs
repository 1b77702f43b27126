//! Chains that hold the device's certificate twice.

use super::Misbehaviour;
use crate::ca::fake::Chain;

pub(super) struct TwoCertificates;

impl Misbehaviour for TwoCertificates {
    fn chain(&self, chain: &mut Chain) -> bool {
        chain.intermediates.insert(0, chain.leaf.clone());
        true
    }
}
