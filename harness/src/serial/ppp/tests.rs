//! The peer against hand-written packets, those that small devices and lwIP send among them.

use super::*;

const TERMS: Terms = Terms { host: Ipv4Addr::new(10, 0, 2, 2), device: Ipv4Addr::new(10, 0, 2, 15), accm: 0 };
const START: Duration = Duration::from_secs(7);

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// What the peer says to this frame, in hex without address and control; `up`, `down` and the like in words.
fn says(peer: &mut Peer, at: Duration, body: &str) -> Vec<String> {
    peer.frame(at, &hex(&format!("ff03{body}")));
    outputs(peer)
}

fn outputs(peer: &mut Peer) -> Vec<String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    std::iter::from_fn(|| peer.poll())
        .map(|output| match output {
            Output::Send(Outgoing { body, .. }) => hex(&body[2..]),
            Output::Packet(packet) => format!("packet {}", hex(&packet)),
            Output::Up => "up".into(),
            Output::Down => "down".into(),
            Output::Echoed { id, data } => format!("echoed {id} {}", hex(&data)),
        })
        .collect()
}

/// A peer whose link is up; its last numbers are 1.
fn up() -> Peer {
    let mut peer = Peer::new(TERMS);
    says(&mut peer, START, "c021 0102000a 020600000000");
    says(&mut peer, START, "c021 0201000a 020600000000");
    says(&mut peer, START, "8021 0102000a 03060a00020f");
    assert_eq!(says(&mut peer, START, "8021 0201000a 03060a000202"), ["up"]);
    peer
}

/// What embassy-net-ppp says, packet by packet.
#[test]
fn a_small_device_gets_a_link_and_its_address() {
    let mut peer = Peer::new(TERMS);
    assert_eq!(peer.deadline(), None, "nothing is said before the device has spoken");
    let both = ["c0210101000a020600000000", "c0210202000a020600000000"];
    assert_eq!(says(&mut peer, START, "c021 0102000a 020600000000"), both);
    // The link is agreed on: addresses are next.
    assert_eq!(says(&mut peer, START, "c021 0201000a 020600000000"), ["80210101000a03060a000202"]);
    let ask = "8021 01020016 030600000000 810600000000 830600000000";
    assert_eq!(says(&mut peer, START, ask), ["80210402000a830600000000"]);
    assert_eq!(says(&mut peer, START, "8021 01030010 030600000000 810600000000"), ["80210303001003060a00020f81060a000202"]);
    assert_eq!(says(&mut peer, START, "8021 01040010 03060a00020f 81060a000202"), ["80210204001003060a00020f81060a000202"]);
    assert!(!peer.is_up());
    assert_eq!(says(&mut peer, START, "8021 0201000a 03060a000202"), ["up"]);
    assert_eq!((peer.is_up(), peer.deadline()), (true, None));
    assert_eq!(says(&mut peer, START, "0021 4500"), ["packet 4500"]);
    let Some(Outgoing { body, accm }) = peer.carry(b"E") else { panic!("up") };
    assert_eq!((body, accm), (hex("ff03002145"), 0), "escapes what the device asked for");
}

/// What lwIP (ESP-IDF's PPPoS) offers with everything on.
#[test]
fn what_it_cannot_do_is_rejected_and_nothing_else() {
    let mut peer = Peer::new(TERMS);
    let offer = "c021 01010019 0206000a0000 0506deadbeef 0702 0802 0305c22305";
    let rejected = "c0210401001305 06deadbeef 0702 0802 0305c22305".replace(' ', "");
    assert_eq!(says(&mut peer, START, offer), ["c0210101000a020600000000".to_owned(), rejected]);
    assert_eq!(says(&mut peer, START, "c021 0102000a 0206000a0000"), ["c0210202000a0206000a0000"]);
    assert_eq!(says(&mut peer, START, "c021 0201000a 020600000000"), ["80210101000a03060a000202"]);
    // Van Jacobson's compression, a second name server, IPv6.
    let ask = "8021 0101001c 030600000000 0206002d0f01 810600000000 830600000000";
    assert_eq!(says(&mut peer, START, ask), ["8021040100100206002d0f01830600000000"]);
    assert_eq!(says(&mut peer, START, "8057 0101000e 010a0000000000000001"), ["c0210801001480570101000e010a0000000000000001"]);
    let long = format!("8057 01010400 {}", "00".repeat(1020));
    let answer = says(&mut peer, START, &long);
    assert_eq!(answer[0].len() / 2, 2 + 4 + REJECTED_MAX, "more would be too much for a small device");
    let Some((_, Outgoing { accm, .. })) = peer.echo(b"") else { panic!("open") };
    assert_eq!(accm, 0x000A_0000);
}

/// A request of ours for each of theirs would make lwIP begin again for ever.
#[test]
fn its_own_request_is_sent_once_and_again_by_timer_only() {
    let mut peer = Peer::new(TERMS);
    assert_eq!(says(&mut peer, START, "c021 0101000a 020600000000").len(), 2);
    for id in 2..200 {
        assert_eq!(says(&mut peer, START, &format!("c021 01{id:02x}000a 020600000000")).len(), 1);
    }
    let mut sent = 0;
    let mut last = START;
    while let Some(at) = peer.deadline() {
        assert!(at > last || sent == 0);
        peer.tick(at);
        last = at;
        sent += outputs(&mut peer).iter().filter(|said| said.starts_with("c0210101")).count();
        assert!(sent < 50, "it ends");
    }
    assert_eq!(sent, 9);
    // Given up, it is quiet until the device speaks again.
    assert_eq!(says(&mut peer, last, "c021 0101000a 020600000000").len(), 2);
}

