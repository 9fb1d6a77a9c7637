//! The status page: what is wrong first, then everything else. What is said here in words, the templates only set.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, NaiveDate, Utc};

use super::snapshot::Snapshot;
use super::{Face, Mirror};
use crate::error_chain::Chain;
use crate::figures::{ago, moment, thousands};
use crate::job::JobState;
use crate::pulse::Pulse;
use crate::store::room::NoRoom;
use crate::store::status::{Freshness, JobLine, Quota, TableLine};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Jobs in flight shown.
const SHOWN: usize = 20;
/// A bucket with less than this part left is nearly spent.
const NEARLY_SPENT: f64 = 0.1;

/// The status page, or why there is none.
pub(super) async fn status(State(face): State<Arc<Face>>) -> Response {
    let Some(Mirror { pool, pulse }) = face.mirror.get() else {
        let text = "The daemon is starting, or waits for its database.";
        return Message { title: "Starting", text, refreshes: true }.answer(StatusCode::SERVICE_UNAVAILABLE);
    };
    match face.snapshots.get(pool).await {
        Ok(snapshot) => html(StatusCode::OK, &StatusPage::new(&snapshot, pulse)),
        Err(error) => {
            let text = &format!("What is mirrored cannot be told: {}.", Chain(&*error));
            Message { title: "No database", text, refreshes: true }.answer(StatusCode::SERVICE_UNAVAILABLE)
        }
    }
}

/// For addresses that do not exist.
pub(super) async fn not_found() -> Response {
    let text = "There is nothing at this address.";
    Message { title: "Not found", text, refreshes: false }.answer(StatusCode::NOT_FOUND)
}

/// For methods other than GET and HEAD.
pub(super) async fn not_allowed() -> Response {
    let text = "This address answers GET and HEAD only.";
    Message { title: "Method not allowed", text, refreshes: false }.answer(StatusCode::METHOD_NOT_ALLOWED)
}

fn html(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => (status, [(CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot set a page");
            (StatusCode::INTERNAL_SERVER_ERROR, "the page cannot be set\n").into_response()
        }
    }
}

#[derive(Template)]
#[template(path = "message.html", config = "src/http/askama.toml")]
struct Message<'a> {
    title: &'a str,
    text: &'a str,
    refreshes: bool,
}

impl Message<'_> {
    fn answer(&self, status: StatusCode) -> Response {
        html(status, self)
    }
}

#[derive(Template)]
#[template(path = "status.html", config = "src/http/askama.toml")]
struct StatusPage<'a> {
    title: String,
    at: Time,
    troubles: Vec<Trouble>,
    exports: Vec<ExportRow<'a>>,
    jobs: Vec<JobRow<'a>>,
    open_count: i64,
    quota: Vec<QuotaRow<'a>>,
    failures: Vec<FailureRow<'a>>,
    tables: Vec<TableRow<'a>>,
}

impl<'a> StatusPage<'a> {
    fn new(snapshot: &'a Snapshot, pulse: &Pulse) -> Self {
        let troubles = troubles(snapshot, pulse);
        let title = match troubles.len() {
            0 => "all is well".to_owned(),
            1 => "1 thing is wrong".to_owned(),
            count => format!("{count} things are wrong"),
        };
        let mut open: Vec<&JobLine> = snapshot.open.iter().collect();
        open.sort_by_key(|job| std::cmp::Reverse(progress(job)));
        Self {
            title,
            at: Time(snapshot.at),
            troubles,
            exports: snapshot.freshness.iter().map(ExportRow::new).collect(),
            jobs: open.into_iter().take(SHOWN).map(|job| JobRow::new(job, snapshot.at)).collect(),
            open_count: JobState::OPEN.iter().map(|state| snapshot.job_count(*state)).sum(),
            quota: snapshot.quota.iter().map(QuotaRow::new).collect(),
            failures: snapshot.failed.iter().map(FailureRow::new).collect(),
            tables: snapshot.tables.iter().map(TableRow::new).collect(),
        }
    }

