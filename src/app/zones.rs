//! What impact.com calls time zones: display texts without IANA names, to be mapped by their words, never by their
//! offset (impact-api §2.10).

use chrono::{DateTime, Datelike, Offset, TimeZone, Utc};
use chrono_tz::Tz;

/// Words of display texts, and a zone that keeps their time.
const WORDS: &[(&str, Tz)] = &[
    ("Eastern Time (US", chrono_tz::America::New_York),
    ("Central Time (US", chrono_tz::America::Chicago),
    ("Mountain Time (US", chrono_tz::America::Denver),
    ("Pacific Time (US", chrono_tz::America::Los_Angeles),
    ("Arizona", chrono_tz::America::Phoenix),
    ("Alaska", chrono_tz::America::Anchorage),
    ("Hawaii", chrono_tz::Pacific::Honolulu),
    ("Atlantic Time (Canada", chrono_tz::America::Halifax),
    ("Brasilia", chrono_tz::America::Sao_Paulo),
    ("London", chrono_tz::Europe::London),
    ("Greenwich Mean Time", chrono_tz::Europe::London),
    ("Amsterdam", chrono_tz::Europe::Amsterdam),
    ("Berlin", chrono_tz::Europe::Berlin),
    ("Paris", chrono_tz::Europe::Paris),
    ("Madrid", chrono_tz::Europe::Madrid),
    ("Athens", chrono_tz::Europe::Athens),
    ("Tokyo", chrono_tz::Asia::Tokyo),
    ("Singapore", chrono_tz::Asia::Singapore),
    ("Hong Kong", chrono_tz::Asia::Hong_Kong),
    ("Sydney", chrono_tz::Australia::Sydney),
    ("Coordinated Universal Time", chrono_tz::UTC),
];

/// The zone that a display text means; `None` where we do not know the text.
pub(super) fn meant(text: &str) -> Option<Tz> {
    let named = |word: &str| (word.contains('/') || word == "UTC").then(|| word.parse().ok())?;
    let by_name = text.trim().parse().ok().or_else(|| text.split_whitespace().find_map(named));
    by_name.or_else(|| WORDS.iter().find(|(words, _)| text.contains(words)).map(|(_, zone)| *zone))
}

/// Whether a display text means a zone that keeps the same time as `zone`; `None` where we do not know the text.
pub(super) fn means(text: &str, zone: Tz, now: DateTime<Utc>) -> Option<bool> {
    if text.contains(zone.name()) {
        return Some(true);
    }
    Some(keep_the_same_time(meant(text)?, zone, now))
}

/// Compares the two over the twelve months from `now` on.
fn keep_the_same_time(a: Tz, b: Tz, now: DateTime<Utc>) -> bool {
    let year = now.year();
    (1..=12).all(|month| {
        let Some(at) = Utc.with_ymd_and_hms(year, month, 15, 12, 0, 0).single() else { return true };
        at.with_timezone(&a).offset().fix() == at.with_timezone(&b).offset().fix()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-06-01T00:00:00Z".parse().expect("a time")
    }

    #[test]
    fn a_text_is_understood_by_its_words_not_its_offset() {
        let pacific = "(GMT -08:00) Pacific Time (US & Canada); Tijuana";
        assert_eq!(means(pacific, chrono_tz::America::Los_Angeles, now()), Some(true));
        assert_eq!(means(pacific, chrono_tz::America::Vancouver, now()), Some(true));
        assert_eq!(means(pacific, chrono_tz::America::New_York, now()), Some(false));
        // The same offset in winter, another time in summer.
        assert_eq!(means("(GMT -07:00) Arizona", chrono_tz::America::Denver, now()), Some(false));
    }

    #[test]
    fn a_zone_is_found_by_its_name_or_by_its_words() {
        assert_eq!(meant("(GMT -05:00) Eastern Time (US & Canada)"), Some(chrono_tz::America::New_York));
        assert_eq!(meant("(GMT) Asia/Kathmandu"), Some(chrono_tz::Asia::Kathmandu));
        assert_eq!(meant("Europe/Berlin"), Some(chrono_tz::Europe::Berlin));
        assert_eq!(meant("(GMT +00:00) UTC"), Some(chrono_tz::UTC));
        assert_eq!(meant("(GMT +05:45) Kathmandu"), None);
    }

    #[test]
    fn an_unknown_text_is_nobodys_zone() {
        assert_eq!(means("(GMT +05:45) Kathmandu", chrono_tz::UTC, now()), None);
        assert_eq!(means("America/New_York", chrono_tz::America::New_York, now()), Some(true));
    }
}
