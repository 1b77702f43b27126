//! `revoke`: the device's certificate is good no longer.

use super::{Act, Meaning, Verb};
use crate::testbed::{ActError, Testbed};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

/// Revokes every certificate that the CA has issued to the device, and has the broker, which needs `broker: { crl: true }`, read the new
/// revocation list. Connections that are open stay: the broker looks at the list in handshakes.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Revoke {}

impl Verb for Revoke {
    const NAME: &'static str = "revoke";
    const EXAMPLE: &'static str = "- power-on: {}\n- provision: {}\n- wait-for: { state: MQTT_CONNECTED }\n- revoke: {}";
    fn mean(self) -> Result<Meaning, String> {
        Ok(Meaning::act(self))
    }
}

#[async_trait]
impl Act for Revoke {
    async fn act(&self, testbed: &mut Testbed) -> Result<(), ActError> {
        testbed.revoke().await
    }
}
