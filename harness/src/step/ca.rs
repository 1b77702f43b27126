//! `ca`: the certificate authority begins to lie, is honest again, goes away, comes back, or is followed by another.

use super::{Act, Meaning, Verb};
use crate::ca::RollOver;
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
    /// Another CA follows it. What was issued before can be renewed, and is issued by the new one.
    RollOver(Phase),
}

/// How far a CA is on the way to the one that follows it.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Devices are told to trust both.
    Both,
    /// Devices are told to trust the next one alone.
    Next,
}

impl Verb for Ca {
    const NAME: &'static str = "ca";
    const EXAMPLE: &'static str = "- ca: { misbehave: [expired] }\n- power-on: {}\n- ca: heal\n- ca: away\n- ca: back\n- ca: { roll-over: both }";
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
            Ca::RollOver(Phase::Both) => testbed.roll_over(RollOver::Both).await,
            Ca::RollOver(Phase::Next) => testbed.roll_over(RollOver::Next).await,
            Ca::Back => testbed.reach_ca(Reach::There).await,
        }
    }
}
