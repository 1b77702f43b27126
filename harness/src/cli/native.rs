//! `harness run --native`: plain Wokwi scenarios, handed to wokwi-cli unchanged.

use super::complain;
use super::run::interruption;
use crate::report::console::shell_word;
use crate::scenario::{self, Dialect};
use crate::target::Equipment;
use crate::target::wokwi::native::{self, Ran, Stream};
use crate::verdict::Verdict;
use crate::{child, exit, say};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Runs these files one after the other: what wokwi-cli judges, with this program's exit codes.
pub(super) fn run(paths: &[PathBuf], equipment: &Equipment) -> u8 {
    let files = match scenario::find(paths) {
        Ok(files) => files,
        Err(error) => return complain(error, exit::WRONG_INPUT),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(format!("could not start threads: {error}"), exit::INCONCLUSIVE),
    };
    let code = runtime.block_on(async {
        let mut interrupted = std::pin::pin!(interruption());
        let mut codes = Vec::new();
        for file in &files {
            tokio::select! {
                code = one(file, equipment) => codes.push(code),
                () = &mut interrupted => {
                    say::aside("harness: interrupted; ending wokwi-cli");
                    return 130;
                }
            }
        }
        exit::worst(codes)
    });
    drop(runtime);
    child::finish();
    code
}

async fn one(file: &Path, equipment: &Equipment) -> u8 {
    let (simulated, began) = (look(file), Instant::now());
    let show = |stream, bytes: &[u8]| match stream {
        Stream::Output => drop(say::bytes(bytes)),
        Stream::Error => say::bytes_aside(bytes),
    };
    let shown = shell_word(&file.to_string_lossy());
    match native::run(equipment, file, simulated, &show).await {
        Err(error) => complain(error, exit::INCONCLUSIVE),
        Ok(Ran { verdict, why, help }) => {
            let (word, code) = match verdict {
                Some(Verdict::Pass) => ("pass", exit::PASS),
                Some(Verdict::Fail) => ("FAIL", exit::FAIL),
                Some(_) => ("????", exit::INCONCLUSIVE),
                None => ("wrong input", exit::WRONG_INPUT),
            };
            say::line(format_args!("\n{word}  {shown}  wokwi-cli  {:.1} s", began.elapsed().as_secs_f64()));
            if code != exit::PASS {
                say::line(format_args!("  {why}\n  {help}"));
            }
            code
        }
    }
}

/// What this program's own reader thinks of a file: never more than a warning. Its limit, where it names one, is the simulated time.
fn look(file: &Path) -> Option<Duration> {
    let styled = std::io::stderr().is_terminal();
    match scenario::load(file) {
        Ok(rows) => {
            if !rows.warnings.is_empty() {
                say::aside(rows.warnings.render(styled));
            }
            let row = rows.into_iter().next()?;
            if row.dialect != Dialect::Wokwi {
                say::aside(format_args!(
                    "harness: {} has steps that wokwi-cli does not know; run it without --native",
                    file.display()
                ));
            }
            Some(row.within)
        }
        Err(wrong) => {
            say::aside(wrong.render(styled));
            None
        }
    }
}
