//! A planning pass: what is due becomes planned jobs as far as the budget goes. One process plans at a time.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Settings;
use crate::error_chain::Chain;
use crate::export::ExportName;
use crate::plan::{Inputs, Plan, plan};
use crate::pulse::Pulse;
use crate::store;
use crate::wake::Wakes;

/// The planner looks again after this long, whatever it was told.
const LOOK_AGAIN: Duration = Duration::from_mins(10);
/// Many jobs end at once; one pass serves them all.
const SETTLE: Duration = Duration::from_millis(200);

/// What a pass takes at most while all is well, the wait for another replica's included.
const PASS: Duration = Duration::from_mins(5);

/// Plans for some exports of one configuration.
#[derive(Debug, Clone)]
pub struct Planner {
    /// Our Postgres.
    pub pool: PgPool,
    /// The configuration.
    pub settings: Arc<Settings>,
    /// The exports it plans for.
    pub exports: Vec<ExportName>,
    /// Who we are.
    pub holder: String,
    /// The bells.
    pub wakes: Arc<Wakes>,
    /// Whether the loops go round.
    pub pulse: Arc<Pulse>,
}

/// What a pass came to.
#[derive(Debug)]
pub struct Pass {
    /// Jobs planned.
    pub planned: usize,
    /// The windows that wait, and when to look again.
    pub plan: Plan,
}

impl Planner {
    /// Makes the plan that a tick of every schedule would lead to now, without acting on it.
    pub async fn preview_as_if_ticked(&self, conn: &mut PgConnection) -> Result<(Plan, DateTime<Utc>), store::Error> {
        let (mut inputs, now) = self.inputs(conn).await?;
        for state in &mut inputs.feeds {
            state.tick_at = Some(now);
        }
        Ok((plan(&inputs, now), now))
    }

    async fn inputs(&self, conn: &mut PgConnection) -> Result<(Inputs, DateTime<Utc>), store::Error> {
        let feeds = store::configured::feeds(conn, &self.settings, &self.exports).await?;
        let inputs = store::coverage::inputs(conn, feeds).await?;
        Ok((inputs, store::coverage::database_now(conn).await?))
    }

    /// Plans and writes the jobs that the budget allows.
    pub async fn pass(&self) -> Result<Pass, store::Error> {
        let mut conn = self.pool.acquire().await.map_err(store::failed("get a connection"))?;
        let mut tx = conn.begin().await.map_err(store::failed("begin"))?;
        store::coverage::lock_planning(&mut tx).await?;
        store::coverage::drop_answered(&mut tx).await?;
        let (inputs, now) = self.inputs(&mut tx).await?;
        let plan = plan(&inputs, now);
        store::job::insert_planned(&mut tx, &plan.calls, &self.holder).await?;
        tx.commit().await.map_err(store::failed("commit a plan"))?;
        let planned = plan.calls.len();
        if planned > 0 {
            tracing::info!(planned, waiting = plan.waiting.len(), "planned {planned} jobs");
            self.wakes.submit.notify_one();
        }
        Ok(Pass { planned, plan })
    }

    /// Plans whenever its bell rings, or when time alone makes something due, until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let beat = self.pulse.begin("planner");
        loop {
            beat.round(PASS);
            let pause = match self.pass().await {
                Ok(pass) => pass
                    .plan
                    .wake_at
                    .map_or(LOOK_AGAIN, |at| (at - Clock.now()).to_std().unwrap_or(Duration::ZERO))
                    .clamp(Duration::from_secs(1), LOOK_AGAIN),
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "cannot plan; trying again");
                    Duration::from_secs(5)
                }
            };
            beat.pause(pause + SETTLE);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.wakes.plan.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(SETTLE) => {}
            }
        }
    }
}
