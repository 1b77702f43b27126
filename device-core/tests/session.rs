//! The MQTT session against a broker played by the test, each rule in both versions.

#[macro_use]
mod fake_broker;

use device_core::config::MqttVersion::{self, V5, V311};
use device_core::session::{IN_FLIGHT_MAX, NoRoom, RECEIVE_MAXIMUM, SESSION_EXPIRY_S, Session, SessionConfig, SessionEvent};
use fake_broker::*;

in_both_versions!(
    connect_says_what_it_was_told,
    password_alone_goes_with_an_empty_user_name,
    unsayable_connect_closes,
    accepted_connection_subscribes_first,
    no_filters_no_subscribe,
    refusal_is_told_and_closes,
    missing_connack_closes,
    publishes_need_a_session_and_room,
    acknowledged_publish_is_forgotten,
    resumed_session_resends_in_order_with_dup,
    forgotten_session_sends_anew_and_subscribes,
    fresh_session_subscribes_though_the_broker_knows_it,
    lost_suback_subscribes_again,
    lost_connack_subscribes_again,
    refused_filter_is_told_and_asked_again_on_the_next_connection,
    forgotten_publish_stays_new_until_sent,
    keepalive_counts_from_the_last_packet_sent,
    earliest_pingresp_deadline_wins,
    keepalive_zero_never_pings,
    message_is_delivered_and_acknowledged,
    half_packet_is_forgotten_with_the_connection,
    unsent_bytes_are_forgotten_with_the_connection,
    nothing_is_heard_after_close,
    disconnect_says_so_once,
    leaving_has_the_will_published,
    ids_in_use_are_skipped,
    unknown_puback_changes_nothing,
    unpublishable_topic_is_refused_here,
    debug_shows_no_secret,
    ticks_are_harmless_without_a_connection,
);

fn connect_says_what_it_was_told(version: MqttVersion) {
    let mut rig = Rig::with(full_config(version));
    let out = rig.connect();
    let properties = match version {
        V5 => vec![(0x11, SESSION_EXPIRY_S), (0x21, u32::from(RECEIVE_MAXIMUM)), (0x27, 1024)],
        V311 => vec![],
    };
    let expected = Connect {
        client_id: "d1".into(),
        clean: false,
        keepalive_s: KEEPALIVE_S,
        username: Some("user".into()),
        password: Some(b"hunter2".into()),
        will: Some(("devices/d1/status".into(), b"offline".into(), true)),
        properties,
    };
    assert_eq!(out, Out { said: vec![Said::Connect(Box::new(expected))], told: vec![] });
}

fn password_alone_goes_with_an_empty_user_name(version: MqttVersion) {
    let mut rig = Rig::with(SessionConfig { username: None, ..full_config(version) });
    let out = rig.connect();
    let Said::Connect(connect) = &out.said[0] else { panic!("{out:?}") };
    assert_eq!(connect.username.as_deref(), Some(""));
    assert_eq!(connect.password.as_deref(), Some(&b"hunter2"[..]));
}

fn unsayable_connect_closes(version: MqttVersion) {
    for client_id in ["x".repeat(65_536), "a\0b".into()] {
        let mut rig = Rig::with(SessionConfig { client_id, ..config(version) });
        let out = rig.connect();
        assert_eq!(out.said, []);
        assert!(out.closed().expect("closed").starts_with("CONNECT cannot be said"), "{out:?}");
    }
}

fn accepted_connection_subscribes_first(version: MqttVersion) {
    let mut rig = Rig::new(version);
    rig.connect();
    let out = rig.receive(&connack(version, false, 0, &[]));
    assert_eq!(out.told, [SessionEvent::Up { session_present: false }]);
    assert_eq!(out.said, [Said::Subscribe { id: 1, filters: vec![(FILTER.into(), 1)] }]);
    assert_eq!(rig.deadline(), Some((ACK_TIMEOUT_MS, true)));
    let out = rig.receive(&suback(version, 1, &[1]));
    assert_eq!(out, Out { said: vec![], told: vec![SessionEvent::Subscribed { topic: FILTER.into() }] });
    assert_eq!(rig.deadline(), Some((60_000, false)));
}

