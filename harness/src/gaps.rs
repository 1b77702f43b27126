//! Known gaps: trials that a target is known to fail, each with its reason, checked so that no entry outlives what it excuses.
//!
//! `known-gaps.yaml` lies in a folder around the scenarios it speaks of:
//!
//! ```yaml
//! version: 1
//! gaps:
//!   - scenario: tls/cipher-suites[offer=only-1.2]   # a trial's name; without a row: every row of the file
//!     target: qemu
//!     reason: Mbed TLS offers every suite it is built with
//! ```
//!
//! A trial that is named there is run all the same: when it fails, that is the gap; when it passes, the entry is stale and that is a
//! failure. What the testbed broke stays inconclusive.

use crate::runner::Trial;
use crate::scenario::problem::{Diagnostics, Problem};
use crate::scenario::yaml::{Node, Value};
use crate::scenario::{self, typed, yaml};
use crate::target;
use crate::verdict::{Finding, Judgement, Verdict};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file's name.
pub const FILE: &str = "known-gaps.yaml";
/// Entries of one file at most.
const GAPS_MAX: usize = 500;

/// Why a trial is known to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// In a sentence.
    pub reason: String,
    /// Where that is said: `scenarios/known-gaps.yaml:7`.
    pub place: String,
}

impl Gap {
    /// What becomes of a judgement when the trial is known to fail.
    pub fn judge(&self, mut judgement: Judgement) -> Judgement {
        match judgement.verdict {
            Verdict::Fail => {
                let mut gap = Finding::new(format!("known gap: {} ({})", self.reason, self.place));
                gap.near = judgement.findings.iter().filter_map(|finding| finding.text.lines().next().map(String::from)).collect();
                gap.place = judgement.findings.first().and_then(|finding| finding.place.clone());
                Judgement { verdict: Verdict::KnownGap, findings: vec![gap], ..judgement }
            }
            Verdict::Pass | Verdict::PassWithWarnings => {
                let text = format!("the gap is closed: this trial passes, and {} says that it cannot", self.place);
                judgement.fail(Finding::new(text).help("remove that entry"));
                judgement
            }
            Verdict::KnownGap | Verdict::Inconclusive | Verdict::Skip => judgement,
        }
    }
}

/// The known gaps of every folder that scenarios were found in.
#[derive(Debug, Default)]
pub struct Gaps {
    files: BTreeMap<PathBuf, Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    /// A trial's name, or a file's.
    scenario: String,
    target: String,
    gap: Arc<Gap>,
}

/// An entry as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    scenario: String,
    target: String,
    reason: String,
}

impl Gaps {
    /// The gap that a trial is, if it is one. The file that counts is the nearest one in a folder around the scenario's; it is read once.
    ///
    /// # Errors
    /// All that is wrong with that file: a scenario or a target that does not exist, an entry without a reason, an entry twice.
    pub fn of(&mut self, trial: &Trial) -> Result<Option<Arc<Gap>>, Diagnostics> {
        let folders = trial.scenario.path.ancestors().skip(1);
        let Some(file) = folders.map(|folder| folder.join(FILE)).find(|file| file.is_file()) else { return Ok(None) };
        if !self.files.contains_key(&file) {
            let entries = read(&file)?;
            self.files.insert(file.clone(), entries);
        }
        let whole = trial.name.split('[').next().unwrap_or_default();
        let meant = |entry: &&Entry| entry.target == trial.facts.name && (entry.scenario == trial.name || entry.scenario == whole);
        Ok(self.files[&file].iter().find(meant).map(|entry| entry.gap.clone()))
    }
}

