//! UDP without sockets of the stack's: requests to servers of this machine are relayed, names are answered here.

use super::stack::Stack;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr};
use std::io;
use std::net::Ipv4Addr;
use std::task::Context;
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

/// The name service's port.
pub const NAMES: u16 = 53;
/// Exchanges at the same time; the oldest gives way.
const RELAYS_MAX: usize = 16;
/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// How long a name stays valid for the device, in seconds.
const NAME_VALID_S: u32 = 60;
/// The longest answer that fits into a packet.
const DATA_MAX: usize = 1472;

/// Where a datagram comes from and goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ways {
    pub device: (Ipv4Addr, u16),
    pub gateway: (Ipv4Addr, u16),
}

/// One exchange with a server.
struct Relay {
    ways: Ways,
    /// The same socket twice: one that sends at once, and one that says when an answer has come.
    requests: std::net::UdpSocket,
    answers: UdpSocket,
    used_at: Duration,
}

/// All exchanges.
#[derive(Default)]
pub struct Relays(Vec<Relay>);

impl Relays {
    /// Sends a device's datagram to the server on this port of this machine.
    pub fn send(&mut self, now: Duration, ways: Ways, data: &[u8]) -> io::Result<()> {
        self.0.retain(|relay| now.saturating_sub(relay.used_at) < ANSWER_LIMIT);
        let known = self.0.iter().position(|relay| relay.ways == ways);
        let relay = match known {
            Some(at) => &mut self.0[at],
            None => {
                if self.0.len() == RELAYS_MAX {
                    self.0.remove(0);
                }
                let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
                socket.connect((Ipv4Addr::LOCALHOST, ways.gateway.1))?;
                socket.set_nonblocking(true)?;
                let requests = socket.try_clone()?;
                self.0.push(Relay { ways, requests, answers: UdpSocket::from_std(socket)?, used_at: now });
                let last = self.0.len() - 1;
                &mut self.0[last]
            }
        };
        relay.used_at = now;
        relay.requests.send(data).map(drop)
    }

    /// Takes the servers' answers; true when there was one.
    pub fn step(&mut self, cx: &mut Context<'_>, stack: &mut Stack) -> bool {
        let mut moved = false;
        for relay in &self.0 {
            let mut bytes = [0; DATA_MAX];
            let mut buffer = ReadBuf::new(&mut bytes);
            if relay.answers.poll_recv(cx, &mut buffer).is_ready() {
                // An error is the server's refusal: the device hears nothing, as of a lost datagram.
                if !buffer.filled().is_empty() {
                    stack.send(datagram(relay.ways, buffer.filled()));
                }
                moved = true;
            }
        }
        moved
    }
}

/// A device's datagram: its ways, and its data.
pub fn read(packet: &[u8]) -> Option<(Ways, &[u8])> {
    let ip = Ipv4Packet::new_checked(packet).ok()?;
    let (from, to) = (ip.src_addr(), ip.dst_addr());
    if ip.next_header() != IpProtocol::Udp || ip.more_frags() || ip.frag_offset() != 0 || !ip.verify_checksum() {
        return None;
    }
    let start = usize::from(ip.header_len());
    let udp = UdpPacket::new_checked(packet.get(start..usize::from(ip.total_len()))?).ok()?;
    if !udp.verify_checksum(&from.into(), &to.into()) {
        return None;
    }
    Some((Ways { device: (from, udp.src_port()), gateway: (to, udp.dst_port()) }, udp.payload()))
}

/// A datagram for the device.
pub fn datagram(ways: Ways, data: &[u8]) -> Vec<u8> {
    let udp = UdpRepr { src_port: ways.gateway.1, dst_port: ways.device.1 };
    let ip = Ipv4Repr {
        src_addr: ways.gateway.0,
        dst_addr: ways.device.0,
        next_header: IpProtocol::Udp,
        payload_len: udp.header_len() + data.len(),
        hop_limit: 64,
    };
    let mut packet = vec![0; ip.buffer_len() + ip.payload_len];
    let checksums = ChecksumCapabilities::default();
    let mut whole = Ipv4Packet::new_unchecked(&mut packet);
    ip.emit(&mut whole, &checksums);
    let (from, to) = (ip.src_addr.into(), ip.dst_addr.into());
    let mut inner = UdpPacket::new_unchecked(whole.payload_mut());
    udp.emit(&mut inner, &from, &to, data.len(), |room| room.copy_from_slice(data), &checksums);
    packet
}

