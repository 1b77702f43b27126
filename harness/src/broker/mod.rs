//! Brokers: real ones. What to start is a [`BrokerSpec`], which kind is a [`Choice`]; what comes back is a [`Broker`].
//!
//! The bundled broker is Eclipse Mosquitto 2.0.9 (EPL-2.0 OR EDL-1.0), linked with OpenSSL (Apache-2.0); their notices are in the
//! crate `libmosquitto-sys` that carries the sources. 2.0.9 is old and meant for loopback tests only.

pub mod bundled;
mod conf;
#[cfg(feature = "container")]
pub mod container;
pub mod external;
pub mod log;
mod mosquitto;
pub mod process;
mod rival;
pub mod scripted;
pub mod tap;
mod words;

pub(crate) use conf::password_line;
pub use conf::{Acl, BrokerSpec, Storage, User};
pub(crate) use log::DIED;
pub use log::{Forward, Lines, Log};
pub use mosquitto::{Mosquitto, READY_WITHIN};
pub use rival::Rival;
pub use tap::{Login, Tap, Tls};
pub use words::LogEvent;

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

    fn not_changed(broker: &Backend) -> Self {
        let what = format!("the {broker} cannot be changed while it runs");
        BrokerError::new(what, "run this scenario with the broker process, bundled or container")
    }
}

/// Which broker serves: for headers and reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// `container`, `process`, `bundled`, `external` or `scripted`.
    pub name: &'static str,
    /// Its version, such as `2.0.11`; `unknown` for an external one.
    pub version: String,
    /// Where it is: an image and an engine, a path, an address, or nothing.
    pub place: String,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            "external" => write!(f, "external broker at {}", self.place),
            "scripted" => f.write_str("scripted broker"),
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
    /// Where it listens without TLS, beside that.
    fn plain_endpoint(&self) -> Option<&Endpoint> {
        None
    }
    /// Where the operator reaches it; a scripted broker serves the operator honestly, and in the clear.
    fn operator(&self) -> &Endpoint {
        self.endpoint()
    }
    /// Tells these lies from now on, in place of those before.
    ///
    /// # Errors
    /// When it is a real one.
    fn misbehave(&self, _lies: &[scripted::Lie]) -> Result<(), BrokerError> {
        Err(BrokerError::new("a real broker cannot be told to lie", "write `broker: { scripted: [] }` at the top of the file"))
    }
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
    /// Has it read its files again while it runs (SIGHUP), and be this broker from then on: users, ACL, server certificate, revocation
    /// list. Connections stay, but those of users who are gone. When this returns, it has read them.
    ///
    /// # Errors
    /// When it does not run or is not ours; when this changes what Mosquitto reads at its start only (listeners, the authority of client
    /// certificates, TLS versions, storage), which it would pass over in silence; or when it says that it could not read a file: it may
    /// then let everybody in, or nobody.
    async fn reload(&mut self, _spec: BrokerSpec) -> Result<(), BrokerError> {
        Err(BrokerError::not_changed(self.backend()))
    }
    /// Ends it in good order and starts it again as this broker, on the same ports and with what it had stored.
    ///
    /// # Errors
    /// When it does not end or start, is not ours, or is to have a second port and never had one.
    async fn restart(&mut self, _spec: BrokerSpec) -> Result<(), BrokerError> {
        Err(BrokerError::not_changed(self.backend()))
    }
}

