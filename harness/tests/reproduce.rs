//! Each recorded log of a failure becomes a scenario, and the twin that is driven through it says the same.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may")]

use harness::diagnose::diagnose;
use harness::event::{Source, What};
use harness::trace::{log, read::read};
use harness::vocabulary::Vocabulary;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn logs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/logs")
}

fn harness(here: &Path, arguments: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_harness")).current_dir(here).args(arguments).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output, said)
}

#[test]
fn a_log_becomes_a_scenario_that_shows_the_same_on_the_twin() {
    let here = tempfile::tempdir().unwrap();
    let mut names: Vec<PathBuf> = std::fs::read_dir(logs()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.file_stem().is_some_and(|name| name != "connected"));
    assert!(names.len() >= 10);
    let mut expected = Vec::new();
    for path in &names {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let out = format!("{name}.yaml");
        let (output, said) = harness(here.path(), &["replay", "--log", path.to_str().unwrap(), "--to-scenario", &out]);
        assert!(output.status.success() && said.contains("run it:"), "{name}: {said}");
        let (output, said) = harness(here.path(), &["check", &out]);
        assert!(output.status.success(), "{name}: {said}");
        let told = diagnose(&log::read(&std::fs::read(path).unwrap(), &Vocabulary::default()));
        expected.push((name, told.trouble.unwrap()));
    }
    let (output, said) = harness(here.path(), &["run", ".", "--traces", "traces"]);
    assert!(output.status.success(), "{said}");
    for (name, trouble) in expected {
        let trace = std::fs::read_dir(here.path().join("traces")).unwrap().map(|entry| entry.unwrap().path());
        let trace = trace.into_iter().find(|path| path.to_string_lossy().contains(&format!("{name}@"))).unwrap();
        let lines: Vec<String> = read(&trace)
            .unwrap()
            .events
            .into_iter()
            .filter(|event| event.from == Source::Device)
            .filter_map(|event| if let What::Line(line) = event.what { Some(line) } else { None })
            .collect();
        let again = diagnose(&log::read(lines.join("\n").as_bytes(), &Vocabulary::default()));
        let found = again.trouble.as_ref().unwrap_or_else(|| panic!("{name}: {again}"));
        assert_eq!((found.scenario, found.likely), (trouble.scenario, trouble.likely), "{name}: {again}");
        let word = |report: &Option<device_core::report::Report>| report.as_ref().map(|report| report.word().name);
        assert_eq!(word(&found.report), word(&trouble.report), "{name}: {again}");
    }
}

#[test]
fn what_cannot_be_reproduced_is_said_and_nothing_is_overwritten() {
    let here = tempfile::tempdir().unwrap();
    std::fs::write(here.path().join("crash.txt"), "I (7) boot: device-core 0.1.0\nGuru Meditation Error: Core  0 panic'ed\n")
        .unwrap();
    let (output, said) = harness(here.path(), &["replay", "--log", "crash.txt", "--to-scenario", "x.yaml"]);
    assert!(
        output.status.code() == Some(3) && said.contains("the firmware itself died") && !here.path().join("x.yaml").exists(),
        "{said}"
    );
    std::fs::write(here.path().join("there.yaml"), "mine").unwrap();
    let log = logs().join("no-network.log");
    let (output, said) = harness(here.path(), &["replay", "--log", log.to_str().unwrap(), "--to-scenario", "there.yaml"]);
    assert!(output.status.code() == Some(2) && said.contains("there.yaml"), "{said}");
    let (output, said) = harness(here.path(), &["replay", "--log", log.to_str().unwrap(), "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["reached"], output.status.code()), (&"WIFI_CONNECTING".into(), Some(1)), "{said}");
    assert_eq!(told["trouble"]["command"], "harness run scenarios/provisioning/network-trouble.yaml", "{said}");
}
