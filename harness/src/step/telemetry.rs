//! `telemetry`: the device takes a reading now.

use super::{Act, Meaning, Verb};
use crate::testbed::{ActError, Testbed};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

/// Has the device take a reading now, whatever its period. It publishes it, or queues it while it is offline.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {}

impl Verb for Telemetry {
    const NAME: &'static str = "telemetry";
    const EXAMPLE: &'static str = "- power-on: {}\n- telemetry: {}\n- wait-for: { mqtt: { topic: \"devices/${device}/telemetry\" } }";
    fn mean(self) -> Result<Meaning, String> {
        Ok(Meaning::act(self))
    }
}

#[async_trait]
impl Act for Telemetry {
    async fn act(&self, testbed: &mut Testbed) -> Result<(), ActError> {
        testbed.command("telemetry").await
    }
}
