//! The ways the fake CA can be told to lie.

use serde::Deserialize;

/// One lie, as a scenario names it.
#[derive(Clone, Debug, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Lie {
    /// Issues certificates that have already expired.
    Expired,
}