/// Which broker to use, as the user says it: `auto`, `container`, `container:IMAGE`, `process`, `bundled` or `external:HOST:PORT`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first that works of `container` (where this program was built with it), `process` and `bundled`.
    #[default]
    Auto,
    /// Mosquitto in a container: from this image, or from `$HARNESS_MOSQUITTO_IMAGE`, or from the one that this program was tested with.
    Container(Option<String>),
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
        const HELP: &str = "say auto, container, container:IMAGE, process, bundled or external:HOST:PORT";
        let container = |image: Option<&str>| match image {
            #[cfg(not(feature = "container"))]
            _ => Err(left_out()),
            #[cfg(feature = "container")]
            Some(image) if image.is_empty() || image.contains(char::is_whitespace) => {
                Err(BrokerError::new(format!("\"{image}\" is not an image"), HELP))
            }
            #[cfg(feature = "container")]
            image => Ok(Choice::Container(image.map(str::to_owned))),
        };
        match text {
            "auto" => Ok(Choice::Auto),
            "process" => Ok(Choice::Process),
            "bundled" => Ok(Choice::Bundled),
            "container" => container(None),
            _ if text.starts_with("container:") => container(text.strip_prefix("container:")),
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
            Choice::Container(None) => f.write_str("container"),
            Choice::Container(Some(image)) => write!(f, "container:{image}"),
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
    /// Sees to what may take long (an engine's first answer, a pull) before the first broker is wanted. `auto` finds nothing wrong.
    ///
    /// # Errors
    /// When an installed Mosquitto was chosen and there is none; when a container was chosen, and no engine answers or it has no such image.
    pub async fn prepare(&self) -> Result<(), BrokerError> {
        match self {
            #[cfg(feature = "container")]
            Choice::Container(image) => container::prepare(image.as_deref()).await,
            #[cfg(feature = "container")]
            Choice::Auto => {
                // Why it does not work is said when a broker starts.
                let _ = container::prepare(None).await;
                Ok(())
            }
            // Once, and not once a trial.
            Choice::Process => process::find().await.map(drop),
            _ => Ok(()),
        }
    }

    /// Starts a broker of this kind. `auto` takes the first that works; any other fails rather than falls back.
    ///
    /// # Errors
    /// When the one chosen, or each of `auto`'s, does not work; the error says why for each.
    pub async fn start(&self, spec: BrokerSpec) -> Result<Started, BrokerError> {
        if *self != Choice::Auto {
            return Ok(Started::new(self.start_one(spec).await?, &[]));
        }
        let mut not: Vec<(Choice, BrokerError)> = Vec::new();
        for choice in Choice::OF_AUTO {
            match choice.start_one(spec.clone()).await {
                Ok(broker) => return Ok(Started::new(broker, &not)),
                Err(why) => not.push((choice.clone(), why)),
            }
        }
        let what: Vec<_> = not.iter().map(|(choice, why)| format!("{choice}: {}", why.what)).collect();
        let help: Vec<_> = not.iter().map(|(_, why)| why.help.as_str()).collect();
        Err(BrokerError::new(format!("no broker works: {}", what.join("; ")), help.join(", or ")))
    }

    /// What `auto` tries, in this order.
    #[cfg(feature = "container")]
    const OF_AUTO: &[Choice] = &[Choice::Container(None), Choice::Process, Choice::Bundled];
    /// What `auto` tries, in this order.
    #[cfg(not(feature = "container"))]
    const OF_AUTO: &[Choice] = &[Choice::Process, Choice::Bundled];

    async fn start_one(&self, spec: BrokerSpec) -> Result<Box<dyn Broker>, BrokerError> {
        Ok(match self {
            #[cfg(feature = "container")]
            Choice::Container(image) => Box::new(container::start(spec, image.as_deref()).await?),
            Choice::Process => Box::new(process::start(spec).await?),
            Choice::Bundled => Box::new(bundled::start(spec).await?),
            Choice::External(address) => Box::new(external::External::find(address).await?),
            #[cfg(not(feature = "container"))]
            Choice::Container(_) => return Err(left_out()),
            Choice::Auto => unreachable!("auto is several"),
        })
    }
}

impl Started {
    fn new(broker: Box<dyn Broker>, not: &[(Choice, BrokerError)]) -> Self {
        let mut said = format!("broker: {}", broker.backend());
        if !not.is_empty() {
            // One line, whatever the brokers said.
            let why = |why: &BrokerError| why.what.split_whitespace().collect::<Vec<_>>().join(" ");
            let reasons: Vec<_> = not.iter().map(|(choice, e)| format!("not {choice}: {}", why(e))).collect();
            said.push_str(&format!(" ({})", reasons.join("; ")));
        }
        Started { broker, said }
    }
}

/// Containers are not in this program.
#[cfg(not(feature = "container"))]
fn left_out() -> BrokerError {
    let help = "build it with the feature `container`: cargo run -p harness --features container -- …";
    BrokerError::new("the broker in a container was left out of this program", help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_reads_as_it_is_written() {
        for text in ["auto", "process", "bundled", "external:broker.local:8883", "external:[::1]:1883"] {
            assert_eq!(text.parse::<Choice>().unwrap().to_string(), text);
        }
        for text in ["container", "container:eclipse-mosquitto:2.0.22", "container:localhost:5000/mosquitto@sha256:ab"] {
            if cfg!(feature = "container") {
                assert_eq!(text.parse::<Choice>().unwrap().to_string(), text);
            } else {
                let error = text.parse::<Choice>().unwrap_err().to_string();
                assert!(error.contains("left out") && error.contains("--features container"), "{error}");
            }
        }
        for wrong in [
            "",
            "container:",
            "container:a b",
            "Auto",
            "docker",
            "external",
            "external:",
            "external:host",
            "external::1883",
            "external:host:0",
        ] {
            assert!(wrong.parse::<Choice>().is_err(), "{wrong}");
        }
    }
}
