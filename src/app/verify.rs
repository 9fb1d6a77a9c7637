//! `verify`: a sample of loaded windows is ordered once more, within a number of calls that a person gives, and compared with the table.
//!
//! Each is a job like any other: charged in the ledger, followed through restarts, and finished by a running daemon where this process
//! dies. A call of `verify` that follows takes up what is still open, as a part of its own sample.

use std::time::Duration;

use chrono::NaiveDate;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tokio_util::sync::CancellationToken;

use super::{Database, Engine, GRACE, Scope};
use crate::account::AccountName;
use crate::config::Settings;
use crate::export::{ExportName, Window};
use crate::failpoint;
use crate::job::JobId;
use crate::plan::Feed;
use crate::store;
use crate::store::comparison::{Compared, LoadedWindow, NewComparison};
use crate::store::configured::Ticks;

/// How often the jobs are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Of so many windows for each that is wanted, the sample is taken: some overlap, or are longer than is asked for by now.
const CANDIDATES_FOR_EACH: i64 = 20;

/// What is to be compared.
#[derive(Debug, Clone)]
pub struct VerifyRequest {
    /// Of this export.
    pub export: ExportName,
    /// Of this account; of all that the export has, where none is given.
    pub account: Option<AccountName>,
    /// Windows from this day on.
    pub from: Option<NaiveDate>,
    /// Windows up to this day.
    pub to: Option<NaiveDate>,
    /// How many orders at most.
    pub calls: u32,
    /// Decides which windows.
    pub seed: u64,
    /// Who asks, for the audit.
    pub actor: String,
}

/// How a comparison ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyEnd {
    /// All jobs are at their end.
    Done,
    /// The rest waits for quota, or for something that is paused.
    Waits,
    /// Told to stop.
    Stopped,
}

/// What a comparison came to.
#[derive(Debug)]
pub struct VerifyReport {
    /// How it ended.
    pub end: VerifyEnd,
    /// The windows, in the order they were ordered.
    pub compared: Vec<Compared>,
    /// How many of them an earlier call of `verify` had left open.
    pub taken_up: usize,
}

/// Orders, follows and compares, telling `watch` how the jobs stand.
pub async fn verify(
    settings: Settings,
    database: &Database,
    request: &VerifyRequest,
    stop: CancellationToken,
    mut watch: impl FnMut(&[Compared]),
) -> anyhow::Result<VerifyReport> {
    let export = &settings.exports[&request.export];
    let wanted = |account: &&AccountName| request.account.as_ref().is_none_or(|wanted| wanted == *account);
    let accounts: Vec<AccountName> = export.accounts.iter().filter(wanted).cloned().collect();
    let engine = Engine::start(settings.clone(), database, Scope::Only(vec![request.export.clone()])).await?;
    let planned = plan(database, &engine, &settings, &accounts, request).await;
    let (jobs, taken_up) = match planned {
        Ok(planned) => planned,
        Err(error) => {
            engine.stop(GRACE).await;
            return Err(error);
        }
    };
    engine.context().wakes.all();
    let followed = follow(database, &engine, &jobs, &stop, &mut watch).await;
    engine.stop(GRACE).await;
    let (end, compared) = followed?;
    Ok(VerifyReport { end, compared, taken_up })
}

/// Makes the jobs, under the lock that makes jobs: none of them meets another for the same days.
async fn plan(
    database: &Database,
    engine: &Engine,
    settings: &Settings,
    accounts: &[AccountName],
    request: &VerifyRequest,
) -> anyhow::Result<(Vec<JobId>, usize)> {
    let mut conn = database.pool().acquire().await?;
    let mut tx = conn.begin().await?;
    store::coverage::lock_planning(&mut tx).await?;
    let names: Vec<String> = accounts.iter().map(|account| account.as_str().to_owned()).collect();
    let mut jobs = store::comparison::open_jobs(&mut tx, &request.export, &names).await?;
    let taken_up = jobs.len();
    let left = (request.calls as usize).saturating_sub(taken_up);
    if left > 0 {
        let now = store::coverage::database_now(&mut tx).await?;
        let exports = std::slice::from_ref(&request.export);
        let ticks = Ticks::after(settings, exports, now);
        let feeds = store::configured::feeds(&mut tx, settings, exports, accounts, &ticks).await?;
        let limit = i64::from(request.calls) * CANDIDATES_FOR_EACH;
        let days = (request.from, request.to);
        let found =
            store::comparison::loaded_windows(&mut tx, &request.export, &names, days, request.seed, limit).await?;
        for (feed, window) in sample(&feeds, &found, left) {
            jobs.push(order(&mut tx, feed, window, &engine.context().worker.holder).await?);
        }
        let details = json!({"from": request.from, "to": request.to, "calls": request.calls, "seed": request.seed});
        let target = format!("export {}", request.export);
        let words = format!("Windows to be compared with impact.com: {}.", jobs.len());
        store::audit::write(&mut tx, &request.actor, ("verify", &target), &details, &words).await?;
    }
    failpoint::reach("comparison-planned-written");
    tx.commit().await?;
    failpoint::reach("comparison-planned-committed");
    Ok((jobs, taken_up))
}

/// The first windows that can be asked for as they are, and of which no two share a day.
fn sample<'a>(feeds: &'a [Feed], found: &[LoadedWindow], most: usize) -> Vec<(&'a Feed, Window)> {
    let mut taken: Vec<(&Feed, Window)> = Vec::new();
    for one in found {
        if taken.len() == most {
            break;
        }
        let feed = feeds.iter().find(|feed| feed.account == one.account && feed.program == one.program);
        let Some(feed) = feed.filter(|feed| one.window.len_days() <= feed.max_window_days) else { continue };
        let is_free = taken.iter().all(|(other, window)| {
            !std::ptr::eq(*other, feed) || window.to() < one.window.from() || one.window.to() < window.from()
        });
        if is_free {
            taken.push((feed, one.window));
        }
    }
    taken
}

async fn order(conn: &mut PgConnection, feed: &Feed, window: Window, holder: &str) -> anyhow::Result<JobId> {
    let request = feed.request(window);
    let replay_of = store::comparison::replayable(conn, &feed.account, &request).await?;
    let new = NewComparison {
        export: &feed.export,
        account: &feed.account,
        request: &request,
        replay_of: replay_of.as_deref(),
    };
    Ok(store::comparison::insert(conn, &new, holder).await?)
}

/// Waits for the ends of the jobs, or until none of them can go on.
async fn follow(
    database: &Database,
    engine: &Engine,
    jobs: &[JobId],
    stop: &CancellationToken,
    watch: &mut impl FnMut(&[Compared]),
) -> anyhow::Result<(VerifyEnd, Vec<Compared>)> {
    let exports = engine.context().worker.exports.clone();
    let began_at = store::coverage::database_now(&mut *database.pool().acquire().await?).await?;
    let mut stuck = 0;
    loop {
        let mut conn = database.pool().acquire().await?;
        let compared = store::comparison::compared(&mut conn, jobs).await?;
        watch(&compared);
        if compared.iter().all(|one| one.state.is_final()) {
            return Ok((VerifyEnd::Done, compared));
        }
        let progress = store::coverage::progress(&mut conn, &exports, began_at).await?;
        drop(conn);
        stuck = if progress.open == progress.blocked { stuck + 1 } else { 0 };
        if stuck > 2 {
            return Ok((VerifyEnd::Waits, compared));
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok((VerifyEnd::Stopped, compared)),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}
