//! Troubles that were told: one row each, so that replicas do not tell the same twice, and what is only looked at for them.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;

use super::{Error, failed};
use crate::alert::Alert;

/// A trouble that was told.
#[derive(Debug, Clone)]
pub struct Told {
    /// Its kind.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// What was wrong.
    pub summary: String,
    /// Since when.
    pub opened_at: DateTime<Utc>,
    /// Whether it is to be told again, should it still be there.
    pub is_due: bool,
}

/// Makes this transaction the only one that looks after alerts. `false`: another replica does.
pub async fn enter(conn: &mut PgConnection) -> Result<bool, Error> {
    sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtextextended('impact_mirror alerts', 0)) as "is_alone!""#
    )
    .fetch_one(conn)
    .await
    .map_err(failed("look after alerts alone"))
}

/// What was told and is not over.
pub async fn told(conn: &mut PgConnection, repeat: Duration) -> Result<Vec<Told>, Error> {
    sqlx::query_as!(
        Told,
        r#"
        select kind, subject, summary, opened_at, told_at <= now() - make_interval(secs => $1) as "is_due!"
        from impact_mirror.alert
        order by kind, subject
        "#,
        repeat.as_secs_f64(),
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read what was told"))
}

/// Keeps that a trouble is told now.
pub async fn tell(conn: &mut PgConnection, alert: &Alert) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into impact_mirror.alert (kind, subject, summary, mend) values ($1, $2, $3, $4)
        on conflict (kind, subject) do update
        set summary = excluded.summary, mend = excluded.mend, told_at = now()
        "#,
        alert.kind.as_str(),
        alert.subject,
        alert.summary,
        alert.mend,
    )
    .execute(conn)
    .await
    .map_err(failed("keep what is told"))?;
    Ok(())
}

/// A trouble is over.
pub async fn close(conn: &mut PgConnection, kind: &str, subject: &str) -> Result<(), Error> {
    sqlx::query!("delete from impact_mirror.alert where kind = $1 and subject = $2", kind, subject)
        .execute(conn)
        .await
        .map_err(failed("close an alert"))?;
    Ok(())
}

/// A day's budget that is spent, while days are due that it would pay for.
#[derive(Debug, Clone)]
pub struct Spent {
    /// The account.
    pub account: String,
    /// The bucket.
    pub bucket: String,
    /// Our part of the limit.
    pub limit: i32,
    /// When the first call is free again.
    pub resets_at: Option<DateTime<Utc>>,
    /// Days that are due.
    pub waiting: i64,
}

/// The spent budgets of days that wait.
pub async fn spent(conn: &mut PgConnection) -> Result<Vec<Spent>, Error> {
    sqlx::query_as!(
        Spent,
        r#"
        select q.account as "account!", q.bucket as "bucket!", q."limit" as "limit!", q.resets_at, w.waiting as "waiting!"
        from impact_mirror.quota q
        cross join lateral (
            select count(*) as waiting
            from impact_mirror.coverage c
            join impact_mirror.export e on e.name = c.export
            where c.account = q.account and e.bucket = q.bucket and c.state in ('missing', 'stale', 'planned')
        ) w
        where q.remaining = 0 and q.bucket <> 'requests' and w.waiting > 0
        order by q.account, q.bucket
        "#,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read spent budgets"))
}

/// A column that came, went or got another type.
#[derive(Debug, Clone)]
pub struct Drift {
    /// The export.
    pub export: String,
    /// What happened to which columns, for people.
    pub words: String,
    /// The last of these days.
    pub on_day: NaiveDate,
}

/// Changes of columns of a week, a line for each export: columns that came after the first file, those that no file has any
/// more, and those that were retyped.
pub async fn drift(conn: &mut PgConnection) -> Result<Vec<Drift>, Error> {
    sqlx::query_as!(
        Drift,
        r#"
        with changed as (
            select c.export, c.column_name || ' is new' as words, c.first_seen_at as at
            from impact_mirror.mirrored_column c
            where c.first_seen_at > (select min(o.first_seen_at) from impact_mirror.mirrored_column o where o.export = c.export)
            union all
            select export, column_name || ' is in no file any more', vanished_since
            from impact_mirror.mirrored_column
            where vanished_since is not null
            union all
            select export, format('%s was %s and is %s', column_name, from_kind, to_kind), retyped_at
            from impact_mirror.retyped_column
            where export is not null and from_kind <> 'text' -- a text may be a column that had no value yet
        )
        select d.export as "export!", string_agg(d.words, ', ' order by d.words) as "words!", max(d.at)::date as "on_day!"
        from changed d
        join impact_mirror.export e on e.name = d.export and e.active
        where d.at > now() - interval '7 days'
        group by d.export
        order by d.export
        "#,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read changes of columns"))
}
