//! The engine: clients, spool, workers, planner and schedules, wired to one database. `run` and `sync` share it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::PgPool;
use tokio_util::task::TaskTracker;

use super::parts::{Parts, holder};
use super::{Database, alerts, housekeeping, tell};
use crate::config::{Distribution, Settings};
use crate::error_chain::Chain;
use crate::export::ExportName;
use crate::failpoint;
use crate::metrics::tally::Tally;
use crate::mirror;
use crate::pulse::Pulse;
use crate::scheduler::{self, Cron, Planner};
use crate::store;
use crate::wake::Wakes;
use crate::worker::{self, Context, Stop};

/// Which exports an engine works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All that are configured.
    All,
    /// These.
    Only(Vec<ExportName>),
}

impl Scope {
    fn exports(self, settings: &Settings) -> Vec<ExportName> {
        match self {
            Self::All => settings.exports.keys().cloned().collect(),
            Self::Only(exports) => exports,
        }
    }
}

/// A planner without an engine, for looking.
pub fn planner(pool: &PgPool, settings: &Settings, scope: Scope) -> Planner {
    Planner {
        pool: pool.clone(),
        settings: Arc::new(settings.clone()),
        exports: scope.exports(settings),
        holder: holder(),
        wakes: Arc::new(Wakes::default()),
        pulse: Arc::new(Pulse::default()),
    }
}

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    parts: Parts,
    context: Arc<Context>,
    planner: Planner,
    crons: Vec<Cron>,
    tasks: TaskTracker,
    stop: Stop,
}

impl Engine {
    /// Builds everything, writes the configuration into the database, finds the programs, and starts the workers.
    pub async fn start(settings: Settings, database: &Database, scope: Scope) -> anyhow::Result<Self> {
        let exports = scope.exports(&settings);
        let (parts, context) = build(settings, database, exports).await?;
        housekeeping::probe_paused(&context).await;
        housekeeping::discover_programs(&context).await;
        Ok(Self::of(parts, context))
    }

    /// One that goes on where the one before was stopped: with a configuration that the database has, and counts that go on.
    pub(super) fn succeed(parts: Parts, pool: &PgPool, before: &Context) -> Self {
        let pulse = Pulse::following(&before.pulse, parts.settings.workers.lease);
        let context = parts.context(pool, pulse, Arc::clone(&before.tally));
        Self::of(parts, context)
    }

    fn of(parts: Parts, context: Arc<Context>) -> Self {
        let planner = Planner {
            pool: context.pool.clone(),
            settings: Arc::clone(&context.settings),
            exports: parts.exports.clone(),
            holder: context.worker.holder.clone(),
            wakes: Arc::clone(&context.wakes),
            pulse: Arc::clone(&context.pulse),
        };
        let crons = crons(&context.settings, &parts.exports);
        let engine = Self { parts, context, planner, crons, tasks: TaskTracker::new(), stop: Stop::default() };
        worker::start(&engine.context, &engine.tasks, &engine.stop);
        engine
    }

    /// Tries paused accounts and looks for programs, as a start does, while the work goes on already.
    pub(super) fn look_around(&self) {
        let (context, gently) = (Arc::clone(&self.context), self.stop.gently.clone());
        self.tasks.spawn(async move {
            let looked = async {
                housekeeping::probe_paused(&context).await;
                housekeeping::discover_programs(&context).await;
                context.wakes.all();
            };
            tokio::select! {
                biased;
                () = gently.cancelled() => {}
                () = looked => {}
            }
        });
    }

    /// Goes on by itself from here: catches up on missed ticks, plans, keeps to the schedules, listens to commands and
    /// keeps house.
    pub fn keep_going(&self) {
        let Self { context, planner, crons, tasks, stop, .. } = self;
        let gently = &stop.gently;
        let (pool, all, wakes, planner) =
            (context.pool.clone(), crons.clone(), Arc::clone(&context.wakes), planner.clone());
        let schedules = context.pulse.begin_silent("schedules");
        let pulse = Arc::clone(&context.pulse);
        let (stop_cron, stop_planner) = (gently.clone(), gently.clone());
        tasks.spawn(async move {
            if let Err(error) = scheduler::catch_up(&pool, &all).await {
                tracing::warn!(error = %Chain(&error), "cannot catch up on missed ticks; the next ones stand for them");
            }
            planner.wakes.plan.notify_one();
            if let Err(error) = scheduler::run(pool, all, wakes, &pulse, stop_cron).await {
                tracing::error!(error = %Chain(&error), "the schedules have stopped, so that no tick comes any more; restart the daemon");
                schedules.ended();
            }
        });
        tasks.spawn(self.planner.clone().run(stop_planner));
        tasks.spawn(housekeeping::listen(Arc::clone(context), gently.clone()));
        tasks.spawn(housekeeping::keep_house(Arc::clone(context), gently.clone()));
        tasks.spawn(housekeeping::keep_archive(Arc::clone(context), gently.clone()));
        tasks.spawn(housekeeping::watch_versions(Arc::clone(context), gently.clone()));
        if let Some(alerts) = &context.settings.alerts {
            tasks.spawn(alerts::watch(Arc::clone(context), alerts.clone(), gently.clone()));
        }
        for webhook in &self.parts.webhooks {
            tasks.spawn(tell::send(Arc::clone(context), webhook.clone(), gently.clone()));
        }
    }

