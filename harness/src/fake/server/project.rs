//! What a client has uploaded, and what the board makes of it: an image, a flash, a wired serial monitor.

use crate::fake::api::Refusal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Files of one connection, and their bytes, at most.
const FILES_MAX: usize = 64;
const BYTES_MAX: usize = 64 << 20;
/// Where the board's flash holds what it is told of its surroundings, and how much of it.
const SURROUNDINGS_AT: u64 = 0x9000;
const SURROUNDINGS_BYTES: usize = 0x4000;
/// Where the board's flash holds its storage (ESP-IDF's NVS), and how much of it.
const STORAGE_AT: u64 = 0x21_0000;
/// Bytes of the board's storage.
pub const STORAGE_BYTES: usize = 0x2_0000;
/// The serial monitor, as a diagram calls it.
const MONITOR: &str = "$serialMonitor";
/// Where an image for the emulated machine has to begin.
const MEMORY: std::ops::Range<u32> = 0x8000_0000..0x8080_0000;

/// Uploaded files, by name.
#[derive(Debug, Default)]
pub struct Files(BTreeMap<String, Vec<u8>>);

#[derive(Deserialize)]
struct Upload {
    name: String,
    text: Option<String>,
    binary: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Start {
    firmware: Option<Firmware>,
    #[serde(default)]
    chips: Vec<String>,
    #[serde(default)]
    sdcards: Vec<Value>,
}

/// Both forms are the protocol's.
#[derive(Deserialize)]
#[serde(untagged)]
enum Firmware {
    Whole(String),
    Sections(Vec<Section>),
}

#[derive(Deserialize)]
struct Section {
    offset: u64,
    file: String,
}

/// What a board begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// An ELF file for the emulated machine.
    pub kernel: Vec<u8>,
    /// What the board is told of its surroundings; may be empty.
    pub surroundings: Vec<u8>,
    /// Its storage, whole.
    pub storage: Vec<u8>,
    /// How the diagram wires the serial monitor.
    pub wiring: Wiring,
}

/// How the serial monitor is wired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wiring {
    /// It hears the board.
    pub hears: bool,
    /// The board hears it.
    pub says: bool,
}

/// Reads a command's parameters.
///
/// # Errors
/// What does not fit.
pub fn read<'a, T: Deserialize<'a>>(params: &'a Value) -> Result<T, Refusal> {
    T::deserialize(params).map_err(Refusal::wrong)
}

impl Files {
    /// `file:upload`.
    ///
    /// # Errors
    /// No content, broken base64, too much.
    pub fn upload(&mut self, params: Value) -> Result<Value, Refusal> {
        let Upload { name, text, binary } = serde_json::from_value(params).map_err(Refusal::wrong)?;
        let bytes = match (text, binary) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(binary)) => BASE64.decode(binary).map_err(|_| Refusal::wrong(format!("{name} is not base64")))?,
            _ => return Err(Refusal::wrong("a file has either `text` or `binary`")),
        };
        let others = self.0.iter().filter(|(known, _)| **known != name);
        if others.clone().count() == FILES_MAX || others.map(|(_, file)| file.len()).sum::<usize>() + bytes.len() > BYTES_MAX {
            return Err(Refusal { code: 413, message: format!("{FILES_MAX} files of {} MiB together at most", BYTES_MAX >> 20) });
        }
        self.0.insert(name, bytes);
        Ok(json!({}))
    }

    /// `file:download`.
    ///
    /// # Errors
    /// No such file.
    pub fn download(&self, params: &Value) -> Result<Value, Refusal> {
        let Named { name } = read(params)?;
        let file = self.file(&name)?;
        Ok(match std::str::from_utf8(file) {
            Ok(text) => json!({ "text": text }),
            Err(_) => json!({ "binary": BASE64.encode(file) }),
        })
    }

    fn file(&self, name: &str) -> Result<&Vec<u8>, Refusal> {
        self.0.get(name).ok_or_else(|| Refusal::missing(format!("{name} was not uploaded")))
    }

    /// What `sim:start` starts; within: what the board cannot run, in words.
    ///
    /// # Errors
    /// What is missing or makes no sense.
    pub fn image(&self, params: &Value) -> Result<Result<Image, String>, Refusal> {
        let Start { firmware, chips, sdcards } = read(params)?;
        if let Some(chip) = chips.first() {
            return Err(Refusal::beyond(format!("the chip {chip}")));
        }
        if !sdcards.is_empty() {
            return Err(Refusal::beyond("an SD card"));
        }
        let wiring = self.diagram()?.wiring();
        let sections = match firmware {
            Some(Firmware::Whole(file)) => vec![Section { offset: 0, file }],
            Some(Firmware::Sections(sections)) => sections,
            None => return Err(Refusal::wrong("sim:start names no firmware")),
        };
        let mut image = Image { storage: vec![0xff; STORAGE_BYTES], wiring, ..Image::default() };
        for Section { offset, file } in sections {
            let bytes = self.file(&file)?;
            match offset {
                0 if is_for_the_machine(bytes) => image.kernel.clone_from(bytes),
                SURROUNDINGS_AT if bytes.len() <= SURROUNDINGS_BYTES => {
                    // Erased flash is 0xff; the board reads a text up to a zero byte.
                    image.surroundings = bytes.split(|byte| matches!(byte, 0 | 0xff)).next().unwrap_or_default().to_vec();
                }
                STORAGE_AT if bytes.len() <= STORAGE_BYTES => image.storage[..bytes.len()].copy_from_slice(bytes),
                0 => {
                    return Ok(Err(format!(
                        "{file} cannot be run by this fake: it emulates QEMU's machine virt (ci/firmware.sh virt), \
                         and runs a 32-bit RISC-V ELF file that begins at {:#x}",
                        MEMORY.start
                    )));
                }
                SURROUNDINGS_AT | STORAGE_AT => return Ok(Err(format!("{file} is too large for its partition at {offset:#x}"))),
                _ => {
                    let known = format!("0x0, {SURROUNDINGS_AT:#x} (surroundings), {STORAGE_AT:#x} (storage)");
                    return Ok(Err(format!("{file}: this fake's board has nothing at {offset:#x} of its flash; there is {known}")));
                }
            }
        }
        if image.kernel.is_empty() {
            return Ok(Err("no section is at 0x0".into()));
        }
        Ok(Ok(image))
    }

    /// The diagram.
    ///
    /// # Errors
    /// It was not uploaded, or is none.
    pub fn diagram(&self) -> Result<Diagram, Refusal> {
        serde_json::from_slice(self.file("diagram.json")?).map_err(|e| Refusal::wrong(format!("diagram.json: {e}")))
    }
}

