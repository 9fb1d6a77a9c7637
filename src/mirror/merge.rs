//! Brings a window that has rows to what the file says, touching only rows that differ.
//!
//! With a key: the first of several records with one key stands, the others are rejected. What was loaded under the key of
//! a rejected record stays. If the key of a rejected record cannot be read, any row of the window may be its earlier
//! version, so that nothing is deleted. Without a key that is so for every rejected record: then rows that changed stand in
//! both versions until the window is read again without a rejected row. Too much is seen and mended; a lost row is not.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use sqlx::{AssertSqlSafe, PgConnection};

use super::Report;
use super::copy::{self, Copied, Counts, OnConflict};
use super::error::{Error, Place};
use super::layout::Layout;
use super::load::Load;
use super::rejects::{MAX_RAW, readable};
use super::rows::Destination;
use super::table::merge::{ANALYZE, COUNT, DELETE_DUPLICATES, DROP_TEMPORARY, Merge, NEXT_DUPLICATES};

/// Copies the file into a temporary table.
pub(super) async fn stage(
    load: &Load<'_>,
    conn: &mut PgConnection,
    layout: &Layout,
    on_conflict: OnConflict,
) -> Result<Copied, Error> {
    let merge = Merge::new(&load.table, layout);
    let step = "make the temporary tables";
    sqlx::raw_sql(DROP_TEMPORARY).execute(&mut *conn).await.map_err(load.place.database(step))?;
    for statement in merge.create_temporary() {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *conn).await.map_err(load.place.database(step))?;
    }
    load.copy(conn, &merge.copy_staged(), layout, Destination::Staged, on_conflict).await
}

/// Writes the differences between what is staged and the window, and completes the report.
pub(super) async fn merge(
    load: &Load<'_>,
    conn: &mut PgConnection,
    layout: &Layout,
    counts: &mut Counts,
    had_rows: bool,
    report: &mut Report,
) -> Result<(), Error> {
    let place = &load.place;
    let merge = Merge::new(&load.table, layout);
    let keyed = !layout.key.is_empty();

    if counts.rejects.keys.rows > 0 {
        copy::spill(conn, &merge.copy_kept(), &mut counts.rejects.keys, place).await?;
    }
    if keyed {
        let duplicates = run(conn, merge.find_duplicates(), place).await?;
        if duplicates > 0 {
            reject_duplicates(load, conn).await?;
            run(conn, DELETE_DUPLICATES.to_owned(), place).await?;
            report.rows_rejected += duplicates;
        }
    }
    if had_rows {
        execute(load.bind_window(merge.note_standing()), conn, place).await?;
    }
    run(conn, ANALYZE.to_owned(), place).await?;
    if keyed {
        let statement = sqlx::query(AssertSqlSafe(merge.note_moved())).bind(load.target.account).persistent(false);
        if execute(statement, conn, place).await? > 0 {
            run(conn, ANALYZE.to_owned(), place).await?;
        }
    }

    run(conn, merge.find_todo(), place).await?;
    report.kept_deletions = had_rows && counts.rejects.without_key > 0;
    if !report.kept_deletions {
        run(conn, merge.find_gone(), place).await?;
    }
    let (inserted, updated, gone): (i64, i64, i64) =
        sqlx::query_as(COUNT).fetch_one(&mut *conn).await.map_err(place.database(STEP))?;
    report.rows_inserted = inserted.unsigned_abs();
    report.rows_updated = updated.unsigned_abs();
    report.rows_unchanged = report.rows_read - report.rows_rejected - report.rows_inserted - report.rows_updated;

    let changes = inserted + updated + gone > 0;
    let restated = if had_rows && changes { restatement(load, conn, &merge).await? } else { Vec::new() };
    if gone > 0 {
        report.rows_deleted = execute(load.bind_window(merge.delete_gone()), conn, place).await?;
    }
    if inserted + updated > 0 {
        let statement = sqlx::query(AssertSqlSafe(merge.write_todo()))
            .bind(load.target.account)
            .bind(load.target.program)
            .bind(load.id)
            .bind(load.now)
            .persistent(false);
        execute(statement, conn, place).await?;
    }
    keep_restatement(load, conn, restated).await
}

const STEP: &str = "merge the rows";

async fn run(conn: &mut PgConnection, statement: String, place: &Place) -> Result<u64, Error> {
    execute(sqlx::query(AssertSqlSafe(statement)).persistent(false), conn, place).await
}

async fn execute(
    statement: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
    conn: &mut PgConnection,
    place: &Place,
) -> Result<u64, Error> {
    Ok(statement.execute(conn).await.map_err(place.database(STEP))?.rows_affected())
}

