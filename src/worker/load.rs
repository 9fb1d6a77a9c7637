//! The step from `ready` to `loaded`: the result is fetched into the spool, checked, and loaded in one transaction.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use chrono::TimeDelta;
use sqlx::Connection;
use tracing::Instrument as _;

use super::loading::{Failed, Loading, Shape};
use super::outcome::{Failure, give_up, heard, may_call, order_again, settle};
use super::{Context, archive, compare, narrow, reload, soon, trace};
use crate::clock::Clock;
use crate::column::ColumnKind;
use crate::config::Export;
use crate::doubt::Doubt;
use crate::error_chain::Chain;
use crate::export::{Bucket, ExportName, Source};
use crate::failpoint;
use crate::impact::{Download, RemoteJobId};
use crate::job::Job;
use crate::job::decide::OrderBy;
use crate::metrics;
use crate::mirror;
use crate::retry::ErrorKind;
use crate::spool::SpoolFile;
use crate::store;
use crate::store::heard::Paid;
use crate::store::transition::TryAgain;

/// What MetaData says of the columns of each export; asked once, for a table that is not there yet.
#[derive(Debug, Default)]
pub struct MetaData(Mutex<HashMap<ExportName, Arc<BTreeMap<String, ColumnKind>>>>);

impl MetaData {
    fn known(&self, export: &ExportName) -> Option<Arc<BTreeMap<String, ColumnKind>>> {
        self.0.lock().expect("nobody panics while holding it").get(export).cloned()
    }

    fn keep(&self, export: &ExportName, kinds: BTreeMap<String, ColumnKind>) -> Arc<BTreeMap<String, ColumnKind>> {
        let kinds = Arc::new(kinds);
        self.0.lock().expect("nobody panics while holding it").insert(export.clone(), Arc::clone(&kinds));
        kinds
    }
}

pub(super) async fn step(context: &Context, job: &Job) -> Result<(), store::Error> {
    match job.reload_of {
        None if job.compares => compare::step(context, job).await,
        Some(load_id) => reload::step(context, job, load_id).await,
        None => attempt(context, job, None).await,
    }
}

/// Fetches and loads. A file with fewer rows than impact.com speaks of, or with none for a window that has some, is fetched
/// once more, and believed only where that is the one that was `doubted`.
async fn attempt(context: &Context, job: &Job, doubted: Option<[u8; 32]>) -> Result<(), store::Error> {
    let started_at = Clock.now();
    let Some(file) = file(context, job).await? else { return Ok(()) };
    failpoint::reach("spool-complete");
    let export = &context.settings.exports[&job.export];
    let kinds = metadata(context, job, export).await?;
    let kept = archive::keep(context, job, &file).await;
    let loading = Loading { context, job, export, kinds: &kinds, file: &file, kept: &kept, started_at, doubted };
    let mut shape = Shape::AsBefore;
    let loaded = loading.load(&mut shape).instrument(trace::merge(job)).await;
    match loaded {
        Ok((counts, doubts)) => {
            context.count(job, &file, &counts, started_at);
            archive::after_load(context, job, file, kept).await;
            shape.follow(context).await;
            tracing::info!(
                row_count = counts.read,
                inserted = counts.inserted,
                updated = counts.updated,
                deleted = counts.deleted,
                rejected = counts.rejected,
                "loaded {} rows of {} {}",
                counts.read,
                job.export,
                job.window,
            );
            for (doubt, words) in doubts {
                tracing::warn!(%doubt, "{} {} was loaded, but {words}", job.export, job.window);
            }
            context.wakes.plan.notify_one();
            context.wakes.submit.notify_one();
            context.wakes.downstream.notify_one();
            Ok(())
        }
        Err(Failed::Doubtful(doubtful)) if doubted.is_none() => {
            tracing::warn!(error = %doubtful, "the file may be cut off; fetching it once more");
            Box::pin(attempt(context, job, Some(file.sha256))).await
        }
        Err(Failed::Doubtful(doubtful)) => settle(context, job, Failure::ours(ErrorKind::BadFile, &doubtful)).await,
        Err(Failed::Refused(doubt, doubtful)) => refuse(context, job, doubt, &doubtful).await,
        Err(Failed::Cut(cut)) => split(context, job, &cut).await,
        Err(Failed::Foreign) => submit_anew(context, job, "no row of it is of the window").await,
        Err(Failed::Load(error)) if may_be_foreign(job) && matches!(error, mirror::Error::MissingColumn { .. }) => {
            let why = Chain(&error).to_string();
            submit_anew(context, job, &why).await
        }
        Err(Failed::Load(error)) => settle(context, job, Failure::ours(error.kind(), &error)).await,
        Err(Failed::Store(error)) if error.is_lease_lost() => Err(error),
        Err(Failed::Store(error)) => settle(context, job, Failure::ours(error.kind(), &error)).await,
    }
}

