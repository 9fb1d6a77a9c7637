//! `status`: what is wrong first, with the command that mends it; then freshness, jobs in flight, quota. With an export: why it
//! is not as new as it should be.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::json;
use sqlx::PgConnection;

use super::table::{Table, wrapped};
use super::{Exit, export, stop_signal};
use crate::app::Database;
use crate::config::Settings;
use crate::figures::{ago, counted, moment, thousands};
use crate::job::JobState;
use crate::job::why::{Why, why};
use crate::store::account::{Paused, PausedExport};
use crate::store::by_hand::PausedByHand;
use crate::store::room::{self, NoRoom};
use crate::store::status::{self, Freshness, JobFilter, JobLine, Quota};
use crate::store::warning::{self, LoadWarning};
use crate::store::window_limit::{self, InForce};
use crate::store::{self, archive, coverage};
use crate::telemetry::Form;

/// Jobs shown of each kind.
const SHOWN: i64 = 20;
/// How wide a terminal may be counted on to be.
pub(super) const WIDTH: usize = 80;
/// How often `--watch` looks.
const WATCH: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Why this export is as new as it is: what each account and program waits for
    #[arg(long, value_name = "NAME")]
    export: Option<String>,
    /// Show it again every two seconds, until Ctrl-C
    #[arg(long)]
    watch: bool,
}

pub(super) async fn status(
    settings: &Settings,
    database: &Database,
    options: &Options,
    form: Form,
) -> anyhow::Result<Exit> {
    let only = options.export.as_deref().map(|name| export(settings, name)).transpose()?;
    let only = only.as_ref().map(crate::export::ExportName::as_str);
    if !options.watch {
        look(database, only, form).await?;
        return Ok(Exit::Done);
    }
    let stop = stop_signal()?;
    loop {
        if std::io::stdout().is_terminal() {
            say_as_is!("\x1b[2J\x1b[H"); // an empty screen, from its top
        }
        look(database, only, form).await?;
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(Exit::Done),
            () = tokio::time::sleep(WATCH) => {}
        }
    }
}

async fn look(database: &Database, only: Option<&str>, form: Form) -> anyhow::Result<()> {
    let mut conn = database.pool().acquire().await?;
    let seen = Seen::read(&mut conn, only).await?;
    drop(conn);
    match form {
        Form::Json => say!("{:#}", seen.json()),
        Form::Text => {
            seen.print_wrong();
            seen.print();
            print_limits(&seen.limits);
            if let (Some(line), None) = (database.psql_line(), only) {
                say!("\nQuery it: {line}");
            }
        }
    }
    Ok(())
}

/// The programs of an account that wait for the same.
#[derive(Debug, serde::Serialize)]
struct Held {
    export: String,
    account: String,
    programs: Vec<String>,
    #[serde(flatten)]
    why: Why,
}

/// Why the feeds of an export are as they are; those with the same reason together.
async fn held(conn: &mut PgConnection, export: &str, now: DateTime<Utc>) -> Result<Vec<Held>, store::Error> {
    let mut groups: BTreeMap<(String, Why), Vec<String>> = BTreeMap::new();
    for feed in store::why::feeds(conn, export).await? {
        let why = why(export, &feed.account, &feed.known, now);
        groups.entry((feed.account, why)).or_default().push(feed.program);
    }
    let held = |((account, why), programs)| Held { export: export.to_owned(), account, programs, why };
    Ok(groups.into_iter().map(held).collect())
}

/// All that is shown.
struct Seen {
    freshness: Vec<Freshness>,
    accounts: Vec<String>,
    quota: Vec<Quota>,
    paused: Vec<Paused>,
    forbidden: Vec<PausedExport>,
    by_hand: Vec<PausedByHand>,
    in_flight: Vec<JobLine>,
    failed: Vec<JobLine>,
    limits: Vec<InForce>,
    warnings: Vec<LoadWarning>,
    no_room: Option<NoRoom>,
    held: Vec<Held>,
    late_files: i64,
    is_of_one: bool,
}

