//! The network through a console, with a device in memory at the other end: what gets through, what does not, and what ends.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod client;

use client::{Client, LIMIT};
use device_core::serial::frame::Encoding;
use harness::serial::gateway::{FLOWS_MAX, Reachable};
use harness::serial::network::{Network, Options, attach};
use harness::serial::self_test::self_test;
use harness::serial::wire::Faults;
use harness::target::Console;
use smoltcp::socket::tcp::State;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

const HOST: [u8; 4] = [10, 0, 2, 2];

/// Both ends of a line.
async fn line(options: Options) -> (Client<DuplexStream>, Console, Network) {
    let (device, host) = duplex(4096);
    let encoding = options.encoding;
    let (says, hears) = tokio::io::split(host);
    let console = Console { says: Box::new(says), hears: Box::new(hears), door: None, network: None };
    let mut console = attach(console, options, None).await.unwrap();
    let network = console.network.take().unwrap();
    (Client::new(device, encoding), console, network)
}

/// A server that sends back what it gets.
async fn echo_server() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    port
}

fn reaching(ports: &[u16]) -> Options {
    Options { reachable: Reachable { tcp: ports.to_vec(), udp: ports.to_vec() }, ..Options::default() }
}

fn data(length: usize) -> Vec<u8> {
    let mut rng = device_core::rng::Rng::new(1);
    (0..length).map(|_| rng.draw() as u8).collect()
}

/// Reads text until it ends so.
async fn text_until(console: &mut Console, end: &str) -> String {
    let read = async {
        let (mut text, mut bytes) = (Vec::new(), [0; 512]);
        while !text.ends_with(end.as_bytes()) {
            let count = console.says.read(&mut bytes).await.unwrap();
            assert!(count > 0, "ended after {:?}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&bytes[..count]);
        }
        String::from_utf8(text).unwrap()
    };
    tokio::time::timeout(LIMIT, read).await.expect("the text")
}

#[tokio::test]
async fn a_device_reaches_a_server_and_its_text_stays_text() {
    let port = echo_server().await;
    for (encoding, escape_all) in [(Encoding::Hdlc, false), (Encoding::Hdlc, true), (Encoding::Text, false)] {
        let (mut device, mut console, network) = line(Options { encoding, escape_all, ..reaching(&[port]) }).await;
        device.say("I (1) boot: ~ 50 % \u{f6}\n").await;
        device.dial().await;
        let socket = device.connect(HOST, port);
        device.say("I (2) net: connecting\n").await;
        let sent = data(60_000);
        assert_eq!(device.exchange(socket, &sent).await, sent);
        console.hears.write_all(b"status ~\n").await.unwrap();
        device.until("a command", |device| device.told == b"status ~\n").await;
        device.say("I (3) net: done\n> ").await;
        let text = text_until(&mut console, "> ").await;
        assert_eq!(text, "I (1) boot: ~ 50 % \u{f6}\nI (2) net: connecting\nI (3) net: done\n> ");
        let status = network.status();
        assert!(status.up && status.bad == 0 && status.took.is_some(), "{status:?}");
    }
}

/// Trap: lwIP leaves the opening flag out, behind text too.
#[tokio::test]
async fn a_device_that_saves_flags_is_understood() {
    let port = echo_server().await;
    let (mut device, mut console, network) = line(reaching(&[port])).await;
    device.terse = true;
    device.say("I (1) boot: here\n").await;
    device.dial().await;
    let socket = device.connect(HOST, port);
    let sent = data(5000);
    assert_eq!(device.exchange(socket, &sent).await, sent);
    assert_eq!((text_until(&mut console, "\n").await.as_str(), network.status().bad), ("I (1) boot: here\n", 0));
}

#[tokio::test]
async fn a_line_that_loses_bytes_delivers_all_the_same() {
    let port = echo_server().await;
    for seed in 1..4 {
        let faults = Faults { loses_one_in: Some(4000), seed, ..Faults::default() };
        let (mut device, _console, network) = line(Options { faults, ..reaching(&[port]) }).await;
        device.dial().await;
        let socket = device.connect(HOST, port);
        let sent = data(30_000);
        assert_eq!(device.exchange(socket, &sent).await, sent);
        assert!(network.status().bad > 0, "nothing was lost with seed {seed}");
    }
}

#[tokio::test]
async fn a_device_is_reached_through_the_door() {
    let (mut device, console, _network) = line(Options::default()).await;
    let door = console.door.unwrap();
    let ask = tokio::spawn(async move {
        // Before there is a link: it waits.
        let mut stream = TcpStream::connect(door).await.unwrap();
        stream.write_all(b"GET").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    });
    let http = device.listen(80);
    device.dial().await;
    let mut asked = Vec::new();
    device
        .until("a request", |device| {
            let socket = device.socket(http);
            while socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), asked.extend_from_slice(bytes))).unwrap();
            }
            asked == b"GET" && socket.state() == State::CloseWait
        })
        .await;
    device.socket(http).send_slice(b"answer").unwrap();
    device.socket(http).close();
    device.until("the end", |_| ask.is_finished()).await;
    assert_eq!(ask.await.unwrap(), "answer");
}

