//! Reads every rendering of days and times that impact.com is known to use (impact-api §7.5).
//!
//! A time without an offset is in the zone of the account. When the clocks go back, an hour comes twice: it is taken for
//! the first one. When they go forward, an hour is skipped: a time in it is shifted by as much, `02:30` to `03:30`.

use chrono::{NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone};
use chrono_tz::Tz;

/// A day: `2026-05-29` or `May 29, 2026`.
pub(super) fn date(text: &[u8]) -> Option<NaiveDate> {
    iso_date(text).or_else(|| {
        let (month, rest) = month_name(text)?;
        let comma = rest.iter().position(|byte| *byte == b',')?;
        let (day, year) = (&rest[..comma], rest[comma + 1..].strip_prefix(b" ")?);
        if day.is_empty() || day.len() > 2 {
            return None;
        }
        NaiveDate::from_ymd_opt(year_number(year)?, month, digits(day)?)
    })
}

/// The first day of a month: `2026-05` or `May 2026`.
pub(super) fn month(text: &[u8]) -> Option<NaiveDate> {
    let (month, year) = if let [year @ .., b'-', a, b] = text { (digits(&[*a, *b])?, year) } else { month_name(text)? };
    NaiveDate::from_ymd_opt(year_number(year)?, month, 1)
}

/// A point in time, in UTC. A time without an offset, and the beginning of a day, are in `zone`.
pub(super) fn timestamp(text: &[u8], zone: Tz) -> Option<NaiveDateTime> {
    let Some((day, rest)) = text.split_at_checked(10) else {
        return Some(to_utc(date(text)?.and_time(NaiveTime::MIN), zone));
    };
    let (Some(day), [b'T' | b' ', rest @ ..]) = (iso_date(day), rest) else {
        return Some(to_utc(date(text)?.and_time(NaiveTime::MIN), zone));
    };
    let (clock, rest) = rest.split_at_checked(8)?;
    let &[h1, h2, b':', m1, m2, b':', s1, s2] = clock else { return None };
    let (fraction, rest) = fraction(rest)?;
    let time = NaiveTime::from_hms_micro_opt(digits(&[h1, h2])?, digits(&[m1, m2])?, digits(&[s1, s2])?, fraction)?;
    let local = day.and_time(time);
    if rest.is_empty() { Some(to_utc(local, zone)) } else { local.checked_sub_signed(offset(rest)?) }
}

/// The day that a value belongs to in `zone`, whatever its rendering.
pub(super) fn day(text: &[u8], zone: Tz) -> Option<NaiveDate> {
    date(text).or_else(|| month(text)).or_else(|| {
        let utc = timestamp(text, zone)?;
        Some((utc + zone.offset_from_utc_datetime(&utc).fix().local_minus_utc_delta()).date())
    })
}

/// A local time that happened twice is the first of the two; one that the clocks skipped is shifted by what they skipped.
fn to_utc(local: NaiveDateTime, zone: Tz) -> NaiveDateTime {
    let offset = match zone.offset_from_local_datetime(&local).earliest() {
        Some(offset) => offset.fix(),
        None => [3, 30]
            .into_iter()
            .find_map(|hours| zone.offset_from_local_datetime(&(local - TimeDelta::hours(hours))).earliest())
            .map_or_else(|| chrono::Utc.fix(), |before| before.fix()),
    };
    local - offset.local_minus_utc_delta()
}

trait LocalMinusUtc {
    fn local_minus_utc_delta(&self) -> TimeDelta;
}

impl LocalMinusUtc for chrono::FixedOffset {
    fn local_minus_utc_delta(&self) -> TimeDelta {
        TimeDelta::seconds(i64::from(self.local_minus_utc()))
    }
}

fn iso_date(text: &[u8]) -> Option<NaiveDate> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else { return None };
    NaiveDate::from_ymd_opt(year_number(&[y1, y2, y3, y4])?, digits(&[m1, m2])?, digits(&[d1, d2])?)
}

/// `.123` in microseconds, nothing as zero; what is finer than a microsecond is cut off.
fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let Some(text) = text.strip_prefix(b".") else { return Some((0, text)) };
    let length = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    if length == 0 || length > 9 {
        return None;
    }
    let micros =
        (0..6).fold(0, |sum, place| sum * 10 + text[..length].get(place).map_or(0, |digit| u32::from(digit - b'0')));
    Some((micros, &text[length..]))
}

