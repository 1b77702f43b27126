//! The `harness` command as its user meets it: exit codes, closed pipes, replays, and nothing left behind however it ends.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may")]

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long whatever a test waits for may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A device that connects and is then waited for.
const LONG: &str = "
version: 1
name: A long wait
never:
  - device: { report: mqtt-disconnected }
steps:
  - power-on: {}
  - provision: { ssid: lab, password: correct-horse }
  - wait-for: { device: { report: mqtt-connected }, within: 20s }
  - delay: 60s
";

/// What ends as its name says, with the broker that `broker_for` names.
const SCENARIOS: [(&str, &str, i32); 3] = [
    ("pass", "steps:\n  - power-on: {}\n  - wait-for: { device: { report: console-ready }, within: 10s }", 0),
    ("fail", "steps:\n  - power-on: {}\n  - wait-for: { device: { text: NEVER-SAID }, within: 50ms }", 1),
    ("inconclusive", "steps:\n  - power-on: {}", 3),
];

/// A folder of this test's own, in which the command works and keeps its temporary files.
fn home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("tmp")).unwrap();
    std::fs::create_dir(home.path().join("scenarios")).unwrap();
    home
}

fn put(home: &TempDir, name: &str, text: &str) -> String {
    let path = format!("scenarios/{name}.yaml");
    std::fs::write(home.path().join(&path), text).unwrap();
    path
}

fn scenario(home: &TempDir, name: &str) -> String {
    let (_, steps, _) = SCENARIOS.iter().find(|(n, ..)| *n == name).unwrap();
    put(home, name, &format!("version: 1\nname: {name}\n{steps}\n"))
}

/// Port 1 takes no connection: a testbed that cannot be had.
fn broker_for(name: &str) -> &'static str {
    if name == "inconclusive" { "external:127.0.0.1:1" } else { "bundled" }
}

