//! `reload`: archived files are loaded again.

use chrono::NaiveDate;
use clap::Args;
use serde_json::json;

use super::progress::FileDisplay;
use super::{Exit, Misuse, export, open, stop_signal};
use crate::account::AccountName;
use crate::app::{self, ReloadReport, ReloadRequest};
use crate::config::Settings;
use crate::export::{Program, Window};
use crate::figures::thousands;
use crate::telemetry::Form;

/// An export, the days meant, and perhaps a part of them.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The export
    export: String,
    /// The first day, as in 2026-01-31
    #[arg(long, value_name = "DAY")]
    from: NaiveDate,
    /// The last day, included
    #[arg(long, value_name = "DAY")]
    to: NaiveDate,
    /// Only this account
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Only this program
    #[arg(long, value_name = "ID")]
    program: Option<String>,
}

pub(super) async fn reload(settings: Settings, options: &Options, form: Form) -> anyhow::Result<Exit> {
    let name = export(&settings, &options.export)?;
    let days = Window::new(options.from, options.to)
        .ok_or_else(|| Misuse(format!("--from {} lies after --to {}; swap them", options.from, options.to)))?;
    if settings.archive.is_none() {
        return Err(Misuse("no [archive] is configured, so that there are no files to load again; set archive.url, or have the days read anew by `impact-mirror refresh`".to_owned()).into());
    }
    let account = options.account.as_deref().map(AccountName::new);
    let known = &settings.exports[&name].accounts;
    if let Some(account) = account.as_ref().filter(|account| !known.contains(account)) {
        let known: Vec<&str> = known.iter().map(AccountName::as_str).collect();
        return Err(Misuse(format!("{name} is not read from account {account}, but from {}", known.join(", "))).into());
    }
    let request = ReloadRequest { export: name, days, account, program: options.program.as_ref().map(Program::new) };
    let stop = stop_signal()?;
    let database = open(&settings).await?;
    let mut display = FileDisplay::new();
    let report = app::reload(settings, &database, &request, stop, |progress| display.show(progress)).await;
    display.clear();
    database.close().await?;
    let report = report?;
    match form {
        Form::Json => say!("{:#}", as_json(&report)),
        Form::Text => print(&request, &report),
    }
    let is_done =
        !report.is_stopped && report.failed.is_empty() && report.impossible.is_empty() && report.outdated.is_empty();
    Ok(if is_done { Exit::Done } else { Exit::Failed })
}

fn as_json(report: &ReloadReport) -> serde_json::Value {
    let impossible: Vec<_> = report
        .impossible
        .iter()
        .map(|(feed, loads)| json!({"account": feed.account, "program": feed.program, "loads": loads}))
        .collect();
    let outdated: Vec<_> = report
        .outdated
        .iter()
        .map(|(feed, days)| json!({"account": feed.account, "program": feed.program, "days": days}))
        .collect();
    let failed: Vec<_> = report.failed.iter().map(|(job, why)| json!({"job": job, "error": why})).collect();
    json!({
        "files": report.progress.files, "rows_read": report.progress.rows, "rows_rejected": report.progress.rejected,
        "not_in_archive": impossible, "outdated": outdated, "failed": failed, "kept_from": report.kept_from,
        "stopped": report.is_stopped,
    })
}

fn print(request: &ReloadRequest, report: &ReloadReport) {
    let progress = &report.progress;
    say!(
        "{} files of {} {} loaded again, {} rows read, {} rejected",
        progress.files,
        request.export,
        request.days,
        thousands(progress.rows),
        thousands(progress.rejected)
    );
    for (feed, loads) in &report.impossible {
        let loads: Vec<String> = loads.iter().map(i64::to_string).collect();
        say!(
            "{} {}: the days of load {} stay as they are; its file, or one that follows it, is not in the archive",
            feed.account,
            feed.program,
            loads.join(", ")
        );
        say!(
            "  `impact-mirror refresh {} --from {} --to {}` reads them anew from impact.com",
            request.export,
            request.days.from(),
            request.days.to()
        );
    }
    for (feed, days) in &report.outdated {
        let (Some(first), Some(last)) = (days.first(), days.last()) else { continue };
        say!(
            "{} {}: {} days from {first} to {last} hold an older file now, for the newer one could not be loaded after it; they \
             are due to be read from impact.com",
            feed.account,
            feed.program,
            days.len()
        );
    }
    if let Some(first) = report.kept_from {
        say!("days before {first} are kept no longer (exports.{}.keep) and stay away", request.export);
    }
    for (job, why) in &report.failed {
        say!("job {job} failed: {why}; mend it and start the same reload again");
    }
    if report.is_stopped {
        say!("stopped; the same command goes on where it stopped");
    }
}