#[tokio::test]
async fn only_what_may_be_reached_can_be() {
    let open = echo_server().await;
    let closed = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let (mut device, _console, _network) = line(reaching(&[closed])).await;
    device.dial().await;
    // Nobody listens; not one of the testbed's; no such machine.
    for (to, port) in [(HOST, closed), (HOST, open), ([192, 0, 2, 1], open)] {
        let socket = device.connect(to, port);
        let began = tokio::time::Instant::now();
        device.until("a reset", |device| device.socket(socket).state() == State::Closed).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{to:?}:{port}");
    }
}

#[tokio::test]
async fn a_reset_is_a_reset_and_an_end_is_an_end() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (mut device, _console, _network) = line(reaching(&[port])).await;
    device.dial().await;

    let socket = device.connect(HOST, port);
    device.until("a connection", |device| device.socket(socket).may_send()).await;
    let (server, _) = listener.accept().await.unwrap();
    server.set_zero_linger().unwrap();
    drop(server);
    device.until("the server's reset", |device| device.socket(socket).state() == State::Closed).await;

    // As a broker that refuses a certificate: it says why and is gone, while the device is still speaking.
    for _ in 0..10 {
        let socket = device.connect(HOST, port);
        device.until("a connection", |device| device.socket(socket).may_send()).await;
        let (mut server, _) = listener.accept().await.unwrap();
        server.write_all(&data(3000)).await.unwrap();
        server.set_zero_linger().unwrap();
        drop(server);
        let mut heard = Vec::new();
        device.socket(socket).send_slice(b"more").unwrap();
        device
            .until("the server's reset", |device| {
                let socket = device.socket(socket);
                while socket.can_recv() {
                    socket.recv(|bytes| (bytes.len(), heard.extend_from_slice(bytes))).unwrap();
                }
                socket.state() == State::Closed
            })
            .await;
        assert_eq!(heard.len(), 3000, "what was said before a reset comes before it");
    }

    let socket = device.connect(HOST, port);
    device.until("a connection", |device| device.socket(socket).may_send()).await;
    let (server, _) = listener.accept().await.unwrap();
    drop(server);
    device.until("the server's end", |device| device.socket(socket).state() == State::CloseWait).await;

    let socket = device.connect(HOST, port);
    device.until("a connection", |device| device.socket(socket).may_send()).await;
    let (mut server, _) = listener.accept().await.unwrap();
    device.socket(socket).abort();
    let mut seen = tokio::spawn(async move { server.read(&mut [0]).await });
    device.until("the device's reset", |_| seen.is_finished()).await;
    assert_eq!((&mut seen).await.unwrap().unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn datagrams_and_names_are_served() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = server.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut bytes = [0; 100];
        while let Ok((count, from)) = server.recv_from(&mut bytes).await {
            server.send_to(&bytes[..count], from).await.unwrap();
        }
    });
    let (mut device, _console, _network) = line(reaching(&[port])).await;
    device.dial().await;
    let question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06broker\x04test\x00\x00\x01\x00\x01";
    for (to, asked, end) in [(port, b"time?".as_slice(), b"time?".as_slice()), (53, question, &HOST)] {
        device.packets.clear();
        device.send_packet(&datagram(5000, to, asked)).await;
        device.until("an answer", |device| !device.packets.is_empty()).await;
        let answer = &device.packets[0];
        assert_eq!((&answer[12..16], &answer[16..20]), (&HOST[..], &[10, 0, 2, 15][..]));
        assert_eq!((&answer[20..22], &answer[22..24]), (&to.to_be_bytes()[..], &5000_u16.to_be_bytes()[..]));
        assert!(answer.ends_with(end));
    }
}

