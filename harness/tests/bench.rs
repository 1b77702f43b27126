//! `harness bench handshake` measures every kind, writes what it found, and tells when it became slower. Shapes only: times are the machine's.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn bench(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command.args(["bench", "handshake", "-n", "2"]).args(arguments).current_dir(folder).output().expect("the harness can be run")
}

#[test]
fn every_kind_is_measured_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let first = bench(&["--json", "--svg", "chart.svg"], folder.path());
    assert!(first.status.success(), "{first:?}");
    let mut document: Value = serde_json::from_slice(&first.stdout).unwrap();
    let cells = document["measured"][0]["more"].as_array_mut().unwrap();
    // Plain and eight kinds of P-256 at least, each by itself, by eight and by sixty-four.
    assert!(cells.len() >= 9 * 3 && cells.len().is_multiple_of(3), "{cells:?}");
    for cell in cells.iter_mut() {
        let (at_once, is_plain) = (cell["at_once"].as_u64().unwrap(), cell["case"] == "plain");
        assert!(cell["n"].as_u64().unwrap() >= at_once, "{cell}");
        assert!(cell["p50"].as_f64().unwrap() > 0.0 && cell["p50"].as_f64() <= cell["p99"].as_f64(), "{cell}");
        assert_eq!((cell["p50_ratio"].is_number(), cell["cpu_ratio"].is_number()), (at_once == 1, !is_plain), "{cell}");
        // A past so fast that the present is slower.
        cell["cpu_ratio"] = 0.001.into();
    }
    let chart = std::fs::read_to_string(folder.path().join("chart.svg")).unwrap();
    assert!(chart.contains("TLS 1.3 P-256 mutual full") && !chart.contains("at once"), "{chart}");

    std::fs::write(folder.path().join("old.json"), document.to_string()).unwrap();
    let slower = bench(&["--baseline", "old.json"], folder.path());
    let said = String::from_utf8_lossy(&slower.stderr);
    assert_eq!(slower.status.code(), Some(1), "{said}");
    assert!(said.contains("slower than the baseline: TLS 1.2 P-256 mutual full, 8 at once: client CPU / limit"), "{said}");
    let table = String::from_utf8_lossy(&slower.stdout);
    assert!(table.contains("TLS 1.3 P-256 server resumed"), "{table}");

    assert_eq!(bench(&["--baseline", "chart.svg"], folder.path()).status.code(), Some(2));
}
