//! How long planning takes for many accounts: 1,000 accounts with 1,000,000 cells, and a tenth of that beside it.
//!
//! `cargo bench --bench plan_scale -- [ACCOUNTS] [CELLS OF EACH]`. The server is that of `DATABASE_URL`, else an embedded
//! cluster. Measured are passes that write all their jobs and passes that find those open and write none: each three times, in
//! a process of its own, the median counts. Printed are the seconds, those of each statement besides, how far the process's
//! resident memory rose, and how many entries of cells the server read for each cell.

#![expect(clippy::unwrap_used, reason = "a measurement stops at the first thing that goes wrong")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{Days, Utc};
use impact_mirror::app::{Scope, planner};
use impact_mirror::config::{self, Settings};
use impact_mirror::embedded::Embedded;
use impact_mirror::store::{configured, connect, migrate};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tracing::field::{Field, Visit};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

const DATABASE: &str = "impact_mirror_bench_plan";
/// Programs of each account; there are two exports.
const PROGRAMS: u64 = 2;
/// The measured passes of each kind.
const ROUNDS: usize = 3;

/// What statements are for, told by a part of their text; the first that fits.
const STEPS: [(&str, &str); 9] = [
    ("impact_mirror.open_cell", "read cells and open days"),
    ("impact_mirror.bucket_room", "read budgets"),
    ("impact_mirror.charge", "read the ledger"),
    ("from impact_mirror.feed_change_rate", "read rates of change"),
    ("from impact_mirror.feed", "read feeds"),
    ("from impact_mirror.export_account", "read ticks and pauses"),
    ("impact_mirror.manual_request", "read and drop requests by hand"),
    ("impact_mirror.remote_job", "look remote jobs up"),
    ("insert into impact_mirror.job", "write jobs"),
];

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, url, accounts, cells] = arguments.as_slice()
        && word == "pass"
    {
        return pass(url, accounts.parse().unwrap(), cells.parse().unwrap()).await;
    }
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse::<u64>().ok());
    let accounts = numbers.next().unwrap_or(1_000);
    let cells = numbers.next().unwrap_or(1_000);
    let (server, embedded) = if let Ok(url) = std::env::var("DATABASE_URL") {
        (url, None)
    } else {
        let embedded = Embedded::start(&std::path::absolute("target/bench-postgres").unwrap()).await.unwrap();
        (embedded.url().to_owned(), Some(embedded))
    };
    for accounts in [(accounts / 10).max(1), accounts] {
        measure(&server, accounts, cells).await;
    }
    let mut conn = PgConnection::connect(&server).await.unwrap();
    execute(&mut conn, format!("drop database {DATABASE} with (force)")).await;
    if let Some(embedded) = embedded {
        embedded.stop().await.unwrap();
    }
}

/// Passes over so many accounts, and what they came to.
async fn measure(server: &str, accounts: u64, cells: u64) {
    let pool = prepare(server, &settings(accounts, cells / (2 * PROGRAMS))).await;
    let mut conn = PgConnection::connect_with(&options(server)).await.unwrap();
    let counting = sqlx::query_scalar::<_, i64>("select count(*) from impact_mirror.cell");
    let count = counting.fetch_one(&mut conn).await.unwrap();
    conn.close().await.unwrap(); // or its own reading would be told later
    let (mut writing, mut idle) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        call_off(server).await;
        for passes in [&mut writing, &mut idle] {
            passes.push(run_pass(&pool, server, accounts, cells).await);
        }
    }
    pool.close().await;
    println!("{accounts} accounts, {count} cells");
    for mut passes in [writing, idle] {
        passes.sort_by_key(|pass| pass.took);
        let seconds: Vec<String> = passes.iter().map(|pass| format!("{:.2}", pass.took.as_secs_f64())).collect();
        let median = &passes[ROUNDS / 2];
        println!(
            "  {} jobs written: {} s, +{:.1} MB, {:.2} entries read for each cell",
            median.planned,
            seconds.join(" "),
            median.memory_kb / 1024.0,
            f64::from(u32::try_from(median.entries).unwrap()) / f64::from(u32::try_from(count).unwrap()),
        );
        println!("{}", median.steps);
    }
}

/// Ends what earlier passes have planned, in a session whose own reading is counted before the next pass.
async fn call_off(server: &str) {
    let mut conn = PgConnection::connect_with(&options(server)).await.unwrap();
    let planned = "update impact_mirror.job set state = 'cancelled', finished_at = now() where state = 'planned'";
    execute(&mut conn, planned.to_owned()).await;
    execute(&mut conn, "vacuum analyze".to_owned()).await;
    conn.close().await.unwrap();
}

/// The bench's database, in a session that [`entries_read`] waits for.
fn options(server: &str) -> PgConnectOptions {
    let options: PgConnectOptions = server.parse().unwrap();
    options.database(DATABASE).options([("timezone", "UTC")]).application_name("pass")
}

