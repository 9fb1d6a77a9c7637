//! Jobs in Postgres: planned, and claimed under a lease. What a worker writes under it is in `transition`.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::types::Json;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::quota::{self, Charge, Charged, Purpose};
use super::{Error, failed};
use crate::account::AccountName;
use crate::export::{Bucket, ExportName, ExportRequest, Program, Reason, Window};
use crate::job::{Job, JobId, JobState};
use crate::plan::Wanted;

/// Remote jobs of an account that are under way at once; how many impact.com runs is unknown (impact-api §9, 36).
const MAX_UNDER_WAY: i64 = 5;

/// Who claims, and what it may claim.
#[derive(Debug, Clone)]
pub struct Worker {
    /// The process, as people see it.
    pub holder: String,
    /// How long a claim lasts without a heartbeat.
    pub lease: Duration,
    /// The accounts we have credentials for.
    pub accounts: Vec<String>,
    /// The exports we are to work on.
    pub exports: Vec<String>,
}

/// Writes planned jobs, all at once. The caller holds the planning lock.
pub async fn insert_planned(conn: &mut PgConnection, wanted: &[Wanted], holder: &str) -> Result<(), Error> {
    if wanted.is_empty() {
        return Ok(());
    }
    let texts = |text: fn(&Wanted) -> &str| wanted.iter().map(|one| text(one).to_owned()).collect::<Vec<String>>();
    let from: Vec<NaiveDate> = wanted.iter().map(|one| one.window.from()).collect();
    let to: Vec<NaiveDate> = wanted.iter().map(|one| one.window.to()).collect();
    let priorities: Vec<i32> = wanted.iter().map(|one| one.priority).collect();
    let requests: Vec<serde_json::Value> =
        wanted.iter().map(|one| serde_json::to_value(&one.request).expect("a request is plain data")).collect();
    let wanted_after: Vec<DateTime<Utc>> = wanted.iter().map(|one| one.wanted_after).collect();
    let replay_of: Vec<Option<String>> = wanted.iter().map(|one| one.replay_of.clone()).collect();
    sqlx::query!(
        r#"
        with planned as (
            insert into impact_mirror.job (export, account, program, from_day, to_day, reason, priority, bucket,
                request, wanted_after, replay_of, run_at, created_at)
            select export, account, program, from_day, to_day, reason, priority, bucket, request, wanted_after, replay_of,
                   now(), now()
            from unnest($1::text[], $2::text[], $3::text[], $4::date[], $5::date[], $6::text[], $7::integer[],
                    $8::text[], $9::jsonb[], $10::timestamptz[], $11::text[])
                as w (export, account, program, from_day, to_day, reason, priority, bucket, request, wanted_after,
                    replay_of)
            returning id
        )
        insert into impact_mirror.job_event (job_id, at, to_state, holder)
        select id, now(), 'planned', $12 from planned
        "#,
        &texts(|one| one.export.as_str()),
        &texts(|one| one.account.as_str()),
        &texts(|one| one.request.program.as_str()),
        &from,
        &to,
        &texts(|one| one.reason.as_str()),
        &priorities,
        &texts(|one| one.bucket.as_str()),
        &requests,
        &wanted_after,
        &replay_of as &[Option<String>],
        holder,
    )
    .execute(conn)
    .await
    .map_err(failed("write planned jobs"))?;
    Ok(())
}

