//! Enrolment and the broker over real TLS: what is accepted, what is refused and why, and that no token leaves unverified.

use crate::fake::{Authority, Server, broker, ca, honest};
use crate::twin::{Twin, parts};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, date_time_ymd};
use sim_device::{Limits, Parts};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

const SECRETS: [&str; 3] = ["TOKEN-OF-THIS-TEST", "correct-horse", "PRIVATE KEY"];

/// Lets a device meet this CA; what it says about it, and how often it asked.
async fn meets(anchor: &str, server: Server, settings: &[(&str, &str)], says: &str) -> usize {
    let (address, asked) = ca(server, |_| (503, String::new())).await;
    let url = format!("https://localhost:{}", address.port());
    let mut all = vec![("BACKEND_URL", url.as_str()), ("BACKEND_CA", anchor), ("MQTT_HOST", "localhost")];
    all.extend(settings);
    let mut twin = Twin::on(parts(&all));
    twin.provisioned().await;
    let line = twin.hears("Enrollment failed").await;
    assert!(line.contains(says), "expected {says:?}, but: {line}");
    for secret in SECRETS {
        assert!(!twin.said.iter().any(|l| l.contains(secret)), "{secret} was said");
    }
    asked.lock().unwrap().len()
}

#[tokio::test]
async fn servers_that_must_not_be_trusted_get_nothing() {
    let good = Authority::new("Good");
    let strangers = Authority::new("Strangers");
    let pem = good.pem();
    let no_signer = Authority::with("No signer", |p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    let intermediate = |usages: &[KeyUsagePurpose]| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "Between");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = usages.to_vec();
        let between =
            Authority { root: rcgen::CertifiedIssuer::signed_by(params, rcgen::KeyPair::generate().unwrap(), &good.root).unwrap() };
        let mut server = between.server("localhost", |_| {});
        server.chain.push(between.root.der().clone());
        server
    };
    let mut old = good.server("localhost", |_| {});
    old.versions = vec![&rustls::version::TLS12];
    for (server, anchor, settings, says) in [
        (good.server("localhost", |p| p.not_after = date_time_ymd(2020, 1, 1)), &pem, vec![], "expired"),
        (good.server("localhost", |p| p.not_before = date_time_ymd(2090, 1, 1)), &pem, vec![], "not-yet-valid"),
        (good.server("other.test", |_| {}), &pem, vec![], "wrong-name"),
        (good.server("127.0.0.1", |_| {}), &pem, vec![], "wrong-name"),
        (strangers.server("localhost", |_| {}), &pem, vec![], "unknown-issuer"),
        (good.server("localhost", |p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]), &pem, vec![], "digitalSignature"),
        (
            good.server("localhost", |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            &pem,
            vec![],
            "wrong-usage",
        ),
        (good.server("localhost", |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), &pem, vec![], "wrong-usage"),
        (intermediate(&[KeyUsagePurpose::CrlSign]), &pem, vec![], "keyCertSign"),
        (no_signer.server("localhost", |_| {}), &no_signer.pem(), vec![], "keyCertSign"),
        (old, &pem, vec![("TLS_VERSIONS", "1.3")], "no common TLS version"),
    ] {
        assert_eq!(meets(anchor, server, &settings, says).await, 0, "{says}: the server was asked");
    }
    // The same intermediate, allowed to sign, is asked; so are the authority's own server and one on TLS 1.2.
    let mut old = good.server("localhost", |_| {});
    old.versions = vec![&rustls::version::TLS12];
    assert_eq!(meets(&pem, intermediate(&[KeyUsagePurpose::KeyCertSign]), &[], "503").await, 1);
    assert_eq!(meets(&pem, good.server("localhost", |p| p.key_usages = vec![]), &[], "503").await, 1);
    assert_eq!(meets(&pem, old, &[("TLS_VERSIONS", "1.2")], "503").await, 1);
}

#[tokio::test]
async fn without_a_date_no_certificate_is_valid() {
    let good = Authority::new("Good");
    let (address, asked) = ca(good.server("localhost", |_| {}), |_| (503, String::new())).await;
    let url = format!("https://localhost:{}", address.port());
    let mut twin = Twin::on(parts(&[("BACKEND_URL", &url), ("BACKEND_CA", &good.pem()), ("MQTT_HOST", "localhost")]));
    twin.hears("http: Listening").await;
    twin.told(r#"provision {"ssid":"lab","password":"correct-horse","device_id":"d","provisioning_token":"t"}"#).await;
    twin.hears("not-yet-valid").await;
    assert_eq!(asked.lock().unwrap().len(), 0);
    // The date is all that was missing.
    twin.told(&format!("time {}", crate::twin::TODAY)).await;
    twin.hears("503").await;
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn replies_that_break_the_rules_end_in_a_try_later() {
    let good = Arc::new(Authority::new("Good"));
    for (reply, says) in [
        ((301, String::new()), "301"),
        ((200, "x".repeat(100 * 1024)), "too-large"),
        ((200, "{}".to_owned()), "bad-reply"),
        ((200, String::new()), "bad-reply"),
    ] {
        let (address, asked) = ca(good.server("localhost", |_| {}), move |_| reply.clone()).await;
        let url = format!("https://localhost:{}", address.port());
        let mut twin = Twin::on(parts(&[("BACKEND_URL", &url), ("BACKEND_CA", &good.pem()), ("MQTT_HOST", "localhost")]));
        twin.provisioned().await;
        twin.hears(says).await;
        twin.hears("enrollment").await;
        let asked = asked.lock().unwrap();
        assert_eq!(asked[0].0, "Bearer TOKEN-OF-THIS-TEST");
    }
}

#[tokio::test]
async fn servers_that_do_not_speak_tls_or_nothing_at_all_are_given_up() {
    let good = Authority::new("Good");
    for (first, says) in [(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "tls"), (b"", "reset")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(first).await.unwrap();
                stream.shutdown().await.unwrap();
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            }
        });
        let mut twin = Twin::on(parts(&[("BACKEND_URL", &url), ("BACKEND_CA", &good.pem()), ("MQTT_HOST", "localhost")]));
        twin.provisioned().await;
        let line = twin.hears("failed").await;
        assert!(line.contains(says), "{line}");
    }
}

