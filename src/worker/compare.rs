//! The step of a job that compares: its result is fetched like any other, held against the table, and thrown away.

use std::collections::BTreeMap;

use sqlx::Connection;

use super::Context;
use super::load::{self, may_be_foreign};
use super::loading::target;
use super::outcome::{Failure, give_up, settle};
use crate::failpoint;
use crate::job::Job;
use crate::job::verdict::{Figures, judge};
use crate::mirror::{self, Comparison};
use crate::retry::ErrorKind;
use crate::spool::SpoolFile;
use crate::store;
use crate::store::comparison::Outcome;
use crate::store::transition::Move;

/// How many rows of each kind are shown.
const SAMPLES: i64 = 10;

pub(super) async fn step(context: &Context, job: &Job) -> Result<(), store::Error> {
    let Some(file) = load::file(context, job).await? else { return Ok(()) };
    match compare(context, job, &file).await {
        Ok(found)
            if may_be_foreign(job)
                && found.rows_outside > 0
                && found.rows_outside + found.rows_rejected >= found.rows_in_file =>
        {
            foreign(context, job).await
        }
        Ok(found) => end(context, job, found).await,
        Err(Failed::Mirror(mirror::Error::MissingColumn { .. })) if may_be_foreign(job) => foreign(context, job).await,
        Err(Failed::Mirror(error)) => settle(context, job, Failure::ours(error.kind(), &error)).await,
        Err(Failed::Store(error)) => settle(context, job, Failure::ours(error.kind(), &error)).await,
    }
}

enum Failed {
    Mirror(mirror::Error),
    Store(store::Error),
}

/// Sees one moment of the table all along, and writes nothing to it. What becomes of the job is another transaction: the heartbeat
/// of its lease goes on meanwhile.
async fn compare(context: &Context, job: &Job, file: &SpoolFile) -> Result<Comparison, Failed> {
    let export = &context.settings.exports[&job.export];
    let kinds = BTreeMap::new();
    let target = target(context, job, export, &kinds);
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection")).map_err(Failed::Store)?;
    let mut tx = conn
        .begin_with("begin isolation level repeatable read")
        .await
        .map_err(store::failed("begin"))
        .map_err(Failed::Store)?;
    let found =
        mirror::compare(&mut tx, &file.path, job.request.format, &target, SAMPLES).await.map_err(Failed::Mirror)?;
    tx.rollback().await.map_err(store::failed("end a comparison")).map_err(Failed::Store)?;
    Ok(found)
}

async fn end(context: &Context, job: &Job, found: Comparison) -> Result<(), store::Error> {
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    let mut tx = conn.begin().await.map_err(store::failed("begin"))?;
    let loaded = store::comparison::rows_loaded(&mut tx, job).await?;
    let verdict = judge(Figures {
        in_table: found.rows_in_table,
        loaded,
        differing: found.rows_differing,
        altered: found.rows_altered,
        only_in_file: found.rows_only_in_file,
        only_in_table: found.rows_only_in_table,
    });
    let note = note(job, &found);
    let outcome = Outcome {
        rows_in_file: found.rows_in_file,
        rows_in_table: found.rows_in_table,
        rows_equal: found.rows_equal,
        rows_differing: found.rows_differing,
        rows_altered: found.rows_altered,
        rows_only_in_file: found.rows_only_in_file,
        rows_only_in_table: found.rows_only_in_table,
        rows_rejected: found.rows_rejected,
        rows_loaded: loaded,
        verdict,
        note,
        samples: found.samples,
    };
    store::comparison::keep(&mut tx, job, &outcome).await?;
    let words = format!(
        "compared and not loaded: {verdict}; {} rows equal, {} restated, {} altered in the table, {} only at impact.com, {} only in the table",
        outcome.rows_equal,
        outcome.rows_differing,
        outcome.rows_altered,
        outcome.rows_only_in_file,
        outcome.rows_only_in_table,
    );
    store::transition::advance(&mut tx, job, Move::Compared { note: words.clone() }, context.holder()).await?;
    failpoint::reach("comparison-written");
    tx.commit().await.map_err(store::failed("commit a comparison"))?;
    failpoint::reach("comparison-committed");
    tracing::info!(%verdict, "{} {} of {}: {words}", job.export, job.window, job.account);
    context.wakes.plan.notify_one();
    context.wakes.submit.notify_one();
    Ok(())
}

/// What else there is to say of a file.
fn note(job: &Job, found: &Comparison) -> String {
    let mut notes = Vec::new();
    if !found.new_columns.is_empty() {
        notes.push(format!("the table lacks columns that impact.com gives now: {}", found.new_columns.join(", ")));
    }
    if let Some(told) = job.records_processed.filter(|told| *told != found.rows_in_file) {
        notes.push(format!("the file has {} rows, and impact.com speaks of {told}", found.rows_in_file));
    }
    notes.join("; ")
}

/// Ends a job whose result is somebody else's: an order whose reply was lost was taken for it.
async fn foreign(context: &Context, job: &Job) -> Result<(), store::Error> {
    let message = "the remote job that was taken for ours, after the reply to the order was lost, is not; `impact-mirror verify` asks anew";
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    let mut tx = conn.begin().await.map_err(store::failed("begin"))?;
    if let Some(id) = &job.remote_job_id {
        store::remote::forget(&mut tx, &job.account, id).await?;
    }
    give_up(&mut tx, job, ErrorKind::Remote, message.to_owned(), context.holder()).await?;
    tx.commit().await.map_err(store::failed("commit the end of a job"))?;
    context.wakes.all();
    Ok(())
}
