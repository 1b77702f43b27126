//! A run's trace is judged as the run was; a trace that was cut, changed or made to hurt is read as far as it goes, or refused.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod common;

use common::{act, act_and_wait, drive, line, never, none, scenario, wait};
use harness::event::{Event, Source, What};
use harness::scenario::Scenario;
use harness::trace::format::{EVENTS_MAX, FORMAT, Header, LINE_MAX, Recorded, VERSION};
use harness::trace::read::{ReadError, Trace, read, read_from};
use harness::trace::redact::Redactor;
use harness::trace::replay::{changed_since, replay};
use harness::trace::write::Writer;
use harness::verdict::{Judgement, Verdict};
use proptest::prelude::*;
use std::path::Path;
use std::time::{Duration, Instant};

fn header() -> Header {
    Header {
        format: FORMAT.into(),
        version: VERSION,
        scenario: Recorded {
            name: "by hand".into(),
            path: "by-hand.yaml".into(),
            sha256: "00".repeat(32),
            text: "name: by hand\n".into(),
        },
        row: [("tls".to_owned(), "1.3".to_owned())].into(),
        target: "twin".into(),
        facts: Default::default(),
        patience: 1.0,
        seed: 7,
        tool: "0.1.0".into(),
        broker: "process, mosquitto 2.0.18".into(),
        started_unix: 1_780_000_000,
    }
}

fn recorded(tape: &[Event], judgement: &Judgement) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traces/t.jsonl");
    let mut writer = Writer::create(&path, &header(), &Redactor::new()).unwrap();
    tape.iter().for_each(|event| writer.event(event).unwrap());
    writer.finish(judgement.verdict).unwrap();
    std::fs::read(path).unwrap()
}

fn example() -> (Scenario, Vec<Event>, Judgement) {
    let scenario =
        never(scenario(vec![act(), wait(Source::Device, "one"), none(Source::Ca, "two"), wait(Source::Mqtt, "three")]), "bad");
    let world = [line(5, Source::Device, "one"), line(9, Source::Mqtt, "three \u{1b}[2J \"é\u{0}"), line(11, Source::Broker, "x")];
    let (tape, judgement) = drive(&scenario, &world);
    assert_eq!(judgement.verdict, Verdict::Pass);
    (scenario, tape, judgement)
}

#[test]
fn a_trace_comes_back_whole_and_private() {
    let (scenario, tape, judgement) = example();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.jsonl");
    std::fs::write(&path, "an older trace").unwrap();
    let mut writer = Writer::create(&path, &header(), &Redactor::new()).unwrap();
    tape.iter().for_each(|event| writer.event(event).unwrap());
    writer.flush().unwrap();
    // Before its end it reads as one that was cut off: what a killed run leaves.
    let trace = read(&path).unwrap();
    assert_eq!((&trace.events, trace.end, trace.truncated.is_some()), (&tape, None, true));
    writer.finish(judgement.verdict).unwrap();
    let trace = read(&path).unwrap();
    assert_eq!((&trace.header, &trace.events, &trace.truncated), (&header(), &tape, &None));
    let again = replay(&trace, &scenario);
    assert_eq!((again.judgement, again.remarks), (judgement, vec![]));
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[cfg(unix)]
#[test]
fn a_trace_never_goes_through_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let (path, victim) = (folder.path().join("t.jsonl"), folder.path().join("victim"));
    std::fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, &path).unwrap();
    Writer::create(&path, &header(), &Redactor::new()).unwrap().finish(Verdict::Pass).unwrap();
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn a_trace_cut_anywhere_is_read_up_to_there() {
    let (scenario, tape, judgement) = example();
    let whole = recorded(&tape, &judgement);
    let header_ends = whole.iter().position(|b| *b == b'\n').unwrap();
    for cut in 0..whole.len() {
        match read_from(&whole[..cut]) {
            Err(ReadError::NoHeader { .. }) => assert!(cut <= header_ends, "cut at byte {cut}"),
            Err(e) => panic!("cut at byte {cut}: {e}"),
            Ok(trace) => {
                let lines = whole[..cut].iter().filter(|b| **b == b'\n').count();
                assert_eq!(trace.events, tape[..lines - 1], "cut at byte {cut}");
                assert_eq!(trace.truncated.as_ref().map(|cut| cut.at_line), Some(lines + 1), "cut at byte {cut}");
                let again = replay(&trace, &scenario);
                assert!(!again.remarks.is_empty());
                // With all events there, the verdict is known, though the last line is not.
                let expected = if trace.events.len() == tape.len() { Verdict::Pass } else { Verdict::Inconclusive };
                assert_eq!(again.judgement.verdict, expected, "cut at byte {cut}");
            }
        }
    }
}

