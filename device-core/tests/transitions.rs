//! What each input does in each state: a table, and the diagram drawn from the transitions that were observed while it was made.

mod world;

use device_core::input::{Input, NetFailure, NetFailureKind, WifiFailure};
use device_core::state::State;
use device_core::storage::StorageFailure;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use world::{DEVICE_ID, Owed, World, broker, pki};

/// Where a device can stand still, and what it waits for there; the wish it owes an answer to, or a wait.
const PLACES: [(&str, Option<&str>, State); 16] = [
    ("AP_MODE", None, State::ApMode),
    ("AP_MODE, storing credentials", Some("store credentials"), State::ApMode),
    ("WIFI_CONNECTING, joining", Some("join"), State::WifiConnecting),
    ("WIFI_CONNECTING, waiting", None, State::WifiConnecting),
    (LAST_TRY, Some("join"), State::WifiConnecting),
    ("WIFI_CONNECTED, asking for the time", Some("time"), State::WifiConnected),
    (ENROLLED, Some("time"), State::WifiConnected),
    ("SUBMIT_CSR, making key and CSR", Some("csr"), State::SubmitCsr),
    ("SUBMIT_CSR, storing the key", Some("store key"), State::SubmitCsr),
    ("SUBMIT_CSR, asking the CA", Some("sign-csr"), State::SubmitCsr),
    ("SUBMIT_CSR, storing the certificate", Some("store certificate"), State::SubmitCsr),
    ("SUBMIT_CSR, waiting", None, State::SubmitCsr),
    ("MQTT_CONNECTING, opening", Some("connect"), State::MqttConnecting),
    ("MQTT_CONNECTING, asking", Some("connack"), State::MqttConnecting),
    ("MQTT_CONNECTING, waiting", None, State::MqttConnecting),
    ("MQTT_CONNECTED", None, State::MqttConnected),
];
const LAST_TRY: &str = "WIFI_CONNECTING, joining for the last time";
const ENROLLED: &str = "WIFI_CONNECTED, asking for the time, enrolled";

/// A new device, driven to a place.
fn at(place: &str, wish: Option<&str>, state: State) -> World {
    let mut world = World::new(1, true, &[("TELEMETRY_PERIOD_MS", "0")]);
    if state == State::ApMode && wish.is_none() {
        return world;
    }
    world.post_provision(&World::credentials(DEVICE_ID));
    if place == ENROLLED {
        assert!(world.heals_within(60_000));
        world.power_cycle(false);
    }
    if place == LAST_TRY {
        world.answer();
        for _ in 0..2 {
            world.answer_badly(0);
            world.pass_to_deadline();
        }
    }
    // A waiting place is reached by a bad answer to the wish before it.
    let before = match (state, wish) {
        (_, Some(wish)) => wish,
        (State::WifiConnecting, None) => "join",
        (State::SubmitCsr, None) => "sign-csr",
        (State::MqttConnecting, None) => "connect",
        _ => "nothing",
    };
    for _ in 0..50 {
        if world.owed.front().is_some_and(|o| o.word() == before) {
            break;
        }
        assert!(world.answer() || before == "nothing", "{place} is not reached");
        if before == "nothing" && world.owed.is_empty() {
            break;
        }
    }
    if wish.is_none() && before != "nothing" {
        world.answer_badly(if state == State::SubmitCsr { 1 } else { 0 });
    }
    assert_eq!(world.device.state(), state, "{place}");
    world
}

type Act = fn(&mut World);

fn net(kind: NetFailureKind) -> NetFailure {
    NetFailure { kind, text: "text".into() }
}

/// Answers the wish of this word with what `input` says, as if nobody else had an answer.
fn instead(world: &mut World, word: &str, input: Input<'_>) {
    world.owed.retain(|o| !o.word().starts_with(word));
    world.tell(input);
}

