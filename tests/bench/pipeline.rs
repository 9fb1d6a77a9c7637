//! From HTTP to committed rows: how long the daemon takes for a click file, beside `psql \copy` of the same file into a
//! table of the same types and indexes.
//!
//! `cargo bench --bench pipeline -- [ROWS] [ROUNDS]`. The server is that of `DATABASE_URL`, else an embedded cluster. The
//! simulator serves the file; the real binary fetches, checks and loads it; both sides take turns. Printed are the
//! seconds of each round, the ratio of the medians, and the peak resident memory of the daemon's process.

#![expect(clippy::unwrap_used, reason = "a measurement stops at the first thing that goes wrong")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::{Days, NaiveDate};
use impact_mirror::embedded::Embedded;
use impact_mirror::sandbox::{Account, Limits, Options, Persona, Sandbox};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

const SID: &str = "IRsandboxBrand0001";
const TOKEN: &str = "sandbox-brand-token";

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u32>().ok());
    let rows = numbers.next().unwrap_or(1_000_000);
    let rounds = numbers.next().unwrap_or(3);
    let dir = tempfile::tempdir().unwrap();
    let (server, embedded) = if let Ok(url) = std::env::var("DATABASE_URL") {
        (url, None)
    } else {
        let embedded = Embedded::start(&std::path::absolute("target/bench-postgres").unwrap()).await.unwrap();
        (embedded.url().to_owned(), Some(embedded))
    };
    let sandbox = start_sandbox(rows).await;
    let day = sandbox.now().with_timezone(&chrono_tz::America::New_York).date_naive() - Days::new(1);
    let file = dir.path().join("clicks.csv");
    std::fs::write(&file, sandbox.truth(SID, "clicks", "1000", day, day, &[])).unwrap();
    let megabytes = std::fs::metadata(&file).unwrap().len() >> 20;
    println!("about {rows} clicks of 40 columns, {megabytes} MB, {rounds} rounds");

    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    let mut peak_kb = 0;
    for round in 1..=rounds {
        let database = Database::create(&server, round).await;
        let mirrored = mirror(&database.url, &sandbox.base_url(), day, dir.path()).await;
        let copied = copy_with_psql(&database.url, &file).await;
        println!(
            "round {round}: impact-mirror {:.2} s ({:.2} to fetch, {:.2} to load), psql \\copy {:.2} s ({} rows), \
             peak memory {} MB",
            mirrored.took.as_secs_f64(),
            mirrored.fetch_seconds,
            mirrored.load_seconds,
            copied.as_secs_f64(),
            mirrored.rows,
            mirrored.peak_kb >> 10
        );
        ours.push(mirrored.took);
        theirs.push(copied);
        peak_kb = peak_kb.max(mirrored.peak_kb);
        database.drop().await;
    }
    let (ours, theirs) = (median(ours), median(theirs));
    println!("median: impact-mirror {:.2} s, psql \\copy {:.2} s", ours.as_secs_f64(), theirs.as_secs_f64());
    println!("ratio: {:.2}; peak memory {} MB", ours.as_secs_f64() / theirs.as_secs_f64(), peak_kb >> 10);
    sandbox.stop().await;
    if let Some(embedded) = embedded {
        embedded.stop().await.unwrap();
    }
}

async fn start_sandbox(rows: u32) -> Sandbox {
    let mut account = Account::new(Persona::Brand, SID, TOKEN, "Bench");
    account.programs.truncate(1);
    let options = Options {
        clock_speed: 0.0,
        clicks_per_day: rows,
        job_duration: Duration::from_millis(10),
        limits: Limits { report_export_per_day: 100, click_export_per_day: 100, requests_per_hour: 10_000 },
        accounts: vec![account],
        ..Options::default()
    };
    Sandbox::start(options).await.unwrap()
}

/// A database of one round.
struct Database {
    admin: String,
    name: String,
    url: String,
}

