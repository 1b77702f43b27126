//! The OpenAPI documents say what the servers do: each answer that can be had is described, and no path or method is that is not there.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use device_core::input::Request;
use device_core::provisioning;
use harness::ca::pki::Pki;
use harness::ca::{CaParts, CaServer, TokenSpec, wall_clock};
use harness::trace::redact::Redactor;
use harness::trace::tape::Tape;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// A document, and which of its answers have been seen.
struct Document {
    api: Value,
    seen: BTreeSet<(String, String, u16)>,
}

impl Document {
    fn read(name: &str) -> Document {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi").join(name)).unwrap();
        Document { api: serde_saphyr::from_str(&text).unwrap(), seen: BTreeSet::new() }
    }

    fn at<'d>(&'d self, node: &'d Value) -> &'d Value {
        match node["$ref"].as_str() {
            Some(place) => self.api.pointer(place.strip_prefix('#').unwrap()).unwrap_or_else(|| panic!("{place} is nowhere")),
            None => node,
        }
    }

    /// Path and method of each operation.
    fn operations(&self) -> Vec<(String, String)> {
        let paths = self.api["paths"].as_object().unwrap().iter();
        paths.flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(|m| (path.clone(), m.clone()))).collect()
    }

    /// The answer must be described, and its body as its schema says. A method that is not described is judged by the one that is.
    fn describes(&mut self, method: &str, path: &str, status: u16, body: &[u8]) {
        let operation =
            self.api["paths"][path].as_object().unwrap_or_else(|| panic!("{path} is not described")).values().next().unwrap();
        let answer = self.at(&operation["responses"][status.to_string()]);
        assert!(!answer.is_null(), "{method} {path} -> {status} is not described: {}", String::from_utf8_lossy(body));
        let (kind, content) = answer["content"].as_object().unwrap().iter().next().unwrap();
        let body = if kind == "application/json" {
            serde_json::from_slice(body).unwrap()
        } else {
            Value::String(String::from_utf8(body.to_vec()).unwrap())
        };
        // The schema's own references are to the document.
        let mut schema = content["schema"].clone();
        schema["components"] = self.api["components"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let wrong: Vec<String> = validator.iter_errors(&body).map(|e| e.to_string()).collect();
        assert!(wrong.is_empty(), "{method} {path} -> {status}: {wrong:?}");
        self.seen.insert((method.to_owned(), path.to_owned(), status));
    }

    /// What is described must have been seen, but for these, which only a broken machine or a slow sender gets.
    fn is_seen(&self, but: &[u16]) {
        for (path, method) in self.operations() {
            for status in self.api["paths"][&path][&method]["responses"].as_object().unwrap().keys() {
                let status: u16 = status.parse().unwrap();
                let seen = self.seen.iter().any(|(_, seen, answered)| (seen, *answered) == (&path, status));
                assert!(seen || but.contains(&status), "{method} {path} is described to answer {status}, and no request gets that");
            }
        }
    }
}

fn csr(name: &str, key: &KeyPair) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serialize_request(key).unwrap().pem().unwrap()
}

