//! What answers say of quota and time: impact.com's clock, what its headers leave of a bucket, and what it refused.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};

use super::quota::{self, ChargeId};
use super::{Error, closure, coverage, failed};
use crate::account::AccountName;
use crate::export::Bucket;
use crate::failpoint;
use crate::job::Job;

/// No window is longer, in seconds; a reset beyond is cut to the window.
const LONGEST_RESET: f64 = 1e9;

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

/// Writes down what an answer said, at `now`, or where that is `None` at Postgres's.
pub async fn hear(conn: &mut PgConnection, heard: &Heard<'_>, now: Option<DateTime<Utc>>) -> Result<Told, Error> {
    let Ending::Throttled { bucket, or, reset_after } = heard.ending else {
        let is_nonsense = write(conn, heard, now).await?;
        failpoint::reach("heard-committed");
        return Ok(Told { is_nonsense, closed: Vec::new() });
    };
    let account = heard.paid.account();
    let mut tx = conn.begin().await.map_err(failed("begin"))?;
    let mut told = Told { is_nonsense: write(&mut tx, heard, now).await?, closed: Vec::new() };
    let now = match now {
        Some(now) => now,
        None => coverage::database_now(&mut tx).await?,
    };
    for bucket in [Some(bucket), or].into_iter().flatten() {
        let until = closure::close(&mut tx, account, bucket, reset_after, now).await?;
        told.closed.extend(until.map(|until| (bucket, until)));
    }
    tx.commit().await.map_err(failed("commit what was heard"))?;
    failpoint::reach("heard-committed");
    Ok(told)
}

/// Writes what needs no bucket closed; says whether headers that make no sense are worth a word.
///
/// Only what closes a bucket is waited for on disk. The charge itself was, before the call; the rest are corrections that the next
/// answer brings again, should Postgres break down within that moment.
async fn write(conn: &mut PgConnection, heard: &Heard<'_>, now: Option<DateTime<Utc>>) -> Result<bool, Error> {
    let (charge, job, order_at) = match heard.paid {
        Paid::Charge(_, id) => (Some(id.0), None, None),
        Paid::Order(job) => (None, Some(job.id.0), job.submitted_at),
        Paid::Call(job) => (None, Some(job.id.0), None),
    };
    let ending = match heard.ending {
        Ending::Good => "good",
        Ending::Refused => "refused",
        Ending::Throttled { .. } => "throttled",
        Ending::Failed => "failed",
    };
    let account = heard.paid.account();
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    let written = sqlx::query!(
        r#"
        select is_doubted as "is_doubted!", moved as "moved!", ahead_seconds
        from impact_mirror.hear_answer(
            $1, $2, $3, $4, $5, $6, $7, $8, $9, make_interval(secs => $10::float8), $11, $12),
            set_config('synchronous_commit',
                case when $12 = 'throttled' then current_setting('synchronous_commit') else 'off' end, true)
        "#,
        account.as_str(),
        charge,
        job,
        order_at,
        now,
        heard.date,
        heard.is_nonsense,
        heard.report.map(|report| number(report.limit)),
        heard.report.map(|report| number(report.remaining)),
        heard.report.and_then(|report| report.reset_after).map(|reset| reset.as_secs_f64().min(LONGEST_RESET)),
        heard.report.is_some_and(|report| report.is_of_requests),
        ending,
    )
    .fetch_one(conn)
    .await
    .map_err(failed("write down what was heard"))?;
    quota::tell_redated(account, written.moved, written.ahead_seconds);
    Ok(written.is_doubted)
}
