//! When schedules fired last, so that a start catches up on what nobody saw and replicas count a tick once.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Error, failed};
use crate::account::AccountName;
use crate::export::ExportName;

/// When an export's schedule last fired on an account.
#[derive(Debug, Clone)]
pub struct Tick {
    /// The export.
    pub export: ExportName,
    /// The account.
    pub account: AccountName,
    /// When; `None`: never.
    pub last_tick_at: Option<DateTime<Utc>>,
}

/// The last ticks of everything configured.
pub async fn last(conn: &mut PgConnection) -> Result<Vec<Tick>, Error> {
    sqlx::query_as!(
        Tick,
        r#"
        select ea.export as "export: ExportName", ea.account as "account: AccountName", ea.last_tick_at
        from impact_mirror.export_account ea
        "#,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read ticks"))
}

/// That an export's schedule fired on an account.
#[derive(Debug, Clone, Copy)]
pub struct Fired<'a> {
    /// The export.
    pub export: &'a ExportName,
    /// The account.
    pub account: &'a AccountName,
    /// When.
    pub at: DateTime<Utc>,
}

/// Notes which schedules fired. Says how many of these are news: another replica may have been first.
pub async fn note(conn: &mut PgConnection, fired: &[Fired<'_>]) -> Result<u64, Error> {
    let exports: Vec<_> = fired.iter().map(|one| one.export.as_str().to_owned()).collect();
    let accounts: Vec<_> = fired.iter().map(|one| one.account.as_str().to_owned()).collect();
    let times: Vec<_> = fired.iter().map(|one| one.at).collect();
    let ticked = sqlx::query!(
        r#"
        with news as (
            select ea.export, ea.account, fired.at
            from impact_mirror.export_account ea
            join unnest($1::text[], $2::text[], $3::timestamptz[]) as fired (export, account, at)
                on fired.export = ea.export and fired.account = ea.account
            where ea.last_tick_at is null or ea.last_tick_at < fired.at
            -- In one order, for another replica does the same.
            order by ea.export, ea.account
            for no key update of ea
        )
        update impact_mirror.export_account ea
        set last_tick_at = news.at
        from news
        where ea.export = news.export and ea.account = news.account and (ea.last_tick_at is null or ea.last_tick_at < news.at)
        "#,
        &exports,
        &accounts,
        &times,
    )
    .execute(conn)
    .await
    .map_err(failed("write ticks"))?;
    Ok(ticked.rows_affected())
}
