//! The fakes of Wokwi's command line and server work: firmware boots behind them, and what they do is what the real ones do.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may")]

mod firmware;
mod lies;
mod protocol;
mod world;

use std::time::Instant;
use world::{Server, Typing, can_run, client, clients, end, project, until};

/// Far more simulated time than anything here takes.
const LONG: &str = "600000";

#[test]
fn the_firmware_boots_to_its_console() {
    let Some(image) = world::firmware().filter(|_| can_run()) else { return };
    let (server, project) = (Server::start(&[]), project(&image, &[]));
    for program in clients() {
        let came = end(client(&program, &server.url, &project, &["--expect-text", "console: Ready", "--timeout", LONG]));
        assert_eq!(came.code, Some(0), "{came:?}");
        for part in
            ["Wokwi CLI v", "Connected to Wokwi Simulation API fake-", "Starting simulation...", "console: Ready\n", "TEST PASSED."]
        {
            assert!(came.out.contains(part), "{part}: {came:?}");
        }
    }
    until("the boards to go", || server.emulators() == 0 && server.leftovers() == 0);
}

#[test]
fn every_byte_goes_through_unchanged_both_ways() {
    if !can_run() {
        return;
    }
    let (server, project) = (Server::start(&[]), project(&firmware::echo(), &[]));
    let mut bytes: Vec<u8> = (0..4).flat_map(|_| 0..=255).collect();
    bytes.extend(b"\r\n\n\r\x7e\x7d\x00\x00\xef\xbb\xbf\x1b[0m\x03\x04\x11\x13");
    let mut rng = device_core::rng::Rng::new(1);
    bytes.extend((0..300_000).map(|_| rng.draw() as u8));
    for program in clients() {
        let mut typing = Typing::start(client(&program, &server.url, &project, &["--interactive", "-q", "--timeout", "0"]));
        assert_eq!(typing.read(6), b"ready\n", "nothing comes before what the device says");
        let began = Instant::now();
        assert!(typing.exchange(bytes.clone(), bytes.len()) == bytes);
        eprintln!("{}: {} bytes each way in {:?}", program.display(), bytes.len(), began.elapsed());
    }
}

const WAITS: &str = "name: Waits\nversion: 1\nsteps:\n  - name: first\n    wait-serial: ready\n  - write-serial: \"boot ok, ok\\n\"\n  \
                     - wait-serial: ok\n  - wait-serial: ok\n  - delay: 10ms\n";

#[test]
fn a_wait_takes_what_it_waited_for() {
    if !can_run() {
        return;
    }
    let third = WAITS.to_owned() + "  - wait-serial: ok\n";
    let image = firmware::echo();
    let (server, project) = (Server::start(&[]), project(&image, &[("two.yaml", WAITS), ("three.yaml", &third)]));
    for program in clients() {
        let came = end(client(&program, &server.url, &project, &["-q", "--timeout", LONG, "--scenario", "two.yaml"]));
        assert_eq!((came.code, came.err.as_str()), (Some(0), ""), "{came:?}");
        assert_eq!(came.out, MESSAGES, "{}", program.display());
        let came = end(client(&program, &server.url, &project, &["-q", "--timeout", "1500", "--scenario", "three.yaml"]));
        assert_eq!((came.code, came.err.contains("Timeout: simulation did not finish in 1500ms")), (Some(42), true), "{came:?}");
    }
}

/// Messages stand in the middle of what the device says, and each takes the place of the line end after it.
const MESSAGES: &str = "\n[Waits] Executing step: first\nready\n[Waits] Expected text matched: \"ready\"\nboot ok\n\
    [Waits] Expected text matched: \"ok\"\n, ok\n[Waits] Expected text matched: \"ok\"\n[Waits] delay 10ms\n\
    [Waits] Scenario completed successfully\n";

