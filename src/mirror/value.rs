//! Reads the text of a field as a value of its column's type and writes it as `COPY … (format binary)` has it.
//!
//! What does not come back exactly is not read as a number: `007` and `+5` are text, `1,234` and `$5.00` are numeric.

use chrono::{NaiveDate, NaiveDateTime};
use chrono_tz::Tz;

use super::diff::PgDay;
use super::time;
use crate::column::ColumnKind;

/// The longest number that is read as one.
const MAX_DIGITS: usize = 1000;

/// The length that stands for NULL.
const NULL: [u8; 4] = (-1_i32).to_be_bytes();

/// How the fields of a column are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    /// `None` while nobody has seen a value: then every value calls for a survey.
    pub kind: Option<ColumnKind>,
    /// Whether `2026-05` is a day: only where the configuration says that the column holds dates.
    pub takes_months: bool,
}

/// A value that its column's type does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DoesNotFit;

/// Whether a text stands for no value in a column that is not text.
pub(super) fn is_missing(text: &[u8]) -> bool {
    text.len() <= 4
        && (text.is_empty()
            || text.eq_ignore_ascii_case(b"n/a")
            || text.eq_ignore_ascii_case(b"na")
            || text.eq_ignore_ascii_case(b"null"))
}

/// The narrowest type that holds both.
pub(super) fn join(one: ColumnKind, other: ColumnKind) -> ColumnKind {
    use ColumnKind::{Bigint, Date, Numeric, Text, Timestamptz};
    match (one, other) {
        _ if one == other => one,
        (Bigint, Numeric) | (Numeric, Bigint) => Numeric,
        (Date, Timestamptz) | (Timestamptz, Date) => Timestamptz,
        _ => Text,
    }
}

impl Format {
    /// Whether the column, once it has this format, takes `text`. Nothing fits an unknown type but nothing.
    pub fn takes(self, text: &[u8], zone: Tz) -> bool {
        if text.is_empty() {
            return true;
        }
        match self.kind {
            None => false,
            Some(ColumnKind::Text) => true,
            Some(_) if is_missing(text) => true,
            Some(ColumnKind::Boolean) => boolean(text).is_some(),
            Some(ColumnKind::Bigint) => bigint(text).is_some(),
            Some(ColumnKind::Numeric) => Decimal::read(text).is_some(),
            Some(ColumnKind::Date) => self.date(text).is_some(),
            Some(ColumnKind::Timestamptz) => self.timestamp(text, zone).is_some(),
        }
    }

    /// The narrowest type that holds `text`, which is not missing.
    pub fn narrowest(self, text: &[u8], zone: Tz) -> ColumnKind {
        ColumnKind::ALL
            .into_iter()
            .find(|kind| Self { kind: Some(*kind), ..self }.takes(text, zone))
            .unwrap_or(ColumnKind::Text)
    }

    /// Appends the field; `true` where it is NULL.
    pub fn put(self, out: &mut Vec<u8>, text: &[u8], zone: Tz) -> Result<bool, DoesNotFit> {
        if text.is_empty() {
            put_null(out);
            return Ok(true);
        }
        match self.kind {
            None => return Err(DoesNotFit),
            Some(ColumnKind::Text) => put_bytes(out, text),
            Some(_) if is_missing(text) => {
                put_null(out);
                return Ok(true);
            }
            Some(ColumnKind::Boolean) => put_bytes(out, &[u8::from(boolean(text).ok_or(DoesNotFit)?)]),
            Some(ColumnKind::Bigint) => put_bigint(out, bigint(text).ok_or(DoesNotFit)?),
            Some(ColumnKind::Numeric) => Decimal::read(text).ok_or(DoesNotFit)?.put(out),
            Some(ColumnKind::Date) => put_date(out, self.date(text).ok_or(DoesNotFit)?),
            Some(ColumnKind::Timestamptz) => put_timestamp(out, self.timestamp(text, zone).ok_or(DoesNotFit)?),
        }
        Ok(false)
    }

    fn date(self, text: &[u8]) -> Option<NaiveDate> {
        time::date(text).or_else(|| self.takes_months.then(|| time::month(text))?)
    }

    fn timestamp(self, text: &[u8], zone: Tz) -> Option<NaiveDateTime> {
        time::timestamp(text, zone).or_else(|| {
            let month = self.takes_months.then(|| time::month(text))??;
            time::timestamp(month.to_string().as_bytes(), zone)
        })
    }
}

/// Appends NULL.
pub(super) fn put_null(out: &mut Vec<u8>) {
    out.extend_from_slice(&NULL);
}

/// Appends bytes or text that are already checked.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = i32::try_from(bytes.len()).expect("a field is shorter than 2 GiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a `bigint`.
pub(super) fn put_bigint(out: &mut Vec<u8>, value: i64) {
    put_bytes(out, &value.to_be_bytes());
}

