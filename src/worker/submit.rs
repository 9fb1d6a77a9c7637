//! The step from `planned` to `waiting`: an order goes out, or one whose end is unknown is looked for.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Connection;

use super::leases::safe_part_of;
use super::ledger::{Since, YOUNG};
use super::outcome::{Failure, ONE_ORDER, give_up, heard, may_call, order_again, settle};
use super::{Context, poll, soon};
use crate::error_chain::Chain;
use crate::export::Bucket;
use crate::failpoint;
use crate::impact::{self, Answer, RemoteJob, RemoteJobId};
use crate::job::Job;
use crate::job::decide::{AfterLookup, OrderBy, SeenStatus, adopt_replay, adopt_submission};
use crate::retry::ErrorKind;
use crate::store;
use crate::store::heard::Paid;
use crate::store::quota::Charged;
use crate::store::transition::{Move, TryAgain};

/// The first look at a remote job follows its order by the shortest poll pause.
pub(super) async fn step(context: &Context, job: &Job, since: Since) -> Result<(), store::Error> {
    match (&job.replay_of, job.resumed) {
        (None, false) => submit(context, job, since).await,
        (Some(id), false) => replay(context, job, &RemoteJobId::new(id), since).await,
        (None, true) => find_submission(context, job).await,
        (Some(_), true) => find_replay(context, job).await,
    }
}

async fn submit(context: &Context, job: &Job, since: Since) -> Result<(), store::Error> {
    let Some(job) = still_paid(context, job, since).await? else { return Ok(()) };
    let job = &*job;
    let began = tokio::time::Instant::now();
    failpoint::reach("submission-next");
    let Some(answer) = while_ours(context, job, context.client(&job.account).submit(&job.request)).await else {
        return Ok(());
    };
    failpoint::reach("submission-answered");
    let took = elapsed(began);
    heard_order(context, job, &answer).await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return settle(context, job, Failure::call(&error, job.bucket)).await,
    };
    let id = answer.value.id.as_str().to_owned();
    let asked_at = answer.server_date.map(|date| date - took);
    tracing::info!(remote_job_id = id, "ordered {} {} of {}", job.export, job.window, job.account);
    follow(context, job, Followed { id, asked_at, as_of: None, adopted: false, note: "" }).await
}

async fn replay(context: &Context, job: &Job, id: &RemoteJobId, since: Since) -> Result<(), store::Error> {
    let client = context.client(&job.account);
    if !may_call(context, job, "job").await? {
        return Ok(());
    }
    let answer = client.job(id).await;
    heard(context, Paid::Call(job), &answer).await?;
    let base = match answer {
        Ok(answer) => answer.value,
        Err(error) if is_refusal(&error) => {
            refund(context, job).await?;
            return replay_refused(context, job, &error).await;
        }
        Err(error) => return settle(context, job, Failure::call(&error, Bucket::Requests).before_order()).await,
    };
    let seen = poll::seen(&base);
    if seen.status == SeenStatus::UnderWay {
        refund(context, job).await?;
        return follow_running(context, job, &base).await;
    }
    {
        let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
        store::transition::keep_replay_base(&mut conn, job, id.as_str(), seen.done_at).await?;
        failpoint::reach("replay-base-committed");
    }
    let Some(job) = still_paid(context, job, since).await? else { return Ok(()) };
    let job = &*job;
    let began = tokio::time::Instant::now();
    let Some(answer) = while_ours(context, job, client.replay(id)).await else { return Ok(()) };
    failpoint::reach("replay-answered");
    let took = elapsed(began);
    heard_order(context, job, &answer).await;
    match answer {
        Ok(answer) => {
            let new = answer.value.id.as_str().to_owned();
            let asked_at = answer.server_date.map(|date| date - took);
            tracing::info!(remote_job_id = new, "replayed {} {} of {}", job.export, job.window, job.account);
            follow(context, job, Followed { id: new, asked_at, as_of: None, adopted: false, note: "by Replay" }).await
        }
        Err(error) if is_refusal(&error) => {
            // Refused while it runs, or for good: the job itself tells which.
            if let Charged::No { until, .. } = context.caller(&job.account, Some(job.id)).pay("job").await? {
                return wait_to_replay(context, job, &error, until).await;
            }
            let answer = client.job(id).await;
            heard(context, Paid::Call(job), &answer).await?;
            match answer {
                Ok(answer) if poll::seen(&answer.value).status == SeenStatus::UnderWay => {
                    follow_running(context, job, &answer.value).await
                }
                Ok(_) | Err(_) => replay_refused(context, job, &error).await,
            }
        }
        Err(error) => settle(context, job, Failure::call(&error, job.bucket)).await,
    }
}

