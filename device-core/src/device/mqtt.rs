//! The connection to the broker, and what goes over it.

use super::{Device, Link};
use crate::backoff::STABLE_AFTER;
use crate::config::{self, Config, MqttVersion, Security};
use crate::input::NetFailure;
use crate::output::{ClientIdentity, Connect, Output, Trust};
use crate::renewal;
use crate::report::Report;
use crate::session::{Message, PACKET_LIMIT, Session, SessionConfig, SessionEvent};
use crate::state::State;
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;

/// The token of the status message; readings have their numbers, from 1.
const STATUS: u64 = 0;

impl Device {
    /// Says how the broker will be reached, and begins to reach it.
    pub(super) fn begin_mqtt(&mut self, now: Instant) {
        self.enter(State::MqttConnecting);
        let (trust, source) = self.broker_trust();
        self.say(Report::SecurityLevel { level: self.config.security().name().into() });
        self.say(Report::TrustAnchor { source: source.into() });
        if trust == Trust::Anybody {
            self.say(Report::TlsInsecure {});
        }
        self.connect(now);
    }

    fn broker_trust(&self) -> (Trust, &'static str) {
        let issued = self.stored.identity.as_ref().and_then(|i| i.issued.as_ref());
        match (&self.config.mqtt_ca, issued) {
            _ if self.config.security() == Security::Plain => (Trust::System, "none"),
            _ if self.config.mqtt_insecure => (Trust::Anybody, "none"),
            (Some(configured), _) => (Trust::Anchors(configured.clone()), "configured"),
            (None, Some(issued)) => (Trust::Anchors(issued.ca_certificate.clone()), "enrolled"),
            (None, None) => (Trust::System, "system"),
        }
    }

    fn client_identity(&self) -> Option<ClientIdentity> {
        match (&self.config.mqtt_certificate, &self.config.mqtt_key) {
            _ if self.config.security() != Security::MutualTls => None,
            (Some(certificate), Some(key)) => Some(ClientIdentity { certificate: certificate.clone(), key: key.clone() }),
            _ => self.enrolled_identity(),
        }
    }

    pub(super) fn connect(&mut self, now: Instant) {
        if self.ip.is_none() || self.link != Link::Down {
            return;
        }
        let date = self.unix_time(now).filter(|_| self.config.enrols());
        if self.own_validity().zip(date).is_some_and(|(validity, date)| renewal::expired(validity, date)) {
            return self.check_certificates(now);
        }
        if let Some(misfit) = &self.misfit {
            let detail = format!("{misfit}");
            return self.no_connection(now, "bad-identity", detail);
        }
        let Some(host) = self.config.mqtt_host.clone() else {
            return self.no_connection(now, "no-host", "MQTT_HOST is not set".into());
        };
        let security = self.config.security();
        let scheme = if security == Security::Plain { "mqtt" } else { "mqtts" };
        let session = self.session_config();
        let (uri, client_id) = (format!("{scheme}://{host}:{}", self.config.port()), session.client_id.clone());
        self.say(Report::MqttConnecting { uri, client_id, version: self.config.mqtt_version.name().into() });
        if self.session.is_none() {
            self.session = Some(Session::new(session));
            self.queue.take_back();
        }
        let connect = Connect {
            host,
            port: self.config.port(),
            security,
            trust: self.broker_trust().0,
            identity: self.client_identity(),
            tls_versions: self.config.tls_versions,
        };
        self.link = Link::Opening;
        self.outputs.push_back(Output::Connect(Box::new(connect)));
    }

