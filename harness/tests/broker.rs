//! Each broker does what the scenarios count on: the same trials against an installed Mosquitto, the bundled one, and, with the feature
//! `container`, one in a container.
//!
//! `HARNESS_CI=1` makes a broker that is not there a failure; otherwise its trials are listed as ignored.
#![expect(clippy::unwrap_used, reason = "a trial's panic is its verdict")]

use device_core::config::{Security, TlsVersions};
use device_core::secret::Secret;
use harness::broker::{Acl, Backend, Broker, BrokerSpec, Choice, Lines, Login, Started, Storage, Tap, Tls, User};
use harness::ca::pki::{CRL_VALID_S, Identity, Pki, Revoked, ServerSpec, serial_in};
use harness::child;
use harness::event::{Event, MqttMessage, Source, What};
use harness::trace::redact::Redactor;
use harness::trace::tape::Tape;
use libtest_mimic::{Arguments, Failed, Trial};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Packet};
use rumqttc::v5::{AsyncClient, ConnectionError, EventLoop, MqttOptions};
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::pin::Pin;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Receiver;

/// No trial waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(10);
/// The hidden role of a harness that starts a broker and is then killed.
const VICTIM: &str = "__victim";

type Scene = fn(Choice) -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! scenes {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), (|choice| Box::pin($name(choice))) as Scene)),*] };
}

fn main() -> ExitCode {
    child::answer_hidden_roles();
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(VICTIM) {
        run(victim(arguments.next().unwrap().parse().unwrap()));
        return ExitCode::FAILURE;
    }
    let arguments = Arguments::from_args();
    let scenes = scenes![
        a_certificate_is_demanded_and_its_name_is_the_user,
        a_certificate_of_another_authority_is_refused,
        devices_keep_to_their_own_topics,
        server_tls_takes_passwords,
        plain_takes_passwords_or_everybody,
        only_the_tls_versions_asked_for_are_spoken,
        a_kill_keeps_what_was_stored_at_each_change,
        a_stop_keeps_what_is_stored_on_stop,
        a_broker_without_storage_forgets,
        two_brokers_do_not_meet,
        the_tap_comes_back_after_a_kill,
        a_bad_file_is_said_in_the_brokers_own_words,
        both_ports_serve_and_the_plain_one_is_closed_by_a_restart,
        who_is_revoked_is_refused_once_the_list_is_read,
        a_user_who_is_gone_is_thrown_out,
        another_server_certificate_is_shown,
        dropped_nothing_is_left,
        killed_the_harness_leaves_nothing,
    ];
    let of_processes = scenes![trap_an_authority_is_not_read_again, trap_without_its_list_everybody_is_let_in,];
    let of_containers = scenes![
        what_a_dead_harness_left_is_removed_by_the_next,
        an_image_that_is_not_there_is_not_pulled,
        it_listens_on_loopback_alone,
    ];
    let must = std::env::var_os("HARNESS_CI").is_some();
    let mut trials = Vec::new();
    let choices = [Choice::Process, Choice::Bundled, Choice::Container(None)];
    for choice in choices.into_iter().filter(|choice| cfg!(feature = "container") || *choice != Choice::Container(None)) {
        let absent = run(choice.start(BrokerSpec::plain())).err();
        if let Some(why) = &absent {
            eprintln!("{choice}: {why}");
        }
        let more = if choice == Choice::Container(None) { &of_containers[..] } else { &of_processes[..] };
        for &(name, scene) in scenes.iter().chain(more) {
            let choice = choice.clone();
            let trial = Trial::test(format!("{choice}::{name}"), move || {
                let done = std::panic::catch_unwind(|| run(scene(choice)));
                done.map_err(|panic| Failed::from(panic.downcast_ref::<String>().cloned().unwrap_or_default()))
            });
            trials.push(trial.with_ignored_flag(absent.is_some() && !must));
        }
    }
    trials.push(Trial::test("auto_says_which_and_why", || {
        run(auto_says_which_and_why());
        Ok(())
    }));
    let conclusion = libtest_mimic::run(&arguments, trials);
    child::finish();
    conclusion.exit_code()
}

