//! Where everything is built and wired together, and only here.

mod alerts;
pub mod check;
mod database;
mod engine;
pub mod explain;
mod housekeeping;
mod reload;
pub mod retention;
mod supervision;
mod sync;
mod tell;
mod verify;
mod zones;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::http;
use crate::systemd::Manager;

pub use database::{Database, Patience};
pub use engine::{Engine, Scope, planner, write_configuration};
pub use reload::{ReloadProgress, ReloadReport, ReloadRequest, reload};
pub use sync::{SyncEnd, SyncReport, sync};
pub use verify::{VerifyEnd, VerifyReport, VerifyRequest, verify};

/// What the start of an engine takes at most: the configuration is written down, and impact.com is asked for programs.
const START: Duration = Duration::from_mins(10);
/// How long a stop waits for steps under way before it hands them back.
const GRACE: Duration = Duration::from_secs(5);

/// The daemon: runs until `stop` is cancelled, then brings steps under way to their end or hands them back.
pub async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    for warning in settings.not_yet() {
        tracing::warn!("{warning}");
    }
    let listen = settings.http.listen;
    if !listen.ip().is_loopback() {
        tracing::warn!(
            %listen,
            "http.listen is no loopback address: whoever reaches it reads the status page and the metrics without a password, and a token \
             that is entered there goes over the network as it is, unless a proxy with TLS stands in front"
        );
    }
    let server = http::Server::start(listen).await?;
    let (manager, health) = (Manager::of_this_process(), server.health());
    tokio::select! {
        biased;
        ended = serve(settings, server, &manager, stop) => ended,
        () = supervision::watch(&manager, &health) => unreachable!("it watches for ever"),
    }
}

async fn serve(
    settings: Settings,
    server: http::Server,
    manager: &Manager,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    if let Some(secret) = &settings.http.postback_secret {
        server.take_postbacks(secret.clone());
    }
    if let Some(token) = &settings.http.token {
        server.take_actions(token.clone());
    }
    server.also_known_as(settings.http.hosts.clone());
    tracing::info!("status page: {}", server.url());
    let Some(database) = Database::open(&settings, Patience::Endless(stop.clone())).await? else {
        server.stop().await;
        return Ok(()); // told to stop while the database was away
    };
    let beat = server.begin_start();
    beat.pause(START);
    let started = tokio::select! {
        biased;
        () = stop.cancelled() => None, // told to stop while impact.com was asked for programs
        started = Engine::start(settings, &database, Scope::All) => Some(started?),
    };
    let Some(engine) = started else { return database.close().await };
    engine.keep_going();
    server.count(Arc::clone(engine.tally()));
    server.attach(database.pool().clone(), Arc::clone(engine.pulse()));
    manager.ready();
    tracing::info!("running; stop with SIGTERM or Ctrl-C");
    stop.cancelled().await;
    manager.stopping();
    tracing::info!("stopping: no new work; waiting for what is under way");
    engine.stop(GRACE).await;
    server.stop().await;
    database.close().await?;
    tracing::info!("stopped");
    Ok(())
}
