//! The host's end: puts lines in order, asks for those that were lost, and repeats commands until they have come; every wait has a limit.

use super::{Boot, PIECE_MAX, Place, Said, Told, WINDOW};
use crate::time::Instant;
use alloc::borrow::ToOwned as _;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// The first wait for an answer; each further one is twice as long, up to [`WAIT_LONGEST`].
pub const WAIT_FIRST: Duration = Duration::from_millis(250);
/// The longest wait for an answer.
pub const WAIT_LONGEST: Duration = Duration::from_secs(2);
/// So many questions in a row without progress, and what was asked for is given up: some 20 s.
pub const TRIES_MAX: u32 = 12;
/// How often a device that nothing was heard of yet is asked before the commands for it are given up: some 60 s.
pub const TRIES_MAX_FIRST: u32 = 32;
/// A device that has said nothing for so long is asked whether it has; each time in a row twice as long, up to [`SILENCE_LONGEST`].
pub const SILENCE: Duration = Duration::from_secs(1);
/// The longest silence before a device is asked again.
pub const SILENCE_LONGEST: Duration = Duration::from_secs(8);
/// Lines that wait for an earlier one.
const AHEAD_MAX: usize = 1024;
/// Lines that may have been damaged, or are none of the device's.
const SUSPECTS_MAX: usize = 64;
/// No number is believed that is so much higher than the last.
const JUMP_MAX: u32 = 10_000;
/// The gaps that are asked for at one time.
const GAPS_MAX: usize = 8;

/// From where on the device's lines are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// From its first line: it is switched on, or restarted, while the host listens.
    PowerOn,
    /// From now on: it runs already.
    Now,
}

/// What is to be done; carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The device's next line, without its number.
    Line(String),
    /// A line without a number, as it came: a boot loader's, or a panic's.
    Plain(String),
    /// To be written to the device, with a line feed behind it.
    Write(String),
    /// Something was given up, or the device began anew.
    Note(Note),
}

/// What a log should say about the line itself. None of it is the device's fault, but for a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The device has started again.
    Restarted,
    /// These lines of the device have not come, and do not come any more.
    LinesLost {
        /// The first of them.
        from: u32,
        /// The last of them.
        to: u32,
    },
    /// So many commands were given up: whether the device has heard them is not known.
    CommandsLost(usize),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Restarted => f.write_str("the device has started again"),
            Note::LinesLost { from, to } if from == to => write!(f, "line {from} of the device was lost on the way"),
            Note::LinesLost { from, to } => write!(f, "lines {from} to {to} of the device were lost on the way"),
            Note::CommandsLost(1) => f.write_str("a command was given up: the device did not say that it has come"),
            Note::CommandsLost(count) => write!(f, "{count} commands were given up: the device did not say that they have come"),
        }
    }
}

/// The host's end of numbered lines. `now` is any clock that does not go back, in milliseconds.
#[derive(Debug)]
pub struct HostEnd {
    since: Since,
    boot: Option<Boot>,
    /// The next line to be handed on.
    next: u32,
    /// The last line that is known of.
    highest: u32,
    /// Lines after `next` that have come.
    ahead: BTreeMap<u32, String>,
    suspects: Vec<String>,
    lines_asked: Wait,
    /// The last piece that the device has heard, once it has said so.
    heard: Option<u32>,
    /// The pieces after that which were sent.
    in_flight: VecDeque<Piece>,
    waiting: VecDeque<Waiting>,
    commands_asked: Wait,
    silence: Wait,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Piece {
    line: String,
    ends: bool,
}

/// A command that has not been sent, or not all of it: from `sent` on.
#[derive(Debug)]
struct Waiting {
    text: String,
    sent: usize,
}

/// A wait for an answer.
#[derive(Clone, Copy, Debug, Default)]
struct Wait {
    until: Option<Instant>,
    /// How many have passed in a row.
    tries: u32,
}

impl Wait {
    fn begin(&mut self, now: Instant) {
        let wait = WAIT_FIRST.saturating_mul(1 << self.tries.min(8)).min(WAIT_LONGEST);
        self.until = Some(now + wait);
    }

