//! How fast a click file loads, beside `psql \copy` of the same file into a table of the same types and indexes.
//!
//! `DATABASE_URL=… cargo bench --bench load -- [ROWS] [ROUNDS]` makes a file of a million rows and 40 columns, loads it
//! into a fresh window by turns with psql, then once more unchanged, and prints seconds, their ratio and the peak memory
//! of this process. psql's table has the lineage columns too, with constant defaults, so that both write the same rows.

#![expect(clippy::unwrap_used, reason = "a measurement stops at the first thing that goes wrong")]

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use chrono::{TimeDelta, Utc};
use impact_mirror::account::AccountName;
use impact_mirror::column::{ColumnKind, OnTypeConflict};
use impact_mirror::export::{ExportName, Program, Window};
use impact_mirror::mirror::{self, Report, Target};
use sqlx::{Connection, PgConnection};

const COLUMNS: [&str; 40] = [
    "Id",
    "ProgramId",
    "ProgramName",
    "ProfileId",
    "IpAddress",
    "EventDate",
    "MediaId",
    "MediaName",
    "AdId",
    "AdName",
    "AdType",
    "ProductSku",
    "AdCampaign",
    "AdGroup",
    "Keyword",
    "MatchType",
    "Channel",
    "DealName",
    "DealType",
    "DealScope",
    "CustomerArea",
    "CustomerCity",
    "CustomerRegion",
    "CustomerCountry",
    "DeviceType",
    "DeviceFamily",
    "Browser",
    "Os",
    "ReferringUrl",
    "ReferringDomain",
    "LandingPageUrl",
    "SharedId",
    "UniqueClick",
    "CpcBid",
    "SubId1",
    "SubId2",
    "SubId3",
    "Payout",
    "TrafficCategory",
    "TrafficSource",
];

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run());
}

async fn run() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let rows = numbers.next().unwrap_or(1_000_000);
    let rounds = numbers.next().unwrap_or(3);
    let url = std::env::var("DATABASE_URL").expect("DATABASE_URL names a database that may be written to");
    let file = std::env::temp_dir().join(format!("impact-mirror-clicks-{rows}.csv"));
    write_clicks(&file, rows);
    println!("{rows} rows, {} columns, {} MB", COLUMNS.len(), std::fs::metadata(&file).unwrap().len() >> 20);

    let mut conn = PgConnection::connect(&url).await.unwrap();
    sqlx::migrate!("./migrations").run(&mut conn).await.unwrap();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        reset(&mut conn).await;
        let start = Instant::now();
        let report = load(&mut conn, &file).await;
        assert_eq!(report.rows_inserted, rows);
        ours.push(start.elapsed().as_secs_f64());

        prepare_psql(&mut conn).await;
        let start = Instant::now();
        psql(&url, &file);
        theirs.push(start.elapsed().as_secs_f64());
        println!("round {round}: load {:.2} s, psql {:.2} s", ours[ours.len() - 1], theirs[theirs.len() - 1]);
    }
    let start = Instant::now();
    let report = load(&mut conn, &file).await;
    assert_eq!(report.rows_unchanged, rows);
    println!("read again, unchanged: {:.2} s", start.elapsed().as_secs_f64());
    ours.sort_by(f64::total_cmp);
    theirs.sort_by(f64::total_cmp);
    let (our, their) = (ours[ours.len() / 2], theirs[theirs.len() / 2]);
    println!("median: load {our:.2} s, psql {their:.2} s, ratio {:.2}; peak memory {}", our / their, peak_memory());
    reset(&mut conn).await;
    std::fs::remove_file(&file).unwrap();
}

/// The part of the columns that are not text.
fn configured() -> BTreeMap<String, ColumnKind> {
    let mut kinds: BTreeMap<_, _> = COLUMNS.iter().map(|name| ((*name).to_owned(), ColumnKind::Text)).collect();
    for (name, kind) in [
        ("ProgramId", ColumnKind::Bigint),
        ("MediaId", ColumnKind::Bigint),
        ("AdId", ColumnKind::Bigint),
        ("EventDate", ColumnKind::Timestamptz),
        ("UniqueClick", ColumnKind::Boolean),
        ("CpcBid", ColumnKind::Numeric),
        ("Payout", ColumnKind::Numeric),
    ] {
        kinds.insert(name.to_owned(), kind);
    }
    kinds
}

