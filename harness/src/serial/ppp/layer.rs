//! One layer of a PPP link: what both ends ask for and agree to, and its packets (RFC 1661 sections 4 to 6).

use std::time::Duration;

/// Maximum-Receive-Unit, of LCP.
pub const MRU: u8 = 1;
/// Async-Control-Character-Map, of LCP.
pub const ACCM: u8 = 2;
/// IP-Address, of IPCP.
pub const ADDRESS: u8 = 3;
/// Primary DNS server address, of IPCP (RFC 1877).
pub const NAME_SERVER: u8 = 129;

/// How long an answer to a request is waited for.
const RESEND_AFTER: Duration = Duration::from_secs(1);
/// How often a request is sent before the layer is given up until the device says something again.
const REQUESTS_MAX: u32 = 10;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    ConfigureRequest = 1,
    ConfigureAck = 2,
    ConfigureNak = 3,
    ConfigureReject = 4,
    TerminateRequest = 5,
    TerminateAck = 6,
    /// Code-Reject.
    Unknown = 7,
    /// Protocol-Reject.
    UnknownProtocol = 8,
    EchoRequest = 9,
    EchoReply = 10,
    DiscardRequest = 11,
}

impl TryFrom<u8> for Code {
    type Error = ();

    fn try_from(code: u8) -> Result<Code, ()> {
        use Code::*;
        let all = [ConfigureRequest, ConfigureAck, ConfigureNak, ConfigureReject, TerminateRequest, TerminateAck, Unknown];
        let more = [UnknownProtocol, EchoRequest, EchoReply, DiscardRequest];
        all.into_iter().chain(more).find(|known| *known as u8 == code).ok_or(())
    }
}

/// What becomes of an option that the device asks for.
pub enum Verdict {
    Accept,
    /// Not this value, but that.
    Suggest(Vec<u8>),
    Reject,
}

/// Options and their values.
type Wishes = Vec<(u8, [u8; 4])>;

/// One layer.
#[derive(Debug)]
pub struct Layer {
    /// What is asked for, option and value.
    wishes: Wishes,
    /// Those of the wishes that the device has not rejected.
    asked: Wishes,
    id: u8,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has been said.
    Quiet,
    Asking {
        /// The device has agreed to what is asked for.
        ours: bool,
        /// The device's own wishes have been agreed to.
        theirs: bool,
        requests: u32,
        resend_at: Duration,
    },
    /// All is agreed; this has been noticed, or not.
    Open { noticed: bool },
}

impl Layer {
    pub fn new(wishes: Wishes) -> Layer {
        Layer { asked: wishes.clone(), wishes, id: 0, phase: Phase::Quiet }
    }

    pub fn is_begun(&self) -> bool {
        self.phase != Phase::Quiet
    }

    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// It has been opened since this was last asked.
    pub fn opened(&mut self) -> bool {
        self.phase == Phase::Open { noticed: false } && {
            self.phase = Phase::Open { noticed: true };
            true
        }
    }

