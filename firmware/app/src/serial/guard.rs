//! What a peer sends, before it may reach the PPP library, which panics at packets it did not expect and rejects none it does not know.
//!
//! The library (ppproto 0.2.1) gets LCP and IPCP packets whose lengths are right and whose options it knows, and IPv4 packets that fit. All
//! else is answered here or dropped: echo requests of any length, options and protocols that it does not know (RFC 1661 sections 5.4, 5.7, 5.8).

use alloc::vec::Vec;
use device_core::serial::frame::{ADDRESS_CONTROL, FRAME_MAX};

const IPV4: u16 = 0x0021;
const IPCP: u16 = 0x8021;
const LCP: u16 = 0xC021;

const CONFIGURE_REQUEST: u8 = 1;
const CONFIGURE_REJECT: u8 = 4;
const TERMINATE_REQUEST: u8 = 5;
const TERMINATE_ACK: u8 = 6;
const PROTOCOL_REJECT: u8 = 8;
const ECHO_REQUEST: u8 = 9;
const ECHO_REPLY: u8 = 10;

/// A control packet's code, identifier and length, in bytes.
const HEADER: usize = 4;
/// The most of a packet of an unknown protocol that is sent back, in bytes.
const REJECTED_MAX: usize = 64;
/// The most options the library takes in one packet.
const OPTIONS_MAX: usize = 6;

/// What becomes of a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The library may have it.
    Pass,
    /// This is sent back instead, a frame's body.
    Answer(Vec<u8>),
    /// The peer takes the network's end down: the link begins anew, which the library cannot do by itself.
    Restart,
    /// Nothing comes of it.
    Drop,
}

/// Judges a frame's body, whose check sequence is right. `id` numbers what is sent back unasked.
pub fn judge(body: &[u8], id: u8) -> Verdict {
    let Some((protocol, packet)) = body.strip_prefix(&ADDRESS_CONTROL).and_then(<[u8]>::split_first_chunk::<2>) else {
        return Verdict::Drop;
    };
    match u16::from_be_bytes(*protocol) {
        IPV4 if body.len() <= FRAME_MAX => Verdict::Pass,
        IPV4 => Verdict::Drop,
        protocol @ (LCP | IPCP) => control(protocol, packet).unwrap_or(Verdict::Drop),
        unknown => {
            let rejected = &packet[..packet.len().min(REJECTED_MAX)];
            Verdict::Answer(answer(LCP, PROTOCOL_REJECT, id, &[&unknown.to_be_bytes()[..], rejected].concat()))
        }
    }
}

/// An echo request, as a frame's body: whoever is there answers.
pub fn echo_request(id: u8) -> Vec<u8> {
    answer(LCP, ECHO_REQUEST, id, &[0; 4])
}

/// `None`: the packet's length is wrong.
fn control(protocol: u16, packet: &[u8]) -> Option<Verdict> {
    let (&[code, id, high, low], _) = packet.split_first_chunk::<HEADER>()?;
    let content = packet.get(HEADER..usize::from(u16::from_be_bytes([high, low])))?;
    Some(match code {
        CONFIGURE_REQUEST => {
            let mut unknown = Vec::new();
            let mut count = 0;
            for option in options(content)? {
                count += 1;
                if !is_known(protocol, option) {
                    unknown.extend_from_slice(option);
                }
            }
            match count {
                _ if !unknown.is_empty() => Verdict::Answer(answer(protocol, CONFIGURE_REJECT, id, &unknown)),
                0..=OPTIONS_MAX => Verdict::Pass,
                _ => Verdict::Drop,
            }
        }
        // Acknowledged, not acknowledged, rejected.
        2..=CONFIGURE_REJECT => options(content).map(|_| Verdict::Pass)?,
        TERMINATE_REQUEST if protocol == IPCP => Verdict::Restart,
        TERMINATE_REQUEST | TERMINATE_ACK => Verdict::Pass,
        ECHO_REQUEST if protocol == LCP => {
            // The magic number is 0, since none was agreed on.
            let data = content.get(4..)?;
            Verdict::Answer(answer(LCP, ECHO_REPLY, id, &[&[0; 4], data].concat()))
        }
        _ => Verdict::Drop,
    })
}

/// The options of a packet, each with its type and length; none if one of the lengths is wrong.
fn options(mut content: &[u8]) -> Option<Vec<&[u8]>> {
    let mut options = Vec::new();
    while !content.is_empty() {
        let length = usize::from(*content.get(1)?);
        let (option, rest) = content.split_at_checked(length).filter(|_| length >= 2)?;
        options.push(option);
        content = rest;
    }
    Some(options)
}

/// The control character map, of four bytes; an address, of four bytes. Nothing else, no authentication either, is agreed to.
fn is_known(protocol: u16, option: &[u8]) -> bool {
    matches!((protocol, option), (LCP, [2, 6, ..]) | (IPCP, [3, 6, ..]))
}

