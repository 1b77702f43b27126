//! `command`: a line for the device's console.

use super::{Act, Meaning, Verb};
use crate::testbed::{ActError, Testbed};
use async_trait::async_trait;
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
        Ok(Meaning::act(self))
    }
}

#[async_trait]
impl Act for Command {
    async fn act(&self, testbed: &mut Testbed) -> Result<(), ActError> {
        testbed.command(&self.0).await
    }
}
