//! A local impact.com: export jobs, rate limits, errors and made-up data that restates itself, for tests and for newcomers.
//!
//! It shares no type with the client, or both would be wrong together. Where the public description of the real API leaves a
//! question open, a switch ([`Behaviours`]) gives each answer; what goes wrong in the real world can be ordered ([`Fault`]).

mod admin;
mod api;
mod auth;
mod behaviour;
mod catalogue;
mod clock;
mod connection;
mod content;
mod data;
mod directory;
mod download;
mod envelope;
mod fault;
mod job;
mod jobs;
mod limits;
mod options;
mod params;
mod postback;
mod quota;
mod route;
mod run;
mod submit;
mod world;

use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

pub use self::behaviour::{Behaviour, Behaviours, UnknownBehaviour};
use self::connection::{Door, Line};
pub use self::fault::{Fault, FaultKind, Point};
pub use self::options::{Account, Limits, Options, Persona, ProgramSizes};
use self::params::Params;
pub use self::world::Call;
use self::world::World;

/// How long [`Sandbox::stop`] waits for what is under way.
const GRACE: Duration = Duration::from_secs(1);

/// A sandbox that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Sandbox {
    world: Arc<World>,
}

impl Sandbox {
    /// Starts a sandbox; it listens when this returns.
    pub async fn start(options: Options) -> std::io::Result<Self> {
        let (door, addr) = Door::open(options.listen).await?;
        let world = Arc::new(World::new(options, addr)?);
        let router = Router::new().fallback(api::handle).with_state(Arc::clone(&world));
        let stop = world.stop.clone();
        let server = axum::serve(door, router.into_make_service_with_connect_info::<Line>())
            .with_graceful_shutdown(async move { stop.cancelled().await });
        world.tasks.spawn(async move {
            if let Err(error) = server.into_future().await {
                tracing::error!(%error, "the sandbox stopped serving");
            }
        });
        Ok(Self { world })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.world.addr
    }

    /// The URL that takes the place of `https://api.impact.com`.
    pub fn base_url(&self) -> String {
        let mut addr = self.world.addr;
        if addr.ip().is_unspecified() {
            addr.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        format!("http://{addr}")
    }

    /// Ends the sandbox.
    pub async fn stop(self) {
        self.world.stop.cancel();
        self.world.tasks.close();
        let _ = tokio::time::timeout(GRACE, self.world.tasks.wait()).await;
    }

    /// What the sandbox clock shows.
    pub fn now(&self) -> DateTime<Utc> {
        self.world.clock.now()
    }

    /// Pushes the sandbox clock forward.
    pub fn advance(&self, by: TimeDelta) {
        self.world.clock.advance(by);
    }

    /// Orders a fault.
    pub fn inject(&self, fault: Fault) {
        self.world.faults().add(fault);
    }

    /// Calls off the faults that have not hit.
    pub fn call_off_faults(&self) {
        *self.world.faults() = fault::Faults::default();
    }

    /// How many of the ordered faults have not hit as often as they were to.
    pub fn faults_left(&self) -> usize {
        self.world.faults().left()
    }

    /// Sets a switch, written `name=value`.
    pub fn set_behaviour(&self, setting: &str) -> Result<(), UnknownBehaviour> {
        self.world.behaviours().set(setting)
    }

    /// The calls so far, the oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.world.calls().clone()
    }

    /// How many runs of jobs were begun: submissions that made a job, and replays.
    pub fn runs(&self) -> usize {
        self.world.jobs().iter().map(|job| job.runs as usize).sum()
    }

    /// The CSV that a perfect export of the days `from` to `to` would hold now. `report` is a handle or `clicks`; an empty `program`
    /// stands for all; `params` are the parameters of the request that decide rows and columns.
    ///
    /// # Panics
    ///
    /// Where the account or the report does not exist: a test that asks for it is wrong.
    pub fn truth(
        &self,
        sid: &str,
        report: &str,
        program: &str,
        from: NaiveDate,
        to: NaiveDate,
        params: &[(&str, &str)],
    ) -> Vec<u8> {
        self.truth_at(self.now(), sid, report, program, (from, to), params)
    }

    /// [`Self::truth`] of the days from the first to the second at any time.
    pub fn truth_at(
        &self,
        at: DateTime<Utc>,
        sid: &str,
        report: &str,
        program: &str,
        days: (NaiveDate, NaiveDate),
        params: &[(&str, &str)],
    ) -> Vec<u8> {
        match self.world.truth(at, sid, report, program, days, &owned(params)) {
            Ok(csv) => csv,
            Err(error) => panic!("no truth: {error}"),
        }
    }

    /// The times at which [`Self::truth_at`] of a day becomes another one, soonest first.
    pub fn changes(
        &self,
        sid: &str,
        report: &str,
        program: &str,
        day: NaiveDate,
        params: &[(&str, &str)],
    ) -> Vec<DateTime<Utc>> {
        match self.world.changes(sid, report, program, day, &owned(params)) {
            Ok(times) => times,
            Err(error) => panic!("no truth: {error}"),
        }
    }
}

fn owned(params: &[(&str, &str)]) -> Params {
    Params(params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.world.stop.cancel();
    }
}
