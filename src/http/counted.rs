//! What takes the database long to count: it is counted once a minute, however often the metrics are read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::Mutex;

use crate::error_chain::Chain;
use crate::store;
use crate::store::count::{self, CellCount, WaitingCount};

/// How long what was counted serves.
const KEEP: Duration = Duration::from_mins(1);
/// How long counting may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub cells: Vec<CellCount>,
    pub waiting: Vec<WaitingCount>,
}

impl Counts {
    async fn read(pool: &PgPool) -> Result<Self, store::Error> {
        let mut conn = pool.acquire().await.map_err(store::failed("get a connection"))?;
        Ok(Self { cells: count::cells(&mut conn).await?, waiting: count::waiting(&mut conn).await? })
    }
}

/// The last counts.
#[derive(Debug, Default)]
pub(super) struct Counted(Mutex<Option<(Instant, Arc<Counts>)>>);

impl Counted {
    /// The last counts while they are young, else new ones; none where the database cannot count them in time.
    pub async fn get(&self, pool: &PgPool) -> Arc<Counts> {
        let mut last = self.0.lock().await;
        if let Some((read_at, counts)) = &*last
            && read_at.elapsed() < KEEP
        {
            return Arc::clone(counts);
        }
        let counts = match tokio::time::timeout(PATIENCE, Counts::read(pool)).await {
            Ok(Ok(counts)) => counts,
            Ok(Err(error)) => {
                tracing::debug!(error = %Chain(&error), "cannot count cells");
                Counts::default()
            }
            Err(_) => Counts::default(),
        };
        let counts = Arc::new(counts);
        *last = Some((Instant::now(), Arc::clone(&counts)));
        counts
    }
}