    /// Tells what there is to be told, once; for an engine that does not keep going.
    pub async fn tell(&self) {
        let Context { pool, settings, .. } = &*self.context;
        if let Some(alerts) = &settings.alerts
            && let Err(error) = alerts::look(pool, alerts.repeat).await
        {
            tracing::warn!(error = %Chain(&error), "cannot look for what to alert on; the next sync or run does it");
        }
        tell::once(pool, &self.parts.webhooks).await;
    }

    /// What the steps run with.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Takes settings that differ in nothing that it works with.
    pub(super) fn adopt(&mut self, settings: Settings) {
        self.parts.settings = Arc::new(settings);
    }

    /// What it was built from.
    pub(super) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Whether its loops go round.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.context.pulse
    }

    /// What it has counted.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.context.tally
    }

    /// The planner of its exports.
    pub fn planner(&self) -> &Planner {
        &self.planner
    }

    /// The schedules of its exports.
    pub fn crons(&self) -> &[Cron] {
        &self.crons
    }

    /// Takes no new work, waits `grace` for steps under way, then hands them back.
    pub async fn stop(self, grace: Duration) {
        self.stop.gently.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_ok() {
            return;
        }
        tracing::info!(left = self.tasks.len(), "handing back the steps still under way");
        self.stop.now.cancel();
        if tokio::time::timeout(Duration::from_secs(3), self.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "steps could not be handed back; their leases will run out");
        }
    }
}

/// What steps run with; writes the configuration into the database, clears the spool of what nobody needs, and fails where a
/// table is not partitioned as its settings say.
pub(super) async fn context(
    settings: Settings,
    database: &Database,
    exports: &[ExportName],
) -> anyhow::Result<Arc<Context>> {
    Ok(build(settings, database, exports.to_vec()).await?.1)
}

async fn build(
    settings: Settings,
    database: &Database,
    exports: Vec<ExportName>,
) -> anyhow::Result<(Parts, Arc<Context>)> {
    let pool = database.pool();
    let parts = Parts::new(settings, exports)?;
    let late = match &parts.archive {
        Some(_) => store::archive::late_jobs(&mut *pool.acquire().await?).await?,
        None => Vec::new(),
    };
    parts.spool.sweep(|job| late.contains(&job));
    write_configuration(pool, &parts.settings).await?;
    parts.check_partitions(pool).await?;
    let pulse = Pulse::new(parts.settings.workers.lease);
    let context = parts.context(pool, pulse, Arc::default());
    Ok((parts, context))
}

/// Writes accounts, exports and feeds, for this engine and for the views.
pub async fn write_configuration(pool: &PgPool, settings: &Settings) -> anyhow::Result<()> {
    let mut conn = pool.acquire().await.context("no connection to the database")?;
    if settings.database.distribution == Distribution::Citus {
        let distributes =
            mirror::distributes(&mut conn).await.context("the functions of the database cannot be read")?;
        anyhow::ensure!(
            distributes,
            "database.distribution is \"citus\", and this database has no create_distributed_table: run `create extension citus` in it \
             and on its workers, or take the setting out"
        );
    }
    store::configured::sync(&mut conn, settings).await?;
    failpoint::reach("configuration-committed");
    Ok(())
}

/// The schedules of `exports`, one for each account.
pub fn crons(settings: &Settings, exports: &[ExportName]) -> Vec<Cron> {
    exports
        .iter()
        .filter_map(|name| settings.exports.get(name))
        .flat_map(|export| {
            export.accounts.iter().map(|account| Cron {
                export: export.name.clone(),
                account: account.clone(),
                schedule: export.schedule.clone(),
                time_zone: settings.accounts[account].time_zone,
            })
        })
        .collect()
}
