//! What impact.com has: for every cell the times at which its content becomes another one, and the rows at any time.

use std::collections::HashMap;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};

use crate::brand::{Brand, Feed};

/// Every action is paid, and stays as it is, long before it is as old as this.
const SETTLED_AFTER_DAYS: u64 = 70;
/// One in so many cells is checked against the rows themselves.
const SAMPLED: usize = 23;

/// The changes of all cells while the simulation lasts.
pub struct Truth<'a> {
    brand: &'a Brand,
    /// Feed by feed and day by day, from `first` on.
    changes: Vec<Vec<Vec<DateTime<Utc>>>>,
    first: NaiveDate,
}

impl<'a> Truth<'a> {
    /// Asks the sandbox when the cells change, with two threads, and checks a sample of the answers.
    pub fn new(brand: &'a Brand) -> Self {
        let first = brand.recent_from + Days::new(30) - Days::new(SETTLED_AFTER_DAYS);
        let half = brand.feeds.len().div_ceil(2);
        let changes = std::thread::scope(|scope| {
            let halves: Vec<_> = brand
                .feeds
                .chunks(half)
                .map(|feeds| {
                    scope.spawn(move || feeds.iter().map(|feed| changes_of(brand, feed, first)).collect::<Vec<_>>())
                })
                .collect();
            halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
        });
        let truth = Self { brand, changes, first };
        truth.check();
        truth
    }

    /// The times at which a cell becomes another one, all after the start.
    pub fn changes(&self, feed: usize, day: NaiveDate) -> &[DateTime<Utc>] {
        let index = usize::try_from((day - self.first).num_days());
        index.ok().and_then(|index| self.changes[feed].get(index)).map_or(&[], Vec::as_slice)
    }

    /// How often a cell has changed by then: as long as this stays the same, so does the cell.
    pub fn version(&self, feed: usize, day: NaiveDate, at: DateTime<Utc>) -> usize {
        self.changes(feed, day).partition_point(|change| *change <= at)
    }

    /// How many rows are missing, extra or different at the end where the rows as of `held` are all there is.
    pub fn wrong_rows(&self, feed: usize, day: NaiveDate, held: Option<DateTime<Utc>>) -> usize {
        let right = self.file(feed, day, self.brand.end);
        let held = held.map_or_else(Vec::new, |at| self.file(feed, day, at));
        let mut counts: HashMap<&str, i64> = HashMap::new();
        for row in right.iter().map(String::as_str) {
            *counts.entry(row).or_default() += 1;
        }
        for row in held.iter().map(String::as_str) {
            *counts.entry(row).or_default() -= 1;
        }
        let missing: i64 = counts.values().filter(|count| **count > 0).sum();
        let extra: i64 = -counts.values().filter(|count| **count < 0).sum::<i64>();
        // A row that is different is both.
        usize::try_from(missing.max(extra)).unwrap()
    }

    fn file(&self, feed: usize, day: NaiveDate, at: DateTime<Utc>) -> Vec<String> {
        let feed = &self.brand.feeds[feed];
        let sid = self.brand.settings.accounts[&feed.account].sid.as_str();
        let csv =
            self.brand.sandbox.truth_at(at, sid, feed.report(), feed.program.as_str(), (day, day), &feed.params());
        rows(&String::from_utf8(csv).unwrap())
    }

    /// Fails where a sampled cell is not another one just at the listed times, or a cell too old to be listed changes.
    fn check(&self) {
        let second = TimeDelta::seconds(1);
        let mut pairs_seen = 0;
        for (feed, settings) in self.brand.feeds.iter().enumerate() {
            for day in settings.days(self.brand.end).skip(feed % SAMPLED).step_by(SAMPLED) {
                let from = self.brand.start.max(settings.asked_from(day));
                let changes = self.changes(feed, day).iter().copied().filter(|at| *at > from && *at < self.brand.end);
                let times: Vec<_> = std::iter::once(from).chain(changes).chain([self.brand.end]).collect();
                for pair in times.windows(2).step_by(times.len() / 8 + 1) {
                    let before = self.file(feed, day, pair[1] - second);
                    let place = || format!("{} {} {day}", settings.export.name, settings.program);
                    assert!(self.file(feed, day, pair[0]) == before, "{} changes after {}", place(), pair[0]);
                    if pair[1] < self.brand.end {
                        assert!(before != self.file(feed, day, pair[1]), "{} stays at {}", place(), pair[1]);
                    }
                    pairs_seen += 1;
                }
            }
        }
        assert!(pairs_seen > self.brand.feeds.len(), "nothing was checked");
    }
}

fn changes_of(brand: &Brand, feed: &Feed, first: NaiveDate) -> Vec<Vec<DateTime<Utc>>> {
    let sid = brand.settings.accounts[&feed.account].sid.as_str();
    first
        .iter_days()
        .take_while(|day| *day <= feed.last_day(brand.end))
        .map(|day| {
            let all = brand.sandbox.changes(sid, feed.report(), feed.program.as_str(), day, &feed.params());
            all.into_iter().filter(|at| *at > brand.start && *at <= brand.end).collect()
        })
        .collect()
}

/// The records of a CSV file without its header; a line end within quotes ends no record.
fn rows(csv: &str) -> Vec<String> {
    let mut rows = vec![String::new()];
    let mut quoted = false;
    for char in csv.chars() {
        quoted ^= char == '"';
        if char == '\n' && !quoted {
            rows.push(String::new());
        } else {
            rows.last_mut().unwrap().push(char);
        }
    }
    rows.into_iter().skip(1).filter(|row| !row.is_empty()).collect()
}
