//! Orders that were claimed, or are to be: charged anew, called off, held up by a clock. The claim itself is in `claim`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};

use super::job::Worker;
use super::quota::{self, Charge, Charged, Purpose};
use super::{Error, claim, failed};
use crate::account::AccountName;
use crate::export::{Bucket, Reason};
use crate::failpoint;
use crate::job::Job;

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
        match quota::charge(&mut tx, charge, Some(now)).await? {
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
                from impact_mirror.job j
                where j.id in (
                    -- What is planned is few beside all jobs that there were of the days.
                    select p.id
                    from (select * from impact_mirror.job
                          where state = 'planned' and reason <> 'manual' and replays = 0 and resubmits = 0
                          offset 0) p
                    join impact_mirror.manual_request m
                        on m.export = p.export and m.account = p.account and m.program = p.program
                       and p.from_day <= m.to_day and p.to_day >= m.from_day and p.created_at < m.requested_at)
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
    let accounts = claim::with_planned(conn, worker).await?;
    if accounts.is_empty() {
        return Ok(Vec::new());
    }
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
              where j.state = 'planned' and (j.run_at <= now()) is true and j.export = any($2)
                and j.account = b.account and (j.bucket = b.bucket or (j.replay_of is not null and b.bucket = 'requests')))
        group by a.name
        "#,
        &accounts,
        &worker.exports,
        now,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look for orders that wait for a clock"))
}
