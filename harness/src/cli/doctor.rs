//! `harness doctor`: whether `harness run` will work here, and what to do where it will not.

use super::{BrokerOption, DeviceOption, complain};
use crate::broker::{BrokerError, BrokerSpec, Choice};
use crate::ca::pki::Pki;
use crate::ca::wall_clock;
use crate::child::{self, PrivateDir};
use crate::serial::Carrier;
use crate::serial::self_test::{self, self_test};
use crate::site::{Network, Site};
use crate::target::{self, Equipment, Facts};
use crate::trace::{redact::Redactor, tape::Tape};
use crate::{exit, runner, say};
use device_core::secret::Secret;
use serde::Serialize;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

/// Ports that must be free at once; a run of many trials takes some hundreds in turn.
const PORTS: usize = 64;
/// File descriptors that the trials of a machine with many cores use at once.
const DESCRIPTORS_MIN: u64 = 1024;
/// Bytes that temporary files and traces of a run may take.
const ROOM_MIN: u64 = 64 * 1024 * 1024;
/// Before this date (2025-06-15) this program did not exist: a clock that says so is wrong.
const CLOCK_MIN: i64 = 1_750_000_000;
/// After this date (2100) no certificate lasts.
const CLOCK_MAX: i64 = 4_102_444_800;
/// Longest wait for a connection to this very machine.
const LOOPBACK_WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nothing is installed or changed: brokers are started for a moment and ended again, a file is written among the temporary ones.
With --link (on the target wokwi without, too) each target that is named is switched on and its console's line tested: all 256 values there
and back, 4 KiB at once, the round trip. A board at a serial port forgets what it has stored, as in every trial.
Lines begin with `ok`, with `--` (not there, and not needed) or with `NO` (needed), and say the command that helps.

Exit codes: 0 `harness run` will work with this broker and these targets, 3 it will not.")]
pub(super) struct Doctor {
    #[command(flatten)]
    broker: BrokerOption,
    #[command(flatten)]
    device: DeviceOption,
    /// One JSON object on standard output, for machines.
    #[arg(long)]
    json: bool,
}

/// What was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    ok: bool,
    /// Whether `harness run` needs it.
    needed: bool,
    /// What was found, or why not.
    found: String,
    /// What to do; none when it is well.
    help: Option<String>,
    /// What a test of a line measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<self_test::Report>,
}

impl Check {
    fn new(name: impl Into<String>, found: Result<String, (String, String)>) -> Check {
        let name = name.into();
        match found {
            Ok(found) => Check { name, ok: true, needed: true, found, help: None, line: None },
            Err((found, help)) => Check { name, ok: false, needed: true, found, help: Some(help), line: None },
        }
    }

    fn optional(mut self) -> Check {
        self.needed = false;
        self
    }
}

impl Doctor {
    pub(super) fn run(self) -> u8 {
        let named = match self.device.targets() {
            Ok(named) => named,
            Err(error) => return complain(error, exit::WRONG_INPUT),
        };
        let equipment = self.device.equipment();
        let mut checks = self.brokers();
        checks.extend(target::TARGETS.iter().map(|facts| {
            let ready = (facts.ready)(&equipment).map_err(|e| (format!("could not {}", e.what), e.help));
            let check = Check::new(format!("target {}", facts.name), ready);
            if named.iter().any(|named| named.name == facts.name) { check } else { check.optional() }
        }));
        // With a link asked for, each of them is switched on and its line tested.
        let lines = named.iter().filter(|facts| (facts.link)(&equipment).is_some() && (facts.ready)(&equipment).is_ok());
        checks.extend(lines.map(|facts| line(facts, &equipment)));
        checks.push(Check::new("loopback", loopback()));
        checks.push(Check::new("free ports", free_ports()));
        checks.push(Check::new("temporary files", temporary_files()));
        checks.push(Check::new("traces", traces()));
        checks.push(Check::new("wall clock", clock(wall_clock())));
        checks.push(Check::new("randomness", randomness()));
        checks.push(Check::new("file descriptors", descriptors()).optional());
        checks.push(Check::new("clean-up", reaper()).optional());
        for (programs, package, why) in PROGRAMS {
            checks.push(Check::new(*programs, programs_there(programs, package, why)).optional());
        }
        let ready = checks.iter().all(|check| check.ok || !check.needed);
        if self.json {
            let broker = self.broker.broker.to_string();
            say::line(serde_json::json!({"version": 1, "ready": ready, "broker": broker, "checks": checks}));
        } else {
            say::words(in_words(&checks, ready));
        }
        if ready { exit::PASS } else { exit::INCONCLUSIVE }
    }

