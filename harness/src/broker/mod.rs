//! Brokers: real ones. What to start is a [`BrokerSpec`], which kind is a [`Choice`]; what comes back is a [`Broker`].
//!
//! The bundled broker is Eclipse Mosquitto 2.0.9 (EPL-2.0 OR EDL-1.0), linked with OpenSSL (Apache-2.0); their notices are in the
//! crate `libmosquitto-sys` that carries the sources. 2.0.9 is old and meant for loopback tests only.

pub mod bundled;
mod conf;
pub mod external;
pub mod log;
mod mosquitto;
pub mod process;
pub mod tap;

pub(crate) use conf::password_line;
pub use conf::{Acl, BrokerSpec, Storage, User};
pub(crate) use log::DIED;
pub use log::{Forward, Lines, Log};
pub use mosquitto::{Mosquitto, READY_WITHIN};
pub use tap::{Login, Tap, Tls};

use async_trait::async_trait;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// The testbed could not do something with the broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {help}")]
pub struct BrokerError {
    /// What could not be done and why, a lower-case fragment.
    pub what: String,
    /// The next thing to do.
    pub help: String,
}

impl BrokerError {
    fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        BrokerError { what: what.into(), help: help.into() }
    }
}

/// Which broker serves: for headers and reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// `process`, `bundled` or `external`.
    pub name: &'static str,
    /// Its version, such as `2.0.11`; `unknown` for an external one.
    pub version: String,
    /// Where it is: a path, an address, or nothing.
    pub place: String,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            "external" => write!(f, "external broker at {}", self.place),
            name if self.place.is_empty() => write!(f, "{name} mosquitto {}", self.version),
            name => write!(f, "{name} mosquitto {} ({})", self.version, self.place),
        }
    }
}

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The name its certificate is to carry.
    pub host: String,
    /// Its address. The same over all starts of one broker.
    pub address: SocketAddr,
}

/// A broker that runs, or that has run and can be started again.
#[async_trait]
pub trait Broker: Send + Sync + fmt::Debug {
    /// Which broker it is.
    fn backend(&self) -> &Backend;
    /// Where it listens.
    fn endpoint(&self) -> &Endpoint;
    /// What it says. The same log over all its starts; always silent for an external one.
    fn log(&self) -> &Log;
    /// Starts it again, on the same port and with what it had stored, and waits until it serves. Nothing, when it runs.
    ///
    /// # Errors
    /// When it does not serve within [`READY_WITHIN`] or ends at once; the error holds its last words.
    async fn start(&mut self) -> Result<(), BrokerError>;
    /// Ends it in good order: what it holds is stored first. Takes about 0.1 s. Nothing, when it does not run.
    ///
    /// # Errors
    /// When it does not end, or is not ours to end.
    async fn stop(&mut self) -> Result<(), BrokerError>;
    /// Ends it as a power cut would (SIGKILL). Nothing, when it does not run.
    ///
    /// # Errors
    /// When it does not end, or is not ours to end.
    async fn kill(&mut self) -> Result<(), BrokerError>;
}

/// Which broker to use, as the user says it: `auto`, `process`, `bundled` or `external:HOST:PORT`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first that works of `process` and `bundled`.
    #[default]
    Auto,
    /// An installed Mosquitto.
    Process,
    /// The Mosquitto built into this program.
    Bundled,
    /// One that runs already, at this host and port. Nothing is started, stopped or configured.
    External(String),
}

impl FromStr for Choice {
    type Err = BrokerError;

    fn from_str(text: &str) -> Result<Self, BrokerError> {
        const HELP: &str = "say auto, process, bundled or external:HOST:PORT";
        match text {
            "auto" => Ok(Choice::Auto),
            "process" => Ok(Choice::Process),
            "bundled" => Ok(Choice::Bundled),
            "container" => Err(BrokerError::new("a broker in a container is not built yet", HELP)),
            _ => match text.strip_prefix("external:").map(|address| (address, address.rsplit_once(':'))) {
                Some((address, Some((host, port)))) if !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0) => {
                    Ok(Choice::External(address.to_owned()))
                }
                Some((address, _)) => Err(BrokerError::new(format!("\"{address}\" is not HOST:PORT"), HELP)),
                None => Err(BrokerError::new(format!("there is no broker called \"{text}\""), HELP)),
            },
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Auto => f.write_str("auto"),
            Choice::Process => f.write_str("process"),
            Choice::Bundled => f.write_str("bundled"),
            Choice::External(address) => write!(f, "external:{address}"),
        }
    }
}

/// A broker that was started, and the one line that says which and why.
#[derive(Debug)]
pub struct Started {
    /// The broker; it serves.
    pub broker: Box<dyn Broker>,
    /// Such as `broker: bundled mosquitto 2.0.9 (not process: no mosquitto is installed)`.
    pub said: String,
}

impl Choice {
    /// Starts a broker of this kind. `auto` takes the first that works; any other fails rather than falls back.
    ///
    /// # Errors
    /// When the one chosen, or each of `auto`'s, does not work; the error says why for each.
    pub async fn start(&self, spec: BrokerSpec) -> Result<Started, BrokerError> {
        let broker: Box<dyn Broker> = match self {
            Choice::Process => Box::new(process::start(spec).await?),
            Choice::Bundled => Box::new(bundled::start(spec).await?),
            Choice::External(address) => Box::new(external::External::find(address).await?),
            Choice::Auto => {
                let why_not_process = match process::start(spec.clone()).await {
                    Ok(broker) => return Ok(Started::new(Box::new(broker), None)),
                    Err(e) => e,
                };
                let why_not_bundled = match bundled::start(spec).await {
                    Ok(broker) => return Ok(Started::new(Box::new(broker), Some(&why_not_process))),
                    Err(e) => e,
                };
                return Err(BrokerError::new(
                    format!("no broker works: process: {}; bundled: {}", why_not_process.what, why_not_bundled.what),
                    format!("{}, or {}", why_not_process.help, why_not_bundled.help),
                ));
            }
        };
        Ok(Started::new(broker, None))
    }
}

impl Started {
    fn new(broker: Box<dyn Broker>, why_not_process: Option<&BrokerError>) -> Self {
        let mut said = format!("broker: {}", broker.backend());
        if let Some(why) = why_not_process {
            // One line, whatever the broker said.
            let why = why.what.split_whitespace().collect::<Vec<_>>().join(" ");
            said.push_str(&format!(" (not process: {why})"));
        }
        Started { broker, said }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_reads_as_it_is_written() {
        for text in ["auto", "process", "bundled", "external:broker.local:8883", "external:[::1]:1883"] {
            assert_eq!(text.parse::<Choice>().unwrap().to_string(), text);
        }
        assert_eq!(
            "container".parse::<Choice>().unwrap_err().to_string(),
            "a broker in a container is not built yet; say auto, process, bundled or external:HOST:PORT"
        );
        for wrong in ["", "Auto", "docker", "external", "external:", "external:host", "external::1883", "external:host:0"] {
            assert!(wrong.parse::<Choice>().is_err(), "{wrong}");
        }
    }
}
