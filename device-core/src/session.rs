//! The MQTT session, v5 and v3.1.1: framing, ids, acknowledgements, resends, keepalive. No socket, no clock.
//!
//! The session outlives network connections: `connect` begins one, `transport_closed` ends one, and what was not acknowledged is sent
//! again in the next one with DUP=1 and the same packet id when the broker still knows the session, as new otherwise.
//! On v5 nothing is sent again on a live connection [MQTT-4.4.0-1]: an acknowledgement that does not come in time ends the connection.

use crate::config::MqttVersion;
use crate::secret::Secret;
use crate::time::Instant;
use alloc::string::String;
use alloc::vec::Vec;

/// The bytes of the largest packet accepted from the broker unless configured otherwise; the device says so in its v5 CONNECT.
pub const PACKET_LIMIT: u32 = 16 * 1024;
/// How many QoS 1 publishes may be unacknowledged at once (the broker's Receive Maximum may lower it).
pub const IN_FLIGHT_MAX: u16 = 8;

/// What a session is.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Client identifier.
    pub client_id: String,
    /// Protocol version.
    pub version: MqttVersion,
    /// Seconds; 0 switches keepalive off.
    pub keepalive_s: u16,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Last will (QoS 1, retained).
    pub will: Option<Message>,
    /// How long an acknowledgement (CONNACK, PUBACK, SUBACK, PINGRESP) may take, in milliseconds.
    pub ack_timeout_ms: u32,
    /// Largest packet accepted, bytes.
    pub packet_limit: u32,
    /// Topic filters subscribed to at QoS 1 whenever the broker has no session.
    pub subscriptions: Vec<String>,
}

/// An application message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Retain flag.
    pub retain: bool,
}

/// What a session asks for or tells, taken out with `Session::poll`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// Send these bytes.
    Send(Vec<u8>),
    /// CONNACK accepted us.
    Up {
        /// Whether the broker still had the session.
        session_present: bool,
    },
    /// CONNACK refused us; a `Close` follows.
    Refused {
        /// v3.1.1 return code or v5 reason code.
        code: u8,
    },
    /// A message came (its PUBACK has been queued as a `Send`).
    Message(Message),
    /// The publish with this token was acknowledged. Reason codes below 0x80 count as success (0x10: nobody subscribed).
    Acked {
        /// The caller's token.
        token: u64,
    },
    /// The broker refused the publish with this token (v5).
    PublishRefused {
        /// The caller's token.
        token: u64,
        /// Reason code, 0x80 or above.
        code: u8,
    },
    /// The broker granted a subscription.
    Subscribed {
        /// The topic filter.
        topic: String,
    },
    /// The broker refused a subscription.
    SubscribeRefused {
        /// The topic filter.
        topic: String,
        /// Return or reason code.
        code: u8,
    },
    /// The stream must be closed, for this reason: a protocol violation, a time-out, or the broker's DISCONNECT. One line, for the log.
    Close(String),
}

/// The session. See the module's text.
#[derive(Debug)]
pub struct Session {
    _config: SessionConfig,
}

/// No room for another publish until one is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

#[expect(unused_variables, clippy::unimplemented, reason = "signatures first")]
impl Session {
    /// A session that the broker has not seen yet (or whose packet ids were forgotten with the power).
    pub fn new(config: SessionConfig) -> Self {
        Session { _config: config }
    }
    /// The stream is up: begins with CONNECT.
    pub fn connect(&mut self, now: Instant) {
        unimplemented!()
    }
    /// Bytes came, in any slicing.
    pub fn received(&mut self, now: Instant, bytes: &[u8]) {
        unimplemented!()
    }
    /// The stream has ended or was closed; half-read packets are forgotten.
    pub fn transport_closed(&mut self) {
        unimplemented!()
    }
    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        unimplemented!()
    }
    /// Whether `publish` would be taken now: the session is up and the in-flight window has room.
    pub fn has_room(&self) -> bool {
        unimplemented!()
    }
    /// Publishes at QoS 1; `token` comes back in `Acked` or `PublishRefused`.
    ///
    /// # Errors
    /// `NoRoom` when `has_room` is false.
    pub fn publish(&mut self, now: Instant, token: u64, message: Message) -> Result<(), NoRoom> {
        unimplemented!()
    }
    /// Whether the publish with this token is still unacknowledged in the session (it will be resent by the session itself).
    pub fn holds(&self, token: u64) -> bool {
        unimplemented!()
    }
    /// Sends DISCONNECT (the caller closes the stream after it).
    pub fn disconnect(&mut self) {
        unimplemented!()
    }
    /// The next event, until there is none.
    pub fn poll(&mut self) -> Option<SessionEvent> {
        unimplemented!()
    }
    /// When `tick` is next wanted, and whether for an answer the broker owes (true) or a PINGREQ (false).
    pub fn deadline(&self) -> Option<(Instant, bool)> {
        unimplemented!()
    }
}
