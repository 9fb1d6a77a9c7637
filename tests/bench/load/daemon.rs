//! The real binary against the simulator: what a whole job costs where windows are small, what an identical file does, and
//! how much memory a file takes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use chrono::{Days, NaiveDate};
use impact_mirror::sandbox::{Account, Limits, Options, Persona, Sandbox};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

const SID: &str = "IRsandboxBrand0001";
const TOKEN: &str = "sandbox-brand-token";
/// About how long a click of the simulator is.
const CLICK_BYTES: u64 = 313;
/// Orders of one program go out one after the other; ten programs keep four workers busy.
const PROGRAMS: u64 = 10;
const SMALL_DAYS: u64 = 30;

/// Measures and prints.
pub async fn measure(server: &str, big_mb: u64) {
    small_windows(server).await;
    for megabytes in [100, big_mb] {
        large_file(server, megabytes).await;
    }
}

async fn small_windows(server: &str) {
    let mut bench = Bench::new(server, 1000, PROGRAMS, SMALL_DAYS).await;
    let peak_kb = bench.run(&["sync"]).await;
    let (jobs, median_ms, slow_ms, per_second): (i64, f64, f64, f64) = sqlx::query_as(
        "select count(*), 1000 * percentile_cont(0.5) within group (order by seconds), \
             1000 * percentile_cont(0.95) within group (order by seconds), \
             (count(*) / extract(epoch from max(finished_at) - min(submitted_at)))::float8 \
         from (select extract(epoch from l.committed_at - l.started_at)::float8 as seconds, j.finished_at, j.submitted_at \
               from impact_mirror.load l join impact_mirror.job j on j.id = l.job_id) as loaded",
    )
    .fetch_one(&mut bench.conn)
    .await
    .unwrap();
    println!(
        "{jobs} windows of 1,000 rows, 4 workers a pool: from ready to committed {median_ms:.0} ms (median), {slow_ms:.0} ms \
         (95 %); {per_second:.0} whole jobs a second; peak memory {} MB",
        peak_kb >> 10
    );
    bench.end().await;
}

async fn large_file(server: &str, megabytes: u64) {
    let rows = u32::try_from((megabytes << 20) / CLICK_BYTES).unwrap();
    let mut bench = Bench::new(server, rows, 1, 1).await;
    let peak_kb = bench.run(&["sync"]).await;
    let load = "select file_bytes, extract(epoch from committed_at - started_at)::float8 from impact_mirror.load order by id desc";
    let (bytes, seconds): (i64, f64) = sqlx::query_as(load).fetch_one(&mut bench.conn).await.unwrap();
    println!("a file of {} MB: {seconds:.1} s, peak memory of the daemon {:.1} MB", bytes >> 20, mb(peak_kb));

    let day = bench.day.to_string();
    sqlx::raw_sql("checkpoint").execute(&mut bench.conn).await.unwrap();
    let before = bench.wal().await;
    bench.run(&["refresh", "clicks", "--from", &day, "--to", &day, "--wait"]).await;
    let wal_kb = (bench.wal().await - before) / 1024.0;
    // When a transaction began is what it writes as now(): behind the download, before the load.
    let identical: (f64, f64) = sqlx::query_as(
        "select extract(epoch from l.committed_at - l.started_at)::float8, \
             extract(epoch from l.committed_at - j.finished_at)::float8 \
         from impact_mirror.load l join impact_mirror.job j on j.id = l.job_id order by l.id desc",
    )
    .fetch_one(&mut bench.conn)
    .await
    .unwrap();
    println!(
        "the identical file again: {:.2} s with its download, {:.2} s without; WAL of the whole job {wal_kb:.0} kB",
        identical.0, identical.1
    );
    bench.end().await;
}

fn mb(kb: u64) -> f64 {
    f64::from(u32::try_from(kb).unwrap()) / 1024.0
}

/// A simulator, a database and a configuration.
struct Bench {
    server: String,
    sandbox: Sandbox,
    conn: PgConnection,
    day: NaiveDate,
    dir: tempfile::TempDir,
    config: PathBuf,
}

const DATABASE: &str = "impact_mirror_bench_daemon";

impl Bench {
    async fn new(server: &str, clicks_per_day: u32, programs: u64, days: u64) -> Self {
        let mut account = Account::new(Persona::Brand, SID, TOKEN, "Bench");
        account.programs = (0..programs).map(|number| (1000 + number, format!("Program {number}"))).collect();
        let options = Options {
            clock_speed: 0.0,
            clicks_per_day,
            job_duration: Duration::from_millis(10),
            limits: Limits {
                report_export_per_day: 100_000,
                click_export_per_day: 100_000,
                requests_per_hour: 1_000_000,
            },
            accounts: vec![account],
            ..Options::default()
        };
        let sandbox = Sandbox::start(options).await.unwrap();
        let day = sandbox.now().with_timezone(&chrono_tz::America::New_York).date_naive() - Days::new(1);

        let mut admin = PgConnection::connect(server).await.unwrap();
        for statement in
            [format!("drop database if exists {DATABASE} with (force)"), format!("create database {DATABASE}")]
        {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
        }
        let mut url = url::Url::parse(server).unwrap();
        url.set_path(DATABASE);
        let dir = tempfile::tempdir().unwrap();
        let since = day - Days::new(days - 1);
        let config = write_config(url.as_str(), &sandbox.base_url(), since, dir.path());
        let conn = PgConnection::connect(url.as_str()).await.unwrap();
        Self { server: server.to_owned(), sandbox, conn, day, dir, config }
    }

    /// Runs a command to its end; its peak memory in KiB.
    async fn run(&mut self, arguments: &[&str]) -> u64 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_impact-mirror"))
            .args(arguments)
            .arg("--config")
            .arg(&self.config)
            .env("BENCH_TOKEN", TOKEN)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut peak_kb = 0;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                assert!(status.success(), "{arguments:?} ended with {status}: {log}");
                return peak_kb;
            }
            peak_kb = peak_memory_kb(&child).unwrap_or(peak_kb);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn wal(&mut self) -> f64 {
        let wal = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8";
        sqlx::query_scalar(wal).fetch_one(&mut self.conn).await.unwrap()
    }

    async fn end(self) {
        self.conn.close().await.unwrap();
        let mut admin = PgConnection::connect(&self.server).await.unwrap();
        let statement = format!("drop database {DATABASE} with (force)");
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
        self.sandbox.stop().await;
    }
}

fn write_config(database: &str, base_url: &str, since: NaiveDate, dir: &Path) -> PathBuf {
    let state = dir.display();
    let text = format!(
        r#"
        state_dir = "{state}"
        [database]
        url = "{database}"
        [workers]
        submit = 4
        poll = 4
        load = 4
        poll_min = "200ms"
        [accounts.bench]
        persona = "brand"
        account_sid = "{SID}"
        auth_token = {{ env = "BENCH_TOKEN" }}
        base_url = "{base_url}"
        time_zone = "America/New_York"
        [accounts.bench.quota]
        click_export_per_day = 100000
        requests_per_hour = 1000000
        [exports.clicks]
        clicks = true
        since = "{since}"
        "#
    );
    let file = dir.join("bench.toml");
    std::fs::write(&file, text).unwrap();
    file
}

/// `VmHWM` of a process that is still there.
fn peak_memory_kb(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
