//! Coverage as a calendar: days of one state joined, so that three years of many programs are few rows. It says the same as the
//! view `coverage`, and is read in a fraction of the time.

use chrono::NaiveDate;
use sqlx::PgConnection;

use super::{Error, failed};
use crate::export::ExportName;

/// A feed and the days that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedDays {
    /// The export.
    pub export: String,
    /// The account.
    pub account: String,
    /// The program, or empty.
    pub program: String,
    /// The first day that is mirrored.
    pub first: NaiveDate,
    /// The last.
    pub last: NaiveDate,
}

/// The feeds of an export, or of all.
pub async fn feeds(conn: &mut PgConnection, export: Option<&ExportName>) -> Result<Vec<FeedDays>, Error> {
    sqlx::query_as!(
        FeedDays,
        r#"
        select f.export, f.account, f.program,
               impact_mirror.first_kept_day(f.since, e.keep_days, e.by_month, (now() at time zone a.time_zone)::date) as "first!",
               (now() at time zone a.time_zone)::date - case when f.include_today then 0 else 1 end as "last!"
        from impact_mirror.feed f
        join impact_mirror.account a on a.name = f.account
        join impact_mirror.export e on e.name = f.export
        where f.active and ($1::text is null or f.export = $1)
        order by f.export, f.account, length(f.program), f.program
        "#,
        export.map(ExportName::as_str),
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read feeds"))
}

/// Days of a feed that are in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The account.
    pub account: String,
    /// The program, or empty.
    pub program: String,
    /// `loaded`, `stale`, `settled`, `failed`, `planned` or `in_flight`; days without a run are `missing`.
    pub state: String,
    /// The first day.
    pub from_day: NaiveDate,
    /// The last.
    pub to_day: NaiveDate,
}

/// The days of an export; those of open jobs last, so that they stand where both speak of a day.
pub async fn runs(conn: &mut PgConnection, export: &ExportName) -> Result<Vec<Run>, Error> {
    sqlx::query_as!(
        Run,
        r#"
        with said as (
            select c.account, c.program, c.day,
                   case when c.failed_at is not null then 'failed'
                        when c.next_refresh_at is null then 'settled'
                        when c.next_refresh_at <= now() then 'stale'
                        else 'loaded' end as state
            from impact_mirror.cell c
            where c.export = $1
        ), begun as (
            -- In the order of the primary key, so that nothing is sorted. A run ends on the day before the next one's first row.
            select account, program, state, day, lag(day) over feed as before,
                   lag(day) over feed is distinct from day - 1 or lag(state) over feed <> state as begins
            from said
            window feed as (partition by account, program order by day)
        ), ends as materialized (
            select f.account, f.program, c.day
            from impact_mirror.feed f
            cross join lateral (
                select max(c.day) as day from impact_mirror.cell c
                where c.export = f.export and c.account = f.account and c.program = f.program) c
            where f.export = $1
        )
        select account as "account!", program as "program!", state as "state!", from_day as "from_day!", to_day as "to_day!"
        from (
            select b.account, b.program, b.state, b.day as from_day,
                   coalesce(lead(b.before) over (partition by b.account, b.program order by b.day), e.day, b.day) as to_day, false as is_open
            from begun b
            left join ends e on e.account = b.account and e.program = b.program
            where b.begins
            union all
            select account, program, case state when 'planned' then 'planned' else 'in_flight' end, from_day, to_day, true
            from impact_mirror.job
            where finished_at is null and export = $1
        ) as both_kinds
        order by is_open
        "#,
        export.as_str(),
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read the days of an export"))
}

/// How many feeds of an export are in a state on a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayCount {
    /// The export.
    pub export: String,
    /// The day.
    pub day: NaiveDate,
    /// As in [`Run`].
    pub state: String,
    /// How many feeds.
    pub feeds: i64,
}

/// The latest days of all exports, from `since` on. Days of open jobs count as those of their jobs alone.
pub async fn latest(conn: &mut PgConnection, since: NaiveDate) -> Result<Vec<DayCount>, Error> {
    sqlx::query_as!(
        DayCount,
        r#"
        with open as materialized (
            select o.export, o.account, o.program, o.day,
                   case j.state when 'planned' then 'planned' else 'in_flight' end as state
            from impact_mirror.open_cell o
            join impact_mirror.job j on j.id = o.job_id
            where o.day >= $1
        )
        select export as "export!", day as "day!", state as "state!", count(*) as "feeds!"
        from (
            select export, account, program, day, state from open
            union all
            select c.export, c.account, c.program, c.day,
                   case when c.failed_at is not null then 'failed'
                        when c.next_refresh_at is null then 'settled'
                        when c.next_refresh_at <= now() then 'stale'
                        else 'loaded' end
            from impact_mirror.feed f
            join impact_mirror.cell c on c.export = f.export and c.account = f.account and c.program = f.program
            where f.active and c.day >= $1
              and not exists (
                  select 1 from open
                  where open.export = c.export and open.account = c.account and open.program = c.program and open.day = c.day)
        ) as said
        group by export, day, state
        "#,
        since,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read the latest days"))
}