    fn session_config(&self) -> SessionConfig {
        let Config { mqtt_client_id, mqtt_version, mqtt_user, mqtt_password, keepalive_s, ack_timeout_ms, .. } = &self.config;
        let version: MqttVersion = *mqtt_version;
        SessionConfig {
            client_id: mqtt_client_id.clone().unwrap_or_else(|| self.device_id().into()),
            version,
            keepalive_s: keepalive_s.unwrap_or(config::KEEPALIVE_S),
            username: mqtt_user.clone(),
            password: mqtt_password.clone(),
            will: Some(Message { topic: self.topic("status"), payload: br#"{"status":"offline"}"#.to_vec(), retain: true }),
            ack_timeout_ms: ack_timeout_ms.unwrap_or(config::ACK_TIMEOUT_MS),
            packet_limit: PACKET_LIMIT,
            subscriptions: vec![self.topic("command")],
        }
    }

    fn topic(&self, leaf: &str) -> String {
        format!("devices/{}/{leaf}", self.device_id())
    }

    pub(super) fn connected(&mut self, now: Instant) {
        if self.link != Link::Opening {
            return;
        }
        self.link = Link::Open;
        self.refused = false;
        if let Some(session) = &mut self.session {
            session.connect(now);
        }
        self.drain_session(now);
    }

    pub(super) fn connect_failed(&mut self, now: Instant, failure: &NetFailure) {
        if self.link != Link::Opening {
            return;
        }
        self.link = Link::Down;
        self.no_connection(now, failure.kind.word(), failure.text.clone());
    }

    fn no_connection(&mut self, now: Instant, why: &str, detail: String) {
        self.last_error = Some(format!("mqtt: {why}"));
        self.say(Report::MqttConnectFailed { why: why.into(), detail });
        self.retry_mqtt(now);
    }

    fn retry_mqtt(&mut self, now: Instant) {
        self.mqtt_stable = None;
        self.enter(State::MqttConnecting);
        self.mqtt_retry = Some(self.back_off(now, "mqtt", |d| &mut d.mqtt_backoff));
    }

    pub(super) fn received(&mut self, now: Instant, bytes: &[u8]) {
        if self.link != Link::Open {
            return;
        }
        if let Some(session) = &mut self.session {
            session.received(now, bytes);
        }
        self.drain_session(now);
    }

    pub(super) fn closed(&mut self, now: Instant, failure: &NetFailure) {
        if self.link != Link::Open {
            return;
        }
        self.link = Link::Down;
        if let Some(session) = &mut self.session {
            session.transport_closed();
        }
        self.disconnected(now, format!("{}: {}", failure.kind.word(), failure.text));
    }

    fn disconnected(&mut self, now: Instant, why: String) {
        if !core::mem::take(&mut self.refused) {
            self.last_error = Some(format!("mqtt: {why}"));
            self.say(Report::MqttDisconnected { why });
        }
        self.retry_mqtt(now);
    }

    /// Ends the session's stream to come back at once: the broker gets a DISCONNECT, and the retained status stays.
    pub(super) fn step_out(&mut self) {
        self.part(Session::disconnect);
    }

    /// Ends the session's stream to come back to this broker late or never: it publishes the will over the retained status.
    pub(super) fn leave_broker(&mut self) {
        self.part(Session::leave);
    }

    fn part(&mut self, goodbye: fn(&mut Session)) {
        if let Some(session) = self.session.as_mut().filter(|_| self.link == Link::Open) {
            goodbye(session);
            while let Some(event) = session.poll() {
                if let SessionEvent::Send(bytes) = event {
                    self.outputs.push_back(Output::Send(bytes));
                }
            }
        }
        self.drop_link();
    }

    /// Ends the stream, where there is one, without a word to anybody.
    pub(super) fn drop_link(&mut self) {
        if self.link == Link::Down {
            return;
        }
        if let Some(session) = &mut self.session {
            session.transport_closed();
        }
        self.link = Link::Down;
        self.mqtt_stable = None;
        self.outputs.push_back(Output::Close);
    }

    pub(super) fn tick_session(&mut self, now: Instant) {
        if self.link != Link::Open {
            return;
        }
        if let Some(session) = &mut self.session {
            session.tick(now);
        }
        self.drain_session(now);
    }

    /// Carries out what the session asks for, until it asks for nothing.
    fn drain_session(&mut self, now: Instant) {
        while let Some(event) = self.session.as_mut().and_then(Session::poll) {
            match event {
                SessionEvent::Send(bytes) => self.outputs.push_back(Output::Send(bytes)),
                SessionEvent::Up { session_present } => self.session_up(now, session_present),
                SessionEvent::Refused { code } => {
                    self.refused = true;
                    self.last_error = Some(format!("mqtt: refused with code {code}"));
                    self.say(Report::MqttRefused { code });
                }
                SessionEvent::Message(message) => {
                    if message.topic == self.topic("command") {
                        let bytes = u32::try_from(message.payload.len()).unwrap_or(u32::MAX);
                        self.say(Report::OrderReceived { bytes });
                    }
                }
                SessionEvent::Acked { token: STATUS } => {}
                SessionEvent::Acked { token } => self.delivered(token),
                SessionEvent::PublishRefused { token, code } => self.publish_refused(token, code),
                SessionEvent::Subscribed { topic } => self.say(Report::Subscribed { topic }),
                SessionEvent::SubscribeRefused { topic, code } => self.say(Report::SubscribeRefused { topic, code }),
                SessionEvent::Close(why) => {
                    self.link = Link::Down;
                    self.outputs.push_back(Output::Close);
                    if let Some(session) = &mut self.session {
                        session.transport_closed();
                    }
                    return self.disconnected(now, why);
                }
            }
            self.fill_session(now);
        }
    }

    fn session_up(&mut self, now: Instant, session_present: bool) {
        self.enter(State::MqttConnected);
        self.ledger.connects += 1;
        self.last_error = None;
        self.mqtt_stable = Some(now + STABLE_AFTER);
        self.status_due = true;
        let waiting = u32::try_from(self.queue.len()).unwrap_or(u32::MAX);
        self.draining = (waiting > 0).then_some((waiting, waiting));
        self.say(Report::MqttConnected { session_present });
    }

    /// Sends what waits, as far as the session takes it.
    pub(super) fn flush(&mut self, now: Instant) {
        self.fill_session(now);
        self.drain_session(now);
    }

    fn fill_session(&mut self, now: Instant) {
        if self.link != Link::Open {
            return;
        }
        let (status, telemetry) = (self.topic("status"), self.topic("telemetry"));
        let Some(session) = &mut self.session else { return };
        while session.has_room() {
            let (token, message) = if core::mem::take(&mut self.status_due) {
                if session.holds(STATUS) {
                    continue;
                }
                (STATUS, Message { topic: status.clone(), payload: br#"{"status":"online"}"#.to_vec(), retain: true })
            } else {
                let Some(reading) = self.queue.hand_over() else { break };
                (reading.number, Message { topic: telemetry.clone(), payload: reading.payload.clone().into_bytes(), retain: false })
            };
            if session.publish(now, token, message).is_err() {
                break;
            }
        }
    }

    fn delivered(&mut self, number: u64) {
        if !self.queue.remove(number) {
            return;
        }
        self.ledger.delivered += 1;
        self.outputs.push_back(Output::QueuePop(number));
        self.say(Report::Delivered { number });
        self.drained();
    }

    fn publish_refused(&mut self, token: u64, code: u8) {
        let topic = self.topic(if token == STATUS { "status" } else { "telemetry" });
        self.say(Report::PublishRefused { topic, code });
        if token != STATUS && self.queue.remove(token) {
            self.ledger.dropped_refused += 1;
            self.outputs.push_back(Output::QueuePop(token));
            self.drained();
        }
    }

    /// Counts down what waited at the beginning of the connection.
    fn drained(&mut self) {
        match &mut self.draining {
            Some((1, count)) => {
                let count = *count;
                self.draining = None;
                self.say(Report::QueueDrained { count });
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
    }
}