/// The body of a frame with a control packet.
fn answer(protocol: u16, code: u8, id: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER + content.len()).unwrap_or(u16::MAX);
    let header = [code, id, length.to_be_bytes()[0], length.to_be_bytes()[1]];
    [&ADDRESS_CONTROL[..], &protocol.to_be_bytes(), &header, content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ppproto::Config;
    use ppproto::pppos::{PPPoS, PPPoSAction};

    fn body(protocol: u16, packet: &[u8]) -> Vec<u8> {
        [&ADDRESS_CONTROL[..], &protocol.to_be_bytes(), packet].concat()
    }

    #[test]
    fn echo_requests_are_answered_with_all_they_hold() {
        let data: Vec<u8> = (0..=255).collect();
        let asked = [&[9, 7, 1, 8], &[1, 2, 3, 4][..], &data].concat();
        let answered = [&[10, 7, 1, 8], &[0; 4][..], &data].concat();
        assert_eq!(judge(&body(LCP, &asked), 0), Verdict::Answer(body(LCP, &answered)));
        let padded = [&asked[..], b"padding"].concat();
        assert_eq!(judge(&body(LCP, &padded), 0), Verdict::Answer(body(LCP, &answered)), "what is after the packet is none of it");
        assert_eq!(judge(&body(LCP, &[9, 7, 0, 4]), 0), Verdict::Drop, "a magic number is missing");
        assert_eq!(judge(&body(IPCP, &asked), 0), Verdict::Drop);
    }

    #[test]
    fn what_the_library_does_not_know_is_rejected_in_its_place() {
        // Authentication, magic number, an endpoint's name; the map that is known is not among what is rejected.
        let options: &[u8] = &[3, 4, 0xC0, 0x23, 2, 6, 0, 0, 0, 0, 5, 6, 1, 2, 3, 4, 19, 9, 1, 2, 3, 4, 5, 6, 7];
        let rejected: &[u8] = &[3, 4, 0xC0, 0x23, 5, 6, 1, 2, 3, 4, 19, 9, 1, 2, 3, 4, 5, 6, 7];
        let packet = |code, options: &[u8]| [&[code, 3, 0, 4 + options.len() as u8], options].concat();
        assert_eq!(judge(&body(LCP, &packet(1, options)), 0), Verdict::Answer(body(LCP, &packet(4, rejected))));
        // Van Jacobson's compression.
        let compression: &[u8] = &[2, 6, 0, 0x2D, 15, 1];
        assert_eq!(judge(&body(IPCP, &packet(1, compression)), 0), Verdict::Answer(body(IPCP, &packet(4, compression))));
        assert_eq!(judge(&body(IPCP, &packet(1, &[3, 6, 10, 0, 2, 2])), 0), Verdict::Pass);
        // IPV6CP, much of it.
        let Verdict::Answer(answer) = judge(&body(0x8057, &[1; 500]), 9) else { panic!("not answered") };
        assert_eq!(answer[..10], body(LCP, &[8, 9, 0, 70, 0x80, 0x57])[..]);
        assert_eq!(answer.len(), 4 + 70);
    }

    #[test]
    fn malformed_packets_and_rejects_of_any_length_never_reach_the_library() {
        let long = [&[8, 1, 1, 0xF4][..], &[0; 496]].concat();
        let many = [&[1, 1, 0, 46][..], &[2, 6, 0, 0, 0, 0].repeat(7)].concat();
        for packet in [
            &[][..],
            &[1],
            &[1, 1, 0, 3],
            &[1, 1, 0, 9, 2],
            &[1, 1, 0, 6, 2, 6],
            &[1, 1, 0, 6, 2, 1],
            &[3, 1, 0, 6, 3, 0],
            &long,
            &many,
        ] {
            assert_eq!(judge(&body(LCP, packet), 0), Verdict::Drop, "{packet:?}");
        }
        assert_eq!(judge(&ADDRESS_CONTROL, 0), Verdict::Drop);
        assert_eq!(judge(&body(IPV4, &[0; 1501]), 0), Verdict::Drop);
        assert_eq!(judge(&body(IPCP, &[5, 1, 0, 4]), 0), Verdict::Restart);
    }

    /// The frame as the library reads it.
    fn framed(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        device_core::serial::frame::encode(device_core::serial::frame::Encoding::Hdlc, body, 0, &mut out);
        out
    }

    /// Gives the library a frame; panics if it does.
    fn give(ppp: &mut PPPoS<'_>, body: &[u8]) {
        let (mut rx, mut tx) = ([0; 2048], [0; 2048]);
        let bytes = framed(body);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            rest = &rest[ppp.consume(rest, &mut rx)..];
            while matches!(ppp.poll(&mut tx, &mut rx), PPPoSAction::Transmit(_)) {}
        }
    }

    #[test]
    fn whatever_passes_does_not_make_the_library_panic() {
        let mut random = 1u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let mut passed = 0;
        for _ in 0..3000 {
            let mut ppp = PPPoS::new(Config { username: b"", password: b"" });
            ppp.open().unwrap();
            for _ in 0..40 {
                let protocol = [LCP, LCP, IPCP, IPCP, 0x8057, 0xC023, IPV4][next(7) as usize];
                let mut content: Vec<u8> = Vec::new();
                for _ in 0..next(4) {
                    let length = [6, 6, 6, 2, 4, 0, 1, next(60)][next(8) as usize];
                    content.extend([[1, 2, 3, 129, 131][next(5) as usize], length as u8]);
                    content.extend((2..length).map(|_| next(256) as u8));
                }
                content.resize((content.len() as u64 + [0, 0, 0, next(300)][next(4) as usize]) as usize, 0);
                let length = content.len() as u64 + [4, 4, 4, 4, next(9)][next(5) as usize];
                let packet = [&[next(13) as u8, next(4) as u8, (length >> 8) as u8, length as u8], &content[..]].concat();
                let body = body(protocol, &packet);
                if judge(&body, 0) == Verdict::Pass {
                    passed += 1;
                    give(&mut ppp, &body);
                }
            }
        }
        assert!(passed > 10_000, "{passed}");
    }

    #[test]
    #[should_panic]
    fn the_library_panics_at_what_is_kept_from_it() {
        let mut ppp = PPPoS::new(Config { username: b"", password: b"" });
        ppp.open().unwrap();
        // It is closed before the first one, and reads none then.
        give(&mut ppp, &body(LCP, &[1, 1, 0, 4]));
        give(&mut ppp, &body(LCP, &[1, 1, 0, 6, 2, 1]));
    }
}
