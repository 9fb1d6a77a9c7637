//! Looks into a mirrored table for people, and makes it forget what it knows of its rows.

use sqlx::{AssertSqlSafe, PgConnection};

use super::catalog;
use super::error::{Error, Place};
use super::header::folded;
use super::layout::StandingColumn;
use super::table::Table;
use crate::column::ColumnKind;
use crate::export::{ExportName, Window};

/// How many rows are shown at most.
pub const MAX_ROWS: usize = 10;

/// What a row is looked up by: a column, by its name in the table or in the file, and its value as text.
pub type Condition = (String, String);

/// A row as text: column and value, in the order of the table.
pub type Row = Vec<(String, Option<String>)>;

/// Why no row was found.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// Nothing was loaded into it yet.
    #[error(
        "export {0} has no table yet: its first load makes it; `impact-mirror status --export {0}` says what that waits for"
    )]
    NoTable(ExportName),
    /// A column that the table has not.
    #[error("the table has no column {column}; it has {known}")]
    NoColumn {
        /// Which.
        column: String,
        /// The columns that there are.
        known: String,
    },
    /// Postgres refused or failed.
    #[error("cannot look for the row")]
    Database(#[source] sqlx::Error),
    /// The table cannot be read.
    #[error(transparent)]
    Table(#[from] Error),
}

impl LookupError {
    /// Whether a value does not fit its column, so that no row can have it.
    pub fn is_misfit(&self) -> bool {
        let Self::Database(error) = self else { return false };
        // Class 22: data exceptions.
        error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code.starts_with("22"))
    }
}

/// The first rows of an export's table that fulfil all conditions, within some days where given.
pub async fn find_rows(
    conn: &mut PgConnection,
    schema: &str,
    export: &ExportName,
    conditions: &[Condition],
    days: Option<Window>,
) -> Result<Vec<Row>, LookupError> {
    let table = Table::new(schema, export);
    let place = Place { export: export.clone(), file: "the table".into() };
    let standing = catalog::read(conn, &table, &place).await?;
    if !standing.exists {
        return Err(LookupError::NoTable(export.clone()));
    }
    let lineage = [
        ("_account", ColumnKind::Text),
        ("_program", ColumnKind::Text),
        ("_day", ColumnKind::Date),
        ("_load_id", ColumnKind::Bigint),
        ("_line", ColumnKind::Bigint),
    ];
    let mut columns = Vec::new();
    for (name, _) in conditions {
        let of_file = standing.columns.iter().filter(|column| column.in_table);
        let named = of_file.clone().find(|column| column.name == *name);
        let of_lineage = || lineage.into_iter().find(|(column, _)| column == name);
        let in_file = || of_file.clone().find(|column| folded(&column.source) == folded(name));
        let found = named.map(named_kind).or_else(of_lineage).or_else(|| in_file().map(named_kind));
        columns.push(found.ok_or_else(|| LookupError::NoColumn {
            column: name.clone(),
            known: of_file.map(|column| column.name.as_str()).collect::<Vec<_>>().join(", "),
        })?);
    }
    let statement = table.find_rows(&columns, days, MAX_ROWS);
    let mut query = sqlx::query_as::<_, (i64, String, Option<String>)>(AssertSqlSafe(statement)).persistent(false);
    for (_, value) in conditions {
        query = query.bind(value);
    }
    let values = query.fetch_all(conn).await.map_err(LookupError::Database)?;
    let mut rows: Vec<Row> = Vec::new();
    for (number, column, value) in values {
        if usize::try_from(number).is_ok_and(|number| number > rows.len()) {
            rows.push(Vec::new());
        }
        if let Some(row) = rows.last_mut() {
            row.push((column, value));
        }
    }
    Ok(rows)
}

fn named_kind(column: &StandingColumn) -> (&str, ColumnKind) {
    (&column.name, column.kind)
}
