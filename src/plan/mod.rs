//! What to ask for next: pure, from coverage, rules, budget and time to a plan.

mod budget;
mod cells;
mod change;
mod days_ahead;
mod demand;
mod draft;
mod forecast;
mod wanted;
mod windows;
mod worth;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::account::AccountName;
use crate::clock::{day_end, day_in, day_start};
use crate::export::{Bucket, ExportName, ExportRequest, Program, RefreshRule, ResultFormat, Source, Window};

pub use budget::{AtMost, BudgetState, Spent};
pub use cells::{next_refresh_at, wanted_after};
pub use change::{BANDS, ChangeRates, Observed};
pub use days_ahead::{DayAhead, DaysAhead, days_ahead};
pub use draft::{Draft, draft};
pub use forecast::{BackfillEnd, Forecast, Late, forecast};
pub use wanted::{Action, Because, Plan, Wanted};

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
    /// The format of the results.
    pub format: ResultFormat,
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
    /// How old the newest complete day may get before the export is late.
    pub freshness: Duration,
    /// When its schedule fires in the next 24 hours, in order.
    pub ticks: Arc<[DateTime<Utc>]>,
}

impl Feed {
    /// The request for one window of this feed.
    pub fn request(&self, window: Window) -> ExportRequest {
        ExportRequest {
            source: self.source.clone(),
            program: self.program.clone(),
            window,
            params: self.params.clone(),
            format: self.format,
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
    /// Cells that were tried, in order of their days.
    pub cells: Vec<(NaiveDate, Cell)>,
    /// Days of open jobs.
    pub open: BTreeSet<NaiveDate>,
    /// What people asked for.
    pub manual: Vec<ManualRequest>,
    /// How often the rows of its days change.
    pub rates: ChangeRates,
}

impl FeedState {
    /// The cells of a window that were tried.
    fn cells_in(&self, window: Window) -> &[(NaiveDate, Cell)] {
        let from = self.cells.partition_point(|(day, _)| *day < window.from());
        let to = self.cells.partition_point(|(day, _)| *day <= window.to());
        &self.cells[from..to]
    }
}

/// An account with all that a plan for it is made from: budgets are an account's, and so are plans.
#[derive(Debug, Clone)]
pub struct AccountState {
    /// Which.
    pub account: AccountName,
    /// Its feeds.
    pub feeds: Vec<FeedState>,
    /// Its budgets.
    pub budgets: BTreeMap<Bucket, BudgetState>,
}

/// Whether a cell's day was over when its rows were ordered.
pub fn is_complete(time_zone: Tz, day: NaiveDate, as_of: DateTime<Utc>) -> bool {
    // No zone is further from UTC than this, which spares most cells the look into the zone's history.
    const FURTHEST: TimeDelta = TimeDelta::hours(16);
    let end_in_utc = day_start(Tz::UTC, day) + TimeDelta::days(1);
    if as_of >= end_in_utc + FURTHEST {
        true
    } else {
        as_of >= end_in_utc - FURTHEST && as_of >= day_end(time_zone, day)
    }
}

fn earliest(a: Option<DateTime<Utc>>, b: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests;
