//! The page of an export: why it is late, the calendar of all its days, its programs, its jobs.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use sqlx::{Connection, PgPool};

use super::answer::{Time, VERSION, days, html, no_database, not_found, place, place_of, starting};
use super::calendar::{self, Days, Shape, State as DayState, Year};
use super::job_page::JobBrief;
use super::late::{self, Reason};
use super::page::lateness;
use super::session::Visitor;
use super::snapshot::{Snapshot, Snapshots};
use super::{Face, Mirror};
use crate::error_chain::Chain;
use crate::export::ExportName;
use crate::figures::{ago, thousands};
use crate::job::JobId;
use crate::store::behind::{self, Behind, Facts};
use crate::store::calendar::{FeedDays, Run};
use crate::store::status::{self, Freshness, JobFilter, JobLine};
use crate::store::{self, audit, by_hand, calendar as cells};

/// Feeds that are behind of which the page says why.
const BEHIND: i64 = 5;
/// Jobs shown.
const JOBS: i64 = 20;
/// Runs of days that are not loaded, in words.
const OPEN_RUNS: usize = 20;
/// Days of a step of a program's strip: a week.
const STEP: usize = 7;

/// What a page may be asked for besides its path.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    account: Option<String>,
    program: Option<String>,
    /// The audit's line of what was just done.
    pub done: Option<i64>,
}

/// The page of an export.
pub(super) async fn export(
    State(face): State<Arc<Face>>,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Response {
    let Some(Mirror { pool, .. }) = face.mirror.get() else { return starting() };
    let snapshot = match Snapshots::shown(&face, &pool).await {
        Ok(snapshot) => snapshot,
        Err(error) => return no_database(Chain(&*error)),
    };
    let visitor = Visitor::of(&face, &headers);
    match Known::read(&pool, &ExportName::new(&name), wanted.done.filter(|_| visitor.form_token().is_some())).await {
        Ok(Some(known)) => {
            let mark = face.configuration.now().mark(snapshot.mark);
            html(StatusCode::OK, &ExportPage { mark, ..ExportPage::new(&name, &wanted, &known, &snapshot, visitor) })
        }
        Ok(None) => not_found().await,
        Err(error) => no_database(Chain(&error)),
    }
}

/// What the database knows of an export.
struct Known {
    facts: Facts,
    feeds: Vec<FeedDays>,
    runs: Vec<Run>,
    behind: Vec<Behind>,
    jobs: Vec<JobLine>,
    /// Jobs that the reasons are about.
    named: Vec<JobLine>,
    askable: Option<(chrono::NaiveDate, chrono::NaiveDate)>,
    done: Option<String>,
}

impl Known {
    async fn read(pool: &PgPool, export: &ExportName, done: Option<i64>) -> Result<Option<Self>, store::Error> {
        let mut conn = pool.acquire().await.map_err(store::failed("get a connection"))?;
        let mut tx = conn
            .begin_with("begin isolation level repeatable read, read only")
            .await
            .map_err(store::failed("begin"))?;
        let Some(facts) = behind::facts(&mut tx, export).await? else { return Ok(None) };
        let behind = behind::behind(&mut tx, export, BEHIND).await?;
        let of_export = JobFilter { export: Some(export.to_string()), limit: JOBS, ..JobFilter::default() };
        let mut named = Vec::new();
        let mut ids: Vec<i64> = Vec::new();
        for one in &behind {
            ids.extend(one.open_job);
            ids.extend(one.failed_job);
        }
        for id in ids {
            let one = JobFilter { id: Some(JobId(id)), limit: 1, ..JobFilter::default() };
            named.extend(status::jobs(&mut tx, &one).await?);
        }
        let known = Self {
            feeds: cells::feeds(&mut tx, Some(export)).await?,
            runs: cells::runs(&mut tx, export).await?,
            jobs: status::jobs(&mut tx, &of_export).await?,
            askable: by_hand::askable(&mut tx, export).await?,
            done: match done {
                Some(id) => audit::result(&mut tx, id).await?,
                None => None,
            },
            facts,
            behind,
            named,
        };
        tx.rollback().await.map_err(store::failed("end a transaction"))?;
        Ok(Some(known))
    }
}

#[derive(Template)]
#[template(path = "export.html", config = "src/http/askama.toml")]
struct ExportPage<'a> {
    name: &'a str,
    at: Time,
    mark: u64,
    table_name: &'a str,
    freshness: Option<&'a Freshness>,
    rows: String,
    last_change: String,
    paused: Option<String>,
    is_paused: bool,
    reasons: Vec<Reason>,
    /// The program that the calendar is narrowed to.
    selected: Option<String>,
    years: Vec<Year>,
    words: String,
    open_runs: Vec<String>,
    programs: Vec<ProgramRow<'a>>,
    jobs: Vec<JobBrief<'a>>,
    first_day: String,
    last_day: String,
    done: Option<&'a str>,
    visitor: Visitor,
}