#[test]
fn a_lost_answer_is_made_up_for() {
    let mut peer = Peer::new(TERMS);
    says(&mut peer, START, "c021 0102000a 020600000000");
    let at = peer.deadline().unwrap();
    peer.tick(at);
    assert_eq!(outputs(&mut peer), ["c0210101000a020600000000"], "the same number: an answer to the first one counts too");
    assert_eq!(says(&mut peer, at, "c021 0201000a 020600000000"), ["80210101000a03060a000202"]);
    assert_eq!(says(&mut peer, at, "c021 0201000a 020600000000"), [""; 0], "once");
}

#[test]
fn a_device_that_is_reset_gets_a_new_link() {
    let mut peer = up();
    assert_eq!(
        says(&mut peer, START, "c021 0102000a 020600000000"),
        ["c0210102000a020600000000", "c0210202000a020600000000", "down"]
    );
    assert_eq!(peer.carry(b"E"), None);
    assert_eq!(says(&mut peer, START, "0021 4500"), [""; 0]);
    assert_eq!(says(&mut peer, START, "8021 0201000a 03060a000202"), [""; 0], "no addresses without a link");
    assert_eq!(says(&mut peer, START, "c021 0201000a 020600000000"), [""; 0], "an answer to the link before");
    assert_eq!(says(&mut peer, START, "c021 0202000a 020600000000"), ["80210102000a03060a000202"]);
}

#[test]
fn a_device_that_thinks_it_has_a_link_is_asked_for_a_new_one() {
    let mut peer = Peer::new(TERMS);
    assert_eq!(says(&mut peer, START, "0021 4500"), ["c0210101000a020600000000"]);
    assert_eq!(says(&mut peer, START, "0021 4500"), [""; 0]);
}

#[test]
fn a_device_that_takes_leave_is_let_go() {
    let mut peer = up();
    assert_eq!(says(&mut peer, START, "8021 05090004"), ["802106090004", "down"]);
    let mut peer = up();
    assert_eq!(says(&mut peer, START, "c021 05090004"), ["c02106090004", "down"]);
    assert_eq!(peer.deadline(), None, "and nothing more is said");
    let mut peer = up();
    assert_eq!(says(&mut peer, START, "c021 0801000a 8021 01010004"), ["down"], "it has no IP");
}

#[test]
fn it_asks_for_what_the_device_will_escape_and_can_do_without() {
    let mut peer = Peer::new(Terms { accm: u32::MAX, ..TERMS });
    assert_eq!(says(&mut peer, START, "c021 0101000a 020600000000")[0], "c0210101000a0206ffffffff");
    assert_eq!(says(&mut peer, START, "c021 0401000a 0206ffffffff"), ["c02101020004"]);
    assert_eq!(says(&mut peer, START, "c021 0301000a 020600000000"), [""; 0], "an answer to what is not asked any more");
    let mut peer = Peer::new(TERMS);
    says(&mut peer, START, "c021 0101000a 020600000000");
    assert_eq!(says(&mut peer, START, "c021 0301000a 0206000a0000"), ["c0210102000a0206000a0000"]);
    // It ends, whatever the device wants.
    let mut sent = 0;
    for id in 2..100 {
        sent += says(&mut peer, START, &format!("c021 03{id:02x}000a 020600000001")).len();
    }
    assert!(sent < 10, "{sent}");
}

#[test]
fn echoes_are_answered_and_heard() {
    let mut peer = up();
    assert_eq!(says(&mut peer, START, "c021 0907000a 11223344 5566"), ["c021 0a07000a 00000000 5566".replace(' ', "")]);
    let (id, Outgoing { body, accm }) = peer.echo(b"\x00\x01").unwrap();
    assert_eq!((id, accm), (1, 0));
    assert_eq!(body, hex("ff03 c021 0901000a 00000000 0001"));
    assert_eq!(says(&mut peer, START, "c021 0a01000a 99999999 0001"), ["echoed 1 0001"]);
    assert_eq!(Peer::new(TERMS).echo(b"x"), None);
}

#[test]
fn small_packets_are_agreed_to_and_too_small_ones_are_not() {
    let mut peer = Peer::new(TERMS);
    assert_eq!(says(&mut peer, START, "c021 01010008 01040064")[1], "c0210301000801040240");
    assert_eq!(says(&mut peer, START, "c021 01020008 01040240"), ["c0210202000801040240"]);
    assert_eq!(peer.mtu(), 576);
    assert_eq!(says(&mut peer, START, "c021 01030008 01042000"), ["c0210203000801042000"]);
    assert_eq!(peer.mtu(), MTU);
}

#[test]
fn rubbish_is_passed_over() {
    let mut peer = up();
    let short = ["", "c0", "c021", "c0210101", "c02101010003", "c021010100ff", "8021"];
    for rubbish in short.into_iter().chain(["c02101010006 02ff", "c02101010006 0200", "c02101010005 02"]) {
        assert_eq!(says(&mut peer, START, rubbish), [""; 0], "{rubbish}");
    }
    assert!(peer.is_up());
    peer.frame(START, b"");
    assert_eq!(says(&mut peer, START, "c021 63010006 aabb"), ["c0210701000a63010006aabb"], "a code that there is not");
}
