//! The device's console: every line goes on the tape, and what the testbed itself must know (is it ready, where is its HTTP API) is kept.

use crate::event::{Source, What};
use crate::serial::network::Network;
use crate::target::Console;
use crate::trace::log;
use crate::trace::tape::Tape;
use crate::vocabulary::{Notes, Vocabulary};
use device_core::report::Report;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bytes of a console line that are kept; the rest of a longer line is dropped.
pub const LINE_MAX: usize = 4096;
/// How long the console must be quiet within a line before what has been said of it (a prompt) goes on the tape.
const QUIET: Duration = Duration::from_millis(100);
/// How long a write to the console may take before the target counts as lost.
pub const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// How often a device is asked whether it still answers.
const ASKS: u32 = 3;
/// How long it may take for an answer.
const ASK_LIMIT: Duration = Duration::from_secs(3);

/// What has been seen on the console since power-on, as far as the testbed itself needs it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Commands are read.
    pub ready: bool,
    /// How often settings were saved.
    pub saves: u32,
    /// Commands answered without a line of their own, and refused ones.
    pub answers: u32,
    /// The last refusal of a command.
    pub refused: Option<String>,
    /// Where the HTTP API answers.
    pub http: Option<String>,
    /// The stream has ended.
    pub ended: bool,
}

/// A console that is being read.
pub struct OpenConsole {
    seen: watch::Receiver<Seen>,
    /// Where the HTTP API answers, if not where the device says.
    door: Option<SocketAddr>,
    hears: Box<dyn AsyncWrite + Send + Unpin>,
    reader: JoinHandle<()>,
    /// The network on its line, where there is one.
    network: Option<Network>,
}

impl std::fmt::Debug for OpenConsole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenConsole").field("seen", &*self.seen.borrow()).finish_non_exhaustive()
    }
}

impl OpenConsole {
    /// Begins to read.
    ///
    /// Lines that are not this project's reports are looked up in `words`, if there are any: what they mean comes on the tape behind them.
    pub fn open(console: Console, tape: Tape, words: Option<Cow<'static, Vocabulary>>) -> OpenConsole {
        let (tell, seen) = watch::channel(Seen::default());
        let meanings = words.map(|words| Meanings { words, notes: Notes::default(), began: Instant::now() });
        let reader = tokio::spawn(read_lines(console.says, tape, tell, meanings));
        OpenConsole { seen, door: console.door, hears: console.hears, reader, network: console.network }
    }

    /// Waits until what has been seen satisfies `wanted`; false when the time is up or the console has ended.
    pub async fn seen(&mut self, limit: Duration, wanted: impl FnMut(&Seen) -> bool) -> bool {
        matches!(tokio::time::timeout(limit, self.seen.wait_for(wanted)).await, Ok(Ok(_)))
    }

