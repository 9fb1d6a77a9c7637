//! What is lost by waiting, as a number: which of the windows goes first.

use chrono::{DateTime, Utc};

use super::FeedState;
use super::cells::{Due, DueDay};
use crate::clock::{day_end, day_in, day_start};
use crate::export::{Reason, Window};

const CLASS: i32 = 100_000;
/// A rank stays below the next class.
const LAST_RANK: i32 = CLASS - 1;

/// The place of a window in the queue, lower first: its class, and within it by what waiting costs.
pub(super) fn priority(state: &FeedState, due: &Due, window: Window, reason: Reason, now: DateTime<Utc>) -> i32 {
    let days = || due.within(window);
    let rank = match reason {
        Reason::Fresh => worth_rank(days().iter().map(|one| staleness(state, due, one, now)).fold(0.0, f64::max)),
        Reason::Refresh => worth_rank(days().iter().map(|one| change(state, one, now)).sum()),
        Reason::Manual | Reason::Backfill => age_rank(state, window, now),
    };
    i32::from(reason as u8) * CLASS + rank
}

/// The newest first; of the same age the widest, for it costs the same.
fn age_rank(state: &FeedState, window: Window, now: DateTime<Utc>) -> i32 {
    let today = day_in(state.feed.time_zone, now);
    let age = i32::try_from((today - window.to()).num_days().clamp(0, 9_998)).expect("clamped");
    let narrowness = 9 - i32::try_from(window.len_days() / 4).unwrap_or(9).min(9);
    age * 10 + narrowness
}

/// More worth goes first.
fn worth_rank(worth: f64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "clamped")]
    let points = (worth * 1_000.0).clamp(0.0, f64::from(LAST_RANK)) as i32;
    LAST_RANK - points
}

/// How long the feed has been behind, relative to its promise: feeds that were left out yesterday go before those that were
/// read.
fn staleness(state: &FeedState, due: &Due, one: &DueDay, now: DateTime<Utc>) -> f64 {
    if one.reason != Reason::Fresh {
        return 0.0;
    }
    let feed = &state.feed;
    let since = if day_end(feed.time_zone, one.day) <= now {
        behind_since(state, due)
    } else {
        one.as_of.unwrap_or_else(|| day_start(feed.time_zone, one.day))
    };
    let promise = feed.freshness.as_secs_f64().max(1.0);
    (now - since).as_seconds_f64() / promise
}

/// When the first complete day that is not read yet was over; in the future where none is missing.
pub(super) fn behind_since(state: &FeedState, due: &Due) -> DateTime<Utc> {
    let first_missing = due.newest_read.and_then(|day| day.succ_opt()).unwrap_or(state.feed.since);
    day_end(state.feed.time_zone, first_missing.max(state.feed.since))
}

/// How likely it is that the day's rows have changed.
fn change(state: &FeedState, one: &DueDay, now: DateTime<Utc>) -> f64 {
    let age = now - day_end(state.feed.time_zone, one.day);
    one.as_of.map_or(0.0, |as_of| state.rates.chance(age, now - as_of))
}
