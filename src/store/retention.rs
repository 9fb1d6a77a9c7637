//! How long rows are kept: what is past its time, and the cells that go with it.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;

use super::{Error, failed};
use crate::account::AccountName;
use crate::export::{ExportName, Program};

/// Makes this the only transaction that drops rows of an export; `false` where another one is at it.
pub async fn lock(conn: &mut PgConnection, export: &ExportName) -> Result<bool, Error> {
    sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtextextended('impact_mirror retention ' || $1, 0)) as "locked!""#,
        export.as_str(),
    )
    .fetch_one(conn)
    .await
    .map_err(failed("lock the retention of an export"))
}

/// From when on rows of an export may be dropped: a day after `keep` was last changed. `None` where all are kept.
pub async fn drops_from(conn: &mut PgConnection, export: &ExportName) -> Result<Option<DateTime<Utc>>, Error> {
    let at = sqlx::query_scalar!(
        r#"
        select keep_changed_at + interval '1 day' as "at!"
        from impact_mirror.export
        where name = $1 and keep_days is not null and keep_changed_at is not null
        "#,
        export.as_str(),
    )
    .fetch_optional(conn)
    .await
    .map_err(failed("read the retention of an export"))?;
    Ok(at)
}

/// The cells of an export on an account before a day, of one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// The program.
    pub program: Program,
    /// The first day.
    pub from_day: NaiveDate,
    /// The last day.
    pub to_day: NaiveDate,
    /// Rows in them.
    pub rows: i64,
}

/// What lies from one day on, where given, up to another, that day not included: a line for each program.
pub async fn past(
    conn: &mut PgConnection,
    export: &ExportName,
    account: &AccountName,
    from: Option<NaiveDate>,
    before: NaiveDate,
) -> Result<Vec<Past>, Error> {
    sqlx::query_as!(
        Past,
        r#"
        select program as "program: Program", min(day) as "from_day!", max(day) as "to_day!",
               coalesce(sum(rows), 0)::bigint as "rows!"
        from impact_mirror.cell
        where export = $1 and account = $2 and day < $4 and ($3::date is null or day >= $3)
        group by program
        order by program
        "#,
        export.as_str(),
        account.as_str(),
        from,
        before,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look for days that are kept no longer"))
}

/// Forgets the cells of some days of a program, or of all accounts and programs, before a day: should they be wanted again, they
/// are missing.
pub async fn forget(
    conn: &mut PgConnection,
    export: &ExportName,
    of: Option<(&AccountName, &Program)>,
    before: NaiveDate,
) -> Result<u64, Error> {
    let (account, program) = of.unzip();
    let forgotten = sqlx::query!(
        r#"
        delete from impact_mirror.cell
        where export = $1 and ($2::text is null or account = $2) and ($3::text is null or program = $3) and day < $4
        "#,
        export.as_str(),
        account.map(AccountName::as_str),
        program.map(Program::as_str),
        before,
    )
    .execute(conn)
    .await
    .map_err(failed("forget days that are kept no longer"))?;
    Ok(forgotten.rows_affected())
}
