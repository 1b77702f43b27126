//! A console with a network on its line: text and frames told apart, the PPP peer and the gateway run beside the text.

use super::gateway::{Gateway, Reachable};
use super::pcap::{Capture, Direction};
use super::ppp::{Outgoing, Output, Peer, Terms};
use super::wire::{self, Faults};
use crate::event::{Source, What};
use crate::target::Console;
use crate::trace::tape::Tape;
use device_core::serial::frame::{ACCM_ALL, Encoding, IDLE_MS, Piece, Splitter, encode};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// This machine, to the device: gateway, name server, and where the testbed's servers are.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The device.
pub const DEVICE: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

/// How the note begins that says how many milliseconds the link took.
pub const LINK_UP: &str = "the link over the console is up after ";

/// Chunks that wait between the line and this program, each way.
const CHUNKS_MAX: usize = 4;
/// Frames and texts that wait for the line.
const OUTGOING_MAX: usize = 4;
/// Bytes of text that wait for whoever reads the console.
const TEXT_MAX: usize = 64 * 1024;
/// Bytes of text for the device that are taken at once.
const TOLD_MAX: usize = 1024;
/// How long whoever reads the console may take for the last text.
const LAST_TEXT_LIMIT: Duration = Duration::from_secs(1);
/// Echo requests that wait for their turn.
const ASKS_MAX: usize = 64;

/// How a console's network is made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How frames are written.
    pub encoding: Encoding,
    /// The device is asked to escape every control character, for a line into which somebody else writes.
    pub escape_all: bool,
    /// Whoever writes lines `[name] text` into the line; they need `escape_all`.
    pub intruder: Option<String>,
    /// What the device may reach.
    pub reachable: Reachable,
    /// What is wrong with the line, on purpose.
    pub faults: Faults,
    /// Where the link's packets are written to.
    pub pcap: Option<PathBuf>,
}

/// What has become of the link so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// IP packets go both ways.
    pub up: bool,
    /// From the device's first good frame until the link was up for the first time.
    pub took: Option<Duration>,
    /// Frames of the device that were whole.
    pub good: u64,
    /// Frames of the device that were broken.
    pub bad: u64,
}

/// The network beside a console, for those who look at it. It ends with the console.
#[derive(Debug)]
pub struct Network {
    status: watch::Receiver<Status>,
    asks: mpsc::Sender<Ask>,
}

/// An echo request.
struct Ask {
    data: Vec<u8>,
    answer: oneshot::Sender<(Vec<u8>, Instant)>,
}

/// An echo request that has been made.
#[derive(Debug)]
pub struct Echo {
    asked_at: Instant,
    answer: oneshot::Receiver<(Vec<u8>, Instant)>,
}

impl Network {
    /// What has become of the link so far.
    pub fn status(&self) -> Status {
        *self.status.borrow()
    }

    /// Waits until the link is up; false when the time is up or the console has ended.
    pub async fn is_up(&mut self, limit: Duration) -> bool {
        matches!(tokio::time::timeout(limit, self.status.wait_for(|status| status.up)).await, Ok(Ok(_)))
    }

    /// Has the device send this back, at most 100 bytes; none when the console has ended.
    pub async fn echo(&self, data: Vec<u8>) -> Option<Echo> {
        let (answer, wait) = oneshot::channel();
        self.asks.send(Ask { data, answer }).await.ok()?;
        Some(Echo { asked_at: Instant::now(), answer: wait })
    }
}

impl Echo {
    /// What came back, and after how long; none when nothing did.
    pub async fn answer(self, limit: Duration) -> Option<(Vec<u8>, Duration)> {
        let (data, at) = tokio::time::timeout(limit, self.answer).await.ok()?.ok()?;
        Some((data, at.saturating_duration_since(self.asked_at)))
    }
}

