//! A device at the other end of a line, in memory: text, PPP and TCP/IP of its own.

use device_core::serial::frame::{Encoding, IDLE_MS, Piece, Splitter, encode};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, Ipv4Address};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// How long anything may take.
pub const LIMIT: Duration = Duration::from_secs(60);
const LCP: u16 = 0xC021;
const IPCP: u16 = 0x8021;

/// The device.
pub struct Client<S> {
    stream: S,
    encoding: Encoding,
    splitter: Splitter,
    interface: Interface,
    wire: Wire,
    pub sockets: SocketSet<'static>,
    /// The text it was told.
    pub told: Vec<u8>,
    /// The bytes it was told, text and frames.
    pub bytes_heard: usize,
    /// Packets that are no TCP, as they came.
    pub packets: Vec<Vec<u8>>,
    /// It has an address.
    pub up: bool,
    linked: bool,
    address: [u8; 4],
    id: u8,
    /// Its opening flags are left out, as lwIP does it.
    pub terse: bool,
    began: tokio::time::Instant,
    ask_at: Option<Duration>,
    pub ended: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(stream: S, encoding: Encoding) -> Client<S> {
        let mut wire = Wire::default();
        let interface = Interface::new(Config::new(HardwareAddress::Ip), &mut wire, Instant::ZERO);
        Client {
            stream,
            encoding,
            splitter: Splitter::new(encoding),
            interface,
            wire,
            sockets: SocketSet::new(Vec::new()),
            told: Vec::new(),
            bytes_heard: 0,
            packets: Vec::new(),
            up: false,
            linked: false,
            address: [0; 4],
            id: 0,
            terse: false,
            began: tokio::time::Instant::now(),
            ask_at: None,
            ended: false,
        }
    }

