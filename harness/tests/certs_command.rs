//! `harness certs`: what it makes serves a real Mosquitto at each security level, by the very commands it prints.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use harness::ca::pki::{Pki, serial_in};
use serde_json::Value;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(10);

fn certs(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_harness")).arg("certs").args(arguments).current_dir(home).output().unwrap()
}

fn shell(home: &Path, command: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    let path = format!("{}:/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin", std::env::var("PATH").unwrap_or_default());
    shell.args(["-c", &format!("exec {command}")]).current_dir(home).env("PATH", path);
    shell
}

/// Whether Mosquitto and its clients are installed; where they must be, it is a failure that they are not.
fn installed() -> bool {
    let there = shell(Path::new("/"), "true").status().unwrap().success()
        && ["mosquitto", "mosquitto_pub", "mosquitto_sub", "openssl"].iter().all(|program| {
            shell(Path::new("/"), &format!("sh -c 'command -v {program}'")).stdout(Stdio::null()).status().unwrap().success()
        });
    assert!(there || std::env::var_os("HARNESS_CI").is_none(), "Mosquitto, its clients and openssl are not installed");
    there
}

/// A process that is killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !is() {
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The text with the port that was free a moment ago in place of the level's own.
fn on_port(text: &str, port: u16) -> String {
    let port = port.to_string();
    ["1883", "8883"].iter().fold(text.to_owned(), |text, own| {
        text.replace(&format!("-p {own}"), &format!("-p {port}")).replace(&format!("listener {own}"), &format!("listener {port}"))
    })
}

