//! What moves jobs: pools of workers that claim a job, do one step of it and write the outcome once.
//!
//! The loop and the treatment of errors are here; each step has a file of its own.

mod archive;
mod compare;
mod count;
mod leases;
pub mod ledger;
mod load;
mod loading;
mod narrow;
mod outcome;
mod pause;
mod poll;
mod reload;
mod submit;
mod together;
mod trace;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;
use sqlx::{PgConnection, PgPool};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::account::AccountName;
use crate::archive::Archive;
use crate::clock::DatabaseClock;
use crate::config::Settings;
use crate::error_chain::Chain;
use crate::failpoint;
use crate::impact;
use crate::job::decide::PollPolicy;
use crate::job::{Job, JobId, JobState};
use crate::metrics;
use crate::metrics::tally::Tally;
use crate::pulse::Pulse;
use crate::retry::{ErrorKind, backoff};
use crate::spool::Spool;
use crate::store;
use crate::store::job::{NextDue, Step, Worker};
use crate::store::quiet::Quiet;
use crate::wake::Wakes;
use ledger::Since;
use pause::{LOOK_AGAIN, UNKNOWN_DUE, Watch, until_next};
use trace::span;

pub use archive::look_after as look_after_archive;
pub use leases::Leases;
pub use load::MetaData;
pub use reload::run as run_reload;

/// What a step takes at most that only asks and writes down what was answered.
const SHORT_STEP: Duration = Duration::from_mins(30);

/// The part that writes what a step came to.
const OUTCOME: &str = "outcome";

/// What every step needs.
#[derive(Debug)]
pub struct Context {
    /// Our Postgres.
    pub pool: PgPool,
    /// The configuration.
    pub settings: Arc<Settings>,
    /// A client for each account.
    pub clients: BTreeMap<AccountName, impact::Client>,
    /// Who we are.
    pub worker: Worker,
    /// Where results are fetched to.
    pub spool: Spool,
    /// Where result files are kept, if they are.
    pub archive: Option<Arc<Archive>>,
    /// The bells.
    pub wakes: Arc<Wakes>,
    /// Whether the loops go round.
    pub pulse: Arc<Pulse>,
    /// What was counted.
    pub tally: Arc<Tally>,
    /// The leases of steps under way: what the heartbeat renews.
    pub leases: Leases,
    /// What MetaData said of an export's columns.
    pub metadata: MetaData,
    /// The clock of our Postgres, read with every claim.
    pub clock: DatabaseClock,
    /// How long nobody has called for an account.
    pub quiet: Quiet,
}

impl Context {
    /// The client of an account that the configuration names.
    fn client(&self, account: &AccountName) -> &impact::Client {
        self.clients.get(account).expect("only jobs of our accounts are claimed")
    }

    /// Calls for an account.
    pub fn caller<'a>(&'a self, account: &'a AccountName, job: Option<JobId>) -> ledger::Caller<'a> {
        ledger::Caller { pool: &self.pool, client: self.client(account), account, job, quiet: Some(&self.quiet) }
    }

    fn poll_policy(&self) -> PollPolicy {
        let workers = &self.settings.workers;
        PollPolicy { first: workers.poll_min, cap: workers.poll_max, deadline: workers.job_deadline }
    }

    fn holder(&self) -> &str {
        &self.worker.holder
    }

    /// The time by our Postgres' clock, which job and lease are held against: ours may be set forward or back.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }
}

/// The two stages of stopping.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Take no new work.
    pub gently: CancellationToken,
    /// Hand back what is under way.
    pub now: CancellationToken,
}

/// A pool: which jobs it claims and how many workers it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pool {
    Submit,
    Poll,
    Load,
}

