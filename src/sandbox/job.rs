//! A job of impact.com, how it looks to its owner, and the memory of all jobs.

use std::collections::HashMap;
use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use super::behaviour::Behaviours;
use super::data::request::{Bound, Feed, Statuses, Toggles};
use super::data::table::Format;
use super::data::zone::write_time;
use super::options::Persona;

/// The two kinds of jobs that the sandbox runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    /// A report export.
    ApiReport,
    /// A click export.
    ClickExport,
}

impl JobKind {
    /// The `Type` of the job.
    pub fn word(self) -> &'static str {
        match self {
            Self::ApiReport => "ApiReport",
            Self::ClickExport => "ClickExport",
        }
    }
}

/// The states of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobStatus {
    /// Waiting.
    Queued,
    /// At work.
    Running,
    /// The file is ready.
    Completed,
    /// Ended by the staff of impact.com.
    Cancelled,
    /// Failed, perhaps to be tried again.
    Error,
    /// Failed for good.
    Failed,
}

impl JobStatus {
    /// impact.com's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Cancelled => "CANCELLED",
            Self::Error => "ERROR",
            Self::Failed => "FAILED",
        }
    }

    /// Whether the job waits or works.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

/// The stored parameters of a job.
#[derive(Debug, Clone)]
pub struct Ask {
    /// What is exported.
    pub feed: Feed,
    /// The programs.
    pub programs: Vec<u64>,
    /// The start of the window.
    pub from: Bound,
    /// The end of the window, where one was given.
    pub to: Option<Bound>,
    /// The statuses of a listing.
    pub statuses: Statuses,
    /// The columns that were switched on.
    pub toggles: Toggles,
    /// The format of the file.
    pub format: Format,
}

/// A result on disk.
#[derive(Debug, Clone)]
pub struct ResultFile {
    /// Where it is.
    pub path: PathBuf,
    /// Which run of the job made it.
    pub run: u32,
    /// Its format.
    pub format: Format,
    /// Whether it is compressed.
    pub gzip: bool,
}

/// A job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub sid: String,
    /// What it is.
    pub kind: JobKind,
    /// The program it is narrowed to, or nothing.
    pub program: String,
    /// What it does.
    pub ask: Ask,
    /// When it was first scheduled.
    pub created_at: DateTime<Utc>,
    /// Its last start.
    pub started_at: Option<DateTime<Utc>>,
    /// Its last success.
    pub completed_at: Option<DateTime<Utc>>,
    /// Its last cancellation.
    pub cancelled_at: Option<DateTime<Utc>>,
    /// Its last failure.
    pub failed_at: Option<DateTime<Utc>>,
    /// Its last sign of life.
    pub progress_at: Option<DateTime<Utc>>,
    /// Where it stands.
    pub status: JobStatus,
    /// What it says about that.
    pub message: String,
    /// Rows so far.
    pub records: u64,
    /// How far it is.
    pub percent: u32,
    /// The result of the last run that worked.
    pub file: Option<ResultFile>,
    /// Whether the result is gone before its time.
    pub expired: bool,
    /// How many times it was started.
    pub runs: u32,
    /// Reads that will still show an older version of it.
    pub stale: Option<(u32, Value)>,
}

impl Job {
    /// A job that has just been scheduled.
    pub fn new(id: String, sid: &str, kind: JobKind, program: String, ask: Ask, now: DateTime<Utc>) -> Self {
        Self {
            id,
            sid: sid.to_owned(),
            kind,
            program,
            ask,
            created_at: now,
            started_at: None,
            completed_at: None,
            cancelled_at: None,
            failed_at: None,
            progress_at: None,
            status: JobStatus::Queued,
            message: String::new(),
            records: 0,
            percent: 0,
            file: None,
            expired: false,
            runs: 1,
            stale: None,
        }
    }

    /// When it ended last, however it did.
    pub fn last_end(&self) -> Option<DateTime<Utc>> {
        self.completed_at.max(self.failed_at).max(self.cancelled_at)
    }