    fn end(&mut self) {
        *self = Wait::default();
    }

    fn is_over(&mut self, now: Instant) -> bool {
        let over = self.until.take_if(|until| *until <= now).is_some();
        self.tries += u32::from(over);
        over
    }
}

impl HostEnd {
    /// The host's end of a line on which nothing was heard yet.
    pub fn new(now: Instant, since: Since) -> HostEnd {
        HostEnd {
            since,
            boot: None,
            next: 1,
            highest: 0,
            ahead: BTreeMap::new(),
            suspects: Vec::new(),
            lines_asked: Wait::default(),
            heard: None,
            in_flight: VecDeque::new(),
            waiting: VecDeque::new(),
            commands_asked: Wait::default(),
            silence: Wait { until: Some(now + SILENCE), tries: 0 },
            outputs: VecDeque::new(),
        }
    }

    /// What is to be done next, until there is nothing.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`tick`](HostEnd::tick) is wanted at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        [self.lines_asked.until, self.commands_asked.until, self.silence.until].into_iter().flatten().min()
    }

    /// Whether every command has come, and every line that is known of.
    pub fn is_settled(&self) -> bool {
        self.in_flight.is_empty() && self.waiting.is_empty() && self.next > self.highest && self.suspects.is_empty()
    }

    /// A command for the device, a line without its end. It goes out as soon as the device is known and has room.
    pub fn command(&mut self, now: Instant, line: &str) {
        self.waiting.push_back(Waiting { text: line.to_owned(), sent: 0 });
        self.send(now);
    }

