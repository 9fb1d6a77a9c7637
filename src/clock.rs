//! Where the time comes from. Only the rim of the program asks; decisions take `now` as an argument.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// The wall clock, in UTC.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Clock {
    /// The current time, cut to microseconds as Postgres keeps it.
    pub fn now(self) -> DateTime<Utc> {
        let now = Utc::now();
        DateTime::from_timestamp_micros(now.timestamp_micros()).expect("the present is in range")
    }
}

/// Our database's clock: what it showed last, carried on by a time that no step of a clock changes. What is written for Postgres to
/// compare with its own time is by this one.
#[derive(Debug, Default)]
pub struct DatabaseClock(Mutex<Option<(DateTime<Utc>, Instant)>>);

impl DatabaseClock {
    /// It shows `now` at this moment.
    pub fn shows(&self, now: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, Instant::now()));
    }

    /// The time, by the wall clock where nobody has read the database's yet.
    pub fn now(&self) -> DateTime<Utc> {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((shown, at)) => shown + TimeDelta::from_std(at.elapsed()).unwrap_or_default(),
            None => Clock.now(),
        }
    }
}

/// The calendar day that `at` falls on in `zone`.
pub fn day_in(zone: Tz, at: DateTime<Utc>) -> NaiveDate {
    at.with_timezone(&zone).date_naive()
}

/// The first instant of `day` in `zone`; where midnight does not exist (a DST change at midnight), the first instant after it.
pub fn day_start(zone: Tz, day: NaiveDate) -> DateTime<Utc> {
    let midnight = day.and_hms_opt(0, 0, 0).expect("midnight is a time");
    (0..=24)
        .find_map(|quarter| zone.from_local_datetime(&(midnight + chrono::TimeDelta::minutes(15 * quarter))).earliest())
        .map_or_else(|| midnight.and_utc(), |local| local.with_timezone(&Utc))
}

/// The first instant after `day` in `zone`: from then on the day is complete.
pub fn day_end(zone: Tz, day: NaiveDate) -> DateTime<Utc> {
    day_start(zone, day + Days::new(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_the_database_goes_on_from_what_it_showed() {
        let clock = DatabaseClock::default();
        assert!((clock.now() - Clock.now()).abs() < TimeDelta::minutes(1));
        let shown = Clock.now() - TimeDelta::hours(2);
        clock.shows(shown);
        assert!(clock.now() >= shown && clock.now() - shown < TimeDelta::minutes(1));
    }

    fn day(text: &str) -> NaiveDate {
        text.parse().expect("a day")
    }

    #[test]
    fn a_day_of_the_change_to_summer_time_has_23_hours() {
        let zone = chrono_tz::America::New_York;
        let length = day_end(zone, day("2026-03-08")) - day_start(zone, day("2026-03-08"));
        assert_eq!(length.num_hours(), 23);
    }

    #[test]
    fn a_midnight_that_does_not_exist_is_replaced_by_the_next_instant() {
        let zone = chrono_tz::America::Santiago;
        let start = day_start(zone, day("2024-09-08"));
        assert_eq!(start.to_rfc3339(), "2024-09-08T04:00:00+00:00");
    }
}
