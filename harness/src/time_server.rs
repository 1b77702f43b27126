//! The time server: SNTP (RFC 4330, RFC 5905) that tells the testbed's date, until it is told to lie.

use crate::ca::Clock;
use crate::event::{Source, What};
use crate::trace::tape::Tape;
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Seconds from 1900, when NTP begins to count, to 1970.
pub const NTP_TO_UNIX_S: i64 = 2_208_988_800;
/// Bytes of an NTP header, which is all that is read and sent.
pub const PACKET_BYTES: usize = 48;
/// How long nothing is received after the system reported an error.
const RECEIVE_PAUSE: Duration = Duration::from_millis(1);

/// One lie of the time server, as a scenario names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TimeLie {
    /// Never answers.
    Silent,
    /// Is wrong by some seconds: `wrong: { by-s: -86400 }`.
    Wrong(Wrong),
    /// Is right a number of times, and wrong from then on: `step: { after: 1, by-s: 3600 }`.
    Step(Step),
}

/// How wrong the date is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Wrong {
    /// Seconds to add to the testbed's date.
    pub by_s: i64,
}

/// When the date becomes wrong, and how wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Step {
    /// Right answers before the step.
    pub after: u32,
    /// Seconds to add to the testbed's date from then on.
    pub by_s: i64,
}

/// A running time server. Ends when dropped.
#[derive(Debug)]
pub struct TimeServer {
    address: SocketAddr,
    telling: Arc<Mutex<Telling>>,
    serving: JoinHandle<()>,
}

/// What is told, and how often it was.
#[derive(Debug, Default)]
struct Telling {
    lie: Option<TimeLie>,
    answers: u32,
}

impl Telling {
    /// What the next request is told, given the testbed's date; none to stay silent.
    fn next(&mut self, date: i64) -> Option<i64> {
        let by_s = match self.lie {
            None => 0,
            Some(TimeLie::Silent) => return None,
            Some(TimeLie::Wrong(wrong)) => wrong.by_s,
            Some(TimeLie::Step(step)) if self.answers >= step.after => step.by_s,
            Some(TimeLie::Step(_)) => 0,
        };
        self.answers = self.answers.saturating_add(1);
        Some(date.saturating_add(by_s))
    }
}

impl TimeServer {
    /// Listens on a free UDP port of 127.0.0.1 and serves honestly, on the runtime it is called on.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(tape: Tape, clock: Clock) -> std::io::Result<TimeServer> {
        TimeServer::start_at(Ipv4Addr::LOCALHOST.into(), tape, clock).await
    }

    /// The same at this address.
    ///
    /// # Errors
    /// When it is not this machine's.
    pub async fn start_at(listen: IpAddr, tape: Tape, clock: Clock) -> std::io::Result<TimeServer> {
        let socket = UdpSocket::bind((listen, 0)).await?;
        let address = socket.local_addr()?;
        let telling = Arc::new(Mutex::new(Telling::default()));
        let serving = tokio::spawn(serve(socket, tape, clock, telling.clone()));
        Ok(TimeServer { address, telling, serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tells this lie from now on, in place of the one before.
    pub fn misbehave(&self, lie: TimeLie) {
        self.tell(Some(lie));
    }

    /// Is honest from now on.
    pub fn heal(&self) {
        self.tell(None);
    }

    fn tell(&self, lie: Option<TimeLie>) {
        *self.telling.lock().unwrap_or_else(PoisonError::into_inner) = Telling { lie, answers: 0 };
    }
}

impl Drop for TimeServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(socket: UdpSocket, tape: Tape, clock: Clock, telling: Arc<Mutex<Telling>>) {
    // One byte more than a header, so that longer packets (with extensions or a MAC) are read, too; the rest of them is cut off.
    let mut packet = [0; PACKET_BYTES + 1];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut packet).await else {
            // An answer to a port that has closed comes back as an error here on some systems.
            tokio::time::sleep(RECEIVE_PAUSE).await;
            continue;
        };
        let Some(request) = packet.get(..length.min(PACKET_BYTES)).and_then(|bytes| bytes.try_into().ok()) else { continue };
        if !is_request(request) {
            continue;
        }
        let told_unix = telling.lock().unwrap_or_else(PoisonError::into_inner).next(clock());
        tape.say(Source::Time, What::TimeAsked { told_unix });
        if let Some(unix) = told_unix {
            let _ = socket.send_to(&answer(request, unix), from).await;
        }
    }
}