/// Each trial has a runtime of its own; nothing takes longer than this.
fn run<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(6 * PATIENCE, what).await.expect("the trial takes too long") })
}

// ---- what the scenes share

struct World {
    pki: Pki,
    server: Identity,
    operator: Identity,
}

impl World {
    fn new() -> World {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let pki = Pki::new(i64::try_from(now).unwrap()).unwrap();
        let server = pki.server(&ServerSpec::new(["localhost", "127.0.0.1"])).unwrap();
        let operator = pki.client("operator").unwrap();
        World { pki, server, operator }
    }

    fn mutual(&self) -> BrokerSpec {
        BrokerSpec::mutual_tls(self.server.clone(), self.pki.device_ca_pem(), vec!["operator".into()])
    }

    fn login(&self, identity: Option<&Identity>) -> Login {
        Login { user: None, tls: Some(Tls::trusting(self.pki.root_pem(), identity).unwrap()) }
    }
}

async fn start(choice: &Choice, spec: BrokerSpec) -> Box<dyn Broker> {
    choice.start(spec).await.unwrap().broker
}

/// Whether this login is let in.
async fn enters(broker: &dyn Broker, login: Login) -> bool {
    let (tape, _events) = Tape::new(Redactor::default());
    Tap::connect(broker.endpoint(), login, &["probe".into()], &tape).await.is_ok()
}

fn with_password(name: &str, password: &str, tls: Option<Tls>) -> Login {
    Login { user: Some((name.into(), Secret::new(password))), tls }
}

async fn tap(broker: &dyn Broker, login: Login) -> (Tap, Receiver<Event>) {
    let (tape, events) = Tape::new(Redactor::default());
    (Tap::connect(broker.endpoint(), login, &["#".into()], &tape).await.unwrap(), events)
}

/// The next message on the tape.
async fn message(events: &mut Receiver<Event>) -> MqttMessage {
    loop {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await.expect("no message came").unwrap();
        if let What::Message(message) = event.what {
            return message;
        }
    }
}

/// Waits for a line of the broker's log on a tape.
async fn line(events: &mut Receiver<Event>, part: &str) -> String {
    loop {
        let event =
            tokio::time::timeout(PATIENCE, events.recv()).await.unwrap_or_else(|_| panic!("no line with {part:?}")).unwrap();
        match event {
            Event { from: Source::Broker, what: What::Line(line), .. } if line.contains(part) => return line,
            _ => {}
        }
    }
}

/// A plain client with a persistent session; polled by hand.
fn client(broker: &dyn Broker, id: &str) -> (AsyncClient, EventLoop) {
    let address = broker.endpoint().address;
    let mut options = MqttOptions::new(id, address.ip().to_string(), address.port());
    options.set_clean_start(false).set_session_expiry_interval(Some(600));
    AsyncClient::new(options, 10)
}

/// Polls until this packet came, or the connection failed.
async fn until<T>(events: &mut EventLoop, pick: impl Fn(&Packet) -> Option<T>) -> Result<T, ConnectionError> {
    tokio::time::timeout(PATIENCE, async {
        loop {
            if let rumqttc::v5::Event::Incoming(packet) = events.poll().await?
                && let Some(picked) = pick(&packet)
            {
                return Ok(picked);
            }
        }
    })
    .await
    .expect("the packet never came")
}

fn connack(packet: &Packet) -> Option<(ConnectReturnCode, bool)> {
    match packet {
        Packet::ConnAck(answer) => Some((answer.code, answer.session_present)),
        _ => None,
    }
}

// ---- scenes

async fn a_certificate_is_demanded_and_its_name_is_the_user(choice: Choice) {
    let world = World::new();
    let broker = start(&choice, world.mutual()).await;
    let (tape, mut events) = Tape::new(Redactor::default());
    let _log = broker.log().forward(Lines::All, &tape);
    // Its own line about the tap is not forwarded, so a plain client connects for it to be seen.
    assert!(enters(&*broker, world.login(Some(&world.operator))).await);
    assert!(!enters(&*broker, world.login(None)).await, "a client without a certificate was let in");
    line(&mut events, "peer did not return a certificate").await;
    let mut said = String::new();
    for line in broker.log().tail() {
        said.push_str(&line);
    }
    assert!(said.contains("u'operator'"), "{said}");
}

