//! The coverage calendar: which state each day is in, the worst of several programs, and the shapes that draw it. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{Datelike, Days as DaySpan, NaiveDate};

use crate::store::calendar::{DayCount, FeedDays, Run};

/// The state of a day, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum State {
    Settled,
    Loaded,
    Stale,
    Planned,
    InFlight,
    Missing,
    Failed,
}

impl State {
    pub const ALL: [Self; 7] =
        [Self::Settled, Self::Loaded, Self::Stale, Self::Planned, Self::InFlight, Self::Missing, Self::Failed];

    /// The word of the view `coverage`, which is the class of the style sheet too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Loaded => "loaded",
            Self::Stale => "stale",
            Self::Planned => "planned",
            Self::InFlight => "in_flight",
            Self::Missing => "missing",
            Self::Failed => "failed",
        }
    }

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::InFlight => "in flight",
            Self::Settled | Self::Loaded | Self::Stale | Self::Planned | Self::Missing | Self::Failed => self.name(),
        }
    }

    /// What it means.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Settled => "loaded, and never to be read again",
            Self::Loaded => "to be read again later",
            Self::Stale => "loaded, and due to be read again",
            Self::Planned => "to be ordered",
            Self::InFlight => "ordered, not loaded yet",
            Self::Missing => "never loaded",
            Self::Failed => "the last job failed",
        }
    }

    fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|state| state.name() == name).unwrap_or(Self::Missing)
    }
}

/// Days one after the other with their states; `None` for days that are not mirrored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Days {
    pub first: NaiveDate,
    pub states: Vec<Option<State>>,
}

impl Days {
    fn empty(first: NaiveDate, last: NaiveDate) -> Self {
        let count = usize::try_from((last - first).num_days() + 1).unwrap_or_default();
        Self { first, states: vec![None; count] }
    }

    /// The last day, or the one before the first where there is none.
    pub fn last(&self) -> NaiveDate {
        self.day(self.states.len()).pred_opt().unwrap_or(self.first)
    }

    fn day(&self, index: usize) -> NaiveDate {
        self.first + DaySpan::new(index as u64)
    }

    fn index(&self, day: NaiveDate) -> usize {
        usize::try_from((day - self.first).num_days()).unwrap_or_default()
    }

    fn paint(&mut self, from: NaiveDate, to: NaiveDate, state: State) {
        if to < self.first {
            return;
        }
        let (from, to) = (self.index(from), self.index(to));
        for one in self.states.iter_mut().take(to + 1).skip(from).flatten() {
            *one = state;
        }
    }

    /// How many days are in each state, the worst first; those that occur.
    pub fn counts(&self) -> Vec<(State, usize)> {
        let count = |state| self.states.iter().flatten().filter(|one| **one == state).count();
        State::ALL.into_iter().rev().map(|state| (state, count(state))).filter(|(_, count)| *count > 0).collect()
    }

    /// In words, as in `failed 2, loaded 88`.
    pub fn words(&self) -> String {
        let words: Vec<String> =
            self.counts().iter().map(|(state, count)| format!("{} {count}", state.words())).collect();
        if words.is_empty() { "no days".to_owned() } else { words.join(", ") }
    }

    /// Days one after the other in one state that is not as it should be: failed, missing, on the way; the newest first.
    pub fn open_runs(&self) -> Vec<(NaiveDate, NaiveDate, State)> {
        let mut runs: Vec<(NaiveDate, NaiveDate, State)> = Vec::new();
        for (index, state) in self.states.iter().enumerate() {
            let Some(state) = state.filter(|state| *state >= State::Planned) else { continue };
            let day = self.day(index);
            match runs.last_mut() {
                Some((_, to, of)) if *of == state && to.succ_opt() == Some(day) => *to = day,
                Some(_) | None => runs.push((day, day, state)),
            }
        }
        runs.reverse();
        runs
    }

    /// The same days as a part of a longer time.
    pub fn within(&self, first: NaiveDate, last: NaiveDate) -> Self {
        let mut longer = Self::empty(first, last);
        let offset = longer.index(self.first);
        for (to, from) in longer.states.iter_mut().skip(offset).zip(&self.states) {
            *to = *from;
        }
        longer
    }

    /// A path for each state, for a strip with a unit of width for each step of so many days, the worst of a step counting;
    /// steps of one state that touch are one shape.
    pub fn strip(&self, step: usize) -> Vec<Shape> {
        let steps: Vec<Option<State>> =
            self.states.chunks(step.max(1)).map(|days| days.iter().flatten().max().copied()).collect();
        let mut paths: BTreeMap<State, String> = BTreeMap::new();
        let mut at = 0;
        for run in steps.chunk_by(|a, b| a == b) {
            if let Some(state) = run[0] {
                let _ = write!(paths.entry(state).or_default(), "M{at} 0h{}v1h-{}z", run.len(), run.len());
            }
            at += run.len();
        }
        paths.into_iter().map(Shape::new).collect()
    }