    /// Each broker is started and ended: a program that is there may still not serve.
    fn brokers(&self) -> Vec<Check> {
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let wrong = (error.to_string(), "see how many threads this user may have (ulimit -u)".to_owned());
                return vec![Check::new("threads", Err(wrong))];
            }
        };
        let look = |choice: &Choice| {
            let found = runtime.block_on(async {
                let mut started = choice.start(BrokerSpec::plain()).await.map_err(|e| (e.what, e.help))?;
                let found = started.broker.backend().to_string();
                if !matches!(choice, Choice::External(_)) {
                    started.broker.stop().await.map_err(|e| (e.what, e.help))?;
                }
                Ok(found)
            });
            Check::new(format!("broker {choice}"), found)
        };
        let asked = &self.broker.broker;
        if !matches!(asked, Choice::Auto | Choice::Process | Choice::Bundled) {
            return vec![look(asked)];
        }
        let mut both = [Choice::Process, Choice::Bundled].map(|choice| look(&choice));
        let container = match "container".parse() {
            Ok(choice) => look(&choice),
            Err(left_out) => {
                let left_out: BrokerError = left_out;
                Check::new("broker container", Err((left_out.what, left_out.help)))
            }
        };
        let any = both.iter().chain([&container]).any(|check| check.ok);
        for (check, choice) in both.iter_mut().zip([Choice::Process, Choice::Bundled]) {
            check.needed = *asked == choice || (*asked == Choice::Auto && !any);
            if let (Choice::Process, Some(help)) = (&choice, &mut check.help)
                && std::env::var_os("MOSQUITTO_BIN").is_none_or(|named| named.is_empty())
            {
                *help = install("mosquitto");
            }
        }
        both.into_iter().chain([container.optional()]).collect()
    }
}

/// Longest wait for an answer over a line, before patience is multiplied in.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Whether a device's console carries the network.
fn line(facts: &'static Facts, equipment: &Equipment) -> Check {
    let name = format!("line of {}", facts.name);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return Check::new(name, Err((error.to_string(), "see how many threads this user may have (ulimit -u)".into())));
        }
    };
    runtime.block_on(async {
        let mut device = (facts.make)(equipment);
        let lab = Network { ssid: "lab".into(), password: Secret::new("correct-horse"), rssi: -48, channel: 6, dhcp: true };
        let site = Site {
            device_id: "doctor".into(),
            settings: Vec::new(),
            networks: vec![lab],
            clock_skip: false,
            seed: 1,
            reachable: Default::default(),
        };
        let (tape, _events) = Tape::new(Redactor::new());
        let mut console = match device.power_on(&site, &tape, None).await {
            Ok(console) => console,
            Err(error) => return Check::new(name, Err((format!("could not {}", error.what), error.help))),
        };
        let report = async {
            let mut network = console.network.take()?;
            let answer = ANSWER_WITHIN.mul_f32(facts.patience);
            let (mut says, mut said) = (console.says, [0; 1024]);
            // Its text must not stand in the way.
            let read = async { while matches!(says.read(&mut said).await, Ok(1..)) {} };
            let Carrier::Console(encoding) = (facts.link)(equipment)?;
            let test = self_test(&mut network, encoding, answer);
            tokio::pin!(test);
            tokio::select! {
                report = &mut test => Some(report),
                // It has ended; so does the test.
                () = read => Some(test.await),
            }
        };
        let report = report.await;
        let off = device.power_off().await;
        let Some(report) = report else {
            return Check::new(name, Err(("there is no network on its console".into(), "report this as a bug".into())));
        };
        let found = match (&report.help, off) {
            (None, Ok(())) => Ok(report.to_string()),
            (Some(help), _) => Err((report.to_string(), help.clone())),
            (None, Err(error)) => Err((format!("could not {}", error.what), error.help)),
        };
        Check { line: Some(report), ..Check::new(name, found) }
    })
}