fn read(file: &Path) -> Result<Vec<Entry>, Diagnostics> {
    let source = std::fs::read_to_string(file)
        .map_err(|e| Diagnostics::unreadable(file, e.to_string(), "save it as UTF-8 text that can be read"))?;
    let wrong = |problems| Diagnostics::new(file, &source, problems);
    let doc = yaml::parse(&source).map_err(wrong)?;
    let mut problems = Vec::new();
    let mut entries: Vec<Entry> = Vec::new();
    let Some(items) = items(&doc, &mut problems) else { return Err(wrong(problems)) };
    for item in items {
        match typed::read::<Written>(item) {
            Err(found) => problems.extend(found),
            Ok(written) => {
                let at = || item.at.clone();
                if let Err((met, help)) = check(file, &written) {
                    problems.push(Problem::new(at(), met, help));
                }
                if entries.iter().any(|known| (&known.scenario, &known.target) == (&written.scenario, &written.target)) {
                    problems.push(Problem::new(at(), format!("{} stands twice", written.scenario), "keep one"));
                }
                let line = source[..item.at.start.min(source.len())].matches('\n').count() + 1;
                let gap = Arc::new(Gap { reason: written.reason, place: format!("{}:{line}", file.display()) });
                entries.push(Entry { scenario: written.scenario, target: written.target, gap });
            }
        }
    }
    if problems.is_empty() { Ok(entries) } else { Err(wrong(problems)) }
}

/// The entries of the document, if it is one.
fn items<'a>(doc: &'a Node, problems: &mut Vec<Problem>) -> Option<&'a [Node]> {
    let at = |key: &str| doc.get(key).map_or(doc.at.clone(), |node| node.at.clone());
    let one = Value::Scalar { text: "1".into(), quoted: false };
    if doc.get("version").is_none_or(|version| version.value != one) {
        problems.push(Problem::new(at("version"), "no version that is known here", "write `version: 1`"));
    }
    for (key, _) in doc.entries() {
        if !matches!(key.text.as_str(), "version" | "gaps") {
            problems.push(Problem::new(key.at.clone(), format!("the key `{}`", key.text), "allowed: version, gaps"));
        }
    }
    match doc.get("gaps").map(|gaps| &gaps.value) {
        Some(Value::List(items)) if items.len() <= GAPS_MAX && problems.is_empty() => Some(items),
        Some(Value::List(items)) if items.len() > GAPS_MAX => {
            problems.push(Problem::new(at("gaps"), format!("{} gaps", items.len()), format!("allowed: up to {GAPS_MAX}")));
            None
        }
        Some(Value::List(_)) => None,
        _ => {
            let help = "allowed: a list, such as `- { scenario: tls/insecure, target: qemu, reason: … }`; `[]` when there is none";
            problems.push(Problem::new(at("gaps"), "no list of gaps", help));
            None
        }
    }
}

