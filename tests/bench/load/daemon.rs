//! The real binary against the simulator: what a whole job costs where windows are small, what an identical file does, and
//! how much memory a file takes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use chrono::{Days, NaiveDate};
use impact_mirror::sandbox::{Account, Limits, Options, Persona, Sandbox};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

const TOKEN: &str = "sandbox-brand-token";
/// About how long a click of the simulator is.
const CLICK_BYTES: u64 = 313;

/// What there is to mirror.
struct Size {
    accounts: u64,
    /// Whether the table has a unique key.
    keyed: bool,
    /// Orders of one program go out one after the other; ten programs keep four workers busy.
    programs: u64,
    days: u64,
    clicks_per_day: u32,
}

/// How many workers each pool has.
#[derive(Clone, Copy)]
struct Workers {
    submit: u32,
    poll: u32,
    load: u32,
}

/// Those of a configuration that says nothing of them.
const DEFAULT: Workers = Workers { submit: 2, poll: 4, load: 2 };
const FOUR: Workers = Workers { submit: 4, poll: 4, load: 4 };

/// The common case.
const SMALL_WINDOWS: Size = Size { accounts: 1, keyed: false, programs: 10, days: 30, clicks_per_day: 1000 };

/// Nearly nothing to load. No account has more than some hundred jobs a day, so it takes many for many jobs a second.
const LIFE_CYCLES: Size = Size { accounts: 40, keyed: false, programs: 10, days: 10, clicks_per_day: 2 };

/// Measures and prints.
pub async fn measure(server: &str, big_mb: u64) {
    for workers in [DEFAULT, FOUR] {
        small_windows(server, workers).await;
    }
    life_cycles(server).await;
    for megabytes in [100, big_mb] {
        large_file(server, megabytes).await;
    }
    several_files(server, 100).await;
}

async fn small_windows(server: &str, workers: Workers) {
    let mut bench = Bench::new(server, &SMALL_WINDOWS, workers).await;
    let peak_kb = bench.run(&["sync"]).await;
    let (windows, median_ms, slow_ms): (i64, f64, f64) = sqlx::query_as(
        "select count(*), 1000 * percentile_cont(0.5) within group (order by seconds), \
             1000 * percentile_cont(0.95) within group (order by seconds) \
         from (select extract(epoch from committed_at - started_at)::float8 as seconds from impact_mirror.load) as loaded",
    )
    .fetch_one(&mut bench.conn)
    .await
    .unwrap();
    println!(
        "{windows} windows of 1,000 rows, {} loaded at once: from ready to committed {median_ms:.0} ms (median), \
         {slow_ms:.0} ms (95 %), {:.0} a second; peak memory {:.1} MB",
        workers.load,
        bench.jobs_per_second().await,
        mb(peak_kb),
    );
    bench.end().await;
}

async fn life_cycles(server: &str) {
    let mut bench = Bench::new(server, &LIFE_CYCLES, FOUR).await;
    bench.run(&["sync"]).await;
    println!(
        "jobs of {} accounts with next to no rows, four workers a pool: {:.0} whole life cycles a second",
        LIFE_CYCLES.accounts,
        bench.jobs_per_second().await,
    );
    bench.end().await;
}

/// Two at once, as by default, and most of them into a table that has a key by then.
async fn several_files(server: &str, megabytes: u64) {
    let size = Size { accounts: 1, keyed: true, programs: 1, days: 6, clicks_per_day: clicks_of(megabytes) };
    let mut bench = Bench::new(server, &size, DEFAULT).await;
    let peak_kb = bench.run(&["sync"]).await;
    let load = "select count(*), max(file_bytes) from impact_mirror.load";
    let (files, bytes): (i64, i64) = sqlx::query_as(load).fetch_one(&mut bench.conn).await.unwrap();
    println!(
        "{files} files of {} MB into a table with a key, {} loaded at once: peak memory of the daemon {:.1} MB",
        bytes >> 20,
        DEFAULT.load,
        mb(peak_kb)
    );
    bench.end().await;
}

fn clicks_of(megabytes: u64) -> u32 {
    u32::try_from((megabytes << 20) / CLICK_BYTES).unwrap()
}

async fn large_file(server: &str, megabytes: u64) {
    let size = Size { accounts: 1, keyed: false, programs: 1, days: 1, clicks_per_day: clicks_of(megabytes) };
    let mut bench = Bench::new(server, &size, FOUR).await;
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
    async fn new(server: &str, size: &Size, workers: Workers) -> Self {
        let programs: Vec<_> = (0..size.programs).map(|number| (1000 + number, format!("Program {number}"))).collect();
        let accounts = (0..size.accounts).map(|number| Account {
            programs: programs.clone(),
            ..Account::new(Persona::Brand, &sid(number), TOKEN, "Bench")
        });
        let options = Options {
            clock_speed: 0.0,
            clicks_per_day: size.clicks_per_day,
            job_duration: Duration::from_millis(10),
            limits: Limits {
                report_export_per_day: 100_000,
                click_export_per_day: 100_000,
                requests_per_hour: 1_000_000,
            },
            accounts: accounts.collect(),
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
        let since = day - Days::new(size.days - 1);
        let config = write_config(url.as_str(), &sandbox.base_url(), since, size, workers, dir.path());
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

    /// From the first order to the end of the last job.
    async fn jobs_per_second(&mut self) -> f64 {
        let statement = "select (count(*) / extract(epoch from max(finished_at) - min(submitted_at)))::float8 \
                         from impact_mirror.job where state = 'loaded'";
        sqlx::query_scalar(statement).fetch_one(&mut self.conn).await.unwrap()
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

fn sid(account: u64) -> String {
    format!("IRsandboxBrand{account:04}")
}

fn write_config(
    database: &str,
    base_url: &str,
    since: NaiveDate,
    size: &Size,
    workers: Workers,
    dir: &Path,
) -> PathBuf {
    let state = dir.display();
    let Workers { submit, poll, load } = workers;
    let key = if size.keyed { r#"key = ["Id"]"# } else { "" };
    let mut text = format!(
        r#"
        state_dir = "{state}"
        [database]
        url = "{database}"
        [workers]
        submit = {submit}
        poll = {poll}
        load = {load}
        poll_min = "200ms"
        [exports.clicks]
        accounts = "all"
        clicks = true
        {key}
        since = "{since}"
        "#
    );
    for account in 0..size.accounts {
        let _ = write!(
            text,
            r#"
            [accounts.bench{account}]
            persona = "brand"
            account_sid = "{}"
            auth_token = {{ env = "BENCH_TOKEN" }}
            base_url = "{base_url}"
            time_zone = "America/New_York"
            [accounts.bench{account}.quota]
            click_export_per_day = 100000
            requests_per_hour = 1000000
            "#,
            sid(account)
        );
    }
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
