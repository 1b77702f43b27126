//! Numbered lines over a line that loses, changes, doubles and invents bytes: every line of the device arrives once and in order, every command is
//! carried out once; what a restart leaves open is said.

use device_core::serial::numbered::{Boot, DeviceEnd, Heard, HostEnd, Note, Output, Since};
use device_core::time::Instant;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::collections::VecDeque;
use std::time::Duration;

/// One byte in so many is damaged.
const DAMAGED: u64 = 1000;
/// Every step of the world takes so long.
const STEP: Duration = Duration::from_millis(10);
/// So many steps, and everything must have come: 5 min.
const STEPS_MAX: usize = 30_000;

#[derive(Clone, Debug)]
enum Act {
    Say(usize),
    Order(usize),
    Restart,
    /// The cable is out for so many steps.
    Unplug(usize),
    Wait(usize),
}

fn acts(restarts: bool) -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        8 => (0usize..300).prop_map(Act::Say),
        3 => (0usize..100).prop_map(Act::Order),
        1 => (1000usize..4000).prop_map(Act::Order),
        1 => (1usize..300).prop_map(Act::Unplug),
        8 => (1usize..20).prop_map(Act::Wait),
    ];
    let restart = if restarts { 1 } else { 0 };
    prop::collection::vec(prop_oneof![30 => act, restart => Just(Act::Restart)], 1..120)
}

/// A direction of the line.
struct Wire {
    bytes: VecDeque<u8>,
    line: Vec<u8>,
}

impl Wire {
    fn new() -> Wire {
        Wire { bytes: VecDeque::new(), line: Vec::new() }
    }

    fn put(&mut self, line: &str) {
        self.bytes.extend(line.as_bytes());
        self.bytes.push_back(b'\n');
    }

    /// The lines that come out now.
    fn take(&mut self, rng: &mut u64, unplugged: bool) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        for byte in self.bytes.drain(..) {
            let chance = random(rng);
            let damaged: &[u8] = match (chance % DAMAGED, chance / DAMAGED % 4) {
                _ if unplugged => &[],
                (0, 0) => &[],
                (0, 1) => &[byte, byte],
                (0, 2) => &[byte ^ 1 << (chance / DAMAGED / 4 % 8)],
                (0, _) => &[byte, (chance >> 40) as u8, 0xFE],
                _ => &[byte],
            };
            for &byte in damaged {
                match byte {
                    b'\n' => lines.push(std::mem::take(&mut self.line)),
                    _ => self.line.push(byte),
                }
            }
        }
        lines
    }
}

/// xorshift64*: what it is for is said by its seed.
fn random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 8
}

struct World {
    now: Instant,
    rng: u64,
    device: DeviceEnd,
    host: HostEnd,
    up: Wire,
    down: Wire,
    /// What the device said, boot by boot.
    said: Vec<Vec<String>>,
    ordered: Vec<String>,
    obeyed: Vec<String>,
    /// Which of the device's boots, and which of its lines, the host hears next.
    heard: (usize, usize),
    lines_lost: usize,
    commands_lost: usize,
    unplugged: usize,
}

impl World {
    fn new(seed: u64) -> World {
        World {
            now: Instant(0),
            rng: seed | 1,
            device: DeviceEnd::new(Boot(7)),
            host: HostEnd::new(Instant(0), Since::PowerOn),
            up: Wire::new(),
            down: Wire::new(),
            said: vec![Vec::new()],
            ordered: Vec::new(),
            obeyed: Vec::new(),
            heard: (0, 0),
            lines_lost: 0,
            commands_lost: 0,
            unplugged: 0,
        }
    }

    fn say(&mut self, length: usize) {
        let boot = self.said.last_mut().expect("one boot at least");
        let text = format!("I ({}) line {} of {}: {}", self.now.0, boot.len() + 1, length, "^x*".repeat(length / 9));
        self.up.put(self.device.say(&text));
        boot.push(text);
    }

    fn order(&mut self, length: usize) {
        let command = format!("set {} ü{}", self.ordered.len(), "é~ ".repeat(length / 4));
        self.host.command(self.now, &command);
        self.ordered.push(command);
    }

