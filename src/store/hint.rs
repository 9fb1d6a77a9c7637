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

/// Makes waiting jobs due. One that is being looked at just now is looked at once more (see `transition::poll_again`).
/// Says how many there were.
pub async fn hurry(conn: &mut PgConnection, jobs: &[i64]) -> Result<u64, Error> {
    let hurried = sqlx::query!(
        "update impact_mirror.job set run_at = now() where id = any($1) and state = 'waiting' and (run_at > now() or lease_token is not null)",
        jobs,
    )
    .execute(conn)
    .await
    .map_err(failed("hurry jobs"))?;
    Ok(hurried.rows_affected())
}
