//! What the database says, read in one go for page and metrics alike, and kept for a moment: however many ask, the
//! database answers once.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Connection, PgPool};
use tokio::sync::Mutex;

use super::Face;
use super::calendar::{Days, strips};
use crate::figures::ago;
use crate::job::JobState;
use crate::store::account::{Paused, PausedExport};
use crate::store::by_hand::PausedByHand;
use crate::store::room::NoRoom;
use crate::store::status::{Freshness, JobFilter, JobLine, Quota, TableLine};
use crate::store::warning::LoadWarning;
use crate::store::{self, account, archive, behind, by_hand, calendar, coverage, room, status, warning};

/// How long what was read serves, a failure too.
const KEEP: Duration = Duration::from_secs(5);
/// What reading may cost: it is done again after so many times what it took.
const REST: u32 = 10;
/// How long what was read is shown while a newer one is read; after this, who asks waits for the newer one.
const SHOWN_MEANWHILE: Duration = Duration::from_mins(1);
/// A reading that is not worth the sight of an older one.
const SOON: Duration = Duration::from_millis(50);
/// How long reading may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// Days of a strip.
const STRIP_DAYS: i64 = 90;
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
    /// What people paused.
    pub by_hand: Vec<PausedByHand>,
    /// The strips of the front page: the worst state of each of the latest days, by export.
    pub strips: BTreeMap<String, Days>,
    /// When a load last changed rows, by export.
    pub last_changes: BTreeMap<String, DateTime<Utc>>,
    /// Differs from that of the snapshot before where the pages would.
    pub mark: u64,
}

impl Snapshot {
    /// How many jobs are in a state.
    pub fn job_count(&self, state: JobState) -> i64 {
        self.job_counts.iter().find(|(known, _)| *known == state).map_or(0, |(_, count)| *count)
    }

    /// A hash of what is shown; of ages only what is said of them.
    fn reckon_mark(&self) -> u64 {
        let ages: Vec<_> = self
            .freshness
            .iter()
            .map(|one| {
                let age = one.age_seconds.map(|age| if age < 60 { "now".to_owned() } else { ago(age) });
                (&one.export, one.latest_day, one.is_stale, one.missing_cells, one.failed_cells, age)
            })
            .collect();
        let state = (&self.paused, &self.paused_exports, &self.by_hand, &self.quota, &self.job_counts, &self.open);
        let past = (&self.failed, &self.tables, &self.warnings, &self.no_room, self.late_files, &self.strips);
        let mut hasher = DefaultHasher::new();
        format!("{ages:?}{state:?}{past:?}").hash(&mut hasher);
        hasher.finish()
    }

    async fn read(pool: &PgPool) -> Result<Self, store::Error> {
        let mut conn = pool.acquire().await.map_err(store::failed("get a connection"))?;
        let mut tx = conn
            .begin_with("begin isolation level repeatable read, read only")
            .await
            .map_err(store::failed("begin"))?;
        let open = JobFilter { states: JobState::OPEN.to_vec(), limit: OPEN_JOBS, ..JobFilter::default() };
        let at = coverage::database_now(&mut tx).await?;
        let since = (at - TimeDelta::days(STRIP_DAYS)).date_naive();
        let feeds = calendar::feeds(&mut tx, None).await?;
        let latest = calendar::latest(&mut tx, since).await?;
        let changes = behind::last_changes(&mut tx).await?;
        let mut snapshot = Self {
            at,
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
            by_hand: by_hand::paused(&mut tx).await?,
            strips: strips(&feeds, &latest, since),
            last_changes: changes.into_iter().map(|one| (one.export, one.at)).collect(),
            mark: 0,
        };
        snapshot.mark = snapshot.reckon_mark();
        tx.rollback().await.map_err(store::failed("end a transaction"))?;
        Ok(snapshot)
    }
}

type Kept = Result<Arc<Snapshot>, Arc<Error>>;

/// The last snapshot.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    last: std::sync::Mutex<Option<Last>>,
    reading: Arc<Mutex<()>>,
}

#[derive(Debug, Clone)]
struct Last {
    read_at: Instant,
    took: Duration,
    kept: Kept,
}

impl Last {
    fn age(&self) -> Duration {
        self.read_at.elapsed()
    }

    fn is_young(&self) -> bool {
        self.age() < KEEP.max(self.took * REST)
    }

    /// Whether it serves while a newer one is read: not a failure, and not where the newer one is there in no time.
    fn may_be_shown(&self) -> bool {
        self.is_young() || (self.kept.is_ok() && self.took > SOON && self.age() < SHOWN_MEANWHILE)
    }
}

impl Snapshots {
    /// The last one while it is young, else a new one; who asks meanwhile waits for it.
    pub async fn get(&self, pool: &PgPool) -> Kept {
        let _turn = self.reading.lock().await;
        match self.last() {
            Some(last) if last.is_young() => last.kept,
            Some(_) | None => self.read(pool).await,
        }
    }

    /// For the pages: as [`Snapshots::get`], but where reading takes its time the last one is shown while a newer one is read.
    pub async fn shown(face: &Arc<Face>, pool: &PgPool) -> Kept {
        let snapshots = &face.snapshots;
        if let Some(last) = snapshots.last() {
            if last.is_young() {
                return last.kept;
            }
            if last.may_be_shown() {
                if let Ok(turn) = Arc::clone(&snapshots.reading).try_lock_owned() {
                    let (face, pool) = (Arc::clone(face), pool.clone());
                    face.tasks.clone().spawn(async move {
                        let _ = face.snapshots.read(&pool).await;
                        drop(turn);
                    });
                }
                return last.kept;
            }
        }
        snapshots.get(pool).await
    }

    /// Has the next who asks wait for a new one, as after an action.
    pub fn forget(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn last(&self) -> Option<Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn read(&self, pool: &PgPool) -> Kept {
        let began = Instant::now();
        let kept = match tokio::time::timeout(PATIENCE, Snapshot::read(pool)).await {
            Ok(Ok(snapshot)) => Ok(Arc::new(snapshot)),
            Ok(Err(error)) => Err(Arc::new(Error::from(error))),
            Err(_) => Err(Arc::new(Error::Slow)),
        };
        let last = Last { read_at: Instant::now(), took: began.elapsed(), kept: kept.clone() };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
        kept
    }
}
