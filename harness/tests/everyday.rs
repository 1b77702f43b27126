//! `harness doctor` and `harness init`, as somebody uses them for the first time.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn harness(home: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    for name in ["GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE", "HARNESS_TRACES", "HARNESS_BROKER"] {
        command.env_remove(name);
    }
    command.args(arguments).current_dir(home).envs(environment.iter().copied()).output().unwrap()
}

fn check<'v>(told: &'v Value, name: &str) -> &'v Value {
    told["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap()
}

#[test]
fn doctor_finds_what_runs_and_what_does_not() {
    let home = tempfile::tempdir().unwrap();
    let well = harness(home.path(), &["doctor", "--json"], &[]);
    let told: Value = serde_json::from_slice(&well.stdout).unwrap();
    assert_eq!((well.status.code(), &told["ready"]), (Some(0), &Value::Bool(true)), "{told}");
    assert_eq!(check(&told, "loopback")["ok"], true);

    // Whether it was built with containers or not: an engine that is not there is told, with what helps, and is not needed.
    let container = check(&told, "broker container");
    assert_eq!(container["needed"], false, "{container}");
    let away = harness(home.path(), &["doctor", "--json"], &[("DOCKER_HOST", "unix:///nonexistent/docker.sock")]);
    let told: Value = serde_json::from_slice(&away.stdout).unwrap();
    let container = check(&told, "broker container");
    assert_eq!((away.status.code(), &container["ok"]), (Some(0), &Value::Bool(false)), "{container}");
    let help = container["help"].as_str().unwrap();
    assert!(help.contains("--features container") || help.contains("DOCKER_HOST"), "{help}");

    let no_mosquitto = [("MOSQUITTO_BIN", "/nonexistent/mosquitto")];
    let asked = harness(home.path(), &["doctor", "--broker", "process"], &no_mosquitto);
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    assert_eq!(asked.status.code(), Some(3), "{said}");
    assert!(said.contains("NO  broker process") && said.contains("MOSQUITTO_BIN") && said.contains("will not work"), "{said}");

    let nowhere = harness(home.path(), &["doctor", "--json", "--broker", "external:127.0.0.1:1"], &[("TMPDIR", "/nonexistent")]);
    let told: Value = serde_json::from_slice(&nowhere.stdout).unwrap();
    assert_eq!(nowhere.status.code(), Some(3), "{told}");
    assert_eq!(check(&told, "broker external:127.0.0.1:1")["ok"], false);
    assert!(check(&told, "temporary files")["help"].as_str().unwrap().contains("TMPDIR"));
}

#[test]
fn what_init_writes_is_right_and_runs() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(".gitignore"), "*.o").unwrap();
    let made = harness(home.path(), &["init"], &[]);
    assert!(made.status.success(), "{made:?}");
    for command in [["check", "scenarios"], ["run", "scenarios"]] {
        let output = harness(home.path(), &command, &[]);
        assert!(output.status.success(), "{command:?}: {output:?}");
    }
    assert!(home.path().join("traces").is_dir(), "what is ignored is what a run leaves");
    assert_eq!(std::fs::read_to_string(home.path().join(".gitignore")).unwrap(), "*.o\n/traces/\n/certs/\n*.snap.new\n");
    // GitHub reads the workflow with a YAML parser of its own; that it is YAML and names no placeholder is all that is seen here.
    let workflow = std::fs::read_to_string(home.path().join(".github/workflows/harness.yml")).unwrap();
    let parsed: Value = serde_saphyr::from_str(&workflow).unwrap();
    assert!(
        parsed["jobs"]["scenarios"]["steps"].as_array().unwrap().len() > 4 && !workflow.contains("HARNESS_SOURCE"),
        "{workflow}"
    );
}

#[test]
fn init_says_what_is_in_its_way() {
    let other: &[(&str, &[u8], i32, &str)] = &[
        (".gitignore", b"caf\xe9\n", 0, "3 lines"),
        (".gitignore", b"\xff\xfe*\0", 3, "save it as UTF-8"),
        ("scenarios", b"a file", 3, "no folder"),
    ];
    for (name, bytes, code, says) in other {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(name), bytes).unwrap();
        let made = harness(home.path(), &["init"], &[]);
        let said = String::from_utf8_lossy(&[made.stdout, made.stderr].concat()).into_owned();
        assert!(made.status.code() == Some(*code) && said.contains(says), "{name}: {said}");
        assert!(std::fs::read(home.path().join(name)).unwrap().starts_with(bytes));
    }
}

#[test]
fn init_leaves_what_is_there() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("scenarios")).unwrap();
    std::fs::write(home.path().join("scenarios/first.yaml"), "mine").unwrap();
    for _ in 0..2 {
        assert!(harness(home.path(), &["init", "--source", "https://git.example/harness"], &[]).status.success());
    }
    let read = |name: &str| std::fs::read_to_string(home.path().join(name)).unwrap();
    assert_eq!(read("scenarios/first.yaml"), "mine");
    assert_eq!(read(".gitignore").lines().count(), 3);
    assert!(read(".github/workflows/harness.yml").contains("SOURCE: https://git.example/harness"));
    assert_eq!(harness(home.path(), &["init", "nowhere"], &[]).status.code(), Some(2));
    assert_eq!(harness(home.path(), &["init", "--source", "a b"], &[]).status.code(), Some(2));
}
