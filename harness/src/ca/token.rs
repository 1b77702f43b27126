//! Provisioning tokens: single-use, expiring, bound to a device id when asked, locked after five refusals.

use super::csr::sha256;
use super::fake::{Chain, Refusal};
use super::pki::{PkiError, Signed, fill_random};
use base64::Engine;
use device_core::secret::Secret;
use std::collections::HashMap;

/// Refused requests after which a token is locked.
pub const REFUSALS_MAX: u32 = 5;
/// The longest token, bytes (SPEC §1).
pub const TOKEN_MAX: usize = 512;

/// What a token is good for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenSpec {
    /// The one device id that may use it; any when none.
    pub bound_to: Option<String>,
    /// The testbed's date from which on it is refused, seconds since 1970; never when none.
    pub expires_at: Option<i64>,
}

/// The certificate that a token was spent on.
#[derive(Clone, Debug)]
pub(crate) struct Spent {
    /// The request it was issued for.
    pub csr: [u8; 32],
    /// What was issued; none when a lie had part in it, so that the same request gets a fresh answer.
    pub issued: Option<(Chain, Signed)>,
}

/// A token's standing.
#[derive(Debug)]
pub(crate) struct Token {
    spec: TokenSpec,
    refusals: u32,
    pub spent: Option<Spent>,
}

impl Token {
    /// Whether it may be used at all.
    pub(crate) fn check_unlocked(&self) -> Result<(), Refusal> {
        if self.refusals >= REFUSALS_MAX {
            return Err(Refusal::new(403, "token-locked", "the provisioning token is locked after five refused requests"));
        }
        Ok(())
    }

    /// Whether this device may enrol with it now. Expiry does not matter to a token that is spent: it is good for its own request only.
    pub(crate) fn check_for(&self, device_id: &str, now: i64) -> Result<(), Refusal> {
        if self.spec.bound_to.as_deref().is_some_and(|owner| owner != device_id) {
            return Err(Refusal::new(403, "token-of-another-device", "the provisioning token is for another device"));
        }
        if self.spent.is_none() && self.spec.expires_at.is_some_and(|expiry| now >= expiry) {
            return Err(Refusal::new(403, "token-expired", "the provisioning token has expired"));
        }
        Ok(())
    }

    /// Counts a refused request. A spent token has nothing left to guess at.
    pub(crate) fn count_refusal(&mut self) {
        if self.spent.is_none() {
            self.refusals = self.refusals.saturating_add(1);
        }
    }
}

/// The tokens a CA knows, by their SHA-256: the tokens themselves are not kept, and looking one up takes the same time for all.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    by_hash: HashMap<[u8; 32], Token>,
}

impl Tokens {
    /// A new token of 32 random bytes.
    pub(crate) fn mint(&mut self, spec: TokenSpec) -> Result<Secret, PkiError> {
        let mut bytes = [0; 32];
        fill_random(&mut bytes)?;
        let token = Secret::new(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes));
        self.accept(&token, spec);
        Ok(token)
    }

    /// Makes a token that was chosen elsewhere known. A token that is known already starts afresh.
    pub(crate) fn accept(&mut self, token: &Secret, spec: TokenSpec) {
        self.by_hash.insert(sha256(token.expose().as_bytes()), Token { spec, refusals: 0, spent: None });
    }

    /// The token of an `Authorization` header.
    pub(crate) fn by_header(&mut self, authorization: Option<&str>) -> Result<&mut Token, Refusal> {
        let token = authorization
            .and_then(|header| header.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim_matches(' '))
            .filter(|token| (1..=TOKEN_MAX).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic()))
            .ok_or_else(|| {
                Refusal::new(401, "no-token", "an `Authorization: Bearer` header with a provisioning token is needed")
            })?;
        self.by_hash
            .get_mut(&sha256(token.as_bytes()))
            .ok_or_else(|| Refusal::new(401, "unknown-token", "the provisioning token is not known"))
    }
}