/// Programs that people use beside this one, the package they are in, and for what.
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("mosquitto_sub mosquitto_pub", "mosquitto-clients", "to watch and talk to the brokers of `up` and `certs` by hand"),
    ("openssl", "openssl", "to look at certificates by hand"),
    ("curl", "curl", "to talk to the CA and to devices by hand"),
];

fn programs_there(programs: &str, package: &str, why: &str) -> Result<String, (String, String)> {
    let places = programs.split(' ').map(|program| in_path(program).ok_or(program)).collect::<Result<Vec<_>, _>>();
    match places {
        Ok(places) => Ok(places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(" ")),
        Err(program) => Err((format!("{program} is not installed; it is {why}"), install(package))),
    }
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let name = format!("{program}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(&path).map(|place| place.join(&name)).find(|place| place.is_file())
}

/// The command that installs a Debian package here, or what is closest to it.
fn install(package: &str) -> String {
    // Elsewhere Mosquitto's package has its clients in it.
    let elsewhere = package.trim_end_matches("-clients");
    let managers = [("apt-get", "sudo apt-get install", package), ("dnf", "sudo dnf install", elsewhere)];
    let more = [("apk", "sudo apk add", package), ("pacman", "sudo pacman -S", elsewhere), ("brew", "brew install", elsewhere)];
    let found = managers.into_iter().chain(more).find(|(manager, ..)| in_path(manager).is_some());
    match found {
        Some((_, command, package)) => format!("{command} {package}"),
        None => format!("install {elsewhere} with your system's package manager"),
    }
}

fn loopback() -> Result<String, (String, String)> {
    let exchange = || -> io::Result<u16> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let mut client = TcpStream::connect_timeout(&address, LOOPBACK_WITHIN)?;
        client.write_all(b"x")?;
        let (mut server, _) = listener.accept()?;
        server.set_read_timeout(Some(LOOPBACK_WITHIN))?;
        server.read_exact(&mut [0])?;
        Ok(address.port())
    };
    let help = "let programs of this machine talk to 127.0.0.1: look at its firewall, or the sandbox this runs in";
    exchange().map(|_| "127.0.0.1 answers".into()).map_err(|e| (format!("127.0.0.1 does not answer: {e}"), help.into()))
}

fn free_ports() -> Result<String, (String, String)> {
    let held: io::Result<Vec<TcpListener>> = (0..PORTS).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect();
    let help = "end what holds thousands of ports, or raise the descriptor limit (ulimit -n 4096)";
    held.map(|_| format!("{PORTS} at once")).map_err(|e| (format!("not {PORTS} at once: {e}"), help.into()))
}

fn temporary_files() -> Result<String, (String, String)> {
    let place = std::env::temp_dir();
    let wrong = |e: io::Error| {
        (format!("{} cannot be written to: {e}", place.display()), "make it, or name another folder in TMPDIR".to_owned())
    };
    let folder = PrivateDir::new("doctor").map_err(wrong)?;
    folder.write("file", b"x").map_err(wrong)?;
    room(&place)
}

