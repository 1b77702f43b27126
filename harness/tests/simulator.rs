//! wokwi-cli that is missing, fails, stalls or goes away is the testbed's trouble, said with what to do; its token is nobody else's.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long whatever a test waits for may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const TOKEN: &str = "wok_Th1s-is.no+token/of=anybody";
const SCENARIO: &str = "version: 1\nname: Left alone\nsteps:\n  - power-on: {}\n  - command: status\n  - wait-serial: hello\n";
const DIAGRAM: &str = r#"{"version": 1, "parts": [], "connections": [["esp:TX", "$serialMonitor:RX", "", []]]}"#;
const SETTINGS: &str = "[wokwi]\nversion = 1\nfirmware = 'flasher_args.json'\n";
/// Says what a device says, as far as the testbed listens.
const DEVICE: &str = "\
echo 'I (1) console: Ready'
while read line; do
  case \"$line\" in
    save) echo 'I (2) config: Saved 9 settings' ;;
    status) echo 'well, hello' ;;
  esac
done";

fn home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("tmp")).unwrap();
    let list = r#"{"flash_files": {"0x0": "board.elf"}}"#;
    for (name, content) in [
        ("alone.yaml", SCENARIO),
        ("diagram.json", DIAGRAM),
        ("wokwi.toml", SETTINGS),
        ("flasher_args.json", list),
        ("board.elf", "\x7fELF"),
    ] {
        std::fs::write(home.path().join(name), content).unwrap();
    }
    home
}

