//! `reload`: archived files are loaded again, account by account and program by program, oldest first. Each is a job, so that
//! a running daemon keeps away from its days, and finishes it where this process dies.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::NaiveDate;
use sqlx::Connection as _;
use tokio_util::sync::CancellationToken;

use super::{Database, engine, retention};
use crate::account::AccountName;
use crate::config::Settings;
use crate::export::{ExportName, Program, Window};
use crate::failpoint;
use crate::job::reload::{kept, todo};
use crate::job::{JobId, JobState};
use crate::store;
use crate::store::reload::{Feed, OpenJob};
use crate::worker::{self, Context, Stop};

/// How often a job of somebody else is looked at.
const LOOK: Duration = Duration::from_millis(300);

/// What is to be loaded again.
#[derive(Debug, Clone)]
pub struct ReloadRequest {
    /// Of this export.
    pub export: ExportName,
    /// These days.
    pub days: Window,
    /// Of this account; all that the export has, where none is given.
    pub account: Option<AccountName>,
    /// Of this program; all, where none is given.
    pub program: Option<Program>,
}

/// How far a reload is.
#[derive(Debug, Clone, Default)]
pub struct ReloadProgress {
    /// Files loaded.
    pub files: u64,
    /// Files known to be left.
    pub left: u64,
    /// Rows read from them.
    pub rows: i64,
    /// Of those, rejected.
    pub rejected: i64,
    /// The job of somebody else that it waits for.
    pub waits_for: Option<OpenJob>,
}

/// What a reload came to.
#[derive(Debug, Default)]
pub struct ReloadReport {
    /// Files and rows.
    pub progress: ReloadProgress,
    /// Loads whose days stay as they are, because a file is not in the archive.
    pub impossible: Vec<(Feed, BTreeSet<i64>)>,
    /// Days that hold an older file than impact.com gave last, and are due to be read from there.
    pub outdated: Vec<(Feed, BTreeSet<NaiveDate>)>,
    /// Jobs that failed, and why.
    pub failed: Vec<(JobId, String)>,
    /// Where days were asked for that are kept no longer: the first day that is kept, of all accounts.
    pub kept_from: Option<NaiveDate>,
    /// Whether it was told to stop.
    pub is_stopped: bool,
}

/// Loads archived files again, telling `watch` how far it is.
pub async fn reload(
    settings: Settings,
    database: &Database,
    request: &ReloadRequest,
    stop: CancellationToken,
    watch: impl FnMut(&ReloadProgress),
) -> anyhow::Result<ReloadReport> {
    let context = engine::context(settings, database, std::slice::from_ref(&request.export)).await?;
    let export = &context.settings.exports[&request.export];
    let accounts: Vec<String> = export
        .accounts
        .iter()
        .filter(|account| request.account.as_ref().is_none_or(|wanted| wanted == *account))
        .map(|account| account.as_str().to_owned())
        .collect();
    let mut conn = context.pool.acquire().await?;
    let program = request.program.as_ref().map(Program::as_str);
    let feeds = store::reload::feeds(&mut conn, &request.export, &accounts, program, request.days).await?;
    let now = store::coverage::database_now(&mut conn).await?;
    drop(conn);
    let mut run =
        Run { context: &context, days: request.days, kept_from: None, stop, report: ReloadReport::default(), watch };
    for feed in feeds {
        run.kept_from = retention::kept_from(&context.settings, export, &feed.account, now);
        let past = run.kept_from.filter(|first| *first > request.days.from());
        run.report.kept_from = run.report.kept_from.max(past);
        run.feed(&feed).await?;
        if run.report.is_stopped {
            break;
        }
    }
    // A file that is kept in part has brought back days that are not.
    if !run.report.is_stopped
        && let Err(error) =
            retention::keep_tables(&context.pool, &context.settings, std::slice::from_ref(&request.export)).await
    {
        tracing::warn!(error = format!("{error:#}"), "what is kept no longer could not be dropped; the daemon does it");
    }
    store::wake::notify(&mut *context.pool.acquire().await?).await?; // days that were called off are planned again
    Ok(run.report)
}

struct Run<'a, W> {
    context: &'a std::sync::Arc<Context>,
    days: Window,
    /// The first day of the account at hand that is kept; none for all.
    kept_from: Option<NaiveDate>,
    stop: CancellationToken,
    report: ReloadReport,
    watch: W,
}

