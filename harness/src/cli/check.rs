//! `harness check` and `harness steps`: a scenario without running it.

use super::complain;
use crate::{exit, say, scenario, vocabulary};
use std::io::IsTerminal;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// Scenario files, or folders of them; and vocabularies.
    #[arg(default_value = "scenarios")]
    paths: Vec<PathBuf>,
}

impl Check {
    pub(super) fn run(self) -> u8 {
        let files = match scenario::find(&self.paths) {
            Ok(files) => files,
            Err(error) => return complain(error, exit::WRONG_INPUT),
        };
        let mut code = exit::PASS;
        for file in files {
            if scenario::bytes(&file).is_ok_and(|bytes| vocabulary::is_one(&bytes)) {
                match vocabulary::load(&file) {
                    Ok(_) => {
                        say::line(format_args!("ok  {}  a vocabulary", file.display()));
                    }
                    Err(diagnostic) => {
                        say::aside(diagnostic.render(std::io::stderr().is_terminal()));
                        code = exit::WRONG_INPUT;
                    }
                }
                continue;
            }
            match scenario::load(&file) {
                Ok(rows) => {
                    let plural = if rows.len() == 1 { "" } else { "s" };
                    say::line(format_args!("ok  {}  {} trial{plural}", file.display(), rows.len()));
                    if !rows.warnings.is_empty() {
                        say::aside(rows.warnings.render(std::io::stderr().is_terminal()));
                    }
                }
                Err(diagnostic) => {
                    say::aside(diagnostic.render(std::io::stderr().is_terminal()));
                    code = exit::WRONG_INPUT;
                }
            }
        }
        code
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Steps {
    /// Only this verb.
    verb: Option<String>,
}

impl Steps {
    pub(super) fn run(self) -> u8 {
        match scenario::manual(self.verb.as_deref()) {
            Ok(text) => {
                say::line(text);
                exit::PASS
            }
            Err(error) => complain(error, exit::WRONG_INPUT),
        }
    }
}
