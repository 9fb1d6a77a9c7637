//! The ledger: every call is charged before it is made.
//!
//! Whoever writes charges or buckets of an account holds the account's row, and takes it before any job: so nobody waits for
//! who waits for him.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};

use super::{Error, failed};
use crate::account::AccountName;
use crate::export::{Bucket, Reason};
use crate::failpoint;
use crate::job::{Job, JobId};
use crate::plan::{AtMost, BudgetState, Spent};

/// The id of a row of `impact_mirror.charge`; later charges of an account have greater ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChargeId(pub i64);

/// The answer to a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charged {
    /// Written down; make the call.
    Yes(ChargeId),
    /// The bucket is spent or closed; `until` is when it may have room.
    No {
        /// By our database's clock.
        until: DateTime<Utc>,
        /// Only impact.com's clock, as far as we know it, holds the bucket shut: reading it may help.
        clock_may_tell: bool,
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
    /// What it is for.
    pub purpose: Purpose,
}

/// What a charged call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A call for its own sake.
    Call,
    /// An order that is claimed at that time, and what it costs.
    Order {
        /// The job's `submitted_at`.
        at: DateTime<Utc>,
        /// Nothing, or one.
        cost: i32,
    },
    /// A call to read impact.com's clock; it may take what is kept back for that.
    Clock {
        /// Nobody has called for a whole window, so that it fits whatever is charged.
        after_quiet: bool,
    },
}

/// Charges one call, at `now`, or where that is `None` at Postgres's. It locks the account's row until the transaction ends, so
/// that replicas cannot both take the last one, and so that the ids of charges are in their order.
pub async fn charge(conn: &mut PgConnection, charge: Charge<'_>, now: Option<DateTime<Utc>>) -> Result<Charged, Error> {
    let (purpose, ordered_at, cost) = match charge.purpose {
        Purpose::Call => ("call", None, None),
        Purpose::Order { at, cost } => ("order", Some(at), Some(cost)),
        Purpose::Clock { after_quiet: false } => ("clock", None, None),
        Purpose::Clock { after_quiet: true } => ("clock_after_quiet", None, None),
    };
    let charged = sqlx::query!(
        r#"
        select charge_id, opens_at, clock_may_tell as "clock_may_tell!", moved as "moved!", ahead_seconds
        from impact_mirror.charge_call($1, $2, $3, $4, $5, $6, $7, $8)
        "#,
        charge.account.as_str(),
        charge.bucket.as_str(),
        charge.call,
        charge.job.map(|id| id.0),
        purpose,
        ordered_at,
        cost,
        now,
    )
    .fetch_one(conn)
    .await
    .map_err(failed("charge a bucket"))?;
    tell_redated(charge.account, charged.moved, charged.ahead_seconds);
    Ok(match (charged.charge_id, charged.opens_at) {
        (Some(id), _) => Charged::Yes(ChargeId(id)),
        (None, until) => Charged::No {
            until: until.expect("a bucket without room opens at some time"),
            clock_may_tell: charged.clock_may_tell,
        },
    })
}

/// One at a time charges an account, or writes what its answers said. Held until the transaction ends.
pub(super) async fn lock(conn: &mut PgConnection, account: &AccountName) -> Result<(), Error> {
    sqlx::query!("select name from impact_mirror.account where name = $1 for no key update", account.as_str())
        .fetch_one(conn)
        .await
        .map_err(failed("lock an account's ledger"))?;
    Ok(())
}

/// The same where nobody else has it; `false` where somebody has.
pub(super) async fn try_lock(conn: &mut PgConnection, account: &AccountName) -> Result<bool, Error> {
    let locked = sqlx::query!(
        "select name from impact_mirror.account where name = $1 for no key update skip locked",
        account.as_str()
    )
    .fetch_optional(conn)
    .await
    .map_err(failed("lock an account's ledger"))?;
    Ok(locked.is_some())
}

