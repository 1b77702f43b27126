//! The other end of a device's network: its TCP connections and UDP datagrams become ordinary ones of this machine, and the other way round.
//!
//! Only the servers that the testbed has started can be reached; a connection to anything else is reset, as to a port where nobody listens.
//! A connection is answered when the server behind it has answered, so a server that refuses is one that refuses to the device.

mod datagram;
mod flow;
mod stack;

use datagram::Relays;
use flow::{Flow, Ports};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};
use stack::Stack;
use std::net::Ipv4Addr;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// Connections at the same time; more are reset.
pub const FLOWS_MAX: usize = 64;
/// The port of the device's HTTP API.
const HTTP: u16 = 80;
/// How long a server of this machine may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// Rounds of moving data before others have their turn.
const ROUNDS_MAX: usize = 16;

/// What a device may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reachable {
    /// TCP ports of this machine.
    pub tcp: Vec<u16>,
    /// UDP ports of this machine.
    pub udp: Vec<u16>,
}

/// The gateway of one device.
pub struct Gateway {
    host: Ipv4Addr,
    device: Ipv4Addr,
    reachable: Reachable,
    door: TcpListener,
    stack: Stack,
    flows: Vec<Flow>,
    relays: Relays,
}

impl Gateway {
    /// A gateway at address `host` to a device at `device`; connections to `door` are led to the device's HTTP API.
    pub fn new(host: Ipv4Addr, device: Ipv4Addr, reachable: Reachable, door: TcpListener, seed: u64) -> Gateway {
        Gateway { host, device, reachable, door, stack: Stack::new(host, seed), flows: Vec::new(), relays: Relays::default() }
    }

    /// The device takes no longer packets than these.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.stack.set_mtu(mtu);
    }

    /// Takes a packet of the device.
    pub fn take(&mut self, now: Duration, packet: Vec<u8>) {
        let Ok(ip) = Ipv4Packet::new_checked(packet.as_slice()) else { return };
        match ip.next_header() {
            IpProtocol::Udp => self.take_datagram(now, &packet),
            IpProtocol::Tcp if ip.dst_addr() != self.host => self.refuse(&packet),
            IpProtocol::Tcp => {
                let Some((ports, opens)) = tcp(&packet) else { return };
                let known = self.flows.iter().find(|flow| flow.ports == ports);
                match known {
                    // The SYN again; the first one waits.
                    Some(flow) if flow.is_connecting() => {}
                    None if opens => self.open(now, ports, packet),
                    _ => self.stack.take(now, packet),
                }
            }
            _ => self.stack.take(now, packet),
        }
    }

    /// The device asks for a connection.
    fn open(&mut self, now: Duration, ports: Ports, syn: Vec<u8>) {
        if !self.reachable.tcp.contains(&ports.gateway) || self.flows.len() >= FLOWS_MAX {
            // No socket waits for it, so it is reset.
            return self.stack.take(now, syn);
        }
        let server = (Ipv4Addr::LOCALHOST, ports.gateway);
        let connecting = async move {
            let connected = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(server)).await;
            connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
        };
        self.flows.push(Flow::from_device(ports, Box::pin(connecting), syn));
    }

    fn take_datagram(&mut self, now: Duration, packet: &[u8]) {
        let Some((ways, data)) = datagram::read(packet) else { return };
        let (to, port) = ways.gateway;
        if to != self.host {
            return;
        }
        if port == datagram::NAMES {
            if let Some(answer) = datagram::answer(data, self.host) {
                self.stack.send(datagram::datagram(ways, &answer));
            }
        } else if self.reachable.udp.contains(&port) {
            // What cannot be sent is lost, as datagrams may be.
            let _ = self.relays.send(now, ways, data);
        }
    }

    /// Resets a connection to a machine that there is not.
    fn refuse(&mut self, packet: &[u8]) {
        if let Some(reset) = reset(packet) {
            self.stack.send(reset);
        }
    }

    /// Moves what can be moved between the device and the servers; ready when something was, so that there may be packets to send.
    /// `up`: the device can be reached.
    pub fn poll(&mut self, cx: &mut Context<'_>, now: Duration, up: bool) -> Poll<()> {
        let mut moved = false;
        for _ in 0..ROUNDS_MAX {
            let mut again = false;
            while up && self.flows.len() < FLOWS_MAX {
                let Poll::Ready(Ok((stream, _))) = self.door.poll_accept(cx) else { break };
                let Some((handle, gateway)) = self.stack.connect(self.device, HTTP) else { continue };
                let _ = stream.set_nodelay(true);
                self.flows.push(Flow::to_device(Ports { device: HTTP, gateway }, handle, stream));
                again = true;
            }
            for flow in &mut self.flows {
                again |= flow.step(cx, now, &mut self.stack);
            }
            self.flows.retain(|flow| !flow.is_over());
            again |= self.relays.step(cx, &mut self.stack);
            self.stack.run(now);
            moved |= again;
            if !again {
                break;
            }
        }
        if moved { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The next packet for the device.
    pub fn leaving(&mut self) -> Option<Vec<u8>> {
        self.stack.leaving()
    }

    /// There is a packet for the device.
    pub fn has_leaving(&self) -> bool {
        self.stack.has_leaving()
    }

    /// Until something is due: then [`poll`](Gateway::poll) it, or lose time.
    pub fn delay(&mut self, now: Duration) -> Option<Duration> {
        self.stack.delay(now)
    }
}

/// The ports of a TCP packet, and whether it asks for a connection.
fn tcp(packet: &[u8]) -> Option<(Ports, bool)> {
    let ip = Ipv4Packet::new_checked(packet).ok()?;
    let tcp = TcpPacket::new_checked(ip.payload()).ok()?;
    Some((Ports { device: tcp.src_port(), gateway: tcp.dst_port() }, tcp.syn() && !tcp.ack()))
}

/// The answer of a machine where nobody listens (RFC 9293 section 3.5.2); none to another reset.
fn reset(packet: &[u8]) -> Option<Vec<u8>> {
    let ip = Ipv4Packet::new_checked(packet).ok()?;
    let tcp = TcpPacket::new_checked(ip.payload()).ok()?;
    if tcp.rst() {
        return None;
    }
    let (seq_number, ack_number) =
        if tcp.ack() { (tcp.ack_number(), None) } else { (TcpSeqNumber(0), Some(tcp.seq_number() + tcp.segment_len())) };
    let answer = TcpRepr {
        src_port: tcp.dst_port(),
        dst_port: tcp.src_port(),
        control: TcpControl::Rst,
        seq_number,
        ack_number,
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let around = Ipv4Repr {
        src_addr: ip.dst_addr(),
        dst_addr: ip.src_addr(),
        next_header: IpProtocol::Tcp,
        payload_len: answer.buffer_len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; around.buffer_len() + around.payload_len];
    let checksums = ChecksumCapabilities::default();
    let mut whole = Ipv4Packet::new_unchecked(&mut bytes);
    around.emit(&mut whole, &checksums);
    let (from, to) = (around.src_addr.into(), around.dst_addr.into());
    answer.emit(&mut TcpPacket::new_unchecked(whole.payload_mut()), &from, &to, &checksums);
    Some(bytes)
}