    /// What has been seen so far.
    pub fn so_far(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Where the device's HTTP API answers, once the device has said that it does.
    pub fn http(&self) -> Option<String> {
        let said = self.seen.borrow().http.clone()?;
        Some(self.door.map_or(said, |door| door.to_string()))
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// When the device takes no bytes within [`WRITE_LIMIT`], or its console has ended.
    pub async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let write = async {
            self.hears.write_all(bytes).await?;
            self.hears.flush().await
        };
        tokio::time::timeout(WRITE_LIMIT, write).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
    }

    /// Whether the device still answers on the network that is on its line: asked [`ASKS`] times, [`ASK_LIMIT`] each. None where nothing can be
    /// asked, since there is none or it never came up.
    pub async fn still_answers(&mut self) -> Option<bool> {
        let network = self.network.as_ref().filter(|network| network.status().up)?;
        for _ in 0..ASKS {
            if let Some(echo) = network.echo(b"still there".to_vec()).await
                && echo.answer(ASK_LIMIT).await.is_some()
            {
                return Some(true);
            }
        }
        Some(false)
    }

    /// Reads what is left after power-off, so that no line is lost.
    pub async fn drain(self) {
        drop(self.hears);
        let mut reader = self.reader;
        if tokio::time::timeout(Duration::from_secs(1), &mut reader).await.is_err() {
            reader.abort();
        }
    }
}

/// What lines of firmware that is not this project's mean.
struct Meanings {
    words: Cow<'static, Vocabulary>,
    notes: Notes,
    began: Instant,
}

impl Meanings {
    /// The report that this line is, in a line of its own, as this project's firmware would say it.
    fn of(&mut self, line: &str) -> Option<(String, Report)> {
        let report = self.words.meaning(line, &mut self.notes)?.report;
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Some((report.line(device_core::time::Instant(now_ms)), report))
    }
}

async fn read_lines(
    says: Box<dyn tokio::io::AsyncRead + Send + Unpin>,
    tape: Tape,
    tell: watch::Sender<Seen>,
    mut meanings: Option<Meanings>,
) {
    let mut says = BufReader::with_capacity(1024, says);
    let mut line = Vec::new();
    // Bytes of the line that were there when it was last told in pieces, and those that were told.
    let (mut looked, mut told) = (0, 0);
    loop {
        let chunk = if line.len() > looked {
            let Ok(chunk) = tokio::time::timeout(QUIET, says.fill_buf()).await else {
                looked = line.len();
                let text = whole_characters(&line[told..]);
                if !text.is_empty() {
                    tape.say(Source::Device, What::Partial(text.to_owned()));
                    told += text.len();
                }
                continue;
            };
            chunk
        } else {
            says.fill_buf().await
        };
        let Some(chunk) = chunk.ok().filter(|chunk| !chunk.is_empty()) else { break };
        let chunk = &chunk[..chunk.len().min(LINE_MAX - line.len())];
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(chunk.len(), |at| at + 1);
        line.extend_from_slice(&chunk[..used]);
        says.consume(used);
        if end.is_none() && line.len() < LINE_MAX {
            continue;
        }
        let mut text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
        if meanings.is_some() {
            // Firmware of others says the password that it joins with.
            log::hide_password(&mut text);
        }
        // On the tape first: whoever is woken by `tell` may act on it, and what follows must come after it.
        tape.say(Source::Device, What::Line(text.clone()));
        if let Some((_, report)) = Report::from_line(&text) {
            tell.send_if_modified(|seen| note(seen, &report));
        } else if let Some((line, report)) = meanings.as_mut().and_then(|meanings| meanings.of(&log::plain(&text))) {
            tape.say(Source::Device, What::Line(line));
            tell.send_if_modified(|seen| note(seen, &report));
        }
        line.clear();
        (looked, told) = (0, 0);
    }
    let rest = String::from_utf8_lossy(&line[told..]);
    let rest = rest.trim_end_matches('\r');
    if !rest.is_empty() {
        tape.say(Source::Device, What::Partial(rest.to_owned()));
    }
    tell.send_modify(|seen| seen.ended = true);
}

/// The text that these bytes are, without a character that is cut at the end, what cannot be read, and a CR that may belong to a line end.
fn whole_characters(bytes: &[u8]) -> &str {
    let valid = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    };
    valid.trim_end_matches('\r')
}

/// Keeps what a report tells the testbed; false when it is nothing of that kind.
fn note(seen: &mut Seen, report: &Report) -> bool {
    match report {
        Report::ConsoleReady {} => seen.ready = true,
        Report::SettingsSaved { .. } => seen.saves += 1,
        Report::CommandDone { .. } => seen.answers += 1,
        Report::CommandRefused { why } => {
            seen.answers += 1;
            seen.refused = Some(why.clone());
        }
        Report::HttpListening { address } => seen.http = Some(address.clone()),
        Report::Booting { .. } => *seen = Seen::default(),
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::redact::Redactor;
    use tokio::io::duplex;

    #[tokio::test]
    async fn a_prompt_is_said_before_its_line_ends_and_the_line_comes_whole() {
        let (tape, mut events) = Tape::new(Redactor::new());
        let (mut device, host) = duplex(64);
        let (says, hears) = tokio::io::split(host);
        let console =
            OpenConsole::open(Console { says: Box::new(says), hears: Box::new(hears), door: None, network: None }, tape, None);
        device.write_all("one\r\nlogin \u{f6}".as_bytes()).await.unwrap();
        assert_eq!(events.recv().await.unwrap().what, What::Line("one".into()));
        assert_eq!(events.recv().await.unwrap().what, What::Partial("login \u{f6}".into()));
        device.write_all(b": root\r\n> ").await.unwrap();
        assert_eq!(events.recv().await.unwrap().what, What::Line("login \u{f6}: root".into()));
        drop(device);
        assert_eq!(events.recv().await.unwrap().what, What::Partial("> ".into()));
        console.drain().await;
    }

    #[test]
    fn a_character_is_not_cut_in_two() {
        assert_eq!(whole_characters("a\u{f6}".as_bytes()), "a\u{f6}");
        assert_eq!(whole_characters(&"a\u{f6}".as_bytes()[..2]), "a");
        assert_eq!(whole_characters(b"ok\r"), "ok");
    }
}
