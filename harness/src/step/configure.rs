//! `configure`: the device is told other settings.

use super::expect::{Await, DeviceSays, Expectation};
use super::{Act, Meaning, Verb, WITHIN_DEFAULT};
use crate::scenario::header::{Capability, Level};
use crate::scenario::value::{ReportName, Text};
use crate::testbed::{ActError, Testbed};
use async_trait::async_trait;
use device_core::config::Config;
use device_core::secret::Secret;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Tells the device its settings on the console, as at its first boot but for this security level, and waits until it says that they are
/// saved: where the servers are and whom it is to trust, then `settings`. A factory reset forgets them, too.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Configure {
    /// How its MQTT connection is to be protected. `plain` goes to the broker's plain port.
    security: Level,
    /// Further settings, by the names the console knows; an empty text sets the default again.
    #[serde(default)]
    settings: BTreeMap<String, Text>,
}

impl Verb for Configure {
    const NAME: &'static str = "configure";
    const EXAMPLE: &'static str = "- power-on: {}\n- configure: { security: mutual-tls, settings: { MQTT_USER: \"\" } }";
    fn mean(self) -> Result<Meaning, String> {
        for (name, value) in &self.settings {
            Config::default().set(name, &value.0).map_err(|e| format!("{}: {}\nallowed: {}", e.name, e.met, e.allowed))?;
        }
        let saved = DeviceSays { report: Some(ReportName("settings-saved".into())), ..DeviceSays::default() };
        let wish = Arc::new(Expectation::Device(saved));
        let meaning = Meaning::act(self).needs(&[Capability::Console]);
        Ok(meaning.then(move || Await { wish: wish.clone(), times: 1, met: 0, within: WITHIN_DEFAULT }))
    }
}

#[async_trait]
impl Act for Configure {
    async fn act(&self, testbed: &mut Testbed) -> Result<(), ActError> {
        let more: Vec<_> = self.settings.iter().map(|(name, value)| (name.clone(), Secret::new(value.0.as_str()))).collect();
        testbed.configure(self.security.into(), &more).await
    }

    fn secrets(&self) -> Vec<(&'static str, String)> {
        let secret = |name: &str| device_core::config::setting(name).is_some_and(|setting| setting.secret);
        let secrets = self.settings.iter().filter(|(name, _)| secret(name));
        secrets.map(|(_, value)| ("setting", value.0.clone())).collect()
    }
}
