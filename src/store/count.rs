//! Counts over all that there is, for metrics.

use sqlx::PgConnection;

use super::{Error, failed};

/// How many cells of an export are in a state.
#[derive(Debug, Clone)]
pub struct CellCount {
    /// The export.
    pub export: String,
    /// The state, as in the view `coverage`.
    pub state: String,
    /// How many.
    pub cells: i64,
}

/// The cells of the active exports, by state.
pub async fn cells(conn: &mut PgConnection) -> Result<Vec<CellCount>, Error> {
    sqlx::query_as!(
        CellCount,
        r#"
        select export as "export!", state as "state!", count(*) as "cells!"
        from impact_mirror.coverage
        group by export, state
        order by export, state
        "#,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("count cells"))
}

/// How many messages a receiver has not taken yet.
#[derive(Debug, Clone)]
pub struct WaitingCount {
    /// The receiver.
    pub receiver: String,
    /// How many.
    pub messages: i64,
}

/// The messages that wait, by receiver, of which none may wait for one.
pub async fn waiting(conn: &mut PgConnection) -> Result<Vec<WaitingCount>, Error> {
    sqlx::query_as!(
        WaitingCount,
        r#"
        select r.receiver as "receiver!", (select count(*) from impact_mirror.outbox o where o.receiver = r.receiver) as "messages!"
        from (values ('alerts'), ('downstream')) r (receiver)
        "#,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("count messages that wait"))
}
