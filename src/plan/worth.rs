//! What is lost by waiting, as a number: which of the windows goes first.

use chrono::{DateTime, NaiveDate, Utc};

use super::FeedState;
use super::cells::{Due, DueDay};
use super::change::in_days;
use crate::clock::{day_end, day_in, day_start};
use crate::export::{Reason, Window};

/// How often the rows of a day that is not over change, a day.
const CHANGES_OF_TODAY: f64 = 24.0;

/// A feed whose promise has been broken for as long again counts as much as so many days of right rows: freshness is a
/// floor, and feeds take turns.
const LATE: f64 = 50.0;

/// The worth that has the rank in the middle: a promise broken for ten times as long again.
const HALF_WAY: f64 = 500.0;

const CLASS: i32 = 100_000;
/// A rank stays below the next class.
const LAST_RANK: i32 = CLASS - 1;

/// The place of a window in the queue, lower first: its class, and within it by what waiting costs.
pub(super) fn priority(state: &FeedState, due: &Due, window: Window, reason: Reason, now: DateTime<Utc>) -> i32 {
    // A refresh that reaches into the backfill is worth no more for the days that it is the first to read.
    let is_known = |day: &NaiveDate| state.cells.binary_search_by_key(day, |(day, _)| *day).is_ok();
    let counts = |day: &NaiveDate| reason != Reason::Refresh || is_known(day);
    let gain = || window.days().filter(counts).map(|day| gain(state, day, now)).sum::<f64>();
    let lateness = || due.within(window).iter().map(|one| lateness(state, due, one, now)).fold(0.0, f64::max);
    let rank = match reason {
        Reason::Fresh => worth_rank(gain() + LATE * lateness()),
        Reason::Refresh => worth_rank(gain()),
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

/// More worth goes first, however much it is: windows of the same rank go by name, and the last name would never have its turn.
fn worth_rank(worth: f64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "between 0 and the last rank")]
    let rank = (f64::from(LAST_RANK) * HALF_WAY / (HALF_WAY + worth.max(0.0))) as i32;
    rank
}

/// How long the promise to the feed has been broken, in promises.
fn lateness(state: &FeedState, due: &Due, one: &DueDay, now: DateTime<Utc>) -> f64 {
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
    ((now - since).as_seconds_f64() / promise - 1.0).max(0.0)
}

/// When the first complete day that is not read yet was over; in the future where none is missing.
pub(super) fn behind_since(state: &FeedState, due: &Due) -> DateTime<Utc> {
    let first_missing = due.newest_read.and_then(|day| day.succ_opt()).unwrap_or(state.feed.since);
    day_end(state.feed.time_zone, first_missing.max(state.feed.since))
}

/// What a read of a day gains: how likely its rows are others by now, times the days for which they will be right.
/// Where nothing has changed since the last read, or nothing will any more, it is nothing.
fn gain(state: &FeedState, day: NaiveDate, now: DateTime<Utc>) -> f64 {
    let end = day_end(state.feed.time_zone, day);
    let age = in_days(now - end);
    let cell = state.cells.binary_search_by_key(&day, |(day, _)| *day).ok().map(|at| state.cells[at].1);
    match cell.and_then(|cell| Some((cell.as_of?, cell.next_refresh_at))) {
        Some((_, None)) => 0.0, // settled
        Some((as_of, Some(_))) if age > 0.0 => {
            let before_end = CHANGES_OF_TODAY * in_days(end - as_of).max(0.0);
            let unchanged = 1.0 - state.rates.chance_of_change(in_days(as_of - end).max(0.0), age);
            (1.0 - unchanged * (-before_end).exp()) * state.rates.days_right(age)
        }
        Some((as_of, Some(_))) => {
            let changes = CHANGES_OF_TODAY * in_days(now - as_of).max(0.0);
            (1.0 - (1.0 + changes) * (-changes).exp()) / CHANGES_OF_TODAY
        }
        None if age > 0.0 => age.min(1.0 / state.rates.per_day(age)),
        None => in_days(now - day_start(state.feed.time_zone, day)).min(1.0 / CHANGES_OF_TODAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_for_years_still_goes_before_what_is_a_day_less_late() {
        // Each day adds its part of a promise of 26 hours.
        let ranks: Vec<i32> = (0..1000).map(|days| worth_rank(LATE * f64::from(days) * 24.0 / 26.0)).collect();
        assert!(ranks.is_sorted_by(|sooner, later| sooner > later), "{ranks:?}");
        assert_eq!(ranks[0], LAST_RANK);
        assert!(ranks.iter().chain(&[worth_rank(f64::MAX)]).all(|rank| (0..CLASS).contains(rank)));
    }
}
