//! What a worker writes about a job that it has claimed: the moves from state to state, and what is kept without one.
//! Every write names the lease it believes in and fails if the lease is gone.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Error, failed};
use crate::job::decide::OrderBy;
use crate::job::{Job, JobState};
use crate::retry::ErrorKind;

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
        /// Whether it was found in the list, for the reply was lost.
        adopted: bool,
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
    /// Called off: its window is asked for in shorter ones.
    Cancelled {
        /// The class.
        kind: ErrorKind,
        /// impact.com's words, and what comes instead.
        message: String,
    },
    /// Its result was compared with the table, and is not loaded.
    Compared {
        /// What came of it, in words.
        note: String,
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
            Self::Cancelled { .. } | Self::Compared { .. } => JobState::Cancelled,
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
    adopted: bool,
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
            Move::Waiting { remote_job_id, submitted_remote_at, as_of, adopted, run_at, note } => Self {
                run_at: Some(run_at),
                remote_job_id: Some(remote_job_id),
                submitted_remote_at,
                as_of,
                adopted,
                note: note.to_owned(),
                ..Self::default()
            },
            Move::Ready { as_of, completed_at } => Self { as_of: Some(as_of), completed_at, ..Self::default() },
            Move::Loaded { load_id } => Self { load_id: Some(load_id), ..Self::default() },
            Move::Compared { note } => Self { note, ..Self::default() },
            Move::Cancelled { kind, message } | Move::Failed { kind, message } => {
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
                adopted = case when $3 in ('planned', 'waiting') then $20 else adopted end,
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
        patch.adopted,
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

/// Gives a waiting job back until its next poll. Where a hint came while it was looked at, the look may have been a moment
/// too early: the next one is when the hint says.
pub async fn poll_again(conn: &mut PgConnection, job: &Job, at: DateTime<Utc>) -> Result<(), Error> {
    let back = sqlx::query!(
        r#"
        update impact_mirror.job
        set run_at = case when run_at > $4 then least(run_at, $3) else $3 end, polls = polls + 1, attempts = 0, error_kind = null, error_message = null,
            lease_holder = null, lease_token = null, lease_expires_at = null
        where id = $1 and lease_token = $2 and state = 'waiting'
        "#,
        job.id.0,
        job.lease,
        at,
        job.run_at,
    )
    .execute(conn)
    .await
    .map_err(failed("give a job back"))?;
    held(job, back.rows_affected())
}

/// Counts a look for a Replay whose reply was lost that was answered: nothing had moved yet.
pub async fn count_look(conn: &mut PgConnection, job: &Job) -> Result<(), Error> {
    let counted = sqlx::query!(
        "update impact_mirror.job set polls = polls + 1 where id = $1 and lease_token = $2 and state = 'submitting'",
        job.id.0,
        job.lease,
    )
    .execute(conn)
    .await
    .map_err(failed("count a look for a replay"))?;
    held(job, counted.rows_affected())
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
pub async fn heartbeat(conn: &mut PgConnection, leases: &[Uuid], lasting: Duration) -> Result<Vec<Uuid>, Error> {
    sqlx::query_scalar!(
        r#"
        update impact_mirror.job
        set lease_expires_at = now() + make_interval(secs => $2)
        where lease_token = any($1) and lease_expires_at > now()
        returning lease_token as "lease!"
        "#,
        leases,
        lasting.as_secs_f64(),
    )
    .fetch_all(conn)
    .await
    .map_err(failed("renew leases"))
}

/// Gives back a step that a shutdown cut short; its attempt does not count. An order that was on its way may be taken a moment
/// later, so whoever looks for it waits as long.
pub async fn hand_back(conn: &mut PgConnection, job: &Job, holder: &str) -> Result<(), Error> {
    let back = sqlx::query!(
        r#"
        with back as (
            update impact_mirror.job
            set attempts = greatest(attempts - 1, 0),
                run_at = now() + case state when 'submitting' then interval '5 s' else interval '0' end,
                lease_holder = null, lease_token = null, lease_expires_at = null
            where id = $1 and lease_token = $2
            returning id, state
        )
        insert into impact_mirror.job_event (job_id, at, from_state, to_state, holder, note)
        select id, now(), state, state, $3, 'handed back at shutdown or reload' from back
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

fn held(job: &Job, rows: u64) -> Result<(), Error> {
    if rows == 1 { Ok(()) } else { Err(Error::LeaseLost { job: job.id }) }
}
