//! An emulator that is missing, that does not start or that goes away is the testbed's trouble, said with what to do; none is left behind.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may")]

use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long whatever a test waits for may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const SCENARIO: &str = "version: 1\nname: Left alone\nsteps:\n  - power-on: {}\n  - delay: 60s\n";

fn home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("tmp")).unwrap();
    std::fs::write(home.path().join("alone.yaml"), SCENARIO).unwrap();
    home
}

fn harness(home: &TempDir, emulator: &Path, image: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command.args(["run", "--target", "qemu", "--traces", "traces", "alone.yaml", "--emulator"]).arg(emulator);
    command.arg("--firmware").arg(image).current_dir(home.path()).env("TMPDIR", home.path().join("tmp"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What looks like an image, for emulators that never read it.
fn no_image(home: &TempDir) -> PathBuf {
    let path = home.path().join("no.elf");
    std::fs::write(&path, b"\x7fELF").unwrap();
    path
}

/// Exit code, and all that was said.
fn end(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

fn until(what: &str, mut met: impl FnMut() -> bool) {
    let began = Instant::now();
    while !met() {
        assert!(began.elapsed() < PATIENCE, "waited for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The emulators that run for this test: they name its folder.
fn emulators(home: &TempDir) -> Vec<i32> {
    let listed = Command::new("ps").args(["-A", "-ww", "-o", "pid=,args="]).output().unwrap().stdout;
    let (told, folder) = (String::from_utf8_lossy(&listed).into_owned(), home.path().join("tmp").display().to_string());
    let ours = |line: &&str| line.contains(&folder) && line.contains("virtio-blk-device");
    told.lines().filter(ours).filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

/// A script in the emulator's place.
fn script(home: &TempDir, text: &str) -> PathBuf {
    let path = home.path().join("emulator");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn what_is_missing_is_said_with_the_command_that_gets_it() {
    let home = home();
    let image = no_image(&home);
    let (code, said) = end(harness(&home, Path::new("no-such-emulator"), &image));
    assert!(code == Some(3) && said.contains("no-such-emulator") && said.contains("apt-get install"), "{said}");
    let (code, said) = end(harness(&home, Path::new("sh"), Path::new("no-such.elf")));
    assert!(code == Some(3) && said.contains("no-such.elf") && said.contains("ci/firmware.sh virt"), "{said}");
    let (code, said) = end(harness(&home, Path::new("sh"), &home.path().join("alone.yaml")));
    assert!(code == Some(3) && said.contains("could not use") && said.contains("alone.yaml: no ELF file"), "{said}");
    assert!(!home.path().join("traces").exists(), "nothing was begun");
}

#[test]
fn an_emulator_that_does_not_start_is_the_testbeds_trouble() {
    let home = home();
    let image = no_image(&home);
    let (code, said) = end(harness(&home, &script(&home, "echo 'machine type not supported' >&2; exit 1"), &image));
    assert!(code == Some(3) && said.contains("machine type not supported") && said.contains("testbed is to blame"), "{said}");
    until("the temporary files to go", || std::fs::read_dir(home.path().join("tmp")).unwrap().next().is_none());
}

/// A run whose device has begun, where there are QEMU and an image.
fn begun(home: &TempDir) -> Option<Child> {
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware/target/virt.elf");
    if !image.is_file() || Command::new("qemu-system-riscv32").arg("--version").output().is_err() {
        eprintln!("not looked at: QEMU or the firmware's image is missing (ci/firmware.sh)");
        return None;
    }
    let child = harness(home, Path::new("qemu-system-riscv32"), &image).spawn().unwrap();
    let trace = home.path().join("traces");
    until("the device to boot", || {
        let traces = std::fs::read_dir(&trace).into_iter().flatten().flatten();
        traces.into_iter().any(|file| std::fs::read_to_string(file.path()).is_ok_and(|text| text.contains("Saved ")))
    });
    Some(child)
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn an_emulator_that_goes_away_is_a_device_lost() {
    let home = home();
    let Some(child) = begun(&home) else { return };
    let running = emulators(&home);
    assert_eq!(running.len(), 1, "{running:?}");
    kill(running[0]);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code() == Some(3) && said.contains("the device was lost"), "{said}");
}

#[test]
fn no_emulator_outlives_the_harness() {
    let home = home();
    let Some(mut child) = begun(&home) else { return };
    assert_eq!(emulators(&home).len(), 1);
    kill(child.id().try_into().unwrap());
    child.wait().unwrap();
    until("the emulator to go", || emulators(&home).is_empty());
    until("the temporary files to go", || std::fs::read_dir(home.path().join("tmp")).unwrap().next().is_none());
}
