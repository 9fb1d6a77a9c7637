//! What to ask for next: pure, from coverage, rules, budget and time to a plan.

mod budget;
mod cells;
mod change;
mod windows;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::account::AccountName;
use crate::clock::{day_end, day_in};
use crate::export::{Bucket, ExportName, ExportRequest, Program, Reason, RefreshRule, Source, Window};

pub use budget::{AtMost, BudgetState, Spent};
pub use cells::{next_refresh_at, wanted_after};
pub use change::{BANDS, Band, ChangeRates, band};

use budget::Purse;

/// A failed cell is due again after this long (design §10).
pub const RETRY_FAILED_AFTER: TimeDelta = TimeDelta::hours(1);

/// One export of one account and program: its settings, as the planner needs them.
#[derive(Debug, Clone)]
pub struct Feed {
    /// The export.
    pub export: ExportName,
    /// The account.
    pub account: AccountName,
    /// The program, or none.
    pub program: Program,
    /// What is asked for.
    pub source: Source,
    /// Further parameters.
    pub params: BTreeMap<String, Vec<String>>,
    /// The account's zone.
    pub time_zone: Tz,
    /// The first day.
    pub since: NaiveDate,
    /// Whether today, which is not complete, is read too.
    pub include_today: bool,
    /// The most days in one job.
    pub max_window_days: u32,
    /// How often cells of an age are read again.
    pub rules: Vec<RefreshRule>,
    /// How often its schedule fires on a day.
    pub ticks_per_day: u32,
}

impl Feed {
    /// The request for one window of this feed.
    pub fn request(&self, window: Window) -> ExportRequest {
        ExportRequest {
            source: self.source.clone(),
            program: self.program.clone(),
            window,
            params: self.params.clone(),
        }
    }

    /// The last day worth asking for at `at`; `None` before the first.
    pub fn last_day(&self, at: DateTime<Utc>) -> Option<NaiveDate> {
        let today = day_in(self.time_zone, at);
        let last = if self.include_today { Some(today) } else { today.pred_opt() };
        last.filter(|day| *day >= self.since)
    }
}

/// What is known of a cell that was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// When its rows were ordered; `None` where it never loaded.
    pub as_of: Option<DateTime<Utc>>,
    /// When it is to be read again; `None` for settled.
    pub next_refresh_at: Option<DateTime<Utc>>,
    /// When its last job failed, if it did.
    pub failed_at: Option<DateTime<Utc>>,
}

/// Days that a person asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManualRequest {
    /// Which.
    pub window: Window,
    /// Rows ordered before this do not answer it.
    pub requested_at: DateTime<Utc>,
    /// Whether days that are loaded already are to be read again.
    pub rereads: bool,
}

/// A feed with what is known of its cells.
#[derive(Debug, Clone)]
pub struct FeedState {
    /// The settings.
    pub feed: Feed,
    /// When its schedule last fired; `None`: never, so only manual requests are due.
    pub tick_at: Option<DateTime<Utc>>,
    /// Why nothing may be ordered for it, if so.
    pub paused: Option<String>,
    /// Cells that were tried.
    pub cells: BTreeMap<NaiveDate, Cell>,
    /// Days of open jobs.
    pub open: BTreeSet<NaiveDate>,
    /// What people asked for.
    pub manual: Vec<ManualRequest>,
}

/// Everything a plan is made from.
#[derive(Debug, Default)]
pub struct Inputs {
    /// The feeds.
    pub feeds: Vec<FeedState>,
    /// The budgets by account and bucket.
    pub budgets: BTreeMap<(AccountName, Bucket), BudgetState>,
    /// Remote jobs that can be replayed, by account and request.
    pub known: HashMap<(AccountName, ExportRequest), String>,
}

/// How a window is had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A new submission.
    Submit,
    /// Replay of a remote job that we know.
    Replay,
}

impl Action {
    /// The word in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Replay => "replay",
        }
    }
}

/// A window that should be asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The export.
    pub export: ExportName,
    /// The account.
    pub account: AccountName,
    /// The days.
    pub window: Window,
    /// Why.
    pub reason: Reason,
    /// Lower goes first.
    pub priority: i32,
    /// The bucket that pays.
    pub bucket: Bucket,
    /// The canonical request.
    pub request: ExportRequest,
    /// The remote job to replay; `None`: submit.
    pub replay_of: Option<String>,
    /// A result made before this is too old.
    pub wanted_after: DateTime<Utc>,
    /// When the budget allows it.
    pub expected_at: Option<DateTime<Utc>>,
    /// Why it waits; `None` for calls.
    pub because: Option<Because>,
}

impl Wanted {
    /// Submission or Replay.
    pub fn action(&self) -> Action {
        if self.replay_of.is_some() { Action::Replay } else { Action::Submit }
    }
}

/// Why a window waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Because {
    /// The bucket is spent or closed.
    Quota,
    /// What is left is kept for fresh days.
    Share,
    /// The account or the export on it is paused, with the words.
    Paused(String),
}

impl std::fmt::Display for Because {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Quota => f.write_str("quota is spent"),
            Self::Share => f.write_str("the rest is kept for fresh days"),
            Self::Paused(why) => write!(f, "paused: {why}"),
        }
    }
}

