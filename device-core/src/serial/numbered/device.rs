//! The device's end: numbers its lines, keeps the last ones, and takes each command once.

use super::{Boot, KEPT_MAX, Place, Said, Told};
use crate::command::LINE_MAX;
use alloc::collections::VecDeque;
use alloc::string::String;

/// The device's end of numbered lines; new for each power-on.
#[derive(Debug)]
pub struct DeviceEnd {
    boot: Boot,
    /// The last line said.
    said: u32,
    /// The last lines said, as they were; [`KEPT_MAX`] bytes at most.
    kept: VecDeque<String>,
    kept_bytes: usize,
    /// The last piece heard.
    heard: u32,
    /// The command whose pieces are coming in.
    command: Option<String>,
}

/// What a line came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A command to carry out.
    Command(String),
    /// The pieces of a command make a line longer than [`LINE_MAX`]; it is dropped.
    TooLong,
    /// Nothing to carry out.
    Nothing,
}

impl DeviceEnd {
    /// A device that has just started. `boot` must be drawn at random: no two boots in a row may have the same.
    pub fn new(boot: Boot) -> DeviceEnd {
        DeviceEnd { boot, said: 0, kept: VecDeque::new(), kept_bytes: 0, heard: 0, command: None }
    }

    /// The line, without its end, as it goes out; kept, so that it can be repeated.
    pub fn say(&mut self, text: &str) -> &str {
        self.said = self.said.saturating_add(1);
        let line = Said::Line { boot: self.boot, number: self.said, text }.line();
        self.kept_bytes += line.len();
        self.kept.push_back(line);
        while self.kept_bytes > KEPT_MAX && self.kept.len() > 1 {
            self.kept_bytes -= self.kept.pop_front().map_or(0, |line| line.len());
        }
        self.kept.back().map_or("", String::as_str)
    }

    /// Takes a line from the host, without its end. What is to be said to that, each a line without its end, goes to `answer`; an answer that is
    /// dropped is asked for again.
    pub fn hear(&mut self, line: &[u8], answer: &mut impl FnMut(&str)) -> Heard {
        let line = core::str::from_utf8(line).unwrap_or_default();
        match Told::parse(line) {
            Some(Told::Again { boot, from, to }) if boot == self.boot && self.repeat(from, to, answer) => Heard::Nothing,
            Some(Told::Piece { boot, number, place, text }) if boot == self.boot && number == self.heard.saturating_add(1) => {
                self.heard = number;
                answer(&self.state());
                self.take(place, text)
            }
            Some(_) => {
                answer(&self.state());
                Heard::Nothing
            }
            None => match line.strip_prefix("^ ") {
                // A piece that was damaged on the way still has its `*`.
                Some(command) if !command.contains('*') => Heard::Command(command.into()),
                _ => {
                    answer(&self.state());
                    Heard::Nothing
                }
            },
        }
    }

    fn state(&self) -> String {
        Said::State { boot: self.boot, oldest: self.oldest(), said: self.said, heard: self.heard }.line()
    }

    /// The number of the oldest line that can be repeated; one more than the last said if none can.
    fn oldest(&self) -> u32 {
        self.said.saturating_add(1).saturating_sub(u32::try_from(self.kept.len()).unwrap_or(u32::MAX))
    }

    /// Repeats what is kept of these lines. Says whether there was any.
    fn repeat(&self, from: u32, to: u32, answer: &mut impl FnMut(&str)) -> bool {
        let oldest = self.oldest();
        let asked = (oldest..).zip(&self.kept).filter(|(number, _)| (from..=to).contains(number));
        let mut any = false;
        for (_, line) in asked {
            answer(line);
            any = true;
        }
        // What is gone is told, or it would be asked for again.
        any && from >= oldest
    }

    fn take(&mut self, place: Place, text: &str) -> Heard {
        let mut command = match (place, self.command.take()) {
            (Place::Whole | Place::First, _) => String::new(),
            (Place::Middle | Place::Last, Some(begun)) => begun,
            // Its beginning was too long, or another host's.
            (Place::Middle | Place::Last, None) => return Heard::Nothing,
        };
        if command.len() + text.len() > LINE_MAX {
            return Heard::TooLong;
        }
        command += text;
        if place.ends() {
            return Heard::Command(command);
        }
        self.command = Some(command);
        Heard::Nothing
    }
}
