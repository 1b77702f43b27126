//! The console: lines in, bounded in length; lines out, bounded in number, none of them waited for.

use device_core::time::Instant;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The bytes of the longest line that is read; a PEM chain with its line ends escaped fits.
pub const LINE_LIMIT: usize = 32 * 1024;
/// The bytes of lines that wait for somebody to read them; more are counted, not kept.
pub const UNREAD_LIMIT: usize = 256 * 1024;
const CHUNK: usize = 512;

/// What the host side of the console did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A line, without its end.
    Line(String),
    /// A line that is no command, and why.
    Unusable(&'static str),
    /// Nobody will say anything any more.
    Closed,
}

/// Both directions of a console.
pub(crate) struct Console<R, W> {
    input: R,
    output: W,
    heard: VecDeque<u8>,
    line: Vec<u8>,
    overlong: bool,
    unread: VecDeque<u8>,
    /// Lines that found no room, since the last one that did.
    lost: u64,
    /// The output has failed: nobody reads.
    deaf: bool,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Console<R, W> {
    pub fn new(input: R, output: W) -> Self {
        Console {
            input,
            output,
            heard: VecDeque::new(),
            line: Vec::new(),
            overlong: false,
            unread: VecDeque::new(),
            lost: 0,
            deaf: false,
        }
    }

    /// Says a line. What the other side takes at once is gone at once, so that a power cut after it cannot unsay it.
    pub fn say(&mut self, now: Instant, line: &str) {
        if self.deaf {
            return;
        }
        if self.lost > 0 && self.unread.len() < UNREAD_LIMIT / 2 {
            let lost = std::mem::take(&mut self.lost);
            self.unread
                .extend(format!("W ({}) console: {lost} lines lost, since nobody read them\n", now.as_millis()).into_bytes());
        }
        if self.unread.len() + line.len() >= UNREAD_LIMIT || self.lost > 0 {
            self.lost += 1;
        } else {
            self.unread.extend(line.as_bytes());
            self.unread.push_back(b'\n');
        }
        let _ = self.poll_write(&mut Context::from_waker(std::task::Waker::noop()));
    }

    /// Says a line of the shell's own.
    pub fn say_own(&mut self, now: Instant, level: char, text: &str) {
        self.say(now, &format!("{level} ({}) shell: {}", now.as_millis(), text.replace(char::is_control, " ")));
    }

    /// Hears the next line, and writes meanwhile. Safe to drop while waiting.
    pub async fn hear(&mut self) -> Heard {
        poll_fn(|cx| {
            let _ = self.poll_write(cx);
            self.poll_hear(cx)
        })
        .await
    }

    /// Waits until everything said has been taken, or cannot be.
    pub async fn flush(&mut self) {
        poll_fn(|cx| self.poll_write(cx)).await;
    }

    fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        loop {
            while let Some(byte) = self.heard.pop_front() {
                match byte {
                    b'\n' | b'\r' => {
                        if let Some(heard) = self.end_of_line() {
                            return Poll::Ready(heard);
                        }
                    }
                    _ if self.line.len() >= LINE_LIMIT => self.overlong = true,
                    _ => self.line.push(byte),
                }
            }
            let mut chunk = [0; CHUNK];
            let mut buffer = ReadBuf::new(&mut chunk);
            match ready!(Pin::new(&mut self.input).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => self.heard.extend(buffer.filled()),
                // What was begun and not ended is no line.
                Ok(()) | Err(_) => return Poll::Ready(Heard::Closed),
            }
        }
    }

    fn end_of_line(&mut self) -> Option<Heard> {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.overlong) {
            return Some(Heard::Unusable("a console line was too long and is ignored"));
        }
        if line.is_empty() {
            return None;
        }
        Some(String::from_utf8(line).map_or(Heard::Unusable("a console line was not UTF-8 and is ignored"), Heard::Line))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.unread.is_empty() {
            let (front, _) = self.unread.as_slices();
            match ready!(Pin::new(&mut self.output).poll_write(cx, front)) {
                Ok(n) if n > 0 => drop(self.unread.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    self.deaf = true;
                    self.unread = VecDeque::new();
                    return Poll::Ready(());
                }
            }
        }
        if self.unread.capacity() > 4 * CHUNK {
            self.unread = VecDeque::new();
        }
        Pin::new(&mut self.output).poll_flush(cx).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    #[tokio::test]
    async fn lines_end_in_any_of_the_three_ways() {
        let input: &[u8] = b"one\ntwo\r\n\rthree\rb\xffd\nhalf";
        let mut console = Console::new(input, tokio::io::sink());
        for line in ["one", "two", "three"] {
            assert_eq!(console.hear().await, Heard::Line(line.to_owned()));
        }
        assert!(matches!(console.hear().await, Heard::Unusable(_)));
        assert_eq!(console.hear().await, Heard::Closed);
    }

    #[tokio::test]
    async fn a_line_too_long_is_ignored_whole_and_the_next_one_is_heard() {
        let mut text = vec![b'x'; 3 * LINE_LIMIT];
        text.extend(b"\nnext\n");
        let mut console = Console::new(&text[..], tokio::io::sink());
        assert!(matches!(console.hear().await, Heard::Unusable(_)));
        assert_eq!(console.hear().await, Heard::Line("next".to_owned()));
    }

    #[tokio::test]
    async fn lines_nobody_reads_are_counted_not_kept() {
        let (ours, mut theirs) = duplex(64);
        let (input, _keep) = duplex(64);
        let mut console = Console::new(input, ours);
        let line = "x".repeat(1023);
        for _ in 0..1000 {
            console.say(Instant(1), &line);
        }
        assert!(console.unread.len() <= UNREAD_LIMIT);
        let lost = console.lost;
        assert!(lost >= 1000 - 257, "{lost}");
        let reader = tokio::spawn(async move {
            let mut all = String::new();
            theirs.read_to_string(&mut all).await.unwrap();
            all
        });
        console.flush().await;
        console.say(Instant(2), "last");
        console.flush().await;
        drop(console);
        let all = reader.await.unwrap();
        assert!(all.ends_with(&format!("W (2) console: {lost} lines lost, since nobody read them\nlast\n")));
        assert_eq!(all.lines().count() as u64, 1000 - lost + 2);
    }

    #[tokio::test]
    async fn a_console_that_nobody_reads_any_more_does_not_stop_the_device() {
        let (ours, theirs) = duplex(64);
        drop(theirs);
        let (mut host, input) = duplex(64);
        let mut console = Console::new(input, ours);
        console.say(Instant(1), "into the void");
        host.write_all(b"still heard\n").await.unwrap();
        assert_eq!(console.hear().await, Heard::Line("still heard".to_owned()));
    }
}