/// Whether there is what an entry names: met and help, if not.
fn check(file: &Path, written: &Written) -> Result<(), (String, String)> {
    target::facts(&written.target).map_err(|e| (format!("the target `{}`", written.target), e.help))?;
    if written.reason.trim().is_empty() {
        return Err(("no reason".into(), "say why the target cannot do it, in a sentence".into()));
    }
    let (name, row) = match written.scenario.split_once('[') {
        Some((name, row)) => (name, row.strip_suffix(']').map(Some).unwrap_or(None)),
        None => (written.scenario.as_str(), None),
    };
    let folder = file.parent().unwrap_or(Path::new(""));
    let path = folder.join(format!("{name}.yaml"));
    if !path.is_file() {
        let met = format!("the scenario `{name}`, which does not exist");
        return Err((
            met,
            format!("there is no {}: name a scenario's file below this one's folder, or remove the entry", path.display()),
        ));
    }
    // A file that is wrong is told by whoever runs it.
    let (Some(row), Ok(rows)) = (row, scenario::load(&path)) else { return Ok(()) };
    if rows.scenarios.iter().any(|scenario| scenario.row == row) {
        return Ok(());
    }
    let names: Vec<_> = rows.scenarios.iter().map(|scenario| format!("[{}]", scenario.row)).collect();
    Err((format!("the row `{row}`, which {name} does not have"), format!("it has {}", names.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Equipment;

    const SCENARIO: &str = "name: x\nversion: 1\nmatrix: { mqtt: [v5, v3.1.1] }\nsteps:\n  - power-on: {}\n";

    /// A folder of scenarios with these gaps, and the trials of the one scenario in it.
    fn folder(gaps: &str) -> (tempfile::TempDir, Vec<Trial>) {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("scenarios");
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(folder.join("sub/x.yaml"), SCENARIO).unwrap();
        std::fs::write(folder.join(FILE), gaps).unwrap();
        let facts = target::TARGETS[0];
        let rows = scenario::load(&folder.join("sub/x.yaml")).unwrap();
        let trial = |row| Trial { equipment: Equipment::default(), ..Trial::new(Arc::new(row), facts, 1) };
        (home, rows.into_iter().map(trial).collect())
    }

    fn judged(verdict: Verdict) -> Judgement {
        Judgement { verdict, findings: vec![Finding::new("why\nand more")], warnings: vec![] }
    }

    #[test]
    fn a_gap_is_a_row_or_a_whole_file_of_one_target() {
        let name = target::TARGETS[0].name;
        let (_home, trials) =
            folder(&format!("version: 1\ngaps:\n  - {{ scenario: 'sub/x[mqtt=v5]', target: {name}, reason: no v5 }}\n"));
        let mut gaps = Gaps::default();
        let found = gaps.of(&trials[0]).unwrap().unwrap();
        assert!(found.reason == "no v5" && found.place.ends_with("known-gaps.yaml:3"), "{found:?}");
        assert_eq!(gaps.of(&trials[1]).unwrap(), None);

        let (_home, trials) = folder(&format!("version: 1\ngaps:\n  - {{ scenario: sub/x, target: {name}, reason: nothing }}\n"));
        let mut gaps = Gaps::default();
        assert!(trials.iter().all(|trial| gaps.of(trial).unwrap().is_some()));
        let other = Trial { facts: target::TARGETS[1], ..trials[0].clone() };
        assert_eq!(gaps.of(&other).unwrap(), None, "of another target");
    }

    #[test]
    fn what_no_longer_exists_is_a_mistake() {
        let name = target::TARGETS[0].name;
        for (entry, complaint) in [
            (format!("{{ scenario: sub/y, target: {name}, reason: r }}"), "does not exist"),
            (format!("{{ scenario: 'sub/x[mqtt=v4]', target: {name}, reason: r }}"), "does not have"),
            (format!("{{ scenario: sub/x, target: {name}, reason: '' }}"), "no reason"),
            ("{ scenario: sub/x, target: toaster, reason: r }".into(), "toaster"),
            (format!("{{ scenario: sub/x, target: {name}, reasons: r }}"), "reasons"),
            (
                format!("{{ scenario: sub/x, target: {name}, reason: r }}\n  - {{ scenario: sub/x, target: {name}, reason: s }}"),
                "twice",
            ),
        ] {
            let (_home, trials) = folder(&format!("version: 1\ngaps:\n  - {entry}\n"));
            let report = Gaps::default().of(&trials[0]).unwrap_err().render(false);
            assert!(report.contains(complaint), "{report}");
        }
        for whole in
            ["gaps: []\n", "version: 2\ngaps: []\n", "version: 1\n", "version: 1\ngaps: {}\n", "version: 1\ngaps: []\nmore: 1\n"]
        {
            let (_home, trials) = folder(whole);
            assert!(Gaps::default().of(&trials[0]).is_err(), "{whole}");
        }
        let (_home, trials) = folder("version: 1\ngaps: []\n");
        assert_eq!(Gaps::default().of(&trials[0]).unwrap(), None);
    }

    #[test]
    fn a_gap_that_is_closed_is_a_failure() {
        let gap = Gap { reason: "too small".into(), place: "known-gaps.yaml:3".into() };
        let open = gap.judge(judged(Verdict::Fail));
        assert_eq!(open.verdict, Verdict::KnownGap);
        assert_eq!(open.findings[0].text, "known gap: too small (known-gaps.yaml:3)");
        assert_eq!(open.findings[0].near, ["why"]);
        for passed in [Verdict::Pass, Verdict::PassWithWarnings] {
            let closed = gap.judge(Judgement { findings: vec![], ..judged(passed) });
            assert_eq!(closed.verdict, Verdict::Fail);
            assert!(closed.findings[0].text.contains("known-gaps.yaml:3"));
        }
        for other in [Verdict::Inconclusive, Verdict::Skip] {
            assert_eq!(gap.judge(judged(other)), judged(other));
        }
    }
}
