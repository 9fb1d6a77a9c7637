//! How long planning takes for many accounts: 1,000 accounts with 1,000,000 cells.
//!
//! `cargo bench --bench plan_scale -- [ACCOUNTS] [CELLS OF EACH]`. The server is that of `DATABASE_URL`, else an embedded
//! cluster. Printed are the seconds of deciding alone, of a whole pass with its reading and writing, and of a second pass
//! that finds its own jobs open, and how far this process's peak of resident memory rose.

#![expect(clippy::unwrap_used, reason = "a measurement stops at the first thing that goes wrong")]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{Days, Utc};
use impact_mirror::account::AccountName;
use impact_mirror::app::{Scope, planner};
use impact_mirror::config::{self, Settings};
use impact_mirror::embedded::Embedded;
use impact_mirror::export::ExportName;
use impact_mirror::plan::draft;
use impact_mirror::store::configured::Ticks;
use impact_mirror::store::{configured, connect, coverage, migrate};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

const DATABASE: &str = "impact_mirror_bench_plan";
/// As many as a pass takes at a time.
const CHUNK: usize = 50;
/// Programs of each account; there are two exports.
const PROGRAMS: u64 = 2;

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let accounts = numbers.next().unwrap_or(1_000);
    let cells = numbers.next().unwrap_or(1_000);
    let (server, embedded) = if let Ok(url) = std::env::var("DATABASE_URL") {
        (url, None)
    } else {
        let embedded = Embedded::start(&std::path::absolute("target/bench-postgres").unwrap()).await.unwrap();
        (embedded.url().to_owned(), Some(embedded))
    };
    let settings = settings(accounts, cells / (2 * PROGRAMS));
    let pool = prepare(&server, &settings).await;

    let before_kb = peak_memory_kb();
    let (deciding, reading, seen, windows) = decide(&pool, &settings).await;
    println!("{} accounts, {seen} cells, {windows} windows wanted", settings.accounts.len());
    println!("deciding: {:.2} s; reading for it: {:.2} s", deciding.as_secs_f64(), reading.as_secs_f64());
    for pass in ["first", "second"] {
        let began = Instant::now();
        let planned = planner(&pool, &settings, Scope::All).pass().await.unwrap().planned;
        println!("{pass} pass: {:.2} s, {planned} jobs planned", began.elapsed().as_secs_f64());
    }
    println!(
        "peak memory: {} MB, of them {} for planning",
        peak_memory_kb() >> 10,
        (peak_memory_kb() - before_kb) >> 10
    );

    pool.close().await;
    let mut conn = PgConnection::connect(&server).await.unwrap();
    execute(&mut conn, format!("drop database {DATABASE} with (force)")).await;
    if let Some(embedded) = embedded {
        embedded.stop().await.unwrap();
    }
}

/// Two exports on every account, so many days back.
fn settings(accounts: u64, days: u64) -> Settings {
    let since = Utc::now().date_naive() - Days::new(days);
    let mut text = format!(
        "[database]\nurl = \"embedded\"\n\
         [exports.actions]\naccounts = \"all\"\nreport = \"adv_action_listing_pm_only\"\nsince = \"{since}\"\n\
         [exports.clicks]\naccounts = \"all\"\nclicks = true\nsince = \"{since}\"\n"
    );
    for n in 0..accounts {
        write!(
            text,
            "[accounts.a{n}]\npersona = \"brand\"\naccount_sid = \"IR{n}\"\nauth_token = {{ env = \"TOKEN\" }}\n\
             time_zone = \"America/New_York\"\nprograms = [1000, 2000]\n"
        )
        .unwrap();
    }
    let environment = [("TOKEN", "secret"), ("STATE_DIRECTORY", "/tmp")].into();
    config::check(&text, Path::new("bench.toml"), &environment).unwrap()
}

/// A database with the configuration and a cell for each day but the last two: old ones settled, young ones to be read
/// again, some of them now.
async fn prepare(server: &str, settings: &Settings) -> PgPool {
    let mut conn = PgConnection::connect(server).await.unwrap();
    execute(&mut conn, format!("drop database if exists {DATABASE} with (force)")).await;
    execute(&mut conn, format!("create database {DATABASE}")).await;
    let options: PgConnectOptions = server.parse().unwrap();
    let options = options.database(DATABASE).options([("timezone", "UTC")]);
    migrate(&options).await.unwrap();
    let pool = connect(options, 2).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    configured::sync(&mut conn, settings).await.unwrap();
    execute(
        &mut conn,
        "update impact_mirror.export_account set last_tick_at = now() - interval '1 minute';
         insert into impact_mirror.job (export, account, from_day, to_day, reason, state, priority, bucket, request,
             wanted_after, run_at, created_at, finished_at)
         values ('actions', 'a0', '2026-01-01', '2026-01-01', 'backfill', 'cancelled', 1, 'report_export', '{}', now(),
             now(), now(), now());
         insert into impact_mirror.cell (export, account, program, day, rows, loaded_at, as_of, complete, job_id,
             next_refresh_at)
         select f.export, f.account, f.program, d::date, 10, now(), now() - make_interval(hours => age.days % 20), true,
                (select max(id) from impact_mirror.job),
                case when age.days < 35 and f.export = 'actions' then now() + make_interval(hours => age.days % 9 - 4) end
         from impact_mirror.feed f
         cross join lateral generate_series(f.since, current_date - 2, interval '1 day') d
         cross join lateral (select current_date - d::date as days) age
         order by random();
         analyze"
            .to_owned(),
    )
    .await;
    drop(conn);
    pool
}

/// Drafts and spends as a pass does, and tells apart what reading takes.
async fn decide(pool: &PgPool, settings: &Settings) -> (Duration, Duration, usize, usize) {
    let mut conn = pool.acquire().await.unwrap();
    let now = coverage::database_now(&mut conn).await.unwrap();
    let exports: Vec<ExportName> = settings.exports.keys().cloned().collect();
    let accounts: Vec<AccountName> = settings.accounts.keys().cloned().collect();
    let ticks = Ticks::after(settings, &exports, now);
    let (mut deciding, mut reading) = (Duration::ZERO, Duration::ZERO);
    let (mut cells, mut windows) = (0, 0);
    for chunk in accounts.chunks(CHUNK) {
        let began = Instant::now();
        let feeds = configured::feeds(&mut conn, settings, &exports, chunk, &ticks).await.unwrap();
        let states = coverage::accounts(&mut conn, feeds).await.unwrap();
        reading += began.elapsed();
        cells += states.iter().flat_map(|account| &account.feeds).map(|feed| feed.cells.len()).sum::<usize>();
        let began = Instant::now();
        for state in &states {
            let plan = draft(state, now).spend(&HashMap::new(), now);
            windows += plan.calls.len() + plan.waiting.len();
        }
        deciding += began.elapsed();
    }
    (deciding, reading, cells, windows)
}

async fn execute(conn: &mut PgConnection, statement: String) {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.unwrap();
}

/// `VmHWM` of this process.
fn peak_memory_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
