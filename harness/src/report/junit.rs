//! A whole run as JUnit XML, for the dashboards that read it: a suite for each folder of scenarios, a test case for each trial.
//!
//! A trial that failed has a `failure` with its story, one that the testbed broke an `error`, one that was skipped the capability that
//! is missing. Tries that failed before one that passed are `flakyFailure` or `flakyError`, as Maven's Surefire writes them.

use super::{Told, Tries, console, console::Colour};
use crate::verdict::Verdict;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestRerun, TestSuite, XmlString};
use std::collections::BTreeMap;
use std::time::Duration;

/// The document.
///
/// # Errors
/// When the XML cannot be written down, which what trials say cannot bring about.
pub fn document(run: &[Tries<'_>], all_took: Duration) -> Result<String, quick_junit::SerializeError> {
    let mut suites: BTreeMap<&str, TestSuite> = BTreeMap::new();
    for tries in run {
        let (folder, name) = apart(tries.last.name);
        let suite = suites.entry(folder).or_insert_with(|| TestSuite::new(text(folder)));
        let mut case = TestCase::new(text(&format!("{name}@{}", tries.last.target)), status(tries));
        case.set_classname(text(folder)).set_time(tries.last.took);
        case.extra.insert("file".into(), text(&tries.file.to_string_lossy()));
        suite.add_test_case(case);
        // The trials of a suite run beside each other: this is their time, not the clock's.
        suite.time = Some(suite.time.unwrap_or_default() + tries.last.took);
    }
    let mut report = Report::new("harness");
    report.set_time(all_took).add_test_suites(suites.into_values());
    report.to_string()
}

/// `happy/mutual-tls[mqtt=v5]` as folder and name.
fn apart(name: &str) -> (&str, &str) {
    let path = name.split('[').next().unwrap_or(name);
    match path.rfind('/') {
        Some(at) => (&name[..at], &name[at + 1..]),
        None => ("scenarios", name),
    }
}

fn status(tries: &Tries<'_>) -> TestCaseStatus {
    let last = &tries.last;
    let mut status = match last.judgement.verdict {
        Verdict::Pass | Verdict::PassWithWarnings => TestCaseStatus::success(),
        Verdict::Skip | Verdict::KnownGap => TestCaseStatus::skipped(),
        Verdict::Fail | Verdict::Inconclusive => TestCaseStatus::non_success(kind(last)),
    };
    status.set_message(text(last.headline())).set_type(last.judgement.verdict.word());
    if matches!(last.judgement.verdict, Verdict::Fail | Verdict::Inconclusive) {
        status.set_description(text(&console::trial(last, Colour::Never)));
    }
    status.add_reruns(tries.earlier.iter().map(|earlier| {
        let mut rerun = TestRerun::new(kind(earlier));
        rerun.set_time(earlier.took).set_message(text(earlier.headline())).set_type(earlier.judgement.verdict.word());
        rerun.set_description(text(&console::trial(earlier, Colour::Never)));
        rerun
    }));
    status
}

fn kind(told: &Told<'_>) -> NonSuccessKind {
    match told.judgement.verdict {
        Verdict::Fail => NonSuccessKind::Failure,
        _ => NonSuccessKind::Error,
    }
}

/// Text without what XML 1.0 has no way to write (section 2.2); `XmlString` leaves two characters in.
fn text(text: &str) -> XmlString {
    XmlString::new(text.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{a_run, judgements};
    use super::*;

    #[test]
    fn a_run_is_a_document_with_a_suite_for_each_folder() {
        let judgements = judgements();
        insta::assert_snapshot!(document(&a_run(&judgements), Duration::from_millis(6_000)).unwrap());
    }

    #[test]
    fn what_a_device_says_cannot_break_the_document() {
        let mut judgements = judgements();
        judgements[1].findings[0].text = "]]> </failure> <!-- \u{fffe}\u{1b}[31m & \"'".into();
        let xml = document(&a_run(&judgements), Duration::ZERO).unwrap();
        assert!(!xml.contains(['\u{fffe}', '\u{1b}']) && xml.contains("]]&gt; &lt;/failure&gt; &lt;!--"), "{xml}");
    }

    #[test]
    fn a_name_is_a_folder_and_the_rest() {
        let cases = [("a/b/c[x=y/z]", ("a/b", "c[x=y/z]")), ("c", ("scenarios", "c")), ("c[x=1/2]", ("scenarios", "c[x=1/2]"))];
        for (name, parts) in cases {
            assert_eq!(apart(name), parts);
        }
    }
}
