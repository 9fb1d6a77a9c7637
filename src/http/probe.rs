//! The probes. `healthz` asks whether this process works, so that it is restarted where it does not; `readyz` asks
//! whether it can do its work, which a restart would not change.

use std::sync::Arc;

use axum::extract;
use axum::http::StatusCode;

use super::health::{Health, PATIENCE, State};
use super::{Face, Mirror};
use crate::error_chain::Chain;
use crate::store;
use crate::store::migration::{self, Skew};

/// 200 while the daemon works or starts; 503 with the loops that do not go round.
pub(super) async fn healthz(extract::State(face): extract::State<Arc<Face>>) -> (StatusCode, String) {
    let (state, words) = Health { face }.ask().await;
    match state {
        State::Starting | State::Works => (StatusCode::OK, words),
        State::Stuck => (StatusCode::SERVICE_UNAVAILABLE, words),
    }
}

/// 200 once the engine runs, its database answers and its migrations are applied; 503 with the reason.
pub(super) async fn readyz(extract::State(face): extract::State<Arc<Face>>) -> (StatusCode, String) {
    let Some(mirror) = face.mirror.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n".to_owned());
    };
    match tokio::time::timeout(PATIENCE, skew(&mirror)).await {
        Ok(Ok(Skew { lacking: 0, newer: 0 })) => (StatusCode::OK, "ready\n".to_owned()),
        Ok(Ok(Skew { lacking: 0, newer })) => {
            (StatusCode::OK, format!("ready; a newer version has applied {newer} more migrations to the database\n"))
        }
        Ok(Ok(Skew { lacking, newer: _ })) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the database lacks {lacking} migrations of this version; `impact-mirror migrate` applies them\n"),
        ),
        Ok(Err(error)) => {
            let next = store::mend::of(&error).map_or_else(String::new, |next| format!("; {next}"));
            (StatusCode::SERVICE_UNAVAILABLE, format!("{}{next}\n", Chain(&error)))
        }
        Err(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the database does not answer; look at the server that database.url names\n".to_owned(),
        ),
    }
}

async fn skew(mirror: &Mirror) -> Result<Skew, store::Error> {
    let mut conn = mirror.pool.acquire().await.map_err(store::failed("get a connection"))?;
    migration::skew(&mut conn).await
}