#[test]
fn each_level_serves_and_keeps_strangers_out() {
    if !installed() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let output = certs(home.path(), &["--out", "my certs", "--client", "door", "--client", "window", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    for level in told["levels"].as_array().unwrap() {
        let name = level["level"].as_str().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let conf = home.path().join(format!("my certs/{name}.conf"));
        std::fs::write(&conf, on_port(&std::fs::read_to_string(&conf).unwrap(), port)).unwrap();
        let command = |field: &str| on_port(level[field].as_str().unwrap(), port);
        let start = shell(home.path(), &command("start")).stderr(Stdio::null()).spawn().unwrap();
        let mut broker = Killed(start);
        wait_until("the broker", || {
            assert!(broker.0.try_wait().unwrap().is_none(), "{name}: Mosquitto does not take its configuration");
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        let publish = format!("{} -r", command("publish"));
        if name != "plain" {
            // A stranger, and a client in another's place: neither is heard.
            let trust = format!("-h localhost -p {port} --cafile 'my certs/ca.crt'");
            let stranger = format!("mosquitto_pub {trust} -q 1 -t devices/window/telemetry -m intruder -r");
            assert!(
                !shell(home.path(), &stranger).stderr(Stdio::null()).stdout(Stdio::null()).status().unwrap().success(),
                "{name}"
            );
            let elsewhere = publish.replace("devices/door/telemetry -m 21.5", "devices/window/telemetry -m intruder");
            assert_ne!(elsewhere, publish);
            let _ = shell(home.path(), &elsewhere).stderr(Stdio::null()).stdout(Stdio::null()).status().unwrap();
        }
        assert!(shell(home.path(), &publish).status().unwrap().success(), "{name}: {publish}");
        // What is retained comes in the order of the topics: an intruder would come first.
        let topics = "-t devices/window/telemetry -t devices/door/telemetry -C 1 -W 10";
        let heard = shell(home.path(), &command("listen").replace("-t '#'", topics)).output().unwrap();
        let said = String::from_utf8_lossy(&heard.stdout).into_owned();
        assert!(said.contains("devices/door/telemetry 21.5") && !said.contains("intruder"), "{name}: {said}");
    }
    let verify = "openssl verify -purpose sslserver -verify_hostname localhost -CAfile 'my certs/ca.crt' -untrusted 'my certs/server.crt' 'my certs/server.crt'";
    assert!(shell(home.path(), verify).stdout(Stdio::null()).status().unwrap().success());
    let misused = verify.replace("sslserver -verify_hostname localhost", "sslclient");
    assert!(!shell(home.path(), &misused).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
}

#[test]
fn keys_are_their_owners_and_nothing_is_replaced_by_surprise() {
    let home = tempfile::tempdir().unwrap();
    let first = certs(home.path(), &["--out", "deep/certs", "--name", "broker.lan"]);
    let said = String::from_utf8_lossy(&first.stdout).into_owned();
    assert!(first.status.success() && said.contains("mosquitto_pub -h broker.lan -p 8883"), "{said}");
    let folder = home.path().join("deep/certs");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for secret in
        ["authority.pem", "server.key", "device_0070.key", "device_0070.password", "operator.key", "operator.password", "passwords"]
    {
        assert_eq!(mode(&folder.join(secret)), 0o600, "{secret}");
        let text = std::fs::read_to_string(folder.join(secret)).unwrap();
        assert!(!said.contains(text.trim()), "{secret} is printed");
    }
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let (root, server, passwords) = (read("ca.crt"), read("server.crt"), read("passwords"));

    std::fs::remove_file(folder.join("operator.key")).unwrap();
    let again = certs(home.path(), &["--out", "deep/certs"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(!folder.join("operator.key").exists() && read("server.crt") == server, "all or nothing");

    let one_more = certs(home.path(), &["--out", "deep/certs", "--clients-only", "--client", "garage"]);
    assert!(one_more.status.success(), "{one_more:?}");
    assert!(
        read("passwords").starts_with(&passwords) && read("passwords").contains("\ngarage:$6$") && read("server.crt") == server
    );

    assert!(certs(home.path(), &["--out", "deep/certs", "--force"]).status.success());
    assert!(read("ca.crt") == root && read("server.crt") != server, "the authority stays");
}

#[test]
fn wrong_input_is_refused() {
    let home = tempfile::tempdir().unwrap();
    for (arguments, word) in [
        (["--client", "../x"], "../x"),
        (["--client", "operator"], "operator"),
        (["--client", "a:b"], "a:b"),
        (["--name", "no name"], "no name"),
        (["--lifetime", "5"], "unit"),
        (["--clients-only", "--force"], "no authority"),
    ] {
        let output = certs(home.path(), &[&["--out", "certs"], &arguments[..]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(word) && !home.path().join("certs/server.crt").exists(), "{arguments:?}: {said}");
        let _ = std::fs::remove_dir_all(home.path().join("certs"));
    }
}

#[test]
fn a_list_is_made_when_asked_for_and_kept_up() {
    let home = tempfile::tempdir().unwrap();
    assert!(certs(home.path(), &["--out", "plain", "--client", "door"]).status.success());
    assert!(!home.path().join("plain/revoked.crl").exists());
    let refused = certs(home.path(), &["--out", "plain", "--revoke", "door"]);
    assert!(
        refused.status.code() == Some(2) && String::from_utf8_lossy(&refused.stderr).contains("make it with --crl"),
        "{refused:?}"
    );

    assert!(certs(home.path(), &["--out", "c", "--crl", "--client", "door", "--client", "window"]).status.success());
    let read = |name: &str| std::fs::read_to_string(home.path().join("c").join(name)).unwrap();
    assert!(read("mutual-tls.conf").lines().any(|l| l.starts_with("crlfile ") && l.ends_with("/c/revoked.crl")));
    assert!(!read("server-tls.conf").contains("crlfile"));
    for (name, count) in [("door", 1), ("window", 2), ("door", 2)] {
        assert!(certs(home.path(), &["--out", "c", "--revoke", name]).status.success());
        let pki = Pki::kept(&home.path().join("c"), harness::ca::wall_clock()).unwrap();
        let revoked = pki.revoked_in(&read("revoked.crl")).unwrap();
        assert!(revoked.count() == count && revoked.contains(&serial_in(&read(&format!("{name}.crt"))).unwrap()));
        assert!(!revoked.contains(&serial_in(&read("operator.crt")).unwrap()));
    }
    for (wrong, word) in [("nobody", "nobody.crt"), ("../door", "a client's name")] {
        let refused = certs(home.path(), &["--out", "c", "--revoke", wrong]);
        assert!(refused.status.code() == Some(2) && String::from_utf8_lossy(&refused.stderr).contains(word), "{refused:?}");
    }
}
