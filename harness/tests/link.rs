//! A link forwards what it gets, ends as its sides end, and tells what the TLS hellos said.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

use harness::ca::pki::{Pki, ServerSpec};
use harness::event::{Event, Source, What};
use harness::link::Link;
use harness::link::hello::{Heard, READ_MAX, Reading, Side};
use harness::trace::redact::Redactor;
use harness::trace::tape::Tape;
use proptest::prelude::*;
use rustls::crypto::ring::{default_provider, kx_group};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::Receiver;

const PATIENCE: Duration = Duration::from_secs(10);

// ---- hellos, from handshakes in memory

/// What one handshake is to be like.
#[derive(Clone, Copy)]
struct Shake {
    version: &'static SupportedProtocolVersion,
    client_certificate: Option<bool>,
    retry: bool,
    trusted: bool,
}

const PLAIN_13: Shake = Shake { version: &TLS13, client_certificate: None, retry: false, trusted: true };

fn roots(pem: &str) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap));
    Arc::new(roots)
}

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap()
}

/// Bytes in the order they were sent.
type Sent = Vec<(Side, Vec<u8>)>;

/// The bytes of a handshake, up to its end or its failure.
fn shake(shake: Shake) -> Sent {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let (pki, other) = (Pki::new(now as i64).unwrap(), Pki::new(now as i64).unwrap());
    let server = pki.server(&ServerSpec::new(["broker.test"])).unwrap();
    let device = pki.client("esp-1").unwrap();
    let key = |pem: &str| PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();

    let mut provider = default_provider();
    provider.kx_groups = vec![if shake.retry { kx_group::SECP384R1 } else { kx_group::SECP256R1 }];
    let provider = Arc::new(provider);
    let config = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[shake.version]).unwrap();
    let config = match shake.client_certificate {
        Some(_) => {
            let ca = roots(&pki.device_ca_pem());
            let verifier = WebPkiClientVerifier::builder_with_provider(ca, provider).allow_unauthenticated().build().unwrap();
            config.with_client_cert_verifier(verifier)
        }
        None => config.with_no_client_auth(),
    };
    let config = config.with_single_cert(chain(&server.chain_pem), key(server.key_pem.expose())).unwrap();
    let mut server = ServerConnection::new(Arc::new(config)).unwrap();

    let mut provider = default_provider();
    provider.kx_groups = vec![kx_group::SECP256R1, kx_group::SECP384R1];
    let config = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[shake.version]).unwrap();
    let config = config.with_root_certificates(roots(if shake.trusted { pki.root_pem() } else { other.root_pem() }));
    let config = match shake.client_certificate {
        Some(true) => config.with_client_auth_cert(chain(&device.chain_pem), key(device.key_pem.expose())).unwrap(),
        _ => config.with_no_client_auth(),
    };
    let mut client = ClientConnection::new(Arc::new(config), "broker.test".try_into().unwrap()).unwrap();

    let mut sent = Vec::new();
    for _ in 0..10 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.read_tls(&mut bytes.as_slice()).unwrap();
        let failed = server.process_new_packets().is_err();
        sent.push((Side::Device, std::mem::take(&mut bytes)));
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        client.read_tls(&mut bytes.as_slice()).unwrap();
        // An error leaves an alert to be written.
        let _ = client.process_new_packets();
        sent.push((Side::Server, bytes));
        if failed {
            break;
        }
    }
    sent.retain(|(_, bytes)| !bytes.is_empty());
    sent
}

