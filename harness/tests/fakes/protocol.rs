//! The server's end of the API, message by message.

use super::firmware;
use super::world::{PATIENCE, Server, TOKEN, can_run};
use serde_json::{Value, json};
use std::net::TcpStream;
use std::time::Duration;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

/// A client by hand.
pub struct Hand {
    socket: WebSocket<TcpStream>,
    id: u32,
    /// Events that came before an answer.
    pub events: Vec<Value>,
}

impl Hand {
    pub fn connect(server: &Server) -> Hand {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut request = server.url.as_str().into_client_request().unwrap();
        request.headers_mut().insert("Authorization", format!("Bearer {TOKEN}").parse().unwrap());
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let (socket, _) = tungstenite::client::client_with_config(request, stream, Some(config)).unwrap();
        let mut hand = Hand { socket, id: 0, events: Vec::new() };
        let hello = hand.next();
        assert_eq!((&hello["type"], &hello["protocolVersion"]), (&json!("hello"), &json!(1)));
        hand
    }

    /// With an image that has been started.
    pub fn begin(server: &Server, image: &[u8], pause: bool) -> Hand {
        let mut hand = Hand::connect(server);
        hand.upload(image);
        hand.call("serial-monitor:listen", Value::Null);
        hand.call("sim:start", json!({ "firmware": "firmware.elf", "pause": pause }));
        hand
    }

    pub fn upload(&mut self, image: &[u8]) {
        let diagram = json!({ "parts": [{ "id": "esp" }],
            "connections": [["esp:TX", "$serialMonitor:RX"], ["esp:RX", "$serialMonitor:TX"]] });
        self.call("file:upload", json!({ "name": "diagram.json", "text": diagram.to_string() }));
        self.call("file:upload", json!({ "name": "firmware.elf", "binary": base64(image) }));
    }

    pub fn next(&mut self) -> Value {
        self.try_next().expect("a message")
    }

    pub fn try_next(&mut self) -> tungstenite::Result<Value> {
        loop {
            match self.socket.read()? {
                Message::Text(text) => return Ok(serde_json::from_str(text.as_str()).unwrap()),
                Message::Close(frame) => assert!(frame.is_none(), "{frame:?}"),
                _ => {}
            }
        }
    }

    pub fn send(&mut self, command: &str, params: Value) -> String {
        self.id += 1;
        let mut message = json!({ "type": "command", "command": command, "id": self.id.to_string() });
        if !params.is_null() {
            message["params"] = params;
        }
        self.socket.send(Message::text(message.to_string())).unwrap();
        self.id.to_string()
    }

    /// A command's answer; events before it are kept.
    pub fn ask(&mut self, command: &str, params: Value) -> Value {
        let id = self.send(command, params);
        loop {
            let message = self.next();
            if message["type"] == "event" {
                self.events.push(message);
                continue;
            }
            assert_eq!((&message["type"], &message["id"], &message["command"]), (&json!("response"), &json!(id), &json!(command)));
            return message;
        }
    }

    /// The result of a command that is not refused.
    pub fn call(&mut self, command: &str, params: Value) -> Value {
        let answer = self.ask(command, params);
        assert_eq!(answer["error"], json!(false), "{command}: {answer}");
        answer["result"].clone()
    }

    /// The code of a command that is refused.
    pub fn refused(&mut self, command: &str, params: Value) -> u64 {
        let answer = self.ask(command, params);
        assert_eq!(answer["error"], json!(true), "{command}: {answer}");
        answer["result"]["code"].as_u64().unwrap()
    }

    pub fn event(&mut self) -> Value {
        if !self.events.is_empty() {
            return self.events.remove(0);
        }
        let event = self.next();
        assert_eq!(event["type"], "event", "{event}");
        event
    }

    /// What the device says up to the next pause, and the pause.
    pub fn until_pause(&mut self) -> (Vec<u8>, Value) {
        let mut said = Vec::new();
        loop {
            let event = self.event();
            if event["event"] == "sim:pause" {
                return (said, event);
            }
            said.extend(bytes(&event));
        }
    }

    /// So many bytes of what the device says, at least.
    pub fn hear(&mut self, count: usize) -> Vec<u8> {
        let mut said = Vec::new();
        while said.len() < count {
            said.extend(bytes(&self.event()));
        }
        said
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.call("serial-monitor:write", json!({ "bytes": bytes }));
    }
}

