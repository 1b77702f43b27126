//! A virtual board: a device of another target whose console is behind a serial port that is none, on a line that may be bad and is
//! unplugged at will.

use super::super::{Console, Equipment, Facts, Target, TargetError};
use super::noise::{Badness, Noise};
use super::pty::Socket;
use crate::event::{Event, Source, What};
use crate::site::{Network, Site};
use crate::trace::redact::Redactor;
use crate::trace::tape::Tape;
use device_core::secret::Secret;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::Receiver;

/// How long a board that has ended by itself stays off.
const OFF_FOR: Duration = Duration::from_secs(1);
/// Bytes of one read.
const CHUNK: usize = 2048;

/// What may be done to a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The cable is pulled.
    Unplug,
    /// It is put in again.
    Plug,
    /// Power goes and comes back; what was stored stays.
    Reset,
}

/// A board that can be plugged in.
#[derive(Debug)]
pub struct Board {
    target: Box<dyn Target>,
    site: Site,
    tape: Tape,
    events: Receiver<Event>,
    socket: Socket,
    down: Noise,
    up: Noise,
}

/// What ended a time with power.
enum End {
    Ordered(Option<Order>),
    OfItself,
}

impl Board {
    /// A board fresh from the factory, switched off, at this path.
    ///
    /// # Errors
    /// There is something else at that path, or there can be no pseudo-terminal. Inside a runtime only.
    pub fn new(facts: &Facts, equipment: &Equipment, at: &Path, badness: Badness, seed: u64) -> Result<Board, TargetError> {
        let mut socket = Socket::new(at).map_err(|e| no_port(at, &e))?;
        socket.plug().map_err(|e| no_port(at, &e))?;
        let lab = Network { ssid: "lab".into(), password: Secret::new("correct-horse"), rssi: -48, channel: 6, dhcp: true };
        let site = Site {
            device_id: "board".into(),
            settings: Vec::new(),
            networks: vec![lab],
            clock_skip: false,
            seed,
            reachable: Default::default(),
        };
        let (tape, events) = Tape::new(Redactor::new());
        let (down, up) = (Noise::new(badness, seed), Noise::new(badness, !seed));
        Ok(Board { target: (facts.make)(equipment), site, tape, events, socket, down, up })
    }

    /// Runs until the orders end. `said` is told in words what happens to the board.
    ///
    /// # Errors
    /// The board does not start, or its port breaks.
    pub async fn run(&mut self, orders: &mut Receiver<Order>, said: &mut dyn FnMut(String)) -> Result<(), TargetError> {
        loop {
            let console = self.target.power_on(&self.site, &self.tape, None).await?;
            let end = self.powered(console, orders, said).await;
            self.target.power_off().await?;
            let mut why = String::new();
            while let Ok(event) = self.events.try_recv() {
                if let (Source::Device, What::Ended(_)) = (event.from, &event.what) {
                    why = format!(": {}", event.what);
                }
            }
            match end? {
                End::Ordered(Some(_)) => said("reset".into()),
                End::Ordered(None) => return Ok(()),
                End::OfItself => {
                    said(format!("the board ended{why}; it starts again"));
                    tokio::time::sleep(OFF_FOR).await;
                }
            }
        }
    }

    /// From power-on until it ends, is reset, or is no longer wanted.
    async fn powered(
        &mut self,
        console: Console,
        orders: &mut Receiver<Order>,
        said: &mut dyn FnMut(String),
    ) -> Result<End, TargetError> {
        let Console { mut says, mut hears, .. } = console;
        loop {
            let (socket, up, down) = (&self.socket, &mut self.up, &mut self.down);
            let to_port = async {
                let mut chunk = [0; CHUNK];
                loop {
                    match says.read(&mut chunk).await {
                        Ok(read) if read > 0 => socket.write(&up.pass(&chunk[..read])).await?,
                        _ => return Ok::<(), std::io::Error>(()),
                    }
                }
            };
            let to_board = async {
                let mut chunk = [0; CHUNK];
                loop {
                    let read = socket.read(&mut chunk).await?;
                    if hears.write_all(&down.pass(&chunk[..read])).await.is_err() {
                        // It has ended, which is noticed where it speaks.
                        return std::future::pending::<std::io::Result<()>>().await;
                    }
                }
            };
            let order = tokio::select! {
                ended = to_port => return ended.map(|()| End::OfItself).map_err(|e| no_port(self.socket.path(), &e)),
                broke = to_board => return broke.map(|()| End::OfItself).map_err(|e| no_port(self.socket.path(), &e)),
                order = orders.recv() => order,
            };
            match order {
                None | Some(Order::Reset) => return Ok(End::Ordered(order)),
                Some(Order::Unplug) => {
                    self.socket.unplug();
                    said("unplugged".into());
                }
                Some(Order::Plug) => {
                    self.socket.plug().map_err(|e| no_port(self.socket.path(), &e))?;
                    said("plugged in".into());
                }
            }
        }
    }
}

fn no_port(at: &Path, error: &std::io::Error) -> TargetError {
    TargetError {
        what: format!("have a serial port at {}: {error}", at.display()),
        help: "name another path with --at, where nothing is, in a folder that can be written to".into(),
    }
}
