//! A configuration that was read anew is looked at whole first, then applied between steps: the engine takes no new work and ends or
//! hands back what is under way, and another goes on with the new settings. What is no good changes nothing. Whoever asks the
//! HTTP faces meanwhile does not notice.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::PgPool;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::parts::Parts;
use super::reread::Reading;
use super::{Database, Engine, GRACE, write_configuration};
use crate::config::{Difference, Settings};
use crate::error_chain::Chain;
use crate::http;
use crate::mirror;
use crate::pulse::Pulse;
use crate::systemd::Manager;

/// How long the database may take for each part of a reload.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a change of engines takes at most: one stops, and the database takes the configuration of the other.
const CHANGE: Duration = Duration::from_mins(1);

/// A daemon that runs.
pub(super) struct Running<'a> {
    pub server: &'a http::Server,
    pub manager: &'a Manager,
    pub database: Database,
    pub engine: Engine,
}

/// What came of a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The configuration is in force.
    Applied,
    /// The one from before is, and the new one has to be mended.
    Refused,
    /// The one from before is, and the new one may be applied later as it is.
    Postponed,
}

/// Why a configuration cannot be applied.
struct Failed {
    outcome: Outcome,
    why: String,
}

impl Failed {
    fn refused(error: &anyhow::Error) -> Self {
        Self { outcome: Outcome::Refused, why: format!("{error:#}") }
    }

    fn postponed(error: &anyhow::Error) -> Self {
        Self { outcome: Outcome::Postponed, why: format!("{error:#}; it is tried again by itself") }
    }
}

impl Running<'_> {
    /// The configuration in force.
    pub fn settings(&self) -> &Settings {
        &self.engine.parts().settings
    }

    /// Goes on with what was read, or as before.
    pub async fn reload(self, reading: Reading, stop: &CancellationToken) -> (Self, Outcome) {
        self.manager.reloading();
        let why = reading.why;
        let (running, applied) = Box::pin(self.apply(reading, stop)).await; // boxed, for it is large and rare
        let outcome = match applied {
            Ok(for_restart) => {
                tracing::info!("the configuration was reloaded: {why}");
                running.server.configuration_applied(for_restart);
                Outcome::Applied
            }
            Err(Failed { outcome, why: reason }) => {
                let reason = in_one_line(&reason);
                tracing::error!(
                    error = %reason,
                    "the configuration was not reloaded ({why}) and the one from before stays in force; `impact-mirror check` \
                     tries a file beforehand"
                );
                running.server.configuration_refused(&reason);
                outcome
            }
        };
        let (_, words) = running.server.health().ask().await;
        running.manager.reloaded(&words);
        (running, outcome)
    }

    /// Applies what was read; gives the keys that wait for a restart.
    async fn apply(self, reading: Reading, stop: &CancellationToken) -> (Self, Result<Vec<String>, Failed>) {
        let (next, for_restart) = match reading.settings {
            Ok(settings) => settings.while_running(self.settings()),
            Err(error) => {
                return (self, Err(Failed { outcome: Outcome::Refused, why: Chain(&error).to_string() }));
            }
        };
        let differences = self.settings().differences(&next);
        let http = next.http.clone();
        let mut running = self;
        if differences.iter().any(Difference::is_for_engine) {
            let changed;
            (running, changed) = running.change_engines(next, stop).await;
            if let Err(failed) = changed {
                return (running, Err(failed));
            }
        } else {
            running.engine.adopt(next);
        }
        running.server.heed(&http);
        if differences.is_empty() {
            tracing::info!("configuration: nothing has changed that could be applied");
        }
        for difference in &differences {
            tracing::info!(key = difference.key, "configuration: {difference}");
        }
        for key in &for_restart {
            tracing::warn!(key, "configuration: the new {key} needs a restart and is left out until then");
        }
        (running, Ok(for_restart))
    }

    /// Stops the engine between steps and has another go on with `next`, or with what was before where the database does not
    /// take it.
    async fn change_engines(mut self, next: Settings, stop: &CancellationToken) -> (Self, Result<(), Failed>) {
        let prepared = tokio::select! {
            biased;
            () = stop.cancelled() => Err(Failed::postponed(&anyhow::anyhow!("the daemon stops"))),
            prepared = prepare(&self.database, next) => prepared,
        };
        let (next, pool) = match prepared {
            Ok(prepared) => prepared,
            Err(failed) => return (self, Err(failed)),
        };
        let Self { server, manager, database, engine } = self;
        let change = Arc::new(Pulse::following(engine.pulse(), next.settings.workers.lease));
        let beat = change.begin("reload");
        beat.pause(CHANGE);
        server.attach(database.pool().clone(), Arc::clone(&change));

        let (before, context) = (engine.parts().clone(), Arc::clone(engine.context()));
        engine.stop(GRACE).await;
        let written = tokio::select! {
            biased;
            () = stop.cancelled() => Err(anyhow::anyhow!("the daemon stops")),
            written = patiently(write_configuration(database.pool(), &next.settings)) => written,
        };
        let (parts, changed) = match written {
            Ok(()) => (next, Ok(())),
            Err(error) => (before, Err(Failed::postponed(&error))),
        };
        let (database, left) = match pool {
            Some(pool) if changed.is_ok() => {
                let (database, left) = database.with_pool(pool);
                (database, Some(left))
            }
            Some(_) | None => (database, None),
        };
        let engine = Engine::succeed(parts, database.pool(), &context);
        engine.keep_going();
        engine.look_around();
        server.attach(database.pool().clone(), Arc::clone(engine.pulse()));
        drop(context);
        if let Some(left) = left {
            super::database::close(&left).await;
        }
        self = Self { server, manager, database, engine };
        (self, changed)
    }
}

/// Makes and tries what an engine with these settings needs, and changes nothing: its parts, and where it needs another number of
/// connections, those.
async fn prepare(database: &Database, settings: Settings) -> Result<(Parts, Option<PgPool>), Failed> {
    let exports = settings.exports.keys().cloned().collect();
    let parts = Parts::new(settings, exports).map_err(|error| Failed::refused(&error))?;
    patiently(parts.check_partitions(database.pool())).await.map_err(|error| match error.downcast_ref() {
        Some(mirror::Error::Partitioning { .. }) => Failed::refused(&error),
        Some(_) | None => Failed::postponed(&error),
    })?;
    let pool = patiently(database.resized(&parts.settings)).await.map_err(|error| Failed::postponed(&error))?;
    Ok((parts, pool))
}

async fn patiently<T>(asking: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    timeout(PATIENCE, asking).await.context("the database does not answer").flatten()
}

/// A list of problems has a line for each.
fn in_one_line(words: &str) -> String {
    words.replace(":\n  ", ": ").replace("\n  ", "; ").replace('\n', " ")
}
