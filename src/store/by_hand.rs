//! What people do by hand, by a command or on the page: done and written into the audit in one transaction.

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::json;
use sqlx::{Connection, PgConnection};

use super::account::{self, OnlyDue};
use super::coverage::NewRequest;
use super::{Error, audit, coverage, failed, status, wake};
use crate::account::AccountName;
use crate::export::{ExportName, Window};
use crate::failpoint;
use crate::job::JobId;

/// What can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Asks for days to be read again, loaded or not.
    Refresh(ExportName, Window),
    /// Asks for days that are missing.
    Backfill(ExportName, Window),
    /// Makes the days of a failed job due at once.
    Retry(JobId),
    /// Calls a job off.
    Cancel(JobId),
    /// Orders nothing new of an export.
    PauseExport(ExportName),
    /// Goes on with it.
    ResumeExport(ExportName),
    /// Orders nothing new on an account.
    PauseAccount(AccountName),
    /// Goes on with it, whoever paused it, and with exports that impact.com forbade on it.
    ResumeAccount(AccountName),
}

impl Action {
    fn name(&self) -> &'static str {
        match self {
            Self::Refresh(..) => "refresh",
            Self::Backfill(..) => "backfill",
            Self::Retry(_) => "retry",
            Self::Cancel(_) => "cancel",
            Self::PauseExport(_) | Self::PauseAccount(_) => "pause",
            Self::ResumeExport(_) | Self::ResumeAccount(_) => "resume",
        }
    }

    fn target(&self) -> String {
        match self {
            Self::Refresh(export, _)
            | Self::Backfill(export, _)
            | Self::PauseExport(export)
            | Self::ResumeExport(export) => format!("export {export}"),
            Self::Retry(id) | Self::Cancel(id) => format!("job {}", id.0),
            Self::PauseAccount(account) | Self::ResumeAccount(account) => format!("account {account}"),
        }
    }

    fn details(&self) -> serde_json::Value {
        match self {
            Self::Refresh(_, window) | Self::Backfill(_, window) => {
                json!({"from": window.from(), "to": window.to()})
            }
            Self::Retry(_)
            | Self::Cancel(_)
            | Self::PauseExport(_)
            | Self::ResumeExport(_)
            | Self::PauseAccount(_)
            | Self::ResumeAccount(_) => json!({}),
        }
    }
}

/// What an action came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The id of its line in the audit.
    pub audit_id: i64,
    /// In words, a sentence.
    pub words: String,
    /// Whether anything was changed.
    pub changed: bool,
}

/// Does it. One that changes nothing is written down too.
pub async fn act(conn: &mut PgConnection, actor: &str, action: &Action) -> Result<Outcome, Error> {
    let mut tx = conn.begin().await.map_err(failed("begin"))?;
    let (changed, words) = carry_out(&mut tx, actor, action).await?;
    let target = action.target();
    let audit_id = audit::write(&mut tx, actor, (action.name(), &target), &action.details(), &words).await?;
    wake::notify(&mut tx).await?;
    failpoint::reach("request-written");
    tx.commit().await.map_err(failed("commit an action"))?;
    failpoint::reach("request-committed");
    Ok(Outcome { audit_id, words, changed })
}

async fn carry_out(conn: &mut PgConnection, actor: &str, action: &Action) -> Result<(bool, String), Error> {
    let said = |changed: bool, yes: String, no: String| (changed, if changed { yes } else { no });
    Ok(match action {
        Action::Refresh(export, window) | Action::Backfill(export, window) => {
            let rereads = matches!(action, Action::Refresh(..));
            let feeds = coverage::request(conn, &NewRequest { export, window: *window, rereads }).await?;
            said(
                feeds > 0,
                format!("Asked for {window} of {export}, for {feeds} programs or accounts, ahead of everything else."),
                format!("Export {export} has no programs to ask for."),
            )
        }
        Action::Retry(JobId(id)) => said(
            status::retry(conn, JobId(*id)).await?,
            format!("The failed days of job {id} are due now."),
            format!("No day says that job {id} failed."),
        ),
        Action::Cancel(JobId(id)) => said(
            status::cancel(conn, JobId(*id), actor).await?,
            format!("Job {id} is cancelled. impact.com may still run it; its result will not be loaded."),
            format!("There is no job {id}, or it is at its end."),
        ),
        Action::PauseExport(export) => said(
            pause_export(conn, export, actor).await?,
            format!("Export {export} is paused: nothing new is ordered, what is in flight goes on."),
            format!("Export {export} is paused already, or there is none of this name."),
        ),
        Action::ResumeExport(export) => said(
            resume_export(conn, export).await?,
            format!("Export {export} goes on."),
            format!(
                "Export {export} was not paused by hand; what impact.com forbids goes on with `impact-mirror accounts resume ACCOUNT`."
            ),
        ),
        Action::PauseAccount(account) => said(
            pause_account(conn, account, actor).await?,
            format!("Account {account} is paused: nothing new is ordered, what is in flight goes on."),
            format!("Account {account} is paused already, or there is none of this name."),
        ),
        Action::ResumeAccount(account) => {
            let by_hand = resume_account(conn, account).await?;
            let refused = account::resume(conn, account).await?;
            let exports = account::resume_exports(conn, Some(account), OnlyDue::No).await?;
            let yes = if refused || exports > 0 {
                format!("Account {account} goes on; it is paused again if impact.com still refuses it.")
            } else {
                format!("Account {account} goes on.")
            };
            said(by_hand || refused || exports > 0, yes, format!("Account {account} was not paused."))
        }
    })
}

