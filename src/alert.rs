//! The words for what people are told of without asking: troubles, each with its name, its subject and its mend.

use std::fmt;

/// A kind of trouble. `docs/runbook.md` has a part on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum AlertKind {
    /// An export is older than promised.
    StaleExport,
    /// Days of an export cannot be loaded.
    FailedJob,
    /// impact.com refuses an account's credential.
    PausedAccount,
    /// impact.com does not let an account order an export.
    PausedExport,
    /// A day's budget is spent, and days wait.
    SpentBudget,
    /// The files of an export have other columns than before.
    SchemaDrift,
    /// A file has another number of rows than impact.com said.
    CountMismatch,
    /// A file has no rows where there were some.
    UnexpectedZero,
    /// A file may be cut.
    Truncated,
    /// Rows stay that may be gone.
    KeptDeletions,
    /// A disk is full.
    NoRoom,
}

impl AlertKind {
    /// All kinds.
    pub const ALL: [Self; 11] = [
        Self::StaleExport,
        Self::FailedJob,
        Self::PausedAccount,
        Self::PausedExport,
        Self::SpentBudget,
        Self::SchemaDrift,
        Self::CountMismatch,
        Self::UnexpectedZero,
        Self::Truncated,
        Self::KeptDeletions,
        Self::NoRoom,
    ];

    /// The name in tables and messages, and the heading in the runbook.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StaleExport => "stale_export",
            Self::FailedJob => "failed_job",
            Self::PausedAccount => "paused_account",
            Self::PausedExport => "paused_export",
            Self::SpentBudget => "spent_budget",
            Self::SchemaDrift => "schema_drift",
            Self::CountMismatch => "count_mismatch",
            Self::UnexpectedZero => "unexpected_zero",
            Self::Truncated => "truncated",
            Self::KeptDeletions => "kept_deletions",
            Self::NoRoom => "no_room",
        }
    }

    /// Where the runbook is about it.
    pub fn runbook(self) -> String {
        format!("docs/runbook.md#{}", self.as_str())
    }
}

impl fmt::Display for AlertKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A trouble that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Which kind.
    pub kind: AlertKind,
    /// What it is about: an export, an account, or two names parted by a slash.
    pub subject: String,
    /// What is wrong, for people.
    pub summary: String,
    /// What mends it, or the command that tells more.
    pub mend: String,
}
