//! Which archived file is to be loaded next by a reload. Pure.
//!
//! Windows overlap, so that loading an older file again takes days back to what it says until the newer ones follow: files
//! are loaded in the order in which they first were, and one is only begun where all that has to follow it can.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;

use crate::export::Window;

/// A committed load of an account and program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loaded {
    /// Its id; later loads have higher ones.
    pub id: i64,
    /// The load that brought its file from impact.com: itself, or the one that it repeated.
    pub origin: i64,
    /// Its days.
    pub window: Window,
    /// Whether its file can be had from the archive.
    pub is_archived: bool,
}

/// What a reload has to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Todo {
    /// Loads whose files are to be loaded again, in this order.
    pub loads: Vec<i64>,
    /// Loads of days that were asked for and that stay as they are, because their file, or one that would have to be
    /// loaded after it, cannot be had.
    pub impossible: BTreeSet<i64>,
    /// Days, asked for or not, that hold an older file than impact.com gave last, which cannot be had.
    pub outdated: BTreeSet<NaiveDate>,
}

/// What counts of these loads where days before `first` are kept no longer.
pub fn kept(loads: Vec<Loaded>, first: NaiveDate) -> Vec<Loaded> {
    let kept = |load: Loaded| {
        let window = Window::new(load.window.from().max(first), load.window.to())?;
        Some(Loaded { window, ..load })
    };
    loads.into_iter().filter_map(kept).collect()
}

/// Says what is left to do: `days` are to be loaded again by a load later than `since`, and all other days are to hold
/// what impact.com gave last.
pub fn todo(loads: &[Loaded], days: Window, since: i64) -> Todo {
    let by_id: BTreeMap<i64, Loaded> = loads.iter().map(|load| (load.id, *load)).collect();
    let Contents { wanted, written } = Contents::of(&by_id);
    let possible = possible(&by_id, &wanted);

    let mut next = BTreeSet::new();
    let mut impossible = BTreeSet::new();
    let mut outdated = BTreeSet::new();
    for (day, origin) in &wanted {
        let last = written[day];
        let is_asked_for = days.contains(*day);
        if last.origin == *origin && (!is_asked_for || last.id > since) {
            continue;
        }
        if possible.contains(origin) {
            next.insert(*origin);
            continue;
        }
        if is_asked_for {
            impossible.insert(*origin);
        }
        if last.origin != *origin {
            outdated.insert(*day);
        }
    }
    // Each of them takes its other days back, so that what those should hold comes after it.
    let mut open: Vec<i64> = next.iter().copied().collect();
    while let Some(origin) = open.pop() {
        for day in by_id[&origin].window.days() {
            if next.insert(wanted[&day]) {
                open.push(wanted[&day]);
            }
        }
    }
    Todo { loads: next.into_iter().collect(), impossible, outdated }
}

/// The days that hold an older file than impact.com gave last: a reload loaded that, and not what has to follow it.
pub fn outdated(loads: &[Loaded]) -> BTreeSet<NaiveDate> {
    let Contents { wanted, written } = Contents::of(&loads.iter().map(|load| (load.id, *load)).collect());
    written.into_iter().filter(|(day, last)| last.origin != wanted[day]).map(|(day, _)| day).collect()
}

/// What some loads made of days.
struct Contents {
    /// The load whose file a day should hold.
    wanted: BTreeMap<NaiveDate, i64>,
    /// The load that wrote a day last.
    written: BTreeMap<NaiveDate, Loaded>,
}

impl Contents {
    fn of(loads: &BTreeMap<i64, Loaded>) -> Self {
        let mut contents = Self { wanted: BTreeMap::new(), written: BTreeMap::new() };
        for load in loads.values() {
            for day in load.window.days() {
                let origin = contents.wanted.entry(day).or_insert(load.origin);
                *origin = (*origin).max(load.origin);
                contents.written.insert(day, *load);
            }
        }
        contents
    }
}