/// `Z`, `-05:00`, `-0500` or `-05`.
fn offset(text: &[u8]) -> Option<TimeDelta> {
    let (sign, clock) = match text {
        b"Z" | b"z" => return Some(TimeDelta::zero()),
        [b'+', clock @ ..] => (1, clock),
        [b'-', clock @ ..] => (-1, clock),
        _ => return None,
    };
    let (hours, minutes) = match *clock {
        [h1, h2] => (digits(&[h1, h2])?, 0),
        [h1, h2, m1, m2] | [h1, h2, b':', m1, m2] => (digits(&[h1, h2])?, digits(&[m1, m2])?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then(|| TimeDelta::minutes(sign * i64::from(hours * 60 + minutes)))
}

/// `May ` or `August ` at the beginning, and what follows.
fn month_name(text: &[u8]) -> Option<(u32, &[u8])> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let space = text.iter().take(10).position(|byte| *byte == b' ')?;
    let (name, rest) = (&text[..space], &text[space + 1..]);
    let index = MONTHS.iter().position(|month| {
        name.eq_ignore_ascii_case(month.as_bytes()) || name.eq_ignore_ascii_case(&month.as_bytes()[..3])
    })?;
    Some((u32::try_from(index).ok()? + 1, rest))
}

fn year_number(text: &[u8]) -> Option<i32> {
    let year = if text.len() == 4 { digits(text)? } else { return None };
    if year == 0 { None } else { i32::try_from(year).ok() }
}

/// A number of a few digits and nothing else.
fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0, |sum: u32, byte| {
        byte.is_ascii_digit().then(|| sum.wrapping_mul(10).wrapping_add(u32::from(byte - b'0')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW_YORK: Tz = chrono_tz::America::New_York;

    fn utc(text: &str) -> Option<String> {
        timestamp(text.as_bytes(), NEW_YORK).map(|at| at.to_string())
    }

    #[test]
    fn days_are_read_in_both_renderings() {
        let expected = NaiveDate::from_ymd_opt(2026, 5, 9);
        for text in ["2026-05-09", "May 9, 2026", "May 09, 2026", "may 9, 2026"] {
            assert_eq!(date(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(date(b"August 3, 2026"), NaiveDate::from_ymd_opt(2026, 8, 3));
        for text in ["2026-02-30", "2026-5-9", "May 2026", "Mayy 9, 2026", "May 9 2026", "", "0000-01-01", "May , 2026"]
        {
            assert_eq!(date(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn months_are_their_first_day() {
        assert_eq!(month(b"2026-05"), NaiveDate::from_ymd_opt(2026, 5, 1));
        assert_eq!(month(b"May 2026"), NaiveDate::from_ymd_opt(2026, 5, 1));
        assert_eq!(month(b"2026-13"), None);
        assert_eq!(month(b"-05"), None);
    }

    #[test]
    fn times_are_read_in_every_rendering() {
        for (text, expected) in [
            ("2026-05-29T04:33:50-05:00", "2026-05-29 09:33:50"),
            ("2026-05-29T04:33:50-0600", "2026-05-29 10:33:50"),
            ("2026-05-29T04:33:50+02", "2026-05-29 02:33:50"),
            ("2026-05-29T04:33:50.123Z", "2026-05-29 04:33:50.123"),
            ("2026-05-29 04:33:50", "2026-05-29 08:33:50"),
            ("2026-05-29T04:33:50", "2026-05-29 08:33:50"),
            ("2026-05-29", "2026-05-29 04:00:00"),
            ("May 29, 2026", "2026-05-29 04:00:00"),
        ] {
            assert_eq!(utc(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "2026-05-29T",
            "2026-05-29T04:33",
            "2026-05-29T24:00:00",
            "2026-05-29T04:33:50.",
            "2026-05-29T04:33:50+5",
            "2026-05-29T04:33:50-24:00",
        ] {
            assert_eq!(utc(text), None, "{text}");
        }
    }

    #[test]
    fn an_hour_that_came_twice_is_the_first_and_one_that_was_skipped_is_shifted() {
        assert_eq!(utc("2026-11-01 01:30:00").as_deref(), Some("2026-11-01 05:30:00"));
        assert_eq!(utc("2026-03-08 02:30:00").as_deref(), Some("2026-03-08 07:30:00"));
        assert_eq!(
            timestamp(b"2011-12-30 12:00:00", chrono_tz::Pacific::Apia).map(|at| at.to_string()).as_deref(),
            Some("2011-12-30 22:00:00")
        );
    }

    #[test]
    fn a_time_belongs_to_the_day_of_the_zone() {
        assert_eq!(day(b"2026-05-29T03:59:59Z", NEW_YORK), NaiveDate::from_ymd_opt(2026, 5, 28));
        assert_eq!(day(b"2026-05-29T04:00:00Z", NEW_YORK), NaiveDate::from_ymd_opt(2026, 5, 29));
        assert_eq!(day(b"May 2026", NEW_YORK), NaiveDate::from_ymd_opt(2026, 5, 1));
    }
}