/// What to do.
#[derive(Debug, Default)]
pub struct Plan {
    /// Windows to order now, most wanted first.
    pub calls: Vec<Wanted>,
    /// Windows that wait, most wanted first.
    pub waiting: Vec<Wanted>,
    /// How many calls a day a bucket leaves for backfill.
    pub backfill_per_day: BTreeMap<(AccountName, Bucket), u32>,
    /// When planning again can change something by itself: a bucket frees up, a failed cell is due again.
    pub wake_at: Option<DateTime<Utc>>,
}

/// Plans: due cells become windows, windows are ordered by worth, and the budget decides which go now.
pub fn plan(inputs: &Inputs, now: DateTime<Utc>) -> Plan {
    let mut wanted = Vec::new();
    let mut wake_at: Option<DateTime<Utc>> = None;
    for state in &inputs.feeds {
        let due = cells::due(state, now);
        wake_at = earliest(wake_at, due.next_change_at);
        wanted.extend(windows_of(state, &due.days, &inputs.known, now));
    }
    wanted.sort_by(|a, b| {
        (a.priority, &a.export, &a.account, &a.request.program, a.window).cmp(&(
            b.priority,
            &b.export,
            &b.account,
            &b.request.program,
            b.window,
        ))
    });

    let mut purses: BTreeMap<_, _> = inputs
        .budgets
        .iter()
        .map(|(key, state)| (key.clone(), Purse::new(state, fresh_calls_per_day(&inputs.feeds, key), now)))
        .collect();
    let backfill_per_day = purses.iter().map(|(key, purse)| (key.clone(), purse.backfill_limit())).collect();
    let mut plan = Plan { backfill_per_day, wake_at, ..Plan::default() };
    for mut one in wanted {
        if one.because.is_some() {
            plan.waiting.push(one);
            continue;
        }
        let Some(purse) = purses.get_mut(&(one.account.clone(), one.bucket)) else {
            continue; // an account that is not configured any more
        };
        match purse.spend(one.reason, now) {
            Ok(()) => {
                one.expected_at = Some(now);
                plan.calls.push(one);
            }
            Err(refusal) => {
                one.because = Some(refusal.because);
                one.expected_at = refusal.expected_at;
                plan.wake_at = earliest(plan.wake_at, refusal.expected_at);
                plan.waiting.push(one);
            }
        }
    }
    plan
}

fn windows_of(
    state: &FeedState,
    due: &BTreeMap<NaiveDate, Reason>,
    known: &HashMap<(AccountName, ExportRequest), String>,
    now: DateTime<Utc>,
) -> Vec<Wanted> {
    let feed = &state.feed;
    let Some(last) = feed.last_day(now) else { return Vec::new() };
    let spans = windows::cover(due, &state.open, feed.since, last, feed.max_window_days);
    spans
        .into_iter()
        .map(|(window, reason)| {
            let request = feed.request(window);
            let replay_of = known.get(&(feed.account.clone(), request.clone())).cloned();
            let asked_at = state
                .manual
                .iter()
                .filter(|manual| manual.rereads && window.days().any(|day| manual.window.contains(day)))
                .map(|manual| manual.requested_at)
                .max();
            // Days that are read along must not become older than they are.
            let newest_known = state.cells.range(window.from()..=window.to()).filter_map(|(_, cell)| cell.as_of).max();
            let by_rules = wanted_after(window, feed.time_zone, &feed.rules, now);
            Wanted {
                export: feed.export.clone(),
                account: feed.account.clone(),
                window,
                reason,
                priority: priority(reason, window, day_in(feed.time_zone, now)),
                bucket: feed.source.bucket(),
                request,
                replay_of,
                wanted_after: [asked_at, newest_known].into_iter().flatten().fold(by_rules, DateTime::max),
                expected_at: None,
                because: state.paused.clone().map(Because::Paused),
            }
        })
        .collect()
}

/// Reasons in their order, and within one the newest days first.
fn priority(reason: Reason, window: Window, today: NaiveDate) -> i32 {
    let class = match reason {
        Reason::Manual => 0,
        Reason::Fresh => 1,
        Reason::Refresh => 2,
        Reason::Backfill => 3,
    };
    let age = i32::try_from((today - window.to()).num_days().clamp(0, 99_999)).expect("clamped");
    class * 100_000 + age
}

/// How many orders a day the newest days of all feeds on a bucket take.
fn fresh_calls_per_day(feeds: &[FeedState], (account, bucket): &(AccountName, Bucket)) -> u32 {
    feeds
        .iter()
        .filter(|state| state.feed.account == *account && state.feed.source.bucket() == *bucket)
        .map(|state| match state.feed.rules.first() {
            Some(rule) if state.feed.include_today => {
                let day = TimeDelta::days(1).num_seconds();
                let every = i64::try_from(rule.every.as_secs()).unwrap_or(day).max(1);
                u32::try_from((day + every - 1) / every).unwrap_or(u32::MAX).min(state.feed.ticks_per_day)
            }
            Some(_) | None => 1,
        })
        .fold(0, u32::saturating_add)
}

fn earliest(a: Option<DateTime<Utc>>, b: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}

/// Whether a cell's day was over when its rows were ordered.
pub fn is_complete(time_zone: Tz, day: NaiveDate, as_of: DateTime<Utc>) -> bool {
    as_of >= day_end(time_zone, day)
}

#[cfg(test)]
mod tests;
