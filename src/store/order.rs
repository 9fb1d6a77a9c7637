//! Orders: a planned job is claimed together with its charges, in one transaction.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::job::{Worker, fetch};
use super::quota::{self, Charge, Charged, Purpose};
use super::{Error, failed};
use crate::account::AccountName;
use crate::export::{Bucket, Reason};
use crate::failpoint;
use crate::job::{Job, JobId};

/// Remote jobs of an account that are under way at once; how many impact.com runs is unknown (impact-api §9, 36).
const MAX_UNDER_WAY: i64 = 5;

/// Claims the most wanted planned job whose bucket has room, charges it, and moves it to `submitting`, all in one
/// transaction. A Replay is one of the hourly requests besides (impact-api §4.1).
///
/// The job is looked for twice: without a lock, to learn whose turn it is, and once more with the account's ledger in our
/// hands, when nobody else can take what it stands on. While somebody else has an account's ledger, other accounts come first.
pub async fn claim(conn: &mut PgConnection, worker: &Worker, now: DateTime<Utc>) -> Result<Option<Job>, Error> {
    quota::redate_all(conn, &worker.accounts, now).await?;
    let mut accounts = worker.accounts.clone();
    let mut busy = Vec::new();
    let mut waits = false;
    loop {
        let Some(found) = find(conn, &accounts, worker, now).await? else {
            if busy.is_empty() {
                return Ok(None);
            }
            accounts = std::mem::take(&mut busy);
            waits = true;
            continue;
        };
        let account = [found.account.as_str().to_owned()];
        let mut tx = conn.begin().await.map_err(failed("begin"))?;
        if waits {
            quota::lock(&mut tx, &found.account).await?;
        } else if !quota::try_lock(&mut tx, &found.account).await? {
            tx.rollback().await.map_err(failed("give a claim up"))?;
            accounts.retain(|one| *one != account[0]);
            busy.extend(account);
            continue;
        }
        if let Some(found) = find(&mut tx, &account, worker, now).await?
            && let Some(job) = take(&mut tx, &found, worker, now).await?
        {
            failpoint::reach("order-claim-written");
            tx.commit().await.map_err(failed("commit a claim"))?;
            failpoint::reach("order-claim-committed");
            return Ok(Some(job));
        }
        // Another replica has taken the last one.
        tx.rollback().await.map_err(failed("give a claim up"))?;
        accounts.retain(|one| *one != account[0]);
    }
}

/// A planned job whose turn it is.
struct Found {
    id: i64,
    account: AccountName,
    bucket: Bucket,
    replay_of: Option<String>,
    cost: i32,
}