    /// Open jobs that are not shown.
    fn more_jobs(&self) -> i64 {
        self.open_count - i64::try_from(self.jobs.len()).unwrap_or(i64::MAX)
    }
}

/// A time, for people and for machines.
struct Time(DateTime<Utc>);

impl Time {
    fn shown(&self) -> String {
        moment(self.0)
    }

    fn machine(&self) -> String {
        self.0.format("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

/// Something that is wrong, and what mends it.
struct Trouble {
    what: String,
    why: String,
    mend: String,
    command: Option<String>,
}

fn troubles(snapshot: &Snapshot, pulse: &Pulse) -> Vec<Trouble> {
    let mut troubles: Vec<Trouble> = pulse
        .late(Instant::now())
        .iter()
        .map(|late| Trouble {
            what: "The engine does not go round".to_owned(),
            why: late.to_string(),
            mend: "Look into the log, then restart the daemon.".to_owned(),
            command: None,
        })
        .collect();
    troubles.extend(pulse.no_room().map(|why| Trouble {
        what: "The database cannot be written, for its disk is full".to_owned(),
        why,
        mend: sentence(NoRoom::MEND),
        command: None,
    }));
    troubles.extend(snapshot.no_room.iter().map(|one| Trouble {
        what: capitalized(&one.words()),
        why: one.message.clone(),
        mend: sentence(NoRoom::MEND),
        command: None,
    }));
    troubles.extend(snapshot.paused.iter().map(|one| Trouble {
        what: format!("Account {} is paused since {}", one.account, moment(one.since)),
        why: one.reason.clone(),
        mend: "Mend the credential, then:".to_owned(),
        command: Some(format!("impact-mirror accounts resume {}", one.account)),
    }));
    troubles.extend(snapshot.paused_exports.iter().map(|one| Trouble {
        what: format!("{} may not be ordered on account {} since {}", one.export, one.account, moment(one.since)),
        why: one.reason.clone(),
        mend: "Give the credential the scope it lacks, then:".to_owned(),
        command: Some(format!("impact-mirror accounts resume {}", one.account)),
    }));
    troubles.extend(snapshot.freshness.iter().filter(|one| one.is_stale).map(|one| Trouble {
        what: format!("{} is late", one.export),
        why: lateness(one),
        mend: "What it waits for:".to_owned(),
        command: Some(format!("impact-mirror plan --export {}", one.export)),
    }));
    troubles.extend(snapshot.freshness.iter().filter(|one| one.failed_cells > 0).map(|one| Trouble {
        what: format!("{} has {}", one.export, counted(one.failed_cells, "failed day")),
        why: "The last failures below say why.".to_owned(),
        mend: String::new(),
        command: None,
    }));
    troubles.extend(snapshot.warnings.iter().map(|one| Trouble {
        what: format!("The rows of {} of {} {}", one.export, days(one.from_day, one.to_day), one.kind.fear()),
        why: format!("Load {}: {}.", one.load_id, one.words()),
        mend: "Loaded all the same. To read the days again:".to_owned(),
        command: Some(one.mend()),
    }));
    troubles
}

fn capitalized(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn sentence(words: &str) -> String {
    capitalized(words) + "."
}

fn lateness(one: &Freshness) -> String {
    match (one.age_seconds, one.latest_day) {
        (Some(age), Some(day)) => {
            format!(
                "Complete to {day}, last asked for {} ago; promised within {}.",
                ago(age),
                ago(one.promised_seconds)
            )
        }
        _ => "There is no complete day yet, or some program has none.".to_owned(),
    }
}

struct ExportRow<'a> {
    name: &'a str,
    latest_day: String,
    age: String,
    promised: String,
    is_stale: bool,
    missing: String,
    failed: String,
}

impl<'a> ExportRow<'a> {
    fn new(one: &'a Freshness) -> Self {
        Self {
            name: &one.export,
            latest_day: one.latest_day.map_or_else(|| "none yet".to_owned(), |day| day.to_string()),
            age: one.age_seconds.map_or_else(|| "never".to_owned(), |age| format!("{} ago", ago(age))),
            promised: ago(one.promised_seconds),
            is_stale: one.is_stale,
            missing: thousands(one.missing_cells),
            failed: thousands(one.failed_cells),
        }
    }
}

struct JobRow<'a> {
    id: i64,
    export: &'a str,
    place: String,
    days: String,
    reason: &'a str,
    state: &'a str,
    /// impact.com's progress, while it works on the job.
    percent: Option<String>,
    since: String,
    /// What went wrong at the last try, if anything did.
    note: String,
}

impl<'a> JobRow<'a> {
    fn new(job: &'a JobLine, now: DateTime<Utc>) -> Self {
        let since = job.submitted_at.unwrap_or(job.created_at);
        let percent = job.remote_percent.filter(|_| job.state == JobState::Waiting.as_str());
        let mut note = String::new();
        if job.attempts > 1 || job.error_message.is_some() {
            let _ = write!(note, "try {}", job.attempts.max(1));
        }
        if let Some(message) = &job.error_message {
            let _ = write!(note, ": {message}");
        }
        Self {
            id: job.id,
            export: &job.export,
            place: place(job),
            days: days(job.from_day, job.to_day),
            reason: &job.reason,
            state: &job.state,
            percent: percent.map(|percent| format!("{:.0}", percent.clamp(0.0, 100.0))),
            since: format!("{} ago", ago((now - since).num_seconds())),
            note,
        }
    }
}

/// How far a job is, so that those at work come first.
fn progress(job: &JobLine) -> Option<usize> {
    JobState::ALL.iter().position(|state| state.as_str() == job.state)
}

struct QuotaRow<'a> {
    account: &'a str,
    bucket: &'a str,
    /// As bare numbers for the bar, and as people read them.
    limit: i32,
    used: i32,
    shown: QuotaFigures,
    /// From here on the bucket is nearly spent.
    high: f64,
    resets_at: Option<Time>,
}

struct QuotaFigures {
    limit: String,
    used: String,
    remaining: String,
    reserved: String,
}

impl<'a> QuotaRow<'a> {
    fn new(one: &'a Quota) -> Self {
        Self {
            account: &one.account,
            bucket: &one.bucket,
            limit: one.limit,
            used: one.used,
            shown: QuotaFigures {
                limit: thousands(one.limit.into()),
                used: thousands(one.used.into()),
                remaining: thousands(one.remaining.into()),
                reserved: thousands(one.reserved.into()),
            },
            high: (f64::from(one.limit) * (1.0 - NEARLY_SPENT)).floor(),
            resets_at: one.resets_at.map(Time),
        }
    }
}

struct FailureRow<'a> {
    id: i64,
    export: &'a str,
    place: String,
    days: String,
    message: &'a str,
    at: Option<Time>,
}

impl<'a> FailureRow<'a> {
    fn new(job: &'a JobLine) -> Self {
        Self {
            id: job.id,
            export: &job.export,
            place: place(job),
            days: days(job.from_day, job.to_day),
            message: job.error_message.as_deref().unwrap_or("no reason was kept"),
            at: job.finished_at.map(Time),
        }
    }
}

struct TableRow<'a> {
    name: &'a str,
    rows: String,
    days: String,
    rejected: String,
}

impl<'a> TableRow<'a> {
    fn new(one: &'a TableLine) -> Self {
        Self {
            name: &one.table_name,
            rows: thousands(one.rows),
            days: thousands(one.days),
            rejected: thousands(one.rejected),
        }
    }
}

/// The account, with the program where there is one.
fn place(job: &JobLine) -> String {
    if job.program.is_empty() { job.account.clone() } else { format!("{} / {}", job.account, job.program) }
}

fn days(from: NaiveDate, to: NaiveDate) -> String {
    if from == to { from.to_string() } else { format!("{from} to {to}") }
}

fn counted(count: i64, what: &str) -> String {
    format!("{} {what}{}", thousands(count), if count == 1 { "" } else { "s" })
}
