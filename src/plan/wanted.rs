//! The words of a plan: the windows that are wanted, and why some of them wait.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::account::AccountName;
use crate::export::{Bucket, ExportName, ExportRequest, Reason, Window};

/// How a window is had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A new submission.
    Submit,
    /// Replay of a remote job that we know.
    Replay,
}

impl Action {
    /// The word in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Replay => "replay",
        }
    }
}

/// A window that should be asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The export.
    pub export: ExportName,
    /// The account.
    pub account: AccountName,
    /// The days.
    pub window: Window,
    /// Why.
    pub reason: Reason,
    /// Lower goes first.
    pub priority: i32,
    /// The bucket that pays.
    pub bucket: Bucket,
    /// The canonical request.
    pub request: ExportRequest,
    /// The remote job to replay; `None`: submit.
    pub replay_of: Option<String>,
    /// How many calls of its bucket that takes: 1, or 0 for a Replay that is known to be free.
    pub cost: u32,
    /// A result made before this is too old.
    pub wanted_after: DateTime<Utc>,
    /// When the budget allows it.
    pub expected_at: Option<DateTime<Utc>>,
    /// Why it waits; `None` for calls.
    pub because: Option<Because>,
}

impl Wanted {
    /// Submission or Replay.
    pub fn action(&self) -> Action {
        if self.replay_of.is_some() { Action::Replay } else { Action::Submit }
    }

    /// Its place in the queue, the same for the same windows.
    pub(super) fn rank(&self) -> impl Ord + '_ {
        (self.priority, Reverse(self.window.to()), &self.export, &self.request.program, self.window)
    }
}

/// Why a window waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Because {
    /// The bucket is spent or closed.
    Quota,
    /// What is left is kept: for what is wanted more and comes soon, or for the share of another class.
    Share,
    /// The account or the export on it is paused, with the words.
    Paused(String),
}

impl std::fmt::Display for Because {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Quota => f.write_str("quota is spent"),
            Self::Share => f.write_str("the rest is kept for other work"),
            Self::Paused(why) => write!(f, "paused: {why}"),
        }
    }
}

/// What to do.
#[derive(Debug, Default)]
pub struct Plan {
    /// Windows to order now, most wanted first.
    pub calls: Vec<Wanted>,
    /// Windows that wait, most wanted first.
    pub waiting: Vec<Wanted>,
    /// How many planned jobs make way for the calls: the least wanted of a bucket and class.
    pub called_off: BTreeMap<(Bucket, Reason), u32>,
    /// When planning again can change something by itself: a bucket frees up, a failed cell is due again.
    pub wake_at: Option<DateTime<Utc>>,
}