fn traces() -> Result<String, (String, String)> {
    let place = runner::default_traces();
    // The folder is made by the first run: what is asked is whether it can be.
    let there = place.ancestors().find(|folder| folder.is_dir()).map_or_else(|| PathBuf::from("."), PathBuf::from);
    tempfile::tempfile_in(&there).map_err(|e| {
        (format!("{} cannot be written to: {e}", there.display()), "choose a folder: harness run --traces FOLDER".into())
    })?;
    Ok(place.display().to_string())
}

#[cfg(unix)]
fn room(place: &std::path::Path) -> Result<String, (String, String)> {
    let Ok(volume) = rustix::fs::statvfs(place) else { return Ok(place.display().to_string()) };
    let free = volume.f_bavail.saturating_mul(volume.f_frsize);
    let found = format!("{}, {} MiB free", place.display(), free / 1024 / 1024);
    if free < ROOM_MIN { Err((found, "make room, or name another folder in TMPDIR".into())) } else { Ok(found) }
}

#[cfg(not(unix))]
fn room(place: &std::path::Path) -> Result<String, (String, String)> {
    Ok(place.display().to_string())
}

fn clock(now: i64) -> Result<String, (String, String)> {
    let found = time::OffsetDateTime::from_unix_timestamp(now).map_or_else(|_| now.to_string(), |date| date.date().to_string());
    if (CLOCK_MIN..CLOCK_MAX).contains(&now) {
        Ok(found)
    } else {
        Err((
            format!("{found} cannot be: no certificate would be valid"),
            "set this machine's clock (timedatectl set-ntp true)".into(),
        ))
    }
}

fn randomness() -> Result<String, (String, String)> {
    Pki::new(wall_clock())
        .map(|_| "an authority can be made".into())
        .map_err(|e| (e.to_string(), "give this program the system's random numbers (getrandom, /dev/urandom)".into()))
}

#[cfg(unix)]
fn descriptors() -> Result<String, (String, String)> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    match limit {
        Some(limit) if limit < DESCRIPTORS_MIN => {
            Err((format!("{limit}; with many trials at once they run out"), "ulimit -n 4096, or harness run --jobs 4".into()))
        }
        Some(limit) => Ok(limit.to_string()),
        None => Ok("no limit".into()),
    }
}

#[cfg(not(unix))]
fn descriptors() -> Result<String, (String, String)> {
    Ok("no limit known".into())
}

fn reaper() -> Result<String, (String, String)> {
    if child::reaper_runs() {
        Ok("brokers end even if this program is killed".into())
    } else {
        Err(("a broker outlives this program when that is killed".into(), "end such a mosquitto by hand".into()))
    }
}

fn in_words(checks: &[Check], ready: bool) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let mark = match (check.ok, check.needed) {
            (true, _) => "ok",
            (false, false) => "--",
            (false, true) => "NO",
        };
        text += &format!("{mark}  {:width$}  {}\n", check.name, check.found.split_whitespace().collect::<Vec<_>>().join(" "));
        if let Some(help) = &check.help {
            text += &format!("    {:width$}  {help}\n", "");
        }
    }
    text += if ready {
        "\n`harness run` will work here.\n"
    } else {
        "\n`harness run` will not work here yet: see what is marked NO.\n"
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_cannot_be_right_is_wrong() {
        assert!(clock(1_795_000_000).is_ok());
        for wrong in [0, CLOCK_MIN - 1, CLOCK_MAX, i64::MAX] {
            assert!(clock(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_needed_stands_out() {
        let wrong = || Err(("gone".to_owned(), "get it".to_owned()));
        let checks =
            [Check::new("one", Ok("there".into())), Check::new("another", wrong()), Check::new("more", wrong()).optional()];
        assert_eq!(
            in_words(&checks, false),
            "ok  one      there\nNO  another  gone\n             get it\n--  more     gone\n             get it\n\n\
             `harness run` will not work here yet: see what is marked NO.\n"
        );
    }
}
