//! The program: its console, its refusals, its end, and `kill -9` while it writes.
#![cfg(unix)]

use crate::fake::{Authority, ca};
use crate::twin::{PATIENCE, TODAY};
use device_core::storage::Stored;
use sim_device::{FileStore, Store as _};
use std::path::Path;
use std::process::{Output, Stdio};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

fn program(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim-device"));
    command
        .env_clear()
        .arg("--state")
        .arg(state)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

struct Running {
    child: Child,
    tell: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

fn start(mut command: Command) -> Running {
    let mut child = command.spawn().unwrap();
    let (tell, said) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    Running { child, tell, lines: BufReader::new(said).lines() }
}

impl Running {
    async fn hears(&mut self, text: &str) -> String {
        timeout(PATIENCE, async {
            loop {
                match self.lines.next_line().await.unwrap() {
                    Some(line) if line.contains(text) => return line,
                    Some(_) => {}
                    None => panic!("ended before {text:?}"),
                }
            }
        })
        .await
        .unwrap()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

async fn refused(mut command: Command) -> (i32, String) {
    let Output { status, stderr, stdout, .. } = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    assert!(stdout.is_empty());
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

#[tokio::test]
async fn wrong_variables_end_it_before_it_begins() {
    let at = tempfile::tempdir().unwrap();
    for (name, value, says) in [
        ("MQTT_BROKER_PORT", "many", "MQTT_BROKER_PORT"),
        ("MQTT_CA_CERT", "no/such/file.pem", "no/such/file.pem"),
        ("BACKEND_URL", "http://insecure.test", "https://"),
    ] {
        let mut command = program(at.path());
        command.env(name, value);
        let (code, stderr) = refused(command).await;
        assert!(code == 2 && stderr.contains(says) && stderr.lines().count() == 1, "{code}: {stderr}");
    }
    let mut command = program(at.path());
    command.env("MQTT_HOST", "a").env("MQTT_BROKER_HOST", "b");
    assert!(refused(command).await.1.contains("two names"));
}

#[tokio::test]
async fn one_directory_one_device_and_signals_end_it_cleanly() {
    for signal in ["INT", "TERM"] {
        let at = tempfile::tempdir().unwrap();
        let mut first = start(program(at.path()));
        let address = first.hears("Listening on ").await.rsplit(' ').next().unwrap().to_owned();
        let (code, stderr) = refused(program(at.path())).await;
        assert!(code == 2 && stderr.contains("in use"), "{code}: {stderr}");
        first.tell.write_all(b"help\n").await.unwrap();
        first.hears("factory-reset").await;
        first.signal(signal);
        let status = timeout(PATIENCE, first.child.wait()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(0), "{signal}");
        assert!(tokio::net::TcpStream::connect(&address).await.is_err());
        FileStore::open(at.path()).unwrap();
    }
}

#[tokio::test]
async fn the_end_of_its_input_is_not_its_end() {
    let at = tempfile::tempdir().unwrap();
    let mut running = start(program(at.path()));
    drop(running.tell);
    let said = timeout(PATIENCE, async {
        loop {
            let line = running.lines.next_line().await.unwrap().unwrap();
            if line.contains("Listening on ") {
                return line;
            }
        }
    });
    let address = said.await.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    let status = crate::twin::says(address, b"GET /status HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").await;
    assert!(status.contains("provisioning"), "{status}");
    assert!(running.child.try_wait().unwrap().is_none());
}

#[tokio::test]
async fn a_kill_at_any_time_leaves_the_old_set_or_the_new() {
    let at = tempfile::tempdir().unwrap();
    let state = at.path().join("state");
    let mut before = 0;
    for round in 0..12_u32 {
        let mut running = start(program(&state));
        running.hears("Ready").await;
        // Writes follow one another as fast as the device takes them; the kill comes somewhere among them.
        let mut orders = String::new();
        for n in 1..=200 {
            orders.push_str(&format!("set QUEUE_LIMIT {n}\nset MQTT_KEEPALIVE {}\nsave\n", n + 100));
        }
        running.tell.write_all(orders.as_bytes()).await.unwrap();
        for _ in 0..=round {
            running.hears("aved").await;
        }
        running.child.kill().await.unwrap();
        let loaded = FileStore::open(&state).unwrap().load();
        assert_eq!(loaded.trouble, None);
        let Stored { settings, .. } = loaded.stored;
        let number = |name: &str| settings[name].expose().parse::<u32>().unwrap();
        // Both values are of one save, and that save is no older than the last one that was said.
        assert_eq!(number("QUEUE_LIMIT") + 100, number("MQTT_KEEPALIVE"), "round {round}");
        assert!(number("QUEUE_LIMIT") > round, "round {round}: {} of {before}", number("QUEUE_LIMIT"));
        before = number("QUEUE_LIMIT");
    }
}

#[tokio::test]
async fn the_system_roots_are_trusted_when_nothing_else_is_named() {
    let authority = Authority::new("System");
    for (trusted, says) in [(true, "503"), (false, "unknown-issuer")] {
        let at = tempfile::tempdir().unwrap();
        let roots = at.path().join("roots.pem");
        let named = if trusted { authority.pem() } else { Authority::new("Other").pem() };
        std::fs::write(&roots, named).unwrap();
        let (address, asked) = ca(authority.server("localhost", |_| {}), |_| (503, String::new())).await;
        let mut command = program(&at.path().join("state"));
        command.env("SSL_CERT_FILE", &roots).env("BACKEND_URL", format!("https://localhost:{}", address.port()));
        let mut running = start(command);
        running.tell.write_all(format!("time {TODAY}\n").as_bytes()).await.unwrap();
        let order = r#"provision {"ssid":"lab","password":"correct-horse","device_id":"d","provisioning_token":"t"}"#;
        running.tell.write_all(format!("{order}\n").as_bytes()).await.unwrap();
        running.hears(says).await;
        assert_eq!(asked.lock().unwrap().len(), usize::from(trusted));
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_wrong_input() {
    let at = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = program(at.path());
    command.arg("--http").arg(&address);
    let (code, stderr) = refused(command).await;
    assert!(code == 2 && stderr.contains("could not listen") && stderr.contains(&address), "{code}: {stderr}");
}
