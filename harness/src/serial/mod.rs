//! The network through a serial console: PPP between lines of text, and a gateway of this program's own behind it.
//!
//! A device without radio or network card (in Wokwi, in an emulator, on a cable) reaches the testbed's servers over its console's line, and is
//! reached. No network device of the system, no privilege and no other program is needed: `network` tells text and frames apart and runs
//! what is beside the console, `ppp` agrees with the device on a link, `gateway` has the device's TCP and UDP end at ordinary sockets. `lines`
//! puts numbered lines of text in order.

pub mod gateway;
pub mod lines;
pub mod network;
pub mod pcap;
pub mod ppp;
pub mod self_test;
pub mod wire;

use crate::site::Site;
use crate::target::{Console, TargetError};
use crate::trace::tape::Tape;
use device_core::serial::frame::Encoding;
use device_core::surroundings::Link;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

/// How the network is carried, as `--link` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Over the console, in frames of this encoding.
    Console(Encoding),
}

impl FromStr for Carrier {
    type Err = String;

    fn from_str(text: &str) -> Result<Carrier, String> {
        match text {
            "console" => Ok(Carrier::Console(Encoding::Hdlc)),
            "console:text" => Ok(Carrier::Console(Encoding::Text)),
            _ => Err("allowed: `console` (PPP as RFC 1662 frames), `console:text` (the same in lines of text)".into()),
        }
    }
}

impl std::fmt::Display for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Carrier::Console(Encoding::Hdlc) => "console",
            Carrier::Console(Encoding::Text) => "console:text",
        })
    }
}

/// What a device is told of it before it begins.
pub fn link(carrier: Option<Carrier>) -> Link {
    match carrier {
        None => Link::Board,
        Some(Carrier::Console(Encoding::Hdlc)) => Link::Console,
        Some(Carrier::Console(Encoding::Text)) => Link::ConsoleText,
    }
}

/// What goes over a console's line beside text, and how good that line is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The network, if it goes there.
    pub carrier: Option<Carrier>,
    /// Bits a second that the line carries each way, at most.
    pub pace: Option<u32>,
    /// One byte of so many is lost on it, each way. Its lines of text are numbered then.
    pub loses_one_in: Option<u32>,
    /// The folder that each device's packets are written to, a file for each time with power.
    pub pcap: Option<PathBuf>,
}

impl Line {
    /// As the environment says it: `HARNESS_LINK`.
    pub fn from_environment() -> Line {
        let carrier = std::env::var("HARNESS_LINK").ok().and_then(|text| text.parse().ok());
        Line { carrier, ..Line::default() }
    }

    /// Whether the device's lines of text are to be numbered.
    pub fn is_numbered(&self) -> bool {
        self.loses_one_in.is_some()
    }

    /// What the trace says of it.
    pub fn facts(&self, carrier: Option<Carrier>) -> BTreeMap<String, String> {
        let said = [
            ("link", carrier.map(|carrier| carrier.to_string())),
            ("line-baud", self.pace.map(|pace| pace.to_string())),
            ("line-loses-one-in", self.loses_one_in.map(|count| count.to_string())),
        ];
        said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    /// Puts the network on a device's line, if it goes there.
    ///
    /// # Errors
    /// When there can be no file for its packets, or no port is free.
    pub async fn lay(&self, console: Console, carrier: Option<Carrier>, site: &Site, tape: &Tape) -> Result<Console, TargetError> {
        let Some(Carrier::Console(encoding)) = carrier else { return Ok(console) };
        let options = network::Options {
            encoding,
            reachable: site.reachable.clone(),
            faults: wire::Faults { baud: self.pace, loses_one_in: self.loses_one_in, seed: site.seed },
            pcap: self.pcap_file(site)?,
            ..network::Options::default()
        };
        if let Some(file) = &options.pcap {
            let text = format!("the link's packets are in {}; what TLS does not hide can be read there", file.display());
            tape.say(crate::event::Source::Runner, crate::event::What::Note(text));
        }
        network::attach(console, options, Some(tape.clone())).await.map_err(|error| TargetError {
            what: format!("put the network on the console's line: {error}"),
            help: "see that the loopback interface is up, and the folder of --pcap can be written to".into(),
        })
    }

    /// A file of its own for each time with power.
    fn pcap_file(&self, site: &Site) -> Result<Option<PathBuf>, TargetError> {
        static FILES: AtomicU32 = AtomicU32::new(1);
        let Some(folder) = &self.pcap else { return Ok(None) };
        std::fs::create_dir_all(folder).map_err(|error| TargetError {
            what: format!("make the folder {}: {error}", folder.display()),
            help: "name another one with --pcap".into(),
        })?;
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        Ok(Some(folder.join(format!("{}-{number}.pcap", site.device_id))))
    }
}
