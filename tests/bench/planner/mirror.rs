//! What a strategy has read, what it may still spend, and how far its rows were from the truth.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use impact_mirror::clock::day_end;
use impact_mirror::export::{Bucket, Reason, Window};
use impact_mirror::plan::{is_complete, next_refresh_at};

use crate::brand::{Brand, Feed};
use crate::score::Score;
use crate::truth::Truth;

/// A cell that was read.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// When.
    pub as_of: DateTime<Utc>,
    /// When it is to be read again.
    pub next_refresh_at: Option<DateTime<Utc>>,
    version: usize,
    unchanged_reads: u32,
}

/// A call that was made.
#[derive(Debug, Clone, Copy)]
pub struct Charge {
    /// When.
    pub at: DateTime<Utc>,
    /// What for.
    pub reason: Reason,
}

/// The mirror of one strategy.
pub struct Mirror<'a> {
    /// Whose it is.
    pub brand: &'a Brand,
    /// How it does.
    pub score: Score,
    truth: &'a Truth<'a>,
    /// Feed by feed and day by day from `since` on.
    cells: Vec<Vec<Option<Held>>>,
    charges: BTreeMap<Bucket, Vec<Charge>>,
    /// Days before the start that were never read.
    missing: BTreeMap<Bucket, usize>,
    /// The newest day of each feed that was read after its end.
    newest_complete: Vec<NaiveDate>,
}

impl<'a> Mirror<'a> {
    /// A mirror without rows.
    pub fn new(brand: &'a Brand, truth: &'a Truth<'a>) -> Self {
        let mut missing = BTreeMap::new();
        for feed in &brand.feeds {
            *missing.entry(feed.bucket()).or_default() += feed.days(brand.start - TimeDelta::seconds(1)).count();
        }
        Self {
            score: Score::default(),
            cells: brand.feeds.iter().map(|feed| vec![None; feed.days(brand.end).count()]).collect(),
            charges: BTreeMap::new(),
            newest_complete: vec![brand.recent_from.pred_opt().unwrap(); brand.feeds.len()],
            missing,
            brand,
            truth,
        }
    }

    /// What is held of a cell.
    pub fn held(&self, feed: usize, day: NaiveDate) -> Option<Held> {
        self.cells[feed][index(&self.brand.feeds[feed], day)]
    }

    /// Whether a day that is held has other rows by now.
    pub fn has_changed(&self, feed: usize, day: NaiveDate, now: DateTime<Utc>) -> bool {
        self.held(feed, day).is_some_and(|held| self.truth.version(feed, day, now) != held.version)
    }

    /// The calls that still count.
    pub fn charges(&self, bucket: Bucket, now: DateTime<Utc>) -> impl Iterator<Item = Charge> {
        let all = self.charges.get(&bucket).into_iter().flatten();
        all.rev().take_while(move |charge| charge.at + bucket.window() > now).copied()
    }

    /// How many calls may be made now.
    pub fn calls_left(&self, bucket: Bucket, now: DateTime<Utc>) -> usize {
        self.brand.limit(bucket) as usize - self.charges(bucket, now).count()
    }

    /// When a cell has become due, if it is: a day is due once it is asked for, and then by its rules.
    pub fn due_since(&self, feed: usize, day: NaiveDate, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let due_at = match self.held(feed, day) {
            None => Some(self.brand.feeds[feed].asked_from(day).max(self.brand.start)),
            Some(held) => held.next_refresh_at,
        };
        due_at.filter(|at| *at <= now)
    }

    /// One call: all days of the window are as impact.com has them now.
    pub fn read(&mut self, feed: usize, window: Window, reason: Reason, now: DateTime<Utc>) {
        let settings = &self.brand.feeds[feed];
        let bucket = settings.bucket();
        assert!(self.calls_left(bucket, now) > 0, "one call too many on {bucket} at {now}");
        assert!(window.len_days() <= settings.export.max_window_days, "{window} is too long");
        self.charges.entry(bucket).or_default().push(Charge { at: now, reason });
        self.score.call(bucket);
        for day in window.days() {
            self.read_cell(feed, day, now);
        }
        if self.missing[&bucket] == 0 {
            self.score.backfill_ended(bucket, now);
        }
    }

    fn read_cell(&mut self, feed: usize, day: NaiveDate, now: DateTime<Utc>) {
        let settings = &self.brand.feeds[feed];
        assert!(settings.asked_from(day) <= now, "{day} is not there yet at {now}");
        self.settle(feed, day, now);
        let version = self.truth.version(feed, day, now);
        let cell = &mut self.cells[feed][index(settings, day)];
        let unchanged_reads = match cell {
            Some(held) if held.version == version => held.unchanged_reads + 1,
            Some(_) | None => 0,
        };
        if cell.is_none() && day_end(settings.zone, day) <= self.brand.start {
            *self.missing.get_mut(&settings.bucket()).unwrap() -= 1;
        }
        let rules = &settings.export.refresh;
        let next_refresh_at = next_refresh_at(settings.zone, day, now, rules, unchanged_reads);
        *cell = Some(Held { as_of: now, next_refresh_at, version, unchanged_reads });
        if is_complete(settings.zone, day, now) {
            self.newest_complete[feed] = self.newest_complete[feed].max(day);
        }
    }

    /// Counts the time until `now` for which a cell was out of date since it was last read.
    fn settle(&mut self, feed: usize, day: NaiveDate, now: DateTime<Utc>) {
        let settings = &self.brand.feeds[feed];
        let from = match self.held(feed, day) {
            None => Some(settings.asked_from(day).max(self.brand.start)),
            Some(held) => self.truth.changes(feed, day).get(held.version).copied(),
        };
        if let Some(from) = from.filter(|from| *from < now) {
            let is_missing = self.held(feed, day).is_none();
            let is_recent = day >= self.brand.recent_from;
            let end = day_end(settings.zone, day);
            self.score.out_of_date(&settings.export.name, is_recent, is_missing, end, from, now);
        }
    }

    /// Notes how old the newest complete day of each feed is.
    pub fn look(&mut self, now: DateTime<Utc>) {
        for (feed, newest) in self.brand.feeds.iter().zip(&self.newest_complete) {
            self.score.age(now - day_end(feed.zone, *newest));
        }
    }

    /// Counts what is wrong at the end.
    pub fn finish(mut self) -> Score {
        let end = self.brand.end;
        for feed in 0..self.brand.feeds.len() {
            for day in self.brand.feeds[feed].days(end) {
                self.settle(feed, day, end);
                let held = self.held(feed, day);
                let is_current = held.is_some_and(|held| held.version == self.truth.version(feed, day, end));
                let is_new = day_end(self.brand.feeds[feed].zone, day) > self.brand.start;
                if !is_current && (held.is_some() || is_new) {
                    self.score.wrong_rows += self.truth.wrong_rows(feed, day, held.map(|held| held.as_of));
                }
            }
        }
        self.score
    }
}

fn index(feed: &Feed, day: NaiveDate) -> usize {
    usize::try_from((day - feed.export.since).num_days()).expect("no day before the first is asked for")
}