/// A diagram.json, as far as it is read.
#[derive(Debug, Deserialize)]
pub struct Diagram {
    parts: Vec<Part>,
    #[serde(default)]
    connections: Vec<Vec<Value>>,
}

#[derive(Debug, Deserialize)]
struct Part {
    id: String,
    #[serde(default)]
    attrs: BTreeMap<String, Value>,
}

impl Diagram {
    /// Whether it has a part of this id.
    pub fn has(&self, part: &str) -> bool {
        self.parts.iter().any(|known| known.id == part)
    }

    fn wiring(&self) -> Wiring {
        // A board that talks through its USB needs no wires.
        if self.parts.iter().any(|part| part.attrs.get("serialInterface").is_some_and(|how| how == "USB_SERIAL_JTAG")) {
            return Wiring { hears: true, says: true };
        }
        let wired = |pin: &str, end: &str| {
            self.connections.iter().any(|connection| {
                let is = |at: usize, what: &dyn Fn(&str) -> bool| connection.get(at).and_then(Value::as_str).is_some_and(what);
                let monitor = |text: &str| text.strip_prefix(MONITOR).and_then(|rest| rest.strip_prefix(':')) == Some(end);
                let board = |text: &str| text.split_once(':').is_some_and(|(part, its)| its == pin && self.has(part));
                (is(0, &monitor) && is(1, &board)) || (is(1, &monitor) && is(0, &board))
            })
        };
        Wiring { hears: wired("TX", "RX"), says: wired("RX", "TX") }
    }
}