#[tokio::test]
async fn the_ca_answers_as_its_document_says() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut document = Document::read("ca.yaml");
    let (tape, _events) = Tape::new(Redactor::new());
    let pki = Arc::new(Pki::new(wall_clock()).unwrap());
    let ca = CaServer::start(CaParts::new(pki.clone(), tape, Arc::new(wall_clock))).await.unwrap();
    let token = || ca.mint_token(TokenSpec::default()).unwrap().expose().to_owned();
    let client = |identity: Option<&str>| {
        let root = reqwest::Certificate::from_pem(pki.root_pem().as_bytes()).unwrap();
        let builder = reqwest::Client::builder().no_proxy().tls_certs_only([root]);
        let builder = match identity {
            Some(name) => {
                let identity = pki.client(name).unwrap();
                builder.identity(reqwest::Identity::from_pem((identity.chain_pem + identity.key_pem.expose()).as_bytes()).unwrap())
            }
            None => builder,
        };
        builder.build().unwrap()
    };
    let (nobody, d1, d2) = (client(None), client(Some("d1")), client(Some("d2")));
    let key = KeyPair::generate().unwrap();
    let good = json!({"device_id": "d1", "csr": csr("d1", &key)}).to_string();
    let stolen = json!({"device_id": "d2", "csr": csr("d2", &key)}).to_string();
    let (json, text) = ("application/json", "text/plain");
    let (known, too_long) = (token(), "x".repeat(70_000));
    let cases: Vec<(&reqwest::Client, &str, &str, &str, String, &str, u16)> = vec![
        (&nobody, "POST", "/sign-csr", json, token(), &good, 200),
        (&nobody, "POST", "/sign-csr", json, token(), "{}", 400),
        (&nobody, "POST", "/sign-csr", json, "guess".into(), &good, 401),
        (&nobody, "POST", "/sign-csr", json, known.clone(), &good, 200),
        (&nobody, "POST", "/sign-csr", json, known, &stolen, 403),
        (&nobody, "PUT", "/sign-csr", json, token(), &good, 405),
        (&nobody, "POST", "/sign-csr", json, token(), &stolen, 409),
        (&nobody, "POST", "/sign-csr", json, token(), &too_long, 413),
        (&nobody, "POST", "/sign-csr", text, token(), &good, 415),
        (&d1, "POST", "/renew", json, token(), &good, 200),
        (&d1, "POST", "/renew", json, token(), "{}", 400),
        (&nobody, "POST", "/renew", json, token(), &good, 401),
        (&d2, "POST", "/renew", json, token(), &good, 403),
        (&d1, "DELETE", "/renew", json, token(), &good, 405),
        (&d2, "POST", "/renew", json, token(), &stolen, 409),
        (&d1, "POST", "/renew", json, token(), &too_long, 413),
        (&d1, "POST", "/renew", text, token(), &good, 415),
        (&nobody, "GET", "/ca.crt", json, token(), "", 200),
        (&nobody, "POST", "/ca.crt", json, token(), "", 405),
        (&nobody, "GET", "/ca.crt", json, token(), &too_long, 413),
        (&nobody, "GET", "/crl.pem", json, token(), "", 200),
        (&nobody, "POST", "/crl.pem", json, token(), "", 405),
        (&nobody, "GET", "/crl.pem", json, token(), &too_long, 413),
    ];
    for (client, method, path, kind, token, body, status) in cases {
        let url = format!("https://localhost:{}{path}", ca.address().port());
        let request =
            client.request(method.parse().unwrap(), url).bearer_auth(token).header("content-type", kind).body(body.to_owned());
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{method} {path} {kind} {body:.60}");
        assert_eq!(answer.headers().contains_key("allow"), status == 405);
        let body = answer.bytes().await.unwrap();
        document.describes(method, path, status, &body);
    }
    // Only a body that breaks off, does not come, or a broken machine gets these.
    document.seen.insert(("GET".into(), "/ca.crt".into(), 400));
    document.seen.insert(("GET".into(), "/crl.pem".into(), 400));
    document.is_seen(&[408, 500]);
}

/// Method, path, authorization, content type, body, and the status that is answered.
type Case<'c> = (&'c str, &'c str, Option<&'c str>, Option<&'c str>, &'c [u8], u16);

#[test]
fn a_device_answers_as_its_document_says() {
    let mut document = Document::read("device.yaml");
    let good = br#"{"ssid":"lab","password":"correct-horse","device_id":"d1","provisioning_token":"t"}"#;
    let too_long = [b' '; provisioning::BODY_LIMIT + 1];
    let bearer = Some("Bearer user");
    let json = Some("application/json");
    let cases: [Case<'_>; 10] = [
        ("POST", "/provision", bearer, json, good, 200),
        ("POST", "/provision", bearer, json, b"{}", 400),
        ("POST", "/provision", None, json, good, 401),
        ("GET", "/provision", bearer, json, b"", 405),
        ("POST", "/provision", bearer, json, &too_long, 413),
        ("POST", "/provision", bearer, None, good, 415),
        ("POST", "/status", None, None, b"", 405),
        ("POST", "/scan", None, None, b"", 405),
        ("POST", "/local-wifi", None, None, b"", 405),
        ("POST", "/api/mqtt/stats", None, None, b"", 405),
    ];
    for (method, path, authorization, content_type, body, status) in cases {
        let answer = match provisioning::parse(&Request { method, path, authorization, content_type, body }) {
            Ok(_) => provisioning::saved(),
            Err(refusal) => refusal.response(),
        };
        assert_eq!(answer.status, status, "{method} {path}");
        document.describes(method, path, status, answer.body.as_bytes());
    }
    for (path, method) in document.operations() {
        let method = method.to_uppercase();
        let request = Request { method: &method, path: &path, authorization: bearer, content_type: json, body: good };
        assert!(provisioning::parse(&request).is_ok(), "{method} {path} is described, and not there");
    }
    assert!(document.operations().len() == 5 && provisioning::parse(&Request { path: "/", method: "GET", ..EMPTY }).is_err());
    document.describes("GET", "/scan", 200, provisioning::networks(&[]).body.as_bytes());
}

const EMPTY: Request<'_> = Request { method: "", path: "", authorization: None, content_type: None, body: b"" };
