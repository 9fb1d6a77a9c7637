//! The step from `ready` to `loaded`: the result is fetched into the spool, checked, and loaded in one transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use sqlx::{Connection, PgConnection};

use super::archive::Kept;
use super::outcome::{Failure, give_up, heard, may_call, order_again, settle};
use super::{Context, archive, narrow, reload, soon};
use crate::clock::Clock;
use crate::column::ColumnKind;
use crate::config::Export;
use crate::doubt::{Doubt, Figures};
use crate::error_chain::Chain;
use crate::export::{Bucket, ExportName, Source};
use crate::impact::{Download, RemoteJobId};
use crate::job::Job;
use crate::job::decide::OrderBy;
use crate::job::narrow::is_cut;
use crate::job::proof::{self, Verdict};
use crate::mirror::{self, Target};
use crate::retry::ErrorKind;
use crate::spool::SpoolFile;
use crate::store;
use crate::store::cell::Filled;
use crate::store::heard::Paid;
use crate::store::load::{Counts, File};
use crate::store::transition::{Move, TryAgain};

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
        Some(load_id) => reload::step(context, job, load_id).await,
        None => attempt(context, job, None).await,
    }
}

/// Fetches and loads. A file with fewer rows than impact.com speaks of, or with none for a window that has some, is fetched
/// once more, and believed only where that is the one that was `doubted`.
async fn attempt(context: &Context, job: &Job, doubted: Option<[u8; 32]>) -> Result<(), store::Error> {
    let started_at = Clock.now();
    if let Err(error) = context.spool.look_for_room() {
        return settle(context, job, Failure::ours(error.kind(), &error)).await;
    }
    if !may_call(context, job, "download").await? {
        return Ok(());
    }
    let file = match fetch(context, job).await {
        Ok(Fetched::File(file)) => file,
        Ok(Fetched::NotReady) => return not_ready(context, job).await,
        Err(failure) => return settle(context, job, failure).await,
    };
    let export = &context.settings.exports[&job.export];
    let kinds = metadata(context, job, export).await?;
    let kept = archive::keep(context, job, &file).await;
    let loaded = load(context, job, export, &kinds, &file, &kept, started_at, doubted).await;
    match loaded {
        Ok((counts, doubts)) => {
            archive::after_load(context, job, file, kept).await;
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
    while let Some(chunk) = body.chunk().await.map_err(|error| call_failed(&error))? {
        writer.write(chunk).await.map_err(|error| spool_failed(&error))?;
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
struct Doubtful(String);

/// A file with as many rows as impact.com may put into one (impact-api §9, 30).
#[derive(Debug, thiserror::Error)]
#[error("the file has {rows} rows, just as many as a file may hold, so that it may be cut")]
struct Cut {
    rows: u64,
}

/// Has the window of a cut file ordered again in shorter ones.
async fn split(context: &Context, job: &Job, cut: &Cut) -> Result<(), store::Error> {
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    let mut tx = conn.begin().await.map_err(store::failed("begin"))?;
    narrow::or_give_up(&mut tx, job, ErrorKind::BadFile, cut.to_string(), context.holder()).await?;
    tx.commit().await.map_err(store::failed("commit the end of a job"))?;
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
    tracing::error!(error = message, %doubt, "job failed");
    give_up(&mut tx, job, ErrorKind::BadFile, message, context.holder()).await?;
    tx.commit().await.map_err(store::failed("commit the end of a job"))?;
    context.wakes.all();
    Ok(())
}

/// Whether the file may be that of another client's order. Once a new submission has led to it too, it is believed.
fn may_be_foreign(job: &Job) -> bool {
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

enum Failed {
    /// It is the file of another client's order.
    Foreign,
    Doubtful(Doubtful),
    Refused(Doubt, Doubtful),
    Cut(Cut),
    Load(mirror::Error),
    Store(store::Error),
}

impl From<store::Error> for Failed {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

/// Where the rows of a job belong.
pub(super) fn target<'a>(
    context: &'a Context,
    job: &'a Job,
    export: &'a Export,
    kinds: &'a BTreeMap<String, ColumnKind>,
) -> Target<'a> {
    Target {
        schema: &context.settings.database.schema,
        export: &job.export,
        account: &job.account,
        program: &job.program,
        window: job.window,
        time_zone: context.settings.accounts[&job.account].time_zone,
        key: &export.key,
        date_column: export.date_column.as_deref(),
        configured: &export.types,
        typed_by_user: &export.typed_by_user,
        metadata: kinds,
        on_type_conflict: export.on_type_conflict,
        partition: export.partition,
        history: export.history,
    }
}

/// Adds the columns that a file brings, and says so.
pub(super) async fn add_columns(
    conn: &mut PgConnection,
    job: &Job,
    file: &SpoolFile,
    target: &Target<'_>,
    now: DateTime<Utc>,
) -> Result<(), mirror::Error> {
    let added = mirror::add_columns(conn, &file.path, job.request.format, target, now).await?;
    tell_changes(target, &added);
    Ok(())
}

fn tell_changes(target: &Target<'_>, changes: &[String]) {
    for change in changes {
        tracing::info!("table {}.{}: {change}", target.schema, target.export);
    }
}

/// What became of the rows, as a load keeps it; says what was done to the table.
pub(super) fn counts(target: &Target<'_>, report: &mirror::Report) -> Counts {
    tell_changes(target, &report.table_changes);
    Counts {
        read: report.rows_read,
        inserted: report.rows_inserted,
        updated: report.rows_updated,
        deleted: report.rows_deleted,
        unchanged: report.rows_unchanged,
        rejected: report.rows_rejected,
        outside: report.rows_outside,
        kept_deletions: report.kept_deletions,
    }
}

/// What doubts go by.
pub(super) fn figures(job: &Job, counts: &Counts, rows_per_day: Option<&BTreeMap<NaiveDate, u64>>) -> Figures {
    let standing: Option<u64> = rows_per_day.filter(|_| counts.kept_deletions).map(|rows| rows.values().sum());
    Figures {
        rows: counts.read,
        told: job.records_processed,
        deleted: counts.deleted,
        rejected: counts.rejected,
        stale: standing.unwrap_or_default().saturating_sub(counts.read - counts.rejected),
    }
}

/// The days whose rows are all locked.
pub(super) async fn locked_days(
    conn: &mut PgConnection,
    target: &Target<'_>,
    export: &Export,
    counts: &Counts,
    as_of: DateTime<Utc>,
) -> Result<BTreeSet<NaiveDate>, mirror::Error> {
    match &export.locked {
        // A rejected row is not in the table, so that nobody can tell whether it is locked.
        Some(rule) if counts.rejected == 0 => mirror::locked_days(conn, target, rule, as_of).await,
        Some(_) | None => Ok(BTreeSet::new()),
    }
}

/// The doubts about what stood in the window `before` that this file does not settle: an empty one leaves it as empty as it was.
pub(super) async fn carried_over(
    conn: &mut PgConnection,
    job: &Job,
    mut before: Vec<Doubt>,
    figures: Figures,
) -> Result<Vec<Doubt>, store::Error> {
    if figures.rows == 0 && store::load::is_emptied_in_doubt(conn, job).await? {
        before.push(Doubt::UnexpectedZero);
    }
    Ok(proof::carried_over(&before, figures))
}

/// Rows, coverage and the state `loaded`: one transaction.
#[expect(clippy::too_many_arguments, reason = "what one transaction writes")]
async fn load(
    context: &Context,
    job: &Job,
    export: &Export,
    kinds: &BTreeMap<String, ColumnKind>,
    file: &SpoolFile,
    kept: &Kept,
    started_at: DateTime<Utc>,
    doubted: Option<[u8; 32]>,
) -> Result<(Counts, Vec<(Doubt, String)>), Failed> {
    let account = &context.settings.accounts[&job.account];
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    let target = target(context, job, export, kinds);
    let now = Clock.now();
    add_columns(&mut conn, job, file, &target, now).await.map_err(Failed::Load)?;
    let mut tx = conn.begin().await.map_err(store::failed("begin"))?;
    store::load::enter(&mut tx, job).await?;
    let about = File { sha256: file.sha256, bytes: file.bytes, target_hash: target.hash(), started_at };
    let same = match store::load::same_file(&mut tx, job, &about).await? {
        // Believed only while the rows stand there: a table may be dropped, and a row may have moved to another window.
        Some(same) if mirror::standing_rows(&mut tx, &target).await.map_err(Failed::Load)? == Some(same.kept()) => {
            Some(same)
        }
        Some(_) | None => None,
    };
    let load_id = store::load::insert(&mut tx, job, &about).await?;
    let before = same.as_ref().map(|same| same.doubts.clone()).unwrap_or_default();
    let (counts, rows_per_day, written) = if let Some(same) = same {
        if same.rows_rejected > 0 {
            store::load::copy_rejected(&mut tx, load_id).await?;
        }
        (
            Counts { read: same.rows_read, unchanged: same.kept(), rejected: same.rows_rejected, ..Counts::default() },
            None,
            BTreeSet::new(),
        )
    } else {
        let report = mirror::load(&mut tx, &file.path, job.request.format, &target, load_id, now);
        let report = report.await.map_err(Failed::Load)?;
        let counts = counts(&target, &report);
        (counts, Some(report.rows_per_day), report.days_written)
    };
    if may_be_foreign(job) && counts.outside > 0 && counts.outside + counts.rejected >= counts.read {
        return Err(Failed::Foreign);
    }
    if job.window.len_days() > 1 && is_cut(counts.read, export.max_rows) {
        return Err(Failed::Cut(Cut { rows: counts.read }));
    }
    let figures = figures(job, &counts, rows_per_day.as_ref());
    let doubts = proof::doubts(figures, export.max_rows);
    if proof::wants_another_fetch(figures) && doubted != Some(file.sha256) {
        let words = doubts.first().map(|doubt| doubt.words(figures)).unwrap_or_default();
        return Err(Failed::Doubtful(Doubtful(words)));
    }
    let carried = carried_over(&mut tx, job, before, figures).await?;
    let doubts = match proof::judge(doubts, carried, &export.on_doubts) {
        Verdict::Load(doubts) => doubts,
        Verdict::Refuse(doubt) => return Err(Failed::Refused(doubt, Doubtful(doubt.words(figures)))),
    };
    store::load::finish(&mut tx, load_id, &counts, figures.told, &doubts).await?;
    if let Kept::Stored { key } = kept {
        store::archive::attach(&mut tx, load_id, key).await?;
    }
    let as_of = job.as_of.or(job.submitted_at).unwrap_or(started_at);
    let locked = locked_days(&mut tx, &target, export, &counts, as_of).await.map_err(Failed::Load)?;
    let filled = Filled { rows_per_day, written, locked, as_of };
    store::cell::fill(&mut tx, job, &filled, account.time_zone, &export.refresh).await?;
    if store::window_limit::prove(&mut tx, job).await? {
        tracing::info!("a part of a window that was refused or cut has loaded: its length is the limit from now on");
    }
    store::transition::advance(&mut tx, job, Move::Loaded { load_id }, context.holder()).await?;
    tx.commit().await.map_err(store::failed("commit a load"))?;
    Ok((counts, doubts.into_iter().map(|doubt| (doubt, doubt.words(figures))).collect()))
}
