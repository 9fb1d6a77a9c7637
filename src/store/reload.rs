//! Reloads: archived files that are loaded again. Each is a job like any other, so that cells and leases keep others away.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use sqlx::PgConnection;

use super::job::{Row, Worker, claimed};
use super::{Error, failed};
use crate::account::AccountName;
use crate::export::{ExportName, Program, Window};
use crate::job::reload::{Loaded, outdated};
use crate::job::{Job, JobId, JobState};

/// An account and program of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    /// The export.
    pub export: ExportName,
    /// The account.
    pub account: AccountName,
    /// The program, or none.
    pub program: Program,
}

impl Feed {
    /// The one that a job belongs to.
    pub fn of(job: &Job) -> Self {
        Self { export: job.export.clone(), account: job.account.clone(), program: job.program.clone() }
    }
}

/// The accounts and programs of an export with loads in these days; of one program, where that is given.
pub async fn feeds(
    conn: &mut PgConnection,
    export: &ExportName,
    accounts: &[String],
    program: Option<&str>,
    days: Window,
) -> Result<Vec<Feed>, Error> {
    let found = sqlx::query!(
        r#"
        select distinct account as "account: AccountName", program as "program: Program"
        from impact_mirror.load
        where export = $1 and account = any($2) and ($3::text is null or program = $3)
          and from_day <= $5 and to_day >= $4
        order by 1, 2
        "#,
        export.as_str(),
        accounts,
        program,
        days.from(),
        days.to(),
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look for what can be loaded again"))?;
    let feed = |account, program| Feed { export: export.clone(), account, program };
    Ok(found.into_iter().map(|one| feed(one.account, one.program)).collect())
}

/// Begins a reload of these days, or goes on with the one that was cut short; gives the load after which days are done.
/// The caller holds the planning lock.
pub async fn begin(conn: &mut PgConnection, feed: &Feed, days: Window) -> Result<i64, Error> {
    sqlx::query_scalar!(
        r#"
        insert into impact_mirror.reload as r (export, account, program, from_day, to_day, since_load_id, started_at)
        values ($1, $2, $3, $4, $5, coalesce((select max(id) from impact_mirror.load), 0), now())
        on conflict (export, account, program) where finished_at is null do update
        set since_load_id = case when (r.from_day, r.to_day) = (excluded.from_day, excluded.to_day)
                            then r.since_load_id else excluded.since_load_id end,
            from_day = excluded.from_day, to_day = excluded.to_day
        returning since_load_id
        "#,
        feed.export.as_str(),
        feed.account.as_str(),
        feed.program.as_str(),
        days.from(),
        days.to(),
    )
    .fetch_one(conn)
    .await
    .map_err(failed("begin a reload"))
}

/// Ends a reload.
pub async fn finish(conn: &mut PgConnection, feed: &Feed) -> Result<(), Error> {
    sqlx::query!(
        r#"
        update impact_mirror.reload set finished_at = now()
        where export = $1 and account = $2 and program = $3 and finished_at is null
        "#,
        feed.export.as_str(),
        feed.account.as_str(),
        feed.program.as_str(),
    )
    .execute(conn)
    .await
    .map_err(failed("end a reload"))?;
    Ok(())
}

/// All loads of a feed.
pub async fn loads(conn: &mut PgConnection, feed: &Feed) -> Result<Vec<Loaded>, Error> {
    let found = sqlx::query!(
        r#"
        select l.id, coalesce(j.reload_of, l.id) as "origin!", l.from_day, l.to_day,
               coalesce(f.stored_at is not null and f.dropped_at is null, false) as "is_archived!"
        from impact_mirror.load l
        join impact_mirror.job j on j.id = l.job_id
        left join impact_mirror.archived_file f on f.key = l.archive_key
        where l.export = $1 and l.account = $2 and l.program = $3
        order by l.id
        "#,
        feed.export.as_str(),
        feed.account.as_str(),
        feed.program.as_str(),
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read the loads of a program"))?;
    let loaded = found.into_iter().filter_map(|load| {
        let window = Window::new(load.from_day, load.to_day)?;
        Some(Loaded { id: load.id, origin: load.origin, window, is_archived: load.is_archived })
    });
    Ok(loaded.collect())
}

/// Makes some days of a feed due again: they hold rows older than impact.com gave, so that the planner asks for them. Gives
/// those that there are: days that are kept no longer have gone.
pub async fn make_due(
    conn: &mut PgConnection,
    feed: &Feed,
    days: &BTreeSet<NaiveDate>,
) -> Result<BTreeSet<NaiveDate>, Error> {
    let days: Vec<NaiveDate> = days.iter().copied().collect();
    let due = sqlx::query_scalar!(
        r#"
        update impact_mirror.cell
        set next_refresh_at = least(next_refresh_at, now()), locked = false
        where export = $1 and account = $2 and program = $3 and day = any($4) and loaded_at is not null
        returning day
        "#,
        feed.export.as_str(),
        feed.account.as_str(),
        feed.program.as_str(),
        &days,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("make days due again"))?;
    Ok(due.into_iter().collect())
}

/// Makes the days due again that a reload which failed leaves with rows older than impact.com gave. Says which.
pub async fn leave(conn: &mut PgConnection, feed: &Feed) -> Result<BTreeSet<NaiveDate>, Error> {
    let outdated = outdated(&loads(conn, feed).await?);
    make_due(conn, feed, &outdated).await
}

/// An open job that holds cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenJob {
    /// Which.
    pub id: JobId,
    /// Where it stands.
    pub state: JobState,
}

/// The open reload of a feed, if there is one.
pub async fn open_job(conn: &mut PgConnection, feed: &Feed) -> Result<Option<OpenJob>, Error> {
    sqlx::query_as!(
        OpenJob,
        r#"
        select id as "id: JobId", state as "state: JobState"
        from impact_mirror.job
        where export = $1 and account = $2 and program = $3 and reload_of is not null and finished_at is null
        order by id
        limit 1
        "#,
        feed.export.as_str(),
        feed.account.as_str(),
        feed.program.as_str(),
    )
    .fetch_optional(conn)
    .await
    .map_err(failed("look for a reload under way"))
}

/// Calls off planned jobs for the days of a load, which are planned again once they are free, and says which other job is
/// at work on them. The caller holds the planning lock.
pub async fn make_way(conn: &mut PgConnection, load_id: i64, holder: &str) -> Result<Option<OpenJob>, Error> {
    sqlx::query!(
        r#"
        with called_off as (
            update impact_mirror.job j
            set state = 'cancelled', finished_at = now()
            from impact_mirror.load l
            where l.id = $1 and j.export = l.export and j.account = l.account and j.program = l.program
              and j.from_day <= l.to_day and j.to_day >= l.from_day
              and j.state = 'planned' and j.lease_token is null
            returning j.id
        )
        insert into impact_mirror.job_event (job_id, at, from_state, to_state, holder, note)
        select id, now(), 'planned', 'cancelled', $2, 'makes way for a reload; its days are planned again'
        from called_off
        "#,
        load_id,
        holder,
    )
    .execute(&mut *conn)
    .await
    .map_err(failed("call planned jobs off"))?;
    sqlx::query_as!(
        OpenJob,
        r#"
        select j.id as "id: JobId", j.state as "state: JobState"
        from impact_mirror.load l
        join impact_mirror.job j on j.export = l.export and j.account = l.account and j.program = l.program
            and j.from_day <= l.to_day and j.to_day >= l.from_day and j.finished_at is null
        where l.id = $1
        order by j.id
        limit 1
        "#,
        load_id,
    )
    .fetch_optional(conn)
    .await
    .map_err(failed("look for jobs at work on the days of a reload"))
}

/// Makes the job that loads the file of a load again. The caller holds the planning lock and has made way.
pub async fn insert(conn: &mut PgConnection, load_id: i64, holder: &str) -> Result<JobId, Error> {
    sqlx::query_scalar!(
        r#"
        with begun as (
            insert into impact_mirror.job (export, account, program, from_day, to_day, reason, state, priority, bucket,
                request, wanted_after, remote_job_id, records_processed, submitted_at, submitted_remote_at, as_of, run_at,
                created_at, reload_of)
            select l.export, l.account, l.program, l.from_day, l.to_day, 'manual', 'ready', 0, j.bucket, j.request,
                   j.wanted_after, j.remote_job_id, j.records_processed, j.submitted_at, j.submitted_remote_at, j.as_of, now(),
                   now(), l.id
            from impact_mirror.load l
            join impact_mirror.job j on j.id = l.job_id
            where l.id = $1
            returning id
        ), event as (
            insert into impact_mirror.job_event (job_id, at, to_state, holder, note)
            select id, now(), 'ready', $2, 'from the archive: the file of load ' || $1::bigint from begun
        )
        select id as "id!: JobId" from begun
        "#,
        load_id,
        holder,
    )
    .fetch_one(conn)
    .await
    .map_err(failed("make the job of a reload"))
}

/// Claims a reload, if it is due and nobody has it.
pub async fn claim(conn: &mut PgConnection, id: JobId, worker: &Worker) -> Result<Option<Job>, Error> {
    let claimed = claimed!(
        r#"
        with found as (
            select id, state, lease_holder
            from impact_mirror.job
            where id = $1 and state in ('ready', 'loading') and run_at <= now()
              and (lease_expires_at is null or lease_expires_at <= now())
            for no key update skip locked
        ), claimed as (
            update impact_mirror.job j
            set state = 'loading', attempts = attempts + 1,
                lease_holder = $2, lease_token = gen_random_uuid(), lease_expires_at = now() + make_interval(secs => $3)
            from found
            where j.id = found.id
            returning j.*, found.state as old_state, found.lease_holder as old_holder, found.state = 'loading' as is_resumed
        ), event as (
            insert into impact_mirror.job_event (job_id, at, from_state, to_state, holder, note)
            select id, now(), old_state, 'loading', $2,
                   case when old_holder is null then '' else 'taken over: the lease of ' || old_holder || ' ran out' end
            from claimed
        )
        "#,
        id.0,
        worker.holder,
        worker.lease.as_secs_f64(),
    )
    .fetch_optional(conn)
    .await
    .map_err(failed("claim a reload"))?;
    claimed.map(Row::job).transpose()
}

/// How a job of a reload stands.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its state.
    pub state: JobState,
    /// Rows it read, where it is loaded.
    pub rows_read: i64,
    /// Rows it rejected, where it is loaded.
    pub rows_rejected: i64,
    /// What went wrong, if something did.
    pub error_message: Option<String>,
}

/// How a job of a reload stands.
pub async fn step(conn: &mut PgConnection, id: JobId) -> Result<Step, Error> {
    sqlx::query_as!(
        Step,
        r#"
        select j.state as "state: JobState", coalesce(l.rows_read, 0) as "rows_read!",
               coalesce(l.rows_rejected, 0) as "rows_rejected!", j.error_message
        from impact_mirror.job j
        left join impact_mirror.load l on l.id = j.load_id
        where j.id = $1
        "#,
        id.0,
    )
    .fetch_one(conn)
    .await
    .map_err(failed("look at a reload"))
}
