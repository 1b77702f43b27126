//! `ca`: the certificate authority begins to lie, is honest again, goes away or comes back.

use super::{Act, Meaning, Verb};
use crate::ca::misbehaviour::Lie;
use crate::testbed::{ActError, Reach, Testbed};
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
    /// It cannot be reached: connections to it are reset at once, as if nothing listened. Those that are open stay.
    Away,
    /// It can be reached again.
    Back,
}

impl Verb for Ca {
    const NAME: &'static str = "ca";
    const EXAMPLE: &'static str = "- ca: { misbehave: [expired] }\n- power-on: {}\n- ca: heal\n- ca: away\n- ca: back";
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
            Ca::Away => testbed.reach_ca(Reach::Away).await,
            Ca::Back => testbed.reach_ca(Reach::There).await,
        }
    }
}
