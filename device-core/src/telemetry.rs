//! Readings and their ledger: produced = delivered + queued + dropped, always.

use crate::output::Reading;
use crate::rng::Rng;
use crate::time::Instant;
use alloc::format;

/// What has become of the readings since boot; those restored from storage count as produced at boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Made since boot, or restored at boot.
    pub produced: u64,
    /// Acknowledged by the broker.
    pub delivered: u64,
    /// Dropped because the queue was full.
    pub dropped_full: u64,
    /// Dropped because the broker refused them.
    pub dropped_refused: u64,
    /// MQTT sessions that came up since boot.
    pub connects: u64,
}

impl Ledger {
    /// All that was dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped_full + self.dropped_refused
    }

    /// The share of the readings that ended and were delivered, in per cent; 100 while none has ended.
    pub fn reliability_percentage(&self) -> u64 {
        let ended = self.delivered + self.dropped();
        (self.delivered * 100).checked_div(ended).unwrap_or(100)
    }
}

/// A reading: its number, the uptime in milliseconds, and a made-up temperature between 18.0 and 27.9 °C.
pub fn measure(number: u64, now: Instant, rng: &mut Rng) -> Reading {
    let tenths = 180 + rng.up_to(99);
    let (uptime, whole, tenth) = (now.as_millis(), tenths / 10, tenths % 10);
    Reading { number, payload: format!(r#"{{"number":{number},"uptime_ms":{uptime},"temperature_c":{whole}.{tenth}}}"#) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_json() {
        let json: serde_json::Value =
            serde_json::from_str(&measure(7, Instant(1234), &mut Rng::new(1)).payload).expect("the payload is JSON");
        assert_eq!((json["number"].as_u64(), json["uptime_ms"].as_u64()), (Some(7), Some(1234)));
        assert!(json["temperature_c"].as_f64().is_some_and(|t| (18.0..28.0).contains(&t)));
    }

    #[test]
    fn reliability_counts_what_has_ended() {
        assert_eq!(Ledger::default().reliability_percentage(), 100);
        let ledger = Ledger { produced: 9, delivered: 3, dropped_full: 1, ..Ledger::default() };
        assert_eq!((ledger.reliability_percentage(), ledger.dropped()), (75, 1));
    }
}
