//! The port that console and network share: text and frames come apart here, and go out one after the other, whole.

use super::guard::{Verdict, judge};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Poll;
use device_core::serial::frame::{ACCM_ALL, Encoding, IDLE_MS, Piece, Splitter, encode};
use embassy_futures::select::{Either, select};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::channel::Channel;
use embassy_sync::pipe::Pipe;
use embassy_sync::waitqueue::WakerRegistration;
use embassy_time::{Duration, Instant, with_timeout};
use embedded_io_async::{ErrorType, Read, Write};

/// Bytes of text that wait for the console, or for the port.
const TEXT_ROOM: usize = 512;
/// Frames that wait for the network, or for the port.
const FRAMES_ROOM: usize = 2;
/// A line that is longer goes out in pieces, between which no frame goes out.
const LINE_ROOM: usize = 1024;
const CHUNK: usize = 128;

/// Tells the console that what it has of a line is not followed by the rest: the line was silent, or something else came.
pub(crate) const BREAK: u8 = 0;

/// A frame is going out.
static IN_FRAME: AtomicBool = AtomicBool::new(false);

/// What the last words of a dying device must begin with, so that they are not taken for the rest of a frame.
pub fn broken_off() -> &'static str {
    if IN_FRAME.load(Ordering::Relaxed) { "~" } else { "" }
}

/// The port, between those who share it.
pub struct Line {
    encoding: Encoding,
    heard: Pipe<NoopRawMutex, TEXT_ROOM>,
    said: Pipe<NoopRawMutex, TEXT_ROOM>,
    /// Lines said that have not gone out, and who waits for that.
    owed: Cell<usize>,
    gone: RefCell<WakerRegistration>,
    /// Bodies; none: begin anew.
    arrived: Channel<NoopRawMutex, Option<Vec<u8>>, FRAMES_ROOM>,
    /// Encoded.
    leaving: Channel<NoopRawMutex, Vec<u8>, FRAMES_ROOM>,
    last_heard: Cell<Instant>,
}

impl Line {
    pub(super) fn new(encoding: Encoding) -> Line {
        Line {
            encoding,
            heard: Pipe::new(),
            said: Pipe::new(),
            owed: Cell::new(0),
            gone: RefCell::new(WakerRegistration::new()),
            arrived: Channel::new(),
            leaving: Channel::new(),
            last_heard: Cell::new(Instant::MIN),
        }
    }

    /// When the last good frame came.
    pub(super) fn last_heard(&self) -> Instant {
        self.last_heard.get()
    }

    /// The next frame for the PPP library; none: it is to begin anew.
    pub(super) async fn next_frame(&self) -> Option<Vec<u8>> {
        self.arrived.receive().await
    }

    /// Sends a frame; waits for room.
    pub(super) async fn send_frame(&self, body: &[u8]) {
        let mut frame = Vec::new();
        encode(self.encoding, body, ACCM_ALL, &mut frame);
        self.leaving.send(frame).await;
    }