    /// A line has come, without its end.
    pub fn hear(&mut self, now: Instant, line: &str) {
        let line = line.trim_end_matches('\r');
        match Said::parse(line) {
            Some(Said::Line { boot, number, .. }) if Some(boot) == self.boot && number > self.highest.saturating_add(JUMP_MAX) => {
                self.suspect(now, line);
            }
            Some(said) => {
                self.meet(now, &said);
                match said {
                    Said::Line { number, text, .. } => self.line(now, number, text),
                    Said::State { oldest, said, heard, .. } => self.state(now, oldest, said, heard),
                }
            }
            None if line.contains(['^', '*']) => self.suspect(now, line),
            None if line.is_empty() => {}
            None => self.outputs.push_back(Output::Plain(line.to_owned())),
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        if self.lines_asked.is_over(now) {
            if self.lines_asked.tries > TRIES_MAX {
                self.give_up_lines();
            } else {
                self.ask_for_lines(now);
            }
        }
        if self.commands_asked.is_over(now) {
            let most = if self.boot.is_some() { TRIES_MAX } else { TRIES_MAX_FIRST };
            if self.commands_asked.tries > most {
                self.give_up_commands(true);
            } else {
                self.repeat_pieces(now);
            }
        }
        if self.silence.is_over(now) {
            self.write(Told::Where);
            let wait = SILENCE.saturating_mul(1 << self.silence.tries.min(8)).min(SILENCE_LONGEST);
            self.silence.until = Some(now + wait);
        }
    }

    /// The line is closed: what was waited for is given up.
    pub fn close(&mut self) {
        self.give_up_lines();
        self.give_up_commands(true);
        self.silence.end();
    }

    fn write(&mut self, told: Told<'_>) {
        self.outputs.push_back(Output::Write(told.line()));
    }

    /// Something has come from this boot.
    fn meet(&mut self, now: Instant, said: &Said<'_>) {
        self.silence.tries = 0;
        self.silence.until = Some(now + SILENCE);
        if self.boot == Some(said.boot()) {
            return;
        }
        let before = self.boot.replace(said.boot());
        (self.next, self.highest, self.heard) = match (before, self.since, said) {
            (Some(_), ..) => {
                self.give_up_lines();
                self.give_up_commands(false);
                self.outputs.push_back(Output::Note(Note::Restarted));
                (1, 0, None)
            }
            (None, Since::PowerOn, _) => (1, 0, None),
            (None, Since::Now, Said::Line { number, .. }) => (*number, number.saturating_sub(1), None),
            (None, Since::Now, Said::State { said, .. }) => (said.saturating_add(1), *said, None),
        };
        if let Said::Line { .. } = said {
            self.write(Told::Where);
        }
    }

    fn line(&mut self, now: Instant, number: u32, text: &str) {
        if number < self.next || self.ahead.contains_key(&number) {
            return;
        }
        self.learn(now, number.saturating_sub(1));
        self.highest = self.highest.max(number);
        self.ahead.insert(number, text.to_owned());
        self.hand_on();
        if self.ahead.len() > AHEAD_MAX
            && let Some((&first, _)) = self.ahead.first_key_value()
        {
            self.skip_to(first);
        }
        self.watch_gaps(now);
    }

    fn state(&mut self, now: Instant, oldest: u32, said: u32, heard: u32) {
        self.learn(now, said);
        self.skip_to(oldest.min(said.saturating_add(1)));
        if self.next > self.highest {
            // The device has said nothing else: what was damaged has come again, or was said again in vain.
            self.suspects.clear();
        }
        self.watch_gaps(now);
        let before = self.heard.unwrap_or(heard);
        let came = heard.saturating_sub(before);
        self.heard = Some(heard.max(before));
        if came > 0 {
            self.in_flight.drain(..self.in_flight.len().min(came as usize));
            self.commands_asked.end();
        }
        self.send(now);
    }

    /// The device has said lines up to this one: those that were not known of are asked for.
    fn learn(&mut self, now: Instant, said: u32) {
        if said > self.highest {
            let from = core::mem::replace(&mut self.highest, said) + 1;
            self.ask(from, said);
            if self.lines_asked.until.is_none() {
                self.lines_asked.begin(now);
            }
        }
    }

    fn ask(&mut self, from: u32, to: u32) {
        if let Some(boot) = self.boot {
            self.write(Told::Again { boot, from, to });
        }
    }

    fn ask_for_lines(&mut self, now: Instant) {
        let gaps = self.gaps();
        if gaps.is_empty() {
            self.write(Told::Where);
        }
        gaps.into_iter().take(GAPS_MAX).for_each(|(from, to)| self.ask(from, to));
        self.lines_asked.begin(now);
    }

    /// A line that was damaged, or is none of the device's.
    fn suspect(&mut self, now: Instant, line: &str) {
        if self.suspects.len() >= SUSPECTS_MAX {
            self.outputs.push_back(Output::Plain(self.suspects.remove(0)));
        }
        self.suspects.push(line.to_owned());
        match self.boot {
            // If it was the last one, nothing would tell.
            Some(boot) => {
                let next = self.highest.saturating_add(1);
                self.write(Told::Again { boot, from: next, to: next });
            }
            None => self.write(Told::Where),
        }
        self.watch_gaps(now);
    }

    /// Hands on what is in order.
    fn hand_on(&mut self) {
        while let Some(text) = self.ahead.remove(&self.next) {
            self.outputs.push_back(Output::Line(text));
            self.next = self.next.saturating_add(1);
            self.lines_asked.end();
        }
    }

    fn watch_gaps(&mut self, now: Instant) {
        if self.next > self.highest && self.suspects.is_empty() {
            self.lines_asked.end();
        } else if self.lines_asked.until.is_none() {
            self.lines_asked.begin(now);
        }
    }

    /// The lines that are missing, as first and last.
    fn gaps(&self) -> Vec<(u32, u32)> {
        let mut gaps = Vec::new();
        let mut from = self.next;
        for &number in self.ahead.keys() {
            if number > from {
                gaps.push((from, number - 1));
            }
            from = number.saturating_add(1);
        }
        if from <= self.highest {
            gaps.push((from, self.highest));
        }
        gaps
    }

    /// Hands on what has come of the lines before this one; the others are lost.
    fn skip_to(&mut self, next: u32) {
        while self.next < next {
            let have = self.ahead.first_key_value().map_or(next, |(&number, _)| number.min(next));
            if have > self.next {
                self.outputs.push_back(Output::Note(Note::LinesLost { from: self.next, to: have - 1 }));
                self.next = have;
            }
            self.hand_on();
        }
    }

    fn give_up_lines(&mut self) {
        self.skip_to(self.highest.saturating_add(1));
        let highest = self.highest;
        // What was damaged and has come again, or is known to be lost, is not said once more.
        let told = |line: &String| number_in(line).is_some_and(|number| number <= highest);
        self.outputs.extend(self.suspects.drain(..).filter(|line| !told(line)).map(Output::Plain));
        self.lines_asked.end();
    }

    /// Sends what has room.
    fn send(&mut self, now: Instant) {
        let (Some(boot), Some(heard)) = (self.boot, self.heard) else {
            if !self.waiting.is_empty() && self.commands_asked.until.is_none() {
                self.write(Told::Where);
                self.commands_asked.begin(now);
            }
            return;
        };
        let mut room = WINDOW.saturating_sub(self.in_flight.iter().map(|piece| piece.line.len()).sum());
        while let Some(waiting) = self.waiting.front_mut() {
            let rest = &waiting.text[waiting.sent..];
            let text = &rest[..rest.floor_char_boundary(PIECE_MAX)];
            let place = match (waiting.sent == 0, text.len() == rest.len()) {
                (true, true) => Place::Whole,
                (true, false) => Place::First,
                (false, false) => Place::Middle,
                (false, true) => Place::Last,
            };
            let number = heard.saturating_add(u32::try_from(self.in_flight.len()).unwrap_or(u32::MAX)).saturating_add(1);
            let line = Told::Piece { boot, number, place, text }.line();
            if line.len() > room {
                break;
            }
            room -= line.len();
            waiting.sent += text.len();
            if place.ends() {
                self.waiting.pop_front();
            }
            self.outputs.push_back(Output::Write(line.clone()));
            self.in_flight.push_back(Piece { line, ends: place.ends() });
        }
        if self.in_flight.is_empty() {
            self.commands_asked.end();
        } else if self.commands_asked.until.is_none() {
            self.commands_asked.begin(now);
        }
    }

    fn repeat_pieces(&mut self, now: Instant) {
        if self.in_flight.is_empty() {
            self.write(Told::Where);
        }
        self.outputs.extend(self.in_flight.iter().map(|piece| Output::Write(piece.line.clone())));
        self.commands_asked.begin(now);
    }

    /// Gives up what was sent, and `all` or not what waits.
    fn give_up_commands(&mut self, all: bool) {
        let begun = self.waiting.pop_front_if(|waiting| waiting.sent > 0).is_some();
        let mut lost = self.in_flight.drain(..).filter(|piece| piece.ends).count() + usize::from(begun);
        if all {
            lost += self.waiting.drain(..).count();
        }
        if lost > 0 {
            self.outputs.push_back(Output::Note(Note::CommandsLost(lost)));
            // Some may have come all the same: the next number is the device's to say.
            self.heard = None;
        }
        self.commands_asked.end();
    }
}

/// The number of a damaged line, where that can still be read; the boot may be what is damaged.
fn number_in(line: &str) -> Option<u32> {
    let (boot, rest) = line.rsplit_once(" ^")?.1.split_once('.')?;
    let is_boot = boot.len() <= 5 && boot.chars().all(|c| c.is_ascii_hexdigit());
    is_boot.then(|| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())?
}
