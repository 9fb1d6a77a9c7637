//! The waiting jobs of an account that can be looked at together, by one reading of its job list.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::job::{Row, Worker, claimed};
use super::{Error, failed};
use crate::account::AccountName;
use crate::export::ExportName;
use crate::failpoint;
use crate::job::Job;
use crate::job::decide::Listable;

/// The waiting job whose turn it is, and those of its account that will be due before half of their pause is over. None where
/// no job is due. One whose last look failed is left to itself.
pub async fn due_together(
    conn: &mut PgConnection,
    worker: &Worker,
    poll_min: Duration,
    poll_max: Duration,
) -> Result<Vec<Listable>, Error> {
    sqlx::query_as!(
        Listable,
        r#"
        select id as "id!", listed_before as "listed_before!"
        from impact_mirror.due_together($1, $2, make_interval(secs => $3), make_interval(secs => $4), $5)
        "#,
        &worker.accounts,
        &worker.followed,
        poll_min.as_secs_f64(),
        poll_max.as_secs_f64(),
        MOST,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look for jobs to poll together"))
}

/// The most jobs that one worker takes.
const MOST: i64 = 50;

/// Claims these waiting jobs, each under a lease of its own, as far as nobody else has.
pub async fn claim(conn: &mut PgConnection, jobs: &[i64], worker: &Worker) -> Result<Vec<Job>, Error> {
    let mut claimed = claimed!(
        r#"
        with found as (
            select id, lease_holder
            from impact_mirror.job
            where id = any($1) and state = 'waiting' and (lease_expires_at is null or lease_expires_at <= now())
            for no key update skip locked
        ), claimed as (
            update impact_mirror.job j
            set attempts = attempts + 1, run_at = least(run_at, now()),
                lease_holder = $2, lease_token = gen_random_uuid(), lease_expires_at = now() + make_interval(secs => $3)
            from found
            where j.id = found.id
            returning j.*, found.lease_holder as old_holder, false as is_resumed
        ), event as (
            insert into impact_mirror.job_event (job_id, at, from_state, to_state, holder, note)
            select id, now(), 'waiting', 'waiting', $2, 'taken over: the lease of ' || old_holder || ' ran out'
            from claimed
            where old_holder is not null
        )
        "#,
        jobs,
        worker.holder,
        worker.lease.as_secs_f64(),
    )
    .fetch_all(conn)
    .await
    .map_err(failed("claim jobs to poll together"))?;
    failpoint::reach("polls-claimed");
    claimed.sort_by_key(|row| jobs.iter().position(|id| *id == row.id));
    claimed.into_iter().map(Row::job).collect()
}

/// When the first of these remote jobs was ordered first, by our clock.
pub async fn oldest(
    conn: &mut PgConnection,
    account: &AccountName,
    remote_job_ids: &[String],
) -> Result<Option<DateTime<Utc>>, Error> {
    sqlx::query_scalar!(
        "select min(created_at) from impact_mirror.remote_job where account = $1 and id = any($2)",
        account.as_str(),
        remote_job_ids,
    )
    .fetch_one(conn)
    .await
    .map_err(failed("look for the oldest remote job"))
}

/// How long impact.com usually takes with this export, from the order to the end of the run: the median of the last
/// twenty that were loaded, by impact.com's own clock.
pub async fn usual_duration(
    conn: &mut PgConnection,
    export: &ExportName,
    account: &AccountName,
) -> Result<Option<Duration>, Error> {
    let seconds = sqlx::query_scalar!(
        r#"
        select percentile_cont(0.5) within group (order by took)
        from (
            select extract(epoch from completed_at - submitted_remote_at)::float8 as took
            from impact_mirror.job
            where export = $1 and account = $2 and state = 'loaded' and finished_at > now() - interval '30 days'
              and completed_at >= submitted_remote_at
            order by finished_at desc
            limit 20
        ) last
        "#,
        export.as_str(),
        account.as_str(),
    )
    .fetch_one(conn)
    .await
    .map_err(failed("look up how long an export takes"))?;
    Ok(seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
}
