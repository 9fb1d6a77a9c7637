//! What answers say of quota and time: impact.com's clock, what its headers leave of a bucket, and what it refused.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Connection, PgConnection};

use super::quota::{self, ChargeId};
use super::{Error, closure, failed};
use crate::account::AccountName;
use crate::export::Bucket;
use crate::failpoint;
use crate::job::Job;

/// `Date` has whole seconds.
const DATE_PRECISION: TimeDelta = TimeDelta::seconds(1);
/// A call charged before another one reaches impact.com at most this long after that one's answer is dated: it is under
/// way for 65 s at most, and a date has whole seconds.
const LATEST_ARRIVAL: TimeDelta = TimeDelta::seconds(66);

/// What paid for the call that was answered.
#[derive(Debug, Clone, Copy)]
pub enum Paid<'a> {
    /// The order that the job was claimed for.
    Order(&'a Job),
    /// The last call made for the job besides its order.
    Call(&'a Job),
    /// That charge.
    Charge(&'a AccountName, ChargeId),
}

impl Paid<'_> {
    fn account(&self) -> &AccountName {
        match self {
            Self::Order(job) | Self::Call(job) => &job.account,
            Self::Charge(account, _) => account,
        }
    }
}

/// What the headers leave of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Calls allowed in a window.
    pub limit: u32,
    /// Calls left.
    pub remaining: u32,
    /// How long until the count starts anew.
    pub reset_after: Option<Duration>,
    /// Whether it can only be about the hourly requests; else it may be about the daily bucket (impact-api §9, 18).
    pub is_of_requests: bool,
}

/// What an answer said.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'a> {
    /// For which call.
    pub paid: Paid<'a>,
    /// The server's clock.
    pub date: Option<DateTime<Utc>>,
    /// What is left.
    pub report: Option<Report>,
    /// Whether there were headers about quota that make no sense.
    pub is_nonsense: bool,
    /// What the answer was.
    pub ending: Ending,
}

/// What an answer was, as far as quota goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// What was asked for.
    Good,
    /// 4xx other than 429.
    Refused,
    /// 429.
    Throttled {
        /// The bucket that it closes.
        bucket: Bucket,
        /// Another one that it may have been about, which it closes too.
        or: Option<Bucket>,
        /// How long impact.com says to wait.
        reset_after: Option<Duration>,
    },
    /// Any other failure.
    Failed,
}

/// What of an answer is worth a word to people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Headers that make no sense: once a day.
    pub is_nonsense: bool,
    /// The buckets that the 429 closed and that were open before, each until then.
    pub closed: Vec<(Bucket, DateTime<Utc>)>,
}

/// Writes down what an answer said.
pub async fn hear(conn: &mut PgConnection, heard: &Heard<'_>, now: DateTime<Utc>) -> Result<Told, Error> {
    let account = heard.paid.account();
    let mut tx = conn.begin().await.map_err(failed("begin"))?;
    quota::lock(&mut tx, account).await?;
    quota::redate(&mut tx, account, now).await?;
    let charges = charges(&mut tx, &heard.paid).await?;
    let mut told = Told { is_nonsense: tick(&mut tx, heard, now).await?, closed: Vec::new() };
    if let Some(id) = charges.last().copied() {
        if let Some(date) = heard.date {
            keep_date(&mut tx, account, &charges, date).await?;
        }
        let reported = match heard.report {
            Some(report) => Some(keep_report(&mut tx, account, id, report, now).await?),
            None => None,
        };
        forget_report(&mut tx, &charges, reported).await?;
    }
    match heard.ending {
        Ending::Good => closure::reopen(&mut tx, &charges, now).await?,
        Ending::Refused => forgive_refusal(&mut tx, &charges).await?,
        Ending::Throttled { bucket, or, reset_after } => {
            for bucket in [Some(bucket), or].into_iter().flatten() {
                let until = closure::close(&mut tx, account, bucket, reset_after, now).await?;
                told.closed.extend(until.map(|until| (bucket, until)));
            }
        }
        Ending::Failed => {}
    }
    failpoint::reach("heard-written");
    tx.commit().await.map_err(failed("commit what was heard"))?;
    failpoint::reach("heard-committed");
    Ok(told)
}

