//! The words for what may be wrong with the number of rows in a file, and for what to do about it.

use std::fmt;

/// Why a file may not hold all that it should.
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
}

impl Doubt {
    /// All doubts, in the order they are shown.
    pub const ALL: [Self; 3] = [Self::CountMismatch, Self::UnexpectedZero, Self::Truncated];

    /// The name in tables, metrics and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CountMismatch => "count_mismatch",
            Self::UnexpectedZero => "unexpected_zero",
            Self::Truncated => "truncated",
        }
    }

    /// The setting of an export that says what to do about it.
    pub const fn setting(self) -> &'static str {
        match self {
            Self::CountMismatch => "on_count_mismatch",
            Self::UnexpectedZero => "on_unexpected_zero",
            Self::Truncated => "on_truncation",
        }
    }

    /// What is doubtful, for people.
    pub fn words(self, figures: Figures) -> String {
        let Figures { rows, told, deleted } = figures;
        match self {
            Self::CountMismatch => {
                format!("the file has {rows} rows, and impact.com speaks of {}", told.unwrap_or_default())
            }
            Self::UnexpectedZero if deleted == 0 => "the file still has no rows, and its window once had some".to_owned(),
            Self::UnexpectedZero => format!("the file has no rows, and its window had {deleted}"),
            Self::Truncated => {
                format!("the file has {rows} rows, just as many as a file may hold, so that it may be cut")
            }
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
        }
    }
}
