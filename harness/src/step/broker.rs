//! `broker`: the broker goes away and comes back.

use super::{Act, Meaning, Verb};
use crate::testbed::{ActError, BrokerAct, Testbed};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

/// Stops the broker in good order, kills it as a power cut would, or starts it again on the same port with what it had stored.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Broker {
    /// Starts it again.
    Start,
    /// Ends it in good order: it says goodbye to its clients and stores what it holds.
    Stop,
    /// Ends it at once.
    Kill,
}

impl Verb for Broker {
    const NAME: &'static str = "broker";
    const EXAMPLE: &'static str = "- power-on: {}\n- broker: kill\n- broker: start";
    fn mean(self) -> Result<Meaning, String> {
        Ok(Meaning::act(self))
    }
}

#[async_trait]
impl Act for Broker {
    async fn act(&self, testbed: &mut Testbed) -> Result<(), ActError> {
        let act = match self {
            Broker::Start => BrokerAct::Start,
            Broker::Stop => BrokerAct::Stop,
            Broker::Kill => BrokerAct::Kill,
        };
        testbed.broker(act).await
    }
}
