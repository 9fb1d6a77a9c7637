//! What all pages have in common: how they are answered, and how times, days and counts are said.

use askama::Template;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, NaiveDate, Utc};

use super::session::Visitor;
use crate::figures::moment;
use crate::store::status::JobLine;

/// The version, for the heading and the address of style sheet and script.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Sets a page.
pub(super) fn html(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => (status, [(CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot set a page");
            (StatusCode::INTERNAL_SERVER_ERROR, "the page cannot be set\n").into_response()
        }
    }
}

/// A page that says one thing.
#[derive(Template)]
#[template(path = "message.html", config = "src/http/askama.toml")]
pub(super) struct Message<'a> {
    pub title: &'a str,
    pub text: &'a str,
    pub refreshes: bool,
    visitor: Visitor,
}

impl<'a> Message<'a> {
    pub fn new(title: &'a str, text: &'a str) -> Self {
        Self { title, text, refreshes: false, visitor: Visitor::ReadOnly }
    }

    pub fn answer(&self, status: StatusCode) -> Response {
        html(status, self)
    }
}

/// For addresses that do not exist.
pub(super) async fn not_found() -> Response {
    Message::new("Not found", "There is nothing at this address: no such export, job or load, or not any more.")
        .answer(StatusCode::NOT_FOUND)
}

/// For methods other than those that the address has.
pub(super) async fn not_allowed() -> Response {
    let text = "This address does not answer that method.";
    Message::new("Method not allowed", text).answer(StatusCode::METHOD_NOT_ALLOWED)
}

/// While there is nothing to show yet.
pub(super) fn starting() -> Response {
    let text =
        "The daemon is starting, or waits for its database. If it stays so, its log and `impact-mirror check` say why.";
    Message { refreshes: true, ..Message::new("Starting", text) }.answer(StatusCode::SERVICE_UNAVAILABLE)
}

/// Where the database says nothing.
pub(super) fn no_database(why: impl std::fmt::Display) -> Response {
    let text = &format!(
        "What is mirrored cannot be told: {why}. The page comes back with the database; `impact-mirror check` tries it."
    );
    Message { refreshes: true, ..Message::new("No database", text) }.answer(StatusCode::SERVICE_UNAVAILABLE)
}

/// A time, for people and for machines.
pub(super) struct Time(pub DateTime<Utc>);

impl Time {
    pub fn shown(&self) -> String {
        moment(self.0)
    }

    pub fn machine(&self) -> String {
        self.0.format("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

/// The account, with the program where there is one.
pub(super) fn place(account: &str, program: &str) -> String {
    if program.is_empty() { account.to_owned() } else { format!("{account} / {program}") }
}

/// That of a job.
pub(super) fn place_of(job: &JobLine) -> String {
    place(&job.account, &job.program)
}

pub(super) fn days(from: NaiveDate, to: NaiveDate) -> String {
    if from == to { from.to_string() } else { format!("{from} to {to}") }
}
