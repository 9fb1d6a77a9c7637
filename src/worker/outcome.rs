//! What a failed step leads to: the one place where an error's class becomes a write.

use std::time::Duration;

use chrono::TimeDelta;
use sqlx::Connection;

use super::{Context, narrow};
use crate::error_chain::Chain;
use crate::export::Bucket;
use crate::failpoint;
use crate::impact::{self, Answer};
use crate::job::decide::{AfterError, OrderBy, after_error, when_there_may_be_room};
use crate::job::narrow::may_be_about_length;
use crate::job::{Job, JobState};
use crate::metrics;
use crate::retry::{ErrorKind, backoff};
use crate::store;
use crate::store::heard::Paid;
use crate::store::quota::Charged;
use crate::store::reload::Feed;
use crate::store::transition::{Move, OrderAgain, TryAgain};

/// A job claimed so often at one state, without even an error to show, takes its worker down with it.
pub(super) const HOPELESS_ATTEMPTS: u32 = 12;

/// An order that was not answered may be taken so much later, and is not looked for before.
const ON_ITS_WAY: TimeDelta = TimeDelta::seconds(5);

/// A failed call or file, ready to be judged.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "four answers to four questions, each asked elsewhere")]
pub(super) struct Failure {
    /// The class.
    pub kind: ErrorKind,
    /// With all causes.
    pub message: String,
    /// What impact.com asked for.
    pub retry_after: Option<Duration>,
    /// The bucket that a 429 closes.
    pub bucket: Bucket,
    /// Whether an order may be out all the same.
    pub is_unknown: bool,
    /// Whether the order certainly did not get as far as impact.com, so that its charge is given back.
    pub is_unsent: bool,
    /// Whether a shorter window may be taken where this one was not.
    pub may_be_length: bool,
    /// Whether a call was answered at all, so that a 429 is impact.com's own.
    pub is_answered: bool,
}

/// Why a job that compares is not ordered again: people said how many calls they give for that.
pub(super) const ONE_ORDER: &str = "a comparison is ordered once; `impact-mirror verify` asks anew";

impl Failure {
    /// A failed call that was charged to `bucket`.
    pub fn call(error: &impact::Error, bucket: Bucket) -> Self {
        Self {
            kind: error.kind(),
            message: Chain(error).to_string(),
            retry_after: error.retry_after(),
            bucket,
            is_unknown: error.may_have_taken_effect(),
            is_unsent: !error.was_sent(),
            may_be_length: matches!(error, impact::Error::Refused(refusal)
                if refusal.call == impact::Call::Submit && may_be_about_length(&refusal.message)),
            is_answered: error.limits().is_some(),
        }
    }

    /// The same, where the call failed before the order was tried.
    pub fn before_order(self) -> Self {
        Self { is_unknown: false, is_unsent: true, ..self }
    }

    /// A failure on our side of the wire.
    pub fn ours(kind: ErrorKind, error: &dyn std::error::Error) -> Self {
        Self {
            kind,
            message: Chain(error).to_string(),
            retry_after: None,
            bucket: Bucket::Requests,
            is_unknown: false,
            is_unsent: false,
            may_be_length: false,
            is_answered: false,
        }
    }
}

