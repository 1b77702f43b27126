//! The language as a whole: every example loads, the schema agrees with the loader, and no text makes the loader panic or hang.

use harness::scenario::{self, schema};
use harness::step::VERBS;
use proptest::prelude::*;
use std::path::Path;

fn scenario_of(steps: &str) -> String {
    format!("name: An example\nversion: 1\nsteps:\n{}\n", steps.lines().map(|l| format!("  {l}")).collect::<Vec<_>>().join("\n"))
}

fn load(text: &str) -> Result<scenario::File, scenario::Diagnostics> {
    scenario::read(Path::new("example.yaml"), text.as_bytes())
}

#[test]
fn every_example_of_the_manual_loads_without_a_warning() {
    for word in VERBS {
        let text = scenario_of(word.example);
        let file = load(&text).unwrap_or_else(|wrong| panic!("{}\n{}", word.name, wrong.render(false)));
        assert!(file.warnings.is_empty(), "{}\n{}", word.name, file.warnings.render(false));
        assert!(file.scenarios[0].steps.iter().any(|s| s.verb == word.name), "{} is not in its own example", word.name);
        assert!(scenario::manual(Some(word.name)).unwrap().len() > 100);
    }
}

fn scenarios() -> Vec<std::path::PathBuf> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    scenario::find(&[home]).expect("the repository has scenarios")
}

#[test]
fn every_scenario_of_this_repository_loads_without_a_warning() {
    let mut trials = 0;
    for path in scenarios() {
        let file = scenario::load(&path).unwrap_or_else(|wrong| panic!("{}", wrong.render(false)));
        assert!(file.warnings.is_empty(), "{}", file.warnings.render(false));
        trials += file.len();
    }
    assert!(scenarios().len() >= 10 && trials >= 24, "{} files, {trials} trials", scenarios().len());
}

/// The schema as a validator. Patterns and formats are looked at, as editors do.
fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::new(&schema::schema()).expect("the schema is one")
}

/// A YAML text as JSON, as an editor sees it.
fn json(text: &str) -> serde_json::Value {
    scenario::typed::read(&scenario::yaml::parse(text).expect("it is YAML")).expect("it is like JSON")
}

#[test]
fn the_schema_takes_every_scenario_and_example() {
    let validator = validator();
    let files = scenarios().into_iter().map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
    let examples = VERBS.iter().map(|word| (word.name.to_string(), scenario_of(word.example)));
    for (name, text) in files.chain(examples) {
        let value = json(&text);
        let wrong: Vec<_> = validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(wrong.is_empty(), "{name}\n{}", wrong.join("\n"));
    }
}

#[test]
fn schema_and_loader_refuse_the_same_mistakes() {
    let validator = validator();
    for mistake in [
        "name: x\nversion: 2\nsteps: []",
        "name: x\nsteps: []",
        "version: 1\nsteps: []",
        "name: x\nversion: 1",
        "name: x\nversion: 1\nsteps: [{ power-on: {} }]\nstepz: []",
        "name: x\nversion: 1\ndevice: { mqtt: v4 }\nsteps: []",
        "name: x\nversion: 1\ndevice: { tls: 1.3 }\nsteps: []",
        "name: x\nversion: 1\nca: { misbehave: [expird] }\nsteps: []",
        "name: x\nversion: 1\nwithin: 5\nsteps: []",
        "name: x\nversion: 1\nwithin: 5 parsecs\nsteps: []",
        "name: x\nversion: 1\ntime: { date: yesterday }\nsteps: []",
        "name: x\nversion: 1\nsteps: [{ poweron: {} }]",
        "name: x\nversion: 1\nsteps: [{ power-on: {}, power-off: {} }]",
        "name: x\nversion: 1\nsteps: [{ power-on: {} }, { name: only }]",
        "name: x\nversion: 1\nsteps: [power-on]",
        "name: x\nversion: 1\nsteps: [{ power-on: { cut-before: { write: nvs } } }]",
        "name: x\nversion: 1\nsteps: [{ wait-for: { device: { report: toast-ready } } }]",
        "name: x\nversion: 1\nsteps: [{ wait-for: { device: { line: x } } }]",
        "name: x\nversion: 1\nsteps: [{ wait-for: { mqtt: { topic: 'a/#/b' } } }]",
        "name: x\nversion: 1\nsteps: [{ wait-for: { mqtt: { retained: true } } }]",
        "name: x\nversion: 1\nsteps: [{ wait-for: { state: CONNECTED } }]",
        "name: x\nversion: 1\nsteps: [{ broker: restart }]",
        "name: x\nversion: 1\nsteps: [{ write-serial: [] }]",
        "name: x\nversion: 1\nsteps: [{ provision: { expect: 99 } }]",
        "name: x\nversion: 1\nsteps: [{ snapshot: a/b }]",
        "name: x\nversion: 1\nnever: [{ device: {}, ca: any }]\nsteps: []",
    ] {
        assert!(load(mistake).is_err(), "the loader takes\n{mistake}");
        assert!(!validator.is_valid(&json(mistake)), "the schema takes\n{mistake}");
    }
}

