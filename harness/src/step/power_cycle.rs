//! `power-cycle`: power goes and comes back.

use super::{Act, Meaning, Verb};
use crate::scenario::header::Capability;
use crate::testbed::{ActError, Testbed};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

/// Switches the device off at once, and on again. What it had stored stays.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PowerCycle {}

impl Verb for PowerCycle {
    const NAME: &'static str = "power-cycle";
    const EXAMPLE: &'static str = "- power-on: {}\n- power-cycle: {}\n- wait-for: { state: AP_MODE }";
    fn mean(self) -> Result<Meaning, String> {
        Ok(Meaning::act(self).needs(&[Capability::PowerSwitch, Capability::Storage]))
    }
}

#[async_trait]
impl Act for PowerCycle {
    async fn act(&self, testbed: &mut Testbed) -> Result<(), ActError> {
        testbed.power_off().await?;
        testbed.power_on(None).await
    }
}
