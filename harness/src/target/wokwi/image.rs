//! The firmware that is uploaded: sections of flash, and one more that tells it what is around it.

use super::super::TargetError;
use super::project::Files;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The name wokwi-cli knows a list of sections by; ESP-IDF's builds leave one.
pub const LIST: &str = "flasher_args.json";
/// Where the partition table is, on every ESP32.
const TABLE_AT: u32 = 0x8000;
/// Bytes of one entry of it, and how each begins.
const ENTRY: usize = 32;
const ENTRY_MAGIC: [u8; 2] = [0xaa, 0x50];
/// Bytes of the table.
const TABLE_MAX: usize = 0xc00;
/// The partition that holds the surroundings.
const PARTITION: &[u8] = b"surroundings";
/// Where the surroundings are in an image without a partition table, which boards that are no chip have.
const SURROUNDINGS_AT: u32 = 0x9000;
const ELF: [u8; 4] = *b"\x7fELF";
/// Bytes of an image at most: the largest flash there is.
const IMAGE_MAX: u64 = 32 * 1024 * 1024;
const HELP: &str = "build it with ci/firmware.sh esp32c3, or name a flasher_args.json or a merged .bin with --firmware";

/// A firmware, found and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    file: PathBuf,
    /// Of a list: where each section is, and its file. Else the file alone.
    sections: Option<BTreeMap<u32, PathBuf>>,
    flash_size: Option<String>,
    /// Where the surroundings go, and how many bytes they may have.
    surroundings: Option<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    at: u32,
    /// Of the partition, which is filled; none: as many as there are.
    size: Option<usize>,
}

#[derive(Deserialize)]
struct List {
    flash_files: BTreeMap<String, String>,
    #[serde(default)]
    flash_settings: Settings,
}

#[derive(Default, Deserialize)]
struct Settings {
    flash_size: Option<String>,
}

impl Image {
    /// Reads a firmware: a list of sections, or a file of its own (a merged image, an ELF file).
    ///
    /// # Errors
    /// It is not there, or is no such file, or names one that is not there.
    pub fn read(file: &Path) -> Result<Image, TargetError> {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        if !file.is_file() {
            return Err(TargetError { what: format!("find the firmware {}", file.display()), help: HELP.into() });
        }
        if file.file_name().is_none_or(|name| name != LIST) {
            if file
                .extension()
                .and_then(|ending| ending.to_str())
                .is_none_or(|ending| !["bin", "elf", "hex", "uf2"].contains(&ending))
            {
                return Err(wrong(&file, &format!("its name ends in none of .bin, .elf, .hex, .uf2, and is not {LIST}")));
            }
            let mut image = Image { sections: None, flash_size: None, surroundings: None, file };
            image.surroundings = image.place()?;
            return Ok(image);
        }
        let text = String::from_utf8_lossy(&bytes(&file)?).into_owned();
        let list: List = serde_json::from_str(&text).map_err(|e| wrong(&file, &format!("no list of flash sections: {e}")))?;
        let folder = file.parent().unwrap_or(Path::new("/"));
        let mut sections = BTreeMap::new();
        for (offset, name) in &list.flash_files {
            let digits = offset.strip_prefix("0x").or_else(|| offset.strip_prefix("0X")).unwrap_or(offset);
            let at = u32::from_str_radix(digits, 16).map_err(|_| wrong(&file, &format!("`{offset}` is no offset, as 0x10000")))?;
            let section = folder.join(name);
            if !section.is_file() {
                return Err(TargetError {
                    what: format!("find {}, the section {offset} of {}", section.display(), file.display()),
                    help: HELP.into(),
                });
            }
            sections.insert(at, section);
        }
        if sections.is_empty() {
            return Err(wrong(&file, "it lists no section"));
        }
        let mut image = Image { sections: Some(sections), flash_size: list.flash_settings.flash_size, surroundings: None, file };
        image.surroundings = image.place()?;
        Ok(image)
    }

    /// Where the surroundings go: a partition of that name, or what a board without partitions has; none: this firmware is told nothing.
    fn place(&self) -> Result<Option<Place>, TargetError> {
        let table = match &self.sections {
            Some(sections) => sections.get(&TABLE_AT).map(|file| bytes(file)).transpose()?,
            None => {
                let whole = bytes(&self.file)?;
                whole.get(TABLE_AT as usize..).filter(|_| !whole.starts_with(&ELF)).map(<[u8]>::to_vec)
            }
        };
        if let Some(table) = table {
            return Ok(partition(&table).map(|(at, size)| Place { at, size: Some(size) }));
        }
        let first = self.sections.as_ref().and_then(|sections| sections.get(&0)).map(|file| bytes(file)).transpose()?;
        let board = first.is_some_and(|first| first.starts_with(&ELF));
        Ok(board.then_some(Place { at: SURROUNDINGS_AT, size: None }))
    }

