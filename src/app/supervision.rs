//! Tells the service manager how the daemon does, as `/healthz` tells others: a sign of life only while the engine makes
//! progress.

use crate::http::{Health, State};
use crate::systemd::Manager;

/// Tells it from time to time, for ever.
pub(super) async fn watch(manager: &Manager, health: &Health) {
    if !manager.listens() {
        return std::future::pending().await;
    }
    let mut news = tokio::time::interval(manager.news());
    loop {
        news.tick().await;
        let (state, text) = health.ask().await;
        match state {
            State::Starting => manager.starting(&text),
            State::Works => manager.alive(&text),
            State::Stuck => manager.stuck(&text),
        }
    }
}