#[test]
fn the_first_of_text_scenario_and_timeout_wins() {
    if !can_run() {
        return;
    }
    let endless = "name: Endless\nversion: 1\nsteps:\n  - wait-serial: never\n";
    let (server, project) = (Server::start(&[]), project(&firmware::echo(), &[("endless.yaml", endless)]));
    for program in clients() {
        let code = |options: &[&str]| {
            let came = end(client(&program, &server.url, &project, &[&["--timeout", "1000"], options].concat()));
            (came.code, came.err.trim().to_owned())
        };
        let late = || "Timeout: simulation did not finish in 1000ms".to_owned();
        assert_eq!(code(&[]), (Some(42), late()));
        assert_eq!(code(&["--timeout-exit-code", "7"]), (Some(7), late()));
        assert_eq!(code(&["--timeout-exit-code", "0"]), (Some(0), late()));
        assert_eq!(code(&["--expect-text", "read"]), (Some(0), String::new()));
        assert_eq!(code(&["--expect-text", "read", "--scenario", "endless.yaml"]), (Some(0), String::new()));
        assert_eq!(code(&["--expect-text", "", "--fail-text", ""]), (Some(42), late()), "an empty text is none");
        let failed = code(&["--fail-text", "read"]);
        assert!(failed.0 == Some(1) && failed.1.contains("Unexpected text found: \"read\"\nTEST FAILED."), "{failed:?}");
    }
}

#[test]
fn what_is_wrong_ends_with_code_1_and_says_why() {
    if !can_run() {
        return;
    }
    let bad = "name: Bad\nversion: 1\nsteps:\n  - wait-serial: x\n    timeout: 5\n";
    let (server, project) = (Server::start(&[]), project(b"no firmware", &[("bad.yaml", bad)]));
    for program in clients() {
        let told = |change: &dyn Fn(&mut std::process::Command), options: &[&str], says: &str| {
            let mut command = client(&program, &server.url, &project, options);
            change(&mut command);
            let came = end(command);
            assert!(came.code == Some(1) && came.err.contains(says), "{says}: {came:?}");
        };
        told(&|_| {}, &[], "API Error: flash-0x0.bin cannot be run by this fake");
        told(&|_| {}, &["--scenario", "bad.yaml"], "Error: Invalid scenario step key: timeout");
        told(&|_| {}, &["--scenario", "none.yaml"], "Error: scenario file not found: ");
        told(&|_| {}, &["--elf", "none.elf"], "firmware file not found: ");
        told(&|_| {}, &["--diagram-file", "none.json"], "diagram.json not found in ");
        told(&|_| {}, &["--frobnicate"], "--frobnicate");
        told(&|command| _ = command.env_remove("WOKWI_CLI_TOKEN"), &[], "Error: Missing WOKWI_CLI_TOKEN environment variable");
        told(&|command| _ = command.env("WOKWI_CLI_TOKEN", "wrong"), &[], "401 Unauthorized");
        told(&|command| _ = command.env("WOKWI_CLI_SERVER", "ws://127.0.0.1:1"), &[], "Error connecting to ws://127.0.0.1:1");
    }
}

#[test]
fn parts_that_are_not_simulated_fail_their_steps() {
    if !can_run() {
        return;
    }
    let steps = [
        ("set-control: { part-id: esp, control: pressed, value: 1 }", "Error: Error 501: control:set of part esp is not simulated"),
        ("set-control: { part-id: btn, control: pressed, value: 1 }", "Error: Error 404: part btn is not in the diagram"),
        ("expect-pin: { part-id: esp, pin: \"5\", value: 1 }", "Error: Error 501: pin:read of part esp"),
        ("touch: { part-id: esp, x: 1, y: 2 }", "Error: Error 501: touch:event of part esp"),
        ("delay: 1m", "Error: Missing units: 1m"),
        ("name: bare", "Unknown key in step"),
    ];
    let server = Server::start(&[]);
    for (step, says) in steps {
        let text = format!("name: Parts\nversion: 1\nsteps:\n  - {step}\n");
        let project = project(&firmware::echo(), &[("parts.yaml", &text)]);
        for program in clients() {
            let came = end(client(&program, &server.url, &project, &["-q", "--scenario", "parts.yaml"]));
            assert!(came.code == Some(1) && came.err.contains(says), "{step}: {came:?}");
        }
    }
}

