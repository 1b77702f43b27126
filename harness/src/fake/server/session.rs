//! One connection and its simulation: commands in, answers and events out, a board between.

use super::board::{Board, Parts};
use super::lie::{Lies, Loss, MERGE_QUIET, Stop};
use super::pause::{Clock, Points, Reached};
use super::project::{Files, Wiring, read};
use crate::fake::api::{Message, PROTOCOL_VERSION, Refusal};
use crate::say;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{self, Message as Frame};

/// Messages on their way to the client; more wait for room.
const OUT_MAX: usize = 256;
/// Bytes of the board's that are read at once.
const READ_BYTES: usize = 4096;
/// Bytes on their way to a running board above which a write is answered only once they have gone.
const INPUT_EAGER: usize = 16 * 1024;
/// Bytes on their way to the board at most.
const INPUT_MAX: usize = 8 << 20;

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The client left.
    Left,
    /// The connection is to be cut without a word.
    Cut,
    /// The client was told the reason.
    Fatal(String),
}

/// Serves one client until it leaves, or has to.
pub async fn serve<S>(socket: S, emulator: &Path, lies: Lies) -> End
where
    S: Stream<Item = Result<Frame, tungstenite::Error>> + Sink<Frame, Error = tungstenite::Error> + Send + 'static,
{
    let (sink, mut incoming) = socket.split();
    let (out, queue) = mpsc::channel(OUT_MAX);
    let mut writer = tokio::spawn(write(sink, queue));
    let mut session = Session::new(emulator, lies, out);
    let end = match session.run(&mut incoming).await {
        Ok(never) => match never {},
        Err(end) => end,
    };
    if let End::Fatal(message) = &end {
        let _ = session.send(&Message::Error { message: message.clone() }).await;
    }
    if end != End::Cut {
        let _ = session.out.send((Instant::now() + session.lies.delay, Frame::Close(None))).await;
    }
    session.switch_off().await;
    drop(session);
    // What was said before a cut still arrives.
    if tokio::time::timeout(CLOSE_LIMIT, &mut writer).await.is_err() {
        writer.abort();
    }
    end
}

/// How long the last messages may take to a client that does not read them.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Writes each message at its time.
async fn write(mut sink: impl Sink<Frame, Error = tungstenite::Error> + Unpin, mut queue: mpsc::Receiver<(Instant, Frame)>) {
    while let Some((at, frame)) = queue.recv().await {
        tokio::time::sleep_until(at.into()).await;
        if sink.send(frame).await.is_err() {
            return;
        }
    }
}

enum Never {}

/// What a session waits for.
enum Happening {
    Frame(Option<Result<Frame, tungstenite::Error>>),
    Said(io::Result<usize>),
    Takes(io::Result<()>),
    Moment,
    Quiet,
    Ended(io::Result<ExitStatus>),
}

struct Session {
    emulator: PathBuf,
    lies: Lies,
    out: mpsc::Sender<(Instant, Frame)>,
    /// Nothing is sent any more.
    stalled: bool,
    files: Files,
    wiring: Wiring,
    /// Of the simulation that was started last.
    parts: Option<Parts>,
    board: Option<Board>,
    clock: Clock,
    points: Points,
    listening: bool,
    /// What the board has said and nobody has looked at.
    held: Vec<u8>,
    /// What was looked at and is to be sent.
    gathered: Vec<u8>,
    sent: u64,
    input: VecDeque<u8>,
    /// Writes that are answered once the board has taken them.
    owed: VecDeque<(String, Option<String>)>,
    loss_from_board: Loss,
    loss_to_board: Loss,
}

#[derive(Deserialize)]
struct Bytes {
    bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct OfPart {
    part: String,
}

#[derive(Deserialize)]
struct OfPoint {
    id: String,
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    bytes: Vec<u8>,
    #[serde(default)]
    nanos: f64,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Going {
    pause: Option<bool>,
    pause_after: Option<f64>,
}

impl Session {
    fn new(emulator: &Path, lies: Lies, out: mpsc::Sender<(Instant, Frame)>) -> Session {
        Session {
            emulator: emulator.to_owned(),
            out,
            stalled: false,
            files: Files::default(),
            wiring: Wiring::default(),
            parts: None,
            board: None,
            clock: Clock::default(),
            points: Points::default(),
            listening: false,
            held: Vec::new(),
            gathered: Vec::new(),
            sent: 0,
            input: VecDeque::new(),
            owed: VecDeque::new(),
            loss_from_board: lies.loss(1),
            loss_to_board: lies.loss(2),
            lies,
        }
    }

