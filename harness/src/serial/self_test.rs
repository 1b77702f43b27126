//! Whether a line can carry the network: found out with echo requests, which every PPP device answers.

use super::Carrier;
use super::network::Network;
use device_core::serial::frame::Encoding;
use serde::Serialize;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of an echo request: more than 120 are too many for small devices.
const ECHO_BYTES: usize = 100;
/// Echo requests of the burst: 4 KiB.
const BURST: usize = 41;
/// Echo requests whose time is taken.
const ROUND_TRIPS: usize = 11;
/// Values in one echo request.
const VALUES: usize = 64;
/// How many times the limit of an answer the search for values that do not come back may take.
const VALUES_LIMITS: u32 = 8;
/// How often an echo request without answer is made.
const TRIES: u32 = 3;

/// What was found out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// How frames were written, as `--link` says it.
    pub carrier: String,
    /// From the device's first good frame to the link, in milliseconds; none when there was no link.
    pub up_ms: Option<u64>,
    /// Values of a byte that did not come back, as ranges; empty when all did; none when nothing could be asked.
    pub values_lost: Option<String>,
    /// Bytes sent at once.
    pub burst_bytes: usize,
    /// Bytes of them that came back, as they were.
    pub burst_returned: usize,
    /// How fast they went, there and back at the same time, in kB (1,000 bytes) a second each way; none when some did not come back.
    pub kilobytes_per_second: Option<f64>,
    /// The median round trip of a small frame, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// Frames of the device that were whole, and broken.
    pub frames_good: u64,
    /// Frames of the device that were broken.
    pub frames_bad: u64,
    /// What to do; none when all is well.
    pub help: Option<String>,
}

impl Report {
    /// The line carries the network.
    pub fn is_well(&self) -> bool {
        self.help.is_none()
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(up) = self.up_ms else {
            return match (self.frames_good, self.frames_bad) {
                (0, 0) => write!(f, "no link: not one frame came from the device"),
                (good, bad) => write!(f, "no link: {good} frames came whole from the device, {bad} broken"),
            };
        };
        write!(f, "link up in {up} ms; ")?;
        match self.values_lost.as_deref() {
            Some("") => write!(f, "all 256 values there and back; ")?,
            Some(lost) => write!(f, "values that do not come back: {lost}; ")?,
            None => {}
        }
        write!(f, "{} of {} bytes at once came back", self.burst_returned, self.burst_bytes)?;
        if let Some(rate) = self.kilobytes_per_second {
            write!(f, ", {rate:.1} kB/s each way")?;
        }
        write!(f, "; ")?;
        if let Some(ms) = self.round_trip_ms {
            write!(f, "round trip {ms:.1} ms; ")?;
        }
        write!(f, "{} frames whole, {} broken", self.frames_good, self.frames_bad)
    }
}

