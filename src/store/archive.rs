//! What is in the archive, or is to be: written down before a file is sent there, so that what we wrote is known whatever
//! happens. A load names a file only once that is whole.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;

use super::{Error, failed};
use crate::job::Job;

/// A file in the archive that nothing was loaded from is an orphan after so long.
const ORPHAN_AFTER: Duration = Duration::from_hours(24);
/// A file that the archive does not take is given up after so long.
const GIVE_UP_AFTER: Duration = Duration::from_hours(7 * 24);
/// A reload that was cut short and not gone on with keeps its files from being pruned for so long.
const RELOAD_KEEPS_FILES: Duration = Duration::from_hours(7 * 24);
/// How many files are looked at in one round.
const BATCH: i64 = 500;

/// A file on its way into the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entered {
    /// Where it goes, or is.
    pub key: String,
    /// Whether it is there already: the same file of the same window was kept before.
    pub is_stored: bool,
}

/// Writes down that the file of a job goes to the archive under `key`, or finds where the same file of the same window is.
pub async fn enter(
    conn: &mut PgConnection,
    job: &Job,
    sha256: &[u8; 32],
    bytes: u64,
    key: &str,
) -> Result<Entered, Error> {
    let kept = sqlx::query_scalar!(
        r#"
        update impact_mirror.archived_file
        set used_at = now()
        where key = (
            select key
            from impact_mirror.archived_file
            where export = $1 and account = $2 and program = $3 and from_day = $4 and to_day = $5 and file_sha256 = $6
              and stored_at is not null and dropped_at is null
            order by created_at desc
            limit 1)
          and dropped_at is null
        returning key
        "#,
        job.export.as_str(),
        job.account.as_str(),
        job.program.as_str(),
        job.window.from(),
        job.window.to(),
        sha256.as_slice(),
    )
    .fetch_optional(&mut *conn)
    .await
    .map_err(failed("look for an archived file"))?;
    if let Some(key) = kept {
        return Ok(Entered { key, is_stored: true });
    }
    sqlx::query!(
        r#"
        insert into impact_mirror.archived_file (key, job_id, export, account, program, from_day, to_day, file_sha256,
            file_bytes, created_at, used_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, now(), now())
        on conflict (key) do update
        set used_at = now(), stored_bytes = null, stored_at = null, manifest_at = null, dropped_at = null, removed_at = null
        "#,
        key,
        job.id.0,
        job.export.as_str(),
        job.account.as_str(),
        job.program.as_str(),
        job.window.from(),
        job.window.to(),
        sha256.as_slice(),
        i64::try_from(bytes).unwrap_or(i64::MAX),
    )
    .execute(conn)
    .await
    .map_err(failed("write down a file for the archive"))?;
    Ok(Entered { key: key.to_owned(), is_stored: false })
}

/// Writes down that a file is whole in the archive, for the loads too that could not wait for it.
pub async fn stored(conn: &mut PgConnection, key: &str, stored_bytes: u64) -> Result<(), Error> {
    sqlx::query!(
        r#"
        with stored as (
            update impact_mirror.archived_file
            set stored_at = now(), stored_bytes = $2
            where key = $1 and dropped_at is null
            returning key, job_id, file_sha256
        )
        update impact_mirror.load l
        set archive_key = s.key
        from stored s
        where l.job_id = s.job_id and l.file_sha256 = s.file_sha256 and l.archive_key is null
        "#,
        key,
        i64::try_from(stored_bytes).unwrap_or(i64::MAX),
    )
    .execute(conn)
    .await
    .map_err(failed("write down an archived file"))?;
    Ok(())
}

/// Has a load name its file, as far as that is whole in the archive.
pub async fn attach(conn: &mut PgConnection, load_id: i64, key: &str) -> Result<(), Error> {
    sqlx::query!(
        r#"
        update impact_mirror.load
        set archive_key = f.key
        from impact_mirror.archived_file f
        where load.id = $1 and f.key = $2 and f.stored_at is not null and f.removed_at is null
        "#,
        load_id,
        key,
    )
    .execute(conn)
    .await
    .map_err(failed("name the archived file of a load"))?;
    Ok(())
}

/// A file that the archive has not taken yet.
#[derive(Debug, Clone)]
pub struct Late {
    /// Where it goes.
    pub key: String,
    /// The job that fetched it: whose spool file it is.
    pub job_id: i64,
    /// Its hash.
    pub sha256: Vec<u8>,
}

