//! Plain serial logs, recorded on the twin and dressed as a monitor shows them: how far the device came, and what is likely wrong.

use device_core::state::State;
use harness::diagnose::{diagnose, judge};
use harness::scenario;
use harness::trace::log::{self, Log};
use harness::verdict::Verdict;
use harness::vocabulary::built_in;
use proptest::prelude::*;
use std::path::{Path, PathBuf};

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(home().join("tests/fixtures/logs").join(name).with_extension("log")).expect("a fixture")
}

fn read(bytes: &[u8]) -> Log {
    log::read(bytes, built_in("esp-idf").expect("it is built in"))
}

/// The log, the furthest state, a part of the line it stopped at, and the scenario that shows it.
type Told = (&'static str, State, Option<(&'static str, &'static str)>);

const LOGS: [Told; 12] = [
    ("connected", State::MqttConnected, None),
    ("wrong-password", State::WifiConnecting, Some(("wrong-password", "provisioning/network-trouble"))),
    ("no-network", State::WifiConnecting, Some(("not-found", "provisioning/network-trouble"))),
    ("token-refused", State::SubmitCsr, Some(("CA refused with 401", "enrollment/token-refused"))),
    ("another-key", State::SubmitCsr, Some(("another-key", "enrollment/bad-certificate"))),
    ("backend-wrong-name", State::SubmitCsr, Some(("not for localhost", "tls/ca-certificate"))),
    ("broker-expired", State::MqttConnecting, Some(("it is ", "tls/broker-certificate"))),
    ("broker-unknown-ca", State::MqttConnecting, Some(("to a trust anchor", "tls/broker-certificate"))),
    ("refused-login", State::MqttConnecting, Some(("code 135", "broker/refused-login"))),
    ("acl", State::MqttConnected, Some(("refused, code 135", "broker/acl"))),
    ("time-unknown", State::SubmitCsr, Some(("1970-01-01", "time/unknown"))),
    ("ap-only", State::ApMode, Some(("met 7 bytes", "provisioning/refused-bodies"))),
];

#[test]
fn a_log_tells_how_far_the_device_came_and_what_is_wrong() {
    for (name, reached, trouble) in LOGS {
        let told = diagnose(&read(&bytes(name)));
        assert_eq!(told.reached, Some(reached), "{name}: {told}");
        assert_eq!(told.is_well(), trouble.is_none(), "{name}: {told}");
        assert_eq!(told.breaches, Vec::<String>::new(), "{name}");
        if let Some((line, scenario)) = trouble {
            let found = told.trouble.as_ref().unwrap_or_else(|| panic!("{name}: {told}"));
            assert!(found.line.contains(line), "{name}: {told}");
            assert_eq!(found.scenario, Some(scenario), "{name}: {told}");
            assert!(home().join("../scenarios").join(scenario).with_extension("yaml").is_file(), "{scenario} is gone");
        }
    }
}

#[test]
fn every_scenario_a_diagnosis_names_exists() {
    let text = std::fs::read_to_string(home().join("src/diagnose/cause.rs")).unwrap();
    let named: Vec<&str> = text.split('"').filter(|word| word.contains('/') && !word.contains([' ', '{', '.'])).collect();
    assert!(named.len() > 20, "{named:?}");
    for name in named {
        assert!(home().join("../scenarios").join(name).with_extension("yaml").is_file(), "{name} is no scenario");
    }
}

#[test]
fn a_crash_and_a_log_of_something_else_are_told() {
    let told = diagnose(&read(b"I (7) boot: device-core 0.1.0\nGuru Meditation Error: Core  0 panic'ed (Load access fault)\n"));
    assert!(told.breaches[0].contains("Guru Meditation"), "{told}");
    let told = diagnose(&read(b"U-Boot 2024.01\nStarting kernel ...\n"));
    assert!(told.reached.is_none() && told.to_string().contains("nothing understood"), "{told}");
    assert!(diagnose(&read(b"")).reached.is_none());
}

#[test]
fn a_log_is_judged_by_a_scenario_as_far_as_it_can_show_it() {
    let by = |steps: &str, name: &str| {
        let text = format!("name: x\nversion: 1\nsteps:\n{steps}");
        let rows = scenario::read(Path::new("x.yaml"), text.as_bytes()).unwrap();
        judge(&read(&bytes(name)), rows.into_iter().next().unwrap())
    };
    let steps = "  - power-on: {}\n  - provision: {}\n  - wait-for: { ca: sign-csr }\n  - wait-serial: Connected to broker\n";
    let (judgement, left_out) = by(steps, "connected");
    assert_eq!((judgement.verdict, left_out), (Verdict::Pass, vec![5, 6]));
    assert_eq!(by(steps, "refused-login").0.verdict, Verdict::Inconclusive, "the log ends first");
    assert_eq!(by("  - wait-serial: Access point\n  - wait-serial: started\n", "connected").0.verdict, Verdict::Pass);
    let never = "  - wait-serial: Connected to broker\nfail-on: [Trust anchor]\n";
    assert_eq!(by(never, "connected").0.verdict, Verdict::Fail);
}

proptest! {
    /// Whatever a log has become on its way, it is looked at without a panic.
    #[test]
    fn any_log_is_looked_at(which in 0..LOGS.len(), cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 0..12)) {
        let mut bytes = bytes(LOGS[which].0);
        for (at, byte, kind) in cuts {
            let at = at.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
            match kind {
                0 => bytes[at] = byte,
                1 => drop(bytes.drain(..at)),
                _ => bytes.insert(at, byte),
            }
            if bytes.is_empty() { break }
        }
        let log = read(&bytes);
        prop_assert!(log.events.is_sorted_by_key(|event| event.at_us));
        let _ = diagnose(&log).to_string();
    }
}
