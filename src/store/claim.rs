//! The claim of an order: a planned job is claimed together with its charges, in one transaction.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};

use super::job::{Row, Worker, claimed};
use super::quota::{self, Charge, Charged, Purpose};
use super::{Error, failed};
use crate::account::AccountName;
use crate::export::Bucket;
use crate::failpoint;
use crate::job::{Job, JobId};

/// Remote jobs of an account that are under way at once; how many impact.com runs is unknown (impact-api §9, 36).
const MAX_UNDER_WAY: i64 = 5;

/// Claims the most wanted planned job whose bucket has room, charges it, and moves it to `submitting`, all in one
/// transaction. A Replay is one of the hourly requests besides (impact-api §4.1).
///
/// The job is looked for twice: without a lock, to learn which account's turn it is, and once more with the account's ledger in
/// our hands, when nobody else can take what it stands on. The accounts whose turn is next are kept for the claims that follow.
/// While somebody else has an account's ledger, other accounts come first.
pub async fn order(conn: &mut PgConnection, worker: &Worker, now: DateTime<Utc>) -> Result<Option<Job>, Error> {
    if let Some(job) = kept(conn, worker, now).await? {
        return Ok(Some(job));
    }
    if !worker.turns.clock_looked_at.is_fresh() {
        quota::redate_all(conn, &worker.accounts, now).await?;
        worker.turns.clock_looked_at.renew();
    }
    let mut accounts = with_planned(conn, worker).await?;
    if accounts.is_empty() {
        return Ok(None);
    }
    let mut busy = Vec::new();
    let mut wait = Wait::No;
    loop {
        let began = Instant::now();
        let mut turns = find(conn, &accounts, worker, TURNS, now).await?.into_iter().map(|found| found.account);
        let Some(account) = turns.next() else {
            if busy.is_empty() {
                return Ok(None);
            }
            accounts = std::mem::take(&mut busy);
            wait = Wait::Yes;
            continue;
        };
        match claim_of(conn, &account, wait, worker, now).await? {
            Tried::Claimed(job) => {
                worker.turns.keep(turns.filter(|other| *other != account), began.elapsed());
                return Ok(Some(*job));
            }
            Tried::Busy if wait == Wait::No => busy.push(account.as_str().to_owned()),
            // Its holder takes long, and the others of us wait for this search; or another replica has taken the last one.
            Tried::Busy | Tried::Nothing => {}
        }
        accounts.retain(|one| one != account.as_str());
    }
}

/// The same of the accounts whose turn it is as far as that is kept; none where nothing is.
pub async fn kept(conn: &mut PgConnection, worker: &Worker, now: DateTime<Utc>) -> Result<Option<Job>, Error> {
    while let Some(account) = worker.turns.next() {
        if let Tried::Claimed(job) = claim_of(conn, &account, Wait::No, worker, now).await? {
            return Ok(Some(*job));
        }
    }
    Ok(None)
}

/// Accounts looked for at once: their calls of the last hour are added up, so that hundreds of busy ones would take a second.
const TURNS: i64 = 50;
/// How long it holds that it is an account's turn. What is more wanted by then waits for as long.
const TURN: Duration = Duration::from_secs(1);
/// And for so many times what the search took, for there are many accounts then.
const TURN_OF_SEARCH: u32 = 20;
/// But nobody waits longer for it.
const LONGEST_TURN: Duration = Duration::from_secs(5);

/// What the workers of a pool know for a moment, and need not ask again.
#[derive(Debug, Clone, Default)]
pub struct Turns {
    /// The accounts whose turn is next, each until when.
    next: Arc<Mutex<VecDeque<(Instant, AccountName)>>>,
    /// Orders whose end is unknown were looked for, and there was none.
    pub none_was_lost: Moment,
    /// One at a time searches for whose turn it is. When the last search began that found nothing.
    pub searching: Arc<tokio::sync::Mutex<Option<Instant>>>,
    /// Charges that a clock that was set back left in the future were looked for. Whoever charges a call looks anyway.
    clock_looked_at: Moment,
}

/// When something was last found to be so. That holds for a turn.
#[derive(Debug, Clone, Default)]
pub struct Moment(Arc<Mutex<Option<Instant>>>);

impl Moment {
    /// Whether it holds.
    pub fn is_fresh(&self) -> bool {
        let at = self.0.lock().expect("nobody panics while holding it");
        at.is_some_and(|at| at.elapsed() < TURN)
    }

    /// It is so now.
    pub fn renew(&self) {
        *self.0.lock().expect("nobody panics while holding it") = Some(Instant::now());
    }
}

impl Turns {
    fn next(&self) -> Option<AccountName> {
        let mut turns = self.next.lock().expect("nobody panics while holding it");
        let now = Instant::now();
        turns.retain(|(until, _)| now < *until);
        turns.pop_front().map(|(_, account)| account)
    }