fn datagram(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let length = (28 + data.len()) as u16;
    let mut packet = [&[0x45, 0][..], &length.to_be_bytes(), &[0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2]].concat();
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let checksum = !((sum & 0xFFFF) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend([from.to_be_bytes(), to.to_be_bytes(), (length - 20).to_be_bytes(), [0, 0]].concat());
    packet.extend_from_slice(data);
    packet
}

/// Trap: firmware without PPP must not get binary on its console.
#[tokio::test]
async fn nothing_is_sent_before_the_device_has_sent_a_frame() {
    let (mut device, mut console, network) = line(Options::default()).await;
    device.say("I (1) boot: ~ no network\n~> ").await;
    assert_eq!(text_until(&mut console, "> ").await, "I (1) boot: ~ no network\n~> ");
    console.hears.write_all(b"help\n").await.unwrap();
    device.until("a command", |device| device.told == b"help\n").await;
    let _waiting = TcpStream::connect(console.door.unwrap()).await.unwrap();
    // Longer than any timer that could make it speak.
    assert!(
        tokio::time::timeout(Duration::from_millis(1500), device.until("more", |device| device.bytes_heard > 5)).await.is_err()
    );
    assert!(!network.status().up);
}

#[tokio::test]
async fn a_device_that_is_reset_is_back_on_the_same_line() {
    let port = echo_server().await;
    let (mut device, _console, network) = line(reaching(&[port])).await;
    for _ in 0..3 {
        device.dial().await;
        let socket = device.connect(HOST, port);
        let sent = data(3000);
        assert_eq!(device.exchange(socket, &sent).await, sent);
    }
    assert!(network.status().up);
}

#[tokio::test]
async fn with_the_console_all_ends() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (mut device, console, network) = line(reaching(&[port])).await;
    device.dial().await;
    let socket = device.connect(HOST, port);
    device.until("a connection", |device| device.socket(socket).may_send()).await;
    let (mut server, _) = listener.accept().await.unwrap();
    let door = console.door.unwrap();
    drop(console);
    device.until("the end of the line", |device| device.ended).await;
    assert_eq!(tokio::time::timeout(LIMIT, server.read(&mut [0])).await.unwrap().unwrap_or(0), 0);
    assert!(TcpStream::connect(door).await.is_err());
    assert!(network.echo(vec![1]).await.is_none());
}

#[tokio::test]
async fn when_the_line_ends_the_last_text_is_read_and_then_the_console_ends() {
    let (mut device, mut console, mut network) = line(Options::default()).await;
    device.dial().await;
    device.say("I (9) power: off\n~").await;
    drop(device);
    let mut text = String::new();
    tokio::time::timeout(LIMIT, console.says.read_to_string(&mut text)).await.unwrap().unwrap();
    assert_eq!(text, "I (9) power: off\n~");
    assert!(!network.is_up(Duration::ZERO).await);
}

#[tokio::test]
async fn there_is_an_end_to_the_connections() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (mut device, _console, _network) = line(reaching(&[port])).await;
    device.dial().await;
    let sockets: Vec<_> = (0..FLOWS_MAX).map(|_| device.connect(HOST, port)).collect();
    device.until("connections", |device| sockets.iter().all(|socket| device.socket(*socket).may_send())).await;
    let more = device.connect(HOST, port);
    device.until("a reset", |device| device.socket(more).state() == State::Closed).await;
}

