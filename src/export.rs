//! The words for what we ask for: exports, programs, windows of days, requests and the buckets that pay for them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

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
    /// Whether a text can be one: it becomes part of a path.
    pub fn is_well_formed(text: &str) -> bool {
        !text.is_empty()
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
            && !text.starts_with('.')
    }

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

/// An impact.com program (campaign) id; empty where a request is not narrowed to one.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, sqlx::Type,
)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct Program(String);

impl Program {
    /// No program: the request covers all of them.
    pub fn none() -> Self {
        Self(String::new())
    }

    /// Wraps a program id.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The bare id, empty for none.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the request is not narrowed to a program.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A rate-limit group of an account (impact-api §4.1).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, sqlx::Type,
)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Bucket {
    /// ReportExport submissions, per day.
    ReportExport,
    /// ClickExport submissions, per day.
    ClickExport,
    /// Everything else, per hour.
    Requests,
}

impl Bucket {
    /// All buckets, in the order they are shown.
    pub const ALL: [Self; 3] = [Self::ReportExport, Self::ClickExport, Self::Requests];

    /// The name in tables, metrics and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReportExport => "report_export",
            Self::ClickExport => "click_export",
            Self::Requests => "requests",
        }
    }

    /// How long a charge counts: daily buckets roll over 24 hours, the careful reading of impact-api §4.1.
    pub const fn window(self) -> chrono::TimeDelta {
        match self {
            Self::ReportExport | Self::ClickExport => chrono::TimeDelta::hours(24),
            Self::Requests => chrono::TimeDelta::hours(1),
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Bucket {
    type Err = UnknownBucket;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|bucket| bucket.as_str() == text).ok_or_else(|| UnknownBucket(text.to_owned()))
    }
}

/// A bucket name that we do not know.
#[derive(Debug, thiserror::Error)]
#[error("unknown bucket {0:?}; there are report_export, click_export and requests")]
pub struct UnknownBucket(String);

/// What an export asks impact.com for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A ReportExport of this handle (impact-api §2.2).
    Report(ReportHandle),
    /// A ClickExport (impact-api §2.3).
    Clicks,
}

impl Source {
    /// The bucket that an order is charged to.
    pub const fn bucket(&self) -> Bucket {
        match self {
            Self::Report(_) => Bucket::ReportExport,
            Self::Clicks => Bucket::ClickExport,
        }
    }
}

/// The format of a result file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultFormat {
    /// Commas and a header (impact-api §8.1).
    #[default]
    Csv,
    /// A list of objects (impact-api §8.2).
    Json,
}

impl ResultFormat {
    /// The word in the configuration, and the ending of a file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
        }
    }

    /// The value of `ResultFormat`.
    pub const fn parameter(self) -> &'static str {
        match self {
            Self::Csv => "CSV",
            Self::Json => "JSON",
        }
    }

    /// What says where in a file a record is: the lines of CSV, the records of JSON.
    pub const fn place(self) -> &'static str {
        match self {
            Self::Csv => "line",
            Self::Json => "record",
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
    fn is_csv(&self) -> bool {
        *self == Self::Csv
    }
}

impl fmt::Display for ResultFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.parameter())
    }
}

/// One order, canonical: equal requests are the same remote job to impact.com (impact-api §3.4).
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ExportRequest {
    /// Report or clicks.
    pub source: Source,
    /// The program it is narrowed to, or none.
    pub program: Program,
    /// The days it covers.
    pub window: Window,
    /// Further parameters; a list repeats its parameter.
    pub params: BTreeMap<String, Vec<String>>,
    /// The format of its result. CSV is not written down, as in requests from before there was another.
    #[serde(default, skip_serializing_if = "ResultFormat::is_csv")]
    pub format: ResultFormat,
}

/// Why a window is asked for, in the order of worth.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, sqlx::Type,
)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Reason {
    /// A person asked.
    Manual,
    /// The newest days.
    Fresh,
    /// Days whose rows may have changed.
    Refresh,
    /// Days never read.
    Backfill,
}

impl Reason {
    /// In the order of worth.
    pub const ALL: [Self; 4] = [Self::Manual, Self::Fresh, Self::Refresh, Self::Backfill];

    /// The word in tables and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Fresh => "fresh",
            Self::Refresh => "refresh",
            Self::Backfill => "backfill",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One line of `refresh`: cells up to `age` old are read again `every` so often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RefreshRule {
    /// Counted from the end of the day.
    pub age: Duration,
    /// Counted from the order that the cell's rows came from.
    pub every: Duration,
}

/// What tells that a row is locked: from its locking date on an action is APPROVED or REVERSED and its amounts stay
/// (impact-api §7.2). Columns go by their names in the file, words in any letter case.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockRule {
    /// The status; a row without one is open.
    pub status_column: String,
    /// The words of a status that leave a row open.
    pub open: Vec<String>,
    /// When the row is or was locked: a row with a date to come is open.
    pub date_column: Option<String>,
    /// More about the status, which may go on changing after the lock.
    pub detail_column: Option<String>,
    /// The words of the detail that leave a row open.
    #[serde(default)]
    pub open_details: Vec<String>,
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
