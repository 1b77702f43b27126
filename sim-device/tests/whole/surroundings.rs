//! What surrounds a device and changes while it runs: its clock, the air, the time server, and servers that mean it ill.

use crate::twin::{TODAY, Twin, parts};
use device_core::sntp;
use sim_device::limits::QUIET;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// A broker that meets each connection with this, and how many came.
async fn broker(greeting: &'static [u8], keep: bool) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::Relaxed);
            // CONNECT has come.
            let _ = stream.read(&mut [0; 512]).await;
            let _ = stream.write_all(greeting).await;
            if keep {
                kept.push(stream);
            }
        }
    });
    (port, count)
}

const CONNACK_SUBACK: &[u8] = &[0x20, 3, 0, 0, 0];

#[tokio::test]
async fn a_skipping_clock_passes_an_hour_of_back_off_in_seconds() {
    // Nobody listens here any more.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port().to_string();
    let mut twin = Twin::on(parts(&[("MQTT_HOST", "127.0.0.1"), ("MQTT_PORT", &port)]));
    twin.provisioned().await;
    twin.told("clock skip on").await;
    let begun = Instant::now();
    twin.hears("attempt 30").await;
    let jumped = twin.said.iter().filter(|l| l.contains("lock jumped")).count();
    assert!(jumped >= 30, "each jump is said: {jumped}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let uptime: u64 = twin.said.last().unwrap().split(['(', ')']).nth(1).unwrap().parse().unwrap();
    assert!(uptime > 600_000, "half an hour of back-off in ms: {uptime}");
    // And off is off: the next line is not said before its time.
    twin.told("clock skip off").await;
    twin.hears("clock skip").await;
    twin.told("clock jump 3600000").await;
    twin.hears("3600000").await;
    let last: u64 = twin.said.last().unwrap().split(['(', ')']).nth(1).unwrap().parse().unwrap();
    assert!(last >= uptime + 3_600_000);
}

#[tokio::test]
async fn a_skipping_clock_finds_a_silent_broker_out() {
    // Accepts, and never says CONNACK.
    let (port, count) = broker(b"", true).await;
    let mut twin = Twin::on(parts(&[("MQTT_HOST", "127.0.0.1"), ("MQTT_PORT", &port), ("ACK_TIMEOUT_MS", "300000")]));
    twin.provisioned().await;
    twin.told("clock skip on").await;
    twin.hears("attempt 2").await;
    assert!(count.load(Ordering::Relaxed) >= 2);
}

/// Answers every packet as it should be, a PINGREQ later than `QUIET`; all of them are short.
async fn slow_to_answer_pings(mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let (kind, length) = (stream.read_u8().await?, stream.read_u8().await?);
        let mut body = vec![0; length.into()];
        stream.read_exact(&mut body).await?;
        let answer = match kind >> 4 {
            1 => CONNACK_SUBACK.to_vec(),
            3 => {
                let id = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                vec![0x40, 2, body[id], body[id + 1]]
            }
            8 => vec![0x90, 4, body[0], body[1], 0, 1],
            12 => {
                tokio::time::sleep(QUIET * 10).await;
                vec![0xd0, 0]
            }
            _ => continue,
        };
        stream.write_all(&answer).await?;
    }
}

#[tokio::test]
async fn a_skipping_clock_leaves_a_slow_broker_the_time_to_answer_a_ping() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(slow_to_answer_pings(stream));
        }
    });
    // The next ping is due at the very moment at which the answer to this one is late.
    let settings = [("MQTT_HOST", "127.0.0.1"), ("MQTT_PORT", &*port), ("MQTT_KEEPALIVE", "10"), ("ACK_TIMEOUT_MS", "10000")];
    let mut twin = Twin::on(parts(&settings));
    twin.provisioned().await;
    twin.hears("Subscribed").await;
    twin.told("clock skip on").await;
    for _ in 0..4 {
        twin.hears("Clock jumped").await;
    }
    assert!(!twin.said.iter().any(|line| line.contains("Disconnected")), "{:#?}", twin.said);
}