/// Claims the most wanted planned job whose bucket has room, charges it, and moves it to `submitting`, all in one
/// transaction. A Replay is one of the hourly requests besides (impact-api §4.1).
pub async fn claim_planned(conn: &mut PgConnection, worker: &Worker, now: DateTime<Utc>) -> Result<Option<Job>, Error> {
    let mut tx = conn.begin().await.map_err(failed("begin"))?;
    quota::redate(&mut tx, &worker.accounts, now).await?;
    let found = sqlx::query!(
        r#"
        with room as materialized (
            select b.account, b.bucket, r.room > 0 as has_room, coalesce(b.closed_until > $4, false) as is_closed
            from impact_mirror.bucket b
            cross join lateral impact_mirror.bucket_room(b.account, b.bucket, $4) r
            where b.account = any($1)
        )
        select j.id, j.account as "account: AccountName", j.bucket as "bucket: Bucket", j.replay_of,
               case when j.replay_of is null then 1 else a.replay_cost end as "cost!"
        from impact_mirror.job j
        join impact_mirror.account a on a.name = j.account and a.paused_since is null
        join impact_mirror.export_account ea on ea.export = j.export and ea.account = j.account and ea.paused_since is null
        join room d on d.account = j.account and d.bucket = j.bucket
        left join room h on h.account = j.account and h.bucket = 'requests'
        where j.state = 'planned'
          and j.run_at <= now()
          and j.export = any($2)
          and (d.has_room or (j.replay_of is not null and a.replay_cost = 0 and not d.is_closed))
          and (j.replay_of is null or h.has_room)
          and not exists (
              select 1 from impact_mirror.job s
              where s.state = 'submitting' and s.account = j.account and s.bucket = j.bucket and s.program = j.program)
          -- A limit of windows on trial is tried by one order at a time: several would be lost together.
          and not (j.replay_of is null and ea.max_window_days is not null and ea.max_window_learned_at is null and exists (
              select 1 from impact_mirror.job t
              where t.finished_at is null and t.state <> 'planned' and t.export = j.export and t.account = j.account))
          and $3 > (
              select count(*) from impact_mirror.job w
              where w.state in ('submitting', 'waiting') and w.account = j.account)
        order by j.priority, j.id
        limit 1
        for update of j skip locked
        "#,
        &worker.accounts,
        &worker.exports,
        MAX_UNDER_WAY,
        now,
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed("look for a planned job"))?;
    let Some(found) = found else {
        tx.commit().await.map_err(failed("commit a look"))?;
        return Ok(None);
    };

    let id = JobId(found.id);
    let call = if found.replay_of.is_some() { "replay" } else { "submit" };
    let hourly = found.replay_of.is_some().then_some((Bucket::Requests, 1));
    for (bucket, cost) in [Some((found.bucket, found.cost)), hourly].into_iter().flatten() {
        let purpose = Purpose::Order { at: now, cost };
        let charge = Charge { account: &found.account, bucket, call, job: Some(id), purpose };
        match quota::charge(&mut tx, charge, now).await? {
            Charged::Yes(_) => {}
            Charged::No { .. } => return Ok(None), // another replica took the last one
        }
    }
    let claimed = sqlx::query_scalar!(
        r#"
        with claimed as (
            update impact_mirror.job
            set state = 'submitting', submitted_at = $4, submitted_remote_at = null, remote_done_at = null, as_of = null,
                remote_job_id = null, attempts = attempts + 1, error_kind = null, error_message = null,
                lease_holder = $2, lease_token = gen_random_uuid(), lease_expires_at = now() + make_interval(secs => $3)
            where id = $1
            returning id, lease_token
        ), event as (
            insert into impact_mirror.job_event (job_id, at, from_state, to_state, holder)
            select id, now(), 'planned', 'submitting', $2 from claimed
        )
        select lease_token as "lease_token!" from claimed
        "#,
        id.0,
        worker.holder,
        worker.lease.as_secs_f64(),
        now,
    )
    .fetch_one(&mut *tx)
    .await;
    let lease = match claimed {
        Ok(lease) => lease,
        // Another replica claimed one for the same account, bucket and program a moment before us.
        Err(error) if error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation) => {
            return Ok(None);
        }
        Err(error) => return Err(failed("claim a planned job")(error)),
    };
    let job = fetch(&mut tx, id, lease, false).await?;
    tx.commit().await.map_err(failed("commit a claim"))?;
    Ok(Some(job))
}

/// The accounts with orders that wait for nothing but impact.com's clock to be read, which a call does: at most one in
/// five minutes.
pub async fn held_by_remote_clock(
    conn: &mut PgConnection,
    worker: &Worker,
    now: DateTime<Utc>,
) -> Result<Vec<AccountName>, Error> {
    sqlx::query_scalar!(
        r#"
        select a.name as "name: AccountName"
        from impact_mirror.account a
        join impact_mirror.bucket b on b.account = a.name
        cross join lateral impact_mirror.bucket_room(b.account, b.bucket, $3) r
        where a.name = any($1)
          and a.paused_since is null
          and (a.clock_asked_at is null or a.clock_asked_at > $3 or a.clock_asked_at <= $3 - interval '5 minutes')
          and r.clock_may_tell
          and exists (
              select 1
              from impact_mirror.job j
              join impact_mirror.export_account ea
                  on ea.export = j.export and ea.account = j.account and ea.paused_since is null
              where j.state = 'planned' and j.run_at <= now() and j.export = any($2)
                and j.account = b.account and (j.bucket = b.bucket or (j.replay_of is not null and b.bucket = 'requests')))
        group by a.name
        "#,
        &worker.accounts,
        &worker.exports,
        now,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look for orders that wait for a clock"))
}

/// The steps whose jobs are claimed as they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An order whose end is unknown.
    Recover,
    /// A remote job to look at.
    Poll,
    /// A result to fetch and load.
    Load,
}

impl Step {
    fn states(self) -> Vec<String> {
        let states: &[JobState] = match self {
            Self::Recover => &[JobState::Submitting],
            Self::Poll => &[JobState::Waiting],
            Self::Load => &[JobState::Ready, JobState::Loading],
        };
        states.iter().map(|state| state.as_str().to_owned()).collect()
    }
}

