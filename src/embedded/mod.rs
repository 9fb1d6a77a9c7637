//! A private Postgres of the daemon's own, for `database.url = "embedded"`.
//!
//! It runs the Postgres programs of this machine on a cluster under the state directory and keeps its data:
//!
//! ```text
//! {state_dir}/postgres/data        the cluster
//! {state_dir}/postgres/run         its socket, for this user alone and without a password
//! {state_dir}/postgres/log         what the server says
//! {state_dir}/postgres/port        its port on loopback, the same at every start while it is free
//! {state_dir}/postgres/password    the password that loopback asks user `mirror` for
//! ```
//!
//! Every process that uses the cluster holds a shared lock, so the second one joins the server that is running, the last
//! one stops it, and one that was killed leaves a server behind that the next one adopts.

mod cluster;
mod home;
mod owner;
mod postmaster;
mod programs;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};
use url::Url;

use self::cluster::Cluster;
use self::home::{Home, InUse};

/// The database that holds the mirror.
const DATABASE: &str = "impact_mirror";
/// The superuser of the cluster.
const USER: &str = "mirror";
/// How long a server that says it is ready may refuse connections.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running cluster that this process uses.
#[derive(Debug)]
pub struct Embedded {
    cluster: Cluster,
    in_use: InUse,
    url: String,
}

impl Embedded {
    /// Starts the cluster under `state_dir`, made first where there is none, or joins the one that is running.
    pub async fn start(state_dir: &Path) -> Result<Self, Error> {
        let home = Home::open(state_dir)?;
        let turn = home.turn().await?;
        let in_use = home.use_it()?;
        let cluster = Cluster::bring_up(home).await?;
        let url = url(&cluster, DATABASE);
        create_database(&cluster).await?;
        drop(turn);
        tracing::info!(version = cluster.version(), "embedded Postgres is up: {}", cluster.home().root().display());
        Ok(Self { cluster, in_use, url })
    }

    /// The address of the database, for sqlx and psql alike. It leads through the socket, so it holds no secret.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The command that a person types to get in.
    pub fn psql_line(&self) -> String {
        format!("psql '{}'", self.url)
    }

    /// The version of the server, as in `17.5`.
    pub fn version(&self) -> &str {
        self.cluster.version()
    }

    /// Stops the server, unless another process uses it.
    pub async fn stop(mut self) -> Result<(), Error> {
        let _turn = self.cluster.home().turn().await?;
        if self.in_use.was_last()? {
            self.cluster.shut_down().await?;
            tracing::info!("embedded Postgres is stopped");
        }
        Ok(())
    }
}

impl Drop for Embedded {
    /// Asks the server to stop where nobody called `stop`, without waiting for it.
    fn drop(&mut self) {
        if self.in_use.was_last().unwrap_or(false) {
            self.cluster.ask_to_stop();
        }
    }
}

fn url(cluster: &Cluster, database: &str) -> String {
    let mut url = Url::parse("postgres://localhost").expect("a constant");
    let carries_a_user = url.set_username(USER).is_ok() && url.set_port(Some(cluster.port())).is_ok();
    debug_assert!(carries_a_user, "a URL with a host carries a user and a port");
    url.set_path(database);
    // psql does not take `+` for a blank, so the path is encoded by hand.
    let host: String = cluster.socket_dir().to_string_lossy().bytes().map(query_byte).collect();
    url.set_query(Some(&format!("host={host}")));
    url.into()
}

fn query_byte(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    }
}

async fn create_database(cluster: &Cluster) -> Result<(), Error> {
    let mut conn = connect(&url(cluster, "postgres")).await?;
    let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = 'impact_mirror')")
        .fetch_one(&mut conn)
        .await
        .map_err(|source| Error::Database { source })?;
    if !exists {
        sqlx::query("create database impact_mirror")
            .execute(&mut conn)
            .await
            .map_err(|source| Error::Database { source })?;
    }
    conn.close().await.map_err(|source| Error::Database { source })
}