impl Seen {
    async fn read(conn: &mut PgConnection, only: Option<&str>) -> Result<Self, store::Error> {
        let is_meant = |export: &str| only.is_none_or(|only| only == export);
        let in_flight = JobFilter {
            states: JobState::OPEN.to_vec(),
            export: only.map(str::to_owned),
            limit: 1_000,
            ..JobFilter::default()
        };
        let now = coverage::database_now(conn).await?;
        let mut freshness = status::freshness(conn).await?;
        freshness.retain(|one| is_meant(&one.export));
        let mut failed = status::failed_jobs(conn, SHOWN).await?;
        failed.retain(|one| is_meant(&one.export));
        let mut warnings = warning::current(conn).await?;
        warnings.retain(|one| is_meant(&one.export));
        let mut forbidden = store::account::paused_exports(conn).await?;
        forbidden.retain(|one| is_meant(one.export.as_str()));
        let mut reasons = Vec::new();
        for one in freshness.iter().filter(|one| one.is_stale || only.is_some()) {
            reasons.extend(held(conn, &one.export, now).await?);
        }
        Ok(Self {
            freshness,
            accounts: status::accounts(conn).await?,
            quota: status::quota(conn).await?,
            paused: store::account::paused(conn).await?,
            forbidden,
            by_hand: store::by_hand::paused(conn).await?,
            in_flight: status::jobs(conn, &in_flight).await?,
            failed,
            limits: window_limit::in_force(conn).await?,
            warnings,
            no_room: room::lacking(conn).await?,
            held: reasons,
            late_files: archive::late_count(conn).await?,
            is_of_one: only.is_some(),
        })
    }

    fn json(&self) -> serde_json::Value {
        let accounts: Vec<_> = self
            .accounts
            .iter()
            .map(|account| {
                let paused = self.paused.iter().find(|paused| paused.account.as_str() == account);
                json!({"account": account, "paused": paused.map(|paused| &paused.reason),
                       "paused_since": paused.map(|paused| paused.since)})
            })
            .collect();
        json!({"exports": self.freshness, "accounts": accounts, "quota": self.quota, "in_flight": self.in_flight,
               "failed": self.failed, "window_limits": self.limits, "warnings": self.warnings,
               "no_room": self.no_room, "why": self.held, "paused_by_hand": self.by_hand, "late_files": self.late_files})
    }

    fn print_wrong(&self) {
        if let Some(one) = &self.no_room {
            wrong(&format!("{}: {}", one.words(), one.message), NoRoom::MEND);
        }
        if self.late_files > 0 {
            let what = format!("{} in the spool, for the archive has not taken them", files(self.late_files));
            wrong(&what, "look at archive.url and its credentials; impact-mirror check tries it");
        }
        if self.freshness.is_empty() {
            say!("No export has run yet; `impact-mirror sync` or `impact-mirror run` begins.");
            return;
        }
        for one in &self.paused {
            let what = format!("account {} is paused since {}: {}", one.account, moment(one.since), one.reason);
            wrong(
                &what,
                &format!(
                    "mend the credential, reload the daemon's configuration, then: impact-mirror accounts resume {}",
                    one.account
                ),
            );
        }
        for one in &self.forbidden {
            let (export, account) = (&one.export, &one.account);
            let what = format!("impact.com forbids {export} on {account} since {}: {}", moment(one.since), one.reason);
            wrong(&what, &format!("give the token the scope, then: impact-mirror accounts resume {account}"));
        }
        for one in &self.by_hand {
            let what = format!(
                "{} {} was paused at {} by {}: nothing new is ordered",
                one.kind,
                one.name,
                moment(one.since),
                one.by
            );
            wrong(&what, &format!("impact-mirror {}s resume {}", one.kind, one.name));
        }
        for one in self.freshness.iter().filter(|one| one.is_stale) {
            let why = one
                .latest_day
                .map_or_else(|| "some program has no complete day yet".to_owned(), |day| format!("complete to {day}"));
            let reasons = self.held.iter().filter(|held| held.export == one.export);
            let first = reasons.clone().find(|held| held.why.next.is_some()).or_else(|| reasons.clone().next());
            let because = first.map_or_else(String::new, |held| format!("; {}", held.why.because));
            let next = format!("impact-mirror status --export {}", one.export);
            wrong(&format!("{} is late: {why}{because}", one.export), if self.is_of_one { "" } else { &next });
        }
        for one in &self.failed {
            let words = one.error_message.as_deref().unwrap_or("-");
            let what = format!("job {} of {} failed: {words}", one.id, one.export);
            let mend = one.mend();
            wrong(&what, mend.as_ref().map_or("", |mend| mend.cause));
            if let Some(command) = mend.and_then(|mend| mend.command) {
                say!("  to try again: {command}"); // as it is, to be copied
            }
        }
        for one in &self.warnings {
            let what =
                format!("the rows of load {} of {} {}: {}", one.load_id, one.export, one.kind.fear(), one.words());
            wrong(&what, &format!("loaded all the same; to read the days again: {}", one.mend()));
        }
        let is_all_well = self.no_room.is_none()
            && self.late_files == 0
            && self.paused.is_empty()
            && self.by_hand.is_empty()
            && self.failed.is_empty();
        if is_all_well && self.freshness.iter().all(|one| !one.is_stale) {
            say!("{}", if self.is_of_one { "It is fresh." } else { "All exports are fresh." });
        }
    }