fn no_filters_no_subscribe(version: MqttVersion) {
    let mut rig = Rig::with(SessionConfig { subscriptions: vec![], ..config(version) });
    rig.connect();
    let out = rig.receive(&connack(version, false, 0, &[]));
    assert_eq!(out, Out { said: vec![], told: vec![SessionEvent::Up { session_present: false }] });
}

fn refusal_is_told_and_closes(version: MqttVersion) {
    let (code, why) = match version {
        V5 => (0x87, "the broker refused the session: not authorized (0x87)"),
        V311 => (5, "the broker refused the session: not authorized (0x05)"),
    };
    let mut rig = Rig::new(version);
    rig.connect();
    let out = rig.receive(&connack(version, false, code, &[]));
    assert_eq!(out, Out { said: vec![], told: vec![SessionEvent::Refused { code }, SessionEvent::Close(why.into())] });
    assert_eq!((rig.deadline(), rig.session.has_room()), (None, false));
}

fn missing_connack_closes(version: MqttVersion) {
    let mut rig = Rig::new(version);
    rig.connect();
    assert_eq!(rig.deadline(), Some((ACK_TIMEOUT_MS, true)));
    assert_eq!(rig.after(ACK_TIMEOUT_MS - 1), Out::default());
    let out = rig.after(1);
    assert_eq!(out.closed(), Some("no CONNACK within 10000 ms"));
    assert_eq!(rig.deadline(), None);
}

fn publishes_need_a_session_and_room(version: MqttVersion) {
    let mut rig = Rig::new(version);
    let m = message("t", b"", false);
    assert_eq!(rig.session.publish(rig.now, 0, m.clone()), Err(NoRoom));
    rig.connect();
    assert_eq!(rig.session.publish(rig.now, 0, m.clone()), Err(NoRoom));
    let mut rig = Rig::up(version);
    for token in 0..u64::from(IN_FLIGHT_MAX) {
        assert!(rig.session.has_room());
        assert_eq!(rig.publish(token).said.len(), 1);
    }
    assert!(!rig.session.has_room());
    assert_eq!(rig.session.publish(rig.now, 99, m), Err(NoRoom));
    assert!(!rig.session.holds(99));
    rig.receive(&puback(2, 0));
    assert!(rig.session.has_room());
}

fn acknowledged_publish_is_forgotten(version: MqttVersion) {
    let mut rig = Rig::up(version);
    let out = rig.publish(7);
    let published = Said::Publish { id: Some(2), dup: false, retain: false, topic: "t".into(), payload: b"7".into() };
    assert_eq!(out, Out { said: vec![published], told: vec![] });
    assert!(rig.session.holds(7));
    assert_eq!(rig.deadline(), Some((ACK_TIMEOUT_MS, true)));
    assert_eq!(rig.receive(&puback(2, 0)), Out { said: vec![], told: vec![SessionEvent::Acked { token: 7 }] });
    assert!(!rig.session.holds(7));
    assert_eq!(rig.reconnect(true, &[]).said, []);
}

fn resumed_session_resends_in_order_with_dup(version: MqttVersion) {
    let mut rig = Rig::up(version);
    for token in 0..4 {
        rig.publish(token);
    }
    rig.receive(&puback(3, 0));
    let out = rig.reconnect(true, &[]);
    assert_eq!(out.subscribe_id(), None);
    assert_eq!(out.publishes(), [(2, true), (4, true), (5, true)]);
    assert_eq!(rig.publish(9).publishes(), [(6, false)]);
    for (id, token) in [(2, 0), (4, 2), (5, 3), (6, 9)] {
        assert_eq!(rig.receive(&puback(id, 0)).told, [SessionEvent::Acked { token }]);
    }
}