/// What is heard when the bytes pass in pieces of this size.
fn heard(sent: &[(Side, Vec<u8>)], piece: usize) -> Vec<Heard> {
    let mut reading = Reading::default();
    sent.iter()
        .flat_map(|(from, bytes)| bytes.chunks(piece).map(|c| (*from, c)))
        .flat_map(|(from, c)| reading.pass(from, c))
        .collect()
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

#[test]
fn a_tls_1_3_handshake_tells_its_two_hellos_and_no_more() {
    let heard = heard(&shake(Shake { client_certificate: Some(true), ..PLAIN_13 }), usize::MAX);
    let suites = ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"];
    let [Heard::ClientHello { versions, sni, suites: offered, groups }, Heard::ServerHello { version, suite }] = &heard[..] else {
        panic!("{heard:?}");
    };
    assert_eq!(*versions, ["1.3"]);
    assert_eq!(sni.as_deref(), Some("broker.test"));
    assert!(strings(&suites).iter().all(|s| offered.contains(s)), "{offered:?}");
    assert_eq!(*groups, ["secp256r1", "secp384r1"]);
    assert_eq!((version.as_str(), suite.as_str()), ("1.3", "TLS_AES_256_GCM_SHA384"));
}

#[test]
fn a_hello_retry_request_is_told_as_such() {
    let heard = heard(&shake(Shake { retry: true, ..PLAIN_13 }), usize::MAX);
    let kinds: Vec<_> = heard.iter().map(std::mem::discriminant).collect();
    assert_eq!(kinds.len(), 4, "{heard:?}");
    assert!(matches!(&heard[1], Heard::HelloRetryRequest { version, .. } if version == "1.3"), "{heard:?}");
    assert!(kinds[0] == kinds[2] && matches!(&heard[3], Heard::ServerHello { version, .. } if version == "1.3"));
}

#[test]
fn a_tls_1_2_handshake_tells_whether_a_client_certificate_was_sent() {
    for (client_certificate, told) in [(None, None), (Some(false), Some(false)), (Some(true), Some(true))] {
        let heard = heard(&shake(Shake { version: &TLS12, client_certificate, ..PLAIN_13 }), usize::MAX);
        assert!(matches!(&heard[0], Heard::ClientHello { versions, .. } if *versions == ["1.2"]), "{heard:?}");
        assert!(matches!(&heard[1], Heard::ServerHello { version, suite } if version == "1.2"
            && suite == "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"));
        assert_eq!(heard.get(2), told.map(|sent| Heard::ClientCertificate { sent }).as_ref(), "{heard:?}");
        assert!(heard.len() <= 3, "{heard:?}");
    }
}

#[test]
fn an_alert_in_the_clear_is_told_with_its_name_and_sender() {
    let heard = heard(&shake(Shake { version: &TLS12, trusted: false, ..PLAIN_13 }), usize::MAX);
    assert_eq!(heard.last(), Some(&Heard::Alert { by: Side::Device, name: "unknown_ca".into() }), "{heard:?}");
}

#[test]
fn the_pieces_it_comes_in_change_nothing() {
    for version in [&TLS12, &TLS13] {
        for retry in [false, version == &TLS13] {
            let sent = shake(Shake { version, client_certificate: Some(true), retry, trusted: true });
            for piece in [1, 2, 5, 7, 1000] {
                assert_eq!(heard(&sent, piece), heard(&sent, usize::MAX), "{version:?} in pieces of {piece}");
            }
        }
    }
}

#[test]
fn what_is_not_tls_is_not_read() {
    let mut reading = Reading::default();
    assert_eq!(reading.pass(Side::Device, b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c"), []);
    assert_eq!(reading.pass(Side::Server, b"\x20\x03\x00\x00\x00"), []);
    assert!(reading.is_done());
    let mut reading = Reading::default();
    assert_eq!(reading.pass(Side::Device, b"POST /sign-csr HTTP/1.1\r\n"), []);
    assert!(!reading.is_done());
    // A hello that never ends is given up.
    let mut reading = Reading::default();
    let piece = [&[22, 3, 1, 0x40, 0][..], &[1, 0, 0xFF, 0xFF], &[0; 0x4000 - 4]].concat();
    for _ in 0..=READ_MAX / piece.len() {
        reading.pass(Side::Device, &piece);
        reading.pass(Side::Server, &piece);
    }
    assert!(reading.is_done());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..400)), 0..20)) {
        let mut reading = Reading::default();
        for (device, bytes) in pieces {
            reading.pass(if device { Side::Device } else { Side::Server }, &bytes);
        }
    }

    #[test]
    fn no_damage_makes_it_panic(at in 0usize..4000, byte in any::<u8>(), cut in 0usize..4000, version in any::<bool>(), piece in 1usize..600) {
        static SENT: std::sync::OnceLock<[Sent; 2]> = std::sync::OnceLock::new();
        let sent = SENT.get_or_init(|| [&TLS12, &TLS13].map(|version| shake(Shake { version, client_certificate: Some(true), ..PLAIN_13 })));
        let mut sent = sent[usize::from(version)].clone();
        for (_, bytes) in &mut sent {
            if let Some(hit) = bytes.get_mut(at) {
                *hit = byte;
            }
            bytes.truncate(cut.max(1));
        }
        heard(&sent, piece);
    }

    /// A well-formed frame around nonsense goes deepest.
    #[test]
    fn no_nonsense_in_a_frame_makes_it_panic(kind in prop::sample::select(vec![1u8, 2, 11]), body in prop::collection::vec(any::<u8>(), 0..300)) {
        let length = body.len() as u16;
        let message = [&[kind, 0], &length.to_be_bytes()[..], &body].concat();
        let record = [&[22, 3, 3], &(length + 4).to_be_bytes()[..], &message].concat();
        Reading::default().pass(Side::Device, &record);
        Reading::default().pass(Side::Server, &record);
    }
}

// ---- the proxy, over sockets

struct World {
    link: Link,
    server: TcpListener,
    events: Receiver<Event>,
}

async fn world() -> World {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (tape, events) = Tape::new(Redactor::default());
    let link = Link::start("broker", server.local_addr().unwrap(), &tape).await.unwrap();
    World { link, server, events }
}

