//! A job's whole story: what was asked, what it cost, and what its load came to. Its history is in `status`.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use super::{Error, failed};
use crate::job::JobId;

/// What is told of a job besides its line and its history.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Story {
    /// What was asked.
    pub request: Value,
    /// The calls that were charged for it, as far as the ledger remembers.
    pub calls: Vec<Call>,
    /// Its load.
    pub load: Option<Load>,
    /// What that changed in columns of numbers.
    pub restatement: Vec<Restated>,
}

/// A call that was charged.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Call {
    /// When.
    pub at: DateTime<Utc>,
    /// What was called.
    pub call: String,
    /// Which bucket paid.
    pub bucket: String,
    /// How much.
    pub cost: i32,
}

/// What a load came to.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Load {
    /// Its id.
    pub id: i64,
    /// When the file was begun to be fetched.
    pub started_at: DateTime<Utc>,
    /// When it was committed.
    pub committed_at: DateTime<Utc>,
    /// The size of the file.
    pub file_bytes: i64,
    /// Records in it.
    pub rows_read: i64,
    /// New in the table.
    pub rows_inserted: i64,
    /// Changed in the table.
    pub rows_updated: i64,
    /// Gone from the window.
    pub rows_deleted: i64,
    /// As they were.
    pub rows_unchanged: i64,
    /// Kept aside.
    pub rows_rejected: i64,
    /// Where the file is in the archive.
    pub archive_key: Option<String>,
}

/// A column of numbers that a load changed.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Restated {
    /// Which.
    pub column_name: String,
    /// In how many rows.
    pub rows_changed: i64,
    /// Its sum over the window before.
    pub sum_before: Option<String>,
    /// Its sum over the window after.
    pub sum_after: Option<String>,
}

/// The story of a job that there is.
pub async fn read(conn: &mut PgConnection, id: JobId) -> Result<Story, Error> {
    let request = sqlx::query_scalar!("select request from impact_mirror.job where id = $1", id.0)
        .fetch_one(&mut *conn)
        .await
        .map_err(failed("read what a job asks"))?;
    let calls = sqlx::query_as!(
        Call,
        "select at, call, bucket, cost from impact_mirror.charge where job_id = $1 order by id",
        id.0,
    )
    .fetch_all(&mut *conn)
    .await
    .map_err(failed("read a job's calls"))?;
    let load = sqlx::query_as!(
        Load,
        r#"
        select l.id, l.started_at, l.committed_at, l.file_bytes, l.rows_read, l.rows_inserted, l.rows_updated, l.rows_deleted,
               l.rows_unchanged, l.rows_rejected, l.archive_key
        from impact_mirror.load l
        join impact_mirror.job j on j.load_id = l.id
        where j.id = $1
        "#,
        id.0,
    )
    .fetch_optional(&mut *conn)
    .await
    .map_err(failed("read a job's load"))?;
    let restatement = sqlx::query_as!(
        Restated,
        r#"
        select r.column_name, r.rows_changed, r.sum_before::text, r.sum_after::text
        from impact_mirror.restated_column r
        join impact_mirror.job j on j.load_id = r.load_id
        where j.id = $1 and r.rows_changed > 0
        order by r.column_name
        "#,
        id.0,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read what a load changed"))?;
    Ok(Story { request, calls, load, restatement })
}
