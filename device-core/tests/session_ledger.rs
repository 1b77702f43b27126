//! Random lives of a session over a broker that forgets, cuts and loses: every publish is acknowledged once or still held, in order.

mod fake_broker;

use device_core::config::MqttVersion::{self, V5, V311};
use device_core::session::{IN_FLIGHT_MAX, SessionEvent};
use fake_broker::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
enum Deed {
    Publish,
    /// The broker acknowledges what it has in flight at this place (modulo their number), perhaps with a refusal (v5).
    Ack {
        place: usize,
        refuse: bool,
    },
    /// The broker acknowledges something, and the connection is cut before that arrives.
    AckLost {
        place: usize,
    },
    /// The broker answers the SUBSCRIBE.
    SubAck,
    Cut,
    /// Connects, where the connection is cut; the broker keeps the session or forgets it, and grants a window.
    Connect {
        keeps: bool,
        window: u16,
    },
    /// Connects, and is cut before the CONNACK arrives; the broker kept the session or forgot it.
    ConnackLost {
        keeps: bool,
    },
    /// Time passes, with the ticks the session asked for; PINGREQs are answered.
    Wait {
        ms: u64,
    },
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => Just(Deed::Publish),
        4 => (any::<usize>(), proptest::bool::weighted(0.1)).prop_map(|(place, refuse)| Deed::Ack { place, refuse }),
        1 => any::<usize>().prop_map(|place| Deed::AckLost { place }),
        2 => Just(Deed::SubAck),
        1 => Just(Deed::Cut),
        4 => (any::<bool>(), 1..12u16).prop_map(|(keeps, window)| Deed::Connect { keeps, window }),
        1 => any::<bool>().prop_map(|keeps| Deed::ConnackLost { keeps }),
        2 => (1..25_000u64).prop_map(|ms| Deed::Wait { ms }),
    ]
}

/// The broker's books.
struct Life {
    rig: Rig,
    up: bool,
    window: usize,
    next_token: u64,
    /// Publishes this connection has seen and not acknowledged, in order of arrival: id, token, times seen.
    in_flight: Vec<(u16, u64, u32)>,
    /// Tokens that arrived in the broker's present session, as far as the client was told which that is.
    arrived: BTreeSet<u64>,
    /// The greatest token that arrived for the first time on this connection.
    newest: Option<u64>,
    subscribe_id: Option<u16>,
    /// Whether the client was told that the broker has its subscription.
    subscribed: bool,
    connack_lost: bool,
    /// What the session told about each token.
    settled: BTreeMap<u64, u32>,
}

impl Life {
    fn new(version: MqttVersion) -> Self {
        Life {
            rig: Rig::new(version),
            up: false,
            window: 0,
            next_token: 0,
            in_flight: Vec::new(),
            arrived: BTreeSet::new(),
            newest: None,
            subscribe_id: None,
            subscribed: false,
            connack_lost: false,
            settled: BTreeMap::new(),
        }
    }

    fn cut(&mut self) {
        self.rig.session.transport_closed();
        self.up = false;
        self.in_flight.clear();
        self.newest = None;
        self.subscribe_id = None;
    }

    fn check(&mut self, out: Out) {
        for said in out.said {
            match said {
                Said::Publish { id, dup, payload, .. } => self.heard_publish(id.expect("QoS 1"), dup, &payload),
                Said::Subscribe { id, .. } => {
                    assert!(self.in_flight.iter().all(|f| f.0 != id), "SUBSCRIBE with an id in flight");
                    assert!(self.subscribe_id.is_none_or(|before| before == id && self.rig.version == V311));
                    self.subscribe_id = Some(id);
                }
                Said::PingReq => {
                    let out = self.rig.receive(&PINGRESP);
                    assert_eq!(out, Out::default());
                }
                Said::Disconnect { code } => assert_eq!(code, 0x80, "only time-outs end these connections"),
                other => panic!("unexpected {other:?}"),
            }
        }
        for event in out.told {
            match event {
                SessionEvent::Acked { token } | SessionEvent::PublishRefused { token, .. } => {
                    *self.settled.entry(token).or_default() += 1;
                }
                SessionEvent::Close(why) => {
                    assert!(why.starts_with("no "), "{why}");
                    self.cut();
                }
                SessionEvent::Up { .. } | SessionEvent::Subscribed { .. } => {}
                other => panic!("unexpected {other:?}"),
            }
        }
        assert!(self.in_flight.len() <= self.window.min(usize::from(IN_FLIGHT_MAX)));
        for token in 0..self.next_token {
            let told = self.settled.get(&token).copied().unwrap_or(0);
            assert_eq!(told + u32::from(self.rig.session.holds(token)), 1, "token {token}: acknowledged once, or held");
        }
    }

