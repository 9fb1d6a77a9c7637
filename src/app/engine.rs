//! The engine: clients, spool, workers, planner and schedules, wired to one database. `run` and `sync` share it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::PgPool;
use tokio_util::task::TaskTracker;

use super::{Database, alerts, housekeeping, retention, tell};
use crate::account::AccountName;
use crate::archive::Archive;
use crate::clock::DatabaseClock;
use crate::config::{Export, Settings};
use crate::error_chain::Chain;
use crate::export::ExportName;
use crate::failpoint;
use crate::impact;
use crate::metrics::tally::Tally;
use crate::pulse::Pulse;
use crate::scheduler::{self, Cron, Planner};
use crate::spool::Spool;
use crate::store;
use crate::wake::Wakes;
use crate::webhook::Webhook;
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
    context: Arc<Context>,
    planner: Planner,
    crons: Vec<Cron>,
    webhooks: Vec<Webhook>,
    tasks: TaskTracker,
    stop: Stop,
}

impl Engine {
    /// Builds everything, writes the configuration into the database, finds the programs, and starts the workers.
    pub async fn start(settings: Settings, database: &Database, scope: Scope) -> anyhow::Result<Self> {
        let exports = scope.exports(&settings);
        let context = context(settings, database, &exports).await?;
        let planner = Planner {
            pool: context.pool.clone(),
            settings: Arc::clone(&context.settings),
            exports: exports.clone(),
            holder: context.worker.holder.clone(),
            wakes: Arc::clone(&context.wakes),
            pulse: Arc::clone(&context.pulse),
        };
        housekeeping::probe_paused(&context).await;
        housekeeping::discover_programs(&context).await;

        let engine = Self {
            crons: crons(&context.settings, &exports),
            webhooks: webhooks(&context.settings)?,
            context,
            planner,
            tasks: TaskTracker::new(),
            stop: Stop::default(),
        };
        worker::start(&engine.context, &engine.tasks, &engine.stop);
        Ok(engine)
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
                tracing::error!(error = %Chain(&error), "the schedules have stopped");
                schedules.ended();
            }
        });
        tasks.spawn(self.planner.clone().run(stop_planner));
        tasks.spawn(housekeeping::listen(Arc::clone(context), gently.clone()));
        tasks.spawn(housekeeping::keep_house(Arc::clone(context), gently.clone()));
        tasks.spawn(housekeeping::keep_archive(Arc::clone(context), gently.clone()));
        if let Some(alerts) = &context.settings.alerts {
            tasks.spawn(alerts::watch(Arc::clone(context), alerts.clone(), gently.clone()));
        }
        for webhook in &self.webhooks {
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
        tell::once(pool, &self.webhooks).await;
    }

    /// What the steps run with.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
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
    let pool = database.pool().clone();
    let clients = clients(&settings)?;
    let archive = settings.archive.as_ref().map(|archive| Archive::open(&archive.url)).transpose()?;
    let spool = Spool::open(&settings.spool_dir)?;
    let late = match &archive {
        Some(_) => store::archive::late_jobs(&mut *pool.acquire().await?).await?,
        None => Vec::new(),
    };
    spool.sweep(|job| late.contains(&job));
    let worker = store::job::Worker {
        holder: holder(),
        lease: settings.workers.lease,
        accounts: settings.accounts.keys().map(|name| name.as_str().to_owned()).collect(),
        exports: exports.iter().map(|name| name.as_str().to_owned()).collect(),
        followed: with_neighbours(&settings, exports),
        turns: store::claim::Turns::default(),
    };
    write_configuration(&pool, &settings).await?;
    check_partitions(&pool, &settings, exports).await?;
    retention::keep_views(&pool, &settings).await;
    let pulse = Arc::new(Pulse::new(settings.workers.lease));
    Ok(Arc::new(Context {
        pool,
        settings: Arc::new(settings),
        clients,
        worker,
        spool,
        archive,
        wakes: Arc::new(Wakes::default()),
        pulse,
        tally: Arc::default(),
        leases: worker::Leases::default(),
        metadata: worker::MetaData::default(),
        clock: DatabaseClock::default(),
    }))
}

/// Exports, and all others that share an account with one of them.
fn with_neighbours(settings: &Settings, exports: &[ExportName]) -> Vec<String> {
    let accounts: BTreeSet<&AccountName> =
        exports.iter().filter_map(|name| settings.exports.get(name)).flat_map(|export| &export.accounts).collect();
    let shares = |export: &&Export| export.accounts.iter().any(|account| accounts.contains(account));
    settings.exports.values().filter(shares).map(|export| export.name.as_str().to_owned()).collect()
}

/// Writes accounts, exports and feeds, for this engine and for the views.
pub async fn write_configuration(pool: &PgPool, settings: &Settings) -> anyhow::Result<()> {
    let mut conn = pool.acquire().await.context("no connection to the database")?;
    store::configured::sync(&mut conn, settings).await?;
    failpoint::reach("configuration-committed");
    Ok(())
}

async fn check_partitions(pool: &PgPool, settings: &Settings, exports: &[ExportName]) -> anyhow::Result<()> {
    let mut conn = pool.acquire().await.context("no connection to the database")?;
    for export in exports.iter().filter_map(|name| settings.exports.get(name)) {
        retention::check(&mut conn, settings, export).await?;
    }
    Ok(())
}

fn clients(settings: &Settings) -> anyhow::Result<BTreeMap<AccountName, impact::Client>> {
    settings
        .accounts
        .values()
        .map(|account| {
            let client = impact::Client::new(account).with_context(|| format!("account {}", account.name))?;
            Ok((account.name.clone(), client))
        })
        .collect()
}

/// Those who are told something.
fn webhooks(settings: &Settings) -> anyhow::Result<Vec<Webhook>> {
    let alerts = settings.alerts.as_ref().map(|alerts| Webhook::new("alerts", &alerts.receiver));
    let downstream = settings.downstream.as_ref().map(|receiver| Webhook::new("downstream", receiver));
    let webhooks: Result<Vec<_>, _> = alerts.into_iter().chain(downstream).collect();
    Ok(webhooks?)
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

/// Host, process and a few random letters: unique, and a person knows where to look.
fn holder() -> String {
    let host =
        nix::unistd::gethostname().map_or_else(|_| "host".to_owned(), |name| name.to_string_lossy().into_owned());
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{host}-{}-{}", std::process::id(), &random[..6])
}
