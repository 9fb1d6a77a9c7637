//! An account as a planner would find it that nobody has mirrored yet: feeds without cells, budgets without charges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::day_in;
use crate::config::{Account, Export, Settings};
use crate::export::{Bucket, Program};
use crate::impact::ProgramInfo;
use crate::plan::{AccountState, BudgetState, ChangeRates, Feed, FeedState};

/// Of ticks that are less than this apart only the first is played: enough to tell what a week costs, and quick.
const APART: TimeDelta = TimeDelta::hours(2);

/// The one account of `settings` with these programs.
pub(super) fn state(settings: &Settings, programs: &[ProgramInfo], now: DateTime<Utc>) -> AccountState {
    let account = settings.accounts.values().next().expect("init has written an account");
    let found: Vec<Program> = programs.iter().map(|program| program.id.clone()).collect();
    let mut feeds = Vec::new();
    for export in settings.exports.values() {
        let ticks = thinned(&export.ticks(account.time_zone, now));
        let programs = export.programs_on(account).unwrap_or_else(|| found.clone());
        feeds.extend(programs.into_iter().map(|program| feed(export, account, program, Arc::clone(&ticks), now)));
    }
    let budget = |bucket: Bucket| BudgetState {
        limit: account.quota.ours(bucket),
        window: bucket.window(),
        charges: Vec::new(),
        planned: Vec::new(),
        closed_until: None,
        at_most: None,
        replay_cost: account.quota.replay_cost,
    };
    let budgets: BTreeMap<_, _> =
        [Bucket::ReportExport, Bucket::ClickExport].into_iter().map(|bucket| (bucket, budget(bucket))).collect();
    AccountState { account: account.name.clone(), feeds, budgets }
}

fn feed(
    export: &Export,
    account: &Account,
    program: Program,
    ticks: Arc<[DateTime<Utc>]>,
    now: DateTime<Utc>,
) -> FeedState {
    let feed = Feed {
        export: export.name.clone(),
        account: account.name.clone(),
        program,
        source: export.source.clone(),
        params: export.params.clone(),
        format: export.result_format,
        time_zone: account.time_zone,
        since: export.first_day(day_in(account.time_zone, now)),
        include_today: export.include_today,
        max_window_days: export.max_window_days,
        rules: export.refresh.clone(),
        freshness: export.freshness,
        ticks,
    };
    FeedState {
        feed,
        tick_at: Some(now),
        paused: None,
        cells: Vec::new(),
        open: BTreeSet::new(),
        manual: Vec::new(),
        rates: ChangeRates::default(),
    }
}

fn thinned(ticks: &[DateTime<Utc>]) -> Arc<[DateTime<Utc>]> {
    let mut kept: Vec<DateTime<Utc>> = Vec::new();
    for tick in ticks {
        if kept.last().is_none_or(|last| *tick - *last >= APART) {
            kept.push(*tick);
        }
    }
    kept.into()
}
