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

use super::copy;
use super::dealt::{Dealt, PARTS};
use super::diff::{Differences, Duplicate, TableSide, Terms};
use super::error::{Error, Place};
use super::history::Keeper;
use super::layout::Layout;
use super::load::Load;
use super::pass::Counts;
use super::rejects::{MAX_RAW, Rejects, beside, readable};
use super::restated::{self, Figures};
use super::rows::{Destination, Rows, Rules};
use super::sides::{self, Read as FileRead};
use super::table::merge::{COPY_GONE, DROP_TEMPORARY, Merge};
use super::value::of_pg_day;
use super::{Report, Writes};
use crate::thread::finished;

/// What a file and its window came to.
pub(super) enum Compared {
    Whole(Counts, Box<Rejects>, Box<Differences>),
    /// A value calls for another type.
    TypeConflict,
}

/// Compares the file with the rows of the window, where it `had_rows`.
pub(super) async fn compare(
    load: &Load<'_>,
    conn: &mut PgConnection,
    layout: &Layout,
    file: Staged,
    had_rows: bool,
) -> Result<Compared, Error> {
    let keyed = !layout.key.is_empty();
    if keyed && (layout.by_month || load.target.history) {
        own_keys(load, conn).await?;
    }
    let terms = Terms { keyed, keeps_rows: false, writes_all: load.writes == Writes::All };
    find(load, conn, layout, file, had_rows, terms).await
}

/// Compares on these terms. Rejected records whose key cannot be read keep all rows that no record matches.
pub(super) async fn find(
    load: &Load<'_>,
    conn: &mut PgConnection,
    layout: &Layout,
    file: Staged,
    had_rows: bool,
    terms: Terms,
) -> Result<Compared, Error> {
    let merge = Merge::new(&load.table, layout);
    let standing = if had_rows {
        let (account, program) = (load.target.account.as_str(), load.target.program.as_str());
        let statement = merge.copy_window(account, program, load.target.window);
        sides::window(load, conn, &statement, &merge.key_kinds()).await?
    } else {
        TableSide::new(&beside(&load.place.file, "standing"))
    };
    let FileRead::Whole(counts, mut rejects, file) = file.read(&load.place).await? else {
        return Ok(Compared::TypeConflict);
    };
    let terms = Terms { keeps_rows: rejects.without_key > 0, ..terms };
    let path = beside(&load.place.file, "different");
    let kept = rejects.take_kept();
    let found = tokio::task::spawn_blocking(move || Differences::find(file, kept, standing, terms, &path));
    let found = finished(found).await.map_err(load.place.file())?;
    Ok(Compared::Whole(counts, rejects, Box::new(found)))
}

/// A file that was read, or is being read.
pub(super) enum Staged {
    Read(Box<FileRead>),
    Reading(sides::Reading),
}

impl Staged {
    async fn read(self, place: &Place) -> Result<FileRead, Error> {
        match self {
            Self::Read(read) => Ok(*read),
            Self::Reading(reading) => reading.end(place).await,
        }
    }
}

/// Writes the differences, and completes the report.
pub(super) async fn merge(
    load: &Load<'_>,
    conn: &mut PgConnection,
    layout: &Layout,
    mut differences: Differences,
    keeps_rows: bool,
    had_rows: bool,
    report: &mut Report,
) -> Result<(), Error> {
    let duplicates = std::mem::take(&mut differences.duplicates);
    report.rows_rejected += duplicates.count();
    reject_duplicates(load, conn, duplicates).await?;

    report.kept_deletions = had_rows && keeps_rows;
    report.rows_inserted = differences.new;
    report.rows_updated = differences.changes.count() - differences.new;
    report.rows_unchanged = report.rows_read - report.rows_rejected - differences.changes.count();
    let days = std::mem::take(&mut differences.days).into_iter();
    let days = days.filter_map(|(day, (rows, is_written))| Some((of_pg_day(day)?, rows, is_written)));
    load.count_days(days.collect(), report);
    if differences.changes.count() + differences.gone.count() > 0 {
        write(load, conn, layout, differences, had_rows, report).await?;
    }
    Ok(())
}

