//! What a session is told when it is made, and what it tells and asks for afterwards.

use crate::config::MqttVersion;
use crate::packet::encode;
use crate::secret::Secret;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// What a session is.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Client identifier; not empty.
    pub client_id: String,
    /// Protocol version.
    pub version: MqttVersion,
    /// Seconds; 0 switches keepalive off.
    pub keepalive_s: u16,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Last will, at QoS 1; its retain flag counts, its payload has at most 65,535 bytes.
    pub will: Option<Message>,
    /// How long an acknowledgement (CONNACK, PUBACK, SUBACK, PINGRESP) may take, in milliseconds.
    pub ack_timeout_ms: u32,
    /// Largest packet accepted, bytes; 1 at least.
    pub packet_limit: u32,
    /// Topic filters subscribed to at QoS 1 whenever the broker has no session (in one SUBSCRIBE).
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

/// What a session asks for or tells, taken out with `Session::poll`. Its `Debug` shows a `Send` by name and size only: a CONNECT holds
/// the password.
#[derive(Clone, PartialEq, Eq)]
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
    /// A message came (its PUBACK is the next `Send`).
    Message(Message),
    /// The publish with this token was acknowledged. Reason codes below 0x80 count as success (0x10: nobody subscribed).
    Acked {
        /// The caller's token.
        token: u64,
    },
    /// The publish with this token was refused, by a v5 broker or (0x95 packet too large, 0x90 topic name invalid) by the session
    /// itself because the broker would.
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

impl fmt::Debug for SessionEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionEvent::Send(bytes) => write!(f, "Send({}, {} bytes)", encode::name(bytes), bytes.len()),
            SessionEvent::Up { session_present } => f.debug_struct("Up").field("session_present", session_present).finish(),
            SessionEvent::Refused { code } => f.debug_struct("Refused").field("code", code).finish(),
            SessionEvent::Message(message) => f.debug_tuple("Message").field(message).finish(),
            SessionEvent::Acked { token } => f.debug_struct("Acked").field("token", token).finish(),
            SessionEvent::PublishRefused { token, code } => {
                f.debug_struct("PublishRefused").field("token", token).field("code", code).finish()
            }
            SessionEvent::Subscribed { topic } => f.debug_struct("Subscribed").field("topic", topic).finish(),
            SessionEvent::SubscribeRefused { topic, code } => {
                f.debug_struct("SubscribeRefused").field("topic", topic).field("code", code).finish()
            }
            SessionEvent::Close(why) => f.debug_tuple("Close").field(why).finish(),
        }
    }
}
