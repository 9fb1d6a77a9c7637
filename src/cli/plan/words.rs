//! What `plan` tells a person: short lists, summed where they are long.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use super::super::table::Table;
use super::view::View;
use crate::export::{Bucket, Reason};
use crate::figures::{moment, thousands};
use crate::plan::{BackfillEnd, Wanted};

/// Lines of each list that a person is shown without asking for all.
const SHOWN: usize = 20;

/// How long the lists may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Length {
    /// Long lists are added up.
    Short,
    /// Every call and window has its line.
    All,
}

impl Length {
    fn shown(self) -> usize {
        match self {
            Self::Short => SHOWN,
            Self::All => usize::MAX,
        }
    }
}

const REASONS: [Reason; 4] = [Reason::Manual, Reason::Fresh, Reason::Refresh, Reason::Backfill];

pub(super) fn print(view: &View, length: Length) {
    for export in &view.undiscovered {
        say!("{export}: its programs are not known yet; run or sync finds them\n");
    }
    print_drops(view);
    if view.calls.is_empty() && view.waiting.is_empty() {
        say!("Nothing is due in the next 24 hours.\n");
    }
    print_calls(view, length.shown());
    print_waiting(view, length.shown());
    print_late(view, length.shown());
    for one in &view.backfills {
        say!("Backfill of {} on {}: {}", one.export, one.account, backfill_words(one));
    }
    if !view.backfills.is_empty() {
        say!();
    }
    say!("Quota:");
    say_as_is!("{}", super::super::status::quota_table(&view.quota));
}

/// "730 click exports at 8 a day: done on 2027-02-22".
fn backfill_words(one: &BackfillEnd) -> String {
    let calls = match (one.bucket, one.calls_left) {
        (Bucket::ClickExport, 1) => "click export",
        (Bucket::ClickExport, _) => "click exports",
        (Bucket::ReportExport | Bucket::Requests, 1) => "report export",
        (Bucket::ReportExport | Bucket::Requests, _) => "report exports",
    };
    let mut rate = format!("{} {calls} at {} a day", count(one.calls_left), one.calls_per_day);
    if one.shared_by > 1 {
        let _ = write!(rate, ", shared by {} exports", one.shared_by);
    }
    match one.done_on {
        Some(day) => format!("{rate}: done on {day}"),
        None => format!("{rate}: never done, for it is paused or more comes in than can be read"),
    }
}

fn print_calls(view: &View, shown: usize) {
    if view.calls.is_empty() {
        return;
    }
    let now = view.calls.iter().filter(|one| one.expected_at == Some(view.now)).count();
    say!(
        "{} calls in the next 24 hours, {} of them now; they cost {} of their buckets:",
        count(view.calls.len()),
        count(now),
        count(view.calls.iter().map(|one| one.cost as usize).sum())
    );
    if view.calls.len() <= shown {
        let mut table = Table::new(&["at", "export", "account", "program", "days", "reason", "action", ">cost"]);
        for one in &view.calls {
            table.row(vec![
                time(one.expected_at),
                one.export.to_string(),
                one.account.to_string(),
                dash(one.request.program.as_str()),
                one.window.to_string(),
                one.reason.to_string(),
                one.action().as_str().to_owned(),
                one.cost.to_string(),
            ]);
        }
        say_as_is!("{table}");
    } else {
        let mut table = Table::new(&["export", "account", "reason", "action", ">calls", ">days", "first", "last"]);
        let groups = groups(&view.calls, |one| one.action().as_str().to_owned());
        for group in groups.iter().take(shown) {
            table.row(group.row(|one| one.expected_at));
        }
        say_as_is!("{table}");
        print_rest(groups.len(), shown);
        say!("  --all has them one by one");
    }
    say!();
}

fn print_drops(view: &View) {
    if view.drops.is_empty() {
        return;
    }
    say!(
        "Kept no longer (exports.NAME.keep), now or within 31 days; the rows go at the next round of housekeeping or sync after:"
    );
    let mut table = Table::new(&["export", "account", "days", ">rows", ">versions", "go from", "to"]);
    for one in &view.drops {
        table.row(vec![
            one.export.to_string(),
            one.account.to_string(),
            format!("{}..{}", one.from_day, one.to_day),
            thousands(one.rows),
            thousands(one.versions),
            moment(one.dropped_from),
            moment(one.dropped_by),
        ]);
    }
    say_as_is!("{table}");
    say!();
}

