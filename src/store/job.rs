//! Jobs in Postgres: planned, and claimed under a lease. Claims that order something are in `order`, what a worker writes
//! under its lease is in `transition`.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::types::Json;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{Error, failed};
use crate::account::AccountName;
use crate::export::{Bucket, ExportName, ExportRequest, Program, Reason, Window};
use crate::failpoint;
use crate::job::{Job, JobId, JobState};
use crate::plan::Wanted;

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
    /// The exports whose orders we follow: these, and the others of their accounts, for whose orders theirs have to wait.
    pub followed: Vec<String>,
}

impl Worker {
    fn exports_at(&self, step: Step) -> &[String] {
        match step {
            Step::Recover | Step::Poll => &self.followed,
            Step::Load => &self.exports,
        }
    }
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
    failpoint::reach("plan-written");
    Ok(())
}

/// The planned jobs of some accounts, most wanted first, as they were wanted.
pub async fn planned(conn: &mut PgConnection, accounts: &[AccountName]) -> Result<Vec<Wanted>, Error> {
    let accounts: Vec<String> = accounts.iter().map(|account| account.as_str().to_owned()).collect();
    let rows = sqlx::query!(
        r#"
        select id, export as "export: ExportName", account as "account: AccountName", from_day, to_day,
               reason as "reason: Reason", priority, bucket as "bucket: Bucket", request as "request: Json<ExportRequest>",
               replay_of, wanted_after
        from impact_mirror.job
        where state = 'planned' and account = any($1)
        order by priority, id
        "#,
        &accounts,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read the planned jobs"))?;
    let wanted = rows.into_iter().map(|row| {
        let window = Window::new(row.from_day, row.to_day)
            .ok_or_else(|| Error::Corrupt { table: "job", problem: format!("job {} ends before it begins", row.id) })?;
        Ok(Wanted {
            export: row.export,
            account: row.account,
            window,
            reason: row.reason,
            priority: row.priority,
            bucket: row.bucket,
            request: row.request.0,
            replay_of: row.replay_of,
            cost: 1,
            wanted_after: row.wanted_after,
            expected_at: None,
            because: None,
        })
    });
    wanted.collect()
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
    /// Where a test has the process killed after such a claim.
    const fn claimed(self) -> &'static str {
        match self {
            Self::Recover => "recovery-claimed",
            Self::Poll => "poll-claimed",
            Self::Load => "load-claimed",
        }
    }

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
            where j.finished_at is null
              and j.state = any($1)
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
        worker.exports_at(step),
        worker.holder,
        worker.lease.as_secs_f64(),
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed("claim a job"))?;
    let Some(claimed) = claimed else { return Ok(None) };
    let job = fetch(&mut tx, JobId(claimed.id), claimed.lease_token, claimed.resumed).await?;
    failpoint::reach("claim-written");
    tx.commit().await.map_err(failed("commit a claim"))?;
    failpoint::reach(step.claimed());
    Ok(Some(job))
}

pub(super) async fn fetch(conn: &mut PgConnection, id: JobId, lease: Uuid, resumed: bool) -> Result<Job, Error> {
    let row = sqlx::query!(
        r#"
        select state as "state: JobState", export as "export: ExportName", account as "account: AccountName",
               program as "program: Program", from_day, to_day, reason as "reason: Reason", bucket as "bucket: Bucket",
               request as "request: Json<ExportRequest>", wanted_after, replay_of, remote_job_id, adopted, remote_done_at,
               replays, resubmits, polls, attempts, run_at, submitted_at, submitted_remote_at, as_of, records_processed, reload_of,
               clock_timestamp() as "claimed_at!"
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
        adopted: row.adopted,
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
        reload_of: row.reload_of,
        claimed_at: row.claimed_at,
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
        join impact_mirror.export e on e.name = j.export
        where j.finished_at is null and j.state = any($1) and j.account = any($2)
          and (j.state <> 'planned' or (a.ordering_paused_since is null and e.ordering_paused_since is null))
          and j.export = any(case when j.state in ('submitting', 'waiting') then $4::text[] else $3::text[] end)
        "#,
        &states,
        &worker.accounts,
        &worker.exports,
        &worker.followed,
    )
    .fetch_one(conn)
    .await
    .map_err(failed("look for the next job"))?;
    let left = |seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
    Ok(NextDue { in_all: next.in_all.map(left), ordered: next.ordered.map(left) })
}
