//! Two strategies as people write them: first come first served, and a fixed look back every morning.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, Timelike, Utc};

use impact_mirror::clock::day_in;
use impact_mirror::export::{Bucket, Reason, Window};

use crate::brand::{Brand, Feed};
use crate::mirror::Mirror;

/// The hour of the morning, in the account's zone.
const MORNING: u32 = 4;
/// How many days a look back covers, beside today where today is asked for.
const LOOK_BACK_DAYS: u64 = 30;

/// Serves windows in the order in which their first cell came due; of those that came due together the newest first,
/// and then in the order of the configuration.
pub fn first_come_first_served(mirror: &mut Mirror<'_>, now: DateTime<Utc>) {
    let brand = mirror.brand;
    let mut queue = Vec::new();
    for (place, feed) in brand.feeds.iter().enumerate().filter(|(_, feed)| mirror.calls_left(feed.bucket(), now) > 0) {
        let mut windows: BTreeMap<Window, DateTime<Utc>> = BTreeMap::new();
        for day in feed.days(now) {
            if let Some(since) = mirror.due_since(place, day, now) {
                let first_since = windows.entry(month_around(feed, day, now)).or_insert(since);
                *first_since = since.min(*first_since);
            }
        }
        queue.extend(windows.into_iter().map(|(window, since)| (since, Reverse(window.to()), place, window)));
    }
    queue.sort_unstable();
    for (_, _, place, window) in queue {
        if mirror.calls_left(brand.feeds[place].bucket(), now) > 0 {
            mirror.read(place, window, Reason::Refresh, now);
        }
    }
}

/// Reads the last days of everything every morning, and spends the rest on days that were never read.
#[derive(Default)]
pub struct LookBack {
    queue: BTreeMap<Bucket, VecDeque<(usize, Window)>>,
    last_morning: Option<NaiveDate>,
}

impl LookBack {
    /// Goes on with this morning's list, and then with the backfill, newest first.
    pub fn step(&mut self, mirror: &mut Mirror<'_>, now: DateTime<Utc>) {
        let brand = mirror.brand;
        let local = now.with_timezone(&brand.feeds[0].zone);
        if local.hour() >= MORNING && self.last_morning != Some(local.date_naive()) {
            self.last_morning = Some(local.date_naive());
            self.queue = look_back(brand, now);
        }
        for (bucket, queue) in &mut self.queue {
            while mirror.calls_left(*bucket, now) > 0 {
                let Some((place, window)) = queue.pop_front() else { break };
                mirror.read(place, window, Reason::Refresh, now);
            }
            let left = mirror.calls_left(*bucket, now);
            for (place, window) in backfill(mirror, *bucket, now).into_iter().take(left) {
                mirror.read(place, window, Reason::Backfill, now);
            }
        }
    }
}

fn look_back(brand: &Brand, now: DateTime<Utc>) -> BTreeMap<Bucket, VecDeque<(usize, Window)>> {
    let mut queue: BTreeMap<Bucket, VecDeque<(usize, Window)>> = BTreeMap::new();
    for (place, feed) in brand.feeds.iter().enumerate() {
        let last = feed.last_day(now);
        let yesterday = day_in(feed.zone, now) - Days::new(1);
        let first = (yesterday - Days::new(LOOK_BACK_DAYS - 1)).max(feed.export.since);
        let window = Window::new(first, last).expect("the first day is not the last");
        let mut windows = window.split(feed.export.max_window_days);
        windows.reverse();
        queue.entry(feed.bucket()).or_default().extend(windows.into_iter().map(|window| (place, window)));
    }
    queue
}

fn backfill(mirror: &Mirror<'_>, bucket: Bucket, now: DateTime<Utc>) -> Vec<(usize, Window)> {
    if mirror.calls_left(bucket, now) == 0 {
        return Vec::new();
    }
    let mut windows = Vec::new();
    for (place, feed) in mirror.brand.feeds.iter().enumerate().filter(|(_, feed)| feed.bucket() == bucket) {
        let missing = feed.days(now).filter(|day| mirror.held(place, *day).is_none());
        let mut of_feed: Vec<Window> = missing.map(|day| month_around(feed, day, now)).collect();
        of_feed.dedup();
        windows.extend(of_feed.into_iter().map(|window| (place, window)));
    }
    windows.sort_unstable_by_key(|(place, window)| (Reverse(window.to()), *place));
    windows
}

/// The month around a day as far as it is asked for, or the day alone where the export cannot be asked for more.
fn month_around(feed: &Feed, day: NaiveDate, now: DateTime<Utc>) -> Window {
    if feed.export.max_window_days < 31 {
        return Window::day(day);
    }
    let first = day.with_day(1).expect("every month has a first");
    let last = first + Months::new(1) - Days::new(1);

    Window::new(first.max(feed.export.since), last.min(feed.last_day(now))).expect("the day lies in it")
}