/// The same where it is to be had within a second. Where it is not, the transaction has failed.
pub(super) async fn lock_soon(conn: &mut PgConnection, account: &AccountName) -> Result<bool, Error> {
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    sqlx::query!("set local lock_timeout = '1s'")
        .execute(&mut *conn)
        .await
        .map_err(failed("lock an account's ledger"))?;
    match lock(conn, account).await {
        Ok(()) => {
            let waits = sqlx::query!("set local lock_timeout to default").execute(conn).await;
            waits.map_err(failed("lock an account's ledger"))?;
            Ok(true)
        }
        Err(Error::Statement { source: sqlx::Error::Database(error), .. })
            if error.code().as_deref() == Some(LOCK_NOT_AVAILABLE) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The same for all accounts, for who goes on to write several.
pub(super) async fn lock_all(conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query!("select name from impact_mirror.account order by name for no key update")
        .fetch_all(conn)
        .await
        .map_err(failed("lock the ledger"))?;
    Ok(())
}

/// Says that a clock was set back: once for each time, for then nothing is left to be moved.
pub(super) fn tell_redated(account: &AccountName, charge_count: i64, ahead_seconds: Option<f64>) {
    if let Some(seconds) = ahead_seconds {
        tracing::warn!(
            %account,
            charge_count,
            seconds,
            "the database's clock was set back: {charge_count} charges lay up to {seconds:.0} s in the future and count from now on",
        );
    }
}

/// Moves to now what a clock that was set back has left in the future, for all accounts in which there is anything to move; each
/// in a transaction of its own.
pub(super) async fn redate_all(conn: &mut PgConnection, accounts: &[String], now: DateTime<Utc>) -> Result<(), Error> {
    let ahead = sqlx::query_scalar!(
        r#"
        select b.account as "account!: AccountName" from impact_mirror.bucket b
        where b.account = any((select $1::text[])::text[])
          and exists (
              select 1 from impact_mirror.charge h
              where h.account = b.account and h.bucket = b.bucket and h.at > $2::timestamptz + interval '1 minute')
        union
        select account from impact_mirror.bucket
        where account = any((select $1::text[])::text[])
          and (closed_until > $2::timestamptz + window_length or seen_at > $2::timestamptz + interval '1 minute' or seen_resets_at > $2::timestamptz + window_length)
        "#,
        accounts,
        now,
    )
    .fetch_all(&mut *conn)
    .await
    .map_err(failed("look for charges in the future"))?;
    for account in &ahead {
        let mut tx = conn.begin().await.map_err(failed("begin"))?;
        lock(&mut tx, account).await?;
        let redated = sqlx::query!(
            r#"select moved as "moved!", ahead_seconds from impact_mirror.redate($1, $2)"#,
            account.as_str(),
            now
        )
        .fetch_one(&mut *tx)
        .await
        .map_err(failed("redate charges"))?;
        tell_redated(account, redated.moved, redated.ahead_seconds);
        tx.commit().await.map_err(failed("commit new dates"))?;
    }
    Ok(())
}

/// Takes back a charge whose call was certainly not made.
pub async fn release(conn: &mut PgConnection, account: &AccountName, charge: ChargeId) -> Result<(), Error> {
    let mut tx = conn.begin().await.map_err(failed("begin"))?;
    lock(&mut tx, account).await?;
    sqlx::query!("delete from impact_mirror.charge where id = $1", charge.0)
        .execute(&mut *tx)
        .await
        .map_err(failed("take a charge back"))?;
    tx.commit().await.map_err(failed("commit a charge taken back"))
}

/// Takes back the charges of the order that `job` was claimed for, where it certainly did not go out. Doing so twice does
/// no harm: they are the ones of this claim.
pub async fn refund(conn: &mut PgConnection, job: &Job) -> Result<(), Error> {
    let mut tx = conn.begin().await.map_err(failed("begin"))?;
    lock(&mut tx, &job.account).await?;
    sqlx::query!("delete from impact_mirror.charge where job_id = $1 and ordered_at = $2", job.id.0, job.submitted_at)
        .execute(&mut *tx)
        .await
        .map_err(failed("give back a charge"))?;
    failpoint::reach("refund-written");
    tx.commit().await.map_err(failed("commit a charge given back"))?;
    failpoint::reach("refund-committed");
    Ok(())
}

/// Gives back the daily charge of an order that was answered with an earlier job, where such answers cost nothing. Needs a
/// transaction that has not locked the job yet.
pub async fn forgive_duplicate(conn: &mut PgConnection, job: &Job) -> Result<(), Error> {
    lock(conn, &job.account).await?;
    sqlx::query!(
        r#"
        update impact_mirror.charge c
        set cost = 0
        from impact_mirror.account a
        where a.name = c.account and a.duplicate_cost = 0 and c.job_id = $1 and c.ordered_at = $2 and c.bucket = $3
        "#,
        job.id.0,
        job.submitted_at,
        job.bucket.as_str(),
    )
    .execute(conn)
    .await
    .map_err(failed("forgive a duplicate"))?;
    Ok(())
}

/// Drops charges that count for nothing any more by either clock, a day after they stopped to.
pub async fn prune(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<u64, Error> {
    let mut tx = conn.begin().await.map_err(failed("begin"))?;
    lock_all(&mut tx).await?;
    let pruned = sqlx::query!(
        r#"
        delete from impact_mirror.charge c
        using impact_mirror.bucket b, impact_mirror.account a
        where b.account = c.account and b.bucket = c.bucket and a.name = c.account
          and c.at < $1::timestamptz - b.window_length - interval '1 day'
          and (a.remote_clock is null and a.ticks > 0 or c.remote_at < a.remote_clock - b.window_length - interval '1 day'
               or a.ticks - c.tick > 600)
        "#,
        now,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed("prune the ledger"))?;
    tx.commit().await.map_err(failed("commit a pruned ledger"))?;
    Ok(pruned.rows_affected())
}

/// The daily budgets of some accounts, as the planner needs them. What only impact.com's clock still counts is left out: it
/// is read once there is something to be ordered.
pub async fn budgets(
    conn: &mut PgConnection,
    accounts: &[String],
    now: DateTime<Utc>,
) -> Result<BTreeMap<(AccountName, Bucket), BudgetState>, Error> {
    let buckets = sqlx::query!(
        r#"
        select b.account as "account: AccountName", b.bucket as "bucket: Bucket", b.closed_until, a.replay_cost, r.ceiling as "ceiling!",
               r.ledger_room as "ledger_room!", r.seen_room, r.seen_until
        from impact_mirror.bucket b
        join impact_mirror.account a on a.name = b.account
        cross join lateral impact_mirror.bucket_room(b.account, b.bucket, $2) r
        where b.account = any($1) and b.bucket <> 'requests'
        "#,
        accounts,
        now,
    )
    .fetch_all(&mut *conn)
    .await
    .map_err(failed("read buckets"))?;
    let charges = sqlx::query!(
        r#"
        select c.account as "account: AccountName", c.bucket as "bucket: Bucket",
               least(c.at, $2::timestamptz) + interval '65 seconds' as "at!", j.reason as "reason?: Reason"
        from impact_mirror.charge c
        join impact_mirror.bucket b on b.account = c.account and b.bucket = c.bucket
        left join impact_mirror.job j on j.id = c.job_id
        where c.account = any($1) and c.bucket <> 'requests' and c.cost > 0
          and c.at > $2::timestamptz - b.window_length - interval '65 seconds'
        "#,
        accounts,
        now,
    )
    .fetch_all(&mut *conn)
    .await
    .map_err(failed("read the ledger"))?;
    let planned = sqlx::query!(
        r#"
        select j.account as "account: AccountName", j.bucket as "bucket: Bucket", j.reason as "reason: Reason"
        from impact_mirror.job j
        join impact_mirror.account a on a.name = j.account
        where j.state = 'planned' and j.account = any($1) and (j.replay_of is null or a.replay_cost > 0)
        "#,
        accounts,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read the planned jobs of a bucket"))?;
    let mut budgets: BTreeMap<(AccountName, Bucket), BudgetState> = buckets
        .into_iter()
        .map(|row| {
            let count = |n: i32| u32::try_from(n).unwrap_or(0);
            let lower = row.seen_room.filter(|seen| *seen < row.ledger_room);
            let state = BudgetState {
                limit: count(row.ceiling),
                window: row.bucket.window(),
                charges: Vec::new(),
                planned: Vec::new(),
                closed_until: row.closed_until,
                replay_cost: count(row.replay_cost),
                at_most: lower
                    .zip(row.seen_until)
                    .map(|(left, until)| AtMost { left: count(left), until: until.max(now) }),
            };
            ((row.account, row.bucket), state)
        })
        .collect();
    for job in planned {
        if let Some(budget) = budgets.get_mut(&(job.account, job.bucket)) {
            budget.planned.push(job.reason);
        }
    }
    for charge in charges {
        if let Some(budget) = budgets.get_mut(&(charge.account, charge.bucket)) {
            budget.charges.push(Spent { at: charge.at, reason: charge.reason });
        }
    }
    Ok(budgets)
}
