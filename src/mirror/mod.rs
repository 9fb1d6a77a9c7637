//! stub
use crate::account::AccountName;
use crate::column::{ColumnKind, OnTypeConflict};
use crate::export::{ExportName, Program, Window};
use crate::retry::ErrorKind;
use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use sqlx::PgConnection;
use std::collections::BTreeMap;
use std::path::Path;
/// x
pub struct Target<'a> {
    pub schema: &'a str,
    pub export: &'a ExportName,
    pub account: &'a AccountName,
    pub program: &'a Program,
    pub window: Window,
    pub time_zone: Tz,
    pub key: &'a [String],
    pub date_column: Option<&'a str>,
    pub configured: &'a BTreeMap<String, ColumnKind>,
    pub metadata: &'a BTreeMap<String, ColumnKind>,
    pub on_type_conflict: OnTypeConflict,
}
/// x
pub struct Report {
    pub rows_read: u64,
    pub rows_inserted: u64,
    pub rows_updated: u64,
    pub rows_deleted: u64,
    pub rows_unchanged: u64,
    pub rows_rejected: u64,
    pub rows_outside: u64,
    pub kept_deletions: bool,
    pub rows_per_day: BTreeMap<NaiveDate, u64>,
    pub table_changes: Vec<String>,
}
/// x
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct Error;
impl Error {
    /// x
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::BadFile
    }
}
/// x
pub async fn load(
    _conn: &mut PgConnection,
    _file: &Path,
    _target: &Target<'_>,
    _load_id: i64,
    _now: DateTime<Utc>,
) -> Result<Report, Error> {
    Err(Error)
}
