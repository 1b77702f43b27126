//! `power-on`: power is switched on.

use super::{Act, Meaning, Verb};
use crate::scenario::header::Capability;
use crate::testbed::{ActError, CutPoint, Testbed};
use async_trait::async_trait;
use device_core::storage::{Moment, Write};
use schemars::JsonSchema;
use serde::Deserialize;

/// Switches the device on. At its first boot it is told its settings. With `cut-before`, power goes again just before a write to
/// storage of a kind, with `cut-at` at a write to the storage medium, whatever it is for; `wait-for: { power: cut }` waits for that, and the
/// device stays off until the next `power-on`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PowerOn {
    /// Where power is cut.
    #[serde(default)]
    cut_before: Option<Cut>,
    /// Where power is cut, counted in writes of any kind.
    #[serde(default)]
    cut_at: Option<CutAt>,
}

/// A write to the storage medium at which power is cut. What one write is depends on the target: the twin writes its whole set at once,
/// firmware a sector of flash.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct CutAt {
    /// The how manieth since power-on.
    #[schemars(range(min = 1))]
    nth: u32,
    /// How much of it is done; unset: nothing.
    #[serde(default)]
    moment: MomentName,
}

/// How much of a write is done when the power goes.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum MomentName {
    /// Nothing.
    #[default]
    Before,
    /// Half of it.
    Torn,
    /// All of it, and nobody was told.
    After,
}

impl From<MomentName> for Moment {
    fn from(name: MomentName) -> Moment {
        match name {
            MomentName::Before => Moment::Before,
            MomentName::Torn => Moment::Torn,
            MomentName::After => Moment::After,
        }
    }
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
        if self.cut_before.is_some_and(|cut| cut.nth == 0) || self.cut_at.is_some_and(|cut| cut.nth == 0) {
            return Err("`nth: 0`\nwrites are counted from 1".into());
        }
        if self.cut_before.is_some() && self.cut_at.is_some() {
            return Err("two cuts\ngive one of: cut-before, cut-at".into());
        }
        let needs: &[_] = if self.cut_before.is_some() || self.cut_at.is_some() { &[Capability::PowerCut] } else { &[] };
        Ok(Meaning::act(self).needs(needs))
    }
}

#[async_trait]
impl Act for PowerOn {
    async fn act(&self, testbed: &mut Testbed) -> Result<(), ActError> {
        let before = self.cut_before.map(|cut| CutPoint::Before { write: cut.write.into(), nth: cut.nth });
        let at = || self.cut_at.map(|cut| CutPoint::At { nth: cut.nth, moment: cut.moment.into() });
        testbed.power_on(before.or_else(at)).await
    }
}
