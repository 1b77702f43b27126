//! The client's end of the simulation API: commands with their answers, pause points, and what is printed as it comes.

use super::Quit;
use super::expect::{Found, Lines};
use crate::fake::api::Message;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::{self, Message as Frame};

/// A connected client. Everything it does happens in one task.
pub struct Client {
    out: mpsc::UnboundedSender<Frame>,
    state: RefCell<State>,
}

struct State {
    quiet: bool,
    commands: u64,
    points: u64,
    /// As far as the client knows, which asked for it.
    running: bool,
    closed: bool,
    nanos: u64,
    answers: HashMap<String, oneshot::Sender<Result<Value, String>>>,
    pauses: HashMap<String, oneshot::Sender<()>>,
    chips: Vec<(String, oneshot::Sender<()>)>,
    lines: Lines,
    expected: Option<(String, oneshot::Sender<()>)>,
    failing: Option<String>,
    log: Option<File>,
    /// The scenario's name, if one runs.
    scenario: Option<String>,
    at_line_start: bool,
    skip_line_end: bool,
}

/// What is looked for and kept while the device talks.
#[derive(Debug, Default)]
pub struct Ears {
    /// Nothing but what the device says is printed.
    pub quiet: bool,
    /// A text that ends the run well.
    pub expected: Option<String>,
    /// A text that ends it badly.
    pub failing: Option<String>,
    /// Where what the device says is kept.
    pub log: Option<File>,
    /// The scenario's name, if one runs.
    pub scenario: Option<String>,
}

/// The receiver of something that comes once.
pub type Once = oneshot::Receiver<()>;

impl Client {
    /// A client, what it sends, and when the expected text has come.
    pub fn new(ears: Ears) -> (Client, mpsc::UnboundedReceiver<Frame>, Once) {
        let (out, queue) = mpsc::unbounded_channel();
        let (tell, expected) = oneshot::channel();
        let state = State {
            quiet: ears.quiet,
            commands: 0,
            points: 0,
            running: false,
            closed: false,
            nanos: 0,
            answers: HashMap::new(),
            pauses: HashMap::new(),
            chips: Vec::new(),
            lines: Lines::new(ears.expected.clone(), ears.failing.clone()),
            expected: ears.expected.map(|text| (text, tell)),
            failing: ears.failing,
            log: ears.log,
            scenario: ears.scenario,
            at_line_start: false,
            skip_line_end: false,
        };
        (Client { out, state: RefCell::new(state) }, queue, expected)
    }

    /// Sends a command; the answer is waited for by whoever wants it.
    fn send(&self, command: &str, params: Value) -> oneshot::Receiver<Result<Value, String>> {
        let (tell, answer) = oneshot::channel();
        let mut state = self.state.borrow_mut();
        let id = state.commands.to_string();
        state.commands += 1;
        state.answers.insert(id.clone(), tell);
        let message = Message::Command { command: command.into(), id: Some(id), params };
        if let Ok(text) = serde_json::to_string(&message) {
            // Whoever writes has gone, and the reader says why.
            let _ = self.out.send(Frame::text(text));
        }
        answer
    }

    /// A command and its answer.
    ///
    /// # Errors
    /// It was refused, which is said.
    pub async fn call(&self, command: &str, params: Value) -> Result<Value, Quit> {
        answer(self.send(command, params)).await
    }

    /// Uploads a file.
    ///
    /// # Errors
    /// It was refused, which is said.
    pub async fn upload(&self, name: &str, content: &[u8], is_text: bool) -> Result<(), Quit> {
        use base64::Engine as _;
        let params = match std::str::from_utf8(content) {
            Ok(text) if is_text => json!({ "name": name, "text": text }),
            _ => json!({ "name": name, "binary": base64::engine::general_purpose::STANDARD.encode(content) }),
        };
        self.call("file:upload", params).await.map(drop)
    }