/// Puts all but the first of the records with one key into `rejected_row`, a few at a time, as they stand in the file.
async fn reject_duplicates(load: &Load<'_>, conn: &mut PgConnection) -> Result<(), Error> {
    let mut behind = 0_i64;
    loop {
        let found: Vec<(i64, i64, i64, i64)> = sqlx::query_as(NEXT_DUPLICATES)
            .bind(behind)
            .fetch_all(&mut *conn)
            .await
            .map_err(load.place.database(STEP))?;
        let Some(last) = found.last() else { return Ok(()) };
        behind = last.0;
        let lines: Vec<i64> = found.iter().map(|duplicate| duplicate.0).collect();
        let reasons: Vec<String> =
            found.iter().map(|(_, first_line, ..)| format!("duplicate key (line {first_line})")).collect();
        let path = load.place.file.clone();
        let raws = tokio::task::spawn_blocking(move || raw_records(path, &found)).await;
        let raws = copy::finished(raws).map_err(load.place.file())?;
        sqlx::query!(
            r#"
            insert into impact_mirror.rejected_row (load_id, line, reason, raw)
            select $1, line, reason, raw
            from unnest($2::bigint[], $3::text[], $4::text[]) as duplicate (line, reason, raw)
            "#,
            load.id,
            &lines,
            &reasons,
            &raws,
        )
        .execute(&mut *conn)
        .await
        .map_err(load.place.database(STEP))?;
    }
}

fn raw_records(path: PathBuf, duplicates: &[(i64, i64, i64, i64)]) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    duplicates
        .iter()
        .map(|&(_, _, offset, length)| {
            let mut raw = vec![0; usize::try_from(length).unwrap_or(MAX_RAW).min(MAX_RAW)];
            file.seek(SeekFrom::Start(offset.unsigned_abs()))?;
            file.read_exact(&mut raw)?;
            Ok(readable(&raw, MAX_RAW))
        })
        .collect()
}

/// A number column that the load changes.
struct Restated {
    column: String,
    rows_changed: i64,
    sum_before: Option<String>,
}

/// What is about to change in the window's numbers, taken down before it does.
async fn restatement(load: &Load<'_>, conn: &mut PgConnection, merge: &Merge<'_>) -> Result<Vec<Restated>, Error> {
    if merge.numbers().is_empty() {
        return Ok(Vec::new());
    }
    let (written, gone, sums): (Vec<i64>, Vec<i64>, Vec<Option<String>>) =
        sqlx::query_as(AssertSqlSafe(merge.restated()))
            .persistent(false)
            .fetch_one(conn)
            .await
            .map_err(load.place.database(STEP))?;
    let columns = merge.numbers().into_iter().zip(written).zip(gone).zip(sums);
    Ok(columns
        .map(|(((column, written), gone), sum_before)| Restated {
            column: column.to_owned(),
            rows_changed: written + gone,
            sum_before,
        })
        .filter(|restated| restated.rows_changed > 0)
        .collect())
}

async fn keep_restatement(load: &Load<'_>, conn: &mut PgConnection, restated: Vec<Restated>) -> Result<(), Error> {
    if restated.is_empty() {
        return Ok(());
    }
    let columns: Vec<&str> = restated.iter().map(|restated| restated.column.as_str()).collect();
    let row = load
        .bind_window(load.table.window_sums(&columns))
        .fetch_one(&mut *conn)
        .await
        .map_err(load.place.database(STEP))?;
    let sums_after: Vec<Option<String>> = sqlx::Row::try_get(&row, 0).map_err(load.place.database(STEP))?;
    let names: Vec<String> = restated.iter().map(|restated| restated.column.clone()).collect();
    let rows_changed: Vec<i64> = restated.iter().map(|restated| restated.rows_changed).collect();
    let sums_before: Vec<Option<String>> = restated.iter().map(|restated| restated.sum_before.clone()).collect();
    sqlx::query!(
        r#"
        insert into impact_mirror.restated_column (load_id, column_name, rows_changed, sum_before, sum_after)
        select $1, column_name, rows_changed, sum_before::numeric, sum_after::numeric
        from unnest($2::text[], $3::bigint[], $4::text[], $5::text[])
            as restated (column_name, rows_changed, sum_before, sum_after)
        "#,
        load.id,
        &names,
        &rows_changed,
        &sums_before as &[Option<String>],
        &sums_after as &[Option<String>],
    )
    .execute(conn)
    .await
    .map_err(load.place.database(STEP))?;
    Ok(())
}
