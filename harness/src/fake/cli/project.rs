//! What is simulated: wokwi.toml, the files that it names, and flasher_args.json.

use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// A wokwi.toml, as far as the command line reads it.
#[derive(Debug, Deserialize)]
struct Config {
    wokwi: Option<Wokwi>,
    #[serde(default)]
    chip: Vec<Chip>,
}

#[derive(Debug, Deserialize)]
struct Wokwi {
    version: Option<toml::Value>,
    firmware: Option<toml::Value>,
    elf: Option<toml::Value>,
}

#[derive(Debug, Deserialize)]
struct Chip {
    name: String,
    binary: String,
}

/// Where the files of a project are.
#[derive(Debug, PartialEq, Eq)]
pub struct Paths {
    /// diagram.json.
    pub diagram: PathBuf,
    /// Firmware, or flasher_args.json.
    pub firmware: PathBuf,
    /// An ELF file beside it.
    pub elf: Option<PathBuf>,
    /// Custom chips: name, description, program.
    pub chips: Vec<(String, PathBuf, PathBuf)>,
}

/// Files by the names that the server will know them by.
type Files = Vec<(String, Vec<u8>)>;

/// A project, read.
#[derive(Debug, PartialEq)]
pub struct Project {
    /// diagram.json.
    pub diagram: Vec<u8>,
    /// What is uploaded, by name.
    pub files: Files,
    /// What `sim:start` says of it.
    pub start: Value,
    /// Custom chips: name, description, program.
    pub chips: Vec<(String, Vec<u8>, Vec<u8>)>,
}

impl Paths {
    /// Reads all of it.
    ///
    /// # Errors
    /// What cannot be read, in words.
    pub fn read(&self) -> Result<Project, String> {
        let (mut files, mut start) = firmware(&self.firmware)?;
        if let Some(elf) = &self.elf {
            files.push(("firmware.elf".into(), bytes(elf)?));
            start["elf"] = "firmware.elf".into();
        }
        let chips = self.chips.iter().map(|(name, description, program)| Ok((name.clone(), bytes(description)?, bytes(program)?)));
        Ok(Project { diagram: bytes(&self.diagram)?, files, start, chips: chips.collect::<Result<_, String>>()? })
    }
}

/// Finds the files of the project in a folder; `elf` stands in for all the firmware that wokwi.toml names.
///
/// # Errors
/// What is missing or wrong, in the command line's words.
pub fn find(folder: &Path, diagram: Option<&str>, elf: Option<&str>) -> Result<Paths, String> {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let config = folder.join("wokwi.toml");
    let diagram = absolute(&folder.join(diagram.unwrap_or("diagram.json")));
    if elf.is_none() && !config.exists() {
        let hint = "Run `wokwi-cli init` to automatically create a wokwi.toml file.";
        return Err(format!("wokwi.toml not found in {}.\n{hint}", absolute(folder).display()));
    }
    if !diagram.exists() {
        let hint = "Run `wokwi-cli init` to automatically create a diagram.json file.";
        return Err(format!("diagram.json not found in {}.\n{hint}", diagram.display()));
    }
    let mut project = Paths { diagram, firmware: PathBuf::new(), elf: elf.map(PathBuf::from), chips: Vec::new() };
    if config.exists() {
        let text = std::fs::read_to_string(&config).map_err(|e| format!("{}: {e}", config.display()))?;
        let (wokwi, chips) = parse(&text).map_err(|why| format!("Error in wokwi.toml: {why}"))?;
        project.firmware = below(folder, &wokwi.0);
        if elf.is_none() {
            project.elf = wokwi.1.map(|path| below(folder, &path));
        }
        for Chip { name, binary } in chips {
            let program = below(folder, &binary);
            project.chips.push((name, program.with_extension("json"), program));
        }
    }
    if let Some(elf) = elf {
        project.firmware = PathBuf::from(elf);
    }
    if !project.firmware.exists() {
        let hint = "Please check the firmware path in your wokwi.toml configuration file.";
        return Err(format!("firmware file not found: {}.\n{hint}", absolute(&project.firmware).display()));
    }
    if let Some(elf) = project.elf.as_ref().filter(|elf| !elf.exists()) {
        let hint = "Please check the elf path in your wokwi.toml configuration file.";
        return Err(format!("ELF file not found: {}.\n{hint}", absolute(elf).display()));
    }
    Ok(project)
}

/// A path below a folder, as JavaScript joins them: an absolute one is below it too.
fn below(folder: &Path, path: &str) -> PathBuf {
    let parts = Path::new(path).components().filter(|part| !matches!(part, Component::RootDir | Component::Prefix(_)));
    folder.join(parts.collect::<PathBuf>())
}

/// The paths of firmware and ELF file, and the chips.
type Read = ((String, Option<String>), Vec<Chip>);

