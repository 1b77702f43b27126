//! What is wrong with a scenario file: each mistake with its place, what was met, what is allowed, and the nearest right word.

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity, SourceCode};
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Mistakes reported in one go; what comes after is counted only.
pub const PROBLEMS_MAX: usize = 25;
/// Characters of a rendered report's line.
const WIDTH: usize = 110;
/// Characters before a help text.
const INDENT: usize = 8;

/// One mistake, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Bytes of the file it concerns.
    pub at: Range<usize>,
    /// What was met, a lower-case fragment.
    pub met: String,
    /// What is allowed, or what to write instead.
    pub help: String,
    /// A warning does not keep the file from being used.
    pub warning: bool,
}

impl Problem {
    /// A mistake.
    pub fn new(at: Range<usize>, met: impl Into<String>, help: impl Into<String>) -> Problem {
        Problem { at, met: met.into(), help: help.into(), warning: false }
    }

    /// A warning.
    pub fn warning(at: Range<usize>, met: impl Into<String>, help: impl Into<String>) -> Problem {
        Problem { warning: true, ..Problem::new(at, met, help) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.met)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn severity(&self) -> Option<Severity> {
        Some(if self.warning { Severity::Warning } else { Severity::Error })
    }
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        (!self.help.is_empty()).then(|| Box::new(wrapped(&self.help)) as Box<dyn fmt::Display>)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(LabeledSpan::underline(self.at.clone()))))
    }
}

/// All that is wrong with one file. As a [`Diagnostic`] it shows each mistake in the file's text.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    name: String,
    source: Option<Arc<NamedSource<String>>>,
    /// In the order of the file.
    pub problems: Vec<Problem>,
    more: usize,
}

impl Diagnostics {
    /// Mistakes in a text.
    pub(crate) fn new(name: &Path, source: &str, mut problems: Vec<Problem>) -> Diagnostics {
        problems.sort_by_key(|p| (p.at.start, p.at.end));
        problems.dedup();
        let more = problems.len().saturating_sub(PROBLEMS_MAX);
        problems.truncate(PROBLEMS_MAX);
        for problem in &mut problems {
            problem.at = problem.at.start.min(source.len())..problem.at.end.min(source.len());
        }
        let name = name.display().to_string();
        let source = Some(Arc::new(NamedSource::new(&name, source.to_string())));
        Diagnostics { name, source, problems, more }
    }

    /// A file that could not be read as text at all.
    pub(crate) fn unreadable(name: &Path, met: impl Into<String>, help: impl Into<String>) -> Diagnostics {
        Diagnostics { name: name.display().to_string(), source: None, problems: vec![Problem::new(0..0, met, help)], more: 0 }
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Line and column of a problem, from 1 (characters), when the file could be read.
    pub fn place(&self, problem: &Problem) -> Option<(usize, usize)> {
        self.source.as_ref().map(|source| place(source.inner(), problem.at.start))
    }

    /// The whole report, at a fixed width.
    pub fn render(&self, colour: bool) -> String {
        let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let mut out = String::new();
        let handler = GraphicalReportHandler::new_themed(theme).with_width(WIDTH).with_context_lines(1).with_wrap_lines(false);
        match handler.render_report(&mut out, self) {
            Ok(()) => out,
            Err(fmt::Error) => self.to_string(),
        }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len() + self.more;
        let mistakes = self.problems.iter().filter(|p| !p.warning).count();
        match (&self.source, mistakes) {
            (None, _) => write!(f, "could not read {}: {}", self.name, self.problems.first().map_or("", |p| &p.met)),
            (_, 0) => write!(f, "{} can be used, with {}", self.name, counted(count, "warning")),
            _ if self.more > 0 => write!(f, "could not use {}: {count} mistakes, the first {PROBLEMS_MAX} shown", self.name),
            _ => write!(f, "could not use {}: {}", self.name, counted(mistakes, "mistake")),
        }
    }
}

/// Broken into lines at blanks only: a name is not torn at its hyphens.
fn wrapped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut column = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH - INDENT {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

impl std::error::Error for Diagnostics {}

impl Diagnostic for Diagnostics {
    fn severity(&self) -> Option<Severity> {
        Some(if self.problems.iter().all(|p| p.warning) { Severity::Warning } else { Severity::Error })
    }
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        match (&self.source, self.problems.first()) {
            (None, Some(problem)) => problem.help(),
            _ => None,
        }
    }
    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_deref().map(|s| s as &dyn SourceCode)
    }
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        self.source.is_some().then(|| Box::new(self.problems.iter().map(|p| p as &dyn Diagnostic)) as Box<dyn Iterator<Item = _>>)
    }
}

/// Line and column of a byte, from 1; columns count characters.
pub(super) fn place(source: &str, at: usize) -> (usize, usize) {
    let mut at = at.min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    let before = &source[..at];
    let start = before.rfind('\n').map_or(0, |n| n + 1);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}

/// The word of `allowed` nearest to `met`, if one is near enough to be what was meant.
pub fn nearest<'a>(met: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |word: &str| word.to_lowercase().replace(['_', ' '], "-");
    let met = plain(met);
    allowed
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&met, &plain(word)), word))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, word)| *distance <= 1 + met.len().max(word.len()) / 4)
        .map(|(_, word)| word)
}

/// `did you mean x? allowed: x, y`, as a help line.
pub fn choice(met: &str, allowed: &[&str]) -> String {
    let list = if allowed.is_empty() { "nothing".to_string() } else { allowed.join(", ") };
    match nearest(met, allowed.iter().copied()) {
        Some(word) => format!("did you mean `{word}`? allowed: {list}"),
        None => format!("allowed: {list}"),
    }
}
