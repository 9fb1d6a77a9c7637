//! A file of no bytes: an empty window of a table whose columns nobody names.

use sqlx::PgConnection;

use super::error::Error;
use super::header::folded;
use super::layout::Standing;
use super::load::Load;
use super::restated::{self, Restated};
use super::{Report, catalog, history};
use crate::column::ColumnKind;

/// Empties the window. No table is made of such a file.
pub(super) async fn empty_window(load: &Load<'_>, conn: &mut PgConnection) -> Result<Report, Error> {
    let mut report = Report::default();
    let standing = catalog::read(conn, &load.table, &load.place).await?;
    if !standing.exists {
        load.count_days(Vec::new(), &mut report);
        return Ok(report);
    }
    report.table_changes = history::begin(load, conn, &standing).await?;
    let restated = restatement(load, conn, &standing).await?;
    report.rows_deleted = if load.target.history {
        history::empty_window(load, conn, &standing).await?
    } else {
        let deleted = load.bind_window(load.table.delete_window()).execute(&mut *conn).await;
        deleted.map_err(load.place.database("empty the window"))?.rows_affected()
    };
    restated::keep(load, conn, restated).await?;
    load.count_days(Vec::new(), &mut report);
    Ok(report)
}

/// The numbers of the window that are about to go.
async fn restatement(load: &Load<'_>, conn: &mut PgConnection, standing: &Standing) -> Result<Vec<Restated>, Error> {
    let is_key = |source: &str| load.target.key.iter().any(|key| folded(key) == folded(source));
    let numbers: Vec<&str> = standing
        .columns
        .iter()
        .filter(|column| column.in_table && matches!(column.kind, ColumnKind::Bigint | ColumnKind::Numeric))
        .filter(|column| !is_key(&column.source))
        .map(|column| column.name.as_str())
        .collect();
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let step = "add up what the window loses";
    let row = load
        .bind_window(load.table.window_figures(&numbers))
        .fetch_one(conn)
        .await
        .map_err(load.place.database(step))?;
    let counts: Vec<i64> = sqlx::Row::try_get(&row, 0).map_err(load.place.database(step))?;
    let sums: Vec<Option<String>> = sqlx::Row::try_get(&row, 1).map_err(load.place.database(step))?;
    let restated = numbers.into_iter().zip(counts).zip(sums).map(|((column, rows_changed), sum_before)| Restated {
        column: column.to_owned(),
        rows_changed,
        sum_before,
        less: [None, None],
        more: None,
        has_values: false,
    });
    Ok(restated.filter(|restated| restated.rows_changed > 0).collect())
}
