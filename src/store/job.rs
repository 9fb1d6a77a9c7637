//! Jobs in Postgres: planned, claimed under a lease, moved from state to state. Every write of a worker names the
//! lease it believes in and fails if the lease is gone.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::quota::{self, Charge, Charged};
use super::{Error, failed};
use crate::account::AccountName;
use crate::export::{Bucket, ExportName, ExportRequest, Program, Reason, Window};
use crate::job::decide::OrderBy;
use crate::job::{Job, JobId, JobState};
use crate::plan::Wanted;
use crate::retry::ErrorKind;

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

/// Writes planned jobs. The caller holds the planning lock.
pub async fn insert_planned(conn: &mut PgConnection, wanted: &[Wanted], holder: &str) -> Result<(), Error> {
    for one in wanted {
        sqlx::query!(
            r#"
            with planned as (
                insert into impact_mirror.job (export, account, program, from_day, to_day, reason, priority, bucket,
                    request, wanted_after, replay_of, run_at, created_at)
                values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, now(), now())
                returning id
            )
            insert into impact_mirror.job_event (job_id, at, to_state, holder)
            select id, now(), 'planned', $12 from planned
            "#,
            one.export.as_str(),
            one.account.as_str(),
            one.request.program.as_str(),
            one.window.from(),
            one.window.to(),
            one.reason.as_str(),
            one.priority,
            one.bucket.as_str(),
            Json(&one.request) as _,
            one.wanted_after,
            one.replay_of,
            holder,
        )
        .execute(&mut *conn)
        .await
        .map_err(failed("write a planned job"))?;
    }
    Ok(())
}

