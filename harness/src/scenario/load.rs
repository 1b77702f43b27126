//! Scenario files: found, read within limits, and loaded into one scenario for each row of their matrix.

use super::check::{Origin, Text};
use super::problem::{Diagnostics, Problem, nearest};
use super::yaml::{self, FILE_MAX};
use super::{Dialect, Scenario, header::Capability, wokwi};
use crate::matrix;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// How deep folders of scenarios may be.
const FOLDERS_MAX: usize = 16;
/// Stands for the device's id while a file is checked.
const SAMPLE_DEVICE: &str = "device_0070";

/// A file that can be used.
#[derive(Debug)]
pub struct File {
    /// One for each row of its matrix, in order; just one without a matrix.
    pub scenarios: Vec<Scenario>,
    /// What is odd about it.
    pub warnings: Diagnostics,
}

impl File {
    /// How many rows it has.
    pub fn len(&self) -> usize {
        self.scenarios.len()
    }
    /// Never: a file that can be used has a row.
    pub fn is_empty(&self) -> bool {
        self.scenarios.is_empty()
    }
}

impl IntoIterator for File {
    type Item = Scenario;
    type IntoIter = std::vec::IntoIter<Scenario>;
    fn into_iter(self) -> Self::IntoIter {
        self.scenarios.into_iter()
    }
}

/// Loads a file.
///
/// # Errors
/// All that is wrong with it.
pub fn load(path: &Path) -> Result<File, Diagnostics> {
    read(path, &bytes(path)?)
}

/// Loads a file's bytes; `path` is only its name.
///
/// # Errors
/// All that is wrong with it.
pub fn read(path: &Path, bytes: &[u8]) -> Result<File, Diagnostics> {
    let unreadable = |met: String, help: &str| Err(Diagnostics::unreadable(path, met, help));
    if bytes.len() > FILE_MAX {
        return unreadable(format!("more than {FILE_MAX} bytes"), "a scenario is a page or two of text; split it");
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return unreadable("UTF-16 text".into(), "save it as UTF-8");
    }
    let text = String::from_utf8_lossy(bytes);
    let source = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let sha256 = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    let file = Arc::new(Text { path: path.to_path_buf(), source: source.to_string(), sha256, secrets: OnceLock::new() });
    let wrong = |problems| Diagnostics::new(path, source, problems);

    let (doc, mut problems) = yaml::parse_loosely(source).map_err(&wrong)?;
    let dialect = wokwi::dialect(&doc);
    if let Err(error) = std::str::from_utf8(bytes) {
        let at = error.valid_up_to();
        if dialect == Dialect::Own {
            let line = bytes[..at].iter().filter(|b| **b == b'\n').count() + 1;
            return unreadable(format!("byte {at} (line {line}) is not UTF-8 text"), "save it as UTF-8");
        }
        // The text is the same up to there, but for the mark at its beginning.
        let at = at.saturating_sub(text.len() - source.len());
        problems.push(Problem::new(at..at + '\u{fffd}'.len_utf8(), "a byte that is not UTF-8 text", "save it as UTF-8"));
    }
    match dialect {
        Dialect::Wokwi => problems.iter_mut().for_each(|problem| problem.warning = true),
        Dialect::Own if problems.is_empty() => {}
        Dialect::Own => return Err(wrong(problems)),
    }
    let doc = wokwi::as_read(doc, dialect, source, &mut problems);
    let mut rows = if dialect == Dialect::Wokwi && doc.get("matrix").is_none() {
        vec![matrix::Row { name: String::new(), doc: doc.clone() }]
    } else {
        matrix::expand(&doc, &mut problems)
    };
    let no_rows = rows.is_empty();
    if no_rows {
        // The matrix is wrong: what else is wrong can still be said, without what depends on it.
        rows.push(matrix::Row { name: String::new(), doc: doc.clone() });
    }
    let total = rows.len();
    let mut scenarios = Vec::new();
    let mut seen: Vec<(Problem, usize, String)> = Vec::new();
    for row in rows {
        let name = row.name.clone();
        let mut found = Vec::new();
        scenarios.extend(Arc::new(Origin { file: file.clone(), row, dialect }).check(SAMPLE_DEVICE, &mut found));
        found.retain(|p| !no_rows || !source.get(p.at.clone()).is_some_and(|text| text.contains("${")));
        for problem in found {
            match seen.iter_mut().find(|(known, ..)| *known == problem) {
                Some((_, count, _)) => *count += 1,
                None => seen.push((problem, 1, name.clone())),
            }
        }
    }
    let secrets: BTreeSet<_> = scenarios.iter().flat_map(Scenario::own_secrets).collect();
    file.secrets.get_or_init(|| secrets.into_iter().collect());
    for (mut problem, count, row) in seen {
        if count < total {
            problem.met = format!("{} (with {row})", problem.met);
        }
        problems.push(problem);
    }
    let problems = wrong(problems);
    if problems.problems.iter().all(|p| p.warning) { Ok(File { scenarios, warnings: problems }) } else { Err(problems) }
}