impl Database {
    async fn create(server: &str, round: u32) -> Self {
        let name = format!("impact_mirror_bench_{round}");
        let mut url = url::Url::parse(server).unwrap();
        let mut conn = PgConnection::connect(server).await.unwrap();
        for statement in [format!("drop database if exists {name} with (force)"), format!("create database {name}")] {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut conn).await.unwrap();
        }
        url.set_path(&name);
        Self { admin: server.to_owned(), name, url: url.into() }
    }

    async fn drop(self) {
        let mut conn = PgConnection::connect(&self.admin).await.unwrap();
        let statement = format!("drop database {} with (force)", self.name);
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut conn).await.unwrap();
    }
}

struct Mirrored {
    took: Duration,
    fetch_seconds: f64,
    load_seconds: f64,
    rows: i64,
    peak_kb: u64,
}

/// Runs `sync` and times the step from the claim of the result, before it is fetched, to its rows being committed.
async fn mirror(database: &str, base_url: &str, day: NaiveDate, dir: &Path) -> Mirrored {
    let config = write_config(database, base_url, day, dir);
    let mut child = Command::new(env!("CARGO_BIN_EXE_impact-mirror"))
        .arg("sync")
        .arg("--config")
        .arg(&config)
        .env("BENCH_TOKEN", TOKEN)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut conn = PgConnection::connect(database).await.unwrap();
    let mut began = None;
    let mut took = None;
    let mut peak_kb = 0;
    while child.try_wait().unwrap().is_none() {
        peak_kb = peak_memory_kb(&child).unwrap_or(peak_kb);
        let state: Option<String> =
            sqlx::query_scalar("select max(state) from impact_mirror.job").fetch_one(&mut conn).await.unwrap_or(None); // the migrations are still to come
        match state.as_deref() {
            Some("loading") => {
                began.get_or_insert_with(Instant::now);
            }
            Some("loaded") if took.is_none() => took = began.map(|began| began.elapsed()),
            Some(_) | None => {}
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // What a transaction writes as now() is when it began: between the two parts.
    let (rows, fetch_seconds, load_seconds): (i64, f64, f64) = sqlx::query_as(
        "select l.rows_inserted, extract(epoch from j.finished_at - l.started_at)::float8, \
                extract(epoch from l.committed_at - j.finished_at)::float8 \
         from impact_mirror.load l join impact_mirror.job j on j.id = l.job_id",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    let took = took.expect("the job was seen loading and loaded");
    Mirrored { took, fetch_seconds, load_seconds, rows, peak_kb }
}

fn write_config(database: &str, base_url: &str, day: NaiveDate, dir: &Path) -> PathBuf {
    let state = dir.display();
    let text = format!(
        r#"
        state_dir = "{state}"
        [database]
        url = "{database}"
        [workers]
        poll_min = "200ms"
        [accounts.bench]
        persona = "brand"
        account_sid = "{SID}"
        auth_token = {{ env = "BENCH_TOKEN" }}
        base_url = "{base_url}"
        time_zone = "America/New_York"
        programs = [1000]
        [exports.clicks]
        clicks = true
        since = "{day}"
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

/// `psql \copy` into a table like the mirrored one: the same columns, types and indexes, lineage with constants.
async fn copy_with_psql(database: &str, file: &Path) -> Duration {
    let mut conn = PgConnection::connect(database).await.unwrap();
    let columns: Vec<String> = sqlx::query_scalar(
        "select quote_ident(column_name) from information_schema.columns \
         where table_schema = 'impact' and table_name = 'clicks' and column_name not like '\\_%' order by ordinal_position",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    sqlx::raw_sql(
        "create table impact.copied (like impact.clicks including all);
         alter table impact.copied alter _account set default 'bench', alter _program set default '1000',
             alter _day set default current_date, alter _row_hash set default '00000000-0000-0000-0000-000000000000',
             alter _load_id set default 1, alter _line set default 1, alter _first_seen_at set default now(),
             alter _changed_at set default now();
         checkpoint",
    )
    .execute(&mut conn)
    .await
    .unwrap();
    let copy =
        format!(r"\copy impact.copied ({}) from '{}' with (format csv, header)", columns.join(", "), file.display());
    let began = Instant::now();
    let status = Command::new("psql")
        .args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--command", &copy, database])
        .status()
        .unwrap();
    assert!(status.success(), "psql copies the file");
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