    async fn run(&mut self, incoming: &mut (impl Stream<Item = Result<Frame, tungstenite::Error>> + Unpin)) -> Result<Never, End> {
        let hello = Message::Hello {
            protocol_version: PROTOCOL_VERSION,
            app_name: "Wokwi Simulator".into(),
            app_version: format!("fake-{}", env!("CARGO_PKG_VERSION")),
        };
        self.send(&hello).await?;
        let mut buffer = [0; READ_BYTES];
        loop {
            self.settle().await?;
            match self.next(incoming, &mut buffer).await {
                Happening::Frame(Some(Ok(Frame::Text(text)))) => self.command(text.as_str()).await?,
                Happening::Frame(Some(Ok(Frame::Binary(_)))) => return Err(End::Fatal("messages are text".into())),
                // A ping is answered by the library.
                Happening::Frame(Some(Ok(_))) => {}
                Happening::Frame(Some(Err(_)) | None) => return Err(End::Left),
                Happening::Said(Ok(count)) if count > 0 => {
                    if self.wiring.hears {
                        self.held.extend_from_slice(&buffer[..count]);
                        self.loss_from_board.pass(&mut self.held);
                    }
                }
                Happening::Said(_) => self.board.iter_mut().for_each(|board| board.says = None),
                Happening::Takes(writable) => self.give(writable),
                Happening::Moment => {
                    if let Some(reached) = self.points.due(self.nanos()) {
                        self.pause(Some(reached)).await?;
                    }
                }
                Happening::Quiet => self.flush().await?,
                Happening::Ended(status) => self.ended(status).await?,
            }
        }
    }

    async fn next(
        &mut self,
        incoming: &mut (impl Stream<Item = Result<Frame, tungstenite::Error>> + Unpin),
        buffer: &mut [u8],
    ) -> Happening {
        let runs = self.clock.runs();
        let moment = self.points.next_moment().and_then(|nanos| self.clock.moment(nanos));
        let quiet = (!self.gathered.is_empty()).then(|| Instant::now() + MERGE_QUIET);
        let silent = self.board.as_ref().is_some_and(|board| board.says.is_none());
        let (mut says, mut hears, mut rest) = (None, None, None);
        if let Some(board) = &mut self.board {
            if silent {
                rest = Some(board);
            } else {
                says = board.says.as_mut().filter(|_| runs);
                hears = board.hears.as_ref().filter(|_| !self.input.is_empty());
            }
        }
        tokio::select! {
            frame = incoming.next() => Happening::Frame(frame),
            count = said(says, buffer) => Happening::Said(count),
            writable = takes(hears) => Happening::Takes(writable),
            () = at(moment) => Happening::Moment,
            () = at(quiet) => Happening::Quiet,
            status = ended(rest) => Happening::Ended(status),
        }
    }

    /// Does what needs no waiting: looks at what the board has said, and answers writes that it has taken.
    async fn settle(&mut self) -> Result<(), End> {
        while self.clock.runs() {
            let said = mem::take(&mut self.held);
            let Some((before, reached)) = self.points.look(&said) else {
                self.tell(&said).await?;
                break;
            };
            self.held = said[before..].to_vec();
            self.tell(&said[..before]).await?;
            self.pause(Some(reached)).await?;
        }
        while self.input.len() <= INPUT_EAGER || !self.clock.runs() {
            let Some((command, id)) = self.owed.pop_front() else { break };
            self.answer(command, id, Ok(json!({}))).await?;
        }
        Ok(())
    }

    async fn command(&mut self, text: &str) -> Result<(), End> {
        let message = serde_json::from_str(text).map_err(|e| End::Fatal(format!("a message that cannot be read: {e}")))?;
        let Message::Command { command, id, params } = message else {
            return Err(End::Fatal("a message that is no command".into()));
        };
        let result = match command.as_str() {
            "file:upload" => self.files.upload(params),
            "file:download" => self.files.download(&params),
            "serial-monitor:listen" => {
                self.listening = true;
                Ok(json!({}))
            }
            "serial-monitor:write" => match self.write(&params) {
                Ok(()) => {
                    self.owed.push_back((command, id));
                    return Ok(());
                }
                Err(refusal) => Err(refusal),
            },
            "pause-point:add" => self.add_point(&params),
            "pause-point:remove" => self.remove_point(&params),
            "sim:start" => self.start(&params).await?,
            "sim:restart" => self.restart(&params).await?,
            "sim:resume" => self.resume(&params).await?,
            "sim:pause" => match self.is_started() {
                Ok(()) => {
                    self.pause(None).await?;
                    Ok(json!({}))
                }
                Err(refusal) => Err(refusal),
            },
            "sim:status" => Ok(json!({ "running": self.clock.runs(), "nanos": self.nanos() })),
            "sim:read-vcd" => Ok(json!({ "vcd": "", "channelCount": 0, "sampleCount": 0 })),
            "control:set" | "pin:read" | "pin:listen" | "touch:event" => self.of_part(&command, &params),
            "gpio:list" | "framebuffer:read" => Err(Refusal::beyond(&command)),
            other => Err(Refusal::wrong(format!("unknown command: {other}"))),
        };
        self.answer(command, id, result).await
    }