/// A file's bytes, up to one more than a scenario may have.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, Diagnostics> {
    let unreadable = |met: String, help: String| Diagnostics::unreadable(path, met, help);
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => unreadable("there is no such file".into(), missing_help(path)),
        _ => unreadable(error.to_string(), String::new()),
    })?;
    if metadata.is_dir() {
        return Err(unreadable(
            "it is a folder".into(),
            "name the files in it; the commands `run` and `check` take folders".into(),
        ));
    }
    if !metadata.is_file() {
        return Err(unreadable("it is not a file, but a pipe, a socket or a device".into(), "name a file".into()));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(FILE_MAX).unwrap_or(u64::MAX).saturating_add(1);
    std::fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| unreadable(error.to_string(), String::new()))?;
    Ok(bytes)
}

fn missing_help(path: &Path) -> String {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = path.file_name().map(|n| n.to_string_lossy().into_owned()) else { return String::new() };
    let Ok(entries) = std::fs::read_dir(folder) else { return format!("there is no folder {} either", folder.display()) };
    let names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    match nearest(&name, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {}?", folder.join(near).display()),
        None => format!("look into the folder {}", folder.display()),
    }
}

/// A folder or file of scenarios that could not be looked through.
#[derive(Debug, thiserror::Error)]
#[error("could not find scenarios in {}: {why}", path.display())]
pub struct FindError {
    /// Where.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

/// The scenario files among `paths`: a file is taken as it is, a folder is looked through for `*.yaml` and `*.yml`. Hidden entries,
/// `known-gaps.yaml`, `vocabulary.yaml` and links to folders are left out. Sorted, each once.
///
/// # Errors
/// A path that does not exist or cannot be read, or a folder without any scenario.
pub fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>, FindError> {
    let mut found = Vec::new();
    for path in paths {
        let before = found.len();
        if path.is_dir() {
            look(path, 0, &mut found)?;
            if found.len() == before {
                return Err(FindError { path: path.clone(), why: "no `*.yaml` file is in it".into() });
            }
        } else {
            found.push(path.clone());
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn look(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), FindError> {
    let failed = |error: std::io::Error| FindError { path: folder.to_path_buf(), why: error.to_string() };
    if depth > FOLDERS_MAX {
        return Err(FindError { path: folder.to_path_buf(), why: format!("more than {FOLDERS_MAX} folders in one another") });
    }
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with('.') || name == crate::gaps::FILE || name == "vocabulary.yaml" {
            continue;
        }
        if entry.file_type().map_err(failed)?.is_dir() {
            look(&path, depth + 1, found)?;
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            found.push(path);
        }
    }
    Ok(())
}

impl Scenario {
    /// The first capability this scenario needs that a target does not have.
    pub fn missing(&self, can: impl Fn(Capability) -> bool) -> Option<Capability> {
        self.needs.iter().copied().find(|need| !can(*need))
    }
}