/// Files that the archive has not taken yet, oldest first.
pub async fn late(conn: &mut PgConnection) -> Result<Vec<Late>, Error> {
    sqlx::query_as!(
        Late,
        r#"
        select key, job_id, file_sha256 as sha256
        from impact_mirror.archived_file
        where stored_at is null and dropped_at is null
        order by created_at
        limit $1
        "#,
        BATCH,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look for files that wait for the archive"))
}

/// How many files the archive has not taken for five minutes or longer.
pub async fn late_count(conn: &mut PgConnection) -> Result<i64, Error> {
    sqlx::query_scalar!(
        r#"
        select count(*) as "count!"
        from impact_mirror.archived_file
        where stored_at is null and dropped_at is null and created_at < now() - interval '5 minutes'
        "#
    )
    .fetch_one(conn)
    .await
    .map_err(failed("count files that wait for the archive"))
}

/// The jobs whose files the archive has not taken yet.
pub async fn late_jobs(conn: &mut PgConnection) -> Result<Vec<i64>, Error> {
    sqlx::query_scalar!(
        "select distinct job_id from impact_mirror.archived_file where stored_at is null and dropped_at is null"
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look for jobs whose files wait for the archive"))
}

/// What the manifest beside a file says.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The key of the file.
    pub key: String,
    /// The manifest.
    pub manifest: serde_json::Value,
}

/// Files that a load reads and whose manifests are still to be written; of one job, where that is given.
pub async fn unlisted(conn: &mut PgConnection, job_id: Option<i64>) -> Result<Vec<Listed>, Error> {
    sqlx::query_as!(
        Listed,
        r#"
        select f.key,
               json_build_object(
                   'file', regexp_replace(f.key, '^.*/', ''),
                   'export', f.export, 'account', f.account, 'program', f.program,
                   'from_day', f.from_day, 'to_day', f.to_day,
                   'format', coalesce(j.request ->> 'format', 'csv'), 'request', j.request, 'job_id', j.id, 'remote_job_id', j.remote_job_id,
                   'reason', j.reason, 'submitted_at', j.submitted_at, 'completed_at', j.completed_at, 'as_of', j.as_of,
                   'sha256', encode(f.file_sha256, 'hex'), 'bytes', f.file_bytes, 'stored_bytes', f.stored_bytes,
                   'load_id', l.id, 'rows_read', l.rows_read, 'rows_rejected', l.rows_rejected,
                   'started_at', l.started_at, 'committed_at', l.committed_at, 'stored_at', f.stored_at)
               as "manifest!"
        from impact_mirror.archived_file f
        join impact_mirror.job j on j.id = f.job_id
        join lateral (
            select * from impact_mirror.load l where l.archive_key = f.key order by l.id limit 1) l on true
        where f.stored_at is not null and f.manifest_at is null and f.dropped_at is null
          and ($1::bigint is null or f.job_id = $1)
        order by f.created_at
        limit $2
        "#,
        job_id,
        BATCH,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look for files without a manifest"))
}

/// Writes down that a manifest is there.
pub async fn listed(conn: &mut PgConnection, key: &str) -> Result<(), Error> {
    sqlx::query!(
        "update impact_mirror.archived_file set manifest_at = now() where key = $1 and stored_at is not null",
        key
    )
    .execute(conn)
    .await
    .map_err(failed("write down a manifest"))?;
    Ok(())
}

/// Gives up files that are older than `keep`, that nothing was loaded from, or that the archive does not take, but none of a
/// program that a reload is at work on; and lists all that are given up and not yet removed. The caller holds the planning
/// lock, under which reloads begin.
pub async fn drop_old(conn: &mut PgConnection, keep: Duration) -> Result<Vec<String>, Error> {
    sqlx::query!(
        r#"
        update impact_mirror.archived_file f
        set dropped_at = now()
        where f.dropped_at is null
          and (f.used_at < now() - make_interval(secs => $1)
               or (f.stored_at is null and f.used_at < now() - make_interval(secs => $2))
               or (f.stored_at is not null and f.used_at < now() - make_interval(secs => $3)
                   and not exists (select 1 from impact_mirror.load l where l.archive_key = f.key)
                   -- What was refused is kept for whoever wants to see why.
                   and not exists (select 1 from impact_mirror.job j where j.id = f.job_id and j.state = 'failed')))
          and not exists (
              select 1
              from impact_mirror.reload r
              where r.export = f.export and r.account = f.account and r.program = f.program and r.finished_at is null
                and (r.started_at > now() - make_interval(secs => $4) or exists (
                    select 1
                    from impact_mirror.job j
                    where j.export = r.export and j.account = r.account and j.program = r.program
                      and j.reload_of is not null and j.created_at > now() - make_interval(secs => $4))))
        "#,
        keep.as_secs_f64(),
        GIVE_UP_AFTER.as_secs_f64(),
        ORPHAN_AFTER.as_secs_f64(),
        RELOAD_KEEPS_FILES.as_secs_f64(),
    )
    .execute(&mut *conn)
    .await
    .map_err(failed("give up old files"))?;
    sqlx::query_scalar!(
        r#"
        select key
        from impact_mirror.archived_file
        where dropped_at is not null and removed_at is null
        order by dropped_at, key
        limit $1
        "#,
        BATCH,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look for files to remove"))
}

/// Writes down that a file is gone from the archive.
pub async fn removed(conn: &mut PgConnection, key: &str) -> Result<(), Error> {
    sqlx::query!(
        "update impact_mirror.archived_file set removed_at = now() where key = $1 and dropped_at is not null",
        key
    )
    .execute(conn)
    .await
    .map_err(failed("write down that a file is removed"))?;
    Ok(())
}

/// A load, its job and its file: where a row comes from.
#[derive(Debug, Clone, serde::Serialize)]
#[expect(missing_docs, reason = "the columns of load, job and archived_file")]
pub struct Origin {
    pub load_id: i64,
    pub account: String,
    pub program: String,
    pub from_day: NaiveDate,
    pub to_day: NaiveDate,
    pub rows_read: i64,
    pub rows_rejected: i64,
    pub committed_at: DateTime<Utc>,
    #[serde(serialize_with = "as_hex")]
    pub file_sha256: Vec<u8>,
    pub file_bytes: i64,
    pub job_id: i64,
    pub reason: String,
    pub request: serde_json::Value,
    pub remote_job_id: Option<String>,
    pub as_of: Option<DateTime<Utc>>,
    pub reload_of: Option<i64>,
    pub archive_key: Option<String>,
    pub stored_at: Option<DateTime<Utc>>,
    pub dropped_at: Option<DateTime<Utc>>,
    /// Whether it waits in the spool for the archive to take it.
    pub is_late: bool,
}

/// A hash as people and other tools write it.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn as_hex<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex(bytes))
}

/// Where the rows of a load come from.
pub async fn origin(conn: &mut PgConnection, load_id: i64) -> Result<Option<Origin>, Error> {
    sqlx::query_as!(
        Origin,
        r#"
        select l.id as load_id, l.account, l.program, l.from_day, l.to_day, l.rows_read, l.rows_rejected, l.committed_at,
               l.file_sha256, l.file_bytes, j.id as job_id, j.reason, j.request,
               j.remote_job_id, j.as_of, j.reload_of, l.archive_key, f.stored_at as "stored_at?",
               f.dropped_at as "dropped_at?",
               coalesce(f.stored_at is null and f.dropped_at is null and f.key is not null, false) as "is_late!"
        from impact_mirror.load l
        join impact_mirror.job j on j.id = l.job_id
        left join impact_mirror.archived_file f
            on f.key = coalesce(l.archive_key, (
                select a.key from impact_mirror.archived_file a
                where a.job_id = l.job_id and a.file_sha256 = l.file_sha256))
        where l.id = $1
        "#,
        load_id,
    )
    .fetch_optional(conn)
    .await
    .map_err(failed("read where a load comes from"))
}

/// Why a line of a load is no row, if it was rejected.
pub async fn rejected(conn: &mut PgConnection, load_id: i64, line: i64) -> Result<Option<String>, Error> {
    sqlx::query_scalar!(
        r#"
        select concat_ws(': ', column_name, reason) as "why!"
        from impact_mirror.rejected_row
        where load_id = $1 and line = $2
        "#,
        load_id,
        line,
    )
    .fetch_optional(conn)
    .await
    .map_err(failed("look for a rejected row"))
}
