//! Where everything is built and wired together, and only here.

mod alerts;
pub mod check;
mod database;
mod engine;
pub mod explain;
mod housekeeping;
pub mod init;
pub mod mend;
mod parts;
pub mod payer;
mod reconfigure;
mod reload;
pub mod reports;
mod reread;
pub mod retention;
mod supervision;
mod sync;
mod tell;
mod toml_text;
mod verify;
mod zones;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::http;
use crate::systemd::Manager;
use reconfigure::{Outcome, Running};

pub use database::{Database, Patience};
pub use engine::{Engine, Scope, planner, write_configuration};
pub use reload::{ReloadProgress, ReloadReport, ReloadRequest, reload};
pub use reread::ConfigFile;
pub use sync::{SyncEnd, SyncReport, sync};
pub use verify::{VerifyEnd, VerifyReport, VerifyRequest, verify};

/// What the start of an engine takes at most: the configuration is written down, and impact.com is asked for programs.
const START: Duration = Duration::from_mins(10);
/// How long a stop waits for steps under way before it hands them back.
const GRACE: Duration = Duration::from_secs(5);

/// The daemon: runs until `stop` is cancelled, then brings steps under way to their end or hands them back. Where it has a file, it
/// reads its configuration anew when that is wanted.
pub async fn run(settings: Settings, file: Option<ConfigFile>, stop: CancellationToken) -> anyhow::Result<()> {
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
        ended = serve(settings, file, server, &manager, stop) => ended,
        () = supervision::watch(&manager, &health) => unreachable!("it watches for ever"),
    }
}

async fn serve(
    settings: Settings,
    mut file: Option<ConfigFile>,
    server: http::Server,
    manager: &Manager,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    server.heed(&settings.http);
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
    let mut running = Running { server: &server, manager, database, engine };
    loop {
        let reading = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            reading = next_reading(file.as_mut(), running.settings()) => reading,
        };
        let outcome;
        (running, outcome) = running.reload(reading, &stop).await;
        if let (Outcome::Postponed, Some(file)) = (outcome, &mut file) {
            file.try_again();
        }
    }
    let Running { database, engine, .. } = running;
    manager.stopping();
    tracing::info!("stopping: no new work; waiting for what is under way");
    engine.stop(GRACE).await;
    server.stop().await;
    database.close().await?;
    tracing::info!("stopped");
    Ok(())
}

/// What is read when the configuration is to be reloaded; never where there is no file.
async fn next_reading(file: Option<&mut ConfigFile>, running: &Settings) -> reread::Reading {
    match file {
        Some(file) => file.next(running).await,
        None => std::future::pending().await,
    }
}
