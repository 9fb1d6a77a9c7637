//! Jobs that wait for room on a full disk. While one does, nothing is ordered.

use sqlx::PgConnection;

use super::{Error, failed};

/// What waits for room.
#[derive(Debug, Clone, serde::Serialize)]
pub struct NoRoom {
    /// How many jobs.
    pub jobs: i64,
    /// Where there is no room, as the last try found it.
    pub message: String,
}

impl NoRoom {
    /// What mends it, for people.
    pub const MEND: &'static str =
        "make room there: what waits is tried again every few minutes by itself, and ordering goes on";

    /// What waits, for people.
    pub fn words(&self) -> String {
        let jobs = if self.jobs == 1 { "1 job waits".to_owned() } else { format!("{} jobs wait", self.jobs) };
        format!("a disk is full: {jobs} for room, and nothing is ordered meanwhile")
    }
}

/// The jobs that wait for room; none where there are none.
pub async fn lacking(conn: &mut PgConnection) -> Result<Option<NoRoom>, Error> {
    let found = sqlx::query!(
        r#"
        select count(*) as "jobs!", (array_agg(error_message order by run_at desc))[1] as message
        from impact_mirror.job
        where error_kind = 'no_room' and finished_at is null
        "#,
    )
    .fetch_one(conn)
    .await
    .map_err(failed("look for jobs that wait for room"))?;
    Ok(found.message.map(|message| NoRoom { jobs: found.jobs, message }))
}

/// Whether a job waits for room, so that nothing is ordered.
pub async fn is_lacking(conn: &mut PgConnection) -> Result<bool, Error> {
    sqlx::query_scalar!(r#"select impact_mirror.waits_for_room() as "waits!""#)
        .fetch_one(conn)
        .await
        .map_err(failed("ask whether a job waits for room"))
}