/// The most wanted planned job of some accounts.
async fn find(
    conn: &mut PgConnection,
    accounts: &[String],
    worker: &Worker,
    now: DateTime<Utc>,
) -> Result<Option<Found>, Error> {
    sqlx::query_as!(
        Found,
        r#"
        with under_way as materialized (
            -- Nobody looks at the jobs of a paused export, so others do not wait for their end.
            select u.account, u.export, u.bucket, u.program, u.state, p.paused_since is null as is_followed
            from impact_mirror.job u
            join impact_mirror.export_account p on p.export = u.export and p.account = u.account
            where u.finished_at is null and u.state in ('submitting', 'waiting', 'ready', 'loading')
              and u.account = any($1)
        ), full_up as materialized (
            select account from under_way
            where is_followed and state in ('submitting', 'waiting')
            group by account
            having count(*) >= $3
        ), best as materialized (
            select o.id, o.account, o.bucket, o.priority, o.replay_of, a.replay_cost
            from impact_mirror.account a
            join impact_mirror.bucket b on b.account = a.name and b.bucket <> 'requests'
            cross join (values (true), (false)) as kind (is_replay)
            cross join lateral (
                select j.id, j.account, j.bucket, j.priority, j.replay_of
                from impact_mirror.job j
                join impact_mirror.export_account ea
                    on ea.export = j.export and ea.account = j.account and ea.paused_since is null
                join impact_mirror.export e on e.name = j.export and e.ordering_paused_since is null
                where j.state = 'planned'
                  and j.account = b.account and j.bucket = b.bucket and (j.replay_of is not null) = kind.is_replay
                  and j.run_at <= now()
                  and j.export = any($2)
                  and not exists (
                      select 1 from under_way s
                      where s.state = 'submitting' and s.account = j.account and s.bucket = j.bucket
                        and s.program = j.program)
                  -- A limit of windows on trial is tried by one order at a time: several would be lost together.
                  and (j.replay_of is not null or ea.max_window_days is null or ea.max_window_learned_at is not null
                       or not exists (select 1 from under_way t where t.export = j.export and t.account = j.account))
                order by j.priority, j.id
                limit 1
            ) o
            where a.name = any($1)
              and a.paused_since is null
              and a.ordering_paused_since is null
              and not (select impact_mirror.waits_for_room())
              and a.name not in (select account from full_up)
        )
        -- Rooms are added up for one after the other, until there is one.
        select o.id as "id!", o.account as "account!: AccountName", o.bucket as "bucket!: Bucket", o.replay_of,
               case when o.replay_of is null then 1 else o.replay_cost end as "cost!"
        from (select * from best order by priority, id) o
        cross join lateral (
            select r.room > 0 as has_room, coalesce(b.closed_until > $4, false) as is_closed
            from impact_mirror.bucket b
            cross join lateral impact_mirror.bucket_room(b.account, b.bucket, $4) r
            where b.account = o.account and b.bucket = o.bucket
        ) d
        where (d.has_room or (o.replay_of is not null and o.replay_cost = 0 and not d.is_closed))
          and (o.replay_of is null
               or exists (select 1 from impact_mirror.bucket_room(o.account, 'requests', $4) h where h.room > 0))
        order by o.priority, o.id
        limit 1
        "#,
        accounts,
        &worker.exports,
        MAX_UNDER_WAY,
        now,
    )
    .fetch_optional(conn)
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
        match quota::charge(conn, charge, now).await? {
            Charged::Yes(_) => {}
            Charged::No { .. } => return Ok(None),
        }
    }
    let lease = sqlx::query_scalar!(
        r#"
        with claimed as (
            update impact_mirror.job
            set state = 'submitting', submitted_at = $4, submitted_remote_at = null, remote_done_at = null, as_of = null,
                remote_job_id = null, adopted = false, attempts = attempts + 1, error_kind = null, error_message = null,
                lease_holder = $2, lease_token = gen_random_uuid(), lease_expires_at = now() + make_interval(secs => $3)
            where id = $1 and state = 'planned'
            returning id, lease_token
        ), event as (
            insert into impact_mirror.job_event (job_id, at, from_state, to_state, holder)
            select id, now(), 'planned', 'submitting', $2 from claimed
        )
        select lease_token as "lease_token!: Uuid" from claimed
        "#,
        id.0,
        worker.holder,
        worker.lease.as_secs_f64(),
        now,
    )
    .fetch_optional(&mut *conn)
    .await
    .map_err(failed("claim a planned job"))?;
    match lease {
        Some(lease) => fetch(conn, id, lease, false).await.map(Some),
        None => Ok(None),
    }
}