    /// Adds a pause point, and lets the simulation run to it if it does not; what it gives back comes when the point is reached.
    ///
    /// # Errors
    /// It was refused, which is said.
    pub async fn pause_point(&self, kind: &str, what: (&str, Value), resume: bool) -> Result<Once, Quit> {
        let (tell, reached) = oneshot::channel();
        let id = {
            let mut state = self.state.borrow_mut();
            let id = format!("pp{}_{kind}", state.points);
            state.points += 1;
            state.pauses.insert(id.clone(), tell);
            id
        };
        let added = self.send("pause-point:add", json!({ "id": id, "type": kind, what.0: what.1 }));
        let resumed = (resume && !self.state.borrow().running).then(|| self.send_resume());
        answer(added).await?;
        if let Some(resumed) = resumed {
            answer(resumed).await?;
        }
        Ok(reached)
    }

    fn send_resume(&self) -> oneshot::Receiver<Result<Value, String>> {
        self.state.borrow_mut().running = true;
        self.send("sim:resume", json!({}))
    }

    /// Lets the simulation run.
    ///
    /// # Errors
    /// It was refused, which is said.
    pub async fn resume(&self) -> Result<(), Quit> {
        answer(self.send_resume()).await.map(drop)
    }

    /// Waits for a chip's message with this text, and lets the simulation run if it does not.
    pub fn chip_says(&self, text: &str) -> Once {
        let (tell, said) = oneshot::channel();
        self.state.borrow_mut().chips.push((text.into(), tell));
        if !self.state.borrow().running {
            drop(self.send_resume());
        }
        said
    }

    /// A message of the scenario's, in the middle of what the device says: on a line of its own, whose end the device's next is held for.
    ///
    /// # Errors
    /// Nobody reads standard output.
    pub fn note(&self, message: &str) -> Result<(), Quit> {
        let mut state = self.state.borrow_mut();
        let name = state.scenario.clone().unwrap_or_default();
        let before = if state.at_line_start { "" } else { "\n" };
        if !state.at_line_start {
            (state.skip_line_end, state.at_line_start) = (true, true);
        }
        print(format!("{before}[{name}] {message}\n").as_bytes())
    }

    /// The scenario fails.
    pub fn failed(&self, message: &str) -> Quit {
        throw(format!("[{}ns] {message}", self.state.borrow().nanos))
    }

    /// Closes the connection; its end is then no surprise.
    pub fn close(&self) {
        self.state.borrow_mut().closed = true;
        let _ = self.out.send(Frame::Close(None));
    }

    /// Reads what the server sends until the connection ends; other work of the task goes on after each message.
    pub async fn read(&self, mut incoming: impl Stream<Item = Result<Frame, tungstenite::Error>> + Unpin) -> Quit {
        let mut code = 1006;
        while let Some(frame) = incoming.next().await {
            let dealt = match frame {
                Ok(Frame::Text(text)) => self.take(text.as_str()),
                Ok(Frame::Close(frame)) => {
                    code = frame.map_or(1005, |frame| frame.code.into());
                    continue;
                }
                Ok(_) => continue,
                Err(_) => break,
            };
            if let Err(quit) = dealt {
                return quit;
            }
            tokio::task::yield_now().await;
        }
        if self.state.borrow().closed {
            return Quit(0);
        }
        complain(format!("API Error: Connection to transport closed unexpectedly: code {code}"))
    }

    fn take(&self, text: &str) -> Result<(), Quit> {
        let message = serde_json::from_str(text).map_err(|e| throw(format!("{e} in a message of the server's")))?;
        match message {
            Message::Hello { app_version, .. } if !self.state.borrow().quiet => {
                print(format!("Connected to Wokwi Simulation API {app_version}\n").as_bytes())
            }
            Message::Hello { .. } | Message::Command { .. } => Ok(()),
            Message::Error { message } => Err(complain(format!("API Error: {message}"))),
            Message::Response { id, result, error, .. } => {
                if let Some(tell) = self.state.borrow_mut().answers.remove(&id.unwrap_or_default()) {
                    let refused = || format!("Error {}: {}", result["code"], result["message"].as_str().unwrap_or("undefined"));
                    let _ = tell.send(if error { Err(refused()) } else { Ok(result) });
                }
                Ok(())
            }
            Message::Event { event, payload, nanos, .. } => {
                self.state.borrow_mut().nanos = nanos;
                self.event(&event, &payload)
            }
        }
    }

