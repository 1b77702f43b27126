//! The provisioning API by its bytes: what is served, what is refused, and that nobody can keep it busy.

use crate::twin::{Twin, answer, parts, says};
use sim_device::limits::CONNECTIONS_MAX;
use sim_device::{Limits, Parts};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const BODY: &str = r#"{"ssid":"lab","password":"correct-horse","device_id":"device_0070","provisioning_token":"t"}"#;

fn post(headers: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /provision HTTP/1.1\r\nHost: d\r\nConnection: close\r\nAuthorization: Bearer user\r\nContent-Type: application/json\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

fn status(answer: &str) -> &str {
    answer.strip_prefix("HTTP/1.1 ").map_or(answer, |a| &a[..3])
}

#[tokio::test]
async fn a_device_is_provisioned_as_the_guide_shows() {
    let mut twin = Twin::on(parts(&[]));
    let http = twin.http().await;
    let scan = says(http, b"GET /local-wifi?x=1 HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").await;
    assert!(scan.contains(r#""ssid":"lab""#) && scan.contains(r#""count":1"#), "{scan}");
    let head = says(http, b"HEAD /status HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").await;
    assert!(status(&head) == "200" && head.ends_with("\r\n\r\n"), "{head}");

    // Chunked, with an expectation, in pieces.
    let mut stream = TcpStream::connect(http).await.unwrap();
    stream.write_all(&post("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", "")).await.unwrap();
    let mut go = [0; 25];
    stream.read_exact(&mut go).await.unwrap();
    assert_eq!(&go, b"HTTP/1.1 100 Continue\r\n\r\n");
    let (front, back) = BODY.split_at(20);
    stream.write_all(format!("{:x}\r\n{front}\r\n", front.len()).as_bytes()).await.unwrap();
    stream.write_all(format!("{:x}\r\n{back}\r\n0\r\n\r\n", back.len()).as_bytes()).await.unwrap();
    let saved = answer(stream).await;
    assert!(status(&saved) == "200" && saved.ends_with(r#"{"message":"Credentials saved","status":"ok"}"#), "{saved}");
    twin.hears("wifi: Connected").await;

    // It goes on being served on the station side, and one owner is enough.
    let again = says(http, &post(&format!("Content-Length: {}\r\n", BODY.len()), BODY)).await;
    assert_eq!(status(&again), "409", "{again}");
}

#[tokio::test]
async fn bad_requests_are_refused_and_nothing_is_stored() {
    let mut twin = Twin::on(parts(&[]));
    let http = twin.http().await;
    let long = "x".repeat(4097);
    let huge = "x".repeat(1_000_000);
    let length = |body: &str| format!("Content-Length: {}\r\n", body.len());
    for (request, expected) in [
        (post(&length("{"), "{"), "400"),
        (post(&length(&long), &long), "413"),
        (post(&length(&huge), &huge), "413"),
        (post("Transfer-Encoding: chunked\r\n", &format!("1001\r\n{long}\r\n0\r\n\r\n")), "413"),
        (post(&format!("Authorization: Bearer other\r\n{}", length(BODY)), BODY), "401"),
        (post("Transfer-Encoding: chunked\r\n", "rubbish\r\n"), "400"),
        (b"GET /provision HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n".to_vec(), "405"),
        (b"GET /nothing HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n".to_vec(), "404"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03rubbish\r\n\r\n".to_vec(), "400"),
        (format!("GET /status HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000)).into_bytes(), "431"),
        (format!("GET /{} HTTP/1.1\r\nHost: d\r\n\r\n", "x".repeat(500_000)).into_bytes(), "431"),
        (b"GET /status HTTP/1.1\r\nno colon\r\n\r\n".to_vec(), "400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), "400"),
        (post("Content-Length: 2\r\nContent-Length: 3\r\n", "{} "), "400"),
    ] {
        let answer = says(http, &request).await;
        let shown = String::from_utf8_lossy(&request[..request.len().min(200)]).into_owned();
        assert_eq!(status(&answer), expected, "{shown}: {answer}");
        assert!(answer.contains(r#""status":"error""#) && answer.contains("application/json"), "{shown}: {answer}");
    }
    // The second answer on a connection is in the same words, and the first one is not lost.
    let both = says(http, b"GET /status HTTP/1.1\r\nHost: d\r\n\r\nrubbish\r\n\r\n").await;
    assert!(both.contains("200 OK") && both.contains("400 Bad Request") && both.contains(r#""status":"error""#), "{both}");
    let still = says(http, b"GET /status HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").await;
    assert!(still.contains(r#""status":"provisioning""#), "{still}");
}

#[tokio::test]
async fn two_at_once_and_one_wins() {
    let mut twin = Twin::on(parts(&[]));
    let http = twin.http().await;
    let request = post(&format!("Content-Length: {}\r\n", BODY.len()), BODY);
    let (a, b) = tokio::join!(says(http, &request), says(http, &request));
    let mut statuses = [status(&a), status(&b)];
    statuses.sort_unstable();
    assert_eq!(statuses, ["200", "409"], "{a}\n{b}");
}

#[tokio::test]
async fn slow_callers_end_and_do_not_keep_others_out() {
    let limits = Limits { http_head: Duration::from_secs(1), http_body: Duration::from_secs(1), ..Limits::default() };
    let mut twin = Twin::on(Parts { limits, ..parts(&[]) });
    let http = twin.http().await;
    let begun = Instant::now();
    let mut idle = Vec::new();
    for i in 0..CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(http).await.unwrap();
        // Some have begun a body, some a head, some nothing at all.
        let half = match i % 3 {
            0 => post("Content-Length: 90\r\n", "{"),
            1 => b"GET /sta".to_vec(),
            _ => Vec::new(),
        };
        stream.write_all(&half).await.unwrap();
        idle.push(stream);
    }
    // One that drips never ends its head either.
    let mut drip = TcpStream::connect(http).await.unwrap();
    let dripping = tokio::spawn(async move {
        while drip.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let served = says(http, b"GET /status HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&served), "200");
    let limit = limits.http_head + limits.http_body + Duration::from_secs(10);
    assert!(begun.elapsed() < limit, "{:?}", begun.elapsed());
    timeout(limit, dripping).await.unwrap().unwrap();
    for stream in idle {
        let said = answer(stream).await;
        assert!(said.is_empty() || status(&said) == "408", "{said}");
    }
}

#[tokio::test]
async fn pulling_the_plug_closes_the_door_at_once() {
    let mut twin = Twin::on(parts(&[]));
    let http = twin.http().await;
    let open = TcpStream::connect(http).await.unwrap();
    twin.run.abort();
    assert!(twin.run.await.unwrap_err().is_cancelled());
    assert_eq!(TcpStream::connect(http).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(answer(open).await, "");
}
