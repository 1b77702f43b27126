//! `power-on`: power is switched on.

use super::{Act, Meaning, Verb};
use crate::scenario::header::Capability;
use crate::testbed::{ActError, CutPoint, Testbed};
use async_trait::async_trait;
use device_core::storage::Write;
use schemars::JsonSchema;
use serde::Deserialize;

/// Switches the device on. At its first boot it is told its settings. With `cut-before`, power goes again just before a write to
/// storage; `wait-for: { power: cut }` waits for that, and the device stays off until the next `power-on`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PowerOn {
    /// Where power is cut.
    #[serde(default)]
    cut_before: Option<Cut>,
}

/// A write to storage, just before which power is cut.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Cut {
    /// What is being written.
    write: WriteName,
    /// The how manieth of its kind since power-on; unset: 1.
    #[serde(default = "first")]
    #[schemars(range(min = 1))]
    nth: u32,
}

fn first() -> u32 {
    1
}

/// What a device writes to storage.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum WriteName {
    /// Console settings.
    Settings,
    /// Credentials from `POST /provision`.
    Credentials,
    /// A freshly made key.
    Key,
    /// The issued certificate with its CA.
    Certificate,
    /// The new key of a renewal.
    NextKey,
    /// The renewed certificate together with its key.
    Renewal,
    /// Everything forgotten.
    Reset,
    /// A reading enters the offline queue.
    QueuePush,
    /// An acknowledged reading leaves it.
    QueuePop,
}

impl From<WriteName> for Write {
    fn from(name: WriteName) -> Write {
        match name {
            WriteName::Settings => Write::Settings,
            WriteName::Credentials => Write::Credentials,
            WriteName::Key => Write::Key,
            WriteName::Certificate => Write::Certificate,
            WriteName::NextKey => Write::NextKey,
            WriteName::Renewal => Write::Renewal,
            WriteName::Reset => Write::Reset,
            WriteName::QueuePush => Write::QueuePush,
            WriteName::QueuePop => Write::QueuePop,
        }
    }
}

impl Verb for PowerOn {
    const NAME: &'static str = "power-on";
    const EXAMPLE: &'static str = "- power-on: { cut-before: { write: certificate } }\n- provision: {}\n- wait-for: { power: cut }\n- power-on: {}";
    fn mean(self) -> Result<Meaning, String> {
        if self.cut_before.is_some_and(|cut| cut.nth == 0) {
            return Err("`nth: 0`\nwrites are counted from 1".into());
        }
        let needs: &[_] = if self.cut_before.is_some() { &[Capability::PowerCut] } else { &[] };
        Ok(Meaning::act(self).needs(needs))
    }
}

#[async_trait]
impl Act for PowerOn {
    async fn act(&self, testbed: &mut Testbed) -> Result<(), ActError> {
        testbed.power_on(self.cut_before.map(|cut| CutPoint { before: cut.write.into(), nth: cut.nth })).await
    }
}
