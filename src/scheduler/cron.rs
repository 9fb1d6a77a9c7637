//! The schedules. A tick is written down, so that one missed while nobody ran is caught up at the next start, and one
//! seen by several replicas counts once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::PgPool;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

use crate::account::AccountName;
use crate::clock::Clock;
use crate::error_chain::Chain;
use crate::export::ExportName;
use crate::failpoint;
use crate::pulse::{Beat, Pulse};
use crate::store;
use crate::wake::Wakes;

/// A bell is set for no later than this, so that a clock that was set or a laptop that slept is noticed.
const LONGEST_SLEEP: TimeDelta = TimeDelta::minutes(30);
/// And for no later than this where ticks could not be written.
const REPEAT: TimeDelta = TimeDelta::minutes(1);

/// The schedule of an export on an account.
#[derive(Debug, Clone)]
pub struct Cron {
    /// The export.
    pub export: ExportName,
    /// The account.
    pub account: AccountName,
    /// Six fields, seconds first; the configuration has checked it.
    pub schedule: String,
    /// The account's zone.
    pub time_zone: Tz,
}

impl Cron {
    fn parsed(&self) -> croner::Cron {
        CronParser::builder()
            .seconds(Seconds::Required)
            .dom_and_dow(true)
            .build()
            .parse(&self.schedule)
            .expect("the configuration has checked the schedule")
    }

    /// The latest time at or before `now` that it should have fired.
    pub fn last_before(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // An occurrence lasts a second and would keep the fraction it is asked with: another tick for everybody who asks.
        let local = now.trunc_subsecs(0).with_timezone(&self.time_zone);
        self.parsed().find_previous_occurrence(&local, true).ok().map(|at| at.with_timezone(&Utc))
    }

    /// The next time after `now` that it fires.
    pub fn next_after(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = now.trunc_subsecs(0).with_timezone(&self.time_zone);
        self.parsed().find_next_occurrence(&local, false).ok().map(|at| at.with_timezone(&Utc))
    }
}

/// Writes the ticks that are not written yet: an export that never ticked does so now, and one whose time has passed since its
/// last tick does so once, however many it missed. Says whether any did.
pub async fn catch_up(pool: &PgPool, crons: &[Cron]) -> Result<bool, store::Error> {
    let now = Clock.now();
    let mut conn = pool.acquire().await.map_err(store::failed("get a connection"))?;
    let last = store::tick::last(&mut conn).await?;
    let last: HashMap<_, _> = last.iter().map(|tick| ((&tick.export, &tick.account), tick.last_tick_at)).collect();
    let mut fired = Vec::new();
    for cron in crons {
        let at = match last.get(&(&cron.export, &cron.account)).copied().flatten() {
            None => Some(now),
            Some(last) => cron.last_before(now).filter(|at| *at > last),
        };
        if let Some(at) = at {
            fired.push(store::tick::Fired { export: &cron.export, account: &cron.account, at });
        }
    }
    if fired.is_empty() {
        return Ok(false);
    }
    let count = store::tick::note(&mut conn, &fired).await?;
    failpoint::reach("tick-committed");
    tracing::debug!(count, "schedules fired");
    Ok(count > 0)
}

/// Runs the schedules until told to stop.
pub async fn run(
    pool: PgPool,
    crons: Vec<Cron>,
    wakes: Arc<Wakes>,
    pulse: &Arc<Pulse>,
    stop: CancellationToken,
) -> Result<(), JobSchedulerError> {
    let mut scheduler = JobScheduler::new().await?;
    let beat = Arc::new(pulse.begin("schedules"));
    let bell = Bell { crons: crons.into(), pool, wakes, beat, query: pulse.query() };
    set_bell(&scheduler, bell, LONGEST_SLEEP).await?;
    scheduler.start().await?;
    stop.cancelled().await;
    scheduler.shutdown().await
}

/// One for all schedules: the scheduler loses jobs where hundreds of them are due at one moment.
#[derive(Clone)]
struct Bell {
    crons: Arc<[Cron]>,
    pool: PgPool,
    wakes: Arc<Wakes>,
    beat: Arc<Beat>,
    /// What writing ticks takes at most.
    query: Duration,
}

/// Sets the bell for the next occurrence. The scheduler's own cron jobs keep the zone's offset of the day they were made
/// and so drift by an hour when the clocks change; a bell set anew each time does not.
///
/// Boxed, for it calls itself through the job it makes.
fn set_bell(
    scheduler: &JobScheduler,
    bell: Bell,
    longest_sleep: TimeDelta,
) -> BoxFuture<'_, Result<(), JobSchedulerError>> {
    async move {
        let now = Clock.now();
        let Some(next) = bell.crons.iter().filter_map(|cron| cron.next_after(now)).min() else {
            bell.beat.silent();
            return Ok(()); // there are none, or dates that never come
        };
        // Bells ring by whole seconds, up to one early.
        let left = (next - now).min(longest_sleep).to_std().unwrap_or(Duration::ZERO) + Duration::from_secs(1);
        bell.beat.round(left + 2 * bell.query);
        let job = Job::new_one_shot_async(left, move |_id, scheduler: JobScheduler| {
            let bell = bell.clone();
            Box::pin(async move {
                let longest_sleep = if ring(&bell).await { LONGEST_SLEEP } else { REPEAT };
                if let Err(error) = set_bell(&scheduler, bell, longest_sleep).await {
                    tracing::error!(error = %Chain(&error), "cannot set the next bell of the schedules, so that they do not ring any more; restart the daemon");
                }
            })
        })?;
        scheduler.add(job).await?;
        Ok(())
    }
    .boxed()
}

/// Writes what is due; says whether that was possible.
async fn ring(bell: &Bell) -> bool {
    match catch_up(&bell.pool, &bell.crons).await {
        Ok(true) => bell.wakes.plan.notify_one(),
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "cannot write which schedules fired; trying again");
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cron(schedule: &str) -> Cron {
        Cron {
            export: ExportName::new("actions"),
            account: AccountName::new("acme"),
            schedule: schedule.to_owned(),
            time_zone: chrono_tz::America::New_York,
        }
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn a_schedule_keeps_its_local_hour_when_the_clocks_change() {
        let daily = cron("0 30 3 * * *");
        assert_eq!(daily.next_after(at("2026-03-07T12:00:00Z")), Some(at("2026-03-08T07:30:00Z")));
        assert_eq!(daily.next_after(at("2026-03-06T12:00:00Z")), Some(at("2026-03-07T08:30:00Z")));
        assert_eq!(daily.next_after(at("2026-11-01T12:00:00Z")), Some(at("2026-11-02T08:30:00Z")));
    }

    #[test]
    fn the_last_occurrence_includes_the_present() {
        let quarter = cron("0 */15 * * * *");
        assert_eq!(quarter.last_before(at("2026-05-01T12:15:00Z")), Some(at("2026-05-01T12:15:00Z")));
        assert_eq!(quarter.last_before(at("2026-05-01T12:14:59Z")), Some(at("2026-05-01T12:00:00Z")));
    }

    #[test]
    fn an_occurrence_is_the_same_whenever_it_is_asked_for() {
        let hourly = cron("0 0 * * * *");
        for now in ["2026-05-01T12:00:00.700Z", "2026-05-01T12:00:00.100Z", "2026-05-01T12:34:56.789Z"] {
            assert_eq!(hourly.last_before(at(now)), Some(at("2026-05-01T12:00:00Z")), "{now}");
            assert_eq!(hourly.next_after(at(now)), Some(at("2026-05-01T13:00:00Z")), "{now}");
        }
    }
}