fn forgotten_session_sends_anew_and_subscribes(version: MqttVersion) {
    let mut rig = Rig::up(version);
    rig.publish(0);
    rig.publish(1);
    let out = rig.reconnect(false, &[]);
    assert_eq!(out.told, [SessionEvent::Up { session_present: false }]);
    let subscribe_id = out.subscribe_id().expect("a SUBSCRIBE");
    assert_eq!(out.publishes().iter().map(|p| p.1).collect::<Vec<_>>(), [false, false]);
    assert!(out.publishes().iter().all(|p| p.0 != subscribe_id));
    // The broker has them in its new session now.
    assert!(rig.reconnect(true, &[]).publishes().iter().all(|p| p.1));
}

fn fresh_session_subscribes_though_the_broker_knows_it(version: MqttVersion) {
    let mut rig = Rig::new(version);
    rig.connect();
    let out = rig.receive(&connack(version, true, 0, &[]));
    assert_eq!(out.told, [SessionEvent::Up { session_present: true }]);
    assert!(out.subscribe_id().is_some());
}

fn lost_suback_subscribes_again(version: MqttVersion) {
    let mut rig = Rig::new(version);
    rig.connect();
    rig.receive(&connack(version, false, 0, &[]));
    let id = rig.reconnect(true, &[]).subscribe_id().expect("a SUBSCRIBE");
    rig.receive(&suback(version, id, &[0]));
    assert_eq!(rig.reconnect(true, &[]).subscribe_id(), None);
}

fn lost_connack_subscribes_again(version: MqttVersion) {
    let mut rig = Rig::up(version);
    rig.session.transport_closed();
    rig.connect();
    // The CONNACK of that connection said session_present=0, and did not arrive: now the broker has a session without subscriptions.
    assert!(rig.reconnect(true, &[]).subscribe_id().is_some());
}

fn refused_filter_is_told_and_asked_again_on_the_next_connection(version: MqttVersion) {
    let mut rig = Rig::with(SessionConfig { subscriptions: vec!["a".into(), "b".into()], ..config(version) });
    rig.connect();
    rig.receive(&connack(version, false, 0, &[]));
    let out = rig.receive(&suback(version, 1, &[1, 0x80]));
    let told = [SessionEvent::Subscribed { topic: "a".into() }, SessionEvent::SubscribeRefused { topic: "b".into(), code: 0x80 }];
    assert_eq!(out, Out { said: vec![], told: told.into() });
    assert_eq!(rig.after(ACK_TIMEOUT_MS).said, []);
    assert!(rig.reconnect(true, &[]).subscribe_id().is_some());
}

fn forgotten_publish_stays_new_until_sent(version: MqttVersion) {
    let mut rig = Rig::up(version);
    rig.publish(0);
    // The broker forgot the session, and the connection went before anything could be sent in the new one.
    rig.session.transport_closed();
    rig.connect();
    rig.session.transport_closed();
    rig.connect();
    let out = rig.receive(&connack(version, false, 0, &[]));
    assert_eq!(out.publishes(), [(2, false)]);
}

fn keepalive_counts_from_the_last_packet_sent(version: MqttVersion) {
    let mut rig = Rig::up(version);
    assert_eq!(rig.deadline(), Some((60_000, false)));
    assert_eq!(rig.after(59_999), Out::default());
    rig.publish(1);
    rig.receive(&puback(2, 0));
    assert_eq!(rig.deadline(), Some((60_000, false)));
    assert_eq!(rig.after(59_999), Out::default());
    assert_eq!(rig.after(1).said, [Said::PingReq]);
    assert_eq!(rig.deadline(), Some((ACK_TIMEOUT_MS, true)));
    assert_eq!(rig.receive(&PINGRESP), Out::default());
    assert_eq!(rig.deadline(), Some((60_000, false)));
    // What the broker sends does not count, what we answer does.
    rig.after(30_000);
    rig.receive(&publish(version, None, "a", b""));
    assert_eq!(rig.deadline(), Some((30_000, false)));
    rig.receive(&publish(version, Some(5), "a", b""));
    assert_eq!(rig.deadline(), Some((60_000, false)));
}

