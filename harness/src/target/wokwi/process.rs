//! One simulation: wokwi-cli as a child with pipes, tried again while nothing has begun, and watched until it ends.

use super::super::qemu::tail;
use super::super::{Console, TargetError};
use super::complaint::{self, Complaint, Fault};
use super::equipment::{Found, TOKEN};
use super::image::Image;
use super::mask::Mask;
use super::project::Project;
use super::{PAUSES, TRIES};
use crate::child::{Guarded, PrivateDir};
use crate::event::{Ended, Source, What};
use crate::serial::{self, Carrier};
use crate::site::Site;
use crate::trace::tape::Tape;
use device_core::secret::Secret;
use std::ffi::OsString;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Simulated time of one power-on at most; a trial has its own limit, which comes first.
const SIMULATED_MAX: Duration = Duration::from_secs(3600);
/// Wall clock of one power-on at most, whatever the simulator says.
const WALL_MAX: Duration = Duration::from_secs(4500);
/// How long the console's last words may take when the simulation has ended.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(2);
/// Bytes of what wokwi-cli itself says that are kept.
const COMPLAINT_MAX: u64 = 16 * 1024;
/// Bytes of its own words before the device's first that are passed over.
const PREAMBLE_MAX: usize = 4096;
/// What it says itself on the device's stream, also when it is told to be quiet.
const OWN_WORDS: [&[u8]; 2] = [b"Will retry in ", b"Retrying connection to "];

/// A running simulation.
#[derive(Debug)]
pub struct Simulation {
    plug: oneshot::Sender<()>,
    warden: JoinHandle<Result<(), TargetError>>,
}

impl Simulation {
    /// Ends it: what the device stored is gone.
    ///
    /// # Errors
    /// When wokwi-cli does not end.
    pub async fn end(self) -> Result<(), TargetError> {
        // It may have ended by itself.
        let _ = self.plug.send(());
        self.warden.await.unwrap_or(Ok(()))
    }
}

/// Begins a simulation and waits for the device's first byte.
///
/// # Errors
/// When it does not begin, after some tries where that may help.
pub async fn start(found: &Found, site: &Site, link: Carrier, tape: &Tape) -> Result<(Simulation, Console), TargetError> {
    tape.redactor().register("wokwi-token", found.token.expose());
    let surroundings = (!found.foreign).then(|| {
        let mut surroundings = site.surroundings();
        surroundings.link = serial::link(Some(link));
        surroundings.numbered = true;
        surroundings.text()
    });
    let home = home(&found.image, &found.project, surroundings.as_deref())?;
    let mut tries = 1;
    loop {
        let complaint = match begin(found, &home).await? {
            Begun::Yes(begun) => return Ok(watched(*begun, found, home, tape)),
            Begun::No(complaint) => complaint,
        };
        if complaint.fault != Fault::Simulator || tries == TRIES {
            let tried = if tries > 1 { format!(" ({tries} tries)") } else { String::new() };
            return Err(TargetError { what: format!("simulate the board: {complaint}{tried}"), help: complaint.help.into() });
        }
        tape.say(Source::Runner, What::Note(format!("wokwi-cli: {complaint}; it is started again ({} of {TRIES})", tries + 1)));
        tokio::time::sleep(PAUSES[(tries - 1) as usize % PAUSES.len()]).await;
        tries += 1;
    }
}

/// A folder that is a project like this with this firmware, which only its owner can read.
///
/// # Errors
/// A file of either is not there any more, or there is no room.
pub fn home(image: &Image, project: &Project, surroundings: Option<&str>) -> Result<PrivateDir, TargetError> {
    let (firmware, mut files) = image.files(surroundings)?;
    files.extend(project.files(&firmware)?);
    let no_room = |e: std::io::Error| TargetError {
        what: format!("write a project for wokwi-cli: {e}"),
        help: "make room, or name another folder in TMPDIR".into(),
    };
    let home = PrivateDir::new("wokwi").map_err(no_room)?;
    for (name, content) in &files {
        home.write(name, content).map_err(no_room)?;
    }
    Ok(home)
}

/// What came of a try.
enum Begun {
    Yes(Box<Process>),
    No(Complaint),
}

/// A process whose device has spoken.
struct Process {
    child: Guarded,
    /// What the device has said already.
    first: Vec<u8>,
    says: ChildStdout,
    hears: ChildStdin,
    complaint: JoinHandle<Vec<u8>>,
}

