//! One serial port for the console and for the network: lines and PPP frames, whole ones, in turn.
//!
//! | file | what it does |
//! |---|---|
//! | `line` | the port: tells text and frames apart, and writes them one after the other |
//! | `guard` | what a peer sends, before it may reach the PPP library: checked, or answered here |
//! | `link` | the library and its watchdog; the address it agrees on |
//! | `narrow` | small packets, since the line is slow and may lose bytes |

mod guard;
mod line;
mod link;
mod narrow;
#[cfg(test)]
mod tests;

pub(crate) use line::BREAK;
pub use line::{ConsoleIn, ConsoleOut, broken_off};

use alloc::boxed::Box;
use device_core::serial::frame::Encoding;
use device_core::surroundings::Link;
use embassy_futures::join::join4;
use embassy_net::{Stack, StackResources};
use embedded_io_async::{Read, Write};
use line::Line;
use narrow::Narrow;

/// Packets that may wait in each direction; each takes 1.5 KB.
const PACKETS: usize = 2;

/// What the two halves of a serial port become.
pub struct Shared<R, W> {
    /// What the host says on the console.
    pub console_in: ConsoleIn<R>,
    /// What the host hears.
    pub console_out: ConsoleOut<W>,
    /// The network.
    pub stack: Stack<'static>,
    /// What moves it all; the board awaits [`Port::run`] in a task of its own.
    pub port: Port<R, W>,
}

/// A serial port that is shared.
pub struct Port<R, W> {
    line: &'static Line,
    receiver: R,
    sender: W,
    ppp: embassy_net_ppp::Runner<'static>,
    stack: Stack<'static>,
    network: embassy_net::Runner<'static, Narrow<embassy_net_ppp::Device<'static>>>,
}

/// Shares a serial port among console and network. `SOCKETS` may be open at one time, DNS's among them; `seed` is chance. Called once, since
/// what it allocates (some 10 KB) is never given back. A read or write that is dropped while pending must have moved nothing.
pub fn share<const SOCKETS: usize, R: Read, W: Write>(receiver: R, sender: W, encoding: Encoding, seed: u64) -> Shared<R, W> {
    let line: &'static Line = Box::leak(Box::new(Line::new(encoding)));
    let state = Box::leak(Box::new(embassy_net_ppp::State::<PACKETS, PACKETS>::new()));
    let (device, ppp) = embassy_net_ppp::new(state);
    let resources = Box::leak(Box::new(StackResources::<SOCKETS>::new()));
    let (stack, network) = embassy_net::new(Narrow(device), embassy_net::Config::default(), resources, seed);
    Shared {
        console_in: ConsoleIn::Shared(line),
        console_out: ConsoleOut::Shared(line),
        stack,
        port: Port { line, receiver, sender, ppp, stack, network },
    }
}

impl<R: Read, W: Write> Port<R, W> {
    /// Moves lines, frames and packets, for ever.
    pub async fn run(self) -> ! {
        let Port { line, receiver, sender, mut ppp, stack, mut network } = self;
        // On the heap, so that a board that does not share its port has no memory set aside for it.
        Box::pin(async move {
            join4(line.receive(receiver), line.send(sender), link::keep_up(line, &mut ppp, stack), network.run()).await
        })
        .await;
        core::future::pending().await
    }
}

/// How frames are written on the port of a board with these surroundings; none if its network goes over something else.
pub fn encoding(link: Link) -> Option<Encoding> {
    match link {
        Link::Board => None,
        Link::Console => Some(Encoding::Hdlc),
        Link::ConsoleText => Some(Encoding::Text),
    }
}
