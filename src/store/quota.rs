//! The ledger: every call is charged before it is made.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Error, failed};
use crate::account::AccountName;
use crate::export::Bucket;
use crate::job::{Job, JobId};

/// The answer to a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charged {
    /// Written down; make the call.
    Yes,
    /// The bucket is spent or closed; `until` is when it may have room.
    No {
        /// By our database's clock.
        until: DateTime<Utc>,
    },
}

/// What a call is charged to.
#[derive(Debug, Clone, Copy)]
pub struct Charge<'a> {
    /// Who pays.
    pub account: &'a AccountName,
    /// From which bucket.
    pub bucket: Bucket,
    /// The call's name, for people.
    pub call: &'static str,
    /// The job it is for, if any.
    pub job: Option<JobId>,
}

/// Charges one call. Needs a transaction: it locks the bucket's row, so that replicas cannot both take the last one.
pub async fn charge(conn: &mut PgConnection, charge: Charge<'_>) -> Result<Charged, Error> {
    let bucket = sqlx::query!(
        r#"
        select "limit", closed_until, window_length, now() as "now!"
        from impact_mirror.bucket
        where account = $1 and bucket = $2
        for update
        "#,
        charge.account.as_str(),
        charge.bucket.as_str(),
    )
    .fetch_one(&mut *conn)
    .await
    .map_err(failed("lock a bucket"))?;
    if let Some(until) = bucket.closed_until
        && until > bucket.now
    {
        return Ok(Charged::No { until });
    }
    let used = sqlx::query!(
        r#"
        select coalesce(sum(cost), 0)::integer as "used!", min(at) + $3 as until
        from impact_mirror.charge
        where account = $1 and bucket = $2 and at > now() - $3::interval
        "#,
        charge.account.as_str(),
        charge.bucket.as_str(),
        bucket.window_length,
    )
    .fetch_one(&mut *conn)
    .await
    .map_err(failed("add up a bucket"))?;
    if used.used >= bucket.limit {
        return Ok(Charged::No { until: used.until.unwrap_or(bucket.now + charge.bucket.window()) });
    }
    sqlx::query!(
        r#"
        insert into impact_mirror.charge (account, bucket, at, cost, call, job_id)
        values ($1, $2, now(), 1, $3, $4)
        "#,
        charge.account.as_str(),
        charge.bucket.as_str(),
        charge.call,
        charge.job.map(|id| id.0),
    )
    .execute(conn)
    .await
    .map_err(failed("charge a bucket"))?;
    Ok(Charged::Yes)
}

/// Takes back the charge of the order that `job` was claimed for, where it certainly did not go out. Doing so twice does
/// no harm: the charge is the one of this claim.
pub async fn refund(conn: &mut PgConnection, job: &Job) -> Result<(), Error> {
    sqlx::query!(
        "delete from impact_mirror.charge where job_id = $1 and bucket = $2 and at = $3",
        job.id.0,
        job.bucket.as_str(),
        job.submitted_at,
    )
    .execute(conn)
    .await
    .map_err(failed("give back a charge"))?;
    Ok(())
}

/// The longest that a reset is believed; a header that says 2099 does not stop us for ever.
const LONGEST_CLOSURE: Duration = Duration::from_hours(24);

/// Closes a bucket after a 429 (design §10): until the reset, else an hourly bucket for 5 minutes doubling to an
/// hour, a daily one for an hour. Says until when.
pub async fn close(
    conn: &mut PgConnection,
    account: &AccountName,
    bucket: Bucket,
    reset_after: Option<Duration>,
) -> Result<DateTime<Utc>, Error> {
    let reset_seconds = reset_after.map(|reset| reset.clamp(Duration::from_secs(1), LONGEST_CLOSURE).as_secs_f64());
    let closed_until = sqlx::query_scalar!(
        r#"
        update impact_mirror.bucket
        set throttles = throttles + 1,
            closed_until = greatest(
                closed_until,
                now() + coalesce(
                    make_interval(secs => $3),
                    case when window_length > interval '1 hour' then interval '1 hour'
                         else least(interval '5 minutes' * power(2, least(throttles, 10)), interval '1 hour') end))
        where account = $1 and bucket = $2
        returning closed_until as "closed_until!"
        "#,
        account.as_str(),
        bucket.as_str(),
        reset_seconds,
    )
    .fetch_one(conn)
    .await
    .map_err(failed("close a bucket"))?;
    Ok(closed_until)
}

/// Forgets the count of 429s after a call that was let through. One that went out before the bucket closed proves nothing.
pub async fn reopen(conn: &mut PgConnection, account: &AccountName, bucket: Bucket) -> Result<(), Error> {
    sqlx::query!(
        "update impact_mirror.bucket set throttles = 0, closed_until = null where account = $1 and bucket = $2 and throttles > 0 and closed_until <= now()",
        account.as_str(),
        bucket.as_str(),
    )
    .execute(conn)
    .await
    .map_err(failed("reopen a bucket"))?;
    Ok(())
}

/// Drops charges that count for nothing any more, a day after they stopped to.
pub async fn prune(conn: &mut PgConnection) -> Result<u64, Error> {
    let pruned = sqlx::query!(
        r#"
        delete from impact_mirror.charge c
        using impact_mirror.bucket b
        where b.account = c.account and b.bucket = c.bucket and c.at < now() - b.window_length - interval '1 day'
        "#,
    )
    .execute(conn)
    .await
    .map_err(failed("prune the ledger"))?;
    Ok(pruned.rows_affected())
}