#[tokio::test]
async fn servers_that_never_finish_are_given_up() {
    let good = Authority::new("Good");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let acceptor = good.server("localhost", |_| {}).acceptor();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            // A head that goes on for ever: within every limit of size, but not of time.
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
            while stream.write_all(b"X: y\r\n").await.is_ok() && stream.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
    let parts = parts(&[("BACKEND_URL", &url), ("BACKEND_CA", &good.pem()), ("MQTT_HOST", "localhost")]);
    let limits = Limits { ca_answer: Duration::from_secs(1), ..Limits::default() };
    let mut twin = Twin::on(Parts { limits, ..parts });
    twin.provisioned().await;
    twin.hears("timed-out").await;
}

#[tokio::test]
async fn a_device_enrols_and_talks_to_the_broker_over_mutual_tls() {
    let authority = Arc::new(Authority::new("Good"));
    for versions in ["1.2", "1.3"] {
        let issuer = authority.clone();
        let (address, asked) = ca(authority.server("localhost", |_| {}), move |body| honest(&issuer, body)).await;
        let mut server = authority.server("localhost", |_| {});
        server.clients = Some(authority.root.der().clone());
        let port = broker(server).await.port().to_string();
        let url = format!("https://localhost:{}", address.port());
        let settings = [
            ("BACKEND_URL", url.as_str()),
            ("BACKEND_CA", &authority.pem()),
            ("MQTT_HOST", "localhost"),
            ("MQTT_PORT", &port),
            ("TLS_VERSIONS", versions),
            ("TELEMETRY_PERIOD_MS", "10"),
        ];
        let mut twin = Twin::on(parts(&settings));
        twin.provisioned().await;
        twin.hears("Connected to broker (session_present=0)").await;
        twin.hears("Reading 3 delivered").await;
        assert_eq!(asked.lock().unwrap().len(), 1);
        for secret in SECRETS {
            assert!(!twin.said.iter().any(|l| l.contains(secret)), "{secret} was said");
        }
    }
}

#[tokio::test]
async fn a_broker_that_refuses_the_certificate_is_quoted() {
    let authority = Arc::new(Authority::new("Good"));
    let strangers = Authority::new("Strangers");
    for versions in ["1.2", "1.3"] {
        let issuer = authority.clone();
        let (address, _) = ca(authority.server("localhost", |_| {}), move |body| honest(&issuer, body)).await;
        let mut server = authority.server("localhost", |_| {});
        server.clients = Some(strangers.root.der().clone());
        let port = broker(server).await.port().to_string();
        let url = format!("https://localhost:{}", address.port());
        let settings = [
            ("BACKEND_URL", url.as_str()),
            ("BACKEND_CA", &authority.pem()),
            ("MQTT_HOST", "localhost"),
            ("MQTT_PORT", &port),
            ("TLS_VERSIONS", versions),
        ];
        let mut twin = Twin::on(parts(&settings));
        twin.provisioned().await;
        let line = twin.hears("alert ").await;
        assert!(line.contains("unknown_ca") || line.contains("decrypt_error"), "TLS {versions}: {line}");
    }
}

#[tokio::test]
async fn an_own_certificate_needs_no_enrolment_and_insecure_is_loud() {
    let authority = Authority::new("Good");
    let strangers = Authority::new("Strangers");
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let certificate = authority.issue(&csr);
    // The broker's certificate is of somebody unknown, for another name, and long expired.
    let mut server = strangers.server("other.test", |p| p.not_after = date_time_ymd(2000, 1, 1));
    server.clients = Some(authority.root.der().clone());
    let port = broker(server).await.port().to_string();
    let key = key.serialize_pem();
    let mut settings = vec![
        ("MQTT_HOST", "localhost"),
        ("MQTT_PORT", port.as_str()),
        ("MQTT_CERTFILE", &certificate),
        ("MQTT_KEYFILE", &key),
        ("MQTT_CA_CERTS", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ];
    let mut twin = Twin::on(parts(&settings));
    twin.provisioned().await;
    twin.hears("no usable certificate among the trust anchors").await;

    settings.push(("MQTT_TLS_INSECURE", "true"));
    let mut twin = Twin::on(parts(&settings));
    twin.provisioned().await;
    twin.hears("Connected to broker").await;
    let warning = twin.said.iter().find(|l| l.to_lowercase().contains("insecure"));
    assert!(warning.is_some_and(|w| w.starts_with("W (")), "{:?}", twin.said);
    // A key of another certificate is the device's own fault, and said as such.
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    settings[3].1 = &other;
    let mut twin = Twin::on(parts(&settings));
    twin.provisioned().await;
    twin.hears("bad-identity").await;
}
