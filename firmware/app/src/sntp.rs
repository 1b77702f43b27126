//! Asks a time server: one datagram and its answer, asked again while there is time.

use crate::clock::ticks;
use crate::net::{host_and_port, resolve};
use crate::rng::BoardRng;
use alloc::format;
use alloc::string::{String, ToString as _};
use core::time::Duration;
use device_core::sntp::{PACKET, PORT, SntpError, reply, request};
use device_core::time::UnixTime;
use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_net::{IpEndpoint, Stack};
use embassy_time::{Instant, with_deadline};
use rand_core::Rng as _;

/// How long the time server may take, lost datagrams included.
pub const SYNC_LIMIT: Duration = Duration::from_secs(3);
/// How long after an unanswered request the next one is sent.
pub const TRY_EVERY: Duration = Duration::from_secs(1);
/// Room for an answer with an authenticator; what is longer is no answer.
const DATAGRAM_MAX: usize = 256;
const DATAGRAMS: usize = 4;

/// The date as the server tells it.
///
/// # Errors
/// Why not, in one line.
pub(crate) async fn ask(stack: Stack<'_>, mut rng: BoardRng, host: String) -> Result<UnixTime, String> {
    // Nobody off the path can guess it, so nobody off the path can forge an answer.
    let nonce = rng.next_u64();
    let by = Instant::now() + ticks(SYNC_LIMIT);
    let (host, port) = host_and_port(&host, PORT).ok_or_else(|| format!("{host} is not of the form host[:port]"))?;
    let address = resolve(stack, host, by).await.map_err(|e| e.text)?.into_iter().next();
    let server = IpEndpoint::new(address.ok_or_else(|| format!("{host} has no address"))?, port);

    let (mut received, mut sent) = ([PacketMetadata::EMPTY; DATAGRAMS], [PacketMetadata::EMPTY; 1]);
    let (mut receive, mut send) = ([0; DATAGRAM_MAX * DATAGRAMS], [0; PACKET]);
    let mut socket = UdpSocket::new(stack, &mut received, &mut receive, &mut sent, &mut send);
    socket.bind(0).map_err(|e| format!("ask {host}: {e:?}"))?;
    let mut datagram = [0; DATAGRAM_MAX];
    let mut last = format!("no answer within {} s", SYNC_LIMIT.as_secs());
    while Instant::now() < by {
        socket.send_to(&request(nonce), server).await.map_err(|e| format!("ask {host}: {e:?}"))?;
        let again = (Instant::now() + ticks(TRY_EVERY)).min(by);
        // Anybody may send anything: what is no answer to this request is passed over until the time is up.
        while let Ok(answer) = with_deadline(again, socket.recv_from(&mut datagram)).await {
            let Ok((n, from)) = answer else { continue };
            if from.endpoint != server {
                continue;
            }
            match reply(&datagram[..n], nonce) {
                Ok(date) => return Ok(date),
                Err(e @ (SntpError::Kiss(_) | SntpError::Stratum(_) | SntpError::Unsynchronised | SntpError::NoTime)) => {
                    return Err(e.to_string());
                }
                Err(e) => last = e.to_string(),
            }
        }
    }
    Err(last)
}
