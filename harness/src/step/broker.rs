//! `broker`: the broker goes away and comes back, begins to lie or is honest again.

use super::{Act, Meaning, Verb};
use crate::broker::scripted::Lie;
use crate::testbed::{ActError, BrokerAct, Testbed};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

/// Stops the broker in good order, kills it as a power cut would, or starts it again on the same port with what it had stored. A scripted
/// broker can also be told to lie; to have it lie from the start, use `broker: { scripted: … }` at the top of the file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Broker {
    /// Starts it again.
    Start,
    /// Ends it in good order: it says goodbye to its clients and stores what it holds.
    Stop,
    /// Ends it at once.
    Kill,
    /// It misbehaves in these ways, in place of those before (a scripted broker).
    Misbehave(Vec<Lie>),
    /// It is honest again (a scripted broker).
    Heal,
}

impl Verb for Broker {
    const NAME: &'static str = "broker";
    const EXAMPLE: &'static str = "- power-on: {}\n- broker: kill\n- broker: start";
    fn mean(self) -> Result<Meaning, String> {
        match &self {
            Broker::Misbehave(lies) if lies.is_empty() => Err("no misbehaviour\nname at least one, or write `broker: heal`".into()),
            _ => Ok(Meaning::act(self)),
        }
    }
}

#[async_trait]
impl Act for Broker {
    async fn act(&self, testbed: &mut Testbed) -> Result<(), ActError> {
        let act = match self {
            Broker::Start => BrokerAct::Start,
            Broker::Stop => BrokerAct::Stop,
            Broker::Kill => BrokerAct::Kill,
            Broker::Misbehave(lies) => return testbed.misbehave_broker(lies).await,
            Broker::Heal => return testbed.misbehave_broker(&[]).await,
        };
        testbed.broker(act).await
    }
}
