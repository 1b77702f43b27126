//! Vocabularies: what the log lines of somebody else's firmware mean, in the reports that scenarios and diagnoses know.
//!
//! ```yaml
//! vocabulary: 1
//! extends: [esp-idf]
//! lines:
//!   - match: 'cloud: session up, resumed=(?<session_present>[01])'
//!     says: mqtt-connected
//!   - match: 'cloud: gave up: (?<why>.*)'
//!     says: mqtt-connect-failed
//!     with: { why: failed, detail: '${why}' }
//! ```
//!
//! A line means the first entry whose pattern it meets. `says` names a report; its fields come from the pattern's groups of the same
//! name, or from `with`. Firmware often says in one line why a connection failed and in another which one: `notes` keeps groups and
//! words until a line that `says` something uses them as `${note}`. What is noted and never used is a failed connection to the broker.

mod built_in;

pub use built_in::{BUILT_IN, built_in};

use crate::pattern::Pattern;
use crate::scenario::problem::{Diagnostics, Problem, choice};
use crate::scenario::typed;
use crate::scenario::value::Text;
use crate::scenario::yaml::{self, FILE_MAX, Node, Value};
use device_core::report::Report;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

/// The most entries of a vocabulary.
pub const ENTRIES_MAX: usize = 500;
/// The longest word that a group or a note gives, in bytes; the rest is cut.
const WORD_MAX: usize = 200;
/// What a field is when a note that it uses was never made.
const UNKNOWN: &str = "unknown";

/// What lines mean.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    entries: Vec<Entry>,
}

/// What one kind of line means.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Entry {
    /// A regular expression that the line meets.
    #[serde(rename = "match")]
    pattern: Option<Pattern>,
    /// The report that the line is.
    says: Option<String>,
    /// Its fields, where no group has a field's name; `${name}` is a group, or a note.
    with: BTreeMap<String, Text>,
    /// Words to keep for a line that says what failed.
    notes: BTreeMap<String, Text>,
    /// It only follows from another line, or says less: it counts when nothing else has told of trouble, or is noted.
    follows: bool,
}

/// A vocabulary's file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Contents {
    vocabulary: u32,
    extends: Vec<String>,
    lines: Vec<Entry>,
}

/// What a line of the log means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// The report that it is.
    pub report: Report,
    /// Whether it only follows from another line.
    pub follows: bool,
}

/// Notes that were made and are not used yet.
#[derive(Clone, Debug, Default)]
pub struct Notes(BTreeMap<String, String>);

/// Reads a vocabulary's file.
///
/// # Errors
/// Everything that is wrong in it, with places and remedies.
pub fn load(path: &Path) -> Result<Vocabulary, Diagnostics> {
    read(path, &crate::scenario::bytes(path)?)
}

/// The vocabulary of that name: a built-in one, or a file.
///
/// # Errors
/// As [`load`].
pub fn named(name: &str) -> Result<Cow<'static, Vocabulary>, Diagnostics> {
    match built_in(name) {
        Some(known) => Ok(Cow::Borrowed(known)),
        None => load(Path::new(name)).map(Cow::Owned),
    }
}

/// Whether these bytes mean to be a vocabulary and not a scenario.
pub fn is_one(bytes: &[u8]) -> bool {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    yaml::parse(text).is_ok_and(|doc| doc.get("vocabulary").is_some())
}

/// Reads a vocabulary from bytes; the file's name is for reports only.
///
/// # Errors
/// As [`load`].
pub fn read(name: &Path, bytes: &[u8]) -> Result<Vocabulary, Diagnostics> {
    if bytes.len() > FILE_MAX {
        return Err(Diagnostics::unreadable(name, format!("it has more than {FILE_MAX} bytes"), "leave out what is not needed"));
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(_) => return Err(Diagnostics::unreadable(name, "it is not UTF-8 text", "save it as UTF-8")),
    };
    let wrong = |problems| Diagnostics::new(name, text, problems);
    let doc = yaml::parse(text).map_err(wrong)?;
    let contents: Contents = typed::read(&doc).map_err(wrong)?;
    let mut problems = Vec::new();
    let place = |key: &str| doc.get(key).map_or(doc.at.clone(), |node| node.at.clone());
    if contents.vocabulary != 1 {
        problems.push(Problem::new(place("vocabulary"), "no version that is known", "write `vocabulary: 1`"));
    }
    if contents.lines.len() > ENTRIES_MAX {
        problems.push(Problem::new(
            place("lines"),
            format!("{} entries", contents.lines.len()),
            format!("allowed: up to {ENTRIES_MAX}"),
        ));
    }
    let nodes: &[Node] = match doc.get("lines").map(|node| &node.value) {
        Some(Value::List(nodes)) => nodes,
        _ => &[],
    };
    let noted: Vec<&str> = contents.lines.iter().flat_map(|entry| entry.notes.keys()).map(String::as_str).collect();
    for (entry, node) in contents.lines.iter().zip(nodes) {
        check(entry, node, &noted, !contents.extends.is_empty(), &mut problems);
    }
    let mut vocabulary = Vocabulary { entries: contents.lines };
    for extended in &contents.extends {
        match built_in(extended) {
            Some(other) => vocabulary.entries.extend(other.entries.iter().cloned()),
            None => {
                let help = choice(extended, &BUILT_IN.map(|(name, _)| name));
                problems.push(Problem::new(place("extends"), format!("unknown vocabulary `{extended}`"), help));
            }
        }
    }
    if problems.is_empty() { Ok(vocabulary) } else { Err(wrong(problems)) }
}

