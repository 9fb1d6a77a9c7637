//! Holds a file against the window that it belongs to, row by row, and writes to no table but temporary ones.
//!
//! Records and rows are matched as by a load; then their values are compared, and not the hashes alone: those tell what impact.com
//! gave, and would not tell that somebody changed a row afterwards.

use std::path::Path;

use chrono::DateTime;
use sqlx::{AssertSqlSafe, PgConnection};

use super::diff::Terms;
use super::error::Error;
use super::header::folded;
use super::layout::{Layout, Standing, Surveyed};
use super::load::Load;
use super::merge::{self, Compared, STEP, Staged, run};
use super::pass::OnConflict;
use super::rows::{Destination, Rows, Rules};
use super::sides::Read;
use super::table::compare::Compare;
use super::table::merge::{COPY_GONE, DROP_TEMPORARY, Merge};
use super::{Target, catalog, copy};
use crate::column::ColumnKind;
use crate::export::ResultFormat;

/// What a file and the table came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    /// Records in the file, good and bad.
    pub rows_in_file: u64,
    /// Rows that stand in the window.
    pub rows_in_table: u64,
    /// Rows with the same values on both sides.
    pub rows_equal: u64,
    /// Rows that the file gives otherwise than the file that they were loaded from.
    pub rows_differing: u64,
    /// Rows whose values in the table are not those that they were loaded with.
    pub rows_altered: u64,
    /// Records without a row.
    pub rows_only_in_file: u64,
    /// Rows without a record.
    pub rows_only_in_table: u64,
    /// Records that a load would reject.
    pub rows_rejected: u64,
    /// Records dated outside the window.
    pub rows_outside: u64,
    /// Columns of the file that the table lacks.
    pub new_columns: Vec<String>,
    /// Some rows that are not equal, as JSON.
    pub samples: Vec<serde_json::Value>,
}

/// Compares a spooled file with its window; `samples` is how many rows of each kind are shown.
///
/// `conn` has a transaction open that sees one moment all along (repeatable read), and that the caller rolls back.
pub async fn compare(
    conn: &mut PgConnection,
    file: &Path,
    format: ResultFormat,
    target: &Target<'_>,
    samples: i64,
) -> Result<Comparison, Error> {
    let mut load = Load::new(file, format, target, 0, DateTime::UNIX_EPOCH);
    let standing = catalog::read(conn, &load.table, &load.place).await?;
    let in_table = if standing.exists { load.standing_rows(conn).await?.unwrap_or_default() } else { 0 };
    let Some((sources, shape)) = load.columns().await? else {
        return Ok(Comparison { rows_in_table: in_table, rows_only_in_table: in_table, ..Comparison::default() });
    };
    load.shape = shape;
    // Values are read with the types that the table has, whatever the settings say by now.
    let known = |name: &str| standing.columns.iter().find(|column| folded(&column.source) == folded(name));
    let configured = target
        .configured
        .iter()
        .filter(|(name, kind)| known(name).is_some_and(|column| column.kind == **kind))
        .map(|(name, kind)| (name.clone(), *kind))
        .collect();
    let metadata = std::collections::BTreeMap::new();
    let target = Target { configured: &configured, metadata: &metadata, ..*target };
    let load = Load { target: &target, ..load };
    let layout = typed(load.fit_standing(&sources, &standing)?, &standing);

    let new_columns = layout.columns.iter().filter(|column| !stands(&standing, &column.name));
    let new_columns = new_columns.map(|column| column.source.clone()).collect();
    let reading = load.reading(&layout, OnConflict::Reject);
    if !standing.exists {
        let Read::Whole(counts, rejects, _) = reading.end(&load.place).await? else {
            unreachable!("a value that does not fit is rejected")
        };
        return Ok(Comparison {
            rows_in_file: counts.read,
            rows_only_in_file: counts.taken,
            rows_rejected: rejects.count,
            rows_outside: counts.outside,
            ..Comparison::default()
        });
    }
    let keyed = !layout.key.is_empty();
    // Every record is written beside the row that it matches, and what no record matches is gone.
    let terms = Terms { keyed, keeps_rows: false, writes_all: true };
    let compared = merge::find(&load, conn, &layout, Staged::Reading(reading), in_table > 0, terms).await?;
    let Compared::Whole(counts, rejects, differences) = compared else {
        unreachable!("a value that does not fit is rejected")
    };
    let mut found = Comparison {
        rows_in_file: counts.read,
        rows_in_table: in_table,
        rows_rejected: rejects.count + differences.duplicates.count(),
        rows_only_in_table: differences.gone.count(),
        rows_outside: counts.outside,
        new_columns,
        ..Comparison::default()
    };
    let place = &load.place;
    let merge = Merge::new(&load.table, &layout);
    for statement in [DROP_TEMPORARY.to_owned(), merge.create_changed(), merge.create_gone()] {
        run(conn, statement, place).await?;
    }
    let rows = Rows::new(Rules::new(&layout, &target), Destination::Changed);
    copy::changed(&load, conn, &merge.copy_changed(), rows, differences.changes).await?;
    copy::places(&load, conn, COPY_GONE, differences.gone).await?;

    let columns = standing.columns.iter().filter(|column| column.in_table).map(|column| column.name.as_str()).collect();
    let compare = Compare { table: &load.table, columns, key: layout.key_names().collect() };
    let (equal, differing, altered, only_in_file): (i64, i64, i64, i64) =
        sqlx::query_as(AssertSqlSafe(compare.count())).fetch_one(&mut *conn).await.map_err(place.database(STEP))?;
    found.rows_equal = equal.unsigned_abs();
    found.rows_differing = differing.unsigned_abs();
    found.rows_altered = altered.unsigned_abs();
    found.rows_only_in_file = only_in_file.unsigned_abs();
    if found.rows_differing + found.rows_altered + found.rows_only_in_file + found.rows_only_in_table > 0 {
        found.samples = sqlx::query_scalar(AssertSqlSafe(compare.samples()))
            .bind(samples)
            .persistent(false)
            .fetch_all(conn)
            .await
            .map_err(place.database(STEP))?;
    }
    Ok(found)
}

impl Load<'_> {
    fn fit_standing(&self, sources: &[String], standing: &Standing) -> Result<Layout, Error> {
        Layout::fit(sources, standing, self.target, &Surveyed::new(), &self.place)
    }
}

fn stands(standing: &Standing, name: &str) -> bool {
    standing.columns.iter().any(|column| column.in_table && column.name == name)
}

/// Gives every column of the file the type that it has in the table, and text where it has none.
fn typed(mut layout: Layout, standing: &Standing) -> Layout {
    for column in &mut layout.columns {
        let kind = standing.columns.iter().find(|one| one.name == column.name).map_or(ColumnKind::Text, |one| one.kind);
        column.format.kind = Some(kind);
    }
    layout
}
