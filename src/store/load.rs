//! Loads, written in the transaction that moves the rows; the cells they fill are in `cell`.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Error, failed};
use crate::doubt::Doubt;
use crate::export::{ExportName, Window};
use crate::job::Job;

/// The file that a load reads.
#[derive(Debug, Clone, Copy)]
pub struct File {
    /// Its hash.
    pub sha256: [u8; 32],
    /// Its size.
    pub bytes: u64,
    /// A hash over the settings that decide how it is read.
    pub target_hash: Uuid,
    /// When we began to fetch it.
    pub started_at: DateTime<Utc>,
}

/// What became of the rows of a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Records in the file.
    pub read: u64,
    /// New in the table.
    pub inserted: u64,
    /// Changed in the table.
    pub updated: u64,
    /// Gone from the window.
    pub deleted: u64,
    /// In the table already.
    pub unchanged: u64,
    /// Put into `rejected_row`.
    pub rejected: u64,
    /// Dated outside the window.
    pub outside: u64,
    /// Whether deletions were left out because a rejected row's key could not be read.
    pub kept_deletions: bool,
}

/// Makes this transaction the only one that loads a job. A process that froze, or whose machine is gone, may have left
/// one open that Postgres does not know to be dead: whoever has the lease now ends it.
pub async fn enter(conn: &mut PgConnection, job: &Job) -> Result<(), Error> {
    let entered = sqlx::query!(
        r#"
        select exists (select 1 from impact_mirror.job where id = $1 and lease_token = $2) as "is_ours!",
               pg_try_advisory_xact_lock(hashtextextended('impact_mirror load', $1)) as "is_alone!"
        "#,
        job.id.0,
        job.lease,
    )
    .fetch_one(&mut *conn)
    .await
    .map_err(failed("begin to load a job"))?;
    if !entered.is_ours {
        return Err(Error::LeaseLost { job: job.id });
    }
    if entered.is_alone {
        return Ok(());
    }
    let ended = sqlx::query!(
        r#"
        select pg_terminate_backend(pid)
        from pg_locks
        where locktype = 'advisory' and granted and objsubid = 1
          and database = (select oid from pg_database where datname = current_database())
          and (classid::bigint << 32) | objid::bigint = hashtextextended('impact_mirror load', $1)
          and exists (select 1 from impact_mirror.job where id = $1 and lease_token = $2)
        "#,
        job.id.0,
        job.lease,
    )
    .fetch_all(&mut *conn)
    .await
    .map_err(failed("end an abandoned load"))?;
    tracing::warn!(ended = ended.len(), "ended a load of this job that was begun under a lease that ran out");
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('impact_mirror load', $1))", job.id.0)
        .execute(conn)
        .await
        .map_err(failed("wait for the end of an abandoned load"))?;
    Ok(())
}

/// Begins a load: its row, with counts to come.
pub async fn insert(conn: &mut PgConnection, job: &Job, file: &File) -> Result<i64, Error> {
    sqlx::query_scalar!(
        r#"
        insert into impact_mirror.load (job_id, export, account, program, from_day, to_day, file_sha256, file_bytes,
            target_hash, started_at, committed_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now())
        returning id
        "#,
        job.id.0,
        job.export.as_str(),
        job.account.as_str(),
        job.program.as_str(),
        job.window.from(),
        job.window.to(),
        file.sha256.as_slice(),
        signed(file.bytes),
        file.target_hash,
        file.started_at,
    )
    .fetch_one(conn)
    .await
    .map_err(failed("begin a load"))
}

/// Who is told of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    /// Those who listen on the channel `impact_mirror_loaded`.
    Listeners,
    /// They, and the receiver of `[downstream]`.
    Downstream,
}

/// Writes the counts of a load, how many rows impact.com `told` of, and what is doubtful about them; whoever waits for new
/// rows is told of them once the transaction commits.
pub async fn finish(
    conn: &mut PgConnection,
    load_id: i64,
    counts: &Counts,
    told: Option<u64>,
    doubts: &[Doubt],
    announce: Announce,
) -> Result<(), Error> {
    let warnings: Vec<String> = doubts.iter().map(|doubt| doubt.as_str().to_owned()).collect();
    sqlx::query!(
        r#"
        with done as (
            update impact_mirror.load
            set rows_read = $2, rows_inserted = $3, rows_updated = $4, rows_deleted = $5, rows_unchanged = $6,
                rows_rejected = $7, rows_outside = $8, kept_deletions = $9, records_processed = $10, warnings = $11,
                committed_at = clock_timestamp()
            where id = $1
            returning *
        ), said as (
            select jsonb_build_object('event', 'loaded', 'load_id', id, 'job_id', job_id, 'export', export,
                       'account', account, 'program', program, 'from', from_day, 'to', to_day,
                       'changed', rows_inserted + rows_updated + rows_deleted > 0, 'rows_inserted', rows_inserted,
                       'rows_updated', rows_updated, 'rows_deleted', rows_deleted) as body
            from done
        ), kept as (
            insert into impact_mirror.outbox (receiver, body)
            select 'downstream', body from said where $12
        )
        select pg_notify('impact_mirror_loaded', body::text) from said
        "#,
        load_id,
        signed(counts.read),
        signed(counts.inserted),
        signed(counts.updated),
        signed(counts.deleted),
        signed(counts.unchanged),
        signed(counts.rejected),
        signed(counts.outside),
        counts.kept_deletions,
        told.map(signed),
        &warnings,
        announce == Announce::Downstream,
    )
    .execute(conn)
    .await
    .map_err(failed("write the counts of a load"))?;
    Ok(())
}

