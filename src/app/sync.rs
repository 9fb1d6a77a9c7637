//! `sync`: what is due now, to the end, with the same engine as the daemon's.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::{Database, Engine, GRACE, retention};
use crate::clock::Clock;
use crate::export::ExportName;
use crate::scheduler::Waiting;
use crate::store;
use crate::store::coverage::Progress;
use crate::store::tick::Fired;
use crate::worker;

/// How often progress is looked at, while that takes next to no time.
const LOOK: Duration = Duration::from_millis(200);
/// Looking may take this part of the time: with thousands of jobs it is work too.
const LOOKS_AT_MOST_A: u32 = 20;

/// How a sync ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncEnd {
    /// Everything due is loaded.
    Done,
    /// Cells wait for quota.
    WaitsForQuota,
    /// Cells failed, may not be asked for, or cannot be stored.
    Failed,
    /// Told to stop.
    Stopped,
}

/// What a sync came to.
#[derive(Debug)]
pub struct SyncReport {
    /// How it ended.
    pub end: SyncEnd,
    /// Jobs and rows.
    pub progress: Progress,
    /// Windows that wait.
    pub waiting: Waiting,
    /// Exports of which nothing could be asked for, because the programs of their accounts could not be listed.
    pub without_programs: Vec<ExportName>,
}

/// Works until nothing that is due can be done any more, telling `watch` how far it is.
pub async fn sync(
    engine: Engine,
    database: &Database,
    stop: CancellationToken,
    mut watch: impl FnMut(&Progress),
) -> anyhow::Result<SyncReport> {
    let began_at = now(database).await?;
    {
        let at = Clock.now();
        let fired = engine.crons().iter().map(|cron| Fired { export: &cron.export, account: &cron.account, at });
        let mut conn = database.pool().acquire().await?;
        store::tick::note(&mut conn, &fired.collect::<Vec<_>>()).await?;
    }
    let exports = engine.context().worker.exports.clone();
    let mut pass = engine.planner().pass().await?;
    let (progress, end) = loop {
        let mut conn = database.pool().acquire().await?;
        let began = Instant::now();
        let progress = store::coverage::progress(&mut conn, &exports, began_at).await?;
        drop(conn);
        let pause = LOOK.max(began.elapsed() * (LOOKS_AT_MOST_A - 1));
        watch(&progress);
        if progress.open == progress.blocked {
            pass = engine.planner().pass().await?;
            if pass.planned == 0 {
                break (progress, None);
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => break (progress, Some(SyncEnd::Stopped)),
            () = tokio::time::sleep(pause) => {}
        }
    };
    let mut conn = database.pool().acquire().await?;
    let failed_cells = store::coverage::failed_cells(&mut conn, &exports).await?;
    let planner = engine.planner();
    let without_programs = store::configured::without_feeds(&mut conn, &planner.exports).await?;
    drop(conn);
    if end.is_none() {
        retention::keep_views(database.pool(), &engine.context().settings).await;
    }
    if end.is_none()
        && let Err(error) = retention::keep_tables(database.pool(), &engine.context().settings, &planner.exports).await
    {
        tracing::warn!(
            error = format!("{error:#}"),
            "what is kept no longer could not be dropped; the next run does it"
        );
    }
    worker::look_after_archive(engine.context()).await;
    engine.tell().await;
    engine.stop(GRACE).await;
    let end = end.unwrap_or_else(|| {
        if without_programs.is_empty() { judge(&progress, &pass.waiting, failed_cells) } else { SyncEnd::Failed }
    });
    Ok(SyncReport { end, progress, waiting: pass.waiting, without_programs })
}

fn judge(progress: &Progress, waiting: &Waiting, failed_cells: i64) -> SyncEnd {
    if failed_cells > 0 || waiting.paused > 0 || progress.paused > 0 || progress.without_room > 0 {
        SyncEnd::Failed
    } else if waiting.for_quota > 0 || progress.blocked > 0 {
        SyncEnd::WaitsForQuota
    } else {
        SyncEnd::Done
    }
}

async fn now(database: &Database) -> anyhow::Result<DateTime<Utc>> {
    let mut conn = database.pool().acquire().await?;
    Ok(store::coverage::database_now(&mut conn).await?)
}