async fn begin(found: &Found, home: &PrivateDir) -> Result<Begun, TargetError> {
    let arguments: Vec<OsString> = vec![
        "--interactive".into(),
        "-q".into(),
        "--timeout".into(),
        SIMULATED_MAX.as_millis().to_string().into(),
        "--timeout-exit-code".into(),
        complaint::TIMEOUT_CODE.to_string().into(),
        home.path().into(),
    ];
    let environment = [(TOKEN.to_owned(), found.token.expose().into()), ("NO_COLOR".to_owned(), "1".into())];
    let spawned = Guarded::spawn_talking(&found.program, &arguments, &environment).await;
    let (mut child, mut says, hears) = spawned.map_err(|e| TargetError {
        what: format!("start {}: {e}", found.program.display()),
        help: "see that it can be executed".into(),
    })?;
    let complaint = tokio::spawn(kept(child.stderr()));
    match tokio::time::timeout(found.start_limit, first(&mut says)).await {
        Ok(Ok(first)) if !first.is_empty() => Ok(Begun::Yes(Box::new(Process { child, first, says, hears, complaint }))),
        // Its output has ended: so will it.
        Ok(_) => {
            let ended = child.gone().await.ok();
            let _ = child.kill().await;
            let said = words(complaint).await;
            Ok(Begun::No(complaint::read(ended.and_then(|status| status.code()), &Mask::masked(&found.token, &said))))
        }
        Err(_) => {
            let _ = child.kill().await;
            let said = format!("the board said nothing within {} s, nor did the simulator", found.start_limit.as_secs());
            let help = "see that the simulator answers, and that the diagram's board is the firmware's; then run it again";
            Ok(Begun::No(Complaint { fault: Fault::Simulator, said, help }))
        }
    }
}

/// The first bytes of the device; none when the stream ends before.
async fn first(says: &mut ChildStdout) -> std::io::Result<Vec<u8>> {
    let mut read = Vec::new();
    loop {
        if says.read_buf(&mut read).await? == 0 {
            return Ok(Vec::new());
        }
        while let Some(own) = own_line(&read) {
            read.drain(..own);
        }
        let may_be_own =
            read.len() < PREAMBLE_MAX && OWN_WORDS.iter().any(|word| read.starts_with(word) || word.starts_with(&read));
        if !read.is_empty() && !may_be_own {
            return Ok(read);
        }
    }
}

/// The length of the line with which it begins, if that is wokwi-cli's own.
fn own_line(read: &[u8]) -> Option<usize> {
    let end = read.iter().position(|byte| *byte == b'\n')?;
    OWN_WORDS.iter().any(|word| read.starts_with(word)).then_some(end + 1)
}

/// The console of a device that has spoken, and who watches over it.
fn watched(process: Process, found: &Found, home: PrivateDir, tape: &Tape) -> (Simulation, Console) {
    let Process { child, first, says, hears, complaint } = process;
    let (says, tail) = tail::keep(std::io::Cursor::new(first).chain(says));
    let (plug, pulled) = oneshot::channel();
    let warden = Warden { child, tape: tape.clone(), tail, complaint, token: found.token.clone(), _home: home };
    let simulation = Simulation { plug, warden: tokio::spawn(warden.watch(pulled)) };
    (simulation, Console { says: Box::new(says), hears: Box::new(hears), door: None, network: None })
}

/// Watches over a simulation, and says how it ended.
struct Warden {
    child: Guarded,
    tape: Tape,
    tail: tail::Tail,
    complaint: JoinHandle<Vec<u8>>,
    token: Secret,
    _home: PrivateDir,
}

impl Warden {
    async fn watch(mut self, pulled: oneshot::Receiver<()>) -> Result<(), TargetError> {
        tokio::select! {
            biased;
            ended = self.child.ended() => {
                // What the device said last comes on the tape before how it ended.
                let _ = tokio::time::timeout(LAST_WORDS_LIMIT, self.tail.is_read()).await;
                let said = words(self.complaint).await;
                let complaint = complaint::read(ended.as_ref().ok().and_then(ExitStatus::code), &Mask::masked(&self.token, &said));
                let how = ended.map_or_else(|e| e.to_string(), |status| status.to_string());
                // Without a scenario of its own it judges no device: whatever it says is the testbed's.
                let why = match complaint.fault {
                    Fault::Time => format!("{} s of simulated time are over", SIMULATED_MAX.as_secs()),
                    _ => format!("wokwi-cli ended ({how}): {complaint}; {}", complaint.help),
                };
                self.tape.say(Source::Device, What::Ended(Ended::Lost { why }));
                Ok(())
            }
            () = tokio::time::sleep(WALL_MAX) => {
                let killed = self.child.kill().await;
                let why = format!("the simulation did not end within {} s", WALL_MAX.as_secs());
                self.tape.say(Source::Device, What::Ended(Ended::Lost { why }));
                killed.map(drop).map_err(|e| cannot_end(&e))
            }
            // A board that is dropped without being switched off goes too.
            _ = pulled => self.child.kill().await.map(drop).map_err(|e| cannot_end(&e)),
        }
    }
}

/// What it said, when it has ended. Whoever else holds its pipe is not waited for.
async fn words(complaint: JoinHandle<Vec<u8>>) -> Vec<u8> {
    tokio::time::timeout(LAST_WORDS_LIMIT, complaint).await.map(Result::unwrap_or_default).unwrap_or_default()
}

/// What wokwi-cli itself says, until it has ended.
async fn kept(stderr: Option<ChildStderr>) -> Vec<u8> {
    let mut said = Vec::new();
    if let Some(mut stderr) = stderr {
        let _ = (&mut stderr).take(COMPLAINT_MAX).read_to_end(&mut said).await;
        // Whatever more it says must not fill the pipe.
        let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    }
    said
}

fn cannot_end(error: &std::io::Error) -> TargetError {
    TargetError { what: format!("switch the simulation off: {error}"), help: "end wokwi-cli by hand".into() }
}
