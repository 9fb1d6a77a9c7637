//! What the daemon shows of itself over HTTP: a status page for people, metrics and probes for machines. It only reads, unless a
//! token lets people act; a postback, where they are taken, makes jobs due and no more.

mod action;
mod answer;
mod calendar;
mod configuration;
mod connection;
mod counted;
mod events;
mod export_page;
mod exposition;
mod health;
mod host;
mod job_page;
mod late;
mod page;
mod postback;
mod probe;
mod process;
mod route;
mod session;
mod slot;
mod snapshot;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config;
use crate::metrics::tally::Tally;
use crate::pulse::{Beat, Pulse};
use configuration::Configuration;
use counted::Counted;
use slot::Slot;
use snapshot::Snapshots;

pub use health::{Health, State, ask};

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
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let now = Clock.now();
        let face = Arc::new(Face {
            began_at: now,
            configuration: Configuration::new(now),
            start: Arc::default(),
            mirror: Slot::default(),
            tally: OnceLock::new(),
            postbacks: Slot::default(),
            snapshots: Snapshots::default(),
            gate: Slot::default(),
            names: Slot::default(),
            addr,
            seats: events::Seats::default(),
            tasks: tasks.clone(),
            stop: stop.clone(),
            counted: Counted::default(),
        });
        let router = route::router(Arc::clone(&face));
        tasks.spawn(connection::serve(listener, router, tasks.clone(), stop.clone()));
        Ok(Self { addr, face, tasks, stop })
    }

    /// What the start of the engine reports with until [`Server::attach`].
    pub fn begin_start(&self) -> Beat {
        self.face.start.begin_silent("start")
    }

    /// How the daemon does, for who asks from within this process.
    pub fn health(&self) -> Health {
        Health { face: Arc::clone(&self.face) }
    }

    /// Hands over what there is to show once the engine runs, or once another one does.
    pub fn attach(&self, pool: PgPool, pulse: Arc<Pulse>) {
        self.face.mirror.set(Some(Mirror { pool, pulse }));
    }

    /// Hands over what the engine counts. Only the first call counts.
    pub fn count(&self, tally: Arc<Tally>) {
        let _ = self.face.tally.set(tally);
    }

    /// Does as `[http]` says, but for `listen`.
    pub fn heed(&self, settings: &config::Http) {
        let config::Http { listen: _, postback_secret, token, hosts } = settings;
        match postback_secret {
            Some(secret) => self.take_postbacks(secret.clone()),
            None => self.face.postbacks.set(None),
        }
        match token {
            Some(token) => self.take_actions(token.clone()),
            None => self.face.gate.set(None),
        }
        self.also_known_as(hosts.clone());
    }

    /// Takes postbacks from those who know the secret; without this there is no such address.
    pub fn take_postbacks(&self, secret: SecretString) {
        self.face.postbacks.set(Some(Arc::new(postback::Door::new(secret))));
    }

    /// Lets those who know the token act on the page; without this it only shows. Another token ends all sessions.
    pub fn take_actions(&self, token: SecretString) {
        if !self.face.gate.get().is_some_and(|gate| gate.opens_to(token.expose_secret())) {
            self.face.gate.set(Some(Arc::new(session::Gate::new(token))));
        }
    }

    /// Answers to these names too, in lower case and without a port.
    pub fn also_known_as(&self, names: Vec<String>) {
        self.face.names.set(Some(Arc::new(host::Names::new(self.addr, names))));
    }

    /// The configuration was read anew and is in force, but for keys that need a restart.
    pub fn configuration_applied(&self, for_restart: Vec<String>) {
        self.face.configuration.applied(Clock.now(), for_restart);
    }

    /// The configuration was read anew and is not in force.
    pub fn configuration_refused(&self, why: &str) {
        self.face.configuration.refused(why);
    }

    /// The address of the status page, as a browser on this machine takes it.
    pub fn url(&self) -> String {
        format!("http://{}/", reachable(self.addr))
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

/// Where a client on this machine reaches who listens there.
fn reachable(mut addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => addr.set_ip(Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => addr.set_ip(Ipv6Addr::LOCALHOST.into()),
        SocketAddr::V4(_) | SocketAddr::V6(_) => {}
    }
    addr
}

/// What every answer is made from.
#[derive(Debug)]
struct Face {
    began_at: DateTime<Utc>,
    configuration: Configuration,
    start: Arc<Pulse>,
    mirror: Slot<Mirror>,
    tally: OnceLock<Arc<Tally>>,
    postbacks: Slot<Arc<postback::Door>>,
    snapshots: Snapshots,
    gate: Slot<Arc<session::Gate>>,
    names: Slot<Arc<host::Names>>,
    addr: SocketAddr,
    seats: events::Seats,
    tasks: TaskTracker,
    stop: CancellationToken,
    counted: Counted,
}

impl Face {
    /// The names that requests may carry.
    fn names(&self) -> Arc<host::Names> {
        self.names.get().unwrap_or_else(|| Arc::new(host::Names::new(self.addr, Vec::new())))
    }
}

/// The engine and its database.
#[derive(Debug, Clone)]
struct Mirror {
    pool: PgPool,
    pulse: Arc<Pulse>,
}
