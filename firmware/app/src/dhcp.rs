//! The DHCP server of a board's access point (RFC 2131): a handful of addresses for those who come to provision the device.

use crate::clock::ticks;
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::time::Duration;
use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_net::{IpEndpoint, Stack};
use embassy_time::{Instant, Timer};

/// The device's own address on its access point; router and name server too, since phones leave networks that have none.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 4, 1);
/// The bits of an address that are the network's.
pub const PREFIX: u8 = 24;
/// The addresses that are given: this many from the one behind the device's. Whoever comes when all are taken gets the one used longest ago.
pub const LEASES_MAX: usize = 8;
/// How long an address is somebody's.
pub const LEASE: Duration = Duration::from_secs(2 * 3600);
/// How long an address is kept for somebody who was offered it.
const OFFER: Duration = Duration::from_secs(30);
/// How long nobody gets an address that somebody else was found to use.
const DECLINED: Duration = Duration::from_secs(600);

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// The longest message that is understood, in bytes.
const MESSAGE_MAX: usize = 576;
const PAUSE: Duration = Duration::from_millis(100);

const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Where the options begin, behind the fixed part and the cookie.
const OPTIONS: usize = 240;
/// BOOTP's shortest message: some clients refuse less.
const SHORTEST: usize = 300;

/// Options, by number (RFC 2132).
mod option {
    pub const PAD: u8 = 0;
    pub const MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const DNS: u8 = 6;
    pub const REQUESTED: u8 = 50;
    pub const LEASE: u8 = 51;
    pub const KIND: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const END: u8 = 255;
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Decline = 4,
    Ack = 5,
    Nak = 6,
    Release = 7,
    Inform = 8,
}

/// Who an Ethernet client is.
type Mac = [u8; 6];

/// What a client asks.
struct Asked<'a> {
    message: &'a [u8],
    kind: Kind,
    mac: Mac,
    /// The address it has already.
    has: Ipv4Addr,
    requested: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
}

/// Who has which address.
#[derive(Debug, Default)]
pub(crate) struct Leases([Lease; LEASES_MAX]);

#[derive(Clone, Copy, Debug, Default)]
struct Lease {
    mac: Option<Mac>,
    /// Until when it is theirs; 0: never was anybody's.
    until_s: u64,
}

/// Serves those who are on the access point, as long as the stack has [`ADDRESS`]; for ever.
pub async fn serve(stack: Stack<'_>) -> ! {
    let (mut received, mut sent) = ([PacketMetadata::EMPTY; 4], [PacketMetadata::EMPTY; 4]);
    let (mut receive, mut send) = (vec![0; 2 * MESSAGE_MAX], vec![0; 2 * MESSAGE_MAX]);
    let mut socket = UdpSocket::new(stack, &mut received, &mut receive, &mut sent, &mut send);
    while socket.bind(SERVER_PORT).is_err() {
        Timer::after(ticks(PAUSE)).await;
    }
    let mut leases = Leases::default();
    let mut message = vec![0; MESSAGE_MAX];
    loop {
        let Ok((n, _)) = socket.recv_from(&mut message).await else { continue };
        let ours = stack.config_v4().is_some_and(|config| config.address.address() == ADDRESS);
        if !ours {
            continue;
        }
        if let Some((answer, to)) = leases.answer(&message[..n], Instant::now().as_secs()) {
            // One that does not go out is asked for again.
            let _ = socket.send_to(&answer, IpEndpoint::new(to.into(), CLIENT_PORT)).await;
        }
    }
}

impl Leases {
    /// The answer to a message, and where it goes; `None`: it is not for us, or wants none.
    pub fn answer(&mut self, message: &[u8], now_s: u64) -> Option<(Vec<u8>, Ipv4Addr)> {
        let asked = Asked::read(message)?;
        let to_us = asked.server.is_none_or(|server| server == ADDRESS);
        match asked.kind {
            Kind::Discover => {
                let place = self.place(&asked, now_s)?;
                self.0[place] = Lease { mac: Some(asked.mac), until_s: now_s + OFFER.as_secs() };
                Some(asked.reply(Kind::Offer, Some(address(place))))
            }
            // What was offered by somebody else is kept for the client no longer.
            Kind::Request if !to_us => {
                self.free(asked.mac, now_s);
                None
            }
            Kind::Request => {
                let wanted = asked.requested.unwrap_or(asked.has);
                let free = |l: &Lease| l.mac.is_none_or(|mac| mac == asked.mac) || l.until_s <= now_s;
                match place_of(wanted).filter(|place| free(&self.0[*place])) {
                    Some(place) => {
                        for lease in self.0.iter_mut().filter(|l| l.mac == Some(asked.mac)) {
                            *lease = Lease::default();
                        }
                        self.0[place] = Lease { mac: Some(asked.mac), until_s: now_s + LEASE.as_secs() };
                        Some(asked.reply(Kind::Ack, Some(wanted)))
                    }
                    None => Some(asked.reply(Kind::Nak, None)),
                }
            }
            Kind::Inform => Some(asked.reply(Kind::Ack, None)),
            Kind::Decline if to_us => {
                let place = place_of(asked.requested?)?;
                self.0[place] = Lease { mac: None, until_s: now_s + DECLINED.as_secs() };
                None
            }
            Kind::Release if to_us => {
                self.free(asked.mac, now_s);
                None
            }
            _ => None,
        }
    }

