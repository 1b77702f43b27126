//! The shell of the firmware: what carries out a device's wishes on embassy's traits, with no board in it.
//!
//! A board makes [`Parts`] and awaits [`run`] in one task; the network stack runs in another. Whatever a device decides is `device-core`'s;
//! what its software twin does on tokio is done here on bare metal, in files of the same names:
//!
//! | file | what it does |
//! |---|---|
//! | `parts` | what a board brings |
//! | `shell` | the loop that drives `device-core`: one task, one wait |
//! | `console`, `clock` | lines in, lines out; the device clock |
//! | `serial` | one port for console and network |
//! | `air` | Wi-Fi as the shell needs it, and simulated surroundings for boards without a radio |
//! | `dhcp` | addresses for those who come to the access point |
//! | `radio` | a real radio, which has one role at a time |
//! | `errands` | what is under way for the device |
//! | `http` | the provisioning API's server |
//! | `enroll`, `reply` | key and CSR, the HTTPS exchange with the CA, HTTP answers |
//! | `signatures` | the arithmetic behind a certificate's signature |
//! | `mqtt`, `tls`, `alert`, `net` | the broker's stream; Mbed TLS, and the alerts it hears; TCP |
//! | `sntp` | the date |
//! | `store`, `queue`, `flash` | NVS in ESP-IDF's format: the stored set, waiting readings |
//! | `rng` | the board's randomness, shared |
#![no_std]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod air;
mod alert;
mod clock;
mod console;
mod dhcp;
mod enroll;
mod errands;
mod flash;
mod http;
mod mqtt;
mod net;
mod parts;
mod queue;
mod radio;
mod reply;
mod rng;
pub mod serial;
mod shell;
mod signatures;
mod sntp;
mod store;
mod tls;

pub use air::{AccessPoint, Air, Wifi};
pub use dhcp::{ADDRESS as ACCESS_POINT_ADDRESS, PREFIX as ACCESS_POINT_PREFIX, serve as serve_dhcp};
pub use parts::{Heap, KeepSurroundings, Parts, heap_budget};
pub use radio::{Modem, Operator, Radio, Refusal, Role};
pub use shell::run;

#[cfg(test)]
mod cable;
#[cfg(test)]
mod counted;
