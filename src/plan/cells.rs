//! Which cells of a feed are due, and when a cell is to be read again.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;

use super::{FeedState, RETRY_FAILED_AFTER, earliest, is_complete};
use crate::clock::{day_end, day_in};
use crate::export::{Reason, RefreshRule, Window};

/// A day whose reads keep bringing the same rows is read up to this many times less often than its rule says.
const MOST_STRETCH: u32 = 4;

/// When rows ordered at `as_of` are to be read again; `None` where the cell is settled.
///
/// A day that was not over is read again by the youngest rule, and at the latest once it is over. A complete day
/// follows the first rule that still holds at the time of its next read; past the last rule it is settled. Each of the
/// last `unchanged_reads` reads that found nothing new makes the pause longer, but never past the age at which the next
/// rule begins.
pub fn next_refresh_at(
    time_zone: Tz,
    day: NaiveDate,
    as_of: DateTime<Utc>,
    rules: &[RefreshRule],
    unchanged_reads: u32,
) -> Option<DateTime<Utc>> {
    let end = day_end(time_zone, day);
    if as_of < end {
        let by_rule = rules.first().map(|rule| as_of + delta(rule.every));
        return Some(by_rule.map_or(end, |at| at.min(end)));
    }
    rules.iter().find_map(|rule| {
        let at = as_of + delta(rule.every);
        let stretched = as_of + delta(rule.every.saturating_mul((1 + unchanged_reads).min(MOST_STRETCH)));
        let next_rule_at = end + delta(rule.age);
        (at <= next_rule_at).then_some(stretched.min(next_rule_at))
    })
}

/// How new a result for `window` must be to be worth loading when it is asked for at `now`: what the rules would not
/// read again yet, and never from before a day was over.
pub fn wanted_after(window: Window, time_zone: Tz, rules: &[RefreshRule], now: DateTime<Utc>) -> DateTime<Utc> {
    window
        .days()
        .map(|day| {
            let end = day_end(time_zone, day);
            let age = now - end;
            let by_rule = rules.iter().find(|rule| age <= delta(rule.age)).map(|rule| now - delta(rule.every));
            let settled_at = rules.last().map_or(end, |rule| end + delta(rule.age));
            if end > now {
                // Not over yet: nothing older than the rule's pace, and today's rows at least.
                by_rule.unwrap_or(now)
            } else {
                by_rule.unwrap_or(settled_at).max(end)
            }
        })
        .max()
        .unwrap_or(now)
}

/// The due cells of a feed.
pub(super) struct Due {
    /// The days, each with its most urgent reason.
    pub days: BTreeMap<NaiveDate, Reason>,
    /// When more become due without a tick.
    pub next_change_at: Option<DateTime<Utc>>,
}

/// Finds the due cells: by the last tick, except what people asked for, which is due at once.
pub(super) fn due(state: &FeedState, now: DateTime<Utc>) -> Due {
    let feed = &state.feed;
    let mut due = Due { days: BTreeMap::new(), next_change_at: None };
    let Some(last) = feed.last_day(now) else { return due };
    for day in feed.since.iter_days().take_while(|day| *day <= last) {
        if state.open.contains(&day) {
            continue;
        }
        let cell = state.cells.get(&day);
        let Some(reason) = reason(state, day, now) else { continue };
        if let Some(retry_at) = cell.and_then(|cell| cell.failed_at).map(|at| at + RETRY_FAILED_AFTER)
            && retry_at > now
            && reason != Reason::Manual
        {
            due.next_change_at = earliest(due.next_change_at, Some(retry_at));
            continue;
        }
        due.days.insert(day, reason);
    }
    due
}

fn reason(state: &FeedState, day: NaiveDate, now: DateTime<Utc>) -> Option<Reason> {
    let feed = &state.feed;
    let cell = state.cells.get(&day);
    let as_of = cell.and_then(|cell| cell.as_of);
    let is_asked_for = state.manual.iter().any(|manual| {
        manual.window.contains(day)
            && as_of.is_none_or(|as_of| manual.rereads && as_of < manual.requested_at)
            // A failure after the request is its answer, until the cell is due again.
            && cell.and_then(|cell| cell.failed_at).is_none_or(|failed_at| {
                failed_at < manual.requested_at || failed_at + RETRY_FAILED_AFTER <= now
            })
    });
    if is_asked_for {
        return Some(Reason::Manual);
    }
    let tick_at = state.tick_at?;
    if feed.last_day(tick_at).is_none_or(|last| day > last) {
        return None; // a day that began after the last tick
    }
    let newest_complete = day_in(feed.time_zone, tick_at).pred_opt();
    let is_newest = newest_complete.is_none_or(|newest| day >= newest);
    let Some(as_of) = as_of else {
        return Some(if is_newest { Reason::Fresh } else { Reason::Backfill });
    };
    if !is_complete(feed.time_zone, day, as_of) && tick_at >= day_end(feed.time_zone, day) {
        return Some(Reason::Fresh);
    }
    let is_due = cell.and_then(|cell| cell.next_refresh_at).is_some_and(|at| at - slack(at - as_of) <= tick_at);
    is_due.then_some(if is_complete(feed.time_zone, day, as_of) { Reason::Refresh } else { Reason::Fresh })
}

/// An order goes out a little after its tick. Without some slack a day that is to be read again at every tick would just
/// miss the next one, and be read at every second.
fn slack(pause: TimeDelta) -> TimeDelta {
    (pause / 10).clamp(TimeDelta::zero(), TimeDelta::minutes(15))
}

fn delta(duration: std::time::Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