    /// How many units a strip is wide.
    pub fn strip_width(&self, step: usize) -> usize {
        self.states.len().div_ceil(step.max(1))
    }

    /// The calendar of each year, the newest first: a column for each week, a row for each day of the week, cells of 10 in 12.
    pub fn years(&self) -> Vec<Year> {
        let mut years: Vec<Year> = Vec::new();
        for (index, state) in self.states.iter().enumerate() {
            let day = self.day(index);
            if years.last().is_none_or(|year| year.number != day.year()) {
                years.push(Year::new(day.year()));
            }
            if let (Some(state), Some(year)) = (state, years.last_mut()) {
                year.add(day, *state);
            }
        }
        years.reverse();
        years
    }
}

/// All cells of one state, as the path of an SVG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub state: State,
    pub path: String,
}

impl Shape {
    fn new((state, path): (State, String)) -> Self {
        Self { state, path }
    }
}

/// A year of the calendar.
#[derive(Debug, Clone)]
pub(super) struct Year {
    pub number: i32,
    /// Where each month begins that has days: its name and how far to the right.
    pub months: Vec<(&'static str, u32)>,
    shapes: BTreeMap<State, String>,
    counts: BTreeMap<State, usize>,
}

impl Year {
    fn new(year: i32) -> Self {
        Self { number: year, months: Vec::new(), shapes: BTreeMap::new(), counts: BTreeMap::new() }
    }

    fn add(&mut self, day: NaiveDate, state: State) {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let begins_on =
            NaiveDate::from_ymd_opt(self.number, 1, 1).map_or(0, |day| day.weekday().num_days_from_monday());
        let week = (day.ordinal0() + begins_on) / 7;
        let (x, y) = (week * 12, day.weekday().num_days_from_monday() * 12);
        let month = MONTHS[day.month0() as usize];
        if day.day() == 1 && self.months.last().is_none_or(|(last, _)| *last != month) {
            self.months.push((month, x));
        }
        let _ = write!(self.shapes.entry(state).or_default(), "M{x} {y}h10v10h-10z");
        *self.counts.entry(state).or_default() += 1;
    }

    pub fn shapes(&self) -> Vec<Shape> {
        self.shapes.clone().into_iter().map(Shape::new).collect()
    }

    pub fn words(&self) -> String {
        let words: Vec<String> =
            self.counts.iter().rev().map(|(state, count)| format!("{} {count}", state.words())).collect();
        words.join(", ")
    }
}

/// The days of each feed of an export. `runs` say what is known of them; those that come later count.
pub(super) fn by_feed<'a>(feeds: &'a [FeedDays], runs: &[Run]) -> Vec<(&'a FeedDays, Days)> {
    let mut days: BTreeMap<(&str, &str), (&FeedDays, Days)> = feeds
        .iter()
        .map(|feed| {
            let mut days = Days::empty(feed.first, feed.last);
            days.states.fill(Some(State::Missing));
            ((feed.account.as_str(), feed.program.as_str()), (feed, days))
        })
        .collect();
    for run in runs {
        if let Some((_, days)) = days.get_mut(&(run.account.as_str(), run.program.as_str())) {
            days.paint(run.from_day, run.to_day, State::named(&run.state));
        }
    }
    feeds.iter().filter_map(|feed| days.remove(&(feed.account.as_str(), feed.program.as_str()))).collect()
}

/// The worst state of each day; `None` where there are no feeds.
pub(super) fn worst<'a>(days: impl Iterator<Item = &'a Days> + Clone) -> Option<Days> {
    let first = days.clone().map(|one| one.first).min()?;
    let last = days.clone().map(Days::last).max()?;
    let mut all = Days::empty(first, last);
    for one in days {
        let offset = all.index(one.first);
        for (worst, state) in all.states.iter_mut().skip(offset).zip(&one.states) {
            *worst = (*worst).max(*state);
        }
    }
    Some(all)
}