    /// The end of the result's life; nothing where it lasts.
    pub fn is_expired(&self, behaviours: &Behaviours, now: DateTime<Utc>) -> bool {
        let life = match behaviours.get("retention") {
            "90d" => TimeDelta::days(90),
            "short" => TimeDelta::hours(1),
            _ => TimeDelta::MAX,
        };
        self.expired || self.completed_at.is_some_and(|at| now - at > life)
    }

    /// The path of the job, with the persona in front.
    pub fn uri(&self, persona: Persona) -> String {
        format!("/{}/{}/Jobs/{}", persona.segment(), self.sid, self.id)
    }

    /// The job object.
    pub fn to_json(&self, persona: Persona, behaviours: &Behaviours) -> Value {
        let native = behaviours.is("job_values", "native");
        let number = |number: u64| if native { json!(number) } else { json!(number.to_string()) };
        let replayable = persona != Persona::Agency || !self.status.is_active();
        let result_uri =
            if self.status == JobStatus::Completed { self.uri(persona) + "/Download" } else { String::new() };
        let mut object = Map::new();
        let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
        put("Id", json!(self.id));
        put("Type", json!(self.kind.word()));
        put("ProgramId", json!(self.program));
        put("CreatedBy", json!(self.sid));
        put("CreatedDate", json!(server_time(self.created_at)));
        put("Status", json!(self.status.word()));
        put("StatusMessage", json!(self.message));
        put("RecordsProcessed", number(self.records));
        put("PercentageComplete", number(u64::from(self.percent)));
        put("Replayable", if native { json!(replayable) } else { json!(replayable.to_string()) });
        put("ResultUri", json!(result_uri));
        let dates = [
            ("StartedDate", self.started_at),
            ("CompletedDate", self.completed_at),
            ("AbandonedDate", None),
            ("CancelledDate", self.cancelled_at),
            ("FailedDate", self.failed_at),
            ("LastProgressUpdateDate", self.progress_at),
        ];
        for (index, (name, at)) in dates.into_iter().enumerate() {
            let mixed = behaviours.is("unset_dates", "mix");
            match at {
                Some(at) => put(name, json!(server_time(at))),
                None if mixed && index % 3 == 0 => None,
                None if mixed && index % 3 == 1 => put(name, Value::Null),
                None if !mixed && persona == Persona::Brand => put(name, Value::Null),
                None => put(name, json!("")),
            };
        }
        Value::Object(object)
    }
}

/// Times of jobs carry the offset of impact.com's servers, whatever the account's zone is.
fn server_time(at: DateTime<Utc>) -> String {
    let mut text = String::new();
    write_time(chrono_tz::America::Los_Angeles, at, &mut text);
    text
}

/// All jobs, in the order of their making, and the submissions that led to them.
#[derive(Debug, Default)]
pub struct Jobs {
    all: Vec<Job>,
    by_id: HashMap<String, usize>,
    by_request: HashMap<String, (String, DateTime<Utc>)>,
}

impl Jobs {
    /// Adds a job.
    pub fn add(&mut self, job: Job) {
        self.by_id.insert(job.id.clone(), self.all.len());
        self.all.push(job);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// The oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.all.iter()
    }

    /// A job.
    pub fn get(&self, id: &str) -> Option<&Job> {
        self.by_id.get(id).and_then(|index| self.all.get(*index))
    }

    /// A job, to be changed.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Job> {
        self.by_id.get(id).and_then(|index| self.all.get_mut(*index))
    }

    /// The job that a submission led to, and when that was.
    pub fn of_request(&self, key: &str) -> Option<(&Job, DateTime<Utc>)> {
        let (id, at) = self.by_request.get(key)?;
        Some((self.get(id)?, *at))
    }

    /// Remembers what a submission led to.
    pub fn remember(&mut self, key: String, id: String, now: DateTime<Utc>) {
        self.by_request.insert(key, (id, now));
    }

    /// Makes a new job the answer to the submissions that led to an old one.
    pub fn succeed(&mut self, old: &str, new: &str) {
        for (id, _) in self.by_request.values_mut().filter(|(id, _)| id == old) {
            new.clone_into(id);
        }
    }
}