    fn of_part(&self, command: &str, params: &Value) -> Result<Value, Refusal> {
        let OfPart { part } = read(params)?;
        if !self.files.diagram()?.has(&part) {
            return Err(Refusal::missing(format!("part {part} is not in the diagram")));
        }
        Err(Refusal::beyond(format!("{command} of part {part}")))
    }

    fn add_point(&mut self, params: &Value) -> Result<Value, Refusal> {
        let OfPoint { id, r#type, bytes, nanos } = read(params)?;
        let added = match r#type.as_str() {
            "serial-bytes" => self.points.add_bytes(id, bytes),
            "time-absolute" => self.points.add_moment(Some(id), "time-absolute", whole(nanos)),
            "time-relative" => self.points.add_moment(Some(id), "time-relative", self.nanos().saturating_add(whole(nanos))),
            other => Err(format!("no pause point is of type {other:?}")),
        };
        added.map(|()| json!({})).map_err(Refusal::wrong)
    }

    fn remove_point(&mut self, params: &Value) -> Result<Value, Refusal> {
        let OfPoint { id, .. } = read(params)?;
        if self.points.remove(&id) { Ok(json!({})) } else { Err(Refusal::missing(format!("no pause point {id}"))) }
    }

    fn write(&mut self, params: &Value) -> Result<(), Refusal> {
        self.is_started()?;
        let Bytes { mut bytes } = read(params)?;
        if self.input.len() + bytes.len() > INPUT_MAX {
            return Err(Refusal { code: 413, message: format!("the board has not taken {} bytes yet", self.input.len()) });
        }
        self.loss_to_board.pass(&mut bytes);
        if self.wiring.says && self.board.as_ref().is_some_and(|board| board.hears.is_some()) {
            self.input.extend(bytes);
        }
        Ok(())
    }

    fn is_started(&self) -> Result<(), Refusal> {
        if self.parts.is_some() { Ok(()) } else { Err(Refusal::wrong("no simulation was started")) }
    }

    async fn start(&mut self, params: &Value) -> Result<Result<Value, Refusal>, End> {
        let (image, going) = match (self.files.image(params), read::<Going>(params)) {
            (Err(refusal), _) | (_, Err(refusal)) => return Ok(Err(refusal)),
            (Ok(image), Ok(going)) => (image.map_err(End::Fatal)?, going),
        };
        self.switch_off().await;
        self.wiring = image.wiring;
        self.parts = Some(Parts::new(&self.emulator, &image).map_err(|e| End::Fatal(format!("no room for the image: {e}")))?);
        self.switch_on(going).await.map(Ok)
    }