/// The worst state of each of the latest days of each export. A feed that nothing is said of is missing that day.
pub(super) fn strips(feeds: &[FeedDays], latest: &[DayCount], since: NaiveDate) -> BTreeMap<String, Days> {
    let mut expected: BTreeMap<&str, BTreeMap<NaiveDate, i64>> = BTreeMap::new();
    for feed in feeds {
        let days = expected.entry(&feed.export).or_default();
        let from = feed.first.max(since);
        for day in from.iter_days().take_while(|day| *day <= feed.last) {
            *days.entry(day).or_default() += 1;
        }
    }
    let mut said: BTreeMap<(&str, NaiveDate), (i64, State)> = BTreeMap::new();
    for one in latest {
        let state = State::named(&one.state);
        let (feeds, worst) = said.entry((&one.export, one.day)).or_insert((0, state));
        *feeds += one.feeds;
        *worst = (*worst).max(state);
    }
    expected
        .into_iter()
        .filter_map(|(export, days)| {
            let last = *days.keys().next_back()?;
            let mut strip = Days::empty(since, last);
            for (day, feeds) in days {
                let (told, worst) = said.get(&(export, day)).copied().unwrap_or((0, State::Missing));
                let index = strip.index(day);
                strip.states[index] = Some(if told < feeds { worst.max(State::Missing) } else { worst });
            }
            Some((export.to_owned(), strip))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().expect("a day")
    }

    fn feed(program: &str, first: &str, last: &str) -> FeedDays {
        let (export, account) = ("clicks".to_owned(), "acme".to_owned());
        FeedDays { export, account, program: program.to_owned(), first: day(first), last: day(last) }
    }

    fn run(program: &str, state: &str, from: &str, to: &str) -> Run {
        let (account, program, state) = ("acme".to_owned(), program.to_owned(), state.to_owned());
        Run { account, program, state, from_day: day(from), to_day: day(to) }
    }

    #[test]
    fn days_that_nothing_is_said_of_are_missing_and_the_last_word_counts() {
        let feeds = [feed("1", "2026-01-01", "2026-01-06")];
        let runs = [run("1", "loaded", "2025-12-30", "2026-01-04"), run("1", "in_flight", "2026-01-04", "2026-01-09")];
        let days = by_feed(&feeds, &runs);
        assert_eq!(days[0].1.words(), "in flight 3, loaded 3");
        assert_eq!(by_feed(&feeds, &[])[0].1.words(), "missing 6");
        assert_eq!(by_feed(&feeds, &[run("2", "loaded", "2026-01-01", "2026-01-06")])[0].1.words(), "missing 6");
    }

    #[test]
    fn the_worst_of_all_programs_is_shown() {
        let feeds = [feed("1", "2026-01-01", "2026-01-03"), feed("2", "2026-01-02", "2026-01-04")];
        let runs = [run("1", "settled", "2026-01-01", "2026-01-03"), run("2", "failed", "2026-01-03", "2026-01-03")];
        let days = by_feed(&feeds, &runs);
        let all = worst(days.iter().map(|(_, days)| days)).expect("feeds");
        assert_eq!(all.states, [State::Settled, State::Missing, State::Failed, State::Missing].map(Some));
        assert_eq!(
            all.open_runs(),
            [
                (day("2026-01-04"), day("2026-01-04"), State::Missing),
                (day("2026-01-03"), day("2026-01-03"), State::Failed),
                (day("2026-01-02"), day("2026-01-02"), State::Missing)
            ]
        );
        assert!(worst([].iter()).is_none());
    }

    #[test]
    fn a_strip_joins_days_of_one_state_and_a_step_shows_its_worst() {
        let feeds = [feed("1", "2026-01-01", "2026-01-05")];
        let runs = [run("1", "loaded", "2026-01-01", "2026-01-03"), run("1", "failed", "2026-01-05", "2026-01-05")];
        let days = &by_feed(&feeds, &runs)[0].1;
        let shapes = |step| days.strip(step).into_iter().map(|one| (one.state.name(), one.path)).collect::<Vec<_>>();
        assert_eq!(
            shapes(1),
            [
                ("loaded", "M0 0h3v1h-3z".to_owned()),
                ("missing", "M3 0h1v1h-1z".to_owned()),
                ("failed", "M4 0h1v1h-1z".to_owned())
            ]
        );
        assert_eq!(days.strip_width(2), 3);
        assert_eq!(shapes(2)[1], ("missing", "M1 0h1v1h-1z".to_owned()));
    }

    #[test]
    fn a_day_stands_in_the_column_of_its_week() {
        let feeds = [feed("1", "2025-12-31", "2026-01-05")];
        let years = by_feed(&feeds, &[])[0].1.years();
        assert_eq!(years.iter().map(|year| year.number).collect::<Vec<_>>(), [2026, 2025]);
        // 1 January 2026 is a Thursday; the 5th the Monday of the second column.
        assert!(years[0].shapes()[0].path.starts_with("M0 36h10v10h-10z"));
        assert!(years[0].shapes()[0].path.ends_with("M12 0h10v10h-10z"));
        assert_eq!(years[0].months, [("Jan", 0)]);
        assert_eq!(years[1].words(), "missing 1");
    }

    #[test]
    fn a_strip_knows_programs_that_nobody_speaks_of() {
        let feeds = [feed("1", "2025-01-01", "2026-01-02"), feed("2", "2026-01-02", "2026-01-02")];
        let count = |day_: &str, state: &str, feeds| DayCount {
            export: "clicks".to_owned(),
            day: day(day_),
            state: state.to_owned(),
            feeds,
        };
        let latest = [count("2026-01-01", "loaded", 1), count("2026-01-02", "stale", 1)];
        let strips = strips(&feeds, &latest, day("2025-12-31"));
        assert_eq!(strips["clicks"].states, [State::Missing, State::Loaded, State::Missing].map(Some));
    }
}
