//! Our planner, as the daemon calls it: everything that is known goes in, the calls that it names are made.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, NaiveDate, Utc};
use impact_mirror::account::AccountName;
use impact_mirror::export::{Bucket, ExportName, Program};
use impact_mirror::plan::{BudgetState, Cell, Feed, FeedState, Inputs, Spent, plan};
use impact_mirror::scheduler::Cron;

use crate::brand::Brand;
use crate::mirror::Mirror;

/// The planner with what the daemon would read from its database.
pub struct Ours {
    inputs: Inputs,
    crons: Vec<Cron>,
    places: HashMap<(ExportName, Program), usize>,
}

impl Ours {
    /// A planner that knows the settings alone.
    pub fn new(brand: &Brand) -> Self {
        let key = |feed: &crate::brand::Feed| (feed.export.name.clone(), feed.program.clone());
        Self {
            inputs: Inputs { feeds: brand.feeds.iter().map(state).collect(), ..Inputs::default() },
            crons: brand.feeds.iter().map(cron).collect(),
            places: brand.feeds.iter().enumerate().map(|(place, feed)| (key(feed), place)).collect(),
        }
    }

    /// Plans once and makes the calls.
    pub fn step(&mut self, mirror: &mut Mirror<'_>, now: DateTime<Utc>) {
        for (state, cron) in self.inputs.feeds.iter_mut().zip(&self.crons) {
            // An export that never ticked does so at the start.
            let tick_at = cron.last_before(now).filter(|at| *at > mirror.brand.start);
            state.tick_at = tick_at.or(Some(mirror.brand.start));
        }
        self.inputs.budgets = budgets(mirror, now);
        for call in plan(&self.inputs, now).calls {
            let place = self.places[&(call.export, call.request.program)];
            mirror.read(place, call.window, call.reason, now);
            for day in call.window.days() {
                self.note(mirror, place, day);
            }
        }
    }

    fn note(&mut self, mirror: &Mirror<'_>, place: usize, day: NaiveDate) {
        let cell = mirror.held(place, day).map(|held| Cell {
            as_of: Some(held.as_of),
            next_refresh_at: held.next_refresh_at,
            failed_at: None,
        });
        self.inputs.feeds[place].cells.extend(cell.map(|cell| (day, cell)));
    }
}

fn state(feed: &crate::brand::Feed) -> FeedState {
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
            ticks_per_day: export.ticks_per_day(),
        },
        tick_at: None,
        paused: None,
        cells: BTreeMap::new(),
        open: BTreeSet::new(),
        manual: Vec::new(),
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
            };
            ((account, bucket), state)
        })
        .collect()
}
