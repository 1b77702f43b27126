//! The shared port against a peer that is scripted byte by byte.

use super::*;
use crate::console::{Console, Heard, Taking};
use alloc::vec::Vec;
use core::cell::Cell;
use core::convert::Infallible;
use core::future::pending;
use device_core::serial::frame::{self, ACCM_ALL, Piece, Splitter};
use device_core::surroundings::Surroundings;
use device_core::time::Instant as DeviceInstant;
use embassy_futures::block_on;
use embassy_futures::select::{Either, select};
use embassy_net::{ConfigV4, Ipv4Address};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::pipe::Pipe;
use embassy_time::{Duration, Instant, Timer, with_timeout};
use embedded_io_async::ErrorType;

const LIMIT: Duration = Duration::from_secs(10);

/// One direction of a cable.
type Cable = Pipe<NoopRawMutex, 4096>;

struct Receiver(&'static Cable);
/// Takes at most so many bytes at once.
struct Sender(&'static Cable, usize);

impl ErrorType for Receiver {
    type Error = Infallible;
}

impl Read for Receiver {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, Infallible> {
        Ok(self.0.read(into).await)
    }
}

impl ErrorType for Sender {
    type Error = Infallible;
}

impl Write for Sender {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        embassy_futures::yield_now().await;
        Ok(self.0.write(&bytes[..bytes.len().min(self.1)]).await)
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// The other end of the cable.
struct Peer {
    encoding: Encoding,
    to_device: &'static Cable,
    from_device: &'static Cable,
    splitter: Splitter,
    text: Vec<u8>,
    frames: Vec<Vec<u8>>,
    bad: usize,
    /// Whether it has asked for a link.
    asked: bool,
}

fn board(encoding: Encoding) -> (Shared<Receiver, Sender>, Peer) {
    let (to_device, from_device): (&Cable, &Cable) = (Box::leak(Box::new(Pipe::new())), Box::leak(Box::new(Pipe::new())));
    let shared = share::<4, _, _>(Receiver(to_device), Sender(from_device, 5), encoding, 1);
    let splitter = Splitter::new(encoding);
    let peer = Peer { encoding, to_device, from_device, splitter, text: Vec::new(), frames: Vec::new(), bad: 0, asked: false };
    (shared, peer)
}

fn lcp(packet: &[u8]) -> Vec<u8> {
    [&[0xFF, 0x03, 0xC0, 0x21], packet].concat()
}

fn ipcp(packet: &[u8]) -> Vec<u8> {
    [&[0xFF, 0x03, 0x80, 0x21], packet].concat()
}

impl Peer {
    fn framed(&self, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame::encode(self.encoding, body, ACCM_ALL, &mut out);
        out
    }

    async fn send(&self, body: &[u8]) {
        self.write(&self.framed(body)).await;
    }

    async fn write(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = &bytes[self.to_device.write(bytes).await..];
        }
    }

    /// Takes what has come.
    async fn hear(&mut self) {
        let mut chunk = [0; 64];
        let count = self.from_device.read(&mut chunk).await;
        let Peer { splitter, text, frames, bad, .. } = self;
        splitter.feed(&chunk[..count], &mut |piece| match piece {
            Piece::Text(more) => text.extend(more),
            Piece::Frame(body) => frames.push(body.into()),
            Piece::Bad => *bad += 1,
        });
    }

    /// The next frame.
    async fn frame(&mut self) -> Vec<u8> {
        while self.frames.is_empty() {
            self.hear().await;
        }
        self.frames.remove(0)
    }

    /// Agrees to everything, and tells an address and a name server.
    async fn agree(&mut self) {
        loop {
            let frame = self.frame().await;
            let (&[_, _, high, _, code, id], content) = frame.split_first_chunk::<6>().unwrap();
            let content = &content[2..];
            let reply = |code: u8, content: &[u8]| [&[code, id, 0, 4 + content.len() as u8], content].concat();
            match (high, code) {
                (0xC0, 1) => {
                    if !core::mem::replace(&mut self.asked, true) {
                        self.send(&lcp(&[1, 1, 0, 10, 2, 6, 0xFF, 0xFF, 0xFF, 0xFF])).await;
                    }
                    self.send(&lcp(&reply(2, content))).await;
                }
                (0xC0, 2) => self.send(&ipcp(&[1, 2, 0, 10, 3, 6, 10, 0, 2, 2])).await,
                (0x80, 1) => {
                    let refused = content.windows(6).find(|option| option[..2] == [131, 6]);
                    let given: &[u8] = &[3, 6, 10, 0, 2, 15, 129, 6, 10, 0, 2, 2];
                    let answer = match refused {
                        Some(second) => reply(4, second),
                        None if content == given => reply(2, given),
                        None => reply(3, given),
                    };
                    self.send(&ipcp(&answer)).await;
                }
                _ => {}
            }
        }
    }
}

/// Runs a board's port beside a test, which must end in time.
fn beside<T>(port: Port<Receiver, Sender>, test: impl Future<Output = T>) -> T {
    match block_on(select(port.run(), with_timeout(LIMIT, test))) {
        Either::Second(ended) => ended.expect("the test takes too long"),
        Either::First(never) => never,
    }
}

/// Runs the peer until the link is up.
async fn up(peer: &mut Peer, stack: Stack<'static>) {
    select(peer.agree(), stack.wait_config_up()).await;
}

#[test]
fn the_link_comes_up_and_every_address_is_on_it() {
    for encoding in [Encoding::Hdlc, Encoding::Text] {
        let (Shared { stack, port, .. }, mut peer) = board(encoding);
        beside(port, async {
            up(&mut peer, stack).await;
            let config = stack.config_v4().unwrap();
            assert_eq!((config.address.address(), config.address.prefix_len()), (Ipv4Address::new(10, 0, 2, 15), 0));
            assert_eq!((config.gateway, &config.dns_servers[..]), (None, &[Ipv4Address::new(10, 0, 2, 2)][..]));
        });
    }
}

#[test]
fn a_request_that_is_lost_is_made_again() {
    let (Shared { stack, port, .. }, mut peer) = board(Encoding::Hdlc);
    beside(port, async {
        let began = Instant::now();
        assert_eq!(peer.frame().await[4], 1);
        up(&mut peer, stack).await;
        let took = began.elapsed();
        assert!(took > Duration::from_millis(1400) && took < Duration::from_secs(4), "{} ms", took.as_millis());
    });
}

#[test]
fn a_broken_frame_costs_only_itself() {
    for encoding in [Encoding::Hdlc, Encoding::Text] {
        let (Shared { stack, port, .. }, mut peer) = board(encoding);
        beside(port, async {
            up(&mut peer, stack).await;
            peer.frames.clear();
            let request = lcp(&[1, 77, 0, 10, 2, 6, 0xFF, 0xFF, 0xFF, 0xFF]);
            for lost in 6..18 {
                let mut broken = peer.framed(&lcp(&[9, 1, 0, 20, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]));
                broken.remove(lost);
                peer.write(&broken).await;
            }
            peer.send(&request).await;
            // The library itself answers, and as it should.
            while peer.frame().await != lcp(&[2, 77, 0, 10, 2, 6, 0xFF, 0xFF, 0xFF, 0xFF]) {}
        });
    }
}

#[test]
fn a_peer_that_takes_the_network_down_gets_it_anew() {
    let (Shared { stack, port, .. }, mut peer) = board(Encoding::Hdlc);
    beside(port, async {
        up(&mut peer, stack).await;
        stack.set_config_v4(ConfigV4::None);
        peer.asked = false;
        peer.send(&ipcp(&[5, 9, 0, 4])).await;
        up(&mut peer, stack).await;
        assert!(stack.config_v4().is_some());
    });
}

#[test]
fn an_echo_brings_back_every_value() {
    for encoding in [Encoding::Hdlc, Encoding::Text] {
        let (Shared { stack, port, .. }, mut peer) = board(encoding);
        beside(port, async {
            up(&mut peer, stack).await;
            peer.frames.clear();
            let packet = |code: u8| [&[code, 5, 1, 8, 0, 0, 0, 0][..], &(0..=255).collect::<Vec<u8>>()].concat();
            peer.send(&lcp(&packet(9))).await;
            while peer.frame().await != lcp(&packet(10)) {}
        });
    }
}

#[test]
fn lines_and_frames_go_out_whole_and_in_turn() {
    for encoding in [Encoding::Hdlc, Encoding::Text] {
        let (Shared { console_out: mut out, port, .. }, mut peer) = board(encoding);
        let line = |n: usize| alloc::format!("I ({n}) test: grüße ~ {}\n", "x~".repeat(n * 13 % 700));
        let said: Vec<u8> = (0..60).flat_map(|n| line(n).into_bytes()).collect();
        beside(port, async {
            let echoes = Cell::new(0);
            let (to_device, request) = (peer.to_device, peer.framed(&lcp(&[9, 5, 0, 12, 0, 0, 0, 0, 1, 2, 3, 4])));
            let talk = async {
                for bytes in said.chunks(77) {
                    out.write_all(bytes).await.unwrap();
                }
                out.flush().await.unwrap();
            };
            let ask = async {
                loop {
                    let mut rest = &request[..];
                    while !rest.is_empty() {
                        rest = &rest[to_device.write(rest).await..];
                    }
                    echoes.set(echoes.get() + 1);
                }
            };
            let hear = async {
                while peer.text.len() < said.len() {
                    peer.hear().await;
                }
            };
            select(embassy_futures::join::join(talk, hear), ask).await;
            assert_eq!((&peer.text, peer.bad), (&said, 0));
            let answered = peer.frames.iter().filter(|frame| frame[4] == 10).count();
            assert!(answered > 30 && answered <= echoes.get(), "{answered} of {}: neither waits for the other", echoes.get());
        });
    }
}

/// What a console hears on a shared port.
async fn heard<R: Read>(console: &mut Console<ConsoleIn<R>, ConsoleOut<Sender>>) -> Heard {
    console.hear().await
}

fn around(link: Link) -> Surroundings {
    Surroundings { link, ..Surroundings::default() }
}

#[test]
fn the_rest_of_a_frame_is_no_command_and_does_not_spoil_the_next() {
    for link in [Link::Console, Link::ConsoleText] {
        let encoding = encoding(link).unwrap();
        for cut in 3..40 {
            let (Shared { console_in, console_out, port, .. }, peer) = board(encoding);
            let mut console = Console::new(console_in, console_out, Taking::new(Some(&around(link)), 0));
            beside(port, async {
                let whole = peer.framed(
                    &[&[0xFF, 0x03, 0x00, 0x21, 0x45, 0, 0, 40, 1, 2, 3, 4][..], b"reboot status\0\x01\x02\x03\xfehelp"].concat(),
                );
                peer.write(&whole[cut..]).await;
                peer.write(b"status\n").await;
                loop {
                    match heard(&mut console).await {
                        Heard::Line(line) => return assert_eq!(line, "status", "{cut} of {}", whole.len()),
                        Heard::Unusable(_) => {}
                        Heard::Closed => unreachable!("the port is open"),
                    }
                }
            });
        }
    }
}

#[test]
fn half_a_frame_is_given_up_when_the_line_is_silent() {
    for link in [Link::Console, Link::ConsoleText] {
        let (Shared { console_in, console_out, port, .. }, peer) = board(encoding(link).unwrap());
        let mut console = Console::new(console_in, console_out, Taking::new(Some(&around(link)), 0));
        beside(port, async {
            let whole = peer.framed(&lcp(&[9, 5, 0, 20, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]));
            peer.write(&whole[..whole.len() - 6]).await;
            let test = async {
                Timer::after(Duration::from_millis(2 * frame::IDLE_MS)).await;
                peer.write(b"status\n").await;
                pending::<()>().await;
            };
            let hear = async {
                loop {
                    if let Heard::Line(line) = heard(&mut console).await {
                        return assert_eq!(line, "status");
                    }
                }
            };
            select(hear, test).await;
        });
    }
}

#[test]
fn a_line_that_is_typed_slowly_is_one_line() {
    let (Shared { console_in, console_out, port, .. }, peer) = board(Encoding::Hdlc);
    let mut console = Console::new(console_in, console_out, Taking::new(Some(&around(Link::Console)), 0));
    beside(port, async {
        let type_in = async {
            for part in ["sta", "t", "us\n"] {
                peer.write(part.as_bytes()).await;
                Timer::after(Duration::from_millis(frame::IDLE_MS * 5 / 4)).await;
            }
            pending::<()>().await;
        };
        let Either::First(line) = select(heard(&mut console), type_in).await else { unreachable!("typing never ends") };
        assert_eq!(line, Heard::Line("status".into()));
    });
}

#[test]
fn what_is_said_before_the_first_frame_comes_after_it() {
    let (Shared { console_in, console_out, port, .. }, mut peer) = board(Encoding::Hdlc);
    let mut console = Console::new(console_in, console_out, Taking::new(Some(&around(Link::Console)), 0));
    console.say(DeviceInstant(1), "first");
    beside(port, async {
        // The device before this one was reset in the middle of a frame.
        peer.splitter.feed(&[0x7E, 0xFF, 0x7D, 0x23, 0x21, 0x45], &mut |_| {});
        let flush = console.flush();
        select(flush, async {
            loop {
                peer.hear().await
            }
        })
        .await;
        while !peer.text.ends_with(b"\n") {
            peer.hear().await;
        }
        assert_eq!((peer.text.as_slice(), peer.bad), (&b"first\n"[..], 1));
    });
}

#[test]
fn the_last_words_of_a_device_are_not_taken_for_the_rest_of_its_frame() {
    let (_, mut peer) = board(Encoding::Hdlc);
    let frame = peer.framed(&lcp(&[9, 5, 0, 12, 0, 0, 0, 0, 1, 2, 3, 4]));
    for end in 2..frame.len() - 1 {
        let words = b"~\nGuru Meditation Error: Core  0 panic'ed (Panic).\n";
        let mut text = Vec::new();
        for bytes in [&frame[..end], words] {
            peer.splitter.feed(bytes, &mut |piece| {
                if let Piece::Text(more) = piece {
                    text.extend_from_slice(more);
                }
            });
        }
        assert!(text.ends_with(&words[1..]), "after {end} bytes: {}", text.escape_ascii());
    }
}