fn harness(home: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HARNESS_") || name.to_string_lossy().starts_with("GITHUB_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).current_dir(home.path()).env("TMPDIR", home.path().join("tmp")).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn end(home: &TempDir, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = harness(home, arguments).output().unwrap();
    (status.code().unwrap_or(-1), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Waits for a condition.
fn until(what: &str, mut met: impl FnMut() -> bool) {
    let began = Instant::now();
    while !met() {
        assert!(began.elapsed() < PATIENCE, "waited for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The processes that have this text among their arguments.
fn processes_with(text: &str) -> Vec<i32> {
    let listed = Command::new("ps").args(["-A", "-ww", "-o", "pid=,args="]).output().unwrap().stdout;
    let told = String::from_utf8_lossy(&listed).into_owned();
    told.lines().filter(|line| line.contains(text)).filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

/// The broker's configuration lies below this folder, and its process names it.
fn brokers(home: &TempDir) -> Vec<i32> {
    processes_with(&home.path().join("tmp").display().to_string())
}

fn nothing_is_left(home: &TempDir) {
    until("the temporary files to go", || std::fs::read_dir(home.path().join("tmp")).unwrap().next().is_none());
    until("the broker to go", || brokers(home).is_empty());
}

/// A run of the long scenario, whose device is connected.
fn connected(home: &TempDir) -> Child {
    let file = put(home, "long", LONG);
    let child = harness(home, &["run", "--broker", "bundled", "--traces", "traces", &file]).spawn().unwrap();
    let trace = home.path().join("traces/long@twin.jsonl");
    until("the device to connect", || std::fs::read_to_string(&trace).is_ok_and(|text| text.contains("Connected to broker")));
    child
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

fn ended(mut child: Child) -> Option<i32> {
    until("the run to end", || child.try_wait().unwrap().is_some());
    child.wait().unwrap().code()
}

#[test]
fn every_verdict_and_every_mistake_has_its_exit_code() {
    let home = home();
    for (name, _, code) in SCENARIOS {
        let file = scenario(&home, name);
        let (met, out, err) = end(&home, &["run", "--broker", broker_for(name), "--traces", "traces", &file]);
        assert_eq!(met, code, "{name}: {out}{err}");
    }
    std::fs::create_dir(home.path().join("empty")).unwrap();
    put(&home, "wrong", "version: 1\nname: wrong\nsteps:\n  - power-onn: {}\n");
    for (arguments, says) in [
        (&["run", "empty"][..], "no `*.yaml` file"),
        (&["run", "nowhere"], "there is no such file"),
        (&["run", "scenarios/wrong.yaml"], "power-on"),
        (&["run", "scenarios/pass.yaml", "--filter", "nothing-like-it"], "--list"),
        (&["run", "--broker", "nonsense"], "bundled"),
        (&["run", "--target", "nonsense"], "twin"),
        (&["run", "--jobs", "0"], "1..="),
        (&["check", "scenarios"], "power-on"),
        (&["steps", "nonsense"], "power-on"),
        (&["replay", "scenarios/pass.yaml"], "harness-trace"),
        (&["replay", "nowhere"], "nowhere"),
        (&["up", "--misbehave", "nonsense"], "expired"),
        (&["up", "--lan", "my-board"], "is not an address, such as"),
        (&["up", "--lan", "0.0.0.0"], "boards cannot connect to it"),
        (&["up", "--lan", "203.0.113.7"], "is no address of this machine"),
        (&["nonsense"], "--help"),
    ] {
        let (code, out, err) = end(&home, arguments);
        assert!(code == 2 && err.contains(says), "{arguments:?} ended with {code}: {out}{err}");
    }
    nothing_is_left(&home);
}

#[test]
fn a_run_shows_the_warnings_of_its_files_once() {
    let home = home();
    let file = put(&home, "empty", "version: 1\nname: Nothing to do\nsteps: []\n");
    let (code, _, stderr) = end(&home, &["run", &file, "--broker", "bundled"]);
    assert_eq!((code, stderr.matches("no steps").count()), (0, 1), "{stderr}");
}

#[test]
fn a_trace_that_is_not_there_is_named_once() {
    let (code, _, stderr) = end(&home(), &["replay", "/nope/trace.jsonl"]);
    assert_eq!((code, stderr.matches("/nope/trace.jsonl").count()), (2, 1), "{stderr}");
}

#[test]
fn output_that_nobody_reads_is_no_panic_and_changes_no_verdict() {
    let home = home();
    let (pass, fail) = (scenario(&home, "pass"), scenario(&home, "fail"));
    for (arguments, expected) in [
        (vec!["run", "--broker", "bundled", "--traces", "traces", &pass], 0),
        (vec!["run", "--broker", "bundled", "--traces", "traces", "--json", &fail], 1),
        (vec!["run", "--list", &pass], 0),
        (vec!["check"], 0),
        (vec!["steps"], 0),
        (vec!["schema"], 0),
        (vec!["replay", "traces/fail@twin.jsonl"], 1),
    ] {
        let mut child = harness(&home, &arguments).spawn().unwrap();
        drop(child.stdout.take());
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert!(child.wait().unwrap().code() == Some(expected) && !err.contains("panicked"), "{arguments:?}: {err}");
        let mut deaf = harness(&home, &arguments).spawn().unwrap();
        drop(deaf.stdout.take());
        drop(deaf.stderr.take());
        assert_eq!(deaf.wait().unwrap().code(), Some(expected), "{arguments:?}, with nobody at all");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn words_that_a_full_disk_loses_are_no_success() {
    let home = home();
    for arguments in [&["--help"][..], &["help", "run"], &["steps"], &["schema"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = harness(&home, arguments).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("could not write standard output"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_replay_says_what_the_run_said() {
    let home = home();
    for (name, _, code) in SCENARIOS {
        let file = scenario(&home, name);
        let (_, ran, _) = end(&home, &["run", "--broker", broker_for(name), "--json", "--traces", "traces", &file]);
        let trace = format!("traces/{name}@twin.jsonl");
        let (replayed, again, remarks) = end(&home, &["replay", "--json", &trace]);
        let read = |text: &str| -> serde_json::Value { serde_json::from_str(text).unwrap() };
        let (ran, again) = (read(&ran), read(&again));
        for key in ["name", "target", "verdict", "exit_code", "findings", "warnings"] {
            assert_eq!(ran[key], again[key], "{name}: {key}");
        }
        assert_eq!((replayed, remarks.as_str()), (code, ""), "{name}");

        let bytes = std::fs::read(home.path().join(&trace)).unwrap();
        std::fs::write(home.path().join("cut.jsonl"), &bytes[..bytes.len() - bytes.len() / 3]).unwrap();
        let (code, _, remarks) = end(&home, &["replay", "cut.jsonl"]);
        assert!([0, 1, 2, 3].contains(&code) && !remarks.is_empty() && !remarks.contains("panicked"), "{name}: {code} {remarks}");
    }
}

#[test]
fn nothing_is_left_of_a_run_that_is_interrupted_or_killed() {
    for (how, code) in [(Signal::INT, Some(130)), (Signal::TERM, Some(130)), (Signal::KILL, None)] {
        let home = home();
        let run = connected(&home);
        assert!(!brokers(&home).is_empty());
        signal(run.id().try_into().unwrap(), how);
        assert_eq!(ended(run), code, "{how:?}");
        nothing_is_left(&home);
        let (code, _, remarks) = end(&home, &["replay", "traces/long@twin.jsonl"]);
        assert_eq!(code, 3, "{how:?}: {remarks}");
        assert_eq!(remarks.contains("is read up to"), how == Signal::KILL, "{how:?}: {remarks}");
    }
}

#[test]
fn a_broker_that_dies_is_the_testbeds_fault() {
    let home = home();
    let mut run = connected(&home);
    brokers(&home).into_iter().for_each(|broker| signal(broker, Signal::KILL));
    let mut told = String::new();
    run.stdout.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(ended(run), Some(3), "{told}");
    assert!(told.contains("the broker ended"), "{told}");
    assert_eq!(end(&home, &["replay", "traces/long@twin.jsonl"]).0, 3);
}

#[test]
fn up_serves_until_it_is_told_to_end() {
    for how in [Signal::INT, Signal::TERM, Signal::KILL] {
        let home = home();
        let mut up = harness(&home, &["up", "--broker", "bundled"]).spawn().unwrap();
        let mut lines = BufReader::new(up.stdout.take().unwrap()).lines();
        let root = lines.find_map(|line| Some(line.unwrap().split_once("its root: ")?.1.to_owned())).unwrap();
        assert!(Path::new(&root).is_file());
        assert!(lines.any(|line| line.unwrap().starts_with("What happens")));
        signal(up.id().try_into().unwrap(), how);
        // Read on, as a terminal does.
        lines.for_each(drop);
        assert_eq!(ended(up), (how != Signal::KILL).then_some(0), "{how:?}");
        nothing_is_left(&home);
    }
}

/// Every address of 127.0.0.0/8 is a Linux machine's own: this one stands for that in the network.
#[cfg(target_os = "linux")]
#[test]
fn up_serves_boards_on_the_address_that_it_is_told() {
    const LAN: &str = "127.0.0.2";
    let home = home();
    let mut up = harness(&home, &["up", "--broker", "bundled", "--lan", LAN]).spawn().unwrap();
    let mut lines = BufReader::new(up.stdout.take().unwrap()).lines();
    let said: Vec<String> = lines.by_ref().map(Result::unwrap).take_while(|line| !line.starts_with("What happens")).collect();
    assert!(said[0].starts_with("warning  whoever reaches 127.0.0.2"), "{said:?}");
    assert!(
        !said.iter().any(|line| line.contains("localhost") || line.contains("127.0.0.1:") && !line.contains(":8080")),
        "{said:?}"
    );
    let after = |word: &str| said.iter().find_map(|line| Some(line.split_once(word)?.1.split(' ').next()?.to_owned())).unwrap();
    let root = std::fs::read(after("its root: ")).unwrap();

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let trust = reqwest::Certificate::from_pem(&root).unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([trust]).build().unwrap();
        let answer = client.get(format!("{}/ca.crt", after("CA       "))).send().await.unwrap();
        assert_eq!(answer.bytes().await.unwrap(), root);
        // The broker's certificate is good for the address: the handshake goes on until a client certificate is missing.
        let address = after("broker   ").replace("mqtts", "https");
        let refused = format!("{:?}", client.get(address).send().await.unwrap_err());
        assert!(
            refused.contains("CertificateRequired") || refused.contains("ConnectionReset") || refused.contains("closed"),
            "{refused}"
        );
        assert!(!refused.contains("NotValidForName") && !refused.contains("UnknownIssuer"), "{refused}");
    });
    signal(up.id().try_into().unwrap(), Signal::TERM);
    lines.for_each(drop);
    assert_eq!(ended(up), Some(0));
    nothing_is_left(&home);
}

#[test]
fn a_trace_holds_no_secret_of_the_scenario_that_made_it() {
    let home = home();
    let secrets = [
        "planted-wifi-word",
        "planted-other-row",
        "planted-user-token",
        "planted-mqtt-word",
        "planted-body-word",
        "planted-set-word",
    ];
    let text = r#"
version: 1
name: Secrets in every place a scenario has for them
matrix: { password: { own: planted-wifi-word, other: planted-other-row } }
broker: { security: plain, users: { somebody: planted-mqtt-word } }
device: { security: plain, settings: { MQTT_USER: somebody, MQTT_PASSWORD: planted-mqtt-word } }
air: [{ ssid: lab, password: "${password}" }]
steps:
  - power-on: {}
  - command: set MQTT_PASSWORD planted-set-word
  - provision: { body: '{"ssid":"lab","password":"planted-body-word","device_id":"a b","provisioning_token":"x"}', expect: 400 }
  - provision: { password: "${password}", user-token: planted-user-token }
  - wait-for: { device: { report: mqtt-connected }, within: 10s }
"#;
    let file = put(&home, "secrets", text);
    let (code, said, _) = end(&home, &["run", &file, "--broker", "bundled", "--traces", "traces", "--json"]);
    assert_eq!(code, 0, "{said}");
    let mut texts = vec![said];
    for trace in std::fs::read_dir(home.path().join("traces")).unwrap() {
        let trace = trace.unwrap().path();
        texts.push(std::fs::read_to_string(&trace).unwrap());
        let (code, replayed, _) = end(&home, &["replay", &trace.to_string_lossy()]);
        assert_eq!(code, 0, "{replayed}");
        texts.push(replayed);
    }
    assert_eq!(texts.len(), 5, "two rows, each with a trace and a replay");
    for secret in secrets {
        assert!(texts.iter().all(|text| !text.contains(secret)), "{secret}");
    }
}
