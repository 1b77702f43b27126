//! A console whose lines are numbered: what is lost on the line is asked for again, and commands are repeated until they have come.
//!
//! The rules are those of [`device_core::serial::numbered`], where the device has its end of them too; here they meet a clock and a stream. A
//! device that never numbers a line is passed through, byte for byte, both ways. What stays lost is a gap on the tape: whatever is not seen
//! behind it proves nothing.

use crate::event::What;
use crate::target::Console;
use device_core::command::LINE_MAX;
use device_core::serial::numbered::{self, HostEnd, Note, Output, Since};
use device_core::time;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// Bytes on their way to whoever reads the console, and from whoever writes to it.
const AHEAD_MAX: usize = 16 * 1024;
/// Bytes of one read.
const CHUNK: usize = 1024;
/// How long the line may take to take some bytes; the rules repeat what it did not.
const TAKEN_WITHIN: Duration = Duration::from_secs(2);
/// How long the beginning of a line is held back, as long as it is not known whether lines are numbered.
const QUIET: Duration = Duration::from_millis(20);

/// A console, and whether its lines are numbered.
#[derive(Debug)]
pub struct Numbered {
    /// The console, its lines in order and without numbers.
    pub console: Console,
    /// Whether the device has numbered a line.
    pub is: watch::Receiver<bool>,
}

/// Puts a console's lines in order, if they are numbered; `say` is told what belongs on the tape. It ends with the console, at either end.
/// Inside a runtime only.
pub fn numbered(console: Console, say: impl Fn(What) + Send + 'static) -> Numbered {
    let (says, to_reader) = duplex(AHEAD_MAX);
    let (hears, from_writer) = duplex(AHEAD_MAX);
    let (tell, is) = watch::channel(false);
    let Console { says: board_says, hears: board, door, network } = console;
    let lines = Lines {
        reader: to_reader,
        board,
        began: Instant::now(),
        end: None,
        tell,
        say: Box::new(say),
        line: Vec::new(),
        told: Vec::new(),
        raw: false,
    };
    tokio::spawn(lines.run(board_says, from_writer));
    Numbered { console: Console { says: Box::new(says), hears: Box::new(hears), door, network }, is }
}

/// Nobody listens any more.
struct Unheard;

struct Lines {
    /// Whoever reads the console.
    reader: DuplexStream,
    board: Box<dyn AsyncWrite + Send + Unpin>,
    began: Instant,
    /// The rules, from the first numbered line on.
    end: Option<HostEnd>,
    tell: watch::Sender<bool>,
    say: Box<dyn Fn(What) + Send>,
    /// What the device has said of a line that has not ended.
    line: Vec<u8>,
    /// What it was told of one that has not ended, and not been passed on.
    told: Vec<u8>,
    /// A line that it is told has been begun without a number, and goes on so.
    raw: bool,
}

impl Lines {
    async fn run(mut self, mut says: Box<dyn AsyncRead + Send + Unpin>, mut writer: DuplexStream) {
        let (mut said, mut told, mut writes) = ([0; CHUNK], [0; CHUNK], true);
        loop {
            let due = match &self.end {
                Some(end) => end.deadline().map(|at| self.began + Duration::from_millis(at.as_millis())),
                None => (!self.line.is_empty()).then(|| Instant::now() + QUIET),
            };
            let done = tokio::select! {
                read = says.read(&mut said) => match read {
                    Ok(read) if read > 0 => self.heard(&said[..read]).await,
                    _ => break,
                },
                read = writer.read(&mut told), if writes => {
                    let read = read.unwrap_or(0);
                    writes = read > 0;
                    self.tell(&told[..read]).await;
                    Ok(())
                }
                () = sleep_until(due.unwrap_or(self.began)), if due.is_some() => self.pass_time().await,
            };
            if done.is_err() || self.carry_out().await.is_err() {
                return;
            }
        }
        if let Some(end) = &mut self.end {
            end.close();
        }
        let line = std::mem::take(&mut self.line);
        if self.carry_out().await.is_ok() && !is_garbage(&String::from_utf8_lossy(&line)) {
            let _ = self.pass(&line).await;
        }
    }

