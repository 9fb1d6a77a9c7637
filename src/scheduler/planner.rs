//! A planning pass: what is due becomes planned jobs as far as the budget goes. One process plans at a time.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Connection, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use super::Cron;
use crate::account::AccountName;
use crate::config::Settings;
use crate::error_chain::Chain;
use crate::export::{ExportName, ExportRequest};
use crate::failpoint;
use crate::plan::{AccountState, Because, Draft, Feed, Forecast, Plan, Wanted, draft, forecast};
use crate::pulse::Pulse;
use crate::store;
use crate::store::configured::Ticks;
use crate::wake::Wakes;

/// The planner looks again after this long, whatever it was told.
const LOOK_AGAIN: Duration = Duration::from_mins(10);
/// Many jobs end at once; one pass serves them all.
const SETTLE: Duration = Duration::from_millis(200);
/// A pass that took long, for there are many accounts, is not followed by another at once: planning takes a sixteenth of the time then.
const REST: u32 = 15;
/// But nobody waits longer for it.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// Accounts that are planned for at a time.
const CHUNK: usize = 50;
/// How far a forecast goes.
const HORIZON: TimeDelta = TimeDelta::hours(24);

/// What a pass takes at most while all is well, the wait for another replica's included.
const PASS: Duration = Duration::from_mins(5);

/// Plans for some exports of one configuration.
#[derive(Debug, Clone)]
pub struct Planner {
    /// Our Postgres.
    pub pool: PgPool,
    /// The configuration.
    pub settings: Arc<Settings>,
    /// The exports it plans for.
    pub exports: Vec<ExportName>,
    /// Who we are.
    pub holder: String,
    /// The bells.
    pub wakes: Arc<Wakes>,
    /// Whether the loops go round.
    pub pulse: Arc<Pulse>,
}

/// What a pass came to.
#[derive(Debug, Default)]
pub struct Pass {
    /// When it was, by our database's clock.
    pub now: DateTime<Utc>,
    /// Jobs planned.
    pub planned: usize,
    /// The windows that wait.
    pub waiting: Waiting,
    /// When planning again can change something by itself.
    pub wake_at: Option<DateTime<Utc>>,
    /// How long it took, the wait for another replica's left out.
    pub took: Duration,
}

/// What waits, added up: there may be many.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Windows that wait for quota.
    pub for_quota: usize,
    /// When the last of them may have its turn.
    pub last_expected_at: Option<DateTime<Utc>>,
    /// Windows that wait because their account or export is paused.
    pub paused: usize,
    /// One such account, and why.
    pub first_paused: Option<(AccountName, String)>,
}

impl Pass {
    fn add(&mut self, plan: &Plan) {
        self.planned += plan.calls.len();
        self.wake_at = [self.wake_at, plan.wake_at].into_iter().flatten().min();
        for one in &plan.waiting {
            if let Some(Because::Paused(why)) = &one.because {
                self.waiting.paused += 1;
                self.waiting.first_paused.get_or_insert_with(|| (one.account.clone(), why.clone()));
            } else {
                self.waiting.for_quota += 1;
                self.waiting.last_expected_at = self.waiting.last_expected_at.max(one.expected_at);
            }
        }
    }
}

/// What is known of every account at one moment. A forecast from it takes its time, and needs no database.
#[derive(Debug)]
pub struct Outlook {
    /// The moment.
    pub now: DateTime<Utc>,
    accounts: Vec<Known>,
}

/// What is known of one account.
#[derive(Debug)]
struct Known {
    state: AccountState,
    planned: Vec<Wanted>,
    replayable: HashMap<ExportRequest, String>,
}

impl Outlook {
    /// Goes through the next 24 hours of every account, as a daemon that runs from now on would.
    pub fn forecasts(self) -> Vec<Forecast> {
        let now = self.now;
        let forecasts = self.accounts.into_iter();
        forecasts.map(|known| forecast(known.state, known.planned, &known.replayable, now, HORIZON)).collect()
    }
}