/// Gives the job with a charge that covers its order, and a lease that is ours, if that goes out at once. `None`: there is
/// no room for it any more, and the job is planned again.
async fn still_paid<'a>(
    context: &Context,
    job: &'a Job,
    mut since: Since,
) -> Result<Option<Cow<'a, Job>>, store::Error> {
    let mut paid = Cow::Borrowed(job);
    // A process that was frozen for as long as a lease lasts may have lost the job: its order must not follow another's.
    let limit = YOUNG.min(safe_part_of(context.worker.lease));
    while !since.is_within(limit) {
        since = Since::now();
        let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
        let now = store::coverage::database_now(&mut conn).await?;
        if let Some(renewed) = store::order::renew(&mut conn, &paid, now).await? {
            tracing::info!("charged anew: the order took long to go out");
            paid = Cow::Owned(renewed);
            continue;
        }
        let mut tx = conn.begin().await.map_err(store::failed("begin"))?;
        store::quota::refund(&mut tx, &paid).await?;
        let why = "its charge grew old before the order went out, and there is no room for another".to_owned();
        let back = Move::Planned { order: None, run_at: context.now(), kind: Some(ErrorKind::Throttled), why };
        store::transition::advance(&mut tx, job, back, context.holder()).await?;
        tx.commit().await.map_err(store::failed("commit an order that did not go out"))?;
        return Ok(None);
    }
    Ok(Some(paid))
}

/// The answer to an order. `None`: its lease could not be renewed in time, and what became of the order is looked for when
/// that has run out, by whoever takes the job then. One that was still on its way could be taken after that look.
async fn while_ours<T>(context: &Context, job: &Job, order: impl Future<Output = T>) -> Option<T> {
    let answer = context.leases.while_ours(job.lease, context.worker.lease, order).await;
    if answer.is_none() {
        tracing::warn!(
            "gave an order up before its lease ran out, which could not be renewed; whether it was taken is looked for"
        );
    }
    answer
}

/// A Replay was refused, and whether that was because it runs cannot be asked for want of requests: it is tried once more
/// when there are some. Until then nothing is submitted that may be under way.
async fn wait_to_replay(
    context: &Context,
    job: &Job,
    error: &impact::Error,
    until: DateTime<Utc>,
) -> Result<(), store::Error> {
    let why = format!("{}; the hourly requests are spent, so that the job cannot be looked at", Chain(error));
    tracing::warn!(error = why, %until, "Replay refused; to be tried again");
    let back = Move::Planned { order: None, run_at: until, kind: Some(ErrorKind::Throttled), why };
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    store::transition::advance(&mut conn, job, back, context.holder()).await
}

/// Writes down what the answer to an order said of quota. An order that was taken is followed even where that fails.
async fn heard_order<T>(context: &Context, job: &Job, answer: &Result<Answer<T>, impact::Error>) {
    if let Err(error) = heard(context, Paid::Order(job), answer).await {
        tracing::warn!(error = %Chain(&error), "cannot write down what the answer to an order said of quota");
    }
}

/// Gives back the charge of an order that did not go out.
async fn refund(context: &Context, job: &Job) -> Result<(), store::Error> {
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    store::quota::refund(&mut conn, job).await
}

/// Whether impact.com says that this remote job cannot be replayed, rather than that nothing can.
fn is_refusal(error: &impact::Error) -> bool {
    match error.kind() {
        ErrorKind::Forbidden | ErrorKind::Permanent | ErrorKind::Expired | ErrorKind::Remote => true,
        ErrorKind::Transient
        | ErrorKind::Throttled
        | ErrorKind::Credentials
        | ErrorKind::BadFile
        | ErrorKind::Database
        | ErrorKind::NoRoom
        | ErrorKind::Internal => false,
    }
}

/// Replay was refused: submit again, once (design §10).
async fn replay_refused(context: &Context, job: &Job, error: &impact::Error) -> Result<(), store::Error> {
    let message = Chain(error).to_string();
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    let mut tx = conn.begin().await.map_err(store::failed("begin"))?;
    if job.compares {
        let message = format!("Replay refused: {message}; {ONE_ORDER}");
        if let Some(id) = &job.replay_of {
            store::remote::forget(&mut tx, &job.account, id).await?;
        }
        give_up(&mut tx, job, ErrorKind::Expired, message, context.holder()).await?;
    } else if job.resubmits == 0 {
        tracing::warn!(error = message, "Replay refused; to be submitted anew");
        let why = format!("Replay refused: {message}");
        order_again(&mut tx, job, OrderBy::Submission, context.now(), why, context.holder()).await?;
    } else {
        let message = format!("Replay refused, after a new submission too: {message}");
        give_up(&mut tx, job, ErrorKind::Expired, message, context.holder()).await?;
    }
    failpoint::reach("replay-refusal-written");
    tx.commit().await.map_err(store::failed("commit a refusal"))?;
    failpoint::reach("replay-refusal-committed");
    context.wakes.submit.notify_one();
    Ok(())
}

