//! The reports of a whole run that `harness run` writes besides what it prints: JUnit, GitHub's annotations, a summary in Markdown.

use super::complain;
use crate::report::{Tries, github, junit, markdown};
use crate::scenario::Diagnostics;
use crate::tries::Tried;
use crate::{exit, say};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct Reports {
    /// Writes the run as JUnit XML: a suite for each folder, a test case for each trial, with the story of each that did not pass.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Writes a summary in Markdown. In GitHub Actions the job's page gets it without being asked ($GITHUB_STEP_SUMMARY).
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// Prints GitHub's annotations, which show each trial that did not pass at its line of the scenario. In GitHub Actions this is on.
    #[arg(long)]
    github: bool,
}

/// Where reports go to, opened before anything is run: a run of an hour must not end in a folder that is not there.
#[derive(Debug)]
pub(super) struct Open {
    junit: Option<(PathBuf, File)>,
    summaries: Vec<(PathBuf, File)>,
    github: Option<Checkout>,
}

#[derive(Debug)]
struct Checkout {
    here: PathBuf,
    repository: PathBuf,
}

impl Reports {
    /// What is said of a scenario that cannot be used, after the report for people; nothing where nobody reads annotations.
    pub(super) fn mistakes(&self, file: &Path, wrong: &Diagnostics) -> String {
        self.checkout().map(|at| github::mistakes(file, wrong, &at.here, &at.repository)).unwrap_or_default()
    }

    fn checkout(&self) -> Option<Checkout> {
        let here = std::env::current_dir().unwrap_or_default();
        let repository = std::env::var_os("GITHUB_WORKSPACE").map_or_else(|| here.clone(), PathBuf::from);
        (self.github || in_actions()).then_some(Checkout { here, repository })
    }

    /// Opens the files.
    ///
    /// # Errors
    /// When one cannot be written to; the text names it.
    pub(super) fn open(&self) -> Result<Open, String> {
        let in_actions = in_actions();
        let mut summaries: Vec<(PathBuf, File)> = self.summary.iter().map(|path| create(path)).collect::<Result<_, _>>()?;
        if let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| in_actions && !path.is_empty()) {
            let path = PathBuf::from(path);
            let file = OpenOptions::new().append(true).create(true).open(&path).map_err(|e| cannot(&path, &e))?;
            summaries.push((path, file));
        }
        Ok(Open { junit: self.junit.as_deref().map(create).transpose()?, summaries, github: self.checkout() })
    }
}

impl Open {
    /// What is printed of a trial on its own.
    pub(super) fn printed(&self, story: String) -> String {
        if self.github.is_some() { github::harmless(&story) } else { story }
    }

    /// Writes the reports; the exit code of doing so. Annotations go to standard output, unless that is for machines.
    pub(super) fn write(self, run: Vec<Tried>, took: Duration, json: bool) -> u8 {
        let mut told: Vec<Tries<'_>> = run.iter().map(Tried::told).collect();
        told.sort_by_key(|tries| tries.last.name);
        if let Some(Checkout { here, repository }) = &self.github {
            for tries in &told {
                let annotation = github::annotation(tries, here, repository);
                if json {
                    say::aside(annotation.trim_end());
                } else {
                    say::words(annotation);
                }
            }
        }
        let summary = markdown::summary(&told, took);
        let mut wrong: Vec<String> = self.summaries.into_iter().filter_map(|(path, file)| fill(&path, file, &summary)).collect();
        if let Some((path, file)) = self.junit {
            match junit::document(&told, took) {
                Ok(document) => wrong.extend(fill(&path, file, &document)),
                Err(error) => wrong.push(format!("could not write {}: {error}", path.display())),
            }
        }
        wrong.into_iter().map(|why| complain(why, exit::INCONCLUSIVE)).max().unwrap_or(exit::PASS)
    }
}

fn in_actions() -> bool {
    std::env::var("GITHUB_ACTIONS").is_ok_and(|v| v == "true")
}

fn create(path: &Path) -> Result<(PathBuf, File), String> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|e| cannot(path, &e))?;
    }
    Ok((path.to_owned(), File::create(path).map_err(|e| cannot(path, &e))?))
}

fn fill(path: &Path, mut file: File, text: &str) -> Option<String> {
    file.write_all(text.as_bytes()).and_then(|()| file.flush()).err().map(|error| cannot(path, &error))
}

fn cannot(path: &Path, error: &io::Error) -> String {
    format!("could not write {}: {error}", path.display())
}
