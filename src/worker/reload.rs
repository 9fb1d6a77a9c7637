//! The step of a reload: the file comes from the archive instead of impact.com, and is loaded like any other. No call is
//! made, so no quota is spent.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};
use tokio_util::task::TaskTracker;

use super::leases::heartbeat;
use super::ledger::Since;
use super::loading::{Shape, add_columns, carried_over, counts, figures, locked_days, target, widen};
use super::outcome::{Failure, settle};
use super::{Claimed, Context, Pool, Stop};
use crate::archive;
use crate::clock::Clock;
use crate::failpoint;
use crate::job::{Job, proof};
use crate::mirror::{self, Target, Writes};
use crate::retry::ErrorKind;
use crate::spool::{self, SpoolFile};
use crate::store;
use crate::store::archive::Origin;
use crate::store::cell::Filled;
use crate::store::load::{Counts, File};
use crate::store::transition::Move;

/// Runs a claimed reload to its end, outside of the pools, and keeps its lease meanwhile.
pub async fn run(context: &Arc<Context>, job: Job, stop: &Stop) {
    let tasks = TaskTracker::new();
    let own = Stop::default();
    tasks.spawn(heartbeat(Arc::clone(context), own.clone()));
    super::run(Pool::Load, context, Claimed { jobs: vec![job], since: Since::now() }, stop).await;
    own.gently.cancel();
    tasks.close();
    tasks.wait().await;
}

pub(super) async fn step(context: &Context, job: &Job, load_id: i64) -> Result<(), store::Error> {
    let began_at = Clock.now();
    let ended = async {
        let (origin, file) = fetch(context, job, load_id).await?;
        failpoint::reach("reload-spooled");
        let (counts, shape) = load(context, job, &origin, &file).await?;
        context.count(job, &file, &counts, began_at);
        Ok((counts, shape))
    };
    match ended.await {
        Ok((counts, shape)) => {
            shape.follow(context).await;
            tracing::info!(
                row_count = counts.read,
                rejected = counts.rejected,
                "loaded {} {} again",
                job.export,
                job.window
            );
            context.wakes.plan.notify_one();
            context.wakes.downstream.notify_one();
            Ok(())
        }
        Err(Failed::Store(error)) if error.is_lease_lost() => Err(error),
        Err(failed) => settle(context, job, failed.into()).await,
    }
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("no [archive] is configured; set archive.url, or have the days read anew by `impact-mirror refresh`")]
    NoArchive,
    #[error("load {0} has no file in the archive any more; `impact-mirror refresh` reads its days anew")]
    NoFile(i64),
    #[error(transparent)]
    Archive(#[from] archive::Error),
    #[error(transparent)]
    Spool(#[from] spool::Error),
    #[error(transparent)]
    Load(#[from] mirror::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        let kind = match &failed {
            Failed::NoArchive | Failed::NoFile(_) => ErrorKind::Permanent,
            Failed::Archive(error) => error.kind(),
            Failed::Spool(error) => error.kind(),
            Failed::Load(error) => error.kind(),
            Failed::Store(error) => error.kind(),
        };
        Self::ours(kind, &failed)
    }
}

/// Brings the file back into the spool, where it has to be what it was.
async fn fetch(context: &Context, job: &Job, load_id: i64) -> Result<(Origin, SpoolFile), Failed> {
    let archive = context.archive.as_ref().ok_or(Failed::NoArchive)?;
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    let origin = store::archive::origin(&mut conn, load_id).await?.ok_or(Failed::NoFile(load_id))?;
    drop(conn);
    let key = match &origin.archive_key {
        Some(key) if origin.dropped_at.is_none() => key,
        Some(_) | None => return Err(Failed::NoFile(load_id)),
    };
    let mut body = archive.get(key).await?;
    let mut writer = context.spool.writer(job.id.0, job.request.format).await?;
    while let Some(chunk) = body.chunk().await? {
        writer.write(chunk).await?;
    }
    let file = writer.finish(u64::try_from(origin.file_bytes).ok()).await?;
    if file.sha256.as_slice() != origin.file_sha256 {
        return Err(archive::Error::OtherFile { what: key.clone() }.into());
    }
    Ok((origin, file))
}

/// Rows, coverage and the state `loaded`: one transaction, as for a file of impact.com. What is doubtful about the file is told
/// again, but does not lead to another fetch, to shorter windows or to a refusal: nothing else is to be had.
async fn load(context: &Context, job: &Job, origin: &Origin, file: &SpoolFile) -> Result<(Counts, Shape), Failed> {
    let export = &context.settings.exports[&job.export];
    let kinds = BTreeMap::new();
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    let mut target = target(context, job, export, &kinds);
    let started_at = Clock.now();
    let mut shape = add_columns(&mut conn, job, file, &target, started_at).await?;
    loop {
        match transaction(context, &mut conn, job, origin, file, &target, started_at).await {
            Err(Failed::Load(mirror::Error::Narrow { widening, .. })) => {
                widen(&mut conn, job, file, &mut target, &widening).await?;
                shape = Shape::Changed;
            }
            Ok((counts, Shape::AsBefore)) => return Ok((counts, shape)),
            ended => return ended,
        }
    }
}

async fn transaction(
    context: &Context,
    conn: &mut PgConnection,
    job: &Job,
    origin: &Origin,
    file: &SpoolFile,
    target: &Target<'_>,
    started_at: DateTime<Utc>,
) -> Result<(Counts, Shape), Failed> {
    let export = &context.settings.exports[&job.export];
    let mut tx = conn.begin().await.map_err(store::failed("begin"))?;
    store::load::enter(&mut tx, job).await?;
    let about = File { sha256: file.sha256, bytes: file.bytes, target_hash: target.hash(), started_at };
    let load_id = store::load::insert(&mut tx, job, &about).await?;
    let report =
        mirror::load(&mut tx, &file.path, job.request.format, target, load_id, started_at, Writes::All).await?;
    failpoint::reach("reload-rows-moved");
    let (counts, shape) = (counts(target, &report), Shape::of(&report));
    let figures = figures(job, &counts, Some(&report.rows_per_day));
    let carried = carried_over(&mut tx, job, Vec::new(), figures).await?;
    let doubts = proof::all(proof::doubts(figures, export.max_rows), carried);
    let doubts = proof::worth_telling(doubts, &export.on_doubts);
    store::load::finish(&mut tx, load_id, &counts, figures.told, &doubts, context.announce()).await?;
    if let Some(key) = &origin.archive_key {
        store::archive::attach(&mut tx, load_id, key).await?;
    }
    let as_of = job.as_of.or(job.submitted_at).unwrap_or(started_at);
    let locked = locked_days(&mut tx, target, export, &counts, as_of).await?;
    let filled = Filled { rows_per_day: Some(report.rows_per_day), written: report.days_written, locked, as_of };
    store::cell::fill(&mut tx, job, &filled, target.time_zone, &export.refresh).await?;
    store::transition::advance(&mut tx, job, Move::Loaded { load_id }, context.holder()).await?;
    failpoint::reach("reload-written");
    tx.commit().await.map_err(store::failed("commit a load"))?;
    failpoint::reach("reload-committed");
    Ok((counts, shape))
}