    fn heard_publish(&mut self, id: u16, dup: bool, payload: &[u8]) {
        let token: u64 = std::str::from_utf8(payload).expect("text").parse().expect("a token");
        assert!(id != 0 && self.subscribe_id != Some(id), "id {id} is in use");
        assert_eq!(dup, self.arrived.contains(&token), "DUP of token {token}");
        assert!(!self.settled.contains_key(&token), "token {token} after its end");
        match self.in_flight.iter_mut().find(|f| f.0 == id) {
            Some((_, same, seen)) => {
                *seen += 1;
                assert_eq!(*same, token, "id {id} reused in flight");
                assert!(self.rig.version == V311 && *seen == 2, "sent {seen} times on one connection");
            }
            None => {
                assert!(self.newest.is_none_or(|newest| newest < token), "token {token} out of order");
                self.newest = Some(token);
                self.in_flight.push((id, token, 1));
            }
        }
        self.arrived.insert(token);
    }

    fn act(&mut self, deed: Deed) {
        let version = self.rig.version;
        match deed {
            Deed::Publish => {
                if self.rig.session.has_room() {
                    assert!(self.up && self.in_flight.len() < self.window);
                    let token = self.next_token;
                    self.next_token += 1;
                    let out = self.rig.publish(token);
                    self.check(out);
                }
            }
            Deed::Ack { place, refuse } if !self.in_flight.is_empty() => {
                let (id, token, seen) = self.in_flight.remove(place % self.in_flight.len());
                let before = self.settled.get(&token).copied();
                let code = if refuse && version == V5 { 0x97 } else { 0 };
                for _ in 0..seen {
                    let out = self.rig.receive(&puback(id, code));
                    self.check(out);
                }
                assert_eq!((before, self.settled.get(&token)), (None, Some(&1)));
            }
            Deed::AckLost { place } if !self.in_flight.is_empty() => {
                self.in_flight.remove(place % self.in_flight.len());
                self.cut();
            }
            Deed::SubAck => {
                if let Some(id) = self.subscribe_id.take() {
                    let out = self.rig.receive(&suback(version, id, &[1]));
                    self.subscribed = true;
                    self.check(out);
                }
            }
            Deed::Cut => self.cut(),
            Deed::Connect { keeps, window } if !self.up => {
                let window = if version == V5 { window } else { 100 };
                let [high, low] = window.to_be_bytes();
                self.window = usize::from(window);
                if !keeps {
                    self.arrived.clear();
                    self.subscribed = false;
                }
                let out = self.rig.connect();
                assert!(matches!(out.said[..], [Said::Connect(_)]));
                self.up = true;
                let out = self.rig.receive(&connack(version, keeps, 0, &[0x21, high, low]));
                let subscribes = out.subscribe_id().is_some();
                let wanted = std::mem::take(&mut self.connack_lost) || !self.subscribed;
                assert_eq!(subscribes, wanted, "subscribes unless the broker surely has the subscription");
                self.subscribed = !wanted;
                self.check(out);
            }
            Deed::ConnackLost { keeps } if !self.up => {
                self.rig.connect();
                self.subscribed &= keeps;
                self.connack_lost = true;
                self.cut();
            }
            Deed::Wait { ms } => {
                let end = self.rig.now.0 + ms;
                while let Some((at, _)) = self.rig.session.deadline().filter(|(at, _)| at.0 <= end) {
                    assert!(at > self.rig.now || self.rig.now.0 == 1_000, "a deadline that a tick did not move");
                    let out = self.rig.after(at.0 - self.rig.now.0);
                    assert_ne!(out, Out::default(), "a deadline for nothing");
                    self.check(out);
                }
                let out = self.rig.after(end - self.rig.now.0);
                assert_eq!(out, Out::default(), "something was due that no deadline told of");
            }
            Deed::Ack { .. } | Deed::AckLost { .. } | Deed::Connect { .. } | Deed::ConnackLost { .. } => {}
        }
    }

    /// Lets the broker behave until nothing is held.
    fn settle_all(&mut self) {
        self.act(Deed::Cut);
        self.act(Deed::Connect { keeps: true, window: 1 });
        for _ in 0..self.next_token {
            self.act(Deed::Ack { place: 0, refuse: false });
        }
        assert!((0..self.next_token).all(|token| self.settled.get(&token) == Some(&1)));
    }
}

fn live(version: MqttVersion, deeds: Vec<Deed>) {
    let mut life = Life::new(version);
    for deed in deeds {
        life.act(deed);
    }
    life.settle_all();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(1_000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn v5_ledger(deeds in proptest::collection::vec(deed(), 1..120)) {
        live(V5, deeds);
    }

    #[test]
    fn v311_ledger(deeds in proptest::collection::vec(deed(), 1..120)) {
        live(V311, deeds);
    }
}