    /// The address that this client gets: the one it had, the one it wishes for, one that nobody has, the one that was left longest ago.
    fn place(&self, asked: &Asked<'_>, now_s: u64) -> Option<usize> {
        let had = self.0.iter().position(|l| l.mac == Some(asked.mac));
        let wished = asked.requested.and_then(place_of).filter(|place| self.0[*place].until_s <= now_s);
        let fresh = || self.0.iter().position(|l| l.mac.is_none() && l.until_s <= now_s);
        // One that somebody declined is in use.
        let oldest = || (0..LEASES_MAX).filter(|i| self.0[*i].mac.is_some()).min_by_key(|i| self.0[*i].until_s);
        had.or(wished).or_else(fresh).or_else(oldest)
    }

    fn free(&mut self, mac: Mac, now_s: u64) {
        for lease in self.0.iter_mut().filter(|l| l.mac == Some(mac)) {
            lease.until_s = lease.until_s.min(now_s);
        }
    }
}

/// The address of a place.
fn address(place: usize) -> Ipv4Addr {
    let [a, b, c, own] = ADDRESS.octets();
    // At most `LEASES_MAX` from the device's own.
    Ipv4Addr::new(a, b, c, own + 1 + place as u8)
}

fn place_of(wanted: Ipv4Addr) -> Option<usize> {
    (0..LEASES_MAX).find(|place| address(*place) == wanted)
}

impl<'a> Asked<'a> {
    /// Reads a client's message; `None`: it is none, or broken.
    fn read(message: &'a [u8]) -> Option<Asked<'a>> {
        // A request (1) by Ethernet (1), whose addresses have six bytes.
        if message.len() < OPTIONS || message[..3] != [1, 1, 6] || message[OPTIONS - 4..OPTIONS] != COOKIE {
            return None;
        }
        let (mut kind, mut requested, mut server) = (None, None, None);
        let mut rest = &message[OPTIONS..];
        loop {
            match rest {
                [option::END, ..] | [] => break,
                [option::PAD, after @ ..] => rest = after,
                [code, length, after @ ..] => {
                    let (value, after) = after.split_at_checked(usize::from(*length))?;
                    let ip = || <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from);
                    match *code {
                        option::KIND => kind = Kind::of(*value.first()?),
                        option::REQUESTED => requested = Some(ip()?),
                        option::SERVER => server = Some(ip()?),
                        _ => {}
                    }
                    rest = after;
                }
                [_] => return None,
            }
        }
        let has: [u8; 4] = message[12..16].try_into().ok()?;
        let mac: Mac = message[28..34].try_into().ok()?;
        Some(Asked { message, kind: kind?, mac, has: has.into(), requested, server })
    }

