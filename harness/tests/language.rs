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
