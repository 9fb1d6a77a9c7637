//! Loads a spooled result file into its mirrored table: typed columns, lineage, rejected rows and what was restated.
//!
//! It works inside the caller's transaction and commits nothing, but for new columns and wider ones, which are made before. Where
//! a window is new the file is copied straight into the mirrored table; where it is not, hashes of records and rows are compared here, the records that differ are read a
//! second time, and only they are written. A value that does not fit its column makes us go back to a savepoint, look
//! through the whole file, change the column and begin again. Memory does not grow with the file.

mod added;
mod catalog;
mod columns;
mod compare;
mod copy;
mod csv;
mod ddl;
mod dealt;
mod diff;
mod emptied;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod header;
pub mod history;
mod identity;
mod json;
mod layout;
mod load;
mod lookup;
mod merge;
pub mod partitions;
mod pass;
pub mod publication;
mod records;
mod rejects;
mod restated;
mod rollup;
mod rows;
mod run;
mod sides;
mod survey;
mod table;
mod time;
mod value;
pub mod views;
mod widen;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use sqlx::PgConnection;

pub use compare::{Comparison, compare};
pub use error::{ColumnRole, Error};
pub use json::NotAResult;
pub use lookup::{Condition, LookupError, MAX_ROWS, Row, find_rows};
pub use widen::Widening;

use crate::account::AccountName;
use crate::column::{ColumnKind, OnTypeConflict, Partition};
use crate::config::Distribution;
use crate::export::{ExportName, LockRule, Program, ResultFormat, Window};

/// Where the rows of a file belong, and what is known of its columns.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The schema of the mirrored tables.
    pub schema: &'a str,
    /// The export; its table has the same name.
    pub export: &'a ExportName,
    /// Whose data it is.
    pub account: &'a AccountName,
    /// The program that the export was narrowed to.
    pub program: &'a Program,
    /// The days that the export was asked for.
    pub window: Window,
    /// The zone of the account: times without an offset are in it, and days are counted in it.
    pub time_zone: Tz,
    /// The columns, by their source names, that tell the rows of an account apart; empty for none.
    pub key: &'a [String],
    /// The column, by its source name, that says which day a row belongs to.
    pub date_column: Option<&'a str>,
    /// Types by source name, in any letter case, from the user or the catalogue.
    pub configured: &'a BTreeMap<String, ColumnKind>,
    /// Which of these, by source name in any letter case, the user gave.
    pub typed_by_user: &'a BTreeSet<String>,
    /// Types by source name from the report's metadata.
    pub metadata: &'a BTreeMap<String, ColumnKind>,
    /// What to do with a value that does not fit its column.
    pub on_type_conflict: OnTypeConflict,
    /// How the table is partitioned.
    pub partition: Partition,
    /// Whether versions of rows are kept that a load replaces or deletes.
    pub history: bool,
    /// How columns of a table with rows get another type.
    pub widens: Widens,
    /// Whether the table is one of a cluster, distributed by account.
    pub distribution: Distribution,
}

/// How columns of a table with rows get another type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Widens {
    /// Ahead of the load, where possible: it stops with [`Error::Narrow`], and is to be repeated after [`widen`]. The table is read
    /// as ever meanwhile.
    Before,
    /// By the load itself, which keeps readers from the table until it commits.
    Within,
}

/// What [`widen`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Widened {
    /// A line for each column that got another type.
    pub table_changes: Vec<String>,
    /// What the load has to write: all rows, where a column of values became one of texts, which are not those of the file.
    pub writes: Writes,
}

/// What a load did. `rows_read` is the sum of inserted, updated, unchanged and rejected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Records in the file, good and bad.
    pub rows_read: u64,
    /// Rows that were not there before.
    pub rows_inserted: u64,
    /// Rows of a known key that differed.
    pub rows_updated: u64,
    /// Rows that the window no longer has.
    pub rows_deleted: u64,
    /// Rows that stood there already and were not touched.
    pub rows_unchanged: u64,
    /// Records that are in `rejected_row` and not in the table.
    pub rows_rejected: u64,
    /// Rows dated outside the window, kept under its nearest day.
    pub rows_outside: u64,
    /// A rejected row might be a new version of any row of the window, so that none was deleted.
    pub kept_deletions: bool,
    /// The rows now standing under each day of the window.
    pub rows_per_day: BTreeMap<NaiveDate, u64>,
    /// Days of the window with rows that this load wrote.
    pub days_written: BTreeSet<NaiveDate>,
    /// What was done to the table, a line each.
    pub table_changes: Vec<String>,
}

