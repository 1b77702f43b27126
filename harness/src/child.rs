//! Child processes and temporary directories that end with this process, however it ends.
//!
//! Nothing inside a process cleans up after its own SIGKILL. So one re-executed child, the reaper (`<this program> __reaper`), holds
//! the read end of a pipe and a list of what this process has started; when the pipe ends, it kills what is still on the list and
//! removes the directories. A program re-executes itself only after it has called [`answer_hidden_roles`] first thing in `main`, which
//! proves that its copy will answer too; in a program that has not (somebody else's test binary) there is no reaper, and children
//! end with their owners' `Drop` only ([`reaper_runs`] tells).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};

/// The hidden role that is the bundled broker.
pub const MOSQUITTO_ROLE: &str = "__mosquitto";
/// The hidden role that cleans up.
const REAPER_ROLE: &str = "__reaper";
/// What of the environment is for one program alone, which its owner names to it: a child never inherits it.
const KEPT_BACK: [&str; 1] = ["WOKWI_CLI_TOKEN"];
/// How long a child may take to end after a polite request, and again after SIGKILL.
pub const STOP_PATIENCE: Duration = Duration::from_secs(1);
/// How long the reaper tries to remove a directory that a dying process may still be writing to.
const REMOVE_PATIENCE: Duration = Duration::from_secs(2);

/// How long the end of this process may wait until the reaper has removed containers.
const CONTAINERS_PATIENCE: Duration = Duration::from_secs(20);

/// Whether containers were ever on the reaper's list.
static CONTAINERS: AtomicBool = AtomicBool::new(false);
/// Whether this program answers hidden roles, so that re-executing it is safe.
static ANSWERS: AtomicBool = AtomicBool::new(false);

/// Answers the hidden roles (`__reaper`, `__mosquitto`), and in them never returns. The first call in `main` of every program that
/// wants a reaper or the bundled broker.
pub fn answer_hidden_roles() {
    #[cfg(feature = "container")]
    crate::broker::container::engine::name_engine();
    let mut arguments = std::env::args_os().skip(1);
    let role = arguments.next();
    match role.as_ref().and_then(|r| r.to_str()) {
        Some(REAPER_ROLE) => {
            reap(io::stdin().lock());
            std::process::exit(0);
        }
        Some(MOSQUITTO_ROLE) => std::process::exit(crate::broker::bundled::run(arguments.collect())),
        _ => ANSWERS.store(true, Ordering::SeqCst),
    }
}

/// The command that runs this very program in a hidden role; none when it does not answer them.
#[cfg(unix)]
pub(crate) fn own_role(role: &str) -> Option<std::process::Command> {
    if !ANSWERS.load(Ordering::SeqCst) {
        return None;
    }
    // Still this program when its file has been replaced or removed by a new build meanwhile.
    #[cfg(target_os = "linux")]
    let program = PathBuf::from("/proc/self/exe");
    #[cfg(not(target_os = "linux"))]
    let program = std::env::current_exe().ok()?;
    let mut command = command(program);
    command.arg(role);
    Some(command)
}

/// A command that inherits the environment but for what is meant for another program.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    for name in KEPT_BACK {
        command.env_remove(name);
    }
    command
}

/// Whether a reaper stands by. If not, a SIGKILL of this process leaves its children running.
pub fn reaper_runs() -> bool {
    reaper().is_some()
}

/// Ends the reaper in order, once nothing is left to clean up. Optional, last thing in `main`: without it the reaper ends by itself
/// a moment after this process. Waits at most a second, or 20 s where there were containers.
pub fn finish() {
    let Some(Some(mut reaper)) = reaper_slot().replace(None) else { return };
    drop(reaper.stdin.take());
    let patience = if CONTAINERS.load(Ordering::SeqCst) { CONTAINERS_PATIENCE } else { STOP_PATIENCE };
    let until = Instant::now() + patience;
    while Instant::now() < until && matches!(reaper.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Not asked for yet, or started, or known to be impossible.
type Slot = Option<Option<std::process::Child>>;
static REAPER: Mutex<Slot> = Mutex::new(None);

fn reaper_slot() -> MutexGuard<'static, Slot> {
    REAPER.lock().unwrap_or_else(|e| e.into_inner())
}

/// Starts the reaper at the first call.
fn reaper() -> Option<MutexGuard<'static, Slot>> {
    let mut slot = reaper_slot();
    if slot.is_none() {
        *slot = Some(start_reaper());
    }
    matches!(*slot, Some(Some(_))).then_some(slot)
}

