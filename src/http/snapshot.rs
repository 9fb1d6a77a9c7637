//! What the database says, read in one go for page and metrics alike, and kept for a moment: however many ask, the
//! database answers once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgPool};
use tokio::sync::Mutex;

use crate::job::JobState;
use crate::store::account::{Paused, PausedExport};
use crate::store::room::NoRoom;
use crate::store::status::{Freshness, JobFilter, JobLine, Quota, TableLine};
use crate::store::warning::LoadWarning;
use crate::store::{self, account, archive, coverage, room, status, warning};

/// How long what was read serves, a failure too.
const KEEP: Duration = Duration::from_secs(5);
/// How long reading may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// Open jobs read; nobody reads more.
const OPEN_JOBS: i64 = 200;
/// Failures read.
const FAILURES: i64 = 20;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the database does not answer within {} s", PATIENCE.as_secs())]
    Slow,
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What the database said at a moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub at: DateTime<Utc>,
    pub freshness: Vec<Freshness>,
    pub accounts: Vec<String>,
    pub paused: Vec<Paused>,
    pub paused_exports: Vec<PausedExport>,
    pub quota: Vec<Quota>,
    pub job_counts: Vec<(JobState, i64)>,
    pub open: Vec<JobLine>,
    pub failed: Vec<JobLine>,
    pub tables: Vec<TableLine>,
    pub warnings: Vec<LoadWarning>,
    pub no_room: Option<NoRoom>,
    pub late_files: i64,
}

impl Snapshot {
    /// How many jobs are in a state.
    pub fn job_count(&self, state: JobState) -> i64 {
        self.job_counts.iter().find(|(known, _)| *known == state).map_or(0, |(_, count)| *count)
    }

    async fn read(pool: &PgPool) -> Result<Self, store::Error> {
        let mut conn = pool.acquire().await.map_err(store::failed("get a connection"))?;
        let mut tx = conn
            .begin_with("begin isolation level repeatable read, read only")
            .await
            .map_err(store::failed("begin"))?;
        let open = JobFilter { states: JobState::OPEN.to_vec(), limit: OPEN_JOBS, ..JobFilter::default() };
        let snapshot = Self {
            at: coverage::database_now(&mut tx).await?,
            freshness: status::freshness(&mut tx).await?,
            accounts: status::accounts(&mut tx).await?,
            paused: account::paused(&mut tx).await?,
            paused_exports: account::paused_exports(&mut tx).await?,
            quota: status::quota(&mut tx).await?,
            job_counts: status::job_counts(&mut tx).await?,
            open: status::jobs(&mut tx, &open).await?,
            failed: status::failed_jobs(&mut tx, FAILURES).await?,
            tables: status::tables(&mut tx).await?,
            warnings: warning::current(&mut tx).await?,
            no_room: room::lacking(&mut tx).await?,
            late_files: archive::late_count(&mut tx).await?,
        };
        tx.rollback().await.map_err(store::failed("end a transaction"))?;
        Ok(snapshot)
    }
}

type Kept = Result<Arc<Snapshot>, Arc<Error>>;

/// The last snapshot.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    last: Mutex<Option<(Instant, Kept)>>,
}

impl Snapshots {
    /// The last one while it is young, else a new one; who asks meanwhile waits for it.
    pub async fn get(&self, pool: &PgPool) -> Kept {
        let mut last = self.last.lock().await;
        if let Some((read_at, kept)) = &*last
            && read_at.elapsed() < KEEP
        {
            return kept.clone();
        }
        let read = match tokio::time::timeout(PATIENCE, Snapshot::read(pool)).await {
            Ok(Ok(snapshot)) => Ok(Arc::new(snapshot)),
            Ok(Err(error)) => Err(Arc::new(Error::from(error))),
            Err(_) => Err(Arc::new(Error::Slow)),
        };
        *last = Some((Instant::now(), read.clone()));
        read
    }
}
