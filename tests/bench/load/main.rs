//! How fast the loader is, beside `psql \copy` of the same file, from the same HTTP server, into the same table.
//!
//! `cargo bench --bench load -- [ROWS] [ROUNDS] [BIG_MB]`, or `make bench-load`; 0 rounds leave the comparison out, 0 MB the daemon. `-- write DIR
//! ROWS` only writes the files, for tests/bench/peers.py. The server is that of `DATABASE_URL`, else an embedded cluster, by TCP.
//! Each round does every case once, ours and psql's by turns, in a fresh schema; printed are medians and their ratio. Ours
//! is everything from the first byte asked for to the commit: fetched into the spool, hashed, checked, loaded. psql's table
//! is like ours, lineage with constant defaults. Then the real binary shows what a whole job costs, how much memory it
//! takes, and what an identical file does.

#![expect(clippy::unwrap_used, reason = "a measurement stops at the first thing that goes wrong")]

mod clicks;
mod daemon;
mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use chrono::{NaiveDate, Utc};
use impact_mirror::account::AccountName;
use impact_mirror::column::{OnTypeConflict, Partition};
use impact_mirror::config::Distribution;
use impact_mirror::embedded::Embedded;
use impact_mirror::export::{ExportName, Program, ResultFormat, Window};
use impact_mirror::mirror::{self, Report, Target, Widens, Writes};
use impact_mirror::spool::Spool;
use impact_mirror::store;
use secrecy::SecretString;
use sqlx::{Connection, PgConnection};

use clicks::COLUMNS;

#[tokio::main]
async fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [mode, dir, rows, ..] = &arguments[..]
        && mode == "write"
    {
        std::fs::create_dir_all(dir).unwrap();
        write_files(Path::new(dir), rows.parse().unwrap());
        return;
    }
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse::<u64>().ok());
    let rows = numbers.next().unwrap_or(1_000_000);
    let rounds = numbers.next().unwrap_or(5);
    let big_mb = numbers.next().unwrap_or(2000);
    let (server, embedded) = if let Ok(url) = std::env::var("DATABASE_URL") {
        (url, None)
    } else {
        let dir = std::path::absolute("target/bench-postgres").unwrap();
        let embedded = Embedded::start(&dir).await.unwrap();
        (by_tcp(&dir.join("postgres"), embedded.url()), Some(embedded))
    };
    if rounds > 0 {
        compare(&server, rows, rounds).await;
    }
    if big_mb > 0 {
        daemon::measure(&server, big_mb).await;
    }
    if let Some(embedded) = embedded {
        embedded.stop().await.unwrap();
    }
}

/// The same database by TCP, as most are reached: the buffers of a Unix socket are so small that its server waits for the next
/// rows a sixth of the time, unless `net.core.wmem_default` is raised.
fn by_tcp(dir: &Path, url: &str) -> String {
    let [password, port] = ["password", "port"].map(|name| std::fs::read_to_string(dir.join(name)).unwrap());
    let options = store::connect_options(&SecretString::from(url)).unwrap();
    let database = options.get_database().unwrap_or("postgres");
    format!("postgres://{}:{}@127.0.0.1:{}/{database}", options.get_username(), password.trim(), port.trim())
}

/// Seconds of both sides, a pair for each round.
#[derive(Default)]
struct Times {
    ours: Vec<f64>,
    theirs: Vec<f64>,
    wal_mb: f64,
}

/// The same clicks in three files: the first, and two in which some payouts differ from it, 1 and 10 of a hundred.
fn write_files(dir: &Path, rows: u64) -> [PathBuf; 3] {
    [0, 1, 10].map(|percent| {
        let file = dir.join(format!("clicks-{percent}.csv"));
        clicks::write(&file, rows, percent);
        file
    })
}