#[cfg(unix)]
fn start_reaper() -> Option<std::process::Child> {
    use std::os::unix::process::CommandExt;
    let mut command = own_role(REAPER_ROLE)?;
    // Its own process group: Ctrl-C and a test runner's kill reach this process and not its reaper.
    command.process_group(0).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().ok()
}

#[cfg(not(unix))]
fn start_reaper() -> Option<std::process::Child> {
    None
}

/// Tells the reaper one line; whether it heard.
fn tell(line: &str) -> bool {
    let Some(mut slot) = reaper() else { return false };
    let Some(Some(reaper)) = slot.as_mut() else { return false };
    reaper.stdin.as_mut().is_some_and(|pipe| writeln!(pipe, "{line}").is_ok())
}

/// A container of this name, which nobody else has, is about to be made; the reaper removes it if this process cannot.
#[cfg(feature = "container")]
pub(crate) fn expect_container(name: &str) {
    CONTAINERS.store(true, Ordering::SeqCst);
    tell(&format!("+container {name}"));
}

/// It was made.
#[cfg(feature = "container")]
pub(crate) fn container_is_made(name: &str) {
    tell(&format!("=container {name}"));
}

/// It was removed.
#[cfg(feature = "container")]
pub(crate) fn container_is_gone(name: &str) {
    tell(&format!("-container {name}"));
}

/// The reaper: reads what there is to clean up until the pipe ends, then cleans up.
fn reap(lines: impl BufRead) {
    let mut children = BTreeMap::new();
    let mut directories = Vec::new();
    // By name, whether it was made for sure.
    let mut containers = BTreeMap::new();
    for line in lines.lines().map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("+child", rest)) => {
                if let Some((pid, began)) = rest.split_once(' ') {
                    children.insert(pid.to_owned(), began.to_owned());
                }
            }
            Some(("-child", pid)) => drop(children.remove(pid)),
            Some(("+container", name)) => drop(containers.insert(name.to_owned(), false)),
            Some(("=container", name)) => drop(containers.insert(name.to_owned(), true)),
            Some(("-container", name)) => drop(containers.remove(name)),
            Some(("+dir", path)) => directories.push(path.to_owned()),
            Some(("-dir", path)) => directories.retain(|d| d != path),
            _ => {}
        }
    }
    for (pid, began) in &children {
        // A process that began at another moment is a stranger who got the number.
        if let Ok(pid) = pid.parse()
            && began_at(pid).as_ref() == Some(began)
        {
            signal_group(pid);
            signal(pid, Urgency::Kill);
        }
    }
    let until = Instant::now() + REMOVE_PATIENCE;
    for directory in directories {
        while std::fs::remove_dir_all(&directory).is_err() && Path::new(&directory).exists() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    #[cfg(feature = "container")]
    if !containers.is_empty() {
        crate::broker::container::engine::remove_now(containers.into_iter().collect());
    }
}

/// When a process began, in words that stay the same for its whole life; none when it is gone.
pub(crate) fn began_at(pid: u32) -> Option<String> {
    #[cfg(target_os = "linux")]
    {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Field 22, counted after the name, which is in parentheses and may hold anything.
        Some(stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.to_owned())
    }
    #[cfg(not(target_os = "linux"))]
    {
        let ps = command("ps").args(["-o", "lstart=", "-p", &pid.to_string()]).output().ok()?;
        let began = String::from_utf8_lossy(&ps.stdout).trim().to_owned();
        (!began.is_empty()).then_some(began)
    }
}

#[derive(Clone, Copy)]
enum Urgency {
    /// SIGHUP, on which servers read their files again.
    Reread,
    Ask,
    Kill,
}

#[cfg(unix)]
fn signal(pid: u32, urgency: Urgency) {
    use rustix::process::{Pid, Signal, kill_process};
    let signal = match urgency {
        Urgency::Reread => Signal::HUP,
        Urgency::Ask => Signal::TERM,
        Urgency::Kill => Signal::KILL,
    };
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended meanwhile; then there is nothing to do.
        let _ = kill_process(pid, signal);
    }
}

