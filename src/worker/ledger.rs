//! What a call has to do with the ledger: it is charged before it is made, and what its answer says is written down.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;

use crate::account::AccountName;
use crate::clock::Clock;
use crate::error_chain::Chain;
use crate::export::Bucket;
use crate::failpoint;
use crate::impact::{self, Answer, Client, Downloaded, Limits};
use crate::job::JobId;
use crate::store;
use crate::store::heard::{Ending, Heard, Paid, Report};
use crate::store::quiet::Quiet;
use crate::store::quota::{Charge, ChargeId, Charged, Purpose};

/// A charge counts for 65 s longer than its window, and a call is under way for up to 60 s: it has to begin within this time.
pub(super) const YOUNG: Duration = Duration::from_secs(5);

/// When a charge was begun, by a clock that nobody sets, and by one that goes on while the machine sleeps.
#[derive(Debug, Clone, Copy)]
pub struct Since {
    steady: Instant,
    wall: DateTime<Utc>,
}

impl Since {
    /// From now on.
    pub fn now() -> Self {
        Self { steady: Instant::now(), wall: Clock.now() }
    }

    /// Whether a charge from then on covers a call that is made now: a process may be frozen in between.
    pub fn is_young(self) -> bool {
        self.is_within(YOUNG)
    }

    /// Whether less time than this has passed since, by both clocks.
    pub fn is_within(self, limit: Duration) -> bool {
        is_within(limit, self.steady.elapsed(), Clock.now() - self.wall)
    }

    /// What is left of so long a time since, by the clock that nobody sets; `None` where it is over.
    pub(super) fn left_of(self, time: Duration) -> Option<Duration> {
        time.checked_sub(self.steady.elapsed()).filter(|left| !left.is_zero())
    }
}

fn is_within(limit: Duration, steady: Duration, wall: TimeDelta) -> bool {
    steady < limit && wall.to_std().is_ok_and(|wall| wall < limit)
}

/// Who calls whom for what.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Our Postgres.
    pub pool: &'a PgPool,
    /// Speaks for the account.
    pub client: &'a Client,
    /// Who pays.
    pub account: &'a AccountName,
    /// The job it is for, if any.
    pub job: Option<JobId>,
    /// How long nobody has called, in a process that lives long enough to know.
    pub quiet: Option<&'a Quiet>,
}