pub fn bytes(event: &Value) -> Vec<u8> {
    assert_eq!(event["event"], "serial-monitor:data", "{event}");
    event["payload"]["bytes"].as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8).collect()
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn a_pause_comes_after_its_byte_and_what_follows_after_the_next_resume() {
    if !can_run() {
        return;
    }
    let server = Server::start(&[]);
    let mut hand = Hand::begin(&server, &firmware::echo(), true);
    assert_eq!(hand.call("sim:status", Value::Null), json!({ "running": false, "nanos": 0 }));
    hand.call("pause-point:add", json!({ "id": "pp1", "type": "serial-bytes", "bytes": b"ady" }));
    hand.call("sim:resume", json!({}));
    let (said, pause) = hand.until_pause();
    assert_eq!(said, b"ready");
    assert_eq!(pause["payload"], json!({ "pausePoint": "pp1", "pausePointInfo": { "type": "serial-bytes" } }));
    assert_eq!((&pause["paused"], pause["nanos"].as_u64() > Some(0)), (&json!(true), true));
    // Time stands still, and what was said meanwhile is kept.
    let before = hand.call("sim:status", Value::Null);
    hand.write(b"boot ok\n");
    assert_eq!(hand.call("sim:status", Value::Null), before);
    assert!(hand.events.is_empty());
    hand.call("pause-point:add", json!({ "id": "pp2", "type": "time-relative", "nanos": 300_000_000 }));
    hand.call("sim:resume", json!({}));
    let (said, pause) = hand.until_pause();
    assert_eq!((said.as_slice(), &pause["payload"]["pausePoint"]), (&b"\nboot ok\n"[..], &json!("pp2")));
    let took = pause["nanos"].as_u64().unwrap() - before["nanos"].as_u64().unwrap();
    assert!((300_000_000..5_000_000_000).contains(&took), "{took}");
    hand.call("sim:resume", json!({ "pauseAfter": 1000 }));
    assert_eq!(hand.until_pause().1["payload"], json!({}));
    hand.call("sim:resume", Value::Null);
    assert_eq!(hand.call("sim:status", Value::Null)["running"], json!(true));
    hand.call("sim:resume", json!({}));
    // A client waits for the event before the answer.
    hand.call("sim:pause", Value::Null);
    assert_eq!(hand.events.last().map(|event| event["event"].clone()), Some(json!("sim:pause")));
}

#[test]
fn the_boards_own_clock_stands_still_in_a_pause() {
    if !can_run() {
        return;
    }
    let server = Server::start(&[]);
    let mut hand = Hand::begin(&server, &firmware::clock(), false);
    assert_eq!(hand.hear(6), b"ready\n");
    let now = |hand: &mut Hand| {
        hand.write(b"?");
        u32::from_le_bytes(hand.hear(4).try_into().unwrap())
    };
    let before = now(&mut hand);
    hand.call("sim:pause", Value::Null);
    hand.events.clear();
    // What is measured: this time passes here, and not there.
    std::thread::sleep(Duration::from_secs(2));
    hand.call("sim:resume", json!({}));
    let took = now(&mut hand).wrapping_sub(before);
    assert!(took < 15_000_000, "{took} ten millionths of a second");
}

#[test]
fn a_restart_begins_again() {
    if !can_run() {
        return;
    }
    let server = Server::start(&[]);
    let mut hand = Hand::begin(&server, &firmware::echo(), false);
    for _ in 0..2 {
        assert_eq!(hand.hear(6), b"ready\n");
        hand.call("sim:restart", json!({ "pause": false }));
        assert_eq!(server.emulators(), 1, "there is one board a connection");
    }
    assert_eq!(hand.hear(6), b"ready\n");
    hand.call("sim:restart", json!({ "pause": true }));
    assert_eq!(hand.call("sim:status", Value::Null), json!({ "running": false, "nanos": 0 }));
}

#[test]
fn a_restart_keeps_what_was_stored_and_a_start_does_not() {
    let Some(image) = super::world::firmware().filter(|_| can_run()) else { return };
    let server = Server::start(&[]);
    let mut hand = Hand::begin(&server, &image, true);
    let wait = |hand: &mut Hand, text: &str| {
        hand.call("pause-point:add", json!({ "id": text, "type": "serial-bytes", "bytes": text.as_bytes() }));
        hand.call("sim:resume", json!({}));
        String::from_utf8(hand.until_pause().0).unwrap()
    };
    let boot = |hand: &mut Hand| wait(hand, "console: Ready") + &wait(hand, "state: CHECK_PROVISIONING -> ");
    boot(&mut hand);
    hand.write(b"provision {\"ssid\":\"lab\",\"password\":\"correct-horse\",\"device_id\":\"d1\",\"provisioning_token\":\"t\"}\n");
    wait(&mut hand, "WIFI_CONNECTING");
    hand.call("sim:restart", json!({ "pause": true }));
    boot(&mut hand);
    assert!(wait(&mut hand, "\n").contains("WIFI_CONNECTING"));
    hand.call("sim:start", json!({ "firmware": "firmware.elf", "pause": true }));
    boot(&mut hand);
    assert!(wait(&mut hand, "\n").contains("AP_MODE"));
}