    async fn restart(&mut self, params: &Value) -> Result<Result<Value, Refusal>, End> {
        let going = match self.is_started().and_then(|()| going(params)) {
            Ok(going) => going,
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.switch_off().await;
        self.switch_on(going).await.map(Ok)
    }

    async fn resume(&mut self, params: &Value) -> Result<Result<Value, Refusal>, End> {
        let going = match self.is_started().and_then(|()| going(params)) {
            Ok(going) => going,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Some(after) = going.pause_after {
            let moment = self.nanos().saturating_add(whole(after));
            if let Err(why) = self.points.add_moment(None, "pause-after", moment) {
                return Ok(Err(Refusal::wrong(why)));
            }
        }
        self.go_on().await.map(|()| Ok(json!({})))
    }

    /// Begins with the storage as it is.
    async fn switch_on(&mut self, going: Going) -> Result<Value, End> {
        let Some(parts) = &self.parts else { return Ok(json!({})) };
        self.board = Some(parts.start().await.map_err(fatal)?);
        if going.pause != Some(true) {
            self.go_on().await?;
        }
        Ok(json!({}))
    }

    async fn switch_off(&mut self) {
        if let Some(board) = self.board.take() {
            board.off().await;
        }
        self.clock = Clock::default();
        self.held.clear();
        self.gathered.clear();
        self.input.clear();
    }

    async fn go_on(&mut self) -> Result<(), End> {
        if !self.clock.runs() {
            if let Some(board) = &mut self.board {
                board.go_on().await.map_err(fatal)?;
            }
            self.clock.start(Instant::now());
        }
        Ok(())
    }

    async fn pause(&mut self, why: Option<Reached>) -> Result<(), End> {
        if self.clock.runs() {
            if let Some(board) = &mut self.board {
                board.stand_still().await.map_err(fatal)?;
            }
            self.clock.stop(Instant::now());
        }
        self.flush().await?;
        let payload = match why {
            Some(Reached { id: Some(id), kind }) => json!({ "pausePoint": id, "pausePointInfo": { "type": kind } }),
            _ => json!({}),
        };
        self.event("sim:pause", payload).await
    }

    /// QEMU has ended by itself.
    async fn ended(&mut self, status: io::Result<ExitStatus>) -> Result<(), End> {
        let Some(mut board) = self.board.take() else { return Ok(()) };
        self.input.clear();
        match status.as_ref().map(ExitStatus::code) {
            // The firmware's own wish, as a crash; a chip would say no more either, and its clock goes on.
            Ok(Some(code)) if code != 1 => {
                say::aside(format_args!("fake-wokwi-server: the firmware has ended the board ({code})"));
                Ok(())
            }
            _ => {
                let status = status.map_or_else(|e| e.to_string(), |status| status.to_string());
                Err(End::Fatal(format!("the board's emulator has ended ({status}) {}", board.complaint().await)))
            }
        }
    }

    /// Gives the board what it takes.
    fn give(&mut self, writable: io::Result<()>) {
        let Some(Board { hears, .. }) = &mut self.board else { return };
        let (first, _) = self.input.as_slices();
        let taken = writable.and_then(|()| hears.as_ref().map_or(Ok(0), |hears| hears.try_write(first)));
        match taken {
            Ok(count) => drop(self.input.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => {
                *hears = None;
                self.input.clear();
            }
        }
    }

    /// Sends what the board said, as far as the lies let it.
    async fn tell(&mut self, said: &[u8]) -> Result<(), End> {
        if !self.listening || said.is_empty() {
            return Ok(());
        }
        let left = self.lies.stop.map(|(after, stop)| (after.saturating_sub(self.sent), stop));
        let stop = left.filter(|(left, _)| said.len() as u64 >= *left);
        let said = stop.map_or(said, |(left, _)| &said[..usize::try_from(left).unwrap_or(usize::MAX).min(said.len())]);
        self.sent += said.len() as u64;
        self.gathered.extend_from_slice(said);
        if self.gathered.len() >= self.lies.merge || stop.is_some() {
            self.flush().await?;
        }
        match stop {
            None => Ok(()),
            Some((_, Stop::Stall)) => {
                self.stalled = true;
                Ok(())
            }
            Some((_, Stop::Cut)) => Err(End::Cut),
            Some((_, Stop::Error)) => Err(End::Fatal("the simulation has failed, as it was told to".into())),
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        for piece in mem::take(&mut self.gathered).chunks(self.lies.split) {
            self.event("serial-monitor:data", json!({ "bytes": piece })).await?;
        }
        Ok(())
    }

    async fn event(&mut self, event: &str, payload: Value) -> Result<(), End> {
        let (nanos, paused) = (self.nanos(), !self.clock.runs());
        self.send(&Message::Event { event: event.into(), payload, nanos, paused }).await
    }

    async fn answer(&mut self, command: String, id: Option<String>, result: Result<Value, Refusal>) -> Result<(), End> {
        let (result, error) = match result {
            Ok(result) => (result, false),
            Err(Refusal { code, message }) => (json!({ "code": code, "message": message }), true),
        };
        self.send(&Message::Response { command, id, result, error }).await
    }

    async fn send(&mut self, message: &Message) -> Result<(), End> {
        if self.stalled {
            return Ok(());
        }
        let text = serde_json::to_string(message).map_err(|e| End::Fatal(e.to_string()))?;
        self.out.send((Instant::now() + self.lies.delay, Frame::text(text))).await.map_err(|_| End::Left)
    }

    fn nanos(&self) -> u64 {
        self.clock.nanos(Instant::now())
    }
}

fn going(params: &Value) -> Result<Going, Refusal> {
    if params.is_null() { Ok(Going::default()) } else { read(params) }
}

/// A number of JavaScript's as nanoseconds; what is below nothing is nothing.
fn whole(nanos: f64) -> u64 {
    nanos.round() as u64
}

fn fatal(error: io::Error) -> End {
    End::Fatal(error.to_string())
}

async fn said(says: Option<&mut OwnedReadHalf>, buffer: &mut [u8]) -> io::Result<usize> {
    match says {
        Some(says) => says.read(buffer).await,
        None => std::future::pending().await,
    }
}

async fn takes(hears: Option<&OwnedWriteHalf>) -> io::Result<()> {
    match hears {
        Some(hears) => hears.writable().await,
        None => std::future::pending().await,
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

async fn ended(board: Option<&mut Board>) -> io::Result<ExitStatus> {
    match board {
        Some(board) => board.ended().await,
        None => std::future::pending().await,
    }
}
