//! Asks a time server: one datagram and its answer, asked again while there is time.

use crate::net::{Net, host_and_port, limit};
use device_core::sntp::{PORT, SntpError, reply, request};
use device_core::time::UnixTime;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long the time server may take, lost datagrams included.
pub const SYNC_LIMIT: Duration = Duration::from_secs(3);
/// How long after an unanswered request the next one is sent.
pub const TRY_EVERY: Duration = Duration::from_secs(1);
const DATAGRAM_MAX: usize = 1500;

/// The date as the server tells it.
///
/// # Errors
/// Why not, in one line.
pub(crate) async fn ask(net: Net, host: String) -> Result<UnixTime, String> {
    let nonce = nonce()?;
    let by = limit(SYNC_LIMIT);
    let (host, port) = host_and_port(&host, PORT).ok_or_else(|| format!("{host} is not of the form host[:port]"))?;
    let socket = net.datagrams(host, port, by).await.map_err(|e| e.text)?;
    // Room for what anybody may send: a datagram longer than this is an error on some systems.
    let mut datagram = [0; DATAGRAM_MAX];
    let mut last = format!("no answer within {} s", SYNC_LIMIT.as_secs());
    while Instant::now() < by {
        socket.send(&request(nonce)).await.map_err(|e| format!("ask {host}: {e}"))?;
        let again = (Instant::now() + TRY_EVERY).min(by);
        // Anybody may send anything: what is no answer to this request is passed over until the time is up.
        while let Ok(received) = timeout_at(again, socket.recv(&mut datagram)).await {
            let n = received.map_err(|e| format!("ask {host}: {e}"))?;
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

/// Nobody off the path can guess it, so nobody off the path can forge an answer.
fn nonce() -> Result<u64, String> {
    let mut nonce = [0; 8];
    crate::tls::PROVIDER.secure_random.fill(&mut nonce).map_err(|_| "no random numbers".to_owned())?;
    Ok(u64::from_be_bytes(nonce))
}