/// Writes what a failure leads to.
pub(super) async fn settle(context: &Context, job: &Job, failure: Failure) -> Result<(), store::Error> {
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    let mut tx = conn.begin().await.map_err(store::failed("begin"))?;
    let holder = context.holder();
    let now = context.now();
    let Failure { kind, message, retry_after, bucket, is_unknown, is_unsent, may_be_length, is_answered } = failure;
    // The ledger is locked before the job.
    if job.state == JobState::Submitting && !job.resumed && is_unsent {
        store::quota::refund(&mut tx, job).await?;
    }

    let mut next = after_error(job, kind, retry_after, now);
    if kind == ErrorKind::Throttled && is_answered {
        // The answer closed the bucket as it was heard; that to a Replay may have been about the hourly requests.
        let other = if job.replay_of.is_some() { Bucket::Requests } else { bucket };
        let database_now = store::coverage::database_now(&mut tx).await?;
        if let Some(at) = store::closure::closed_until(&mut tx, &job.account, &[bucket, other], database_now).await? {
            next = AfterError::TryAgain { at };
        }
    }
    if let AfterError::TryAgain { at } = &mut next
        && (job.state == JobState::Submitting && !job.resumed && is_unknown)
    {
        *at = (*at).max(now + ON_ITS_WAY);
    }
    let is_given_up =
        matches!(next, AfterError::GiveUp) || (job.compares && matches!(next, AfterError::OrderAgain { .. }));
    match next {
        AfterError::TryAgain { at } => {
            if kind != ErrorKind::NoRoom {
                tracing::warn!(error = message, %at, "step failed; to be tried again");
            } else if store::room::is_lacking(&mut tx).await? {
                tracing::debug!(error = message, %at, "no room yet");
            } else {
                tracing::error!(
                    error = message,
                    "a disk is full: jobs wait for room, and nothing is ordered until there is some; make room there, and work goes on by \
                     itself"
                );
            }
            put_off(&mut tx, job, TryAgain { run_at: at, kind, message }, is_unknown, holder).await?;
        }
        AfterError::OrderAgain { by } if job.compares => {
            if by == OrderBy::Submission
                && let Some(remote_job_id) = &job.remote_job_id
            {
                store::remote::forget(&mut tx, &job.account, remote_job_id).await?;
            }
            let message = format!("{message}; {ONE_ORDER}");
            give_up(&mut tx, job, kind, message, holder).await?;
        }
        AfterError::OrderAgain { by } => {
            tracing::warn!(error = message, ?by, "the result is gone; to be ordered again");
            order_again(&mut tx, job, by, now, message, holder).await?;
        }
        AfterError::PauseAccount => {
            if store::account::pause(&mut tx, &job.account, kind, &message).await? {
                tracing::error!(error = message, account = %job.account, "account paused: its credential is refused; give it a valid one and reload the configuration; it is tried again every 6 hours");
            }
            put_off(&mut tx, job, TryAgain { run_at: now, kind, message }, is_unknown, holder).await?;
        }
        AfterError::PauseExport => {
            if store::account::pause_export(&mut tx, &job.export, &job.account, &message).await? {
                tracing::error!(error = message, export = %job.export, account = %job.account, "export paused: impact.com forbids it; give the token the scope, then `impact-mirror accounts resume {}`; it is tried again every 6 hours", job.account);
            }
            put_off(&mut tx, job, TryAgain { run_at: now, kind, message }, is_unknown, holder).await?;
        }
        AfterError::GiveUp => {
            if may_be_length {
                narrow::or_give_up(&mut tx, job, kind, message, holder).await?;
            } else {
                give_up(&mut tx, job, kind, message, holder).await?;
            }
        }
    }
    failpoint::reach("settle-written");
    tx.commit().await.map_err(store::failed("commit the outcome of a step"))?;
    failpoint::reach("settle-committed");
    if is_given_up {
        context.tally.add(&metrics::JOBS_FAILED, &[job.export.as_str(), kind.as_str()], 1);
    } else {
        context.tally.add(&metrics::RETRIES, &[kind.as_str()], 1);
    }
    context.wakes.all();
    Ok(())
}

/// Leaves the job for later: where it stands, or, when an order certainly is not out, back at `planned`.
async fn put_off(
    conn: &mut sqlx::PgConnection,
    job: &Job,
    again: TryAgain,
    is_unknown: bool,
    holder: &str,
) -> Result<(), store::Error> {
    if job.state == JobState::Submitting && !job.resumed && !is_unknown {
        let TryAgain { run_at, kind, message } = again;
        let back = Move::Planned { order: None, run_at, kind: Some(kind), why: message };
        return store::transition::advance(conn, job, back, holder).await;
    }
    store::transition::try_again(conn, job, again, holder).await
}

/// Sends the job back to be ordered by Replay, or by a new submission.
pub(super) async fn order_again(
    conn: &mut sqlx::PgConnection,
    job: &Job,
    by: OrderBy,
    now: chrono::DateTime<chrono::Utc>,
    why: String,
    holder: &str,
) -> Result<(), store::Error> {
    let remote_job_id = job.remote_job_id.clone().or_else(|| job.replay_of.clone());
    if by == OrderBy::Submission
        && let Some(remote_job_id) = &remote_job_id
    {
        store::remote::forget(conn, &job.account, remote_job_id).await?;
    }
    let order = Some(OrderAgain { by, remote_job_id });
    store::transition::advance(conn, job, Move::Planned { order, run_at: now, kind: None, why }, holder).await
}

