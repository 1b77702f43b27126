//! An installed Mosquitto as a child process.

use super::conf::BrokerSpec;
use super::mosquitto::{Mosquitto, Program};
use super::{Backend, BrokerError};
use crate::child::{self, Ends};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::OnceCell;

/// Where Mosquitto is installed without being in everybody's `PATH`.
const PLACES: [&str; 4] = ["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin", "C:\\Program Files\\mosquitto"];
/// How long it may take to tell its version.
const VERSION_WITHIN: Duration = Duration::from_secs(5);
const HELP: &str = "install Mosquitto 2 (Debian, Ubuntu: apt-get install mosquitto; macOS: brew install mosquitto), or name its program in MOSQUITTO_BIN";

/// Starts an installed Mosquitto: `$MOSQUITTO_BIN`, or the first found in `PATH` and the usual places.
///
/// # Errors
/// When there is none, when it is older than 2.0, or when it does not start.
pub async fn start(spec: BrokerSpec) -> Result<Mosquitto, BrokerError> {
    // Looked for once in a process.
    static FOUND: OnceCell<Result<(PathBuf, String), BrokerError>> = OnceCell::const_new();
    let (path, version) = FOUND.get_or_init(find).await.clone()?;
    let backend = Backend { name: "process", version, place: path.display().to_string() };
    Mosquitto::launch(Program { path, arguments: Vec::new(), ends: Ends::ByReaper, backend }, spec).await
}

pub(super) async fn find() -> Result<(PathBuf, String), BrokerError> {
    let path = if let Some(named) = std::env::var_os("MOSQUITTO_BIN").filter(|v| !v.is_empty()) {
        PathBuf::from(named)
    } else {
        let name = format!("mosquitto{}", std::env::consts::EXE_SUFFIX);
        let in_path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&in_path).chain(PLACES.map(PathBuf::from));
        places
            .map(|place| place.join(&name))
            .find(|p| p.is_file())
            .ok_or_else(|| BrokerError::new("no mosquitto is installed", HELP))?
    };
    let version = version(&path).await?;
    match version.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
        Some(2..) => Ok((path, version)),
        _ => Err(BrokerError::new(format!("{} is version {version}, and 2.0 is the oldest that serves", path.display()), HELP)),
    }
}

/// Asks a Mosquitto for its version; it answers `mosquitto version 2.0.11` and exit status 3.
async fn version(path: &Path) -> Result<String, BrokerError> {
    let no = |why: String| BrokerError::new(format!("{} does not tell its version: {why}", path.display()), HELP);
    let asked =
        Command::from(child::command(path)).arg("-h").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).output();
    let answer = tokio::time::timeout(VERSION_WITHIN, asked).await.map_err(|_| no("no answer".into()))?;
    let answer = answer.map_err(|e| no(e.to_string()))?;
    read_version(&String::from_utf8_lossy(&answer.stdout)).ok_or_else(|| no("it answers something else".into()))
}

fn read_version(answer: &str) -> Option<String> {
    Some(answer.lines().find_map(|l| l.strip_prefix("mosquitto version "))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_help_text() {
        let help = "mosquitto version 2.0.11\n\nmosquitto is an MQTT v5.0/v3.1.1/v3.1 broker.\n";
        assert_eq!(read_version(help).as_deref(), Some("2.0.11"));
        assert_eq!(read_version("mosquitto"), None);
    }

    #[tokio::test]
    async fn a_program_that_is_not_mosquitto_is_refused_with_help() {
        for path in ["/nonexistent/mosquitto", "Cargo.toml"] {
            let error = version(Path::new(path)).await.unwrap_err();
            assert!(error.what.contains(path) && error.help.contains("MOSQUITTO_BIN"), "{error}");
        }
    }
}
