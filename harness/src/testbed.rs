//! The testbed of one trial as its steps see it: power, console, HTTP, broker, CA, clock.

use crate::ca::misbehaviour::Lie;
use device_core::storage::Write;
use std::time::Duration;

/// The testbed could not do what a step asked. The trial is inconclusive, not failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}; {help}")]
pub struct ActError {
    /// What could not be done, a lower-case fragment.
    pub what: String,
    /// The next thing to do.
    pub help: String,
}

/// A point at which power is to be cut: just before the `nth` write of this kind after power-on (from 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutPoint {
    /// Which kind of write.
    pub before: Write,
    /// Which one of that kind, from 1.
    pub nth: u32,
}

/// A call to the device's HTTP API.
#[derive(Clone, Debug)]
pub struct HttpCall {
    /// Method.
    pub method: String,
    /// Path.
    pub path: String,
    /// Header names and values.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

/// What a `broker` step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerAct {
    /// Starts it (again), on the same port and with what it had stored.
    Start,
    /// Ends it in good order.
    Stop,
    /// Ends it as a power cut would (SIGKILL).
    Kill,
}

/// Which provisioning token a `provision` step sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A fresh one the CA accepts.
    Good,
    /// One the CA has never seen.
    Unknown,
    /// One that has expired.
    Expired,
    /// One bound to another device id.
    OtherDevice,
}

/// The testbed of one trial.
#[derive(Debug)]
pub struct Testbed {}

#[expect(unused_variables, clippy::unimplemented, reason = "signatures first")]
impl Testbed {
    /// This trial's device id; steps may name another.
    pub fn device_id(&self) -> &str {
        unimplemented!()
    }
    /// Switches power on, and configures the device on its first boot; `cut` arms a power cut.
    pub async fn power_on(&mut self, cut: Option<CutPoint>) -> Result<(), ActError> {
        unimplemented!()
    }
    /// Switches power off, at once.
    pub async fn power_off(&mut self) -> Result<(), ActError> {
        unimplemented!()
    }
    /// Says a command line on the device's console.
    pub async fn command(&mut self, line: &str) -> Result<(), ActError> {
        unimplemented!()
    }
    /// Writes bytes to the device's console as they are.
    pub async fn write_serial(&mut self, bytes: &[u8]) -> Result<(), ActError> {
        unimplemented!()
    }
    /// Calls the device's HTTP API; waits (bounded) until it listens. The exchange goes on the tape.
    pub async fn http(&mut self, call: HttpCall) -> Result<(), ActError> {
        unimplemented!()
    }
    /// A provisioning token of this kind, minted by the CA where it is one the CA knows.
    pub fn token(&mut self, kind: &Token) -> String {
        unimplemented!()
    }
    /// Starts, stops or kills the broker.
    pub async fn broker(&mut self, act: BrokerAct) -> Result<(), ActError> {
        unimplemented!()
    }
    /// Publishes an order for this trial's device on `devices/<id>/command`, QoS 1; done when the broker has it.
    pub async fn order(&mut self, payload: &[u8]) -> Result<(), ActError> {
        unimplemented!()
    }
    /// The CA lies like this from now on (in place of the lies before).
    pub fn misbehave(&mut self, lies: &[Lie]) {
        unimplemented!()
    }
    /// Sets the date the time server tells, and so the device's at its next boot.
    pub fn set_date(&mut self, unix: i64) {
        unimplemented!()
    }
    /// How the device clock stands to the wall clock is the device's; this only jumps it.
    pub async fn jump_clock(&mut self, by: Duration) -> Result<(), ActError> {
        unimplemented!()
    }
}