impl Target<'_> {
    /// A hash over all that decides how a file becomes rows, but for the window: the same file under another hash is
    /// worth loading again.
    pub fn hash(&self) -> uuid::Uuid {
        let words = format!(
            "{:?}",
            (self.schema, self.time_zone.name(), self.key, self.date_column, self.configured, self.on_type_conflict)
        );
        uuid::Uuid::from_u128(xxhash_rust::xxh3::xxh3_128(words.as_bytes()))
    }
}

/// Whether tables can be distributed here: the database is the coordinator of a Citus cluster.
///
/// # Errors
///
/// Postgres does not answer.
pub async fn distributes(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (select 1 from pg_proc where proname = 'create_distributed_table') as "distributes!""#
    )
    .fetch_one(conn)
    .await
}

/// How many rows stand in the target's window; `None` where there is no table.
pub async fn standing_rows(conn: &mut PgConnection, target: &Target<'_>) -> Result<Option<u64>, Error> {
    load::Load::new(Path::new(""), ResultFormat::Csv, target, 0, DateTime::UNIX_EPOCH).standing_rows(conn).await
}

/// The days of the target's window whose rows are all locked at `as_of`, by what `rule` knows. A day without rows is not
/// among them, nor is any where the table has no status.
pub async fn locked_days(
    conn: &mut PgConnection,
    target: &Target<'_>,
    rule: &LockRule,
    as_of: DateTime<Utc>,
) -> Result<BTreeSet<NaiveDate>, Error> {
    load::Load::new(Path::new(""), ResultFormat::Csv, target, 0, DateTime::UNIX_EPOCH)
        .locked_days(conn, rule, as_of)
        .await
}

/// Adds the columns to the mirrored table that a file brings, and commits them; says what was added, a line each. To be called
/// before the load of the file begins, with the same `now`: a load that has to add them itself keeps readers from the table until
/// it commits.
pub async fn add_columns(
    conn: &mut PgConnection,
    file: &Path,
    format: ResultFormat,
    target: &Target<'_>,
    now: DateTime<Utc>,
) -> Result<Vec<String>, Error> {
    added::add_columns(load::Load::new(file, format, target, 0, now), conn).await
}

/// Gives columns the types that a load of the file found wanting, and commits that. Fails where the table cannot be locked for a
/// moment within ten minutes; nothing is changed then.
pub async fn widen(
    conn: &mut PgConnection,
    file: &Path,
    format: ResultFormat,
    target: &Target<'_>,
    widening: &Widening,
    now: DateTime<Utc>,
) -> Result<Widened, Error> {
    widen::widen(load::Load::new(file, format, target, 0, now), conn, widening).await
}

/// Loads one spooled file into its mirrored table, for the load `load_id`, which exists.
///
/// `conn` has a transaction open, and after an error that transaction is to be rolled back. If the future is dropped half
/// way, the connection may still be in the middle of a copy: close it instead of using it again.
pub async fn load(
    conn: &mut PgConnection,
    file: &Path,
    format: ResultFormat,
    target: &Target<'_>,
    load_id: i64,
    now: DateTime<Utc>,
    writes: Writes,
) -> Result<Report, Error> {
    let load = load::Load { writes, ..load::Load::new(file, format, target, load_id, now) };
    let report = load.clone().run(conn).await?;
    let has_written = report.rows_inserted + report.rows_updated + report.rows_deleted > 0;
    if has_written || !report.table_changes.is_empty() {
        rollup::follow(&load, conn).await?;
    }
    Ok(report)
}

/// Which rows of a file a load writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Writes {
    /// Those that do not stand as they are.
    #[default]
    Differing,
    /// All: their texts may be as they were, but not the types that they are read with.
    All,
}
