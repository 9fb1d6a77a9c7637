//! Hints that a remote job may have ended: the jobs that follow one are looked at before their turn.

use sqlx::PgConnection;

use super::{Error, failed};

/// A job of ours and the remote job that it follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Ours.
    pub job_id: i64,
    /// Theirs.
    pub remote_job_id: String,
    /// Whether its end is waited for.
    pub is_waiting: bool,
}

/// The jobs that follow a remote job, or did until a day ago: hints come late and more than once.
pub async fn followed(conn: &mut PgConnection) -> Result<Vec<Followed>, Error> {
    sqlx::query_as!(
        Followed,
        r#"
        select id as job_id, remote_job_id as "remote_job_id!", state = 'waiting' as "is_waiting!"
        from impact_mirror.job
        where remote_job_id is not null and (finished_at is null or finished_at > now() - interval '1 day')
        "#,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look for the jobs of a hint"))
}

/// Has waiting jobs looked at before their turn: now, or 2 s after their account was last looked at, so that many hints lead to
/// one look. Where less than half of an account's hourly requests is left, its jobs keep their turn. One that is being
/// looked at just now is looked at once more (see `transition::poll_again`). Says how many there were.
pub async fn hurry(conn: &mut PgConnection, jobs: &[i64]) -> Result<u64, Error> {
    let hurried = sqlx::query!(
        r#"
        with account as (
            select hinted.account,
                   greatest(now(), (
                       select max(c.at) from impact_mirror.charge c
                       where c.account = hinted.account and c.bucket = 'requests' and c.call in ('job', 'jobs')
                         and c.at between now() - interval '2 seconds' and now()) + interval '2 seconds') as look_at
            from (select distinct account from impact_mirror.job where id = any($1) and state = 'waiting') hinted
            cross join lateral impact_mirror.bucket_room(hinted.account, 'requests', now()) r
            where 2 * r.room >= r.ceiling
        )
        update impact_mirror.job j
        set run_at = a.look_at
        from account a
        where j.id = any($1) and j.state = 'waiting' and j.account = a.account
          and (j.run_at > a.look_at or j.lease_token is not null)
        "#,
        jobs,
    )
    .execute(conn)
    .await
    .map_err(failed("hurry jobs"))?;
    Ok(hurried.rows_affected())
}
