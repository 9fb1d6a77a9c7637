//! What is true of the values that are read from a field, whatever it holds.
//!
//! - A value is written exactly where its column takes it, and nothing at all where not.
//! - What was written, read as Postgres does, is what the text says: a boolean by its word, a bigint where the standard
//!   library reads it and writes it the same, a numeric digit by digit, a day and a time by the text that they have in one
//!   of the known renderings.

use chrono::{DateTime, Datelike as _, Days, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Offset as _};
use chrono::{TimeDelta, TimeZone as _, Timelike as _, Utc};
use chrono_tz::{America, Australia, Pacific, Tz};

use super::super::time;
use super::super::value::Format;
use crate::column::ColumnKind;

/// Clocks that never change, by an hour, by half an hour, and by a whole day.
const ZONES: [Tz; 4] = [Tz::UTC, America::New_York, Australia::Lord_Howe, Pacific::Apia];

/// What stands in the row before the field.
const BEFORE: &[u8] = b"before";

#[derive(Debug, PartialEq)]
enum Value {
    Null,
    Boolean(bool),
    Bigint(i64),
    Numeric(String),
    Date(NaiveDate),
    Timestamptz(NaiveDateTime),
    Text(Vec<u8>),
}

/// Holds all types to all of it.
pub fn check(text: &[u8]) {
    for kind in ColumnKind::ALL {
        let zones = if kind == ColumnKind::Timestamptz { &ZONES[..] } else { &ZONES[..1] };
        for (&zone, takes_months) in zones.iter().flat_map(|zone| [(zone, false), (zone, true)]) {
            let format = Format { kind: Some(kind), takes_months };
            let mut out = BEFORE.to_vec();
            let put = format.put(&mut out, text, zone);
            assert_eq!(put.is_ok(), format.takes(text, zone), "{kind}");
            let written = out.strip_prefix(BEFORE).expect("what was there before stays");
            let found = if let Ok(is_null) = put {
                let value = decode(kind, written);
                assert_eq!(is_null, value == Value::Null, "{kind}");
                Some(value)
            } else {
                assert_eq!(written, b"", "{kind}");
                None
            };
            assert_eq!(found, read(format, text, zone), "{kind} in {zone}");
        }
    }
    let readable = std::str::from_utf8(text).ok();
    for zone in ZONES {
        let day = readable.and_then(|text| {
            let local = |utc| zone.from_utc_datetime(&utc).date_naive();
            day(text, true).or_else(|| timestamp(text, zone, true).map(local))
        });
        assert_eq!(time::day(text, zone), day, "the day in {zone}");
    }
}

/// What a text says, found out by other means.
fn read(format: Format, text: &[u8], zone: Tz) -> Option<Value> {
    let kind = format.kind.expect("all kinds are tried");
    if text.is_empty() {
        return Some(Value::Null);
    }
    if kind == ColumnKind::Text {
        return Some(Value::Text(text.to_vec()));
    }
    let text = std::str::from_utf8(text).ok()?;
    let word = text.to_ascii_lowercase();
    if ["n/a", "na", "null"].contains(&word.as_str()) {
        return Some(Value::Null);
    }
    match kind {
        ColumnKind::Boolean => word.parse().ok().map(Value::Boolean),
        ColumnKind::Bigint => text.parse().ok().filter(|number: &i64| number.to_string() == text).map(Value::Bigint),
        ColumnKind::Numeric => numeric(text).map(Value::Numeric),
        ColumnKind::Date => day(text, format.takes_months).map(Value::Date),
        ColumnKind::Timestamptz => timestamp(text, zone, format.takes_months).map(Value::Timestamptz),
        ColumnKind::Text => unreachable!("it was read before"),
    }
}

