//! What all requests share: the clock, the switches, the faults, the jobs, the quotas and the record of calls.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::behaviour::Behaviours;
use super::catalogue;
use super::clock::SandboxClock;
use super::data::action::Stream;
use super::data::dice::{Dice, number_of};
use super::data::request::{Bound, DataRequest, Drift, Feed, Reading, Statuses, Toggles, Window};
use super::data::table::{Dialect, Format, JsonShape};
use super::data::{self};
use super::fault::{FaultKind, Faults, Point, Stage};
use super::job::{Ask, Jobs};
use super::options::{Account, Options, Persona, ProgramSizes};
use super::params::Params;
use super::quota::Quota;

/// One call that somebody made to the API or to the storage.
#[derive(Debug, Clone, Serialize)]
pub struct Call {
    /// When, by the sandbox clock.
    pub at: DateTime<Utc>,
    /// The SID, where the credentials were right.
    pub account: Option<String>,
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The query string as it came in.
    pub query: String,
    /// What kind of call it is.
    pub kind: &'static str,
    /// The status of the reply; nothing where the connection was cut instead.
    pub status: Option<u16>,
}

/// The shared state.
#[derive(Debug)]
pub struct World {
    /// What the sandbox was told.
    pub options: Options,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its time.
    pub clock: SandboxClock,
    /// Ends everything.
    pub stop: CancellationToken,
    /// What runs.
    pub tasks: TaskTracker,
    scratch: Scratch,
    behaviours: Mutex<Behaviours>,
    faults: Mutex<Faults>,
    calls: Mutex<Vec<Call>>,
    quota: Mutex<Quota>,
    jobs: Mutex<Jobs>,
    queues: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl World {
    /// A world without jobs.
    pub fn new(options: Options, addr: SocketAddr) -> std::io::Result<Self> {
        Ok(Self {
            addr,
            clock: SandboxClock::new(options.start, options.clock_speed),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            scratch: Scratch::create()?,
            behaviours: Mutex::new(options.behaviours.clone()),
            faults: Mutex::default(),
            calls: Mutex::default(),
            quota: Mutex::default(),
            jobs: Mutex::default(),
            queues: Mutex::default(),
            options,
        })
    }

    /// The answers in force.
    pub fn behaviours(&self) -> MutexGuard<'_, Behaviours> {
        lock(&self.behaviours)
    }

