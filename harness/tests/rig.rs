//! A board at a serial port: a stand-in of this file's own where there is no QEMU, and the real firmware behind `harness board` where there
//! is. Cables are pulled, lines are bad, and other programs have the port.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may")]

use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long whatever a test waits for may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A console is all it takes: what the board says of itself, twice.
const STATUS: &str = "
version: 1
name: A board says where it stands
steps:
  - power-on: {}
  - command: status
  - wait-for: { device: { report: status }, within: 20s }
  - delay: 500ms
  - command: status
  - wait-for: { device: { report: status }, within: 20s }
";

/// The network too, before and after a while in which the cable can be pulled.
const CONNECTED: &str = "
version: 1
name: A board is connected and stays so
steps:
  - power-on: {}
  - provision: {}
  - wait-for: { state: MQTT_CONNECTED }
  - delay: 1s
  - command: telemetry
  - wait-for: { mqtt: { topic: \"devices/${device}/telemetry\" } }
";

fn home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("tmp")).unwrap();
    std::fs::write(home.path().join("status.yaml"), STATUS).unwrap();
    home
}

fn harness(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command.args(arguments).current_dir(home).env("TMPDIR", home.join("tmp"));
    for variable in ["HARNESS_PORT", "HARNESS_BAUD", "HARNESS_LINK", "HARNESS_FIRMWARE"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(home: &Path, more: &[&str]) -> Command {
    let mut command = harness(home, &["run", "--target", "rig", "--link", "console", "--traces", "traces", "--port", "port"]);
    command.args(more);
    command
}

/// Exit code, all that was said, and how long it took.
fn end(mut command: Command) -> (Option<i32>, String, Duration) {
    let began = Instant::now();
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text, began.elapsed())
}

fn until(what: &str, mut met: impl FnMut() -> bool) {
    let began = Instant::now();
    while !met() {
        assert!(began.elapsed() < PATIENCE, "waited for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What has been recorded in the home's traces so far.
fn traces(home: &Path) -> String {
    let files = std::fs::read_dir(home.join("traces")).into_iter().flatten().flatten();
    files.map(|file| std::fs::read_to_string(file.path()).unwrap_or_default()).collect()
}

/// Which firmware is at the other end of a stand-in's cable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Firmware {
    /// It does as it is told, and answers `status`.
    Good,
    /// It says something else.
    Foreign,
    /// It says nothing.
    Dead,
}

/// A board of a few lines, at `port` in a folder.
struct StandIn {
    port: PathBuf,
    ended: Arc<AtomicBool>,
    serves: Option<JoinHandle<()>>,
}

impl StandIn {
    fn plug(home: &Path, firmware: Firmware) -> StandIn {
        // Closed in the programs that other tests start meanwhile.
        let host = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&host).unwrap();
        unlockpt(&host).unwrap();
        fcntl_setfl(&host, fcntl_getfl(&host).unwrap() | OFlags::NONBLOCK).unwrap();
        let name = ptsname(&host, Vec::new()).unwrap();
        let device = rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let port = home.join("port");
        std::os::unix::fs::symlink(OsStr::from_bytes(name.to_bytes()), &port).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let told = ended.clone();
        let serves = std::thread::spawn(move || {
            // Held, so that a port that nobody has open is no error.
            let _device = device;
            serve(File::from(host), firmware, &told);
        });
        StandIn { port, ended, serves: Some(serves) }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.port);
        self.ended.store(true, Ordering::Relaxed);
        self.serves.take().unwrap().join().unwrap();
    }
}

fn serve(mut host: File, firmware: Firmware, ended: &AtomicBool) {
    let (mut heard, mut chunk, mut saves) = (Vec::new(), [0; 256], 0);
    while !ended.load(Ordering::Relaxed) {
        match host.read(&mut chunk) {
            Ok(read) => heard.extend_from_slice(&chunk[..read]),
            Err(_) => {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
        }
        while let Some(at) = heard.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8(heard.drain(..=at).collect()).unwrap();
            let answer = match (firmware, line.split_whitespace().next().unwrap_or_default()) {
                (Firmware::Dead, _) | (_, "") => continue,
                (Firmware::Foreign, _) => "esp> what?".to_owned(),
                (Firmware::Good, "factory-reset" | "reboot") => {
                    saves = 0;
                    "I (0) boot: device-core 0.1.0\r\nI (1) console: Ready".to_owned()
                }
                (Firmware::Good, "save") => {
                    saves += 1;
                    format!("I (2) config: Saved {saves} settings")
                }
                (Firmware::Good, "status") => {
                    "I (3) console: Status: AP_MODE connected=0 produced=0 delivered=0 queued=0 dropped=0 connects=0".to_owned()
                }
                (Firmware::Good, verb) => format!("I (2) console: Done: {verb}"),
            };
            let _ = host.write_all(format!("{answer}\r\n").as_bytes());
        }
    }
}

#[test]
fn a_port_that_cannot_be_had_is_said_with_what_to_do() {
    let home = home();
    let (code, said, _) = end(harness(home.path(), &["run", "--target", "rig", "--link", "console", "status.yaml"]));
    assert!(code == Some(3) && said.contains("--port") && said.contains("harness board"), "{said}");
    let (code, said, _) = end(run(home.path(), &["status.yaml"]));
    assert!(code == Some(3) && said.contains("none of that name"), "{said}");

    let board = StandIn::plug(home.path(), Firmware::Good);
    let (code, said, _) = end(harness(home.path(), &["run", "--target", "rig", "--port", "port", "status.yaml"]));
    assert!(code == Some(3) && said.contains("--link console"), "{said}");
    let held = serialport::new(board.port.to_string_lossy(), 115_200).open().unwrap();
    let (code, said, _) = end(run(home.path(), &["status.yaml"]));
    assert!(code == Some(3) && said.contains("another program has it"), "{said}");
    drop(held);
    let (code, said, _) = end(run(home.path(), &["status.yaml"]));
    assert!(code == Some(0), "{said}");
}

#[test]
fn one_board_is_one_trial_at_a_time_and_what_it_cannot_do_is_skipped_by_name() {
    let home = home();
    let _board = StandIn::plug(home.path(), Firmware::Good);
    let matrix =
        STATUS.replace("version: 1\n", "version: 1\nmatrix: { n: [\"1\", \"2\", \"3\", \"4\"] }\n").replace("A board", "${n}");
    std::fs::write(home.path().join("many.yaml"), matrix).unwrap();
    let off = "version: 1\nname: Off\nsteps:\n  - power-on: {}\n  - power-off: {}\n";
    std::fs::write(home.path().join("off.yaml"), off).unwrap();
    let (code, said, _) = end(run(home.path(), &["many.yaml", "off.yaml"]));
    assert!(code == Some(0) && said.contains("4 pass, 1 skip") && said.contains("lacks power-switch"), "{said}");
}

#[test]
fn a_board_that_is_not_this_projects_is_the_testbeds_trouble() {
    let ended = [(Firmware::Foreign, "did not answer `surroundings`"), (Firmware::Dead, "nothing came from port")].map(
        |(firmware, why)| {
            std::thread::spawn(move || {
                let home = home();
                let _board = StandIn::plug(home.path(), firmware);
                let (code, said, _) = end(run(home.path(), &["status.yaml"]));
                assert!(code == Some(3) && said.contains(why), "{said}");
            })
        },
    );
    ended.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_port_that_comes_back_is_opened_again_and_one_that_does_not_is_a_device_lost() {
    let home = home();
    let long = STATUS.replace("500ms", "2s");
    std::fs::write(home.path().join("status.yaml"), long).unwrap();
    let board = StandIn::plug(home.path(), Firmware::Good);
    let child = run(home.path(), &["status.yaml"]).spawn().unwrap();
    until("the first status", || traces(home.path()).contains("Status: AP_MODE"));
    drop(board);
    until("the port to be missed", || traces(home.path()).contains("the port went away"));
    let board = StandIn::plug(home.path(), Firmware::Good);
    let output = child.wait_with_output().unwrap();
    let (said, told) = (String::from_utf8_lossy(&output.stdout), traces(home.path()));
    assert!(output.status.code() == Some(0) && told.contains("the port came back after"), "{said}\n{told}");

    std::fs::remove_dir_all(home.path().join("traces")).unwrap();
    let child = run(home.path(), &["status.yaml"]).spawn().unwrap();
    until("the first status", || traces(home.path()).contains("Status: AP_MODE"));
    drop(board);
    let began = Instant::now();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code() == Some(3) && said.contains("did not come back within 10 s"), "{said}");
    assert!(began.elapsed() < PATIENCE);
}

/// `harness board`, with real firmware.
struct Board {
    child: Child,
    orders: Option<ChildStdin>,
    said: mpsc::Receiver<String>,
}

impl Board {
    /// None where there is no QEMU or no image.
    fn start(home: &Path, options: &[&str]) -> Option<Board> {
        let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware/target/virt.elf");
        if !image.is_file() || Command::new("qemu-system-riscv32").arg("--version").output().is_err() {
            eprintln!("not looked at: QEMU or the firmware's image is missing (ci/firmware.sh)");
            return None;
        }
        let mut command = harness(home, &["board", "--at", "port", "--firmware"]);
        command.arg(image).args(options).stdin(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let (orders, out) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let (give, said) = mpsc::channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| give.send(line)));
        let board = Board { child, orders, said };
        board.says("port");
        Some(board)
    }

    fn says(&self, what: &str) {
        let line = self.said.recv_timeout(PATIENCE).unwrap();
        assert!(line.contains(what), "{line}");
    }

    fn order(&mut self, what: &str) {
        writeln!(self.orders.as_mut().unwrap(), "{what}").unwrap();
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // The end of its input is its end.
        drop(self.orders.take());
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
    }
}

