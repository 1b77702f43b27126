//! Plain Wokwi scenarios, handed to wokwi-cli as they are: its judgement, in this program's words.

use super::super::{Equipment, TargetError};
use super::complaint::{self, Complaint, Fault};
use super::equipment::{self, TOKEN};
use super::image::Image;
use super::mask::Mask;
use super::project::{self, Project};
use super::{PAUSES, TRIES, process};
use crate::child::Guarded;
use crate::verdict::Verdict;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};

/// What it says when everything is uploaded. What fails before is no device's doing, and may be tried again.
const STARTS: &[u8] = b"Starting simulation";
/// Bytes of its output in which that is looked for.
const BEGINNING_MAX: usize = 64 * 1024;
/// Wall clock that a run may take: so much, and so many times the simulated time. A busy simulator is that slow.
const WALL_LEAST: Duration = Duration::from_secs(120);
const WALL_TIMES: u32 = 10;
/// Simulated time that wokwi-cli gives by itself.
const SIMULATED: Duration = Duration::from_secs(30);

/// Which of its streams it said something on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// What the device said, and how the scenario goes.
    Output,
    /// What is wrong.
    Error,
}

/// What came of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Pass, fail or inconclusive; none: its input is wrong.
    pub verdict: Option<Verdict>,
    /// Why it is no pass.
    pub why: String,
    /// The next thing to do.
    pub help: &'static str,
}

/// Runs one scenario. What wokwi-cli says is shown as it says it, without the token. The device has `simulated` of simulated time; none:
/// what wokwi-cli gives. A run whose simulation did not start for the simulator's fault is tried again.
///
/// # Errors
/// Something that it needs is not there.
pub async fn run(
    equipment: &Equipment,
    scenario: &Path,
    simulated: Option<Duration>,
    show: &(dyn Fn(Stream, &[u8]) + Sync),
) -> Result<Ran, TargetError> {
    let scenario = std::path::absolute(scenario).unwrap_or_else(|_| scenario.to_owned());
    let program = equipment::program(equipment)?;
    let token = equipment::token()?;
    let around = scenario.parent().unwrap_or(Path::new("/"));
    let folder = project::folder(equipment.project.as_deref(), around)?;
    // Another firmware takes the place of the project's in a copy, since no option names one.
    let copy = match &equipment.firmware {
        None => None,
        Some(file) => Some(process::home(&Image::read(file)?, &Project::read(&folder, equipment.diagram.as_deref())?, None)?),
    };
    let mut arguments: Vec<OsString> = vec!["--scenario".into(), scenario.into()];
    if let (Some(diagram), None) = (&equipment.diagram, &copy) {
        arguments.extend(["--diagram-file".into(), absolute(diagram).into()]);
    }
    if let Some(simulated) = simulated {
        arguments.extend(["--timeout".into(), simulated.as_millis().max(1).to_string().into()]);
    }
    arguments.extend(["--timeout-exit-code".into(), complaint::TIMEOUT_CODE.to_string().into()]);
    arguments.push(copy.as_ref().map_or(folder, |copy| copy.path().to_owned()).into());
    let environment = [(TOKEN.to_owned(), token.expose().into()), ("NO_COLOR".to_owned(), "1".into())];
    let limit = WALL_LEAST + simulated.unwrap_or(SIMULATED) * WALL_TIMES;
    let mut tries = 1;
    loop {
        let spawned = Guarded::spawn_talking(&program, &arguments, &environment).await;
        let (mut child, says, _hears) = spawned.map_err(|e| TargetError {
            what: format!("start {}: {e}", program.display()),
            help: "see that it can be executed".into(),
        })?;
        let errors = child.stderr();
        let both = async {
            tokio::join!(pass_on(says, Mask::new(&token), Stream::Output, show), async {
                match errors {
                    Some(errors) => pass_on(errors, Mask::new(&token), Stream::Error, show).await,
                    None => Vec::new(),
                }
            })
        };
        let begun = tokio::time::timeout(limit, async {
            let (said, errors) = both.await;
            (said, errors, child.ended().await)
        })
        .await;
        let Ok((said, errors, ended)) = begun else {
            let _ = child.kill().await;
            let why = format!("wokwi-cli did not end within {} s", limit.as_secs());
            return Ok(Ran {
                verdict: Some(Verdict::Inconclusive),
                why,
                help: "see that the simulator answers; then run it again",
            });
        };
        let code = ended.ok().and_then(|status| status.code());
        if code == Some(0) {
            return Ok(Ran { verdict: Some(Verdict::Pass), why: String::new(), help: "" });
        }
        let complaint = complaint::read(code, &String::from_utf8_lossy(&errors));
        let started = said.windows(STARTS.len()).any(|window| window == STARTS);
        if complaint.fault == Fault::Simulator && !started && tries < TRIES {
            show(Stream::Error, format!("harness: {complaint}; it is started again ({} of {TRIES})\n", tries + 1).as_bytes());
            tokio::time::sleep(PAUSES[(tries - 1) as usize % PAUSES.len()]).await;
            tries += 1;
            continue;
        }
        return Ok(judged(complaint));
    }
}

/// wokwi-cli's judgement. In a run of its own a scenario that waits in vain ends by its time.
fn judged(complaint: Complaint) -> Ran {
    let verdict = match complaint.fault {
        Fault::Device | Fault::Time => Some(Verdict::Fail),
        Fault::Input => None,
        Fault::Simulator | Fault::Unknown => Some(Verdict::Inconclusive),
    };
    Ran { verdict, why: complaint.to_string(), help: complaint.help }
}

/// Shows a stream as it comes, and gives back its beginning.
async fn pass_on(
    mut from: impl AsyncRead + Unpin,
    mut mask: Mask,
    stream: Stream,
    show: &(dyn Fn(Stream, &[u8]) + Sync),
) -> Vec<u8> {
    let (mut beginning, mut chunk) = (Vec::new(), vec![0; 4096]);
    loop {
        let read = from.read(&mut chunk).await.unwrap_or(0);
        let shown = if read == 0 { mask.rest() } else { mask.pass(&chunk[..read]) };
        if beginning.len() < BEGINNING_MAX {
            beginning.extend_from_slice(&shown);
        }
        if !shown.is_empty() {
            show(stream, &shown);
        }
        if read == 0 {
            return beginning;
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
