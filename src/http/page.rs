//! The status page: what is wrong first, then everything else. What is said here in words, the templates only set.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::HeaderMap;
use axum::response::Response;
use chrono::{DateTime, Utc};

use super::answer::{Time, VERSION, days, html, no_database, place_of, starting};
use super::calendar::{Shape, State as DayState};
use super::configuration::Readings;
use super::session::Visitor;
use super::snapshot::{Snapshot, Snapshots};
use super::{Face, Mirror};
use crate::error_chain::Chain;
use crate::figures::{ago, capitalized, counted, moment, sentence, thousands};
use crate::job::JobState;
use crate::job::mend::Mend;
use crate::pulse::Pulse;
use crate::store::by_hand::PausedByHand;
use crate::store::room::NoRoom;
use crate::store::status::{Freshness, JobLine, Quota};

/// Jobs in flight shown.
const SHOWN: usize = 20;
/// A bucket with less than this part left is nearly spent.
const NEARLY_SPENT: f64 = 0.1;

/// The status page, or why there is none.
pub(super) async fn status(State(face): State<Arc<Face>>, headers: HeaderMap) -> Response {
    let Some(Mirror { pool, pulse }) = face.mirror.get() else { return starting() };
    let readings = face.configuration.now();
    match Snapshots::shown(&face, &pool).await {
        Ok(snapshot) => {
            html(StatusCode::OK, &StatusPage::new(&snapshot, &pulse, &readings, Visitor::of(&face, &headers)))
        }
        Err(error) => no_database(Chain(&*error)),
    }
}

#[derive(Template)]
#[template(path = "status.html", config = "src/http/askama.toml")]
struct StatusPage<'a> {
    title: String,
    at: Time,
    mark: u64,
    troubles: Vec<Trouble>,
    exports: Vec<ExportRow<'a>>,
    jobs: Vec<JobRow<'a>>,
    open_count: i64,
    accounts: Vec<AccountBlock<'a>>,
    failures: Vec<FailureRow<'a>>,
    visitor: Visitor,
}

impl<'a> StatusPage<'a> {
    fn new(snapshot: &'a Snapshot, pulse: &Pulse, readings: &Readings, visitor: Visitor) -> Self {
        let mut troubles = troubles(snapshot, pulse);
        troubles.extend(of_configuration(readings));
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
            mark: readings.mark(snapshot.mark),
            troubles,
            exports: snapshot.freshness.iter().map(|one| ExportRow::new(one, snapshot)).collect(),
            jobs: open.into_iter().take(SHOWN).map(|job| JobRow::new(job, snapshot.at)).collect(),
            open_count: JobState::OPEN.iter().map(|state| snapshot.job_count(*state)).sum(),
            accounts: snapshot.accounts.iter().map(|name| AccountBlock::new(name, snapshot)).collect(),
            failures: snapshot.failed.iter().map(FailureRow::new).collect(),
            visitor,
        }
    }

    /// Open jobs that are not shown.
    fn more_jobs(&self) -> i64 {
        self.open_count - i64::try_from(self.jobs.len()).unwrap_or(i64::MAX)
    }
}

/// Something that is wrong, and what mends it.
struct Trouble {
    what: String,
    why: String,
    mend: String,
    command: Option<String>,
    /// The export whose page says more.
    export: Option<String>,
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
            export: None,
        })
        .collect();
    troubles.extend(pulse.no_room().map(|why| Trouble {
        what: "The database cannot be written, for its disk is full".to_owned(),
        why,
        mend: sentence(NoRoom::MEND),
        command: None,
        export: None,
    }));
    troubles.extend(snapshot.no_room.iter().map(|one| Trouble {
        what: capitalized(&one.words()),
        why: one.message.clone(),
        mend: sentence(NoRoom::MEND),
        command: None,
        export: None,
    }));
    troubles.extend((snapshot.late_files > 0).then(|| Trouble {
        what: "The archive does not take files".to_owned(),
        why: format!("In the spool: {}.", counted(snapshot.late_files, "file")),
        mend: "Look at archive.url and its credentials. To try it:".to_owned(),
        command: Some("impact-mirror check".to_owned()),
        export: None,
    }));
    troubles.extend(snapshot.paused.iter().map(|one| Trouble {
        what: format!("Account {} is paused since {}", one.account, moment(one.since)),
        why: one.reason.clone(),
        mend: format!(
            "Give accounts.{}.auth_token a valid token and reload the daemon's configuration, then:",
            one.account
        ),
        command: Some(format!("impact-mirror accounts resume {}", one.account)),
        export: None,
    }));
    troubles.extend(snapshot.paused_exports.iter().map(|one| Trouble {
        what: format!("{} may not be ordered on account {} since {}", one.export, one.account, moment(one.since)),
        why: one.reason.clone(),
        mend: "Give the credential the scope it lacks, then:".to_owned(),
        command: Some(format!("impact-mirror accounts resume {}", one.account)),
        export: Some(one.export.to_string()),
    }));
    troubles.extend(snapshot.by_hand.iter().map(by_hand));
    troubles.extend(snapshot.freshness.iter().filter(|one| one.is_stale).map(|one| Trouble {
        what: format!("{} is late", one.export),
        why: lateness(one),
        mend: String::new(),
        command: None,
        export: Some(one.export.clone()),
    }));
    troubles.extend(snapshot.freshness.iter().filter(|one| one.failed_cells > 0).map(|one| Trouble {
        what: format!("{} has {}", one.export, counted(one.failed_cells, "failed day")),
        why: "The last failures below say why.".to_owned(),
        mend: String::new(),
        command: None,
        export: Some(one.export.clone()),
    }));
    troubles.extend(snapshot.warnings.iter().map(|one| Trouble {
        what: format!("The rows of {} of {} {}", one.export, days(one.from_day, one.to_day), one.kind.fear()),
        why: format!("Load {}: {}.", one.load_id, one.words()),
        mend: "Loaded all the same. To read the days again:".to_owned(),
        command: Some(one.mend()),
        export: Some(one.export.clone()),
    }));
    troubles
}