/// The loads that can be repeated without losing what came after them.
fn possible(loads: &BTreeMap<i64, Loaded>, wanted: &BTreeMap<NaiveDate, i64>) -> BTreeSet<i64> {
    let mut possible = BTreeSet::new();
    // From the newest back: what follows a load is newer, and so decided before it.
    for load in loads.values().rev() {
        let follows = |day: NaiveDate| wanted[&day] == load.id || possible.contains(&wanted[&day]);
        if load.origin == load.id && load.is_archived && load.window.days().all(follows) {
            possible.insert(load.id);
        }
    }
    possible
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(from: u32, to: u32) -> Window {
        let day = |day| NaiveDate::from_ymd_opt(2026, 5, day).expect("a day");
        Window::new(day(from), day(to)).expect("in order")
    }

    fn load(id: i64, from: u32, to: u32) -> Loaded {
        Loaded { id, origin: id, window: days(from, to), is_archived: true }
    }

    fn again(id: i64, of: Loaded) -> Loaded {
        Loaded { id, ..of }
    }

    fn loads(loads: &[Loaded], asked: Window, since: i64) -> Vec<i64> {
        let todo = todo(loads, asked, since);
        assert_eq!(todo.impossible, BTreeSet::new());
        todo.loads
    }

    #[test]
    fn only_what_days_hold_is_loaded_again_oldest_first() {
        let all = [load(1, 1, 10), load(2, 1, 10), load(3, 20, 20), load(4, 11, 19)];
        assert_eq!(loads(&all, days(1, 31), 4), [2, 3, 4]);
        assert_eq!(loads(&all, days(11, 12), 4), [4]);
        assert_eq!(loads(&all, days(25, 31), 4), Vec::<i64>::new());
    }

    #[test]
    fn what_an_older_file_takes_back_is_loaded_again_after_it() {
        let (month, week, day) = (load(1, 1, 20), load(2, 15, 25), load(3, 25, 25));
        assert_eq!(loads(&[month, week, day], days(1, 2), 3), [1, 2, 3], "also where it was not asked for");
        assert_eq!(loads(&[month, week, day], days(16, 16), 3), [2, 3]);
    }

    #[test]
    fn days_that_are_kept_no_longer_are_neither_loaded_again_nor_missed() {
        let (month, week, day) = (load(1, 1, 20), load(2, 5, 9), load(3, 20, 20));
        let week = Loaded { is_archived: false, ..week };
        let first = days(10, 10).from();
        let all = kept(vec![month, week, day], first);
        assert_eq!(loads(&all, days(1, 31), 3), [1, 3], "the week is past, so that it need not follow the month");
        assert_eq!(loads(&all, days(1, 9), 3), Vec::<i64>::new());
    }

    #[test]
    fn a_reload_that_was_cut_short_goes_on_where_it_stopped() {
        let (month, week) = (load(1, 1, 20), load(2, 15, 25));
        let done = [month, week, again(3, month)];
        assert_eq!(loads(&done, days(1, 31), 2), [2]);
        assert_eq!(loads(&done, days(1, 2), 2), [2], "days outside are put right too");
        assert_eq!(loads(&[done.as_slice(), &[again(4, week)]].concat(), days(1, 31), 2), Vec::<i64>::new());
    }

    #[test]
    fn what_impact_com_gives_meanwhile_is_not_taken_back() {
        let (month, week, fresh) = (load(1, 1, 20), load(2, 15, 25), load(3, 18, 25));
        assert_eq!(loads(&[month, week, fresh], days(1, 31), 2), [1, 2, 3], "it follows what would take it back");
        let all = load(3, 1, 25);
        assert_eq!(loads(&[month, week, all], days(1, 31), 2), Vec::<i64>::new());
    }

    #[test]
    fn days_are_outdated_where_an_older_file_was_loaded_and_the_newer_cannot_be_had() {
        let (month, week) = (load(1, 1, 20), load(2, 15, 25));
        assert_eq!(outdated(&[month, week]), BTreeSet::new());
        let between: BTreeSet<NaiveDate> = days(15, 20).days().collect();
        assert_eq!(outdated(&[month, week, again(3, month)]), between);
        assert_eq!(outdated(&[month, week, again(3, month), again(4, week)]), BTreeSet::new());

        let week = Loaded { is_archived: false, ..week };
        let loads = [month, week, again(3, month)];
        for (asked, impossible) in [(days(1, 31), BTreeSet::from([2])), (days(1, 2), BTreeSet::new())] {
            let todo = todo(&loads, asked, 2);
            assert_eq!(todo, Todo { loads: Vec::new(), impossible, outdated: between.clone() });
        }
    }

    #[test]
    fn a_file_is_not_loaded_where_one_that_has_to_follow_is_missing() {
        let (month, week) = (load(1, 1, 20), load(2, 15, 25));
        let week = Loaded { is_archived: false, ..week };
        let todo = todo(&[month, week, load(3, 26, 26)], days(1, 31), 3);
        assert_eq!(todo.impossible, BTreeSet::from([1, 2]));
        assert_eq!(todo.loads, [3]);
    }
}
