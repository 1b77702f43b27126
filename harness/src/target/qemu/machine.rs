//! One board: its folder, and the QEMU process that is its power.

use super::super::{Console, TargetError};
use super::equipment::{Found, MACHINE};
use super::flash::{self, Cut};
use super::{control, tail};
use crate::backtrace;
use crate::child::{Ends, Guarded, PrivateDir};
use crate::event::{Ended, Power, Source, What};
use crate::serial::{self, Carrier, Line, lines};
use crate::site::Site;
use crate::testbed::CutPoint;
use crate::trace::tape::Tape;
use device_core::surroundings::Surroundings;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::ChildStderr;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Bytes of flash: an NVS partition with room for a queue of a thousand readings, which ESP-IDF's usual 24 KiB have not.
const FLASH_BYTES: usize = 128 * 1024;
/// Where flash with a cut in it is served, in the board's folder.
const FLASH_SOCKET: &str = "flash";
/// Where the firmware looks for its surroundings, above all that it uses itself.
const SURROUNDINGS_AT: &str = "0x80800000";
/// Memory in MiB: the firmware, its surroundings, and the device tree that QEMU puts at the end.
const MEMORY_MIB: u32 = 16;
/// How long QEMU may take to start.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long the console's last words may take when QEMU has ended.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(2);
/// Bytes of what QEMU itself says that are kept.
const COMPLAINT_MAX: u64 = 4096;

/// Exit status of a power cut that the device was told to have.
const POWER_CUT: i32 = 10;
/// Exit status after a panic, a trap, a stack overflow or a watchdog.
const CRASHED: i32 = 11;

/// A board.
#[derive(Debug)]
pub struct Machine {
    found: Found,
    home: PrivateDir,
    flash: PathBuf,
    line: Line,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    plug: oneshot::Sender<()>,
    warden: JoinHandle<Result<(), TargetError>>,
}

impl Machine {
    /// A board with blank flash, switched off.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn new(found: Found, line: Line) -> Result<Machine, TargetError> {
        let home = PrivateDir::new("qemu").map_err(|e| no_room(&e))?;
        let flash = home.write("nvs.bin", &[0xff; FLASH_BYTES]).map_err(|e| no_room(&e))?;
        Ok(Machine { found, home, flash, line, running: None })
    }

    /// Starts QEMU.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn power_on(&mut self, site: &Site, tape: &Tape, cut: Option<CutPoint>) -> Result<Console, TargetError> {
        self.power_off().await?;
        let surroundings =
            self.home.write("surroundings", self.surroundings(site, cut).text().as_bytes()).map_err(|e| no_room(&e))?;
        let (console, control) = (self.home.path().join("console"), self.home.path().join("control"));
        let (console_at, control_at) = (listen(&console)?, listen(&control)?);
        let struck = match cut {
            Some(CutPoint::At { nth, moment }) => Some(self.flash_with(Cut { nth, moment })?),
            _ => None,
        };
        let flash = match &struck {
            Some(_) => disk("file.driver=nbd,file.server.type=unix,file.server.path=", &self.home.path().join(FLASH_SOCKET)),
            None => disk("file=", &self.flash),
        };
        let arguments = arguments(&self.found.image, flash, &surroundings, &console, &control, self.line.carrier);
        let spawned = Guarded::spawn(&self.found.emulator, &arguments, &[], Ends::ByReaper).await;
        let mut qemu = spawned.map_err(|e| TargetError {
            what: format!("start {}: {e}", self.found.emulator.display()),
            help: "see that it can be executed".into(),
        })?;
        let complaint = tokio::spawn(complaint(qemu.stderr()));
        let started = async {
            let (console, _) = console_at.accept().await?;
            let (control, _) = control_at.accept().await?;
            // Dropped here: QEMU goes on without.
            Ok::<_, std::io::Error>((console, control::greet(control, self.line.carrier.is_none()).await?))
        };
        let started = tokio::select! {
            started = tokio::time::timeout(START_LIMIT, started) => started.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())),
            _ = qemu.ended() => Err(std::io::ErrorKind::UnexpectedEof.into()),
        };
        let (stream, greeting) = match started {
            Ok(started) => started,
            Err(error) => {
                let _ = qemu.kill().await;
                let said = complaint.await.unwrap_or_default();
                let why = if said.is_empty() { error.to_string() } else { said };
                return Err(TargetError {
                    what: format!("start {}: {why}", self.found.emulator.display()),
                    help: "see what it says; the machine `virt` of QEMU 7.2 or newer is needed".into(),
                });
            }
        };
        tape.say(Source::Runner, What::Note(format!("QEMU {}", greeting.version)));
        let (says, hears) = UnixStream::into_split(stream);
        let console = Console { says: Box::new(says), hears: Box::new(hears), door: greeting.door, network: None };
        let console = match self.line.lay(console, self.line.carrier, site, tape).await {
            Ok(console) => console,
            Err(error) => {
                let _ = qemu.kill().await;
                return Err(error);
            }
        };
        let Console { says, hears, door, network } = if self.line.is_numbered() {
            let tape = tape.clone();
            lines::numbered(console, move |what| tape.say(Source::Runner, what)).console
        } else {
            console
        };
        let (says, tail) = tail::keep(says);
        let (plug, pulled) = oneshot::channel();
        let warden = Warden { qemu, tape: tape.clone(), tail, complaint, image: self.found.image.clone(), cut, struck };
        self.running = Some(Running { plug, warden: tokio::spawn(warden.watch(pulled)) });
        Ok(Console { says: Box::new(says), hears, door, network })
    }

    fn surroundings(&self, site: &Site, cut: Option<CutPoint>) -> Surroundings {
        Surroundings {
            cuts: match cut {
                Some(CutPoint::Before { write, nth }) => vec![(write, nth)],
                _ => Vec::new(),
            },
            link: serial::link(self.line.carrier),
            numbered: self.line.is_numbered(),
            ..site.surroundings()
        }
    }

    /// Serves the flash, with a cut in it, where QEMU will look for it.
    fn flash_with(&self, cut: Cut) -> Result<JoinHandle<std::io::Result<bool>>, TargetError> {
        let (listener, flash) = (listen(&self.home.path().join(FLASH_SOCKET))?, self.flash.clone());
        Ok(tokio::spawn(async move {
            let (stream, _) = listener.accept().await?;
            flash::serve(stream, &flash, cut).await
        }))
    }

    /// Kills QEMU: the flash keeps what was written.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn power_off(&mut self) -> Result<(), TargetError> {
        let Some(Running { plug, warden }) = self.running.take() else { return Ok(()) };
        // It may have ended by itself.
        let _ = plug.send(());
        warden.await.unwrap_or(Ok(()))
    }
}