    /// The file that was named.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether it can be told what is around it.
    pub fn takes_surroundings(&self) -> bool {
        self.surroundings.is_some()
    }

    /// The SHA-256 of all that is uploaded of it, in hex; none when it cannot be read any more.
    pub fn digest(&self) -> Option<String> {
        let mut digest = Sha256::new();
        match &self.sections {
            None => digest.update(std::fs::read(&self.file).ok()?),
            Some(sections) => {
                for (at, file) in sections {
                    digest.update(at.to_be_bytes());
                    digest.update(std::fs::read(file).ok()?);
                }
            }
        }
        Some(digest.finalize().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }))
    }

    /// What goes into a project's folder, by name, and which of it is the firmware: with the surroundings, where it can be told of them.
    ///
    /// # Errors
    /// A file of it cannot be read, its path is no text, or the surroundings do not fit.
    pub fn files(&self, surroundings: Option<&str>) -> Result<(String, Files), TargetError> {
        let told = match (self.surroundings, surroundings) {
            (Some(place), Some(text)) => Some((
                place.at,
                filled(place, text).ok_or_else(|| wrong(&self.file, "its partition for what is around it is too small"))?,
            )),
            _ => None,
        };
        let Some(sections) = &self.sections else {
            let ending = self.file.extension().and_then(|ending| ending.to_str()).unwrap_or("bin");
            let name = format!("firmware.{ending}");
            let mut whole = bytes(&self.file)?;
            if let Some((at, told)) = told {
                let at = at as usize;
                whole.resize(whole.len().max(at + told.len()), 0xff);
                whole[at..at + told.len()].copy_from_slice(&told);
            }
            return Ok((name.clone(), vec![(name, whole)]));
        };
        let mut listed = serde_json::Map::new();
        for (at, file) in sections.iter().filter(|(at, _)| told.as_ref().is_none_or(|(told, _)| told != *at)) {
            let path = file.to_str().ok_or_else(|| wrong(file, "its path is not Unicode"))?;
            listed.insert(format!("{at:#x}"), path.into());
        }
        let mut files = Vec::new();
        if let Some((at, told)) = told {
            listed.insert(format!("{at:#x}"), "surroundings.bin".into());
            files.push(("surroundings.bin".to_owned(), told));
        }
        let mut list = serde_json::json!({ "flash_files": listed });
        if let Some(size) = &self.flash_size {
            list["flash_settings"] = serde_json::json!({ "flash_size": size });
        }
        files.push((LIST.to_owned(), list.to_string().into_bytes()));
        Ok((LIST.to_owned(), files))
    }
}

/// Where the partition of the surroundings is, and its bytes.
fn partition(table: &[u8]) -> Option<(u32, usize)> {
    let entries = table.chunks_exact(ENTRY).take(TABLE_MAX / ENTRY).take_while(|entry| entry.starts_with(&ENTRY_MAGIC));
    let number = |entry: &[u8], from: usize| entry.get(from..from + 4)?.try_into().ok().map(u32::from_le_bytes);
    for entry in entries {
        let name = entry.get(12..28)?;
        if name.split(|byte| *byte == 0).next() == Some(PARTITION) {
            return Some((number(entry, 4)?, usize::try_from(number(entry, 8)?).ok()?));
        }
    }
    None
}

/// The text as its place holds it; none when it does not fit.
fn filled(place: Place, text: &str) -> Option<Vec<u8>> {
    let mut told = text.as_bytes().to_vec();
    if let Some(size) = place.size {
        if told.len() > size {
            return None;
        }
        // Erased flash behind it, whatever the image has there.
        told.resize(size, 0xff);
    }
    Some(told)
}

fn bytes(file: &Path) -> Result<Vec<u8>, TargetError> {
    let length = std::fs::metadata(file).map_err(|e| wrong(file, &e.to_string()))?.len();
    if length > IMAGE_MAX {
        return Err(wrong(file, "it is larger than any flash, 32 MiB"));
    }
    std::fs::read(file).map_err(|e| wrong(file, &e.to_string()))
}

