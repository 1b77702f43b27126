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
    scenario::find(&[home]).unwrap()
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
