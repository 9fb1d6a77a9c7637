//! Random worlds: replicas of the daemon between a sandbox and a Postgres, with switches turned, calls and lines that fail,
//! data that restates itself and replicas that die. In the end the tables hold the truth, no window was ordered twice, impact.com
//! never had to refuse a call for want of quota, nothing is stuck and nothing has panicked.
//!
//! A failure prints its seed; `WORLD_SEED=…` lives through that world again. `WORLDS=…` says how many there are.

mod plot;
mod replica;

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use impact_mirror::app::{self, SyncEnd, SyncReport};
use impact_mirror::config::{DatabaseUrl, Settings};
use impact_mirror::job::JobId;
use impact_mirror::sandbox::{Limits, Options};
use impact_mirror::store;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use self::plot::{Event, Plot, Whose};
use self::replica::Replica;
use crate::engine::truth::assert_mirrored;
use crate::engine::world::{World, options};
use crate::support::on_a_thread;
use crate::support::proxy::{Line, Proxy};
use crate::support::state_dir::StateDir;

/// Worlds where nobody says how many.
const WORLDS: u64 = 6;
/// Worlds at a time.
const AT_ONCE: usize = 6;
/// The longest that a world may last: far more than any takes.
const LIFE: Duration = Duration::from_mins(20);
/// The longest that a round of work may last.
const ROUND: Duration = Duration::from_mins(5);
/// Rounds of work after which everything must be loaded, however often something failed before.
const ROUNDS: usize = 12;

/// What all worlds came to.
#[derive(Debug, Default)]
struct Tally {
    worlds: AtomicUsize,
    events: AtomicUsize,
    rows: AtomicI64,
    runs: AtomicUsize,
    hits: AtomicUsize,
}

/// A world and its two lines.
struct Scenery {
    world: World,
    impact: Proxy,
    postgres: Proxy,
    settings: Settings,
}

impl Scenery {
    async fn new(plot: &Plot) -> Self {
        let mut limits = Limits::default();
        if let Some(few) = plot.few_orders {
            (limits.report_export_per_day, limits.click_export_per_day) = (few, few);
        }
        let mut options = Options { seed: plot.seed, limits, actions_per_day: 12, clicks_per_day: 20, ..options() };
        for switch in &plot.switches {
            options.behaviours.set(switch).unwrap();
        }
        let world = World::with(options).await;
        let impact = Proxy::to_http(&world.sandbox.base_url());
        let postgres = Proxy::to_postgres(world.database_url());
        let mut settings = world.settings(&plot.exports);
        for account in settings.accounts.values_mut() {
            account.quota.report_export_per_day = limits.report_export_per_day;
            account.quota.click_export_per_day = limits.click_export_per_day;
        }
        Self { world, impact, postgres, settings }
    }

    /// A replica on a machine of its own, behind the two lines.
    fn replica(&self, state: &Path) -> Replica {
        let mut settings = self.settings.clone();
        for account in settings.accounts.values_mut() {
            account.base_url = self.impact.http_url().parse().unwrap();
        }
        let url = self.postgres.postgres_url(self.world.database_url());
        settings.database.url = DatabaseUrl::Url(SecretString::from(url));
        settings.http.listen = ([127, 0, 0, 1], 0).into();
        settings.spool_dir = state.join("spool");
        Replica::start(&settings)
    }

    async fn happen(&self, event: &Event) {
        match event {
            Event::Fault(fault) => self.world.sandbox.inject(*fault),
            Event::Break(whose, line, lasting) => {
                let proxy = match whose {
                    Whose::Impact => &self.impact,
                    Whose::Postgres => &self.postgres,
                };
                proxy.set(*line);
                tokio::time::sleep(*lasting).await;
                proxy.set(Line::Good);
            }
            Event::Restate(hours) => {
                self.world.sandbox.advance(TimeDelta::hours(*hours));
                self.ask_again().await;
            }
            Event::Switch(switch) => self.world.sandbox.set_behaviour(switch).unwrap(),
            Event::Kill(_) | Event::Restart(_) => unreachable!("replicas are looked after elsewhere"),
        }
    }