    /// Takes what comes over the port, until that ends.
    pub(super) async fn receive<R: Read>(&self, mut port: R) {
        let mut splitter = Splitter::new(self.encoding);
        let mut chunk = [0; CHUNK];
        // The last text was no whole line, and the console has not been told that nothing follows.
        let mut open = false;
        let mut id = 0u8;
        loop {
            let read = if open || splitter.undecided() {
                with_timeout(Duration::from_millis(IDLE_MS), port.read(&mut chunk)).await.ok()
            } else {
                Some(port.read(&mut chunk).await)
            };
            let mut text = Vec::new();
            let mut frames: Vec<Vec<u8>> = Vec::new();
            let mut on = |piece: Piece<'_>| match piece {
                Piece::Text(more) => text.extend_from_slice(more),
                Piece::Frame(body) => {
                    text.push(BREAK);
                    frames.push(body.into());
                }
                Piece::Bad => text.push(BREAK),
            };
            match read {
                None => {
                    splitter.idle(&mut on);
                    on(Piece::Bad);
                }
                Some(Ok(count)) if count > 0 => splitter.feed(&chunk[..count], &mut on),
                _ => return,
            }
            // A break says nothing after a whole line.
            if !open && text.iter().all(|byte| *byte == BREAK) {
                text.clear();
            }
            if let Some(last) = text.last() {
                open = !matches!(*last, b'\n' | b'\r' | BREAK);
            }
            let mut rest = &text[..];
            while !rest.is_empty() {
                rest = &rest[self.heard.write(rest).await..];
            }
            for body in frames {
                self.last_heard.set(Instant::now());
                match judge(&body, id) {
                    Verdict::Pass => self.arrived.send(Some(body)).await,
                    Verdict::Answer(answer) => {
                        id = id.wrapping_add(1);
                        self.send_frame(&answer).await;
                    }
                    Verdict::Restart => self.arrived.send(None).await,
                    Verdict::Drop => {}
                }
            }
        }
    }

    /// Sends lines and frames over the port, in turn, until that ends.
    pub(super) async fn send<W: Write>(&self, mut port: W) -> Result<(), W::Error> {
        // The first thing is a frame, whose flag ends what a reset may have cut off: text there would be taken for the rest of a frame.
        self.write_frame(&mut port, &self.leaving.receive().await).await?;
        let mut line = Vec::new();
        let mut chunk = [0; CHUNK];
        let mut turn = Turn::Text;
        loop {
            let next = match turn {
                Turn::Frame => select(self.leaving.receive(), self.said.read(&mut chunk)).await,
                Turn::Text => match select(self.said.read(&mut chunk), self.leaving.receive()).await {
                    Either::First(count) => Either::Second(count),
                    Either::Second(frame) => Either::First(frame),
                },
                Turn::SameLine => Either::Second(self.said.read(&mut chunk).await),
            };
            let count = match next {
                Either::First(frame) => {
                    self.write_frame(&mut port, &frame).await?;
                    turn = Turn::Text;
                    continue;
                }
                Either::Second(count) => count,
            };
            for &byte in &chunk[..count] {
                line.push(byte);
                if byte == b'\n' || line.len() >= LINE_ROOM {
                    port.write_all(&line).await?;
                    turn = if byte == b'\n' { Turn::Frame } else { Turn::SameLine };
                    line.clear();
                }
                if byte == b'\n' {
                    self.owed.set(self.owed.get().saturating_sub(1));
                    self.gone.borrow_mut().wake();
                }
            }
            if line.is_empty() {
                line = Vec::new();
                port.flush().await?;
            }
        }
    }

    async fn write_frame<W: Write>(&self, port: &mut W, frame: &[u8]) -> Result<(), W::Error> {
        IN_FRAME.store(self.encoding == Encoding::Hdlc, Ordering::Relaxed);
        let written = port.write_all(frame).await;
        IN_FRAME.store(false, Ordering::Relaxed);
        written
    }
}

/// What goes out next, if there is some of each.
#[derive(Clone, Copy)]
enum Turn {
    Frame,
    Text,
    /// Nothing but the rest of a line.
    SameLine,
}

/// What the host says on the console.
pub enum ConsoleIn<R> {
    /// The port is the console's alone.
    Alone(R),
    /// It is shared with the network.
    Shared(&'static Line),
}

impl<R: Read> ErrorType for ConsoleIn<R> {
    type Error = R::Error;
}

impl<R: Read> Read for ConsoleIn<R> {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, R::Error> {
        match self {
            ConsoleIn::Alone(port) => port.read(into).await,
            ConsoleIn::Shared(line) => Ok(line.heard.read(into).await),
        }
    }
}

/// What the host hears on the console.
pub enum ConsoleOut<W> {
    /// The port is the console's alone.
    Alone(W),
    /// It is shared with the network. Only whole lines go out.
    Shared(&'static Line),
}

impl<W: Write> ErrorType for ConsoleOut<W> {
    type Error = W::Error;
}

impl<W: Write> Write for ConsoleOut<W> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, W::Error> {
        match self {
            ConsoleOut::Alone(port) => port.write(bytes).await,
            ConsoleOut::Shared(line) => {
                let count = line.said.write(bytes).await;
                let lines = bytes[..count].iter().filter(|byte| **byte == b'\n').count();
                line.owed.set(line.owed.get() + lines);
                Ok(count)
            }
        }
    }

    /// Waits until every whole line has gone out.
    async fn flush(&mut self) -> Result<(), W::Error> {
        match self {
            ConsoleOut::Alone(port) => port.flush().await,
            ConsoleOut::Shared(line) => {
                poll_fn(|context| {
                    if line.owed.get() == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    line.gone.borrow_mut().register(context.waker());
                    Poll::Pending
                })
                .await
            }
        }
    }
}
