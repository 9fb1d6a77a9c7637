//! The two halves of a plan: what is wanted, most wanted first, and which of it the budget allows now. Between them the
//! remote jobs are looked up that can be replayed.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, NaiveDate, Utc};

use super::budget::{BudgetState, Purse, Waiting};
use super::cells::{Due, due};
use super::demand::{Demand, demand};
use super::wanted::{Because, Plan, Wanted};
use super::{AccountState, FeedState, cells, earliest, windows, worth};
use crate::account::AccountName;
use crate::export::{Bucket, ExportRequest, Reason, Window};

/// What an account wants, before its budget is asked.
#[derive(Debug)]
pub struct Draft {
    /// The account.
    pub account: AccountName,
    windows: Vec<Drafted>,
    budgets: BTreeMap<Bucket, (BudgetState, Demand)>,
    next_change_at: Option<DateTime<Utc>>,
}

/// A window before the budget is asked.
#[derive(Debug)]
pub(super) struct Drafted {
    pub wanted: Wanted,
    /// Whether some day of it was loaded, or failed, before: only then can there be a remote job to replay.
    pub was_tried: bool,
}

/// What one feed wants.
pub(super) struct FeedDraft {
    pub due: Due,
    pub windows: Vec<Drafted>,
    pub demand: Demand,
}

/// Due cells become windows with a reason and a worth, most wanted first.
pub fn draft(state: &AccountState, now: DateTime<Utc>) -> Draft {
    let mut windows = Vec::new();
    let mut demands: BTreeMap<Bucket, Vec<Demand>> = BTreeMap::new();
    let mut next_change_at = None;
    for feed in &state.feeds {
        let drafted = draft_feed(feed, now);
        next_change_at = earliest(next_change_at, drafted.due.next_change_at);
        windows.extend(drafted.windows);
        demands.entry(feed.feed.source.bucket()).or_default().push(drafted.demand);
    }
    windows.sort_by(|a: &Drafted, b: &Drafted| a.wanted.rank().cmp(&b.wanted.rank()));
    let budget = |(bucket, budget): (&Bucket, &BudgetState)| {
        let mut demand = Demand::sum(demands.get(bucket).into_iter().flatten());
        demand.leave_out_what_is_free(budget);
        (*bucket, (budget.clone(), demand))
    };
    let budgets = state.budgets.iter().map(budget).collect();
    Draft { account: state.account.clone(), windows, budgets, next_change_at }
}

pub(super) fn draft_feed(state: &FeedState, now: DateTime<Utc>) -> FeedDraft {
    let due = due(state, now);
    let windows = windows_of(state, &due, now);
    let demand = demand(state, &due, now);
    FeedDraft { due, windows, demand }
}

fn windows_of(state: &FeedState, due: &Due, now: DateTime<Utc>) -> Vec<Drafted> {
    let feed = &state.feed;
    let Some(whole) = feed.last_day(now).and_then(|last| Window::new(feed.since, last)) else { return Vec::new() };
    let days: Vec<NaiveDate> = due.days.iter().map(|one| one.day).collect();
    windows::cover(&days, &due.soon, &state.open, whole, feed.max_window_days)
        .into_iter()
        .map(|window| drafted(state, due, window, now))
        .collect()
}

fn drafted(state: &FeedState, due: &Due, window: Window, now: DateTime<Utc>) -> Drafted {
    let feed = &state.feed;
    let reason = due.within(window).iter().map(|one| one.reason).min().expect("a window holds a due day");
    let asked_at = state
        .manual
        .iter()
        .filter(|manual| manual.rereads && manual.window.from() <= window.to() && window.from() <= manual.window.to())
        .map(|manual| manual.requested_at)
        .max();
    // Days that are read along must not become older than they are.
    let newest_known = state.cells_in(window).iter().filter_map(|(_, cell)| cell.as_of).max();
    let by_rules = cells::wanted_after(window, feed.time_zone, &feed.rules, now);
    Drafted {
        wanted: Wanted {
            export: feed.export.clone(),
            account: feed.account.clone(),
            window,
            reason,
            priority: worth::priority(state, due, window, reason, now),
            bucket: feed.source.bucket(),
            request: feed.request(window),
            replay_of: None,
            cost: 1,
            wanted_after: [asked_at, newest_known].into_iter().flatten().fold(by_rules, DateTime::max),
            expected_at: None,
            because: state.paused.clone().map(Because::Paused),
        },
        was_tried: !state.cells_in(window).is_empty(),
    }
}

impl Draft {
    /// The requests that impact.com may have run before.
    pub fn requests_to_look_up(&self) -> impl Iterator<Item = &ExportRequest> {
        self.windows.iter().filter(|one| one.was_tried).map(|one| &one.wanted.request)
    }

    /// Lets the budget decide which windows go now. `known` holds the remote jobs that can be replayed.
    pub fn spend(self, known: &HashMap<ExportRequest, String>, now: DateTime<Utc>) -> Plan {
        let mut purses: BTreeMap<Bucket, Purse> = self
            .budgets
            .iter()
            .map(|(bucket, (budget, demand))| (*bucket, Purse::new(budget, demand, self.waiting(*bucket), now)))
            .collect();
        let mut plan = Plan { wake_at: self.next_change_at, ..Plan::default() };
        for Drafted { mut wanted, .. } in self.windows {
            wanted.replay_of = known.get(&wanted.request).cloned();
            if wanted.because.is_some() {
                plan.waiting.push(wanted);
                continue;
            }
            let Some(purse) = purses.get_mut(&wanted.bucket) else {
                continue; // an account that is not configured any more
            };
            wanted.cost = self.budgets.get(&wanted.bucket).map_or(1, |(budget, _)| budget.cost(wanted.action()));
            match purse.spend(wanted.reason, wanted.cost) {
                Ok(()) => {
                    wanted.expected_at = Some(now);
                    plan.calls.push(wanted);
                }
                Err(refusal) => {
                    wanted.because = Some(refusal.because);
                    wanted.expected_at = refusal.expected_at;
                    plan.wake_at = earliest(plan.wake_at, refusal.expected_at);
                    plan.waiting.push(wanted);
                }
            }
        }
        for (bucket, purse) in &purses {
            plan.called_off.extend(purse.called_off().map(|(reason, jobs)| ((*bucket, reason), jobs)));
        }
        plan
    }

    /// How many calls of a bucket are expected to be wanted before backfill.
    #[cfg(test)]
    pub(super) fn demanded(&self, bucket: Bucket) -> usize {
        self.budgets.get(&bucket).map_or(0, |(_, demand)| demand.above_backfill().len())
    }

    fn waiting(&self, bucket: Bucket) -> Waiting {
        let mut waiting = Waiting::default();
        for Drafted { wanted, .. } in &self.windows {
            if wanted.bucket == bucket && wanted.because.is_none() {
                match wanted.reason {
                    Reason::Refresh => waiting.refresh += 1,
                    Reason::Backfill => waiting.backfill += 1,
                    Reason::Manual | Reason::Fresh => {}
                }
            }
        }
        waiting
    }
}
