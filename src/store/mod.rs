//! The bookkeeping in Postgres: jobs, coverage, budget. One file per subject, one function per query; decisions are
//! made elsewhere.

pub mod account;
pub mod alert;
pub mod archive;
pub mod audit;
pub mod batch;
pub mod behind;
pub mod by_hand;
pub mod calendar;
pub mod cell;
pub mod change_rate;
pub mod claim;
pub mod closure;
pub mod comparison;
pub mod configured;
pub mod count;
pub mod coverage;
pub mod current;
pub mod described;
pub mod detail;
pub mod heard;
pub mod hint;
pub mod job;
pub mod load;
pub mod mend;
pub mod migration;
pub mod order;
pub mod outbox;
pub mod quiet;
pub mod quota;
pub mod reload;
pub mod remote;
pub mod retention;
pub mod room;
mod socket;
pub mod status;
pub mod story;
pub mod tick;
pub mod transition;
pub mod wake;
pub mod warning;
pub mod why;
pub mod window_limit;

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};

use crate::pulse::Beat;
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
    /// A newer version has brought the schema up to date.
    #[error(
        "the database is newer than this program: it has migration {version}, and impact-mirror {} ends with {newest}; \
         install the version that was here last, or a newer one; to go back, restore a backup from before the upgrade",
        env!("CARGO_PKG_VERSION")
    )]
    NewerDatabase {
        /// A migration that this version does not know.
        version: i64,
        /// The last that it knows.
        newest: i64,
    },
    /// The program is newer than the schema, and may not change that.
    #[error(
        "the database is older than this program: it lacks {lacking} migrations, and this user may not apply them; \
         run `impact-mirror migrate` once with the owner of schema impact_mirror in database.url"
    )]
    MayNotMigrate {
        /// How many migrations are to be applied.
        lacking: usize,
        /// What Postgres refused.
        source: sqlx::Error,
    },
    /// A migration was edited after it was released, or comes from a build of somebody else.
    #[error(
        "migration {version} of the database is not the one that this program has; install the version that made it"
    )]
    OtherMigration {
        /// Which.
        version: i64,
    },
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
    #[error(
        "unreadable row in {table}: {problem}; put that row right in Postgres, or restore a backup (docs/backup.md)"
    )]
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
            Self::BadUrl { .. }
            | Self::Migrate(_)
            | Self::NewerDatabase { .. }
            | Self::MayNotMigrate { .. }
            | Self::OtherMigration { .. }
            | Self::LeaseLost { .. }
            | Self::Corrupt { .. } => ErrorKind::Database,
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

    /// Whether the server answers and will go on refusing us: it does not know the user or password (class 28), or the database (3D000).
    pub fn is_refusal(&self) -> bool {
        let Self::Connect(source) = self else { return false };
        let code = source.as_database_error().and_then(sqlx::error::DatabaseError::code);
        code.is_some_and(|code| code.starts_with("28") || code == "3D000")
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
    Ok(options.application_name("impact-mirror").options([("timezone", "UTC"), NO_JIT]).options(GIVEN_UP))
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

/// Has the server give up a session whose process it does not reach, within 25 s: a replica that was cut off in the middle of a
/// load would keep its locks from all others for two hours, which is what systems wait by themselves.
const GIVEN_UP: [(&str, &str); 4] = [
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "25000"),
];

/// Brings the schema up to date; see [`migration`].
pub async fn migrate(options: &PgConnectOptions) -> Result<(), Error> {
    migration::apply(options).await
}

/// Whether the server answers a new connection by refusing it, or not at all from where it should be. One that accepts it is
/// there, and so is one that keeps silent for `patience`: it hangs.
pub async fn is_away(pool: &PgPool, patience: Duration) -> bool {
    let options = pool.connect_options();
    let connected = tokio::time::timeout(patience, PgConnection::connect_with(&options)).await;
    matches!(connected, Ok(Err(_)))
}

/// Has a loop report how its round ended. Want of room is told elsewhere and is no failure of the loop.
pub fn tell<T>(beat: &Beat, ended: &Result<T, Error>) {
    match ended {
        Err(error) if error.kind() != ErrorKind::NoRoom => beat.failed(),
        Ok(_) | Err(_) => beat.worked(),
    }
}
