//! The fake CA and the time server, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use harness::ca::misbehaviour::Lie;
use harness::ca::pki::{Identity, Pki};
use harness::ca::{CaParts, CaServer, Clock, TokenSpec};
use harness::event::{CaRequest, Event, What};
use harness::time_server::{TimeLie, TimeServer, Wrong};
use harness::trace::redact::Redactor;
use harness::trace::tape::Tape;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

/// Longer than anything here takes, shorter than a person's patience.
const LIMIT: Duration = Duration::from_secs(30);

fn wall() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn clock(unix: i64) -> (Arc<AtomicI64>, Clock) {
    let date = Arc::new(AtomicI64::new(unix));
    let told = date.clone();
    (date, Arc::new(move || told.load(Ordering::Relaxed)))
}

struct Bench {
    ca: CaServer,
    date: Arc<AtomicI64>,
    events: Receiver<Event>,
}

impl Bench {
    async fn start() -> Bench {
        let (tape, events) = Tape::new(Redactor::new());
        let (date, clock) = clock(wall());
        let pki = Arc::new(Pki::new(wall()).unwrap());
        Bench { ca: CaServer::start(CaParts::new(pki, tape, clock)).await.unwrap(), date, events }
    }

    fn told(&mut self) -> CaRequest {
        match self.events.try_recv().unwrap().what {
            What::Request(request) => request,
            other => panic!("{other:?}"),
        }
    }

    fn bearer(&self) -> String {
        format!("authorization: Bearer {}\r\n", self.ca.mint_token(TokenSpec::default()).unwrap().expose())
    }

    async fn connect(&self, client: Option<&Identity>) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        self.connect_with(client, rustls::ALL_VERSIONS).await
    }

    async fn connect_with(
        &self,
        client: Option<&Identity>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut anchors = rustls::RootCertStore::empty();
        anchors.add(CertificateDer::from_pem_slice(self.ca.pki().root_pem().as_bytes()).unwrap()).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(anchors);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = CertificateDer::pem_slice_iter(identity.chain_pem.as_bytes()).map(Result::unwrap).collect();
                let key = PrivateKeyDer::from_pem_slice(identity.key_pem.expose().as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let stream = TcpStream::connect(self.ca.address()).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Sends a request and reads until the connection ends; what came and whether TLS was closed in good order.
    async fn exchange(&self, client: Option<&Identity>, request: &[u8]) -> (String, bool) {
        timeout(LIMIT, async {
            let mut stream = self.connect(client).await.unwrap();
            stream.write_all(request).await.unwrap();
            let mut answer = Vec::new();
            let ended = stream.read_to_end(&mut answer).await;
            (String::from_utf8(answer).unwrap(), ended.is_ok())
        })
        .await
        .unwrap()
    }

    async fn post(&self, client: Option<&Identity>, path: &str, headers: &str, body: &[u8]) -> (u16, String) {
        let (answer, _) = self.exchange(client, &post(path, headers, body)).await;
        (status(&answer), answer)
    }
}

fn post(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: ca\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("no status in {answer:?}")).parse().unwrap()
}

fn json(answer: &str) -> serde_json::Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn enrolment(device_id: &str, key: &KeyPair) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, device_id);
    let csr = params.serialize_request(key).unwrap().pem().unwrap();
    serde_json::json!({"device_id": device_id, "csr": csr}).to_string().into_bytes()
}

fn lies(json: &str) -> Vec<Lie> {
    serde_json::from_str(json).unwrap()
}