/// Claims the most wanted job that stands before `step`, with no lease or one that has run out.
///
/// The load of a process that froze holds a key-share lock on its job, which must not keep us away from it.
pub async fn claim(conn: &mut PgConnection, step: Step, worker: &Worker) -> Result<Option<Job>, Error> {
    let mut tx = conn.begin().await.map_err(failed("begin"))?;
    let claimed = sqlx::query!(
        r#"
        with found as (
            select j.id, j.state, j.lease_holder
            from impact_mirror.job j
            join impact_mirror.account a on a.name = j.account and a.paused_since is null
            join impact_mirror.export_account ea
                on ea.export = j.export and ea.account = j.account and ea.paused_since is null
            where j.state = any($1)
              and j.run_at <= now()
              and (j.lease_expires_at is null or j.lease_expires_at <= now())
              and j.account = any($2)
              and j.export = any($3)
            order by j.priority, j.run_at
            limit 1
            for no key update of j skip locked
        ), claimed as (
            update impact_mirror.job j
            set state = case when found.state = 'ready' then 'loading' else found.state end,
                attempts = attempts + 1,
                lease_holder = $4, lease_token = gen_random_uuid(), lease_expires_at = now() + make_interval(secs => $5)
            from found
            where j.id = found.id
            returning j.id, j.lease_token, j.state, found.state as old_state, found.lease_holder as old_holder
        ), event as (
            insert into impact_mirror.job_event (job_id, at, from_state, to_state, holder, note)
            select id, now(), old_state, state, $4,
                   case when old_holder is null then '' else 'taken over: the lease of ' || old_holder || ' ran out' end
            from claimed
            where old_state <> state or old_holder is not null
        )
        select id as "id!", lease_token as "lease_token!", old_state = 'submitting' or old_state = 'loading' as "resumed!"
        from claimed
        "#,
        &step.states(),
        &worker.accounts,
        &worker.exports,
        worker.holder,
        worker.lease.as_secs_f64(),
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed("claim a job"))?;
    let Some(claimed) = claimed else { return Ok(None) };
    let job = fetch(&mut tx, JobId(claimed.id), claimed.lease_token, claimed.resumed).await?;
    tx.commit().await.map_err(failed("commit a claim"))?;
    Ok(Some(job))
}

pub(super) async fn fetch(conn: &mut PgConnection, id: JobId, lease: Uuid, resumed: bool) -> Result<Job, Error> {
    let row = sqlx::query!(
        r#"
        select state as "state: JobState", export as "export: ExportName", account as "account: AccountName",
               program as "program: Program", from_day, to_day, reason as "reason: Reason", bucket as "bucket: Bucket",
               request as "request: Json<ExportRequest>", wanted_after, replay_of, remote_job_id, remote_done_at,
               replays, resubmits, polls, attempts, run_at, submitted_at, submitted_remote_at, as_of, records_processed
        from impact_mirror.job
        where id = $1
        "#,
        id.0,
    )
    .fetch_one(conn)
    .await
    .map_err(failed("read a job"))?;
    let window = Window::new(row.from_day, row.to_day)
        .ok_or_else(|| Error::Corrupt { table: "job", problem: format!("job {id} ends before it begins") })?;
    Ok(Job {
        id,
        lease,
        state: row.state,
        resumed,
        export: row.export,
        account: row.account,
        program: row.program,
        window,
        reason: row.reason,
        bucket: row.bucket,
        request: row.request.0,
        wanted_after: row.wanted_after,
        replay_of: row.replay_of,
        remote_job_id: row.remote_job_id,
        remote_done_at: row.remote_done_at,
        replays: count(row.replays),
        resubmits: count(row.resubmits),
        polls: count(row.polls),
        attempts: count(row.attempts),
        run_at: row.run_at,
        submitted_at: row.submitted_at,
        submitted_remote_at: row.submitted_remote_at,
        as_of: row.as_of,
        records_processed: row.records_processed.and_then(|told| u64::try_from(told).ok()),
    })
}

fn count(n: i32) -> u32 {
    u32::try_from(n).unwrap_or(0)
}

/// How soon jobs before a step become due: at their `run_at`, or at the end of a lease. By Postgres' clock, which claims
/// go by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NextDue {
    /// The first of them all; zero: it is due.
    pub in_all: Option<Duration>,
    /// The first that was ordered already, and so waits for no budget.
    pub ordered: Option<Duration>,
}

/// When the next job before a step becomes due.
pub async fn next_due(conn: &mut PgConnection, states: &[JobState], worker: &Worker) -> Result<NextDue, Error> {
    let states: Vec<String> = states.iter().map(|state| state.as_str().to_owned()).collect();
    let next = sqlx::query!(
        r#"
        select extract(epoch from min(greatest(j.run_at, j.lease_expires_at)) - now())::float8 as in_all,
               extract(epoch from min(greatest(j.run_at, j.lease_expires_at))
                   filter (where j.state <> 'planned') - now())::float8 as ordered
        from impact_mirror.job j
        join impact_mirror.account a on a.name = j.account and a.paused_since is null
        join impact_mirror.export_account ea
            on ea.export = j.export and ea.account = j.account and ea.paused_since is null
        where j.state = any($1) and j.account = any($2) and j.export = any($3)
        "#,
        &states,
        &worker.accounts,
        &worker.exports,
    )
    .fetch_one(conn)
    .await
    .map_err(failed("look for the next job"))?;
    let left = |seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
    Ok(NextDue { in_all: next.in_all.map(left), ordered: next.ordered.map(left) })
}
