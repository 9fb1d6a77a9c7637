//! What the coming ticks will ask for: backfill leaves room for it, and so do refreshes for fresh days.

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};

use super::cells::{Due, slack};
use super::{Action, BudgetState, FeedState, delta};
use crate::clock::{day_end, day_in};
use crate::export::Reason;

/// How far we look ahead: a call that is made now counts as long.
const AHEAD: TimeDelta = TimeDelta::hours(24);

/// When calls of the higher classes are expected, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Demand {
    /// For fresh days.
    pub fresh: Vec<DateTime<Utc>>,
    /// For refreshes.
    pub refresh: Vec<DateTime<Utc>>,
}

impl Demand {
    /// The demand of several feeds together.
    pub fn sum<'a>(feeds: impl Iterator<Item = &'a Demand>) -> Self {
        let mut sum = Self::default();
        for feed in feeds {
            sum.fresh.extend(&feed.fresh);
            sum.refresh.extend(&feed.refresh);
        }
        sum.fresh.sort_unstable();
        sum.refresh.sort_unstable();
        sum
    }

    /// Re-reads are Replays, so where those cost nothing nobody has to leave room for them.
    pub fn leave_out_what_is_free(&mut self, budget: &BudgetState) {
        if budget.cost(Action::Replay) == 0 {
            self.refresh.clear();
        }
    }

    /// Everything that goes before backfill.
    pub fn above_backfill(&self) -> Vec<DateTime<Utc>> {
        let mut all: Vec<_> = self.fresh.iter().chain(&self.refresh).copied().collect();
        all.sort_unstable();
        all
    }
}

/// What a feed will want at its coming ticks, given that what is due now is called now.
pub(super) fn demand(state: &FeedState, due: &Due, now: DateTime<Utc>) -> Demand {
    if state.paused.is_some() {
        return Demand::default();
    }
    let ticks = coming_ticks(state, now);
    let fresh = fresh(state, due, &ticks, now);
    let refresh = refresh(state, due, &ticks, &fresh);
    Demand { fresh, refresh }
}

/// The ticks of the next 24 hours. The schedule is known for a day from when it was read; the next day is like it.
fn coming_ticks(state: &FeedState, now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let ticks = &state.feed.ticks;
    ticks
        .iter()
        .copied()
        .chain(ticks.iter().map(|at| *at + TimeDelta::days(1)))
        .filter(|at| *at > now && *at <= now + AHEAD)
        .collect()
}

fn fresh(state: &FeedState, due: &Due, ticks: &[DateTime<Utc>], now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let feed = &state.feed;
    let Some(every) = feed.include_today.then(|| feed.rules.first().map(|rule| delta(rule.every))) else {
        return newly_complete(state, due, ticks);
    };
    let seen_day = state.tick_at.map(|at| day_in(feed.time_zone, at));
    let today = seen_day.and_then(|day| state.cells.binary_search_by_key(&day, |(day, _)| *day).ok());
    let is_called_now = due.days.last().is_some_and(|one| one.reason <= Reason::Fresh && Some(one.day) == seen_day);
    let mut next_at = match today.and_then(|index| state.cells[index].1.next_refresh_at) {
        Some(at) if !is_called_now => Some(at),
        Some(_) | None => every.map(|every| now + every),
    };
    let mut calls = Vec::new();
    let mut day_ends_at = seen_day.map(|day| day_end(feed.time_zone, day));
    for tick in ticks {
        if day_ends_at.is_none_or(|end| *tick >= end) {
            let day = day_in(feed.time_zone, *tick);
            day_ends_at = Some(day_end(feed.time_zone, day));
            // The day that is over, and the first look at the one that began.
            let calls_at_once = if feed.max_window_days > 1 || day <= feed.since { 1 } else { 2 };
            calls.extend(std::iter::repeat_n(*tick, calls_at_once));
            next_at = every.map(|every| *tick + every);
        } else if let Some((at, every)) = next_at.zip(every)
            && at - slack(every) <= *tick
        {
            calls.push(*tick);
            next_at = Some(*tick + every);
        }
    }
    calls
}

/// Without today's, there is one call for each day that is over.
fn newly_complete(state: &FeedState, due: &Due, ticks: &[DateTime<Utc>]) -> Vec<DateTime<Utc>> {
    let feed = &state.feed;
    let seen = state.tick_at.and_then(|at| day_in(feed.time_zone, at).pred_opt());
    let mut read = seen.max(due.newest_read);
    let mut day_ends_at = read.map(|day| day_end(feed.time_zone, day + Days::new(1)));
    let mut calls = Vec::new();
    for tick in ticks {
        if day_ends_at.is_none_or(|end| *tick >= end) {
            let today = day_in(feed.time_zone, *tick);
            read = today.pred_opt();
            day_ends_at = Some(day_end(feed.time_zone, today));
            if read.is_some_and(|day| day >= feed.since) {
                calls.push(*tick);
            }
        }
    }
    calls
}

/// Each tick's refreshes, as wide as windows may be; what a fresh call of the same tick reads along is free.
fn refresh(state: &FeedState, due: &Due, ticks: &[DateTime<Utc>], fresh: &[DateTime<Utc>]) -> Vec<DateTime<Utc>> {
    let mut coming: Vec<(DateTime<Utc>, NaiveDate)> = due
        .coming
        .iter()
        .filter_map(|(at, day)| Some((*ticks.get(ticks.partition_point(|tick| tick < at))?, *day)))
        .collect();
    // Newest days first within a tick.
    coming.sort_unstable_by(|a, b| (a.0, b.1).cmp(&(b.0, a.1)));
    let width = Days::new(u64::from(state.feed.max_window_days));
    let mut calls: Vec<DateTime<Utc>> = Vec::new();
    let mut covered: Option<(DateTime<Utc>, NaiveDate)> = None;
    for (tick, day) in coming {
        if covered.is_none_or(|(at, _)| at != tick) && fresh.binary_search(&tick).is_ok() {
            covered = Some((tick, day_in(state.feed.time_zone, tick) - width + Days::new(1)));
        }
        if covered.is_none_or(|(at, from)| at != tick || day < from) {
            calls.push(tick);
            covered = Some((tick, day - width + Days::new(1)));
        }
    }
    calls
}
