//! `order`: the operator sends the device an order over MQTT.

use super::{Act, Meaning, Verb};
use crate::testbed::{ActError, Testbed};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

/// Publishes an order on `devices/<id>/command`, with QoS 1, as the operator does.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The order.
    payload: String,
}

impl Verb for Order {
    const NAME: &'static str = "order";
    const EXAMPLE: &'static str = "- power-on: {}\n- wait-for: { device: { report: subscribed } }\n- order: { payload: blink }\n- wait-for: { device: { report: command-received } }";
    fn mean(self) -> Result<Meaning, String> {
        Ok(Meaning::act(self))
    }
}

#[async_trait]
impl Act for Order {
    async fn act(&self, testbed: &mut Testbed) -> Result<(), ActError> {
        testbed.order(self.payload.as_bytes()).await
    }
}