async fn load(conn: &mut PgConnection, file: &Path) -> Report {
    let (export, account, program) = (ExportName::new("bench_clicks"), AccountName::new("bench"), Program::new("1000"));
    let (configured, metadata) = (configured(), BTreeMap::new());
    let target = Target {
        schema: "bench_impact",
        export: &export,
        account: &account,
        program: &program,
        window: Window::day("2026-05-29".parse().unwrap()),
        time_zone: chrono_tz::America::New_York,
        key: &[],
        date_column: Some("EventDate"),
        configured: &configured,
        metadata: &metadata,
        on_type_conflict: OnTypeConflict::Widen,
    };
    let mut tx = conn.begin().await.unwrap();
    let report = mirror::load(&mut tx, file, &target, 1, Utc::now()).await.unwrap();
    tx.commit().await.unwrap();
    report
}

async fn reset(conn: &mut PgConnection) {
    sqlx::raw_sql(
        "drop schema if exists bench_impact cascade;
         delete from impact_mirror.mirrored_column where export = 'bench_clicks';
         insert into impact_mirror.account (name, persona, time_zone) values ('bench', 'brand', 'America/New_York')
             on conflict do nothing;
         insert into impact_mirror.export (name, bucket, table_name, freshness)
             values ('bench_clicks', 'click_export', 'bench_clicks', '1 day') on conflict do nothing;
         checkpoint",
    )
    .execute(conn)
    .await
    .unwrap();
}

async fn prepare_psql(conn: &mut PgConnection) {
    sqlx::raw_sql(
        "create table bench_impact.psql (like bench_impact.bench_clicks including indexes);
         alter table bench_impact.psql alter _account set default 'bench', alter _program set default '1000',
             alter _day set default '2026-05-29', alter _row_hash set default '6b8b4567-327b-23c6-643c-986966334873',
             alter _load_id set default 1, alter _line set default 1, alter _first_seen_at set default '2026-06-01',
             alter _changed_at set default '2026-06-01';
         checkpoint",
    )
    .execute(conn)
    .await
    .unwrap();
}

fn psql(url: &str, file: &Path) {
    let columns: Vec<_> = COLUMNS.iter().map(|name| snake_case(name)).collect();
    let command = format!(
        "\\copy bench_impact.psql ({}) from '{}' (format csv, header)",
        columns.join(", "),
        PathBuf::from(file).display()
    );
    assert!(Command::new("psql").args(["-qX", "-d", url, "-c", &command]).status().unwrap().success());
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or_else(|| "unknown".to_owned(), |line| line.trim().to_owned())
}

/// The same clicks every time.
fn write_clicks(path: &Path, rows: u64) {
    let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(path).unwrap());
    writeln!(out, "{}", COLUMNS.join(",")).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let midnight = "2026-05-29T00:00:00".parse::<chrono::NaiveDateTime>().unwrap();
    let cities = ["Boston", "New York", "\"Portland, OR\"", "n/a", "São Paulo", ""];
    let browsers = ["CHROME", "CHROME_MOBILE", "SAFARI", "FIREFOX", "EDGE", "null"];
    for row in 0..rows {
        let (a, b, c) = (random(), random(), random());
        let second = i64::try_from(row * 86_400 / rows).unwrap();
        writeln!(
            out,
            "{a:016x}{b:08x},1000,Acme Campaign,{b:016x}-{c:08x},{c:016x}{a:016x},{at}-04:00,{media},Partner {media},{ad},\
             \"Spring sale, {ad}\",TEXT_LINK,SKU-{sku},summer_2026,group {group},,broad,Search,,,,n/a,{city},Massachusetts,US,\
             {device},{family},{browser},WINDOWS_10,https://www.example-partner-{media}.com/reviews/{c:x}?utm_source=partner&utm_campaign={ad},\
             www.example-partner-{media}.com,https://www.acme.example/products/{sku}?irclickid={a:016x}{b:08x},shared-{group},\
             {unique},0.{bid},newsletter-{group},{c:x},,{payout}.{cents:02}0000,CONTENT,organic",
            at = (midnight + TimeDelta::seconds(second)).format("%Y-%m-%dT%H:%M:%S"),
            media = 100_000 + a % 500,
            ad = 20_000 + b % 90,
            sku = c % 10_000,
            group = a % 40,
            city = cities[usize::try_from(b % 6).unwrap()],
            device = if a % 3 == 0 { "PHONE" } else { "DESKTOP" },
            family = if a % 3 == 0 { "IPHONE" } else { "WINDOWS_MACHINE" },
            browser = browsers[usize::try_from(c % 6).unwrap()],
            unique = c % 4 != 0,
            bid = b % 100,
            payout = c % 20,
            cents = a % 100,
        )
        .unwrap();
    }
    out.flush().unwrap();
}
