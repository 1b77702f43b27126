//! Firmware that crashes, in whichever way, ends its trial at once, as the device's fault, with a backtrace that names the place.
//!
//! The image breaks on purpose when QEMU is started with one more option (firmware/boards/virt/src/provoke.rs). Where QEMU or the image is
//! missing there is nothing to look at, and the test says so.

#![cfg(unix)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A device that is left alone for longer than any crash takes.
const SCENARIO: &str = "version: 1\nname: Left alone\nsteps:\n  - power-on: {}\n  - delay: 60s\n";

/// How a device is told to break, what its console says then, and which functions the backtrace names.
const CRASHES: [(u8, &str, &[&str]); 4] = [
    (1, "panic'ed (Panic). provoked", &["panic_fmt", "provoke.rs:"]),
    (2, "panic'ed (Load access fault)", &["provoke.rs:"]),
    (3, "panic'ed (Stack protection fault)", &["overflow at", "provoke.rs:"]),
    (4, "panic'ed (Task watchdog)", &["provoke.rs:"]),
];

#[test]
fn a_crash_ends_the_trial_and_names_the_place() {
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware/target/virt.elf");
    let qemu = Command::new("qemu-system-riscv32").arg("--version").output();
    if !image.is_file() || qemu.is_err() {
        eprintln!("not looked at: QEMU or the firmware's image is missing (ci/firmware.sh)");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("alone.yaml"), SCENARIO).unwrap();
    for (how, said, places) in CRASHES {
        let emulator = home.path().join(format!("qemu-{how}"));
        let option = format!("-device loader,addr=0x80900000,data={how},data-len=4");
        std::fs::write(&emulator, format!("#!/bin/sh\nexec qemu-system-riscv32 \"$@\" {option}\n")).unwrap();
        std::fs::set_permissions(&emulator, std::fs::Permissions::from_mode(0o755)).unwrap();
        let began = Instant::now();
        let run = Command::new(env!("CARGO_BIN_EXE_harness"))
            .args(["run", "--target", "qemu", "alone.yaml"])
            .arg("--emulator")
            .arg(&emulator)
            .arg("--firmware")
            .arg(&image)
            .current_dir(home.path())
            .output()
            .unwrap();
        let told = String::from_utf8(run.stdout).unwrap();
        assert_eq!(run.status.code(), Some(1), "{told}{}", String::from_utf8_lossy(&run.stderr));
        assert!(told.contains("the device crashed: ") && told.contains(said), "{told}");
        for place in places {
            assert!(told.contains(place), "no {place} in\n{told}");
        }
        assert!(began.elapsed() < Duration::from_secs(40), "it took {:?}\n{told}", began.elapsed());
    }
}
