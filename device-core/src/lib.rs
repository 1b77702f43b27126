//! What an ESP32-class device decides, without a clock, a socket or a thread.
//!
//! A [`Device`](device::Device) is fed facts ([`input::Input`]) and drained of wishes ([`output::Output`]); whoever owns the
//! clock and the sockets (the *shell*: the twin on tokio, the firmware on embassy) carries the wishes out.
//!
//! | file | idea |
//! |---|---|
//! | `device` | the state machine: `handle`, `poll`, `deadline` |
//! | `input`, `output` | all that can happen to a device; all it can ask for |
//! | `state` | the state table, snapshotted as a table and as a diagram |
//! | `provisioning` | the HTTP API's requests and answers, parsed once |
//! | `enrollment`, `renewal` | what is checked before a certificate is stored; when it is renewed |
//! | `packet`, `session` | MQTT v5 and v3.1.1: the codec; the rules kept over it |
//! | `telemetry`, `queue`, `backoff` | readings, what holds them until they are acknowledged, when to try again |
//! | `report`, `command` | the console: lines the device says, lines it is told |
//! | `serial` | what a serial console carries besides: PPP frames, numbered lines |
//! | `surroundings` | what a simulated board is told before its device begins |
//! | `sntp` | the time server's packets |
//! | `alert` | the names of TLS alerts |
//! | `config`, `storage`, `secret`, `time`, `rng` | the vocabulary the rest shares |
//!
//! A shell in a few lines:
//!
//! ```
//! use device_core::device::{Boot, Device};
//! use device_core::enrollment::{Algorithm, Signatures};
//! use device_core::{input::Input, output::Output, state::State, time::Instant};
//!
//! #[derive(Debug)]
//! struct NoSignatures;
//! impl Signatures for NoSignatures {
//!     fn verify(&self, _: Algorithm, _: &[u8], _: &[u8], _: &[u8]) -> bool {
//!         false
//!     }
//! }
//!
//! let mut device = Device::new(Boot {
//!     stored: Default::default(),
//!     readings: Vec::new(),
//!     environment: Default::default(),
//!     seed: 1,
//!     signatures: &NoSignatures,
//!     version: "0.1.0",
//!     simulated: true,
//!     ap_suffix: "",
//! });
//! device.handle(Instant(5), Input::ConsoleLine("status"));
//! let mut console = String::new();
//! while let Some(output) = device.poll() {
//!     if let Output::Report(report) = output {
//!         console += &(report.line(Instant(5)) + "\n");
//!     }
//! }
//! assert_eq!(device.state(), State::ApMode);
//! assert!(console.contains("I (5) wifi: Access point started: ESP32-Prov\n"));
//! ```
#![no_std]
extern crate alloc;

pub mod alert;
pub mod backoff;
pub mod command;
pub mod config;
pub mod device;
pub mod enrollment;
pub mod input;
pub mod output;
pub mod packet;
pub mod provisioning;
pub mod queue;
pub mod renewal;
pub mod report;
pub mod rng;
pub mod secret;
pub mod serial;
pub mod session;
pub mod sntp;
pub mod state;
pub mod storage;
pub mod surroundings;
pub mod telemetry;
pub mod time;
