//! Two traces are compared: of two runs of the same scenario nothing parts, and each planted difference is named.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may")]

use harness::diff::{Parting, diff};
use harness::event::{Event, Source, What};
use harness::trace::read::{Trace, read};
use std::path::Path;
use std::process::{Command, Stdio};

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Runs these scenarios and gives their traces, by file name.
fn run(scenarios: &[&str], traces: &Path) -> Vec<(String, Trace)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command.current_dir(home()).arg("run").args(scenarios).arg("--traces").arg(traces);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let mut names: Vec<_> = std::fs::read_dir(traces).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names.iter().map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), read(path).unwrap())).collect()
}

#[test]
fn two_runs_of_the_same_do_not_part() {
    let folder = tempfile::tempdir().unwrap();
    let scenarios = [
        "scenarios/happy",
        "scenarios/enrollment",
        "scenarios/tls",
        "scenarios/power",
        "scenarios/time",
        "scenarios/broker/killed.yaml",
    ];
    let (one, other) = (run(&scenarios, &folder.path().join("1")), run(&scenarios, &folder.path().join("2")));
    assert!(one.len() >= 50, "{}", one.len());
    for ((name, left), (other_name, right)) in one.iter().zip(&other) {
        assert_eq!(name, other_name);
        if let Some(parting) = diff(left, right) {
            panic!("{name}: {parting}");
        }
    }
}

/// The recorded run that differences are planted in: a broker that is killed and comes back, then restarts of the device.
fn recorded(name: &str) -> Trace {
    read(&home().join("harness/tests/fixtures/traces").join(name)).unwrap()
}

fn says(event: &Event, text: &str) -> bool {
    event.what.to_string().contains(text)
}

/// The place of the first event from this source on that says this, after another event that says `after`.
fn place(trace: &Trace, from: Source, after: &str, text: &str) -> usize {
    let start = if after.is_empty() { 0 } else { trace.events.iter().position(|event| says(event, after)).unwrap() };
    start + trace.events[start..].iter().position(|event| event.from == from && says(event, text)).unwrap()
}

fn rewrite(trace: &mut Trace, at: usize, from: &str, to: &str) {
    let What::Line(line) = &mut trace.events[at].what else { panic!("no line") };
    assert!(line.contains(from), "{line}");
    *line = line.replacen(from, to, 1);
}

fn say(trace: &mut Trace, at: usize, from: Source, what: What) {
    let at_us = trace.events[at].at_us;
    trace.events.insert(at, Event { at_us, from, what });
}

fn swap(trace: &mut Trace, one: usize, other: usize) {
    let (earlier, later) = (trace.events[one].at_us, trace.events[other].at_us);
    trace.events.swap(one, other);
    (trace.events[one].at_us, trace.events[other].at_us) = (earlier, later);
}

/// What is planted: the fixture, the change, and what must be named: the source and a part of what the right trace has there, or (`left`)
/// the left one.
type Planted = (&'static str, &'static str, fn(&mut Trace), Source, Named);