/// Puts a network on a console's line. What is given back is the console's text alone, the way to the device's HTTP API, and the [`Network`]; with its text, or when
/// the device's line ends, all ends that was started here. Nothing is sent before the device's first good frame.
///
/// # Errors
/// When the file for the packets cannot be made, or there is no free port.
pub async fn attach(console: Console, options: Options, tape: Option<Tape>) -> io::Result<Console> {
    let capture = options.pcap.as_deref().map(Capture::create).transpose()?;
    let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let door_at = door.local_addr()?;
    let (text_in, text_out) = tokio::io::duplex(TOLD_MAX);
    let (told_in, told_out) = tokio::io::duplex(TOLD_MAX);
    let (heard_in, heard) = mpsc::channel(CHUNKS_MAX);
    let (says, said) = mpsc::channel(CHUNKS_MAX);
    let (tell, status) = watch::channel(Status::default());
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let splitter = Splitter::new(options.encoding);
    let run = Run {
        encoding: options.encoding,
        splitter: match &options.intruder {
            Some(name) => splitter.intruded_by(name),
            None => splitter,
        },
        peer: Peer::new(Terms { host: HOST, device: DEVICE, accm: if options.escape_all { ACCM_ALL } else { 0 } }),
        gateway: Gateway::new(HOST, DEVICE, options.reachable, door, options.faults.seed),
        capture,
        began: Instant::now(),
        first_frame: None,
        tell,
        tape,
        text: Vec::new(),
        outgoing: VecDeque::new(),
        echoes: HashMap::new(),
    };
    let tasks = [
        tokio::spawn(wire::read(console.says, heard_in, options.faults)),
        tokio::spawn(wire::write(console.hears, said, options.faults)),
        tokio::spawn(run.run(heard, says, text_in, told_out, asked)),
    ];
    let says = Says { text: text_out, _tasks: Tasks(tasks) };
    let console =
        Console { says: Box::new(says), hears: Box::new(told_in), door: Some(door_at), network: Some(Network { status, asks }) };
    Ok(console)
}

/// The console's text; what was started for it ends with it.
struct Says {
    text: DuplexStream,
    _tasks: Tasks,
}

struct Tasks([JoinHandle<()>; 3]);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl AsyncRead for Says {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.text).poll_read(cx, buffer)
    }
}

/// What runs beside the console.
struct Run {
    encoding: Encoding,
    splitter: Splitter,
    peer: Peer,
    gateway: Gateway,
    capture: Option<Capture>,
    began: Instant,
    first_frame: Option<Duration>,
    tell: watch::Sender<Status>,
    tape: Option<Tape>,
    /// Text that waits for whoever reads the console.
    text: Vec<u8>,
    /// What waits for the line: whole frames, and text.
    outgoing: VecDeque<Vec<u8>>,
    echoes: HashMap<u8, oneshot::Sender<(Vec<u8>, Instant)>>,
}

impl Run {
    async fn run(
        mut self,
        mut heard: mpsc::Receiver<Vec<u8>>,
        says: mpsc::Sender<Vec<u8>>,
        mut text_in: DuplexStream,
        mut told: DuplexStream,
        mut asked: mpsc::Receiver<Ask>,
    ) {
        let mut bytes = [0; TOLD_MAX];
        let (mut told_ended, mut asked_ended) = (false, false);
        let mut silent_at = None;
        loop {
            self.fill();
            let room = self.outgoing.len() < OUTGOING_MAX;
            let up = self.peer.is_up();
            let due = self.due(silent_at);
            let (gateway, began) = (&mut self.gateway, self.began);
            tokio::select! {
                chunk = heard.recv(), if self.text.len() < TEXT_MAX => {
                    let Some(chunk) = chunk else { break };
                    self.take(&chunk);
                    silent_at = self.splitter.undecided().then(|| Instant::now() + Duration::from_millis(IDLE_MS));
                }
                written = text_in.write(&self.text), if !self.text.is_empty() => match written {
                    Ok(count) => drop(self.text.drain(..count)),
                    // Nobody reads any more; soon nobody writes either.
                    Err(_) => self.text.clear(),
                },
                permit = says.reserve(), if !self.outgoing.is_empty() => {
                    let Ok(permit) = permit else { break };
                    if let Some(chunk) = self.outgoing.pop_front() {
                        permit.send(chunk);
                    }
                }
                read = told.read(&mut bytes), if room && !told_ended => match read {
                    Ok(count) if count > 0 => self.outgoing.push_back(bytes[..count].to_vec()),
                    _ => told_ended = true,
                },
                ask = asked.recv(), if room && !asked_ended => match ask {
                    Some(ask) => self.ask(ask),
                    None => asked_ended = true,
                },
                () = poll_fn(|cx| {
                    let moved = gateway.poll(cx, began.elapsed(), up).is_ready();
                    if moved || (room && gateway.has_leaving()) { Poll::Ready(()) } else { Poll::Pending }
                }) => {}
                () = at(due) => {
                    self.peer.tick(self.began.elapsed());
                    if silent_at.is_some_and(|at| at <= Instant::now()) {
                        silent_at = None;
                        self.idle();
                    }
                    self.act();
                }
            }
        }
        self.idle();
        let _ = tokio::time::timeout(LAST_TEXT_LIMIT, text_in.write_all(&self.text)).await;
        self.tell.send_modify(|status| status.up = false);
    }

