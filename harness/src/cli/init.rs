//! `harness init`: a first scenario and a workflow in somebody's repository.

use super::complain;
use crate::files::{self, Existing, Readers};
use crate::report::console::shell_word;
use crate::{exit, say};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

const SCENARIO: &str = include_str!("init/first.yaml");
const VOCABULARY: &str = include_str!("init/vocabulary.yaml");
const WORKFLOW: &str = include_str!("init/workflow.yml");
/// What stands in the workflow for where this program comes from.
const SOURCE: &str = "HARNESS_SOURCE";
/// What is not to be committed: traces of runs, and what `harness certs` and `harness ca` make in the folders of the examples.
const IGNORED: [&str; 3] = ["/traces/", "/certs/", "*.snap.new"];

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Writes scenarios/first.yaml, vocabulary.yaml (what your firmware's log lines mean), .github/workflows/harness.yml and lines of .gitignore. What is there already stays as it is.

    harness init
    harness check scenarios
    harness run scenarios

Exit codes: 0 everything is there, 2 the folder is not, 3 something could not be written.")]
pub(super) struct Init {
    /// The repository.
    #[arg(default_value = ".", value_name = "FOLDER")]
    folder: PathBuf,
    /// Where the workflow gets this program from: the URL of its git repository.
    #[arg(long, value_name = "URL")]
    source: Option<String>,
}

impl Init {
    pub(super) fn run(self) -> u8 {
        if !self.folder.is_dir() {
            return complain(format!("there is no folder {}", self.folder.display()), exit::WRONG_INPUT);
        }
        let source = self.source.as_deref().unwrap_or(env!("CARGO_PKG_REPOSITORY"));
        if source.contains(|c: char| c.is_whitespace() || c.is_control() || "'\"\\$`".contains(c)) {
            return complain("--source is not a URL", exit::WRONG_INPUT);
        }
        let named = if source.is_empty() { "${{ vars.HARNESS_GIT }}" } else { source };
        let workflow = WORKFLOW.replace(SOURCE, named);
        for (name, text) in [
            ("scenarios/first.yaml", SCENARIO),
            ("vocabulary.yaml", VOCABULARY),
            (".github/workflows/harness.yml", workflow.as_str()),
        ] {
            match self.write(name, text) {
                Ok(said) => say::line(format_args!("{said}  {name}")),
                Err(error) => return complain(format!("could not write {name}: {error}"), exit::INCONCLUSIVE),
            };
        }
        match ignore(&self.folder.join(".gitignore")) {
            Ok(0) => say::line("there    .gitignore"),
            Ok(added) => say::line(format_args!("added    .gitignore: {added} lines")),
            Err(error) => return complain(format!("could not write .gitignore: {error}"), exit::INCONCLUSIVE),
        };
        say::line("\nNow:");
        if self.folder != Path::new(".") {
            say::line(format_args!("  cd {}", shell_word(&self.folder.to_string_lossy())));
        }
        say::line("  harness check scenarios      what is wrong in a scenario, and where");
        say::line("  harness run scenarios        drives the twin through it, and judges");
        say::line("  harness steps                everything a scenario can say");
        say::line("  harness doctor               if something is missing");
        if source.is_empty() {
            say::line(
                "\nThe workflow builds this program from the git repository that your repository's variable HARNESS_GIT names.",
            );
        }
        exit::PASS
    }

    fn write(&self, name: &str, text: &str) -> io::Result<&'static str> {
        let path = self.folder.join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| match error.kind() {
                ErrorKind::AlreadyExists => io::Error::other("what is there under its folder's name is no folder"),
                _ => error,
            })?;
        }
        match files::write(&path, text, Readers::All, Existing::Kept) {
            Ok(()) => Ok("written"),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok("there  "),
            Err(error) => Err(error),
        }
    }
}

/// Adds the lines that are missing, and leaves those that are there; how many were added.
fn ignore(path: &Path) -> io::Result<usize> {
    let before = match std::fs::read(path) {
        // PowerShell's `>` writes UTF-16, which git does not read either. Single names may be of any bytes.
        Ok(bytes) if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) => {
            return Err(io::Error::other("it is UTF-16 text, which git cannot read: save it as UTF-8"));
        }
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let missing: Vec<&str> = IGNORED.into_iter().filter(|line| !before.lines().any(|there| there.trim() == *line)).collect();
    if missing.is_empty() {
        return Ok(0);
    }
    let gap = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
    io::Write::write_all(&mut file, format!("{gap}{}\n", missing.join("\n")).as_bytes())?;
    Ok(missing.len())
}
