//! The device's console: every line goes on the tape, and what the testbed itself must know (is it ready, where is its HTTP API) is kept.

use crate::event::{Source, What};
use crate::target::Console;
use crate::trace::tape::Tape;
use device_core::report::Report;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bytes of a console line that are kept; the rest of a longer line is dropped.
pub const LINE_MAX: usize = 4096;
/// How long a write to the console may take before the target counts as lost.
pub const WRITE_LIMIT: Duration = Duration::from_secs(5);

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
    hears: Box<dyn AsyncWrite + Send + Unpin>,
    reader: JoinHandle<()>,
}

impl std::fmt::Debug for OpenConsole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenConsole").field("seen", &*self.seen.borrow()).finish_non_exhaustive()
    }
}

impl OpenConsole {
    /// Begins to read.
    pub fn open(console: Console, tape: Tape) -> OpenConsole {
        let (tell, seen) = watch::channel(Seen::default());
        let reader = tokio::spawn(read_lines(console.says, tape, tell));
        OpenConsole { seen, hears: console.hears, reader }
    }

    /// Waits until what has been seen satisfies `wanted`; false when the time is up or the console has ended.
    pub async fn seen(&mut self, limit: Duration, wanted: impl FnMut(&Seen) -> bool) -> bool {
        matches!(tokio::time::timeout(limit, self.seen.wait_for(wanted)).await, Ok(Ok(_)))
    }

    /// What has been seen so far.
    pub fn so_far(&self) -> Seen {
        self.seen.borrow().clone()
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

    /// Reads what is left after power-off, so that no line is lost.
    pub async fn drain(self) {
        drop(self.hears);
        let mut reader = self.reader;
        if tokio::time::timeout(Duration::from_secs(1), &mut reader).await.is_err() {
            reader.abort();
        }
    }
}

async fn read_lines(says: Box<dyn tokio::io::AsyncRead + Send + Unpin>, tape: Tape, tell: watch::Sender<Seen>) {
    let mut says = BufReader::with_capacity(1024, says);
    let mut line = Vec::new();
    loop {
        line.clear();
        let took = (&mut says).take(LINE_MAX as u64).read_until(b'\n', &mut line).await;
        let whole = line.last() == Some(&b'\n');
        if line.is_empty() || took.is_err() {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        if !whole && line.len() < LINE_MAX {
            tape.say(Source::Device, What::Partial(text.to_owned()));
            break;
        }
        // On the tape first: whoever is woken by `tell` may act on it, and what follows must come after it.
        tape.say(Source::Device, What::Line(text.to_owned()));
        if let Some((_, report)) = Report::from_line(text) {
            tell.send_if_modified(|seen| note(seen, &report));
        }
    }
    tell.send_modify(|seen| seen.ended = true);
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