/// Appends a `date`.
pub(super) fn put_date(out: &mut Vec<u8>, day: NaiveDate) {
    put_bytes(out, &pg_day(day).to_be_bytes());
}

const DAY_0: NaiveDate = NaiveDate::from_ymd_opt(2000, 1, 1).expect("a day of the calendar");

/// A day as Postgres counts them.
pub(super) fn pg_day(day: NaiveDate) -> PgDay {
    PgDay::try_from((day - DAY_0).num_days()).expect("years have four digits")
}

/// The reverse; `None` where the calendar ends.
pub(super) fn of_pg_day(day: PgDay) -> Option<NaiveDate> {
    DAY_0.checked_add_signed(chrono::TimeDelta::try_days(day.into())?)
}

/// Appends a `timestamptz`, given in UTC.
pub(super) fn put_timestamp(out: &mut Vec<u8>, at: NaiveDateTime) {
    const MICROS_AT_2000: i64 = 946_684_800_000_000;
    put_bigint(out, at.and_utc().timestamp_micros() - MICROS_AT_2000);
}

fn boolean(text: &[u8]) -> Option<bool> {
    if text.eq_ignore_ascii_case(b"true") {
        Some(true)
    } else if text.eq_ignore_ascii_case(b"false") {
        Some(false)
    } else {
        None
    }
}

fn bigint(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        _ => (false, text),
    };
    match digits {
        [b'0'] => return (!negative).then_some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    digits.iter().try_fold(0_i64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        let sum = sum.checked_mul(10)?;
        if negative { sum.checked_sub(digit) } else { sum.checked_add(digit) }
    })
}

/// An exact decimal number, still in the digits of its text.
struct Decimal<'a> {
    negative: bool,
    /// Digits, perhaps with thousands separators.
    whole: &'a [u8],
    whole_digits: usize,
    fraction: &'a [u8],
}

impl<'a> Decimal<'a> {
    fn read(text: &'a [u8]) -> Option<Self> {
        let (text, minus) = strip(text, b'-');
        let (text, dollar) = strip(text, b'$');
        let (text, minus_behind) = if dollar { strip(text, b'-') } else { (text, false) };
        if minus && minus_behind {
            return None;
        }
        let (whole, fraction) = match memchr::memchr(b'.', text) {
            Some(point) => (&text[..point], &text[point + 1..]),
            None => (text, &[][..]),
        };
        let fraction_is_good = if whole.len() == text.len() {
            true
        } else {
            !fraction.is_empty() && fraction.iter().all(u8::is_ascii_digit)
        };
        let whole_digits = whole_digits(whole)?;
        let any_digit = whole_digits + fraction.len() > 0;
        let short = whole_digits + fraction.len() <= MAX_DIGITS;
        (fraction_is_good && any_digit && short).then_some(Self {
            negative: minus || minus_behind,
            whole,
            whole_digits,
            fraction: without_padding(fraction),
        })
    }

    /// Appends a `numeric`: groups of four digits around the point.
    fn put(&self, out: &mut Vec<u8>) {
        const HEADER: usize = 8;
        let length_at = out.len();
        out.extend_from_slice(&[0; 4 + HEADER]);
        let groups_at = out.len();

        let mut weight = -1;
        let mut missing = self.whole_digits;
        let mut group = 0_u16;
        for digit in self.whole.iter().filter(|byte| **byte != b',') {
            group = group * 10 + u16::from(digit - b'0');
            missing -= 1;
            if missing.is_multiple_of(4) {
                if group != 0 || out.len() > groups_at {
                    out.extend_from_slice(&group.to_be_bytes());
                    weight += 1;
                }
                group = 0;
            }
        }
        for four in self.fraction.chunks(4) {
            let group =
                (0..4).fold(0_u16, |sum, place| sum * 10 + four.get(place).map_or(0, |digit| u16::from(digit - b'0')));
            if group == 0 && out.len() == groups_at {
                weight -= 1;
            } else {
                out.extend_from_slice(&group.to_be_bytes());
            }
        }
        while out.len() > groups_at && out.ends_with(&[0, 0]) {
            out.truncate(out.len() - 2);
        }

        let groups = (out.len() - groups_at) / 2;
        let is_zero = groups == 0;
        let length = i32::try_from(HEADER + groups * 2).expect("a number has few digits");
        let sign: u16 = if self.negative && !is_zero { 0x4000 } else { 0 };
        let weight: i16 = if is_zero { 0 } else { weight };
        let header = &mut out[length_at..groups_at];
        header[0..4].copy_from_slice(&length.to_be_bytes());
        header[4..6].copy_from_slice(&u16::try_from(groups).expect("a number has few digits").to_be_bytes());
        header[6..8].copy_from_slice(&weight.to_be_bytes());
        header[8..10].copy_from_slice(&sign.to_be_bytes());
        header[10..12]
            .copy_from_slice(&u16::try_from(self.fraction.len()).expect("a number has few digits").to_be_bytes());
    }
}

