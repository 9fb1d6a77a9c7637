//! What can keep a file from being loaded. A message says where: export, file, line, column; never what a cell holds.

use std::io;
use std::path::PathBuf;

use super::json::NotAResult;
use super::widen::Widening;
use crate::export::ExportName;
use crate::retry::{ErrorKind, is_disk_full};

/// How many characters of a wrong header a message shows.
const SHOWN_CHARS: usize = 80;

/// Why a file was not loaded at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file lacks a column without which its rows cannot be placed.
    #[error(
        "{file} of export {export} has no column {column:?}, which is its {role}: correct exports.{export}.{}, or have the \
         report give that column at impact.com",
        role.setting(),
        file = file.display()
    )]
    MissingColumn {
        /// Whose file.
        export: ExportName,
        /// Which file.
        file: PathBuf,
        /// The column as the configuration names it.
        column: String,
        /// What the column is for.
        role: ColumnRole,
    },
    /// None of its columns is one that the export is known to have: some other text, most likely an error message.
    #[error(
        "{file} of export {export} is not its result, for it has none of its columns; it begins {head:?}. Should the export \
         have changed them all, name one under exports.{export}.types",
        file = file.display()
    )]
    UnknownColumns {
        /// Whose file.
        export: ExportName,
        /// Which file.
        file: PathBuf,
        /// The beginning of its header.
        head: String,
    },
    /// The first line is not a header.
    #[error("line {line} of {file} of export {export} is not a header: {problem}", file = file.display())]
    Header {
        /// Whose file.
        export: ExportName,
        /// Which file.
        file: PathBuf,
        /// Where the header begins.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// It is not the JSON of a result.
    #[error("{file} of export {export} is not the JSON of a result", file = file.display())]
    NotAResult {
        /// Whose file.
        export: ExportName,
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        source: NotAResult,
    },
    /// The spooled file, or what was set aside while reading it, could not be read or written.
    #[error("cannot read {file} of export {export}", file = file.display())]
    File {
        /// Whose file.
        export: ExportName,
        /// Which file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The disk with the spool is too full for what is set aside while the file is read.
    #[error(
        "no room left in {dir} to sort the rows of export {export}; free some, or name a larger one in spool.dir",
        dir = dir.display()
    )]
    NoRoom {
        /// Whose rows.
        export: ExportName,
        /// The directory of the file.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A column of the mirrored table has been given a type that the loader does not write.
    #[error(
        "column {column} of the mirrored table of export {export} is {found}, which is none of its types: give it one of boolean, \
        bigint, numeric, date, timestamptz and text (alter table … alter column … type …)"
    )]
    ForeignType {
        /// Whose table.
        export: ExportName,
        /// Which column.
        column: String,
        /// Its type in Postgres.
        found: String,
    },
    /// The table is partitioned and should not be, or the reverse.
    #[error("{}", partitioning(export, table, *is_partitioned))]
    Partitioning {
        /// Whose table.
        export: ExportName,
        /// Which.
        table: String,
        /// What it is now.
        is_partitioned: bool,
    },
    /// Something else has the name of what keeps or shows superseded versions.
    #[error(
        "{name} is there and does not keep or show the versions of export {export}: rename or drop it, or set \
         exports.{export}.history = false"
    )]
    NameTaken {
        /// Whose history.
        export: ExportName,
        /// What is there, quoted.
        name: String,
    },
    /// A column has to be wider for the file; [`super::widen`] makes it so.
    #[error("a column of export {export} is to be widened before the file is loaded")]
    Narrow {
        /// Whose table.
        export: ExportName,
        /// What the file needs.
        widening: Widening,
    },
    /// The table changes under us again and again.
    #[error("the mirrored table of export {export} kept changing while {file} was loaded; end what changes it", file = file.display())]
    Unsettled {
        /// Whose table.
        export: ExportName,
        /// Which file.
        file: PathBuf,
    },
    /// Postgres refused or failed.
    #[error("cannot {step} for {file} of export {export}", file = file.display())]
    Database {
        /// Whose file.
        export: ExportName,
        /// Which file.
        file: PathBuf,
        /// What was being done.
        step: &'static str,
        /// What Postgres says.
        source: sqlx::Error,
    },
}

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnRole {
    /// It is part of the key.
    Key,
    /// It says which day a row belongs to.
    Date,
}

impl ColumnRole {
    /// The setting of an export that names it.
    const fn setting(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Date => "date_column",
        }
    }
}

impl std::fmt::Display for ColumnRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Date => "date column",
        })
    }
}

impl Error {
    /// The class of the failure, on which the retry policy hangs.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::MissingColumn { .. }
            | Self::UnknownColumns { .. }
            | Self::Header { .. }
            | Self::NotAResult { .. } => ErrorKind::BadFile,
            Self::File { .. } => ErrorKind::Transient,
            Self::NoRoom { .. } => ErrorKind::NoRoom,
            Self::Database { source, .. } => ErrorKind::from(source),
            Self::ForeignType { .. }
            | Self::Partitioning { .. }
            | Self::NameTaken { .. }
            | Self::Narrow { .. }
            | Self::Unsettled { .. } => ErrorKind::Database,
        }
    }
}

/// What is wrong with how a table is partitioned, and what mends it.
fn partitioning(export: &ExportName, table: &str, is_partitioned: bool) -> String {
    let setting = format!("exports.{export}.partition");
    if is_partitioned {
        format!("table {table} is partitioned, but {setting} is \"none\": set it to \"month\"")
    } else {
        format!(
            "table {table} is not partitioned, but {setting} is \"month\": set it to \"none\", or move the rows into a \
             partitioned table as the README shows under Partitions"
        )
    }
}

/// Whether Postgres found a key that stands there already.
pub(super) fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

/// What of a load an error has to say; makes errors at one place.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub export: ExportName,
    pub file: PathBuf,
}

impl Place {
    /// For what is done to a table when there is no file.
    pub fn without_file(export: &ExportName) -> Self {
        Self { export: export.clone(), file: PathBuf::from("the table") }
    }

    pub fn database(&self, step: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
        let Self { export, file } = self.clone();
        move |source| Error::Database { export, file, step, source }
    }

    pub fn file(&self) -> impl FnOnce(io::Error) -> Error {
        let Self { export, file } = self.clone();
        move |source| {
            if is_disk_full(&source) {
                return Error::NoRoom { export, dir: file.parent().unwrap_or(&file).to_owned(), source };
            }
            Error::File { export, file, source }
        }
    }

    pub fn no_result(&self, source: NotAResult) -> Error {
        Error::NotAResult { export: self.export.clone(), file: self.file.clone(), source }
    }

    pub fn unknown_columns(&self, sources: &[String]) -> Error {
        let head = sources.join(",").chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect();
        Error::UnknownColumns { export: self.export.clone(), file: self.file.clone(), head }
    }

    pub fn header(&self, line: u64, problem: impl Into<String>) -> Error {
        Error::Header { export: self.export.clone(), file: self.file.clone(), line, problem: problem.into() }
    }
}
