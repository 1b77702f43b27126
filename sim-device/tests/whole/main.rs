//! The twin as a whole, driven through its console, its HTTP API and its servers.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod enrolment;
mod fake;
mod power;
mod program;
mod provisioning;
mod surroundings;
mod twin;
