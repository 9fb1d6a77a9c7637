//! The words for what we read: exports, windows of days and the kinds of columns.

use std::fmt;

use chrono::{Days, NaiveDate};

/// The name of an export in the configuration and of its mirrored table, as in `[exports.actions]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct ExportName(String);

impl ExportName {
    /// Wraps a name that the configuration has checked.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExportName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A report handle or numeric report id, as `Report.Id` gives it (impact-api §2.2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ReportHandle(String);

impl ReportHandle {
    /// Wraps a handle that the configuration has checked.
    pub fn new(handle: impl Into<String>) -> Self {
        Self(handle.into())
    }

    /// The bare handle.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReportHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The closed range of days that one job asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Window {
    from: NaiveDate,
    to: NaiveDate,
}

impl Window {
    /// The days `from..=to`; `None` where they are the wrong way round.
    pub fn new(from: NaiveDate, to: NaiveDate) -> Option<Self> {
        (from <= to).then_some(Self { from, to })
    }

    /// The window of one day.
    pub const fn day(day: NaiveDate) -> Self {
        Self { from: day, to: day }
    }

    /// The first day.
    pub const fn from(self) -> NaiveDate {
        self.from
    }

    /// The last day, included.
    pub const fn to(self) -> NaiveDate {
        self.to
    }

    /// How many days it holds, at least one.
    pub fn len_days(self) -> u32 {
        u32::try_from((self.to - self.from).num_days() + 1).expect("a window is shorter than all of time")
    }

    /// Whether `day` lies in it.
    pub fn contains(self, day: NaiveDate) -> bool {
        self.from <= day && day <= self.to
    }

    /// Its days, first to last.
    pub fn days(self) -> impl Iterator<Item = NaiveDate> {
        self.from.iter_days().take_while(move |day| *day <= self.to)
    }

    /// The day of the window nearest to `day`.
    pub fn nearest(self, day: NaiveDate) -> NaiveDate {
        day.clamp(self.from, self.to)
    }

    /// Pieces of at most `max_days` days, first to last.
    pub fn split(self, max_days: u32) -> Vec<Self> {
        let max_days = u64::from(max_days.max(1));
        let mut pieces = Vec::new();
        let mut from = self.from;
        while from <= self.to {
            let to = (from + Days::new(max_days - 1)).min(self.to);
            pieces.push(Self { from, to });
            from = to + Days::new(1);
        }
        pieces
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to { write!(f, "{}", self.from) } else { write!(f, "{}..{}", self.from, self.to) }
    }
}

/// The Postgres type of a mirrored column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum ColumnKind {
    /// `true` or `false`.
    Boolean,
    /// A whole number that fits 64 bits.
    Bigint,
    /// An exact decimal; all money.
    Numeric,
    /// A calendar day.
    Date,
    /// A point in time.
    Timestamptz,
    /// Anything.
    Text,
}

impl ColumnKind {
    /// All kinds, from narrow to wide.
    pub const ALL: [Self; 6] = [Self::Boolean, Self::Bigint, Self::Numeric, Self::Date, Self::Timestamptz, Self::Text];

    /// The type's name in Postgres.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Bigint => "bigint",
            Self::Numeric => "numeric",
            Self::Date => "date",
            Self::Timestamptz => "timestamptz",
            Self::Text => "text",
        }
    }
}

impl fmt::Display for ColumnKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What to do with a value that does not fit its column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnTypeConflict {
    /// Change the column to the narrowest type that holds old and new values.
    Widen,
    /// Keep the type and put the row into `rejected_row`.
    Quarantine,
}

/// How a mirrored table is partitioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Partition {
    /// One plain table.
    None,
    /// By month of `_day`.
    Month,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().expect("a day")
    }

    #[test]
    fn a_window_cannot_end_before_it_begins() {
        assert_eq!(Window::new(day("2026-02-02"), day("2026-02-01")), None);
    }

    #[test]
    fn splitting_covers_every_day_once() {
        let window = Window::new(day("2026-01-01"), day("2026-02-10")).expect("in order");
        let pieces = window.split(31);
        assert_eq!(pieces.len(), 2);
        let days: Vec<_> = pieces.iter().flat_map(|piece| piece.days()).collect();
        assert_eq!(days, window.days().collect::<Vec<_>>());
        assert!(pieces.iter().all(|piece| piece.len_days() <= 31));
    }

    #[test]
    fn a_day_outside_is_drawn_to_the_nearest_edge() {
        let window = Window::new(day("2026-01-05"), day("2026-01-07")).expect("in order");
        assert_eq!(window.nearest(day("2026-01-01")), day("2026-01-05"));
        assert_eq!(window.nearest(day("2026-02-01")), day("2026-01-07"));
        assert_eq!(window.nearest(day("2026-01-06")), day("2026-01-06"));
    }
}
