//! The audit: what people did by hand, written in the transaction that did it.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Error, failed};

/// A line of the audit.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Entry {
    /// Its id.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// Did what.
    pub action: String,
    /// To what.
    pub target: String,
    /// What it came to.
    pub result: String,
}

/// Writes a line; gives its id.
pub async fn write(
    conn: &mut PgConnection,
    actor: &str,
    (action, target): (&str, &str),
    details: &serde_json::Value,
    result: &str,
) -> Result<i64, Error> {
    sqlx::query_scalar!(
        r#"
        insert into impact_mirror.audit (actor, action, target, details, result)
        values ($1, $2, $3, $4, $5)
        returning id
        "#,
        actor,
        action,
        target,
        details,
        result,
    )
    .fetch_one(conn)
    .await
    .map_err(failed("write the audit"))
}

/// The newest lines, newest first.
pub async fn newest(conn: &mut PgConnection, limit: i64) -> Result<Vec<Entry>, Error> {
    sqlx::query_as!(
        Entry,
        "select id, at, actor, action, target, result from impact_mirror.audit order by id desc limit $1",
        limit,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read the audit"))
}

/// What an action came to, by the id of its line.
pub async fn result(conn: &mut PgConnection, id: i64) -> Result<Option<String>, Error> {
    sqlx::query_scalar!("select result from impact_mirror.audit where id = $1", id)
        .fetch_optional(conn)
        .await
        .map_err(failed("read a line of the audit"))
}