    fn restart(&mut self) {
        // A line ends in the middle, and the rest of what was on the way to it comes to the next boot.
        let rest = self.up.bytes.len() / 2;
        self.up.bytes.truncate(rest);
        self.said.push(Vec::new());
        self.device = DeviceEnd::new(Boot(7 + self.said.len() as u16));
        self.up.put("\nESP-ROM:fake");
        self.say(0);
    }

    fn step(&mut self) {
        self.now = self.now + STEP;
        let unplugged = self.unplugged > 0;
        self.unplugged = self.unplugged.saturating_sub(1);
        for line in self.down.take(&mut self.rng, unplugged) {
            let up = &mut self.up;
            if let Heard::Command(command) = self.device.hear(&line, &mut |answer| up.put(answer)) {
                self.obeyed.push(command);
            }
        }
        for line in self.up.take(&mut self.rng, unplugged) {
            self.host.hear(self.now, &String::from_utf8_lossy(&line));
        }
        if self.host.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.host.tick(self.now);
        }
        while let Some(output) = self.host.poll() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Write(line) => self.down.put(&line),
            Output::Line(text) => {
                assert_eq!(self.said[self.heard.0].get(self.heard.1), Some(&text), "at line {:?}", self.heard);
                self.heard.1 += 1;
            }
            Output::Note(Note::LinesLost { from, to }) => {
                assert_eq!(from as usize, self.heard.1 + 1);
                assert!(to as usize <= self.said[self.heard.0].len());
                self.lines_lost += (to - from + 1) as usize;
                self.heard.1 = to as usize;
            }
            // Boots of which nothing came are not heard of.
            Output::Note(Note::Restarted) => self.heard = (self.said.len() - 1, 0),
            Output::Note(Note::CommandsLost(count)) => self.commands_lost += count,
            Output::Plain(_) => {}
        }
    }

    fn run(&mut self, acts: &[Act]) {
        self.say(0);
        for act in acts {
            match act {
                Act::Say(length) => self.say(*length),
                Act::Order(length) => self.order(*length),
                Act::Restart => {
                    self.settle();
                    // In the middle of something.
                    (0..5).for_each(|_| self.say(50));
                    (0..5).for_each(|_| self.order(50));
                    self.step();
                    self.restart();
                    self.settle();
                }
                Act::Unplug(steps) => self.unplugged = *steps,
                Act::Wait(steps) => (0..*steps).for_each(|_| self.step()),
            }
            self.step();
        }
        self.settle();
    }

    /// Waits until nothing is owed.
    fn settle(&mut self) {
        let all = |world: &World| {
            let heard = world.heard == (world.said.len() - 1, world.said.last().map_or(0, Vec::len));
            heard && world.host.is_settled()
        };
        for _ in 0..STEPS_MAX {
            if all(self) {
                return;
            }
            self.step();
        }
        panic!("after {STEPS_MAX} steps: heard {:?} of {:?}, {:?}", self.heard, self.said.last().map(Vec::len), self.host);
    }
}