/// The inputs, each as a fact that comes whether or not it was asked for.
const INPUTS: [(&str, Act); 29] = [
    ("deadline", |w| _ = w.pass_to_deadline()),
    ("POST /provision", |w| w.post_provision(&World::credentials(DEVICE_ID))),
    ("POST /provision, bad", |w| w.post_provision("{}")),
    ("console provision", |w| w.console(&format!("provision {}", World::credentials(DEVICE_ID)))),
    ("GET /status", |w| _ = w.get("/status")),
    ("stored", |w| honest(w, "store", Input::Stored(Ok(())))),
    ("storage full", |w| instead(w, "store", Input::Stored(Err(StorageFailure::Full)))),
    ("Wi-Fi up", |w| instead(w, "join", Input::WifiUp { ip: [10, 0, 0, 2] })),
    ("wrong password", |w| instead(w, "join", Input::WifiDown(WifiFailure::WrongPassword))),
    ("network not found", |w| instead(w, "join", Input::WifiDown(WifiFailure::NotFound))),
    ("DHCP silent", |w| instead(w, "join", Input::WifiDown(WifiFailure::NoAddress))),
    ("Wi-Fi lost", |w| instead(w, "join", Input::WifiDown(WifiFailure::Lost))),
    ("time", |w| {
        let date = w.date();
        instead(w, "time", Input::TimeSynced(Ok(date)));
    }),
    ("no time", |w| instead(w, "time", Input::TimeSynced(Err(())))),
    ("CSR made", |w| honest(w, "csr", Input::CsrMade { key: device_core::secret::Secret::new("k"), csr: "c".into() })),
    ("CA: certificate", |w| honest(w, "sign-csr", Input::CaReplied { status: 200, body: b"{}" })),
    ("CA: another's certificate", |w| badly(w, "sign-csr", 3, Input::CaReplied { status: 200, body: b"{}" })),
    ("CA: 401", |w| instead(w, "sign-csr", Input::CaReplied { status: 401, body: b"" })),
    ("CA: 503", |w| instead(w, "sign-csr", Input::CaReplied { status: 503, body: b"" })),
    ("CA: time-out", |w| instead(w, "sign-csr", Input::CaFailed(&net(NetFailureKind::TimedOut)))),
    ("stream up", |w| honest(w, "connect", Input::Connected)),
    ("stream refused", |w| instead(w, "connect", Input::ConnectFailed(&net(NetFailureKind::Alert)))),
    ("CONNACK", |w| honest(w, "connack", Input::Received(&broker::connack(true, false, 0)))),
    ("CONNACK refuses", |w| badly(w, "connack", 0, Input::Received(&broker::connack(true, false, 0x87)))),
    ("garbage", |w| instead(w, "connack", Input::Received(b"HTTP/1.1 400\r\n\r\n"))),
    ("stream ends", |w| instead(w, "connack", Input::Closed(&net(NetFailureKind::Reset)))),
    ("certificate expires", |w| {
        w.console(&format!("clock jump {}", pki::LIFE_S * 1000));
        w.close();
        w.pass_to_deadline();
    }),
    ("save", |w| {
        w.console("set MQTT_USER somebody");
        w.console("save");
        while w.owed.iter().any(|o| matches!(o, Owed::Store(..))) {
            let stores = w.owed.iter().position(|o| matches!(o, Owed::Store(..))).expect("one");
            w.owed.swap(0, stores);
            w.answer();
        }
    }),
    ("power cycle", |w| w.power_cycle(false)),
];

/// The honest answer when the wish is there, the bare input when nobody asked.
fn honest(world: &mut World, word: &str, unasked: Input<'_>) {
    match world.owed.iter().position(|o| o.word().starts_with(word)) {
        Some(place) => {
            world.owed.swap(0, place);
            world.answer();
        }
        None => world.tell(unasked),
    }
}

/// The same with a bad answer.
fn badly(world: &mut World, word: &str, way: usize, unasked: Input<'_>) {
    match world.owed.iter().position(|o| o.word().starts_with(word)) {
        Some(place) => {
            world.owed.swap(0, place);
            world.answer_badly(way);
        }
        None => world.tell(unasked),
    }
}

#[test]
fn states_and_inputs() {
    let mut table = String::new();
    let mut edges: BTreeMap<(State, State), BTreeSet<&str>> = BTreeMap::new();
    for (place, wish, state) in PLACES {
        let _ = writeln!(table, "{place}");
        for (input, act) in INPUTS {
            let mut world = at(place, wish, state);
            world.take_moves();
            world.wishes.clear();
            act(&mut world);
            let after = world.device.state();
            let said: Vec<_> = world.reports.iter().map(|r| r.word().name).filter(|n| *n != "state").collect();
            for (from, to) in world.take_moves() {
                edges.entry((from, to)).or_default().insert(input);
            }
            if after != state || !world.wishes.is_empty() || !said.is_empty() {
                let _ = writeln!(table, "  {input:<26} -> {:<18} {} | {}", after.name(), world.wishes.join(" "), said.join(" "));
            }
        }
    }
    let mut diagram = String::from("stateDiagram-v2\n    [*] --> INIT\n");
    for ((from, to), inputs) in &edges {
        let inputs: Vec<_> = inputs.iter().copied().collect();
        let _ = writeln!(diagram, "    {from} --> {to}: {}", inputs.join("; "));
    }
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("transitions-table", table);
        insta::assert_snapshot!("transitions-diagram", diagram);
    });
    let reached: BTreeSet<_> = edges.keys().flat_map(|(from, to)| [*from, *to]).collect();
    assert_eq!(reached.len(), State::ALL.len(), "every state is in the diagram");
}
