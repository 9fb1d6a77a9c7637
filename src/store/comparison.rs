//! Comparisons of windows with what impact.com gives now: their jobs, and what they came to.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;
use sqlx::types::Json;

use super::{Error, failed};
use crate::account::AccountName;
use crate::export::{ExportName, ExportRequest, Program, Window};
use crate::job::verdict::Verdict;
use crate::job::{Job, JobId, JobState};

/// A window that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedWindow {
    /// Of this account.
    pub account: AccountName,
    /// Of this program, or none.
    pub program: Program,
    /// Its days.
    pub window: Window,
}

/// Windows of an export that were loaded and whose days all stand, in an order that `seed` decides. A window that an open job is at work on is
/// left out.
pub async fn loaded_windows(
    conn: &mut PgConnection,
    export: &ExportName,
    accounts: &[String],
    days: (Option<NaiveDate>, Option<NaiveDate>),
    seed: u64,
    limit: i64,
) -> Result<Vec<LoadedWindow>, Error> {
    let found = sqlx::query!(
        r#"
        select w.account as "account!: AccountName", w.program as "program!: Program", w.from_day as "from_day!", w.to_day as "to_day!"
        from (
            select distinct account, program, from_day, to_day
            from impact_mirror.load
            where export = $1 and account = any($2)
              and ($3::date is null or from_day >= $3) and ($4::date is null or to_day <= $4)
        ) w
        where not exists (
                select 1 from impact_mirror.open_cell o
                where o.export = $1 and o.account = w.account and o.program = w.program
                  and o.day between w.from_day and w.to_day)
          and (select count(*) from impact_mirror.cell c
               where c.export = $1 and c.account = w.account and c.program = w.program
                 and c.day between w.from_day and w.to_day and c.loaded_at is not null)
              = w.to_day - w.from_day + 1
        order by md5(concat_ws(' ', $5::text, w.account, w.program, w.from_day, w.to_day))
        limit $6
        "#,
        export.as_str(),
        accounts,
        days.0,
        days.1,
        seed.to_string(),
        limit,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look for loaded windows"))?;
    let windows = found.into_iter().filter_map(|one| {
        let window = Window::new(one.from_day, one.to_day)?;
        Some(LoadedWindow { account: one.account, program: one.program, window })
    });
    Ok(windows.collect())
}

/// The open jobs of an export that compare, oldest first.
pub async fn open_jobs(conn: &mut PgConnection, export: &ExportName, accounts: &[String]) -> Result<Vec<JobId>, Error> {
    sqlx::query_scalar!(
        r#"
        select id as "id: JobId" from impact_mirror.job
        where export = $1 and account = any($2) and compares and finished_at is null
        order by id
        "#,
        export.as_str(),
        accounts,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look for comparisons under way"))
}

/// The remote job that ran this request last and can be replayed, if there is one.
pub async fn replayable(
    conn: &mut PgConnection,
    account: &AccountName,
    request: &ExportRequest,
) -> Result<Option<String>, Error> {
    sqlx::query_scalar!(
        r#"
        select id from impact_mirror.remote_job
        where account = $1 and request = $2 and gone_at is null
        order by created_at desc
        limit 1
        "#,
        account.as_str(),
        Json(request) as _,
    )
    .fetch_optional(conn)
    .await
    .map_err(failed("look a remote job up by its request"))
}

/// A job that is to compare.
#[derive(Debug, Clone)]
pub struct NewComparison<'a> {
    /// The export.
    pub export: &'a ExportName,
    /// The account.
    pub account: &'a AccountName,
    /// What is asked for.
    pub request: &'a ExportRequest,
    /// The remote job to replay.
    pub replay_of: Option<&'a str>,
}

/// Makes the job: ahead of everything, for a person waits for it. A result that is older than now does not do. The caller holds
/// the planning lock.
pub async fn insert(conn: &mut PgConnection, new: &NewComparison<'_>, holder: &str) -> Result<JobId, Error> {
    sqlx::query_scalar!(
        r#"
        with planned as (
            insert into impact_mirror.job (export, account, program, from_day, to_day, reason, priority, bucket, request, wanted_after,
                replay_of, run_at, created_at, compares)
            values ($1, $2, $3, $4, $5, 'manual', 0, $6, $7, now(), $8, now(), now(), true)
            returning id
        ), event as (
            insert into impact_mirror.job_event (job_id, at, to_state, holder, note)
            select id, now(), 'planned', $9, 'to be compared with the table, and not loaded' from planned
        )
        select id as "id!: JobId" from planned
        "#,
        new.export.as_str(),
        new.account.as_str(),
        new.request.program.as_str(),
        new.request.window.from(),
        new.request.window.to(),
        new.request.source.bucket().as_str(),
        Json(new.request) as _,
        new.replay_of,
        holder,
    )
    .fetch_one(conn)
    .await
    .map_err(failed("plan a comparison"))
}

/// How many rows the loads left in the window of a job; `None` where a day of it was never loaded.
pub async fn rows_loaded(conn: &mut PgConnection, job: &Job) -> Result<Option<u64>, Error> {
    let rows = sqlx::query_scalar!(
        r#"
        select case when count(rows) = $5::date - $4::date + 1 then sum(rows)::bigint end
        from impact_mirror.cell
        where export = $1 and account = $2 and program = $3 and day between $4 and $5
        "#,
        job.export.as_str(),
        job.account.as_str(),
        job.program.as_str(),
        job.window.from(),
        job.window.to(),
    )
    .fetch_one(conn)
    .await
    .map_err(failed("count the rows that were loaded"))?;
    Ok(rows.map(i64::unsigned_abs))
}

/// What a comparison came to, as it is kept.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Records in the file.
    pub rows_in_file: u64,
    /// Rows in the table.
    pub rows_in_table: u64,
    /// Rows that are equal.
    pub rows_equal: u64,
    /// Rows with another hash.
    pub rows_differing: u64,
    /// Rows with other values under the same hash.
    pub rows_altered: u64,
    /// Rows that the table lacks.
    pub rows_only_in_file: u64,
    /// Rows that the file lacks.
    pub rows_only_in_table: u64,
    /// Records that are no rows.
    pub rows_rejected: u64,
    /// Rows that the loads left.
    pub rows_loaded: Option<u64>,
    /// The verdict.
    pub verdict: Verdict,
    /// What else there is to say.
    pub note: String,
    /// Some rows that are not equal.
    pub samples: Vec<serde_json::Value>,
}

