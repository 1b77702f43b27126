//! Each misbehaviour of the server does what it says, to the command lines and on the wire.

use super::protocol::{Hand, bytes};
use super::world::{Came, Server, Typing, can_run, client, clients, end, project};
use super::{LONG, firmware};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// What a client comes to that would otherwise pass.
fn came(program: &Path, lie: &str) -> Came {
    let server = Server::start(&["--lie", lie]);
    end(client(program, &server.url, &project(&firmware::echo(), &[]), &["--expect-text", "ready", "--timeout", LONG]))
}

#[test]
fn a_refused_connection_is_said() {
    for program in clients() {
        let refused = came(&program, "unauthorized");
        assert!(refused.code == Some(1) && refused.err.contains("401 Unauthorized"), "{refused:?}");
        let refused = came(&program, "unavailable");
        assert!(refused.code == Some(1) && refused.err.contains("failed: Service Unavailable (503)."), "{refused:?}");
        assert!(refused.out.contains("Will retry in 1000ms..."), "{refused:?}");
    }
}

#[test]
fn a_connection_that_ends_in_mid_run_is_said() {
    if !can_run() {
        return;
    }
    for program in clients() {
        let cut = came(&program, "cut:5");
        assert!(
            cut.code == Some(1) && cut.err.contains("API Error: Connection to transport closed unexpectedly: code 1006"),
            "{cut:?}"
        );
        let failed = came(&program, "error:5");
        assert!(failed.code == Some(1) && failed.err.contains("API Error: the simulation has failed"), "{failed:?}");
        assert!(cut.out.contains("ready") && !cut.out.contains("TEST"), "{cut:?}");
    }
}

#[test]
fn only_the_first_connections_are_lied_to() {
    if !can_run() {
        return;
    }
    let server = Server::start(&["--lie", "cut:0", "--lies-first", "1"]);
    let (program, project) = (&clients()[0], project(&firmware::echo(), &[]));
    let mut codes = (0..2).map(|_| end(client(program, &server.url, &project, &["--expect-text", "ready"])).code);
    assert_eq!((codes.next(), codes.next()), (Some(Some(1)), Some(Some(0))));
}

#[test]
fn a_stalled_server_says_nothing_more() {
    if !can_run() {
        return;
    }
    let (server, project) = (Server::start(&["--lie", "stall:5"]), project(&firmware::echo(), &[]));
    for program in clients() {
        let mut typing = Typing::start(client(&program, &server.url, &project, &["-q", "--timeout", "100"]));
        assert_eq!(typing.read(5), b"ready");
        // A client without a stall ends after a tenth of a second.
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(typing.child.try_wait().unwrap(), None);
    }
}

#[test]
fn answers_come_late() {
    if !can_run() {
        return;
    }
    let server = Server::start(&["--lie", "delay:150ms"]);
    let mut hand = Hand::begin(&server, &firmware::echo(), true);
    let began = Instant::now();
    hand.call("sim:status", Value::Null);
    assert!(began.elapsed() >= Duration::from_millis(150));
    let began = Instant::now();
    let sent: Vec<String> = (0..20).map(|_| hand.send("sim:status", Value::Null)).collect();
    let heard: Vec<String> = (0..20).map(|_| hand.next()["id"].as_str().unwrap().into()).collect();
    assert!(sent == heard && began.elapsed() < Duration::from_secs(2), "a long way is no slow one");
}

#[test]
fn pieces_are_as_long_as_was_said() {
    if !can_run() {
        return;
    }
    let server = Server::start(&["--lie", "split:2"]);
    let mut hand = Hand::begin(&server, &firmware::echo(), false);
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    while pieces.concat().len() < 6 {
        pieces.push(bytes(&hand.event()));
    }
    assert!(pieces.iter().all(|piece| piece.len() <= 2) && pieces.concat() == b"ready\n", "{pieces:?}");
    drop(hand);
    let server = Server::start(&["--lie", "merge:500"]);
    let mut hand = Hand::begin(&server, &firmware::echo(), false);
    assert_eq!(hand.hear(6), b"ready\n", "what little there is comes in the end");
    hand.call("pause-point:add", json!({ "id": "p", "type": "serial-bytes", "bytes": b"z" }));
    hand.write(&[&[b'a'; 1100][..], b"z"].concat());
    let mut lengths = Vec::new();
    let pause = loop {
        let event = hand.event();
        if event["event"] == "sim:pause" {
            break event;
        }
        lengths.push(bytes(&event).len());
    };
    assert!(lengths.iter().sum::<usize>() == 1101 && lengths.len() <= 4, "{lengths:?}");
    assert_eq!(pause["payload"]["pausePoint"], json!("p"), "nothing is held back over a pause");
}

#[test]
fn bytes_are_lost_each_way() {
    if !can_run() {
        return;
    }
    const SENT: usize = 20_000;
    let server = Server::start(&["--lie", "lose:50"]);
    let mut hand = Hand::begin(&server, &firmware::echo(), false);
    // Its greeting may lose a byte or two; its port is open by then.
    hand.hear(4);
    hand.call("pause-point:add", json!({ "id": "p", "type": "serial-bytes", "bytes": b"z" }));
    hand.write(&[b'a'; SENT]);
    // A hundred, of which one arrives.
    hand.write(&[b'z'; 100]);
    let (said, _) = hand.until_pause();
    let heard = said.iter().filter(|byte| **byte == b'a').count();
    // One in fifty there, and one in fifty of the rest back.
    let lost = SENT - heard;
    assert!((650..950).contains(&lost), "{lost} of {SENT}");
}