#[test]
fn the_manual_of_a_verb_reads_well() {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let pages = ["power-on", "wait-for", "delay", "clock"].map(|verb| scenario::manual(Some(verb)).unwrap());
    settings.bind(|| insta::assert_snapshot!("manual", pages.join("\n")));
    assert_eq!(scenario::manual(Some("wait-fr")).unwrap_err().split(';').next(), Some("`wait-fr` is no verb"));
    assert!(scenario::manual(None).unwrap().contains("certificate-stored"));
}

#[test]
fn a_parameter_stands_for_values_of_its_own_type() {
    let text = "name: x\nversion: 1\nmatrix: { size: { small: { n: 1, say: \"1\" }, big: { n: 2, say: two } }, mqtt: [v3.1.1] }\nsteps:\n  - wait-for: { ca: sign-csr, times: \"${size.n}\" }\n  - wait-serial: ${size.say} of ${device}\n";
    let file = load(text).unwrap();
    let rows: Vec<_> = file.scenarios.iter().map(|s| s.row.as_str()).collect();
    assert_eq!(rows, ["size=small,mqtt=v3.1.1", "size=big,mqtt=v3.1.1"]);
    let scenario = file.scenarios[1].for_device("dev-7").unwrap();
    let watches: Vec<_> = scenario.steps.iter().map(|s| format!("{:?}", s.watch.as_ref().unwrap())).collect();
    assert_eq!(watches, ["ca request sign-csr, 2 times", "`two of dev-7` on the console"]);
    assert_eq!(device_core::config::MqttVersion::from(scenario.device.mqtt), device_core::config::MqttVersion::V311);
}

#[test]
fn what_a_scenario_needs_follows_from_its_steps() {
    let file =
        load(&scenario_of("- power-on: { cut-before: { write: key } }\n- broker: kill\n- clock: { jump: 1d }\n- provision: {}"))
            .unwrap();
    let needs: Vec<_> = file.scenarios[0].needs.iter().map(ToString::to_string).collect();
    assert_eq!(needs, ["http", "power-cut", "clock-jump", "console"]);
    assert!(file.scenarios[0].broker.exclusive);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever is done to a scenario's text, it loads or is refused, soon, with a report that can be shown.
    #[test]
    fn mutated_scenarios_never_panic_or_hang(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..6u8, any::<char>(), 0..40usize), 1..8),
    ) {
        let paths = scenarios();
        let mut text: Vec<char> = std::fs::read_to_string(which.get(&paths)).unwrap().chars().collect();
        for (at, kind, any, length) in edits {
            if text.is_empty() {
                break;
            }
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            match kind {
                0 => { text.drain(at..end); }
                1 => text.insert(at, any),
                2 => text[at] = *['{', '}', '[', ']', ':', '\t', '\n', '"', '\'', '&', '*', '$', '-', '#', '|', '!'].get(length % 16).unwrap(),
                3 => { let piece: Vec<char> = text[at..end].to_vec(); text.splice(at..at, piece); }
                4 => { text.truncate(at); }
                _ => { let piece: Vec<char> = text[at..end].iter().rev().copied().collect(); text.splice(at..end, piece); }
            }
        }
        let text: String = text.into_iter().collect();
        let began = std::time::Instant::now();
        match load(&text) {
            Ok(file) => { file.warnings.render(false); }
            Err(wrong) => prop_assert!(!wrong.render(false).is_empty()),
        }
        prop_assert!(began.elapsed() < std::time::Duration::from_secs(5), "took {:?}", began.elapsed());
    }

    #[test]
    fn any_bytes_are_refused_politely(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Err(wrong) = scenario::read(Path::new("x.yaml"), &bytes) {
            prop_assert!(!wrong.render(false).is_empty());
        }
    }
}