/// A script in wokwi-cli's place. It counts how often it is started.
fn script(home: &TempDir, text: &str) -> PathBuf {
    let path = home.path().join("wokwi-cli");
    let count = format!("echo x >> {}/started", home.path().display());
    std::fs::write(&path, format!("#!/bin/sh\n{count}\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn started(home: &TempDir) -> usize {
    std::fs::read_to_string(home.path().join("started")).map_or(0, |text| text.lines().count())
}

fn harness(home: &TempDir, program: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command.arg("run").args(more).arg("alone.yaml").arg("--wokwi-cli").arg(program).current_dir(home.path());
    command.env("TMPDIR", home.path().join("tmp")).env("WOKWI_CLI_TOKEN", TOKEN).env_remove("HARNESS_FIRMWARE");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

const RUN: &[&str] = &["--target", "wokwi", "--traces", "traces"];

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

fn nothing_is_left(home: &TempDir) {
    until("the temporary files to go", || std::fs::read_dir(home.path().join("tmp")).unwrap().next().is_none());
}

#[test]
fn what_is_missing_is_said_with_the_command_that_gets_it() {
    let home = home();
    let (code, said) = end(harness(&home, Path::new("no-such-wokwi-cli"), RUN));
    assert!(code == Some(3) && said.contains("no-such-wokwi-cli") && said.contains("install.sh"), "{said}");
    let mut command = harness(&home, &script(&home, DEVICE), RUN);
    command.env_remove("WOKWI_CLI_TOKEN");
    let (code, said) = end(command);
    assert!(code == Some(3) && said.contains("WOKWI_CLI_TOKEN") && said.contains("wokwi.com/dashboard/ci"), "{said}");
    std::fs::remove_file(home.path().join("board.elf")).unwrap();
    let (code, said) = end(harness(&home, &script(&home, DEVICE), RUN));
    assert!(code == Some(3) && said.contains("board.elf") && said.contains("ci/firmware.sh esp32c3"), "{said}");
    assert_eq!(started(&home), 0, "nothing is begun that cannot end well");
}

#[test]
fn a_board_is_heard_told_and_ended() {
    let home = home();
    // Its own words come first on the same stream; the project is a folder of its own.
    let text =
        "echo 'Will retry in 1000ms...'; for last; do :; done; cat $last/* > seen; echo \"$@\" >> seen\n".to_owned() + DEVICE;
    let (code, said) = end(harness(&home, &script(&home, &text), RUN));
    assert_eq!(code, Some(0), "{said}");
    let seen = std::fs::read_to_string(home.path().join("seen")).unwrap();
    for word in ["seed 1", "link console", "\"0x9000\":\"surroundings.bin\"", "board.elf", "$serialMonitor", "--interactive -q"] {
        assert!(seen.contains(word), "{word}: {seen}");
    }
    nothing_is_left(&home);
}

#[test]
fn the_simulators_fault_is_tried_again_and_then_inconclusive() {
    let home = home();
    let (code, said) = end(harness(&home, &script(&home, "echo 'API Error: no room' >&2; exit 1"), RUN));
    assert!(code == Some(3) && said.contains("API Error: no room (3 tries)") && said.contains("testbed is to blame"), "{said}");
    assert_eq!(started(&home), 3);
    std::fs::remove_file(home.path().join("started")).unwrap();
    let once = format!("[ $(wc -l < started) = 1 ] && {{ echo 'Error: Error connecting to ws://x: 503' >&2; exit 1; }}\n{DEVICE}");
    let (code, said) = end(harness(&home, &script(&home, &once), RUN));
    assert!(code == Some(0) && started(&home) == 2, "{said}");
    let trace = std::fs::read_dir(home.path().join("traces")).unwrap().next().unwrap().unwrap().path();
    assert!(std::fs::read_to_string(trace).unwrap().contains("it is started again (2 of 3)"));
}

#[test]
fn what_is_not_the_simulators_fault_is_not_tried_again() {
    let home = home();
    let refused = "echo \"Error: Error connecting to ws://x: 401 Unauthorized\" >&2; exit 1";
    let (code, said) = end(harness(&home, &script(&home, refused), RUN));
    assert!(code == Some(3) && said.contains("401") && said.contains("wokwi.com/dashboard/ci"), "{said}");
    assert_eq!(started(&home), 1);
}

#[test]
fn a_simulation_that_ends_or_says_nothing_is_no_fault_of_the_device() {
    let home = home();
    let cut = "echo 'I (1) console: Ready'; sleep 0.2; echo 'API Error: Connection to transport closed unexpectedly: code 1006' >&2; exit 1";
    let (code, said) = end(harness(&home, &script(&home, cut), RUN));
    assert!(code == Some(3) && said.contains("the device was lost") && said.contains("code 1006"), "{said}");
    assert_eq!(started(&home), 1, "a device that has spoken is not begun again");
    // A shell between, which is not what has to end.
    let stalls = script(&home, "sleep 600; true");
    let (code, said) = end(harness(&home, &stalls, &[RUN, &["--start-limit", "1"]].concat()));
    assert!(code == Some(3) && said.contains("said nothing within 1 s") && said.contains("3 tries"), "{said}");
    nothing_is_left(&home);
}

#[test]
fn the_token_is_wokwi_clis_alone() {
    let home = home();
    // It, and a server that is not to be trusted, say the token wherever they can.
    let shown = "env | grep -c \"WOKWI_CLI_TOKEN=wok_Th1s\" > had; echo \"API Error: $WOKWI_CLI_TOKEN is spent\" >&2; exit 1";
    let (code, said) = end(harness(&home, &script(&home, shown), RUN));
    assert!(code == Some(3) && said.contains("<redacted:wokwi-token> is spent"), "{said}");
    assert_eq!(std::fs::read_to_string(home.path().join("had")).unwrap().trim(), "1");
    let says = format!("echo \"token $WOKWI_CLI_TOKEN\"; printf '%s' \"$WOKWI_CLI_TOKEN\" | base64\n{DEVICE}");
    let (code, said_too) = end(harness(&home, &script(&home, &says), RUN));
    assert!(code == Some(1) && said_too.contains("a secret was said"), "{said_too}");
    let (_, native) =
        end(harness(&home, &script(&home, "echo $WOKWI_CLI_TOKEN; echo $WOKWI_CLI_TOKEN >&2; exit 1"), &["--native"]));
    assert_eq!(native.matches("<redacted:wokwi-token>").count(), 3, "{native}");
    // Every other program that is started: a broker.
    let broker = home.path().join("mosquitto");
    std::fs::write(&broker, format!("#!/bin/sh\nenv > {}/inherited\nexit 3\n", home.path().display())).unwrap();
    std::fs::set_permissions(&broker, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = harness(&home, &script(&home, DEVICE), &[RUN, &["--broker", "process"]].concat());
    command.env("MOSQUITTO_BIN", &broker);
    let (_, said_of_broker) = end(command);
    let inherited = std::fs::read_to_string(home.path().join("inherited")).unwrap();
    assert!(inherited.contains("MOSQUITTO_BIN") && !inherited.contains("WOKWI_CLI_TOKEN"), "{inherited}");
    let mut texts = vec![said, said_too, native, said_of_broker];
    for trace in std::fs::read_dir(home.path().join("traces")).unwrap() {
        texts.push(std::fs::read_to_string(trace.unwrap().path()).unwrap());
    }
    assert!(texts.iter().any(|text| text.contains("harness-trace") && text.contains("redacted:wokwi-token")));
    for text in texts {
        assert!(!text.contains(TOKEN) && !text.contains("d29rX1RoMXMtaXMu"), "{text}");
    }
}

#[test]
fn wokwi_clis_judgement_has_this_programs_exit_codes() {
    let home = home();
    std::fs::write(home.path().join("alone.yaml"), "name: x\nversion: 1\nwithin: 7s\nsteps:\n  - wait-serial: hello\n").unwrap();
    for (text, code, word) in [
        ("exit 0", 0, "pass"),
        ("echo 'Error: [12ns] GPIO esp:5 expected to be 1 but was 0' >&2; exit 1", 1, "FAIL"),
        ("printf '\\nTimeout: simulation did not finish in 7000ms\\n' >&2; exit 42", 1, "Timeout"),
        ("echo 'Error: Invalid scenario step key: x' >&2; exit 1", 2, "wrong input"),
        ("echo 'Starting simulation...'; echo 'API Error: gone' >&2; exit 1", 3, "API Error: gone"),
        ("kill -9 $$", 3, "it said nothing"),
    ] {
        let (got, said) = end(harness(&home, &script(&home, &format!("echo \"$@\" > seen; {text}")), &["--native"]));
        assert!(got == Some(code) && said.contains(word), "{text}: {got:?} {said}");
    }
    let seen = std::fs::read_to_string(home.path().join("seen")).unwrap();
    let folder = home.path().canonicalize().unwrap();
    let there = |path: &str| Path::new(path).canonicalize().unwrap();
    let words: Vec<&str> = seen.split_whitespace().collect();
    assert!(words[0] == "--scenario" && there(words[1]) == folder.join("alone.yaml"), "{seen}");
    assert!(words[2..4] == ["--timeout", "7000"] && there(words[words.len() - 1]) == folder, "{seen}");
    assert_eq!(started(&home), 6, "none was tried again");
}

#[test]
fn firmware_that_is_not_this_projects_is_understood_by_its_vocabulary() {
    let home = home();
    let words = "vocabulary: 1\nextends: [esp-idf]\nlines:\n  - match: 'cloud: up, resumed=(?<session_present>[01])'\n    says: mqtt-connected\n";
    std::fs::write(home.path().join("words.yaml"), words).unwrap();
    let steps = "steps:\n  - power-on: {}\n  - wait-for: { device: { report: mqtt-connected } }\n";
    std::fs::write(home.path().join("alone.yaml"), format!("name: x\nversion: 1\n{steps}")).unwrap();
    // An application's own file, and a partition table in which there is nothing for surroundings.
    std::fs::write(home.path().join("app.bin"), [0xff; 16]).unwrap();
    let more = [RUN, &["--firmware", "app.bin"]].concat();
    let device = "for last; do :; done; ls $last > seen; printf '\\033[0;32mI (900) cloud: up, resumed=0\\033[0m\\r\\n'; sleep 600";
    let (code, said) = end(harness(&home, &script(&home, device), &more));
    assert!(code == Some(3) && said.contains("not this project's firmware") && said.contains("--vocabulary esp-idf"), "{said}");
    let more = [&more[..], &["--vocabulary", "words.yaml"]].concat();
    let (code, said) = end(harness(&home, &script(&home, device), &more));
    assert_eq!(code, Some(0), "{said}");
    assert!(!std::fs::read_to_string(home.path().join("seen")).unwrap().contains("surroundings"));
    std::fs::write(home.path().join("alone.yaml"), SCENARIO).unwrap();
    let (code, said) = end(harness(&home, &script(&home, device), &more));
    assert!(code == Some(4) && said.contains("lacks console"), "{said}");
    std::fs::write(home.path().join("words.yaml"), "vocabulary: 1\nlines: [{ match: '(' }]\n").unwrap();
    let (code, said) = end(harness(&home, &script(&home, device), &more));
    assert!(code == Some(2) && said.contains("words.yaml"), "{said}");
}

/// The fakes of Wokwi, with firmware behind them; none where QEMU or the firmware is missing. The server ends with its input.
#[cfg(feature = "fakes")]
fn fakes(home: &TempDir, more: &[&str]) -> Option<(std::process::Child, String, PathBuf)> {
    use std::io::BufRead;
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware/target/virt.elf");
    if !image.is_file() || Command::new("qemu-system-riscv32").arg("--version").output().is_err() {
        eprintln!("not looked at: QEMU or the firmware's image is missing (ci/firmware.sh)");
        return None;
    }
    std::fs::copy(image, home.path().join("board.elf")).unwrap();
    // A board that is wired both ways, as the fakes demand.
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../diagram.json"), home.path().join("diagram.json")).unwrap();
    let mut server = Command::new(env!("CARGO_BIN_EXE_fake-wokwi-server"));
    server.arg("--ends-with-input").args(more).env("WOKWI_CLI_TOKEN", TOKEN);
    let mut server = server.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut address = String::new();
    std::io::BufReader::new(server.stdout.take().unwrap()).read_line(&mut address).unwrap();
    Some((server, address.trim().to_owned(), PathBuf::from(env!("CARGO_BIN_EXE_fake-wokwi-cli"))))
}

#[cfg(feature = "fakes")]
const PROVISIONED: &str = "version: 1\nname: x\nsteps:\n  - power-on: {}\n  - provision: {}\n  - wait-for: { device: { report: certificate-stored }, \
                           within: 1s }\n";

#[cfg(feature = "fakes")]
#[test]
fn a_board_is_provisioned_over_its_console() {
    let home = home();
    std::fs::write(home.path().join("alone.yaml"), PROVISIONED.replace("1s", "20s")).unwrap();
    let Some((mut server, address, program)) = fakes(&home, &[]) else { return };
    let mut command = harness(&home, &program, RUN);
    command.env("WOKWI_CLI_SERVER", &address);
    let (code, said) = end(command);
    drop(server.stdin.take());
    server.wait().unwrap();
    assert_eq!(code, Some(0), "{said}");
}

#[cfg(feature = "fakes")]
#[test]
fn a_simulation_that_stands_still_is_no_fault_of_the_device() {
    let home = home();
    std::fs::write(home.path().join("alone.yaml"), PROVISIONED).unwrap();
    let Some((mut server, address, program)) = fakes(&home, &["--lie", "stall:2500"]) else { return };
    let mut command = harness(&home, &program, RUN);
    command.env("WOKWI_CLI_SERVER", &address);
    let (code, said) = end(command);
    drop(server.stdin.take());
    server.wait().unwrap();
    assert!(code == Some(3) && said.contains("the simulation stood still"), "{said}");
}
