//! What tells why an export is not as new as it should be.

use sqlx::PgConnection;

use super::{Error, failed};
use crate::job::JobState;
use crate::job::why::{FailedJob, Known, OpenJob};
use crate::retry::ErrorKind;

/// What is known of a feed of an export.
#[derive(Debug, Clone)]
pub struct FeedLine {
    /// The account.
    pub account: String,
    /// The program, or empty.
    pub program: String,
    /// Of the newest day that is not as it should be.
    pub known: Known,
}

/// A line for each active feed of an export.
pub async fn feeds(conn: &mut PgConnection, export: &str) -> Result<Vec<FeedLine>, Error> {
    let rows = sqlx::query!(
        r#"
        select f.account, f.program, d.day as "day?", e.bucket,
               coalesce(a.paused_since, a.ordering_paused_since) as account_since,
               coalesce(a.paused_reason, 'by hand, by ' || a.ordering_paused_by) as account_reason,
               a.paused_since is null and a.ordering_paused_since is not null as "account_by_hand!",
               coalesce(ea.paused_since, e.ordering_paused_since) as export_since,
               coalesce(ea.paused_reason, 'by hand, by ' || e.ordering_paused_by) as export_reason,
               ea.paused_since is null and e.ordering_paused_since is not null as "export_by_hand!",
               impact_mirror.waits_for_room() as "no_room!",
               j.id as "job_id?", j.state as "state?: JobState", j.run_at as "run_at?", j.created_at as "created_at?",
               j.submitted_at as "submitted_at?", j.error_message as "error?",
               concat_ws(' ', j.remote_status, round(j.remote_percent::numeric)::text || '%') as remote,
               coalesce(j.lease_expires_at > now(), false) as "is_held!",
               fj.id as "failed_id?", c.failed_at as "failed_at?", fj.error_message as "failed_error?",
               fj.error_kind as "failed_kind?: ErrorKind",
               q.remaining as "remaining!", q.resets_at
        from impact_mirror.feed f
        join impact_mirror.export e on e.name = f.export and e.active
        join impact_mirror.account a on a.name = f.account and a.active
        join impact_mirror.export_account ea on ea.export = f.export and ea.account = f.account
        join impact_mirror.quota q on q.account = f.account and q.bucket = e.bucket
        left join lateral (
            select v.day
            from impact_mirror.coverage v
            where v.export = f.export and v.account = f.account and v.program = f.program
              and v.state not in ('loaded', 'settled')
            order by v.day desc
            limit 1
        ) d on true
        left join impact_mirror.cell c
            on c.export = f.export and c.account = f.account and c.program = f.program and c.day = d.day
        left join impact_mirror.open_cell oc
            on oc.export = f.export and oc.account = f.account and oc.program = f.program and oc.day = d.day
        left join impact_mirror.job j on j.id = oc.job_id
        left join impact_mirror.job fj on fj.id = c.failed_job_id
        where f.export = $1 and f.active
        order by f.account, f.program
        "#,
        export,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read why an export is late"))?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let job = row.job_id.zip(row.state).zip(row.run_at.zip(row.created_at));
            let known = Known {
                day: row.day,
                account_paused: row.account_since.zip(row.account_reason),
                account_by_hand: row.account_by_hand,
                export_paused: row.export_since.zip(row.export_reason),
                export_by_hand: row.export_by_hand,
                no_room: row.no_room,
                job: job.map(|((id, state), (run_at, created_at))| OpenJob {
                    id,
                    state,
                    run_at,
                    created_at,
                    submitted_at: row.submitted_at,
                    remote: row.remote.filter(|remote| !remote.is_empty()),
                    error: row.error,
                    is_held: row.is_held,
                }),
                failed: row.failed_id.zip(row.failed_at).map(|(id, at)| FailedJob {
                    id,
                    at,
                    error: row.failed_error.unwrap_or_else(|| "without words".to_owned()),
                    kind: row.failed_kind,
                }),
                remaining: row.remaining,
                resets_at: row.resets_at,
                bucket: row.bucket,
            };
            FeedLine { account: row.account, program: row.program, known }
        })
        .collect())
}
