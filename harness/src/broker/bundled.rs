//! Mosquitto built into this program, which runs itself again in a hidden role to be the broker.
//!
//! It ends with its parent, however that ends: its standard input is a pipe from the parent, and the end of it is its own end.

use super::BrokerError;
use super::conf::BrokerSpec;
use super::mosquitto::Mosquitto;
use std::ffi::OsString;

/// Starts the bundled Mosquitto.
///
/// # Errors
/// When this program was built without it, does not answer hidden roles (see [`crate::child::answer_hidden_roles`]), or it does not start.
pub async fn start(spec: BrokerSpec) -> Result<Mosquitto, BrokerError> {
    let _ = spec;
    Err(BrokerError::new("this program was built without the bundled Mosquitto", "build it on Unix with the feature `bundled`"))
}

/// Is Mosquitto until it ends; the exit status. Only in a process of its own.
pub(crate) fn run(_arguments: Vec<OsString>) -> i32 {
    2
}