/// A scenario of the project's own.
fn own(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../scenarios/{name}.yaml")).to_string_lossy().into_owned()
}

#[test]
fn a_virtual_board_runs_trials_and_leaves_nothing_behind() {
    let home = home();
    let Some(mut board) = Board::start(home.path(), &[]) else { return };
    let (code, said, _) =
        end(run(home.path(), &["status.yaml", &own("happy/mutual-tls"), "--filter", "status", "--filter", "mqtt=v5,tls=1.3"]));
    assert!(code == Some(0), "{said}");
    // As it came, and with what it was told before: the second trial begins as the first did.
    board.order("reset");
    board.says("reset");
    let (code, said, _) = end(run(home.path(), &["status.yaml"]));
    assert!(code == Some(0), "{said}");
    drop(board);
    assert!(!home.path().join("port").exists());
    until("the temporary files to go", || std::fs::read_dir(home.path().join("tmp")).unwrap().next().is_none());
}

#[test]
fn a_bad_line_costs_time_and_no_verdict() {
    for options in [&["--lose", "10000"][..], &["--garbage", "100"]] {
        let home = home();
        let Some(_board) = Board::start(home.path(), options) else { return };
        let (code, said, _) =
            end(run(home.path(), &["status.yaml", &own("happy/mutual-tls"), "--filter", "status", "--filter", "mqtt=v5,tls=1.3"]));
        assert!(code == Some(0), "{options:?}: {said}");
    }
}

#[test]
fn a_cable_that_is_pulled_in_the_middle_is_put_in_again() {
    let home = home();
    std::fs::write(home.path().join("connected.yaml"), CONNECTED).unwrap();
    let Some(mut board) = Board::start(home.path(), &[]) else { return };
    let child = run(home.path(), &["connected.yaml"]).spawn().unwrap();
    until("the device to be connected", || traces(home.path()).contains("-> MQTT_CONNECTED"));
    board.order("unplug");
    board.says("unplugged");
    until("the port to be missed", || traces(home.path()).contains("the port went away"));
    board.order("plug");
    board.says("plugged in");
    let output = child.wait_with_output().unwrap();
    let (said, told) = (String::from_utf8_lossy(&output.stdout), traces(home.path()));
    assert!(output.status.code() == Some(0) && told.contains("the port came back after"), "{said}\n{told}");
}