fn parse(text: &str) -> Result<Read, String> {
    let config: Config = toml::from_str(&text.replace("\r\n", "\n")).map_err(|e| e.message().to_owned())?;
    let Some(Wokwi { version, firmware, elf }) = config.wokwi else { return Err("Missing `[wokwi]` section in wokwi.toml".into()) };
    match version {
        Some(toml::Value::Integer(1)) => {}
        Some(toml::Value::Integer(other)) => return Err(format!("Unsupported wokwi.toml version: {other}")),
        Some(other) => return Err(format!("Unsupported wokwi.toml version: {}", other.as_str().unwrap_or(other.type_str()))),
        None => return Err("Unsupported wokwi.toml version: undefined".into()),
    }
    let Some(toml::Value::String(firmware)) = firmware else { return Err("Firmware path must be a string".into()) };
    let elf = match elf {
        None => None,
        Some(toml::Value::String(elf)) => Some(elf),
        Some(_) => return Err("ELF path must be a string".into()),
    };
    Ok(((firmware, elf), config.chip))
}

/// The files to upload, by the names the server will know them by, and what `sim:start` says of them.
///
/// # Errors
/// What cannot be read, in words.
fn firmware(path: &Path) -> Result<(Files, Value), String> {
    #[derive(Deserialize)]
    struct FlasherArgs {
        flash_files: Option<BTreeMap<String, String>>,
        flash_settings: Option<BTreeMap<String, Value>>,
    }
    if path.file_name().is_none_or(|name| name != "flasher_args.json") {
        let name = path.to_string_lossy();
        let name = format!("firmware.{}", name.rsplit('.').next().unwrap_or_default());
        return Ok((vec![(name.clone(), bytes(path)?)], json!({ "firmware": name })));
    }
    let args: FlasherArgs = serde_json::from_slice(&bytes(path)?).map_err(|e| e.to_string())?;
    let named = args.flash_files.ok_or("flash_files is not defined in flasher_args.json")?;
    let (mut files, mut sections) = (Vec::new(), Vec::new());
    for (offset, file) in named {
        let digits = offset.strip_prefix("0x").unwrap_or(&offset);
        let Ok(at) = u64::from_str_radix(digits, 16) else {
            return Err(format!("Invalid offset in flasher_args.json flash_files: {offset}"));
        };
        let name = format!("flash-{offset}.bin");
        files.push((name.clone(), bytes(&path.with_file_name("").join(file))?));
        sections.push(json!({ "offset": at, "file": name }));
    }
    let mut start = json!({ "firmware": sections });
    if let Some(size) = args.flash_settings.and_then(|mut settings| settings.remove("flash_size")) {
        start["flashSize"] = size;
    }
    Ok((files, start))
}

/// A file's content.
///
/// # Errors
/// It cannot be read, with its path.
pub fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("{e}, open '{}'", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::create_dir_all(home.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(home.path().join(name), text).unwrap();
        }
        home
    }

    const CONFIG: &str = "[wokwi]\nversion = 1\nfirmware = '/build/flasher_args.json'\n[net]\ngateway = true\n";

    #[test]
    fn flash_sections_are_uploaded_by_offset() {
        let args = r#"{"flash_settings":{"flash_size":"4MB"},"flash_files":{"0x0":"../a.elf","0x9000":"b.bin"}}"#;
        let home = project(&[
            ("wokwi.toml", CONFIG),
            ("diagram.json", "{}"),
            ("build/flasher_args.json", args),
            ("a.elf", "A"),
            ("build/b.bin", "B"),
        ]);
        let found = find(home.path(), None, None).unwrap();
        assert_eq!(found.firmware, home.path().join("build/flasher_args.json"), "an absolute path is below the folder too");
        let (files, start) = firmware(&found.firmware).unwrap();
        assert_eq!(files, [("flash-0x0.bin".into(), b"A".to_vec()), ("flash-0x9000.bin".into(), b"B".to_vec())]);
        let sections = json!([{ "offset": 0, "file": "flash-0x0.bin" }, { "offset": 0x9000, "file": "flash-0x9000.bin" }]);
        assert_eq!(start, json!({ "firmware": sections, "flashSize": "4MB" }));
    }

    #[test]
    fn an_elf_file_stands_in_for_all_firmware() {
        let home = project(&[("diagram.json", "{}"), ("app.elf", "E"), ("wokwi.toml", CONFIG)]);
        let elf = home.path().join("app.elf");
        let found = find(home.path(), None, elf.to_str()).unwrap();
        assert_eq!((&found.firmware, &found.elf), (&elf, &Some(elf.clone())));
        assert_eq!(firmware(&elf).unwrap().1, json!({ "firmware": "firmware.elf" }));
    }

    #[test]
    fn what_is_missing_or_wrong_is_said_in_wokwis_words() {
        let told = |files: &[(&str, &str)]| find(project(files).path(), None, None).unwrap_err();
        assert!(told(&[]).starts_with("wokwi.toml not found in "));
        assert!(told(&[("wokwi.toml", CONFIG)]).starts_with("diagram.json not found in "));
        assert!(told(&[("wokwi.toml", CONFIG), ("diagram.json", "")]).starts_with("firmware file not found: "));
        for (config, says) in [
            ("", "Missing `[wokwi]` section in wokwi.toml"),
            ("[wokwi]\nversion = 2\n", "Unsupported wokwi.toml version: 2"),
            ("[wokwi]\nversion = 1\n", "Firmware path must be a string"),
            ("[wokwi]\nversion = 1\nfirmware = 'x'\nelf = 1\n", "ELF path must be a string"),
        ] {
            assert_eq!(told(&[("wokwi.toml", config), ("diagram.json", "")]), format!("Error in wokwi.toml: {says}"));
        }
    }
}
