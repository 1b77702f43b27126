//! Compares a story with its golden: an insta snapshot beside the scenario, reviewed with `cargo insta review`.
//!
//! The files are insta's and are read by insta. Its assertion is not used: it panics, and prints in the middle of other trials.

use super::Story;
use crate::verdict::{Finding, Judgement};
use insta::Snapshot;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Lines of a difference shown at most.
const DIFF_MAX: usize = 60;
/// The largest golden that is read, in bytes.
const GOLDEN_MAX: u64 = 1 << 20;

/// Where a scenario's goldens are, and what may be done there.
#[derive(Clone, Debug)]
pub struct Goldens {
    /// The folder `golden` beside the scenario's file.
    pub folder: PathBuf,
    /// The scenario's file name without its extension.
    pub scenario: String,
    /// The row of the matrix; its values are told as `<parameter>`, since all rows share a golden, unless it is named after them.
    pub row: BTreeMap<String, String>,
    /// What to do with a story that differs.
    pub update: Update,
}

/// What to do with a story that is not the accepted one. The trial fails in any case, unless the story is accepted at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Nothing is written.
    No,
    /// It is put beside the golden as `.snap.new`, for `cargo insta review`.
    Pending,
    /// It becomes the golden.
    Accept,
}

impl Update {
    /// As insta decides it: `INSTA_UPDATE` (`no`, `always`, anything else for review) and never in CI.
    pub fn from_env() -> Update {
        let var = |name| std::env::var(name).ok();
        let in_ci = match var("CI").as_deref() {
            Some("" | "0" | "false") => false,
            None => var("TF_BUILD").is_some(),
            Some(_) => true,
        };
        match var("INSTA_UPDATE").as_deref() {
            _ if in_ci => Update::No,
            Some("no") => Update::No,
            Some("always" | "force") => Update::Accept,
            _ => Update::Pending,
        }
    }
}

impl Goldens {
    /// The goldens of the scenario in this file.
    pub fn beside(scenario: &Path, row: BTreeMap<String, String>, update: Update) -> Goldens {
        let folder = scenario.parent().unwrap_or(Path::new("")).join("golden");
        let stem = scenario.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Goldens { folder, scenario: stem, row, update }
    }

    fn file(&self, story: &Story) -> PathBuf {
        // A name comes from a scenario: it must not lead out of the folder.
        let safe =
            |name: &str| name.chars().map(|c| if c.is_alphanumeric() || "-_ ".contains(c) { c } else { '-' }).collect::<String>();
        self.folder.join(format!("{}__{}.snap", safe(&self.scenario), safe(&story.name)))
    }

    fn told(&self, story: &Story) -> String {
        let mut text = story.text.clone();
        // A golden that is named after a row's value is for those rows only, and may tell of it.
        for (parameter, value) in self.row.iter().filter(|(_, value)| !story.name.contains(value.as_str())) {
            text = replace_word(&text, value, &format!("<{parameter}>"));
        }
        text
    }
}

/// Compares the stories of a trial that went well with their goldens; one that differs or is missing makes it fail. What went wrong
/// already is not compared: its story is no candidate for a golden.
pub fn compare(stories: &[Story], goldens: &Goldens, judgement: &mut Judgement) {
    if !judgement.verdict.passed() {
        return;
    }
    for story in stories {
        if let Some(finding) = difference_of(story, goldens) {
            judgement.fail(finding.at(story.place.clone()));
        }
    }
}

