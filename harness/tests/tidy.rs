//! Taste as a test: the layers, the words and the one TLS provider.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::fs;
use std::path::{Path, PathBuf};

/// Judgement is pure: these are replayed, and must not know what time it is.
const PURE: [&str; 22] = [
    "diagnose",
    "diff",
    "event.rs",
    "exit.rs",
    "golden",
    "invariant",
    "matrix.rs",
    "pattern.rs",
    "report",
    "reproduce.rs",
    "scenario",
    "script.rs",
    "serial/ppp",
    "step/expect.rs",
    "step/packet.rs",
    "trace/format.rs",
    "trace/log.rs",
    "trace/read.rs",
    "trace/redact.rs",
    "trace/replay.rs",
    "verdict.rs",
    "vocabulary",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().into()
}

/// Every file below, with its path from the workspace's root (with `/`) and its text; none when there is no such folder.
fn files(below: &str, ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(below)];
    while let Some(path) = folders.pop() {
        if path.is_file() {
            // What targets cannot do is no scenario.
            if path.to_string_lossy().ends_with(ending) && !path.ends_with("known-gaps.yaml") {
                let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
            continue;
        }
        let inside = fs::read_dir(&path).into_iter().flatten().map(|entry| entry.unwrap().path());
        folders.extend(inside.filter(|path| !path.ends_with("target") || path.join("mod.rs").exists()));
    }
    found.sort();
    found
}

/// The text without its comments, its strings' comments excepted, and without its tests.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| line.to_owned() + "\n").collect()
}

/// Whether the word stands in the text as a word of its own.
fn has_word(text: &str, word: &str) -> bool {
    let joined = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word)
        .any(|(at, _)| !joined(text[..at].chars().next_back()) && !joined(text[at + word.len()..].chars().next()))
}

#[test]
fn the_pure_files_have_no_clock_no_socket_and_no_thread() {
    for pure in PURE {
        let found = files(&format!("harness/src/{pure}"), ".rs");
        assert!(!found.is_empty(), "{pure} is gone: this list must name what is there");
        for (name, text) in found {
            for word in ["tokio", "std::net", "std::thread", "SystemTime", "Instant::now", "async fn"] {
                assert!(!has_word(&code(&text), word), "{name} uses {word}; it is judgement, and must be pure");
            }
        }
    }
}

#[test]
fn the_core_has_no_system_under_it() {
    let found = files("device-core/src", ".rs");
    assert!(found.iter().any(|(name, text)| name.ends_with("lib.rs") && text.contains("no_std")));
    for (name, text) in found {
        for word in ["std::", "tokio", "println!"] {
            let lines = code(&text);
            let used = lines
                .lines()
                .any(|line| has_word(line, word.trim_end_matches(':')) && line.contains(word) && !line.contains("cfg_attr"));
            assert!(!used, "{name} uses {word}");
        }
    }
}

#[test]
fn a_device_does_not_know_that_it_is_tested() {
    for below in ["device-core", "sim-device"] {
        let found = files(below, ".rs").into_iter().chain(files(below, ".toml"));
        for (name, text) in found {
            assert!(!has_word(&text, "harness"), "{name} names the harness");
        }
    }
    assert!(files("sim-device/src", ".rs").len() > 3);
}

/// A folder of `tempfile` stays behind when a signal ends the harness; one of `child::PrivateDir` goes with it.
#[test]
fn temporary_folders_are_known_to_the_reaper() {
    for (path, text) in files("harness/src", "rs") {
        let code = code(&text);
        assert!(!code.contains("tempdir()") && !code.contains("TempDir::"), "{path} makes a folder that no reaper knows");
    }
}

#[test]
fn targets_are_named_where_they_live() {
    // Their commands' help may name them, the schema's manual gives examples, and the benches measure one.
    let may = ["harness/src/target/", "harness/src/cli", "harness/src/main.rs", "harness/src/bench/"];
    for (name, text) in files("harness/src", ".rs") {
        if may.iter().any(|place| name.starts_with(place)) {
            continue;
        }
        for word in ["\"twin\"", "\"qemu\"", "\"wokwi\"", "\"rig\"", "sim_device"] {
            assert!(!code(&text).contains(word), "{name} names the target {word}; ask which fact differs instead");
        }
    }
}

#[test]
fn there_is_one_tls_provider() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for package in ["aws-lc-rs", "aws-lc-sys", "native-tls", "openssl"] {
        assert!(
            !lock.contains(&format!("name = \"{package}\"\n")),
            "{package} came in; `cargo tree -i {package}` says through whom"
        );
    }
}

#[test]
fn every_file_says_what_it_is() {
    for (name, text) in ["device-core", "sim-device", "harness", "scenarios"].iter().flat_map(|package| files(package, ".rs")) {
        assert!(text.starts_with("//! "), "{name} does not begin with a sentence about itself");
    }
}

