//! The MQTT session, v5 and v3.1.1: framing, ids, acknowledgements, resends, keepalive. No socket, no clock.
//!
//! The session outlives network connections: `connect` begins one, `transport_closed` ends one, and what was not acknowledged is sent
//! again in the next one with DUP=1 and the same packet id when the broker still knows the session, as new otherwise.
//! On v5 nothing is sent again on a live connection [MQTT-4.4.0-1]: an acknowledgement that does not come in time ends the connection.
//! On v3.1.1 it is sent again once, with the same id, and ends the connection when that is not acknowledged in time either.
//!
//! What was chosen where the specifications leave a choice:
//! - A PUBACK for an id that is not in flight is ignored (a v3.1.1 resend gets two); ids are given out in turn, so that a late second
//!   one cannot meet a new publish. A SUBACK for no SUBSCRIBE is a violation, except the second one after a resend.
//! - A fresh session that finds `session_present=1` (the device was restarted) subscribes again: that is harmless, and it cannot know.
//!   It need not close [MQTT-3.2.2-4]: a restarted device still has its side of the session, the queue that its readings are in.
//!   Within one `Session`, a broker that kept the session is not asked again once it granted every filter, unless a CONNACK was lost
//!   in between.
//! - A broker with Maximum QoS 0 gets its publishes at QoS 0, and each counts as acknowledged when it is sent.
//! - A broker without retained messages gets them without the retain flag.
//! - An assigned client identifier is ignored: we always name ourselves.
//! - Each message is acknowledged as soon as it is read, so the broker cannot exceed our Receive Maximum.

mod event;

pub use event::{Message, SessionConfig, SessionEvent};

use crate::config::MqttVersion;
use crate::packet::{self, ConnAck, Packet, Violation, encode, reason};
use crate::secret::Secret;
use crate::time::Instant;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

/// The bytes of the largest packet accepted from the broker unless configured otherwise; the device says so in its v5 CONNECT.
pub const PACKET_LIMIT: u32 = 16 * 1024;
/// How many QoS 1 publishes may be unacknowledged at once (the broker's Receive Maximum may lower it).
pub const IN_FLIGHT_MAX: u16 = 8;
/// Seconds a v5 broker is asked to keep the session after a disconnection: a day.
pub const SESSION_EXPIRY_S: u32 = 24 * 3600;
/// How many QoS 1 messages a v5 broker may send before the first is acknowledged.
pub const RECEIVE_MAXIMUM: u16 = 8;

/// The session. See the module's text.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    phase: Phase,
    /// The beginning of a packet whose end has not come; at most `packet_limit` bytes.
    partial: Vec<u8>,
    events: VecDeque<SessionEvent>,
    /// Unacknowledged publishes in their order; those sent on this connection come first. At most `IN_FLIGHT_MAX`.
    outbox: VecDeque<Outgoing>,
    /// The packet id given out last.
    last_id: u16,
    /// Whether a CONNECT was sent that no CONNACK has answered.
    connack_owed: bool,
    subscription: Subscription,
    terms: Terms,
    last_sent: Instant,
    /// When each unanswered PINGREQ's answer is due; the earliest first.
    pings: VecDeque<Instant>,
}

/// Where the network connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There is none.
    Down,
    /// CONNECT is sent; CONNACK is due.
    Connecting { due: Instant },
    /// CONNACK came.
    Up,
    /// `Close` was said, or DISCONNECT sent; whatever still comes is ignored.
    Closing,
}

/// What this connection's CONNACK allows.
#[derive(Clone, Copy, Debug)]
struct Terms {
    in_flight_max: usize,
    packet_max: u32,
    qos1: bool,
    retain: bool,
    keepalive: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subscription {
    /// The broker has not granted every filter in its present session.
    Wanted,
    /// SUBSCRIBE was sent on this connection.
    Asked { id: u16, due: Instant, again: bool },
    /// Answered on this connection; `resent_id`: a second SUBACK with this id may come.
    Answered { granted: bool, resent_id: Option<u16> },
}

/// A publish that is not acknowledged.
#[derive(Debug)]
struct Outgoing {
    token: u64,
    id: u16,
    message: Message,
    /// Whether the broker may have it in its present session.
    dup: bool,
    /// When its PUBACK is due; `None`: not sent on this connection.
    due: Option<Instant>,
    /// Whether it was sent twice on this connection (v3.1.1).
    again: bool,
}

/// No room for another publish until one is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

impl Session {
    /// A session that the broker has not seen yet (or whose packet ids were forgotten with the power).
    pub fn new(config: SessionConfig) -> Self {
        Session {
            config,
            phase: Phase::Down,
            partial: Vec::new(),
            events: VecDeque::new(),
            outbox: VecDeque::new(),
            last_id: 0,
            connack_owed: false,
            subscription: Subscription::Wanted,
            terms: Terms { in_flight_max: 0, packet_max: 0, qos1: true, retain: true, keepalive: None },
            last_sent: Instant::default(),
            pings: VecDeque::new(),
        }
    }