/// Tests the network beside a console; each answer may take `limit`, the link three times as long.
pub async fn self_test(network: &mut Network, encoding: Encoding, limit: Duration) -> Report {
    let mut report = Report { carrier: Carrier::Console(encoding).to_string(), ..Report::default() };
    if network.is_up(limit * 3).await {
        let took = network.status().took.unwrap_or_default();
        report.up_ms = Some(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        report.values_lost = Some(values_lost(network, limit).await);
        let began = Instant::now();
        (report.burst_bytes, report.burst_returned) = burst(network, limit).await;
        let rate = || report.burst_bytes as f64 / 1e3 / began.elapsed().as_secs_f64();
        report.kilobytes_per_second = (report.burst_returned == report.burst_bytes).then(rate);
        report.round_trip_ms = round_trip(network, limit).await;
    }
    (report.frames_good, report.frames_bad) = (network.status().good, network.status().bad);
    report.help = help(&report, encoding);
    report
}

fn help(report: &Report, encoding: Encoding) -> Option<String> {
    let binary = encoding == Encoding::Hdlc;
    match (report.up_ms, report.values_lost.as_deref()) {
        (None, _) if report.frames_bad > 0 && binary => {
            Some("the line does not carry all values: use the text encoding, --link console:text".into())
        }
        (None, _) if report.frames_good + report.frames_bad == 0 => {
            Some("see that the firmware speaks PPP on its console, in this encoding, and look at its log".into())
        }
        (None, _) => Some("the device and this program do not agree on a link: look at its log, and into a --pcap".into()),
        (_, Some(lost)) if !lost.is_empty() && binary => {
            Some("the line does not carry all values: use the text encoding, --link console:text".into())
        }
        _ if report.burst_returned < report.burst_bytes => {
            Some("the device loses what comes fast: try --pace 115200, or a larger receive buffer in the firmware".into())
        }
        _ => None,
    }
}

/// The values that do not come back, as ranges in hex. What could not be tried in time is among them.
async fn values_lost(network: &Network, limit: Duration) -> String {
    let mut lost: Vec<u8> = Vec::new();
    let end = Instant::now() + limit * VALUES_LIMITS;
    for values in (0..=255_u8).collect::<Vec<_>>().chunks(VALUES) {
        if !returns(network, values, limit).await {
            // Which of them: each quarter, then each alone.
            for few in values.chunks(VALUES / 16) {
                if Instant::now() > end || !returns(network, few, limit / 4).await {
                    for value in few {
                        if Instant::now() > end || !returns(network, &[*value], limit / 4).await {
                            lost.push(*value);
                        }
                    }
                }
            }
        }
    }
    ranges(&lost)
}

/// These come back as they were, if not at once then at the second or third time.
async fn returns(network: &Network, data: &[u8], limit: Duration) -> bool {
    for _ in 0..TRIES {
        let Some(echo) = network.echo(data.to_vec()).await else { return false };
        if echo.answer(limit).await.is_some_and(|(answer, _)| answer == data) {
            return true;
        }
    }
    false
}

/// Bytes sent, and bytes that came back.
async fn burst(network: &Network, limit: Duration) -> (usize, usize) {
    let mut echoes = Vec::new();
    for number in 0..BURST {
        let data: Vec<u8> = (0..ECHO_BYTES).map(|at| (number * 7 + at * 13) as u8).collect();
        echoes.push((network.echo(data.clone()).await, data));
    }
    let mut returned = 0;
    let end = Instant::now() + limit;
    for (echo, data) in echoes {
        let left = end.saturating_duration_since(Instant::now());
        if let Some(echo) = echo
            && echo.answer(left).await.is_some_and(|(answer, _)| answer == data)
        {
            returned += ECHO_BYTES;
        }
    }
    (BURST * ECHO_BYTES, returned)
}

async fn round_trip(network: &Network, limit: Duration) -> Option<f64> {
    let mut took = Vec::new();
    for _ in 0..ROUND_TRIPS {
        if let Some((_, time)) = network.echo(vec![b'.']).await?.answer(limit).await {
            took.push(time);
        }
    }
    took.sort();
    took.get(took.len() / 2).map(|time| time.as_secs_f64() * 1e3)
}

/// Values in hex, those that follow each other put together.
fn ranges(values: &[u8]) -> String {
    let mut parts: Vec<(u8, u8)> = Vec::new();
    for &value in values {
        match parts.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(value) => *last = value,
            _ => parts.push((value, value)),
        }
    }
    let words =
        parts.iter().map(|(first, last)| if first == last { format!("{first:02X}") } else { format!("{first:02X}-{last:02X}") });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_follow_each_other_are_put_together() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[0, 1, 2, 17, 127, 128, 255]), "00-02 11 7F-80 FF");
    }

    #[test]
    fn what_to_do_depends_on_what_was_found() {
        let well =
            Report { up_ms: Some(5), values_lost: Some(String::new()), burst_bytes: 4, burst_returned: 4, ..Report::default() };
        assert_eq!(help(&well, Encoding::Hdlc), None);
        let cut = Report { values_lost: Some("80-FF".into()), ..well.clone() };
        assert!(help(&cut, Encoding::Hdlc).is_some_and(|help| help.contains("console:text")));
        let slow = Report { burst_returned: 3, ..well.clone() };
        assert!(help(&slow, Encoding::Text).is_some_and(|help| help.contains("--pace")));
        let broken = Report { frames_bad: 3, ..Report::default() };
        assert!(help(&broken, Encoding::Hdlc).is_some_and(|help| help.contains("console:text")));
        assert!(help(&Report::default(), Encoding::Hdlc).is_some_and(|help| help.contains("speaks PPP")));
    }
}