struct ProgramRow<'a> {
    feed: &'a FeedDays,
    place: String,
    is_selected: bool,
    strip: Vec<Shape>,
    width: usize,
    words: String,
}

impl<'a> ExportPage<'a> {
    fn new(name: &'a str, wanted: &Wanted, known: &'a Known, snapshot: &'a Snapshot, visitor: Visitor) -> Self {
        let by_feed = calendar::by_feed(&known.feeds, &known.runs);
        let is_wanted = |feed: &FeedDays| {
            wanted.program.as_ref().is_some_and(|program| *program == feed.program)
                && wanted.account.as_ref().is_none_or(|account| *account == feed.account)
        };
        let selected = by_feed.iter().find(|(feed, _)| is_wanted(feed));
        let all = match selected {
            Some((_, days)) => Some(days.clone()),
            None => calendar::worst(by_feed.iter().map(|(_, days)| days)),
        };
        let range = calendar::worst(by_feed.iter().map(|(_, days)| days)).map(|days| (days.first, days.last()));
        let programs = by_feed.iter().map(|(feed, days)| ProgramRow::new(feed, days, range, is_wanted(feed))).collect();
        let freshness = snapshot.freshness.iter().find(|one| one.export == name);
        let by_hand = snapshot.by_hand.iter().find(|one| one.kind == "export" && one.name == name);
        let reasons = late::why(name, &known.facts, &known.behind, &known.named, snapshot);
        let runs = all.as_ref().map(Days::open_runs).unwrap_or_default();
        let rows = snapshot.tables.iter().find(|table| table.export == name).map_or(0, |table| table.rows);
        let day = |day: Option<chrono::NaiveDate>| day.map(|day| day.to_string()).unwrap_or_default();
        Self {
            name,
            at: Time(snapshot.at),
            mark: snapshot.mark,
            table_name: &known.facts.table_name,
            freshness,
            rows: thousands(rows),
            last_change: known
                .facts
                .last_change_at
                .map_or_else(|| "never".to_owned(), |at| format!("{} ago", ago((snapshot.at - at).num_seconds()))),
            paused: by_hand.map(|one| format!("Paused by hand since {}, by {}.", Time(one.since).shown(), one.by)),
            is_paused: by_hand.is_some(),
            reasons,
            selected: selected.map(|(feed, _)| place(&feed.account, &feed.program)),
            words: all.as_ref().map_or_else(|| "no days yet".to_owned(), Days::words),
            years: all.as_ref().map(Days::years).unwrap_or_default(),
            open_runs: runs
                .iter()
                .take(OPEN_RUNS)
                .map(|(from, to, state)| format!("{}: {}", days(*from, *to), state.words()))
                .chain((runs.len() > OPEN_RUNS).then(|| format!("… and {} more", runs.len() - OPEN_RUNS)))
                .collect(),
            programs,
            jobs: known.jobs.iter().map(|job| JobBrief::new(job, snapshot.at)).collect(),
            first_day: day(known.askable.map(|(first, _)| first)),
            last_day: day(known.askable.map(|(_, last)| last)),
            done: known.done.as_deref(),
            visitor,
        }
    }

    /// The state in a word.
    fn state(&self) -> &'static str {
        match self.freshness {
            Some(one) if one.is_stale => "late",
            Some(_) => "fresh",
            None => "unknown yet",
        }
    }

    fn is_late(&self) -> bool {
        self.freshness.is_some_and(|one| one.is_stale)
    }

    fn lateness(&self) -> String {
        self.freshness.map(lateness).unwrap_or_default()
    }

    fn latest_day(&self) -> String {
        let day = self.freshness.and_then(|one| one.latest_day);
        day.map_or_else(|| "none yet".to_owned(), |day| day.to_string())
    }

    fn age(&self) -> String {
        let age = self.freshness.and_then(|one| one.age_seconds);
        age.map_or_else(|| "never".to_owned(), |age| format!("{} ago", ago(age)))
    }

    fn promised(&self) -> String {
        self.freshness.map(|one| ago(one.promised_seconds)).unwrap_or_default()
    }
}

impl<'a> ProgramRow<'a> {
    fn new(
        feed: &'a FeedDays,
        days: &Days,
        range: Option<(chrono::NaiveDate, chrono::NaiveDate)>,
        is_selected: bool,
    ) -> Self {
        // All strips begin on the same day, so that they can be compared.
        let days_of_all = range.map_or_else(|| days.clone(), |(first, last)| days.within(first, last));
        Self {
            feed,
            place: place(&feed.account, &feed.program),
            is_selected,
            strip: days_of_all.strip(STEP),
            width: days_of_all.strip_width(STEP),
            words: days.words(),
        }
    }
}

impl JobBrief<'_> {
    /// Where it belongs.
    pub fn place(&self) -> String {
        place_of(self.job)
    }
}
