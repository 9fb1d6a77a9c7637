//! Windows that impact.com refuses or cuts: whether shorter ones are worth a try. Pure.
//!
//! How long a window may be is not published (impact-api §9, 29 and 30), so it is learned: a refused window is tried again in
//! halves, and a limit is kept for good once a part of what was refused has loaded. Where a single day is refused in the
//! same words, they were not about the length.

use chrono::{DateTime, TimeDelta, Utc};

/// For so long words that were not about the length are not put to the test again.
const DISPROVED_FOR: TimeDelta = TimeDelta::days(1);
/// The smallest round number of rows that looks like a cap nobody told us of.
const LEAST_ROUND: u64 = 10_000;

/// What is known of how long a window of an export on an account may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowLimit {
    /// The longest window; `None`: a single day was refused in the words of `why`, so that they are not about the length.
    pub max_days: Option<u32>,
    /// What a longer window was answered with.
    pub why: String,
    /// When it was proved or disproved; `None`: on trial.
    pub learned_at: Option<DateTime<Utc>>,
}

/// What a window leads to that was refused or cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRefusal {
    /// Ask for its days in windows of at most so many days.
    Narrow {
        /// How many.
        max_days: u32,
    },
    /// It fails: its length was not the reason, as far as anybody can tell.
    Fail,
    /// It fails, and what was to be asked for only as a part of a longer window fails with it: a single day is refused too.
    FailAll,
}

/// Decides after a window of `len_days` was refused in these words.
pub fn after_refusal(len_days: u32, limit: Option<&WindowLimit>, words: &str, now: DateTime<Utc>) -> AfterRefusal {
    let same_words = |limit: &WindowLimit| essence(&limit.why) == essence(words);
    match limit {
        Some(WindowLimit { max_days: Some(_), learned_at: None, .. }) if len_days == 1 => {
            // Words may differ by an id or the name of a month; what is at its shortest cannot be tried shorter.
            let is_shortest = limit.is_some_and(|limit| limit.max_days == Some(1));
            if is_shortest || limit.is_some_and(same_words) { AfterRefusal::FailAll } else { AfterRefusal::Fail }
        }
        _ if len_days <= 1 => AfterRefusal::Fail,
        Some(WindowLimit { max_days: None, learned_at: Some(at), .. })
            if now - *at < DISPROVED_FOR && limit.is_some_and(same_words) =>
        {
            AfterRefusal::Fail
        }
        // It was ordered before the limit was learned.
        Some(WindowLimit { max_days: Some(known), .. }) if *known < len_days => {
            AfterRefusal::Narrow { max_days: *known }
        }
        Some(_) | None => AfterRefusal::Narrow { max_days: len_days.div_ceil(2) },
    }
}

/// Words without numbers and dates, which differ from window to window.
fn essence(words: &str) -> String {
    words.chars().filter(|c| c.is_alphabetic()).flat_map(char::to_lowercase).collect()
}

/// Whether a refusal in these words may be about the length of the window: not where they are about the report or a right.
pub fn may_be_about_length(words: &str) -> bool {
    let words = words.to_lowercase();
    !["not permitted", "permission", "access denied", "unknown report", "invalid report", "subaid", "program"]
        .iter()
        .any(|other| words.contains(other))
}

/// The most rows of a spreadsheet, and those less its header: caps that programs take over.
const SHEETS: [u64; 4] = [65_535, 65_536, 1_048_575, 1_048_576];
/// From here on every multiple of it looks like a cap: one file in so many is such a one by chance.
const EVERY_ROUND: u64 = 100_000;

/// Whether a file of `rows` rows looks cut: as many as the known cap; a round number, 1, 2, 5 or 25 times a power of ten from
/// 10,000 on, or a multiple of 100,000; or as many as a spreadsheet holds.
pub fn is_cut(rows: u64, max_rows: Option<u32>) -> bool {
    let mut leading = rows;
    while leading >= 10 && leading.is_multiple_of(10) {
        leading /= 10;
    }
    max_rows.is_some_and(|max| rows == u64::from(max))
        || (rows >= LEAST_ROUND && [1, 2, 5, 25].contains(&leading))
        || (rows >= EVERY_ROUND && rows.is_multiple_of(EVERY_ROUND))
        || SHEETS.contains(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str = "The date range may not exceed 7 days";

    fn limit(max_days: Option<u32>, learned_hours_ago: Option<i64>) -> WindowLimit {
        let learned_at = learned_hours_ago.map(|hours| now() - TimeDelta::hours(hours));
        WindowLimit { max_days, why: WORDS.to_owned(), learned_at }
    }

    fn now() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(9)
    }

    fn after(len_days: u32, limit: Option<&WindowLimit>) -> AfterRefusal {
        after_refusal(len_days, limit, "The date range may not exceed 31 days.", now())
    }

    #[test]
    fn a_refused_window_is_halved_down_to_a_day() {
        let mut days = 31;
        let mut orders = 0;
        let mut known = None;
        while let AfterRefusal::Narrow { max_days } = after(days, known.as_ref()) {
            (days, orders, known) = (max_days, orders + 1, Some(limit(Some(max_days), None)));
        }
        assert_eq!((days, orders), (1, 5));
    }

    #[test]
    fn a_single_day_disproves_a_limit_on_trial_in_the_same_words_or_where_it_is_the_shortest() {
        assert_eq!(after(1, Some(&limit(Some(1), None))), AfterRefusal::FailAll);
        assert_eq!(after(1, Some(&limit(Some(4), Some(1)))), AfterRefusal::Fail);
        assert_eq!(after(1, None), AfterRefusal::Fail);
        let other_words = |max_days| after_refusal(1, Some(&limit(Some(max_days), None)), "Bad parameter", now());
        assert_eq!(other_words(2), AfterRefusal::Fail);
        assert_eq!(other_words(1), AfterRefusal::FailAll);
    }

    #[test]
    fn what_was_disproved_is_not_tried_again_for_a_day() {
        assert_eq!(after(31, Some(&limit(None, Some(23)))), AfterRefusal::Fail);
        assert_eq!(after(31, Some(&limit(None, Some(25)))), AfterRefusal::Narrow { max_days: 16 });
        let other = after_refusal(31, Some(&limit(None, Some(1))), "Too many rows", now());
        assert_eq!(other, AfterRefusal::Narrow { max_days: 16 });
    }

    #[test]
    fn a_window_from_before_a_limit_does_not_halve_it_again() {
        assert_eq!(after(31, Some(&limit(Some(16), None))), AfterRefusal::Narrow { max_days: 16 });
        assert_eq!(after(16, Some(&limit(Some(16), Some(1)))), AfterRefusal::Narrow { max_days: 8 });
    }

    #[test]
    fn round_numbers_and_known_caps_look_cut() {
        for rows in [10_000, 20_000, 25_000, 50_000, 65_536, 100_000, 300_000, 1_000_000, 1_048_575] {
            assert!(is_cut(rows, None), "{rows}");
        }
        for rows in [0, 1, 100, 1_000, 5_000, 30_000, 12_000, 65_537, 100_001, 130_000, 10_100] {
            assert!(!is_cut(rows, None), "{rows}");
        }
        assert!(is_cut(100, Some(100)) && !is_cut(99, Some(100)));
    }

    #[test]
    fn an_unknown_report_is_no_matter_of_length() {
        assert!(!may_be_about_length("Not permitted to run report x"));
        assert!(may_be_about_length(WORDS));
    }
}