fn difference_of(story: &Story, goldens: &Goldens) -> Option<Finding> {
    let file = goldens.file(story);
    let now = goldens.told(story);
    let golden = match read(&file) {
        Ok(golden) => golden,
        Err(why) => {
            let finding = Finding::new(format!("the golden {} cannot be read: {why}", file.display()));
            return Some(finding.help("delete it and accept the story anew"));
        }
    };
    let pending = file.with_extension("snap.new");
    if golden.as_deref().is_some_and(|golden| golden.trim_end() == now.trim_end()) {
        // What an earlier run left for review is settled.
        let _ = fs::remove_file(pending);
        return None;
    }
    let text = match &golden {
        Some(golden) => format!("the story is not the accepted one ({})\n{}", file.display(), difference(golden, &now)),
        None => format!("no accepted story ({})", file.display()),
    };
    let finding = Finding::new(text);
    let wrote = |to: &Path| write(to, &goldens.scenario, story, &now);
    match goldens.update {
        Update::No => Some(finding.help("run it where CI is not set, then `cargo insta review`")),
        Update::Pending => Some(match wrote(&pending) {
            Ok(()) => finding.help("look at it with `cargo insta review`, or take it with INSTA_UPDATE=always"),
            Err(why) => finding.help(format!("{} could not be written: {why}", pending.display())),
        }),
        Update::Accept => wrote(&file).err().map(|why| finding.help(format!("{} could not be written: {why}", file.display()))),
    }
}

fn read(file: &Path) -> Result<Option<String>, String> {
    match fs::metadata(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.to_string()),
        Ok(facts) if !facts.is_file() => return Err("it is no plain file".into()),
        Ok(facts) if facts.len() > GOLDEN_MAX => return Err(format!("it has more than {GOLDEN_MAX} bytes")),
        Ok(_) => {}
    }
    // Without this frame insta would take it for its oldest format, and say so on stderr.
    if !fs::read(file).map_err(|e| e.to_string())?.starts_with(b"---") {
        return Err("it is no insta snapshot".into());
    }
    let golden = Snapshot::from_file(file).map_err(|e| e.to_string())?;
    let text = golden.as_text().ok_or("it is no text")?;
    Ok(Some(text.to_string()))
}

/// Writes a snapshot as insta does. Rows of one matrix may write the same file at once: each writes its own and puts it in place whole.
fn write(to: &Path, scenario: &str, story: &Story, text: &str) -> io::Result<()> {
    let folder = to.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder)?;
    let about = serde_json::Value::from(format!("{scenario}: {}", story.name));
    let mut file = tempfile::Builder::new().prefix(".golden-").tempfile_in(folder)?;
    // YAML reads JSON strings.
    io::Write::write_all(&mut file, format!("---\nsource: harness\ndescription: {about}\n---\n{text}").as_bytes())?;
    #[cfg(unix)]
    file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.persist(to).map(drop).map_err(|e| e.error)
}

/// A line of the golden that is gone begins with `-`, a new one with `+`; lines around them are shown, the rest left out.
fn difference(golden: &str, now: &str) -> String {
    // Both end in a line's end, so that their last lines compare equal when they are.
    let [golden, now] = [golden, now].map(|text| format!("{}\n", text.trim_end()));
    let diff = similar::TextDiff::from_lines(&golden, &now);
    let shown = diff.unified_diff().context_radius(2).to_string();
    let lines: Vec<&str> = shown.lines().collect();
    let mut text = lines[..lines.len().min(DIFF_MAX)].join("\n");
    if lines.len() > DIFF_MAX {
        text += &format!("\n… and {} lines more", lines.len() - DIFF_MAX);
    }
    text
}

