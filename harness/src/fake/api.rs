//! The messages of Wokwi's simulation API: one WebSocket, a JSON text each.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// The version of the protocol that both fakes speak.
pub const PROTOCOL_VERSION: u32 = 1;
/// Bytes of a message at most: 16 MB of flash as base64 is 22 MB.
pub const MESSAGE_MAX: usize = 32 << 20;

/// Any message.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Message {
    /// The server's first.
    #[serde(rename_all = "camelCase")]
    Hello {
        /// [`PROTOCOL_VERSION`].
        protocol_version: u32,
        /// What serves.
        app_name: String,
        /// Which one.
        app_version: String,
    },
    /// What the client wishes.
    Command {
        /// Which wish, as `sim:start`.
        command: String,
        /// A decimal number of the client's; the answer has it again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// What it needs.
        #[serde(default, skip_serializing_if = "Value::is_null")]
        params: Value,
    },
    /// The answer to a command.
    Response {
        /// Which was answered.
        command: String,
        /// Its number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// What came of it; where it is an error, `{code, message}`.
        #[serde(default)]
        result: Value,
        /// Whether it is an error.
        #[serde(default)]
        error: bool,
    },
    /// What happened in the simulation.
    Event {
        /// What, as `sim:pause`.
        event: String,
        /// More of it.
        payload: Value,
        /// When, in simulated nanoseconds.
        nanos: u64,
        /// Whether the simulation stands still.
        paused: bool,
    },
    /// The end of all.
    Error {
        /// Why.
        message: String,
    },
}

/// A command that is refused.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Refusal {
    /// As HTTP's.
    pub code: u16,
    /// Why.
    pub message: String,
}

impl Refusal {
    /// What was asked for makes no sense.
    pub fn wrong(message: impl fmt::Display) -> Refusal {
        Refusal { code: 400, message: message.to_string() }
    }

    /// What was named is not there.
    pub fn missing(message: impl fmt::Display) -> Refusal {
        Refusal { code: 404, message: message.to_string() }
    }

    /// The real server does it, the fake does not.
    pub fn beyond(what: impl fmt::Display) -> Refusal {
        Refusal { code: 501, message: format!("{what} is not simulated by this fake") }
    }
}

/// Limits of a WebSocket that carries flash images.
pub fn limits() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(Some(MESSAGE_MAX)).max_frame_size(Some(MESSAGE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn messages_are_written_and_read_as_wokwis() {
        let hello = r#"{"type":"hello","protocolVersion":1,"appName":"Wokwi Simulator","appVersion":"1.0.0-20251028-g60747fe2"}"#;
        let command = r#"{"type":"command","command":"file:upload","params":{"name":"diagram.json","text":"{}"},"id":"0"}"#;
        let bare = r#"{"type":"command","command":"sim:status","id":"7"}"#;
        let response = r#"{"type":"response","command":"file:upload","id":"0","result":{},"error":false}"#;
        let event = r#"{"type":"event","event":"sim:pause","payload":{},"nanos":300000000,"paused":true}"#;
        for text in [hello, command, bare, response, event, r#"{"type":"error","message":"no"}"#] {
            let message: Message = serde_json::from_str(text).unwrap();
            let written: Value = serde_json::to_value(&message).unwrap();
            assert_eq!(written, serde_json::from_str::<Value>(text).unwrap());
        }
        assert!(serde_json::from_str::<Message>(r#"{"type":"else"}"#).is_err());
        let extra = json!({"type": "event", "event": "e", "payload": {}, "nanos": 1, "paused": false, "more": 1});
        assert!(serde_json::from_value::<Message>(extra).is_ok(), "what a newer server adds is passed over");
    }
}