/// The name of this machine, as devices in Wokwi know it; and all names below `test`, which belong to nobody (RFC 6761).
fn is_ours(name: &str) -> bool {
    name == "host.wokwi.internal" || name == "test" || name.ends_with(".test")
}

/// The name service's answer (RFC 1035): names that are ours lead to the gateway, others to nowhere. None when this is no question.
pub fn answer(question: &[u8], gateway: Ipv4Addr) -> Option<Vec<u8>> {
    let header = question.first_chunk::<12>()?;
    // One question of a standard query.
    if header[2] & 0xF8 != 0 || header[4..6] != [0, 1] {
        return None;
    }
    let (mut name, mut at) = (String::new(), 12);
    loop {
        let length = usize::from(*question.get(at)?);
        if length > 63 {
            return None;
        }
        let label = question.get(at + 1..at + 1 + length)?;
        at += 1 + length;
        if length == 0 {
            break;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name += &String::from_utf8_lossy(label).to_ascii_lowercase();
    }
    let asked = question.get(12..at + 4)?;
    let address = question.get(at..at + 4)? == [0, 1, 0, 1];
    let found = is_ours(&name);
    let (answers, code) = (u8::from(found && address), if found { 0 } else { 3 });
    // Recursion is available, and as wished.
    let flags = [0x84 | (header[2] & 1), 0x80 | code];
    let mut answer = [&header[..2], &flags, &[0, 1, 0, answers, 0, 0, 0, 0], asked].concat();
    if answers > 0 {
        // The name is that of the question.
        answer.extend([0xC0, 12, 0, 1, 0, 1]);
        answer.extend(NAME_VALID_S.to_be_bytes());
        answer.extend([0, 4]);
        answer.extend(gateway.octets());
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

    fn question(name: &str, kind: u8) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            bytes.push(label.len() as u8);
            bytes.extend(label.as_bytes());
        }
        bytes.extend([0, 0, kind, 0, 1]);
        bytes
    }

    #[test]
    fn names_that_are_ours_lead_to_the_gateway_and_others_nowhere() {
        let asked = question("Broker.Test", 1);
        let found = answer(&asked, GATEWAY).unwrap();
        assert_eq!(found[..12], [0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(found[12..asked.len()], asked[12..]);
        assert_eq!(found[asked.len()..], [0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 2, 2]);
        let none = answer(&question("example.com", 1), GATEWAY).unwrap();
        assert_eq!((none[3] & 15, none[7]), (3, 0));
        let no_ipv6 = answer(&question("broker.test", 28), GATEWAY).unwrap();
        assert_eq!((no_ipv6[3] & 15, no_ipv6[7]), (0, 0));
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        let asked = question("broker.test", 1);
        for length in 0..asked.len() {
            assert_eq!(answer(&asked[..length], GATEWAY), None);
        }
        let mut pointer = asked.clone();
        pointer[12] = 0xC0;
        let mut response = asked;
        response[2] |= 0x80;
        assert_eq!((answer(&pointer, GATEWAY), answer(&response, GATEWAY)), (None, None));
    }

    #[test]
    fn a_datagram_is_read_as_it_was_written() {
        let ways = Ways { device: (Ipv4Addr::new(10, 0, 2, 15), 4000), gateway: (GATEWAY, 123) };
        let mut packet = datagram(ways, b"time");
        let back = Ways { device: ways.gateway, gateway: ways.device };
        assert_eq!(read(&packet), Some((back, b"time".as_slice())));
        packet[30] ^= 1;
        assert_eq!(read(&packet), None, "a broken one is none");
        assert_eq!(read(&packet[..20]), None);
    }
}