    pub fn deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::Asking { resend_at, .. } => Some(resend_at),
            _ => None,
        }
    }

    /// Asks, for the first time or anew; the request.
    pub fn begin(&mut self, now: Duration) -> Vec<u8> {
        self.asked.clone_from(&self.wishes);
        self.id = self.id.wrapping_add(1);
        self.phase = Phase::Asking { ours: false, theirs: false, requests: 1, resend_at: now + RESEND_AFTER };
        self.request()
    }

    pub fn end(&mut self) {
        self.phase = Phase::Quiet;
    }

    /// The request again, when it is time for that.
    pub fn tick(&mut self, now: Duration) -> Option<Vec<u8>> {
        let Phase::Asking { theirs, requests, resend_at, .. } = self.phase else { return None };
        if now < resend_at {
            return None;
        }
        self.ask_again(now, theirs, requests)
    }

    fn ask_again(&mut self, now: Duration, theirs: bool, requests: u32) -> Option<Vec<u8>> {
        if requests >= REQUESTS_MAX {
            self.phase = Phase::Quiet;
            return None;
        }
        self.phase = Phase::Asking { ours: false, theirs, requests: requests + 1, resend_at: now + RESEND_AFTER };
        Some(self.request())
    }

    fn request(&self) -> Vec<u8> {
        let options: Vec<u8> = self.asked.iter().flat_map(|(option, value)| write(*option, value)).collect();
        packet(Code::ConfigureRequest, self.id, &options)
    }

    /// The device agrees to the request of this number.
    pub fn acknowledged(&mut self, id: u8) {
        if let Phase::Asking { ours, theirs, .. } = &mut self.phase
            && id == self.id
        {
            *ours = true;
            if *theirs {
                self.phase = Phase::Open { noticed: false };
            }
        }
    }

    /// The device's request has been answered.
    pub fn answered(&mut self, agreed: bool) {
        if let Phase::Asking { ours, theirs, .. } = &mut self.phase {
            *theirs = agreed;
            if agreed && *ours {
                self.phase = Phase::Open { noticed: false };
            }
        }
    }

    /// The device wants other values: they are taken. The next request.
    pub fn suggested(&mut self, now: Duration, id: u8, data: &[u8]) -> Option<Vec<u8>> {
        self.refused(now, id, data, |asked, option, value| {
            for (_, own) in asked.iter_mut().filter(|(known, _)| option == ACCM && *known == ACCM) {
                // What either end wants escaped.
                own.iter_mut().zip(value).for_each(|(own, more)| *own |= more);
            }
        })
    }

    /// The device knows no such options. The next request, without them.
    pub fn rejected(&mut self, now: Duration, id: u8, data: &[u8]) -> Option<Vec<u8>> {
        self.refused(now, id, data, |asked, option, _| asked.retain(|(known, _)| *known != option))
    }

    fn refused(&mut self, now: Duration, id: u8, data: &[u8], change: fn(&mut Wishes, u8, &[u8])) -> Option<Vec<u8>> {
        let Phase::Asking { theirs, requests, .. } = self.phase else { return None };
        if id != self.id {
            return None;
        }
        for (option, value) in options(data)? {
            change(&mut self.asked, option, value);
        }
        self.id = self.id.wrapping_add(1);
        self.ask_again(now, theirs, requests)
    }
}

/// A packet of a layer.
pub fn packet(code: Code, id: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 4).unwrap_or(u16::MAX);
    [&[code as u8, id][..], &length.to_be_bytes(), data].concat()
}

/// Code, number and data of a packet; none when its length is wrong.
pub fn parse(packet: &[u8]) -> Option<(u8, u8, &[u8])> {
    let (&[code, id, high, low], _) = packet.split_first_chunk()?;
    let data = packet.get(4..usize::from(u16::from_be_bytes([high, low])))?;
    Some((code, id, data))
}

/// The options of a request or its answer; none when one of them does not fit.
pub fn options(mut data: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut options = Vec::new();
    while let Some((&option, rest)) = data.split_first() {
        let length = usize::from(*rest.first()?);
        options.push((option, data.get(2..length)?));
        data = &data[length..];
    }
    Some(options)
}

/// The answer to a request: rejected options alone, else other values alone, else all of it is agreed to. None when it cannot be read.
pub fn judge(data: &[u8], judge: &dyn Fn(u8, &[u8]) -> Verdict) -> Option<(Code, Vec<u8>)> {
    let (mut rejected, mut suggested) = (Vec::new(), Vec::new());
    for (option, value) in options(data)? {
        match judge(option, value) {
            Verdict::Accept => {}
            Verdict::Suggest(better) => suggested.extend(write(option, &better)),
            Verdict::Reject => rejected.extend(write(option, value)),
        }
    }
    Some(match (rejected.is_empty(), suggested.is_empty()) {
        (false, _) => (Code::ConfigureReject, rejected),
        (true, false) => (Code::ConfigureNak, suggested),
        (true, true) => (Code::ConfigureAck, data.to_vec()),
    })
}

fn write(option: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len() + 2).unwrap_or(u8::MAX);
    [&[option, length], value].concat()
}
