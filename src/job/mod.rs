//! A job: one request for one window, from planned to loaded. Its states and what to do next; pure.

pub mod decide;
pub mod mend;
pub mod narrow;
pub mod proof;
pub mod reload;
pub mod reread;
mod state;
pub mod verdict;
pub mod why;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::account::AccountName;
use crate::export::{Bucket, ExportName, ExportRequest, Program, Reason, Window};

pub use state::JobState;

/// The id of a row of `impact_mirror.job`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct JobId(pub i64);

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A claimed job: what a worker needs to know, and the lease it works under.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// The lease that every write names.
    pub lease: Uuid,
    /// Where it stands.
    pub state: JobState,
    /// Whether it was found in this state with a lease that had run out or was handed back: somebody began the step.
    pub resumed: bool,
    /// The export it is for.
    pub export: ExportName,
    /// The account it is asked of.
    pub account: AccountName,
    /// The program, or none.
    pub program: Program,
    /// The days.
    pub window: Window,
    /// Why it is asked for.
    pub reason: Reason,
    /// The bucket its order is charged to.
    pub bucket: Bucket,
    /// The canonical request.
    pub request: ExportRequest,
    /// A result made before this is too old.
    pub wanted_after: DateTime<Utc>,
    /// The remote job to replay, rather than to submit.
    pub replay_of: Option<String>,
    /// The remote job it follows.
    pub remote_job_id: Option<String>,
    /// Whether that was found in the list after the reply to a submission was lost: it may be the order of somebody else.
    pub adopted: bool,
    /// The completion read before a replay.
    pub remote_done_at: Option<DateTime<Utc>>,
    /// Replays made because the remote job died, was too old or its result was gone.
    pub replays: u32,
    /// New submissions made because the remote job was gone.
    pub resubmits: u32,
    /// Polls of the remote job so far.
    pub polls: u32,
    /// Tries at the current state, this one included.
    pub attempts: u32,
    /// Since when it was due as it was claimed; later in the table, if a hint came meanwhile.
    pub run_at: DateTime<Utc>,
    /// When the order went out, by our database's clock.
    pub submitted_at: Option<DateTime<Utc>>,
    /// When the order went out, by impact.com's clock.
    pub submitted_remote_at: Option<DateTime<Utc>>,
    /// The rows of the result are at least this new.
    pub as_of: Option<DateTime<Utc>>,
    /// How many rows impact.com wrote, as far as it says.
    pub records_processed: Option<u64>,
    /// The load whose archived file is loaded again, rather than asking impact.com.
    pub reload_of: Option<i64>,
    /// Whether its result is compared with the table instead of loaded.
    pub compares: bool,
    /// When it was claimed, by our database's clock.
    pub claimed_at: DateTime<Utc>,
}

impl Job {
    /// A number in 0.0..1.0 that differs from job to job and try to try, to spread pauses.
    pub fn jitter(&self) -> f64 {
        let mixed = (self.id.0.unsigned_abs() ^ (u64::from(self.polls + self.attempts) << 32))
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        #[expect(clippy::cast_precision_loss, reason = "53 bits are kept")]
        let fraction = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        fraction
    }
}
