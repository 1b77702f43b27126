//! A board brought into a known state by its own console: fresh from the factory, or started again as it is.
//!
//! Whatever it was doing, and whatever is on its way, is passed over: what the console says begins with the line of its last start.

use super::super::{Console, TargetError};
use super::port;
use crate::serial::lines::Numbered;
use crate::verdict::lasting;
use device_core::command::Command;
use device_core::report::Report;
use device_core::surroundings::Surroundings;
use std::io::Cursor;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// How long a board may take to answer a command, or to start, before it is told again.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How often it is told.
const TRIES: u32 = 4;
/// How long a board that was told more than once to start may start once more.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// Bytes of a line that are kept.
const LINE_MAX: usize = 16 * 1024;
/// Characters of what the board said last that are told.
const SHOWN_MAX: usize = 120;

/// How a board is to start.
#[derive(Debug)]
pub enum Start {
    /// It forgets everything, and finds this around it.
    Fresh(Box<Surroundings>),
    /// With what it has stored.
    AsItIs,
}

/// Why a board could not be started.
#[derive(Debug)]
pub enum Trouble {
    /// The port went away, and stayed away.
    Gone,
    /// Nothing was heard.
    Silent,
    /// Something was heard, but no answer to this command.
    Deaf { command: &'static str, last: String },
    /// This command was refused.
    Refused { command: &'static str, why: String },
}

impl Trouble {
    /// In words, for the board at this port.
    pub fn at(self, path: &str, baud: u32) -> TargetError {
        let limit = lasting(ANSWER_WITHIN * TRIES);
        let (what, help) = match self {
            Trouble::Gone => (format!("start the board: the port {path} went away"), port::there_are()),
            Trouble::Silent => (
                format!("hear the board: nothing came from {path} at {baud} baud within {limit}"),
                "see that the board has power and the cable carries data; press its reset button; try another --baud".to_owned(),
            ),
            Trouble::Deaf { command, last } => (
                format!(
                    "start the board: it did not answer `{command}` at {path}, {baud} baud, within {limit}; it said last: {last}"
                ),
                "see that this project's firmware is on it, and that the baud rate is right (--baud)".to_owned(),
            ),
            Trouble::Refused { command, why } => (
                format!("start the board: it refused `{command}`: {why}"),
                "see that this project's newest firmware is on it".to_owned(),
            ),
        };
        TargetError { what, help }
    }
}

/// Starts the board; `begins`: it is just being reset by wire. What it says comes back from the first line of its start on.
///
/// # Errors
/// It cannot be heard, or does not do as it is told. Every wait is bounded.
pub async fn start(lines: Numbered, start: Start, begins: bool) -> Result<Console, Trouble> {
    let Numbered { console: Console { says, hears, door, network }, is } = lines;
    let mut talk = Talk { says, hears, numbered: is, ahead: Vec::new(), last: None };
    let boot = match start {
        Start::AsItIs if begins => match talk.hear(ANSWER_WITHIN, booted).await? {
            Some(boot) => boot,
            None => talk.restart("reboot", &Command::Reboot).await?,
        },
        Start::AsItIs => talk.restart("reboot", &Command::Reboot).await?,
        Start::Fresh(surroundings) => {
            if begins {
                talk.hear(ANSWER_WITHIN, booted).await?;
            }
            let surroundings = Command::Surroundings(Some(surroundings));
            talk.ask("surroundings", &surroundings).await?;
            let checked = talk.is_numbered();
            let boot = talk.restart("factory-reset", &Command::FactoryReset).await?;
            if !checked && talk.is_numbered() {
                // Nothing had protected them on their way.
                talk.ask("surroundings", &surroundings).await?;
                talk.restart("reboot", &Command::Reboot).await?
            } else {
                boot
            }
        }
    };
    let Talk { says, hears, ahead, .. } = talk;
    Ok(Console { says: Box::new(Cursor::new([boot, ahead].concat()).chain(says)), hears, door, network })
}

/// The board's console while nobody else listens to it.
struct Talk {
    says: Box<dyn AsyncRead + Send + Unpin>,
    hears: Box<dyn AsyncWrite + Send + Unpin>,
    /// Whether its lines are numbered.
    numbered: watch::Receiver<bool>,
    /// What has been read and not looked at.
    ahead: Vec<u8>,
    /// The last line that was text.
    last: Option<String>,
}

/// What a line of the board's means here.
enum Met<T> {
    Yes(T),
    No,
}

/// Its line, if the board starts with it.
fn booted(line: &[u8], report: &Report) -> Met<Vec<u8>> {
    if matches!(report, Report::Booting { .. }) { Met::Yes(line.to_vec()) } else { Met::No }
}

impl Talk {
    fn is_numbered(&self) -> bool {
        *self.numbered.borrow()
    }

    /// Says a command until it is answered.
    async fn ask(&mut self, verb: &'static str, command: &Command) -> Result<(), Trouble> {
        let answered = move |_: &[u8], report: &Report| match report {
            Report::CommandDone { command } if command == verb => Met::Yes(Ok(())),
            Report::CommandRefused { why } => Met::Yes(Err(why.clone())),
            _ => Met::No,
        };
        let mut refused = None;
        for _ in 0..TRIES {
            self.tell(command).await?;
            match self.hear(ANSWER_WITHIN, answered).await? {
                Some(Ok(())) => return Ok(()),
                // What was half said before, or damaged on its way, is refused too.
                Some(Err(why)) => refused = Some(why),
                None => {}
            }
        }
        Err(match refused {
            Some(why) => Trouble::Refused { command: verb, why },
            None => self.deaf(verb),
        })
    }

    /// Says a command until the board starts anew; the first line of that.
    async fn restart(&mut self, verb: &'static str, command: &Command) -> Result<Vec<u8>, Trouble> {
        for again in 0..TRIES {
            self.tell(command).await?;
            let Some(mut boot) = self.hear(ANSWER_WITHIN, booted).await? else { continue };
            // Told twice, it may start twice.
            while again > 0
                && let Some(later) = self.hear(SETTLED_AFTER, booted).await?
            {
                boot = later;
            }
            return Ok(boot);
        }
        Err(self.deaf(verb))
    }

    fn deaf(&mut self, command: &'static str) -> Trouble {
        match self.last.take() {
            Some(last) => Trouble::Deaf { command, last: crate::event::printable(&last).chars().take(SHOWN_MAX).collect() },
            None => Trouble::Silent,
        }
    }

    async fn tell(&mut self, command: &Command) -> Result<(), Trouble> {
        // An empty line first: whatever was half said before is ended with it.
        let line = format!("\n{}\n", command.line());
        let write = self.hears.write_all(line.as_bytes());
        match timeout(ANSWER_WITHIN, write).await {
            Ok(written) => written.map_err(|_| Trouble::Gone),
            // It will be told again.
            Err(_) => Ok(()),
        }
    }

    /// Hears until a line means something, or the time is up, or it shows that lines are numbered: what was told without a number was in vain.
    async fn hear<T>(&mut self, limit: Duration, mut means: impl FnMut(&[u8], &Report) -> Met<T>) -> Result<Option<T>, Trouble> {
        let until = Instant::now() + limit;
        let (mut looked, was_numbered) = (0, self.is_numbered());
        loop {
            while let Some(end) = self.ahead[looked..].iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.ahead.drain(..=looked + end).collect();
                looked = 0;
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_end();
                if let Some((_, report)) = Report::from_line(text)
                    && let Met::Yes(met) = means(&line, &report)
                {
                    return Ok(Some(met));
                }
                if !text.is_empty() && !text.contains('\u{fffd}') {
                    self.last = Some(text.to_owned());
                }
            }
            looked = self.ahead.len();
            if looked > LINE_MAX {
                self.ahead.clear();
                looked = 0;
            }
            tokio::select! {
                read = self.says.read_buf(&mut self.ahead) => if !matches!(read, Ok(read) if read > 0) {
                    return Err(Trouble::Gone);
                },
                _ = self.numbered.wait_for(|is| *is != was_numbered), if !was_numbered => return Ok(None),
                () = sleep_until(until) => return Ok(None),
            }
        }
    }
}