#[cfg(not(unix))]
fn signal(_pid: u32, _urgency: Urgency) {}

/// Kills the process group that a child of this module leads.
#[cfg(unix)]
fn signal_group(pid: u32) {
    use rustix::process::{Pid, Signal, kill_process_group};
    if let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // None where the child does not lead one, or has ended.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

#[cfg(not(unix))]
fn signal_group(_pid: u32) {}

/// Whether this process is root's.
pub(crate) fn is_root() -> bool {
    #[cfg(unix)]
    return rustix::process::geteuid().is_root();
    #[cfg(not(unix))]
    return false;
}

/// A directory of our own, readable by its owner only, that is removed with all that is in it when dropped, or by the reaper.
#[derive(Debug)]
pub struct PrivateDir {
    path: PathBuf,
}

impl PrivateDir {
    /// Makes `harness-<what>-…` in the system's place for temporary files.
    ///
    /// # Errors
    /// When it cannot be made there.
    pub fn new(what: &str) -> io::Result<PrivateDir> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("harness-{what}-{}-{count}-{now:x}", std::process::id()));
        // Told before it is made, so that no moment is left in which a SIGKILL would leave it behind.
        tell(&format!("+dir {}", path.display()));
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match builder.create(&path) {
            Ok(()) => Ok(PrivateDir { path }),
            Err(e) => {
                tell(&format!("-dir {}", path.display()));
                Err(e)
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file in it that only its owner can read, from its creation on. Whoever reads it meanwhile reads all of it, or all of the
    /// one it replaces.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: &[u8]) -> io::Result<PathBuf> {
        let (path, beside) = (self.path.join(name), self.path.join(format!("{name}.new")));
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&beside)?.write_all(content)?;
        std::fs::rename(beside, &path)?;
        Ok(path)
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        // A child that was killed a moment ago may still add a file; what cannot be removed now is left to the reaper.
        if (0..3).any(|_| std::fs::remove_dir_all(&self.path).is_ok()) {
            tell(&format!("-dir {}", self.path.display()));
        }
    }
}

/// How a child comes to end with this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// By itself, when its standard input ends.
    WithItsInput,
    /// It knows nothing of us: by the reaper.
    ByReaper,
}

/// A child process that ends with its owner: killed when dropped, and by the reaper when this process ends any other way.
#[derive(Debug)]
pub struct Guarded {
    child: tokio::process::Child,
    pid: u32,
    // Held open for as long as the child is to live, unless somebody took it.
    input: Option<ChildStdin>,
}

