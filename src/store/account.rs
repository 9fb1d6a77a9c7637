//! Pauses: accounts whose credential is refused, and exports that an account may not order.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Error, failed};
use crate::account::AccountName;
use crate::export::ExportName;
use crate::retry::ErrorKind;

/// How often a paused thing is tried once more by itself (design §10).
const PROBE_EVERY: &str = "6 hours";

/// Stops all calls for the account until it is probed or resumed. Says whether it was running before.
pub async fn pause(
    conn: &mut PgConnection,
    account: &AccountName,
    kind: ErrorKind,
    reason: &str,
) -> Result<bool, Error> {
    let paused = sqlx::query!(
        r#"
        update impact_mirror.account
        set paused_since = now(), paused_kind = $2, paused_reason = $3, probe_at = now() + $4::text::interval
        where name = $1 and paused_since is null
        "#,
        account.as_str(),
        kind.as_str(),
        reason,
        PROBE_EVERY,
    )
    .execute(conn)
    .await
    .map_err(failed("pause an account"))?;
    Ok(paused.rows_affected() > 0)
}

/// Lets the account go on. Says whether it was paused.
pub async fn resume(conn: &mut PgConnection, account: &AccountName) -> Result<bool, Error> {
    let resumed = sqlx::query!(
        r#"
        update impact_mirror.account
        set paused_since = null, paused_kind = null, paused_reason = null, probe_at = null
        where name = $1 and paused_since is not null
        "#,
        account.as_str(),
    )
    .execute(&mut *conn)
    .await
    .map_err(failed("resume an account"))?;
    Ok(resumed.rows_affected() > 0)
}

/// Moves the next probe of a paused account on.
pub async fn probe_later(conn: &mut PgConnection, account: &AccountName) -> Result<(), Error> {
    sqlx::query!(
        "update impact_mirror.account set probe_at = now() + $2::text::interval where name = $1",
        account.as_str(),
        PROBE_EVERY,
    )
    .execute(conn)
    .await
    .map_err(failed("put off a probe"))?;
    Ok(())
}

/// Stops orders of an export on an account. Says whether it was running before.
pub async fn pause_export(
    conn: &mut PgConnection,
    export: &ExportName,
    account: &AccountName,
    reason: &str,
) -> Result<bool, Error> {
    let paused = sqlx::query!(
        r#"
        update impact_mirror.export_account
        set paused_since = now(), paused_reason = $3, probe_at = now() + $4::text::interval
        where export = $1 and account = $2 and paused_since is null
        "#,
        export.as_str(),
        account.as_str(),
        reason,
        PROBE_EVERY,
    )
    .execute(conn)
    .await
    .map_err(failed("pause an export"))?;
    Ok(paused.rows_affected() > 0)
}

/// Lets paused exports try again: all of them, or those of one account, or those whose time has come.
pub async fn resume_exports(
    conn: &mut PgConnection,
    account: Option<&AccountName>,
    only_due: OnlyDue,
) -> Result<u64, Error> {
    let resumed = sqlx::query!(
        r#"
        update impact_mirror.export_account
        set paused_since = null, paused_reason = null, probe_at = null
        where paused_since is not null
          and ($1::text is null or account = $1)
          and (not $2 or probe_at <= now())
        "#,
        account.map(AccountName::as_str),
        only_due == OnlyDue::Yes,
    )
    .execute(conn)
    .await
    .map_err(failed("resume exports"))?;
    Ok(resumed.rows_affected())
}

/// Whether only pauses whose probe is due are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnlyDue {
    /// Those whose `probe_at` has passed.
    Yes,
    /// All.
    No,
}

/// A paused account.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Paused {
    /// Which.
    pub account: AccountName,
    /// Since when.
    pub since: DateTime<Utc>,
    /// impact.com's words.
    pub reason: String,
    /// When it is tried once more.
    pub probe_at: Option<DateTime<Utc>>,
}

/// The paused accounts.
pub async fn paused(conn: &mut PgConnection) -> Result<Vec<Paused>, Error> {
    sqlx::query_as!(
        Paused,
        r#"
        select name as "account: AccountName", paused_since as "since!", paused_reason as "reason!", probe_at
        from impact_mirror.account
        where active and paused_since is not null
        order by name
        "#,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read paused accounts"))
}

/// An export that impact.com does not let an account order.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PausedExport {
    /// Which export.
    pub export: ExportName,
    /// On which account.
    pub account: AccountName,
    /// Since when.
    pub since: DateTime<Utc>,
    /// impact.com's words.
    pub reason: String,
}

/// The paused exports that are still configured.
pub async fn paused_exports(conn: &mut PgConnection) -> Result<Vec<PausedExport>, Error> {
    sqlx::query_as!(
        PausedExport,
        r#"
        select p.export as "export: ExportName", p.account as "account: AccountName", p.paused_since as "since!",
               p.paused_reason as "reason!"
        from impact_mirror.export_account p
        join impact_mirror.export e on e.name = p.export and e.active
        join impact_mirror.account a on a.name = p.account and a.active
        where p.paused_since is not null
        order by p.export, p.account
        "#,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read paused exports"))
}

/// When the next probe of anything paused is due.
pub async fn next_probe_at(conn: &mut PgConnection) -> Result<Option<DateTime<Utc>>, Error> {
    sqlx::query_scalar!(
        r#"
        select min(probe_at)
        from (
            select probe_at from impact_mirror.account where active and paused_since is not null
            union all
            select probe_at from impact_mirror.export_account where paused_since is not null
        ) as paused
        "#,
    )
    .fetch_one(conn)
    .await
    .map_err(failed("read the next probe"))
}