    fn now(&self) -> time::Instant {
        time::Instant(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The device has said these bytes.
    async fn heard(&mut self, mut bytes: &[u8]) -> Result<(), Unheard> {
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let (piece, rest) = bytes.split_at(end.map_or(bytes.len(), |at| at + 1));
            self.line.extend_from_slice(piece);
            bytes = rest;
            if end.is_none() && self.line.len() <= LINE_MAX {
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']);
            let now = self.now();
            if self.end.is_none() && numbered::seems_numbered(text) {
                self.end = Some(HostEnd::new(now, Since::PowerOn));
                self.tell.send_replace(true);
            }
            match &mut self.end {
                Some(end) => end.hear(now, text),
                None => self.pass(&line).await?,
            }
        }
        Ok(())
    }

    /// The device is to be told these bytes.
    async fn tell(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ends = piece.ends_with(b"\n");
            self.told.extend_from_slice(piece);
            if self.end.is_none() || self.raw || self.told.len() > LINE_MAX {
                self.raw = !ends;
                let told = std::mem::take(&mut self.told);
                self.write(&told).await;
            } else if ends {
                let told = std::mem::take(&mut self.told);
                let now = self.now();
                match (std::str::from_utf8(&told).map(|line| line.trim_end_matches(['\n', '\r'])), &mut self.end) {
                    (Ok(""), _) => {}
                    (Ok(line), Some(end)) if !line.contains(char::is_control) => end.command(now, line),
                    // What is no line of text has no number.
                    _ => self.write(&told).await,
                }
            }
        }
    }

    async fn pass_time(&mut self) -> Result<(), Unheard> {
        let now = self.now();
        match &mut self.end {
            Some(end) => {
                end.tick(now);
                Ok(())
            }
            // A prompt: no line, and no number.
            None => {
                let line = std::mem::take(&mut self.line);
                self.pass(&line).await
            }
        }
    }

    /// Does what the rules want done.
    async fn carry_out(&mut self) -> Result<(), Unheard> {
        let mut notes = Vec::new();
        while let Some(output) = self.end.as_mut().and_then(HostEnd::poll) {
            match output {
                Output::Line(line) => self.pass(format!("{line}\n").as_bytes()).await?,
                Output::Plain(line) if is_garbage(&line) => {
                    (self.say)(What::Note(format!("{} bytes of garbage on the console", line.len())));
                }
                Output::Plain(line) => self.pass(format!("{line}\n").as_bytes()).await?,
                Output::Write(line) => self.write(format!("{line}\n").as_bytes()).await,
                Output::Note(note) => notes.push(note),
            }
        }
        let restarted = notes.contains(&Note::Restarted);
        for note in notes {
            match note {
                // The device's first line says it.
                Note::Restarted => {}
                // It may have been the very command.
                Note::CommandsLost(_) if restarted => (self.say)(What::Note(format!("as it started again, {note}"))),
                Note::CommandsLost(_) | Note::LinesLost { .. } => (self.say)(What::Gap { why: note.to_string() }),
            }
        }
        Ok(())
    }

    async fn pass(&mut self, bytes: &[u8]) -> Result<(), Unheard> {
        self.reader.write_all(bytes).await.map_err(|_| Unheard)
    }

    /// A line that takes nothing, or has ended, is noticed where the device speaks.
    async fn write(&mut self, bytes: &[u8]) {
        let write = async {
            self.board.write_all(bytes).await?;
            self.board.flush().await
        };
        let _ = timeout(TAKEN_WITHIN, write).await;
    }
}

/// Whether this is nothing that a device would say in words.
fn is_garbage(line: &str) -> bool {
    line.contains(|c: char| c == char::REPLACEMENT_CHARACTER || (c.is_control() && !matches!(c, '\t' | '\x1b' | '\r' | '\n')))
}

#[cfg(test)]
mod tests;
