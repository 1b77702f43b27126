//! A whole run in Markdown: the summary that GitHub shows on a job's page, or a file for a wiki.

use super::{Tally, Tries, console, console::Colour};
use crate::event::printable;
use crate::verdict::{Verdict, lasting};
use std::fmt::Write as _;
use std::time::Duration;

/// GitHub refuses a summary of more than 1 MiB a step; stories beyond this many bytes are left out, and counted.
pub const STORIES_MAX: usize = 900 * 1024;

/// The summary: the counts, what did not pass with its story, what passed on a retry only, what was skipped.
pub fn summary(run: &[Tries<'_>], all_took: Duration) -> String {
    let mut tally = Tally::default();
    run.iter().for_each(|tries| tally.add(tries.last.judgement.verdict));
    let mark = if tally.of(Verdict::Fail) > 0 {
        "❌"
    } else if tally.of(Verdict::Inconclusive) > 0 {
        "⚠️"
    } else {
        "✅"
    };
    let mut text = format!("## {mark} Scenarios: {} in {}\n\n", counted(tally.all(), "trial"), lasting(all_took));
    text += "| verdict | trials |\n|---|---:|\n";
    for verdict in Verdict::ALL.into_iter().filter(|verdict| tally.of(*verdict) > 0) {
        let _ = writeln!(text, "| {verdict} | {} |", tally.of(verdict));
    }
    let again: Vec<&Tries<'_>> = run.iter().filter(|tries| tries.passed_on_a_retry()).collect();
    if !again.is_empty() {
        let _ = writeln!(text, "| of these, passed on a retry | {} |", again.len());
    }
    let mut left_out = 0;
    for tries in run.iter().filter(|tries| matches!(tries.last.judgement.verdict, Verdict::Fail | Verdict::Inconclusive)) {
        let story = console::trial(&tries.last, Colour::Never);
        if text.len() + story.len() > STORIES_MAX {
            left_out += 1;
            continue;
        }
        let fence = fence(&story);
        let last = &tries.last;
        let (verdict, name, why) = (last.judgement.verdict, html(last.name), html(last.headline()));
        let _ = write!(
            text,
            "\n<details><summary><b>{verdict}</b> <code>{name}</code>: {why}</summary>\n\n{fence}text\n{story}{fence}\n\n</details>\n"
        );
    }
    if left_out > 0 {
        let _ = writeln!(text, "\n{} more did not pass; their stories are in the log.", counted(left_out, "trial"));
    }
    list(
        &mut text,
        "Passed on a retry",
        again.iter().map(|tries| {
            let why = tries.earlier.first().map(|earlier| earlier.headline()).unwrap_or_default();
            format!("<code>{}</code> {}; the first try: {}", html(tries.last.name), tries.in_words(), html(why))
        }),
    );
    for (verdict, title) in [(Verdict::KnownGap, "Known gaps"), (Verdict::Skip, "Skipped")] {
        let these = run.iter().filter(|tries| tries.last.judgement.verdict == verdict);
        let line = |tries: &Tries<'_>| {
            let last = &tries.last;
            format!("<code>{}</code> on {}: {}", html(last.name), html(last.target), html(last.headline()))
        };
        list(&mut text, title, these.map(line));
    }
    text
}

/// Lines of a list, as far as there is room.
fn list(text: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        let _ = writeln!(text, "\n### {title}\n");
    }
    for line in lines {
        if text.len() + line.len() > STORIES_MAX {
            let _ = writeln!(text, "- and more");
            break;
        }
        let _ = writeln!(text, "- {line}");
    }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// A fence that is longer than any in the text.
fn fence(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

/// Text inside of HTML inside of Markdown: neither takes anything in it for its own.
fn html(text: &str) -> String {
    let mut safe = String::new();
    for c in printable(text).chars() {
        match c {
            '&' | '<' | '>' | '"' | '\'' | '`' | '*' | '_' | '[' | ']' | '|' | '\\' | '~' | '#' | '@' | '!' | ':' | '$' => {
                let _ = write!(safe, "&#{};", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::tests::{a_run, judgements};
    use super::*;

    #[test]
    fn a_run_is_a_page() {
        let judgements = judgements();
        insta::assert_snapshot!(summary(&a_run(&judgements), Duration::from_millis(6_000)));
    }

    #[test]
    fn a_story_cannot_leave_its_fence_nor_a_name_its_place() {
        let mut judgements = judgements();
        judgements[1].findings[0].text = "```` </details> <script>".into();
        let mut run = a_run(&judgements);
        run[1].last.name = "a</code>|*b*";
        let page = summary(&run, Duration::ZERO);
        assert!(page.contains("\n`````text\n") && page.contains("\n`````\n"), "{page}");
        assert!(page.contains("<code>a&#60;/code&#62;&#124;&#42;b&#42;</code>"), "{page}");
    }

    #[test]
    fn a_run_of_thousands_of_failures_fits() {
        let mut judgements = judgements();
        judgements[1].findings[0].text = "long ".repeat(20_000);
        let many: Vec<_> = (0..50).flat_map(|_| a_run(&judgements)).collect();
        let page = summary(&many, Duration::ZERO);
        assert!(page.len() < 1024 * 1024 && page.contains("trials more did not pass"), "{}", page.len());
    }
}
