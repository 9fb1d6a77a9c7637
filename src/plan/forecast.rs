//! The next hours as they will go: the same decisions, made at every moment at which they can come out otherwise, with
//! each call's rows loaded at once.

mod end;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::budget::{Purse, Spent, Waiting};
use super::cells::next_refresh_at;
use super::demand::Demand;
use super::draft::{Drafted, FeedDraft, draft_feed};
use super::wanted::{Because, Wanted};
use super::{AccountState, Cell, Feed, FeedState, is_complete, worth};
use crate::account::AccountName;
use crate::clock::day_in;
use crate::export::{Bucket, ExportName, ExportRequest, Program, Reason, Window};

/// What will be called in the coming hours, and what will not.
#[derive(Debug, Default)]
pub struct Forecast {
    /// The calls in the order of their time, each with when it is expected.
    pub calls: Vec<Wanted>,
    /// What is due and was not called within the horizon, most wanted first.
    pub waiting: Vec<Wanted>,
    /// When each backfill ends.
    pub backfills: Vec<BackfillEnd>,
    /// Complete days that will not be read within a day of their end.
    pub late: Vec<Late>,
}

/// The end of an export's backfill on an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackfillEnd {
    /// The export.
    pub export: ExportName,
    /// The account.
    pub account: AccountName,
    /// The bucket that pays.
    pub bucket: Bucket,
    /// Windows never read that are wanted now.
    pub calls_left: usize,
    /// The calls a day that its bucket leaves for backfill, for all exports that share it.
    pub calls_per_day: u32,
    /// How many exports share it, this one included: those of the account with windows never read in the same bucket.
    pub shared_by: usize,
    /// In the account's zone; `None` for never: paused, no quota, or more is added each day than read.
    pub done_on: Option<NaiveDate>,
}

/// A complete day that is read late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    /// The export.
    pub export: ExportName,
    /// The account.
    pub account: AccountName,
    /// The program, or none.
    pub program: Program,
    /// The day.
    pub day: NaiveDate,
    /// When the first complete day that the feed lacks was over.
    pub behind_since: DateTime<Utc>,
    /// When the day will be read; `None`: never.
    pub expected_at: Option<DateTime<Utc>>,
}

/// Goes through the time from `now` to the horizon. `planned` are the account's planned jobs, which nobody has ordered yet.
#[expect(clippy::implicit_hasher, reason = "there is one caller, and it has no hasher of its own")]
pub fn forecast(
    state: AccountState,
    planned: Vec<Wanted>,
    known: &HashMap<ExportRequest, String>,
    now: DateTime<Utc>,
    horizon: TimeDelta,
) -> Forecast {
    play(state, planned, known, now, horizon).forecast
}

/// A forecast, and how things stand at its end.
pub(super) struct Played {
    pub forecast: Forecast,
    pub state: AccountState,
    pub ordered: HashSet<ExportRequest>,
}

/// What `forecast` does, for who goes on from its end.
pub(super) fn play(
    state: AccountState,
    planned: Vec<Wanted>,
    known: &HashMap<ExportRequest, String>,
    now: DateTime<Utc>,
    horizon: TimeDelta,
) -> Played {
    let until = now + horizon;
    let mut world = World::new(state, planned, known, now, until);
    let end = world.run(until);
    let (backfills, late) = (world.backfill_ends(&end), world.late(&end));
    let forecast = Forecast { backfills, late, calls: world.calls, waiting: end };
    Played { forecast, state: world.state, ordered: world.ordered }
}

/// A queue's order, then which feed's.
type Place = (i32, Reverse<NaiveDate>, usize, NaiveDate);

struct World<'a> {
    state: AccountState,
    known: &'a HashMap<ExportRequest, String>,
    ordered: HashSet<ExportRequest>,
    feeds: Vec<Drafts>,
    /// What waits, by bucket and class.
    queues: BTreeMap<(Bucket, Reason), BTreeMap<Place, Drafted>>,
    /// Planned jobs that re-read or fill up: what the budget gave them, they take before others of their class.
    planned: BTreeMap<Bucket, BTreeMap<Place, Drafted>>,
    paused: Vec<Wanted>,
    /// Planned jobs that are paused.
    held: Vec<Wanted>,
    moments: BTreeSet<DateTime<Utc>>,
    calls: Vec<Wanted>,
    /// Backfill windows at the start, by export.
    backfill: BTreeMap<ExportName, usize>,
    steady: BTreeMap<Bucket, Steady>,
    newest: Vec<Newest>,
}