/// What is wrong with one entry.
fn check(entry: &Entry, node: &Node, noted: &[&str], extends: bool, problems: &mut Vec<Problem>) {
    let place = |key: &str| node.get(key).map_or(node.at.clone(), |node| node.at.clone());
    let Some(pattern) = &entry.pattern else {
        problems.push(Problem::new(node.at.clone(), "no `match`", "say which lines are meant: `match: 'session up'`"));
        return;
    };
    let groups: Vec<&str> = pattern.groups().collect();
    let known = |name: &str| groups.contains(&name) || noted.contains(&name) || extends;
    for (key, text) in [("with", &entry.with), ("notes", &entry.notes)]
        .into_iter()
        .flat_map(|(key, map)| map.values().map(move |text| (key, text)))
    {
        for name in names_in(&text.0).filter(|name| !known(name)) {
            let help = format!("name a group in the pattern: `(?<{name}>…)`, or note it in another entry");
            problems.push(Problem::new(place(key), format!("`${{{name}}}`, which is no group of this pattern and no note"), help));
        }
    }
    let Some(says) = &entry.says else {
        if entry.notes.is_empty() {
            problems.push(Problem::new(
                node.at.clone(),
                "neither `says` nor `notes`",
                "name the report that the line is: `says: mqtt-connected`",
            ));
        }
        return;
    };
    let Some(word) = Report::WORDS.iter().find(|word| word.name == says) else {
        let names: Vec<&str> = Report::WORDS.iter().map(|word| word.name).collect();
        let near = crate::scenario::problem::nearest(says, names.iter().copied());
        let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
        problems.push(Problem::new(
            place("says"),
            format!("unknown report `{says}`"),
            format!("{near}`harness steps` lists the reports"),
        ));
        return;
    };
    for field in word.fields.iter().filter(|field| !groups.contains(field) && !entry.with.contains_key(**field)) {
        let help = format!("name a group `(?<{field}>…)` in the pattern, or write `with: {{ {field}: … }}`");
        problems.push(Problem::new(place("says"), format!("`{says}` without its field `{field}`"), help));
    }
    for (field, text) in &entry.with {
        if !word.fields.contains(&field.as_str()) {
            problems.push(Problem::new(place("with"), format!("`{says}` has no field `{field}`"), choice(field, word.fields)));
        } else if !text.0.contains("${") && !Report::field_can_be(says, field, &text.0) {
            problems.push(Problem::new(
                place("with"),
                format!("`{field}: {}`, which it cannot be", text.0),
                format!("an example: `{}`", word.example),
            ));
        }
    }
}

/// The names that stand as `${name}` in a text.
fn names_in(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name)
}

impl Vocabulary {
    /// What a line means, if it means anything; it may only be noted.
    pub fn meaning(&self, line: &str, notes: &mut Notes) -> Option<Meaning> {
        let (entry, groups) = self.entries.iter().find_map(|entry| Some((entry, entry.pattern.as_ref()?.captures(line)?)))?;
        let group = |name: &str| groups.name(name).map(|group| group.as_str().to_owned());
        let mut word = |name: &str| group(name).or_else(|| notes.0.get(name).cloned()).unwrap_or_else(|| UNKNOWN.into());
        let made: Vec<(String, String)> =
            entry.notes.iter().map(|(name, text)| (name.clone(), filled(&text.0, &mut word))).collect();
        let report = entry.says.as_ref().and_then(|says| {
            let field = |field: &str| {
                let text = match entry.with.get(field) {
                    Some(text) => filled(&text.0, &mut |name| {
                        group(name).or_else(|| notes.0.get(name).cloned()).unwrap_or_else(|| UNKNOWN.into())
                    }),
                    None => group(field)?,
                };
                // A field is read as a line shows it.
                Some(text[..text.floor_char_boundary(WORD_MAX.min(text.len()))].replace('\\', "\\\\"))
            };
            Report::from_fields(says, field)?.ok()
        });
        if report.is_some() {
            notes.0.clear();
        }
        if !entry.follows || notes.0.is_empty() {
            notes.0.extend(made);
        }
        report.map(|report| Meaning { report, follows: entry.follows })
    }
}

impl Notes {
    /// What is noted and was not used, as the failed connection that it most likely is.
    pub fn rest(&mut self) -> Option<Report> {
        let mut notes = std::mem::take(&mut self.0);
        let why = notes.remove("why")?;
        Some(Report::MqttConnectFailed { why, detail: notes.remove("detail").unwrap_or_default() })
    }
}

/// The text with its `${name}` filled in.
fn filled(text: &str, word: &mut dyn FnMut(&str) -> String) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        match after.split_once('}') {
            Some((name, after)) => {
                out.push_str(&word(name));
                rest = after;
            }
            None => {
                out.push_str("${");
                rest = after;
            }
        }
    }
    out + rest
}
