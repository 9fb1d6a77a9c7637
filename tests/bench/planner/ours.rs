//! Our planner, as the daemon calls it: everything that is known goes in, the calls that it names are made.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use impact_mirror::account::AccountName;
use impact_mirror::clock::day_end;
use impact_mirror::export::{Bucket, ExportName, Program};
use impact_mirror::plan::{AccountState, BudgetState, Cell, ChangeRates, Feed, FeedState, Spent, band, draft};
use impact_mirror::scheduler::Cron;

use crate::brand::Brand;
use crate::mirror::Mirror;

/// The planner with what the daemon would read from its database.
pub struct Ours {
    states: Vec<AccountState>,
    rates: HashMap<ExportName, ChangeRates>,
    crons: Vec<Cron>,
    places: HashMap<(ExportName, Program), usize>,
}

impl Ours {
    /// A planner that knows the settings alone.
    pub fn new(brand: &Brand) -> Self {
        let key = |feed: &crate::brand::Feed| (feed.export.name.clone(), feed.program.clone());
        let mut states: Vec<AccountState> = Vec::new();
        for feed in &brand.feeds {
            if !states.iter().any(|state| state.account == feed.account) {
                states.push(AccountState {
                    account: feed.account.clone(),
                    feeds: Vec::new(),
                    budgets: BTreeMap::new(),
                });
            }
            let state = states.iter_mut().find(|state| state.account == feed.account).unwrap();
            state.feeds.push(feed_state(feed));
        }
        Self {
            states,
            rates: HashMap::new(),
            crons: brand.feeds.iter().map(cron).collect(),
            places: brand.feeds.iter().enumerate().map(|(place, feed)| (key(feed), place)).collect(),
        }
    }

    /// Plans once and makes the calls.
    pub fn step(&mut self, mirror: &mut Mirror<'_>, now: DateTime<Utc>) {
        let mut all = budgets(mirror, now);
        for index in 0..self.states.len() {
            let state = &mut self.states[index];
            let (mut last, mut ticks): (Option<ExportName>, Arc<[DateTime<Utc>]>) = (None, Arc::new([]));
            for feed in &mut state.feeds {
                let place = self.places[&(feed.feed.export.clone(), feed.feed.program.clone())];
                let cron = &self.crons[place];
                if last.as_ref() != Some(&feed.feed.export) {
                    last = Some(feed.feed.export.clone());
                    let mut at = now;
                    let mut list = Vec::new();
                    while let Some(next) =
                        cron.next_after(at).filter(|next| *next <= now + chrono::TimeDelta::hours(24))
                    {
                        list.push(next);
                        at = next;
                    }
                    ticks = list.into();
                }
                let tick_at = cron.last_before(now).filter(|at| *at > mirror.brand.start);
                feed.tick_at = tick_at.or(Some(mirror.brand.start));
                feed.feed.ticks = Arc::clone(&ticks);
                feed.rates = self.rates.get(&feed.feed.export).copied().unwrap_or_default();
            }
            state.budgets.clear();
            let account = state.account.clone();
            all.retain(|(name, bucket), budget| {
                if *name == account {
                    state.budgets.insert(*bucket, budget.clone());
                }
                *name != account
            });
            let calls = draft(state, now).spend(&HashMap::new(), now).calls;
            for call in calls {
                let place = self.places[&(call.export, call.request.program)];
                let feed = &mirror.brand.feeds[place];
                let rates = self.rates.entry(feed.export.name.clone()).or_default();
                for day in call.window.days() {
                    let end = day_end(feed.zone, day);
                    if let Some(held) = mirror.held(place, day).filter(|held| held.as_of >= end) {
                        let band = &mut rates.0[band(now - end)];
                        band.days += (now - held.as_of).as_seconds_f64() / 86400.0;
                        band.changes += f64::from(u8::from(mirror.has_changed(place, day, now)));
                    }
                }
                mirror.read(place, call.window, call.reason, now);
                let first = mirror.brand.feeds.iter().position(|feed| feed.account == account).unwrap();
                let own = mirror.brand.feeds[first..place].iter().filter(|feed| feed.account == account).count();
                let cells = &mut self.states[index].feeds[own].cells;
                for day in call.window.days() {
                    let held = mirror.held(place, day).unwrap();
                    let cell = Cell { as_of: Some(held.as_of), next_refresh_at: held.next_refresh_at, failed_at: None };
                    match cells.binary_search_by_key(&day, |(day, _)| *day) {
                        Ok(at) => cells[at].1 = cell,
                        Err(at) => cells.insert(at, (day, cell)),
                    }
                }
            }
        }
    }
}

fn feed_state(feed: &crate::brand::Feed) -> FeedState {
    let export = &feed.export;
    FeedState {
        feed: Feed {
            export: export.name.clone(),
            account: feed.account.clone(),
            program: feed.program.clone(),
            source: export.source.clone(),
            params: export.params.clone(),
            time_zone: feed.zone,
            since: export.since,
            include_today: export.include_today,
            max_window_days: export.max_window_days,
            rules: export.refresh.clone(),
            freshness: export.freshness,
            ticks: Arc::new([]),
        },
        tick_at: None,
        paused: None,
        cells: Vec::new(),
        open: BTreeSet::new(),
        manual: Vec::new(),
        rates: ChangeRates::default(),
    }
}

fn cron(feed: &crate::brand::Feed) -> Cron {
    Cron {
        export: feed.export.name.clone(),
        account: feed.account.clone(),
        schedule: feed.export.schedule.clone(),
        time_zone: feed.zone,
    }
}

fn budgets(mirror: &Mirror<'_>, now: DateTime<Utc>) -> BTreeMap<(AccountName, Bucket), BudgetState> {
    let feeds = mirror.brand.feeds.iter();
    let keys: BTreeSet<_> = feeds.map(|feed| (feed.account.clone(), feed.bucket())).collect();
    keys.into_iter()
        .map(|(account, bucket)| {
            let charges = mirror.charges(bucket, now);
            let state = BudgetState {
                limit: mirror.brand.limit(bucket),
                window: bucket.window(),
                charges: charges.map(|charge| Spent { at: charge.at, reason: Some(charge.reason) }).collect(),
                closed_until: None,
                at_most: None,
                replay_cost: 1,
            };
            ((account, bucket), state)
        })
        .collect()
}