    /// Says a text on its console.
    pub async fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("a line");
    }

    /// Asks for a link, for the first time or after a reset.
    pub async fn dial(&mut self) {
        (self.up, self.linked, self.address) = (false, false, [0; 4]);
        self.interface.update_ip_addrs(|addresses| addresses.clear());
        self.request().await;
        self.until("a link", |client| client.up).await;
    }

    /// Opens a connection to a port of a machine.
    pub fn connect(&mut self, to: [u8; 4], port: u16) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 4096]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        self.id = self.id.wrapping_add(1);
        let to = (IpAddress::Ipv4(Ipv4Address::from(to)), port);
        socket.connect(self.interface.context(), to, 40000 + u16::from(self.id)).expect("connect");
        self.sockets.add(socket)
    }

    /// Listens on a port.
    pub fn listen(&mut self, port: u16) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 4096]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.listen(port).expect("listen");
        self.sockets.add(socket)
    }

    pub fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Sends an IP packet.
    pub async fn send_packet(&mut self, packet: &[u8]) {
        self.frame(0x0021, packet, 0).await;
    }

    /// Sends all and reads as much again.
    pub async fn exchange(&mut self, handle: SocketHandle, data: &[u8]) -> Vec<u8> {
        let (mut sent, mut back) = (0, Vec::new());
        self.until("all bytes there and back", |client| {
            let socket = client.socket(handle);
            if socket.can_send() {
                sent += socket.send_slice(&data[sent..]).expect("open");
            }
            if socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), back.extend_from_slice(bytes))).expect("open");
            }
            back.len() >= data.len()
        })
        .await;
        back
    }

    /// Runs until this is so.
    pub async fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.began.elapsed() + LIMIT;
        let mut buffer = [0; 2048];
        loop {
            let now = self.began.elapsed();
            assert!(now < end, "waited in vain for {what}");
            self.interface.poll(instant(now), &mut self.wire, &mut self.sockets);
            if done(self) {
                self.interface.poll(instant(now), &mut self.wire, &mut self.sockets);
                self.flush().await;
                return;
            }
            self.interface.poll(instant(now), &mut self.wire, &mut self.sockets);
            self.flush().await;
            if self.ask_at.is_some_and(|at| at <= now) {
                self.request().await;
            }
            let stack =
                self.interface.poll_delay(instant(now), &self.sockets).map(|delay| Duration::from_micros(delay.total_micros()));
            let idle = self.splitter.undecided().then_some(Duration::from_millis(IDLE_MS));
            let ask = self.ask_at.map(|at| at.saturating_sub(now));
            let wait = [stack, idle, ask].into_iter().flatten().min().unwrap_or(Duration::from_millis(100));
            match tokio::time::timeout(wait, self.stream.read(&mut buffer)).await {
                Err(_) if idle.is_some_and(|idle| idle <= wait) => self.take(None).await,
                Err(_) => {}
                Ok(Ok(count)) if count > 0 => {
                    self.bytes_heard += count;
                    self.take(Some(&buffer[..count])).await;
                }
                Ok(_) if self.ended => tokio::time::sleep(Duration::from_millis(1)).await,
                Ok(_) => self.ended = true,
            }
        }
    }

    async fn flush(&mut self) {
        while let Some(packet) = self.wire.leaving.pop_front() {
            if self.up {
                self.frame(0x0021, &packet, 0).await;
            }
        }
    }

    async fn take(&mut self, bytes: Option<&[u8]>) {
        let (mut frames, told) = (Vec::new(), &mut self.told);
        let mut on = |piece: Piece<'_>| match piece {
            Piece::Text(text) => told.extend_from_slice(text),
            Piece::Frame(body) => frames.push(body.to_vec()),
            Piece::Bad => {}
        };
        match bytes {
            Some(bytes) => self.splitter.feed(bytes, &mut on),
            None => self.splitter.idle(&mut on),
        }
        for frame in frames {
            match (u16::from_be_bytes([frame[2], frame[3]]), &frame[4..]) {
                (0x0021, packet) if packet[9] == 6 => self.wire.arrived.push_back(packet.to_vec()),
                (0x0021, packet) => self.packets.push(packet.to_vec()),
                (protocol, packet) => self.control(protocol, packet).await,
            }
        }
    }

    async fn control(&mut self, protocol: u16, packet: &[u8]) {
        let with = |code: u8| [&[code], &packet[1..]].concat();
        match packet[0] {
            1 => {
                if protocol == LCP && self.linked {
                    // The other end begins again.
                    (self.linked, self.up) = (false, false);
                    self.request().await;
                }
                self.frame(protocol, &with(2), u32::MAX).await;
            }
            2 if protocol == LCP && !self.linked => {
                self.linked = true;
                self.request().await;
            }
            2 if protocol == IPCP => {
                (self.up, self.ask_at) = (true, None);
                let address = Ipv4Address::from(self.address);
                self.interface.update_ip_addrs(|addresses| {
                    addresses.clear();
                    addresses.push(IpCidr::new(IpAddress::Ipv4(address), 0)).expect("room");
                });
            }
            3 if protocol == IPCP => {
                self.address.copy_from_slice(&packet[6..10]);
                self.request().await;
            }
            9 if self.linked => self.frame(LCP, &with(10), u32::MAX).await,
            _ => {}
        }
    }

    async fn request(&mut self) {
        self.ask_at = Some(self.began.elapsed() + Duration::from_millis(700));
        self.id = self.id.wrapping_add(1);
        let (protocol, option, value) = if self.linked { (IPCP, 3, self.address) } else { (LCP, 2, [0; 4]) };
        let packet = [&[1, self.id, 0, 10, option, 6], &value[..]].concat();
        self.frame(protocol, &packet, u32::MAX).await;
    }

    async fn frame(&mut self, protocol: u16, packet: &[u8], accm: u32) {
        let body = [&[0xFF, 0x03][..], &protocol.to_be_bytes(), packet].concat();
        let mut bytes = Vec::new();
        encode(self.encoding, &body, accm, &mut bytes);
        let bytes = if self.terse { &bytes[1..] } else { &bytes[..] };
        // A line that has ended takes nothing.
        let _ = self.stream.write_all(bytes).await;
    }
}

fn instant(now: Duration) -> Instant {
    Instant::from_micros(i64::try_from(now.as_micros()).expect("soon"))
}

#[derive(Default)]
struct Wire {
    arrived: VecDeque<Vec<u8>>,
    leaving: VecDeque<Vec<u8>>,
}

impl Device for Wire {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Leaving<'_>)> {
        self.arrived.pop_front().map(|packet| (Arrived(packet), Leaving(&mut self.leaving)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leaving<'_>> {
        Some(Leaving(&mut self.leaving))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        capabilities
    }
}

struct Arrived(Vec<u8>);

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

struct Leaving<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = vec![0; length];
        let result = write(&mut packet);
        self.0.push_back(packet);
        result
    }
}