async fn compare(server: &str, rows: u64, rounds: u64) {
    let dir = tempfile::tempdir().unwrap();
    let files = write_files(dir.path(), rows);
    let http = files::serve(dir.path()).await;
    println!(
        "{rows} rows, {} columns, {} MB, {rounds} rounds",
        COLUMNS.len(),
        files[0].metadata().unwrap().len() >> 20
    );

    let mut bench = Bench::new(server, http, dir.path()).await;
    let mut all: BTreeMap<&str, Times> = BTreeMap::new();
    for round in 1..=rounds {
        for key in [&[][..], &["Id".to_owned()]] {
            let named = |keyed: &'static str, unkeyed: &'static str| if key.is_empty() { unkeyed } else { keyed };
            bench.key = key.to_vec();

            bench.reset().await;
            bench.load("clicks-0.csv", rows, 0, all.entry(named("first load, keyed", "first load")).or_default()).await;
            let first = bench.copy_with_psql().await;
            all.entry(named("first load, keyed", "first load")).or_default().theirs.push(first);

            bench.reset().await;
            bench.load_another_day().await;
            let name = named("new window, keyed", "new window");
            bench.load("clicks-0.csv", rows, 0, all.entry(name).or_default()).await;
            let theirs = bench.copy_with_psql().await;
            all.entry(name).or_default().theirs.push(theirs);

            // The mirrored table now holds the first file; each re-read is compared with a copy of a whole file. A window is read
            // again after hours, when autovacuum has long been there.
            bench.run("vacuum bench_impact.bench_clicks").await;
            for (file, changed, name) in [
                ("clicks-1.csv", 1, named("re-read, 1 % changed, keyed", "re-read, 1 % changed")),
                ("clicks-10.csv", 9, named("re-read, 9 % changed, keyed", "re-read, 9 % changed")),
                ("clicks-0.csv", 10, named("re-read, 10 % changed, keyed", "re-read, 10 % changed")),
            ] {
                let times = all.entry(name).or_default();
                bench.load(file, rows * changed / 100, rows * (100 - changed) / 100, times).await;
                times.theirs.push(theirs);
            }
            let name = named("re-read, other bytes, same rows, keyed", "re-read, other bytes, same rows");
            let times = all.entry(name).or_default();
            bench.load("clicks-0.csv", 0, rows, times).await;
            times.theirs.push(theirs);
        }
        println!("round {round} of {rounds}");
    }
    println!("{:<42} {:>9} {:>12} {:>6} {:>8}", "", "ours, s", r"psql \copy, s", "ratio", "WAL, MB");
    for (name, times) in all {
        let (ours, theirs) = (median(times.ours), median(times.theirs));
        println!("{name:<42} {ours:>9.2} {theirs:>12.2} {:>6.2} {:>8.0}", ours / theirs, times.wal_mb);
    }
}

/// One export in a database that may be written to.
struct Bench {
    url: String,
    conn: PgConnection,
    http: String,
    client: reqwest::Client,
    spool: Spool,
    key: Vec<String>,
    load_id: i64,
}

impl Bench {
    async fn new(url: &str, http: String, dir: &Path) -> Self {
        let options = store::connect_options(&SecretString::from(url)).unwrap();
        let mut conn = store::connect(options, 1).await.unwrap().acquire().await.unwrap().detach();
        sqlx::migrate!("./migrations").run(&mut conn).await.unwrap();
        let spool = Spool::open(&dir.join("spool")).unwrap();
        Self { url: url.to_owned(), conn, http, client: reqwest::Client::new(), spool, key: Vec::new(), load_id: 0 }
    }

    async fn reset(&mut self) {
        self.run(
            "drop schema if exists bench_impact cascade;
             delete from impact_mirror.restated_column where load_id in (select id from impact_mirror.load where export = 'bench_clicks');
             delete from impact_mirror.mirrored_column where export = 'bench_clicks';
             insert into impact_mirror.account (name, persona, time_zone) values ('bench', 'brand', 'America/New_York')
                 on conflict do nothing;
             insert into impact_mirror.export (name, bucket, table_name, freshness, refresh)
                 values ('bench_clicks', 'click_export', 'bench_clicks', '1 day', '[]') on conflict do nothing",
        )
        .await;
    }

    async fn run(&mut self, statements: &'static str) {
        sqlx::raw_sql(statements).execute(&mut self.conn).await.unwrap();
    }

    /// Fetches and loads a file, which must write and leave alone so many rows.
    async fn load(&mut self, file: &str, written: u64, unchanged: u64, times: &mut Times) {
        self.run("checkpoint").await;
        let wal = self.wal().await;
        let began = Instant::now();
        let report = self.fetch_and_load(file, "2026-05-29".parse().unwrap()).await;
        times.ours.push(began.elapsed().as_secs_f64());
        times.wal_mb = (self.wal().await - wal) / f64::from(1 << 20);
        assert_eq!((report.rows_inserted + report.rows_updated, report.rows_unchanged), (written, unchanged));
    }