#[tokio::test]
async fn a_network_that_goes_away_takes_everything_with_it_and_comes_back() {
    let (port, _) = broker(CONNACK_SUBACK, true).await;
    let mut twin = Twin::on(parts(&[("MQTT_HOST", "127.0.0.1"), ("MQTT_PORT", &port)]));
    twin.provisioned().await;
    twin.hears("Connected to broker").await;
    twin.told("air remove lab").await;
    twin.hears("lost").await;
    twin.hears("not-found").await;
    twin.told("air add lab 6 -50 correct-horse").await;
    twin.told("clock skip on").await;
    twin.hears("Connected to broker").await;
}

#[tokio::test]
async fn a_reboot_keeps_the_address_and_what_is_stored() {
    let (port, _) = broker(CONNACK_SUBACK, true).await;
    let mut twin = Twin::on(parts(&[("MQTT_HOST", "127.0.0.1"), ("MQTT_PORT", &port)]));
    let http = twin.http().await;
    twin.told(r#"provision {"ssid":"lab","password":"correct-horse","device_id":"d","provisioning_token":"t"}"#).await;
    twin.hears("Connected to broker").await;
    twin.told("reboot").await;
    twin.hears("boot:").await;
    assert_eq!(twin.http().await, http);
    twin.hears("Connected to broker").await;
}

#[tokio::test]
async fn hostile_brokers_are_given_up_and_tried_again() {
    for greeting in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        // A CONNACK that claims a quarter of a gigabyte.
        &[0x20, 0xff, 0xff, 0xff, 0x7f, 0, 0],
        &[0x20, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x15, 3, 3, 0, 2, 2, 70],
        b"",
    ] {
        let (port, count) = broker(greeting, false).await;
        let mut twin = Twin::on(parts(&[("MQTT_HOST", "127.0.0.1"), ("MQTT_PORT", &port)]));
        twin.provisioned().await;
        twin.told("clock skip on").await;
        twin.hears("attempt 3").await;
        assert!(count.load(Ordering::Relaxed) >= 3, "{greeting:?}");
    }
}

#[tokio::test]
async fn the_time_server_is_believed_when_it_answers_the_question() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let host = server.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut request = [0; 128];
        loop {
            let (n, from) = server.recv_from(&mut request).await.unwrap();
            assert_eq!(n, sntp::PACKET);
            let mut reply = [0_u8; sntp::PACKET];
            (reply[0], reply[1]) = (0x24, 1);
            reply[40..44].copy_from_slice(&u32::try_from(TODAY + 2_208_988_800).unwrap().to_be_bytes());
            // Rubbish, a short one and somebody else's answer first: they are passed over.
            for wrong in [&b"rubbish"[..], &[0xff; 600], &reply] {
                let _ = server.send_to(wrong, from).await.unwrap();
            }
            reply[24..32].copy_from_slice(&request[40..48]);
            server.send_to(&reply, from).await.unwrap();
        }
    });
    let (port, _) = broker(CONNACK_SUBACK, true).await;
    let mut twin = Twin::on(parts(&[("MQTT_HOST", "127.0.0.1"), ("MQTT_PORT", &port), ("SNTP_HOST", &host)]));
    twin.hears("Listening").await;
    twin.told(r#"provision {"ssid":"lab","password":"correct-horse","device_id":"d","provisioning_token":"t"}"#).await;
    let line = twin.hears("Time is ").await;
    assert!(line.contains("sntp"), "{line}");
    twin.hears("Connected to broker").await;
}

#[tokio::test]
async fn a_jump_to_the_end_of_time_leaves_a_device_that_can_be_talked_to() {
    let (port, _) = broker(CONNACK_SUBACK, true).await;
    let mut twin = Twin::on(parts(&[("MQTT_HOST", "127.0.0.1"), ("MQTT_PORT", &port)]));
    twin.provisioned().await;
    for _ in 0..12 {
        twin.told(&format!("clock jump {}", device_core::command::JUMP_MAX_MS)).await;
    }
    twin.told("status").await;
    twin.hears("Status: ").await;
    let before = twin.said.len();
    twin.told("help").await;
    twin.hears("factory-reset").await;
    assert!(twin.said.len() - before < 100, "it goes on about nothing");
}
