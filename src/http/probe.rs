//! The probes. `healthz` asks whether this process works, so that it is restarted where it does not; `readyz` asks
//! whether it can do its work, which a restart would not change.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;

use super::{Face, Mirror};
use crate::error_chain::Chain;
use crate::store;

/// How long the database may take to answer a probe.
const PATIENCE: Duration = Duration::from_secs(3);

/// 200 while all loops of the engine go round, or while it starts; 503 with the loops that do not.
pub(super) async fn healthz(State(face): State<Arc<Face>>) -> (StatusCode, String) {
    let Some(mirror) = face.mirror.get() else {
        return (StatusCode::OK, "starting\n".to_owned());
    };
    let late = mirror.pulse.late(Instant::now());
    if late.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, late.iter().fold(String::new(), |text, late| format!("{text}{late}\n")))
}

/// 200 once the engine runs, its database answers and its migrations are applied; 503 with the reason.
pub(super) async fn readyz(State(face): State<Arc<Face>>) -> (StatusCode, String) {
    let Some(mirror) = face.mirror.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n".to_owned());
    };
    match tokio::time::timeout(PATIENCE, lacking(mirror)).await {
        Ok(Ok(0)) => (StatusCode::OK, "ready\n".to_owned()),
        Ok(Ok(lacking)) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("the database lacks {lacking} migrations of this version\n"))
        }
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", Chain(&error))),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n".to_owned()),
    }
}

async fn lacking(mirror: &Mirror) -> Result<usize, store::Error> {
    let mut conn = mirror.pool.acquire().await.map_err(store::failed("get a connection"))?;
    store::lacking_migrations(&mut conn).await
}
