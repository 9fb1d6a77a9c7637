//! The words for what may be wrong with the rows of a file, and for what to do about it.

use std::fmt;

/// Why a window may not hold what it should.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, sqlx::Type,
)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Doubt {
    /// It has another number of rows than impact.com said that it wrote (`RecordsProcessed`, impact-api §3.2).
    CountMismatch,
    /// It has none, and the window had some.
    UnexpectedZero,
    /// It has just as many as a file may hold, and its window cannot be split.
    Truncated,
    /// Rows of it could not be read, nor their keys, so that rows stay which it no longer has.
    KeptDeletions,
}

impl Doubt {
    /// All doubts, in the order they are shown.
    pub const ALL: [Self; 4] = [Self::CountMismatch, Self::UnexpectedZero, Self::Truncated, Self::KeptDeletions];

    /// The name in tables, metrics and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CountMismatch => "count_mismatch",
            Self::UnexpectedZero => "unexpected_zero",
            Self::Truncated => "truncated",
            Self::KeptDeletions => "kept_deletions",
        }
    }

    /// The setting of an export that says what to do about it; what has none is told of.
    pub const fn setting(self) -> Option<&'static str> {
        match self {
            Self::CountMismatch => Some("on_count_mismatch"),
            Self::UnexpectedZero => Some("on_unexpected_zero"),
            Self::Truncated => Some("on_truncation"),
            Self::KeptDeletions => None,
        }
    }

    /// What is to be feared of the rows that stand, for people.
    pub const fn fear(self) -> &'static str {
        match self {
            Self::CountMismatch | Self::UnexpectedZero | Self::Truncated => "may not be all",
            Self::KeptDeletions => "may be too many",
        }
    }

    /// What is doubtful, for people.
    pub fn words(self, figures: Figures) -> String {
        let Figures { rows, told, deleted, rejected, stale: _ } = figures;
        match self {
            Self::CountMismatch => {
                format!("the file has {rows} rows, and impact.com speaks of {}", told.unwrap_or_default())
            }
            Self::UnexpectedZero if deleted == 0 => {
                "the file still has no rows, and its window once had some".to_owned()
            }
            Self::UnexpectedZero => format!("the file has no rows, and its window had {deleted}"),
            Self::Truncated => {
                format!("the file has {rows} rows, just as many as a file may hold, so that it may be cut")
            }
            Self::KeptDeletions => format!(
                "{rejected} of the file's {rows} rows were rejected, and not every one has a key that can be read, so that \
                 nothing was deleted: older versions of rows stand beside newer ones"
            ),
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a doubt goes by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Rows in the file, good and bad.
    pub rows: u64,
    /// Rows that impact.com said it wrote, where it said so.
    pub told: Option<u64>,
    /// Rows of the window that the file no longer has.
    pub deleted: u64,
    /// Rows of the file that were rejected.
    pub rejected: u64,
    /// Rows that stand in the window without being in the file, because nothing could be deleted.
    pub stale: u64,
}

/// What to do about a doubtful file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDoubt {
    /// Load it and say nothing.
    Ignore,
    /// Load it and say so.
    Warn,
    /// Load nothing: the job fails.
    Refuse,
}

/// What an export does about each doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnDoubts {
    /// About another number of rows than impact.com said.
    pub count_mismatch: OnDoubt,
    /// About no rows where there were some.
    pub unexpected_zero: OnDoubt,
    /// About a file that may be cut.
    pub truncation: OnDoubt,
}

impl OnDoubts {
    /// What to do about one of them.
    pub const fn about(&self, doubt: Doubt) -> OnDoubt {
        match doubt {
            Doubt::CountMismatch => self.count_mismatch,
            Doubt::UnexpectedZero => self.unexpected_zero,
            Doubt::Truncated => self.truncation,
            Doubt::KeptDeletions => OnDoubt::Warn,
        }
    }
}
