//! The board: QEMU's machine virt, one process a start, that can be told to stand still.
//!
//! A pause is QEMU's `stop`, which stops the machine's own clock with it; a stopped process would find on waking that time had passed.

use super::project::Image;
use crate::child::{Ends, Guarded, PrivateDir};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::ChildStderr;
use tokio::task::JoinHandle;

/// Where the firmware looks for its surroundings.
const SURROUNDINGS_AT: &str = "0x80800000";
/// Memory in MiB.
const MEMORY_MIB: u32 = 16;
/// How long QEMU may take to start.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long it may take to stand still, or to go on.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Bytes of a message of QEMU's.
const MESSAGE_MAX: u64 = 64 * 1024;
/// Bytes of what QEMU itself says that are kept.
const COMPLAINT_MAX: u64 = 4096;

/// What a board is made of, on disk.
#[derive(Debug)]
pub struct Parts {
    emulator: PathBuf,
    home: PrivateDir,
    surroundings: bool,
}

/// A board that is switched on.
#[derive(Debug)]
pub struct Board {
    qemu: Guarded,
    control: BufReader<UnixStream>,
    complaint: Option<JoinHandle<String>>,
    /// What it says; none once it has ended.
    pub says: Option<OwnedReadHalf>,
    /// What it is told; none once it has ended.
    pub hears: Option<OwnedWriteHalf>,
}

impl Parts {
    /// Lays out the image.
    ///
    /// # Errors
    /// No room for it.
    pub fn new(emulator: &Path, image: &Image) -> io::Result<Parts> {
        let home = PrivateDir::new("fake-wokwi")?;
        home.write("kernel.elf", &image.kernel)?;
        home.write("storage.bin", &image.storage)?;
        home.write("surroundings", &[&image.surroundings[..], b"\0"].concat())?;
        Ok(Parts { emulator: emulator.to_owned(), home, surroundings: !image.surroundings.is_empty() })
    }

    /// Switches it on, standing still before its first instruction. Its storage is as it was left.
    ///
    /// # Errors
    /// QEMU cannot be started; with what it says.
    pub async fn start(&self) -> io::Result<Board> {
        let (console, control) = (self.home.path().join("console"), self.home.path().join("control"));
        let (console_at, control_at) = (listen(&console)?, listen(&control)?);
        let mut qemu = Guarded::spawn(&self.emulator, &self.arguments(&console, &control), &[], Ends::ByReaper).await?;
        let complaint = tokio::spawn(complaint(qemu.stderr()));
        let started = async {
            let (console, _) = console_at.accept().await?;
            let (control, _) = control_at.accept().await?;
            let mut control = BufReader::new(control);
            answer(&mut control, "QMP").await?;
            execute(&mut control, "qmp_capabilities").await?;
            Ok::<_, io::Error>((console, control))
        };
        let started = tokio::select! {
            started = tokio::time::timeout(START_LIMIT, started) => started.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            _ = qemu.ended() => Err(io::ErrorKind::UnexpectedEof.into()),
        };
        match started {
            Ok((console, control)) => {
                let (says, hears) = console.into_split();
                Ok(Board { qemu, control, complaint: Some(complaint), says: Some(says), hears: Some(hears) })
            }
            Err(error) => {
                let _ = qemu.kill().await;
                let said = complaint.await.unwrap_or_default();
                let why = if said.is_empty() { error.to_string() } else { said };
                Err(io::Error::other(format!("{} does not start: {why}", self.emulator.display())))
            }
        }
    }

    fn arguments(&self, console: &Path, control: &Path) -> Vec<OsString> {
        let file = |name: &str| self.home.path().join(name);
        let mut line: Vec<OsString> = Vec::new();
        let mut add = |option: &str, value: OsString| line.extend([option.into(), value]);
        add("-M", "virt".into());
        add("-m", format!("{MEMORY_MIB}M").into());
        add("-display", "none".into());
        add("-bios", "none".into());
        add("-kernel", file("kernel.elf").into());
        add("-global", "virtio-mmio.force-legacy=false".into());
        add("-chardev", with("socket,id=console,path=", console, ""));
        add("-serial", "chardev:console".into());
        add("-chardev", with("socket,id=control,path=", control, ""));
        add("-mon", "chardev=control,mode=control".into());
        // A network that leads nowhere: nothing that runs in Wokwi reaches this machine either.
        add("-netdev", "user,id=net,ipv6=off,restrict=on".into());
        add("-device", "virtio-net-device,netdev=net".into());
        add("-drive", with("if=none,id=nvs,format=raw,file=", &file("storage.bin"), ""));
        add("-device", "virtio-blk-device,drive=nvs".into());
        add("-device", "virtio-rng-device".into());
        if self.surroundings {
            add("-device", with("loader,file=", &file("surroundings"), &format!(",addr={SURROUNDINGS_AT},force-raw=on")));
        }
        line.push("-nodefaults".into());
        line.push("-S".into());
        line
    }
}

impl Board {
    /// Lets it run.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub async fn go_on(&mut self) -> io::Result<()> {
        self.tell("cont").await
    }

    /// Makes it stand still, its clock with it.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub async fn stand_still(&mut self) -> io::Result<()> {
        self.tell("stop").await
    }

    async fn tell(&mut self, command: &str) -> io::Result<()> {
        let told = tokio::time::timeout(ANSWER_LIMIT, execute(&mut self.control, command)).await;
        told.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|e| io::Error::other(format!("QEMU did not {command}: {e}")))
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.qemu.ended().await
    }

    /// What QEMU itself has said, once it has ended.
    pub async fn complaint(&mut self) -> String {
        match self.complaint.take() {
            Some(complaint) => complaint.await.unwrap_or_default(),
            None => String::new(),
        }
    }

    /// Switches it off, as a power cut would.
    pub async fn off(self) {
        // It may have ended by itself; if it does not end now, the reaper's list still has it.
        let _ = self.qemu.kill().await;
    }
}

async fn execute(control: &mut BufReader<UnixStream>, command: &str) -> io::Result<()> {
    control.write_all(format!("{}\n", json!({ "execute": command })).as_bytes()).await?;
    answer(control, "return").await
}

/// Reads up to the message with this key; events between are passed over, of which a board that resets in a loop makes many. The caller
/// bounds the time.
async fn answer(control: &mut BufReader<UnixStream>, key: &str) -> io::Result<()> {
    loop {
        let mut line = String::new();
        if (&mut *control).take(MESSAGE_MAX).read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let message: Value = serde_json::from_str(&line)?;
        if let Some(error) = message.get("error") {
            return Err(io::Error::other(error.to_string()));
        }
        if message.get(key).is_some() {
            return Ok(());
        }
    }
}

/// What QEMU itself says, in one line, once it has ended.
async fn complaint(stderr: Option<ChildStderr>) -> String {
    let mut said = Vec::new();
    if let Some(mut stderr) = stderr {
        let _ = (&mut stderr).take(COMPLAINT_MAX).read_to_end(&mut said).await;
        // Whatever more it says must not fill the pipe.
        let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&said).lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// Listens where QEMU will connect to, in a folder that only its owner may enter.
fn listen(path: &Path) -> io::Result<UnixListener> {
    // That of the last start.
    let _ = std::fs::remove_file(path);
    UnixListener::bind(path)
}

/// A value of QEMU's with a path in it.
fn with(before: &str, path: &Path, after: &str) -> OsString {
    let mut value = OsString::from(before);
    // A comma in a value is written twice.
    value.push(path.to_string_lossy().replace(',', ",,"));
    value.push(after);
    value
}