/// Ends the job and marks its cells.
pub(super) async fn give_up(
    conn: &mut sqlx::PgConnection,
    job: &Job,
    kind: ErrorKind,
    message: String,
    holder: &str,
) -> Result<(), store::Error> {
    if job.compares {
        // Its days stand as they were loaded.
    } else if job.reload_of.is_none() {
        store::load::fail_cells(conn, job).await?;
    } else {
        // The days of its file are as they were, but an older one may have been loaded just to be followed by it.
        let outdated = store::reload::leave(conn, &Feed::of(job)).await?;
        if let (Some(first), Some(last)) = (outdated.first(), outdated.last()) {
            let count = outdated.len();
            tracing::warn!(
                "{count} days from {first} to {last} hold an older file; they are due to be read from impact.com"
            );
        }
    }
    tracing::error!(error = message, %kind, "job failed; `impact-mirror jobs show {}` says what to do", job.id);
    store::transition::advance(conn, job, Move::Failed { kind, message }, holder).await
}

/// Leaves a job for later whose outcome Postgres has no room for: written as soon as there is, so that no try counts and
/// nobody begins it again and again meanwhile. The log has said why.
pub(super) async fn after_no_room(context: &Context, job: &Job, error: &store::Error) -> Result<(), store::Error> {
    let message = Chain(error).to_string();
    let mut tries = 0;
    loop {
        let run_at = when_there_may_be_room(job, context.now());
        let again = TryAgain { run_at, kind: ErrorKind::NoRoom, message: message.clone() };
        let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
        match store::transition::try_again(&mut conn, job, again, context.holder()).await {
            Err(error) if error.kind() == ErrorKind::NoRoom => {}
            outcome => return outcome,
        }
        drop(conn);
        tries += 1;
        tokio::time::sleep(backoff(tries, Duration::from_secs(1), Duration::from_mins(1), job.jitter())).await;
    }
}

/// A panic is a failed attempt.
pub(super) async fn after_panic(context: &Context, job: &Job) -> Result<(), store::Error> {
    let failure = Failure {
        kind: ErrorKind::Internal,
        message: "a bug: the step panicked; the log has the place".to_owned(),
        retry_after: None,
        bucket: Bucket::Requests,
        is_unknown: true,
        is_unsent: false,
        may_be_length: false,
        is_answered: false,
    };
    settle(context, job, failure).await
}

/// Ends a job whose workers keep dying.
pub(super) async fn abandon(context: &Context, job: &Job) -> Result<(), store::Error> {
    let message = format!("begun {} times at {} and never brought to an end", job.attempts - 1, job.state);
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    let mut tx = conn.begin().await.map_err(store::failed("begin"))?;
    give_up(&mut tx, job, ErrorKind::Internal, message, context.holder()).await?;
    failpoint::reach("abandoned-written");
    tx.commit().await.map_err(store::failed("commit the end of a job"))?;
    failpoint::reach("abandoned-committed");
    Ok(())
}

/// Charges a call that is not an order to the hourly bucket. `false`: the job was put off until there is room.
pub(super) async fn may_call(context: &Context, job: &Job, call: &'static str) -> Result<bool, store::Error> {
    let Charged::No { until, .. } = context.caller(&job.account, Some(job.id)).pay(call).await? else {
        return Ok(true);
    };
    let message = format!("the hourly requests of account {} are spent", job.account);
    let run_at = until + TimeDelta::milliseconds(100);
    let again = TryAgain { run_at, kind: ErrorKind::Throttled, message };
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    store::transition::try_again(&mut conn, job, again, context.holder()).await?;
    Ok(false)
}

/// Writes down what the answer to a call for a job said of quota and time.
pub(super) async fn heard<T>(
    context: &Context,
    paid: Paid<'_>,
    answer: &Result<Answer<T>, impact::Error>,
) -> Result<(), store::Error> {
    let (Paid::Order(job) | Paid::Call(job)) = paid else { return Ok(()) };
    context.caller(&job.account, Some(job.id)).heard(paid, answer).await
}
