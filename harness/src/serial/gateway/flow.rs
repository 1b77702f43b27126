//! One TCP connection: the device's end in the gateway's stack, the other end an ordinary socket of this machine.

use super::stack::Stack;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;

/// The ports of a connection, which tell it from the others: the device's and the gateway's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub device: u16,
    pub gateway: u16,
}

/// A connection.
pub struct Flow {
    pub ports: Ports,
    stage: Stage,
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

enum Stage {
    /// The device's SYN waits until the server has been reached.
    Connecting {
        connecting: Connecting,
        syn: Vec<u8>,
    },
    Open(Open),
    Over,
}

struct Open {
    handle: SocketHandle,
    stream: TcpStream,
    /// The device has sent all.
    device_done: bool,
    /// The other end has sent all.
    host_done: bool,
    /// The other end takes no more: what the device sends is for nobody.
    deaf: bool,
    /// When the other end reset the connection. What it sent before is delivered first.
    reset_at: Option<Duration>,
}

/// How long what was sent before a reset may take to the device.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(5);

impl Flow {
    /// The device asks for a connection with this SYN; it is answered when `connecting` has come to an end.
    pub fn from_device(ports: Ports, connecting: Connecting, syn: Vec<u8>) -> Flow {
        Flow { ports, stage: Stage::Connecting { connecting, syn } }
    }

    /// Somebody on this machine asks for a connection to the device; `handle` connects.
    pub fn to_device(ports: Ports, handle: SocketHandle, stream: TcpStream) -> Flow {
        Flow { ports, stage: Stage::Open(Open::new(handle, stream)) }
    }

    /// A SYN of this connection is waiting: another one is the same again.
    pub fn is_connecting(&self) -> bool {
        matches!(self.stage, Stage::Connecting { .. })
    }

    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Moves what can be moved; true when something was.
    pub fn step(&mut self, cx: &mut Context<'_>, now: Duration, stack: &mut Stack) -> bool {
        match &mut self.stage {
            Stage::Connecting { connecting, syn } => {
                let Poll::Ready(connected) = connecting.as_mut().poll(cx) else { return false };
                let syn = std::mem::take(syn);
                // Without a socket for it, the stack resets the connection.
                let handle = connected.ok().and_then(|stream| Some((stack.listen(self.ports.gateway)?, stream)));
                stack.take(now, syn);
                self.stage = match handle {
                    Some((handle, stream)) => {
                        let _ = stream.set_nodelay(true);
                        Stage::Open(Open::new(handle, stream))
                    }
                    None => Stage::Over,
                };
                true
            }
            Stage::Open(open) => {
                let moved = open.pass_on(cx, stack) | open.answer(cx, now, stack);
                if open.is_over(now, stack) {
                    stack.sockets.remove(open.handle);
                    self.stage = Stage::Over;
                    return true;
                }
                moved
            }
            Stage::Over => false,
        }
    }
}

impl Open {
    fn new(handle: SocketHandle, stream: TcpStream) -> Open {
        Open { handle, stream, device_done: false, host_done: false, deaf: false, reset_at: None }
    }

    /// From the device to the other end.
    fn pass_on(&mut self, cx: &mut Context<'_>, stack: &mut Stack) -> bool {
        let (mut moved, socket) = (false, stack.socket(self.handle));
        while !self.deaf && socket.can_recv() && self.stream.poll_write_ready(cx).is_ready() {
            let taken = socket.recv(|bytes| match self.stream.try_write(bytes) {
                Ok(count) => (count, Ok(())),
                Err(error) => (0, Err(error)),
            });
            match taken {
                Ok(Ok(())) => moved = true,
                Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                // It may have said why before, which is still to be read.
                _ => self.deaf = true,
            }
        }
        while self.deaf && socket.can_recv() && socket.recv(|bytes| (bytes.len(), ())).is_ok() {
            moved = true;
        }
        let finished = matches!(socket.state(), State::CloseWait | State::LastAck | State::Closing | State::TimeWait);
        if finished && !socket.can_recv() && !self.device_done && Pin::new(&mut self.stream).poll_shutdown(cx).is_ready() {
            self.device_done = true;
            moved = true;
        }
        moved
    }

    /// From the other end to the device.
    fn answer(&mut self, cx: &mut Context<'_>, now: Duration, stack: &mut Stack) -> bool {
        let (mut moved, socket) = (false, stack.socket(self.handle));
        while !self.host_done && socket.can_send() && self.stream.poll_read_ready(cx).is_ready() {
            let sent = socket.send(|room| match self.stream.try_read(room) {
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error)),
            });
            match sent {
                Ok(Ok(0)) if !self.deaf => {
                    self.host_done = true;
                    socket.close();
                    moved = true;
                }
                Ok(Ok(1..)) => moved = true,
                Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => {
                    (self.deaf, self.host_done, self.reset_at) = (true, true, Some(now));
                    moved = true;
                }
            }
        }
        moved
    }

    /// Both ends are done with it, or one has reset it: the other is told so.
    fn is_over(&mut self, now: Duration, stack: &mut Stack) -> bool {
        if let Some(at) = self.reset_at {
            let socket = stack.socket(self.handle);
            if socket.send_queue() > 0 && socket.is_open() && now.saturating_sub(at) < LAST_WORDS_LIMIT {
                return false;
            }
            socket.abort();
            stack.run(now);
            return true;
        }
        let ended = self.device_done && self.host_done;
        match stack.socket(self.handle).state() {
            State::TimeWait => ended && stack.has_room(),
            // A reset in the middle of the handshake leads back to listening.
            State::Closed | State::Listen => {
                if !ended {
                    let _ = self.stream.set_zero_linger();
                }
                stack.socket(self.handle).abort();
                // Sends the reset, if there is one to send.
                stack.run(now);
                true
            }
            _ => false,
        }
    }
}
