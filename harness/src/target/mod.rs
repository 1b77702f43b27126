//! Ways to have a device. A target is power and a byte stream; the ways it differs from the next are data ([`Facts`]).

mod qemu;
pub mod rig;
pub mod twin;
pub mod wokwi;

use crate::scenario::header::Capability;
use crate::serial::{Carrier, Line, network::Network};
use crate::site::Site;
use crate::testbed::CutPoint;
use crate::trace::tape::Tape;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// A device with a power switch.
#[async_trait]
pub trait Target: Send + std::fmt::Debug {
    /// What is different about this way of having a device.
    fn facts(&self) -> &Facts;

    /// What this very device is made of, for readers of its trace: machine, image. No path, and nothing that is judged.
    fn made_of(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Switches power on; the device keeps what it had stored. `cut` arms a power cut at a write; the target says
    /// [`crate::event::What::Power`] on the tape when it strikes, and [`crate::event::What::Ended`] when the device ends by itself.
    ///
    /// # Errors
    /// When the device cannot be started: the trial is inconclusive.
    async fn power_on(&mut self, site: &Site, tape: &Tape, cut: Option<CutPoint>) -> Result<Console, TargetError>;

    /// Switches power off, at once: nothing the device was doing is finished. Off already is fine.
    ///
    /// # Errors
    /// When the device could not be stopped.
    async fn power_off(&mut self) -> Result<(), TargetError>;
}

/// What is different about a way of having a device; nothing outside asks which one it is.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its name, as `--target` takes it.
    pub name: &'static str,
    /// How the device calls the machine that the testbed's servers run on.
    pub host_alias: &'static str,
    /// What it can do; a step that needs more skips the trial by the capability's name.
    pub can: &'static [Capability],
    /// Multiplies every `within` of a scenario.
    pub patience: f32,
    /// Whether its firmware is an image, so that it can be somebody else's.
    pub takes_firmware: bool,
    /// How much of a machine a device of this kind takes, in trials of the twin; 1 for the twin.
    pub share: usize,
    /// How many devices of this kind there are, and so trials of them at one time; none: as many as the machine bears.
    pub there_are: fn(&Equipment) -> Option<usize>,
    /// Whether it runs where it can come to a stand without a word: on somebody else's machine.
    pub stalls: bool,
    /// Whether each run costs something that there is only so much of.
    pub metered: fn() -> bool,
    /// What the network goes over, where that is the console's line.
    pub link: fn(&Equipment) -> Option<Carrier>,
    /// What it needs beside this program, if all of that is there; what is missing, with the command that gets it.
    pub ready: fn(&Equipment) -> Result<String, TargetError>,
    /// Makes one: a device fresh from the factory, switched off.
    pub make: fn(&Equipment) -> Box<dyn Target>,
}

/// What targets that are not in this process are made with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Equipment {
    /// The emulator: a path, or a name in PATH; unset: the target's own choice.
    pub emulator: Option<PathBuf>,
    /// The firmware's image, in the form that the target takes; unset: the one that this workspace's firmware is built to.
    pub firmware: Option<PathBuf>,
    /// The serial ports that boards are at, one a board.
    pub ports: Vec<String>,
    /// Bits per second of those; unset: what ESP32 consoles speak.
    pub baud: Option<u32>,
    /// What the firmware's lines mean, a built-in vocabulary or a file, where it is not this project's: it takes no settings and no commands.
    pub vocabulary: Option<String>,
    /// wokwi-cli: a path, or a name in PATH; unset: `wokwi-cli`.
    pub wokwi_cli: Option<PathBuf>,
    /// The folder with `wokwi.toml` and `diagram.json`; unset: the nearest around the working directory that has one.
    pub project: Option<PathBuf>,
    /// Another diagram than that of the folder.
    pub diagram: Option<PathBuf>,
    /// How long a simulation may take until its device says the first byte; unset: the target's own choice.
    pub start_limit: Option<Duration>,
    /// What goes over the console's line beside text, and how good that line is.
    pub line: Line,
}

impl Equipment {
    /// As the environment says it: `HARNESS_EMULATOR`, `HARNESS_FIRMWARE`, `HARNESS_PORT` (several with commas between), `HARNESS_BAUD`,
    /// `HARNESS_VOCABULARY`, `HARNESS_WOKWI_CLI`, `HARNESS_START_LIMIT` (seconds), `HARNESS_LINK`.
    pub fn from_environment() -> Equipment {
        let named = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let ports = std::env::var("HARNESS_PORT").unwrap_or_default();
        Equipment {
            emulator: named("HARNESS_EMULATOR"),
            firmware: named("HARNESS_FIRMWARE"),
            ports: ports.split(',').map(str::trim).filter(|port| !port.is_empty()).map(str::to_owned).collect(),
            baud: std::env::var("HARNESS_BAUD").ok().and_then(|baud| baud.parse().ok()),
            vocabulary: std::env::var("HARNESS_VOCABULARY").ok().filter(|name| !name.is_empty()),
            wokwi_cli: named("HARNESS_WOKWI_CLI"),
            start_limit: std::env::var("HARNESS_START_LIMIT").ok().and_then(|s| s.parse().ok()).map(Duration::from_secs),
            line: Line::from_environment(),
            ..Equipment::default()
        }
    }
}

impl Facts {
    /// What lines of this target's devices mean, where their firmware is not this project's.
    pub fn vocabulary<'e>(&self, equipment: &'e Equipment) -> Option<&'e str> {
        equipment.vocabulary.as_deref().filter(|_| self.takes_firmware)
    }

    /// Whether its devices can do this. Firmware that is not this project's takes no commands, and knows nothing of simulated surroundings.
    pub fn can(&self, need: Capability, equipment: &Equipment) -> bool {
        let ours = [Capability::PowerCut, Capability::ClockJump, Capability::Air, Capability::Console];
        self.can.contains(&need) && (self.vocabulary(equipment).is_none() || !ours.contains(&need))
    }
}

/// A device's serial console.
pub struct Console {
    /// What the device says.
    pub says: Box<dyn AsyncRead + Send + Unpin>,
    /// What the device is told.
    pub hears: Box<dyn AsyncWrite + Send + Unpin>,
    /// Where the device's HTTP API answers, if not where the device says.
    pub door: Option<SocketAddr>,
    /// The network on the console's line, where there is one.
    pub network: Option<Network>,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Console")
    }
}

/// A device could not be started or stopped.
#[derive(Debug, thiserror::Error)]
#[error("could not {what}; {help}")]
pub struct TargetError {
    /// What could not be done, a lower-case fragment.
    pub what: String,
    /// The next thing to do.
    pub help: String,
}

/// The environment variable that says, by `1`, that runs may cost what they cost.
pub const METERED: &str = "HARNESS_METERED";

/// The targets there are. One line here and one file add a target.
pub const TARGETS: &[&Facts] = &[&twin::FACTS, &qemu::FACTS, &rig::FACTS, &wokwi::FACTS];

/// The facts of the target of that name.
///
/// # Errors
/// When there is none; the message lists those there are.
pub fn facts(name: &str) -> Result<&'static Facts, TargetError> {
    TARGETS.iter().find(|facts| facts.name == name).copied().ok_or_else(|| TargetError {
        what: format!("find a target called `{name}`"),
        help: format!("there is {}", TARGETS.iter().map(|facts| format!("`{}`", facts.name)).collect::<Vec<_>>().join(", ")),
    })
}