#[tokio::test]
async fn a_device_enrols_and_renews_and_all_of_it_is_told() {
    let mut bench = Bench::start().await;
    let key = KeyPair::generate().unwrap();
    let (answered, answer) = bench.post(None, "/sign-csr", &bench.bearer(), &enrolment("dev-1", &key)).await;
    assert_eq!(answered, 200, "{answer}");
    let told = bench.told();
    assert_eq!((told.what.as_str(), told.device_id.as_deref()), ("sign-csr", Some("dev-1")));
    assert_eq!((told.status, told.outcome.as_str()), (Some(200), "issued"));
    let chain_pem = json(&answer)["certificate"]["content"].as_str().unwrap().to_owned();
    let identity = Identity { chain_pem, key_pem: device_core::secret::Secret::new(key.serialize_pem()) };

    let (answer, closed) = bench.exchange(None, b"GET /ca.crt HTTP/1.1\r\nhost: ca\r\nconnection: close\r\n\r\n").await;
    assert!(closed && answer.ends_with(bench.ca.pki().root_pem()), "{answer}");
    assert_eq!(bench.told().what, "ca.crt");

    let next = enrolment("dev-1", &KeyPair::generate().unwrap());
    assert_eq!(bench.post(Some(&identity), "/renew", "", &next).await.0, 200);
    assert_eq!(bench.post(None, "/renew", "", &next).await.0, 401);
    assert_eq!((bench.told().outcome, bench.told().outcome), ("issued".into(), "no-client-certificate".into()));
    // By the testbed's date the certificate is over, whatever the wall clock says.
    bench.date.fetch_add(91 * 86_400, Ordering::Relaxed);
    assert_eq!(bench.post(Some(&identity), "/renew", "", &next).await.0, 403);
    assert_eq!(bench.told().outcome, "client-certificate-expired");
    // A certificate of whoever it is does not get in the way of an enrolment.
    let stranger = Pki::new(wall()).unwrap().client("dev-2").unwrap();
    let first = enrolment("dev-2", &KeyPair::generate().unwrap());
    assert_eq!(bench.post(Some(&stranger), "/sign-csr", &bench.bearer(), &first).await.0, 200);
    assert!(bench.told().outcome == "issued" && bench.events.try_recv().is_err());
}

#[tokio::test]
async fn both_tls_versions_are_spoken() {
    let bench = Bench::start().await;
    for (version, name) in
        [(&rustls::version::TLS12, rustls::ProtocolVersion::TLSv1_2), (&rustls::version::TLS13, rustls::ProtocolVersion::TLSv1_3)]
    {
        let client = bench.ca.pki().client("probe").unwrap();
        let stream = bench.connect_with(Some(&client), &[version]).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(name));
    }
}

#[tokio::test]
async fn what_is_not_a_good_request_gets_its_status_as_json() {
    let mut bench = Bench::start().await;
    let good = enrolment("dev-1", &KeyPair::generate().unwrap());
    let bearer = bench.bearer();
    let request = |line: &str, headers: &str, body: &[u8]| {
        [format!("{line} HTTP/1.1\r\nhost: ca\r\nconnection: close\r\n{headers}\r\n").as_bytes(), body].concat()
    };
    let long = vec![b' '; 1_000_000];
    let long_header = format!("content-type: application/json\r\ncontent-length: {}\r\n{bearer}", long.len());
    let huge_header = format!("content-type: application/json\r\ncontent-length: 99999999999\r\n{bearer}");
    let mut chunked = b"100000\r\n".to_vec();
    chunked.extend(vec![b' '; 0x100000]);
    chunked.extend(b"\r\n0\r\n\r\n");
    let sized = |kind: &str, more: &str| format!("content-type: {kind}\r\ncontent-length: {}\r\n{more}", good.len());
    let cases = [
        (404, "not-found", request("GET /", "", b"")),
        (404, "not-found", request("POST /sign-csr/", &sized("application/json", &bearer), &good)),
        (405, "wrong-method", request("GET /sign-csr", "", b"")),
        (405, "wrong-method", request("POST /ca.crt", "content-length: 0\r\n", b"")),
        (415, "wrong-content-type", request("POST /sign-csr", &sized("text/plain", &bearer), &good)),
        (415, "wrong-content-type", request("POST /sign-csr", &format!("content-length: {}\r\n{bearer}", good.len()), &good)),
        (401, "no-token", request("POST /sign-csr", &sized("application/json", ""), &good)),
        (401, "no-token", request("POST /sign-csr", &sized("application/json", &format!("{bearer}{bearer}")), &good)),
        (413, "too-large", request("POST /sign-csr", &long_header, &long)),
        (413, "too-large", request("POST /sign-csr", &huge_header, b"{")),
        (
            413,
            "too-large",
            request(
                "POST /sign-csr",
                &format!("content-type: application/json\r\ntransfer-encoding: chunked\r\n{bearer}"),
                &chunked,
            ),
        ),
        (400, "bad-request", request("POST /sign-csr", &sized("application/json", &bearer), &vec![b'['; good.len()])),
    ];
    for (expected, outcome, request) in cases {
        let (answer, _) = bench.exchange(None, &request).await;
        assert_eq!(status(&answer), expected, "{outcome}: {answer}");
        assert_eq!(json(&answer)["status"], "error", "{answer}");
        let told = bench.told();
        assert_eq!((told.status, told.outcome.as_str()), (Some(expected), outcome));
        assert!(!format!("{told:?}{answer}").contains(&bearer[22..60]));
    }
    // None of it has spent the token; a charset does not matter.
    let headers = sized("Application/JSON; charset=utf-8", &bearer);
    let (answer, _) = bench.exchange(None, &request("POST /sign-csr", &headers, &good)).await;
    assert_eq!(status(&answer), 200, "{answer}");
}

