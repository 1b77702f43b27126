//! Drives a device (real firmware or its software twin) through a scenario, against a real broker and a fake CA that can be told
//! to lie, and judges what it saw.

mod backtrace;
mod bench;
pub mod broker;
pub mod ca;
pub mod certs;
pub mod child;
pub mod cli;
mod console;
mod cuts;
pub mod diagnose;
pub mod diff;
pub mod event;
pub mod exit;
#[cfg(feature = "fakes")]
pub mod fake;
pub mod files;
mod gaps;
pub mod golden;
pub mod invariant;
pub mod link;
pub mod matrix;
pub mod pattern;
pub mod report;
pub mod reproduce;
mod runner;
mod say;
pub mod scenario;
pub mod script;
pub mod serial;
pub mod site;
pub mod step;
pub mod target;
pub mod testbed;
pub mod time_server;
pub mod trace;
mod trials;
mod tries;
pub mod verdict;
pub mod vocabulary;
mod world;

pub use trials::{trials, trials_over_console};
