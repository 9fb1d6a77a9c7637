//! Our planner, as the daemon calls it: everything that is known goes in, the calls that it names are made.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use impact_mirror::clock::day_end;
use impact_mirror::export::{Bucket, ExportName, Program, Window};
use impact_mirror::plan::{
    AccountState, BudgetState, Cell, ChangeRates, Feed, FeedState, Observed, Spent, Wanted, draft,
};
use impact_mirror::scheduler::Cron;

use crate::brand::{self, Brand};
use crate::mirror::Mirror;

/// The planner with what the daemon would read from its database.
pub struct Ours {
    /// Its feeds are those of the brand, in the same places.
    state: AccountState,
    crons: BTreeMap<ExportName, Cron>,
    /// What reads have found, by export, and in the places of the feeds.
    shared: BTreeMap<ExportName, Observed>,
    own: Vec<Observed>,
    places: HashMap<(ExportName, Program), usize>,
}

impl Ours {
    /// A planner that knows the settings alone.
    pub fn new(brand: &Brand) -> Self {
        let account = brand.feeds[0].account.clone();
        assert!(brand.feeds.iter().all(|feed| feed.account == account), "budgets are an account's");
        let name = |feed: &brand::Feed| feed.export.name.clone();
        let feeds = || brand.feeds.iter();
        Self {
            state: AccountState { account, feeds: feeds().map(feed_state).collect(), budgets: BTreeMap::new() },
            crons: feeds().map(|feed| (name(feed), cron(feed))).collect(),
            shared: feeds().map(|feed| (name(feed), Observed::default())).collect(),
            own: vec![Observed::default(); brand.feeds.len()],
            places: feeds().enumerate().map(|(at, feed)| ((name(feed), feed.program.clone()), at)).collect(),
        }
    }

    /// Plans once and makes the calls.
    pub fn step(&mut self, mirror: &mut Mirror<'_>, now: DateTime<Utc>) {
        self.bring_up_to_date(mirror, now);
        for call in draft(&self.state, now).spend(&HashMap::new(), now).calls {
            self.make(&call, mirror, now);
        }
    }

    /// What the daemon reads before each plan, beside the cells.
    fn bring_up_to_date(&mut self, mirror: &Mirror<'_>, now: DateTime<Utc>) {
        let start = mirror.brand.start;
        let ticks: BTreeMap<_, _> = self.crons.iter().map(|(export, cron)| (export, ticks(cron, now))).collect();
        for (state, own) in self.state.feeds.iter_mut().zip(&self.own) {
            let export = &state.feed.export;
            // The mirror is turned on at the start, which is a tick too.
            state.tick_at = self.crons[export].last_before(now).max(Some(start));
            state.feed.ticks = Arc::clone(&ticks[export]);
            state.rates = ChangeRates::learned(own, &self.shared[export]);
        }
        let buckets: BTreeSet<Bucket> = mirror.brand.feeds.iter().map(brand::Feed::bucket).collect();
        self.state.budgets = buckets.into_iter().map(|bucket| (bucket, budget(mirror, bucket, now))).collect();
    }

    fn make(&mut self, call: &Wanted, mirror: &mut Mirror<'_>, now: DateTime<Utc>) {
        let place = self.places[&(call.export.clone(), call.request.program.clone())];
        let found = findings(mirror, place, call.window, now);
        self.own[place].merge(&found);
        self.shared.get_mut(&call.export).expect("every export is there").merge(&found);
        mirror.read(place, call.window, call.reason, now);
        let cells = &mut self.state.feeds[place].cells;
        for day in call.window.days() {
            let held = mirror.held(place, day).expect("it was just read");
            let now_known = Cell { as_of: Some(held.as_of), next_refresh_at: held.next_refresh_at, failed_at: None };
            set(cells, day, now_known);
        }
    }
}

/// What a read is about to find, compared with the one before: only days that were over then teach anything.
fn findings(mirror: &Mirror<'_>, place: usize, window: Window, now: DateTime<Utc>) -> Observed {
    let zone = mirror.brand.feeds[place].zone;
    let mut found = Observed::default();
    for day in window.days() {
        let end = day_end(zone, day);
        if let Some(held) = mirror.held(place, day).filter(|held| held.as_of >= end) {
            found.add(now - end, now - held.as_of, mirror.has_changed(place, day, now));
        }
    }
    found
}

/// The cells are in order of their days.
fn set(cells: &mut Vec<(NaiveDate, Cell)>, day: NaiveDate, cell: Cell) {
    match cells.binary_search_by_key(&day, |(day, _)| *day) {
        Ok(at) => cells[at].1 = cell,
        Err(at) => cells.insert(at, (day, cell)),
    }
}

fn budget(mirror: &Mirror<'_>, bucket: Bucket, now: DateTime<Utc>) -> BudgetState {
    let charges = mirror.charges(bucket, now);
    BudgetState {
        limit: mirror.brand.limit(bucket),
        window: bucket.window(),
        charges: charges.map(|charge| Spent { at: charge.at, reason: Some(charge.reason) }).collect(),
        planned: Vec::new(),
        closed_until: None,
        at_most: None,
        replay_cost: 1,
    }
}

fn cron(feed: &brand::Feed) -> Cron {
    Cron {
        export: feed.export.name.clone(),
        account: feed.account.clone(),
        schedule: feed.export.schedule.clone(),
        time_zone: feed.zone,
    }
}

/// The ticks of the next 24 hours.
fn ticks(cron: &Cron, now: DateTime<Utc>) -> Arc<[DateTime<Utc>]> {
    let next = |at: &DateTime<Utc>| cron.next_after(*at);
    std::iter::successors(cron.next_after(now), next).take_while(|at| *at <= now + TimeDelta::hours(24)).collect()
}

fn feed_state(feed: &brand::Feed) -> FeedState {
    let export = &feed.export;
    FeedState {
        feed: Feed {
            export: export.name.clone(),
            account: feed.account.clone(),
            program: feed.program.clone(),
            source: export.source.clone(),
            params: export.params.clone(),
            format: export.result_format,
            time_zone: feed.zone,
            since: export.since,
            include_today: export.include_today,
            max_window_days: export.max_window_days,
            rules: export.refresh.clone(),
            freshness: export.freshness,
            ticks: Arc::from([]),
        },
        tick_at: None,
        paused: None,
        cells: Vec::new(),
        open: BTreeSet::new(),
        manual: Vec::new(),
        rates: ChangeRates::default(),
    }
}
