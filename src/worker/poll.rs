//! The step from `waiting` to `ready`: a look at the remote job.

use sqlx::Connection;

use super::outcome::{Failure, ONE_ORDER, give_up, heard, may_call, order_again, settle};
use super::{Context, narrow};
use crate::export::Bucket;
use crate::failpoint;
use crate::impact::{RemoteJob, RemoteJobId, RemoteStatus};
use crate::job::Job;
use crate::job::decide::{AfterPoll, OrderBy, Seen, SeenStatus, after_poll, is_deduplicated};
use crate::metrics;
use crate::retry::ErrorKind;
use crate::store;
use crate::store::heard::Paid;
use crate::store::transition::{Move, Polled};

pub(super) async fn step(context: &Context, job: &Job) -> Result<(), store::Error> {
    if !may_call(context, job, "job").await? {
        return Ok(());
    }
    let id = RemoteJobId::new(job.remote_job_id.as_deref().expect("a waiting job has a remote id"));
    let answer = context.client(&job.account).job(&id).await;
    heard(context, Paid::Call(job), &answer).await?;
    let remote = match answer {
        Ok(answer) => answer.value,
        Err(error) => {
            let mut failure = Failure::call(&error, Bucket::Requests);
            if failure.kind == ErrorKind::Permanent {
                failure.kind = ErrorKind::Expired; // 404: impact.com has forgotten the job
            }
            return settle(context, job, failure).await;
        }
    };
    failpoint::reach("poll-answered");
    follow(context, job, remote).await
}

/// Writes what a look at the remote job leads to.
pub(super) async fn follow(context: &Context, job: &Job, remote: RemoteJob) -> Result<(), store::Error> {
    let looked = seen(&remote);
    let next = after_poll(job, &looked, context.now(), &context.poll_policy());
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    let mut tx = conn.begin().await.map_err(store::failed("begin"))?;
    if matches!((&next, remote.status), (AfterPoll::GiveUp { .. }, RemoteStatus::Error | RemoteStatus::Failed)) {
        // Waited for before the job is locked: the heartbeat of its lease must not wait with us.
        store::coverage::lock_planning(&mut tx).await?;
    }
    let polled = Polled {
        remote_status: remote.status_text,
        remote_percent: remote.percent,
        records_processed: remote.records_processed,
    };
    if is_deduplicated(job, &looked) {
        store::quota::forgive_duplicate(&mut tx, job).await?;
    }
    store::transition::keep_poll(&mut tx, job, &polled).await?;
    let given_up = if let AfterPoll::GiveUp { kind, .. } = &next { Some(*kind) } else { None };
    let is_done = matches!(next, AfterPoll::Ready { .. });
    match next {
        AfterPoll::PollAgain { at } => {
            store::transition::poll_again(&mut tx, job, at).await?;
            failpoint::reach("poll-again-written");
        }
        AfterPoll::Ready { as_of, completed_at } => {
            store::transition::advance(&mut tx, job, Move::Ready { as_of, completed_at }, context.holder()).await?;
            failpoint::reach("ready-written");
        }
        // Of two orders the first was forgiven, where impact.com answered it with a run that was there.
        AfterPoll::Replay { why } if job.compares && !(is_deduplicated(job, &looked) && job.replays == 0) => {
            let message = format!("{why}; {ONE_ORDER}");
            give_up(&mut tx, job, ErrorKind::Remote, message, context.holder()).await?;
        }
        AfterPoll::Replay { why } => {
            tracing::warn!(reason = why, "to be replayed");
            order_again(&mut tx, job, OrderBy::Replay, context.now(), why, context.holder()).await?;
            failpoint::reach("reorder-written");
        }
        AfterPoll::GiveUp { kind, message } => {
            if matches!(remote.status, RemoteStatus::Error | RemoteStatus::Failed) {
                narrow::or_give_up(&mut tx, job, kind, message, context.holder()).await?;
            } else {
                give_up(&mut tx, job, kind, message, context.holder()).await?;
            }
            failpoint::reach("remote-failure-written");
        }
    }
    tx.commit().await.map_err(store::failed("commit a poll"))?;
    failpoint::reach("poll-committed");
    if let Some(kind) = given_up {
        context.tally.add(&metrics::JOBS_FAILED, &[job.export.as_str(), kind.as_str()], 1);
    }
    if let (true, Some(submitted_at)) = (is_done, job.submitted_at) {
        let took = (context.now() - submitted_at).as_seconds_f64();
        context.tally.took(&metrics::REMOTE_SECONDS, &[job.export.as_str()], took);
    }
    context.wakes.load.notify_one();
    context.wakes.submit.notify_one();
    context.wakes.plan.notify_one();
    Ok(())
}

/// A remote job reduced to what decisions need.
pub(super) fn seen(remote: &RemoteJob) -> Seen {
    let (status, done_at) = match remote.status {
        RemoteStatus::Queued | RemoteStatus::Running | RemoteStatus::Unknown => (SeenStatus::UnderWay, None),
        RemoteStatus::Completed => (SeenStatus::Completed, remote.completed_at),
        RemoteStatus::Error => (SeenStatus::Trouble, remote.failed_at),
        RemoteStatus::Failed => (SeenStatus::Dead, remote.failed_at),
        RemoteStatus::Cancelled => (SeenStatus::Dead, remote.cancelled_at),
    };
    Seen {
        status,
        created_at: remote.created_at,
        started_at: remote.started_at,
        done_at,
        message: remote.message.clone(),
    }
}