    /// When something is due that nobody else brings.
    fn due(&mut self, silent_at: Option<Instant>) -> Option<Instant> {
        let now = self.began.elapsed();
        let peer = self.peer.deadline().map(|at| self.began + at);
        let gateway = self.gateway.delay(now).map(|delay| self.began + now + delay);
        [peer, gateway, silent_at].into_iter().flatten().min()
    }

    /// Takes packets of the gateway while there is room for them.
    fn fill(&mut self) {
        while self.outgoing.len() < OUTGOING_MAX
            && let Some(packet) = self.gateway.leaving()
        {
            // What cannot be carried is lost; TCP says it again.
            if let Some(frame) = self.peer.carry(&packet) {
                self.send(frame);
            }
        }
    }

    fn send(&mut self, frame: Outgoing) {
        let mut bytes = Vec::new();
        encode(self.encoding, &frame.body, frame.accm, &mut bytes);
        if let Some(capture) = &mut self.capture {
            capture.frame(Direction::ToDevice, &frame.body);
        }
        self.outgoing.push_back(bytes);
    }

    /// Takes what came over the line.
    fn take(&mut self, chunk: &[u8]) {
        self.split(|splitter, mut on| splitter.feed(chunk, &mut on));
    }

    /// The line has been silent.
    fn idle(&mut self) {
        self.split(|splitter, mut on| splitter.idle(&mut on));
    }

    fn split(&mut self, act: impl FnOnce(&mut Splitter, &mut dyn FnMut(Piece<'_>))) {
        let now = self.began.elapsed();
        let Run { splitter, peer, capture, text, .. } = self;
        let (mut good, mut bad) = (0, 0);
        act(splitter, &mut |piece| match piece {
            Piece::Text(bytes) => text.extend_from_slice(bytes),
            Piece::Frame(body) => {
                good += 1;
                if let Some(capture) = capture {
                    capture.frame(Direction::FromDevice, body);
                }
                peer.frame(now, body);
            }
            Piece::Bad => bad += 1,
        });
        if good > 0 {
            self.first_frame.get_or_insert(now);
        }
        if good + bad > 0 {
            self.tell.send_modify(|status| {
                status.good += good;
                status.bad += bad;
            });
        }
        self.act();
    }

    /// Does what the peer wants done.
    fn act(&mut self) {
        let now = self.began.elapsed();
        while let Some(output) = self.peer.poll() {
            match output {
                Output::Send(frame) => self.send(frame),
                Output::Packet(packet) => self.gateway.take(now, packet),
                Output::Up => {
                    self.gateway.set_mtu(self.peer.mtu());
                    let took = now.saturating_sub(self.first_frame.unwrap_or(now));
                    self.tell.send_modify(|status| {
                        status.up = true;
                        status.took.get_or_insert(took);
                    });
                    self.note(format!("{LINK_UP}{} ms", took.as_millis()));
                }
                Output::Down => {
                    self.first_frame = Some(now);
                    self.tell.send_modify(|status| status.up = false);
                    self.note("the link over the console is down".into());
                }
                Output::Echoed { id, data } => {
                    if let Some(answer) = self.echoes.remove(&id) {
                        let _ = answer.send((data, Instant::now()));
                    }
                }
            }
        }
    }

    fn ask(&mut self, ask: Ask) {
        // Without a link nobody answers, and the question is dropped.
        if let Some((id, frame)) = self.peer.echo(&ask.data) {
            self.echoes.insert(id, ask.answer);
            self.send(frame);
        }
    }

    fn note(&self, text: String) {
        if let Some(tape) = &self.tape {
            tape.say(Source::Runner, What::Note(text));
        }
    }
}

/// Waits until then; for ever, when there is nothing to wait for.
async fn at(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