impl Pool {
    const ALL: [Self; 3] = [Self::Submit, Self::Poll, Self::Load];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Poll => "poll",
            Self::Load => "load",
        }
    }

    fn size(self, settings: &Settings) -> usize {
        match self {
            Self::Submit => settings.workers.submit,
            Self::Poll => settings.workers.poll,
            Self::Load => settings.workers.load,
        }
    }

    /// How long a step may take: one that loads no longer than the remote job it follows.
    fn longest_step(self, settings: &Settings) -> Duration {
        match self {
            Self::Submit | Self::Poll => SHORT_STEP,
            Self::Load => settings.workers.job_deadline,
        }
    }

    fn bell(self, wakes: &Wakes) -> &Notify {
        match self {
            Self::Submit => &wakes.submit,
            Self::Poll => &wakes.poll,
            Self::Load => &wakes.load,
        }
    }

    const fn states(self) -> &'static [JobState] {
        match self {
            Self::Submit => &[JobState::Planned, JobState::Submitting],
            Self::Poll => &[JobState::Waiting],
            Self::Load => &[JobState::Ready, JobState::Loading],
        }
    }

    /// Claims what one worker does at once: a job, or several to poll together.
    async fn claim(self, context: &Context) -> Result<Claimed, store::Error> {
        let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
        let since = Since::now();
        let one = match self {
            Self::Submit => match recover(context, &mut conn).await? {
                Some(job) => Some(job),
                // What came of an order could not be written down.
                None if context.pulse.is_without_room(OUTCOME) => None,
                None => return claim_planned(context, &mut conn).await,
            },
            Self::Poll => return Ok(Claimed { jobs: together::claim(context, &mut conn).await?, since }),
            Self::Load => store::job::claim(&mut conn, Step::Load, &context.worker).await?,
        };
        Ok(Claimed { jobs: one.into_iter().collect(), since })
    }

    async fn step(self, context: &Context, job: &Job, since: Since) -> Result<(), store::Error> {
        if job.attempts > outcome::HOPELESS_ATTEMPTS {
            return outcome::abandon(context, job).await;
        }
        match self {
            Self::Submit => submit::step(context, job, since).await,
            Self::Poll => poll::step(context, job).await,
            Self::Load => load::step(context, job).await,
        }
    }

    /// How soon there may be work again by the passing of time alone.
    async fn next_due(self, context: &Context) -> Result<NextDue, store::Error> {
        let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
        store::job::next_due(&mut conn, self.states(), &context.worker).await
    }
}

/// What one worker does at once.
struct Claimed {
    jobs: Vec<Job>,
    /// When the claim was begun, and with it the charge of an order.
    since: Since,
}

/// Claims an order whose end is unknown. There hardly ever is one, so that it is looked for once a moment.
async fn recover(context: &Context, conn: &mut PgConnection) -> Result<Option<Job>, store::Error> {
    if context.worker.turns.none_was_lost.is_fresh() {
        return Ok(None);
    }
    let lost = store::job::claim(conn, Step::Recover, &context.worker).await?;
    if lost.is_none() {
        context.worker.turns.none_was_lost.renew();
    }
    Ok(lost)
}

/// Claims a planned job. One worker at a time searches, and those who wait for that take what it found, or nothing where it found
/// nothing after they had begun to wait. Where orders wait for nothing but impact.com's clock, that is read first.
async fn claim_planned(context: &Context, conn: &mut PgConnection) -> Result<Claimed, store::Error> {
    let since = Since::now();
    let now = store::coverage::database_now(conn).await?;
    if let Some(job) = store::claim::kept(conn, &context.worker, now).await? {
        return Ok(Claimed { jobs: vec![job], since });
    }
    let asked_at = Instant::now();
    let mut has_read = false;
    loop {
        let mut in_vain = context.worker.turns.searching.lock().await;
        let since = Since::now();
        if !has_read && in_vain.is_some_and(|began| began > asked_at) {
            return Ok(Claimed { jobs: Vec::new(), since });
        }
        let began = Instant::now();
        let now = store::coverage::database_now(conn).await?;
        let job = store::claim::order(conn, &context.worker, now).await?;
        if job.is_none() {
            *in_vain = Some(began);
        }
        drop(in_vain);
        if job.is_some() || has_read {
            return Ok(Claimed { jobs: job.into_iter().collect(), since });
        }
        for account in store::order::held_by_remote_clock(conn, &context.worker, now).await? {
            has_read |= context.caller(&account, None).read_clock().await?;
        }
        if !has_read {
            return Ok(Claimed { jobs: Vec::new(), since });
        }
    }
}

/// Starts the pools and the heartbeat; they run until told to stop.
pub fn start(context: &Arc<Context>, tasks: &TaskTracker, stop: &Stop) {
    for pool in Pool::ALL {
        let watch = Arc::new(Watch::default());
        for worker in 0..pool.size(&context.settings) {
            tasks.spawn(work(pool, worker, Arc::clone(&watch), Arc::clone(context), stop.clone()));
        }
    }
    tasks.spawn(leases::heartbeat(Arc::clone(context), stop.clone()));
}

