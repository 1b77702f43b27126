//! `wait-for`: something must be seen, soon.

use super::expect::{Answer, Await, CaMet, DeviceSays, Expectation, LinkSays, Message, PowerMet, Said, TimeMet};
use super::packet::PacketSeen;
use super::{Meaning, Verb, WITHIN_DEFAULT};
use crate::scenario::value::{Period, StateName};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// Declares a verb's type that has every source as an optional key, since flattening would lose the places of mistakes.
macro_rules! with_sources {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub struct $name {
            /// A line on the device's console: `{ report: certificate-stored }`, `{ text: … }`, `{ pattern: … }`.
            #[serde(default)]
            device: Option<DeviceSays>,
            /// The device enters this state, such as `MQTT_CONNECTED`.
            #[serde(default)]
            state: Option<StateName>,
            /// A message on the broker: `{ topic: devices/+/status, retained: true }`.
            #[serde(default)]
            mqtt: Option<Message>,
            /// A request to the CA: `sign-csr`, or `{ request: sign-csr, status: 503 }`.
            #[serde(default)]
            ca: Option<CaMet>,
            /// A line of the broker's log.
            #[serde(default)]
            broker: Option<Said>,
            /// A packet between the device and a scripted broker: `pingreq`, or `{ kind: publish, dup: true }`.
            #[serde(default)]
            packet: Option<PacketSeen>,
            /// Something on the wire: `{ hello: { to: broker, version: "1.3" } }`.
            #[serde(default)]
            link: Option<LinkSays>,
            /// An answer of the device's HTTP API.
            #[serde(default)]
            http: Option<Answer>,
            /// `asked`: the device asked the time server.
            #[serde(default)]
            time: Option<TimeMet>,
            /// `cut`: power was cut as a `power-on` with `cut-before` armed it.
            #[serde(default)]
            power: Option<PowerMet>,
            $($(#[$field_meta])* $field: $ty,)*
        }

        impl $name {
            /// The one source given, and what it must say.
            fn wish(&self) -> Result<Arc<Expectation>, String> {
                let this = self.clone();
                let given: Vec<Expectation> = [
                    this.device.map(Expectation::Device),
                    this.state.map(Expectation::State),
                    this.mqtt.map(Expectation::Mqtt),
                    this.ca.map(Expectation::Ca),
                    this.broker.map(Expectation::Broker),
                    this.packet.map(Expectation::Packet),
                    this.link.map(Expectation::Link),
                    this.http.map(Expectation::Http),
                    this.time.map(Expectation::Time),
                    this.power.map(Expectation::Power),
                ]
                .into_iter()
                .flatten()
                .collect();
                let sources = "device, state, mqtt, ca, broker, packet, link, http, time, power";
                match <[Expectation; 1]>::try_from(given) {
                    Ok([wish]) => wish.check().map(|()| Arc::new(wish)),
                    Err(given) if given.is_empty() => Err(format!("an expectation without a source\ngive one of: {sources}")),
                    Err(given) => Err(format!("an expectation with {} sources\ngive one of: {sources}; one step each", given.len())),
                }
            }
        }
    };
}
pub(super) use with_sources;

with_sources! {
    /// Waits until a source says something. What came before the last step that acts is not looked at, nor what an earlier
    /// expectation of the same source has met: a stale line cannot pass for a new one.
    WaitFor {
        /// How many times it must be seen; unset: 1.
        #[serde(default = "once")]
        #[schemars(range(min = 1))]
        times: u32,
        /// How long it may take, in device time; unset: 10s.
        #[serde(default)]
        within: Option<Period>,
    }
}

fn once() -> u32 {
    1
}

impl Verb for WaitFor {
    const NAME: &'static str = "wait-for";
    const EXAMPLE: &'static str = "- power-on: {}\n- provision: {}\n- wait-for: { ca: sign-csr, times: 2, within: 30s }\n- wait-for: { device: { report: certificate-stored, with: { subject: \"${device}\" } } }\n- wait-for: { mqtt: { topic: \"devices/${device}/status\", retained: true }, within: 5s }\n- wait-for: { link: { hello: { to: broker, version: \"1.3\" } } }\n- wait-for: { state: MQTT_CONNECTED }";
    fn mean(self) -> Result<Meaning, String> {
        if self.times == 0 {
            return Err("`times: 0`\nto say that something must not be seen, use `expect-none`".into());
        }
        let wish = self.wish()?;
        let (times, within) = (self.times, self.within.map_or(WITHIN_DEFAULT, |within| within.0));
        Ok(Meaning::watch(move || Await { wish: wish.clone(), times, met: 0, within }))
    }
}