    /// Keeps what a search found that took so long.
    fn keep(&self, accounts: impl Iterator<Item = AccountName>, search: Duration) {
        let until = Instant::now() + (search * TURN_OF_SEARCH).clamp(TURN, LONGEST_TURN);
        let mut turns = self.next.lock().expect("nobody panics while holding it");
        *turns = accounts.map(|account| (until, account)).collect();
    }
}

/// Whether to wait for who has an account's ledger.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Yes,
    No,
}

/// What came of a claim for an account.
enum Tried {
    Claimed(Box<Job>),
    /// Somebody else has its ledger.
    Busy,
    Nothing,
}

/// Claims the most wanted planned job of an account.
async fn claim_of(
    conn: &mut PgConnection,
    account: &AccountName,
    wait: Wait,
    worker: &Worker,
    now: DateTime<Utc>,
) -> Result<Tried, Error> {
    let mut tx = conn.begin().await.map_err(failed("begin"))?;
    let is_ours = match wait {
        Wait::Yes => quota::lock_soon(&mut tx, account).await?,
        Wait::No => quota::try_lock(&mut tx, account).await?,
    };
    if !is_ours {
        tx.rollback().await.map_err(failed("give a claim up"))?;
        return Ok(Tried::Busy);
    }
    let accounts = [account.as_str().to_owned()];
    if let Some(found) = find(&mut tx, &accounts, worker, 1, now).await?.first()
        && let Some(job) = take(&mut tx, found, worker, now).await?
    {
        failpoint::reach("order-claim-written");
        tx.commit().await.map_err(failed("commit a claim"))?;
        failpoint::reach("order-claim-committed");
        return Ok(Tried::Claimed(Box::new(job)));
    }
    tx.rollback().await.map_err(failed("give a claim up"))?;
    Ok(Tried::Nothing)
}

/// Those of our accounts that have planned jobs, from one to the next along the index `job_planned`: what has none costs nothing.
pub(super) async fn with_planned(conn: &mut PgConnection, worker: &Worker) -> Result<Vec<String>, Error> {
    sqlx::query_scalar!(
        r#"
        with recursive planned as (
            (select account from impact_mirror.job where state = 'planned' order by account limit 1)
            union all
            select (
                select j.account from impact_mirror.job j
                where j.state = 'planned' and j.account > p.account
                order by j.account
                limit 1)
            from planned p
            where p.account is not null
        )
        select account as "account!" from planned where account = any((select $1::text[])::text[])
        "#,
        &worker.accounts,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look for accounts with planned jobs"))
}

/// A planned job whose turn it is.
struct Found {
    id: i64,
    account: AccountName,
    bucket: Bucket,
    replay_of: Option<String>,
    cost: i32,
}

/// The most wanted planned jobs of some accounts: of each account, bucket and way of ordering one at most.
async fn find(
    conn: &mut PgConnection,
    accounts: &[String],
    worker: &Worker,
    limit: i64,
    now: DateTime<Utc>,
) -> Result<Vec<Found>, Error> {
    sqlx::query_as!(
        Found,
        r#"
        select id as "id!", account as "account!: AccountName", bucket as "bucket!: Bucket", replay_of, cost as "cost!"
        from impact_mirror.most_wanted($1, $2, $3, $4, $5)
        "#,
        accounts,
        &worker.exports,
        MAX_UNDER_WAY,
        now,
        limit,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look for a planned job"))
}

/// Charges a job and claims it. `None`: there is no room, or the job was called off a moment ago.
async fn take(
    conn: &mut PgConnection,
    found: &Found,
    worker: &Worker,
    now: DateTime<Utc>,
) -> Result<Option<Job>, Error> {
    let id = JobId(found.id);
    let call = if found.replay_of.is_some() { "replay" } else { "submit" };
    let hourly = found.replay_of.is_some().then_some((Bucket::Requests, 1));
    for (bucket, cost) in [Some((found.bucket, found.cost)), hourly].into_iter().flatten() {
        let purpose = Purpose::Order { at: now, cost };
        let charge = Charge { account: &found.account, bucket, call, job: Some(id), purpose };
        match quota::charge(conn, charge, Some(now)).await? {
            Charged::Yes(_) => {}
            Charged::No { .. } => return Ok(None),
        }
    }
    let claimed = claimed!(
        r#"
        with claimed as (
            update impact_mirror.job
            set state = 'submitting', submitted_at = $4, submitted_remote_at = null, remote_done_at = null, as_of = null,
                remote_job_id = null, adopted = false, polls = 0, attempts = attempts + 1, error_kind = null, error_message = null,
                lease_holder = $2, lease_token = gen_random_uuid(), lease_expires_at = now() + make_interval(secs => $3)
            where id = $1 and state = 'planned'
            returning *, false as is_resumed
        ), event as (
            insert into impact_mirror.job_event (job_id, at, from_state, to_state, holder)
            select id, now(), 'planned', 'submitting', $2 from claimed
        )
        "#,
        id.0,
        worker.holder,
        worker.lease.as_secs_f64(),
        now,
    )
    .fetch_optional(&mut *conn)
    .await
    .map_err(failed("claim a planned job"))?;
    claimed.map(Row::job).transpose()
}
