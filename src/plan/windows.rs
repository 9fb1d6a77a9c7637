//! Due days joined into windows: as few as possible, and the same ones again next time.

use std::collections::BTreeSet;

use chrono::{Datelike, Days, Months, NaiveDate};

use crate::export::Window;

/// A unit of the calendar that windows are aligned to, so that the same windows come back and can be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Day,
    Week,
    Month,
}

impl Unit {
    const ALL: [Self; 3] = [Self::Day, Self::Week, Self::Month];

    const fn max_days(self) -> u32 {
        match self {
            Self::Day => 1,
            Self::Week => 7,
            Self::Month => 31,
        }
    }

    fn around(self, day: NaiveDate) -> Window {
        let (from, to) = match self {
            Self::Day => (day, day),
            Self::Week => {
                let monday = day - Days::new(u64::from(day.weekday().num_days_from_monday()));
                (monday, monday + Days::new(6))
            }
            Self::Month => {
                let first = day.with_day(1).expect("every month has a first");
                (first, first + Months::new(1) - Days::new(1))
            }
        };
        Window::new(from, to).expect("a unit's days are in order")
    }
}

/// Covers the `due` days with the fewest windows of at most `max_days` days that touch no `blocked` day and stay
/// within `whole`. Among covers of the same size the one aligned to the smallest calendar unit is taken. Days between due
/// days that are not due themselves are read along, for a job costs the same; so are days that are due `soon` and adjoin a
/// window without a gap, as far as it may be wide.
pub(super) fn cover(
    due: &[NaiveDate],
    soon: &[NaiveDate],
    blocked: &BTreeSet<NaiveDate>,
    whole: Window,
    max_days: u32,
) -> Vec<Window> {
    let mut windows = Vec::new();
    for free in free_stretches(whole, blocked) {
        let days = within(due, free);
        let soon = within(soon, free);
        if soon.is_empty() || days.is_empty() {
            windows.extend(cover_stretch(days, free, max_days));
        } else {
            windows.extend(cover_stretch(&read_along(days, soon, free, max_days), free, max_days));
        }
    }
    windows
}

fn within(days: &[NaiveDate], window: Window) -> &[NaiveDate] {
    let from = days.partition_point(|day| *day < window.from());
    let to = days.partition_point(|day| *day <= window.to());
    &days[from..to]
}

/// The due days, and those due soon that the fewest windows for them can take along: each window grows, day by day, over
/// adjoining days that are due soon. The grown windows cover all that is taken, so there are never more of them.
fn read_along(due: &[NaiveDate], soon: &[NaiveDate], free: Window, max_days: u32) -> Vec<NaiveDate> {
    let is_soon = |day: &NaiveDate| soon.binary_search(day).is_ok();
    let mut days: BTreeSet<NaiveDate> = due.iter().copied().collect();
    for window in greedy(due, free, max_days) {
        let (mut from, mut to) = (window.from(), window.to());
        let mut left = max_days.saturating_sub(window.len_days());
        // Newer days change more, so they come first.
        while let Some(next) = to.succ_opt().filter(|day| left > 0 && is_soon(day)) {
            (to, left) = (next, left - 1);
            days.insert(next);
        }
        while let Some(next) = from.pred_opt().filter(|day| left > 0 && is_soon(day)) {
            (from, left) = (next, left - 1);
            days.insert(next);
        }
    }
    days.into_iter().collect()
}

fn free_stretches(whole: Window, blocked: &BTreeSet<NaiveDate>) -> Vec<Window> {
    let mut stretches = Vec::new();
    let mut from = whole.from();
    for day in blocked.range(whole.from()..=whole.to()) {
        stretches.extend(day.pred_opt().and_then(|to| Window::new(from, to)));
        from = *day + Days::new(1);
    }
    stretches.extend(Window::new(from, whole.to()));
    stretches
}

fn cover_stretch(days: &[NaiveDate], free: Window, max_days: u32) -> Vec<Window> {
    let fewest = greedy(days, free, max_days);
    Unit::ALL
        .into_iter()
        .filter(|unit| unit.max_days() <= max_days)
        .map(|unit| aligned(days, free, unit))
        .find(|windows| windows.len() == fewest.len())
        .unwrap_or(fewest)
}

fn aligned(days: &[NaiveDate], free: Window, unit: Unit) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    for day in days {
        if windows.last().is_none_or(|window| !window.contains(*day)) {
            let unit = unit.around(*day);
            windows.extend(Window::new(unit.from().max(free.from()), unit.to().min(free.to())));
        }
    }
    windows
}

/// From the newest day backwards, so that what is cut off is the oldest.
fn greedy(days: &[NaiveDate], free: Window, max_days: u32) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    let mut remaining = days;
    while let Some(to) = remaining.last() {
        let earliest = (*to - Days::new(u64::from(max_days.max(1) - 1))).max(free.from());
        let start = remaining.partition_point(|day| *day < earliest);
        windows.extend(Window::new(remaining[start], *to));
        remaining = &remaining[..start];
    }
    windows.reverse();
    windows
}