    /// The stream is up: begins with CONNECT.
    pub fn connect(&mut self, now: Instant) {
        self.transport_closed();
        let c = &self.config;
        let connect = encode::connect(&encode::Connect {
            version: c.version,
            client_id: &c.client_id,
            keepalive_s: c.keepalive_s,
            username: c.username.as_deref(),
            password: c.password.as_ref().map(Secret::expose),
            will: c.will.as_ref().map(|w| encode::Will { topic: &w.topic, payload: &w.payload, retain: w.retain }),
            session_expiry_s: SESSION_EXPIRY_S,
            receive_maximum: RECEIVE_MAXIMUM,
            packet_limit: c.packet_limit.max(1),
        });
        match connect {
            Ok(bytes) => {
                if core::mem::replace(&mut self.connack_owed, true) {
                    // The CONNACK that was lost may have said that the session is a new one.
                    self.subscription = Subscription::Wanted;
                }
                self.phase = Phase::Connecting { due: self.answer_due(now) };
                self.send(now, bytes);
            }
            Err(why) => self.close(format!("CONNECT cannot be said: {why}")),
        }
    }

    /// Bytes came, in any slicing. Each packet is acted on as soon as it is whole; the caller bounds what one call may bring.
    pub fn received(&mut self, now: Instant, mut bytes: &[u8]) {
        while matches!(self.phase, Phase::Connecting { .. } | Phase::Up) {
            let head = if self.partial.is_empty() { bytes } else { &self.partial };
            let wanted = match packet::length(self.config.version, head, self.config.packet_limit) {
                Ok(Some(total)) if self.partial.is_empty() && total <= bytes.len() => {
                    let (whole, rest) = bytes.split_at(total);
                    bytes = rest;
                    self.received_packet(now, whole);
                    continue;
                }
                Ok(Some(total)) => total,
                Ok(None) => self.partial.len() + 1,
                Err(violation) => return self.violated(now, violation),
            };
            let (more, rest) = bytes.split_at((wanted - self.partial.len()).min(bytes.len()));
            if more.is_empty() {
                return;
            }
            self.partial.extend_from_slice(more);
            bytes = rest;
            // A packet's last byte may be its header's last byte too, so ask again what the length is.
            match packet::length(self.config.version, &self.partial, self.config.packet_limit) {
                Ok(Some(total)) if total == self.partial.len() => {
                    let whole = core::mem::take(&mut self.partial);
                    self.received_packet(now, &whole);
                }
                Ok(_) => {}
                Err(violation) => return self.violated(now, violation),
            }
        }
    }

    /// The stream has ended or was closed; half-read packets and bytes not sent are forgotten, what is unacknowledged is kept.
    pub fn transport_closed(&mut self) {
        self.phase = Phase::Down;
        self.partial = Vec::new();
        self.pings = VecDeque::new();
        self.events.retain(|e| !matches!(e, SessionEvent::Send(_) | SessionEvent::Close(_) | SessionEvent::Up { .. }));
        for outgoing in &mut self.outbox {
            outgoing.due = None;
            outgoing.again = false;
        }
        self.subscription = match self.subscription {
            Subscription::Answered { granted: true, .. } => Subscription::Answered { granted: true, resent_id: None },
            _ => Subscription::Wanted,
        };
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        match self.phase {
            Phase::Connecting { due } if now >= due => self.close(self.no_answer("CONNACK")),
            Phase::Up => self.tick_up(now),
            _ => {}
        }
    }