/// What is next for a feed.
enum Next {
    /// Nothing any more.
    Done,
    /// This job of ours.
    Job(JobId),
    /// Another job's end.
    Wait(OpenJob),
}

impl<W: FnMut(&ReloadProgress)> Run<'_, W> {
    async fn feed(&mut self, feed: &Feed) -> anyhow::Result<()> {
        let mut counted = None;
        loop {
            if self.stop.is_cancelled() {
                self.report.is_stopped = true;
                return Ok(());
            }
            let job = match self.next(feed).await? {
                Next::Done => return Ok(()),
                Next::Wait(job) => {
                    self.wait(Some(job)).await;
                    continue;
                }
                Next::Job(job) => job,
            };
            let mut conn = self.context.pool.acquire().await?;
            let claimed = store::reload::claim(&mut conn, job, &self.context.worker).await?;
            failpoint::reach("reload-claimed");
            drop(conn);
            match claimed {
                Some(claimed) => {
                    let stop = Stop { now: self.stop.clone(), ..Stop::default() };
                    worker::run_reload(self.context, claimed, &stop).await;
                }
                // Somebody else has it, or it is to be tried again later.
                None => self.wait(None).await,
            }
            let step = store::reload::step(&mut *self.context.pool.acquire().await?, job).await?;
            match step.state {
                JobState::Loaded if counted != Some(job) => {
                    counted = Some(job);
                    let progress = &mut self.report.progress;
                    progress.files += 1;
                    progress.rows += step.rows_read;
                    progress.rejected += step.rows_rejected;
                    progress.left = progress.left.saturating_sub(1);
                    (self.watch)(progress);
                }
                JobState::Failed | JobState::Cancelled => {
                    // What comes after it has to wait for it: the rest of this program stays for another try.
                    let why = step.error_message.unwrap_or_else(|| "called off by hand".to_owned());
                    self.report.failed.push((job, why));
                    // A job that was called off by hand has not seen to this itself.
                    let mut conn = self.context.pool.acquire().await?;
                    let outdated = store::reload::leave(&mut conn, feed).await?;
                    self.is_outdated(feed, outdated);
                    return Ok(());
                }
                _open => {}
            }
        }
    }

    fn is_outdated(&mut self, feed: &Feed, days: BTreeSet<NaiveDate>) {
        if !days.is_empty() {
            self.report.outdated.push((feed.clone(), days));
        }
    }

    async fn wait(&mut self, job: Option<OpenJob>) {
        self.report.progress.waits_for = job;
        (self.watch)(&self.report.progress);
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        self.report.progress.waits_for = None;
    }

    /// Decides and writes in one transaction, under the lock that makes jobs: nothing comes between.
    async fn next(&mut self, feed: &Feed) -> anyhow::Result<Next> {
        let mut conn = self.context.pool.acquire().await?;
        if let Some(open) = store::reload::open_job(&mut conn, feed).await? {
            return Ok(Next::Job(open.id));
        }
        let holder = &self.context.worker.holder;
        let mut tx = conn.begin().await?;
        store::coverage::lock_planning(&mut tx).await?;
        let since = store::reload::begin(&mut tx, feed, self.days).await?;
        let loads = store::reload::loads(&mut tx, feed).await?;
        let loads = match self.kept_from {
            Some(first) => kept(loads, first),
            None => loads,
        };
        let todo = todo(&loads, self.days, since);
        let Some(load_id) = todo.loads.first() else {
            let outdated = store::reload::make_due(&mut tx, feed, &todo.outdated).await?;
            store::reload::finish(&mut tx, feed).await?;
            failpoint::reach("reload-end-written");
            tx.commit().await?;
            failpoint::reach("reload-end-committed");
            self.is_outdated(feed, outdated);
            if !todo.impossible.is_empty() {
                self.report.impossible.push((feed.clone(), todo.impossible));
            }
            return Ok(Next::Done);
        };
        self.report.progress.left = todo.loads.len() as u64;
        let next = match store::reload::make_way(&mut tx, *load_id, holder).await? {
            Some(open) => Next::Wait(open),
            None => Next::Job(store::reload::insert(&mut tx, *load_id, holder).await?),
        };
        failpoint::reach("reload-planned-written");
        tx.commit().await?;
        failpoint::reach("reload-planned-committed");
        Ok(next)
    }
}
