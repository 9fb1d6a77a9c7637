//! The mirrored tables held against what a perfect export would hold. Postgres reads the truth by its own rules of CSV,
//! numbers and times, so that a mistake of the loader cannot hide itself.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use impact_mirror::config::{Export, Settings};
use impact_mirror::export::{ExportName, Source};
use sqlx::{AssertSqlSafe, PgConnection};

use super::world::World;

/// A stretch of one feed that is compared at once.
struct Slice<'a> {
    table: String,
    account: &'a str,
    program: &'a str,
    from: NaiveDate,
    to: NaiveDate,
}

/// All exports hold exactly what impact.com would export now for the days that are loaded, and coverage counts it right.
/// Says how many rows that are.
pub async fn assert_mirrored(world: &World, settings: &Settings) -> i64 {
    let mut rows = 0;
    for name in settings.exports.keys() {
        rows += assert_export(world, settings, name).await;
    }
    rows
}

async fn assert_export(world: &World, settings: &Settings, name: &ExportName) -> i64 {
    let export = &settings.exports[name];
    let cells: Vec<(String, String, NaiveDate, i64)> = sqlx::query_as(
        "select account, program, day, rows from impact_mirror.coverage \
         where export = $1 and loaded_at is not null order by account, program, day",
    )
    .bind(name.as_str())
    .fetch_all(world.pool())
    .await
    .unwrap();
    assert!(!cells.is_empty(), "{name} has nothing loaded:\n{}", world.jobs().await.join("\n"));
    let mut feeds: BTreeMap<(&str, &str), Vec<NaiveDate>> = BTreeMap::new();
    for (account, program, day, _) in &cells {
        feeds.entry((account, program)).or_default().push(*day);
    }
    let mut rows = 0;
    for ((account, program), days) in &feeds {
        let stretches: Vec<(NaiveDate, NaiveDate)> = match export.date_column {
            Some(_) => vec![(days[0], *days.last().unwrap())],
            None => days.iter().map(|day| (*day, *day)).collect(),
        };
        for (from, to) in stretches {
            let slice = Slice { table: format!("{}.{name}", settings.database.schema), account, program, from, to };
            rows += assert_slice(world, settings, export, &slice).await;
        }
    }
    assert_eq!(cells.iter().map(|cell| cell.3).sum::<i64>(), rows, "coverage counts the rows of {name} wrong");
    rows
}

async fn assert_slice(world: &World, settings: &Settings, export: &Export, slice: &Slice<'_>) -> i64 {
    let account = settings.accounts.values().find(|account| account.name.as_str() == slice.account).unwrap();
    let report = match &export.source {
        Source::Report(handle) => handle.as_str(),
        Source::Clicks => "clicks",
    };
    let params: Vec<(&str, &str)> = export
        .params
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name.as_str(), value.as_str())))
        .collect();
    let truth = world.sandbox.truth(account.sid.as_str(), report, slice.program, slice.from, slice.to, &params);
    let mut conn = world.pool().acquire().await.unwrap();
    let zone = account.time_zone.name();
    sqlx::query("select set_config('TimeZone', $1, false)").bind(zone).execute(&mut *conn).await.unwrap();
    let rows = compare(&mut conn, &export.name, slice, &truth).await;
    sqlx::raw_sql("drop table if exists truth; set timezone to 'UTC'").execute(&mut *conn).await.unwrap();
    rows
}

/// Compares as multisets, and says how many rows there are.
async fn compare(conn: &mut PgConnection, export: &ExportName, slice: &Slice<'_>, truth: &[u8]) -> i64 {
    let (header, body) = truth.split_at(truth.iter().position(|byte| *byte == b'\n').unwrap_or(truth.len()));
    let names: Vec<&str> = std::str::from_utf8(header).unwrap().split(',').collect();
    let columns: Vec<(String, String, String)> = sqlx::query_as(
        "select lower(source_name), column_name, kind from impact_mirror.mirrored_column where export = $1",
    )
    .bind(export.as_str())
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    if columns.is_empty() {
        assert_eq!(body.len(), 1, "{export} has no table though there is data");
        return 0;
    }
    let texts: Vec<String> = (0..names.len()).map(|index| format!("c{index} text")).collect();
    let create = format!("create temporary table truth ({})", texts.join(", "));
    sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut *conn).await.unwrap();
    let mut copy = conn.copy_in_raw("copy truth from stdin (format csv, header)").await.unwrap();
    copy.send(truth).await.unwrap();
    copy.finish().await.unwrap();

    let (mut mirrored, mut expected) = (Vec::new(), Vec::new());
    for (index, name) in names.iter().enumerate() {
        let (_, column, kind) = columns
            .iter()
            .find(|(source, _, _)| *source == name.to_lowercase())
            .unwrap_or_else(|| panic!("{export} has no column for {name}: {columns:?}"));
        mirrored.push(format!("\"{column}\""));
        expected.push(match kind.as_str() {
            "text" => format!("nullif(c{index}, '')"),
            kind => {
                format!("case when lower(c{index}) in ('', 'n/a', 'na', 'null') then null else c{index}::{kind} end")
            }
        });
    }
    let mirrored = format!(
        "select {} from {} where _account = '{}' and _program = '{}' and _day between '{}' and '{}'",
        mirrored.join(", "),
        slice.table,
        slice.account,
        slice.program,
        slice.from,
        slice.to
    );
    let expected = format!("select {} from truth", expected.join(", "));
    for (one, other, what) in [(&mirrored, &expected, "too much"), (&expected, &mirrored, "missing")] {
        let difference = format!("select r::text from (({one}) except all ({other})) r");
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(difference)).fetch_all(&mut *conn).await.unwrap();
        let where_ = format!("{export} of {} {} {}..{}", slice.account, slice.program, slice.from, slice.to);
        assert!(rows.is_empty(), "{where_}: {} rows {what}, such as {}", rows.len(), rows[0]);
    }
    sqlx::query_scalar("select count(*) from truth").fetch_one(conn).await.unwrap()
}