impl Caller<'_> {
    /// Charges a call that is not an order to the hourly bucket; it is to be made at once. Where nothing but impact.com's
    /// clock holds that shut, the clock is read first.
    pub async fn pay(&self, call: &'static str) -> Result<Charged, store::Error> {
        let mut has_read = false;
        loop {
            let since = Since::now();
            match self.charge(call).await? {
                Charged::Yes(charge) if !since.is_young() => self.release(charge).await?,
                Charged::No { clock_may_tell: true, .. } if !has_read && self.read_clock().await? => has_read = true,
                charged @ (Charged::Yes(_) | Charged::No { .. }) => return Ok(charged),
            }
        }
    }

    /// The same for a further call of the kind, such as the next page of a list, after `limits` were told in answer to the
    /// one before, which `paid` for. A ledger that cannot be written allows none.
    pub async fn pay_again(&self, call: &'static str, paid: Paid<'_>, limits: Limits) -> Option<ChargeId> {
        let charged = async {
            self.write(paid, limits, None).await?;
            self.pay(call).await
        };
        match charged.await {
            Ok(Charged::Yes(charge)) => Some(charge),
            Ok(Charged::No { .. }) => None,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), call, "cannot charge a further call, so it is not made");
                None
            }
        }
    }

    async fn charge(&self, call: &'static str) -> Result<Charged, store::Error> {
        let mut conn = self.pool.acquire().await.map_err(store::failed("get a connection"))?;
        let (account, job) = (self.account, self.job);
        let charge = Charge { account, bucket: Bucket::Requests, call, job, purpose: Purpose::Call };
        let charged = store::quota::charge(&mut conn, charge, None).await?;
        failpoint::reach("charge-committed");
        if let (Some(quiet), Charged::Yes(id)) = (self.quiet, charged) {
            quiet.note(account, id, Instant::now());
        }
        Ok(charged)
    }

    /// Takes a charge back whose call was not made.
    async fn release(&self, charge: ChargeId) -> Result<(), store::Error> {
        let mut conn = self.pool.acquire().await.map_err(store::failed("get a connection"))?;
        store::quota::release(&mut conn, self.account, charge).await
    }

    /// Reads impact.com's clock by a cheap call, unless that was done a few minutes ago or cannot be paid. Says whether it
    /// was read.
    pub async fn read_clock(&self) -> Result<bool, store::Error> {
        let since = Since::now();
        let mut conn = self.pool.acquire().await.map_err(store::failed("get a connection"))?;
        let now = store::coverage::database_now(&mut conn).await?;
        let asked = store::quiet::ask_clock(&mut conn, self.account, now, self.quiet, Instant::now);
        let Some(charge) = asked.await? else { return Ok(false) };
        drop(conn);
        if !since.is_young() {
            self.release(charge).await?;
            return Ok(false);
        }
        let answer = self.client.company().await;
        tracing::debug!(account = %self.account, "read impact.com's clock");
        self.heard(Paid::Charge(self.account, charge), &answer).await?;
        Ok(answer.is_ok())
    }

    /// Writes down what an answer said of quota and time.
    pub async fn heard<T>(
        &self,
        paid: Paid<'_>,
        answer: &Result<Answer<T>, impact::Error>,
    ) -> Result<(), store::Error> {
        match answer {
            Ok(answer) => self.write(paid, answer.limits, None).await,
            Err(error) => match error.limits() {
                Some(limits) => self.write(paid, limits, Some(error)).await,
                None => Ok(()),
            },
        }
    }

    /// The same for a download, whose end may be a matter of storage.
    pub async fn heard_download(&self, paid: Paid<'_>, answer: &Downloaded) -> Result<(), store::Error> {
        match answer.limits {
            Some(limits) => self.write(paid, limits, answer.result.as_ref().err()).await,
            None => Ok(()),
        }
    }

    async fn write(&self, paid: Paid<'_>, limits: Limits, error: Option<&impact::Error>) -> Result<(), store::Error> {
        // A Replay is one of the hourly requests too: where the headers do not tell which bucket is spent, either may be.
        let (bucket, or) = match paid {
            Paid::Order(job) if job.replay_of.is_none() => (job.bucket, None),
            Paid::Order(job) if !limits.is_hourly => (job.bucket, Some(Bucket::Requests)),
            Paid::Order(_) | Paid::Call(_) | Paid::Charge(..) => (Bucket::Requests, None),
        };
        let ending = match error {
            None => Ending::Good,
            Some(impact::Error::Throttled(_)) => Ending::Throttled { bucket, or, reset_after: limits.reset_after },
            Some(error) if error.was_refused() => Ending::Refused,
            Some(_) => Ending::Failed,
        };
        // A 429 closes its bucket by itself, whichever that is.
        let is_throttled = matches!(ending, Ending::Throttled { .. });
        let is_submission = matches!(paid, Paid::Order(job) if job.replay_of.is_none());
        let report = limits.limit.zip(limits.remaining).filter(|_| !is_throttled).map(|(limit, remaining)| Report {
            limit,
            remaining,
            reset_after: limits.reset_after,
            is_of_requests: limits.is_hourly || !is_submission,
        });
        let heard = Heard { paid, date: limits.server_date, report, is_nonsense: limits.is_nonsense, ending };
        let mut conn = self.pool.acquire().await.map_err(store::failed("get a connection"))?;
        let told = store::heard::hear(&mut conn, &heard, None).await?;
        let account = self.account;
        if told.is_nonsense {
            tracing::warn!(%account, "the rate-limit headers of impact.com make no sense; going by our own count");
        }
        for (bucket, until) in told.closed {
            tracing::warn!(%account, %bucket, %until, "impact.com throttles: the bucket sleeps");
        }
        Ok(())
    }
}

/// Calls of one kind that follow each other, such as the pages of a list, each with a charge of its own.
#[derive(Debug)]
pub struct Series<'a> {
    caller: Caller<'a>,
    call: &'static str,
    last: AtomicI64,
}

impl<'a> Series<'a> {
    /// Begins with a call that is paid already.
    pub fn new(caller: Caller<'a>, call: &'static str, first: ChargeId) -> Self {
        Self { caller, call, last: AtomicI64::new(first.0) }
    }

    /// Pays the next one, after `limits` were told in answer to the one before.
    pub async fn pay(&self, limits: Limits) -> bool {
        let next = self.caller.pay_again(self.call, self.paid(), limits).await;
        if let Some(charge) = next {
            self.last.store(charge.0, Ordering::Relaxed);
        }
        next.is_some()
    }

    /// What paid for the last one.
    pub fn paid(&self) -> Paid<'a> {
        Paid::Charge(self.caller.account, ChargeId(self.last.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_covers_a_call_only_while_both_clocks_say_that_it_is_young() {
        let (soon, late) = (Duration::from_secs(4), Duration::from_secs(6));
        assert!(is_within(YOUNG, soon, TimeDelta::seconds(4)));
        assert!(!is_within(YOUNG, late, TimeDelta::seconds(4)), "the wall clock was set back");
        assert!(!is_within(YOUNG, soon, TimeDelta::seconds(6)), "the machine slept");
        assert!(!is_within(YOUNG, soon, TimeDelta::seconds(-1)), "the wall clock was set back: nobody knows");
    }
}
