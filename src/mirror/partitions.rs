//! Tables partitioned by month of `_day`: which months a window needs, what stands, and what may go.
//!
//! Postgres wants the partition key in every unique index, so a key is unique only within a day there. That it is unique in the
//! account all the same is up to the merge: one load at a time has an account's keys, and a row that moved is moved.

use chrono::{Datelike, Days, Months, NaiveDate};
use sqlx::{AssertSqlSafe, PgConnection};

use super::error::{Error, Place};
use super::history;
use super::layout::History;
use super::table::Table;
use super::{catalog, ddl, publication, rollup};
use crate::account::AccountName;
use crate::column::Partition;
use crate::export::{ExportName, Program, Window};

/// A partition that stands: its name, its first day, and the day behind its last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub name: String,
    pub from: NaiveDate,
    pub to: NaiveDate,
}

/// The first days of the months of a window that no partition holds.
pub(super) fn missing(window: Window, standing: &[Standing]) -> Vec<NaiveDate> {
    let mut months = Vec::new();
    let mut month = first_of_month(window.from());
    while month <= window.to() {
        // Somebody may have made wider ones by hand, but not ones that end within a month.
        if !standing.iter().any(|partition| partition.from <= month && month < partition.to) {
            months.push(month);
        }
        month = month + Months::new(1);
    }
    months
}

fn first_of_month(day: NaiveDate) -> NaiveDate {
    day - Days::new(u64::from(day.day0()))
}

/// Fails where the table is partitioned and the configuration says that it is not, or the reverse. A table that is not there
/// yet fits both.
pub async fn check(
    conn: &mut PgConnection,
    schema: &str,
    export: &ExportName,
    partition: Partition,
) -> Result<(), Error> {
    let table = Table::new(schema, export);
    let standing = catalog::read(conn, &table, &Place::without_file(export)).await?;
    if standing.exists { fits(standing.partitions.is_some(), partition, &table, export) } else { Ok(()) }
}

pub(super) fn fits(
    is_partitioned: bool,
    partition: Partition,
    table: &Table,
    export: &ExportName,
) -> Result<(), Error> {
    if is_partitioned == (partition == Partition::Month) {
        return Ok(());
    }
    Err(Error::Partitioning { export: export.clone(), table: table.qualified().to_owned(), is_partitioned })
}

/// Makes the partitions that a window will need, where the table is partitioned; says which.
pub async fn make_ahead(
    conn: &mut PgConnection,
    schema: &str,
    export: &ExportName,
    window: Window,
) -> Result<Vec<String>, Error> {
    let (table, place) = (Table::new(schema, export), Place::without_file(export));
    // Most often there is nothing to do, and then nobody is to be waited for.
    let Some(standing) = catalog::read(conn, &table, &place).await?.partitions else { return Ok(Vec::new()) };
    if missing(window, &standing).is_empty() {
        return Ok(Vec::new());
    }
    ddl::lock(conn, &table, &place).await?;
    let standing = catalog::read(conn, &table, &place).await?.partitions.unwrap_or_default();
    let months = missing(window, &standing);
    for month in &months {
        run(conn, table.create_partition(*month), &place).await?;
    }
    publication::keep_in_step(conn, schema).await.map_err(place.database("keep the publication in step"))?;
    Ok(months.into_iter().map(|month| table.partition_name(month)).collect())
}

/// Drops the partitions that end by `day`, that day not included; says which. Waits for those who read the table.
pub async fn drop_before(
    conn: &mut PgConnection,
    schema: &str,
    export: &ExportName,
    day: NaiveDate,
) -> Result<Vec<String>, Error> {
    let (table, place) = (Table::new(schema, export), Place::without_file(export));
    ddl::enter(conn, &table, &place).await?;
    let found = catalog::read(conn, &table, &place).await?;
    if found.history != History::None {
        history::delete_before(conn, &table, day, &place).await?;
    }
    let standing = found.partitions.unwrap_or_default();
    if standing.iter().all(|partition| partition.to > day) {
        return Ok(Vec::new());
    }
    ddl::lock(conn, &table, &place).await?;
    ddl::keep_readers_out(conn, &table, &place).await?;
    let standing = catalog::read(conn, &table, &place).await?.partitions.unwrap_or_default();
    let old: Vec<Standing> = standing.into_iter().filter(|partition| partition.to <= day).collect();
    for partition in &old {
        run(conn, table.drop_partition(&partition.name), &place).await?;
    }
    if let Some(first_kept) = old.iter().map(|partition| partition.to).max() {
        rollup::forget_before(conn, &place, first_kept).await?;
    }
    Ok(old.into_iter().map(|partition| partition.name).collect())
}

/// Deletes the rows of some days, before which none are kept, and the versions of rows up to the last of them; says how many
/// rows there were.
pub async fn delete_days(
    conn: &mut PgConnection,
    schema: &str,
    export: &ExportName,
    account: &AccountName,
    program: &Program,
    window: Window,
) -> Result<u64, Error> {
    let (table, place) = (Table::new(schema, export), Place::without_file(export));
    ddl::enter(conn, &table, &place).await?;
    let standing = catalog::read(conn, &table, &place).await?;
    if !standing.exists {
        return Ok(0);
    }
    rollup::forget_window(conn, &place, account, program, window).await?;
    if standing.history != History::None {
        history::delete_until(conn, &table, account, program, window.to(), &place).await?;
    }
    let deleted = sqlx::query(AssertSqlSafe(table.delete_window()))
        .bind(account)
        .bind(program)
        .bind(window.from())
        .bind(window.to())
        .persistent(false)
        .execute(conn)
        .await
        .map_err(place.database("delete the days that are kept no longer"))?;
    Ok(deleted.rows_affected())
}

async fn run(conn: &mut PgConnection, statement: String, place: &Place) -> Result<(), Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.map_err(place.database("change the partitions"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().expect("a day")
    }

    #[test]
    fn a_window_needs_each_month_that_it_touches_once() {
        let window = Window::new(day("2025-11-30"), day("2026-02-01")).expect("in order");
        let stands = |from: &str, to: &str| Standing { name: String::new(), from: day(from), to: day(to) };
        let months =
            |standing: &[Standing]| missing(window, standing).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(months(&[]), ["2025-11-01", "2025-12-01", "2026-01-01", "2026-02-01"]);
        assert_eq!(months(&[stands("2025-12-01", "2026-01-01")]), ["2025-11-01", "2026-01-01", "2026-02-01"]);
        assert_eq!(months(&[stands("2025-01-01", "2026-01-01")]), ["2026-01-01", "2026-02-01"], "a wider one");
    }
}