/// Keeps what a comparison came to, in the transaction that ends its job.
pub async fn keep(conn: &mut PgConnection, job: &Job, outcome: &Outcome) -> Result<(), Error> {
    let signed = |rows: u64| i64::try_from(rows).unwrap_or(i64::MAX);
    sqlx::query!(
        r#"
        insert into impact_mirror.comparison (job_id, export, account, program, from_day, to_day, rows_in_file, rows_in_table, rows_equal,
            rows_differing, rows_altered, rows_only_in_file, rows_only_in_table, rows_rejected, rows_loaded, verdict, note, samples)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
        "#,
        job.id.0,
        job.export.as_str(),
        job.account.as_str(),
        job.program.as_str(),
        job.window.from(),
        job.window.to(),
        signed(outcome.rows_in_file),
        signed(outcome.rows_in_table),
        signed(outcome.rows_equal),
        signed(outcome.rows_differing),
        signed(outcome.rows_altered),
        signed(outcome.rows_only_in_file),
        signed(outcome.rows_only_in_table),
        signed(outcome.rows_rejected),
        outcome.rows_loaded.map(signed),
        outcome.verdict.as_str(),
        outcome.note,
        Json(&outcome.samples) as _,
    )
    .execute(conn)
    .await
    .map_err(failed("keep a comparison"))?;
    Ok(())
}

/// How a job that compares stands, and what it came to.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Compared {
    /// The job.
    pub job_id: i64,
    /// Its account.
    pub account: String,
    /// Its program, or none.
    pub program: String,
    /// The first day.
    pub from_day: NaiveDate,
    /// The last day.
    pub to_day: NaiveDate,
    /// Where the job stands.
    pub state: JobState,
    /// Whether a remote job is, or was to be, replayed.
    pub is_replay: bool,
    /// What went wrong, if something did.
    pub error_message: Option<String>,
    /// The verdict; none before the end, and where the job failed.
    pub verdict: Option<String>,
    /// Records in the file.
    pub rows_in_file: Option<i64>,
    /// Rows in the table.
    pub rows_in_table: Option<i64>,
    /// Rows that are equal.
    pub rows_equal: Option<i64>,
    /// Rows with another hash.
    pub rows_differing: Option<i64>,
    /// Rows with other values under the same hash.
    pub rows_altered: Option<i64>,
    /// Rows that the table lacks.
    pub rows_only_in_file: Option<i64>,
    /// Rows that the file lacks.
    pub rows_only_in_table: Option<i64>,
    /// Records that are no rows.
    pub rows_rejected: Option<i64>,
    /// Rows that the loads left.
    pub rows_loaded: Option<i64>,
    /// What else there is to say.
    pub note: Option<String>,
    /// Some rows that are not equal.
    pub samples: Option<serde_json::Value>,
    /// When the days were loaded last.
    pub loaded_at: Option<DateTime<Utc>>,
    /// When the first of the days is read again by itself.
    pub next_refresh_at: Option<DateTime<Utc>>,
}

/// How these jobs stand, in the order of their ids.
pub async fn compared(conn: &mut PgConnection, jobs: &[JobId]) -> Result<Vec<Compared>, Error> {
    let ids: Vec<i64> = jobs.iter().map(|job| job.0).collect();
    sqlx::query_as!(
        Compared,
        r#"
        select j.id as "job_id!", j.account as "account!", j.program as "program!", j.from_day as "from_day!", j.to_day as "to_day!",
               j.state as "state!: JobState", j.replay_of is not null as "is_replay!", j.error_message,
               c.verdict as "verdict?", c.rows_in_file as "rows_in_file?", c.rows_in_table as "rows_in_table?",
               c.rows_equal as "rows_equal?", c.rows_differing as "rows_differing?", c.rows_altered as "rows_altered?",
               c.rows_only_in_file as "rows_only_in_file?", c.rows_only_in_table as "rows_only_in_table?",
               c.rows_rejected as "rows_rejected?", c.rows_loaded, c.note as "note?", c.samples as "samples?",
               d.loaded_at, d.next_refresh_at
        from impact_mirror.job j
        left join impact_mirror.comparison c on c.job_id = j.id
        cross join lateral (
            select max(loaded_at) as loaded_at, min(next_refresh_at) as next_refresh_at
            from impact_mirror.cell
            where export = j.export and account = j.account and program = j.program and day between j.from_day and j.to_day
        ) d
        where j.id = any($1)
        order by j.id
        "#,
        &ids,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look at comparisons"))
}