/// Watches over a running QEMU, and says how it ended.
struct Warden {
    qemu: Guarded,
    tape: Tape,
    tail: tail::Tail,
    complaint: JoinHandle<String>,
    image: PathBuf,
    cut: Option<CutPoint>,
    /// Says whether the power went at a write.
    struck: Option<JoinHandle<std::io::Result<bool>>>,
}

impl Warden {
    async fn watch(mut self, pulled: oneshot::Receiver<()>) -> Result<(), TargetError> {
        tokio::select! {
            biased;
            ended = self.qemu.ended() => {
                // What the device said last comes on the tape before how it ended.
                let _ = tokio::time::timeout(LAST_WORDS_LIMIT, self.tail.is_read()).await;
                let tape = self.tape.clone();
                let (from, what) = self.verdict(ended).await;
                tape.say(from, what);
                Ok(())
            }
            struck = struck(&mut self.struck) => {
                // The write is not answered, so the device does nothing more.
                let killed = self.qemu.kill().await;
                let _ = tokio::time::timeout(LAST_WORDS_LIMIT, self.tail.is_read()).await;
                match (struck, self.cut) {
                    (Ok(()), Some(CutPoint::At { nth, moment })) => {
                        self.tape.say(Source::Runner, What::Power(Power::CutAt { nth, moment }));
                    }
                    (struck, _) => {
                        let why = struck.err().unwrap_or_default();
                        self.tape.say(Source::Device, What::Ended(Ended::Lost { why }));
                    }
                }
                killed.map(drop).map_err(|e| cannot_end(&e))
            }
            // A board that is dropped without being switched off goes too.
            _ = pulled => self.qemu.kill().await.map(drop).map_err(|e| cannot_end(&e)),
        }
    }

