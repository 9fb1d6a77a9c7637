//! The page of a job (what it asked for, its events, its load) and that of a load (what it changed, which rows were rejected).

use std::fmt::Write as _;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::HeaderMap;
use axum::response::Response;
use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::answer::{Time, VERSION, days, html, no_database, not_found, place, place_of, starting};
use super::export_page::Wanted;
use super::session::Visitor;
use super::{Face, Mirror};
use crate::error_chain::Chain;
use crate::figures::{ago, thousands};
use crate::job::{JobId, JobState};
use crate::store::detail::{self, Load, Rejected, Request, Restated};
use crate::store::status::{self, JobEvent, JobFilter, JobLine};
use crate::store::{self, audit};

/// Rejected rows shown.
const REJECTED: i64 = 100;

/// A job in a line of a table.
pub(super) struct JobBrief<'a> {
    pub job: &'a JobLine,
    pub days: String,
    pub age: String,
    pub rows: String,
}

impl<'a> JobBrief<'a> {
    pub fn new(job: &'a JobLine, now: DateTime<Utc>) -> Self {
        let at = job.finished_at.or(job.submitted_at).unwrap_or(job.created_at);
        Self {
            job,
            days: days(job.from_day, job.to_day),
            age: format!("{} ago", ago((now - at).num_seconds())),
            rows: job.rows_read.map(thousands).unwrap_or_default(),
        }
    }
}

#[derive(Template)]
#[template(path = "job.html", config = "src/http/askama.toml")]
struct JobPage {
    job: JobLine,
    request: Request,
    /// The request, set for reading.
    request_text: String,
    events: Vec<EventLine>,
    load: Option<LoadView>,
    done: Option<String>,
    visitor: Visitor,
}

impl JobPage {
    async fn read(pool: &PgPool, id: i64, done: Option<i64>, visitor: Visitor) -> Result<Option<Self>, store::Error> {
        let mut conn = pool.acquire().await.map_err(store::failed("get a connection"))?;
        let id = JobId(id);
        let filter = JobFilter { id: Some(id), limit: 1, ..JobFilter::default() };
        let (Some(job), Some(request)) =
            (status::jobs(&mut conn, &filter).await?.pop(), detail::request(&mut conn, id).await?)
        else {
            return Ok(None);
        };
        let load = match request.load_id {
            Some(load_id) => LoadView::read(&mut conn, load_id).await?,
            None => None,
        };
        Ok(Some(Self {
            request_text: serde_json::to_string_pretty(&request.request).unwrap_or_default(),
            events: timeline(status::job_events(&mut conn, id).await?),
            done: match done {
                Some(id) => audit::result(&mut conn, id).await?,
                None => None,
            },
            job,
            request,
            load,
            visitor,
        }))
    }

    fn days(&self) -> String {
        days(self.job.from_day, self.job.to_day)
    }

    fn place(&self) -> String {
        place_of(&self.job)
    }

    fn is_open(&self) -> bool {
        self.job.finished_at.is_none()
    }

    fn is_failed(&self) -> bool {
        self.job.state == JobState::Failed.as_str()
    }

    /// When it is worked on next, and which try that is.
    fn next_step(&self) -> String {
        format!("{}, try {}", Time(self.job.run_at).shown(), self.job.attempts + 1)
    }

    fn wanted_after(&self) -> Time {
        Time(self.request.wanted_after)
    }

    /// What impact.com says of it.
    fn remote(&self) -> String {
        let mut text = self.job.remote_status.clone().unwrap_or_else(|| "nothing yet".to_owned());
        if let Some(percent) = self.job.remote_percent {
            let _ = write!(text, ", {percent:.0} %");
        }
        text
    }
}

/// An event, with how long it was after the one before.
struct EventLine {
    at: Time,
    pause: String,
    event: JobEvent,
}

