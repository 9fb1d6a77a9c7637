//! What the pages of a job and of a load show: what was asked for, what came, what it changed.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;

use super::{Error, failed};
use crate::job::JobId;

/// What a job asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The bucket that it is paid from.
    pub bucket: String,
    /// The canonical request.
    pub request: serde_json::Value,
    /// The remote job that is replayed, if one is.
    pub replay_of: Option<String>,
    /// A result that impact.com made before is too old.
    pub wanted_after: DateTime<Utc>,
    /// The load, once there is one.
    pub load_id: Option<i64>,
    /// The charges that were written for it.
    pub charged: i64,
}

/// What a job asked for; none where there is no such job.
pub async fn request(conn: &mut PgConnection, id: JobId) -> Result<Option<Request>, Error> {
    sqlx::query_as!(
        Request,
        r#"
        select j.bucket, j.request, j.replay_of, j.wanted_after, j.load_id,
               (select coalesce(sum(cost), 0) from impact_mirror.charge c
                where c.job_id = j.id and c.account = j.account and c.bucket = j.bucket) as "charged!"
        from impact_mirror.job j
        where j.id = $1
        "#,
        id.0,
    )
    .fetch_optional(conn)
    .await
    .map_err(failed("read a request"))
}

/// A load.
#[derive(Debug, Clone)]
pub struct Load {
    /// Its id.
    pub id: i64,
    /// The job that brought it.
    pub job_id: i64,
    /// The export.
    pub export: String,
    /// The account.
    pub account: String,
    /// The program, or empty.
    pub program: String,
    /// The first day.
    pub from_day: NaiveDate,
    /// The last day.
    pub to_day: NaiveDate,
    /// The hash of the file.
    pub file_sha256: Vec<u8>,
    /// Its length.
    pub file_bytes: i64,
    /// Rows in the file.
    pub rows_read: i64,
    /// New rows.
    pub rows_inserted: i64,
    /// Changed rows.
    pub rows_updated: i64,
    /// Rows that went.
    pub rows_deleted: i64,
    /// Rows as they were.
    pub rows_unchanged: i64,
    /// Rows put aside.
    pub rows_rejected: i64,
    /// Rows that impact.com said it wrote.
    pub records_processed: Option<i64>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it was committed.
    pub committed_at: DateTime<Utc>,
    /// Where its file is kept.
    pub archive_key: Option<String>,
}

/// A load by its id.
pub async fn load(conn: &mut PgConnection, id: i64) -> Result<Option<Load>, Error> {
    sqlx::query_as!(
        Load,
        r#"
        select id, job_id, export, account, program, from_day, to_day, file_sha256, file_bytes, rows_read, rows_inserted,
               rows_updated, rows_deleted, rows_unchanged, rows_rejected, records_processed, started_at, committed_at, archive_key
        from impact_mirror.load
        where id = $1
        "#,
        id,
    )
    .fetch_optional(conn)
    .await
    .map_err(failed("read a load"))
}

/// What a load changed in a numeric column.
#[derive(Debug, Clone)]
pub struct Restated {
    /// The column.
    pub column_name: String,
    /// Rows in which it changed.
    pub rows_changed: i64,
    /// Its sum before, as a text.
    pub sum_before: Option<String>,
    /// Its sum after.
    pub sum_after: Option<String>,
}

/// What a load restated, the most changed column first.
pub async fn restated(conn: &mut PgConnection, load_id: i64) -> Result<Vec<Restated>, Error> {
    sqlx::query_as!(
        Restated,
        r#"
        select column_name, rows_changed, sum_before::text as sum_before, sum_after::text as sum_after
        from impact_mirror.restated_column
        where load_id = $1
        order by rows_changed desc, column_name
        "#,
        load_id,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read a restatement"))
}

/// A row that could not be loaded. Its text stays in the database: it may hold data of people.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// The line of its file.
    pub line: i64,
    /// The column that did not fit.
    pub column_name: Option<String>,
    /// Why.
    pub reason: String,
}

/// The first rejected rows of a load.
pub async fn rejected(conn: &mut PgConnection, load_id: i64, limit: i64) -> Result<Vec<Rejected>, Error> {
    sqlx::query_as!(
        Rejected,
        r#"
        select line, column_name, reason
        from impact_mirror.rejected_row
        where load_id = $1
        order by line
        limit $2
        "#,
        load_id,
        limit,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read rejected rows"))
}