fn wrong(file: &Path, why: &str) -> TargetError {
    TargetError { what: format!("use {}: {why}", file.display()), help: HELP.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, at: u32, size: u32) -> Vec<u8> {
        let mut entry = [&ENTRY_MAGIC[..], &[1, 0x40], &at.to_le_bytes(), &size.to_le_bytes(), name.as_bytes()].concat();
        entry.resize(ENTRY, 0);
        entry
    }

    fn home(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(home.path().join(name), content).unwrap();
        }
        home
    }

    fn read(home: &tempfile::TempDir, name: &str) -> Result<Image, String> {
        Image::read(&home.path().join(name)).map_err(|e| e.what)
    }

    const LISTED: &[u8] =
        br#"{"flash_settings": {"flash_size": "4MB"}, "flash_files": {"0x0": "boot", "0x8000": "table", "0x10000": "app"}}"#;

    #[test]
    fn the_surroundings_go_where_the_partition_table_says() {
        let table = [entry("nvs", 0x9000, 0x4000), entry("surroundings", 0xd000, 16), vec![0xff; ENTRY], entry("x", 1, 2)].concat();
        let home = home(&[(LIST, LISTED), ("boot", b"b"), ("table", &table), ("app", b"a")]);
        let image = read(&home, LIST).unwrap();
        let (name, files) = image.files(Some("seed 1\n")).unwrap();
        assert_eq!(
            (name.as_str(), files[0].0.as_str(), files[0].1.as_slice()),
            (LIST, "surroundings.bin", &b"seed 1\n\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..])
        );
        let list: serde_json::Value = serde_json::from_slice(&files[1].1).unwrap();
        assert_eq!(list["flash_files"]["0xd000"], "surroundings.bin");
        assert_eq!(list["flash_files"]["0x10000"], home.path().join("app").to_str().unwrap());
        assert_eq!(list["flash_settings"]["flash_size"], "4MB");
        assert!(image.files(Some("seed 1, which is too long\n")).unwrap_err().what.contains("too small"));
        let (_, files) = image.files(None).unwrap();
        assert_eq!(files.len(), 1, "nothing is told to firmware that is not ours");
    }

    #[test]
    fn firmware_without_such_a_partition_is_told_nothing() {
        let home = home(&[(LIST, LISTED), ("boot", b"b"), ("table", &entry("nvs", 0x9000, 0x4000)), ("app", b"a")]);
        let image = read(&home, LIST).unwrap();
        assert!(!image.takes_surroundings());
        assert!(!String::from_utf8_lossy(&image.files(Some("seed 1")).unwrap().1[0].1).contains("0x9000"));
    }

    #[test]
    fn a_board_that_is_no_chip_is_an_elf_file_at_0() {
        let home = home(&[(LIST, br#"{"flash_files": {"0x0": "virt.elf"}}"#), ("virt.elf", b"\x7fELF....")]);
        let (_, files) = read(&home, LIST).unwrap().files(Some("seed 1\n")).unwrap();
        assert_eq!(files[0].1, b"seed 1\n");
        assert!(String::from_utf8_lossy(&files[1].1).contains(r#""0x9000":"surroundings.bin""#));
    }

    #[test]
    fn a_merged_image_is_told_in_its_own_place() {
        let mut whole = vec![0; TABLE_AT as usize];
        whole.extend(entry("surroundings", 0x9000, 8));
        let home = home(&[("merged.bin", &whole), ("app.elf", b"\x7fELF")]);
        let (name, files) = read(&home, "merged.bin").unwrap().files(Some("seed 1\n")).unwrap();
        assert_eq!((name.as_str(), files[0].1.len(), &files[0].1[0x8fff..]), ("firmware.bin", 0x9008, &b"\xffseed 1\n\xff"[..]));
        let (name, files) = read(&home, "app.elf").unwrap().files(Some("seed 1\n")).unwrap();
        assert_eq!((name.as_str(), files[0].1.as_slice()), ("firmware.elf", &b"\x7fELF"[..]));
    }

    #[test]
    fn what_is_wrong_with_a_firmware_is_said_with_its_name() {
        let home = home(&[("notes.txt", b"x"), (LIST, LISTED), ("boot", b"b")]);
        assert!(read(&home, "gone.bin").unwrap_err().contains("find the firmware"));
        assert!(read(&home, "notes.txt").unwrap_err().contains("its name ends in none of"));
        assert!(read(&home, LIST).unwrap_err().contains("the section 0x10000"), "the first that is missing");
        for (list, why) in [
            ("{}", "flash_files"),
            ("[1", "no list"),
            (r#"{"flash_files": {}}"#, "no section"),
            (r#"{"flash_files": {"boot": "boot"}}"#, "no offset"),
        ] {
            std::fs::write(home.path().join(LIST), list).unwrap();
            assert!(read(&home, LIST).unwrap_err().contains(why), "{list}");
        }
    }
}
