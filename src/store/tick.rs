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

/// Notes that an export's schedule fired on an account. Says whether that is news: another replica may have been first.
pub async fn note(
    conn: &mut PgConnection,
    export: &ExportName,
    account: &AccountName,
    at: DateTime<Utc>,
) -> Result<bool, Error> {
    let ticked = sqlx::query!(
        r#"
        update impact_mirror.export_account set last_tick_at = $3
        where export = $1 and account = $2 and (last_tick_at is null or last_tick_at < $3)
        "#,
        export.as_str(),
        account.as_str(),
        at,
    )
    .execute(conn)
    .await
    .map_err(failed("write a tick"))?;
    Ok(ticked.rows_affected() > 0)
}
