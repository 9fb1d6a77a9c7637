//! What the headers of an answer say about quota (impact-api §4.2).

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// Above this, a reset is a Unix time and not a number of seconds (impact-api §4.2).
const EPOCH_FROM: f64 = 1e9;

/// A reset farther away than this is nonsense.
const FARTHEST_RESET_SECONDS: f64 = 31.0 * 86_400.0;

/// A reset given as a time may lie this far in the past and still mean "now".
const CLOCK_SKEW_SECONDS: f64 = 300.0;

/// What impact.com answered, with what its headers said besides.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// The answer itself.
    pub value: T,
    /// The server's clock when it answered, in whole seconds.
    pub server_date: Option<DateTime<Utc>>,
    /// What is left of the quota, as far as the headers say.
    pub limits: Limits,
}

impl<T> Answer<T> {
    /// The same answer with another value.
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { value: change(self.value), server_date: self.server_date, limits: self.limits }
    }
}

/// The rate-limit headers of one answer; whatever is missing or nonsense is `None` (impact-api §4.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// The server's clock when it answered, in whole seconds.
    pub server_date: Option<DateTime<Utc>>,
    /// Calls allowed in the bucket's window.
    pub limit: Option<u32>,
    /// Calls left in the window.
    pub remaining: Option<u32>,
    /// How long until the window starts anew.
    pub reset_after: Option<Duration>,
    /// How long the other side asks us to wait, whatever the window says.
    pub retry_after: Option<Duration>,
    /// Whether the headers name the hour that they count.
    pub is_hourly: bool,
    /// Whether there are headers that make no sense: no number, more left than there is, a reset long past or years away,
    /// two that contradict each other.
    pub is_nonsense: bool,
}

impl Limits {
    /// Reads the headers of all personas; times are counted from the server's clock, else from `now`.
    pub(super) fn read(headers: &HeaderMap, now: DateTime<Utc>) -> Self {
        let server_date = server_date(headers);
        let now = server_date.unwrap_or(now);
        let limits = Counts::read(headers, ["x-ratelimit-limit", "x-ratelimit-limit-hour", "ratelimit-limit"]);
        let remainings =
            Counts::read(headers, ["x-ratelimit-remaining", "x-ratelimit-remaining-hour", "ratelimit-remaining"]);
        let resets = ["x-ratelimit-reset", "x-ratelimit-reset-hour", "ratelimit-reset"];
        let retry_after = text(headers, RETRY_AFTER.as_str()).and_then(|value| reset(value, now));
        let told: Vec<&str> = resets.into_iter().filter_map(|name| text(headers, name)).collect();
        let read: Vec<Duration> = told.iter().filter_map(|value| reset(value, now)).collect();
        let exceeds =
            limits.count.zip(remainings.count).is_some_and(|(limit, remaining)| limit == 0 || remaining > limit);
        let is_sane = !limits.is_nonsense && !remainings.is_nonsense && !exceeds;
        Self {
            server_date,
            limit: limits.count.filter(|_| is_sane),
            remaining: remainings.count.filter(|_| is_sane),
            reset_after: retry_after.or(read.first().copied()),
            retry_after,
            is_hourly: limits.is_hourly || remainings.is_hourly,
            is_nonsense: !is_sane || read.len() < told.len(),
        }
    }
}

/// One count, as several headers may tell it.
struct Counts {
    count: Option<u32>,
    is_hourly: bool,
    is_nonsense: bool,
}

impl Counts {
    fn read(headers: &HeaderMap, names: [&str; 3]) -> Self {
        let told = |name: &&str| headers.get_all(*name).iter().next().is_some();
        let values: Vec<Option<u32>> = names
            .iter()
            .flat_map(|name| headers.get_all(*name))
            .map(|value| value.to_str().ok().and_then(|value| number(first(value))))
            .collect();
        Self {
            count: values.iter().copied().flatten().next(),
            is_hourly: names.iter().find(|name| told(name)).is_some_and(|name| name.ends_with("-hour")),
            is_nonsense: values.iter().any(|value| value.is_none() || *value != values[0]),
        }
    }
}

/// The server's clock, from the `Date` header.
pub(super) fn server_date(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    http_date(text(headers, DATE.as_str())?)
}

/// The value of a header up to its first `,` or `;`, behind which drafts of rate-limit headers put policies. A date's
/// comma stays.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?.trim();
    if value.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return Some(value);
    }
    Some(first(value))
}

