//! How long a window of an export on an account may be, as refusals and cut files have taught us.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Error, failed};
use crate::account::AccountName;
use crate::export::ExportName;
use crate::job::Job;
use crate::job::narrow::WindowLimit;
use crate::retry::ErrorKind;

/// What is known, and held until the transaction ends; `None`: nothing.
pub async fn lock(conn: &mut PgConnection, job: &Job) -> Result<Option<WindowLimit>, Error> {
    let row = sqlx::query!(
        r#"
        select max_window_days, max_window_why as "why!", max_window_learned_at
        from impact_mirror.export_account
        where export = $1 and account = $2 and max_window_why is not null
        for no key update
        "#,
        job.export.as_str(),
        job.account.as_str(),
    )
    .fetch_optional(conn)
    .await
    .map_err(failed("read the limit of windows"))?;
    Ok(row.map(|row| WindowLimit {
        max_days: row.max_window_days.map(i32::unsigned_abs),
        why: row.why,
        learned_at: row.max_window_learned_at,
    }))
}

/// Puts a shorter limit on trial. A limit that is as short already stays as it is, unless it is so old that a longer window
/// was tried in spite of it.
pub async fn try_shorter(conn: &mut PgConnection, job: &Job, max_days: u32, why: &str) -> Result<(), Error> {
    sqlx::query!(
        r#"
        update impact_mirror.export_account
        set max_window_days = $3, max_window_why = $4, max_window_learned_at = null, max_window_tried_at = now()
        where export = $1 and account = $2
          and (max_window_days is null or max_window_days > $3 or max_window_learned_at <= now() - interval '90 days')
        "#,
        job.export.as_str(),
        job.account.as_str(),
        signed(max_days),
        why,
    )
    .execute(conn)
    .await
    .map_err(failed("learn a limit of windows"))?;
    Ok(())
}

/// Drops limits that have been on trial for 7 days: what was to prove them never loaded. Says how many. One that an older
/// version put on trial begins its time here.
pub async fn end_trials(conn: &mut PgConnection) -> Result<u64, Error> {
    sqlx::query!(
        r#"
        update impact_mirror.export_account
        set max_window_tried_at = now()
        where max_window_days is not null and max_window_learned_at is null and max_window_tried_at is null
        "#,
    )
    .execute(&mut *conn)
    .await
    .map_err(failed("begin the trials of limits of windows"))?;
    let ended = sqlx::query!(
        r#"
        update impact_mirror.export_account
        set max_window_days = null, max_window_why = null, max_window_tried_at = null
        where max_window_days is not null and max_window_learned_at is null
          and max_window_tried_at <= now() - interval '7 days'
        "#,
    )
    .execute(conn)
    .await
    .map_err(failed("end the trials of limits of windows"))?;
    Ok(ended.rows_affected())
}

/// Calls off jobs that are longer than a limit and were not ordered yet. Those that read a known remote job again stay:
/// impact.com has run them.
pub async fn call_off_longer(conn: &mut PgConnection, job: &Job, max_days: u32, holder: &str) -> Result<u64, Error> {
    let called_off = sqlx::query!(
        r#"
        with longer as (
            select id from impact_mirror.job
            where export = $1 and account = $2 and state = 'planned' and replay_of is null and to_day - from_day >= $3
            for no key update skip locked
        ), cancelled as (
            update impact_mirror.job j
            set state = 'cancelled', finished_at = now(), lease_holder = null, lease_token = null, lease_expires_at = null
            from longer
            where j.id = longer.id
            returning j.id
        )
        insert into impact_mirror.job_event (job_id, at, from_state, to_state, holder, note)
        select id, now(), 'planned', 'cancelled', $4, 'not ordered: impact.com takes only shorter windows' from cancelled
        "#,
        job.export.as_str(),
        job.account.as_str(),
        signed(max_days),
        holder,
    )
    .execute(conn)
    .await
    .map_err(failed("call longer windows off"))?;
    Ok(called_off.rows_affected())
}