/// What a pass came to.
struct Measured {
    took: Duration,
    planned: u64,
    memory_kb: f64,
    /// Entries of the cells' index that it read, and rows of the table that it read by other ways.
    entries: i64,
    /// The seconds of each statement, as a table.
    steps: String,
}

/// Runs a pass in a process of its own.
async fn run_pass(pool: &PgPool, server: &str, accounts: u64, cells: u64) -> Measured {
    let before = entries_read(pool).await;
    let this = std::env::current_exe().unwrap();
    let arguments = ["pass", server, &accounts.to_string(), &cells.to_string()];
    let output = tokio::task::block_in_place(|| Command::new(this).args(arguments).output().unwrap());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (figures, steps) = text.split_once('\n').unwrap();
    let figures: Vec<f64> = figures.split(' ').map(|figure| figure.parse().unwrap()).collect();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let planned = figures[1] as u64;
    Measured {
        took: Duration::from_secs_f64(figures[0]),
        planned,
        memory_kb: figures[2],
        entries: entries_read(pool).await - before,
        steps: steps.to_owned(),
    }
}

/// Entries of the cells' index, and rows of the table by a walk along it, that the server has read so far. A process tells
/// what it read when it ends.
async fn entries_read(pool: &PgPool) -> i64 {
    let others = "select count(*) from pg_stat_activity where datname = $1 and application_name = 'pass'";
    while sqlx::query_scalar::<_, i64>(others).bind(DATABASE).fetch_one(pool).await.unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    sqlx::query_scalar::<_, i64>(
        "select (select sum(idx_tup_read)::bigint from pg_stat_user_indexes where relname = 'cell')
             + (select seq_tup_read from pg_stat_user_tables where relname = 'cell' and schemaname = 'impact_mirror')",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

/// The process that plans once: prints seconds, jobs and memory, then the table of statements.
async fn pass(server: &str, accounts: u64, cells: u64) {
    let settings = settings(accounts, cells / (2 * PROGRAMS));
    let steps = Steps::default();
    tracing_subscriber::registry().with(steps.clone()).init();
    let pool = connect(options(server), 2).await.unwrap();
    let planner = planner(&pool, &settings, Scope::All);
    std::fs::write("/proc/self/clear_refs", "5").unwrap(); // the peak begins anew
    let before_kb = peak_memory_kb();
    let began = Instant::now();
    let jobs = planner.pass().await.unwrap().planned;
    let took = began.elapsed();
    println!("{} {jobs} {}", took.as_secs_f64(), peak_memory_kb() - before_kb);
    steps.print(took);
    pool.close().await;
}

/// The time and number of statements for each step, from what sqlx says of each.
#[derive(Clone, Default)]
struct Steps(Arc<Mutex<BTreeMap<&'static str, (Duration, u32)>>>);

impl Steps {
    /// The table, the slowest first, and what is left of the time.
    fn print(&self, whole: Duration) {
        let steps = self.0.lock().unwrap();
        let mut in_order: Vec<_> = steps.iter().collect();
        in_order.sort_by_key(|(_, (took, _))| std::cmp::Reverse(*took));
        for (step, (took, statements)) in in_order {
            println!("    {step:32} {:>7.3} s  {statements:>4} statements", took.as_secs_f64());
        }
        let statements: Duration = steps.values().map(|(took, _)| *took).sum();
        println!("    {:32} {:>7.3} s", "deciding, and all else", whole.saturating_sub(statements).as_secs_f64());
    }
}

impl<S: tracing::Subscriber> Layer<S> for Steps {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != "sqlx::query" {
            return;
        }
        let mut seen = Statement::default();
        event.record(&mut seen);
        let step = STEPS.iter().find(|(part, _)| seen.text.contains(part)).map_or("other statements", |(_, step)| step);
        let mut steps = self.0.lock().unwrap();
        let (took, statements) = steps.entry(step).or_default();
        *took += seen.took;
        *statements += 1;
    }
}

#[derive(Default)]
struct Statement {
    text: String,
    took: Duration,
}

impl Visit for Statement {
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}

    fn record_str(&mut self, field: &Field, value: &str) {
        if ["summary", "db.statement"].contains(&field.name()) {
            self.text.push_str(value);
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "elapsed_secs" {
            self.took = Duration::from_secs_f64(value);
        }
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
         cross join (select (now() at time zone 'America/New_York')::date as day) today
         cross join lateral generate_series(f.since, today.day - 2, interval '1 day') d
         cross join lateral (select today.day - d::date as days) age
         order by random();
         insert into impact_mirror.feed_change_rate (export, account, program, changes, days, updated_at)
         select export, account, program, array_fill(0.5, array[48]), array_fill(20.0, array[48]), now() from impact_mirror.feed;
         analyze"
            .to_owned(),
    )
    .await;
    drop(conn);
    pool
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
