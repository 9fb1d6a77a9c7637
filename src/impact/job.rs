//! The remote job as impact.com tells it (impact-api §2.5).

use std::fmt;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::message::Cleaner;
use super::wire::Fields;
use crate::export::Program;

/// The longest id that we believe to be one.
const LONGEST_ID: usize = 128;

/// impact.com's id of a job, a UUID as far as seen (impact-api §2.5).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct RemoteJobId(String);

impl RemoteJobId {
    /// Wraps an id that came from the client or from our own tables.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// Takes a text from outside if it looks like an id.
    pub(super) fn plausible(text: &str) -> Option<Self> {
        let looks_like_one = text.len() <= LONGEST_ID
            && text.bytes().any(|byte| byte.is_ascii_alphanumeric())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        looks_like_one.then(|| Self(text.to_owned()))
    }

    /// The last path segment of a `QueuedUri` (impact-api §2.2).
    fn from_uri(uri: &str) -> Option<Self> {
        let path = uri.split(['?', '#']).next()?.trim_end_matches('/');
        Self::plausible(path.rsplit_once('/')?.1)
    }

    /// The bare id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RemoteJobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The status of a remote job (impact-api §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum RemoteStatus {
    /// Waiting for its turn.
    Queued,
    /// Being worked on.
    Running,
    /// The file is there.
    Completed,
    /// Stopped by impact.com's staff.
    Cancelled,
    /// The run failed; it may be run again by itself for a while.
    Error,
    /// Given up.
    Failed,
    /// A word that is not published; taken for unfinished.
    Unknown,
}

impl RemoteStatus {
    fn read(text: &str) -> Self {
        match text.to_ascii_uppercase().as_str() {
            "QUEUED" => Self::Queued,
            "RUNNING" => Self::Running,
            "COMPLETED" => Self::Completed,
            "CANCELLED" | "CANCELED" => Self::Cancelled,
            "ERROR" => Self::Error,
            "FAILED" => Self::Failed,
            _ => Self::Unknown,
        }
    }

    /// The name in tables and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Error => "error",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for RemoteStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The answer to a submission: a new job, or an old one for the same request (impact-api §2.2, §3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The job to follow.
    pub id: RemoteJobId,
    /// Its status; of an old job any.
    pub status: RemoteStatus,
}

impl Submitted {
    /// Reads the answer; `None` where it names no plausible job.
    pub(super) fn read(fields: Fields<'_>) -> Option<Self> {
        let status = fields.text("Status").map_or(RemoteStatus::Unknown, |status| RemoteStatus::read(&status));
        Some(Self { id: job_id(fields)?, status })
    }
}

/// A job on impact.com (impact-api §2.5). Unset dates are none.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteJob {
    /// Its id.
    pub id: RemoteJobId,
    /// `ApiReport`, `ClickExport` and more.
    pub job_type: Option<String>,
    /// The program it is narrowed to, or none.
    pub program: Program,
    /// When it was first scheduled.
    pub created_at: Option<DateTime<Utc>>,
    /// When it last started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it last completed.
    pub completed_at: Option<DateTime<Utc>>,
    /// When it last failed.
    pub failed_at: Option<DateTime<Utc>>,
    /// When it was last cancelled.
    pub cancelled_at: Option<DateTime<Utc>>,
    /// Its status, understood.
    pub status: RemoteStatus,
    /// Its status, as sent.
    pub status_text: String,
    /// impact.com's own words about it, at most 300 characters; may be empty.
    pub message: String,
    /// Rows so far.
    pub records_processed: Option<i64>,
    /// Per cent done.
    pub percent: Option<f32>,
    /// Whether its type can be replayed.
    pub replayable: Option<bool>,
}

impl RemoteJob {
    /// Reads a job; `None` where it has no plausible id. Times without an offset are in `zone`.
    pub(super) fn read(fields: Fields<'_>, zone: Tz, cleaner: &Cleaner) -> Option<Self> {
        let id = job_id(fields)?;
        let status_text = fields.text("Status").map(|status| cleaner.clean(&status)).unwrap_or_default();
        let message = fields.text("StatusMessage").or_else(|| fields.text("Error")).unwrap_or_default();
        Some(Self {
            id,
            job_type: fields.text("Type").map(|kind| cleaner.clean(&kind)),
            program: fields.text("ProgramId").map_or_else(Program::none, Program::new),
            created_at: fields.time("CreatedDate", zone),
            started_at: fields.time("StartedDate", zone),
            completed_at: fields.time("CompletedDate", zone),
            failed_at: fields.time("FailedDate", zone),
            cancelled_at: fields.time("CancelledDate", zone),
            status: RemoteStatus::read(&status_text),
            status_text,
            message: cleaner.clean(&message),
            records_processed: fields.integer("RecordsProcessed"),
            percent: fields.float("PercentageComplete"),
            replayable: fields.boolean("Replayable"),
        })
    }

    /// A job of which nothing is known but that it is not done.
    pub(super) fn unknown(id: RemoteJobId) -> Self {
        Self {
            id,
            job_type: None,
            program: Program::none(),
            created_at: None,
            started_at: None,
            completed_at: None,
            failed_at: None,
            cancelled_at: None,
            status: RemoteStatus::Unknown,
            status_text: String::new(),
            message: String::new(),
            records_processed: None,
            percent: None,
            replayable: None,
        }
    }
}

/// The id of the job that an answer speaks of: by name, else by one of its addresses.
fn job_id(fields: Fields<'_>) -> Option<RemoteJobId> {
    let by_name = || RemoteJobId::plausible(&fields.text("Id")?);
    let queued = || RemoteJobId::from_uri(&fields.text("QueuedUri")?);
    let result = || RemoteJobId::from_uri(fields.text("ResultUri")?.trim_end_matches('/').strip_suffix("/Download")?);
    by_name().or_else(queued).or_else(result)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_job_id_is_the_last_segment_of_the_queued_uri() {
        for (uri, expected) in [
            (
                "/Advertisers/IRx/Jobs/18edc7d5-0000-4000-8000-cd351635ebd9",
                Some("18edc7d5-0000-4000-8000-cd351635ebd9"),
            ),
            ("https://api.impact.com/Advertisers/IRx/Jobs/42/?a=b", Some("42")),
            ("/Jobs/..", None),
            ("/Jobs/a%2Fb", None),
            ("/Jobs/<b>", None),
            ("/", None),
            ("", None),
            ("no-path", None),
        ] {
            assert_eq!(RemoteJobId::from_uri(uri).as_ref().map(RemoteJobId::as_str), expected, "{uri:?}");
        }
        assert_eq!(RemoteJobId::from_uri(&format!("/Jobs/{}", "a".repeat(129))), None);
    }

    #[test]
    fn a_submission_without_queued_uri_is_known_by_its_result_uri() {
        let value = json!({"Status": "Completed", "ResultUri": "/Agencies/IRx/Jobs/j-1/Download"});
        let submitted = Submitted::read(Fields::new(value.as_object().expect("an object")));
        let expected = Submitted { id: RemoteJobId::new("j-1"), status: RemoteStatus::Completed };
        assert_eq!(submitted, Some(expected));
    }

    #[test]
    fn an_unpublished_status_is_unknown() {
        for word in ["", "DONE", "ABANDONED", "PENDING"] {
            assert_eq!(RemoteStatus::read(word), RemoteStatus::Unknown);
        }
        assert_eq!(RemoteStatus::read("completed"), RemoteStatus::Completed);
    }
}
