//! The page of an account with 50 exports of 25 programs over three years: how fast it is answered, how much it weighs, and what
//! fifty people who look at it cost: `cargo bench --bench page -- ROUNDS SECONDS`.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use impact_mirror::embedded::Embedded;
use impact_mirror::http::Server;
use impact_mirror::pulse::Pulse;
use impact_mirror::store;
use nix::sys::resource::{UsageWho, getrusage};
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

const DATABASE: &str = "impact_mirror_bench_page";
const EXPORTS: usize = 50;

fn main() {
    let arguments: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let (rounds, seconds) = (*arguments.first().unwrap_or(&200), *arguments.get(1).unwrap_or(&60));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(bench(rounds, seconds));
}

async fn bench(rounds: u64, seconds: u64) {
    let embedded = Embedded::start(&std::path::absolute("target/bench-postgres").unwrap()).await.unwrap();
    let mut conn = PgConnection::connect(embedded.url()).await.unwrap();
    for statement in [format!("drop database if exists {DATABASE} with (force)"), format!("create database {DATABASE}")]
    {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut conn).await.unwrap();
    }
    let options = store::connect_options(&SecretString::from(embedded.url())).unwrap().database(DATABASE);
    store::migrate(&options).await.unwrap();
    let pool = store::connect(options, 8).await.unwrap();
    fill(&pool).await;
    let server = Server::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    server.attach(pool.clone(), Arc::new(Pulse::default()));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = |path: &str| format!("{}{path}", server.url());

    println!("| page | first ms | p50 ms | p95 ms | bytes | gzip bytes |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for (name, path) in [
        ("front", ""),
        ("export", "exports/export_07"),
        ("export, one program", "exports/export_07?account=acme&program=1003"),
    ] {
        let began = Instant::now();
        let text = get(&client, &url(path)).await;
        let first = began.elapsed();
        let mut took = Vec::new();
        for _ in 0..rounds {
            let began = Instant::now();
            get(&client, &url(path)).await;
            took.push(began.elapsed());
        }
        took.sort();
        let at = |part: usize| took[took.len() * part / 100].as_secs_f64() * 1e3;
        let ms = first.as_secs_f64() * 1e3;
        println!("| {name} | {ms:.1} | {:.1} | {:.1} | {} | {} |", at(50), at(95), text.len(), packed(&text));
    }
    watch(&client, &server, &pool, seconds).await;
    server.stop().await;
    pool.close().await;
    sqlx::raw_sql(AssertSqlSafe(format!("drop database {DATABASE} with (force)"))).execute(&mut conn).await.unwrap();
    drop(conn);
    embedded.stop().await.unwrap();
}

async fn get(client: &reqwest::Client, url: &str) -> String {
    let answer = client.get(url).send().await.unwrap();
    assert!(answer.status().is_success(), "{url}: {}", answer.status());
    answer.text().await.unwrap()
}

fn packed(text: &str) -> usize {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap().len()
}

/// Fifty pages that are open, in a process that has nothing else to do: server and viewers together, so that the true figure is less.
async fn watch(client: &reqwest::Client, server: &Server, pool: &PgPool, seconds: u64) {
    let mut viewers = Vec::new();
    for _ in 0..50 {
        let (client, url) = (client.clone(), server.url());
        viewers.push(tokio::spawn(async move {
            let mut told = client.get(format!("{url}events")).send().await.unwrap();
            let mut pages = 0;
            while let Ok(Some(_)) = told.chunk().await {
                get(&client, &url).await;
                pages += 1;
            }
            pages
        }));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    for (what, every) in [("nothing changes", None), ("a job moves every 10 s", Some(10))] {
        let before = cpu();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(seconds) {
            tokio::time::sleep(Duration::from_secs(every.unwrap_or(seconds))).await;
            if every.is_some() {
                let moved =
                    "update impact_mirror.job set remote_percent = coalesce(remote_percent, 0) + 1 where id = 2";
                sqlx::raw_sql(moved).execute(pool).await.unwrap();
            }
        }
        let part = cpu().saturating_sub(before).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
        println!("50 viewers, {what}: {part:.2} % of a core, viewers included");
    }
    for viewer in viewers {
        viewer.abort();
    }
}

fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let time = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec().unsigned_abs(), 0) + Duration::from_micros(time.tv_usec().unsigned_abs())
    };
    time(usage.user_time()) + time(usage.system_time())
}

async fn fill(pool: &PgPool) {
    let statement = format!(
        r#"
        insert into impact_mirror.account (name, persona, time_zone) values ('acme', 'brand', 'Etc/UTC');
        insert into impact_mirror.bucket (account, bucket, "limit", window_length)
        values ('acme', 'report_export', 100, '24 hours'), ('acme', 'click_export', 10, '24 hours'), ('acme', 'requests', 1000, '1 hour');
        insert into impact_mirror.export (name, bucket, table_name, freshness, refresh)
        select 'export_' || to_char(n, 'FM00'), 'report_export', 'impact.export_' || n, '26 hours', '[]' from generate_series(1, {EXPORTS}) n;
        insert into impact_mirror.export_account (export, account) select name, 'acme' from impact_mirror.export;
        insert into impact_mirror.feed (export, account, program, since, include_today)
        select e.name, 'acme', p::text, current_date - 1095, false from impact_mirror.export e, generate_series(1001, 1025) p;
        insert into impact_mirror.job (export, account, program, from_day, to_day, reason, state, priority, bucket, request,
            wanted_after, run_at, created_at, submitted_at, finished_at, error_kind, error_message)
        values ('export_01', 'acme', '1001', current_date - 1, current_date - 1, 'fresh', 'failed', 1, 'report_export', '{{}}',
            now(), now(), now(), now(), now(), 'remote', 'refused');
        insert into impact_mirror.job (export, account, program, from_day, to_day, reason, state, priority, bucket, request,
            wanted_after, run_at, created_at, submitted_at, remote_job_id)
        select name, 'acme', '1002', current_date - 20, current_date - 10, 'refresh', 'waiting', 1, 'report_export', '{{}}',
            now(), now(), now(), now(), 'r-' || name from impact_mirror.export;
        insert into impact_mirror.cell (export, account, program, day, rows, loaded_at, as_of, complete, job_id, next_refresh_at)
        select f.export, f.account, f.program, d::date, 100, now(), now(), true, 1,
               case when d < current_date - 190 then null
                    when hashtext(f.export || f.program || d::text) % 7 = 0 then now() - interval '1 hour'
                    else now() + interval '5 hours' end
        from impact_mirror.feed f, generate_series(current_date - 1095, current_date - 1, interval '1 day') d
        where hashtext(f.program || f.export || d::text) % 40 <> 0;
        analyze
        "#
    );
    let began = Instant::now();
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(pool).await.unwrap();
    let cells: i64 = sqlx::query_scalar("select count(*) from impact_mirror.cell").fetch_one(pool).await.unwrap();
    println!("{EXPORTS} exports, {cells} cells, filled in {:.0} s\n", began.elapsed().as_secs_f64());
}
