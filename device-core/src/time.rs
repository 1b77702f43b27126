//! Two clocks a device has: one that counts since boot, one that tells the date once somebody has told it.

use core::fmt;
use core::ops::{Add, Sub};
use core::str::FromStr;
use core::time::Duration;

/// A moment on the device's own clock, in milliseconds since boot. It never goes back; on simulated targets it may jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// Milliseconds since boot.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time since `earlier`; zero when `earlier` is later.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, d: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, d: Duration) -> Instant {
        Instant(self.0.saturating_sub(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// The date, in seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(pub i64);

impl UnixTime {
    /// The date `d` after this one, in whole seconds.
    pub fn plus(self, d: Duration) -> UnixTime {
        UnixTime(self.0.saturating_add(i64::try_from(d.as_secs()).unwrap_or(i64::MAX)))
    }
}

/// 0000-01-01T00:00:00Z and 9999-12-31T23:59:59Z: what RFC 3339 can write.
const RFC_3339: core::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

/// RFC 3339 in UTC, such as `2026-01-01T00:00:00Z`; beyond the years 0 to 9999 the seconds after an `@`.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !RFC_3339.contains(&self.0) {
            return write!(f, "@{}", self.0);
        }
        let (days, second) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        let (year, month, day) = civil_from_days(days);
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
    }
}

/// The text is not what `Display` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotADate;

impl FromStr for UnixTime {
    type Err = NotADate;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<UnixTime, NotADate> {
        if let Some(seconds) = text.strip_prefix('@') {
            return seconds.parse().map(UnixTime).map_err(|_| NotADate);
        }
        let bytes = text.as_bytes();
        let shape = bytes.len() == 20
            && bytes.iter().zip(b"0000-00-00T00:00:00Z").all(|(b, s)| if *s == b'0' { b.is_ascii_digit() } else { b == s });
        if !shape {
            return Err(NotADate);
        }
        let number = |from: usize, to: usize| bytes[from..to].iter().fold(0i64, |n, b| n * 10 + i64::from(b - b'0'));
        let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
        let (hour, minute, second) = (number(11, 13), number(14, 16), number(17, 19));
        let days = days_from_civil(year, month, day);
        if hour > 23 || minute > 59 || second > 59 || !(1..=12).contains(&month) || civil_from_days(days) != (year, month, day) {
            return Err(NotADate);
        }
        Ok(UnixTime(days * 86_400 + hour * 3600 + minute * 60 + second))
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; years begin in March, so that the leap day comes last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The date so many days from 1970-01-01: year, month, day.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;
    use proptest::prelude::*;

    #[test]
    fn known_dates() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (2_085_978_496, "2036-02-07T06:28:16Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
            (253_402_300_800, "@253402300800"),
        ] {
            assert_eq!(UnixTime(unix).to_string(), text);
            assert_eq!(text.parse(), Ok(UnixTime(unix)));
        }
        for text in ["", "@", "2025-02-29T00:00:00Z", "2025-13-01T00:00:00Z", "2025-01-01T24:00:00Z", "2025-01-01 00:00:00Z"] {
            assert_eq!(text.parse::<UnixTime>(), Err(NotADate), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(unix: i64, near in -70_000_000_000i64..260_000_000_000) {
            for unix in [unix, near] {
                prop_assert_eq!(UnixTime(unix).to_string().parse(), Ok(UnixTime(unix)));
            }
        }
    }
}
