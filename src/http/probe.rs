//! The probes. `healthz` asks whether this process works, so that it is restarted where it does not; `readyz` asks
//! whether it can do its work, which a restart would not change.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;

use super::{Face, Mirror};
use crate::error_chain::Chain;
use crate::pulse::Why;
use crate::store;
use crate::store::migration::{self, Skew};

/// How long the database may take to answer a probe.
const PATIENCE: Duration = Duration::from_secs(3);

/// 200 while all loops of the engine go round, or while it starts; 503 with the loops that do not. Loops that go round and
/// fail, for the database is away, are for `readyz` to tell: a restart would bring back no database.
pub(super) async fn healthz(State(face): State<Arc<Face>>) -> (StatusCode, String) {
    let mirror = face.mirror.get();
    let late = mirror.map_or(&face.start, |mirror| &mirror.pulse).late(Instant::now());
    if late.is_empty() {
        return (StatusCode::OK, if mirror.is_some() { "ok\n" } else { "starting\n" }.to_owned());
    }
    let fail_only = late.iter().all(|late| matches!(late.why, Why::Failing(_)));
    if let (true, Some(mirror)) = (fail_only, mirror)
        && store::is_away(&mirror.pool, PATIENCE).await
    {
        return (StatusCode::OK, "the database is away\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, late.iter().fold(String::new(), |text, late| format!("{text}{late}\n")))
}

/// 200 once the engine runs, its database answers and its migrations are applied; 503 with the reason.
pub(super) async fn readyz(State(face): State<Arc<Face>>) -> (StatusCode, String) {
    let Some(mirror) = face.mirror.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n".to_owned());
    };
    match tokio::time::timeout(PATIENCE, skew(mirror)).await {
        Ok(Ok(Skew { lacking: 0, newer: 0 })) => (StatusCode::OK, "ready\n".to_owned()),
        Ok(Ok(Skew { lacking: 0, newer })) => {
            (StatusCode::OK, format!("ready; a newer version has applied {newer} more migrations to the database\n"))
        }
        Ok(Ok(Skew { lacking, newer: _ })) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("the database lacks {lacking} migrations of this version\n"))
        }
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", Chain(&error))),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n".to_owned()),
    }
}

async fn skew(mirror: &Mirror) -> Result<Skew, store::Error> {
    let mut conn = mirror.pool.acquire().await.map_err(store::failed("get a connection"))?;
    migration::skew(&mut conn).await
}
