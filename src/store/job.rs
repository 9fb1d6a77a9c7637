//! Jobs in Postgres: planned, and claimed under a lease. Claims that order something are in `claim`, what a worker writes
//! under its lease is in `transition`.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::claim::Turns;
use super::{Error, failed};
use crate::account::AccountName;
use crate::export::{Bucket, ExportName, ExportRequest, Program, Reason, Window};
use crate::failpoint;
use crate::job::{Job, JobId, JobState};
use crate::plan::Wanted;

/// A statement that claims jobs: its CTE `claimed` has their columns and `is_resumed`.
macro_rules! claimed {
    ($claim:tt, $($value:expr),* $(,)?) => {
        sqlx::query_as!(
            crate::store::job::Row,
            $claim
                + r#"
        select id as "id!", lease_token as "lease!", is_resumed as "resumed!", state as "state!: _", export as "export!: _",
               account as "account!: _", program as "program!: _", from_day as "from_day!", to_day as "to_day!", reason as "reason!: _",
               bucket as "bucket!: _", request as "request!: _", wanted_after as "wanted_after!", replay_of, remote_job_id, adopted as "adopted!",
               remote_done_at, replays as "replays!", resubmits as "resubmits!", polls as "polls!", attempts as "attempts!",
               run_at as "run_at!", submitted_at, submitted_remote_at, as_of, records_processed, reload_of,
               compares as "compares!", clock_timestamp() as "claimed_at!"
        from claimed
        "#,
            $($value),*
        )
    };
}
pub(super) use claimed;

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
    /// The accounts whose orders are next.
    pub turns: Turns,
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
/// The load of a process that froze holds a key-share lock on its job, which must not keep us away from it. Lists come by sub-selects,
/// so that Postgres keeps one plan for all instead of making one for each claim. Each state's jobs are read in the order of the index
/// `job_due` up to the first that fits, which is looked at by itself: `offset 0` keeps Postgres from turning that into joins over all
/// accounts, or over all that is unfinished.
///
/// The commit is not waited for on disk. A Postgres that breaks down within that moment has forgotten the claim, so our writes under
/// it are refused and the job is claimed again, as after a lease that ran out; what we write later is on disk after the claim is.
pub async fn claim(conn: &mut PgConnection, step: Step, worker: &Worker) -> Result<Option<Job>, Error> {
    let claimed = claimed!(
        r#"
        with found as (
            select j.id, j.state, j.lease_holder
            from unnest((select $1::text[])) as s (state)
            cross join lateral (
                select j.id, j.state, j.lease_holder, j.priority, j.run_at
                from impact_mirror.job j
                where j.finished_at is null
                  and j.state = s.state
                  and j.run_at <= now()
                  and (j.lease_expires_at is null or j.lease_expires_at <= now())
                  and exists (
                      select 1
                      from impact_mirror.export_account ea
                      join impact_mirror.account a on a.name = ea.account and a.paused_since is null
                      where ea.export = j.export and ea.account = j.account and ea.paused_since is null
                        and ea.account = any((select $2::text[])::text[])
                        and ea.export = any((select $3::text[])::text[])
                      offset 0)
                order by j.priority, j.run_at
                limit 1
                for no key update of j skip locked
            ) j
            order by j.priority, j.run_at
            limit 1
        ), claimed as (
            update impact_mirror.job j
            set state = case when found.state = 'ready' then 'loading' else found.state end,
                attempts = attempts + 1,
                lease_holder = $4, lease_token = gen_random_uuid(), lease_expires_at = now() + make_interval(secs => $5)
            from found
            where j.id = found.id and set_config('synchronous_commit', 'off', true) is not null
            returning j.*, found.state as old_state, found.lease_holder as old_holder, found.state in ('submitting', 'loading') as is_resumed
        ), event as (
            insert into impact_mirror.job_event (job_id, at, from_state, to_state, holder, note)
            select id, now(), old_state, state, $4,
                   case when old_holder is null then '' else 'taken over: the lease of ' || old_holder || ' ran out' end
            from claimed
            where old_state <> state or old_holder is not null
        )
        "#,
        &step.states(),
        &worker.accounts,
        worker.exports_at(step),
        worker.holder,
        worker.lease.as_secs_f64(),
    )
    .fetch_optional(conn)
    .await
    .map_err(failed("claim a job"))?;
    let Some(claimed) = claimed else { return Ok(None) };
    failpoint::reach(step.claimed());
    claimed.job().map(Some)
}

/// A job as it was claimed.
pub(super) struct Row {
    pub id: i64,
    pub lease: Uuid,
    pub resumed: bool,
    pub state: JobState,
    pub export: ExportName,
    pub account: AccountName,
    pub program: Program,
    pub from_day: NaiveDate,
    pub to_day: NaiveDate,
    pub reason: Reason,
    pub bucket: Bucket,
    pub request: Json<ExportRequest>,
    pub wanted_after: DateTime<Utc>,
    pub replay_of: Option<String>,
    pub remote_job_id: Option<String>,
    pub adopted: bool,
    pub remote_done_at: Option<DateTime<Utc>>,
    pub replays: i32,
    pub resubmits: i32,
    pub polls: i32,
    pub attempts: i32,
    pub run_at: DateTime<Utc>,
    pub submitted_at: Option<DateTime<Utc>>,
    pub submitted_remote_at: Option<DateTime<Utc>>,
    pub as_of: Option<DateTime<Utc>>,
    pub records_processed: Option<i64>,
    pub reload_of: Option<i64>,
    pub compares: bool,
    pub claimed_at: DateTime<Utc>,
}

impl Row {
    pub fn job(self) -> Result<Job, Error> {
        let id = JobId(self.id);
        let window = Window::new(self.from_day, self.to_day)
            .ok_or_else(|| Error::Corrupt { table: "job", problem: format!("job {id} ends before it begins") })?;
        Ok(Job {
            id,
            lease: self.lease,
            state: self.state,
            resumed: self.resumed,
            export: self.export,
            account: self.account,
            program: self.program,
            window,
            reason: self.reason,
            bucket: self.bucket,
            request: self.request.0,
            wanted_after: self.wanted_after,
            replay_of: self.replay_of,
            remote_job_id: self.remote_job_id,
            adopted: self.adopted,
            remote_done_at: self.remote_done_at,
            replays: count(self.replays),
            resubmits: count(self.resubmits),
            polls: count(self.polls),
            attempts: count(self.attempts),
            run_at: self.run_at,
            submitted_at: self.submitted_at,
            submitted_remote_at: self.submitted_remote_at,
            as_of: self.as_of,
            records_processed: self.records_processed.and_then(|told| u64::try_from(told).ok()),
            reload_of: self.reload_of,
            compares: self.compares,
            claimed_at: self.claimed_at,
        })
    }
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
        "select in_all, ordered from impact_mirror.next_due($1, $2, $3, $4)",
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
