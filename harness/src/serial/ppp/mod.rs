//! The host's end of a PPP link (RFC 1661, 1662, 1332): agrees with the device on the link and on addresses. Pure: `now` comes from outside.
//!
//! It is as quiet as can be: nothing before the device's first good frame, one Configure-Request a layer and (re)start, repeated by timer only.
//! A request in answer to each request makes lwIP begin again for ever.

mod layer;
#[cfg(test)]
mod tests;

use layer::{Code, Layer, Verdict};
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

const LCP: u16 = 0xC021;
const IPCP: u16 = 0x8021;
const IPV4: u16 = 0x0021;

/// Bytes of a rejected packet that are sent back: more than 128 in all are too many for small devices.
const REJECTED_MAX: usize = 120;
/// The largest packet that is taken and, unless the device wants smaller ones, sent.
pub const MTU: u16 = 1500;
/// The smallest packet that a device may ask for (RFC 791).
const MTU_MIN: u16 = 576;

/// What is agreed on, as far as it is up to this end.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// This end's address, and the name server's.
    pub host: Ipv4Addr,
    /// The device's address.
    pub device: Ipv4Addr,
    /// The control characters that the device is asked to escape, one bit each.
    pub accm: u32,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A frame is to be sent.
    Send(Outgoing),
    /// The device sent an IP packet.
    Packet(Vec<u8>),
    /// IP packets go both ways from here on.
    Up,
    /// They do not any more.
    Down,
    /// The device has answered an echo request.
    Echoed {
        /// The request's number.
        id: u8,
        /// Its data.
        data: Vec<u8>,
    },
}

/// A frame to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Address, control, protocol, packet.
    pub body: Vec<u8>,
    /// The control characters to escape.
    pub accm: u32,
}

/// One end of a link.
#[derive(Debug)]
pub struct Peer {
    terms: Terms,
    lcp: Layer,
    ipcp: Layer,
    /// What the device wants escaped, once that is agreed.
    send_accm: u32,
    mtu: u16,
    up: bool,
    /// Numbers of what asks for no agreement: rejects and echoes.
    last_id: u8,
    outputs: VecDeque<Output>,
}

impl Peer {
    /// A link that is down, and quiet.
    pub fn new(terms: Terms) -> Peer {
        Peer {
            lcp: Layer::new(vec![(layer::ACCM, terms.accm.to_be_bytes())]),
            ipcp: Layer::new(vec![(layer::ADDRESS, terms.host.octets())]),
            terms,
            send_accm: u32::MAX,
            mtu: MTU,
            up: false,
            last_id: 0,
            outputs: VecDeque::new(),
        }
    }

    /// The next thing to be done, if any.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`tick`](Peer::tick), if not before.
    pub fn deadline(&self) -> Option<Duration> {
        [self.lcp.deadline(), self.ipcp.deadline()].into_iter().flatten().min()
    }

    /// IP packets go both ways.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// The longest IP packet that the device takes.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// The frame that carries an IP packet; none while the link is down.
    pub fn carry(&self, packet: &[u8]) -> Option<Outgoing> {
        self.up.then(|| Outgoing { body: body(IPV4, packet), accm: self.send_accm })
    }

    /// Asks the device to send this back, at most 100 bytes; none while there is no link. The request's number. What is to be escaped is,
    /// and nothing else, so that all values are on the line.
    pub fn echo(&mut self, data: &[u8]) -> Option<(u8, Outgoing)> {
        if !self.lcp.is_open() {
            return None;
        }
        let id = self.next_id();
        let packet = layer::packet(Code::EchoRequest, id, &[&[0; 4], data].concat());
        Some((id, Outgoing { body: body(LCP, &packet), accm: self.send_accm }))
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration) {
        if let Some(request) = self.lcp.tick(now) {
            self.send(LCP, &request);
        }
        if let Some(request) = self.ipcp.tick(now) {
            self.send(IPCP, &request);
        }
        self.settle(now);
    }

    /// Takes a frame's body, whose check sequence was right.
    pub fn frame(&mut self, now: Duration, body: &[u8]) {
        let Some((protocol, packet)) = body.get(2..).and_then(|rest| rest.split_first_chunk::<2>()) else { return };
        match u16::from_be_bytes(*protocol) {
            LCP => self.control(now, LCP, packet),
            // The device thinks that there is a link: it has to agree on it anew.
            _ if !self.lcp.is_begun() => self.begin(now, LCP),
            _ if !self.lcp.is_open() => {}
            IPCP => self.control(now, IPCP, packet),
            IPV4 if self.up => self.outputs.push_back(Output::Packet(packet.to_vec())),
            IPV4 => {}
            _ => {
                let rejected = body.get(2..).map_or(&[][..], |rest| &rest[..rest.len().min(REJECTED_MAX)]);
                let id = self.next_id();
                self.send(LCP, &layer::packet(Code::UnknownProtocol, id, rejected));
            }
        }
        self.settle(now);
    }

