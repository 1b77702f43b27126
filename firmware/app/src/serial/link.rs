//! The PPP link: the library between the line and the stack, begun anew whenever it does not come up or nobody is there any more.

use super::guard::echo_request;
use super::line::Line;
use alloc::vec::Vec;
use core::cell::Cell;
use device_core::serial::frame::{Encoding, Piece, Splitter, encode};
use embassy_futures::select::select;
use embassy_net::{ConfigV4, Ipv4Cidr, Stack, StaticConfigV4};
use embassy_net_ppp::{Config, Ipv4Status, Runner};
use embassy_time::{Duration, Instant, Timer};
use embedded_io_async::{BufRead, ErrorType, Read, Write};

/// A negotiation that takes longer is begun anew: the library sends each request once, and it may have been lost.
pub const NEGOTIATION_LIMIT: Duration = Duration::from_millis(1500);
/// After such a silence the peer is asked whether it is there.
pub const SILENCE: Duration = Duration::from_secs(10);
/// How long it may take to answer.
pub const ECHO_LIMIT: Duration = Duration::from_secs(2);
/// How often it is asked before the link begins anew.
pub const ECHOES_MAX: u8 = 3;
/// How long a link that the peer has ended stays down.
const PAUSE: Duration = Duration::from_millis(500);

/// Keeps the link up, for ever.
pub(super) async fn keep_up(line: &Line, ppp: &mut Runner<'_>, stack: Stack<'_>) -> ! {
    let mut wire = Wire { line, frame: Vec::new(), at: 0, leaving: Splitter::new(Encoding::Hdlc) };
    loop {
        wire.begin();
        let up = Cell::new(false);
        let run = ppp.run(&mut wire, Config { username: b"", password: b"" }, |status| {
            up.set(true);
            configure(stack, &status);
        });
        let watch = async {
            Timer::after(NEGOTIATION_LIMIT).await;
            if up.get() {
                until_silent(line).await;
            }
        };
        let ended = matches!(select(run, watch).await, embassy_futures::select::Either::First(_));
        if ended {
            Timer::after(PAUSE).await;
        }
    }
}

/// Waits until the peer is silent, and does not answer either.
async fn until_silent(line: &Line) {
    let mut echoes = 0;
    while echoes < ECHOES_MAX {
        let heard = line.last_heard();
        Timer::at(if echoes == 0 { heard + SILENCE } else { Instant::now() + ECHO_LIMIT }).await;
        if line.last_heard() > heard {
            echoes = 0;
        } else {
            echoes += 1;
            line.send_frame(&echo_request(echoes)).await;
        }
    }
    Timer::after(ECHO_LIMIT).await;
}

/// Everything is reached over the link, so no address is behind a gateway, whatever the device's own is.
fn configure(stack: Stack<'_>, status: &Ipv4Status) {
    let Some(address) = status.address else { return };
    let mut config = StaticConfigV4 { address: Ipv4Cidr::new(address, 0), gateway: None, dns_servers: Default::default() };
    // The stack's resolver asks one server.
    if let Some(server) = status.dns_servers.into_iter().flatten().next() {
        let _ = config.dns_servers.push(server);
    }
    stack.set_config_v4(ConfigV4::Static(config));
}

/// What the library takes for a serial port: whole, good frames only, in its own encoding.
struct Wire<'a> {
    line: &'a Line,
    /// The frame that the library reads, and how far it has.
    frame: Vec<u8>,
    at: usize,
    /// What it writes becomes frames again.
    leaving: Splitter,
}

impl Wire<'_> {
    /// Before the library begins anew: what it had not read is for nobody.
    fn begin(&mut self) {
        self.at = self.frame.len();
        self.leaving = Splitter::new(Encoding::Hdlc);
    }
}

impl ErrorType for Wire<'_> {
    type Error = core::convert::Infallible;
}

impl Read for Wire<'_> {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, Self::Error> {
        let from = self.fill_buf().await?;
        let count = into.len().min(from.len());
        into[..count].copy_from_slice(&from[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Wire<'_> {
    async fn fill_buf(&mut self) -> Result<&[u8], Self::Error> {
        while self.at >= self.frame.len() {
            // Dropped while it waits, it has taken nothing.
            let Some(body) = self.line.next_frame().await else { return Ok(&[]) };
            self.frame.clear();
            self.at = 0;
            encode(Encoding::Hdlc, &body, 0, &mut self.frame);
        }
        Ok(&self.frame[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Write for Wire<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        let mut bodies: Vec<Vec<u8>> = Vec::new();
        self.leaving.feed(bytes, &mut |piece| {
            if let Piece::Frame(body) = piece {
                bodies.push(body.into());
            }
        });
        for body in bodies {
            self.line.send_frame(&body).await;
        }
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}
