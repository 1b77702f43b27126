//! Verdicts for machines (`--json`): one JSON document a line and trial.
//!
//! ```json
//! {"version":1,"name":"happy/mutual-tls[mqtt=v5,tls=1.3]","target":"twin","verdict":"fail","exit_code":1,"took_ms":41.3,
//!  "findings":[{"text":"waited 5 s for …","place":{"file":"happy/mutual-tls.yaml","line":17,"step":4,"name":"wait-for"},
//!               "at_us":5041322,"help":null,"near":[],"last":[{"at_us":1204,"from":"device","text":"I (3) boot: …"}]}],
//!  "warnings":[],"trace":"target/traces/….jsonl"}
//! ```
//!
//! `verdict` is `pass`, `pass-with-warnings`, `fail`, `inconclusive`, `skip` or `known-gap`; `exit_code` is what the trial alone would end with.
//! Fields may be added in the same version; a reader passes over those it does not know.

use super::Told;
use crate::exit::{self, Warnings};
use crate::verdict::{Finding, Verdict};
use serde::Serialize;

/// The version of the document's shape.
pub const VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'t> {
    version: u32,
    name: &'t str,
    target: &'t str,
    verdict: Verdict,
    exit_code: u8,
    took_ms: f64,
    findings: &'t [Finding],
    warnings: &'t [Finding],
    trace: Option<String>,
}

/// One trial as one line, without a line end.
pub fn trial(told: &Told<'_>, warnings: Warnings) -> String {
    let document = Document {
        version: VERSION,
        name: told.name,
        target: told.target,
        verdict: told.judgement.verdict,
        exit_code: exit::code(told.judgement.verdict, warnings),
        took_ms: told.took.as_micros() as f64 / 1e3,
        findings: &told.judgement.findings,
        warnings: &told.judgement.warnings,
        trace: told.trace.map(|trace| trace.to_string_lossy().into_owned()),
    };
    // Strings, numbers and lists only: it cannot fail.
    serde_json::to_string(&document).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Judgement;
    use std::time::Duration;

    #[test]
    fn the_documented_shape_is_written_in_one_line() {
        let judgement = Judgement {
            verdict: Verdict::PassWithWarnings,
            findings: vec![],
            warnings: vec![Finding::new("odd\n\x1b[2J").when(7)],
        };
        let told = Told { name: "happy", target: "twin", judgement: &judgement, took: Duration::from_micros(41_300), trace: None };
        let line = trial(&told, Warnings::Denied);
        assert!(!line.contains(char::is_control), "{line}");
        let expected = serde_json::json!({
            "version": 1, "name": "happy", "target": "twin", "verdict": "pass-with-warnings", "exit_code": 1, "took_ms": 41.3,
            "findings": [], "trace": null,
            "warnings": [{"text": "odd\n\u{1b}[2J", "place": null, "at_us": 7, "help": null, "near": [], "last": []}],
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), expected);
    }
}