/// Claims the most wanted planned job whose bucket has room, charges it, and moves it to `submitting`, all in one
/// transaction.
pub async fn claim_planned(conn: &mut PgConnection, worker: &Worker) -> Result<Option<Job>, Error> {
    let mut tx = conn.begin().await.map_err(failed("begin"))?;
    let found = sqlx::query!(
        r#"
        select j.id, j.account as "account: AccountName", j.bucket as "bucket: Bucket", j.replay_of
        from impact_mirror.job j
        join impact_mirror.account a on a.name = j.account and a.paused_since is null
        join impact_mirror.export_account ea on ea.export = j.export and ea.account = j.account and ea.paused_since is null
        join impact_mirror.bucket b on b.account = j.account and b.bucket = j.bucket
        where j.state = 'planned'
          and j.run_at <= now()
          and j.account = any($1)
          and j.export = any($2)
          and (b.closed_until is null or b.closed_until <= now())
          and b."limit" > (
              select coalesce(sum(c.cost), 0) from impact_mirror.charge c
              where c.account = b.account and c.bucket = b.bucket and c.at > now() - b.window_length)
          and not exists (
              select 1 from impact_mirror.job s
              where s.state = 'submitting' and s.account = j.account and s.bucket = j.bucket and s.program = j.program)
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
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed("look for a planned job"))?;
    let Some(found) = found else { return Ok(None) };

    let id = JobId(found.id);
    let call = if found.replay_of.is_some() { "replay" } else { "submit" };
    let charge = Charge { account: &found.account, bucket: found.bucket, call, job: Some(id) };
    match quota::charge(&mut tx, charge).await? {
        Charged::Yes => {}
        Charged::No { .. } => return Ok(None), // another replica took the last one
    }
    let claimed = sqlx::query_scalar!(
        r#"
        with claimed as (
            update impact_mirror.job
            set state = 'submitting', submitted_at = now(), submitted_remote_at = null, remote_done_at = null, as_of = null,
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

async fn fetch(conn: &mut PgConnection, id: JobId, lease: Uuid, resumed: bool) -> Result<Job, Error> {
    let row = sqlx::query!(
        r#"
        select state as "state: JobState", export as "export: ExportName", account as "account: AccountName",
               program as "program: Program", from_day, to_day, reason as "reason: Reason", bucket as "bucket: Bucket",
               request as "request: Json<ExportRequest>", wanted_after, replay_of, remote_job_id, remote_done_at,
               replays, resubmits, polls, attempts, submitted_at, submitted_remote_at, as_of, records_processed
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
        submitted_at: row.submitted_at,
        submitted_remote_at: row.submitted_remote_at,
        as_of: row.as_of,
        records_processed: row.records_processed.and_then(|told| u64::try_from(told).ok()),
    })
}

fn count(n: i32) -> u32 {
    u32::try_from(n).unwrap_or(0)
}

/// A move to another state, with what becomes known by it.
#[derive(Debug, Clone)]
pub enum Move {
    /// Not ordered after all, to be ordered again, or to be replayed.
    Planned {
        /// How it is to be ordered; `None`: as it was.
        order: Option<OrderAgain>,
        /// Not before.
        run_at: DateTime<Utc>,
        /// The class of the error that sent it back, if it was one.
        kind: Option<ErrorKind>,
        /// Why it is back, for its history.
        why: String,
    },
    /// impact.com has the order.
    Waiting {
        /// Under this id.
        remote_job_id: String,
        /// When it was asked, by impact.com's clock.
        submitted_remote_at: Option<DateTime<Utc>>,
        /// When its run began, where that was before our order.
        as_of: Option<DateTime<Utc>>,
        /// The first look at it.
        run_at: DateTime<Utc>,
        /// Where the id comes from, if not from a plain answer.
        note: &'static str,
    },
    /// The result can be fetched.
    Ready {
        /// Its rows are at least this new.
        as_of: DateTime<Utc>,
        /// When the run ended.
        completed_at: Option<DateTime<Utc>>,
    },
    /// Rows, coverage and this are committed together.
    Loaded {
        /// The load.
        load_id: i64,
    },
    /// Given up.
    Failed {
        /// The class.
        kind: ErrorKind,
        /// impact.com's words, or ours.
        message: String,
    },
}

/// How a job that goes back to `planned` is to be ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderAgain {
    /// By Replay of the remote job, or by a new submission.
    pub by: OrderBy,
    /// The remote job it followed.
    pub remote_job_id: Option<String>,
}

impl Move {
    /// The state it leads to.
    pub const fn to(&self) -> JobState {
        match self {
            Self::Planned { .. } => JobState::Planned,
            Self::Waiting { .. } => JobState::Waiting,
            Self::Ready { .. } => JobState::Ready,
            Self::Loaded { .. } => JobState::Loaded,
            Self::Failed { .. } => JobState::Failed,
        }
    }
}

/// The columns a move sets, where it sets any.
#[derive(Default)]
struct Patch {
    run_at: Option<DateTime<Utc>>,
    order_by: Option<OrderBy>,
    replay_of: Option<String>,
    remote_job_id: Option<String>,
    submitted_remote_at: Option<DateTime<Utc>>,
    as_of: Option<DateTime<Utc>>,
    completed_at: Option<DateTime<Utc>>,
    load_id: Option<i64>,
    error: Option<(ErrorKind, String)>,
    note: String,
}

impl From<Move> for Patch {
    fn from(step: Move) -> Self {
        match step {
            Move::Planned { order, run_at, kind, why } => Self {
                run_at: Some(run_at),
                order_by: order.as_ref().map(|order| order.by),
                replay_of: order.and_then(|order| if order.by == OrderBy::Replay { order.remote_job_id } else { None }),
                error: kind.map(|kind| (kind, why.clone())),
                note: why,
                ..Self::default()
            },
            Move::Waiting { remote_job_id, submitted_remote_at, as_of, run_at, note } => Self {
                run_at: Some(run_at),
                remote_job_id: Some(remote_job_id),
                submitted_remote_at,
                as_of,
                note: note.to_owned(),
                ..Self::default()
            },
            Move::Ready { as_of, completed_at } => Self { as_of: Some(as_of), completed_at, ..Self::default() },
            Move::Loaded { load_id } => Self { load_id: Some(load_id), ..Self::default() },
            Move::Failed { kind, message } => {
                Self { note: message.clone(), error: Some((kind, message)), ..Self::default() }
            }
        }
    }
}

/// Moves a claimed job to another state and gives its lease back: the one place where a worker changes a state.
pub async fn advance(conn: &mut PgConnection, job: &Job, step: Move, holder: &str) -> Result<(), Error> {
    let to = step.to();
    let patch = Patch::from(step);
    let uncounted = patch.error.as_ref().map_or(0, |(kind, _)| uncounted(*kind));
    let (error_kind, error_message) =
        patch.error.map_or((None, None), |(kind, text)| (Some(kind.as_str()), Some(text)));
    let moved = sqlx::query!(
        r#"
        with moved as (
            update impact_mirror.job
            set state = $3,
                run_at = coalesce($5, now()),
                attempts = case when $3 = 'planned' and $6::text is null then greatest(attempts - $19, 0) else 0 end,
                polls = case when $3 = 'waiting' then 0 else polls end,
                replay_of = case when $6::text is null then replay_of else $7 end,
                replays = replays + case when $6 = 'replay' then 1 else 0 end,
                resubmits = resubmits + case when $6 = 'submission' then 1 else 0 end,
                remote_job_id = coalesce($8, case when $3 = 'planned' then null else remote_job_id end),
                remote_status = case when $3 in ('planned', 'waiting') then null else remote_status end,
                remote_percent = case when $3 in ('planned', 'waiting') then null else remote_percent end,
                records_processed = case when $3 in ('planned', 'waiting') then null else records_processed end,
                submitted_at = case when $3 = 'planned' then null else submitted_at end,
                submitted_remote_at = coalesce($9, submitted_remote_at),
                as_of = coalesce($10, as_of),
                completed_at = coalesce($11, completed_at),
                load_id = coalesce($12, load_id),
                error_kind = $13,
                error_message = $14,
                finished_at = case when $15 then now() end,
                lease_holder = null, lease_token = null, lease_expires_at = null
            where id = $1 and lease_token = $2 and state = any($4)
            returning id
        )
        insert into impact_mirror.job_event (job_id, at, from_state, to_state, holder, note)
        select id, now(), $16, $3, $17, $18 from moved
        "#,
        job.id.0,
        job.lease,
        to.as_str(),
        &to.source_names(),
        patch.run_at,
        patch.order_by.map(|by| match by {
            OrderBy::Replay => "replay",
            OrderBy::Submission => "submission",
        }),
        patch.replay_of,
        patch.remote_job_id,
        patch.submitted_remote_at,
        patch.as_of,
        patch.completed_at,
        patch.load_id,
        error_kind,
        error_message,
        to.is_final(),
        job.state.as_str(),
        holder,
        patch.note,
        uncounted,
    )
    .execute(conn)
    .await
    .map_err(failed("move a job"))?;
    held(job, moved.rows_affected())
}

/// What is written when a step is to be tried again in the same state.
#[derive(Debug, Clone)]
pub struct TryAgain {
    /// Not before.
    pub run_at: DateTime<Utc>,
    /// The class of what went wrong.
    pub kind: ErrorKind,
    /// What went wrong.
    pub message: String,
}

/// How many tries an error takes back from the count.
fn uncounted(kind: ErrorKind) -> i32 {
    i32::from(!kind.counts())
}

/// Leaves a claimed job where it is, to be tried again later; the attempt stays counted where the error counts. A job whose loading failed
/// goes back to `ready`, so that nobody takes it for one that is being loaded.
pub async fn try_again(conn: &mut PgConnection, job: &Job, again: TryAgain, holder: &str) -> Result<(), Error> {
    let back = sqlx::query!(
        r#"
        with back as (
            update impact_mirror.job
            set state = case when state = 'loading' then 'ready' else state end,
                run_at = $3, error_kind = $4, error_message = $5, attempts = greatest(attempts - $8, 0),
                lease_holder = null, lease_token = null, lease_expires_at = null
            where id = $1 and lease_token = $2
            returning id, state
        )
        insert into impact_mirror.job_event (job_id, at, from_state, to_state, holder, note)
        select id, now(), $6, state, $7, 'to be tried again: ' || $5 from back
        "#,
        job.id.0,
        job.lease,
        again.run_at,
        again.kind.as_str(),
        again.message,
        job.state.as_str(),
        holder,
        uncounted(again.kind),
    )
    .execute(conn)
    .await
    .map_err(failed("put a job off"))?;
    held(job, back.rows_affected())
}

/// A look at a remote job that is not done.
#[derive(Debug, Clone)]
pub struct Polled {
    /// impact.com's word.
    pub remote_status: String,
    /// `PercentageComplete`.
    pub remote_percent: Option<f32>,
    /// `RecordsProcessed`.
    pub records_processed: Option<i64>,
}

/// Keeps what a poll saw.
pub async fn keep_poll(conn: &mut PgConnection, job: &Job, polled: &Polled) -> Result<(), Error> {
    let kept = sqlx::query!(
        r#"
        update impact_mirror.job
        set remote_status = $3, remote_percent = $4, records_processed = coalesce($5, records_processed)
        where id = $1 and lease_token = $2
        "#,
        job.id.0,
        job.lease,
        polled.remote_status,
        polled.remote_percent,
        polled.records_processed,
    )
    .execute(conn)
    .await
    .map_err(failed("keep a poll"))?;
    held(job, kept.rows_affected())
}

/// Gives a waiting job back until its next poll.
pub async fn poll_again(conn: &mut PgConnection, job: &Job, at: DateTime<Utc>) -> Result<(), Error> {
    let back = sqlx::query!(
        r#"
        update impact_mirror.job
        set run_at = $3, polls = polls + 1, attempts = 0, error_kind = null, error_message = null,
            lease_holder = null, lease_token = null, lease_expires_at = null
        where id = $1 and lease_token = $2 and state = 'waiting'
        "#,
        job.id.0,
        job.lease,
        at,
    )
    .execute(conn)
    .await
    .map_err(failed("give a job back"))?;
    held(job, back.rows_affected())
}

/// Remembers, before a Replay goes out, which remote job it is for and where that stood. From then on a lost reply can
/// be told from a request that never went out.
pub async fn keep_replay_base(
    conn: &mut PgConnection,
    job: &Job,
    remote_job_id: &str,
    done_at: Option<DateTime<Utc>>,
) -> Result<(), Error> {
    let kept = sqlx::query!(
        "update impact_mirror.job set remote_job_id = $3, remote_done_at = $4 where id = $1 and lease_token = $2 and state = 'submitting'",
        job.id.0,
        job.lease,
        remote_job_id,
        done_at,
    )
    .execute(conn)
    .await
    .map_err(failed("keep the base of a replay"))?;
    held(job, kept.rows_affected())
}

/// Keeps leases alive, as far as they have not run out.
pub async fn heartbeat(conn: &mut PgConnection, leases: &[Uuid], lasting: Duration) -> Result<u64, Error> {
    let renewed = sqlx::query!(
        r#"
        update impact_mirror.job
        set lease_expires_at = now() + make_interval(secs => $2)
        where lease_token = any($1) and lease_expires_at > now()
        "#,
        leases,
        lasting.as_secs_f64(),
    )
    .execute(conn)
    .await
    .map_err(failed("renew leases"))?;
    Ok(renewed.rows_affected())
}

/// Gives back a step that a shutdown cut short; its attempt does not count.
pub async fn hand_back(conn: &mut PgConnection, job: &Job, holder: &str) -> Result<(), Error> {
    let back = sqlx::query!(
        r#"
        with back as (
            update impact_mirror.job
            set attempts = greatest(attempts - 1, 0), run_at = now(),
                lease_holder = null, lease_token = null, lease_expires_at = null
            where id = $1 and lease_token = $2
            returning id, state
        )
        insert into impact_mirror.job_event (job_id, at, from_state, to_state, holder, note)
        select id, now(), state, state, $3, 'handed back at shutdown' from back
        "#,
        job.id.0,
        job.lease,
        holder,
    )
    .execute(conn)
    .await
    .map_err(failed("hand a job back"))?;
    held(job, back.rows_affected())
}

/// When the next job before a step becomes due: its `run_at`, or the end of a lease.
pub async fn next_due_at(
    conn: &mut PgConnection,
    states: &[JobState],
    worker: &Worker,
) -> Result<Option<DateTime<Utc>>, Error> {
    let states: Vec<String> = states.iter().map(|state| state.as_str().to_owned()).collect();
    sqlx::query_scalar!(
        r#"
        select min(greatest(j.run_at, j.lease_expires_at))
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
    .map_err(failed("look for the next job"))
}

/// Remembers a remote job, so that its window can be read again by Replay.
pub async fn remember_remote(
    conn: &mut PgConnection,
    account: &AccountName,
    remote_job_id: &str,
    request: &ExportRequest,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into impact_mirror.remote_job (account, id, request, created_at)
        values ($1, $2, $3, now())
        on conflict (account, id) do nothing
        "#,
        account.as_str(),
        remote_job_id,
        Json(request) as _,
    )
    .execute(conn)
    .await
    .map_err(failed("remember a remote job"))?;
    Ok(())
}

/// Notes that a remote job can neither be downloaded nor replayed any more.
pub async fn forget_remote(conn: &mut PgConnection, account: &AccountName, remote_job_id: &str) -> Result<(), Error> {
    sqlx::query!(
        "update impact_mirror.remote_job set gone_at = now() where account = $1 and id = $2",
        account.as_str(),
        remote_job_id,
    )
    .execute(conn)
    .await
    .map_err(failed("forget a remote job"))?;
    Ok(())
}

/// Which of `ids` are remote jobs that we know.
pub async fn known_remote(
    conn: &mut PgConnection,
    account: &AccountName,
    ids: &[String],
) -> Result<Vec<String>, Error> {
    sqlx::query_scalar!(
        r#"
        select id as "id!" from impact_mirror.remote_job where account = $1 and id = any($2)
        union
        select remote_job_id from impact_mirror.job where account = $1 and remote_job_id = any($2)
        "#,
        account.as_str(),
        ids,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look remote jobs up"))
}

fn held(job: &Job, rows: u64) -> Result<(), Error> {
    if rows == 1 { Ok(()) } else { Err(Error::LeaseLost { job: job.id }) }
}