fn replace_word(text: &str, word: &str, by: &str) -> String {
    if word.is_empty() {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        let joined = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || "-_.".contains(c));
        let last = before.chars().next_back().or_else(|| out.chars().next_back());
        let whole = !joined(last) && !joined(after.chars().next().filter(|c| *c != '.'));
        out.push_str(before);
        out.push_str(if whole { by } else { word });
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{Place, Verdict};

    fn story(text: &str) -> Story {
        let place = Place { file: "happy.yaml".into(), line: 7, step: Some(3), name: "snapshot".into() };
        Story { name: "../story".into(), place, text: text.into() }
    }

    fn passed() -> Judgement {
        Judgement { verdict: Verdict::Pass, findings: vec![], warnings: vec![] }
    }

    fn goldens(folder: &Path, update: Update) -> Goldens {
        let row = BTreeMap::from([("tls".to_owned(), "1.3".to_owned()), ("security".to_owned(), "mutual-tls".to_owned())]);
        Goldens { folder: folder.join("golden"), scenario: "happy".into(), row, update }
    }

    fn judge(text: &str, folder: &Path, update: Update) -> Judgement {
        let mut judgement = passed();
        compare(&[story(text)], &goldens(folder, update), &mut judgement);
        judgement
    }

    #[test]
    fn a_golden_is_missing_then_pending_then_accepted_then_compared() {
        let folder = tempfile::tempdir().unwrap();
        let golden = folder.path().join("golden/happy__---story.snap");
        let pending = golden.with_extension("snap.new");

        assert_eq!(judge("a\nb\n", folder.path(), Update::No).verdict, Verdict::Fail);
        assert!(!folder.path().join("golden").exists(), "written although it must not");

        let judgement = judge("a\nb\n", folder.path(), Update::Pending);
        assert!(judgement.findings[0].help.as_deref().unwrap().contains("cargo insta review"), "{judgement:?}");
        // What `cargo insta review` does when a story is accepted.
        fs::rename(&pending, &golden).unwrap();
        assert_eq!(judge("a\nb\n", folder.path(), Update::No).verdict, Verdict::Pass);

        let judgement = judge("a\nc\n", folder.path(), Update::Pending);
        assert!(judgement.findings[0].text.contains("-b\n+c"), "{}", judgement.findings[0].text);
        assert!(pending.exists());
        assert_eq!(judge("a\nb\n", folder.path(), Update::No).verdict, Verdict::Pass);
        assert!(!pending.exists(), "what is settled is still pending");

        assert_eq!(judge("a\nc\n", folder.path(), Update::Accept).verdict, Verdict::Pass);
        assert_eq!(judge("a\nc\n", folder.path(), Update::No).verdict, Verdict::Pass);
    }

    #[test]
    fn insta_itself_agrees_with_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        judge("device\n  booting\n", folder.path(), Update::Accept);
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(folder.path().join("golden"));
        settings.set_prepend_module_to_snapshot(false);
        settings.bind(|| insta::assert_snapshot!("happy__---story", "device\n  booting\n"));
    }

    #[test]
    fn what_failed_already_is_not_compared() {
        let folder = tempfile::tempdir().unwrap();
        let mut judgement = Judgement::inconclusive("gone", "look");
        compare(&[story("a")], &goldens(folder.path(), Update::Accept), &mut judgement);
        assert!(!folder.path().join("golden").exists());
    }

    #[test]
    fn all_rows_share_a_golden() {
        let goldens = goldens(Path::new(""), Update::No);
        let told = goldens.told(&story("level mutual-tls, TLS 1.3. not mutual-tls-2 nor 11.3\n"));
        assert_eq!(told, "level <security>, TLS <tls>. not mutual-tls-2 nor 11.3\n");
        let named = Story { name: "over-mutual-tls".into(), ..story("level mutual-tls, TLS 1.3\n") };
        assert_eq!(goldens.told(&named), "level mutual-tls, TLS <tls>\n", "named after one row");
    }

    #[test]
    fn a_difference_shows_only_what_differs() {
        assert_eq!(difference("a\nb\nc", "a\nb\n"), "@@ -1,3 +1,2 @@\n a\n b\n-c");
    }

    #[test]
    fn hostile_goldens_are_findings() {
        let folder = tempfile::tempdir().unwrap();
        let golden = folder.path().join("golden/happy__---story.snap");
        fs::create_dir_all(&golden).unwrap();
        assert!(judge("a", folder.path(), Update::No).findings[0].text.contains("no plain file"));
        fs::remove_dir(&golden).unwrap();
        for content in [&b"---\n"[..], b"---\n\xff\xfe\n---\n", b"---\n[[[[\n---\nx", b"---\n!!binary {a\n---", b""] {
            fs::write(&golden, content).unwrap();
            assert_eq!(judge("a", folder.path(), Update::No).verdict, Verdict::Fail, "{content:?}");
        }
    }
}