/// Whether a packet is a client's (mode 3), of version 1 to 4.
fn is_request(packet: &[u8; PACKET_BYTES]) -> bool {
    let (version, mode) = (packet[0] >> 3 & 0b111, packet[0] & 0b111);
    mode == 3 && (1..=4).contains(&version)
}

/// The answer of a primary server that is sure of itself (RFC 4330 §5 and §6).
fn answer(request: &[u8; PACKET_BYTES], unix: i64) -> [u8; PACKET_BYTES] {
    // Modulo 2^32, since eras are not on the wire: era 1 begins on 2036-02-07 (RFC 5905 §6).
    let seconds = (unix.wrapping_add(NTP_TO_UNIX_S) as u32).to_be_bytes();
    let mut packet = [0; PACKET_BYTES];
    packet[0] = request[0] & 0b0011_1000 | 4; // no leap second; the client's version; mode server
    packet[1] = 1; // stratum: primary
    packet[2] = request[2]; // poll interval
    packet[3] = 0; // precision: a second
    packet[12..16].copy_from_slice(b"LOCL");
    packet[16..20].copy_from_slice(&seconds); // reference
    packet[24..32].copy_from_slice(&request[40..48]); // originate: the client's transmit
    packet[32..36].copy_from_slice(&seconds); // receive
    packet[40..44].copy_from_slice(&seconds); // transmit
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(first: u8) -> [u8; PACKET_BYTES] {
        let mut packet = [0; PACKET_BYTES];
        packet[0] = first;
        packet[40..48].copy_from_slice(b"original");
        packet
    }

    fn transmit(packet: [u8; PACKET_BYTES]) -> u32 {
        u32::from_be_bytes([packet[40], packet[41], packet[42], packet[43]])
    }

    #[test]
    fn an_answer_is_a_servers_and_names_its_request() {
        let packet = answer(&request(0x23), 0);
        assert_eq!(packet[0], 0x24);
        assert_eq!(packet[24..32], *b"original");
        assert_eq!(transmit(packet), 2_208_988_800);
    }

    #[test]
    fn the_second_era_begins_at_zero() {
        // 2036-02-07T06:28:16Z
        assert_eq!(transmit(answer(&request(0x1b), 2_085_978_496)), 0);
        assert_eq!(transmit(answer(&request(0x1b), 2_085_978_495)), u32::MAX);
        assert_eq!(transmit(answer(&request(0x1b), 4_102_444_800)), 2_016_466_304);
    }

    #[test]
    fn only_clients_are_answered() {
        for (first, good) in [(0x23, true), (0x1b, true), (0xe3, true), (0x24, false), (0x03, false), (0x3b, false), (0, false)] {
            assert_eq!(is_request(&request(first)), good, "{first:#x}");
        }
    }

    #[test]
    fn lies_are_told() {
        let mut telling = Telling { lie: Some(TimeLie::Step(Step { after: 2, by_s: -10 })), answers: 0 };
        assert_eq!(
            [telling.next(100), telling.next(101), telling.next(102), telling.next(103)],
            [Some(100), Some(101), Some(92), Some(93)]
        );
        assert_eq!(Telling { lie: Some(TimeLie::Silent), answers: 0 }.next(1), None);
        assert_eq!(Telling { lie: Some(TimeLie::Wrong(Wrong { by_s: i64::MAX })), answers: 0 }.next(1), Some(i64::MAX));
    }
}