#[test]
fn every_verb_is_in_a_scenario() {
    // What no target can do yet is shown by the fixtures of Wokwi's language alone.
    let mut scenarios = files("scenarios", ".yaml");
    scenarios.extend(files("harness/tests/fixtures/wokwi", ".yaml"));
    let verbs: Vec<&str> = harness::step::VERBS.iter().map(|verb| verb.name).collect();
    assert!(!verbs.is_empty());
    let unused: Vec<&&str> =
        verbs.iter().filter(|verb| !scenarios.iter().any(|(_, text)| text.contains(&format!("- {verb}:")))).collect();
    assert!(scenarios.is_empty() || unused.is_empty(), "no scenario shows the verbs {unused:?}");
}

#[test]
fn every_lie_is_in_a_scenario() {
    let scenarios = files("scenarios", ".yaml");
    let told = |lie: &str| scenarios.iter().any(|(_, text)| has_word(text, lie) && text.contains(&format!("{lie}:")));
    let untold: Vec<_> = harness::broker::scripted::Lie::NAMES.iter().filter(|lie| !told(lie)).collect();
    assert!(untold.is_empty(), "no scenario tells {untold:?}");
}

#[test]
fn every_scenario_can_be_loaded() {
    for (name, text) in files("scenarios", ".yaml") {
        let loaded = harness::scenario::read(Path::new(&name), text.as_bytes());
        assert!(loaded.is_ok(), "{}", loaded.unwrap_err().render(false));
    }
}

#[test]
fn the_list_of_troubles_names_every_scenario_and_no_other() {
    let list = fs::read_to_string(root().join("scenarios/README.md")).unwrap();
    let scenarios: Vec<String> = files("scenarios", ".yaml").into_iter().map(|(name, _)| name).collect();
    let mut rows = 0;
    let mut named: Vec<String> = Vec::new();
    for row in list.lines().filter(|line| line.starts_with("| ") && !line.ends_with("| scenario |")) {
        rows += 1;
        let shown = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let places: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!places.is_empty() || shown.contains("gap"), "neither a scenario nor a gap: {row}");
        for place in places {
            let scenario = format!("scenarios/{place}.yaml");
            let there = scenarios.contains(&scenario) || root().join(format!("{place}.rs")).is_file();
            assert!(there, "there is no {place}: {row}");
            named.push(scenario);
        }
    }
    assert!(rows > 40, "{rows} rows");
    let unnamed: Vec<_> = scenarios.iter().filter(|scenario| !named.contains(scenario)).collect();
    assert!(unnamed.is_empty(), "the list does not name {unnamed:?}");
}

#[test]
fn every_golden_has_a_scenario() {
    let scenarios: Vec<String> = files("scenarios", ".yaml").into_iter().map(|(name, _)| name).collect();
    for (name, _) in files("scenarios", ".snap") {
        let (folder, file) = name.rsplit_once("/golden/").expect("goldens lie in folders called `golden`");
        let stem = file.split("__").next().unwrap();
        assert!(scenarios.contains(&format!("{folder}/{stem}.yaml")), "{name} is the golden of no scenario");
    }
    let pending = files("scenarios", ".snap.new");
    assert!(pending.is_empty(), "waiting for `cargo insta review`: {:?}", pending.iter().map(|(name, _)| name).collect::<Vec<_>>());
}

#[test]
fn what_a_device_says_it_is_judged_by() {
    // A report that nothing ever says is a word without a meaning.
    let core: String = files("device-core/src", ".rs")
        .into_iter()
        .filter(|(name, _)| !name.ends_with("report.rs"))
        .map(|(_, text)| code(&text))
        .collect();
    let shells = files("sim-device/src", ".rs").into_iter().chain(files("firmware/app/src", ".rs"));
    let shell: String = shells.map(|(_, text)| code(&text)).collect();
    let report = fs::read_to_string(root().join("device-core/src/report.rs")).unwrap();
    let vocabulary = report.split("vocabulary! {").nth(1).unwrap();
    let mut words = 0;
    for line in vocabulary.lines().take_while(|line| *line != "}") {
        let Some((variant, _)) = line.trim().split_once(" {").filter(|(variant, _)| variant.chars().all(char::is_alphanumeric))
        else {
            continue;
        };
        words += 1;
        let said = format!("Report::{variant}");
        assert!(has_word(&core, &said) || has_word(&shell, &said), "nobody says {said}");
    }
    assert_eq!(words, device_core::report::Report::WORDS.len());
}

/// A program that is started any other way inherits what is meant for one of them alone.
#[test]
fn every_program_is_started_by_one_function() {
    for (name, text) in files("harness/src", ".rs").iter().filter(|(name, _)| !name.ends_with("src/child.rs")) {
        assert!(!code(text).contains("Command::new("), "{name} starts a program: take `child::command`, which keeps secrets back");
    }
}
