//! What a comparison of a window with impact.com comes to; pure.

use std::fmt;

/// What is to be said of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Verdict {
    /// The table holds what impact.com gives.
    Equal,
    /// impact.com gives other rows than when they were loaded.
    Restated,
    /// The table is not as it was loaded: somebody changed it.
    Altered,
}

impl Verdict {
    /// The word in tables and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Restated => "restated",
            Self::Altered => "altered",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a verdict goes by, in rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// In the table.
    pub in_table: u64,
    /// In the table once its days were loaded; `None` where that is not known.
    pub loaded: Option<u64>,
    /// With another hash than the record.
    pub differing: u64,
    /// With the hash of the record and other values.
    pub altered: u64,
    /// Only in the file.
    pub only_in_file: u64,
    /// Only in the table.
    pub only_in_table: u64,
}

/// Judges. Rows that only one side has tell nothing of who made them so; that the table has fewer or more rows than its loads left there
/// does.
pub fn judge(figures: Figures) -> Verdict {
    let Figures { in_table, loaded, differing, altered, only_in_file, only_in_table } = figures;
    let lacks_some = only_in_file > 0 && loaded.is_some_and(|loaded| in_table < loaded);
    let has_others = only_in_table > 0 && loaded.is_some_and(|loaded| in_table > loaded);
    if altered > 0 || lacks_some || has_others {
        Verdict::Altered
    } else if differing + only_in_file + only_in_table > 0 {
        Verdict::Restated
    } else {
        Verdict::Equal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAME: Figures =
        Figures { in_table: 5, loaded: Some(5), differing: 0, altered: 0, only_in_file: 0, only_in_table: 0 };

    #[test]
    fn what_impact_com_changed_is_told_from_what_somebody_did_here() {
        assert_eq!(judge(SAME), Verdict::Equal);
        assert_eq!(judge(Figures { differing: 1, ..SAME }), Verdict::Restated);
        assert_eq!(judge(Figures { only_in_file: 1, ..SAME }), Verdict::Restated);
        assert_eq!(judge(Figures { only_in_table: 1, ..SAME }), Verdict::Restated);
        assert_eq!(judge(Figures { differing: 1, altered: 1, ..SAME }), Verdict::Altered);
        assert_eq!(judge(Figures { only_in_file: 1, in_table: 4, ..SAME }), Verdict::Altered, "a row was deleted");
        assert_eq!(judge(Figures { only_in_table: 1, in_table: 6, ..SAME }), Verdict::Altered, "a row was put there");
        assert_eq!(judge(Figures { only_in_file: 1, in_table: 4, loaded: None, ..SAME }), Verdict::Restated);
    }
}