async fn pause_export(conn: &mut PgConnection, export: &ExportName, actor: &str) -> Result<bool, Error> {
    let paused = sqlx::query!(
        r#"
        update impact_mirror.export set ordering_paused_since = now(), ordering_paused_by = $2
        where name = $1 and active and ordering_paused_since is null
        "#,
        export.as_str(),
        actor,
    )
    .execute(conn)
    .await
    .map_err(failed("pause an export by hand"))?;
    Ok(paused.rows_affected() > 0)
}

async fn resume_export(conn: &mut PgConnection, export: &ExportName) -> Result<bool, Error> {
    let resumed = sqlx::query!(
        r#"
        update impact_mirror.export set ordering_paused_since = null, ordering_paused_by = null
        where name = $1 and ordering_paused_since is not null
        "#,
        export.as_str(),
    )
    .execute(conn)
    .await
    .map_err(failed("resume an export"))?;
    Ok(resumed.rows_affected() > 0)
}

async fn pause_account(conn: &mut PgConnection, account: &AccountName, actor: &str) -> Result<bool, Error> {
    let paused = sqlx::query!(
        r#"
        update impact_mirror.account set ordering_paused_since = now(), ordering_paused_by = $2
        where name = $1 and active and ordering_paused_since is null
        "#,
        account.as_str(),
        actor,
    )
    .execute(conn)
    .await
    .map_err(failed("pause an account by hand"))?;
    Ok(paused.rows_affected() > 0)
}

async fn resume_account(conn: &mut PgConnection, account: &AccountName) -> Result<bool, Error> {
    let resumed = sqlx::query!(
        r#"
        update impact_mirror.account set ordering_paused_since = null, ordering_paused_by = null
        where name = $1 and ordering_paused_since is not null
        "#,
        account.as_str(),
    )
    .execute(conn)
    .await
    .map_err(failed("resume an account by hand"))?;
    Ok(resumed.rows_affected() > 0)
}

/// What somebody paused by hand.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PausedByHand {
    /// `export` or `account`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Who paused it.
    pub by: String,
}

/// All that is paused by hand and still configured.
pub async fn paused(conn: &mut PgConnection) -> Result<Vec<PausedByHand>, Error> {
    sqlx::query_as!(
        PausedByHand,
        r#"
        select 'account' as "kind!", name as "name!", ordering_paused_since as "since!", ordering_paused_by as "by!"
        from impact_mirror.account
        where active and ordering_paused_since is not null
        union all
        select 'export', name, ordering_paused_since, ordering_paused_by
        from impact_mirror.export
        where active and ordering_paused_since is not null
        order by 1, 2
        "#,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read what is paused by hand"))
}

/// The days of an export that can be asked for: from the first that any feed has to the latest today; none where it has no feed.
pub async fn askable(conn: &mut PgConnection, export: &ExportName) -> Result<Option<(NaiveDate, NaiveDate)>, Error> {
    let days = sqlx::query!(
        r#"
        select min(impact_mirror.first_kept_day(f.since, e.keep_days, e.by_month, (now() at time zone a.time_zone)::date)) as first,
               max((now() at time zone a.time_zone)::date) as last
        from impact_mirror.feed f
        join impact_mirror.export e on e.name = f.export
        join impact_mirror.account a on a.name = f.account
        where f.active and f.export = $1
        "#,
        export.as_str(),
    )
    .fetch_one(conn)
    .await
    .map_err(failed("read the days of an export"))?;
    Ok(days.first.zip(days.last))
}
