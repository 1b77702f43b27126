//! What the target needs: the emulator and the firmware's image, where they are, and what to do when they are not there.

use super::super::{Equipment, TargetError};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// The emulator, unless another is named.
const EMULATOR: &str = "qemu-system-riscv32";
/// The image, below the workspace that the working directory is in, unless another is named.
const IMAGE: &str = "firmware/target/virt.elf";
/// How every image begins.
const ELF: [u8; 4] = *b"\x7fELF";
/// The machine that is emulated.
pub const MACHINE: &str = "virt";

/// Both, found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The emulator's program.
    pub emulator: PathBuf,
    /// The firmware's image, an ELF file.
    pub image: PathBuf,
}

/// Finds both.
///
/// # Errors
/// One is not there; the help is the command that gets it.
pub fn found(equipment: &Equipment) -> Result<Found, TargetError> {
    if cfg!(not(unix)) {
        return Err(not_here());
    }
    Ok(Found { emulator: emulator(equipment)?, image: image(equipment)? })
}

/// Where there are no Unix sockets.
pub fn not_here() -> TargetError {
    TargetError { what: "start QEMU: its console needs a Unix socket".into(), help: "use Linux, macOS or WSL".into() }
}

/// What is there, in words, for `harness doctor`.
///
/// # Errors
/// As [`found`].
pub fn ready(equipment: &Equipment) -> Result<String, TargetError> {
    let Found { emulator, image } = found(equipment)?;
    Ok(format!("{}, {}", emulator.display(), image.display()))
}

/// What the trace says of them: no path, since it is nobody else's.
pub fn facts(equipment: &Equipment) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::from([("machine".to_owned(), MACHINE.to_owned())]);
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if let Ok(Found { emulator, image }) = found(equipment) {
        facts.insert("emulator".into(), name(&emulator));
        facts.insert("image".into(), name(&image));
        facts.extend(digest(&image).map(|digest| ("image-sha256".to_owned(), digest)));
    }
    facts
}

const INSTALL: &str =
    "install it (Debian, Ubuntu: apt-get install -y qemu-system-misc; macOS: brew install qemu), or name one with --emulator";

const BUILD: &str = "build it with ci/firmware.sh virt, or name one with --firmware";

fn emulator(equipment: &Equipment) -> Result<PathBuf, TargetError> {
    let named = equipment.emulator.clone();
    let wanted = named.unwrap_or_else(|| EMULATOR.into());
    let missing = || TargetError { what: format!("find the emulator {}", wanted.display()), help: INSTALL.into() };
    if wanted.components().count() > 1 {
        return if wanted.is_file() { Ok(std::path::absolute(&wanted).unwrap_or(wanted)) } else { Err(missing()) };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(&wanted)).find(|file| file.is_file()).ok_or_else(missing)
}

fn image(equipment: &Equipment) -> Result<PathBuf, TargetError> {
    let here = std::env::current_dir().unwrap_or_default();
    let built = || here.ancestors().map(|folder| folder.join(IMAGE)).find(|file| file.is_file());
    let found = match &equipment.firmware {
        Some(named) => Some(std::path::absolute(named).unwrap_or_else(|_| named.clone())).filter(|file| file.is_file()),
        None => built(),
    };
    let found = found.ok_or_else(|| {
        let wanted = equipment.firmware.as_deref().unwrap_or(Path::new(IMAGE));
        TargetError { what: format!("find the firmware's image {}", wanted.display()), help: BUILD.into() }
    })?;
    let unusable = |why: &str| TargetError { what: format!("use {}: {why}", found.display()), help: BUILD.into() };
    let mut magic = [0; ELF.len()];
    match std::fs::File::open(&found).and_then(|mut file| file.read_exact(&mut magic)) {
        Ok(()) if magic == ELF => Ok(found),
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(unusable(&error.to_string())),
        _ => Err(unusable("no ELF file")),
    }
}

/// The SHA-256 of the image, in hex; read again only when the file has changed.
fn digest(image: &Path) -> Option<String> {
    static KNOWN: Mutex<Option<(PathBuf, SystemTime, String)>> = Mutex::new(None);
    let changed = std::fs::metadata(image).ok()?.modified().ok()?;
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((path, at, digest)) = &*known
        && (path.as_path(), *at) == (image, changed)
    {
        return Some(digest.clone());
    }
    let digest = Sha256::digest(std::fs::read(image).ok()?).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    *known = Some((image.to_owned(), changed, digest.clone()));
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_command_that_gets_it() {
        let equipment = Equipment { emulator: Some("no-such-qemu".into()), ..Equipment::default() };
        let error = emulator(&equipment).unwrap_err();
        assert!(error.what.contains("no-such-qemu") && error.help.contains("apt-get install"), "{error}");
        let equipment = Equipment { firmware: Some("no/such.elf".into()), ..Equipment::default() };
        let error = image(&equipment).unwrap_err();
        assert!(error.what.contains("no/such.elf") && error.help.contains("ci/firmware.sh virt"), "{error}");
        assert_eq!(facts(&equipment).get("image"), None);
    }

    #[test]
    fn what_is_no_image_is_refused_before_anything_is_started() {
        for text in ["", "EL", "name: a scenario"] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            let equipment = Equipment { firmware: Some(file.path().into()), ..Equipment::default() };
            let error = image(&equipment).unwrap_err();
            assert!(error.what.ends_with("no ELF file") && error.help.contains("--firmware"), "{error}");
            std::fs::write(file.path(), b"\x7fELF\x01").unwrap();
            assert_eq!(image(&equipment).unwrap(), file.path());
        }
    }
}
