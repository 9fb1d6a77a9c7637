//! LISTEN/NOTIFY: how a command or a replica tells a running daemon that there is work.

use sqlx::postgres::PgListener;
use sqlx::{PgConnection, PgPool};

use super::{Error, failed};

/// Something to plan: a manual request, a retried or cancelled job, a resumed account.
const CHANNEL: &str = "impact_mirror_wake";

/// Wakes every daemon on this database once the transaction commits.
pub async fn notify(conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query!("select pg_notify($1, '')", CHANNEL).execute(conn).await.map_err(failed("notify the daemon"))?;
    Ok(())
}

/// A connection that hears `notify`.
pub async fn listen(pool: &PgPool) -> Result<PgListener, Error> {
    let mut listener = PgListener::connect_with(pool).await.map_err(Error::Connect)?;
    listener.listen(CHANNEL).await.map_err(failed("listen"))?;
    Ok(listener)
}
