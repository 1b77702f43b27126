//! `command`: a line for the device's console.

use super::{Act, Meaning, Verb, secrets_in_json};
use crate::scenario::header::Capability;
use crate::testbed::{ActError, Testbed};
use async_trait::async_trait;
use device_core::output::AirChange;
use schemars::JsonSchema;
use serde::Deserialize;

/// Says a command line on the device's console: `command: status`. The line end is added.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Command(String);

impl Verb for Command {
    const NAME: &'static str = "command";
    const EXAMPLE: &'static str = "- power-on: {}\n- command: status\n- wait-for: { device: { report: status } }";
    fn mean(self) -> Result<Meaning, String> {
        if self.0.contains(['\r', '\n']) {
            return Err("a command of more than one line\nuse one step a line, or `write-serial`".into());
        }
        Ok(Meaning::act(self).needs(&[Capability::Console]))
    }
}

#[async_trait]
impl Act for Command {
    async fn act(&self, testbed: &mut Testbed) -> Result<(), ActError> {
        testbed.command(&self.0).await
    }

    fn secrets(&self) -> Vec<(&'static str, String)> {
        use device_core::command::Command;
        match Command::parse(&self.0) {
            Ok(Command::Set { name, value }) if device_core::config::setting(&name).is_some_and(|setting| setting.secret) => {
                vec![("setting", value.expose().to_owned())]
            }
            Ok(Command::Provision(body)) => secrets_in_json(body.expose()),
            Ok(Command::Air(AirChange::Add { password, .. })) => vec![("wifi-password", password.expose().to_owned())],
            _ => Vec::new(),
        }
    }
}