impl World {
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let device = TcpStream::connect(self.link.address()).await.unwrap();
        let (server, _) = soon(self.server.accept()).await.unwrap();
        (device, server)
    }

    async fn closed(&mut self) -> (u32, u64, u64) {
        loop {
            let event = soon(self.events.recv()).await.unwrap();
            assert_eq!(event.from, Source::Link);
            if let What::Closed { to, connection, bytes_up, bytes_down } = event.what {
                assert_eq!(to, "broker");
                return (connection, bytes_up, bytes_down);
            }
        }
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it takes too long")
}

#[tokio::test]
async fn bytes_pass_both_ways_and_an_end_is_passed_on_as_half_a_close() {
    let mut world = world().await;
    let (mut device, mut server) = world.connect().await;
    let big: Vec<u8> = (0..1_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
    let sent = big.clone();
    let sending = tokio::spawn(async move {
        device.write_all(&sent).await.unwrap();
        device.shutdown().await.unwrap();
        let mut answer = String::new();
        device.read_to_string(&mut answer).await.unwrap();
        answer
    });
    let mut received = Vec::new();
    soon(server.read_to_end(&mut received)).await.unwrap();
    assert!(received == big);
    // The other half is still open.
    server.write_all(b"thanks").await.unwrap();
    drop(server);
    assert_eq!(soon(sending).await.unwrap(), "thanks");
    assert_eq!(world.closed().await, (1, 1_000_000, 6));
}

#[tokio::test]
async fn a_reset_on_either_side_is_a_reset_on_the_other() {
    let mut world = world().await;
    for from_server in [true, false] {
        let (mut device, mut server) = world.connect().await;
        device.write_all(b"hello").await.unwrap();
        soon(server.read_exact(&mut [0; 5])).await.unwrap();
        let (resetting, mut other) = if from_server { (server, device) } else { (device, server) };
        resetting.set_zero_linger().unwrap();
        drop(resetting);
        assert_eq!(soon(other.read(&mut [0; 1])).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        world.closed().await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_resets_at_once_and_can_come_back() {
    let mut world = world().await;
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let there = world.server.local_addr().unwrap();
    for (number, upstream) in [(1, None), (2, Some(nobody))] {
        world.link.set_upstream(upstream);
        let mut device = TcpStream::connect(world.link.address()).await.unwrap();
        assert_eq!(soon(device.read(&mut [0; 1])).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(world.closed().await, (number, 0, 0));
    }
    world.link.set_upstream(Some(there));
    let (mut device, mut server) = world.connect().await;
    device.write_all(b"x").await.unwrap();
    soon(server.read_exact(&mut [0; 1])).await.unwrap();
    // And closes with its connections when dropped.
    let address = world.link.address();
    drop(world.link);
    assert_eq!(soon(server.read(&mut [0; 1])).await.map_err(|e| e.kind()).unwrap_or(0), 0);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn hellos_that_pass_are_events() {
    let mut world = world().await;
    let (mut device, mut server) = world.connect().await;
    for (from, bytes) in shake(Shake { version: &TLS12, client_certificate: Some(false), retry: false, trusted: true }) {
        let (out, into) = if from == Side::Device { (&mut device, &mut server) } else { (&mut server, &mut device) };
        out.write_all(&bytes).await.unwrap();
        let mut passed = vec![0; bytes.len()];
        soon(into.read_exact(&mut passed)).await.unwrap();
        assert!(passed == bytes);
    }
    drop((device, server));
    let mut names = Vec::new();
    loop {
        match soon(world.events.recv()).await.unwrap().what {
            What::Opened { connection: 1, .. } => names.push("opened"),
            What::ClientHello(hello) => {
                assert_eq!((hello.to.as_str(), hello.connection, hello.sni.as_deref()), ("broker", 1, Some("broker.test")));
                names.push("client-hello");
            }
            What::ServerHello(_) => names.push("server-hello"),
            What::ClientCertificate { sent: false, .. } => names.push("no-certificate"),
            What::Closed { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(names, ["opened", "client-hello", "server-hello", "no-certificate"]);
}

/// Two timers of a millisecond in the way make a turn take 2 ms at least.
#[tokio::test]
async fn nothing_waits_for_a_timer() {
    const TURNS: u32 = 500;
    let world = world().await;
    let (mut device, mut server) = world.connect().await;
    let echo = async {
        let mut byte = [0];
        while server.read_exact(&mut byte).await.is_ok() {
            server.write_all(&byte).await.unwrap();
        }
    };
    // The quickest of several, since the machine may be busy.
    let quickest = async {
        let mut quickest = Duration::MAX;
        for _ in 0..TURNS {
            let began = std::time::Instant::now();
            device.write_all(b"x").await.unwrap();
            device.read_exact(&mut [0]).await.unwrap();
            quickest = quickest.min(began.elapsed());
        }
        quickest
    };
    tokio::select! {
        quickest = quickest => assert!(quickest < Duration::from_millis(1), "a turn takes {quickest:?} at best"),
        () = echo => panic!("the echo ended"),
    }
}