    async fn ask_again(&self) {
        self.world.request_refresh_of_all(&self.settings).await;
        self.world.execute("notify impact_mirror_wake").await;
    }

    /// Works until everything is loaded that is due, through failed jobs and days without quota.
    async fn finish(&self, clock: Clock) {
        for _ in 0..ROUNDS {
            let Ok(report) = tokio::time::timeout(ROUND, self.sync_in_a_hurry(clock)).await else {
                panic!("a round of work does not end: {:#?}", self.how_it_stands().await);
            };
            match report.end {
                SyncEnd::Done => return,
                SyncEnd::WaitsForQuota => {
                    // What was loaded before is a day old then.
                    self.world.pass_quota_time(TimeDelta::hours(25)).await;
                    self.ask_again().await;
                }
                SyncEnd::Failed => self.retry_failed().await,
                SyncEnd::Stopped => unreachable!("nobody stops it"),
            }
        }
        panic!("not everything is loaded after {ROUNDS} rounds: {:#?}", self.world.jobs().await);
    }

    /// What there is to see where nothing moves any more.
    async fn how_it_stands(&self) -> Vec<String> {
        let mut lines = self.world.jobs().await;
        for look in [
            "select j::text from impact_mirror.job j where finished_at is null",
            "select e::text from (select * from impact_mirror.job_event order by at desc limit 6) e",
            "select b::text from impact_mirror.bucket b",
            "select a::text from impact_mirror.account a",
            "select concat_ws(' | ', pid, state, wait_event_type, wait_event, now() - state_change, pg_blocking_pids(pid), left(query, 200)) \
             from pg_stat_activity where datname = current_database()",
        ] {
            lines.extend(self.world.query(look).await);
        }
        lines
    }

    /// What is due, where no pause of a job is waited for but that before an order is looked for.
    async fn sync_in_a_hurry(&self, clock: Clock) -> SyncReport {
        let engine = self.world.start(&self.settings).await;
        let wakes = Arc::clone(&engine.context().wakes);
        let hurry = async {
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let hurried = sqlx::query(
                    "update impact_mirror.job set run_at = now() \
                     where finished_at is null and lease_token is null and run_at > now() and state <> 'submitting'",
                );
                if hurried.execute(self.world.pool()).await.unwrap().rows_affected() > 0 {
                    wakes.all();
                }
                // A job in ERROR is tried again by impact.com only as time passes there. Who looks for an order whose reply was
                // lost knows by impact.com's clock which job is too old to be it: that must not leap meanwhile.
                let no_order_is_out =
                    "select (not exists (select from impact_mirror.job where state = 'submitting'))::text";
                if matches!(clock, Clock::Runs) && self.world.value(no_order_is_out).await == "true" {
                    self.world.sandbox.advance(TimeDelta::minutes(8));
                }
            }
        };
        tokio::select! {
            report = app::sync(engine, self.world.database(), CancellationToken::new(), |_| {}) => report.unwrap(),
            () = hurry => unreachable!("it goes on for ever"),
        }
    }

    async fn retry_failed(&self) {
        let failed = self
            .world
            .query("select distinct failed_job_id::text from impact_mirror.cell where failed_job_id is not null");
        let mut conn = self.world.pool().acquire().await.unwrap();
        for id in failed.await {
            store::status::retry(&mut conn, JobId(id.parse().unwrap())).await.unwrap();
        }
    }

    /// How many runs impact.com made for orders that we know to have been taken, at most.
    async fn known_orders(&self) -> usize {
        let followed = "select (count(*) filter (where to_state = 'waiting' and from_state = 'submitting' \
                                                 and note <> 'it was under way already') \
                              + count(*) filter (where to_state = 'failed' and from_state = 'submitting'))::text \
                        from impact_mirror.job_event";
        self.world.value(followed).await.parse().unwrap()
    }
}

#[derive(Debug, Clone, Copy)]
enum Clock {
    Stands,
    Runs,
}