async fn work(pool: Pool, worker: usize, watch: Arc<Watch>, context: Arc<Context>, stop: Stop) {
    let beat = context.pulse.begin(pool.as_str());
    let mut failures = 0;
    let mut in_vain = 0;
    while !stop.gently.is_cancelled() {
        beat.round(context.pulse.query());
        let claimed = pool.claim(&context).await;
        store::tell(&beat, &claimed);
        let pause = match claimed {
            Ok(claimed) if !claimed.jobs.is_empty() => {
                context.pulse.has_room(pool.as_str());
                failures = 0;
                in_vain = 0;
                pool.bell(&context.wakes).notify_one(); // there may be more: wake a colleague
                context.clock.shows(claimed.jobs[0].claimed_at);
                let recovered = claimed.jobs.iter().filter(|job| job.resumed).count();
                context.tally.add(&metrics::LEASE_RECOVERIES, &[], recovered as u64);
                beat.pause(pool.longest_step(&context.settings));
                run(pool, &context, claimed, &stop).await;
                continue;
            }
            Ok(_none) => {
                context.pulse.has_room(pool.as_str());
                failures = 0;
                let longest = LOOK_AGAIN.min(context.worker.lease);
                match pool.next_due(&context).await {
                    Ok(next) => {
                        in_vain = if next.in_all.is_some_and(|left| left.is_zero()) { in_vain + 1 } else { 0 };
                        watch.pause(worker, until_next(next, in_vain).min(longest), longest)
                    }
                    // Others may count on this worker's look.
                    Err(_) => UNKNOWN_DUE.min(longest),
                }
            }
            Err(error) => {
                failures += 1;
                if error.kind() == ErrorKind::NoRoom {
                    note_no_room(&context, pool.as_str(), &error);
                } else if failures == 1 {
                    tracing::warn!(error = %Chain(&error), ?pool, "cannot claim work; trying again");
                }
                backoff(failures, Duration::from_millis(200), Duration::from_secs(10), 1.0)
            }
        };
        beat.pause(pause);
        tokio::select! {
            biased;
            () = stop.gently.cancelled() => break,
            () = pool.bell(&context.wakes).notified() => in_vain = 0,
            () = tokio::time::sleep(pause) => {}
        }
        watch.leave(worker);
    }
}

/// Runs one step of claimed jobs, unless a shutdown takes them away.
async fn run(pool: Pool, context: &Context, Claimed { jobs, since }: Claimed, stop: &Stop) {
    let held: Vec<_> = jobs.iter().map(|job| context.leases.hold(job.lease, since)).collect();
    let work = async {
        let left = if jobs.len() > 1 {
            // After a panic each job is polled by itself; one whose outcome was written is not ours any more.
            let together = AssertUnwindSafe(together::step(context, &jobs)).catch_unwind();
            together.await.unwrap_or_else(|_panic| jobs.iter().collect())
        } else {
            jobs.iter().collect()
        };
        for job in left {
            let ended = AssertUnwindSafe(pool.step(context, job, since)).catch_unwind().instrument(span(job));
            match ended.await {
                Ok(Err(error)) if error.kind() == ErrorKind::NoRoom => {
                    note_no_room(context, OUTCOME, &error);
                    let outcome = outcome::after_no_room(context, job, &error).await;
                    context.pulse.has_room(OUTCOME);
                    tell(job, outcome);
                }
                Ok(outcome) => tell(job, outcome),
                Err(_panic) => tell(job, outcome::after_panic(context, job).await),
            }
        }
    };
    let is_done = tokio::select! {
        biased;
        () = stop.now.cancelled() => false,
        () = work => true,
    };
    if !is_done {
        for job in &jobs {
            match give_back(context, job).await {
                Err(error) if error.is_lease_lost() && jobs.len() > 1 => {} // its part was over
                outcome => tell(job, outcome),
            }
        }
    }
    drop(held);
}

/// Keeps, and says once, that Postgres has no room for what we want to write.
fn note_no_room(context: &Context, part: &'static str, error: &store::Error) {
    let why = Chain(error).to_string();
    if context.pulse.lacks_room(part, &why) {
        tracing::error!(
            error = why,
            "the database cannot be written, for its disk is full; free room on Postgres's disk, and work goes on by itself"
        );
    }
}

/// Says where the outcome of a step could not be written.
fn tell(job: &Job, outcome: Result<(), store::Error>) {
    let Err(error) = outcome else { return };
    let _in_step = span(job).entered();
    if error.is_lease_lost() {
        tracing::warn!(error = %Chain(&error), "step dropped: somebody else has the job now");
    } else {
        tracing::error!(error = %Chain(&error), "cannot write the outcome of a step; the step is repeated when its lease runs out");
    }
}

async fn give_back(context: &Context, job: &Job) -> Result<(), store::Error> {
    let mut conn = context.pool.acquire().await.map_err(store::failed("get a connection"))?;
    store::transition::hand_back(&mut conn, job, context.holder()).await?;
    failpoint::reach("hand-back-committed");
    Ok(())
}

/// A moment from now.
fn soon(context: &Context, delay: TimeDelta) -> DateTime<Utc> {
    context.now() + delay
}