async fn a_certificate_of_another_authority_is_refused(choice: Choice) {
    let (world, other) = (World::new(), World::new());
    let broker = start(&choice, world.mutual()).await;
    assert!(!enters(&*broker, world.login(Some(&other.operator))).await);
    // And by the other side: a tap that trusts another authority, or another certificate, does not connect.
    assert!(!enters(&*broker, other.login(Some(&world.operator))).await);
    let pin = |chain: &str| Login { user: None, tls: Some(Tls::pinned(chain, Some(&world.operator)).unwrap()) };
    assert!(!enters(&*broker, pin(&other.server.chain_pem)).await);
    assert!(enters(&*broker, pin(&world.server.chain_pem)).await);
}

async fn devices_keep_to_their_own_topics(choice: Choice) {
    let world = World::new();
    let broker = start(&choice, world.mutual()).await;
    let (_tap, mut heard) = tap(&*broker, world.login(Some(&world.operator))).await;
    let mut log = broker.log().lines();
    let device = world.login(Some(&world.pki.client("esp-1").unwrap()));
    let (device, _) = tap(&*broker, device).await;
    device.publish("devices/esp-2/status", "stolen", 1, false).await.unwrap();
    device.publish("devices/esp-1/status", "mine", 1, true).await.unwrap();
    let mine = message(&mut heard).await;
    assert_eq!((mine.topic.as_str(), mine.payload.as_str(), mine.qos, mine.retained), ("devices/esp-1/status", "mine", 1, true));
    let denied = async { while !log.recv().await.unwrap().contains("Denied PUBLISH") {} };
    tokio::time::timeout(PATIENCE, denied).await.expect("the broker does not say that it denied");
}

async fn server_tls_takes_passwords(choice: Choice) {
    let world = World::new();
    let mut spec = BrokerSpec::server_tls(world.server.clone());
    spec.users = vec![User { name: "alice".into(), password: Secret::new("correct horse: battery") }];
    let broker = start(&choice, spec).await;
    let tls = || Some(Tls::trusting(world.pki.root_pem(), None).unwrap());
    assert!(enters(&*broker, with_password("alice", "correct horse: battery", tls())).await);
    assert!(!enters(&*broker, with_password("alice", "wrong", tls())).await);
    assert!(!enters(&*broker, with_password("bob", "correct horse: battery", tls())).await);
    assert!(!enters(&*broker, Login { user: None, tls: tls() }).await);
    assert!(!enters(&*broker, with_password("alice", "correct horse: battery", None)).await, "plain MQTT on the TLS port");
}

async fn plain_takes_passwords_or_everybody(choice: Choice) {
    let mut spec = BrokerSpec::plain();
    let open = start(&choice, spec.clone()).await;
    let (tape, mut events) = Tape::new(Redactor::default());
    let _log = open.log().forward(Lines::Of("esp-1".into()), &tape);
    assert!(enters(&*open, Login::default()).await);
    for id in ["esp-12", "esp-1"] {
        until(&mut client(&*open, id).1, connack).await.unwrap();
    }
    let first = line(&mut events, "").await;
    assert!(first.starts_with("New client connected") && first.contains(" as esp-1 ("), "{first}");
    spec.users = vec![User { name: "alice".into(), password: Secret::new("pw") }];
    spec.acl = Acl::Devices { operators: vec![] };
    let closed = start(&choice, spec).await;
    assert!(!enters(&*closed, Login::default()).await);
    assert!(enters(&*closed, with_password("alice", "pw", None)).await);
}