    /// Whether `publish` would be taken now: the session is up and the in-flight window has room.
    pub fn has_room(&self) -> bool {
        self.phase == Phase::Up && self.outbox.len() < self.terms.in_flight_max
    }

    /// Publishes at QoS 1; `token` comes back in `Acked` or `PublishRefused`.
    ///
    /// # Errors
    /// `NoRoom` when `has_room` is false.
    pub fn publish(&mut self, now: Instant, token: u64, message: Message) -> Result<(), NoRoom> {
        if !self.has_room() {
            return Err(NoRoom);
        }
        let id = self.new_id();
        self.outbox.push_back(Outgoing { token, id, message, dup: false, due: None, again: false });
        self.send_waiting(now);
        Ok(())
    }

    /// Whether the publish with this token is still unacknowledged in the session (it will be resent by the session itself).
    pub fn holds(&self, token: u64) -> bool {
        self.outbox.iter().any(|o| o.token == token)
    }

    /// Sends DISCONNECT (the caller closes the stream after it); the broker drops the will, so this is for a device that comes back at once.
    /// Says nothing when there is no connection.
    pub fn disconnect(&mut self) {
        if matches!(self.phase, Phase::Connecting { .. } | Phase::Up) {
            self.events.push_back(SessionEvent::Send(encode::disconnect(self.config.version, 0)));
            self.end();
        }
    }

    /// Leaves for good: the broker publishes the will, so that no retained status of a device that is gone stays behind. On v5 it is asked to
    /// (DISCONNECT 0x04); on v3.1.1 it does so because nothing is said. The caller closes the stream after it.
    pub fn leave(&mut self) {
        if matches!(self.phase, Phase::Connecting { .. } | Phase::Up) {
            if self.config.version == MqttVersion::V5 {
                self.events.push_back(SessionEvent::Send(encode::disconnect(MqttVersion::V5, reason::DISCONNECT_WITH_WILL)));
            }
            self.end();
        }
    }

    /// The next event, until there is none.
    pub fn poll(&mut self) -> Option<SessionEvent> {
        let event = self.events.pop_front();
        if self.events.is_empty() {
            // An idle session keeps no room for a burst that is over.
            self.events = VecDeque::new();
        }
        event
    }

    /// When `tick` is next wanted, and whether the broker owes an answer until then, whatever the moment itself is for.
    pub fn deadline(&self) -> Option<(Instant, bool)> {
        match self.phase {
            Phase::Connecting { due } => Some((due, true)),
            Phase::Up => {
                let subscribe = match self.subscription {
                    Subscription::Asked { due, .. } => Some(due),
                    _ => None,
                };
                let publish = self.outbox.iter().filter_map(|o| o.due);
                let answer = publish.chain(subscribe).chain(self.pings.front().copied()).min();
                answer.into_iter().chain(self.ping_at()).min().map(|at| (at, answer.is_some()))
            }
            Phase::Down | Phase::Closing => None,
        }
    }

    fn tick_up(&mut self, now: Instant) {
        if self.pings.front().is_some_and(|&due| now >= due) {
            return self.give_up(now, "PINGRESP");
        }
        let live_resend = self.config.version == MqttVersion::V311;
        if let Subscription::Asked { id, due, again } = self.subscription
            && now >= due
        {
            if again || !live_resend {
                return self.give_up(now, "SUBACK");
            }
            self.send_subscribe(now, id, true);
        }
        let mut at = 0;
        while let Some(outgoing) = self.outbox.get_mut(at) {
            if outgoing.due.is_some_and(|due| now >= due) {
                if outgoing.again || !live_resend {
                    return self.give_up(now, "PUBACK");
                }
                outgoing.again = true;
                if !self.send_publish(now, at) {
                    continue;
                }
            }
            at += 1;
        }
        if self.ping_at().is_some_and(|at| now >= at) {
            self.pings.push_back(self.answer_due(now));
            self.send(now, encode::pingreq());
        }
    }