/// Keeps a limit on trial for good, if what has just loaded is a part of a window that was refused or cut.
pub async fn prove(conn: &mut PgConnection, job: &Job) -> Result<bool, Error> {
    let proved = sqlx::query!(
        r#"
        update impact_mirror.export_account ea
        set max_window_learned_at = now()
        where ea.export = $1 and ea.account = $2
          and ea.max_window_days is not null and ea.max_window_learned_at is null
          and exists (
              select 1 from impact_mirror.job j
              where j.export = $1 and j.account = $2 and j.program = $3 and j.state = 'cancelled' and j.error_kind is not null
                and j.from_day <= $4 and j.to_day >= $5 and j.to_day - j.from_day > $5::date - $4::date)
        "#,
        job.export.as_str(),
        job.account.as_str(),
        job.program.as_str(),
        job.window.from(),
        job.window.to(),
    )
    .execute(conn)
    .await
    .map_err(failed("prove the limit of windows"))?;
    Ok(proved.rows_affected() > 0)
}

/// Drops a limit that a single day was refused under: the words are not about the length, and are remembered as such.
pub async fn disprove(conn: &mut PgConnection, job: &Job) -> Result<(), Error> {
    sqlx::query!(
        r#"
        update impact_mirror.export_account
        set max_window_days = null, max_window_learned_at = now()
        where export = $1 and account = $2 and max_window_why is not null
        "#,
        job.export.as_str(),
        job.account.as_str(),
    )
    .execute(conn)
    .await
    .map_err(failed("drop the limit of windows"))?;
    Ok(())
}

/// Fails the jobs of a job's feed that were not ordered yet, and their cells: the same words await them.
pub async fn fail_planned(
    conn: &mut PgConnection,
    job: &Job,
    kind: ErrorKind,
    message: &str,
    holder: &str,
) -> Result<u64, Error> {
    let failed_jobs = sqlx::query!(
        r#"
        with planned as (
            select id from impact_mirror.job
            where export = $1 and account = $2 and program = $3 and state = 'planned' and replay_of is null
            for no key update skip locked
        ), ended as (
            update impact_mirror.job j
            set state = 'failed', finished_at = now(), error_kind = $4, error_message = $5,
                lease_holder = null, lease_token = null, lease_expires_at = null
            from planned
            where j.id = planned.id
            returning j.id, j.from_day, j.to_day
        ), cells as (
            insert into impact_mirror.cell (export, account, program, day, failed_at, failed_job_id)
            select $1, $2, $3, day::date, now(), ended.id
            from ended, generate_series(ended.from_day::timestamp, ended.to_day::timestamp, interval '1 day') as day
            on conflict (export, account, program, day) do update
            set failed_at = excluded.failed_at, failed_job_id = excluded.failed_job_id
        )
        insert into impact_mirror.job_event (job_id, at, from_state, to_state, holder, note)
        select id, now(), 'planned', 'failed', $6, 'not ordered: a single day was refused: ' || $5 from ended
        "#,
        job.export.as_str(),
        job.account.as_str(),
        job.program.as_str(),
        kind.as_str(),
        message,
        holder,
    )
    .execute(conn)
    .await
    .map_err(failed("fail jobs that would be refused"))?;
    Ok(failed_jobs.rows_affected())
}

/// A limit in force, as people see it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct InForce {
    /// The export.
    pub export: ExportName,
    /// The account.
    pub account: AccountName,
    /// The longest window, in days.
    pub max_window_days: i32,
    /// What a longer one was answered with.
    pub why: String,
    /// When it was proved; `None`: on trial.
    pub learned_at: Option<DateTime<Utc>>,
}

/// The limits of all active exports.
pub async fn in_force(conn: &mut PgConnection) -> Result<Vec<InForce>, Error> {
    sqlx::query_as!(
        InForce,
        r#"
        select ea.export as "export: ExportName", ea.account as "account: AccountName",
               ea.max_window_days as "max_window_days!", ea.max_window_why as "why!",
               ea.max_window_learned_at as learned_at
        from impact_mirror.export_account ea
        join impact_mirror.export e on e.name = ea.export and e.active
        where ea.max_window_days is not null
          and (ea.max_window_learned_at is null or ea.max_window_learned_at > now() - interval '90 days')
        order by ea.export, ea.account
        "#,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read the limits of windows"))
}

fn signed(days: u32) -> i32 {
    i32::try_from(days).unwrap_or(i32::MAX)
}
