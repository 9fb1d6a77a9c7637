//! The questions that the views for analysts are made for, over many actions and clicks: `cargo bench --bench query -- ACTIONS CLICKS`.
//!
//! The tables, their views and indexes are made by a load of a few rows, and filled up by Postgres: two years of days, ten programs,
//! 200 partners.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{NaiveDate, Utc};
use impact_mirror::account::AccountName;
use impact_mirror::app;
use impact_mirror::config::{self, Distribution, Environment, Settings};
use impact_mirror::embedded::Embedded;
use impact_mirror::export::{Program, Source, Window};
use impact_mirror::mirror::{self, Target, Widens, Writes};
use impact_mirror::sandbox::{Options, Sandbox};
use impact_mirror::store;
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

const DATABASE: &str = "impact_mirror_bench_query";
/// How many days the rows are of, up to yesterday.
const DAYS: i64 = 730;
const PROGRAMS: i64 = 10;

const SETTINGS: &str = r#"
[accounts.acme]
persona = "brand"
account_sid = "IRsandboxBrand0001"
auth_token = { env = "TOKEN" }
base_url = "http://127.0.0.1:9"
time_zone = "America/New_York"
programs = [1000]

[exports.actions]
report = "adv_action_listing_pm_only"
since = "2025-01-01"

[exports.by_day]
report = "att_adv_performance_by_day_pm_only"
since = "2025-01-01"

[exports.clicks]
clicks = true
since = "2025-01-01"
"#;

/// A view, a question, and the query that asks it.
const QUESTIONS: [(&str, &str, &str); 7] = [
    (
        "actions_current",
        "actions of the last 7 days by status",
        "select status, is_locked, count(*), sum(payout) from impact.actions_current where day >= current_date - 7 group by 1, 2",
    ),
    (
        "performance_daily",
        "the last 30 days",
        "select day, sum(clicks), sum(actions), sum(payout) from impact.performance_daily where day >= current_date - 30 group by 1",
    ),
    (
        "clicks_daily",
        "partners of the last 30 days by conversion",
        "select partner_name, sum(clicks), sum(actions) from impact.clicks_daily where day >= current_date - 30 group by 1 order by 3 desc limit 20",
    ),
    (
        "payouts_monthly",
        "partners of last month",
        "select partner_name, sum(payout) from impact.payouts_monthly \
         where month = date_trunc('month', current_date - interval '1 month')::date group by 1 order by 2 desc",
    ),
    (
        "reconciliation",
        "the last 30 days by verdict",
        "select verdict, count(*) from impact.reconciliation where day >= current_date - 30 group by 1",
    ),
    (
        "clicks (table)",
        "clicks of a program and day by device",
        "select device_type, count(*) from impact.clicks where _account = 'acme' and _program = '1003' and _day = current_date - 5 group by 1",
    ),
    (
        "performance_daily",
        "all of two years",
        "select date_trunc('month', day), sum(clicks), sum(actions) from impact.performance_daily group by 1",
    ),
];

fn main() {
    let arguments: Vec<i64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let (actions, clicks) = (*arguments.first().unwrap_or(&1_000_000), *arguments.get(1).unwrap_or(&5_000_000));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(bench(actions, clicks));
}

async fn bench(actions: i64, clicks: i64) {
    let embedded = Embedded::start(&std::path::absolute("target/bench-postgres").unwrap()).await.unwrap();
    let mut conn = PgConnection::connect(embedded.url()).await.unwrap();
    for statement in [format!("drop database if exists {DATABASE} with (force)"), format!("create database {DATABASE}")]
    {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut conn).await.unwrap();
    }
    let options = store::connect_options(&SecretString::from(embedded.url())).unwrap().database(DATABASE);
    store::migrate(&options).await.unwrap();
    let pool = store::connect(options, 4).await.unwrap();
    let dir = tempfile::TempDir::new().unwrap();
    let text =
        format!("state_dir = \"{}\"\n[database]\nurl = \"{}\"\n{SETTINGS}", dir.path().display(), embedded.url());
    let environment = Environment::from([("TOKEN", "made-up".to_owned())]);
    let settings = config::check(&text, Path::new("mirror.toml"), &environment).unwrap();
    app::write_configuration(&pool, &settings).await.unwrap();
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    for name in ["actions", "by_day", "clicks"] {
        load(&pool, &settings, &sandbox, name, dir.path()).await;
    }
    fill(&pool, "actions", actions).await;
    fill(&pool, "by_day", DAYS * PROGRAMS).await;
    fill(&pool, "clicks", clicks).await;
    execute(
        &pool,
        &format!(
            "insert into impact_mirror.cell (export, account, program, day, rows, loaded_at, as_of, complete, job_id) \
             select export, 'acme', (1000 + program)::text, current_date - day, 1, now(), now(), true, \
                 (select min(id) from impact_mirror.job) \
             from (values ('actions'), ('by_day')) as e (export), generate_series(1, {DAYS}) as day, \
                  generate_series(0, {PROGRAMS} - 1) as program"
        ),
    )
    .await;
    let began = Instant::now();
    let mut mirrored = pool.acquire().await.unwrap();
    for line in mirror::views::keep(&mut mirrored, "impact", &BTreeMap::new()).await.unwrap() {
        println!("{line}");
    }
    drop(mirrored);
    println!("views, comments, clicks added up for the first time: {:.1} s\n", began.elapsed().as_secs_f64());
    execute(&pool, "vacuum analyze").await;

    println!("| {actions} actions, {clicks} clicks | question | median s |\n| --- | --- | ---: |");
    for (view, question, query) in QUESTIONS {
        let mut took = Vec::new();
        for _ in 0..3 {
            let began = Instant::now();
            execute(&pool, query).await;
            took.push(began.elapsed());
        }
        took.sort();
        println!("| `{view}` | {question} | {:.3} |", took[1].as_secs_f64());
    }
    println!(
        "\na window of clicks of one program and day added up by its load: {:.3} s",
        window(&pool).await.as_secs_f64()
    );
    pool.close().await;
    sqlx::raw_sql(AssertSqlSafe(format!("drop database {DATABASE} with (force)"))).execute(&mut conn).await.unwrap();
    drop(conn);
    embedded.stop().await.unwrap();
}

