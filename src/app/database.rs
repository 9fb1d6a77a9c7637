//! Our Postgres: somebody's server, or a private cluster started for us. Opened, brought up to date, closed.

use std::time::Duration;

use anyhow::Context as _;
use secrecy::SecretString;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

use crate::config::{DatabaseUrl, Settings};
use crate::embedded::Embedded;
use crate::error_chain::Chain;
use crate::failpoint;
use crate::retry::backoff;
use crate::store;

/// How long a close waits for connections that are busy.
const CLOSING: Duration = Duration::from_secs(1);

/// How long to wait for a database that does not answer.
#[derive(Debug, Clone)]
pub enum Patience {
    /// Until it does, or until told to stop.
    Endless(CancellationToken),
    /// That long.
    Until(Duration),
}

impl Patience {
    /// What a command that a person waits for has.
    pub const COMMAND: Self = Self::Until(Duration::from_secs(30));
}

/// An open database with our schema.
#[derive(Debug)]
pub struct Database {
    pool: PgPool,
    embedded: Option<Embedded>,
}

impl Database {
    /// Opens the configured database and applies the migrations. `None`: told to stop while waiting.
    pub async fn open(settings: &Settings, patience: Patience) -> anyhow::Result<Option<Self>> {
        let embedded = match &settings.database.url {
            DatabaseUrl::Url(_) => None,
            DatabaseUrl::Embedded => Some(Embedded::start(&settings.state_dir).await?),
        };
        let url = match (&settings.database.url, &embedded) {
            (DatabaseUrl::Url(url), _) => url.clone(),
            (DatabaseUrl::Embedded, Some(embedded)) => SecretString::from(embedded.url()),
            (DatabaseUrl::Embedded, None) => unreachable!("it was started a moment ago"),
        };
        let options = store::connect_options(&url)?;
        let connections = connections(settings);

        let mut attempts = 0;
        let began = tokio::time::Instant::now();
        loop {
            let opened = async {
                store::migrate(&options).await?;
                failpoint::reach("migrations-committed");
                store::connect(options.clone(), connections).await
            };
            let opened = match &patience {
                Patience::Until(_) => opened.await,
                Patience::Endless(stop) => tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(None),
                    opened = opened => opened,
                },
            };
            let error = match opened {
                Ok(pool) => return Ok(Some(Self { pool, embedded })),
                Err(error) => error,
            };
            attempts += 1;
            let is_unreachable = matches!(error, store::Error::Connect(_)) && !error.is_refusal();
            let longest_pause = if is_unreachable { Duration::from_secs(15) } else { Duration::from_secs(2) };
            let pause = backoff(attempts, Duration::from_millis(500), longest_pause, 1.0);
            let is_over = match &patience {
                // A server that answers and refuses will not change its mind.
                _ if !is_unreachable && !error.is_held_up() => true,
                Patience::Endless(_) => false,
                Patience::Until(longest) => began.elapsed() + pause > *longest,
            };
            if is_over {
                if let Some(embedded) = embedded {
                    embedded.stop().await?;
                }
                return Err(error).context("the database cannot be used");
            }
            if is_unreachable {
                tracing::warn!(error = %Chain(&error), attempts, "the database does not answer; waiting for it, and trying again by itself");
            } else {
                tracing::info!(error = %Chain(&error), attempts, "a migration waits for somebody who uses its tables");
            }
            match &patience {
                Patience::Until(_) => tokio::time::sleep(pause).await,
                Patience::Endless(stop) => tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(None),
                    () = tokio::time::sleep(pause) => {}
                },
            }
        }
    }

    /// Other connections to the same database, where `settings` need another number of them.
    pub(super) async fn resized(&self, settings: &Settings) -> anyhow::Result<Option<PgPool>> {
        let connections = connections(settings);
        if connections == self.pool.options().get_max_connections() {
            return Ok(None);
        }
        let options = PgConnectOptions::clone(&self.pool.connect_options());
        Ok(Some(store::connect(options, connections).await?))
    }

    /// The same database with these connections, and those it had.
    pub(super) fn with_pool(self, pool: PgPool) -> (Self, PgPool) {
        let Self { pool: left, embedded } = self;
        (Self { pool, embedded }, left)
    }

    /// Its connections.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The command that a person types to get in, where the server is ours.
    pub fn psql_line(&self) -> Option<String> {
        self.embedded.as_ref().map(Embedded::psql_line)
    }

    /// Which server it is, for people.
    pub fn describe(&self) -> String {
        if let Some(embedded) = &self.embedded {
            return format!("embedded Postgres {}", embedded.version());
        }
        let options = self.pool.connect_options();
        format!("{}:{}/{}", options.get_host(), options.get_port(), options.get_database().unwrap_or("postgres"))
    }

    /// Closes the connections, and stops the cluster where it is ours alone.
    pub async fn close(self) -> anyhow::Result<()> {
        close(&self.pool).await;
        if let Some(embedded) = self.embedded {
            embedded.stop().await?;
        }
        Ok(())
    }
}

/// Closes connections, as far as they are not busy.
pub(super) async fn close(pool: &PgPool) {
    // A connection may wait inside Postgres for something that never comes.
    if tokio::time::timeout(CLOSING, pool.close()).await.is_err() {
        tracing::warn!("connections to Postgres are still busy; leaving them behind");
    }
}

/// How many connections the workers and all else need.
fn connections(settings: &Settings) -> u32 {
    let workers = &settings.workers;
    u32::try_from(workers.submit + workers.poll + workers.load + 5).unwrap_or(u32::MAX)
}