/// A number in plain digits, with the places behind the point that it is to have.
fn numeric(text: &str) -> Option<String> {
    const PREFIXES: [(&str, &str); 5] = [("-$", "-"), ("$-", "-"), ("-", "-"), ("$", ""), ("", "")];
    let (sign, number) =
        PREFIXES.iter().find_map(|(prefix, sign)| text.strip_prefix(prefix).map(|number| (*sign, number)))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = whole.replace(',', "");
    let places = if whole.len() == number.len() { 0 } else { fraction.len() };
    let is_good = (whole == digits || whole == grouped(&digits))
        && (digits == "0" || !digits.starts_with('0'))
        && !fraction.is_empty()
        && digits.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit())
        && (1..=1000).contains(&(digits.len() + places));
    if !is_good {
        return None;
    }
    let fraction = &fraction[..places];
    let fraction = &fraction[..fraction.trim_end_matches('0').len().max(places.min(2))];
    Some(plain(sign, &digits, fraction))
}

fn plain(sign: &str, whole: &str, fraction: &str) -> String {
    let whole = whole.trim_start_matches('0');
    let is_zero = whole.is_empty() && fraction.bytes().all(|byte| byte == b'0');
    let sign = if is_zero { "" } else { sign };
    let whole = if whole.is_empty() { "0" } else { whole };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}

/// With a comma before every third digit from the end.
fn grouped(digits: &str) -> String {
    let is_third = |at: usize| at > 0 && (digits.len() - at).is_multiple_of(3);
    digits.chars().enumerate().flat_map(|(at, digit)| is_third(at).then_some(',').into_iter().chain([digit])).collect()
}

/// The day of which the text is a rendering.
fn day(text: &str, takes_months: bool) -> Option<NaiveDate> {
    const DAYS: [&str; 5] = ["%Y-%m-%d", "%B %d, %Y", "%B %-d, %Y", "%b %d, %Y", "%b %-d, %Y"];
    const MONTHS: [&str; 3] = ["%Y-%m", "%B %Y", "%b %Y"];
    let is_one_of = |day: &NaiveDate, renderings: &[&str]| {
        (1..=9999).contains(&day.year())
            && renderings.iter().any(|rendering| day.format(rendering).to_string().eq_ignore_ascii_case(text))
    };
    let parsed = |text: &str, format: &str| NaiveDate::parse_from_str(text, format).ok();
    let of_day = || parsed(text, "%Y-%m-%d").or_else(|| parsed(text, "%B %d, %Y"));
    let of_month = || parsed(&format!("{text}-01"), "%Y-%m-%d").or_else(|| parsed(&format!("1 {text}"), "%d %B %Y"));
    of_day()
        .filter(|day| is_one_of(day, &DAYS))
        .or_else(|| if takes_months { of_month().filter(|day| is_one_of(day, &MONTHS)) } else { None })
}

/// The time of which the text is a rendering, in UTC.
fn timestamp(text: &str, zone: Tz, takes_months: bool) -> Option<NaiveDateTime> {
    if let Some(day) = day(text, takes_months) {
        return Some(in_zone(day.and_time(NaiveTime::MIN), zone));
    }
    let (seconds, rest) = text.split_at_checked(19)?;
    let local = NaiveDateTime::parse_from_str(&seconds.replace('T', " "), "%Y-%m-%d %H:%M:%S").ok()?;
    let is_rendering =
        ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"].iter().any(|f| local.format(f).to_string() == seconds);
    let is_leap_second = local.nanosecond() > 0;
    if !is_rendering || is_leap_second || !(1..=9999).contains(&local.year()) {
        return None;
    }
    let (fraction, offset) = rest.split_at(rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len()));
    let micros = match fraction.strip_prefix('.') {
        None if fraction.is_empty() => 0,
        Some(digits) if (1..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{digits:0<9}").parse::<i64>().ok()? / 1000
        }
        _ => return None,
    };
    let local = local + TimeDelta::microseconds(micros);
    match offset {
        "" => Some(in_zone(local, zone)),
        "Z" | "z" => Some(local),
        _ => Some(local - TimeDelta::seconds(seconds_east(offset)?)),
    }
}

/// `+05`, `+0530` or `+05:30`.
fn seconds_east(offset: &str) -> Option<i64> {
    let whole = match (offset.len(), offset.as_bytes().get(3)) {
        (3, None) => format!("{offset}:00"),
        (5, Some(_)) | (6, Some(b':')) => offset.to_owned(),
        _ => return None,
    };
    whole.parse::<FixedOffset>().ok().map(|offset| i64::from(offset.local_minus_utc()))
}

