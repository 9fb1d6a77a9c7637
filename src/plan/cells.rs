//! Which cells of a feed are due, and when a cell is to be read again.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;

use super::{Cell, FeedState, RETRY_FAILED_AFTER, delta, earliest, is_complete};
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

/// A due day.
#[derive(Debug, Clone, Copy)]
pub(super) struct DueDay {
    pub day: NaiveDate,
    /// Its most urgent reason.
    pub reason: Reason,
    /// How new its rows are; `None` where it was never read.
    pub as_of: Option<DateTime<Utc>>,
}

/// What one walk along the cells of a feed finds.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// The due days, in order.
    pub days: Vec<DueDay>,
    /// Days that will be due soon: past half of the pause to their next read, in order.
    pub soon: Vec<NaiveDate>,
    /// Complete days that come due in the next 24 hours, and when.
    pub coming: Vec<(DateTime<Utc>, NaiveDate)>,
    /// The newest day that was read after it was over.
    pub newest_read: Option<NaiveDate>,
    /// When more become due without a tick.
    pub next_change_at: Option<DateTime<Utc>>,
}

impl Due {
    /// The due days of a window.
    pub fn within(&self, window: Window) -> &[DueDay] {
        let from = self.days.partition_point(|one| one.day < window.from());
        let to = self.days.partition_point(|one| one.day <= window.to());
        &self.days[from..to]
    }
}

/// Finds the due cells: by the last tick, except what people asked for, which is due at once. Each cell is looked at once.
pub(super) fn due(state: &FeedState, now: DateTime<Utc>) -> Due {
    let feed = &state.feed;
    let mut due = Due::default();
    let Some(last) = feed.last_day(now) else { return due };
    let tick = state.tick_at.and_then(|at| {
        let newest_complete = day_in(feed.time_zone, at).pred_opt()?;
        Some(Tick { at, last: feed.last_day(at)?, newest_complete })
    });
    let mut cells = state.cells.iter().peekable();
    let mut open = state.open.iter().peekable();
    for day in feed.since.iter_days().take_while(|day| *day <= last) {
        while cells.next_if(|(at, _)| *at < day).is_some() {}
        while open.next_if(|at| **at < day).is_some() {}
        let cell = cells.next_if(|(at, _)| *at == day).map(|(_, cell)| cell);
        let as_of = cell.and_then(|cell| cell.as_of);
        let is_complete = as_of.is_some_and(|as_of| is_complete(feed.time_zone, day, as_of));
        if is_complete {
            due.newest_read = Some(day);
        }
        if open.next_if(|at| **at == day).is_some() {
            continue;
        }
        let Some(reason) = reason(state, day, cell, is_complete, tick, now) else {
            if let Some((as_of, at)) = as_of.zip(cell.and_then(|cell| cell.next_refresh_at)) {
                if now >= as_of + (at - as_of) / 2 {
                    due.soon.push(day);
                }
                if is_complete && at <= now + TimeDelta::days(1) {
                    due.coming.push((at - slack(at - as_of), day));
                }
            }
            continue;
        };
        if let Some(retry_at) = cell.and_then(|cell| cell.failed_at).map(|at| at + RETRY_FAILED_AFTER)
            && retry_at > now
            && reason != Reason::Manual
        {
            due.next_change_at = earliest(due.next_change_at, Some(retry_at));
            continue;
        }
        due.days.push(DueDay { day, reason, as_of });
    }
    due
}

/// What the last tick saw.
#[derive(Debug, Clone, Copy)]
struct Tick {
    at: DateTime<Utc>,
    last: NaiveDate,
    newest_complete: NaiveDate,
}

fn reason(
    state: &FeedState,
    day: NaiveDate,
    cell: Option<&Cell>,
    is_complete: bool,
    tick: Option<Tick>,
    now: DateTime<Utc>,
) -> Option<Reason> {
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
    let tick = tick?;
    if day > tick.last {
        return None; // a day that began after the last tick
    }
    let Some(as_of) = as_of else {
        return Some(if day >= tick.newest_complete { Reason::Fresh } else { Reason::Backfill });
    };
    if !is_complete && tick.at >= day_end(state.feed.time_zone, day) {
        return Some(Reason::Fresh);
    }
    let is_due = cell.and_then(|cell| cell.next_refresh_at).is_some_and(|at| at - slack(at - as_of) <= tick.at);
    is_due.then_some(if is_complete { Reason::Refresh } else { Reason::Fresh })
}

/// An order goes out a little after its tick. Without some slack a day that is to be read again at every tick would just
/// miss the next one, and be read at every second.
pub(super) fn slack(pause: TimeDelta) -> TimeDelta {
    (pause / 10).clamp(TimeDelta::zero(), TimeDelta::minutes(15))
}