async fn only_the_tls_versions_asked_for_are_spoken(choice: Choice) {
    use rustls::version::{TLS12, TLS13};
    let world = World::new();
    for (tls, spoken) in
        [(TlsVersions::Only12, [true, false]), (TlsVersions::Only13, [false, true]), (TlsVersions::Both, [true, true])]
    {
        let broker = start(&choice, BrokerSpec { tls, ..BrokerSpec::server_tls(world.server.clone()) }).await;
        for (version, expected) in [&TLS12, &TLS13].into_iter().zip(spoken) {
            let connected = handshake(&*broker, world.pki.root_pem(), version).await;
            assert_eq!(connected, expected, "{tls:?}: {version:?}");
        }
    }
}

/// Whether a handshake in this TLS version alone succeeds.
async fn handshake(broker: &dyn Broker, root_pem: &str, version: &'static rustls::SupportedProtocolVersion) -> bool {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root_pem.as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(broker.endpoint().address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    connector.connect("localhost".try_into().unwrap(), stream).await.is_ok()
}

/// Leaves a retained message and a session with a queued message behind, ends the broker, starts it again, and tells what is left:
/// whether the retained message, the session, and the queued message.
async fn left_after(choice: &Choice, storage: Storage, kill: bool) -> (bool, bool, bool) {
    let mut broker = start(choice, BrokerSpec { storage, ..BrokerSpec::plain() }).await;
    let address = broker.endpoint().address;
    let (sleeper, mut events) = client(&*broker, "sleeper");
    until(&mut events, connack).await.unwrap();
    sleeper.subscribe("devices/sleeper/#", QoS::AtLeastOnce).await.unwrap();
    until(&mut events, |p| matches!(p, Packet::SubAck(_)).then_some(())).await.unwrap();
    drop((sleeper, events));
    let (waker, mut events) = client(&*broker, "waker");
    let puback = |p: &Packet| matches!(p, Packet::PubAck(_)).then_some(());
    waker.publish("devices/sleeper/command", QoS::AtLeastOnce, false, "wake").await.unwrap();
    until(&mut events, puback).await.unwrap();
    waker.publish("retained", QoS::AtLeastOnce, true, "kept").await.unwrap();
    until(&mut events, puback).await.unwrap();
    if kill {
        // One more turn of the broker's loop, so that the one before it is stored.
        waker.publish("turn", QoS::AtLeastOnce, false, "").await.unwrap();
        until(&mut events, puback).await.unwrap();
        broker.kill().await.unwrap();
    } else {
        broker.stop().await.unwrap();
    }
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "the broker still listens");
    broker.start().await.unwrap();
    assert_eq!(broker.endpoint().address, address);

    let (sleeper, mut events) = client(&*broker, "sleeper");
    let (_, session) = until(&mut events, connack).await.unwrap();
    // Something is sure to come last.
    sleeper.subscribe("end", QoS::AtLeastOnce).await.unwrap();
    sleeper.subscribe("retained", QoS::AtLeastOnce).await.unwrap();
    sleeper.publish("end", QoS::AtLeastOnce, false, "").await.unwrap();
    let (mut retained, mut queued) = (false, false);
    loop {
        let topic = until(&mut events, |p| match p {
            Packet::Publish(message) => Some(message.topic.clone()),
            _ => None,
        });
        match &topic.await.unwrap()[..] {
            b"retained" => retained = true,
            b"devices/sleeper/command" => queued = true,
            _ => return (retained, session, queued),
        }
    }
}

async fn a_kill_keeps_what_was_stored_at_each_change(choice: Choice) {
    assert_eq!(left_after(&choice, Storage::EachChange, true).await, (true, true, true));
}

async fn a_stop_keeps_what_is_stored_on_stop(choice: Choice) {
    assert_eq!(left_after(&choice, Storage::OnStop, false).await, (true, true, true));
    assert_eq!(left_after(&choice, Storage::OnStop, true).await, (false, false, false));
}

async fn a_broker_without_storage_forgets(choice: Choice) {
    assert_eq!(left_after(&choice, Storage::None, false).await, (false, false, false));
}