    fn received_packet(&mut self, now: Instant, bytes: &[u8]) {
        let acted = packet::decode(self.config.version, bytes).and_then(|packet| match (packet, self.phase) {
            (Packet::ConnAck(ack), Phase::Connecting { .. }) => {
                self.received_connack(now, &ack);
                Ok(())
            }
            (_, Phase::Connecting { .. }) => Err(Violation::protocol("a packet before CONNACK")),
            (Packet::ConnAck(_), _) => Err(Violation::protocol("a second CONNACK")),
            (Packet::Publish(publish), _) => {
                let message =
                    Message { topic: publish.topic.to_string(), payload: publish.payload.to_vec(), retain: publish.retain };
                self.events.push_back(SessionEvent::Message(message));
                if let Some(id) = publish.id {
                    self.send(now, encode::puback(id));
                }
                Ok(())
            }
            (Packet::PubAck { id, code }, _) => self.received_puback(now, id, code),
            (Packet::SubAck { id, codes }, _) => self.received_suback(id, codes),
            (Packet::PingResp, _) => self.pings.pop_front().map(|_| ()).ok_or(Violation::protocol("PINGRESP without PINGREQ")),
            (Packet::Disconnect { code }, _) => {
                self.close(format!("the broker disconnected us: {} (0x{code:02x})", reason::name(code)));
                Ok(())
            }
        });
        if let Err(violation) = acted {
            self.violated(now, violation);
        }
    }

    fn received_connack(&mut self, now: Instant, ack: &ConnAck) {
        self.connack_owed = false;
        if ack.code != 0 {
            self.events.push_back(SessionEvent::Refused { code: ack.code });
            let name = match self.config.version {
                MqttVersion::V311 => reason::return_name(ack.code),
                MqttVersion::V5 => reason::name(ack.code),
            };
            return self.close(format!("the broker refused the session: {name} (0x{:02x})", ack.code));
        }
        let keepalive_s = ack.keepalive_s.unwrap_or(self.config.keepalive_s);
        self.terms = Terms {
            in_flight_max: usize::from(ack.receive_maximum.min(IN_FLIGHT_MAX)),
            packet_max: ack.packet_max,
            qos1: ack.qos1,
            retain: ack.retain,
            keepalive: (keepalive_s > 0).then(|| Duration::from_secs(u64::from(keepalive_s))),
        };
        self.phase = Phase::Up;
        self.events.push_back(SessionEvent::Up { session_present: ack.session_present });
        if !ack.session_present {
            self.subscription = Subscription::Wanted;
            for outgoing in &mut self.outbox {
                outgoing.dup = false;
            }
        }
        if self.subscription == Subscription::Wanted && !self.config.subscriptions.is_empty() {
            let id = self.new_id();
            self.send_subscribe(now, id, false);
        }
        self.send_waiting(now);
    }

    fn received_puback(&mut self, now: Instant, id: u16, code: u8) -> Result<(), Violation> {
        if matches!(self.subscription, Subscription::Asked { id: asked, .. } if asked == id) {
            return Err(Violation::protocol("PUBACK for a SUBSCRIBE"));
        }
        if let Some(at) = self.outbox.iter().position(|o| o.id == id && o.due.is_some()) {
            self.settle(at, code);
            self.send_waiting(now);
        }
        Ok(())
    }

    fn received_suback(&mut self, id: u16, codes: &[u8]) -> Result<(), Violation> {
        let resent_id = match self.subscription {
            Subscription::Asked { id: asked, again, .. } if asked == id => again.then_some(id),
            Subscription::Answered { granted, resent_id: Some(resent) } if resent == id => {
                self.subscription = Subscription::Answered { granted, resent_id: None };
                return Ok(());
            }
            _ => return Err(Violation::protocol("SUBACK without SUBSCRIBE")),
        };
        if codes.len() != self.config.subscriptions.len() {
            return Err(Violation::protocol("SUBACK with another number of codes than filters"));
        }
        self.subscription = Subscription::Answered { granted: codes.iter().all(|&code| code < 0x80), resent_id };
        for (topic, &code) in self.config.subscriptions.iter().zip(codes) {
            let topic = topic.clone();
            self.events.push_back(match code {
                0..0x80 => SessionEvent::Subscribed { topic },
                _ => SessionEvent::SubscribeRefused { topic, code },
            });
        }
        Ok(())
    }

    /// Sends, in order, what was not sent on this connection yet, as far as the window allows.
    fn send_waiting(&mut self, now: Instant) {
        let mut at = 0;
        while at < self.outbox.len().min(self.terms.in_flight_max) {
            if self.outbox[at].due.is_some() || self.send_publish(now, at) {
                at += 1;
            }
        }
    }

