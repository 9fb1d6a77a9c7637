//! What the daemon shows of itself over HTTP: a status page for people, metrics and probes for machines. It only reads; a
//! postback, where they are taken, makes jobs due and no more.

mod connection;
mod counted;
mod exposition;
mod page;
mod postback;
mod probe;
mod process;
mod route;
mod snapshot;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::metrics::tally::Tally;
use crate::pulse::{Beat, Pulse};
use counted::Counted;
use snapshot::Snapshots;

/// How long [`Server::stop`] waits for answers under way.
const GRACE: Duration = Duration::from_secs(2);

/// What can go wrong with listening.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, or not ours.
    #[error("cannot listen on {addr}, which is http.listen; set it to a free address")]
    Listen {
        /// Which address.
        addr: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// Whether somebody else listens there.
    pub fn is_taken(&self) -> bool {
        let Self::Listen { source, .. } = self;
        source.kind() == io::ErrorKind::AddrInUse
    }
}

/// A server that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    face: Arc<Face>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Server {
    /// Starts to serve; until [`Server::attach`] it says that the daemon is starting.
    pub async fn start(listen: SocketAddr) -> Result<Self, Error> {
        let failed = |source| Error::Listen { addr: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let face = Arc::new(Face {
            began_at: Clock.now(),
            start: Arc::default(),
            mirror: OnceLock::new(),
            tally: OnceLock::new(),
            postbacks: OnceLock::new(),
            snapshots: Snapshots::default(),
            counted: Counted::default(),
        });
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let router = route::router(Arc::clone(&face));
        tasks.spawn(connection::serve(listener, router, tasks.clone(), stop.clone()));
        Ok(Self { addr, face, tasks, stop })
    }

    /// What the start of the engine reports with until [`Server::attach`].
    pub fn begin_start(&self) -> Beat {
        self.face.start.begin_silent("start")
    }

    /// Hands over what there is to show once the engine runs. Only the first call counts.
    pub fn attach(&self, pool: PgPool, pulse: Arc<Pulse>) {
        let _ = self.face.mirror.set(Mirror { pool, pulse });
    }

    /// Hands over what the engine counts. Only the first call counts.
    pub fn count(&self, tally: Arc<Tally>) {
        let _ = self.face.tally.set(tally);
    }

    /// Takes postbacks from those who know the secret; without this there is no such address. Only the first call counts.
    pub fn take_postbacks(&self, secret: SecretString) {
        let _ = self.face.postbacks.set(postback::Door::new(secret));
    }

    /// The address of the status page, as a browser on this machine takes it.
    pub fn url(&self) -> String {
        let mut addr = self.addr;
        match addr {
            SocketAddr::V4(v4) if v4.ip().is_unspecified() => addr.set_ip(Ipv4Addr::LOCALHOST.into()),
            SocketAddr::V6(v6) if v6.ip().is_unspecified() => addr.set_ip(Ipv6Addr::LOCALHOST.into()),
            SocketAddr::V4(_) | SocketAddr::V6(_) => {}
        }
        format!("http://{addr}/")
    }

    /// Takes no new requests and waits a little for answers under way.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(GRACE, self.tasks.wait()).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What every answer is made from.
#[derive(Debug)]
struct Face {
    began_at: DateTime<Utc>,
    start: Arc<Pulse>,
    mirror: OnceLock<Mirror>,
    tally: OnceLock<Arc<Tally>>,
    postbacks: OnceLock<postback::Door>,
    snapshots: Snapshots,
    counted: Counted,
}

/// The engine and its database.
#[derive(Debug)]
struct Mirror {
    pool: PgPool,
    pulse: Arc<Pulse>,
}
