//! What is flashed where on an ESP32-C3 with 4 MB of flash: bootloader, partition table, app; in files of their own with `flasher_args.json`
//! as ESP-IDF's build leaves it, and in one file from offset 0.

use esp_idf_part::{AppType, DataType, Flags, Partition, PartitionTable, SubType, Type};
use espflash::flasher::{FlashData, FlashFrequency, FlashMode, FlashSettings, FlashSize};
use espflash::image_format::idf::IdfBootloaderFormat;
use espflash::target::{Chip, XtalFrequency};
use serde_json::json;
use std::fs;
use std::path::Path;

/// All of it, in bytes.
const FLASH: usize = 4 * 1024 * 1024;
const TABLE: u32 = 0x8000;
/// Where the text about the board's surroundings lies; erased, there are none.
const SURROUNDINGS: (u32, u32) = (0x9000, 0x4000);
const APP: (u32, u32) = (0x1_0000, 0x20_0000);
/// NVS, where the device keeps what it must not forget.
const CONFIG: (u32, u32) = (0x21_0000, 0x2_0000);

/// The partitions.
fn partitions() -> PartitionTable {
    let partition =
        |name: &str, kind, sub, (offset, size)| Partition::new(name.to_owned(), kind, sub, offset, size, Flags::empty());
    PartitionTable::new(vec![
        partition("surroundings", Type::Data, SubType::Data(DataType::Undefined), SURROUNDINGS),
        partition("factory", Type::App, SubType::App(AppType::Factory), APP),
        partition("device_config", Type::Data, SubType::Data(DataType::Nvs), CONFIG),
    ])
}

/// Makes what is flashed of an app.
///
/// # Errors
/// An ELF file that is no app for the chip, or too large for its partition; files that cannot be written.
pub fn make(elf: &Path, folder: &Path, merged: &Path) -> Result<(), String> {
    let at = |path: &Path, e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let app = fs::read(elf).map_err(|e| at(elf, &e))?;
    fs::create_dir_all(folder).map_err(|e| at(folder, &e))?;
    let table_path = folder.join("partition-table.bin");
    let table = partitions().to_bin().map_err(|e| format!("the partition table: {e}"))?;
    fs::write(&table_path, table).map_err(|e| at(&table_path, &e))?;

    let settings = FlashSettings::new(Some(FlashMode::Dio), Some(FlashSize::_4Mb), Some(FlashFrequency::_80Mhz));
    let chip = FlashData::new(settings, 0, None, Chip::Esp32c3, XtalFrequency::_40Mhz);
    let made = IdfBootloaderFormat::new(&app, &chip, Some(&table_path), None, Some(TABLE), Some("factory"));
    let mut flash = vec![0xFF; FLASH];
    let mut files = serde_json::Map::new();
    for segment in made.map_err(|e| at(elf, &e))?.flash_segments() {
        let (start, bytes) = (segment.addr as usize, segment.data());
        let name = match segment.addr {
            0 => "bootloader.bin",
            TABLE => "partition-table.bin",
            _ => "esp32c3.bin",
        };
        let room = flash.get_mut(start..start + bytes.len()).ok_or_else(|| format!("{name} does not fit the flash"))?;
        room.copy_from_slice(bytes);
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(|e| at(&path, &e))?;
        println!("firmware: {start:#9x} {name}, {} bytes", bytes.len());
        files.insert(format!("{start:#x}"), json!(name));
    }
    let path = folder.join("flasher_args.json");
    let text = format!("{:#}\n", flasher_args(files));
    fs::write(&path, text).map_err(|e| at(&path, &e))?;
    fs::write(merged, flash).map_err(|e| at(merged, &e))
}

/// `flasher_args.json`, which esptool, Wokwi and ESP-IDF's tools read.
fn flasher_args(files: serde_json::Map<String, serde_json::Value>) -> serde_json::Value {
    let part = |offset: u32, file: &str| json!({ "offset": format!("{offset:#x}"), "file": file, "encrypted": "false" });
    json!({
        "write_flash_args": ["--flash_mode", "dio", "--flash_size", "4MB", "--flash_freq", "80m"],
        "flash_settings": { "flash_mode": "dio", "flash_size": "4MB", "flash_freq": "80m" },
        "flash_files": files,
        "bootloader": part(0, "bootloader.bin"),
        "partition-table": part(TABLE, "partition-table.bin"),
        "app": part(APP.0, "esp32c3.bin"),
        "extra_esptool_args": { "after": "hard_reset", "before": "default_reset", "stub": true, "chip": "esp32c3" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partitions_lie_where_the_board_looks_and_do_not_overlap() {
        let table = partitions();
        assert!(table.validate().is_ok());
        let config = table.find("device_config").unwrap();
        assert_eq!((config.offset(), config.size()), (0x21_0000, 0x2_0000));
        let bytes = table.to_bin().unwrap();
        let again = PartitionTable::try_from_bytes(bytes).unwrap();
        assert_eq!(again.partitions(), table.partitions());
        let last = table.partitions().iter().map(|p| p.offset() + p.size()).max().unwrap();
        assert!(last as usize <= FLASH);
    }

    #[test]
    fn what_is_no_app_is_refused() {
        let folder = std::env::temp_dir().join(format!("image-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let elf = folder.join("app.elf");
        fs::write(&elf, b"no ELF").unwrap();
        let why = make(&elf, &folder, &folder.join("flash.bin")).unwrap_err();
        assert!(why.contains("app.elf"), "{why}");
        assert!(!folder.join("flash.bin").exists());
        fs::remove_dir_all(&folder).unwrap();
    }
}