async fn two_brokers_do_not_meet(choice: Choice) {
    let (one, other) = (start(&choice, BrokerSpec::plain()).await, start(&choice, BrokerSpec::plain()).await);
    assert_ne!(one.endpoint().address, other.endpoint().address);
    let (to_one, mut of_one) = tap(&*one, Login::default()).await;
    let (to_other, mut of_other) = tap(&*other, Login::default()).await;
    to_one.publish("x", "one", 0, false).await.unwrap();
    to_other.publish("x", "other", 2, false).await.unwrap();
    assert_eq!((message(&mut of_one).await.payload.as_str(), message(&mut of_other).await.payload.as_str()), ("one", "other"));
}

async fn the_tap_comes_back_after_a_kill(choice: Choice) {
    for storage in [Storage::None, Storage::EachChange] {
        let mut broker = start(&choice, BrokerSpec { storage, ..BrokerSpec::plain() }).await;
        let (ours, mut events) = tap(&*broker, Login::default()).await;
        broker.kill().await.unwrap();
        // It notices, and says so, within a moment.
        let noticed = Instant::now();
        while ours.ready(Duration::ZERO).await.is_ok() {
            assert!(noticed.elapsed() < PATIENCE);
            tokio::task::yield_now().await;
        }
        broker.start().await.unwrap();
        ours.ready(PATIENCE).await.unwrap();
        ours.publish("devices/a/command", "again", 1, false).await.unwrap();
        assert_eq!(message(&mut events).await.payload, "again");
    }
    let broker = start(&choice, BrokerSpec::plain()).await;
    let (tap, _) = tap(&*broker, Login::default()).await;
    assert!(tap.publish("devices/+/command", "x", 1, false).await.is_err());
    assert!(tap.publish("a", "x", 3, false).await.is_err());
}

async fn a_bad_file_is_said_in_the_brokers_own_words(choice: Choice) {
    let world = World::new();
    let mut server = world.server.clone();
    server.chain_pem = "no certificate".into();
    let error = choice.start(BrokerSpec::server_tls(server)).await.unwrap_err().to_string();
    assert!(error.contains("Unable to load server certificate") && error.contains("ended at its start"), "{error}");
    let lacking = BrokerSpec { security: Security::MutualTls, ..BrokerSpec::server_tls(world.server) };
    let error = choice.start(lacking).await.unwrap_err().to_string();
    assert!(error.contains("mutual TLS needs the authority"), "{error}");
}

async fn both_ports_serve_and_the_plain_one_is_closed_by_a_restart(choice: Choice) {
    let world = World::new();
    let both = BrokerSpec { plain_beside: true, acl: Acl::Open, storage: Storage::OnStop, ..world.mutual() };
    let mut broker = start(&choice, both.clone()).await;
    let plain = broker.plain_endpoint().unwrap().clone();
    let (tape, _events) = Tape::new(Redactor::default());
    let filters = ["probe".to_owned()];
    let by_plain = || Tap::connect(&plain, Login::default(), &filters, &tape);
    assert!(by_plain().await.is_ok());
    assert!(enters(&*broker, world.login(Some(&world.operator))).await);
    assert!(!enters(&*broker, world.login(None)).await, "anonymous clients came in by the port with TLS");
    let alone = BrokerSpec { plain_beside: false, ..both };
    let error = broker.reload(alone.clone()).await.unwrap_err().to_string();
    assert!(error.contains("does not read again its listeners"), "{error}");
    broker.restart(alone).await.unwrap();
    assert!(broker.plain_endpoint().is_none() && by_plain().await.is_err());
    assert!(enters(&*broker, world.login(Some(&world.operator))).await);
}

fn revoked(identity: &Identity) -> Revoked {
    let mut revoked = Revoked::default();
    revoked.add(&serial_in(&identity.chain_pem).unwrap(), harness::ca::wall_clock());
    revoked
}

impl World {
    fn with_list(&self, revoked: &Revoked) -> BrokerSpec {
        let crl = self.pki.crl(revoked, harness::ca::wall_clock(), CRL_VALID_S).unwrap();
        BrokerSpec { crl: Some(crl), ..self.mutual() }
    }
}