/// Whether the export's table is there already.
pub async fn has_columns(conn: &mut PgConnection, export: &ExportName) -> Result<bool, Error> {
    sqlx::query_scalar!(
        r#"select exists (select 1 from impact_mirror.mirrored_column where export = $1) as "exists!""#,
        export.as_str(),
    )
    .fetch_one(conn)
    .await
    .map_err(failed("look for a table"))
}

/// A load that left the table just as loading this file again would.
#[derive(Debug, Clone)]
pub struct Same {
    /// Records in the file.
    pub rows_read: u64,
    /// Of those, rejected.
    pub rows_rejected: u64,
    /// What was doubtful about it.
    pub doubts: Vec<Doubt>,
}

impl Same {
    /// Records that became rows.
    pub fn kept(&self) -> u64 {
        self.rows_read - self.rows_rejected
    }
}

/// Finds out whether the last load of exactly this window read the same file in the same way, and nothing was loaded into
/// it since. Whether the rows still stand there is for the table to say.
pub async fn same_file(conn: &mut PgConnection, job: &Job, file: &File) -> Result<Option<Same>, Error> {
    let last = sqlx::query!(
        r#"
        select from_day, to_day, file_sha256, target_hash, rows_read, rows_rejected, warnings as "doubts: Vec<Doubt>"
        from impact_mirror.load
        where export = $1 and account = $2 and program = $3 and from_day <= $5 and to_day >= $4
        order by id desc
        limit 1
        "#,
        job.export.as_str(),
        job.account.as_str(),
        job.program.as_str(),
        job.window.from(),
        job.window.to(),
    )
    .fetch_optional(conn)
    .await
    .map_err(failed("look for the last load"))?;
    Ok(last
        .filter(|last| Window::new(last.from_day, last.to_day) == Some(job.window))
        .filter(|last| last.file_sha256 == file.sha256 && last.target_hash == file.target_hash)
        .map(|last| Same {
            rows_read: last.rows_read.unsigned_abs(),
            rows_rejected: last.rows_rejected.unsigned_abs(),
            doubts: last.doubts,
        }))
}

/// Gives a load whose file was not read, for it is the same as the last one, its rejected rows: who looks at the newest load
/// finds them there.
pub async fn copy_rejected(conn: &mut PgConnection, load_id: i64) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into impact_mirror.rejected_row (load_id, line, column_name, value, reason, raw)
        select $1, r.line, r.column_name, r.value, r.reason, r.raw
        from impact_mirror.rejected_row r
        where r.load_id = (
            select max(old.id)
            from impact_mirror.load l
            join impact_mirror.load old
                on old.export = l.export and old.account = l.account and old.program = l.program
                and old.from_day = l.from_day and old.to_day = l.to_day
                and old.file_sha256 = l.file_sha256 and old.target_hash = l.target_hash and old.id < l.id
            where l.id = $1
              and exists (select 1 from impact_mirror.rejected_row o where o.load_id = old.id))
        "#,
        load_id,
    )
    .execute(conn)
    .await
    .map_err(failed("copy rejected rows"))?;
    Ok(())
}

/// Whether some day of the window still stands as it was left by a file that unexpectedly had no rows.
pub async fn is_emptied_in_doubt(conn: &mut PgConnection, job: &Job) -> Result<bool, Error> {
    sqlx::query_scalar!(
        r#"
        select exists (
            select 1
            from impact_mirror.cell c
            join impact_mirror.job j on j.id = c.job_id
            join impact_mirror.load l on l.id = j.load_id
            where c.export = $1 and c.account = $2 and c.program = $3 and c.day between $4 and $5
              and 'unexpected_zero' = any(l.warnings)) as "is_emptied!"
        "#,
        job.export.as_str(),
        job.account.as_str(),
        job.program.as_str(),
        job.window.from(),
        job.window.to(),
    )
    .fetch_one(conn)
    .await
    .map_err(failed("look for a window that was emptied"))
}

/// Where the rows of a load are.
#[derive(Debug, Clone)]
pub struct LoadedInto {
    /// The account.
    pub account: String,
    /// The program, or none.
    pub program: String,
    /// The days.
    pub window: Window,
}

/// Where the rows of a load are; `None` where the export has no such load.
pub async fn loaded_into(
    conn: &mut PgConnection,
    export: &ExportName,
    load_id: i64,
) -> Result<Option<LoadedInto>, Error> {
    let found = sqlx::query!(
        "select account, program, from_day, to_day from impact_mirror.load where id = $1 and export = $2",
        load_id,
        export.as_str(),
    )
    .fetch_optional(conn)
    .await
    .map_err(failed("look a load up"))?;
    Ok(found.and_then(|load| {
        let window = Window::new(load.from_day, load.to_day)?;
        Some(LoadedInto { account: load.account, program: load.program, window })
    }))
}

/// Marks the cells of a job's window as failed; what they hold stays.
pub async fn fail_cells(conn: &mut PgConnection, job: &Job) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into impact_mirror.cell (export, account, program, day, failed_at, failed_job_id)
        select $1, $2, $3, day::date, now(), $4
        from generate_series($5::date::timestamp, $6::date::timestamp, interval '1 day') as day
        on conflict (export, account, program, day) do update
        set failed_at = excluded.failed_at, failed_job_id = excluded.failed_job_id
        "#,
        job.export.as_str(),
        job.account.as_str(),
        job.program.as_str(),
        job.id.0,
        job.window.from(),
        job.window.to(),
    )
    .execute(conn)
    .await
    .map_err(failed("mark cells as failed"))?;
    Ok(())
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