fn timeline(events: Vec<JobEvent>) -> Vec<EventLine> {
    let mut before: Option<DateTime<Utc>> = None;
    let line = |event: JobEvent| {
        let pause = before.map(|before| format!("+{}", ago((event.at - before).num_seconds()))).unwrap_or_default();
        before = Some(event.at);
        EventLine { at: Time(event.at), pause, event }
    };
    events.into_iter().map(line).collect()
}

/// The page of a job.
pub(super) async fn job(
    State(face): State<Arc<Face>>,
    Path(id): Path<i64>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Response {
    let Some(Mirror { pool, .. }) = face.mirror.get() else { return starting() };
    let visitor = Visitor::of(&face, &headers);
    let done = wanted.done.filter(|_| visitor.form_token().is_some());
    match JobPage::read(&pool, id, done, visitor).await {
        Ok(Some(page)) => html(StatusCode::OK, &page),
        Ok(None) => not_found().await,
        Err(error) => no_database(Chain(&error)),
    }
}

/// A load and what it changed.
struct LoadView {
    load: Load,
    restated: Vec<Restated>,
}

impl LoadView {
    async fn read(conn: &mut sqlx::PgConnection, id: i64) -> Result<Option<Self>, store::Error> {
        let Some(load) = detail::load(conn, id).await? else { return Ok(None) };
        Ok(Some(Self { restated: detail::restated(conn, id).await?, load }))
    }

    /// What became of the rows, as pairs.
    fn figures(&self) -> [(&'static str, String); 6] {
        [
            ("read", thousands(self.load.rows_read)),
            ("inserted", thousands(self.load.rows_inserted)),
            ("updated", thousands(self.load.rows_updated)),
            ("deleted", thousands(self.load.rows_deleted)),
            ("unchanged", thousands(self.load.rows_unchanged)),
            ("rejected", thousands(self.load.rows_rejected)),
        ]
    }

    fn told(&self) -> String {
        self.load.records_processed.map_or_else(|| "did not say".to_owned(), thousands)
    }

    fn took(&self) -> String {
        let milliseconds = (self.load.committed_at - self.load.started_at).num_milliseconds();
        format!("{}.{:02} s", milliseconds / 1000, milliseconds % 1000 / 10)
    }

    fn sha256(&self) -> String {
        self.load.file_sha256.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    fn bytes(&self) -> String {
        thousands(self.load.file_bytes)
    }

    fn days(&self) -> String {
        days(self.load.from_day, self.load.to_day)
    }

    fn place(&self) -> String {
        place(&self.load.account, &self.load.program)
    }

    fn committed(&self) -> Time {
        Time(self.load.committed_at)
    }
}

#[derive(Template)]
#[template(path = "load.html", config = "src/http/askama.toml")]
struct LoadPage {
    load: LoadView,
    rejected: Vec<Rejected>,
    visitor: Visitor,
}

impl LoadPage {
    async fn read(pool: &PgPool, id: i64, visitor: Visitor) -> Result<Option<Self>, store::Error> {
        let mut conn = pool.acquire().await.map_err(store::failed("get a connection"))?;
        let Some(load) = LoadView::read(&mut conn, id).await? else { return Ok(None) };
        Ok(Some(Self { load, rejected: detail::rejected(&mut conn, id, REJECTED).await?, visitor }))
    }

    fn more_rejected(&self) -> String {
        let shown = i64::try_from(self.rejected.len()).unwrap_or(i64::MAX);
        let more = self.load.load.rows_rejected - shown;
        if more > 0 { thousands(more) } else { String::new() }
    }
}

/// The page of a load.
pub(super) async fn load(State(face): State<Arc<Face>>, Path(id): Path<i64>, headers: HeaderMap) -> Response {
    let Some(Mirror { pool, .. }) = face.mirror.get() else { return starting() };
    match LoadPage::read(&pool, id, Visitor::of(&face, &headers)).await {
        Ok(Some(page)) => html(StatusCode::OK, &page),
        Ok(None) => not_found().await,
        Err(error) => no_database(Chain(&error)),
    }
}
