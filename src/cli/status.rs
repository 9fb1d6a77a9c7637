//! `status`: what is wrong first, then freshness, jobs in flight, quota and failures.

use serde_json::json;

use super::Exit;
use super::table::Table;
use crate::app::Database;
use crate::figures::{ago, moment, thousands};
use crate::job::JobState;
use crate::store::account::Paused;
use crate::store::room::{self, NoRoom};
use crate::store::status::{self, Freshness, JobFilter, JobLine, Quota};
use crate::store::warning::{self, LoadWarning};
use crate::store::window_limit::{self, InForce};
use crate::telemetry::Form;

/// Jobs shown of each kind.
const SHOWN: i64 = 20;

pub(super) async fn status(database: &Database, form: Form) -> anyhow::Result<Exit> {
    let mut conn = database.pool().acquire().await?;
    let freshness = status::freshness(&mut conn).await?;
    let quota = status::quota(&mut conn).await?;
    let paused = crate::store::account::paused(&mut conn).await?;
    let accounts = status::accounts(&mut conn).await?;
    let in_flight = JobFilter { states: JobState::OPEN.to_vec(), limit: 1_000, ..JobFilter::default() };
    let in_flight = status::jobs(&mut conn, &in_flight).await?;
    let failed = status::failed_jobs(&mut conn, SHOWN).await?;
    let limits = window_limit::in_force(&mut conn).await?;
    let warnings = warning::current(&mut conn).await?;
    let no_room = room::lacking(&mut conn).await?;
    drop(conn);
    match form {
        Form::Json => {
            let accounts: Vec<_> = accounts
                .iter()
                .map(|account| {
                    let paused = paused.iter().find(|paused| paused.account.as_str() == account);
                    json!({"account": account, "paused": paused.map(|paused| &paused.reason),
                           "paused_since": paused.map(|paused| paused.since)})
                })
                .collect();
            let view = json!({"exports": freshness, "accounts": accounts, "quota": quota, "in_flight": in_flight,
                              "failed": failed, "window_limits": limits, "warnings": warnings,
                              "no_room": no_room});
            say!("{view:#}");
        }
        Form::Text => {
            print_wrong(&freshness, no_room.as_ref(), &paused, &failed, &warnings);
            print(&freshness, &quota, &in_flight);
            print_limits(&limits);
            if let Some(line) = database.psql_line() {
                say!("\nQuery it: {line}");
            }
        }
    }
    Ok(Exit::Done)
}

fn print_wrong(
    freshness: &[Freshness],
    no_room: Option<&NoRoom>,
    paused: &[Paused],
    failed: &[JobLine],
    warnings: &[LoadWarning],
) {
    if let Some(one) = no_room {
        say!("! {}: {}", one.words(), one.message);
        say!("  {}", NoRoom::MEND);
    }
    if freshness.is_empty() {
        say!("No export has run yet; `impact-mirror sync` or `impact-mirror run` begins.");
        return;
    }
    for one in paused {
        say!("! account {} is paused since {}: {}", one.account, moment(one.since), one.reason);
        say!("  mend the credential, then: impact-mirror accounts resume {}", one.account);
    }
    for one in freshness.iter().filter(|one| one.is_stale) {
        let why = one
            .latest_day
            .map_or_else(|| "some program has no complete day yet".to_owned(), |day| format!("complete to {day}"));
        say!("! {} is late: {why}; see: impact-mirror plan --export {}", one.export, one.export);
    }
    for one in failed {
        say!("! job {} of {} failed: {}", one.id, one.export, one.error_message.as_deref().unwrap_or("-"));
        say!("  when mended: impact-mirror jobs retry {}", one.id);
    }
    for one in warnings {
        say!("! the rows of load {} of {} {}: {}", one.load_id, one.export, one.kind.fear(), one.words());
        say!("  loaded all the same; to read the days again: {}", one.mend());
    }
    if no_room.is_none() && paused.is_empty() && failed.is_empty() && freshness.iter().all(|one| !one.is_stale) {
        say!("All exports are fresh.");
    }
}

fn print(freshness: &[Freshness], quota: &[Quota], in_flight: &[JobLine]) {
    if freshness.is_empty() {
        return;
    }
    say!("\nExports:");
    say_as_is!("{}", freshness_table(freshness));
    if !in_flight.is_empty() {
        say!("\nJobs in flight: {}", in_flight.len());
        say_as_is!("{}", super::jobs::jobs_table(&in_flight[..in_flight.len().min(10)]));
        if in_flight.len() > 10 {
            say!("  … and {} more: impact-mirror jobs list --open", in_flight.len() - 10);
        }
    }
    say!("\nQuota:");
    say_as_is!("{}", quota_table(quota));
}

fn print_limits(limits: &[InForce]) {
    if !limits.is_empty() {
        say!("\nWindows that impact.com takes no longer:");
    }
    for one in limits {
        let since = one.learned_at.map_or_else(|| "on trial".to_owned(), |at| format!("since {}", moment(at)));
        say!("  {} on {}: at most {} days, {since}: {}", one.export, one.account, one.max_window_days, one.why);
    }
}

pub(super) fn freshness_table(freshness: &[Freshness]) -> Table {
    let mut table = Table::new(&["export", "complete to", "read", "promise", "", ">missing", ">failed"]);
    for one in freshness {
        table.row(vec![
            one.export.clone(),
            one.latest_day.map_or_else(|| "-".to_owned(), |day| day.to_string()),
            one.age_seconds.map_or_else(|| "never".to_owned(), |age| format!("{} ago", ago(age))),
            ago(one.promised_seconds),
            if one.is_stale { "LATE" } else { "fresh" }.to_owned(),
            thousands(one.missing_cells),
            thousands(one.failed_cells),
        ]);
    }
    table
}

pub(super) fn quota_table(quota: &[Quota]) -> Table {
    let mut table = Table::new(&["account", "bucket", ">used", ">of", ">left", "next frees at"]);
    for one in quota {
        table.row(vec![
            one.account.clone(),
            one.bucket.clone(),
            one.used.to_string(),
            one.limit.to_string(),
            one.remaining.to_string(),
            one.resets_at.map_or_else(|| "-".to_owned(), moment),
        ]);
    }
    table
}
