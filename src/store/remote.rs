//! The remote jobs that we know, with the request each answers: what can be read again by Replay, and what is not a job
//! of ours to adopt.

use std::collections::HashMap;

use sqlx::PgConnection;
use sqlx::types::Json;

use super::{Error, failed};
use crate::account::AccountName;
use crate::export::ExportRequest;
use crate::plan::Draft;

/// Remembers a remote job, so that its window can be read again by Replay.
pub async fn remember(
    conn: &mut PgConnection,
    account: &AccountName,
    remote_job_id: &str,
    request: &ExportRequest,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into impact_mirror.remote_job (account, id, request, created_at)
        values ($1, $2, $3, now())
        on conflict (account, id) do nothing
        "#,
        account.as_str(),
        remote_job_id,
        Json(request) as _,
    )
    .execute(conn)
    .await
    .map_err(failed("remember a remote job"))?;
    Ok(())
}

/// Notes that a remote job can neither be downloaded nor replayed any more.
pub async fn forget(conn: &mut PgConnection, account: &AccountName, remote_job_id: &str) -> Result<(), Error> {
    sqlx::query!(
        "update impact_mirror.remote_job set gone_at = now() where account = $1 and id = $2",
        account.as_str(),
        remote_job_id,
    )
    .execute(conn)
    .await
    .map_err(failed("forget a remote job"))?;
    Ok(())
}

/// Which of `ids` are remote jobs that we know.
pub async fn known(conn: &mut PgConnection, account: &AccountName, ids: &[String]) -> Result<Vec<String>, Error> {
    sqlx::query_scalar!(
        r#"
        select id as "id!" from impact_mirror.remote_job where account = $1 and id = any($2)
        union
        select remote_job_id from impact_mirror.job where account = $1 and remote_job_id = any($2)
        "#,
        account.as_str(),
        ids,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look remote jobs up"))
}

/// The remote jobs that can be replayed for what is drafted, by account.
pub async fn replayable(
    conn: &mut PgConnection,
    drafts: &[Draft],
) -> Result<HashMap<AccountName, HashMap<ExportRequest, String>>, Error> {
    let wanted: Vec<(&AccountName, &ExportRequest)> =
        drafts.iter().flat_map(|draft| draft.requests_to_look_up().map(|request| (&draft.account, request))).collect();
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let accounts: Vec<String> = wanted.iter().map(|(account, _)| account.as_str().to_owned()).collect();
    let requests: Vec<serde_json::Value> =
        wanted.iter().map(|(_, request)| serde_json::to_value(request).expect("a request is plain data")).collect();
    let rows = sqlx::query!(
        r#"
        select w.position as "position!", r.id
        from unnest($1::text[], $2::jsonb[]) with ordinality as w (account, request, position)
        join impact_mirror.remote_job r on r.request = w.request and r.account = w.account and r.gone_at is null
        order by r.created_at
        "#,
        &accounts,
        &requests,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("look remote jobs up by their requests"))?;
    let mut known: HashMap<AccountName, HashMap<ExportRequest, String>> = HashMap::new();
    for row in rows {
        let index = usize::try_from(row.position - 1).expect("positions begin at 1");
        let (account, request) = wanted[index];
        known.entry(account.clone()).or_default().insert(request.clone(), row.id);
    }
    Ok(known)
}
