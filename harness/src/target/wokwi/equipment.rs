//! What the target needs: wokwi-cli, a token, a project and a firmware; where they are, and what to do when they are not there.

use super::super::{Equipment, METERED, TargetError};
use super::image::Image;
use super::project::{self, Project};
use device_core::secret::Secret;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The program, unless another is named.
const PROGRAM: &str = "wokwi-cli";
/// Where the token is.
pub const TOKEN: &str = "WOKWI_CLI_TOKEN";
/// The firmware, below the workspace that the working directory is in, where no project names one.
const IMAGE: &str = "firmware/target/esp32c3/flasher_args.json";

/// How long a simulation may take until the device says its first byte: the upload, a queue, and the board's own start.
const START_LIMIT: Duration = Duration::from_secs(60);

/// All of it, found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The program.
    pub program: PathBuf,
    /// The token, which is given to it and nobody else.
    pub token: Secret,
    /// The project.
    pub project: Project,
    /// The firmware.
    pub image: Image,
    /// Whether the firmware is somebody else's, and takes nothing of ours.
    pub foreign: bool,
    /// How long a simulation may take until its device says the first byte.
    pub start_limit: Duration,
}

/// Finds all of it.
///
/// # Errors
/// Something is not there, or wrong; the help is the command that helps.
pub fn found(equipment: &Equipment) -> Result<Found, TargetError> {
    let (program, token) = (program(equipment)?, token()?);
    let (project, image) = files(equipment)?;
    let start_limit = equipment.start_limit.unwrap_or(START_LIMIT);
    Ok(Found { program, token, project, image, foreign: equipment.vocabulary.is_some(), start_limit })
}

fn files(equipment: &Equipment) -> Result<(Project, Image), TargetError> {
    let here = std::env::current_dir().unwrap_or_default();
    let folder = match project::folder(equipment.project.as_deref(), &here) {
        // A diagram alone is a project, where nothing else is named.
        Err(_) if equipment.project.is_none() && equipment.diagram.is_some() => here.clone(),
        found => found?,
    };
    let project = Project::read(&folder, equipment.diagram.as_deref())?;
    let built = || here.ancestors().map(|folder| folder.join(IMAGE)).find(|file| file.is_file());
    let named = equipment.firmware.clone().or_else(|| project.firmware.clone()).or_else(built);
    let image = Image::read(&named.unwrap_or_else(|| IMAGE.into()))?;
    if equipment.vocabulary.is_none() && !image.takes_surroundings() {
        return Err(TargetError {
            what: format!(
                "use {}: it has no partition `surroundings`, so it is not this project's firmware",
                image.file().display()
            ),
            help: "say what its lines mean, and it is run as it is: --vocabulary esp-idf".into(),
        });
    }
    Ok((project, image))
}

/// What is there, in words, for `harness doctor`.
///
/// # Errors
/// As [`found`]; the program and the token are both named, when both are missing.
pub fn ready(equipment: &Equipment) -> Result<String, TargetError> {
    match (program(equipment), token()) {
        (Err(program), Err(token)) => Err(TargetError {
            what: format!("{}, nor {}", program.what, token.what),
            help: format!("{}; {}", program.help, token.help),
        }),
        (program, token) => {
            let (program, _) = (program?, token?);
            let (_, image) = files(equipment)?;
            Ok(format!("{}, a token, {}", program.display(), image.file().display()))
        }
    }
}

/// Whether the account's minutes are spent, and nobody has said that they may be: a server of one's own has no minutes.
pub fn is_metered() -> bool {
    let said = |name: &str| std::env::var(name).is_ok_and(|value| !value.is_empty() && value != "0");
    !said("WOKWI_CLI_SERVER") && !said(METERED)
}

/// What the trace says of them: no path, since it is nobody else's, and nothing of the token.
pub fn facts(equipment: &Equipment) -> BTreeMap<String, String> {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut facts = BTreeMap::from([("machine".to_owned(), "esp32-c3".to_owned())]);
    if let Ok(program) = program(equipment) {
        facts.insert("simulator".into(), name(&program));
    }
    if let Ok((_, image)) = files(equipment) {
        facts.insert("image".into(), name(image.file()));
        facts.extend(image.digest().map(|digest| ("image-sha256".to_owned(), digest)));
    }
    facts
}

/// The program: the one named, else the one in PATH.
///
/// # Errors
/// There is none.
pub fn program(equipment: &Equipment) -> Result<PathBuf, TargetError> {
    let wanted = equipment.wokwi_cli.clone().unwrap_or_else(|| PROGRAM.into());
    let missing = || TargetError {
        what: format!("find the program {}", wanted.display()),
        help: "install it (curl -L https://wokwi.com/ci/install.sh | sh), or name it with --wokwi-cli".into(),
    };
    if wanted.components().count() > 1 {
        return if wanted.is_file() { Ok(std::path::absolute(&wanted).unwrap_or(wanted)) } else { Err(missing()) };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let file = |folder: PathBuf| folder.join(format!("{}{}", wanted.display(), std::env::consts::EXE_SUFFIX));
    // A relative place in PATH would be another one from the folder it is started in.
    let found = std::env::split_paths(&path).map(file).find(|file| file.is_file()).ok_or_else(missing)?;
    Ok(std::path::absolute(&found).unwrap_or(found))
}

/// The token.
///
/// # Errors
/// None is set. It is not looked at: only Wokwi knows whether it is good.
pub fn token() -> Result<Secret, TargetError> {
    let token = std::env::var(TOKEN).unwrap_or_default();
    if token.trim().is_empty() {
        return Err(TargetError {
            what: format!("find a token in {TOKEN}"),
            help: format!("make one at https://wokwi.com/dashboard/ci, and set it: export {TOKEN}=…"),
        });
    }
    Ok(Secret::new(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_is_named_with_the_command_that_gets_it() {
        for named in ["no-such-wokwi-cli", "no/such/wokwi-cli"] {
            let error = program(&Equipment { wokwi_cli: Some(named.into()), ..Equipment::default() }).unwrap_err();
            assert!(
                error.what.ends_with(named) && error.help.contains("install.sh") && error.help.contains("--wokwi-cli"),
                "{error}"
            );
        }
    }
}