/// The charges of a call, oldest first.
async fn charges(conn: &mut PgConnection, paid: &Paid<'_>) -> Result<Vec<i64>, Error> {
    let (job, is_order) = match paid {
        Paid::Charge(_, id) => return Ok(vec![id.0]),
        Paid::Order(job) => (job, true),
        Paid::Call(job) => (job, false),
    };
    let mut ids = sqlx::query_scalar!(
        r#"
        select id from impact_mirror.charge
        where job_id = $1 and case when $3 then ordered_at = $2 else ordered_at is null end
        order by id
        "#,
        job.id.0,
        job.submitted_at,
        is_order,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look for a charge"))?;
    if !is_order {
        ids.drain(..ids.len().saturating_sub(1));
    }
    Ok(ids)
}

/// Counts the answer, at most one in five minutes, and takes its date for impact.com's clock. The last one counts, not the
/// latest, so that a wrong one is forgotten with the next.
async fn tick(conn: &mut PgConnection, heard: &Heard<'_>, now: DateTime<Utc>) -> Result<bool, Error> {
    let doubted = sqlx::query_scalar!(
        r#"
        with ticked as (
            select name, ticked_at is null or ticked_at > $2 or ticked_at <= $2 - interval '5 minutes' as is_tick,
                   $4 and (doubted_at is null or doubted_at > $2 or doubted_at < $2 - interval '1 day') as is_doubted
            from impact_mirror.account
            where name = $1
        )
        update impact_mirror.account a
        set ticks = ticks + is_tick::integer,
            ticked_at = case when is_tick then $2 else ticked_at end,
            remote_clock = coalesce($3, remote_clock),
            remote_clock_tick = case when $3::timestamptz is null then remote_clock_tick else ticks + is_tick::integer end,
            doubted_at = case when is_doubted then $2 else doubted_at end
        from ticked t
        where a.name = t.name
        returning is_doubted as "is_doubted!"
        "#,
        heard.paid.account().as_str(),
        now,
        heard.date,
        heard.is_nonsense,
    )
    .fetch_one(conn)
    .await
    .map_err(failed("read impact.com's clock"))?;
    Ok(doubted)
}

/// Dates the call by impact.com's clock, and bounds what was charged before it: calls whose answer was lost, and those that
/// a wrong clock dated later than this.
async fn keep_date(
    conn: &mut PgConnection,
    account: &AccountName,
    charges: &[i64],
    date: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!("update impact_mirror.charge set remote_at = $2 where id = any($1)", charges, date + DATE_PRECISION,)
        .execute(&mut *conn)
        .await
        .map_err(failed("date a charge"))?;
    sqlx::query!(
        r#"
        update impact_mirror.charge c
        -- Ticks tell how long ago a charge was made at least, whatever clocks did since.
        set remote_at = case when c.remote_at is null then $3 - greatest(a.ticks - c.tick - 1, 0) * interval '5 minutes'
                             else $3 end
        from impact_mirror.account a
        where a.name = $1 and c.account = $1 and c.id < $2 and (c.remote_at is null or c.remote_at > $3)
        "#,
        account.as_str(),
        charges.iter().min().copied().unwrap_or_default(),
        date + LATEST_ARRIVAL,
    )
    .execute(conn)
    .await
    .map_err(failed("date earlier charges"))?;
    Ok(())
}

/// Keeps what the headers leave, unless a later call has reported. Says of which bucket they spoke.
async fn keep_report(
    conn: &mut PgConnection,
    account: &AccountName,
    charge: i64,
    report: Report,
    now: DateTime<Utc>,
) -> Result<Bucket, Error> {
    let limit = i32::try_from(report.limit).unwrap_or(i32::MAX);
    let bucket = sqlx::query_scalar!(
        r#"
        select case when $3 or r.seen_limit = $4 then r.bucket else c.bucket end as "bucket!: Bucket"
        from impact_mirror.bucket r, impact_mirror.charge c
        where r.account = $1 and r.bucket = 'requests' and c.id = $2
        "#,
        account.as_str(),
        charge,
        report.is_of_requests,
        limit,
    )
    .fetch_one(&mut *conn)
    .await
    .map_err(failed("tell which bucket the headers are about"))?;
    let reset = report
        .reset_after
        .map(|reset| now + TimeDelta::from_std(reset).unwrap_or(bucket.window()).min(bucket.window()));
    sqlx::query!(
        r#"
        update impact_mirror.bucket
        set seen_limit = $4, seen_remaining = $5, seen_at = $6, seen_resets_at = $7, seen_charge_id = $3
        where account = $1 and bucket = $2 and (seen_charge_id is null or seen_charge_id <= $3)
        "#,
        account.as_str(),
        bucket.as_str(),
        charge,
        limit,
        i32::try_from(report.remaining).unwrap_or(i32::MAX),
        now,
        reset,
    )
    .execute(conn)
    .await
    .map_err(failed("keep what the headers say"))?;
    Ok(bucket)
}

/// Forgets a report that has had its time, where a call of its bucket, made since, was answered without another.
async fn forget_report(conn: &mut PgConnection, charges: &[i64], reported: Option<Bucket>) -> Result<(), Error> {
    sqlx::query!(
        r#"
        update impact_mirror.bucket b
        set seen_limit = null, seen_remaining = null, seen_at = null, seen_resets_at = null, seen_charge_id = null
        from impact_mirror.charge c
        where c.id = any($1) and b.account = c.account and b.bucket = c.bucket
          and b.bucket is distinct from $2 and b.seen_charge_id < c.id
          and c.at >= coalesce(
              b.seen_resets_at,
              b.seen_at + case when b.window_length > interval '1 hour' then interval '1 hour' else interval '5 minutes' end)
        "#,
        charges,
        reported.map(Bucket::as_str),
    )
    .execute(conn)
    .await
    .map_err(failed("forget what the headers said"))?;
    Ok(())
}

/// Gives back the charges of a refused call, where such calls cost nothing.
async fn forgive_refusal(conn: &mut PgConnection, charges: &[i64]) -> Result<(), Error> {
    sqlx::query!(
        r#"
        update impact_mirror.charge c
        set cost = 0
        from impact_mirror.account a
        where c.id = any($1) and a.name = c.account and a.refused_cost = 0
        "#,
        charges,
    )
    .execute(conn)
    .await
    .map_err(failed("forgive a refusal"))?;
    Ok(())
}
