//! The bookkeeping in Postgres: jobs, coverage, budget. One file per subject, one function per query; decisions are
//! made elsewhere.

pub mod account;
pub mod archive;
pub mod batch;
pub mod cell;
pub mod change_rate;
pub mod closure;
pub mod configured;
pub mod coverage;
pub mod current;
pub mod heard;
pub mod hint;
pub mod job;
pub mod load;
pub mod order;
pub mod quota;
pub mod reload;
pub mod remote;
pub mod retention;
pub mod room;
mod socket;
pub mod status;
pub mod tick;
pub mod transition;
pub mod wake;
pub mod warning;
pub mod window_limit;

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::migrate::{Migrate as _, MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};

use crate::retry::ErrorKind;

/// What can go wrong between us and our Postgres.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `database.url` is no Postgres URL. The value is not shown, for it may hold a password.
    #[error("database.url cannot be used: {problem}; write postgres://user@host/database or \"embedded\"")]
    BadUrl {
        /// What is wrong with it.
        problem: String,
    },
    /// The server does not answer, or not to us.
    #[error("cannot connect to Postgres")]
    Connect(#[source] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("cannot apply the migrations")]
    Migrate(#[source] MigrateError),
    /// A statement failed.
    #[error("Postgres failed to {what}")]
    Statement {
        /// What we wanted.
        what: &'static str,
        /// Why not.
        source: sqlx::Error,
    },
    /// The lease ran out or the job has moved on: whoever holds it now does the work.
    #[error("job {job} is no longer ours: its lease ran out or it has moved on")]
    LeaseLost {
        /// Which.
        job: crate::job::JobId,
    },
    /// A row holds what no version of ours writes.
    #[error("unreadable row in {table}: {problem}")]
    Corrupt {
        /// Where.
        table: &'static str,
        /// What.
        problem: String,
    },
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect(source) | Self::Statement { source, .. } => ErrorKind::from(source),
            Self::BadUrl { .. } | Self::Migrate(_) | Self::LeaseLost { .. } | Self::Corrupt { .. } => {
                ErrorKind::Database
            }
        }
    }

    /// Whether a migration gave way to somebody who held what it needed. It left nothing behind and may be tried again.
    pub fn is_held_up(&self) -> bool {
        const LOCK_NOT_AVAILABLE: &str = "55P03";
        const DEADLOCK_DETECTED: &str = "40P01";
        let Self::Migrate(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = self else {
            return false;
        };
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        matches!(code.as_deref(), Some(LOCK_NOT_AVAILABLE | DEADLOCK_DETECTED))
    }

    /// Whether the work was taken from us, which is nobody's fault.
    pub fn is_lease_lost(&self) -> bool {
        matches!(self, Self::LeaseLost { .. })
    }
}

/// Names what a statement was for.
pub(crate) fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Statement { what, source }
}

/// Reads `database.url`.
pub fn connect_options(url: &SecretString) -> Result<PgConnectOptions, Error> {
    let bad = |problem: &str| Error::BadUrl { problem: problem.to_owned() };
    let read = url::Url::parse(url.expose_secret()).map_err(|error| bad(&error.to_string()))?;
    if !matches!(read.scheme(), "postgres" | "postgresql") {
        return Err(bad("it does not begin with postgres://"));
    }
    if read.host_str().is_none_or(str::is_empty) && !read.query_pairs().any(|(name, _)| name == "host") {
        return Err(bad("it names no host"));
    }
    let options: PgConnectOptions =
        url.expose_secret().parse().map_err(|error: sqlx::Error| bad(&error.to_string()))?;
    Ok(options.application_name("impact-mirror").options([("timezone", "UTC"), NO_JIT]))
}

/// Opens a pool of at most `connections`; the first connection is made at once.
pub async fn connect(options: PgConnectOptions, connections: u32) -> Result<PgPool, Error> {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(10))
        .idle_timeout(Duration::from_mins(5))
        .test_before_acquire(true) // a server that was restarted leaves dead ones: no outcome is lost to them
        .after_connect(|_conn, _metadata| {
            socket::set_for_all();
            Box::pin(async { Ok(()) })
        })
        .connect_with(options)
        .await
        .map_err(Error::Connect)
}

/// Compiling an expression costs more than any statement of ours saves by it.
const NO_JIT: (&str, &str) = ("jit", "off");

/// The bookkeeping of migrations lives with ours, not in somebody's public schema.
const MIGRATIONS: &str = "impact_mirror._sqlx_migrations";

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!();
    migrator.create_schema("impact_mirror");
    migrator.dangerous_set_table_name(MIGRATIONS);
    migrator
}

/// How long a migration waits for a lock: less than the second after which Postgres looks for a deadlock and ends one of the
/// statements in it, which might be a reader's.
const LOCK_TIMEOUT: (&str, &str) = ("lock_timeout", "500ms");

/// Brings the schema up to date. Several processes may try at once; one does it, the others wait. A migration gives way to a
/// reader who holds what it needs: see [`Error::is_held_up`].
pub async fn migrate(options: &PgConnectOptions) -> Result<(), Error> {
    let options = options.clone().options([LOCK_TIMEOUT]);
    let mut conn = PgConnection::connect_with(&options).await.map_err(Error::Connect)?;
    migrator().run_direct(None, &mut conn, false).await.map_err(Error::Migrate)?;
    conn.close().await.map_err(failed("close a connection"))
}

/// How many of our migrations the database lacks. What a newer version has added does not count.
pub async fn lacking_migrations(conn: &mut PgConnection) -> Result<usize, Error> {
    let applied = conn.list_applied_migrations(MIGRATIONS).await.map_err(Error::Migrate)?;
    let is_applied = |version: i64| applied.iter().any(|one| one.version == version);
    Ok(migrator().iter().filter(|migration| !is_applied(migration.version)).count())
}
