//! `harness ca` as a person runs it: what it prints, keeps, accepts and refuses.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A running `harness ca`; ended when dropped.
struct Ca {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
    first: Value,
}

impl Ca {
    fn start(home: &Path, arguments: &[&str]) -> Ca {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.args(["ca", "--json", "--listen", "127.0.0.1:0"]).args(arguments).current_dir(home);
        command.env("HARNESS_CA_TOKENS", "of-my-own another").stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = serde_json::from_str(&said.next().unwrap().unwrap()).unwrap();
        Ca { child, said, first }
    }

    fn text(&self, field: &str) -> &str {
        self.first[field].as_str().unwrap()
    }

    /// Asks for a certificate as a device does.
    fn enrol(&self, token: &str) -> (u16, Value) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "d1");
        let csr = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let trust = reqwest::Certificate::from_pem(self.text("ca_pem").as_bytes()).unwrap();
        let url = format!("{}/sign-csr", self.text("url"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let _ = rustls::crypto::ring::default_provider().install_default();
            let client = reqwest::Client::builder().no_proxy().tls_certs_only([trust]).build().unwrap();
            let request = client.post(url).bearer_auth(token).json(&json!({"device_id": "d1", "csr": csr}));
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.json().await.unwrap())
        })
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Ctrl-C, and the exit code.
    fn end(mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::INT);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Ca {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_issues_tells_and_comes_back_as_the_same() {
    let home = tempfile::tempdir().unwrap();
    let mut ca = Ca::start(home.path(), &["--dir", "kept", "--out", "out", "--tokens", "2"]);
    let root = std::fs::read_to_string(home.path().join("out/ca.crt")).unwrap();
    assert_eq!(root, ca.text("ca_pem"));
    assert_eq!(ca.first["tokens"].as_array().unwrap().len(), 2);
    let (status, body) = ca.enrol("of-my-own");
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["ca_certificate"]["content"], root);
    let told: Value = serde_json::from_str(&ca.said.next().unwrap().unwrap()).unwrap();
    assert_eq!((&told["request"]["what"], &told["request"]["outcome"]), (&json!("sign-csr"), &json!("issued")));
    assert!(!told.to_string().contains("of-my-own"), "{told}");
    assert_eq!(ca.enrol("of-my-own").0, 403, "it is spent");
    assert_eq!(ca.enrol("a-guess").0, 401);
    assert_eq!(ca.enrol(ca.first["tokens"][1].as_str().unwrap()).0, 200);
    assert_eq!(ca.end(), Some(0));

    let again = Ca::start(home.path(), &["--dir", "kept"]);
    assert_eq!(again.text("ca_pem"), root);
    assert_eq!(again.enrol("another").0, 200);
}

#[test]
fn what_is_revoked_stays_revoked() {
    use harness::ca::pki::{Pki, serial_in};
    let home = tempfile::tempdir().unwrap();
    let ca = Ca::start(home.path(), &["--dir", "kept"]);
    let (_, body) = ca.enrol("of-my-own");
    let certificate = body["certificate"]["content"].as_str().unwrap();
    std::fs::write(home.path().join("d1.crt"), certificate).unwrap();
    assert_eq!(ca.end(), Some(0));
    assert_eq!(Ca::start(home.path(), &["--dir", "kept", "--revoke", "d1.crt"]).end(), Some(0));

    let again = Ca::start(home.path(), &["--dir", "kept"]);
    let trust = reqwest::Certificate::from_pem(again.text("ca_pem").as_bytes()).unwrap();
    let url = format!("{}/crl.pem", again.text("url"));
    let list = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([trust]).build().unwrap();
        client.get(url).send().await.unwrap().text().await.unwrap()
    });
    let pki = Pki::kept(&home.path().join("kept"), harness::ca::wall_clock()).unwrap();
    let revoked = pki.revoked_in(&list).unwrap();
    assert!(revoked.count() == 1 && revoked.contains(&serial_in(certificate).unwrap()));
}

#[test]
fn it_lies_when_it_is_told_to() {
    let home = tempfile::tempdir().unwrap();
    let ca = Ca::start(home.path(), &["--misbehave", "{refuse: {status: 503, times: 1}}", "--lifetime", "2h"]);
    assert_eq!(ca.enrol("of-my-own").0, 503);
    assert_eq!(ca.enrol("of-my-own").0, 200);
}

#[test]
fn wrong_input_is_told_before_anything_is_served() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("tokens"), "good\nnot good\n").unwrap();
    let cases: [(&[&str], i32, &str); 7] = [
        (&["--misbehave", "explode"], 2, "explode"),
        (&["--lifetime", "0s"], 2, "at least a second"),
        (&["--token-file", "tokens"], 2, "token 2 is not"),
        (&["--token-file", "nowhere"], 2, "could not read nowhere"),
        (&["--name", "no name"], 3, "no name"),
        (&["--revoke", "tokens"], 2, "--dir"),
        (&["--dir", "kept", "--revoke", "tokens"], 3, "it holds no certificate"),
    ];
    for (arguments, code, word) in cases {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.args(["ca", "--listen", "127.0.0.1:0"]).args(arguments).current_dir(home.path());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(word) && !said.contains("not good") && output.stdout.is_empty(), "{arguments:?}: {said}");
    }
}