async fn connect(url: &str) -> Result<PgConnection, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match PgConnection::connect(url).await {
            Ok(conn) => return Ok(conn),
            Err(source) if Instant::now() > deadline => return Err(Error::Database { source }),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Why there is no embedded Postgres.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// None of the places that hold Postgres programs does.
    #[error(
        "no Postgres programs (initdb, postgres, pg_ctl) found on this machine, which database.url = \"embedded\" needs; \
         install them (Debian, Ubuntu: apt install postgresql; Fedora, RHEL: dnf install postgresql-server; \
         Alpine: apk add postgresql; macOS: brew install postgresql) or set database.url to a server"
    )]
    NoPrograms,
    /// There are programs, but too old ones.
    #[error(
        "the Postgres programs on this machine are of version {found}, and the embedded Postgres needs 14 or later; install \
         such, or set database.url to a server"
    )]
    TooOld {
        /// What was found, newest first.
        found: String,
    },
    /// The cluster was made by a version whose programs are gone.
    #[error(
        "the embedded cluster in {data} was made by Postgres {major}, whose programs are not on this machine (found: {found}); \
         install them (Debian, Ubuntu: apt install postgresql-{major}; Fedora, RHEL: dnf install postgresql{major}-server; \
         Alpine: apk add postgresql{major}; macOS: brew install postgresql@{major})"
    )]
    WrongMajor {
        /// The cluster.
        data: PathBuf,
        /// The version that made it.
        major: u32,
        /// The versions that are here.
        found: String,
    },
    /// Root may not run Postgres, and there is nobody else to.
    #[error(
        "Postgres does not run as root, and this machine has neither a user `postgres` nor a user `nobody` to run it \
         as; make one (useradd --system postgres), run this as another user, or set database.url to a server"
    )]
    NobodyToRunAs,
    /// The user that the cluster belongs to cannot get at it.
    #[error(
        "Postgres does not run as root, and user `{user}`, who runs it instead, cannot pass {directory}; \
         allow it (chmod o+x {directory}) or set state_dir to another place"
    )]
    Closed {
        /// The directory that is closed.
        directory: PathBuf,
        /// Who runs Postgres.
        user: String,
    },
    /// The short directory for the socket exists and is not ours.
    #[error(
        "{directory} was to hold the socket of the embedded Postgres, but it belongs to somebody else; remove it, or set state_dir to a shorter path"
    )]
    ForeignSocketDir {
        /// That directory.
        directory: PathBuf,
    },
    /// A file or directory of the cluster could not be worked with.
    #[error("cannot {verb} {path}")]
    File {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A Postgres program could not be run at all.
    #[error("cannot run {program}; let the user that Postgres runs as execute it, or set database.url to a server")]
    Run {
        /// Which one.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A Postgres program ended badly.
    #[error("{program} failed ({status}): {said}; mend what it says, or set database.url to a server")]
    Failed {
        /// Which one.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// Its own words.
        said: String,
    },
    /// Another process has been starting or stopping the cluster for too long.
    #[error(
        "another process holds {lock} and does not finish starting or stopping the embedded Postgres; find it with `fuser {lock}` and end it"
    )]
    Stuck {
        /// The lock it holds.
        lock: PathBuf,
    },
    /// A server is there but neither ready nor gone after a long time.
    #[error("the embedded Postgres (process {pid}) says `{status}` and does not become ready; see {log}")]
    NotReady {
        /// Its process.
        pid: i32,
        /// What its pid file says.
        status: String,
        /// Where it says more.
        log: PathBuf,
    },
    /// The server runs but does not let us work.
    #[error("the embedded Postgres does not take our connection; see postgres/log under state_dir")]
    Database {
        /// Why not.
        source: sqlx::Error,
    },
}

impl Error {
    fn file(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { verb, path, source }
    }
}
