//! Chains without their intermediate.

use super::Misbehaviour;
use crate::ca::fake::Chain;

pub(super) struct ChainMissing;

impl Misbehaviour for ChainMissing {
    fn chain(&self, chain: &mut Chain) -> bool {
        chain.intermediates.clear();
        true
    }
}
