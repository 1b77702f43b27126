//! Annotations for GitHub Actions: workflow commands that show a verdict at the line of the scenario it is about.

use super::{Told, Tries};
use crate::event::printable;
use crate::scenario::{Diagnostics, problem::Problem};
use crate::verdict::{Finding, Verdict};
use std::borrow::Cow;
use std::path::{Component, Path};

/// The commands for one trial, a line each: an error when it did not pass, a warning when it passed on a retry only; nothing otherwise.
///
/// `repository` is the folder of the checkout, where the scenarios' paths are shown from; `here` is what they are relative to.
pub fn annotation(tries: &Tries<'_>, here: &Path, repository: &Path) -> String {
    let last = &tries.last;
    let (command, told, title) = match last.judgement.verdict {
        Verdict::Fail => ("error", last, format!("{} failed on {}", last.name, last.target)),
        Verdict::Inconclusive => ("error", last, format!("{}: the testbed broke", last.name)),
        _ => match tries.earlier.last() {
            Some(earlier) => ("warning", earlier, format!("{} {}", last.name, tries.in_words())),
            None => return String::new(),
        },
    };
    let line = told.judgement.findings.iter().find_map(|finding| finding.place.as_ref()).map_or(1, |place| place.line);
    let file = shown_from(repository, &here.join(tries.file));
    format!("::{command} file={},line={line},title={}::{}\n", property(&file), property(&title), message(&story(told)))
}

/// The commands for a scenario that cannot be used: an error at each mistake, a warning at what is only odd.
pub fn mistakes(file: &Path, wrong: &Diagnostics, here: &Path, repository: &Path) -> String {
    let file = property(&shown_from(repository, &here.join(file)));
    let command = |problem: &Problem| {
        let kind = if problem.warning { "warning" } else { "error" };
        let (line, column) = wrong.place(problem).unwrap_or((1, 1));
        let help = if problem.help.is_empty() { String::new() } else { format!("\nhelp: {}", problem.help) };
        let text = format!("{}{help}", problem.met);
        let text: Vec<_> = text.lines().map(printable).collect();
        format!("::{kind} file={file},line={line},col={column},title=the scenario is wrong::{}\n", message(&text.join("\n")))
    };
    wrong.problems.iter().map(command).collect()
}

/// Text that GitHub takes for no command of ours, whatever a device said in it: a line that begins with `::`, or holds `##[`, is one.
pub fn harmless(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| {
        let said = line.trim_start();
        let indent = &line[..line.len() - said.len()];
        if said.starts_with("::") { format!("{indent}\\{said}") } else { line.to_owned() }
    });
    lines.collect::<String>().replace("##[", "## [")
}

fn story(told: &Told<'_>) -> String {
    let mut lines = Vec::new();
    for Finding { text, near, help, .. } in &told.judgement.findings {
        lines.extend(text.lines().chain(near.iter().map(String::as_str)).map(|line| printable(line).into_owned()));
        lines.extend(help.iter().map(|help| format!("help: {}", printable(help))));
    }
    lines.join("\n")
}

fn shown_from(repository: &Path, file: &Path) -> String {
    let mut parts: Vec<Cow<'_, str>> = Vec::new();
    for part in file.strip_prefix(repository).unwrap_or(file).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if parts.last().is_some_and(|last| last != "..") => drop(parts.pop()),
            Component::RootDir => parts.push("".into()),
            part => parts.push(part.as_os_str().to_string_lossy()),
        }
    }
    parts.join("/")
}

fn message(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    message(&printable(text)).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{a_run, judgements};
    use super::*;

    #[test]
    fn what_did_not_pass_is_shown_at_its_line() {
        let judgements = judgements();
        let run = a_run(&judgements);
        let all: String = run.iter().map(|tries| annotation(tries, Path::new("/repo/firmware"), Path::new("/repo"))).collect();
        insta::assert_snapshot!(all);
    }

    #[test]
    fn nothing_a_device_says_is_a_command() {
        let mut judgements = judgements();
        judgements[1].findings[0].text = "100 %\r\n::set-env name=PATH::evil".into();
        let mut run = a_run(&judgements);
        run[1].last.name = "a,line=9::b";
        let said = annotation(&run[1], Path::new("/repo"), Path::new("/repo"));
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("100 %25%0A::set-env") && said.contains("title=a%2Cline=9%3A%3Ab failed"), "{said}");
        assert_eq!(harmless("ok\n  ::stop-commands::x\na ##[group]"), "ok\n  \\::stop-commands::x\na ## [group]");
    }

    #[test]
    fn files_are_shown_from_the_checkout() {
        for (file, shown) in [("/repo/a/../b/./c.yaml", "b/c.yaml"), ("/else/c.yaml", "/else/c.yaml"), ("c.yaml", "c.yaml")] {
            assert_eq!(shown_from(Path::new("/repo"), Path::new(file)), shown);
        }
    }
}