fn edited(edit: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    let mut header = serde_json::to_value(header()).unwrap();
    edit(&mut header);
    format!("{header}\n{{\"end\":{{\"verdict\":\"pass\",\"at_us\":0}}}}\n").into_bytes()
}

#[test]
fn a_header_is_checked_first() {
    assert!(read_from(&edited(|_| {})[..]).unwrap().truncated.is_none());
    assert!(read_from(&edited(|header| header["later"] = 1.into())[..]).is_ok(), "an unknown field of the same version");
    for (name, edit) in [
        ("format", (|header| header["format"] = "pcap".into()) as fn(&mut serde_json::Value)),
        ("no format", |header| drop(header.as_object_mut().unwrap().remove("format"))),
        ("version 0", |header| header["version"] = 0.into()),
        ("version -1", |header| header["version"] = (-1).into()),
        ("patience 0", |header| header["patience"] = 0.into()),
        ("patience -1", |header| header["patience"] = (-1).into()),
        ("patience null", |header| header["patience"] = serde_json::Value::Null),
        ("patience infinite", |header| header["patience"] = 1e300.into()),
        ("no scenario", |header| header["scenario"] = 1.into()),
        ("a list", |header| *header = serde_json::json!([1])),
    ] {
        assert!(matches!(read_from(&edited(edit)[..]), Err(ReadError::NoHeader { .. })), "{name}");
    }
    let newer = read_from(
        &edited(|header| {
            *header = serde_json::json!({"format": FORMAT, "version": 3, "tool": "9.9.9", "all": "different"});
        })[..],
    );
    assert_eq!(
        newer.unwrap_err().to_string(),
        "the trace has format version 3, this harness reads up to 2: read it with the harness that wrote it (9.9.9)"
    );
    for (bytes, what) in
        [(&b""[..], "empty"), (b"\x1f\x8b\x08", "gzip"), (b"{}\n", "nothing"), (b"NaN\n", "NaN"), (b"\n", "no line")]
    {
        assert!(matches!(read_from(bytes), Err(ReadError::NoHeader { .. })), "{what}");
    }
}

/// A trace of version 1, as the first harness wrote it: to be read for ever.
#[test]
fn version_1_is_read() {
    let trace = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/trace-v1.jsonl")).unwrap();
    assert_eq!((trace.header.version, trace.events.len(), trace.truncated), (1, 30, None));
    assert_eq!(trace.end.unwrap().verdict, Verdict::Fail);
}

#[test]
fn hostile_lines_end_the_reading() {
    let start = serde_json::to_string(&header()).unwrap() + "\n";
    let event = |at: &str| format!("{{\"at_us\":{at},\"from\":\"device\",\"what\":{{\"line\":\"x\"}}}}\n");
    for (lines, why, events) in [
        (event("NaN"), "not an event", 0),
        (event("-1"), "not an event", 0),
        (event("1e999"), "not an event", 0),
        (event("1.5"), "not an event", 0),
        (event("99999999999999999999"), "not an event", 0),
        (event("7") + &event("6"), "time goes backward", 1),
        (event("7").replace("\"x\"", &"[".repeat(100_000)), "not an event", 0),
        (event("7").replace("device", "nobody"), "not an event", 0),
        (event("7").replace("line", "lime"), "not an event", 0),
        (event("7").replace("\"x\"", "\"\u{0}\""), "not an event", 0),
        ("x".repeat(LINE_MAX + 10), "a line of more than", 0),
        ("\n".into(), "not an event", 0),
        ("{\"end\":{\"verdict\":\"pass\",\"at_us\":1}}\n".to_owned() + &event("7"), "something follows its end", 0),
        (event("7").repeat(EVENTS_MAX + 1), "more than 200000 events", EVENTS_MAX),
    ] {
        let trace = read_from((start.clone() + &lines).as_bytes()).unwrap();
        let cut = trace.truncated.unwrap();
        assert!(cut.why.starts_with(why), "{}", cut.why);
        assert_eq!(trace.events.len(), events, "{why}");
    }
    let mut not_utf8 = start.into_bytes();
    not_utf8.extend(b"{\"at_us\":1,\"from\":\"device\",\"what\":{\"line\":\"\xff\"}}\n");
    assert!(read_from(&not_utf8[..]).unwrap().truncated.unwrap().why.starts_with("not an event"));
}

