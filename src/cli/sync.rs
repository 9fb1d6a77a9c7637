//! `sync`.

use super::progress::Display;
use super::{Exit, open, scope, stop_signal};
use crate::app::{self, Engine, Scope, SyncEnd, SyncReport};
use crate::config::Settings;
use crate::figures::{moment, thousands};
use crate::telemetry::{self, Form};

pub(super) async fn sync(settings: Settings, exports: &[String], form: Form) -> anyhow::Result<Exit> {
    let scope = scope(&settings, exports)?;
    let _traces = telemetry::start_traced(form, if form == Form::Json { "info" } else { "warn" });
    to_the_end(settings, scope, form).await
}

/// Opens the database, syncs, closes it and prints how that ended.
pub(super) async fn to_the_end(settings: Settings, scope: Scope, form: Form) -> anyhow::Result<Exit> {
    let stop = stop_signal()?;
    let database = open(&settings).await?;
    let started = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        started = Engine::start(settings, &database, scope) => Some(started?),
    };
    let Some(engine) = started else {
        database.close().await?;
        return Ok(Exit::Failed);
    };
    let mut display = Display::new();
    let report = app::sync(engine, &database, stop, |progress| display.show(progress)).await;
    display.clear();
    database.close().await?;
    let report = report?;
    if form == Form::Text {
        print(&report);
    }
    Ok(match report.end {
        SyncEnd::Done => Exit::Done,
        SyncEnd::WaitsForQuota => Exit::WaitsForQuota,
        SyncEnd::Failed => Exit::FailedCells,
        SyncEnd::Stopped => Exit::Failed,
    })
}

fn print(report: &SyncReport) {
    let progress = &report.progress;
    say!("{} windows loaded, {} rows read, {} failed", progress.loaded, thousands(progress.rows), progress.failed);
    let waiting = &report.waiting;
    if let Some(last) = waiting.last_expected_at {
        say!("{} windows wait for quota, the last until {}; see `impact-mirror plan`", waiting.for_quota, moment(last));
    }
    if let Some((account, why)) = &waiting.first_paused {
        say!("account {account} or an export on it is paused: {why}");
        say!("mend it, then `impact-mirror accounts resume {account}`");
    }
    for export in &report.without_programs {
        say!("{export}: the programs of its account could not be listed; `impact-mirror check` says why");
    }
    match report.end {
        SyncEnd::Failed if !report.without_programs.is_empty() => {}
        SyncEnd::Failed if progress.without_room > 0 => {
            say!("a disk is full, so that {} windows wait; see `impact-mirror status`", progress.without_room);
        }
        SyncEnd::Failed => say!("some cells failed; see `impact-mirror status`"),
        SyncEnd::Stopped => say!("stopped; what was in flight goes on with the next sync or run"),
        SyncEnd::Done | SyncEnd::WaitsForQuota => {}
    }
}