    async fn verdict(self, ended: std::io::Result<ExitStatus>) -> (Source, What) {
        let status = ended.as_ref().ok().and_then(ExitStatus::code);
        match (status, self.cut) {
            (Some(POWER_CUT), Some(CutPoint::Before { write, .. })) => {
                return (Source::Runner, What::Power(Power::CutBefore { write: write.name().into() }));
            }
            (Some(CRASHED), _) => {
                let said = self.tail.text();
                let why = backtrace::reason(&said).unwrap_or("it did not say why").to_owned();
                let image = self.image.clone();
                let decode = tokio::task::spawn_blocking(move || backtrace::decode(&image, &backtrace::addresses(&said)));
                let backtrace = match decode.await {
                    Ok(Ok(frames)) => frames,
                    Ok(Err(why)) => vec![format!("the image could not be read for a backtrace: {why}")],
                    Err(_) => Vec::new(),
                };
                return (Source::Device, What::Ended(Ended::Crashed { why, backtrace }));
            }
            _ => {}
        }
        let mut why = match ended {
            Ok(status) => format!("QEMU ended: {status}"),
            Err(error) => format!("QEMU could not be waited for: {error}"),
        };
        if let Ok(said) = self.complaint.await
            && !said.is_empty()
        {
            why += &format!("; it said: {said}");
        }
        (Source::Device, What::Ended(Ended::Lost { why }))
    }
}

/// QEMU's command line; a device whose network goes over its console has no card.
fn arguments(
    image: &Path,
    flash: OsString,
    surroundings: &Path,
    console: &Path,
    control: &Path,
    carrier: Option<Carrier>,
) -> Vec<OsString> {
    let mut line: Vec<OsString> = Vec::new();
    let mut add = |option: &str, value: OsString| line.extend([option.into(), value]);
    add("-M", MACHINE.into());
    add("-m", format!("{MEMORY_MIB}M").into());
    add("-display", "none".into());
    add("-bios", "none".into());
    add("-kernel", image.into());
    add("-global", "virtio-mmio.force-legacy=false".into());
    add("-chardev", with("socket,id=console,path=", console, ""));
    add("-serial", "chardev:console".into());
    add("-chardev", with("socket,id=control,path=", control, ""));
    add("-mon", "chardev=control,mode=control".into());
    if carrier.is_none() {
        add("-netdev", "user,id=net,ipv6=off,hostfwd=tcp:127.0.0.1:0-:80".into());
        add("-device", "virtio-net-device,netdev=net".into());
    }
    add("-drive", flash);
    add("-device", "virtio-blk-device,drive=nvs".into());
    add("-device", "virtio-rng-device".into());
    add("-device", with("loader,file=", surroundings, &format!(",addr={SURROUNDINGS_AT},force-raw=on")));
    line.push("-nodefaults".into());
    line
}

/// The flash, as a drive behind what `driver` says.
fn disk(driver: &str, path: &Path) -> OsString {
    with(&format!("if=none,id=nvs,format=raw,{driver}"), path, "")
}

/// A value of QEMU's with a path in it.
fn with(before: &str, path: &Path, after: &str) -> OsString {
    let mut value = OsString::from(before);
    // A comma in a value is written twice.
    value.push(path.to_string_lossy().replace(',', ",,"));
    value.push(after);
    value
}

/// Waits until the power goes at a write, or its flash fails; for ever, if neither happens.
async fn struck(serving: &mut Option<JoinHandle<std::io::Result<bool>>>) -> Result<(), String> {
    if let Some(serving) = serving.take() {
        match serving.await {
            Ok(Ok(true)) => return Ok(()),
            // QEMU has ended, which is noticed elsewhere.
            Ok(Ok(false)) => {}
            Ok(Err(error)) => return Err(format!("its flash could not be served: {error}")),
            Err(error) => return Err(format!("its flash could not be served: {error}")),
        }
    }
    std::future::pending().await
}

/// Listens where QEMU will connect to, in a folder that only its owner may enter.
fn listen(path: &Path) -> Result<UnixListener, TargetError> {
    // That of the last power-on.
    let _ = std::fs::remove_file(path);
    UnixListener::bind(path).map_err(|e| TargetError {
        what: format!("listen on {}: {e}", path.display()),
        help: "a Unix socket's path has 100 bytes at most: name a shorter folder in TMPDIR".into(),
    })
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

fn no_room(error: &std::io::Error) -> TargetError {
    TargetError { what: format!("write a file for the board: {error}"), help: "make room, or name another folder in TMPDIR".into() }
}

fn cannot_end(error: &std::io::Error) -> TargetError {
    TargetError { what: format!("switch QEMU off: {error}"), help: "end it by hand".into() }
}