enum Named {
    Right(&'static str),
    Left(&'static str),
}

const KILLED: &str = "killed.jsonl";
const AWAY: &str = "away-at-first.jsonl";
const REFUSED: &str = "broker-certificate.jsonl";

fn planted() -> Vec<Planted> {
    use Named::{Left, Right};
    use Source::{Broker, Device, Link, Mqtt};
    vec![
        (
            "another packet id",
            KILLED,
            |t| {
                let at = place(t, Broker, "", "Received PUBLISH");
                rewrite(t, at, "m2", "m7");
            },
            Broker,
            Right("m7"),
        ),
        (
            "a subscription although the session is present",
            KILLED,
            |t| {
                let id = t.header.facts["device-id"].clone();
                let at = place(t, Broker, "CONNACK to esp32", "(1, 0)") + 1;
                say(t, at, Broker, What::Line(format!("Received SUBSCRIBE from {id}")));
            },
            Broker,
            Right("Received SUBSCRIBE"),
        ),
        (
            "a key stored after its certificate",
            KILLED,
            |t| {
                let (key, certificate) =
                    (place(t, Device, "", "stored credentials, key"), place(t, Device, "", "stored credentials, certificate"));
                swap(t, key, certificate);
            },
            Device,
            Right("stored credentials, certificate"),
        ),
        (
            "credentials stored after the key",
            KILLED,
            |t| {
                let (credentials, key) =
                    (place(t, Device, "", "stored credentials"), place(t, Device, "", "stored credentials, key"));
                swap(t, credentials, key);
            },
            Device,
            Right("stored credentials, key"),
        ),
        (
            "a back-off that begins anew too early",
            AWAY,
            |t| {
                let at = place(t, Device, "", "attempt 3");
                rewrite(t, at, "attempt 3", "attempt 1");
            },
            Device,
            Right("attempt 1"),
        ),
        (
            "a first delivery marked as a duplicate",
            KILLED,
            |t| {
                let at = place(t, Broker, "session_present=1", "Received PUBLISH");
                rewrite(t, at, "(d0", "(d1");
            },
            Broker,
            Right("(d1"),
        ),
        (
            "a missing alert",
            REFUSED,
            |t| {
                let at = place(t, Link, "", "alert");
                t.events.remove(at);
            },
            Link,
            Left("alert"),
        ),
        (
            "one connection more",
            KILLED,
            |t| {
                let at = place(t, Link, "", "broker #1 closed");
                for (n, what) in [
                    What::Opened { to: "broker".into(), connection: 9 },
                    What::Closed { to: "broker".into(), connection: 9, bytes_up: 0, bytes_down: 0 },
                ]
                .into_iter()
                .enumerate()
                {
                    say(t, at + 1 + n, Link, what);
                }
            },
            Link,
            Right("opened"),
        ),
        (
            "another reason code",
            KILLED,
            |t| {
                let at = place(t, Broker, "", "Sending PUBACK");
                rewrite(t, at, "rc0", "rc16");
            },
            Broker,
            Right("rc16"),
        ),
        (
            "readings that arrive in another order",
            KILLED,
            |t| {
                let (two, three) = (place(t, Mqtt, "", "\"number\":2"), place(t, Mqtt, "", "\"number\":3"));
                swap(t, two, three);
            },
            Mqtt,
            Right("\"number\":3"),
        ),
        (
            "an order of the states that is another",
            KILLED,
            |t| {
                let at = place(t, Device, "", "state: CHECK_CERTIFICATES -> SUBMIT_CSR");
                rewrite(t, at, "SUBMIT_CSR", "MQTT_CONNECTING");
            },
            Device,
            Right("CHECK_CERTIFICATES -> MQTT_CONNECTING"),
        ),
        (
            "a last connection that is one too many",
            REFUSED,
            |t| {
                let end = t.events.len() - 1;
                say(t, end, Link, What::Opened { to: "broker".into(), connection: 9 });
            },
            Link,
            Right("#9 opened"),
        ),
    ]
}

#[test]
fn a_planted_difference_is_named() {
    for (name, fixture, plant, source, named) in planted() {
        let left = recorded(fixture);
        assert_eq!(diff(&left, &left), None, "{name}: the fixture with itself");
        let mut right = recorded(fixture);
        plant(&mut right);
        let Some(parting) = diff(&left, &right) else { panic!("{name}: not seen") };
        let Parting { left: one, right: other, .. } = &parting;
        assert_eq!(parting.source, source, "{name}: {parting}");
        let (side, text) = match named {
            Named::Right(text) => (other, text),
            Named::Left(text) => (one, text),
        };
        assert!(side.event.as_ref().is_some_and(|at| at.text.contains(text)), "{name}: {parting}");
        assert!(!side.before.is_empty(), "{name}: {parting}");
        // The other way round it is the same place.
        let back = diff(&right, &left).unwrap();
        assert_eq!((back.source, &back.left.event, &back.right.event), (source, &other.event, &one.event), "{name}: {back}");
    }
}

#[test]
fn the_command_says_it_for_people_and_for_machines() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = home().join("harness/tests/fixtures/traces").join(KILLED);
    let changed = folder.path().join("changed.jsonl");
    std::fs::write(&changed, std::fs::read_to_string(&fixture).unwrap().replacen("rc0", "rc16", 1)).unwrap();
    let run = |arguments: &[&Path], json: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.arg("diff").args(arguments);
        if json {
            command.arg("--json");
        }
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said, _) = run(&[&fixture, &fixture], false);
    assert_eq!((code, said.starts_with("the traces do not part")), (0, true), "{said}");
    let (code, said, _) = run(&[&fixture, &changed], false);
    assert!(code == 1 && said.contains("the traces part at broker answers") && said.contains("rc16"), "{said}");
    let (code, said, _) = run(&[&fixture, &changed], true);
    let document: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &document["same"], &document["parting"]["source"]), (1, &false.into(), &"broker".into()), "{said}");
    let (code, _, said) = run(&[&fixture, Path::new("/nowhere")], false);
    assert!(code == 2 && said.contains("/nowhere"), "{said}");
}

#[test]
fn a_recorded_run_is_repeated_on_a_live_device() {
    let folder = tempfile::tempdir().unwrap();
    let drive = |trace: &Path, here: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.current_dir(here).args(["replay", "--drive", "twin", "--into"]).arg(folder.path().join("driven")).arg(trace);
        let output = command.stdin(Stdio::null()).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr))
    };
    let traces = home().join("harness/tests/fixtures/traces");
    let (code, said) = drive(&traces.join(KILLED), home());
    assert!(code == 0 && said.contains("recorded pass, now pass"), "{said}");
    // Without the scenario's file, by what is in the trace alone; the record is of a device that forgot its queue.
    let mut forgetful = recorded(KILLED);
    let at = place(&forgetful, Source::Mqtt, "", "\"number\":2");
    forgetful.events.remove(at);
    let text = std::fs::read_to_string(traces.join(KILLED)).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.remove(at + 1);
    let file = folder.path().join("forgetful.jsonl");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let (code, said) = drive(&file, folder.path());
    assert!(code == 1 && said.contains("part at mqtt topic devices/<device>/telemetry") && said.contains("\"number\":2"), "{said}");
    let (code, said) = drive(Path::new("/nowhere"), home());
    assert!(code == 2 && said.contains("/nowhere"), "{said}");
}
