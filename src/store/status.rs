//! What people are shown: freshness, quota, jobs and their histories, coverage.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{Connection, PgConnection};

use super::{Error, failed, wake};
use crate::job::mend::{Failed, Mend, Purpose, mend};
use crate::job::{JobId, JobState};
use crate::retry::ErrorKind;

/// A row of the view `freshness`.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Freshness {
    /// The export.
    pub export: String,
    /// The newest complete day that every program has.
    pub latest_day: Option<NaiveDate>,
    /// When the newest days were last loaded.
    pub loaded_at: Option<DateTime<Utc>>,
    /// Seconds since the newest days were ordered.
    #[serde(rename = "age")]
    pub age_seconds: Option<i64>,
    /// The promise, in seconds.
    #[serde(rename = "promised")]
    pub promised_seconds: i64,
    /// The promise is broken.
    pub is_stale: bool,
    /// Cells never loaded.
    pub missing_cells: i64,
    /// Cells whose last job failed.
    pub failed_cells: i64,
}

/// The view `freshness`.
pub async fn freshness(conn: &mut PgConnection) -> Result<Vec<Freshness>, Error> {
    sqlx::query_as!(
        Freshness,
        r#"
        select export as "export!", latest_day, loaded_at, extract(epoch from age)::bigint as age_seconds,
               extract(epoch from promised)::bigint as "promised_seconds!", is_stale as "is_stale!",
               missing_cells as "missing_cells!", failed_cells as "failed_cells!"
        from impact_mirror.freshness
        order by export
        "#,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read the freshness"))
}

/// The names of the active accounts.
pub async fn accounts(conn: &mut PgConnection) -> Result<Vec<String>, Error> {
    sqlx::query_scalar!("select name from impact_mirror.account where active order by name")
        .fetch_all(conn)
        .await
        .map_err(failed("read accounts"))
}

/// A row of the view `quota`.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Quota {
    /// The account.
    pub account: String,
    /// The bucket.
    pub bucket: String,
    /// Our share of the limit.
    pub limit: i32,
    /// Charged in the window.
    pub used: i32,
    /// Left.
    pub remaining: i32,
    /// When the oldest charge stops counting, or a throttled bucket opens.
    pub resets_at: Option<DateTime<Utc>>,
    /// Planned jobs that will be charged to it.
    pub reserved: i32,
}

/// The view `quota`.
pub async fn quota(conn: &mut PgConnection) -> Result<Vec<Quota>, Error> {
    sqlx::query_as!(
        Quota,
        r#"
        select account as "account!", bucket as "bucket!", "limit" as "limit!", used as "used!",
               remaining as "remaining!", resets_at, reserved as "reserved!"
        from impact_mirror.quota
        order by account, bucket
        "#,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read the quota"))
}

/// A job as people see it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct JobLine {
    /// Its id.
    pub id: i64,
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
    /// Why it was asked for.
    pub reason: String,
    /// Where it stands.
    pub state: String,
    /// impact.com's id.
    pub remote_job_id: Option<String>,
    /// impact.com's word.
    pub remote_status: Option<String>,
    /// impact.com's progress.
    pub remote_percent: Option<f32>,
    /// Tries at the current state.
    pub attempts: i32,
    /// Not to be worked on before.
    pub run_at: DateTime<Utc>,
    /// Who works on it.
    pub lease_holder: Option<String>,
    /// The class of the last error.
    pub error_kind: Option<ErrorKind>,
    /// The last error.
    pub error_message: Option<String>,
    /// When it was planned.
    pub created_at: DateTime<Utc>,
    /// When it was ordered.
    pub submitted_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Records in its file.
    pub rows_read: Option<i64>,
    /// Of those, rejected.
    pub rows_rejected: Option<i64>,
    /// The load whose archived file is loaded again.
    pub reload_of: Option<i64>,
    /// Its result is compared, never loaded.
    pub compares: bool,
    /// Some of its days are failed.
    #[serde(skip)]
    pub has_failed_days: bool,
}

impl JobLine {
    /// What a person does about it, if it failed.
    pub fn mend(&self) -> Option<Mend> {
        let purpose = match self {
            Self { compares: true, .. } => Purpose::Comparison,
            Self { reload_of: Some(_), .. } => Purpose::Reload,
            Self { has_failed_days: true, .. } => Purpose::Days,
            _ => Purpose::Over,
        };
        let failed = Failed {
            id: self.id,
            export: &self.export,
            account: &self.account,
            days: (self.from_day, self.to_day),
            kind: self.error_kind,
            purpose,
        };
        (self.state == JobState::Failed.as_str()).then(|| mend(failed))
    }
}

/// Which jobs.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// In these states; none: all.
    pub states: Vec<JobState>,
    /// Of this export.
    pub export: Option<String>,
    /// With this id.
    pub id: Option<JobId>,
    /// At most so many.
    pub limit: i64,
}

/// Jobs, newest first.
pub async fn jobs(conn: &mut PgConnection, filter: &JobFilter) -> Result<Vec<JobLine>, Error> {
    let states: Vec<String> = filter.states.iter().map(|state| state.as_str().to_owned()).collect();
    sqlx::query_as!(
        JobLine,
        r#"
        select j.id, j.export, j.account, j.program, j.from_day, j.to_day, j.reason, j.state, j.remote_job_id,
               j.remote_status, j.remote_percent, j.attempts, j.run_at, j.lease_holder,
               j.error_kind as "error_kind: ErrorKind", j.error_message, j.created_at, j.submitted_at, j.finished_at,
               l.rows_read as "rows_read?", l.rows_rejected as "rows_rejected?", j.reload_of, j.compares,
               exists (select from impact_mirror.cell c where c.failed_job_id = j.id) as "has_failed_days!"
        from impact_mirror.job j
        left join impact_mirror.load l on l.id = j.load_id
        where (cardinality($1::text[]) = 0 or j.state = any($1))
          and ($2::text is null or j.export = $2)
          and ($3::bigint is null or j.id = $3)
        order by j.id desc
        limit $4
        "#,
        &states,
        filter.export,
        filter.id.map(|id| id.0),
        filter.limit,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("list jobs"))
}