/// The result in the spool; none where the job waits or has ended instead: there is no room, the call is not to be had, the result is
/// not there yet, or the fetch failed.
pub(super) async fn file(context: &Context, job: &Job) -> Result<Option<SpoolFile>, store::Error> {
    if let Err(error) = context.spool.look_for_room() {
        settle(context, job, Failure::ours(error.kind(), &error)).await?;
        return Ok(None);
    }
    if !may_call(context, job, "download").await? {
        return Ok(None);
    }
    match fetch(context, job).instrument(trace::fetch(job)).await {
        Ok(Fetched::File(file)) => return Ok(Some(file)),
        Ok(Fetched::NotReady) => not_ready(context, job).await?,
        Err(failure) => settle(context, job, failure).await?,
    }
    Ok(None)
}

enum Fetched {
    File(SpoolFile),
    NotReady,
}

async fn fetch(context: &Context, job: &Job) -> Result<Fetched, Failure> {
    let id = RemoteJobId::new(job.remote_job_id.as_deref().expect("a ready job has a remote id"));
    let call_failed = |error: &_| Failure::call(error, Bucket::Requests);
    let caller = context.caller(&job.account, Some(job.id));
    let pay = |limits| async move { caller.pay_again("download", Paid::Call(job), limits).await.is_some() };
    let answer = context.client(&job.account).download(&id, pay).await;
    caller.heard_download(Paid::Call(job), &answer).await.map_err(|error| Failure::ours(error.kind(), &error))?;
    let mut body = match answer.result.map_err(|error| call_failed(&error))? {
        Download::File(body) => body,
        Download::NotReady(_) => return Ok(Fetched::NotReady),
    };
    let spool_failed = |error: &crate::spool::Error| Failure::ours(error.kind(), error);
    let mut writer = context.spool.writer(job.id.0, job.request.format).await.map_err(|error| spool_failed(&error))?;
    failpoint::reach("download-begun");
    while let Some(chunk) = body.chunk().await.map_err(|error| call_failed(&error))? {
        writer.write(chunk).await.map_err(|error| spool_failed(&error))?;
        failpoint::reach("download-under-way");
    }
    match writer.finish(body.content_length()).await {
        Ok(file) => Ok(Fetched::File(file)),
        Err(error) => {
            if error.is_of_another_format() {
                forget(context, job, &id).await;
            }
            Err(spool_failed(&error))
        }
    }
}

/// A remote job that gives another format than we asked for is none of ours: an order whose reply was lost was taken for it.
/// It is not replayed any more, so that the window is submitted anew.
async fn forget(context: &Context, job: &Job, id: &RemoteJobId) {
    let forgotten = async {
        let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
        store::remote::forget(&mut conn, &job.account, id.as_str()).await
    };
    if let Err(error) = forgotten.await {
        tracing::warn!(error = %Chain(&error), "a remote job of another format cannot be forgotten");
    }
}

/// Somebody replayed the remote job after it was done: wait for its end.
async fn not_ready(context: &Context, job: &Job) -> Result<(), store::Error> {
    let pause = TimeDelta::from_std(context.settings.workers.poll_max).unwrap_or(TimeDelta::minutes(1));
    let message = "impact.com says that the result is not ready, though it was".to_owned();
    let again = TryAgain { run_at: soon(context, pause), kind: ErrorKind::Remote, message };
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    store::transition::try_again(&mut conn, job, again, context.holder()).await
}

