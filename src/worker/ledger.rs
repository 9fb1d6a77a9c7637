//! What a call has to do with the ledger: it is charged before it is made, and what its answer says is written down.

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection, PgPool};

use crate::account::AccountName;
use crate::error_chain::Chain;
use crate::export::Bucket;
use crate::impact::{self, Answer, Client, Limits};
use crate::job::JobId;
use crate::store;
use crate::store::heard::{Heard, Paid, Report};
use crate::store::quota::{Charge, Charged, Purpose};

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
}

impl Caller<'_> {
    /// Charges a call that is not an order to the hourly bucket. Where nothing but impact.com's clock holds that shut, the
    /// clock is read first.
    pub async fn pay(&self, call: &'static str) -> Result<Charged, store::Error> {
        let charged = self.charge(call).await?;
        match charged {
            Charged::No { clock_may_tell: true, .. } if self.read_clock().await? => self.charge(call).await,
            Charged::Yes(_) | Charged::No { .. } => Ok(charged),
        }
    }

    /// The same for a further call of the kind, such as the next page of a list. A ledger that cannot be written allows
    /// none.
    pub async fn pay_again(&self, call: &'static str) -> bool {
        match self.pay(call).await {
            Ok(charged) => matches!(charged, Charged::Yes(_)),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), call, "cannot charge a further call, so it is not made");
                false
            }
        }
    }

    async fn charge(&self, call: &'static str) -> Result<Charged, store::Error> {
        let mut conn = self.pool.acquire().await.map_err(store::failed("get a connection"))?;
        let now = store::coverage::database_now(&mut conn).await?;
        let mut tx = conn.begin().await.map_err(store::failed("begin"))?;
        let (account, job) = (self.account, self.job);
        let charge = Charge { account, bucket: Bucket::Requests, call, job, purpose: Purpose::Call };
        let charged = store::quota::charge(&mut tx, charge, now).await?;
        tx.commit().await.map_err(store::failed("commit a charge"))?;
        Ok(charged)
    }

    /// Reads impact.com's clock by a cheap call, unless that was done a few minutes ago or cannot be paid. Says whether it
    /// was read.
    pub async fn read_clock(&self) -> Result<bool, store::Error> {
        let mut conn = self.pool.acquire().await.map_err(store::failed("get a connection"))?;
        let now = store::coverage::database_now(&mut conn).await?;
        let Some(charge) = store::quota::ask_clock(&mut conn, self.account, now).await? else { return Ok(false) };
        drop(conn);
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
            Err(error) => self.heard_error(paid, error).await,
        }
    }

    /// The same for a call that failed; where impact.com did not answer, there is nothing to write.
    pub async fn heard_error(&self, paid: Paid<'_>, error: &impact::Error) -> Result<(), store::Error> {
        match error.limits() {
            Some(limits) => self.write(paid, limits, Some(error)).await,
            None => Ok(()),
        }
    }

    async fn write(&self, paid: Paid<'_>, limits: Limits, error: Option<&impact::Error>) -> Result<(), store::Error> {
        // A 429 closes its bucket by itself, whichever that is.
        let is_throttled = matches!(error, Some(impact::Error::Throttled(_)));
        let is_submission = matches!(paid, Paid::Order(job) if job.replay_of.is_none());
        let report = limits.limit.zip(limits.remaining).filter(|_| !is_throttled).map(|(limit, remaining)| Report {
            limit,
            remaining,
            reset_after: limits.reset_after,
            is_of_requests: limits.is_hourly || !is_submission,
        });
        let heard = Heard {
            paid,
            date: limits.server_date,
            report,
            is_nonsense: limits.is_nonsense,
            is_refused: error.is_some_and(impact::Error::was_refused),
        };
        let mut conn = self.pool.acquire().await.map_err(store::failed("get a connection"))?;
        let now = store::coverage::database_now(&mut conn).await?;
        let mut outcome = store::heard::hear(&mut conn, &heard, now).await;
        if outcome.as_ref().is_err_and(store::Error::is_deadlock) {
            outcome = store::heard::hear(&mut conn, &heard, now).await; // whoever was in the way is through
        }
        if outcome? {
            let account = self.account;
            tracing::warn!(%account, "the rate-limit headers of impact.com make no sense; going by our own count");
        }
        Ok(())
    }
}

/// Closes the bucket of a 429.
pub(super) async fn close(
    conn: &mut PgConnection,
    account: &AccountName,
    bucket: Bucket,
    reset_after: Option<std::time::Duration>,
) -> Result<DateTime<Utc>, store::Error> {
    let now = store::coverage::database_now(conn).await?;
    store::quota::close(conn, account, bucket, reset_after, now).await
}
