//! `ca`: the certificate authority begins to lie, or is honest again.

use super::{Act, Meaning, Verb};
use crate::ca::misbehaviour::Lie;
use crate::testbed::{ActError, Testbed};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

/// Changes how the CA behaves from now on. To have it misbehave from the start, use `ca:` at the top of the file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ca {
    /// It misbehaves in these ways, in place of those before.
    Misbehave(Vec<Lie>),
    /// It is honest again.
    Heal,
}

impl Verb for Ca {
    const NAME: &'static str = "ca";
    const EXAMPLE: &'static str = "- ca: { misbehave: [expired] }\n- power-on: {}\n- ca: heal";
    fn mean(self) -> Result<Meaning, String> {
        match &self {
            Ca::Misbehave(lies) if lies.is_empty() => Err("no misbehaviour\nname at least one, or write `ca: heal`".into()),
            _ => Ok(Meaning::act(self)),
        }
    }
}

#[async_trait]
impl Act for Ca {
    async fn act(&self, testbed: &mut Testbed) -> Result<(), ActError> {
        match self {
            Ca::Misbehave(lies) => testbed.misbehave(lies),
            Ca::Heal => testbed.misbehave(&[]),
        }
    }
}
