//! The device's way from boot to a working session, and each way back.

mod world;

use device_core::input::{Input, NetFailure, NetFailureKind};
use device_core::output::{Output, Trust};
use device_core::report::Report;
use device_core::state::State;
use device_core::storage::Write;
use device_core::time::UnixTime;
use world::{DEVICE_ID, Owed, World, pki};

/// Answers honestly until the next wish is this one; `None` when it never is.
fn until(world: &mut World, wish: &str) -> Option<()> {
    for _ in 0..200 {
        if world.owed.front().is_some_and(|o| o.word() == wish) {
            return Some(());
        }
        if !world.answer() && !world.pass_to_deadline() {
            return None;
        }
    }
    None
}

fn provisioned() -> World {
    let mut world = World::new(1, true, &[]);
    world.post_provision(&World::credentials(DEVICE_ID));
    world
}

fn connected() -> World {
    let mut world = provisioned();
    assert!(world.heals_within(60_000));
    while world.answer() {}
    world
}

fn said(world: &World, name: &str) -> usize {
    world.reports.iter().filter(|r| r.word().name == name).count()
}

#[test]
fn a_first_boot_ends_in_a_session() {
    for v5 in [true, false] {
        let mut world = World::new(7, v5, &[]);
        assert_eq!(world.device.state(), State::ApMode);
        world.post_provision(&World::credentials(DEVICE_ID));
        assert!(world.responses.is_empty(), "200 only after storage said so");
        while world.answer() {}
        assert_eq!(world.device.state(), State::MqttConnected);
        assert_eq!(world.responses[0].1.body, r#"{"message":"Credentials saved","status":"ok"}"#);
        let story: Vec<_> = world.reports.iter().filter(|r| r.word().story).map(|r| r.line(world.now)).collect();
        let story = story.join("\n").lines().map(|l| l.split_once(") ").map_or(l, |(_, t)| t)).collect::<Vec<_>>().join("\n");
        insta::with_settings!({ prepend_module_to_snapshot => false }, { insta::assert_snapshot!("first-boot", story) });
    }
}

#[test]
fn readings_wait_while_the_broker_is_away_and_go_in_order() {
    let mut world = connected();
    world.close();
    for _ in 0..7 {
        world.console("telemetry");
    }
    assert_eq!((world.device.queued(), world.device.ledger().dropped_full), (5, 2), "the limit is five");
    world.power_cycle(false);
    assert_eq!(world.device.queued(), 5, "the queue survives the power cut");
    world.reports.clear();
    assert!(world.heals_within(60_000));
    while world.answer() {}
    let delivered: Vec<_> =
        world.reports.iter().filter_map(|r| if let Report::Delivered { number } = r { Some(*number) } else { None }).collect();
    assert_eq!(delivered, [3, 4, 5, 6, 7]);
    assert!(world.reports.contains(&Report::QueueDrained { count: 5 }));
    world.console("telemetry");
    while world.answer() {}
    assert!(world.reports.contains(&Report::Delivered { number: 8 }), "numbers go on");
}

#[test]
fn a_wrong_password_leads_back_to_the_access_point() {
    let mut world = provisioned();
    until(&mut world, "join").expect("joins");
    for _ in 0..3 {
        until(&mut world, "join").expect("joins again");
        world.answer_badly(0);
    }
    assert_eq!(world.device.state(), State::ApMode);
    assert!(world.get("/status").is_some_and(|r| r.body.contains(r#""last_error":"wrong-password""#)));
    assert!(world.now.0 <= 8_000, "{:?}", world.now);
    world.post_provision(&World::credentials(DEVICE_ID));
    assert!(world.heals_within(60_000), "other credentials are taken");
    world.power_cycle(false);
    for _ in 0..20 {
        until(&mut world, "join").expect("what worked once is tried for ever");
        world.answer_badly(1);
    }
}

#[test]
fn provisioning_twice_is_a_conflict() {
    let mut world = provisioned();
    world.post_provision(&World::credentials("device_0071"));
    assert_eq!(world.responses.last().map(|(_, r)| r.status), Some(409), "while the first is stored");
    assert!(world.heals_within(60_000));
    world.post_provision(&World::credentials("device_0071"));
    assert_eq!(world.responses.last().map(|(_, r)| r.status), Some(409));
    assert_eq!(world.durable.credentials.as_ref().map(|c| c.device_id.as_str()), Some(DEVICE_ID));
}

#[test]
fn storage_that_fails_is_said_and_nothing_changes() {
    for (way, status) in [(0, 503), (1, 500)] {
        let mut world = provisioned();
        world.answer_badly(way);
        assert_eq!(world.responses.last().map(|(_, r)| r.status), Some(status));
        assert_eq!((world.device.state(), &world.durable.credentials), (State::ApMode, &None));
        world.post_provision(&World::credentials(DEVICE_ID));
        assert!(world.heals_within(60_000));
    }
}

#[test]
fn a_refused_token_leads_back_to_the_access_point_and_the_key_stays() {
    let mut world = provisioned();
    until(&mut world, "sign-csr").expect("asks the CA");
    world.answer_badly(0);
    assert_eq!(world.device.state(), State::ApMode);
    while world.answer() {}
    assert_eq!(world.durable.credentials, None);
    assert!(world.get("/status").is_some_and(|r| r.body.contains(r#""last_error":"ca-refused-401""#)));
    let key = world.durable.identity.clone().expect("the key stays").key;
    world.post_provision(&World::credentials(DEVICE_ID));
    assert!(world.heals_within(60_000));
    assert_eq!(world.durable.identity.map(|i| i.key), Some(key));
}

#[test]
fn a_troubled_ca_is_asked_again_with_the_same_request() {
    for way in 1..8 {
        let mut world = provisioned();
        until(&mut world, "sign-csr").expect("asks the CA");
        let Some(Owed::Post(first)) = world.owed.front().cloned() else { panic!("a post") };
        world.answer_badly(way);
        assert_eq!(world.device.state(), State::SubmitCsr, "way {way}");
        assert_eq!(said(&world, "certificate-stored"), 0);
        until(&mut world, "sign-csr").expect("asks again");
        let Some(Owed::Post(second)) = world.owed.front() else { panic!("a post") };
        assert_eq!(first.body, second.body);
        assert!(world.heals_within(60_000));
    }
}

#[test]
fn power_may_go_at_every_write() {
    for wish in ["store credentials", "store key", "store certificate"] {
        for written in [false, true] {
            let mut world = provisioned();
            until(&mut world, wish).expect(wish);
            world.power_cycle(written);
            assert!(world.heals_within(60_000), "{wish}, written: {written}");
        }
    }
}

/// Moves the device clock until `wish` is there.
fn jump_to_renewal(world: &mut World) {
    world.console(&format!("clock jump {}", pki::LIFE_S * 1000 * 2 / 3));
    world.pass(0);
    assert_eq!(said(world, "renewal-due"), 1);
}

#[test]
fn a_certificate_is_renewed_before_it_expires() {
    let mut world = connected();
    let old = world.durable.identity.clone().expect("enrolled");
    jump_to_renewal(&mut world);
    assert!(until(&mut world, "store next-key").is_some() || world.durable.next_key.is_some());
    until(&mut world, "renew").expect("asks to renew");
    world.answer_badly(1);
    assert_eq!((said(&world, "renewal-failed"), world.durable.identity.as_ref()), (1, Some(&old)), "the old identity stays");
    until(&mut world, "store renewal").expect("stores");
    assert_eq!(world.durable.identity.as_ref(), Some(&old));
    assert!(world.answer());
    assert_eq!(said(&world, "renewal-stored"), 1);
    let new = world.durable.identity.clone().expect("renewed");
    assert!(new.key != old.key && world.durable.next_key.is_none());
    assert!(world.heals_within(60_000));
}

#[test]
fn power_may_go_in_a_renewal() {
    for wish in ["store next-key", "store renewal"] {
        for written in [false, true] {
            let mut world = connected();
            jump_to_renewal(&mut world);
            until(&mut world, wish).expect(wish);
            world.power_cycle(written);
            assert!(world.heals_within(60_000), "{wish}, written: {written}");
            for _ in 0..20 {
                while world.answer() {}
                world.pass_to_deadline();
            }
            assert_eq!(world.durable.next_key, None, "{wish}, written: {written}: the renewal is finished");
        }
    }
}

#[test]
fn an_expired_certificate_that_the_ca_does_not_renew_leads_back_to_the_access_point() {
    for (status, kind) in [(Some(403), None), (None, Some(NetFailureKind::Alert))] {
        let mut world = connected();
        world.console(&format!("clock jump {}", pki::LIFE_S * 1000));
        world.power_cycle(false);
        until(&mut world, "renew").expect("tries to renew");
        assert_eq!((said(&world, "certificate-expired"), world.device.state()), (1, State::SubmitCsr));
        world.owed.pop_front();
        match (status, kind) {
            (Some(status), _) => world.tell(Input::CaReplied { status, body: b"{}" }),
            (_, Some(kind)) => world.tell(Input::CaFailed(&NetFailure { kind, text: "certificate expired".into() })),
            _ => unreachable!("one of the two"),
        }
        assert_eq!(world.device.state(), State::ApMode);
        assert!(world.heals_within(60_000), "a new token helps");
    }
}

#[test]
fn a_session_that_is_cut_at_once_is_tried_ever_more_slowly() {
    let mut world = connected();
    let mut waits = Vec::new();
    for _ in 0..9 {
        world.close();
        let before = world.now;
        until(&mut world, "connect").expect("tries again");
        waits.push(world.now.since(before).as_secs());
        until(&mut world, "connack").expect("asks");
        world.answer();
        assert_eq!(world.device.state(), State::MqttConnected);
    }
    assert!(waits[8] >= 60 && waits[8] <= 120, "{waits:?}");
    for _ in 0..40 {
        while world.answer() {}
        world.pass(1000);
    }
    world.close();
    let before = world.now;
    until(&mut world, "connect").expect("tries again");
    assert!(world.now.since(before).as_secs() <= 2, "stable for 30 s: a short wait again");
}

#[test]
fn saved_settings_take_effect_by_a_new_connection() {
    let mut world = World::new(3, true, &[("BACKEND_URL", ""), ("BACKEND_CA", ""), ("SNTP_HOST", "")]);
    world.console(&format!("provision {}", World::credentials(DEVICE_ID)));
    assert!(world.heals_within(60_000));
    assert!(world.reports.contains(&Report::SecurityLevel { level: "plain".into() }));
    assert!(world.durable.credentials.as_ref().is_some_and(|c| c.confirmed));
    while world.answer() {}
    world.console("telemetry");
    world.console("set MQTT_USE_TLS true");
    world.console("set MQTT_BROKER_PORT 8884");
    world.console("save");
    until(&mut world, "store settings").expect("stores");
    world.answer();
    assert!(world.reports.contains(&Report::SettingsSaved { count: 2 }));
    assert!(world.heals_within(60_000));
    while world.answer() {}
    assert!(world.reports.iter().any(|r| matches!(r, Report::MqttConnecting { uri, .. } if uri == "mqtts://broker.test:8884")));
    assert_eq!(world.device.ledger().delivered, 1, "nothing is lost");
    world.console("set MQTT_PORT 0");
    world.console("air add lab 6 -40 - nonsense");
    assert_eq!(said(&world, "command-refused"), 2);
}

#[test]
fn without_a_date_the_device_goes_on_and_goes_on_asking() {
    let mut world = provisioned();
    for _ in 0..3 {
        until(&mut world, "time").expect("asks");
        assert_eq!(world.device.state(), State::WifiConnected);
        world.answer_badly(0);
    }
    assert_eq!((said(&world, "time-unknown"), world.device.unix_time(world.now)), (1, None));
    until(&mut world, "sign-csr").expect("goes on");
    world.answer();
    assert!(world.reports.contains(&Report::CertificateRefused { why: "not-yet-valid".into() }));
    assert!(world.heals_within(60_000), "once the server answers");
    assert!(world.device.unix_time(world.now) > Some(UnixTime(0)));
}

#[test]
fn insecure_is_said_before_it_is_done() {
    let mut world = World::new(1, true, &[("BACKEND_URL", ""), ("MQTT_USE_TLS", "true"), ("SNTP_HOST", "")]);
    world.console("set MQTT_TLS_INSECURE true");
    world.console("save");
    world.answer();
    let place = |world: &World, name: &str| world.reports.iter().position(|r| r.word().name == name);
    world.console(&format!("provision {}", World::credentials(DEVICE_ID)));
    while world.owed.front().is_some_and(|o| o.word() != "join") {
        world.answer();
    }
    world.owed.clear();
    world.device.handle(world.now, Input::WifiUp { ip: [10, 0, 0, 2] });
    let mut trust = None;
    while let Some(output) = world.device.poll() {
        match output {
            device_core::output::Output::Report(report) => world.reports.push(report),
            device_core::output::Output::Connect(connect) => trust = Some(connect.trust),
            _ => {}
        }
    }
    assert_eq!(trust, Some(Trust::Anybody));
    assert!(place(&world, "tls-insecure") < place(&world, "mqtt-connecting") && place(&world, "tls-insecure").is_some());
    assert!(world.reports.contains(&Report::TrustAnchor { source: "none".into() }));
}

#[test]
fn a_factory_reset_forgets_everything() {
    let mut world = connected();
    world.close();
    world.console("telemetry");
    world.console("factory-reset");
    until(&mut world, &format!("store {}", Write::Reset.name())).expect("stores");
    world.answer();
    assert_eq!(
        (world.device.state(), world.durable == device_core::storage::Stored::default(), world.queue.len()),
        (State::ApMode, true, 0)
    );
}

#[test]
fn a_factory_reset_that_is_cut_off_forgets_the_readings_at_the_next_start() {
    let mut world = connected();
    world.close();
    world.console("telemetry");
    world.console("factory-reset");
    until(&mut world, &format!("store {}", Write::Reset.name())).expect("stores");
    assert_eq!(world.queue.len(), 1);
    world.power_cycle(true);
    assert_eq!((world.device.state(), world.device.queued(), world.queue.len()), (State::ApMode, 0, 0));
    assert_eq!(said(&world, "factory-reset"), 1);
}

#[test]
fn a_broker_that_is_left_is_asked_for_the_will() {
    let mut world = connected();
    world.console("set MQTT_CLIENT_ID another");
    world.console("save");
    assert!(world.owed.iter().any(|o| o.word() == format!("store {}", Write::Settings.name())));
    world.device.handle(world.now, Input::Stored(Ok(())));
    let mut sent = Vec::new();
    while let Some(output) = world.device.poll() {
        if let Output::Send(bytes) = output {
            sent.push(bytes);
        }
    }
    assert_eq!(sent, [[0xe0, 1, 4]], "DISCONNECT with will message");
}

#[test]
fn what_the_broker_refuses_is_said_and_dropped() {
    let mut world = connected();
    world.console("telemetry");
    until(&mut world, "puback").expect("sent");
    world.answer_badly(0);
    assert!(world.reports.contains(&Report::PublishRefused { topic: format!("devices/{DEVICE_ID}/telemetry"), code: 0x87 }));
    assert_eq!((world.device.ledger().dropped_refused, world.device.queued(), world.device.state()), (1, 0, State::MqttConnected));
    let stats = world.get("/api/mqtt/stats").expect("an answer").body;
    assert!(
        stats.contains(r#""dropped":1"#)
            && stats.contains(r#""tls_mutual":true"#)
            && stats.contains(r#""reliability_percentage":0"#),
        "{stats}"
    );
}

#[test]
fn an_answer_that_does_not_come_ends_the_connection() {
    let mut world = connected();
    world.console("telemetry");
    until(&mut world, "puback").expect("sent");
    world.withhold();
    let before = world.now;
    while world.device.state() == State::MqttConnected && world.pass_to_deadline() {
        while world.owed.front().is_some_and(|o| o.word() == "pingresp") {
            world.answer();
        }
    }
    assert!(world.now.since(before).as_secs() <= 10, "{:?}", world.now.since(before));
    assert!(world.heals_within(60_000));
    while world.answer() {}
    assert!(world.reports.contains(&Report::Delivered { number: 1 }));
}

#[test]
fn new_credentials_after_an_expired_certificate_bring_another_key() {
    let mut world = connected();
    let key = world.durable.identity.clone().expect("enrolled").key;
    world.console(&format!("clock jump {}", pki::LIFE_S * 1000));
    world.power_cycle(false);
    until(&mut world, "renew").expect("tries to renew");
    world.answer_badly(0);
    while world.answer() {}
    world.post_provision(&World::credentials("device_0071"));
    until(&mut world, "sign-csr").expect("asks the CA");
    assert!(world.durable.identity.as_ref().is_some_and(|i| i.key != key), "the CA knows the old one as another device's");
}

#[test]
fn a_time_server_that_is_taken_away_is_not_waited_for() {
    let mut world = World::new(1, true, &[("SNTP_HOST", "")]);
    world.console("set SNTP_HOST time.test");
    world.console("save");
    world.answer();
    world.post_provision(&World::credentials(DEVICE_ID));
    until(&mut world, "time").expect("asks");
    world.console("set SNTP_HOST");
    world.console("save");
    while world.owed.iter().any(|o| o.word() == "store settings") {
        world.owed.rotate_left(1);
        world.answer();
    }
    assert_eq!((world.device.state(), said(&world, "time-unknown")), (State::SubmitCsr, 1));
}
