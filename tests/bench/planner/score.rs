//! How a strategy did, and the table of all of them.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use impact_mirror::export::{Bucket, ExportName};

/// A day's rows change often until it is over, now and then for a month, and when they are locked and paid.
const YOUNG: TimeDelta = TimeDelta::days(30);

/// Where the hours out of date of recent days come from.
#[derive(Debug, Default, Clone, Copy)]
pub struct Hours {
    missing: f64,
    today: f64,
    young: f64,
    old: f64,
}

impl Hours {
    fn sum(&self) -> f64 {
        self.missing + self.today + self.young + self.old
    }
}

/// What is counted.
#[derive(Debug, Default)]
pub struct Score {
    /// Rows missing, extra or different at the end.
    pub wrong_rows: usize,
    calls: BTreeMap<Bucket, usize>,
    recent: BTreeMap<ExportName, Hours>,
    backfill_hours: f64,
    backfill_ended: BTreeMap<Bucket, DateTime<Utc>>,
    age_hours: f64,
    ages: f64,
}

impl Score {
    /// Counts a call.
    pub fn call(&mut self, bucket: Bucket) {
        *self.calls.entry(bucket).or_default() += 1;
    }

    /// Notes that nothing from before the start is missing any more.
    pub fn backfill_ended(&mut self, bucket: Bucket, now: DateTime<Utc>) {
        self.backfill_ended.entry(bucket).or_insert(now);
    }

    /// Counts a time for which a cell, whose day ends at `end`, was out of date.
    pub fn out_of_date(
        &mut self,
        export: &ExportName,
        is_recent: bool,
        is_missing: bool,
        end: DateTime<Utc>,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) {
        if !is_recent {
            self.backfill_hours += hours(to - from);
            return;
        }
        let recent = self.recent.entry(export.clone()).or_default();
        if is_missing {
            recent.missing += hours(to - from);
            return;
        }
        let between = |a: DateTime<Utc>, b: DateTime<Utc>| hours((b.min(to) - a.max(from)).max(TimeDelta::zero()));
        recent.today += between(from, end);
        recent.young += between(end, end + YOUNG);
        recent.old += between(end + YOUNG, to);
    }

    /// Counts the age of a newest complete day.
    pub fn age(&mut self, age: TimeDelta) {
        self.age_hours += hours(age);
        self.ages += 1.0;
    }

    fn recent_hours(&self) -> f64 {
        self.recent.values().map(Hours::sum).sum()
    }
}

fn hours(span: TimeDelta) -> f64 {
    span.as_seconds_f64() / 3600.0
}

/// Prints what was measured; ours is the first.
pub fn print(scores: &[(&str, Score)], start: DateTime<Utc>) {
    println!(
        "A cell (export, program, day) is out of date while impact.com has other rows for it than the mirror, or the \
         mirror has none. Recent are the days\nfrom 30 days before the start on, backfill those before. A wrong row \
         is missing, extra or different at the end, in cells that were read or are newer\nthan the start. The newest \
         complete day is the newest one read after its end; its age is counted from then, hour by hour, over all \
         exports and programs.\n"
    );
    let heads: Vec<&str> = scores.iter().map(|(name, _)| *name).collect();
    println!("| | {} |\n|---|{}", heads.join(" | "), "---:|".repeat(scores.len()));
    let row = |name: &str, value: &dyn Fn(&Score) -> String| {
        let values: Vec<String> = scores.iter().map(|(_, score)| value(score)).collect();
        println!("| {name} | {} |", values.join(" | "));
    };
    row("report exports used", &|score| number(score.calls.get(&Bucket::ReportExport).copied().unwrap_or(0)));
    row("click exports used", &|score| number(score.calls.get(&Bucket::ClickExport).copied().unwrap_or(0)));
    row("cell-hours out of date, recent", &|score| number(whole(score.recent_hours())));
    row("cell-hours out of date, backfill", &|score| number(whole(score.backfill_hours)));
    for (name, bucket) in [("reports", Bucket::ReportExport), ("clicks", Bucket::ClickExport)] {
        row(&format!("backfill of {name} ended on day"), &|score| {
            score.backfill_ended.get(&bucket).map_or("-".to_owned(), |at| ((*at - start).num_days() + 1).to_string())
        });
    }
    row("rows wrong at the end", &|score| number(score.wrong_rows));
    row("age of the newest complete day, hours", &|score| format!("{:.0}", score.age_hours / score.ages));
    let best = scores[1..].iter().map(|(_, score)| score.recent_hours()).fold(f64::INFINITY, f64::min);
    println!(
        "\nThe measure is the cell-hours out of date of recent days, reports and clicks together: the better of the two is out of date {:.2} \
         times as long as ours.",
        best / scores[0].1.recent_hours()
    );
}

/// Prints where the hours of recent days come from.
pub fn print_details(scores: &[(&str, Score)]) {
    println!(
        "\n| recent cell-hours out of date | missing | day not over | up to 30 days old | older |\n|---|---:|---:|---:|---:|"
    );
    for (name, score) in scores {
        for (export, hours) in &score.recent {
            let parts = [hours.missing, hours.today, hours.young, hours.old].map(|part| number(whole(part)));
            println!("| {name}: {export} | {} |", parts.join(" | "));
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive number far below 2^52")]
fn whole(value: f64) -> usize {
    value.round() as usize
}

fn number(value: usize) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