/// A complete day that is the newest of its feed at some time before the horizon, and not read before.
struct Newest {
    feed: usize,
    day: NaiveDate,
    read_at: Option<DateTime<Utc>>,
}

/// What the last look at a feed left.
#[derive(Default)]
struct Drafts {
    places: Vec<((Bucket, Reason), Place)>,
    demand: Demand,
    next_change_at: Option<DateTime<Utc>>,
    behind_since: Option<DateTime<Utc>>,
}

/// What a bucket gives each class day by day.
#[derive(Debug, Clone, Copy, Default)]
struct Steady {
    any: u32,
    refresh: u32,
    backfill: u32,
    /// Newest days a day that there is no call for: they become backfill.
    missed: u32,
}

impl<'a> World<'a> {
    fn new(
        mut state: AccountState,
        planned: Vec<Wanted>,
        known: &'a HashMap<ExportRequest, String>,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Self {
        let is_planned = |feed: &FeedState, day: NaiveDate| {
            planned.iter().any(|one| is_of(&feed.feed, one) && one.window.contains(day))
        };
        for feed in &mut state.feeds {
            // What is under way will be loaded soon; what is planned waits for its turn.
            let (still_planned, under_way) =
                std::mem::take(&mut feed.open).into_iter().partition(|day| is_planned(feed, *day));
            feed.open = still_planned;
            let under_way: BTreeSet<NaiveDate> = under_way;
            for day in under_way {
                load(feed, Window::day(day), now);
            }
        }
        for budget in state.budgets.values_mut() {
            budget.planned.clear();
        }
        let mut moments = BTreeSet::from([now]);
        for budget in state.budgets.values() {
            moments.extend(budget.charges.iter().map(|spent| spent.at + budget.window));
            moments.extend(budget.closed_until);
            moments.extend(budget.at_most.map(|at_most| at_most.until));
        }
        moments.extend(state.feeds.iter().flat_map(|feed| feed.feed.ticks.iter().copied()));
        moments.retain(|at| *at >= now);
        let mut world = Self {
            feeds: state.feeds.iter().map(|_| Drafts::default()).collect(),
            state,
            known,
            ordered: HashSet::new(),
            queues: BTreeMap::new(),
            planned: BTreeMap::new(),
            paused: Vec::new(),
            held: Vec::new(),
            moments,
            calls: Vec::new(),
            backfill: BTreeMap::new(),
            steady: BTreeMap::new(),
            newest: Vec::new(),
        };
        for one in planned {
            world.take_over(one, now);
        }
        for index in 0..world.state.feeds.len() {
            world.look_at(index, now);
            world.newest.extend(newest(&world.state.feeds[index], index, now, until));
        }
        let queues = world.queues.values().chain(world.planned.values()).flat_map(BTreeMap::values);
        for one in queues.map(|one| &one.wanted).chain(&world.paused).chain(&world.held) {
            if one.reason == Reason::Backfill {
                *world.backfill.entry(one.export.clone()).or_default() += 1;
            }
        }
        world
    }

    /// Puts a planned job where it waits for its turn.
    fn take_over(&mut self, mut job: Wanted, now: DateTime<Utc>) {
        let Some(index) = self.state.feeds.iter().position(|feed| is_of(&feed.feed, &job)) else {
            // Of an export that is not looked at, but of the same budget.
            if let Some(budget) = self.state.budgets.get_mut(&job.bucket) {
                budget.charges.push(Spent { at: now, reason: Some(job.reason) });
                self.moments.insert(now + budget.window);
            }
            return;
        };
        if let Some(why) = &self.state.feeds[index].paused {
            job.because = Some(Because::Paused(why.clone()));
            self.held.push(job);
            return;
        }
        let queue = match job.reason {
            Reason::Manual | Reason::Fresh => self.queues.entry((job.bucket, job.reason)).or_default(),
            Reason::Refresh | Reason::Backfill => self.planned.entry(job.bucket).or_default(),
        };
        queue.insert(place(&job, index), Drafted { wanted: job, was_tried: true });
    }

