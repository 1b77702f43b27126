//! The shell of the firmware: what carries out a device's wishes on embassy's traits, with no board in it.
//!
//! A board makes [`Parts`] and awaits [`run`] in one task; the network stack runs in another. Whatever a device decides is `device-core`'s;
//! what its software twin does on tokio is done here on bare metal, in files of the same names:
//!
//! | file | what it does |
//! |---|---|
//! | `shell` | the loop that drives `device-core`: one task, one wait |
//! | `console` | lines in, lines out |
//! | `clock` | the device clock |
//! | `air` | simulated Wi-Fi surroundings, for boards without a radio |
//! | `errands` | what is under way for the device |
#![no_std]
extern crate alloc;

pub mod air;
mod clock;
mod console;
mod enroll;
mod errands;
mod shell;
pub mod store;

pub use air::{Air, Wifi};
pub use shell::{Heap, Parts, run};