/// Column types from MetaData, for a report whose table is yet to be made.
async fn metadata(
    context: &Context,
    job: &Job,
    export: &Export,
) -> Result<Arc<BTreeMap<String, ColumnKind>>, store::Error> {
    if let Some(kinds) = context.metadata.known(&job.export) {
        return Ok(kinds);
    }
    let Source::Report(handle) = &export.source else {
        return Ok(context.metadata.keep(&job.export, BTreeMap::new()));
    };
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    if store::load::has_columns(&mut conn, &job.export).await? || !may_call(context, job, "metadata").await? {
        return Ok(context.metadata.keep(&job.export, BTreeMap::new()));
    }
    drop(conn);
    let answer = context.client(&job.account).report_columns(handle).await;
    heard(context, Paid::Call(job), &answer).await?;
    failpoint::reach("metadata-committed");
    let kinds = match answer {
        Ok(answer) => {
            answer.value.attributes.into_iter().filter_map(|column| Some((column.name, column.kind?))).collect()
        }
        Err(error) => {
            tracing::info!(error = %Chain(&error), "no MetaData; the data will tell the types");
            BTreeMap::new()
        }
    };
    Ok(context.metadata.keep(&job.export, kinds))
}

/// A file whose number of rows is doubtful, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Doubtful(pub String);

/// A file with as many rows as impact.com may put into one (impact-api §9, 30).
#[derive(Debug, thiserror::Error)]
#[error("the file has {rows} rows, just as many as a file may hold, so that it may be cut")]
pub(super) struct Cut {
    pub rows: u64,
}

/// Has the window of a cut file ordered again in shorter ones.
async fn split(context: &Context, job: &Job, cut: &Cut) -> Result<(), store::Error> {
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    let mut tx = conn.begin().await.map_err(store::failed("begin"))?;
    narrow::or_give_up(&mut tx, job, ErrorKind::BadFile, cut.to_string(), context.holder()).await?;
    tx.commit().await.map_err(store::failed("commit the end of a job"))?;
    failpoint::reach("cut-committed");
    context.wakes.all();
    Ok(())
}

/// Ends a job whose file is not loaded because of a doubt. Loading it again would bring the same, so it is not tried again.
async fn refuse(context: &Context, job: &Job, doubt: Doubt, doubtful: &Doubtful) -> Result<(), store::Error> {
    let setting = doubt.setting().expect("only a setting has a file refused");
    let setting = format!("exports.{}.{setting}", job.export);
    let message = format!(
        "{doubtful}; nothing was loaded, for {setting} is \"refuse\". `impact-mirror jobs retry {}` asks for it again; set it to \
         \"warn\" before to have it loaded all the same",
        job.id,
    );
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    let mut tx = conn.begin().await.map_err(store::failed("begin"))?;
    context.tally.add(&metrics::JOBS_FAILED, &[job.export.as_str(), ErrorKind::BadFile.as_str()], 1);
    give_up(&mut tx, job, ErrorKind::BadFile, message, context.holder()).await?;
    tx.commit().await.map_err(store::failed("commit the end of a job"))?;
    failpoint::reach("refusal-committed");
    context.wakes.all();
    Ok(())
}

/// Whether the file may be that of another client's order. Once a new submission has led to it too, it is believed.
pub(super) fn may_be_foreign(job: &Job) -> bool {
    job.adopted && job.resubmits == 0
}

/// The remote job that was taken for our order is somebody else's, as its file tells: the window is submitted anew, and
/// nobody replays that job for it any more.
async fn submit_anew(context: &Context, job: &Job, why: &str) -> Result<(), store::Error> {
    let why = format!("the remote job that was taken for ours, after the reply to the order was lost, is not: {why}");
    tracing::warn!(error = why, "nothing was loaded; to be submitted anew");
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    let mut tx = conn.begin().await.map_err(store::failed("begin"))?;
    order_again(&mut tx, job, OrderBy::Submission, context.now(), why, context.holder()).await?;
    tx.commit().await.map_err(store::failed("commit a new order"))?;
    context.wakes.all();
    Ok(())
}