async fn who_is_revoked_is_refused_once_the_list_is_read(choice: Choice) {
    let world = World::new();
    let (good, bad) = (world.login(Some(&world.operator)), world.pki.client("esp-1").unwrap());
    let mut broker = start(&choice, world.with_list(&Revoked::default())).await;
    assert!(enters(&*broker, world.login(Some(&bad))).await);
    broker.reload(world.with_list(&revoked(&bad))).await.unwrap();
    assert!(!enters(&*broker, world.login(Some(&bad))).await && enters(&*broker, good.clone()).await);
    broker.reload(world.with_list(&Revoked::default())).await.unwrap();
    assert!(enters(&*broker, world.login(Some(&bad))).await, "it is good again");
    let error = broker.reload(BrokerSpec { crl: Some("no list".into()), ..world.mutual() }).await.unwrap_err().to_string();
    assert!(error.contains("Unable to load certificate revocation file") && error.contains("may let everybody in"), "{error}");
    // A list that is too old: nobody is let in.
    let old = world.pki.crl(&Revoked::default(), harness::ca::wall_clock() - 2 * CRL_VALID_S, CRL_VALID_S).unwrap();
    broker.restart(BrokerSpec { crl: Some(old), ..world.mutual() }).await.unwrap();
    assert!(!enters(&*broker, good).await);
}

async fn a_user_who_is_gone_is_thrown_out(choice: Choice) {
    let user = |name: &str| User { name: name.into(), password: Secret::new("pw") };
    let spec = BrokerSpec { users: vec![user("alice"), user("bob")], ..BrokerSpec::plain() };
    let mut broker = start(&choice, spec.clone()).await;
    let (alice, _heard) = tap(&*broker, with_password("alice", "pw", None)).await;
    let (bob, _heard) = tap(&*broker, with_password("bob", "pw", None)).await;
    broker.reload(BrokerSpec { users: vec![user("bob")], ..spec }).await.unwrap();
    let thrown_out = Instant::now();
    while alice.ready(Duration::ZERO).await.is_ok() {
        assert!(thrown_out.elapsed() < PATIENCE, "alice is still there");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(bob.ready(Duration::ZERO).await.is_ok());
    assert!(!enters(&*broker, with_password("alice", "pw", None)).await);
}

async fn another_server_certificate_is_shown(choice: Choice) {
    let (world, other) = (World::new(), World::new());
    let mut broker = start(&choice, BrokerSpec::server_tls(world.server.clone())).await;
    broker.reload(BrokerSpec::server_tls(other.server.clone())).await.unwrap();
    assert!(!enters(&*broker, world.login(None)).await && enters(&*broker, other.login(None)).await);
    let unfit = Identity { key_pem: world.server.key_pem.clone(), ..other.server.clone() };
    let error = broker.reload(BrokerSpec::server_tls(unfit)).await.unwrap_err().to_string();
    assert!(error.contains("could not read its files again"), "{error}");
}

// ---- what a running Mosquitto does with what nobody guards

/// Has the broker with these files read them again, as a person would, and waits until it has.
async fn hang_up(broker: &dyn Broker, folder: &str) {
    let mut log = broker.log().lines();
    let found = Command::new("pgrep").args(["-f", &format!("{folder}/mosquitto.conf")]).output().unwrap();
    let pid = String::from_utf8(found.stdout).unwrap().trim().to_owned();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    let read = async { while !log.recv().await.unwrap().contains("Reloading config.") {} };
    tokio::time::timeout(PATIENCE, read).await.expect("the broker does not reload");
}

async fn trap_an_authority_is_not_read_again(choice: Choice) {
    let (world, other) = (World::new(), World::new());
    let mut broker = start(&choice, world.mutual()).await;
    let stranger = Login { user: None, tls: Some(Tls::trusting(world.pki.root_pem(), Some(&other.operator)).unwrap()) };
    let folder = left_of(&choice, broker.endpoint().address.port()).remove(0);
    let both = world.pki.device_ca_pem() + &other.pki.device_ca_pem();
    std::fs::write(format!("{folder}/clients.crt"), &both).unwrap();
    hang_up(&*broker, &folder).await;
    assert!(!enters(&*broker, stranger.clone()).await, "it does read its authorities again: the guard can go");
    // So it is refused here, and done by a restart.
    let spec = BrokerSpec { client_ca: Some(both), ..world.mutual() };
    let error = broker.reload(spec.clone()).await.unwrap_err().to_string();
    assert!(error.contains("does not read again the authority") && error.contains("restart it"), "{error}");
    broker.restart(spec).await.unwrap();
    assert!(enters(&*broker, stranger).await);
}

async fn trap_without_its_list_everybody_is_let_in(choice: Choice) {
    let world = World::new();
    let bad = world.pki.client("esp-1").unwrap();
    let mut broker = start(&choice, world.with_list(&revoked(&bad))).await;
    assert!(!enters(&*broker, world.login(Some(&bad))).await);
    let folder = left_of(&choice, broker.endpoint().address.port()).remove(0);
    std::fs::remove_file(format!("{folder}/clients.crl")).unwrap();
    hang_up(&*broker, &folder).await;
    assert!(enters(&*broker, world.login(Some(&bad))).await, "it refuses by the list it had: the guard can go");
    assert!(!enters(&*broker, world.login(None)).await, "a certificate is still demanded");
    broker.restart(world.with_list(&revoked(&bad))).await.unwrap();
    assert!(!enters(&*broker, world.login(Some(&bad))).await);
}

async fn dropped_nothing_is_left(choice: Choice) {
    let mut broker = start(&choice, BrokerSpec { storage: Storage::EachChange, ..BrokerSpec::plain() }).await;
    let address = broker.endpoint().address;
    let port = address.port();
    assert_eq!(left_of(&choice, port).len(), 1);
    broker.start().await.unwrap();
    drop(broker);
    gone("the broker", || std::net::TcpStream::connect(address).is_err()).await;
    gone("what it needed", || left_of(&choice, port).is_empty()).await;
}

/// What there is of the broker on this port: its folder, or its container.
fn left_of(choice: &Choice, port: u16) -> Vec<String> {
    if let Choice::Container(_) = choice {
        return containers(port);
    }
    let listener = format!("listener {port} 127.0.0.1");
    let folders = std::fs::read_dir(std::env::temp_dir()).unwrap().map(|entry| entry.unwrap().path());
    let ours =
        folders.filter(|folder| folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("harness-broker-")));
    let conf = |folder: &std::path::PathBuf| std::fs::read_to_string(folder.join("mosquitto.conf")).unwrap_or_default();
    ours.filter(|folder| conf(folder).contains(&listener)).map(|folder| folder.display().to_string()).collect()
}

