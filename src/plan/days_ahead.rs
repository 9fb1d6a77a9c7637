//! The next days as they will go, one after the other: what each costs, and when backfills end.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};

use super::forecast::{Played, play};
use super::{AccountState, BackfillEnd};
use crate::export::{Bucket, ExportName};

const DAY: TimeDelta = TimeDelta::hours(24);

/// What some days will bring.
#[derive(Debug, Default)]
pub struct DaysAhead {
    /// The days, in order.
    pub days: Vec<DayAhead>,
    /// When each backfill ends.
    pub backfills: Vec<BackfillEnd>,
}

/// The 24 hours from a moment on.
#[derive(Debug)]
pub struct DayAhead {
    /// The moment.
    pub from: DateTime<Utc>,
    /// What the calls cost of each bucket that pays for any.
    pub cost: BTreeMap<Bucket, u32>,
    /// The same by export.
    pub by_export: BTreeMap<ExportName, u32>,
    /// Complete days that are read late.
    pub late: usize,
}

/// Goes through some days from `now` on, each like a forecast from where the one before ended. The ticks of the first day
/// come again on each of the others.
pub fn days_ahead(mut state: AccountState, now: DateTime<Utc>, days: u16) -> DaysAhead {
    let mut known = HashMap::new();
    let mut ahead = DaysAhead::default();
    let mut backfills: BTreeMap<ExportName, BackfillEnd> = BTreeMap::new();
    let mut from = now;
    for _ in 0..days {
        let Played { forecast, state: then, ordered } = play(state, Vec::new(), &known, from, DAY);
        let mut day = DayAhead { from, cost: BTreeMap::new(), by_export: BTreeMap::new(), late: forecast.late.len() };
        for call in &forecast.calls {
            *day.cost.entry(call.bucket).or_default() += call.cost;
            *day.by_export.entry(call.export.clone()).or_default() += call.cost;
        }
        ahead.days.push(day);
        // A backfill that is not there any more ended on the last day that had it.
        backfills.extend(forecast.backfills.into_iter().map(|end| (end.export.clone(), end)));
        known.extend(ordered.into_iter().map(|request| (request, String::new())));
        state = then;
        from += DAY;
        for feed in &mut state.feeds {
            feed.feed.ticks = feed.feed.ticks.iter().map(|tick| *tick + DAY).collect();
        }
        for budget in state.budgets.values_mut() {
            let window = budget.window;
            budget.charges.retain(|spent| spent.at + window > from);
        }
    }
    ahead.backfills = backfills.into_values().collect();
    ahead
}