/// impact.com pads decimals with zeros to 18 places (impact-api §2.9). What stands beyond the cents says nothing and makes
/// every sum unreadable.
fn without_padding(fraction: &[u8]) -> &[u8] {
    let last = fraction.iter().rposition(|digit| *digit != b'0').map_or(0, |at| at + 1);
    &fraction[..last.max(fraction.len().min(2))]
}

fn strip(text: &[u8], sign: u8) -> (&[u8], bool) {
    match text.split_first() {
        Some((first, rest)) if *first == sign => (rest, true),
        _ => (text, false),
    }
}

/// How many digits stand before the point: `1234` or `1,234`, without leading zeros but for `0` itself.
fn whole_digits(whole: &[u8]) -> Option<usize> {
    if whole.len() > 1 && whole[0] == b'0' {
        return None;
    }
    if whole.iter().all(u8::is_ascii_digit) {
        return Some(whole.len());
    }
    let mut groups = whole.split(|byte| *byte == b',');
    let first = groups.next()?;
    let mut count = first.len();
    if !(1..=3).contains(&count) || !first.iter().all(u8::is_ascii_digit) {
        return None;
    }
    for group in groups {
        if group.len() != 3 || !group.iter().all(u8::is_ascii_digit) {
            return None;
        }
        count += 3;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ColumnKind::{Bigint, Boolean, Date, Numeric, Text, Timestamptz};

    const FROM_DATA: Format = Format { kind: None, takes_months: false };

    #[test]
    fn values_have_the_narrowest_type_that_gives_them_back() {
        for (text, kind) in [
            ("true", Boolean),
            ("FALSE", Boolean),
            ("0", Bigint),
            ("-17", Bigint),
            ("9223372036854775807", Bigint),
            ("-9223372036854775808", Bigint),
            ("9223372036854775808", Numeric),
            ("5.000000000000000000", Numeric),
            ("-0.5", Numeric),
            (".5", Numeric),
            ("1,234", Numeric),
            ("$1,234.50", Numeric),
            ("-$5.00", Numeric),
            ("$-5", Numeric),
            ("2026-05-29", Date),
            ("May 29, 2026", Date),
            ("2026-05-29T04:33:50-05:00", Timestamptz),
            ("007", Text),
            ("00.5", Text),
            ("+5", Text),
            ("1e5", Text),
            ("5.", Text),
            (".", Text),
            ("-", Text),
            ("$", Text),
            ("12,34", Text),
            ("1,2345", Text),
            (",123", Text),
            ("1.2.3", Text),
            ("--5", Text),
            (" 5", Text),
            ("NaN", Text),
            ("2026-05", Text),
            ("May 2026", Text),
        ] {
            assert_eq!(FROM_DATA.narrowest(text.as_bytes(), Tz::UTC), kind, "{text}");
        }
    }

    #[test]
    fn months_are_days_only_where_that_is_configured() {
        let configured = Format { kind: Some(Date), takes_months: true };
        assert!(configured.takes(b"2026-05", Tz::UTC));
        assert!(!Format { takes_months: false, ..configured }.takes(b"2026-05", Tz::UTC));
    }

    #[test]
    fn missing_words_are_null_but_in_text() {
        for word in ["n/a", "NA", "null"] {
            let mut out = Vec::new();
            assert_eq!(
                Format { kind: Some(Bigint), takes_months: false }.put(&mut out, word.as_bytes(), Tz::UTC),
                Ok(true)
            );
            assert_eq!(
                Format { kind: Some(Text), takes_months: false }.put(&mut out, word.as_bytes(), Tz::UTC),
                Ok(false)
            );
        }
    }

    #[test]
    fn joining_keeps_the_narrowest() {
        assert_eq!(join(Bigint, Numeric), Numeric);
        assert_eq!(join(Date, Timestamptz), Timestamptz);
        assert_eq!(join(Boolean, Bigint), Text);
        assert_eq!(join(Numeric, Date), Text);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_too_strange(text in "[-+$0-9.,:TZ/ aMny]{0,30}", raw: Vec<u8>) {
            for text in [text.as_bytes(), &raw] {
                for kind in ColumnKind::ALL {
                    let format = Format { kind: Some(kind), takes_months: true };
                    let mut out = Vec::new();
                    let put = format.put(&mut out, text, chrono_tz::America::New_York);
                    assert_eq!(put.is_ok(), format.takes(text, chrono_tz::America::New_York));
                }
            }
        }
    }
}