#[test]
fn a_section_of_flash_tells_the_board_what_is_around_it() {
    let Some(image) = super::world::firmware().filter(|_| can_run()) else { return };
    let server = Server::start(&[]);
    let mut hand = Hand::connect(&server);
    hand.upload(&image);
    hand.call("serial-monitor:listen", Value::Null);
    let provision: &[u8] =
        b"provision {\"ssid\":\"lab\",\"password\":\"correct-horse\",\"device_id\":\"d\",\"provisioning_token\":\"t\"}\n";
    // An erased section is as none: then there is a network of that name.
    for (text, comes) in [(&b""[..], "Connected, address"), (b"seed 1\nair add elsewhere 1 -50 -\n", "Not connected: not-found")] {
        let section = [text, &[0xff; 64]].concat();
        hand.call("file:upload", json!({ "name": "surroundings", "binary": base64(&section) }));
        let sections = json!([{ "offset": 0, "file": "firmware.elf" }, { "offset": 0x9000, "file": "surroundings" }]);
        hand.call("sim:start", json!({ "firmware": sections, "pause": true }));
        for (at, waits) in ["AP_MODE", comes].iter().enumerate() {
            hand.call("pause-point:add", json!({ "id": "p", "type": "serial-bytes", "bytes": waits.as_bytes() }));
            hand.call("sim:resume", json!({}));
            hand.until_pause();
            if at == 0 {
                hand.write(provision);
            }
        }
    }
}

#[test]
fn what_makes_no_sense_or_cannot_be_simulated_is_refused() {
    if !can_run() {
        return;
    }
    let server = Server::start(&[]);
    let mut hand = Hand::connect(&server);
    assert_eq!(hand.refused("sim:resume", json!({})), 400, "nothing was started");
    assert_eq!(hand.refused("serial-monitor:write", json!({ "bytes": [1] })), 400);
    assert_eq!(hand.refused("sim:start", json!({ "firmware": "firmware.elf" })), 404, "nothing was uploaded");
    hand.upload(&firmware::echo());
    hand.call(
        "sim:start",
        json!({ "firmware": [{ "offset": 0, "file": "firmware.elf" }], "flashSize": 4, "chips": [], "pause": true }),
    );
    for (command, params, code) in [
        ("serial-monitor:write", json!({ "bytes": [256] }), 400),
        ("pause-point:add", json!({ "id": "a", "type": "else" }), 400),
        ("pause-point:add", json!({ "id": "a", "type": "serial-bytes", "bytes": [] }), 400),
        ("pause-point:remove", json!({ "id": "a" }), 404),
        ("control:set", json!({ "part": "btn", "control": "pressed", "value": 1 }), 404),
        ("control:set", json!({ "part": "esp", "control": "pressed", "value": 1 }), 501),
        ("pin:read", json!({ "part": "esp", "pin": "5" }), 501),
        ("framebuffer:read", json!({ "id": "lcd" }), 501),
        ("file:download", json!({ "name": "none" }), 404),
        ("sim:fly", Value::Null, 400),
    ] {
        assert_eq!(hand.refused(command, params), code, "{command}");
    }
    assert_eq!(hand.call("sim:read-vcd", Value::Null)["sampleCount"], json!(0));
    hand.socket.send(Message::text("rubbish")).unwrap();
    assert_eq!(hand.next()["type"], json!("error"));
    assert!(hand.try_next().is_err(), "that was the end");
}

#[test]
fn a_flash_of_16_megabytes_is_one_message() {
    let server = Server::start(&[]);
    let mut hand = Hand::connect(&server);
    let flash = base64(&vec![0xa5; 16 << 20]);
    hand.call("file:upload", json!({ "name": "flash-0x0.bin", "binary": flash }));
    assert!(hand.call("file:download", json!({ "name": "flash-0x0.bin" }))["binary"] == json!(flash));
}