    /// Sends the publish at this place of the outbox; false when that settled it, so that it is no longer there.
    fn send_publish(&mut self, now: Instant, at: usize) -> bool {
        let due = self.answer_due(now);
        let Outgoing { id, message, dup, .. } = &self.outbox[at];
        let id = self.terms.qos1.then_some(*id);
        let retain = message.retain && self.terms.retain;
        let bytes = match encode::publish(self.config.version, id, *dup, retain, &message.topic, &message.payload) {
            Ok(bytes) if self.fits(&bytes) => bytes,
            Ok(_) | Err(encode::Unencodable::TooLong) => {
                self.settle(at, reason::PACKET_TOO_LARGE);
                return false;
            }
            Err(encode::Unencodable::BadText) => {
                self.settle(at, reason::TOPIC_NAME_INVALID);
                return false;
            }
        };
        self.send(now, bytes);
        if id.is_none() {
            self.settle(at, 0);
            return false;
        }
        self.outbox[at].due = Some(due);
        self.outbox[at].dup = true;
        true
    }

    /// Takes a publish out of the outbox and says how it ended.
    fn settle(&mut self, at: usize, code: u8) {
        if let Some(Outgoing { token, .. }) = self.outbox.remove(at) {
            self.events.push_back(match code {
                0..0x80 => SessionEvent::Acked { token },
                _ => SessionEvent::PublishRefused { token, code },
            });
        }
        if self.outbox.is_empty() {
            self.outbox = VecDeque::new();
        }
    }

    fn send_subscribe(&mut self, now: Instant, id: u16, again: bool) {
        match encode::subscribe(self.config.version, id, &self.config.subscriptions) {
            Ok(bytes) if self.fits(&bytes) => {
                self.subscription = Subscription::Asked { id, due: self.answer_due(now), again };
                self.send(now, bytes);
            }
            refused => {
                let code = if refused == Err(encode::Unencodable::BadText) { 0x8f } else { reason::PACKET_TOO_LARGE };
                for topic in self.config.subscriptions.clone() {
                    self.events.push_back(SessionEvent::SubscribeRefused { topic, code });
                }
            }
        }
    }

    fn fits(&self, bytes: &[u8]) -> bool {
        u32::try_from(bytes.len()).is_ok_and(|length| length <= self.terms.packet_max)
    }

    /// An id that nothing unacknowledged has, in turn: one that was used comes again only after all the others.
    fn new_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let id = self.last_id;
            let asked = matches!(self.subscription, Subscription::Asked { id: asked, .. } if asked == id);
            if !asked && self.outbox.iter().all(|o| o.id != id) {
                return id;
            }
        }
    }

    fn answer_due(&self, now: Instant) -> Instant {
        now + Duration::from_millis(u64::from(self.config.ack_timeout_ms))
    }

    fn ping_at(&self) -> Option<Instant> {
        self.terms.keepalive.map(|keepalive| self.last_sent + keepalive)
    }

    fn send(&mut self, now: Instant, bytes: Vec<u8>) {
        self.last_sent = now;
        self.events.push_back(SessionEvent::Send(bytes));
    }

    fn no_answer(&self, answer: &str) -> String {
        format!("no {answer} within {} ms", self.config.ack_timeout_ms)
    }

    /// Ends a connection on which an answer did not come.
    fn give_up(&mut self, now: Instant, answer: &str) {
        self.say_why(now, reason::UNSPECIFIED_ERROR);
        self.close(self.no_answer(answer));
    }

    fn violated(&mut self, now: Instant, violation: Violation) {
        self.say_why(now, violation.code);
        self.close(format!("the broker broke the protocol: {violation}"));
    }

    /// Tells a v5 broker why the connection ends. On v3.1.1 a DISCONNECT would take the will back, so nothing is said.
    fn say_why(&mut self, now: Instant, code: u8) {
        if self.config.version == MqttVersion::V5 {
            self.send(now, encode::disconnect(MqttVersion::V5, code));
        }
    }

    fn close(&mut self, why: String) {
        self.end();
        self.events.push_back(SessionEvent::Close(why));
    }

    fn end(&mut self) {
        self.phase = Phase::Closing;
        self.partial = Vec::new();
        self.pings = VecDeque::new();
    }
}