fn first(value: &str) -> &str {
    value.split([',', ';']).next().unwrap_or_default().trim()
}

fn number(value: &str) -> Option<u32> {
    value.parse().ok()
}

/// A reset as seconds from now, as a Unix time or as an HTTP date.
fn reset(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
    let seconds_from_now = |epoch: f64| epoch - now.timestamp() as f64;
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
    let seconds = match value.parse::<f64>() {
        Ok(epoch) if epoch > EPOCH_FROM => past_is_now(seconds_from_now(epoch)),
        Ok(delta) => delta,
        Err(_) => past_is_now(seconds_from_now(http_date(value)?.timestamp() as f64)),
    };
    (0.0..=FARTHEST_RESET_SECONDS).contains(&seconds).then(|| Duration::from_secs_f64(seconds.ceil()))
}

fn past_is_now(seconds: f64) -> f64 {
    if (-CLOCK_SKEW_SECONDS..0.0).contains(&seconds) { 0.0 } else { seconds }
}

fn http_date(value: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(value).ok().map(|date| date.with_timezone(&Utc))
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Limits {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        let headers = pairs
            .iter()
            .map(|(name, value)| {
                (HeaderName::try_from(*name).expect("a name"), HeaderValue::try_from(*value).expect("a value"))
            })
            .collect();
        Limits::read(&headers, now)
    }

    #[test]
    fn both_families_of_headers_are_read() {
        let seconds = |n| Some(Duration::from_secs(n));
        let brand = [("X-RateLimit-Limit", "1000"), ("X-RateLimit-Remaining", "7"), ("X-RateLimit-Reset", "90")];
        assert_eq!(
            read(&brand),
            Limits { limit: Some(1000), remaining: Some(7), reset_after: seconds(90), ..Limits::default() }
        );
        let partner = [
            ("X-RateLimit-Limit-hour", "500"),
            ("X-RateLimit-Remaining-hour", "0"),
            ("RateLimit-Reset", "700"),
            ("Retry-After", "42"),
        ];
        assert_eq!(
            read(&partner),
            Limits {
                limit: Some(500),
                remaining: Some(0),
                reset_after: seconds(42),
                retry_after: seconds(42),
                is_hourly: true,
                ..Limits::default()
            }
        );
    }

    #[test]
    fn a_reset_is_a_delta_a_unix_time_or_a_date_and_nonsense_is_nothing() {
        for (value, seconds) in [
            ("0", Some(0)),
            ("12.2", Some(13)),
            ("700, 700;w=3600", Some(700)),
            ("1800000060", Some(60)),
            ("1799999990", Some(0)),
            ("1487332519", None),
            ("-5", None),
            ("soon", None),
            ("", None),
            ("NaN", None),
            ("inf", None),
            ("99999999", None),
            ("1800000000000", None),
            ("Fri, 15 Jan 2027 08:01:00 GMT", Some(60)),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(read(&[("x-ratelimit-reset", value)]).reset_after, expected, "reset {value:?}");
            assert_eq!(read(&[("retry-after", value)]).reset_after, expected, "retry-after {value:?}");
        }
    }

    #[test]
    fn the_servers_clock_is_believed_before_ours() {
        let limits = read(&[("date", "Fri, 15 Jan 2027 08:00:30 GMT"), ("x-ratelimit-reset", "1800000060")]);
        assert_eq!(limits.reset_after, Some(Duration::from_secs(30)));
    }

    #[test]
    fn nonsense_counts_are_nothing_and_told_of() {
        let nonsense = Limits { is_nonsense: true, ..Limits::default() };
        for value in ["", "-1", "many", "1e3", "99999999999", "0"] {
            let told = read(&[("x-ratelimit-limit", value), ("x-ratelimit-remaining", "0")]);
            assert_eq!(told, nonsense, "{value:?}");
        }
        let too_many = [("x-ratelimit-limit", "10"), ("x-ratelimit-remaining", "11")];
        let contradiction = [("x-ratelimit-limit", "10"), ("x-ratelimit-limit-hour", "11")];
        assert_eq!((read(&too_many), read(&contradiction)), (nonsense, nonsense));
        for reset in ["1487332519", "4085000000", "soon"] {
            assert!(read(&[("x-ratelimit-reset", reset)]).is_nonsense, "{reset}");
        }
        assert_eq!(read(&[]), Limits::default());
    }
}