    async fn wal(&mut self) -> f64 {
        let wal = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8";
        sqlx::query_scalar(wal).fetch_one(&mut self.conn).await.unwrap()
    }

    /// A table with its indexes and a few rows of another day.
    async fn load_another_day(&mut self) {
        let report = self.fetch_and_load("few.csv", "2026-05-28".parse().unwrap()).await;
        assert_eq!(report.rows_inserted, files::FEW);
    }

    async fn fetch_and_load(&mut self, file: &str, day: NaiveDate) -> Report {
        let mut writer = self.spool.writer(1, ResultFormat::Csv).await.unwrap();
        let mut body = self.client.get(format!("{}/{file}", self.http)).send().await.unwrap();
        let length = body.content_length();
        while let Some(chunk) = body.chunk().await.unwrap() {
            writer.write(chunk).await.unwrap();
        }
        let spooled = writer.finish(length).await.unwrap();

        let (export, account, program) =
            (ExportName::new("bench_clicks"), AccountName::new("bench"), Program::new("1000"));
        let (configured, metadata) = (clicks::configured(), BTreeMap::new());
        let target = Target {
            schema: "bench_impact",
            export: &export,
            account: &account,
            program: &program,
            window: Window::day(day),
            time_zone: chrono_tz::America::New_York,
            key: &self.key,
            date_column: Some("EventDate"),
            configured: &configured,
            typed_by_user: &BTreeSet::new(),
            partition: Partition::None,
            history: false,
            widens: Widens::Within,
            distribution: Distribution::None,
            metadata: &metadata,
            on_type_conflict: OnTypeConflict::Widen,
        };
        self.load_id += 1;
        let mut tx = self.conn.begin().await.unwrap();
        let load_id: i64 = sqlx::query_scalar(
            "with job as (
                 insert into impact_mirror.job (export, account, from_day, to_day, reason, state, priority, bucket,
                     request, wanted_after, run_at, created_at, finished_at)
                 values ('bench_clicks', 'bench', $1, $1, 'manual', 'cancelled', 0, 'click_export', '{}', now(), now(), now(), now())
                 returning id)
             insert into impact_mirror.load (job_id, export, account, program, from_day, to_day, file_sha256,
                 file_bytes, target_hash, started_at, committed_at)
             select id, 'bench_clicks', 'bench', '1000', $1, $1, $2, 0, gen_random_uuid(), now(), now() from job
             returning id",
        )
        .bind(day)
        .bind(&spooled.sha256[..])
        .fetch_one(&mut *tx)
        .await
        .unwrap();
        let report =
            mirror::load(&mut tx, &spooled.path, ResultFormat::Csv, &target, load_id, Utc::now(), Writes::Differing)
                .await
                .unwrap();
        tx.commit().await.unwrap();
        report
    }

    /// Copies the first file into a table like the mirrored one, with all its indexes; says the seconds.
    async fn copy_with_psql(&mut self) -> f64 {
        self.run(
            "drop table if exists bench_impact.psql;
             create table bench_impact.psql (like bench_impact.bench_clicks including indexes);
             alter table bench_impact.psql alter _account set default 'bench', alter _program set default '1000',
                 alter _day set default '2026-05-29', alter _row_hash set default '6b8b4567-327b-23c6-643c-986966334873',
                 alter _load_id set default 1, alter _line set default 1, alter _first_seen_at set default '2026-06-01',
                 alter _changed_at set default '2026-06-01';
             checkpoint",
        )
        .await;
        let columns: Vec<_> = COLUMNS.iter().map(|name| clicks::snake_case(name)).collect();
        let copy = format!(
            r"curl -s '{}/clicks-0.csv' | psql -qX -d '{}' -c '\copy bench_impact.psql ({}) from stdin (format csv, header)'",
            self.http,
            self.url,
            columns.join(", "),
        );
        let began = Instant::now();
        let status = tokio::task::spawn_blocking(move || Command::new("sh").arg("-c").arg(copy).status());
        assert!(status.await.unwrap().unwrap().success(), "psql copies the file");
        let seconds = began.elapsed().as_secs_f64();
        self.run("drop table bench_impact.psql").await;
        seconds
    }
}

/// The middle one.
fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
