//! A crash heard in passing: where the device was, by its image, is told behind its last words.

use crate::backtrace;
use crate::event::{Ended, Source, What};
use crate::invariant::crash_in;
use crate::trace::tape::Tape;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes of a line that are looked at.
const LINE_MAX: usize = 4096;

/// A console that is read in passing.
pub struct Passing<R> {
    inner: R,
    tape: Tape,
    /// The firmware's ELF file.
    image: PathBuf,
    line: Vec<u8>,
    /// Why it crashed, from then on until it has said where.
    why: Option<String>,
}

impl<R> Passing<R> {
    /// This console, of a device with this image; a crash is told on the tape.
    pub fn new(inner: R, tape: &Tape, image: PathBuf) -> Passing<R> {
        Passing { inner, tape: tape.clone(), image, line: Vec::new(), why: None }
    }

    fn heard(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        if crash_in(&line).is_some() {
            self.why = Some(line.trim().to_owned());
        }
        let addresses = backtrace::addresses(&line);
        if let Some(why) = self.why.take_if(|_| !addresses.is_empty()) {
            let (tape, image) = (self.tape.clone(), self.image.clone());
            tokio::task::spawn_blocking(move || {
                let backtrace = backtrace::decode(&image, &addresses)
                    .unwrap_or_else(|why| vec![format!("the image could not be read for a backtrace: {why}")]);
                tape.say(Source::Device, What::Ended(Ended::Crashed { why, backtrace }));
            });
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Passing<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = into.filled().len();
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, into));
        for byte in &into.filled()[before..] {
            if *byte == b'\n' {
                self.heard();
            } else if self.line.len() < LINE_MAX {
                self.line.push(*byte);
            }
        }
        Poll::Ready(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::redact::Redactor;
    use std::time::Duration;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn a_crash_is_told_once_its_addresses_are_known() {
        let said = b"I (1) boot: x\nGuru Meditation Error: Core  0 panic'ed (Panic). no at main.rs:7\nMEPC    : 0x42000000\n\
            Backtrace: 0x42000004:0x3fc80000\nBacktrace: 0x42000008:0x3fc80000\n";
        let (tape, mut events) = Tape::new(Redactor::new());
        let mut passing = Passing::new(&said[..], &tape, "no-such.elf".into());
        let mut read = Vec::new();
        passing.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, said, "nothing is lost in passing");
        let event = tokio::time::timeout(Duration::from_secs(30), events.recv()).await.unwrap().unwrap();
        let What::Ended(Ended::Crashed { why, backtrace }) = event.what else { panic!("{event:?}") };
        assert!(why.ends_with("no at main.rs:7") && backtrace[0].contains("could not be read"), "{why} {backtrace:?}");
        drop((tape, passing));
        assert_eq!(events.recv().await, None, "and once");
    }
}
