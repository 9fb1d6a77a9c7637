//! Days and times of an account's zone, through changes to and from summer time.

use std::fmt::Write as _;

use chrono::{DateTime, Datelike as _, Days, NaiveDate, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;

/// The first instant of `day` in `zone`; the first one after midnight where midnight does not exist.
pub fn day_start(zone: Tz, day: NaiveDate) -> DateTime<Utc> {
    let midnight = day.and_hms_opt(0, 0, 0).unwrap_or_default();
    (0..12)
        .find_map(|quarter| zone.from_local_datetime(&(midnight + TimeDelta::minutes(15 * quarter))).earliest())
        .map_or_else(|| midnight.and_utc(), |local| local.with_timezone(&Utc))
}

/// The first instant after `day` in `zone`.
pub fn day_end(zone: Tz, day: NaiveDate) -> DateTime<Utc> {
    day_start(zone, day + Days::new(1))
}

/// The calendar day of `at` in `zone`.
pub fn day_of(zone: Tz, at: DateTime<Utc>) -> NaiveDate {
    at.with_timezone(&zone).date_naive()
}

/// A number for a day, for throwing dice and for building ids.
pub fn day_number(day: NaiveDate) -> u64 {
    u64::from(day.num_days_from_ce().unsigned_abs())
}

/// Appends `2026-05-29T04:33:50-05:00`.
pub fn write_time(zone: Tz, at: DateTime<Utc>, out: &mut String) {
    let _ = write!(out, "{}", at.with_timezone(&zone).format("%Y-%m-%dT%H:%M:%S%:z"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_lasts_as_long_as_the_clocks_of_the_zone_say() {
        let zone = chrono_tz::America::New_York;
        let hours = |text: &str| {
            let day = text.parse().unwrap();
            (day_end(zone, day) - day_start(zone, day)).num_hours()
        };
        assert_eq!([hours("2026-03-08"), hours("2026-06-01"), hours("2026-11-01")], [23, 24, 25]);
    }

    #[test]
    fn a_time_carries_the_offset_of_its_season() {
        let mut text = String::new();
        let zone = chrono_tz::America::New_York;
        write_time(zone, "2026-01-05T12:00:00Z".parse().unwrap(), &mut text);
        text.push(' ');
        write_time(zone, "2026-07-05T12:00:00Z".parse().unwrap(), &mut text);
        assert_eq!(text, "2026-01-05T07:00:00-05:00 2026-07-05T08:00:00-04:00");
    }
}
