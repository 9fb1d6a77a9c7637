//! What `init` tells of the account, the exports and the first week.

use crate::app::init::{Found, Proposal};
use crate::clock::day_in;
use crate::export::Bucket;
use crate::figures::thousands;
use crate::plan::{BackfillEnd, DayAhead};

use super::super::table::{Table, wrapped};

const WIDTH: usize = 100;

pub(super) fn print(found: &Found, proposal: &Proposal) {
    let account = &found.account;
    let currency = found.company.currency.as_deref().unwrap_or("of unknown currency");
    let exportable = found.reports.iter().filter(|report| report.api_accessible).count();
    say!(
        "{:?}, a {}: zone {}, {currency}, {} programs, {exportable} reports that can be exported.",
        found.company.name,
        account.persona,
        account.time_zone,
        found.programs.len()
    );
    say!("\nExports that fit its budget:");
    let mut table = Table::new(&["export", "since", "what"]);
    for one in &proposal.exports {
        table.row(vec![one.name.to_string(), one.since.to_string(), one.what.clone()]);
    }
    say_as_is!("{table}");
    for remark in &proposal.remarks {
        say_as_is!("{}", wrapped("  ", remark, WIDTH));
    }
    print_week(found, proposal);
}

fn print_week(found: &Found, proposal: &Proposal) {
    let quota = &found.account.quota;
    let clicks = proposal.settings.exports.values().any(|export| export.source.bucket() == Bucket::ClickExport);
    say!("\nThe first week, if it starts now:");
    let mut table = Table::new(&["24 hours from", ">report exports", ">click exports", ">days late"]);
    for day in &proposal.ahead.days {
        let of = |bucket: Bucket| format!("{} of {}", spent(day, bucket), quota.ours(bucket));
        let of_clicks = if clicks { of(Bucket::ClickExport) } else { "-".to_owned() };
        let from = day.from.with_timezone(&found.account.time_zone).format("%Y-%m-%d %H:%M").to_string();
        table.row(vec![from, of(Bucket::ReportExport), of_clicks, day.late.to_string()]);
    }
    say_as_is!("{table}");
    for end in &proposal.ahead.backfills {
        say!("  {}", words(end, found, &proposal.ahead.days));
    }
}

fn spent(day: &DayAhead, bucket: Bucket) -> String {
    thousands(i64::from(day.cost.get(&bucket).copied().unwrap_or_default()))
}

fn words(end: &BackfillEnd, found: &Found, days: &[DayAhead]) -> String {
    let first = days.first().map(|day| day_in(found.account.time_zone, day.from));
    match end.done_on {
        Some(day) if Some(day) == first => format!("The backfill of {} is done today.", end.export),
        Some(day) => format!("The backfill of {} is done on {day}.", end.export),
        None => format!("The backfill of {} is never done: more comes in than can be read.", end.export),
    }
}