fn print_waiting(view: &View, shown: usize) {
    if view.waiting.is_empty() {
        return;
    }
    say!("{} windows wait longer:", count(view.waiting.len()));
    if view.waiting.len() <= shown {
        let mut table = Table::new(&["export", "account", "program", "days", "reason", "because", "expected"]);
        for one in &view.waiting {
            table.row(vec![
                one.export.to_string(),
                one.account.to_string(),
                dash(one.request.program.as_str()),
                one.window.to_string(),
                one.reason.to_string(),
                because(one),
                time(one.expected_at),
            ]);
        }
        say_as_is!("{table}");
    } else {
        let mut table = Table::new(&["export", "account", "reason", "because", ">windows", ">days", "first", "last"]);
        let groups = groups(&view.waiting, because);
        for group in groups.iter().take(shown) {
            table.row(group.row(|one| one.expected_at));
        }
        say_as_is!("{table}");
        print_rest(groups.len(), shown);
    }
    say!();
}

fn print_late(view: &View, shown: usize) {
    if view.late.is_empty() {
        return;
    }
    say!("{} newest days will be read more than a day late:", count(view.late.len()));
    let mut table = Table::new(&["export", "account", "program", "day", "behind since", "expected"]);
    for one in view.late.iter().take(shown) {
        table.row(vec![
            one.export.to_string(),
            one.account.to_string(),
            dash(one.program.as_str()),
            one.day.to_string(),
            moment(one.behind_since),
            time(one.expected_at),
        ]);
    }
    say_as_is!("{table}");
    print_rest(view.late.len(), shown);
    say!();
}

/// Windows of one kind, added up.
struct Group<'a> {
    first: &'a Wanted,
    kind: String,
    windows: Vec<&'a Wanted>,
}

impl Group<'_> {
    fn row(&self, time_of: impl Fn(&Wanted) -> Option<DateTime<Utc>>) -> Vec<String> {
        let days: usize = self.windows.iter().map(|one| one.window.len_days() as usize).sum();
        let times = || self.windows.iter().map(|one| time_of(one));
        let last = if times().any(|at| at.is_none()) { None } else { times().flatten().max() };
        vec![
            self.first.export.to_string(),
            self.first.account.to_string(),
            self.first.reason.to_string(),
            self.kind.clone(),
            count(self.windows.len()),
            count(days),
            time(times().flatten().min()),
            time(last),
        ]
    }
}

fn groups<'a>(windows: &'a [Wanted], kind: impl Fn(&Wanted) -> String) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<_, Group<'a>> = BTreeMap::new();
    for one in windows {
        let kind = kind(one);
        let key = (one.reason, one.export.as_str(), one.account.as_str(), kind.clone());
        groups.entry(key).or_insert_with(|| Group { first: one, kind, windows: Vec::new() }).windows.push(one);
    }
    groups.into_values().collect()
}

/// What the changed settings would do, beside what is.
pub(super) fn compare(before: &View, after: &View, changes: &[String]) {
    say!("With {}:\n", changes.join(" and "));
    let mut table = Table::new(&["", ">now", ">with it"]);
    let both = |name: String, of: &dyn Fn(&View) -> String| vec![name, of(before), of(after)];
    table.row(both("calls in 24 hours".to_owned(), &|view| count(view.calls.len())));
    for reason in REASONS {
        let calls = |view: &View| view.calls.iter().filter(|one| one.reason == reason).count();
        table.row(both(format!("  {reason}"), &|view| count(calls(view))));
    }
    table.row(both("windows waiting longer".to_owned(), &|view| count(view.waiting.len())));
    table.row(both("newest days read late".to_owned(), &|view| count(view.late.len())));
    let rows = |view: &View| thousands(view.drops.iter().map(|one| one.rows).sum());
    if !before.drops.is_empty() || !after.drops.is_empty() {
        table.row(both("rows kept no longer, now or within 31 days".to_owned(), &rows));
    }
    let ends = |view: &View| {
        view.backfills.iter().map(|one| (format!("{} on {}", one.export, one.account), one.done_on)).collect()
    };
    let (now, with): (BTreeMap<_, _>, BTreeMap<_, _>) = (ends(before), ends(after));
    let mut names: Vec<&String> = now.keys().chain(with.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let end = |ends: &BTreeMap<String, Option<chrono::NaiveDate>>| match ends.get(name) {
            Some(Some(day)) => day.to_string(),
            Some(None) => "never".to_owned(),
            None => "nothing left".to_owned(),
        };
        table.row(vec![format!("backfill of {name} ends"), end(&now), end(&with)]);
    }
    say_as_is!("{table}");
}

fn print_rest(len: usize, shown: usize) {
    if len > shown {
        say!("  … and {} more; --all has them", len - shown);
    }
}

fn because(one: &Wanted) -> String {
    one.because.as_ref().map(ToString::to_string).unwrap_or_default()
}

fn count(n: usize) -> String {
    thousands(i64::try_from(n).unwrap_or(i64::MAX))
}

fn time(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "-".to_owned(), moment)
}

fn dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}