fn earliest_pingresp_deadline_wins(version: MqttVersion) {
    let mut rig = Rig::with(SessionConfig { keepalive_s: 5, ack_timeout_ms: 12_000, subscriptions: vec![], ..config(version) });
    rig.connect();
    rig.receive(&connack(version, false, 0, &[]));
    assert_eq!(rig.after(5_000).said, [Said::PingReq]);
    assert_eq!(rig.after(5_000).said, [Said::PingReq]);
    assert_eq!(rig.deadline(), Some((5_000, true)), "a PINGREQ is due first, and an answer is owed");
    rig.receive(&PINGRESP);
    assert_eq!(rig.after(5_000).said, [Said::PingReq]);
    // The second PINGREQ, sent 5 s ago, is the one that is late first.
    assert_eq!(rig.after(5_000).said, [Said::PingReq]);
    assert_eq!(rig.deadline(), Some((2_000, true)));
    let out = rig.after(2_000);
    assert_eq!(out.closed(), Some("no PINGRESP within 12000 ms"));
    assert_eq!(out.said, if version == V5 { vec![Said::Disconnect { code: 0x80 }] } else { vec![] });
}

fn keepalive_zero_never_pings(version: MqttVersion) {
    let mut rig = Rig::with(SessionConfig { keepalive_s: 0, subscriptions: vec![], ..config(version) });
    rig.connect();
    rig.receive(&connack(version, false, 0, &[]));
    assert_eq!(rig.deadline(), None);
    assert_eq!(rig.after(10_000_000), Out::default());
}

fn message_is_delivered_and_acknowledged(version: MqttVersion) {
    let mut rig = Rig::up(version);
    let out = rig.receive(&publish(version, Some(77), FILTER, b"on"));
    assert_eq!(out.told, [SessionEvent::Message(message(FILTER, b"on", false))]);
    assert_eq!(out.said, [Said::PubAck { id: 77 }]);
    // The PUBACK was lost: the broker sends it again, and it is delivered again.
    rig.reconnect(true, &[]);
    let mut again = publish(version, Some(77), FILTER, b"on");
    again[0] |= 0x08;
    let out = rig.receive(&again);
    assert_eq!((out.told.len(), out.said.len()), (1, 1));
    let mut retained = publish(version, None, FILTER, b"off");
    retained[0] |= 0x01;
    let out = rig.receive(&retained);
    assert_eq!(out, Out { said: vec![], told: vec![SessionEvent::Message(message(FILTER, b"off", true))] });
}

fn half_packet_is_forgotten_with_the_connection(version: MqttVersion) {
    let mut rig = Rig::up(version);
    let whole = publish(version, Some(1), FILTER, &[b'x'; 200]);
    for cut in 1..whole.len() {
        assert_eq!(rig.receive(&whole[..cut]), Out::default());
        let out = rig.reconnect(true, &[]);
        assert_eq!(out.told, [SessionEvent::Up { session_present: true }], "cut at {cut}");
    }
}

fn unsent_bytes_are_forgotten_with_the_connection(version: MqttVersion) {
    let mut rig = Rig::up(version);
    rig.session.publish(rig.now, 3, message("t", b"", false)).expect("room");
    rig.session.received(rig.now, &publish(version, Some(9), FILTER, b"on"));
    rig.session.transport_closed();
    let out = rig.drain();
    assert_eq!(out, Out { said: vec![], told: vec![SessionEvent::Message(message(FILTER, b"on", false))] });
    assert!(rig.session.holds(3));
    assert_eq!(rig.reconnect(true, &[]).publishes().len(), 1);
}