    /// The faults that are still to come.
    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    /// The calls so far.
    pub fn calls(&self) -> MutexGuard<'_, Vec<Call>> {
        lock(&self.calls)
    }

    /// The rate limits.
    pub fn quota(&self) -> MutexGuard<'_, Quota> {
        lock(&self.quota)
    }

    /// The jobs.
    pub fn jobs(&self) -> MutexGuard<'_, Jobs> {
        lock(&self.jobs)
    }

    /// Whether a switch is set to a value.
    pub fn is(&self, name: &str, value: &str) -> bool {
        self.behaviours().is(name, value)
    }

    /// The fault that hits a call, if one does.
    pub fn fault(&self, point: Option<Point>, stage: Stage) -> Option<FaultKind> {
        self.faults().take(point, stage)
    }

    /// The place in line of an account's jobs.
    pub fn queue(&self, sid: &str) -> Arc<Semaphore> {
        Arc::clone(lock(&self.queues).entry(sid.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1))))
    }

    /// An account by its SID.
    pub fn account(&self, sid: &str) -> Option<&Account> {
        self.options.accounts.iter().find(|account| account.sid == sid)
    }

    /// Where a result is kept.
    pub fn result_path(&self, id: &str, run: u32) -> PathBuf {
        self.scratch.0.join(format!("{id}-{run}"))
    }

    /// How result files are put together now.
    pub fn dialect(&self, format: Format, now: DateTime<Utc>) -> Dialect {
        let behaviours = self.behaviours();
        let drift = match behaviours.get("columns") {
            "extra" => Drift::ExtraColumn,
            "extra_after_a_day" if now - self.options.start >= TimeDelta::days(1) => Drift::ExtraColumn,
            "lower_case" => Drift::LowerCase,
            _ => Drift::None,
        };
        Dialect {
            format,
            json: match behaviours.get("json_shape") {
                "paged" => JsonShape::Paged,
                "bare" => JsonShape::Bare,
                "sparse" => JsonShape::Sparse,
                _ => JsonShape::Object,
            },
            bom_crlf: behaviours.is("csv_dialect", "bom_crlf"),
            empty_is_nothing: behaviours.is("empty_result", "zero_bytes"),
            row_cap: behaviours.get("max_rows").parse().ok(),
            drift,
        }
    }

    /// What `ask` means for an account at `now`.
    pub fn data_request(&self, account: &Account, ask: &Ask, now: DateTime<Utc>) -> DataRequest {
        let behaviours = self.behaviours();
        let reading = Reading {
            zone: if behaviours.is("filter_zone", "utc") { chrono_tz::UTC } else { account.time_zone },
            end_inclusive: ask.feed == Feed::Clicks || behaviours.is("end_date", "inclusive"),
            truncate_times: behaviours.is("filter_time", "truncated"),
        };
        DataRequest {
            feed: ask.feed,
            streams: self.streams(account, &ask.programs),
            zone: account.time_zone,
            window: Window::read(ask.from, ask.to, reading, now),
            now,
            statuses: ask.statuses.clone(),
            reversed_by_default: behaviours.is("reversed_rows", "included"),
            toggles: ask.toggles.clone(),
            random_order: behaviours.is("row_order", "random"),
        }
    }

    /// The CSV that a perfect export of some days would hold at `at`.
    pub fn truth(
        &self,
        at: DateTime<Utc>,
        sid: &str,
        report: &str,
        program: &str,
        days: (NaiveDate, NaiveDate),
        params: &Params,
    ) -> Result<Vec<u8>, String> {
        let mut request = self.perfect_request(at, sid, report, program, days, params)?;
        request.random_order = false;
        let drift = self.dialect(Format::Csv, request.now).drift;
        let written = data::render(&request, Dialect { drift, ..Dialect::plain() }, Vec::new());
        written.map(|(bytes, _)| bytes).map_err(|error| error.to_string())
    }

    /// When a perfect export of a day becomes another one.
    pub fn changes(
        &self,
        sid: &str,
        report: &str,
        program: &str,
        day: NaiveDate,
        params: &Params,
    ) -> Result<Vec<DateTime<Utc>>, String> {
        let at = DateTime::<Utc>::MAX_UTC;
        self.perfect_request(at, sid, report, program, (day, day), params).map(|request| data::changes::of(&request))
    }

    fn perfect_request(
        &self,
        at: DateTime<Utc>,
        sid: &str,
        report: &str,
        program: &str,
        days: (NaiveDate, NaiveDate),
        params: &Params,
    ) -> Result<DataRequest, String> {
        let account = self.account(sid).ok_or_else(|| format!("no account {sid:?}"))?;
        let feed = if report.eq_ignore_ascii_case("clicks") {
            Feed::Clicks
        } else {
            catalogue::find(account.persona, report).ok_or_else(|| format!("no report {report:?} for {sid}"))?.feed
        };
        let ask = Ask {
            feed,
            programs: program.parse().map(|program| vec![program]).unwrap_or_default(),
            from: Bound::Day(days.0),
            to: Some(Bound::Day(days.1)),
            statuses: statuses(params),
            toggles: toggles(params),
            format: Format::Csv,
        };
        Ok(self.data_request(account, &ask, at))
    }

    /// What the account sees of the named programs; of all its programs where none is named.
    fn streams(&self, account: &Account, programs: &[u64]) -> Vec<Arc<Stream>> {
        // Brand and agency see the same actions; each partner has its own.
        let viewer = if account.persona == Persona::Partner { number_of(&account.sid) } else { 0 };
        account
            .programs
            .iter()
            .zip(1..)
            .filter(|((id, _), _)| programs.is_empty() || programs.contains(id))
            .map(|((id, name), rank)| {
                let sized = |average: u32| match self.options.program_sizes {
                    ProgramSizes::Equal => average,
                    ProgramSizes::Ranked => average.div_ceil(rank),
                };
                Arc::new(Stream {
                    key: Dice::new(&[self.options.seed, viewer, *id]).next(),
                    program: *id,
                    program_name: name.clone(),
                    zone: account.time_zone,
                    currency: account.currency.clone(),
                    data_start: self.options.data_start,
                    actions_per_day: sized(self.options.actions_per_day),
                    clicks_per_day: sized(self.options.clicks_per_day),
                })
            })
            .collect()
    }
}

/// The statuses that a request lists.
pub fn statuses(params: &Params) -> Statuses {
    Statuses(params.all("SUPERSTATUS_MS").flat_map(|value| value.split(',')).map(str::to_owned).collect())
}

/// The columns that a request switches on.
pub fn toggles(params: &Params) -> Toggles {
    let on = |value: &str| value == "1" || value.eq_ignore_ascii_case("true");
    Toggles(
        params
            .0
            .iter()
            .filter(|(name, value)| name.to_uppercase().starts_with("SHOW_") && on(value))
            .map(|(name, _)| name.to_uppercase())
            .collect(),
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory for result files that goes when the world does.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn create() -> std::io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("impact-sandbox-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
