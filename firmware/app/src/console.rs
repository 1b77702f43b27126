//! The console: lines in, bounded in length; lines out, bounded in number, none of them waited for.

use crate::serial::BREAK;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::future::pending;
use core::task::{Context, Poll, Waker};
use device_core::command::{Command, LINE_MAX};
use device_core::serial::numbered::{self, Boot, DeviceEnd};
use device_core::surroundings::{Link, Surroundings};
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

/// What is taken for a line.
pub(crate) enum Taking {
    /// Whatever comes: the port is the console's alone.
    Anything,
    /// What can be printed: the network's frames come over the same port, and a reset may leave the rest of one.
    Printable,
    /// What has a number and the right checksum; lines said have them too.
    Numbered(DeviceEnd),
}

impl Taking {
    /// What these surroundings ask for. `chance` tells this boot from others.
    pub fn new(surroundings: Option<&Surroundings>, chance: u32) -> Taking {
        match surroundings {
            Some(around) if around.numbered => Taking::Numbered(DeviceEnd::new(Boot((chance & 0xFFFF) as u16))),
            Some(around) if around.link != Link::Board => Taking::Printable,
            _ => Taking::Anything,
        }
    }
}

/// Both directions of a console. A read or write that is dropped while pending must have moved nothing.
pub(crate) struct Console<I, O> {
    input: I,
    output: O,
    taking: Taking,
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
    pub fn new(input: I, output: O, taking: Taking) -> Self {
        Console {
            input,
            output,
            taking,
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
            self.put(&format!("W ({}) console: {lost} lines lost, since nobody read them", now.as_millis()));
        }
        if self.unread.len() + line.len() + numbered::SUFFIX_MAX >= UNREAD_LIMIT || self.lost > 0 {
            self.lost += 1;
        } else {
            self.put(line);
        }
        let mut rest = core::pin::pin!(self.flush());
        if let Poll::Ready(()) = rest.as_mut().poll(&mut Context::from_waker(Waker::noop())) {}
    }

