//! The gateway's own TCP: smoltcp over two queues of packets.

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint, IpListenEndpoint};
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Bytes that are kept of a connection, each way.
const BUFFER: usize = 16 * 1024;
/// How long a device may keep an answer to data to itself before the connection is given up.
const SILENCE_MAX: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(120);
/// Packets on their way to the device that are kept; TCP holds back the rest.
const PACKETS_MAX: usize = 8;
/// Where the ports begin that connections to the device come from.
const PORTS_FROM: u16 = 49152;

/// TCP with the device at the other end.
pub struct Stack {
    interface: Interface,
    wire: Wire,
    pub sockets: SocketSet<'static>,
    host: Ipv4Addr,
    last_port: u16,
}

impl Stack {
    pub fn new(host: Ipv4Addr, seed: u64) -> Stack {
        let mut wire = Wire { arrived: VecDeque::new(), leaving: VecDeque::new(), mtu: usize::from(crate::serial::ppp::MTU) };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            // One address has room in any list of them.
            let _ = addresses.push(IpCidr::new(IpAddress::Ipv4(host), 24));
        });
        Stack { interface, wire, sockets: SocketSet::new(Vec::new()), host, last_port: 0 }
    }

    /// The device takes no longer packets than these.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.wire.mtu = usize::from(mtu);
    }

    /// A packet from the device, for this very stack, is taken in.
    pub fn take(&mut self, now: Duration, packet: Vec<u8>) {
        self.wire.arrived.push_back(packet);
        self.run(now);
    }

    /// Does what is due.
    pub fn run(&mut self, now: Duration) {
        self.interface.poll(instant(now), &mut self.wire, &mut self.sockets);
    }

    /// The next packet for the device.
    pub fn leaving(&mut self) -> Option<Vec<u8>> {
        self.wire.leaving.pop_front()
    }

    /// There is a packet for the device.
    pub fn has_leaving(&self) -> bool {
        !self.wire.leaving.is_empty()
    }

    /// There is room for a packet to the device.
    pub fn has_room(&self) -> bool {
        self.wire.leaving.len() < PACKETS_MAX
    }

    /// Sends a packet that is not this stack's own, if there is room for it.
    pub fn send(&mut self, packet: Vec<u8>) {
        if self.has_room() {
            self.wire.leaving.push_back(packet);
        }
    }

    /// Until something is due; none while there is no room for what would be.
    pub fn delay(&mut self, now: Duration) -> Option<Duration> {
        if !self.has_room() {
            return None;
        }
        let delay = self.interface.poll_delay(instant(now), &self.sockets)?;
        Some(Duration::from_micros(delay.total_micros()))
    }

    /// A socket for the connection that the next packet asks for.
    pub fn listen(&mut self, port: u16) -> Option<SocketHandle> {
        let mut socket = socket();
        let here = IpListenEndpoint { addr: Some(IpAddress::Ipv4(self.host)), port };
        socket.listen(here).ok()?;
        Some(self.sockets.add(socket))
    }

    /// A socket that connects to this port of the device, and the port that it does so from.
    pub fn connect(&mut self, device: Ipv4Addr, port: u16) -> Option<(SocketHandle, u16)> {
        let mut socket = socket();
        self.last_port = (self.last_port + 1) % (u16::MAX - PORTS_FROM);
        let from = PORTS_FROM + self.last_port;
        let remote = IpEndpoint::new(IpAddress::Ipv4(device), port);
        socket.connect(self.interface.context(), remote, (IpAddress::Ipv4(self.host), from)).ok()?;
        Some((self.sockets.add(socket), from))
    }

    pub fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }
}

fn socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
    socket.set_ack_delay(None);
    socket.set_timeout(Some(SILENCE_MAX));
    socket
}

fn instant(now: Duration) -> Instant {
    Instant::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}

struct Wire {
    arrived: VecDeque<Vec<u8>>,
    leaving: VecDeque<Vec<u8>>,
    mtu: usize,
}

impl Device for Wire {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Leaving<'_>)> {
        // What is answered at once may go beyond the limit: it is one packet for each that came.
        self.arrived.pop_front().map(|packet| (Arrived(packet), Leaving(&mut self.leaving)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leaving<'_>> {
        (self.leaving.len() < PACKETS_MAX).then_some(Leaving(&mut self.leaving))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
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