    /// An answer, and where it goes: to everybody, since the client has no address yet, unless it says that it has one.
    fn reply(&self, kind: Kind, given: Option<Ipv4Addr>) -> (Vec<u8>, Ipv4Addr) {
        let mut reply = vec![0; OPTIONS];
        reply[..3].copy_from_slice(&[2, 1, 6]);
        // The exchange's number, and the flags.
        reply[4..8].copy_from_slice(&self.message[4..8]);
        reply[10..12].copy_from_slice(&self.message[10..12]);
        if kind == Kind::Ack {
            reply[12..16].copy_from_slice(&self.has.octets());
        }
        reply[16..20].copy_from_slice(&given.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        if kind != Kind::Nak {
            reply[20..24].copy_from_slice(&ADDRESS.octets());
        }
        reply[28..34].copy_from_slice(&self.mac);
        reply[OPTIONS - 4..].copy_from_slice(&COOKIE);
        let mut option = |code: u8, value: &[u8]| {
            reply.extend_from_slice(&[code, value.len() as u8]);
            reply.extend_from_slice(value);
        };
        option(option::KIND, &[kind as u8]);
        option(option::SERVER, &ADDRESS.octets());
        if kind != Kind::Nak {
            if given.is_some() {
                option(option::LEASE, &(LEASE.as_secs() as u32).to_be_bytes());
            }
            let mask = u32::MAX << (32 - u32::from(PREFIX));
            option(option::MASK, &mask.to_be_bytes());
            option(option::ROUTER, &ADDRESS.octets());
            option(option::DNS, &ADDRESS.octets());
        }
        reply.push(option::END);
        reply.resize(reply.len().max(SHORTEST), option::PAD);
        let has_one = !self.has.is_unspecified() && kind == Kind::Ack;
        (reply, if has_one { self.has } else { Ipv4Addr::BROADCAST })
    }
}

impl Kind {
    fn of(number: u8) -> Option<Kind> {
        [Kind::Discover, Kind::Request, Kind::Decline, Kind::Release, Kind::Inform].into_iter().find(|kind| *kind as u8 == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cable;
    use embassy_futures::select::{Either, select};
    use embassy_net::{Ipv4Cidr, StaticConfigV4};

    fn mac(n: u8) -> Mac {
        [2, 0, 0, 0, 0, n]
    }

    fn message(kind: Kind, mac: Mac, has: [u8; 4], options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut message = vec![0; OPTIONS];
        message[..8].copy_from_slice(&[1, 1, 6, 0, 0xDE, 0xAD, 0xBE, 0xEF]);
        message[12..16].copy_from_slice(&has);
        message[28..34].copy_from_slice(&mac);
        message[236..240].copy_from_slice(&COOKIE);
        message.extend_from_slice(&[option::PAD, option::KIND, 1, kind as u8]);
        for (code, value) in options {
            message.extend_from_slice(&[*code, value.len() as u8]);
            message.extend_from_slice(value);
        }
        message.push(option::END);
        message
    }

    /// The kind of a reply and the address it gives.
    fn said(reply: Option<(Vec<u8>, Ipv4Addr)>) -> (u8, [u8; 4], Ipv4Addr) {
        let (reply, to) = reply.unwrap();
        assert_eq!((&reply[..3], &reply[4..8], &reply[236..240]), (&[2, 1, 6][..], &[0xDE, 0xAD, 0xBE, 0xEF][..], &COOKIE[..]));
        assert!(reply.len() >= SHORTEST && reply.contains(&option::END));
        assert_eq!((reply[240], reply[241]), (option::KIND, 1));
        (reply[242], reply[16..20].try_into().unwrap(), to)
    }

    const SERVER: (u8, &[u8]) = (option::SERVER, &[192, 168, 4, 1]);
    const NONE: [u8; 4] = [0; 4];

    #[test]
    fn a_client_gets_an_address_and_keeps_it() {
        let mut leases = Leases::default();
        let (kind, offered, to) = said(leases.answer(&message(Kind::Discover, mac(1), NONE, &[]), 0));
        assert_eq!((kind, offered, to), (Kind::Offer as u8, [192, 168, 4, 2], Ipv4Addr::BROADCAST));
        let request = message(Kind::Request, mac(1), NONE, &[(option::REQUESTED, &offered), SERVER]);
        assert_eq!(said(leases.answer(&request, 1)), (Kind::Ack as u8, offered, Ipv4Addr::BROADCAST));
        // Another one gets another; the first one comes back to its own, from whatever state.
        assert_eq!(said(leases.answer(&message(Kind::Discover, mac(2), NONE, &[]), 2)).1, [192, 168, 4, 3]);
        assert_eq!(said(leases.answer(&message(Kind::Discover, mac(1), NONE, &[]), 3)).1, offered);
        let renewal = message(Kind::Request, mac(1), offered, &[]);
        assert_eq!(said(leases.answer(&renewal, 4)), (Kind::Ack as u8, offered, Ipv4Addr::from(offered)));
        let rebooted = message(Kind::Request, mac(1), NONE, &[(option::REQUESTED, &offered)]);
        assert_eq!(said(leases.answer(&rebooted, 5)).0, Kind::Ack as u8);
    }

    #[test]
    fn an_acknowledgement_says_what_a_phone_must_know() {
        let mut leases = Leases::default();
        let request = message(Kind::Request, mac(1), NONE, &[(option::REQUESTED, &[192, 168, 4, 2]), SERVER]);
        let (reply, _) = leases.answer(&request, 0).unwrap();
        for option in [
            &[option::SERVER, 4, 192, 168, 4, 1][..],
            &[option::LEASE, 4, 0, 0, 0x1C, 0x20],
            &[option::MASK, 4, 255, 255, 255, 0],
            &[option::ROUTER, 4, 192, 168, 4, 1],
            &[option::DNS, 4, 192, 168, 4, 1],
        ] {
            assert!(reply.windows(option.len()).any(|w| w == option), "{option:?}");
        }
    }

    #[test]
    fn what_is_somebody_else_s_or_nobody_s_is_refused() {
        let mut leases = Leases::default();
        let request = |n, ip: [u8; 4]| message(Kind::Request, mac(n), NONE, &[(option::REQUESTED, &ip), SERVER]);
        assert_eq!(said(leases.answer(&request(1, [192, 168, 4, 2]), 0)).0, Kind::Ack as u8);
        for ip in [[192, 168, 4, 2], [192, 168, 4, 1], [192, 168, 4, 10], [10, 0, 0, 1], NONE] {
            assert_eq!(said(leases.answer(&request(2, ip), 1)).0, Kind::Nak as u8, "{ip:?}");
        }
        // Once the time is over it may be given to another.
        assert_eq!(said(leases.answer(&request(2, [192, 168, 4, 2]), LEASE.as_secs())).0, Kind::Ack as u8);
    }

    #[test]
    fn another_server_s_client_is_left_alone() {
        let mut leases = Leases::default();
        assert!(leases.answer(&message(Kind::Discover, mac(1), NONE, &[]), 0).is_some());
        let elsewhere = message(Kind::Request, mac(1), NONE, &[(option::SERVER, &[10, 0, 0, 1])]);
        assert!(leases.answer(&elsewhere, 1).is_none());
        let wished = message(Kind::Discover, mac(2), NONE, &[(option::REQUESTED, &[192, 168, 4, 2])]);
        assert_eq!(said(leases.answer(&wished, 2)).1, [192, 168, 4, 2], "the offer was taken back");
    }

    #[test]
    fn addresses_that_were_left_are_given_again_and_declined_ones_are_not() {
        let mut leases = Leases::default();
        for n in 0..LEASES_MAX as u8 {
            assert_eq!(said(leases.answer(&message(Kind::Discover, mac(n), NONE, &[]), u64::from(n))).1[3], 2 + n);
        }
        let declined = message(Kind::Decline, mac(0), NONE, &[(option::REQUESTED, &[192, 168, 4, 2]), SERVER]);
        assert!(leases.answer(&declined, 10).is_none());
        assert!(leases.answer(&message(Kind::Release, mac(5), [192, 168, 4, 7], &[SERVER]), 10).is_none());
        assert_eq!(said(leases.answer(&message(Kind::Discover, mac(50), NONE, &[]), 11)).1[3], 7);
        // All are taken: the one that was left longest ago.
        assert_eq!(said(leases.answer(&message(Kind::Discover, mac(51), NONE, &[]), 11)).1[3], 3);
        let much_later = message(Kind::Discover, mac(52), NONE, &[(option::REQUESTED, &[192, 168, 4, 2])]);
        assert_eq!(said(leases.answer(&much_later, 11 + DECLINED.as_secs())).1[3], 2);
    }

    #[test]
    fn rubbish_is_passed_over() {
        let good = message(Kind::Discover, mac(1), NONE, &[(option::REQUESTED, &[192, 168, 4, 2])]);
        let mut leases = Leases::default();
        for cut in 0..good.len() - 7 {
            assert!(leases.answer(&good[..cut], 0).is_none() || cut > OPTIONS + 3, "{cut}");
        }
        for (at, byte) in [(0, 2), (1, 6), (2, 16), (236, 0), (243, 9), (245, 3), (245, 200)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(leases.answer(&bad, 0).is_none(), "{at}");
        }
        let mut reply = good.clone();
        reply[243] = Kind::Offer as u8;
        assert!(leases.answer(&reply, 0).is_none());
    }

    #[test]
    fn somebody_else_s_client_gets_its_address() {
        let own = StaticConfigV4 { address: Ipv4Cidr::new(ADDRESS, PREFIX), gateway: None, dns_servers: Default::default() };
        let (device, guest) = (embassy_net::Config::ipv4_static(own), embassy_net::Config::dhcpv4(Default::default()));
        let got = cable::connect(device, guest, |device, guest, _| async move {
            match select(serve(device), guest.wait_config_up()).await {
                Either::Second(()) => guest.config_v4(),
            }
        });
        let config = got.unwrap();
        assert_eq!(config.address, Ipv4Cidr::new(Ipv4Addr::new(192, 168, 4, 2), PREFIX));
        assert_eq!((config.gateway, &config.dns_servers[..]), (Some(ADDRESS), &[ADDRESS][..]));
    }
}