    fn put(&mut self, line: &str) {
        let line = match &mut self.taking {
            Taking::Numbered(end) => end.say(line),
            _ => line,
        };
        append(&mut self.unread, line);
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
                    BREAK if !matches!(self.taking, Taking::Anything) => {
                        if !is_printable(&self.line) {
                            self.line.clear();
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
        match &mut self.taking {
            Taking::Anything => {
                Some(String::from_utf8(line).map_or(Heard::Unusable("a console line was not UTF-8 and is ignored"), Heard::Line))
            }
            Taking::Printable => {
                Some(printable(line).map_or(Heard::Unusable("what came was no console line and is ignored"), Heard::Line))
            }
            Taking::Numbered(end) => {
                let unread = &mut self.unread;
                // One that finds no room is asked for again.
                let mut answer = |line: &str| {
                    if unread.len() + line.len() < UNREAD_LIMIT {
                        append(unread, line);
                    }
                };
                match end.hear(&line, &mut answer) {
                    numbered::Heard::Command(command) => Some(Heard::Line(command)),
                    numbered::Heard::TooLong => Some(Heard::Unusable("a console line was too long and is ignored")),
                    numbered::Heard::Nothing => None,
                }
            }
        }
    }
}

fn append(unread: &mut VecDeque<u8>, line: &str) {
    unread.extend(line.as_bytes());
    unread.push_back(b'\n');
}

fn is_printable(line: &[u8]) -> bool {
    core::str::from_utf8(line).is_ok_and(|text| !text.chars().any(char::is_control))
}

/// A line that can be printed, and is not the rest of a frame. The rest of a frame in HDLC ends in the flag `~`, and the line may follow it; one in
/// base64 is a line of its own.
fn printable(mut line: Vec<u8>) -> Option<String> {
    let flags = line.iter().enumerate().filter(|(_, byte)| **byte == b'~').map(|(at, _)| at + 1);
    let start = core::iter::once(0).chain(flags).find(|start| is_printable(&line[*start..]))?;
    let text = String::from_utf8(line.split_off(start)).ok()?;
    let base64 = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
    let rest = text.is_empty() || base64 && Command::parse(&text).is_err();
    (!rest).then_some(text)
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
        let mut console = Console::new(Text(b"one\ntwo\r\n\rthree\rb\xffd\nhalf"), reader(0), Taking::Anything);
        for line in ["one", "two", "three"] {
            assert_eq!(block_on(console.hear()), Heard::Line(line.into()));
        }
        assert!(matches!(block_on(console.hear()), Heard::Unusable(_)));
        assert_eq!(block_on(console.hear()), Heard::Closed);
    }

    fn around(text: &str) -> Taking {
        Taking::new(Some(&Surroundings::parse(text).unwrap()), 0x1_0BAD)
    }

    #[test]
    fn on_a_shared_port_a_command_is_a_whole_line_that_can_be_printed() {
        let text =
            b"time 1\x01\n~\x02~set MQTT_PASSWORD a~b\nAAQ+/w==\n\x1b[A\n\0grab\0ling\n\xff\xfe\0help\nset MQTT_USER \xc3\xbc\n";
        let mut console = Console::new(Text(text), reader(0), around("link console"));
        let mut heard = Vec::new();
        loop {
            match block_on(console.hear()) {
                Heard::Line(line) => heard.push(line),
                Heard::Unusable(_) => heard.push("-".into()),
                Heard::Closed => break,
            }
        }
        assert_eq!(heard, ["-", "set MQTT_PASSWORD a~b", "-", "-", "-", "help", "set MQTT_USER ü"]);
    }

    #[test]
    fn numbered_lines_are_numbered_both_ways_and_those_that_were_lost_are_not() {
        let reader = reader(usize::MAX);
        let mut console =
            Console::new(Text(b"status\nhelp ^0bad.1*0000\n^ help\n"), reader.clone(), around("lines numbered\nlink console"));
        console.say(Instant(1), "first");
        assert_eq!(block_on(console.hear()), Heard::Line("help".into()));
        console.say(Instant(2), "second");
        let said = String::from_utf8(reader.0.borrow().0.clone()).unwrap();
        let unsealed: Vec<&str> = said.lines().map(|line| line.split_once('*').unwrap().0).collect();
        assert_eq!(unsealed, ["first ^0bad.1", "^0bad.1.1.0", "^0bad.1.1.0", "second ^0bad.2"]);

        reader.0.borrow_mut().1 = 0;
        (0..100).for_each(|_| console.say(Instant(3), &"x".repeat(500)));
        assert!(console.unread.len() <= UNREAD_LIMIT);
        reader.0.borrow_mut().1 = usize::MAX;
        block_on(console.flush());
        console.say(Instant(4), "last");
        let said = String::from_utf8(reader.0.borrow().0.clone()).unwrap();
        let numbers: Vec<u32> =
            said.lines().filter_map(|line| line.split_once(" ^0bad.")?.1.split_once('*')?.0.parse().ok()).collect();
        assert_eq!(numbers, (1..=numbers.len() as u32).collect::<Vec<_>>(), "what was never said has no number");
        assert!(said.contains("lines lost, since nobody read them ^0bad."), "{said}");
    }

    #[test]
    fn a_line_too_long_is_ignored_whole_and_the_next_one_is_heard() {
        let mut text = vec![b'x'; 3 * LINE_MAX];
        text.extend(b"\nnext\n");
        let mut console = Console::new(Text(&text), reader(0), Taking::Anything);
        assert!(matches!(block_on(console.hear()), Heard::Unusable(_)));
        assert_eq!(block_on(console.hear()), Heard::Line("next".into()));
    }

    #[test]
    fn lines_nobody_reads_are_counted_not_kept() {
        let reader = reader(100);
        let mut console = Console::new(Text(b""), reader.clone(), Taking::Anything);
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
