//! `snapshot`: the story so far is compared with the accepted one.

use super::{Meaning, Verb};
use schemars::JsonSchema;
use serde::Deserialize;

/// The longest name.
const NAME_MAX: usize = 64;

/// Compares the story up to here, one section per source, with the accepted one (a golden, reviewed with `cargo insta review`). It is
/// compared only when the trial passes otherwise. The name is part of the golden's file name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Snapshot(#[schemars(regex(pattern = r"^([A-Za-z0-9_-]|\$\{[A-Za-z0-9_.-]+\})+$"))] String);

impl Verb for Snapshot {
    const NAME: &'static str = "snapshot";
    const EXAMPLE: &'static str = "- power-on: {}\n- wait-for: { state: AP_MODE }\n- snapshot: first-boot";
    fn mean(self) -> Result<Meaning, String> {
        let plain = self.0.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if self.0.is_empty() || self.0.len() > NAME_MAX || !plain {
            return Err(format!("the name {}\na name has 1 to {NAME_MAX} of A-Z a-z 0-9 _ -", crate::scenario::yaml::shown(&self.0)));
        }
        Ok(Meaning { snapshot: Some(self.0), ..Meaning::default() })
    }
}