fn config() -> ProptestConfig {
    // A checksum of 16 bits overlooks one damage in 65,536: the same cases each time, or a test fails now and then.
    ProptestConfig { cases: 200, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn everything_arrives_once_and_in_order(seed: u64, acts in acts(false)) {
        let mut world = World::new(seed);
        world.run(&acts);
        prop_assert_eq!(world.obeyed, world.ordered);
        prop_assert_eq!((world.lines_lost, world.commands_lost), (0, 0));
    }

    #[test]
    fn what_a_restart_leaves_open_is_said(seed: u64, acts in acts(true)) {
        let mut world = World::new(seed);
        world.run(&acts);
        let mut rest = world.ordered.iter();
        for obeyed in &world.obeyed {
            prop_assert!(rest.any(|ordered| ordered == obeyed), "{} twice, or out of order", obeyed);
        }
        prop_assert!(world.ordered.len() - world.obeyed.len() <= world.commands_lost);
        if world.said.len() == 1 {
            prop_assert_eq!((world.lines_lost, world.commands_lost), (0, 0));
        }
    }

    #[test]
    fn garbage_neither_panics_nor_is_obeyed(lines in prop::collection::vec("[\\^*.0-9a-f?<>-]{0,24}|\\PC{0,40}", 0..40)) {
        let mut device = DeviceEnd::new(Boot(1));
        let mut host = HostEnd::new(Instant(0), Since::Now);
        for line in &lines {
            let heard = device.hear(line.as_bytes(), &mut |_| {});
            prop_assert!(line.starts_with("^ ") || heard == Heard::Nothing, "{}", line);
            host.hear(Instant(1), line);
            while host.poll().is_some() {}
        }
    }
}

/// What the host would write now.
fn written(host: &mut HostEnd) -> Vec<String> {
    std::iter::from_fn(|| host.poll())
        .filter_map(|output| if let Output::Write(line) = output { Some(line) } else { None })
        .collect()
}

#[test]
fn an_order_whose_answer_was_lost_is_not_obeyed_again_by_the_next_boot() {
    let mut host = HostEnd::new(Instant(0), Since::PowerOn);
    let mut first = DeviceEnd::new(Boot(1));
    host.hear(Instant(0), first.say("booting"));
    let mut answers = Vec::new();
    for line in written(&mut host) {
        first.hear(line.as_bytes(), &mut |answer| answers.push(answer.to_owned()));
    }
    answers.iter().for_each(|answer| host.hear(Instant(1), answer));
    host.command(Instant(2), "reboot");
    let order = written(&mut host);
    assert_eq!(first.hear(order[0].as_bytes(), &mut |_| {}), Heard::Command("reboot".into()));
    let mut second = DeviceEnd::new(Boot(2));
    assert_eq!(second.hear(order[0].as_bytes(), &mut |_| {}), Heard::Nothing);
    host.hear(Instant(3), second.say("booting"));
    let told: Vec<Output> = std::iter::from_fn(|| host.poll()).collect();
    assert!(told.contains(&Output::Note(Note::CommandsLost(1))) && told.contains(&Output::Note(Note::Restarted)), "{told:?}");
    assert!(told.contains(&Output::Line("booting".into())));
}

#[test]
fn a_device_that_does_not_answer_is_given_up_and_what_it_said_last_is_shown() {
    let mut host = HostEnd::new(Instant(0), Since::Now);
    let mut device = DeviceEnd::new(Boot(1));
    host.hear(Instant(0), device.say("one"));
    device.say("two");
    host.hear(Instant(0), device.say("three"));
    host.hear(Instant(0), "Guru Meditation Error: Core  0 panic'ed (Panic). provoked at src/main.rs:1");
    host.hear(Instant(0), "assertion failed: a * b");
    host.command(Instant(0), "status");
    let mut told = Vec::new();
    let mut now = Instant(0);
    while !host.is_settled() {
        now = host.deadline().expect("it waits for something");
        assert!(now < Instant(60_000), "{host:?}");
        host.tick(now);
        told.extend(std::iter::from_fn(|| host.poll()).filter(|output| !matches!(output, Output::Write(_))));
    }
    let panic = "Guru Meditation Error: Core  0 panic'ed (Panic). provoked at src/main.rs:1";
    assert_eq!(
        told,
        [
            Output::Line("one".into()),
            Output::Plain(panic.into()),
            Output::Note(Note::LinesLost { from: 2, to: 2 }),
            Output::Line("three".into()),
            Output::Plain("assertion failed: a * b".into()),
            Output::Note(Note::CommandsLost(1)),
        ]
    );
    assert!(now > Instant(10_000), "gave up after {now:?}");
}

#[test]
fn a_person_may_type_a_command_without_number() {
    let mut device = DeviceEnd::new(Boot(1));
    let mut answers = 0;
    assert_eq!(device.hear(b"^ surroundings -", &mut |_| answers += 1), Heard::Command("surroundings -".into()));
    assert_eq!(answers, 0);
    for line in ["status", "^ status ^0001.1*0000", "status ^0001.1", "\u{1b}"] {
        assert_eq!(device.hear(line.as_bytes(), &mut |_| answers += 1), Heard::Nothing, "{line}");
    }
    assert_eq!(answers, 4, "each is answered with where the device stands");
}

#[test]
fn a_device_keeps_no_more_lines_than_it_says_and_no_command_that_is_too_long() {
    let mut device = DeviceEnd::new(Boot(1));
    let line = "x".repeat(500);
    for _ in 0..100 {
        device.say(&line);
    }
    let mut repeated = Vec::new();
    let ask = |device: &mut DeviceEnd, repeated: &mut Vec<String>| {
        let mut host = HostEnd::new(Instant(0), Since::PowerOn);
        host.hear(Instant(0), device.say("last"));
        for question in written(&mut host) {
            device.hear(question.as_bytes(), &mut |answer| repeated.push(answer.into()));
        }
    };
    ask(&mut device, &mut repeated);
    let bytes: usize = repeated.iter().map(String::len).sum();
    assert!((3000..4500).contains(&bytes), "{bytes}");

    let mut host = HostEnd::new(Instant(0), Since::Now);
    host.hear(Instant(0), device.say("again"));
    host.command(Instant(0), &"y".repeat(30_000));
    host.command(Instant(0), "status");
    let mut obeyed = Vec::new();
    while !host.is_settled() {
        for line in written(&mut host) {
            let mut answers = Vec::new();
            obeyed.push(device.hear(line.as_bytes(), &mut |answer| answers.push(answer.to_owned())));
            answers.iter().for_each(|answer| host.hear(Instant(1), answer));
        }
    }
    obeyed.retain(|heard| *heard != Heard::Nothing);
    assert_eq!(obeyed, [Heard::TooLong, Heard::Command("status".into())]);
}

#[test]
fn an_order_after_others_were_given_up_is_not_taken_for_one_of_them() {
    let mut host = HostEnd::new(Instant(0), Since::PowerOn);
    let mut device = DeviceEnd::new(Boot(1));
    let mut obeyed = Vec::new();
    let mut exchange = |host: &mut HostEnd, now: Instant, answered: bool| {
        for line in written(host) {
            let mut answers = Vec::new();
            if let Heard::Command(command) = device.hear(line.as_bytes(), &mut |answer| answers.push(answer.to_owned())) {
                obeyed.push(command);
            }
            answers.iter().filter(|_| answered).for_each(|answer| host.hear(now, answer));
        }
    };
    host.tick(Instant(1000));
    exchange(&mut host, Instant(1000), true);
    host.command(Instant(1000), "first");
    let mut now = Instant(1000);
    while !host.is_settled() {
        exchange(&mut host, now, false);
        now = host.deadline().expect("it waits for an answer");
        host.tick(now);
    }
    host.command(now, "second");
    (0..3).for_each(|_| exchange(&mut host, now, true));
    assert!(host.is_settled());
    assert_eq!(obeyed, ["first", "second"]);
}

/// The power goes before the device could say that there is nothing more.
#[test]
fn what_was_damaged_and_has_come_again_is_not_said_once_more_at_the_end() {
    let mut device = DeviceEnd::new(Boot(1));
    let lines = ["one", "two"].map(|text| device.say(text).to_owned());
    let mut host = HostEnd::new(Instant(0), Since::PowerOn);
    host.hear(Instant(0), &lines[0]);
    let cut = &lines[1][..lines[1].len() - 1];
    for damaged in [cut, &lines[1].replace("^0001", "^001")] {
        host.hear(Instant(1), damaged);
    }
    host.hear(Instant(2), &lines[1]);
    host.hear(Instant(3), "4 * 3 = 12, and 2^3 = 8");
    host.close();
    let mut said = Vec::new();
    while let Some(output) = host.poll() {
        if let Output::Line(text) | Output::Plain(text) = output {
            said.push(text);
        }
    }
    assert_eq!(said, ["one", "two", "4 * 3 = 12, and 2^3 = 8"]);
}