    fn print(&self) {
        if self.freshness.is_empty() {
            return;
        }
        say!("\nExports:");
        say_as_is!("{}", freshness_table(&self.freshness).within(WIDTH));
        if self.is_of_one {
            say!("\nWhat it waits for:");
            for held in &self.held {
                print_held(held);
            }
        }
        if !self.in_flight.is_empty() {
            say!("\nJobs in flight: {}", self.in_flight.len());
            say_as_is!("{}", flight_table(&self.in_flight[..self.in_flight.len().min(10)]));
            if self.in_flight.len() > 10 {
                say!("  … and {} more: impact-mirror jobs list --open", self.in_flight.len() - 10);
            }
        }
        say!("\nQuota:");
        say_as_is!("{}", quota_table(&self.quota).within(WIDTH));
    }
}

fn files(count: i64) -> String {
    format!("{} {}", counted(count, "result file"), if count == 1 { "waits" } else { "wait" })
}

/// Something that is wrong, and its mend.
fn wrong(what: &str, mend: &str) {
    say_as_is!("{}", wrapped("! ", what, WIDTH));
    if !mend.is_empty() {
        say_as_is!("{}", wrapped("  ", mend, WIDTH));
    }
}

fn print_held(held: &Held) {
    let mut programs = held.programs.iter().filter(|program| !program.is_empty());
    let first: Vec<&str> = programs.by_ref().take(5).map(String::as_str).collect();
    let more = programs.count();
    let mut who = held.account.clone();
    if !first.is_empty() {
        who = format!("{who}, program {}", first.join(", "));
    }
    if more > 0 {
        who = format!("{who} and {more} more");
    }
    say_as_is!("{}", wrapped("  ", &format!("{who}: {}", held.why.because), WIDTH));
    if let Some(next) = &held.why.next {
        say!("    {next}");
    }
}

fn flight_table(jobs: &[JobLine]) -> Table {
    let mut table = Table::new(&[">id", "export", "program", "days", "state", "remote"]).within(WIDTH);
    for job in jobs {
        table.row(vec![
            job.id.to_string(),
            job.export.clone(),
            if job.program.is_empty() { "-".to_owned() } else { job.program.clone() },
            super::jobs::days(job),
            job.state.clone(),
            super::jobs::remote(job),
        ]);
    }
    table
}

fn print_limits(limits: &[InForce]) {
    if !limits.is_empty() {
        say!("\nWindows that impact.com takes no longer:");
    }
    for one in limits {
        let since = one.learned_at.map_or_else(|| "on trial".to_owned(), |at| format!("since {}", moment(at)));
        let words =
            format!("{} on {}: at most {} days, {since}: {}", one.export, one.account, one.max_window_days, one.why);
        say_as_is!("{}", wrapped("  ", &words, WIDTH));
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