/// Whether it is an ELF file that the emulated machine can begin.
fn is_for_the_machine(file: &[u8]) -> bool {
    const RISC_V: [u8; 2] = 243_u16.to_le_bytes();
    let entry = file.get(24..28).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    // 32 bits, little-endian.
    file.starts_with(b"\x7fELF\x01\x01") && file.get(18..20) == Some(&RISC_V) && entry.is_some_and(|entry| MEMORY.contains(&entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIRED: &str = r#"{"version":1,"parts":[{"type":"board-esp32-c3-devkitm-1","id":"esp"}],
        "connections":[["esp:TX","$serialMonitor:RX","",[]],["$serialMonitor:TX","esp:RX","",[]]]}"#;

    fn elf(entry: u32) -> Vec<u8> {
        let mut elf = b"\x7fELF\x01\x01\x01".to_vec();
        elf.resize(18, 0);
        elf.extend(243_u16.to_le_bytes());
        elf.resize(24, 0);
        elf.extend(entry.to_le_bytes());
        elf
    }

    fn files(named: &[(&str, &[u8])]) -> Files {
        let mut files = Files::default();
        for (name, bytes) in named {
            files.upload(json!({ "name": name, "binary": BASE64.encode(bytes) })).unwrap();
        }
        files
    }

    #[test]
    fn an_image_is_its_sections() {
        let all = [("diagram.json", WIRED.as_bytes()), ("a", &elf(0x8000_0000)), ("b", b"seed 7\n\xff\xff"), ("c", b"nvs")];
        let start = json!({ "firmware": [{ "offset": 0, "file": "a" }, { "offset": 0x9000, "file": "b" }, { "offset": 0x210000, "file": "c" }],
            "flashSize": "4MB", "pause": true });
        let image = files(&all).image(&start).unwrap().unwrap();
        assert_eq!((image.kernel, image.surroundings), (elf(0x8000_0000), b"seed 7\n".to_vec()));
        assert_eq!((image.storage.len(), &image.storage[..4]), (STORAGE_BYTES, &b"nvs\xff"[..]));
        assert_eq!(image.wiring, Wiring { hears: true, says: true });
        let whole = files(&all).image(&json!({ "firmware": "a" })).unwrap().unwrap();
        assert!(whole.surroundings.is_empty());
    }

    #[test]
    fn what_cannot_be_run_is_said() {
        let all: [(&str, &[u8]); 4] = [
            ("diagram.json", WIRED.as_bytes()),
            ("elf", &elf(0x8000_0000)),
            ("chip.elf", &elf(0x4200_0000)),
            ("app.bin", b"\xe9\x04"),
        ];
        let files = files(&all);
        let told = |firmware: Value| files.image(&json!({ "firmware": firmware })).unwrap().unwrap_err();
        assert!(told(json!("app.bin")).contains("app.bin cannot be run"));
        assert!(told(json!("chip.elf")).contains("chip.elf cannot be run"));
        assert!(told(json!([{ "offset": 0x9000, "file": "app.bin" }])).contains("no section is at 0x0"));
        assert!(told(json!([{ "offset": 0x8000, "file": "elf" }])).contains("nothing at 0x8000"));
        let refused = |start: Value| files.image(&start).unwrap_err();
        assert_eq!(refused(json!({ "firmware": "else" })).code, 404);
        assert_eq!(refused(json!({})).code, 400);
        assert_eq!(refused(json!({ "firmware": "elf", "chips": ["inverter"] })).code, 501);
        assert_eq!(refused(json!({ "firmware": "elf", "sdcards": [{}] })).code, 501);
        assert_eq!(Files::default().image(&json!({ "firmware": "elf" })).unwrap_err().code, 404);
    }

    #[test]
    fn without_wires_the_monitor_hears_nothing() {
        let wiring = |diagram: &str| serde_json::from_str::<Diagram>(diagram).unwrap().wiring();
        let bare = r#"{"parts":[{"id":"esp"}],"connections":[["esp:TX","$serialMonitor:RX"],["esp:TX","$serialMonitor:TX"]]}"#;
        assert_eq!(wiring(bare), Wiring { hears: true, says: false });
        assert_eq!(wiring(r#"{"parts":[{"id":"esp"}]}"#), Wiring::default());
        let usb = r#"{"parts":[{"id":"esp","attrs":{"serialInterface":"USB_SERIAL_JTAG"}}]}"#;
        assert_eq!(wiring(usb), Wiring { hears: true, says: true });
        assert_eq!(wiring(r#"{"parts":[],"connections":[["esp:TX","$serialMonitor:RX"]]}"#), Wiring::default(), "no such part");
    }

    #[test]
    fn files_come_back_as_they_went() {
        let files = files(&[("t", b"text"), ("b", b"\xff\x00")]);
        assert_eq!(files.download(&json!({ "name": "t" })), Ok(json!({ "text": "text" })));
        assert_eq!(files.download(&json!({ "name": "b" })), Ok(json!({ "binary": "/wA=" })));
        assert_eq!(files.download(&json!({ "name": "x" })).unwrap_err().code, 404);
        let mut files = Files::default();
        for wrong in [
            json!({ "name": "x" }),
            json!({ "name": "x", "binary": "?" }),
            json!(3),
            json!({ "name": "x", "text": "", "binary": "" }),
        ] {
            assert_eq!(files.upload(wrong).unwrap_err().code, 400);
        }
        for n in 0..FILES_MAX {
            files.upload(json!({ "name": n.to_string(), "text": "" })).unwrap();
        }
        assert_eq!(files.upload(json!({ "name": "more", "text": "" })).unwrap_err().code, 413);
        assert!(files.upload(json!({ "name": "0", "text": "again" })).is_ok());
    }
}