impl Planner {
    /// Reads what a forecast needs to know of every account.
    pub async fn outlook(&self, conn: &mut PgConnection) -> Result<Outlook, store::Error> {
        let now = store::coverage::database_now(conn).await?;
        let ticks = self.ticks(now);
        let mut accounts = Vec::new();
        for chunk in self.accounts().chunks(CHUNK) {
            let mut states = self.states(conn, chunk, &ticks, now).await?;
            for state in states.iter_mut().flat_map(|account| &mut account.feeds) {
                // A start catches up on the ticks that nobody saw.
                state.tick_at = match state.tick_at {
                    Some(at) => self.last_tick(&state.feed, now).max(Some(at)),
                    None => Some(now),
                };
            }
            let drafts: Vec<Draft> = states.iter().map(|state| draft(state, now)).collect();
            let mut known = store::remote::replayable(conn, &drafts).await?;
            let mut planned: HashMap<AccountName, Vec<Wanted>> = HashMap::new();
            for job in store::job::planned(conn, chunk).await? {
                planned.entry(job.account.clone()).or_default().push(job);
            }
            for state in states {
                let planned = planned.remove(&state.account).unwrap_or_default();
                let mut known = known.remove(&state.account).unwrap_or_default();
                // How a planned job is to be ordered was decided when it was planned.
                for job in &planned {
                    match &job.replay_of {
                        Some(id) => known.insert(job.request.clone(), id.clone()),
                        None => known.remove(&job.request),
                    };
                }
                accounts.push(Known { state, planned, replayable: known });
            }
        }
        Ok(Outlook { now, accounts })
    }

    fn last_tick(&self, feed: &Feed, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let schedule = self.settings.exports.get(&feed.export)?.schedule.clone();
        let (export, account) = (feed.export.clone(), feed.account.clone());
        Cron { export, account, schedule, time_zone: feed.time_zone }.last_before(now)
    }

    /// The accounts of the exports.
    fn accounts(&self) -> Vec<AccountName> {
        let exports = self.exports.iter().filter_map(|name| self.settings.exports.get(name));
        let accounts: BTreeSet<AccountName> = exports.flat_map(|export| export.accounts.iter().cloned()).collect();
        accounts.into_iter().collect()
    }

    fn ticks(&self, now: DateTime<Utc>) -> Ticks {
        Ticks::after(&self.settings, &self.exports, now)
    }

    async fn states(
        &self,
        conn: &mut PgConnection,
        accounts: &[AccountName],
        ticks: &Ticks,
        now: DateTime<Utc>,
    ) -> Result<Vec<AccountState>, store::Error> {
        let feeds = store::configured::feeds(conn, &self.settings, &self.exports, accounts, ticks).await?;
        store::coverage::accounts(conn, feeds, now).await
    }

    /// Plans and writes the jobs that the budget allows, some accounts at a time, so that memory does not grow with them.
    pub async fn pass(&self) -> Result<Pass, store::Error> {
        let mut conn = self.pool.acquire().await.map_err(store::failed("get a connection"))?;
        let mut tx = conn.begin().await.map_err(store::failed("begin"))?;
        store::coverage::lock_planning(&mut tx).await?;
        let began = Instant::now();
        store::coverage::drop_answered(&mut tx).await?;
        store::window_limit::end_trials(&mut tx).await?;
        store::order::call_off_what_was_asked_for(&mut tx, &self.holder).await?;
        let now = store::coverage::database_now(&mut tx).await?;
        let ticks = self.ticks(now);
        let mut pass = Pass { now, ..Pass::default() };
        for chunk in self.accounts().chunks(CHUNK) {
            let states = self.states(&mut tx, chunk, &ticks, now).await?;
            let drafts: Vec<Draft> = states.iter().map(|state| draft(state, now)).collect();
            drop(states);
            let mut known = store::remote::replayable(&mut tx, &drafts).await?;
            let mut calls = Vec::new();
            for draft in drafts {
                let account = draft.account.clone();
                let known = known.remove(&account).unwrap_or_default();
                let mut plan = draft.spend(&known, now);
                pass.add(&plan);
                store::order::call_off(&mut tx, &account, &plan.called_off, &self.holder).await?;
                calls.append(&mut plan.calls);
            }
            store::job::insert_planned(&mut tx, &calls, &self.holder).await?;
        }
        tx.commit().await.map_err(store::failed("commit a plan"))?;
        pass.took = began.elapsed();
        let (planned, waiting) = (pass.planned, pass.waiting.for_quota + pass.waiting.paused);
        if planned > 0 {
            failpoint::reach("plan-committed");
            tracing::info!(planned, waiting, "planned {planned} jobs");
            self.wakes.submit.notify_one();
        }
        Ok(pass)
    }

    /// Plans whenever its bell rings, or when time alone makes something due, until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let beat = self.pulse.begin("planner");
        loop {
            beat.round(PASS);
            let passed = self.pass().await;
            let rest = passed.as_ref().map_or(SETTLE, |pass| (pass.took * REST).clamp(SETTLE, LONGEST_REST));
            store::tell(&beat, &passed);
            let pause = match passed {
                Ok(pass) => pass
                    .wake_at
                    .map_or(LOOK_AGAIN, |at| (at - pass.now).to_std().unwrap_or(Duration::ZERO))
                    .clamp(Duration::from_secs(1), LOOK_AGAIN),
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "cannot plan; trying again");
                    Duration::from_secs(5)
                }
            };
            beat.pause(pause + rest);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.wakes.plan.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(rest) => {}
            }
        }
    }
}