async fn execute(pool: &PgPool, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(pool).await.unwrap();
}

/// What a load does of its window, asked of the largest of them.
async fn window(pool: &PgPool) -> Duration {
    let began = Instant::now();
    execute(
        pool,
        "select program_id::text, max(program_name), media_id::text, max(media_name), count(*), \
             count(*) filter (where unique_click), sum(payout) \
         from impact.clicks where _account = 'acme' and _program = '1003' and _day = current_date - 5 group by 1, 3",
    )
    .await;
    began.elapsed()
}

/// A day of the sandbox's rows, loaded as ever.
async fn load(pool: &PgPool, settings: &Settings, sandbox: &Sandbox, name: &str, dir: &Path) {
    let export = settings.exports.values().find(|export| export.name.as_str() == name).unwrap();
    let report = match &export.source {
        Source::Report(handle) => handle.as_str(),
        Source::Clicks => "clicks",
    };
    let params: Vec<(&str, &str)> =
        export.params.iter().flat_map(|(name, all)| all.iter().map(|value| (name.as_str(), value.as_str()))).collect();
    let day: NaiveDate = "2026-03-02".parse().unwrap();
    let csv = sandbox.truth("IRsandboxBrand0001", report, "1000", day, day, &params);
    let file = dir.join("result.csv");
    std::fs::write(&file, csv).unwrap();
    let (account, program) = (AccountName::new("acme"), Program::new("1000"));
    let none = BTreeMap::new();
    let target = Target {
        schema: "impact",
        export: &export.name,
        account: &account,
        program: &program,
        window: Window::day(day),
        time_zone: chrono_tz::America::New_York,
        key: &export.key,
        date_column: export.date_column.as_deref(),
        configured: &export.types,
        typed_by_user: &export.typed_by_user,
        metadata: &none,
        on_type_conflict: export.on_type_conflict,
        partition: export.partition,
        history: export.history,
        widens: Widens::Within,
        distribution: Distribution::None,
    };
    let mut tx = pool.begin().await.unwrap();
    let load_id: i64 = sqlx::query_scalar(
        "with job as (
             insert into impact_mirror.job (export, account, program, from_day, to_day, reason, state, priority, bucket, request,
                 wanted_after, run_at, created_at, finished_at)
             values ($1, 'acme', '1000', $2, $2, 'manual', 'cancelled', 0, 'report_export', '{}', now(), now(), now(), now())
             returning id)
         insert into impact_mirror.load (job_id, export, account, program, from_day, to_day, file_sha256, file_bytes, target_hash,
             started_at, committed_at)
         select id, $1, 'acme', '1000', $2, $2, '', 0, gen_random_uuid(), now(), now() from job returning id",
    )
    .bind(name)
    .bind(day)
    .fetch_one(&mut *tx)
    .await
    .unwrap();
    mirror::load(&mut tx, &file, export.result_format, &target, load_id, Utc::now(), Writes::Differing).await.unwrap();
    tx.commit().await.unwrap();
}

/// Copies the rows that are there until there are so many, over days, programs and partners.
async fn fill(pool: &PgPool, table: &str, rows: i64) {
    let began = Instant::now();
    let columns: Vec<String> = sqlx::query_scalar(
        "select attname::text from pg_attribute where attrelid = format('impact.%I', $1)::regclass and attnum > 0 order by attnum",
    )
    .bind(table)
    .fetch_all(pool)
    .await
    .unwrap();
    let day = format!("(current_date - {DAYS} + (n * {DAYS} / {rows})::integer)");
    let partner = "(10000 + (n * 7919) % 200)";
    let value = |column: &str| match column {
        "_day" => day.clone(),
        "_program" | "program_id" => {
            format!("(1000 + n % {PROGRAMS}){}", if column == "_program" { "::text" } else { "" })
        }
        "_row_hash" => "gen_random_uuid()".to_owned(),
        "action_id" => "'1000.4637.' || n".to_owned(),
        "action_date" | "event_date" => format!("{day}::timestamptz + interval '12 hours'"),
        "mp_id" | "media_id" => partner.to_owned(),
        "media_partner" | "media_name" => format!("'Partner ' || {partner}"),
        other => format!("s.\"{other}\""),
    };
    let list = columns.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let values = columns.iter().map(|name| value(name)).collect::<Vec<_>>().join(", ");
    let statement = format!(
        "create temporary table sample as select row_number() over () - 1 as number, t.* from impact.{table} t; \
         delete from impact.{table}; \
         insert into impact.{table} ({list}) \
         select {values} from generate_series(0::bigint, {rows} - 1) n join sample s on s.number = n % (select count(*) from sample); \
         drop table sample"
    );
    let mut conn = pool.acquire().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *conn).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("vacuum analyze impact.{table}"))).execute(&mut *conn).await.unwrap();
    let size: String =
        sqlx::query_scalar("select pg_size_pretty(pg_total_relation_size(format('impact.%I', $1)::regclass))")
            .bind(table)
            .fetch_one(&mut *conn)
            .await
            .unwrap();
    println!("{rows} {table}, {size}, made in {:.0} s", began.elapsed().as_secs_f64());
}
