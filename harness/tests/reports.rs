//! What `harness run` leaves behind for other programs: JUnit, annotations, a summary, tries.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use std::path::Path;
use std::process::{Command, Output};

const FAILS: &str = "name: It does not speak\nversion: 1\nmatrix: { security: [plain] }\nsteps:\n  - power-on: {}\n  - wait-for: { device: { text: never said }, within: 20ms }\n";
const PASSES: &str =
    "name: It speaks\nversion: 1\nmatrix: { security: [plain] }\nsteps:\n  - power-on: {}\n  - wait-for: { state: AP_MODE }\n";

fn run(folder: &Path, arguments: &[&str], environment: &[(&str, &Path)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    for name in ["GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE", "HARNESS_TRACES"] {
        command.env_remove(name);
    }
    command.arg("run").args(arguments).current_dir(folder).envs(environment.iter().copied()).output().unwrap()
}

fn folder() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(home.path().join("scenarios/talk")).unwrap();
    std::fs::write(home.path().join("scenarios/talk/silent.yaml"), FAILS).unwrap();
    std::fs::write(home.path().join("scenarios/talk/speaks.yaml"), PASSES).unwrap();
    home
}

#[test]
fn a_run_is_told_to_junit_and_a_summary() {
    let home = folder();
    let arguments = ["--junit", "out/junit.xml", "--summary", "out/summary.md", "--retries", "1", "--traces", "out/traces"];
    let output = run(home.path(), &arguments, &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let read = |name: &str| std::fs::read_to_string(home.path().join(name)).unwrap();
    let junit = read("out/junit.xml");
    assert!(junit.contains(r#"<testsuite name="talk" tests="2" skipped="0" errors="0" failures="1""#), "{junit}");
    // Tried again, each try with a trace of its own, and still a failure.
    assert!(junit.contains("<rerunFailure") && junit.contains("scenarios/talk/silent.yaml:6"), "{junit}");
    assert!(home.path().join("out/traces/try-2").is_dir() && !String::from_utf8_lossy(&output.stdout).contains("::error"));
    let summary = read("out/summary.md");
    assert!(summary.contains("❌ Scenarios: 2 trials") && summary.contains("never said"), "{summary}");
}

#[test]
fn github_is_shown_the_line_without_being_asked() {
    let home = folder();
    let page = home.path().join("page.md");
    std::fs::write(&page, "before\n").unwrap();
    let environment = [("GITHUB_ACTIONS", Path::new("true")), ("GITHUB_STEP_SUMMARY", &page), ("GITHUB_WORKSPACE", home.path())];
    let output = run(&home.path().join("scenarios"), &["talk", "--traces", "../traces"], &environment);
    let said = String::from_utf8(output.stdout).unwrap();
    let annotations: Vec<&str> = said.lines().filter(|line| line.starts_with("::")).collect();
    assert_eq!(annotations.len(), 1, "{said}");
    assert!(
        annotations[0]
            .starts_with("::error file=scenarios/talk/silent.yaml,line=6,title=talk/silent[security=plain] failed on twin::"),
        "{annotations:?}"
    );
    let page = std::fs::read_to_string(&page).unwrap();
    assert!(page.starts_with("before\n## ❌"), "{page}");
}

#[test]
fn a_report_that_cannot_be_written_is_said_before_anything_is_run() {
    let home = folder();
    let output = run(home.path(), &["--junit", "scenarios"], &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty() && said.contains("could not write scenarios"), "{said}");
}