fn nothing_is_heard_after_close(version: MqttVersion) {
    let mut rig = Rig::up(version);
    rig.publish(4);
    let mut bytes = PINGRESP.to_vec();
    bytes.extend(puback(2, 0));
    assert_violation(&rig.receive(&bytes), version, 0x82);
    assert_eq!(rig.receive(&puback(2, 0)), Out::default());
    assert_eq!(rig.after(1_000_000), Out::default());
    assert_eq!((rig.deadline(), rig.session.has_room(), rig.session.holds(4)), (None, false, true));
    rig.session.disconnect();
    assert_eq!(rig.drain(), Out::default());
}

fn disconnect_says_so_once(version: MqttVersion) {
    let mut rig = Rig::up(version);
    rig.publish(4);
    rig.session.disconnect();
    rig.session.disconnect();
    assert_eq!(rig.drain(), Out { said: vec![Said::Disconnect { code: 0 }], told: vec![] });
    assert_eq!(rig.deadline(), None);
    assert!(rig.session.holds(4));
    assert_eq!(rig.reconnect(true, &[]).publishes(), [(2, true)]);
}

fn leaving_has_the_will_published(version: MqttVersion) {
    let mut rig = Rig::up(version);
    rig.session.leave();
    rig.session.leave();
    // On v3.1.1 any DISCONNECT takes the will back.
    let said = if version == V5 { vec![Said::Disconnect { code: 4 }] } else { vec![] };
    assert_eq!(rig.drain(), Out { said, told: vec![] });
    assert_eq!(rig.deadline(), None);
}

fn ids_in_use_are_skipped(version: MqttVersion) {
    let mut rig = Rig::up(version);
    rig.publish(0);
    for token in 1..=65_600 {
        let id = rig.publish(token).publishes()[0].0;
        assert!(id != 0 && id != 2, "{id} is in use");
        rig.receive(&puback(id, 0));
    }
    assert!(rig.session.holds(0));
}

fn unknown_puback_changes_nothing(version: MqttVersion) {
    let mut rig = Rig::up(version);
    rig.publish(1);
    assert_eq!(rig.receive(&puback(3, 0)), Out::default());
    rig.receive(&puback(2, 0));
    assert_eq!(rig.receive(&puback(2, 0)), Out::default());
}

fn unpublishable_topic_is_refused_here(version: MqttVersion) {
    let mut rig = Rig::up(version);
    for (topic, code) in [("a/#".to_string(), 0x90), (String::new(), 0x90), ("t".repeat(65_536), 0x95)] {
        rig.session.publish(rig.now, 5, message(&topic, b"", false)).expect("room");
        assert_eq!(rig.drain(), Out { said: vec![], told: vec![SessionEvent::PublishRefused { token: 5, code }] });
        assert!(!rig.session.holds(5));
    }
}

