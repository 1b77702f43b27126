//! `power-off`: power is switched off.

use super::{Act, Meaning, Verb};
use crate::scenario::header::Capability;
use crate::testbed::{ActError, Testbed};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

/// Switches the device off at once, as a power cut does. What it had stored stays.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PowerOff {}

impl Verb for PowerOff {
    const NAME: &'static str = "power-off";
    const EXAMPLE: &'static str = "- power-on: {}\n- power-off: {}";
    fn mean(self) -> Result<Meaning, String> {
        Ok(Meaning::act(self).needs(&[Capability::PowerSwitch]))
    }
}

#[async_trait]
impl Act for PowerOff {
    async fn act(&self, testbed: &mut Testbed) -> Result<(), ActError> {
        testbed.power_off().await
    }
}
