//! `broker`: the broker goes away and comes back, becomes another one, begins to lie or is honest again.

use super::{Act, Meaning, Verb};
use crate::broker::scripted::Lie;
use crate::scenario::header::ServerCertificate;
use crate::scenario::value::Text;
use crate::testbed::{ActError, BrokerAct, BrokerChange, Clients, How, Testbed};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Stops the broker in good order, kills it as a power cut would, or starts it again on the same port and with what it had stored; or
/// changes it: when that is done, the broker goes by the change. A scripted broker can also be told to lie; to have it lie from the
/// start, use `broker: { scripted: … }` at the top of the file.
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
    /// Has it read its files again while it runs. Clients stay connected, but those that may not be any more.
    Reload(Reload),
    /// Ends it in good order and starts it again, for what it reads at its start only.
    Restart(Restart),
}

/// What a running broker reads again.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Reload {
    /// Users and their passwords, in place of those before. Who is not among them is thrown out.
    users: Option<BTreeMap<String, Text>>,
    /// Its access control list, in place of the one before.
    acl: Option<String>,
    /// Another server certificate, with the names of the one before and a key of its own.
    certificate: Option<ServerCertificate>,
}

/// What a broker reads at its start.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Restart {
    /// Another server certificate, with the names of the one before and a key of its own.
    certificate: Option<ServerCertificate>,
    /// Whose certificates it takes from devices.
    clients: Option<Issuers>,
    /// Whether its second port, without TLS, is still open.
    plain_too: Option<bool>,
}

/// Whose certificates a broker takes.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Issuers {
    /// The CA's.
    Ours,
    /// The CA's, and those of the CA that is to follow it.
    Both,
    /// Those of the CA that follows alone.
    Next,
}

impl Verb for Broker {
    const NAME: &'static str = "broker";
    const EXAMPLE: &'static str = "- power-on: {}\n- broker: kill\n- broker: start\n- broker: { reload: { certificate: good } }\n- broker: { restart: { clients: both } }";
    fn mean(self) -> Result<Meaning, String> {
        match &self {
            Broker::Misbehave(lies) if lies.is_empty() => Err("no misbehaviour\nname at least one, or write `broker: heal`".into()),
            Broker::Reload(Reload { users: None, acl: None, certificate: None }) => {
                Err("nothing that is to be read again\ngive one of: users, acl, certificate".into())
            }
            _ => Ok(Meaning::act(self)),
        }
    }
}

#[async_trait]
impl Act for Broker {
    async fn act(&self, testbed: &mut Testbed) -> Result<(), ActError> {
        let change = BrokerChange::default();
        match self {
            Broker::Start => testbed.broker(BrokerAct::Start).await,
            Broker::Stop => testbed.broker(BrokerAct::Stop).await,
            Broker::Kill => testbed.broker(BrokerAct::Kill).await,
            Broker::Misbehave(lies) => testbed.misbehave_broker(lies).await,
            Broker::Heal => testbed.misbehave_broker(&[]).await,
            Broker::Reload(Reload { users, acl, certificate }) => {
                let change = BrokerChange { users: users.clone(), acl: acl.clone(), certificate: *certificate, ..change };
                testbed.change_broker(&change, How::Reload).await
            }
            Broker::Restart(Restart { certificate, clients, plain_too }) => {
                let clients = clients.map(|issuers| match issuers {
                    Issuers::Ours => Clients::Ours,
                    Issuers::Both => Clients::Both,
                    Issuers::Next => Clients::Next,
                });
                let change = BrokerChange { certificate: *certificate, clients, plain_too: *plain_too, ..change };
                testbed.change_broker(&change, How::Restart).await
            }
        }
    }

    fn secrets(&self) -> Vec<(&'static str, String)> {
        let users = match self {
            Broker::Reload(Reload { users: Some(users), .. }) => users,
            _ => return Vec::new(),
        };
        users.values().map(|word| ("mqtt-password", word.0.clone())).collect()
    }
}