    fn event(&self, event: &str, payload: &Value) -> Result<(), Quit> {
        let mut state = self.state.borrow_mut();
        match event {
            "sim:pause" => {
                state.running = false;
                if let Some(tell) = payload["pausePoint"].as_str().and_then(|id| state.pauses.remove(id)) {
                    let _ = tell.send(());
                }
            }
            "chips:log" => {
                let message = payload["message"].as_str().unwrap_or_default();
                print(format!("[{}] {message}\n", payload["chip"].as_str().unwrap_or_default()).as_bytes())?;
                let (said, waiting): (Vec<_>, _) = state.chips.drain(..).partition(|(text, _)| message.contains(text.as_str()));
                state.chips = waiting;
                for (_, tell) in said {
                    let _ = tell.send(());
                }
            }
            "serial-monitor:data" => {
                let bytes = payload["bytes"].as_array().into_iter().flatten();
                let bytes: Vec<u8> = bytes.filter_map(|byte| byte.as_u64().map(|byte| byte as u8)).collect();
                return state.said(&bytes);
            }
            _ => {}
        }
        Ok(())
    }
}

impl State {
    fn said(&mut self, mut bytes: &[u8]) -> Result<(), Quit> {
        if self.scenario.is_some() {
            if self.skip_line_end {
                bytes = bytes.strip_prefix(b"\r\n").or_else(|| bytes.strip_prefix(b"\n")).unwrap_or(bytes);
            }
            self.skip_line_end = false;
            self.at_line_start = bytes.last().map_or(self.at_line_start, |last| *last == b'\n');
        }
        print(bytes)?;
        if let Some(log) = &mut self.log {
            log.write_all(bytes).map_err(|e| throw(e.to_string()))?;
        }
        let Found { expected, failing } = self.lines.feed(bytes);
        if expected && let Some((text, tell)) = self.expected.take() {
            if !self.quiet {
                print(format!("\n\nExpected text found: \"{text}\"\nTEST PASSED.\n").as_bytes())?;
            }
            let _ = tell.send(());
        }
        if failing {
            let text = self.failing.take().unwrap_or_default();
            return Err(complain(format!("\n\nError: Unexpected text found: \"{text}\"\nTEST FAILED.")));
        }
        Ok(())
    }
}

/// Writes what is to be sent.
pub async fn write(mut sink: impl Sink<Frame> + Unpin, mut queue: mpsc::UnboundedReceiver<Frame>) {
    while let Some(frame) = queue.recv().await {
        if sink.send(frame).await.is_err() {
            break;
        }
    }
    // The reader says how it ended.
    std::future::pending().await
}

async fn answer(answer: oneshot::Receiver<Result<Value, String>>) -> Result<Value, Quit> {
    match answer.await {
        Ok(answer) => answer.map_err(throw),
        Err(_) => std::future::pending().await,
    }
}

/// Prints on standard output, which may make us wait: then nothing else is done.
///
/// # Errors
/// Nobody reads it.
pub fn print(bytes: &[u8]) -> Result<(), Quit> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|e| throw(format!("write: {e}")))
}

/// An error that nothing catches.
pub fn throw(message: impl std::fmt::Display) -> Quit {
    complain(format!("Error: {message}"))
}

/// Says why on standard error, and ends with code 1.
pub fn complain(message: impl std::fmt::Display) -> Quit {
    crate::say::aside(message);
    Quit(1)
}
