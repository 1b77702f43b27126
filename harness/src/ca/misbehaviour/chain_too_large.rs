//! Chains longer than a device has room for.

use super::Misbehaviour;
use crate::ca::fake::Chain;
use serde::Deserialize;

/// Sends the intermediate again and again, so that the chain has this many certificates, the device's own among them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ChainTooLarge {
    /// Certificates of the chain, 3 to 1000. A device takes 6, and an answer of 16 KiB: about 20.
    #[serde(deserialize_with = "length")]
    #[schemars(range(min = 3, max = 1000))]
    pub certificates: usize,
}

impl Misbehaviour for ChainTooLarge {
    fn chain(&self, chain: &mut Chain) -> bool {
        let Some(filler) = chain.intermediates.last().cloned() else { return false };
        let length = self.certificates.saturating_sub(1);
        let longer = length > chain.intermediates.len();
        chain.intermediates.resize(length.max(chain.intermediates.len()), filler);
        longer
    }
}

fn length<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let length = usize::deserialize(deserializer)?;
    if (3..=1000).contains(&length) {
        return Ok(length);
    }
    Err(serde::de::Error::custom(format_args!("{length} certificates\nuse 3 to 1000, such as `certificates: 8`")))
}