impl Guarded {
    /// Starts a program with its standard error on a pipe (see [`Guarded::stderr`]). Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn spawn(
        program: &Path,
        arguments: &[OsString],
        environment: &[(String, OsString)],
        ends: Ends,
    ) -> io::Result<Guarded> {
        Guarded::spawn_with(program, arguments, environment, ends, Stdio::null()).await
    }

    /// Starts a program to talk with: what it says on its standard output, and what it hears on its standard input. Both must be used by
    /// tasks of their own, or a full pipe stops it. It ends by the reaper.
    ///
    /// # Errors
    /// As [`Guarded::spawn`].
    pub async fn spawn_talking(
        program: &Path,
        arguments: &[OsString],
        environment: &[(String, OsString)],
    ) -> io::Result<(Guarded, ChildStdout, ChildStdin)> {
        let mut guarded = Guarded::spawn_with(program, arguments, environment, Ends::ByReaper, Stdio::piped()).await?;
        match (guarded.child.stdout.take(), guarded.input.take()) {
            (Some(says), Some(hears)) => Ok((guarded, says, hears)),
            _ => Err(io::Error::other("the child has no pipes")),
        }
    }

    async fn spawn_with(
        program: &Path,
        arguments: &[OsString],
        environment: &[(String, OsString)],
        ends: Ends,
        says: Stdio,
    ) -> io::Result<Guarded> {
        let gate = cfg!(unix) && ends == Ends::ByReaper;
        let mut command = if gate {
            // The shell waits for a line and then becomes the program, under the same number; should this process be killed before
            // the reaper knows the number, the shell sees the end of its input instead and ends.
            let mut shell = command("/bin/sh");
            shell.args(["-c", "IFS= read -r go && exec \"$@\"", "sh"]).arg(program);
            shell
        } else {
            command(program)
        };
        command.args(arguments).envs(environment.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::piped()).stdout(says).stderr(Stdio::piped());
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        // Ctrl-C is for this process, which then ends its children in order.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn()?;
        let pid = child.id().ok_or_else(|| io::Error::other("the child ended at once"))?;
        if reaper_runs()
            && let Some(began) = began_at(pid)
        {
            tell(&format!("+child {pid} {began}"));
        }
        let mut input = child.stdin.take();
        if gate && let Some(input) = &mut input {
            input.write_all(b"\n").await?;
        }
        Ok(Guarded { child, pid, input })
    }

    /// The child's standard error, once.
    pub fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Asks it to read its files again (SIGHUP). Nothing on systems without signals.
    pub fn ask_to_reread(&self) {
        signal(self.pid, Urgency::Reread);
    }

    /// Asks it to end (SIGTERM), and kills it if it has not after [`STOP_PATIENCE`].
    ///
    /// # Errors
    /// When it does not end even then.
    pub async fn stop(mut self) -> io::Result<ExitStatus> {
        signal(self.pid, Urgency::Ask);
        if cfg!(unix)
            && let Ok(ended) = tokio::time::timeout(STOP_PATIENCE, self.child.wait()).await
        {
            return ended;
        }
        self.kill().await
    }

    /// Ends it as a power cut would (SIGKILL), and waits until it is gone.
    ///
    /// # Errors
    /// When it is not gone after [`STOP_PATIENCE`].
    pub async fn kill(mut self) -> io::Result<ExitStatus> {
        self.kill_now();
        self.gone().await
    }

    /// Kills it, and what it has started itself: the program may be a script around another.
    fn kill_now(&mut self) {
        // Once it has been waited for, its number may be a stranger's.
        if self.child.id().is_some() {
            signal_group(self.pid);
        }
        // It may have ended meanwhile.
        let _ = self.child.start_kill();
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it has ended by itself, however long that takes.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Waits until it has ended by itself, at most [`STOP_PATIENCE`].
    ///
    /// # Errors
    /// When it has not.
    pub async fn gone(&mut self) -> io::Result<ExitStatus> {
        match tokio::time::timeout(STOP_PATIENCE, self.child.wait()).await {
            Ok(ended) => ended,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("process {} does not end", self.pid))),
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Sent now, so that what is dropped after this (its directory) is dropped from under a dead process.
        self.kill_now();
        tell(&format!("-child {}", self.pid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_directory_and_its_files_are_the_owners_alone_and_go_with_it() {
        let directory = PrivateDir::new("test").unwrap();
        let file = directory.write("secret", b"x").unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(directory.path()).unwrap().permissions().mode() & 0o777, 0o700);
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let path = directory.path().to_owned();
        drop(directory);
        assert!(!file.exists() && !path.exists());
    }

    #[test]
    fn a_program_that_does_not_answer_is_never_executed_again() {
        // This test binary's `main` is libtest's: executing it again would run every test again.
        assert!(own_role(REAPER_ROLE).is_none());
        assert!(!reaper_runs());
    }

    #[cfg(unix)]
    #[test]
    fn the_reaper_kills_what_is_on_its_list_and_no_stranger() {
        let sleeper = || std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (mut ours, mut stranger, mut ended) = (sleeper(), sleeper(), sleeper());
        let directory = std::env::temp_dir().join(format!("harness-reaper-test-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let (o, e) = (ours.id(), ended.id());
        let script = format!(
            "+child {o} {}\n+child {} another moment\n+child {e} {}\n-child {e}\n+dir {}\n",
            began_at(o).unwrap(),
            stranger.id(),
            began_at(e).unwrap(),
            directory.display()
        );
        reap(script.as_bytes());
        assert!(!ours.wait().unwrap().success());
        assert!(matches!(stranger.try_wait(), Ok(None)) && matches!(ended.try_wait(), Ok(None)));
        assert!(!directory.exists());
        for mut child in [stranger, ended] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
