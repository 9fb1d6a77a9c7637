//! What keeps an export from being fresh: its feeds that are behind the promise, and what stands in their way.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;

use super::{Error, failed};
use crate::export::ExportName;

/// A feed that is behind its promise.
#[derive(Debug, Clone)]
pub struct Behind {
    /// The account.
    pub account: String,
    /// The program, or empty.
    pub program: String,
    /// Its newest complete day.
    pub latest_day: Option<NaiveDate>,
    /// The job at work on a later day, or on that one: the furthest.
    pub open_job: Option<i64>,
    /// The job that failed on such a day: the newest.
    pub failed_job: Option<i64>,
}

/// The feeds of an export that break its promise, those that are furthest behind first. It goes by what the view `freshness` goes by.
pub async fn behind(conn: &mut PgConnection, export: &ExportName, limit: i64) -> Result<Vec<Behind>, Error> {
    sqlx::query_as!(
        Behind,
        r#"
        select f.account, f.program, n.day as "latest_day?",
               (select j.id from impact_mirror.job j
                where j.export = f.export and j.account = f.account and j.program = f.program and j.finished_at is null
                  and j.to_day >= coalesce(n.day, f.since)
                order by j.state = 'planned', j.priority, j.id limit 1) as open_job,
               (select max(c.failed_job_id) from impact_mirror.cell c
                where c.export = f.export and c.account = f.account and c.program = f.program
                  and c.day >= coalesce(n.day, f.since)) as failed_job
        from impact_mirror.feed f
        join impact_mirror.account a on a.name = f.account
        join impact_mirror.export e on e.name = f.export
        left join lateral (
            select complete.day, max(c.as_of) as as_of
            from (select max(day) as day
                  from impact_mirror.cell
                  where export = f.export and account = f.account and program = f.program and complete) complete
            join impact_mirror.cell c
                on c.export = f.export and c.account = f.account and c.program = f.program and c.day >= complete.day
            group by complete.day
        ) n on true
        where f.active and f.export = $1
          and (n.as_of is null
               or now() - n.as_of > e.freshness
               or now() - (n.day + 2)::timestamp at time zone a.time_zone > e.freshness)
        order by n.day nulls first, n.as_of nulls first, f.account, f.program
        limit $2
        "#,
        export.as_str(),
        limit,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look for what is behind"))
}

/// What is known of an export besides its freshness.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The bucket that it is paid from.
    pub bucket: String,
    /// Its table.
    pub table_name: String,
    /// When its schedule fired last on any account.
    pub last_tick_at: Option<DateTime<Utc>>,
    /// When a load of it last changed rows.
    pub last_change_at: Option<DateTime<Utc>>,
}

/// The facts of an export that is configured.
pub async fn facts(conn: &mut PgConnection, export: &ExportName) -> Result<Option<Facts>, Error> {
    sqlx::query_as!(
        Facts,
        r#"
        select e.bucket, e.table_name,
               (select max(last_tick_at) from impact_mirror.export_account where export = e.name) as last_tick_at,
               (select max(committed_at) from impact_mirror.load
                where export = e.name and rows_inserted + rows_updated + rows_deleted > 0) as last_change_at
        from impact_mirror.export e
        where e.active and e.name = $1
        "#,
        export.as_str(),
    )
    .fetch_optional(conn)
    .await
    .map_err(failed("read the facts of an export"))
}

/// When a load last changed rows of an export.
#[derive(Debug, Clone)]
pub struct Change {
    /// The export.
    pub export: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// The last change of each export.
pub async fn last_changes(conn: &mut PgConnection) -> Result<Vec<Change>, Error> {
    sqlx::query_as!(
        Change,
        r#"
        select export as "export!", max(committed_at) as "at!"
        from impact_mirror.load
        where rows_inserted + rows_updated + rows_deleted > 0
        group by export
        "#,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read the last changes"))
}