/// Somebody else replayed the job a moment ago: its run serves us too, and is as new as its beginning.
async fn follow_running(context: &Context, job: &Job, running: &RemoteJob) -> Result<(), store::Error> {
    let as_of = running.started_at.or(running.created_at).map(|at| at.min(context.now()));
    let id = running.id.as_str().to_owned();
    follow(context, job, Followed { id, asked_at: None, as_of, adopted: false, note: "it was under way already" }).await
}

/// Looks for a submission whose reply was lost, before anything is ordered again.
async fn find_submission(context: &Context, job: &Job) -> Result<(), store::Error> {
    match find_in_list(context, job).await? {
        Found::Adopt { id, asked_at } => {
            follow_found(context, job, Followed { id, asked_at, as_of: None, adopted: true, note: ADOPTED }).await
        }
        Found::Nothing => back_to_planned(context, job).await,
        Found::Settled => Ok(()),
    }
}

/// Looks whether a Replay whose reply was lost took effect.
async fn find_replay(context: &Context, job: &Job) -> Result<(), store::Error> {
    let Some(replayed) = &job.remote_job_id else {
        refund(context, job).await?; // its base was not read yet, so it never went out
        return back_to_planned(context, job).await;
    };
    if !may_call(context, job, "job").await? {
        return Ok(());
    }
    let answer = context.client(&job.account).job(&RemoteJobId::new(replayed)).await;
    heard(context, Paid::Call(job), &answer).await?;
    let read = match answer {
        Ok(answer) => answer.value,
        Err(error) if is_refusal(&error) => return replay_refused(context, job, &error).await,
        Err(error) => return settle(context, job, Failure::call(&error, Bucket::Requests)).await,
    };
    match adopt_replay(job, replayed, &poll::seen(&read), context.now()) {
        AfterLookup::Adopt(id) => {
            let found = Followed { id, asked_at: None, as_of: None, adopted: false, note: ADOPTED };
            follow_found(context, job, found).await
        }
        AfterLookup::LookAgain { at } => {
            let message = "the reply to a Replay was lost; nothing moved yet".to_owned();
            let again = TryAgain { run_at: at, kind: ErrorKind::Transient, message };
            let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
            let mut tx = conn.begin().await.map_err(store::failed("begin"))?;
            store::transition::count_look(&mut tx, job).await?;
            store::transition::try_again(&mut tx, job, again, context.holder()).await?;
            tx.commit().await.map_err(store::failed("commit a look for a Replay"))?;
            failpoint::reach("replay-look-committed");
            Ok(())
        }
        // Where a Replay makes a new job, the old one never moves (impact-api §2.7).
        AfterLookup::OrderAgain => find_submission(context, job).await,
    }
}

/// What a look at the account's job list leads to.
enum Found {
    Adopt {
        id: String,
        /// When it was asked for, by impact.com's clock, if that is known.
        asked_at: Option<DateTime<Utc>>,
    },
    Nothing,
    /// The look itself failed, and that was written.
    Settled,
}

/// Around the time of an order, its remote job is looked for.
const LIST_MARGIN: TimeDelta = TimeDelta::hours(1);

/// The remote jobs from around the order, and how far their clock is ahead of ours, if they say; `skew` is what is known of
/// that before.
/// `None`: the look itself failed, and that was written.
async fn list(
    context: &Context,
    job: &Job,
    skew: TimeDelta,
) -> Result<Option<(Vec<RemoteJob>, Option<TimeDelta>)>, store::Error> {
    if !may_call(context, job, "jobs").await? {
        return Ok(None);
    }
    // `submitted_at` is by the database's clock, so the two are told apart by it.
    let now = {
        let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
        store::coverage::database_now(&mut conn).await?
    };
    let (from, to) = (job.submitted_at.unwrap_or(now) - LIST_MARGIN, now + LIST_MARGIN);
    let caller = context.caller(&job.account, Some(job.id));
    let pay = |limits| async move { caller.pay_again("jobs", Paid::Call(job), limits).await.is_some() };
    let answer = context.client(&job.account).jobs(from + skew, to + skew, pay).await;
    heard(context, Paid::Call(job), &answer).await?;
    match answer {
        Ok(answer) => {
            failpoint::reach("lookup-answered");
            let skew = answer.server_date.map(|date| date - now);
            Ok(Some((answer.value, skew)))
        }
        Err(error) => {
            settle(context, job, Failure::call(&error, Bucket::Requests)).await?;
            Ok(None)
        }
    }
}