async fn live(plot: &Plot, tally: &Tally) {
    let scenery = Scenery::new(plot).await;
    let machines: Vec<StateDir> = (0..plot.replicas).map(|_| StateDir::new()).collect();
    let mut replicas: Vec<Option<Replica>> =
        machines.iter().map(|machine| Some(scenery.replica(machine.path()))).collect();
    for (pause, event) in &plot.events {
        tokio::time::sleep(*pause).await;
        let ended = match event {
            Event::Kill(number) => {
                drop(replicas[*number].take());
                *number
            }
            Event::Restart(number) => {
                replicas[*number].take().unwrap().stop().await;
                *number
            }
            other => {
                scenery.happen(other).await;
                continue;
            }
        };
        replicas[ended] = Some(scenery.replica(machines[ended].path()));
    }
    drop(replicas);

    let world = &scenery.world;
    world.sandbox.call_off_faults();
    scenery.finish(Clock::Runs).await;
    world.pass_quota_time(TimeDelta::hours(25)).await;
    scenery.ask_again().await;
    scenery.finish(Clock::Stands).await;

    let rows = assert_mirrored(world, &scenery.settings).await;
    let open = "select count(*)::text from impact_mirror.job where finished_at is null or lease_token is not null";
    assert_eq!(world.value(open).await, "0", "jobs that are not at their end");
    assert_eq!(world.throttled(), 0, "calls beyond the quota");
    let (runs, known) = (world.sandbox.runs(), scenery.known_orders().await);
    // An order that a dying process may still have on its way is found by ordering it again, if impact.com remembers.
    let is_remembered = !plot.forgets_orders();
    assert!(runs <= known || !is_remembered, "impact.com made {runs} runs for {known} orders: some were made twice");
    assert_eq!(replica::panics(), 0, "panics");
    tally.worlds.fetch_add(1, Ordering::Relaxed);
    tally.events.fetch_add(plot.events.len(), Ordering::Relaxed);
    tally.rows.fetch_add(rows, Ordering::Relaxed);
    tally.runs.fetch_add(runs, Ordering::Relaxed);
    let hits = usize::try_from(scenery.impact.hits() + scenery.postgres.hits()).unwrap();
    tally.hits.fetch_add(hits, Ordering::Relaxed);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_happens_the_tables_hold_the_truth_in_the_end() {
    let began = Instant::now();
    let seeds: Vec<u64> = match number("WORLD_SEED") {
        Some(seed) => {
            tracing_subscriber::fmt().with_writer(std::io::stderr).init();
            vec![seed]
        }
        None => (0..number("WORLDS").unwrap_or(WORLDS)).map(|_| uuid::Uuid::new_v4().as_u64_pair().0 >> 20).collect(),
    };
    let tally = Arc::new(Tally::default());
    let failed: Vec<u64> = stream::iter(seeds)
        .map(|seed| {
            let tally = Arc::clone(&tally);
            async move {
                let lived = on_a_thread(async move || {
                    let plot = Plot::new(seed);
                    let lived = tokio::time::timeout(LIFE, AssertUnwindSafe(live(&plot, &tally)).catch_unwind()).await;
                    if !matches!(lived, Ok(Ok(()))) {
                        let why = if lived.is_err() { "does not end" } else { "fails" };
                        eprintln!("WORLD_SEED={seed} {why}: {plot:?}");
                    }
                    matches!(lived, Ok(Ok(())))
                });
                (!lived.await.unwrap()).then_some(seed)
            }
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(async |failed| failed)
        .collect()
        .await;
    eprintln!(
        "FIGURE {} worlds in {} s: {} events, {} connections harmed, {} runs of jobs, {} rows compared, 0 of them wrong, {} panics",
        tally.worlds.load(Ordering::Relaxed),
        began.elapsed().as_secs(),
        tally.events.load(Ordering::Relaxed),
        tally.hits.load(Ordering::Relaxed),
        tally.runs.load(Ordering::Relaxed),
        tally.rows.load(Ordering::Relaxed),
        replica::panics(),
    );
    let seeds: Vec<String> = failed.iter().map(|seed| format!("WORLD_SEED={seed}")).collect();
    assert!(seeds.is_empty(), "{} worlds went wrong: {}", seeds.len(), seeds.join(" "));
}