/// The containers made for this port, running or not, as the engine's own client tells.
fn containers(port: u16) -> Vec<String> {
    let docker = |arguments: &[&str]| {
        let told = Command::new("docker").args(arguments).output().unwrap();
        // One that goes meanwhile is an error among answers.
        String::from_utf8(told.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let ours = docker(&["ps", "--all", "--quiet", "--filter", "label=harness.owner"]);
    if ours.is_empty() {
        return ours;
    }
    let mut inspect = vec!["inspect", "--format", "{{.Id}} {{json .HostConfig.PortBindings}}"];
    inspect.extend(ours.iter().map(String::as_str));
    let bound = docker(&inspect);
    let port = format!("\"HostPort\":\"{port}\"");
    bound.iter().filter(|line| line.contains(&port)).map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

async fn gone(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "{what} is still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A harness that starts two brokers, says where, and waits to be killed.
async fn victim(choice: Choice) {
    let brokers = [start(&choice, BrokerSpec::plain()).await, start(&choice, BrokerSpec::plain()).await];
    for broker in &brokers {
        println!("{}", broker.endpoint().address);
    }
    tokio::time::sleep(6 * PATIENCE).await;
}

async fn killed_the_harness_leaves_nothing(choice: Choice) {
    let mut harness = Command::new(std::env::current_exe().unwrap());
    let mut harness = harness.args([VICTIM, &choice.to_string()]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(harness.stdout.take().unwrap()).lines().take(2).map(Result::unwrap);
    let left: Vec<std::net::SocketAddr> = lines.map(|line| line.parse().unwrap()).collect();
    assert_eq!(left.len(), 2, "the victim did not start");
    for address in &left {
        assert!(std::net::TcpStream::connect(address).is_ok() && left_of(&choice, address.port()).len() == 1);
    }
    harness.kill().unwrap();
    harness.wait().unwrap();
    for address in left {
        gone("the broker", || std::net::TcpStream::connect(address).is_err()).await;
        gone("what it needed", || left_of(&choice, address.port()).is_empty()).await;
    }
}

async fn what_a_dead_harness_left_is_removed_by_the_next(choice: Choice) {
    let harness = || {
        let mut harness = Command::new(std::env::current_exe().unwrap());
        let mut harness = harness.args([VICTIM, &choice.to_string()]).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(harness.stdout.take().unwrap()).lines().take(2).map(Result::unwrap);
        let addresses: Vec<std::net::SocketAddr> = lines.map(|line| line.parse().unwrap()).collect();
        (harness, addresses)
    };
    let left = |addresses: &[std::net::SocketAddr]| addresses.iter().map(|a| left_of(&choice, a.port()).len()).sum::<usize>();
    let (mut first, of_first) = harness();
    // The reaper first, or it would do what it is for.
    let mut reapers = Command::new("pgrep");
    let reaper = reapers.args(["-P", &first.id().to_string(), "-f", "__reaper"]).output().unwrap();
    let reaper = String::from_utf8(reaper.stdout).unwrap().trim().to_owned();
    assert!(Command::new("kill").args(["-KILL", &reaper]).status().unwrap().success());
    first.kill().unwrap();
    first.wait().unwrap();
    let (mut second, of_second) = harness();
    assert_eq!((left(&of_first), left(&of_second)), (0, 2), "the dead one's are removed, the living one's are not");
    second.kill().unwrap();
    second.wait().unwrap();
    gone("what the second needed", || left(&of_second) == 0).await;
}

async fn an_image_that_is_not_there_is_not_pulled(_: Choice) {
    let began = Instant::now();
    let absent = Choice::Container(Some("localhost/no-such-image:1".into()));
    let error = absent.start(BrokerSpec::plain()).await.unwrap_err().to_string();
    assert!(error.contains("has no image localhost/no-such-image:1") && error.contains("HARNESS_PULL=missing"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(absent.prepare().await.unwrap_err().to_string(), error);
}

async fn it_listens_on_loopback_alone(choice: Choice) {
    let broker = start(&choice, BrokerSpec::plain()).await;
    let port = broker.endpoint().address.port();
    let ports = ["inspect", "--format", "{{json .NetworkSettings.Ports}}", &left_of(&choice, port)[0]];
    let ports = Command::new("docker").args(ports).output().unwrap();
    let ports: serde_json::Value = serde_json::from_slice(&ports.stdout).unwrap();
    let open: Vec<_> = ports.as_object().unwrap().values().filter_map(|bound| bound.as_array()).flatten().collect();
    assert_eq!(open, [&serde_json::json!({ "HostIp": "127.0.0.1", "HostPort": port.to_string() })], "{ports}");
}

async fn auto_says_which_and_why() {
    let Ok(Started { broker, said }) = Choice::Auto.start(BrokerSpec::plain()).await else { return };
    let Backend { name, version, .. } = broker.backend();
    assert!(said.starts_with(&format!("broker: {name} mosquitto {version}")) && !said.contains('\n'), "{said}");
    assert!(version.starts_with("2."), "{version}");
    assert_eq!(said.contains("not process: "), *name == "bundled", "{said}");
    let container_comes_first = cfg!(feature = "container") && *name != "container";
    assert_eq!(said.contains("(not container: "), container_comes_first, "{said}");
    let external: Choice = format!("external:{}", broker.endpoint().address).parse().unwrap();
    let Started { broker: mut same, said } = external.start(BrokerSpec::plain()).await.unwrap();
    assert_eq!(said, format!("broker: external broker at {}", broker.endpoint().address));
    assert!(enters(&*same, Login::default()).await);
    assert!(same.start().await.is_ok() && same.stop().await.is_err() && same.kill().await.is_err());
}