#[test]
fn an_elf_file_runs_alone_and_what_it_says_is_logged() {
    if !can_run() {
        return;
    }
    let (server, project) = (Server::start(&[]), project(&firmware::echo(), &[("wokwi.toml", "[wokwi]\nversion = 2\n")]));
    std::fs::remove_file(project.path().join("wokwi.toml")).unwrap();
    let path = |name: &str| project.path().join(name).display().to_string();
    for program in clients() {
        let (elf, log) = (path("image.elf"), path("serial.log"));
        let options = ["--elf", &elf, "--serial-log-file", &log, "--expect-text", "ready", "--timeout", LONG];
        let came = end(client(&program, &server.url, &project, &options));
        assert_eq!((came.code, std::fs::read_to_string(&log).unwrap().as_str()), (Some(0), "ready\n"), "{came:?}");
        std::fs::remove_file(log).unwrap();
    }
}

#[test]
fn without_wires_there_is_silence_and_a_timeout() {
    if !can_run() {
        return;
    }
    let bare = r#"{ "version": 1, "author": "x", "editor": "wokwi", "parts": [ { "type": "board-esp32-c3-devkitm-1", "id": "esp" } ],
      "connections": [] }"#;
    let (server, project) = (Server::start(&[]), project(&firmware::echo(), &[("diagram.json", bare)]));
    for program in clients() {
        let came = end(client(&program, &server.url, &project, &["-q", "--timeout", "1000", "--expect-text", "ready"]));
        assert_eq!((came.code, came.out.as_str()), (Some(42), ""), "{came:?}");
    }
}

#[test]
fn a_client_lives_for_as_long_as_somebody_may_type() {
    if !can_run() {
        return;
    }
    let (server, project) = (Server::start(&[]), project(&firmware::echo(), &[]));
    for program in clients() {
        let options = ["--interactive", "--expect-text", "ready", "--timeout", LONG];
        let mut typing = Typing::start(client(&program, &server.url, &project, &options));
        until("the board to go", || server.emulators() == 0);
        let mut said = String::new();
        assert_eq!(typing.child.try_wait().unwrap(), None, "its input is open");
        drop(typing.keys.take());
        std::io::Read::read_to_string(typing.child.stdout.as_mut().unwrap(), &mut said).unwrap();
        assert!(said.contains("TEST PASSED.") && typing.child.wait().unwrap().success(), "{said}");
    }
}

#[test]
fn versions_and_help_are_said() {
    for program in clients() {
        for option in ["-V", "--version", "--short-version"] {
            let came = end(client(&program, "", &project(b"", &[]), &[option]));
            assert!(came.code == Some(0) && came.out.contains('(') && !came.out.contains("Wokwi"), "{came:?}");
        }
        let came = end(client(&program, "", &project(b"", &[]), &["-h"]));
        for option in ["--interactive", "--timeout-exit-code", "--serial-log-file", "--diagram-file"] {
            assert!(came.code == Some(0) && came.out.contains(option), "{option}: {came:?}");
        }
    }
}

#[test]
fn no_board_outlives_its_server_or_its_client() {
    if !can_run() {
        return;
    }
    let (mut server, project) = (Server::start(&[]), project(&firmware::echo(), &[]));
    let program = &clients()[0];
    let begin = || {
        let mut typing = Typing::start(client(program, &server.url, &project, &["--interactive", "-q", "--timeout", "0"]));
        typing.read(6);
        typing
    };
    let (first, second) = (begin(), begin());
    assert_eq!(server.emulators(), 2);
    drop(first);
    until("the first client's board to go", || server.emulators() == 1);
    server.kill();
    until("the second's to go", || server.emulators() == 0 && server.leftovers() == 0);
    drop(second);
}
