//! The table, and the comparison with an earlier run.

use super::cell::Cell;
use crate::bench::BUILD;
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;

/// How much larger than the baseline's a ratio may be and still be noise. Only ratios within one run are compared, so that the machine and
/// its load are not.
pub(super) const NOISE: f64 = 1.25;

/// All cells, a line each.
pub(super) fn table(cells: &[Cell]) -> String {
    let mut text = format!(
        "{:<28}{:>5}{:>7}{:>9}{:>9}{:>9}{:>7}{:>6}{:>8}{:>9}{:>8}{:>8}{:>8}{:>7}{:>7}{:>9}",
        "us",
        "once",
        "n",
        "p50",
        "p95",
        "p99",
        "setup",
        "TCP",
        "TLS",
        "CONNACK",
        "client",
        "broker",
        "conn/s",
        "/limit",
        "/raw",
        "CPU/raw"
    );
    let ratio = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
    for cell in cells {
        let [setup, tcp, tls, connack] = cell.parts;
        let _ = write!(
            text,
            "\n{:<28}{:>5}{:>7}{:>9.0}{:>9.0}{:>9.0}{setup:>7.0}{tcp:>6.0}{tls:>8.0}{connack:>9.0}{:>8.0}{:>8}{:>8.0}{:>7}{:>7}{:>9}",
            cell.case,
            cell.at_once,
            cell.n,
            cell.p50,
            cell.p95,
            cell.p99,
            cell.client_cpu,
            cell.broker_cpu.map_or("-".to_owned(), |cost| format!("{cost:.0}")),
            cell.per_second,
            ratio(cell.cpu_ratio),
            ratio(cell.p50_ratio),
            ratio(cell.raw_cpu_ratio),
        );
    }
    text
}

/// What an earlier `bench handshake --json` printed.
#[derive(Debug)]
pub(in crate::bench) struct Baseline {
    cells: Vec<Cell>,
}

/// The baseline cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the baseline {path}: {why}")]
pub(in crate::bench) struct BaselineError {
    path: String,
    why: String,
}

#[derive(Deserialize)]
struct Document {
    build: String,
    measured: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    #[serde(default)]
    more: Value,
}

impl Baseline {
    /// Reads it.
    ///
    /// # Errors
    /// When it cannot be read, holds no handshakes, or is of another build.
    pub(in crate::bench) fn read(path: &Path) -> Result<Baseline, BaselineError> {
        let wrong = |why: String| BaselineError { path: path.display().to_string(), why };
        let text = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
        let document: Document =
            serde_json::from_slice(&text).map_err(|e| wrong(format!("not what `bench --json` prints: {e}")))?;
        if document.build != BUILD {
            return Err(wrong(format!("was measured with a {} build, this is a {BUILD} build", document.build)));
        }
        let entry = document.measured.into_iter().find(|entry| entry.name == "handshake");
        let entry = entry.ok_or_else(|| wrong("holds no handshakes; make it with `harness bench handshake --json`".into()))?;
        Ok(Baseline { cells: serde_json::from_value(entry.more).map_err(|e| wrong(e.to_string()))? })
    }

    /// What became slower by more than noise, and what is no longer measured, a line each.
    pub(in crate::bench) fn regressions(&self, measured: &Value) -> Vec<String> {
        let Ok(now) = serde_json::from_value::<Vec<Cell>>(measured.clone()) else { return vec!["nothing was measured".into()] };
        let mut found = Vec::new();
        for old in &self.cells {
            let Some(new) = now.iter().find(|new| (&new.case, new.at_once) == (&old.case, old.at_once)) else {
                found.push(format!("{}, {} at once: is in the baseline and was not measured", old.case, old.at_once));
                continue;
            };
            for (what, old_ratio, new_ratio) in
                [("client CPU / limit", old.cpu_ratio, new.cpu_ratio), ("p50 / raw", old.p50_ratio, new.p50_ratio)]
            {
                if let (Some(before), Some(after)) = (old_ratio, new_ratio)
                    && after > before * NOISE
                {
                    found.push(format!("{}, {} at once: {what} {after:.2}, was {before:.2}", old.case, old.at_once));
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_exceeds_noise_is_a_regression() {
        let cell = |ratio| Cell { case: "TLS".into(), at_once: 1, cpu_ratio: Some(ratio), ..Cell::default() };
        let baseline = Baseline { cells: vec![cell(1.0)] };
        let against = |cells: Vec<Cell>| baseline.regressions(&serde_json::to_value(cells).unwrap());
        assert!(against(vec![cell(1.24)]).is_empty());
        assert_eq!(against(vec![cell(1.26)]), ["TLS, 1 at once: client CPU / limit 1.26, was 1.00"]);
        assert_eq!(against(vec![]), ["TLS, 1 at once: is in the baseline and was not measured"]);
    }

    #[test]
    fn a_baseline_of_another_build_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("old.json");
        for (text, why) in [("{}", "not what"), (r#"{"build":"other","measured":[]}"#, "other build")] {
            std::fs::write(&file, text).unwrap();
            let error = Baseline::read(&file).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