    fn control(&mut self, now: Duration, protocol: u16, packet: &[u8]) {
        let Some((code, id, data)) = layer::parse(packet) else { return };
        let Ok(code) = Code::try_from(code) else {
            let new = self.next_id();
            return self.send(protocol, &layer::packet(Code::Unknown, new, &packet[..packet.len().min(REJECTED_MAX)]));
        };
        match code {
            Code::ConfigureRequest => {
                if layer::options(data).is_none() {
                    return;
                }
                // A request where all was agreed: the device begins again.
                if !self.layer(protocol).is_begun() || self.layer(protocol).is_open() {
                    self.begin(now, protocol);
                }
                self.answer(protocol, id, data);
            }
            Code::ConfigureAck => self.layer(protocol).acknowledged(id),
            Code::ConfigureNak | Code::ConfigureReject => {
                let refused = if code == Code::ConfigureNak { Layer::suggested } else { Layer::rejected };
                if let Some(request) = refused(self.layer(protocol), now, id, data) {
                    self.send(protocol, &request);
                }
            }
            Code::TerminateRequest => {
                self.send(protocol, &layer::packet(Code::TerminateAck, id, &[]));
                self.end(protocol);
            }
            Code::EchoRequest if protocol == LCP && self.lcp.is_open() => {
                let data = data.get(4..).unwrap_or_default();
                self.send(LCP, &layer::packet(Code::EchoReply, id, &[&[0; 4], data].concat()));
            }
            Code::EchoReply if protocol == LCP => {
                self.outputs.push_back(Output::Echoed { id, data: data.get(4..).unwrap_or_default().to_vec() });
            }
            Code::UnknownProtocol if data.starts_with(&IPCP.to_be_bytes()) => self.end(IPCP),
            _ => {}
        }
    }

    /// Answers a Configure-Request.
    fn answer(&mut self, protocol: u16, id: u8, data: &[u8]) {
        let judge: &dyn Fn(u8, &[u8]) -> Verdict = match protocol {
            LCP => &|option, value| match (option, value) {
                (layer::MRU, [high, low]) if u16::from_be_bytes([*high, *low]) < MTU_MIN => {
                    Verdict::Suggest(MTU_MIN.to_be_bytes().to_vec())
                }
                (layer::MRU, [_, _]) | (layer::ACCM, [_, _, _, _]) => Verdict::Accept,
                // Authentication, magic numbers and compressed headers among them.
                _ => Verdict::Reject,
            },
            _ => &|option, value| match option {
                layer::ADDRESS if value == self.terms.device.octets() => Verdict::Accept,
                layer::ADDRESS => Verdict::Suggest(self.terms.device.octets().to_vec()),
                layer::NAME_SERVER if value == self.terms.host.octets() => Verdict::Accept,
                layer::NAME_SERVER => Verdict::Suggest(self.terms.host.octets().to_vec()),
                _ => Verdict::Reject,
            },
        };
        let Some((code, answer)) = layer::judge(data, judge) else { return };
        self.send(protocol, &layer::packet(code, id, &answer));
        let agreed = code == Code::ConfigureAck;
        self.layer(protocol).answered(agreed);
        if agreed && protocol == LCP {
            (self.send_accm, self.mtu) = (u32::MAX, MTU);
            for (option, value) in layer::options(data).into_iter().flatten() {
                match (option, value) {
                    (layer::ACCM, &[a, b, c, d]) => self.send_accm = u32::from_be_bytes([a, b, c, d]),
                    (layer::MRU, &[high, low]) => self.mtu = u16::from_be_bytes([high, low]).min(MTU),
                    _ => {}
                }
            }
        }
    }

    /// (Re)starts a layer, and what is above it.
    fn begin(&mut self, now: Duration, protocol: u16) {
        self.end(protocol);
        let request = self.layer(protocol).begin(now);
        self.send(protocol, &request);
    }

    fn end(&mut self, protocol: u16) {
        if protocol == LCP {
            self.lcp.end();
        }
        self.ipcp.end();
    }

    /// What follows from the layers' states.
    fn settle(&mut self, now: Duration) {
        if !self.lcp.is_open() {
            self.ipcp.end();
        } else if self.lcp.opened() {
            self.begin(now, IPCP);
        }
        let up = self.ipcp.is_open();
        if up != self.up {
            self.up = up;
            self.outputs.push_back(if up { Output::Up } else { Output::Down });
        }
    }

    fn layer(&mut self, protocol: u16) -> &mut Layer {
        if protocol == LCP { &mut self.lcp } else { &mut self.ipcp }
    }

    fn next_id(&mut self) -> u8 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }

    fn send(&mut self, protocol: u16, packet: &[u8]) {
        // Whatever is being agreed on goes as if nothing were (RFC 1662 section 7).
        let accm = if protocol == LCP { u32::MAX } else { self.send_accm };
        self.outputs.push_back(Output::Send(Outgoing { body: body(protocol, packet), accm }));
    }
}

fn body(protocol: u16, packet: &[u8]) -> Vec<u8> {
    [&device_core::serial::frame::ADDRESS_CONTROL[..], &protocol.to_be_bytes(), packet].concat()
}
