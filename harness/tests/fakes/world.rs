//! A fake server, projects for it, and clients of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long whatever a test waits for may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const TOKEN: &str = "a word of ours";
const DIAGRAM: &str = r#"{ "version": 1, "author": "x", "editor": "wokwi",
  "parts": [ { "type": "board-esp32-c3-devkitm-1", "id": "esp", "top": 0, "left": 0, "attrs": {} } ],
  "connections": [ ["esp:TX", "$serialMonitor:RX", "", []], ["esp:RX", "$serialMonitor:TX", "", []] ] }"#;

/// Whether there is what runs firmware; a test that returns for want of it says so.
pub fn can_run() -> bool {
    let can = Command::new("qemu-system-riscv32").arg("--version").output().is_ok();
    if !can {
        eprintln!("not looked at: there is no qemu-system-riscv32 (ci/firmware.sh)");
    }
    can
}

/// The project's firmware, if it has been built.
pub fn firmware() -> Option<Vec<u8>> {
    let image = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware/target/virt.elf")).ok();
    if image.is_none() {
        eprintln!("not looked at: the firmware's image is missing (ci/firmware.sh)");
    }
    image
}

/// The command lines there are: the fake, and the real one where it is in PATH.
pub fn clients() -> Vec<PathBuf> {
    let mut clients = vec![PathBuf::from(env!("CARGO_BIN_EXE_fake-wokwi-cli"))];
    match Command::new("wokwi-cli").arg("--short-version").output() {
        Ok(_) => clients.push("wokwi-cli".into()),
        Err(_) => eprintln!("not looked at: there is no wokwi-cli in PATH; the fake alone is looked at"),
    }
    clients
}

pub struct Server {
    child: Child,
    pub url: String,
    home: TempDir,
}

impl Server {
    pub fn start(options: &[&str]) -> Server {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fake-wokwi-server"));
        command.args(options).arg("--ends-with-input").env("WOKWI_CLI_TOKEN", TOKEN).env("TMPDIR", home.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Server { child, url: url.trim().into(), home }
    }

    pub fn address(&self) -> &str {
        self.url.strip_prefix("ws://").unwrap()
    }

    /// The emulators that run for it: they name its folder.
    pub fn emulators(&self) -> usize {
        let listed = Command::new("ps").args(["-A", "-ww", "-o", "args="]).output().unwrap().stdout;
        let (told, folder) = (String::from_utf8_lossy(&listed).into_owned(), self.home.path().display().to_string());
        told.lines().filter(|line| line.contains(&folder) && line.contains("virtio-blk-device")).count()
    }

    /// What it has left in its folder for temporary files.
    pub fn leftovers(&self) -> usize {
        std::fs::read_dir(self.home.path()).unwrap().count()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A project of this image, with these files beside.
pub fn project(image: &[u8], beside: &[(&str, &str)]) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(home.path().join(name), bytes).unwrap();
    write("diagram.json", DIAGRAM.as_bytes());
    write("wokwi.toml", b"[wokwi]\nversion = 1\nfirmware = 'flasher_args.json'\n");
    write("flasher_args.json", br#"{"flash_settings":{"flash_size":"4MB"},"flash_files":{"0x0":"image.elf"}}"#);
    write("image.elf", image);
    for (name, text) in beside {
        write(name, text.as_bytes());
    }
    home
}

/// A client in a project.
pub fn client(program: &Path, server: &str, project: &TempDir, options: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(options).arg(project.path()).env("WOKWI_CLI_TOKEN", TOKEN).env("WOKWI_CLI_SERVER", server).env("NO_COLOR", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a program came to: exit code, standard output, standard error.
#[derive(Debug)]
pub struct Came {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs a program to its end.
pub fn end(mut command: Command) -> Came {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Came { code: status.code(), out: text(&stdout), err: text(&stderr) }
}

/// A client that is typed to.
pub struct Typing {
    pub child: Child,
    pub keys: Option<ChildStdin>,
}

impl Typing {
    pub fn start(mut command: Command) -> Typing {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let keys = child.stdin.take();
        Typing { child, keys }
    }

    /// Types from a thread of its own, and reads so many bytes meanwhile.
    pub fn exchange(&mut self, typed: Vec<u8>, read: usize) -> Vec<u8> {
        let mut keys = self.keys.take().unwrap();
        let typing = std::thread::spawn(move || {
            keys.write_all(&typed).unwrap();
            keys
        });
        let heard = self.read(read);
        self.keys = Some(typing.join().unwrap());
        heard
    }

    /// Reads so many bytes.
    pub fn read(&mut self, bytes: usize) -> Vec<u8> {
        let mut heard = vec![0; bytes];
        self.child.stdout.as_mut().unwrap().read_exact(&mut heard).unwrap();
        heard
    }
}

impl Drop for Typing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn until(what: &str, mut met: impl FnMut() -> bool) {
    let began = Instant::now();
    while !met() {
        assert!(began.elapsed() < PATIENCE, "waited for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