/// The first moment at which clocks show this time. Where they never do, those that were not put forward yet.
fn in_zone(local: NaiveDateTime, zone: Tz) -> NaiveDateTime {
    let shown = |utc: NaiveDateTime| zone.from_utc_datetime(&utc).naive_local();
    let hours = (-36..=36).map(TimeDelta::hours);
    let offsets = hours.map(|hours| zone.offset_from_utc_datetime(&(local + hours)).fix());
    let moments = offsets.map(|offset| local - TimeDelta::seconds(i64::from(offset.local_minus_utc())));
    let (mut right, mut shifted): (Vec<_>, Vec<_>) = moments.partition(|utc| shown(*utc) == local);
    right.sort();
    // Put forward means that the offset grows, and with the smaller one the moment is the later.
    shifted.sort();
    *right.first().or(shifted.last()).expect("some offset is always in effect")
}

/// What Postgres reads.
fn decode(kind: ColumnKind, written: &[u8]) -> Value {
    let (length, body) = written.split_first_chunk().expect("a field begins with its length");
    let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
        assert_eq!(written, (-1_i32).to_be_bytes());
        return Value::Null;
    };
    assert_eq!(length, body.len());
    let whole = || i64::from_be_bytes(body.try_into().expect("eight bytes"));
    match kind {
        ColumnKind::Boolean => {
            assert!([[0], [1]].iter().any(|word| word == body));
            Value::Boolean(body == [1])
        }
        ColumnKind::Bigint => Value::Bigint(whole()),
        ColumnKind::Numeric => Value::Numeric(decode_numeric(body)),
        ColumnKind::Date => {
            let days = i32::from_be_bytes(body.try_into().expect("four bytes"));
            let year_2000 = NaiveDate::from_ymd_opt(2000, 1, 1).expect("a day of the calendar");
            let distance = Days::new(days.unsigned_abs().into());
            Value::Date(if days < 0 { year_2000 - distance } else { year_2000 + distance })
        }
        ColumnKind::Timestamptz => {
            let year_2000 = Utc.with_ymd_and_hms(2000, 1, 1, 0, 0, 0).single().expect("a time of the calendar");
            let at: DateTime<Utc> = year_2000 + TimeDelta::microseconds(whole());
            Value::Timestamptz(at.naive_utc())
        }
        ColumnKind::Text => Value::Text(body.to_vec()),
    }
}

/// A header of four numbers, then groups of four digits: the first stands for itself times 10,000 to the power of `weight`.
fn decode_numeric(body: &[u8]) -> String {
    let numbers: Vec<i16> = body.chunks(2).map(|two| i16::from_be_bytes(two.try_into().expect("two bytes"))).collect();
    let [count, weight, sign, places, groups @ ..] = &numbers[..] else { panic!("a header of four numbers") };
    let places = usize::try_from(*places).expect("a number of places");
    assert_eq!(usize::try_from(*count), Ok(groups.len()));
    assert!(groups.iter().all(|group| (0..10_000).contains(group)), "a group has four digits");
    assert!(groups.first() != Some(&0) && groups.last() != Some(&0), "a group that says nothing");
    assert!(!groups.is_empty() || (*weight, *sign) == (0, 0), "zero is always the same");
    let sign = match sign {
        0 => "",
        0x4000 => "-",
        _ => panic!("no such sign"),
    };
    let group = |power: i16| usize::try_from(weight - power).ok().and_then(|at| groups.get(at)).copied().unwrap_or(0);
    let four_digits = |power: i16| {
        let digits = format!("{:04}", group(power));
        digits.into_bytes().into_iter().map(char::from)
    };
    let whole: String = (0..=(*weight).max(0)).rev().flat_map(four_digits).collect();
    let behind = i16::try_from(groups.len().max(places.div_ceil(4))).expect("a few groups") - (*weight).min(0);
    let fraction: String = (1..=behind).map(|power| -power).flat_map(four_digits).collect();
    assert!(fraction[places..].bytes().all(|digit| digit == b'0'), "digits beyond the last place");
    plain(sign, &whole, &fraction[..places])
}