#[tokio::test]
async fn a_truncated_answer_announces_all_and_ends_early() {
    let mut bench = Bench::start().await;
    let (bearer, body) = (bench.bearer(), enrolment("dev-1", &KeyPair::generate().unwrap()));
    bench.ca.misbehave(lies(r#"[{"truncate": {"at-bytes": 120, "times": 1}}]"#)).unwrap();
    let (cut, closed) = bench.exchange(None, &post("/sign-csr", &bearer, &body)).await;
    let (head, part) = cut.split_once("\r\n\r\n").unwrap();
    let length: usize =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()).unwrap();
    assert!(part.len() == 120 && length > 1_000 && !closed, "{cut}");
    assert_eq!(bench.told().lies, ["truncate"]);
    let (answered, whole) = bench.post(None, "/sign-csr", &bearer, &body).await;
    assert_eq!(answered, 200);
    assert!(whole.split_once("\r\n\r\n").unwrap().1.starts_with(part));
    assert_eq!((bench.told().outcome, whole.split_once("\r\n\r\n").unwrap().1.len()), ("issued-again".into(), length));
}

#[tokio::test]
async fn an_answer_is_sent_at_the_pace_that_was_told() {
    let mut bench = Bench::start().await;
    let body = enrolment("dev-1", &KeyPair::generate().unwrap());
    for (lie, least) in [(r#"{"before": "200ms"}"#, 200), (r#"{"every": "1ms", "bytes": 10}"#, 100)] {
        bench.ca.misbehave(lies(&format!(r#"[{{"slow": {lie}}}]"#))).unwrap();
        let since = std::time::Instant::now();
        let (answered, answer) = bench.post(None, "/sign-csr", &bench.bearer(), &body).await;
        assert!(answered == 200 && json(&answer)["certificate"]["content"].is_string(), "{answer}");
        assert!(since.elapsed() >= Duration::from_millis(least), "{lie}: {:?}", since.elapsed());
        assert_eq!(bench.told().lies, ["slow"]);
    }
}

#[tokio::test]
async fn a_reset_comes_after_what_was_to_be_sent_before_it() {
    let mut bench = Bench::start().await;
    let (bearer, body) = (bench.bearer(), enrolment("dev-1", &KeyPair::generate().unwrap()));
    bench.ca.misbehave(lies(r#"[{"reset": {"at-bytes": 120, "times": 1}}]"#)).unwrap();
    let mut stream = bench.connect(None).await.unwrap();
    stream.write_all(&post("/sign-csr", &bearer, &body)).await.unwrap();
    let mut answer = Vec::new();
    let error = timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(String::from_utf8(answer).unwrap().split_once("\r\n\r\n").unwrap().1.len(), 120);
    assert_eq!((bench.told().lies, bench.post(None, "/sign-csr", &bearer, &body).await.0), (vec!["reset".to_owned()], 200));
    assert_eq!(bench.told().outcome, "issued-again");
}

#[tokio::test]
async fn an_answer_of_ten_megabytes_is_whole_and_a_redirect_spends_no_token() {
    let mut bench = Bench::start().await;
    let (bearer, body) = (bench.bearer(), enrolment("dev-1", &KeyPair::generate().unwrap()));
    bench.ca.misbehave(lies(r#"["redirect"]"#)).unwrap();
    let (answered, answer) = bench.post(None, "/sign-csr", &bearer, &body).await;
    assert!(answered == 302 && answer.contains("location: https://another-host.invalid/"), "{answer}");
    assert_eq!(bench.told().outcome, "refused");
    bench.ca.misbehave(lies(r#"["huge"]"#)).unwrap();
    let (answered, answer) = bench.post(None, "/sign-csr", &bearer, &body).await;
    assert!(answered == 200 && answer.len() > 10 * 1024 * 1024 && json(&answer)["certificate"].is_object());
    assert_eq!(bench.told().outcome, "issued");
}

#[tokio::test]
async fn a_chain_holds_as_many_certificates_as_were_told() {
    let bench = Bench::start().await;
    let (bearer, body) = (bench.bearer(), enrolment("dev-1", &KeyPair::generate().unwrap()));
    let sent = async |lie: &str| {
        bench.ca.misbehave(lies(lie)).unwrap();
        let (_, answer) = bench.post(None, "/sign-csr", &bearer, &body).await;
        let pem = json(&answer)["certificate"]["content"].as_str().unwrap().to_owned();
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect();
        (chain.len(), chain[0] == chain[1])
    };
    assert_eq!(sent("[]").await, (2, false));
    assert_eq!(sent(r#"["two-certificates"]"#).await, (3, true));
    assert_eq!(sent(r#"[{"chain-too-large": {"certificates": 8}}]"#).await, (8, false));
    for certificates in [2, 1001] {
        let refused = serde_json::from_str::<Vec<Lie>>(&format!(r#"[{{"chain-too-large": {{"certificates": {certificates}}}}}]"#));
        assert!(refused.unwrap_err().to_string().contains("use 3 to 1000"));
    }
}

#[tokio::test]
async fn a_listener_that_lies_is_refused_by_an_honest_client() {
    let mut bench = Bench::start().await;
    for (lie, why) in [
        ("wrong-name", "NotValidForName"),
        ("expired", "Expired"),
        ("not-yet-valid", "NotValidYet"),
        ("unknown-issuer", "UnknownIssuer"),
    ] {
        bench.ca.misbehave(lies(&format!(r#"[{{"listener": "{lie}"}}]"#))).unwrap();
        let error = format!("{:?}", bench.connect(None).await.err());
        assert!(error.contains(why), "{lie}: {error}");
    }
    assert!(bench.events.try_recv().is_err());
    bench.ca.heal().unwrap();
    let body = enrolment("dev-1", &KeyPair::generate().unwrap());
    assert_eq!(bench.post(None, "/sign-csr", &bench.bearer(), &body).await.0, 200);
    assert!(bench.told().lies.is_empty());
}

#[tokio::test]
async fn many_devices_enrol_at_once() {
    let bench = Bench::start().await;
    let one = async |number: u32| {
        let body = enrolment(&format!("dev-{number}"), &KeyPair::generate().unwrap());
        bench.post(None, "/sign-csr", &bench.bearer(), &body).await.0
    };
    let (a, b, c, d, e, f) = tokio::join!(one(1), one(2), one(3), one(4), one(5), one(6));
    assert_eq!([a, b, c, d, e, f], [200; 6]);
}

#[tokio::test]
async fn a_server_ends_with_its_owner() {
    let bench = Bench::start().await;
    let address = bench.ca.address();
    let mut open = bench.connect(None).await.unwrap();
    bench.ca.stop().await;
    let mut rest = Vec::new();
    let _ = timeout(LIMIT, open.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty() && TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn the_time_is_told_to_those_who_ask() {
    let (tape, mut events) = Tape::new(Redactor::new());
    let (date, clock) = clock(1_000_000_000);
    let server = TimeServer::start(tape, clock).await.unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server.address()).await.unwrap();
    let ask = async || {
        let mut packet = [0; 48];
        packet[0] = 0x23;
        socket.send(&packet).await.unwrap();
        assert_eq!(timeout(LIMIT, socket.recv(&mut packet)).await.unwrap().unwrap(), 48);
        i64::from(u32::from_be_bytes([packet[40], packet[41], packet[42], packet[43]])) - 2_208_988_800
    };
    assert_eq!(ask().await, 1_000_000_000);
    date.store(1_500_000_000, Ordering::Relaxed);
    server.misbehave(TimeLie::Wrong(Wrong { by_s: -60 }));
    assert_eq!(ask().await, 1_499_999_940);
    server.misbehave(TimeLie::Silent);
    // What is not a request is not told, let alone answered.
    socket.send(&[0x23; 47]).await.unwrap();
    socket.send(&[0x24; 48]).await.unwrap();
    socket.send(&[0x23; 48]).await.unwrap();
    let mut told = Vec::new();
    while told.len() < 3 {
        told.push(timeout(LIMIT, events.recv()).await.unwrap().unwrap().what);
    }
    let asked = |told_unix| What::TimeAsked { told_unix };
    assert_eq!(told, [asked(Some(1_000_000_000)), asked(Some(1_499_999_940)), asked(None)]);
    server.heal();
    assert_eq!(ask().await, 1_500_000_000);
}
