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

#[test]
fn a_pass_that_took_two_tries_says_so_everywhere() {
    let home = folder();
    std::fs::remove_file(home.path().join("scenarios/talk/silent.yaml")).unwrap();
    let connects = PASSES.to_owned()
        + "  - provision: { ssid: lab, password: correct-horse }\n  - wait-for: { device: { report: mqtt-connected } }\n";
    std::fs::write(home.path().join("scenarios/talk/speaks.yaml"), connects).unwrap();
    let places = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/opt/homebrew/sbin/mosquitto", "/usr/bin/mosquitto"];
    let Some(real) = places.iter().find(|place| Path::new(place).is_file()) else {
        assert!(std::env::var_os("HARNESS_CI").is_none(), "no Mosquitto is installed");
        return;
    };
    // A Mosquitto that does not start the first time.
    let moody = home.path().join("moody");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = -h ] && echo 'mosquitto version 2.0.11' && exit 3\n\
         if [ ! -e \"$0.tried\" ]; then : > \"$0.tried\"; echo 'Error: moody' >&2; exit 1; fi\nexec {real} \"$@\"\n"
    );
    std::fs::write(&moody, script).unwrap();
    std::fs::set_permissions(&moody, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();

    let arguments = ["--broker", "process", "--retries", "2", "--junit", "junit.xml", "--summary", "summary.md", "--github"];
    let deny = [&arguments[..], &["--deny-warnings"]].concat();
    for (arguments, code) in [(&arguments[..], 0), (&deny, 1)] {
        let _ = std::fs::remove_file(home.path().join("moody.tried"));
        let output = run(home.path(), arguments, &[("MOSQUITTO_BIN", &moody)]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(said.contains("passed on try 2 of 3; the first was inconclusive: ") && said.contains("\n::warning "), "{said}");
    }
    let read = |name: &str| std::fs::read_to_string(home.path().join(name)).unwrap();
    assert!(
        read("junit.xml").contains("<flakyError") && read("junit.xml").contains("errors=\"0\" failures=\"0\""),
        "{}",
        read("junit.xml")
    );
    assert!(read("summary.md").contains("| of these, passed on a retry | 1 |"), "{}", read("summary.md"));
}

#[test]
fn a_scenario_that_is_wrong_is_annotated_where_it_is() {
    let home = folder();
    std::fs::write(home.path().join("scenarios/talk/wrong.yaml"), PASSES.replace("wait-for", "wait-four")).unwrap();
    let output = run(home.path(), &["--github"], &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let annotations: Vec<&str> = said.lines().filter(|line| line.starts_with("::")).collect();
    assert_eq!(annotations.len(), 1, "{said}");
    let expected = "::error file=scenarios/talk/wrong.yaml,line=6,col=5,title=the scenario is wrong::";
    assert!(annotations[0].starts_with(expected) && annotations[0].contains("wait-for"), "{annotations:?}");
}