fn debug_shows_no_secret(version: MqttVersion) {
    let mut session = Session::new(full_config(version));
    session.connect(device_core::time::Instant(0));
    let shown = format!("{session:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("104, 117, 110"), "{shown}");
    assert!(shown.contains("Send(CONNECT"), "{shown}");
}

fn ticks_are_harmless_without_a_connection(version: MqttVersion) {
    let mut rig = Rig::new(version);
    assert_eq!(rig.after(1_000_000), Out::default());
    assert_eq!(rig.receive(&PINGRESP), Out::default());
    assert_eq!(rig.deadline(), None);
    rig.session.disconnect();
    assert_eq!(rig.drain(), Out::default());
}

#[test]
fn v311_resends_a_publish_once_on_the_live_connection() {
    let mut rig = Rig::up(V311);
    rig.publish(1);
    rig.after(4_000);
    rig.publish(2);
    assert_eq!(rig.after(5_999), Out::default());
    assert_eq!(rig.after(1).publishes(), [(2, true)]);
    assert_eq!(rig.deadline(), Some((4_000, true)));
    rig.receive(&puback(2, 0));
    assert_eq!(rig.receive(&puback(2, 0)), Out::default(), "the second PUBACK is tolerated");
    assert_eq!(rig.after(4_000).publishes(), [(3, true)]);
    assert_eq!(rig.after(9_999), Out::default());
    let out = rig.after(1);
    assert_eq!(out, Out { said: vec![], told: vec![SessionEvent::Close("no PUBACK within 10000 ms".into())] });
    assert!(rig.session.holds(2));
    assert_eq!(rig.reconnect(true, &[]).publishes(), [(3, true)]);
    assert_eq!(rig.after(10_000).publishes(), [(3, true)], "a new connection, a new live resend");
}

#[test]
fn v5_resends_a_publish_on_the_next_connection_only() {
    let mut rig = Rig::up(V5);
    rig.publish(1);
    assert_eq!(rig.after(9_999), Out::default());
    let out = rig.after(1);
    assert_eq!(out.said, [Said::Disconnect { code: 0x80 }]);
    assert_eq!(out.closed(), Some("no PUBACK within 10000 ms"));
    assert_eq!(rig.reconnect(true, &[]).publishes(), [(2, true)]);
}

#[test]
fn v311_resends_a_subscribe_once_with_the_same_id() {
    let mut rig = Rig::new(V311);
    rig.connect();
    rig.receive(&connack(V311, false, 0, &[]));
    assert_eq!(rig.after(10_000).subscribe_id(), Some(1));
    assert_eq!(rig.receive(&suback(V311, 1, &[1])).told.len(), 1);
    assert_eq!(rig.receive(&suback(V311, 1, &[1])), Out::default(), "the second SUBACK is tolerated");
    assert_violation(&rig.receive(&suback(V311, 1, &[1])), V311, 0x82);

    rig.reconnect(false, &[]);
    assert!(rig.after(10_000).subscribe_id().is_some());
    assert_eq!(rig.after(10_000).closed(), Some("no SUBACK within 10000 ms"));
}

#[test]
fn v5_gives_up_on_a_missing_suback() {
    let mut rig = Rig::new(V5);
    rig.connect();
    rig.receive(&connack(V5, false, 0, &[]));
    let out = rig.after(10_000);
    assert_eq!((out.said, out.told.len()), (vec![Said::Disconnect { code: 0x80 }], 1));
}

#[test]
fn v5_receive_maximum_holds_for_resends() {
    let mut rig = Rig::up(V5);
    for token in 0..5 {
        rig.publish(token);
    }
    let out = rig.reconnect(true, &[0x21, 0, 2]);
    assert_eq!(out.publishes(), [(2, true), (3, true)]);
    assert!(!rig.session.has_room());
    assert_eq!(rig.receive(&puback(4, 0)), Out::default(), "an id that was not sent on this connection");
    assert_eq!(rig.receive(&puback(2, 0)).publishes(), [(4, true)]);
    // The rest waits; what was sent in the old session and not in the new one is new there.
    let out = rig.reconnect(false, &[0x21, 0, 1]);
    assert_eq!(out.publishes(), [(3, false)]);
    assert_eq!(rig.reconnect(true, &[]).publishes(), [(3, true), (4, false), (5, false), (6, false)]);
}

#[test]
fn v5_too_large_publish_is_refused_here() {
    let mut rig = Rig::up_with(V5, &[0x27, 0, 0, 0, 60]);
    rig.session.publish(rig.now, 1, message("t", &[0; 52], false)).expect("room");
    assert_eq!(rig.drain().said.len(), 1);
    rig.session.publish(rig.now, 2, message("t", &[0; 53], false)).expect("room");
    assert_eq!(rig.drain(), Out { said: vec![], told: vec![SessionEvent::PublishRefused { token: 2, code: 0x95 }] });
    // A later connection may allow less: the resend is refused, what fits goes on.
    rig.publish(3);
    let out = rig.reconnect(true, &[0x27, 0, 0, 0, 20]);
    assert!(out.told.contains(&SessionEvent::PublishRefused { token: 1, code: 0x95 }));
    assert_eq!(out.publishes().len(), 1);
}

#[test]
fn v5_too_large_subscribe_is_refused_here() {
    let mut rig = Rig::new(V5);
    rig.connect();
    let out = rig.receive(&connack(V5, false, 0, &[0x27, 0, 0, 0, 10]));
    assert_eq!(out.said, []);
    assert_eq!(out.told[1], SessionEvent::SubscribeRefused { topic: FILTER.into(), code: 0x95 });
}

#[test]
fn v5_server_keep_alive_replaces_ours() {
    let rig = Rig::up_with(V5, &[0x13, 0, 7]);
    assert_eq!(rig.deadline(), Some((7_000, false)));
    let rig = Rig::up_with(V5, &[0x13, 0, 0]);
    assert_eq!(rig.deadline(), None);
}

#[test]
fn v5_maximum_qos_0_publishes_without_acknowledgement() {
    let mut rig = Rig::up(V5);
    rig.publish(1);
    let out = rig.reconnect(true, &[0x24, 0]);
    assert_eq!(out.publishes(), [(0, false)]);
    assert_eq!(out.told[1], SessionEvent::Acked { token: 1 });
    let out = rig.publish(2);
    assert_eq!((out.publishes(), out.told), (vec![(0, false)], vec![SessionEvent::Acked { token: 2 }]));
    assert!(!rig.session.holds(2));
}

#[test]
fn v5_retain_unavailable_drops_the_flag() {
    for (properties, expected) in [(&[0x25, 0][..], false), (&[0x25, 1], true), (&[], true)] {
        let mut rig = Rig::up_with(V5, properties);
        rig.session.publish(rig.now, 1, message("t", b"", true)).expect("room");
        let out = rig.drain();
        assert!(matches!(out.said[..], [Said::Publish { retain, .. }] if retain == expected), "{out:?}");
    }
}

#[test]
fn v5_refused_publish_is_told_and_forgotten() {
    let mut rig = Rig::up(V5);
    rig.publish(1);
    rig.publish(2);
    assert_eq!(rig.receive(&puback(2, 0x87)).told, [SessionEvent::PublishRefused { token: 1, code: 0x87 }]);
    assert!(!rig.session.holds(1));
    assert_eq!(rig.receive(&puback(3, 0x10)).told, [SessionEvent::Acked { token: 2 }]);
}

#[test]
fn v5_disconnect_of_the_broker_is_named() {
    let mut rig = Rig::up(V5);
    let out = rig.receive(&packet(0xe0, &[0x8e]));
    let why = "the broker disconnected us: session taken over (0x8e)";
    assert_eq!(out, Out { said: vec![], told: vec![SessionEvent::Close(why.into())] });
    let mut rig = Rig::up(V5);
    assert_eq!(rig.receive(&packet(0xe0, &[])).closed(), Some("the broker disconnected us: success (0x00)"));
}

#[test]
fn v5_all_that_a_connack_may_say_is_taken() {
    let properties = [
        0x11, 0, 0, 0, 9, 0x12, 0, 1, b'x', 0x13, 0, 9, 0x1c, 0, 1, b's', 0x1f, 0, 1, b'r', 0x21, 0, 9, 0x22, 0, 9, 0x24, 1, 0x25,
        1, 0x26, 0, 1, b'k', 0, 1, b'v', 0x26, 0, 1, b'k', 0, 1, b'v', 0x27, 0, 0, 1, 0, 0x28, 1, 0x29, 1, 0x2a, 1,
    ];
    assert_eq!(Rig::up_with(V5, &properties).deadline(), Some((9_000, false)));
}
