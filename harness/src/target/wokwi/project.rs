//! A project as wokwi-cli reads it: `wokwi.toml`, `diagram.json`, chips of one's own.

use super::super::TargetError;
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What a project is known by.
pub const SETTINGS: &str = "wokwi.toml";
/// What is on the desk.
pub const DIAGRAM: &str = "diagram.json";
/// Bytes of either, and of a chip, at most.
const FILE_MAX: u64 = 16 * 1024 * 1024;
/// What wires a console.
const MONITOR: &str = "$serialMonitor";

/// Files by name.
pub type Files = Vec<(String, Vec<u8>)>;

/// A project, found and read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Project {
    /// The firmware that its settings name.
    pub firmware: Option<PathBuf>,
    diagram: String,
    chips: Vec<Chip>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
struct Chip {
    name: String,
    binary: PathBuf,
}

#[derive(Deserialize)]
struct Settings {
    wokwi: Option<Own>,
    #[serde(default)]
    chip: Vec<Chip>,
}

#[derive(Deserialize)]
struct Own {
    version: toml::Value,
    firmware: Option<String>,
}

/// The folder of the project: the one named, else the nearest around `here` that has settings or a diagram.
///
/// # Errors
/// There is none.
pub fn folder(named: Option<&Path>, here: &Path) -> Result<PathBuf, TargetError> {
    let is_one = |folder: &Path| folder.join(SETTINGS).is_file() || folder.join(DIAGRAM).is_file();
    let found = match named {
        Some(named) => Some(std::path::absolute(named).unwrap_or_else(|_| named.to_owned())).filter(|folder| is_one(folder)),
        None => here.ancestors().find(|folder| is_one(folder)).map(Path::to_owned),
    };
    found.ok_or_else(|| TargetError {
        what: format!(
            "find a {SETTINGS} or {DIAGRAM} in {}",
            named.map_or_else(|| "this folder or one around it".into(), |named| named.display().to_string())
        ),
        help: "make them with `wokwi-cli init`, or name the folder with --project or the diagram with --diagram".into(),
    })
}

impl Project {
    /// Reads the project of a folder; another diagram takes the place of its own.
    ///
    /// # Errors
    /// A file is not there, or is wrong, or the board's console is wired to nothing.
    pub fn read(folder: &Path, diagram: Option<&Path>) -> Result<Project, TargetError> {
        let mut project = Project::default();
        let settings = folder.join(SETTINGS);
        if settings.is_file() {
            let told: Settings = toml::from_str(&text(&settings)?).map_err(|e| wrong(&settings, &first_line(&e)))?;
            let own = told.wokwi.ok_or_else(|| wrong(&settings, "it has no section [wokwi]"))?;
            if own.version != toml::Value::Integer(1) {
                return Err(wrong(&settings, "its version is not 1: write `version = 1`"));
            }
            project.firmware = own.firmware.map(|firmware| folder.join(firmware));
            project.chips = told.chip;
            for chip in &mut project.chips {
                chip.binary = folder.join(&chip.binary);
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
                if chip.name.is_empty() || !chip.name.chars().all(plain) {
                    return Err(wrong(&settings, &format!("the chip's name `{}` has more than A-Z a-z 0-9 - _", chip.name)));
                }
            }
        }
        let file =
            diagram.map_or_else(|| folder.join(DIAGRAM), |named| std::path::absolute(named).unwrap_or_else(|_| named.into()));
        project.diagram = text(&file)?;
        let drawn: Value = serde_json::from_str(&project.diagram).map_err(|e| wrong(&file, &e.to_string()))?;
        if !has_console(&drawn) {
            return Err(wrong(
                &file,
                "no console is wired, so nothing would ever be heard of the board; add to `connections` \
                 [\"esp:TX\", \"$serialMonitor:RX\", \"\", []], [\"esp:RX\", \"$serialMonitor:TX\", \"\", []]",
            ));
        }
        Ok(project)
    }

    /// What goes into a folder that is a project like this, with this firmware in it.
    ///
    /// # Errors
    /// A chip's file is not there.
    pub fn files(&self, firmware: &str) -> Result<Files, TargetError> {
        let mut settings = format!("[wokwi]\nversion = 1\nfirmware = '{firmware}'\n");
        let mut files = vec![(DIAGRAM.to_owned(), self.diagram.clone().into_bytes())];
        for Chip { name, binary } in &self.chips {
            let _ = write!(settings, "\n[[chip]]\nname = '{name}'\nbinary = '{name}.chip.wasm'\n");
            for (file, ending) in [(binary.clone(), "wasm"), (binary.with_extension("json"), "json")] {
                files.push((format!("{name}.chip.{ending}"), bytes(&file)?));
            }
        }
        files.push((SETTINGS.to_owned(), settings.into_bytes()));
        Ok(files)
    }
}