    /// What the classes have day by day from `now` on, once what was loaded by then wants to be read again.
    fn find_steady(&mut self, now: DateTime<Utc>) {
        for (state, drafts) in self.state.feeds.iter().zip(&mut self.feeds) {
            drafts.demand = draft_feed(state, now).demand;
        }
        for (bucket, budget) in &self.state.budgets {
            let demand = self.demand(*bucket);
            let purse = Purse::new(budget, &demand, Waiting::default(), now);
            let feeds = self.state.feeds.iter().filter(|feed| feed.feed.source.bucket() == *bucket).count();
            let newest = u32::try_from(demand.fresh.len().min(feeds)).unwrap_or(u32::MAX);
            let minimum = super::budget::guaranteed(Reason::Backfill, budget.limit);
            let steady = Steady {
                any: purse.steady(Reason::Fresh),
                refresh: purse.steady(Reason::Refresh),
                backfill: purse.steady(Reason::Backfill),
                missed: newest.saturating_sub(budget.limit - minimum),
            };
            self.steady.insert(*bucket, steady);
        }
    }

    fn demand(&self, bucket: Bucket) -> Demand {
        let of_bucket = |(feed, _): &(&FeedState, &Drafts)| feed.feed.source.bucket() == bucket;
        let feeds = self.state.feeds.iter().zip(&self.feeds).filter(of_bucket);
        let mut demand = Demand::sum(feeds.map(|(_, drafts)| &drafts.demand));
        if let Some(budget) = self.state.budgets.get(&bucket) {
            demand.leave_out_what_is_free(budget);
        }
        demand
    }

    /// Derives the windows of a feed anew.
    fn look_at(&mut self, index: usize, now: DateTime<Utc>) {
        for (queue, place) in std::mem::take(&mut self.feeds[index].places) {
            if let Some(queue) = self.queues.get_mut(&queue) {
                queue.remove(&place);
            }
        }
        let feed = &self.state.feeds[index];
        let FeedDraft { due, windows, demand } = draft_feed(feed, now);
        self.paused.retain(|one| one.export != feed.feed.export || one.request.program != feed.feed.program);
        let drafts = &mut self.feeds[index];
        drafts.behind_since.get_or_insert_with(|| worth::behind_since(feed, &due));
        drafts.demand = demand;
        drafts.next_change_at = due.next_change_at;
        self.moments.extend(due.next_change_at);
        for one in windows {
            if one.wanted.because.is_some() {
                self.paused.push(one.wanted);
                continue;
            }
            let wanted = &one.wanted;
            let queue = (wanted.bucket, wanted.reason);
            let place = place(wanted, index);
            drafts.places.push((queue, place));
            self.queues.entry(queue).or_default().insert(place, one);
        }
    }

    /// Plays until `until`; gives back what waits then.
    fn run(&mut self, until: DateTime<Utc>) -> Vec<Wanted> {
        while let Some(at) = self.moments.pop_first().filter(|at| *at < until) {
            for index in 0..self.feeds.len() {
                let state = &mut self.state.feeds[index];
                let ticks = state.feed.ticks.binary_search(&at).is_ok();
                if ticks {
                    state.tick_at = Some(at);
                }
                if ticks || self.feeds[index].next_change_at.is_some_and(|change| change <= at) {
                    self.look_at(index, at);
                }
            }
            for bucket in Bucket::ALL {
                self.spend(bucket, at);
            }
        }
        self.find_steady(until);
        self.rest(until)
    }

    fn waiting(&self, bucket: Bucket, reason: Reason) -> u32 {
        let planned = self.planned.get(&bucket).into_iter().flat_map(BTreeMap::values);
        let planned = planned.filter(|one| one.wanted.reason == reason).count();
        let drafted = self.queues.get(&(bucket, reason)).map_or(0, BTreeMap::len);
        u32::try_from(planned + drafted).unwrap_or(u32::MAX)
    }

    fn purse(&self, bucket: Bucket, at: DateTime<Utc>) -> Option<Purse> {
        let waiting = Waiting {
            refresh: self.waiting(bucket, Reason::Refresh),
            backfill: self.waiting(bucket, Reason::Backfill),
        };
        let budget = self.state.budgets.get(&bucket)?;
        // The feeds' demand was worked out at their last look: what has come since then stands in the queues.
        let mut demand = self.demand(bucket);
        demand.fresh.retain(|tick| *tick > at);
        demand.refresh.retain(|tick| *tick > at);
        Some(Purse::new(budget, &demand, waiting, at))
    }