#[tokio::test]
async fn a_line_is_tested_and_what_it_cannot_do_is_found() {
    let (mut device, _console, mut network) = line(Options::default()).await;
    device.say("I (1) boot: here\n").await;
    let report = tested(&mut device, &mut network, Encoding::Hdlc).await;
    assert!(report.is_well(), "{report} {:?}", report.help);
    assert_eq!((report.values_lost.as_deref(), report.burst_returned), (Some(""), report.burst_bytes));
    assert!(report.burst_bytes >= 4096 && report.round_trip_ms.is_some());
}

/// Runs the test beside the device.
async fn tested(
    device: &mut Client<DuplexStream>,
    network: &mut Network,
    encoding: Encoding,
) -> harness::serial::self_test::Report {
    let drive = async {
        device.dial().await;
        device.until("for ever", |_| false).await;
    };
    tokio::select! {
        report = self_test(network, encoding, Duration::from_secs(2)) => report,
        () = drive => unreachable!("it is driven for ever"),
    }
}

/// A line of seven bits: the binary encoding fails and says what to do, the text encoding works.
#[tokio::test]
async fn on_a_line_of_seven_bits_the_text_encoding_works_and_is_asked_for() {
    for encoding in [Encoding::Hdlc, Encoding::Text] {
        let (device, outside) = duplex(4096);
        let (inside, host) = duplex(4096);
        let (mut from_device, mut to_device) = tokio::io::split(outside);
        let (mut from_host, mut to_host) = tokio::io::split(inside);
        tokio::spawn(async move { seven_bits(&mut from_device, &mut to_host).await });
        tokio::spawn(async move { seven_bits(&mut from_host, &mut to_device).await });
        let (says, hears) = tokio::io::split(host);
        let console = Console { says: Box::new(says), hears: Box::new(hears), door: None, network: None };
        let mut console = attach(console, Options { encoding, ..Options::default() }, None).await.unwrap();
        let mut network = console.network.take().unwrap();
        let mut device = Client::new(device, encoding);
        let drive = async {
            device.dial().await;
            device.until("for ever", |_| false).await;
        };
        let report = tokio::select! {
            report = self_test(&mut network, encoding, Duration::from_millis(700)) => report,
            () = drive => unreachable!("it is driven for ever"),
        };
        match encoding {
            Encoding::Hdlc => assert!(!report.is_well() && report.help.is_some(), "{report}"),
            Encoding::Text => assert!(report.is_well(), "{report} {:?}", report.help),
        }
    }
}

async fn seven_bits(from: &mut (impl tokio::io::AsyncRead + Unpin), to: &mut (impl tokio::io::AsyncWrite + Unpin)) {
    let mut bytes = [0; 512];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        bytes[..count].iter_mut().for_each(|byte| *byte &= 0x7F);
        if to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
}

#[tokio::test]
async fn a_slow_line_is_as_slow_as_it_is_told_to_be() {
    let port = echo_server().await;
    let faults = Faults { baud: Some(115_200), ..Faults::default() };
    let (mut device, _console, _network) = line(Options { faults, ..reaching(&[port]) }).await;
    device.dial().await;
    let socket = device.connect(HOST, port);
    let began = tokio::time::Instant::now();
    let sent = data(11_520);
    assert_eq!(device.exchange(socket, &sent).await, sent);
    assert!(began.elapsed() >= Duration::from_secs(1), "11,520 bytes take a second each way");
}

#[tokio::test]
async fn what_was_on_the_line_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("link.pcap");
    let (mut device, console, _network) = line(Options { pcap: Some(file.clone()), ..Options::default() }).await;
    device.dial().await;
    drop(console);
    device.until("the end of the line", |device| device.ended).await;
    let written = || std::fs::read(&file).unwrap();
    // The task that writes it ends soon after the line.
    device.until("the file", |_| written().len() > 200).await;
    let frames = written();
    assert!(frames.windows(4).any(|bytes| bytes == [0xFF, 0x03, 0x80, 0x21]), "addresses were agreed on");
    let wrong = Options { pcap: Some(folder.path().join("none/link.pcap")), ..Options::default() };
    let nowhere = Console { says: Box::new(tokio::io::empty()), hears: Box::new(tokio::io::sink()), door: None, network: None };
    assert!(attach(nowhere, wrong, None).await.is_err());
}