#[test]
fn an_endless_trace_ends() {
    let began = Instant::now();
    let start = serde_json::to_string(&header()).unwrap() + "\n";
    let trace = read_from(std::io::Read::chain(start.as_bytes(), std::io::repeat(b'x'))).unwrap();
    assert!(trace.truncated.is_some());
    let long = format!("{{\"at_us\":7,\"from\":\"device\",\"what\":{{\"line\":\"{}\"}}}}\n", "x".repeat(LINE_MAX - 100));
    let trace = read_from((start + &long.repeat(80)).as_bytes()).unwrap();
    assert!(trace.truncated.unwrap().why.contains("67108864 bytes"));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[cfg(unix)]
#[test]
fn pipes_devices_and_folders_are_no_traces() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    for path in [folder.path(), &pipe, Path::new("/dev/zero")] {
        assert!(matches!(read(path), Err(ReadError::NotAFile(_))), "{path:?}");
    }
    assert!(matches!(read(&folder.path().join("none")), Err(ReadError::Io { .. })));
    let large = std::fs::File::create(folder.path().join("large")).unwrap();
    large.set_len(1 << 40).unwrap();
    assert!(matches!(read(&folder.path().join("large")), Err(ReadError::TooLarge { .. })));
}

#[test]
fn a_changed_scenario_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("by-hand.yaml");
    let recorded =
        Recorded { sha256: "2CF24DBA5FB0A30E26E83B2AC5B9E29E1B161E5C1FA7425E73043362938B9824".into(), ..header().scenario };
    assert_eq!(changed_since(&recorded, &file), None, "gone is not changed");
    std::fs::write(&file, "hello").unwrap();
    assert_eq!(changed_since(&recorded, &file), None);
    std::fs::write(&file, "hello ").unwrap();
    assert!(changed_since(&recorded, &file).unwrap().text.contains("has changed"));
}

#[test]
fn a_verdict_that_was_changed_by_hand_is_noticed() {
    let (scenario, tape, judgement) = example();
    let text =
        String::from_utf8(recorded(&tape, &judgement)).unwrap().replace("\"verdict\":\"pass\"", "\"verdict\":\"inconclusive\"");
    let again = replay(&read_from(text.as_bytes()).unwrap(), &scenario);
    assert_eq!(again.judgement, judgement);
    assert!(again.remarks[0].contains("the run said inconclusive where this replay says pass"), "{:?}", again.remarks);
}

const TEXTS: [&str; 5] = ["one", "two", "bad", "I (7) time: Clock jumped by 900 ms", "E (9) cert: CA refused with 401"];

proptest! {
    /// The judgement of any run is the judgement of its trace.
    #[test]
    fn a_replay_cannot_disagree(
        said in proptest::collection::vec((0..3usize, 0..5usize, 0..3_000_000u64), 0..24),
        kinds in proptest::collection::vec((0..4usize, 0..2usize), 0..6),
    ) {
        let steps = kinds.iter().map(|(kind, text)| match kind {
            0 => act(),
            1 => act_and_wait(Source::Device, TEXTS[*text]),
            2 => none(Source::Device, TEXTS[*text]),
            _ => wait(Source::Ca, TEXTS[*text]),
        });
        let scenario = never(scenario(steps.collect()), "bad");
        let mut at_us = 0;
        let world: Vec<Event> = said.into_iter().map(|(from, text, after)| {
            at_us += after;
            line(at_us, [Source::Device, Source::Ca, Source::Mqtt][from], TEXTS[text])
        }).collect();
        let (tape, judgement) = drive(&scenario, &world);
        let trace = read_from(&recorded(&tape, &judgement)[..]).unwrap();
        let again = replay(&trace, &scenario);
        prop_assert_eq!(again.judgement, judgement);
        prop_assert_eq!(again.remarks, Vec::<String>::new());
    }

    /// A trace with any bytes changed is read, in part, or refused; it is never a panic, and its judgement is always one.
    #[test]
    fn a_mutated_trace_is_no_trouble(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..6)) {
        let (scenario, tape, judgement) = example();
        let mut bytes = recorded(&tape, &judgement);
        for (at, byte, kind) in changes {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        if let Ok(trace) = read_from(&bytes[..]) {
            let Trace { events, .. } = &trace;
            prop_assert!(events.is_sorted_by_key(|event| event.at_us));
            prop_assert!(events.iter().all(|event| !matches!(&event.what, What::Line(line) if line.len() > LINE_MAX)));
            let _ = replay(&trace, &scenario).judgement.verdict.word();
        }
    }
}