/// Charges an order anew that has not gone out yet: what was charged for it is given back, for it is too old to cover the
/// call. `None`: there is no room any more, and nothing was changed.
pub async fn renew(conn: &mut PgConnection, job: &Job, now: DateTime<Utc>) -> Result<Option<Job>, Error> {
    let mut tx = conn.begin().await.map_err(failed("begin"))?;
    quota::lock(&mut tx, &job.account).await?;
    let old = sqlx::query!(
        r#"
        delete from impact_mirror.charge
        where job_id = $1 and ordered_at = $2
        returning bucket as "bucket: Bucket", cost
        "#,
        job.id.0,
        job.submitted_at,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(failed("take back an old charge"))?;
    let call = if job.replay_of.is_some() { "replay" } else { "submit" };
    for one in old {
        let purpose = Purpose::Order { at: now, cost: one.cost };
        let charge = Charge { account: &job.account, bucket: one.bucket, call, job: Some(job.id), purpose };
        match quota::charge(&mut tx, charge, now).await? {
            Charged::Yes(_) => {}
            Charged::No { .. } => return Ok(None),
        }
    }
    let kept = sqlx::query!(
        "update impact_mirror.job set submitted_at = $3 where id = $1 and lease_token = $2 and state = 'submitting'",
        job.id.0,
        job.lease,
        now,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed("date an order anew"))?;
    if kept.rows_affected() == 0 {
        return Err(Error::LeaseLost { job: job.id });
    }
    failpoint::reach("recharge-written");
    tx.commit().await.map_err(failed("commit a new charge"))?;
    failpoint::reach("recharge-committed");
    Ok(Some(Job { submitted_at: Some(now), ..job.clone() }))
}

/// Calls off planned jobs of an account that were never ordered, the least wanted of each bucket and class: they make way
/// for what is wanted more. Their days are due as before. One that is claimed meanwhile stays, and so may one that the
/// bucket has no room for: the ledger lets it wait.
pub async fn call_off(
    conn: &mut PgConnection,
    account: &AccountName,
    making_way: &BTreeMap<(Bucket, Reason), u32>,
    holder: &str,
) -> Result<(), Error> {
    for ((bucket, reason), jobs) in making_way {
        let called_off = sqlx::query!(
            r#"
            with called_off as (
                update impact_mirror.job
                set state = 'cancelled', finished_at = now(), error_kind = null, error_message = null
                where id in (
                    select id
                    from impact_mirror.job
                    where state = 'planned' and account = $1 and bucket = $2 and reason = $3 and replays = 0 and resubmits = 0
                    order by priority desc, id desc
                    limit $4
                    for no key update skip locked)
                  and state = 'planned'
                returning id
            )
            insert into impact_mirror.job_event (job_id, at, from_state, to_state, holder, note)
            select id, now(), 'planned', 'cancelled', $5, 'not ordered: makes way for what is wanted more; its days are planned again'
            from called_off
            "#,
            account.as_str(),
            bucket.as_str(),
            reason.as_str(),
            i64::from(*jobs),
            holder,
        )
        .execute(&mut *conn)
        .await
        .map_err(failed("call planned jobs off"))?
        .rows_affected();
        tracing::info!(called_off, %account, "{called_off} planned {reason} jobs of {account} make way for what is wanted more");
    }
    Ok(())
}

/// Calls off planned jobs that were never ordered and hold days that a person has asked for since: those are planned as
/// that person's, ahead of the rest.
pub async fn call_off_what_was_asked_for(conn: &mut PgConnection, holder: &str) -> Result<u64, Error> {
    let called_off = sqlx::query!(
        r#"
        with called_off as (
            update impact_mirror.job
            set state = 'cancelled', finished_at = now(), error_kind = null, error_message = null
            where id in (
                select j.id
                from impact_mirror.manual_request m
                join impact_mirror.job j
                    on j.export = m.export and j.account = m.account and j.program = m.program
                   and j.from_day <= m.to_day and j.to_day >= m.from_day
                where j.state = 'planned' and j.reason <> 'manual' and j.replays = 0 and j.resubmits = 0
                  and j.created_at < m.requested_at
                for no key update of j skip locked)
              and state = 'planned'
            returning id
        )
        insert into impact_mirror.job_event (job_id, at, from_state, to_state, holder, note)
        select id, now(), 'planned', 'cancelled', $1, 'not ordered: its days were asked for by hand' from called_off
        "#,
        holder,
    )
    .execute(conn)
    .await
    .map_err(failed("call off what was asked for by hand"))?;
    Ok(called_off.rows_affected())
}

/// The accounts with orders that wait for nothing but impact.com's clock to be read, which a call does: at most one in
/// five minutes.
pub async fn held_by_remote_clock(
    conn: &mut PgConnection,
    worker: &Worker,
    now: DateTime<Utc>,
) -> Result<Vec<AccountName>, Error> {
    sqlx::query_scalar!(
        r#"
        select a.name as "name: AccountName"
        from impact_mirror.account a
        join impact_mirror.bucket b on b.account = a.name
        cross join lateral impact_mirror.bucket_room(b.account, b.bucket, $3) r
        where a.name = any($1)
          and a.paused_since is null
          and a.ordering_paused_since is null
          and (a.clock_asked_at is null or a.clock_asked_at > $3 or a.clock_asked_at <= $3 - interval '5 minutes')
          and r.clock_may_tell
          and exists (
              select 1
              from impact_mirror.job j
              join impact_mirror.export_account ea
                  on ea.export = j.export and ea.account = j.account and ea.paused_since is null
              join impact_mirror.export e on e.name = j.export and e.ordering_paused_since is null
              where j.state = 'planned' and j.run_at <= now() and j.export = any($2)
                and j.account = b.account and (j.bucket = b.bucket or (j.replay_of is not null and b.bucket = 'requests')))
        group by a.name
        "#,
        &worker.accounts,
        &worker.exports,
        now,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look for orders that wait for a clock"))
}
