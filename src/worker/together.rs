//! Polling several jobs of an account by one reading of its job list. What the list does not tell is left to single polls.

use std::panic::AssertUnwindSafe;

use chrono::TimeDelta;
use futures_util::FutureExt as _;
use sqlx::PgConnection;
use tracing::Instrument as _;

use super::outcome::{Failure, heard, may_call, settle};
use super::poll::{follow, seen};
use super::{Context, outcome, span, tell};
use crate::error_chain::Chain;
use crate::export::Bucket;
use crate::failpoint;
use crate::impact::JobsPage;
use crate::job::Job;
use crate::job::decide::{stands_where_it_stood, worth_listing};
use crate::retry::ErrorKind;
use crate::store;
use crate::store::heard::Paid;
use crate::store::job::Step;

/// How far their clock may be from ours before the list leaves jobs out, which are then polled singly.
const MARGIN: TimeDelta = TimeDelta::hours(1);

/// Claims the waiting job whose turn it is, and with it those of its account for which the list is worth reading.
pub(super) async fn claim(context: &Context, conn: &mut PgConnection) -> Result<Vec<Job>, store::Error> {
    let workers = &context.settings.workers;
    let due = store::batch::due_together(conn, &context.worker, workers.poll_min, workers.poll_max).await?;
    let Some(lead) = due.first() else { return Ok(Vec::new()) };
    let jobs = worth_listing(&due);
    if jobs.contains(&lead.id) {
        let jobs = store::batch::claim(conn, &jobs, &context.worker).await?;
        if !jobs.is_empty() {
            return Ok(jobs);
        }
    }
    // The list is not worth it for that one, or a colleague took it.
    Ok(store::job::claim(conn, Step::Poll, &context.worker).await?.into_iter().collect())
}

/// Reads the list, as long as that costs fewer calls than single polls, and writes what it tells of. Gives the jobs that
/// are left for single polls.
pub(super) async fn step<'a>(context: &Context, jobs: &'a [Job]) -> Vec<&'a Job> {
    let mut left: Vec<&Job> = jobs.iter().collect();
    let mut next = match first_page(context, jobs).await {
        Ok(page) => page,
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "cannot read the job list; polling the jobs one by one");
            return left;
        }
    };
    for _ in 1..jobs.len() {
        let (Some(page), Some(&payer)) = (next.take(), left.first()) else { break };
        if left.len() == 1 {
            break; // one look costs as much as one page
        }
        match may_call(context, payer, "jobs").await {
            Ok(true) => {}
            outcome => {
                tell(payer, outcome.map(drop));
                left.remove(0); // the others find out by themselves
                break;
            }
        }
        let answer = context.client(&payer.account).jobs_page(page).await;
        if let Err(error) = heard(context, Paid::Call(payer), &answer).await {
            tracing::warn!(error = %Chain(&error), "cannot write down what the job list said of quota");
        }
        let (listed, following) = match answer {
            Ok(read) => read.value,
            Err(error) => {
                let kind = error.kind();
                if matches!(kind, ErrorKind::Throttled | ErrorKind::Credentials) {
                    for job in left.drain(..) {
                        let settled = settle(context, job, Failure::call(&error, Bucket::Requests));
                        tell(job, settled.instrument(span(job)).await);
                    }
                } else {
                    tracing::warn!(error = %Chain(&error), "cannot read the job list; polling the jobs one by one");
                }
                break;
            }
        };
        failpoint::reach("list-answered");
        for remote in listed {
            let listed = left.iter().position(|job| job.remote_job_id.as_deref() == Some(remote.id.as_str()));
            let Some(at) = listed else { continue };
            // The list may be staler than the job itself.
            if stands_where_it_stood(left[at], &seen(&remote)) {
                continue;
            }
            let job = left.remove(at);
            match AssertUnwindSafe(follow(context, job, remote)).catch_unwind().instrument(span(job)).await {
                Ok(outcome) => tell(job, outcome),
                Err(_panic) => tell(job, outcome::after_panic(context, job).await),
            }
        }
        next = following;
    }
    left
}

async fn first_page(context: &Context, jobs: &[Job]) -> Result<Option<JobsPage>, store::Error> {
    let ids: Vec<String> = jobs.iter().filter_map(|job| job.remote_job_id.clone()).collect();
    let account = &jobs[0].account;
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    let Some(oldest) = store::batch::oldest(&mut conn, account, &ids).await? else { return Ok(None) };
    // No address can be made of a span only where the account's own address is broken, which single polls will say.
    Ok(context.client(account).jobs_from(oldest - MARGIN, context.now() + MARGIN).ok())
}
