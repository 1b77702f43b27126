//! A server certificate as no server should have it.

use super::opening::Opening;
use super::{Misbehaviour, or_word};
use rustls::pki_types::CertificateDer;
use schemars::JsonSchema;
use serde::Deserialize;
use std::num::NonZeroU32;

/// The names that `large` adds: a certificate of about 30 KiB, which a device of 64 KiB has room for.
const NAMES_LARGE: usize = 450;
/// The names that `huge` adds: about 130 KiB.
const NAMES_HUGE: usize = 2_000;

/// Shows a certificate that is malformed, too large, or alone. Its key is the right one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(transform = or_word)]
pub struct Certificate {
    /// What is shown.
    pub is: Shown,
    /// How many connections see it before the broker is honest again; every one when left out.
    #[serde(default)]
    pub times: Option<NonZeroU32>,
}

/// What is shown for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    /// The first half of the certificate's DER.
    Truncated,
    /// Bytes that are no DER.
    Garbage,
    /// An empty list.
    Nothing,
    /// The certificate with one bit of its signature turned.
    BadSignature,
    /// The certificate alone, without the intermediate that signed it.
    NoIntermediate,
    /// A good certificate of about 30 KiB.
    Large,
    /// A good certificate of about 130 KiB.
    Huge,
}

impl Misbehaviour for Certificate {
    fn opening(&self, opening: &mut Opening<'_>) -> bool {
        let leaf = opening.chain.first().map(|leaf| leaf.to_vec()).unwrap_or_default();
        let shown = match self.is {
            Shown::Truncated => leaf[..leaf.len() / 2].to_vec(),
            Shown::Garbage => vec![0xa5; leaf.len()],
            Shown::BadSignature => {
                let mut turned = leaf;
                if let Some(last) = turned.last_mut() {
                    *last ^= 1;
                }
                turned
            }
            Shown::Nothing => {
                opening.chain.clear();
                return true;
            }
            Shown::NoIntermediate => {
                opening.chain.truncate(1);
                return true;
            }
            Shown::Large => return opening.add_names(NAMES_LARGE),
            Shown::Huge => return opening.add_names(NAMES_HUGE),
        };
        if let Some(first) = opening.chain.first_mut() {
            *first = CertificateDer::from(shown);
        }
        true
    }

    fn times(&self) -> Option<NonZeroU32> {
        self.times
    }
}
