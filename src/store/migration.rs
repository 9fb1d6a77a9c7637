//! How the schema of a database and the migrations of this version stand to each other.

use std::io;
use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::migrate::{AppliedMigration, Migrate as _, MigrateError, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

use super::{Error, failed};

/// The bookkeeping of migrations lives with ours, not in somebody's public schema.
const TABLE: &str = "impact_mirror._sqlx_migrations";
/// How long a migration waits for a lock: less than the second after which Postgres looks for a deadlock and ends one of the
/// statements in it, which might be a reader's.
const LOCK_TIMEOUT: (&str, &str) = ("lock_timeout", "500ms");
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How far a database and this version are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    /// Migrations of this version that the database lacks.
    pub lacking: usize,
    /// Migrations of the database that this version does not know: a newer one has applied them.
    pub newer: usize,
}

/// Compares a database that has our schema with this version.
pub async fn skew(conn: &mut PgConnection) -> Result<Skew, Error> {
    let applied = conn.list_applied_migrations(TABLE).await.map_err(Error::Migrate)?;
    Ok(compare(&applied))
}

/// Brings the schema up to date. Several processes may try at once; one does it, the others wait. A migration gives way to a
/// reader who holds what it needs: see [`Error::is_held_up`]. Where nothing is to be done, nothing but reading is.
pub(super) async fn apply(options: &PgConnectOptions) -> Result<(), Error> {
    let options = options.clone().options([LOCK_TIMEOUT]);
    let connecting = tokio::time::timeout(CONNECT, PgConnection::connect_with(&options));
    let mut conn = connecting.await.unwrap_or_else(|_| Err(silence())).map_err(Error::Connect)?;
    let skew = match applied(&mut conn).await? {
        Some(applied) if is_ours(&applied) => return conn.close().await.map_err(failed("close a connection")),
        Some(applied) => compare(&applied),
        None => compare(&[]),
    };
    migrator().run_direct(None, &mut conn, false).await.map_err(|error| explained(error, skew))?;
    conn.close().await.map_err(failed("close a connection"))
}

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!();
    migrator.create_schema("impact_mirror");
    migrator.dangerous_set_table_name(TABLE);
    migrator
}

fn silence() -> sqlx::Error {
    let words = format!("no answer within {} s", CONNECT.as_secs());
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, words))
}

/// What has been applied; none where our schema is not there.
async fn applied(conn: &mut PgConnection) -> Result<Option<Vec<AppliedMigration>>, Error> {
    let is_there: bool = sqlx::query_scalar("select to_regclass($1) is not null")
        .bind(TABLE)
        .fetch_one(&mut *conn)
        .await
        .map_err(|error| explained(MigrateError::Execute(error), compare(&[])))?;
    if !is_there || conn.dirty_version(TABLE).await.map_err(Error::Migrate)?.is_some() {
        return Ok(None);
    }
    conn.list_applied_migrations(TABLE).await.map(Some).map_err(Error::Migrate)
}

/// Whether what has been applied is what this version has, neither more nor less.
fn is_ours(applied: &[AppliedMigration]) -> bool {
    let migrator = migrator();
    let ours = migrator.iter().map(|migration| (migration.version, &migration.checksum));
    ours.eq(applied.iter().map(|one| (one.version, &one.checksum)))
}

fn compare(applied: &[AppliedMigration]) -> Skew {
    let migrator = migrator();
    let is_applied = |version: i64| applied.iter().any(|one| one.version == version);
    Skew {
        lacking: migrator.iter().filter(|migration| !is_applied(migration.version)).count(),
        newer: applied.iter().filter(|one| !migrator.version_exists(one.version)).count(),
    }
}

/// Says what a person has to do, where that is known.
fn explained(error: MigrateError, skew: Skew) -> Error {
    const INSUFFICIENT_PRIVILEGE: &str = "42501";
    let newest = migrator().iter().map(|migration| migration.version).max().unwrap_or_default();
    match error {
        MigrateError::VersionMissing(version) => Error::NewerDatabase { version, newest },
        MigrateError::VersionMismatch(version) => Error::OtherMigration { version },
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _)
            if source.as_database_error().and_then(DatabaseError::code).as_deref() == Some(INSUFFICIENT_PRIVILEGE) =>
        {
            Error::MayNotMigrate { lacking: skew.lacking, source }
        }
        other => Error::Migrate(other),
    }
}