/// Jobs that failed and whose cells still say so, newest first.
pub async fn failed_jobs(conn: &mut PgConnection, limit: i64) -> Result<Vec<JobLine>, Error> {
    let ids = sqlx::query_scalar!(
        r#"
        select distinct c.failed_job_id as "id!"
        from impact_mirror.cell c
        join impact_mirror.feed f on f.export = c.export and f.account = c.account and f.program = c.program and f.active
        where c.failed_job_id is not null
        order by 1 desc
        limit $1
        "#,
        limit,
    )
    .fetch_all(&mut *conn)
    .await
    .map_err(failed("list failed cells"))?;
    let mut lines = Vec::with_capacity(ids.len());
    for id in ids {
        lines.extend(jobs(conn, &JobFilter { id: Some(JobId(id)), limit: 1, ..JobFilter::default() }).await?);
    }
    Ok(lines)
}

/// How many jobs are in each state that any job is in.
pub async fn job_counts(conn: &mut PgConnection) -> Result<Vec<(JobState, i64)>, Error> {
    let rows = sqlx::query!(
        r#"select state as "state: JobState", count(*) as "count!" from impact_mirror.job group by state"#
    )
    .fetch_all(conn)
    .await
    .map_err(failed("count jobs"))?;
    Ok(rows.into_iter().map(|row| (row.state, row.count)).collect())
}

/// A line of a job's history.
#[derive(Debug, Clone, serde::Serialize)]
pub struct JobEvent {
    /// When.
    pub at: DateTime<Utc>,
    /// From which state; none: it was planned.
    pub from_state: Option<String>,
    /// To which.
    pub to_state: String,
    /// By whom.
    pub holder: String,
    /// What there is to say.
    pub note: String,
}

/// A job's history, oldest first.
pub async fn job_events(conn: &mut PgConnection, id: JobId) -> Result<Vec<JobEvent>, Error> {
    sqlx::query_as!(
        JobEvent,
        "select at, from_state, to_state, holder, note from impact_mirror.job_event where job_id = $1 order by id",
        id.0,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read a job's history"))
}

/// Makes the cells of a failed job due at once. Says whether there were any.
pub async fn retry(conn: &mut PgConnection, id: JobId) -> Result<bool, Error> {
    let mut tx = conn.begin().await.map_err(failed("begin"))?;
    let asked = sqlx::query!(
        r#"
        with cells as (
            select export, account, program, min(day) as from_day, max(day) as to_day
            from impact_mirror.cell
            where failed_job_id = $1
            group by export, account, program
        )
        insert into impact_mirror.manual_request (export, account, program, from_day, to_day, kind, requested_at)
        select export, account, program, from_day, to_day, 'refresh', now() from cells
        "#,
        id.0,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed("ask for a job again"))?;
    wake::notify(&mut tx).await?;
    tx.commit().await.map_err(failed("commit a retry"))?;
    Ok(asked.rows_affected() > 0)
}

/// Calls a job off, whoever works on it. Says whether it was open.
pub async fn cancel(conn: &mut PgConnection, id: JobId, by: &str) -> Result<bool, Error> {
    let mut tx = conn.begin().await.map_err(failed("begin"))?;
    let cancelled = sqlx::query!(
        r#"
        with cancelled as (
            update impact_mirror.job j
            set state = 'cancelled', finished_at = now(), lease_holder = null, lease_token = null, lease_expires_at = null
            from impact_mirror.job old
            where j.id = $1 and old.id = j.id and j.state = any($2)
            returning j.id, old.state as old_state
        )
        insert into impact_mirror.job_event (job_id, at, from_state, to_state, holder, note)
        select id, now(), old_state, 'cancelled', $3, 'called off by hand' from cancelled
        "#,
        id.0,
        &JobState::Cancelled.source_names(),
        by,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed("cancel a job"))?;
    wake::notify(&mut tx).await?;
    tx.commit().await.map_err(failed("commit a cancellation"))?;
    Ok(cancelled.rows_affected() > 0)
}

/// What landed in a mirrored table.
#[derive(Debug, Clone, serde::Serialize)]
pub struct TableLine {
    /// The export.
    pub export: String,
    /// Its table, with the schema.
    pub table_name: String,
    /// Days loaded, over all programs.
    pub days: i64,
    /// Rows in them.
    pub rows: i64,
    /// Rows kept aside.
    pub rejected: i64,
}

/// A line for each active export.
pub async fn tables(conn: &mut PgConnection) -> Result<Vec<TableLine>, Error> {
    sqlx::query_as!(
        TableLine,
        r#"
        with standing as (
            select export, count(*) filter (where loaded_at is not null) as days, sum(rows)::bigint as rows
            from impact_mirror.cell
            group by export
        ), rejected as (
            select l.export, count(*) as rows
            from impact_mirror.rejected_row r
            join impact_mirror.load l on l.id = r.load_id
            group by l.export
        )
        select e.name as export, e.table_name, coalesce(s.days, 0) as "days!", coalesce(s.rows, 0) as "rows!",
               coalesce(r.rows, 0) as "rejected!"
        from impact_mirror.export e
        left join standing s on s.export = e.name
        left join rejected r on r.export = e.name
        where e.active
        order by e.name
        "#,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("count what landed"))
}