/// What of the configuration's file is not in force.
fn of_configuration(readings: &Readings) -> Option<Trouble> {
    if let Some(why) = &readings.refusal {
        return Some(Trouble {
            what: format!("The configuration was refused; the one of {} stays in force", moment(readings.read_at)),
            why: why.clone(),
            mend: "Mend the file. To try it before it is reloaded:".to_owned(),
            command: Some("impact-mirror check".to_owned()),
            export: None,
        });
    }
    (!readings.for_restart.is_empty()).then(|| Trouble {
        what: "A part of the configuration waits for a restart".to_owned(),
        why: format!("Changed, and not to be changed while running: {}.", readings.for_restart.join(", ")),
        mend: "Restart the daemon, or take the change back.".to_owned(),
        command: None,
        export: None,
    })
}

fn by_hand(one: &PausedByHand) -> Trouble {
    let PausedByHand { kind, name, since, by } = one;
    Trouble {
        what: format!("{} {name} is paused by hand since {}", capitalized(kind), moment(*since)),
        why: format!("By {by}: nothing new is ordered, what is in flight goes on."),
        mend: "To go on:".to_owned(),
        command: Some(format!("impact-mirror {kind}s resume {name}")),
        export: (kind == "export").then(|| name.clone()),
    }
}

pub(super) fn lateness(one: &Freshness) -> String {
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
    is_paused: bool,
    rows: String,
    last_change: String,
    missing: String,
    failed: String,
    strip: Vec<Shape>,
    strip_width: usize,
    strip_words: String,
}

impl<'a> ExportRow<'a> {
    fn new(one: &'a Freshness, snapshot: &Snapshot) -> Self {
        let strip = snapshot.strips.get(&one.export);
        let table = snapshot.tables.iter().find(|table| table.export == one.export);
        let change = snapshot.last_changes.get(&one.export);
        Self {
            name: &one.export,
            latest_day: one.latest_day.map_or_else(|| "none yet".to_owned(), |day| day.to_string()),
            age: one.age_seconds.map_or_else(|| "never".to_owned(), |age| format!("{} ago", ago(age))),
            promised: ago(one.promised_seconds),
            is_stale: one.is_stale,
            is_paused: snapshot.by_hand.iter().any(|paused| paused.kind == "export" && paused.name == one.export),
            rows: table.map_or_else(|| "0".to_owned(), |table| thousands(table.rows)),
            last_change: change
                .map_or_else(|| "never".to_owned(), |at| format!("{} ago", ago((snapshot.at - *at).num_seconds()))),
            missing: thousands(one.missing_cells),
            failed: thousands(one.failed_cells),
            strip: strip.map(|days| days.strip(1)).unwrap_or_default(),
            strip_width: strip.map_or(1, |days| days.strip_width(1)),
            strip_words: strip.map_or_else(
                || "no days yet".to_owned(),
                |days| format!("{} to {}: {}", days.first, days.last(), days.words()),
            ),
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
            place: place_of(job),
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

/// An account, its buckets, and whether it goes on.
struct AccountBlock<'a> {
    name: &'a str,
    /// Why it makes no calls, or orders nothing.
    paused: Option<String>,
    buckets: Vec<QuotaRow<'a>>,
}

impl<'a> AccountBlock<'a> {
    fn new(name: &'a str, snapshot: &'a Snapshot) -> Self {
        let refused = snapshot.paused.iter().find(|one| one.account.as_str() == name);
        let by_hand = snapshot.by_hand.iter().find(|one| one.kind == "account" && one.name == name);
        let paused = refused
            .map(|one| format!("paused since {}: {}", moment(one.since), one.reason))
            .or_else(|| by_hand.map(|one| format!("paused by hand since {}, by {}", moment(one.since), one.by)));
        let buckets = snapshot.quota.iter().filter(|one| one.account == name).map(QuotaRow::new).collect();
        Self { name, paused, buckets }
    }
}

struct QuotaRow<'a> {
    bucket: &'a str,
    /// The gauge, of 100.
    used_width: f64,
    reserved_width: f64,
    is_nearly_spent: bool,
    limit: String,
    used: String,
    remaining: String,
    reserved: String,
    resets_at: Option<Time>,
}

impl<'a> QuotaRow<'a> {
    fn new(one: &'a Quota) -> Self {
        let limit = f64::from(one.limit.max(1));
        let part = |count: i32| (f64::from(count) * 1000.0 / limit).round() / 10.0;
        let used_width = part(one.used).clamp(0.0, 100.0);
        Self {
            bucket: &one.bucket,
            used_width,
            reserved_width: part(one.reserved).clamp(0.0, 100.0 - used_width),
            is_nearly_spent: f64::from(one.remaining) < limit * NEARLY_SPENT,
            limit: thousands(one.limit.into()),
            used: thousands(one.used.into()),
            remaining: thousands(one.remaining.into()),
            reserved: thousands(one.reserved.into()),
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
    mend: Option<Mend>,
}

impl<'a> FailureRow<'a> {
    fn new(job: &'a JobLine) -> Self {
        Self {
            id: job.id,
            export: &job.export,
            place: place_of(job),
            days: days(job.from_day, job.to_day),
            message: job.error_message.as_deref().unwrap_or("no reason was kept"),
            at: job.finished_at.map(Time),
            mend: job.mend(),
        }
    }
}
