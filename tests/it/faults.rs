//! The real process behind lines and servers that fail: it recovers by itself, within a lease, and is then as it was before.

mod clock;
mod impact;
mod lines;
mod postgres;

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use futures_util::{StreamExt as _, stream};
use impact_mirror::sandbox::Options;
use sqlx::PgPool;

use crate::support::daemon::{Process, Scene, Wishes, eventually, still};
use crate::support::database::{TestDatabase, database};
use crate::support::on_a_thread;
use crate::support::proxy::{Line, Proxy};

/// How long a claim lasts here. So long after the end of a fault everything goes on.
const LEASE: Duration = Duration::from_secs(10);
/// How long a fault lasts, once it has done harm.
const FAULT: Duration = Duration::from_secs(2);
/// How long a remote job takes.
const JOB: Duration = Duration::from_millis(400);
/// What a process may have more of after a fault than before.
const SPARE_BYTES: u64 = 24 << 20;

/// A daemon, and the two lines it depends on.
struct Stage {
    daemon: Process,
    scene: Scene,
    impact: Proxy,
    postgres: Proxy,
    before: Footprint,
}

/// What a process takes.
#[derive(Debug, Clone, Copy)]
struct Footprint {
    memory_bytes: u64,
    sockets: usize,
}

impl Stage {
    /// A daemon that has loaded everything twice and is idle.
    async fn new() -> Self {
        Self::with(Vec::new()).await
    }

    /// The same, with more variables in its environment.
    async fn with(env: Vec<(&'static str, String)>) -> Self {
        let database = database().await;
        let (url, pool) = (database.url().to_owned(), database.pool().clone());
        Self::begin(&url, pool, Some(database), env).await
    }

    /// The same, on a database that somebody else looks after.
    async fn on(url: &str, pool: PgPool) -> Self {
        Self::begin(url, pool, None, Vec::new()).await
    }

    async fn begin(url: &str, pool: PgPool, database: Option<TestDatabase>, env: Vec<(&'static str, String)>) -> Self {
        let postgres = Proxy::to_postgres(url);
        let options = Options { actions_per_day: 300, clicks_per_day: 400, ..still(JOB) };
        let mut scene = Scene::on(options, Wishes::default(), &postgres.postgres_url(url), pool).await;
        scene.database = database;
        scene.env = env;
        let impact = Proxy::to_http(&scene.sandbox.base_url());
        let (direct, through) = (scene.sandbox.base_url(), impact.http_url());
        scene.edit_config(|text| {
            let lease = format!("lease = \"{}s\"", LEASE.as_secs());
            text.replace(&direct, &through).replace("lease = \"2s\"", &lease)
        });
        let daemon = scene.run();
        scene.until_mirrored().await;
        daemon.until_says("running").await;
        let mut stage = Self { before: Footprint { memory_bytes: 0, sockets: 0 }, daemon, scene, impact, postgres };
        stage.work(2).await;
        stage.before = stage.footprint();
        stage
    }

    /// Restates the data and asks for all of it again.
    async fn ask(&self) {
        self.scene.sandbox.advance(TimeDelta::hours(30));
        self.scene
            .execute(
                "insert into impact_mirror.manual_request (export, account, program, from_day, to_day, kind, requested_at)
                 select export, account, program, min(day), max(day), 'refresh', now()
                 from impact_mirror.coverage group by export, account, program;
                 notify impact_mirror_wake",
            )
            .await;
    }

    /// Waits until so many loads are there, and everything is loaded.
    async fn until_loaded(&self, loads: usize) -> Duration {
        let began = Instant::now();
        self.scene.until(&format!("(select count(*) = {loads} from impact_mirror.load)")).await;
        self.scene.until_mirrored().await;
        began.elapsed()
    }

    /// All of it once more, undisturbed: there are so many loads before.
    async fn work(&self, loads: usize) {
        self.ask().await;
        self.until_loaded(loads + 2).await;
        self.scene.assert_mirrored().await;
    }

    /// What the daemon takes now.
    fn footprint(&self) -> Footprint {
        let proc = format!("/proc/{}", self.daemon.id());
        let status = std::fs::read_to_string(format!("{proc}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
        let files = std::fs::read_dir(format!("{proc}/fd")).unwrap().flatten();
        let is_socket = |path: &std::path::Path| path.to_string_lossy().starts_with("socket:");
        let sockets = files.filter(|file| std::fs::read_link(file.path()).is_ok_and(|to| is_socket(&to))).count();
        Footprint { memory_bytes: kilobytes << 10, sockets }
    }

    /// The tables hold the truth, each window was ordered once, and the daemon takes no more than before.
    async fn assert_recovered(&self, what: &str, orders: usize) {
        self.scene.assert_mirrored().await;
        assert_eq!(self.orders(), orders, "{what}: orders that impact.com took");
        let running = self.scene.value::<i64>("select count(*) from impact_mirror.job where state = 'failed'").await;
        assert_eq!(running, 0, "{what}: jobs that failed");
        // Connections that an idle client keeps are not many more than there were.
        let workers = 5 + 2 + 4 + 2;
        eventually("its sockets are as many as before", async || {
            self.footprint().sockets <= self.before.sockets + workers
        })
        .await;
        let after = self.footprint();
        assert!(
            after.memory_bytes < self.before.memory_bytes + SPARE_BYTES,
            "{what}: {after:?} after {:?}",
            self.before
        );
        assert!(!self.daemon.log().contains("panicked"), "{what}: a panic");
    }

    /// The runs that impact.com began: submissions that made a job, and replays.
    fn orders(&self) -> usize {
        self.scene.sandbox.runs()
    }
}

/// Breaks a line for a while, from the first harm on.
async fn break_for_a_while(line: &Proxy, fault: Line) {
    let hits = line.hits();
    line.set(fault);
    eventually("the line does harm", async || line.hits() > hits).await;
    tokio::time::sleep(FAULT).await;
    line.set(Line::Good);
}

/// What it takes to come back from each fault, some at a time.
async fn at_once<F: Future<Output = Vec<Duration>>>(
    faults: impl IntoIterator<Item = Line>,
    comes_back_after: impl Fn(Line) -> F + Copy + Send + 'static,
) -> Vec<Duration> {
    stream::iter(faults)
        .map(|fault| async move {
            let took = on_a_thread(async move || comes_back_after(fault).await).await;
            took.unwrap_or_else(|_| panic!("the daemon does not come back from {fault:?}"))
        })
        .buffer_unordered(3)
        .concat()
        .await
}

/// A figure for docs/reliability.md.
fn tell(what: &str, took: &[Duration]) {
    let mut seconds: Vec<f64> = took.iter().map(Duration::as_secs_f64).collect();
    seconds.sort_by(f64::total_cmp);
    let (median, worst) = (seconds[seconds.len() / 2], seconds[seconds.len() - 1]);
    eprintln!("FIGURE {what}: {} faults, recovery {median:.1} s (median), {worst:.1} s (worst)", took.len());
}