async fn find_in_list(context: &Context, job: &Job) -> Result<Found, store::Error> {
    let Some((mut listed, mut skew)) = list(context, job, TimeDelta::zero()).await? else { return Ok(Found::Settled) };
    if let Some(far) = skew.filter(|skew| skew.abs() > LIST_MARGIN / 2) {
        // Their clock is so far from ours that the list may have left the job out.
        let Some(again) = list(context, job, far).await? else { return Ok(Found::Settled) };
        (listed, skew) = again;
    }
    let ours: Vec<RemoteJob> = listed.into_iter().filter(|remote| could_be(job, remote)).collect();
    let ids: Vec<String> = ours.iter().map(|remote| remote.id.as_str().to_owned()).collect();
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    let known = store::remote::known(&mut conn, &job.account, &ids).await?;
    let unknown: Vec<_> = ours
        .into_iter()
        .map(|remote| (remote.id.as_str().to_owned(), remote.created_at))
        .filter(|(id, _)| !known.contains(id))
        .collect();
    Ok(match adopt_submission(job, &unknown, skew.unwrap_or_default()) {
        AfterLookup::Adopt(id) => {
            let asked_at = job.submitted_at.zip(skew).map(|(submitted_at, skew)| submitted_at + skew);
            Found::Adopt { id, asked_at }
        }
        AfterLookup::LookAgain { .. } | AfterLookup::OrderAgain => Found::Nothing,
    })
}

/// Whether a listed job is of the type and program that we ordered (impact-api §2.5).
fn could_be(job: &Job, remote: &RemoteJob) -> bool {
    let type_fits = remote.job_type.as_deref().is_none_or(|job_type| match job.bucket {
        Bucket::ClickExport => job_type.eq_ignore_ascii_case("ClickExport"),
        Bucket::ReportExport => job_type.eq_ignore_ascii_case("ApiReport"),
        Bucket::Requests => false,
    });
    type_fits && (remote.program.is_none() || remote.program == job.program)
}

const ADOPTED: &str = "adopted: the reply to the order was lost";

async fn follow_found(context: &Context, job: &Job, found: Followed) -> Result<(), store::Error> {
    tracing::info!(remote_job_id = found.id, "adopted the remote job of an order whose reply was lost");
    follow(context, job, found).await
}

async fn back_to_planned(context: &Context, job: &Job) -> Result<(), store::Error> {
    tracing::info!("no trace of the order at impact.com; to be ordered again");
    let back = Move::Planned {
        order: None,
        run_at: context.now(),
        kind: None,
        why: "no trace of the order at impact.com".to_owned(),
    };
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    store::transition::advance(&mut conn, job, back, context.holder()).await?;
    failpoint::reach("replan-committed");
    context.wakes.submit.notify_one();
    Ok(())
}

/// A remote job to follow from now on.
struct Followed {
    id: String,
    /// When it was asked for, by impact.com's clock.
    asked_at: Option<DateTime<Utc>>,
    /// When its run began, where it was under way before our order.
    as_of: Option<DateTime<Utc>>,
    /// Whether it was found in the list after its submission's reply was lost: its file tells whether it is ours.
    adopted: bool,
    note: &'static str,
}

async fn follow(context: &Context, job: &Job, followed: Followed) -> Result<(), store::Error> {
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    let mut tx = conn.begin().await.map_err(store::failed("begin"))?;
    store::remote::remember(&mut tx, &job.account, &followed.id, &job.request).await?;
    let usual = store::batch::usual_duration(&mut tx, &job.export, &job.account).await?;
    let waiting = Move::Waiting {
        remote_job_id: followed.id,
        submitted_remote_at: followed.asked_at,
        as_of: followed.as_of,
        adopted: followed.adopted,
        run_at: soon(context, context.poll_policy().first_look(usual)),
        note: followed.note,
    };
    store::transition::advance(&mut tx, job, waiting, context.holder()).await?;
    failpoint::reach("waiting-written");
    tx.commit().await.map_err(store::failed("commit an order"))?;
    failpoint::reach("waiting-committed");
    context.wakes.poll.notify_one();
    context.wakes.submit.notify_one();
    Ok(())
}

fn elapsed(began: tokio::time::Instant) -> TimeDelta {
    TimeDelta::from_std(began.elapsed()).unwrap_or(TimeDelta::zero())
}
