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

use device_core::serial::frame::Encoding;
use std::str::FromStr;

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
