//! The console: lines in, bounded in length; lines out, bounded in number, none of them waited for.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::future::pending;
use core::task::{Context, Poll, Waker};
use device_core::command::LINE_MAX;
use device_core::time::Instant;
use embassy_futures::select::{Either, select};
use embedded_io_async::{Read, Write};

/// The bytes of lines that wait for somebody to read them; more are counted, not kept.
pub const UNREAD_LIMIT: usize = 8 * 1024;
const CHUNK: usize = 256;

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

/// Both directions of a console. A read or write that is dropped while pending must have moved nothing.
pub(crate) struct Console<I, O> {
    input: I,
    output: O,
    heard: VecDeque<u8>,
    line: Vec<u8>,
    overlong: bool,
    unread: VecDeque<u8>,
    /// Lines that found no room, since the last one that did.
    lost: u64,
    /// The output has failed: nobody reads.
    deaf: bool,
    /// The input has ended: nobody will say anything any more.
    ended: bool,
}

impl<I: Read, O: Write> Console<I, O> {
    pub fn new(input: I, output: O) -> Self {
        Console {
            input,
            output,
            heard: VecDeque::new(),
            line: Vec::new(),
            overlong: false,
            unread: VecDeque::new(),
            lost: 0,
            deaf: false,
            ended: false,
        }
    }

    /// Says a line. What the other side takes at once is gone at once, so that a power cut after it cannot unsay it.
    pub fn say(&mut self, now: Instant, line: &str) {
        if self.deaf {
            return;
        }
        if self.lost > 0 && self.unread.len() < UNREAD_LIMIT / 2 {
            let lost = core::mem::take(&mut self.lost);
            self.unread
                .extend(format!("W ({}) console: {lost} lines lost, since nobody read them\n", now.as_millis()).into_bytes());
        }
        if self.unread.len() + line.len() >= UNREAD_LIMIT || self.lost > 0 {
            self.lost += 1;
        } else {
            self.unread.extend(line.as_bytes());
            self.unread.push_back(b'\n');
        }
        let mut rest = core::pin::pin!(self.flush());
        if let Poll::Ready(()) = rest.as_mut().poll(&mut Context::from_waker(Waker::noop())) {}
    }

    /// Says a line of the shell's own.
    pub fn say_own(&mut self, now: Instant, level: char, text: &str) {
        self.say(now, &format!("{level} ({}) shell: {}", now.as_millis(), text.replace(char::is_control, " ")));
    }

    /// Hears the next line, and writes meanwhile; after `Closed` it only writes. Safe to drop while waiting.
    pub async fn hear(&mut self) -> Heard {
        if self.ended {
            self.flush().await;
            return pending().await;
        }
        loop {
            while let Some(byte) = self.heard.pop_front() {
                match byte {
                    b'\n' | b'\r' => {
                        if let Some(heard) = self.end_of_line() {
                            return heard;
                        }
                    }
                    _ if self.line.len() > LINE_MAX => self.overlong = true,
                    _ => self.line.push(byte),
                }
            }
            let mut chunk = [0; CHUNK];
            let read = if self.unread.is_empty() {
                self.input.read(&mut chunk).await
            } else {
                let write = write_out(&mut self.output, &mut self.unread, &mut self.deaf);
                match select(self.input.read(&mut chunk), write).await {
                    Either::First(read) => read,
                    Either::Second(()) => continue,
                }
            };
            match read {
                Ok(n) if n > 0 => self.heard.extend(&chunk[..n]),
                // What was begun and not ended is no line.
                _ => {
                    self.ended = true;
                    return Heard::Closed;
                }
            }
        }
    }

    /// Waits until everything said has been taken, or cannot be.
    pub async fn flush(&mut self) {
        write_out(&mut self.output, &mut self.unread, &mut self.deaf).await;
    }

    fn end_of_line(&mut self) -> Option<Heard> {
        let line = core::mem::take(&mut self.line);
        if core::mem::take(&mut self.overlong) {
            return Some(Heard::Unusable("a console line was too long and is ignored"));
        }
        if line.is_empty() {
            return None;
        }
        Some(String::from_utf8(line).map_or(Heard::Unusable("a console line was not UTF-8 and is ignored"), Heard::Line))
    }
}

async fn write_out<O: Write>(output: &mut O, unread: &mut VecDeque<u8>, deaf: &mut bool) {
    while !unread.is_empty() {
        let (front, _) = unread.as_slices();
        match output.write(front).await {
            Ok(n) if n > 0 => drop(unread.drain(..n)),
            _ => {
                *deaf = true;
                unread.clear();
            }
        }
    }
    *unread = VecDeque::new();
    // A UART has nothing to say here that would not show at the next write.
    let _ = output.flush().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::rc::Rc;
    use alloc::vec;
    use core::cell::RefCell;
    use core::convert::Infallible;
    use embassy_futures::block_on;
    use embedded_io_async::ErrorType;

    struct Text<'a>(&'a [u8]);

    impl ErrorType for Text<'_> {
        type Error = Infallible;
    }

    impl Read for Text<'_> {
        async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Infallible> {
            let n = bytes.len().min(self.0.len());
            bytes[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    /// Takes so many bytes, and then no more.
    #[derive(Clone)]
    struct Reader(Rc<RefCell<(Vec<u8>, usize)>>);

    impl ErrorType for Reader {
        type Error = Infallible;
    }

    impl Write for Reader {
        async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
            let n = {
                let (taken, room) = &mut *self.0.borrow_mut();
                let n = bytes.len().min(*room);
                *room -= n;
                taken.extend(&bytes[..n]);
                n
            };
            if n == 0 { pending().await } else { Ok(n) }
        }

        async fn flush(&mut self) -> Result<(), Infallible> {
            Ok(())
        }
    }

    fn reader(room: usize) -> Reader {
        Reader(Rc::new(RefCell::new((Vec::new(), room))))
    }

    #[test]
    fn lines_end_in_any_of_the_three_ways() {
        let mut console = Console::new(Text(b"one\ntwo\r\n\rthree\rb\xffd\nhalf"), reader(0));
        for line in ["one", "two", "three"] {
            assert_eq!(block_on(console.hear()), Heard::Line(line.into()));
        }
        assert!(matches!(block_on(console.hear()), Heard::Unusable(_)));
        assert_eq!(block_on(console.hear()), Heard::Closed);
    }

    #[test]
    fn a_line_too_long_is_ignored_whole_and_the_next_one_is_heard() {
        let mut text = vec![b'x'; 3 * LINE_MAX];
        text.extend(b"\nnext\n");
        let mut console = Console::new(Text(&text), reader(0));
        assert!(matches!(block_on(console.hear()), Heard::Unusable(_)));
        assert_eq!(block_on(console.hear()), Heard::Line("next".into()));
    }

    #[test]
    fn lines_nobody_reads_are_counted_not_kept() {
        let reader = reader(100);
        let mut console = Console::new(Text(b""), reader.clone());
        let line = "x".repeat(1023);
        (0..100).for_each(|_| console.say(Instant(1), &line));
        assert!(console.unread.len() <= UNREAD_LIMIT);
        let lost = console.lost;
        assert!(lost >= 90, "{lost}");
        reader.0.borrow_mut().1 = usize::MAX;
        block_on(console.flush());
        console.say(Instant(2), "last");
        let said = String::from_utf8(reader.0.borrow().0.clone()).unwrap();
        assert!(said.ends_with(&format!("W (2) console: {lost} lines lost, since nobody read them\nlast\n")), "{said}");
        assert_eq!(said.lines().count() as u64, 100 - lost + 2);
    }
}
