//! The console: lines in, bounded in length; lines out, bounded in number, none of them waited for.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
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

    /// Hears the next line, and writes meanwhile. Safe to drop while waiting.
    pub async fn hear(&mut self) -> Heard {
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
                _ => return Heard::Closed,
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
