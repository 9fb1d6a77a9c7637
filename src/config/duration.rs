//! Durations as the configuration writes them: `200ms`, `2s`, `15min`, `6h`, `35d`.

use std::time::Duration;

/// The units, the widest first, with their lengths in milliseconds.
const UNITS: [(&str, u64); 5] =
    [("d", 24 * 60 * 60 * 1000), ("h", 60 * 60 * 1000), ("min", 60 * 1000), ("s", 1000), ("ms", 1)];

/// What a message says about how durations are written.
pub const WRITTEN: &str = "a duration such as 200ms, 2s, 15min, 6h or 35d";

/// Reads a whole number with its unit.
pub fn parse(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, length) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*length).map(Duration::from_millis)
}

/// Writes a duration in the widest unit that divides it.
pub fn write(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let fits = |(_, length): &&(&str, u64)| millis >= *length && millis.is_multiple_of(*length);
    let (unit, length) = UNITS.iter().find(fits).unwrap_or(&("ms", 1));
    format!("{}{unit}", millis / length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_written() {
        for text in ["200ms", "2s", "15min", "6h", "35d"] {
            assert_eq!(parse(text).map(write).as_deref(), Some(text));
        }
        assert_eq!(write(Duration::from_secs(90)), "90s");
        assert_eq!(write(Duration::from_hours(48)), "2d");
        assert_eq!(write(Duration::ZERO), "0ms");
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "2", "s", "2m", "2 s", "-2s", "1.5h", "2S", "99999999999999999999d", "9999999999999999d"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