/// Whether some board's console leads to the serial monitor: by wires, or through USB.
fn has_console(diagram: &Value) -> bool {
    let wires = diagram["connections"].as_array().into_iter().flatten();
    let ends = wires.flat_map(|wire| [&wire[0], &wire[1]]).filter_map(Value::as_str);
    let monitored = |pin: &str| ends.clone().any(|end| end.split_once(':') == Some((MONITOR, pin)));
    let by_usb = |part: &Value| part["attrs"]["serialInterface"].as_str().is_some_and(|kind| kind.starts_with("USB"));
    monitored("RX") || diagram["parts"].as_array().into_iter().flatten().any(by_usb)
}

fn text(file: &Path) -> Result<String, TargetError> {
    String::from_utf8(bytes(file)?).map_err(|_| wrong(file, "it is not UTF-8 text"))
}

fn bytes(file: &Path) -> Result<Vec<u8>, TargetError> {
    let length = std::fs::metadata(file).map_err(|e| wrong(file, &e.to_string()))?.len();
    if length > FILE_MAX {
        return Err(wrong(file, "it has more than 16 MiB"));
    }
    std::fs::read(file).map_err(|e| wrong(file, &e.to_string()))
}

fn first_line(error: &toml::de::Error) -> String {
    error.message().lines().next().unwrap_or_default().to_owned()
}

fn wrong(file: &Path, why: &str) -> TargetError {
    TargetError {
        what: format!("use {}: {why}", file.display()),
        help: "correct it (`wokwi-cli lint` checks a diagram), or name another with --project or --diagram".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIRED: &str = r#"{"parts": [], "connections": [["esp:TX", "$serialMonitor:RX", "", []]]}"#;

    fn home(files: &[(&str, &str)]) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(home.path().join(name), content).unwrap();
        }
        home
    }

    #[test]
    fn a_project_is_copied_with_its_chips_and_another_firmware() {
        let settings = "[wokwi]\nversion = 1\nfirmware = 'build/app.bin'\n[net]\ngateway = 'x'\n[[chip]]\nname = 'inverter'\nbinary = 'c.wasm'\n";
        let home = home(&[(SETTINGS, settings), (DIAGRAM, WIRED), ("c.wasm", "w"), ("c.json", "j")]);
        let project = Project::read(home.path(), None).unwrap();
        assert_eq!(project.firmware, Some(home.path().join("build/app.bin")));
        let files = project.files("flasher_args.json").unwrap();
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [DIAGRAM, "inverter.chip.wasm", "inverter.chip.json", SETTINGS]);
        let copied: Settings = toml::from_str(std::str::from_utf8(&files[3].1).unwrap()).unwrap();
        assert_eq!((copied.wokwi.unwrap().firmware.as_deref(), copied.chip.len()), (Some("flasher_args.json"), 1));
    }

    #[test]
    fn a_board_that_nobody_would_hear_is_refused() {
        for (diagram, heard) in [
            (WIRED, true),
            (r#"{"parts": [{"attrs": {"serialInterface": "USB_SERIAL_JTAG"}}]}"#, true),
            (r#"{"parts": [{"attrs": {}}], "connections": [["esp:TX", "x:RX"], [1]]}"#, false),
            ("{}", false),
        ] {
            let home = home(&[(DIAGRAM, diagram)]);
            let read = Project::read(home.path(), None);
            assert_eq!(read.is_ok(), heard, "{diagram}");
            assert!(read.is_ok() || read.unwrap_err().what.contains("$serialMonitor:RX"));
        }
    }

    #[test]
    fn what_is_wrong_in_a_project_is_said_with_the_files_name() {
        for (settings, why) in [
            ("version = 1", "no section [wokwi]"),
            ("[wokwi]\nversion = 2", "version is not 1"),
            ("[wokwi", "wokwi.toml"),
            ("[wokwi]\nversion = 1\nfirmware = 7", "invalid type"),
            ("[wokwi]\nversion = 1\n[[chip]]\nname = \"a'\"\nbinary = 'c.wasm'", "more than A-Z"),
        ] {
            let home = home(&[(SETTINGS, settings), (DIAGRAM, WIRED)]);
            let error = Project::read(home.path(), None).unwrap_err().what;
            assert!(error.contains(SETTINGS) && error.contains(why), "{error}");
        }
        let home = home(&[(SETTINGS, "[wokwi]\nversion = 1\n[[chip]]\nname = 'a'\nbinary = 'gone.wasm'"), (DIAGRAM, "[")]);
        assert!(Project::read(home.path(), None).unwrap_err().what.contains(DIAGRAM));
        std::fs::write(home.path().join("other.json"), WIRED).unwrap();
        let project = Project::read(home.path(), Some(&home.path().join("other.json"))).unwrap();
        assert!(project.files("x").unwrap_err().what.contains("gone.wasm"));
    }

    #[test]
    fn the_nearest_project_is_taken() {
        let home = home(&[(SETTINGS, "")]);
        let deep = home.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        assert_eq!(folder(None, &deep).unwrap(), home.path());
        assert!(folder(Some(&deep), &deep).unwrap_err().what.contains("a/b"));
        std::fs::write(deep.join(DIAGRAM), WIRED).unwrap();
        assert_eq!(folder(None, &deep).unwrap(), deep);
    }
}
