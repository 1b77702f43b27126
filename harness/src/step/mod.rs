//! The scenario language: one file a verb. A verb acts on the testbed, watches the tape, or both.

use crate::event::{Event, Source};
use crate::scenario::MakeWatch;
use crate::scenario::header::Capability;
use crate::scenario::problem::Problem;
use crate::scenario::typed;
use crate::scenario::yaml::Node;
use crate::testbed::{ActError, Testbed};
use async_trait::async_trait;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::time::Duration;

/// What a verb is to the rest of the harness.
#[async_trait]
pub trait Act: Debug + Send + Sync {
    /// Does it. What comes of it is on the tape (device, http, ca, …), never in the return value.
    ///
    /// # Errors
    /// When the testbed could not do it: the trial is inconclusive. Whatever the device does wrong is not an error.
    async fn act(&self, testbed: &mut Testbed) -> Result<(), ActError>;

    /// What it will send that must not be seen: a label and the secret. Known before anything is written, the scenario's own text included.
    fn secrets(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

/// The secrets in a body of the provisioning API, as far as it is JSON.
fn secrets_in_json(body: &str) -> Vec<(&'static str, String)> {
    let fields = [("password", "wifi-password"), ("provisioning_token", "provisioning-token"), ("user_token", "user-token")];
    let Ok(serde_json::Value::Object(body)) = serde_json::from_str(body) else { return Vec::new() };
    fields.into_iter().filter_map(|(field, label)| Some((label, body.get(field)?.as_str()?.to_owned()))).collect()
}

/// A pure expectation: fed events in order, the same live and in replay.
pub trait Watch: Debug + Send {
    /// The sources it reads. A match moves these sources' readers past it, and no others.
    fn reads(&self) -> &[Source];
    /// Looks at one event from one of its sources.
    fn observe(&mut self, event: &Event) -> Progress;
    /// How long it may take, in device time, before patience is multiplied in.
    fn within(&self) -> Duration;
    /// What it means that the time is up.
    fn time_up(&mut self) -> Progress;
    /// What is waited for, in one line, for reports: `device report certificate-stored`.
    fn describe(&self) -> String;
    /// Whether it reads the console as bytes: what an earlier watch of bytes left of a line is shown to it first, and of a line that was
    /// said in pieces only what is new.
    fn reads_bytes(&self) -> bool {
        false
    }
}

/// What a watch says after an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not yet.
    Waiting,
    /// Met: the next step may begin.
    Met,
    /// Met by a part of what the console said: this came behind it, line end included, and is for the next watch of bytes.
    MetLeaving(String),
    /// Never will be: the device failed, for this reason.
    Failed(String),
}

/// What a step means, once it has been read.
#[derive(Debug, Default)]
pub struct Meaning {
    /// What it does.
    pub act: Option<Box<dyn Act>>,
    /// What it expects.
    pub watch: Option<MakeWatch>,
    /// The golden it compares with.
    pub snapshot: Option<String>,
    /// What the target must be able to do.
    pub needs: Vec<Capability>,
    /// What is odd about it, each in two lines: what was met, and what to write instead.
    pub warnings: Vec<String>,
}

impl Meaning {
    fn act(act: impl Act + 'static) -> Meaning {
        Meaning { act: Some(Box::new(act)), ..Meaning::default() }
    }
    fn watch<W: Watch + 'static>(make: impl Fn() -> W + Send + Sync + 'static) -> Meaning {
        Meaning::default().then(make)
    }
    fn then<W: Watch + 'static>(self, make: impl Fn() -> W + Send + Sync + 'static) -> Meaning {
        Meaning { watch: Some(MakeWatch(Box::new(move || Box::new(make())))), ..self }
    }
    /// Ends the trial as failed, when it is its turn.
    pub(crate) fn fails(why: String) -> Meaning {
        Meaning::watch(move || Failing(why.clone()))
    }
    fn needs(self, needs: &[Capability]) -> Meaning {
        Meaning { needs: needs.to_vec(), ..self }
    }
}

/// A step that Wokwi's command line takes, and at which it then gives up.
#[derive(Debug)]
struct Failing(String);

impl Watch for Failing {
    fn reads(&self) -> &[Source] {
        &[]
    }
    fn observe(&mut self, _: &Event) -> Progress {
        Progress::Waiting
    }
    fn within(&self) -> Duration {
        Duration::ZERO
    }
    fn time_up(&mut self) -> Progress {
        Progress::Failed(self.0.clone())
    }
    fn describe(&self) -> String {
        self.0.clone()
    }
}

/// A verb of the language. The type is what stands under the verb in YAML; its doc comment is the verb's manual.
pub trait Verb: DeserializeOwned + JsonSchema {
    /// The word.
    const NAME: &'static str;
    /// Steps that show its use, as they stand in a file.
    const EXAMPLE: &'static str;
    /// What it means.
    ///
    /// # Errors
    /// What serde cannot check, in two lines: what was met, and what to write instead.
    fn mean(self) -> Result<Meaning, String>;
    /// What a value means that is not of the type, or that [`mean`](Verb::mean) refuses, where Wokwi's command line takes it; none: nothing.
    fn loosely(_value: &Node) -> Option<Meaning> {
        None
    }
}

/// A verb, without its type.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    /// The word.
    pub name: &'static str,
    /// Steps that show its use.
    pub example: &'static str,
    /// Reads what stands under it.
    pub read: fn(&Node) -> Result<Meaning, Vec<Problem>>,
    /// Reads what stands under it in a file of Wokwi's, when `read` refuses it and Wokwi does not.
    pub loosely: fn(&Node) -> Option<Meaning>,
    /// The schema of what stands under it.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

const fn word<V: Verb>() -> Word {
    fn read<V: Verb>(node: &Node) -> Result<Meaning, Vec<Problem>> {
        typed::read::<V>(node)?.mean().map_err(|message| {
            let (met, help) = message.split_once('\n').unwrap_or((&message, ""));
            vec![Problem::new(node.at.clone(), met, help)]
        })
    }
    fn schema<V: Verb>(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<V>()
    }
    Word { name: V::NAME, example: V::EXAMPLE, read: read::<V>, loosely: V::loosely, schema: schema::<V> }
}

/// Declares the verbs: module and type, in the order in which the manual lists them.
macro_rules! verbs {
    ($($module:ident :: $verb:ident)*) => {
        $(mod $module;)*
        /// Every verb.
        pub const VERBS: &[Word] = &[$(word::<$module::$verb>()),*];
    };
}

pub mod expect;
pub mod packet;
mod part;

verbs! {
    power_on::PowerOn
    power_off::PowerOff
    power_cycle::PowerCycle
    provision::Provision
    http::Http
    wait_for::WaitFor
    expect_none::ExpectNone
    broker::Broker
    take_over::TakeOver
    ca::Ca
    revoke::Revoke
    clock::Clock
    delay::Delay
    telemetry::Telemetry
    order::Order
    command::Command
    configure::Configure
    wait_serial::WaitSerial
    write_serial::WriteSerial
    set_control::SetControl
    expect_pin::ExpectPin
    expect_chip_output::ExpectChipOutput
    take_screenshot::TakeScreenshot
    touch::Touch
    touch_press::TouchPress
    touch_move::TouchMove
    touch_release::TouchRelease
    snapshot::Snapshot
}

/// The verb of that name.
pub fn verb(name: &str) -> Option<&'static Word> {
    VERBS.iter().find(|word| word.name == name)
}

/// How long an expectation may take when it does not say.
pub const WITHIN_DEFAULT: Duration = Duration::from_secs(10);
