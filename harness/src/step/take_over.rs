//! `take-over`: a second client with the device's client id.

use super::{Act, Meaning, Verb};
use crate::testbed::{ActError, Rivalry, Testbed};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

/// A second client connects to the broker with the device's client id (and, under mutual TLS, with a certificate in its name), as a copy
/// of the device would, or the operator of a broker that cannot throw a client out otherwise. The broker ends the device's connection:
/// without a word up to Mosquitto 2.0, with reason 0x8E on MQTT v5 from 2.1 on. The device takes its session back when it connects again.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TakeOver {
    /// It connects, and is gone for good when it is thrown out.
    Once,
    /// Whenever it is thrown out it connects again, at once.
    Insists,
    /// It goes.
    Ends,
}

impl Verb for TakeOver {
    const NAME: &'static str = "take-over";
    const EXAMPLE: &'static str = "- power-on: {}\n- provision: {}\n- wait-for: { state: MQTT_CONNECTED }\n- take-over: once\n- take-over: insists\n- take-over: ends";
    fn mean(self) -> Result<Meaning, String> {
        Ok(Meaning::act(self))
    }
}

#[async_trait]
impl Act for TakeOver {
    async fn act(&self, testbed: &mut Testbed) -> Result<(), ActError> {
        let rivalry = match self {
            TakeOver::Once => Rivalry::Once,
            TakeOver::Insists => Rivalry::Insists,
            TakeOver::Ends => Rivalry::Ends,
        };
        testbed.take_over(rivalry).await
    }
}