    fn spend(&mut self, bucket: Bucket, at: DateTime<Utc>) {
        if Reason::ALL.iter().all(|reason| self.waiting(bucket, *reason) == 0) {
            return;
        }
        let Some(mut purse) = self.purse(bucket, at) else { return };
        for reason in Reason::ALL {
            if reason == Reason::Refresh {
                self.spend_on_planned(&mut purse, bucket, at);
            }
            while let Some(mut entry) = self.queues.get_mut(&(bucket, reason)).and_then(BTreeMap::first_entry) {
                let wanted = &mut entry.get_mut().wanted;
                // The id of a remote job that is still to come does not matter: it can be replayed.
                wanted.replay_of = match self.known.get(&wanted.request) {
                    Some(id) => Some(id.clone()),
                    None => self.ordered.contains(&wanted.request).then(String::new),
                };
                wanted.cost = self.state.budgets.get(&bucket).map_or(1, |budget| budget.cost(wanted.action()));
                if let Err(refusal) = purse.spend(reason, wanted.cost) {
                    wanted.because = Some(refusal.because);
                    break;
                }
                let (place, one) = entry.remove_entry();
                self.call(place.2, one.wanted, at);
            }
        }
    }

    /// Planned jobs go by their priority as far as there is room; their days are wanted again some time after.
    fn spend_on_planned(&mut self, purse: &mut Purse, bucket: Bucket, at: DateTime<Utc>) {
        let mut read = BTreeSet::new();
        while let Some(mut entry) = self.planned.get_mut(&bucket).and_then(BTreeMap::first_entry) {
            let wanted = &mut entry.get_mut().wanted;
            wanted.cost = self.state.budgets.get(&bucket).map_or(1, |budget| budget.cost(wanted.action()));
            if !purse.grant(wanted.reason, wanted.cost) {
                break;
            }
            let (place, one) = entry.remove_entry();
            self.call(place.2, one.wanted, at);
            read.insert(place.2);
        }
        for index in read {
            self.look_at(index, at);
        }
    }

    fn call(&mut self, index: usize, mut wanted: Wanted, at: DateTime<Utc>) {
        self.ordered.insert(wanted.request.clone());
        wanted.because = None;
        wanted.expected_at = Some(at);
        if let Some(budget) = self.state.budgets.get_mut(&wanted.bucket).filter(|_| wanted.cost > 0) {
            budget.charges.push(Spent { at, reason: Some(wanted.reason) });
            self.moments.insert(at + budget.window);
        }
        load(&mut self.state.feeds[index], wanted.window, at);
        self.state.feeds[index].open.retain(|day| !wanted.window.contains(*day));
        for one in self.newest.iter_mut().filter(|one| one.feed == index && wanted.window.contains(one.day)) {
            if is_complete(self.state.feeds[index].feed.time_zone, one.day, at) {
                one.read_at.get_or_insert(at);
            }
        }
        self.calls.push(wanted);
    }
}

fn place(wanted: &Wanted, feed: usize) -> Place {
    (wanted.priority, Reverse(wanted.window.to()), feed, wanted.window.from())
}

/// Whether a window is one of this feed's.
fn is_of(feed: &Feed, wanted: &Wanted) -> bool {
    wanted.export == feed.export && wanted.request.program == feed.program
}

fn newest(state: &FeedState, feed: usize, now: DateTime<Utc>, until: DateTime<Utc>) -> impl Iterator<Item = Newest> {
    let zone = state.feed.time_zone;
    let is_read = move |day: NaiveDate| {
        let cell = state.cells.binary_search_by_key(&day, |(day, _)| *day).ok();
        cell.and_then(|index| state.cells[index].1.as_of).is_some_and(|as_of| is_complete(zone, day, as_of))
    };
    BTreeSet::from([now, until].map(|at| day_in(zone, at).pred_opt()))
        .into_iter()
        .flatten()
        .filter(move |day| *day >= state.feed.since && !is_read(*day))
        .map(move |day| Newest { feed, day, read_at: None })
}

/// The rows of a window, ordered at `at`, are here.
fn load(state: &mut FeedState, window: Window, at: DateTime<Utc>) {
    let feed = &state.feed;
    let from = state.cells.partition_point(|(day, _)| *day < window.from());
    let to = state.cells.partition_point(|(day, _)| *day <= window.to());
    let cells = window.days().map(|day| {
        let next_refresh_at = next_refresh_at(feed.time_zone, day, at, &feed.rules, 0);
        (day, Cell { as_of: Some(at), next_refresh_at, failed_at: None })
    });
    state.cells.splice(from..to, cells);
}