async fn write(
    load: &Load<'_>,
    conn: &mut PgConnection,
    layout: &Layout,
    differences: Differences,
    had_rows: bool,
    report: &mut Report,
) -> Result<(), Error> {
    let place = &load.place;
    let merge = Merge::new(&load.table, layout);
    let keyed = !layout.key.is_empty();
    let Differences { changes, gone, .. } = differences;
    let (brings_rows, loses_rows) = (changes.count() > 0, gone.count() > 0);
    for statement in [DROP_TEMPORARY.to_owned(), merge.create_changed(), merge.create_gone()] {
        run(conn, statement, place).await?;
    }
    if brings_rows {
        let rows = Rows::new(Rules::new(layout, load.target), Destination::Changed);
        copy::changed(load, conn, &merge.copy_changed(), rows, changes).await?;
    }
    if loses_rows {
        copy::places(load, conn, COPY_GONE, gone).await?;
    }
    if keyed && report.rows_inserted > 0 {
        run(conn, merge.analyze_changed(), place).await?;
        let mut moved = 0;
        for statement in merge.note_moved(load.target.account.as_str()) {
            moved = run(conn, statement, place).await?;
        }
        report.rows_inserted -= moved;
        report.rows_updated += moved;
    }
    let keeper = Keeper::begin(load, conn, layout, report).await?;

    let mut figures = Figures::default();
    let counts_numbers = had_rows && !merge.numbers().is_empty();
    if counts_numbers {
        let statement = load.bind_window(load.table.window_figures(&merge.numbers()));
        let row = statement.fetch_one(&mut *conn).await.map_err(place.database(STEP))?;
        (figures.rows_before, figures.before) = sqlx::FromRow::from_row(&row).map_err(place.database(STEP))?;
    }
    if counts_numbers && brings_rows {
        (figures.changed, figures.less_by_change, figures.rows_less_by_change, figures.more, figures.rows_more) =
            ask(conn, merge.figures_of_changed(), place).await?;
    }
    if loses_rows {
        let deleted: i64;
        (deleted, figures.less_by_loss, figures.rows_less_by_loss) = match &keeper {
            Some(keeper) => keeper.delete_gone(conn, &merge).await?,
            None if load.table.is_distributed() => {
                let figures = ask(conn, merge.figures_of_gone(), place).await?;
                run(conn, merge.delete_places(), place).await?;
                figures
            }
            None => ask(conn, merge.delete_gone(None), place).await?,
        };
        report.rows_deleted = deleted.unsigned_abs();
    }
    if had_rows {
        restated::keep(load, conn, figures.restated(&merge)).await?;
    }
    if keyed && layout.by_month && report.rows_updated > 0 {
        run(conn, merge.move_known(), place).await?;
    }
    let at = keeper.as_ref().map_or(load.now, Keeper::time);
    if !keyed && report.rows_updated > 0 {
        let statement = sqlx::query(AssertSqlSafe(merge.write_known())).bind(load.id).bind(at).persistent(false);
        execute(statement, conn, place).await?;
    }
    if brings_rows {
        let statement = sqlx::query(AssertSqlSafe(merge.write_changed(load.writes)))
            .bind(load.target.account)
            .bind(load.target.program)
            .bind(load.id)
            .bind(at)
            .persistent(false);
        execute(statement, conn, place).await?;
    }
    Ok(())
}

pub(super) const STEP: &str = "merge the rows";

/// Makes this the only load that looks for keys of the account, until the transaction ends: in a partitioned table two loads could
/// bring one key under two days, and no index would keep them apart; in a history, a version that another load just wrote would be
/// missing.
pub(super) async fn own_keys(load: &Load<'_>, conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended($1, 0))", keys_of(load))
        .execute(conn)
        .await
        .map_err(load.place.database("wait for another load of the account"))?;
    Ok(())
}

/// Keeps such loads away from keys that are only added, until the transaction ends.
pub(super) async fn share_keys(load: &Load<'_>, conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query!("select pg_advisory_xact_lock_shared(hashtextextended($1, 0))", keys_of(load))
        .execute(conn)
        .await
        .map_err(load.place.database("wait for another load of the account"))?;
    Ok(())
}

fn keys_of(load: &Load<'_>) -> String {
    format!("impact_mirror keys {} {}", load.table.qualified(), load.target.account)
}

pub(super) async fn run(conn: &mut PgConnection, statement: String, place: &Place) -> Result<u64, Error> {
    execute(sqlx::query(AssertSqlSafe(statement)).persistent(false), conn, place).await
}

async fn execute(
    statement: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
    conn: &mut PgConnection,
    place: &Place,
) -> Result<u64, Error> {
    Ok(statement.execute(conn).await.map_err(place.database(STEP))?.rows_affected())
}

pub(super) async fn ask<T>(conn: &mut PgConnection, statement: String, place: &Place) -> Result<T, Error>
where
    T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
{
    sqlx::query_as(AssertSqlSafe(statement)).persistent(false).fetch_one(conn).await.map_err(place.database(STEP))
}

/// Puts all but the first of the records with one key into `rejected_row`, a few at a time, as they stand in the file.
async fn reject_duplicates(
    load: &Load<'_>,
    conn: &mut PgConnection,
    mut duplicates: Dealt<Duplicate, 4>,
) -> Result<(), Error> {
    const AT_ONCE: usize = 500;
    if duplicates.count() == 0 {
        return Ok(());
    }
    for part in 0..PARTS {
        let mut found = duplicates.take(part).map_err(load.place.file())?;
        found.sort_unstable_by_key(|duplicate| duplicate.at.line);
        for found in found.chunks(AT_ONCE) {
            reject(load, conn, found.to_vec()).await?;
        }
    }
    Ok(())
}

async fn reject(load: &Load<'_>, conn: &mut PgConnection, duplicates: Vec<Duplicate>) -> Result<(), Error> {
    let lines: Vec<i64> = duplicates.iter().map(|duplicate| duplicate.at.line.cast_signed()).collect();
    let word = load.shape.format().place();
    let reasons: Vec<String> =
        duplicates.iter().map(|duplicate| format!("duplicate key ({word} {})", duplicate.first_line)).collect();
    let path = load.place.file.clone();
    let raws = tokio::task::spawn_blocking(move || raw_records(path, &duplicates));
    let raws = finished(raws).await.map_err(load.place.file())?;
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
    .execute(conn)
    .await
    .map_err(load.place.database(STEP))?;
    Ok(())
}

fn raw_records(path: PathBuf, duplicates: &[Duplicate]) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    duplicates
        .iter()
        .map(|Duplicate { at, .. }| {
            let mut raw = vec![0; (at.length as usize).min(MAX_RAW)];
            file.seek(SeekFrom::Start(at.offset))?;
            file.read_exact(&mut raw)?;
            Ok(readable(&raw, MAX_RAW))
        })
        .collect()
}
