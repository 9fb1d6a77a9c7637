//! The words for who we read from: accounts, personas, programs and rate-limit buckets.

use std::fmt;
use std::str::FromStr;

/// The name of an account in the configuration, as in `[accounts.acme]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct AccountName(String);

impl AccountName {
    /// Wraps a name that the configuration has checked.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The Account SID: the user of HTTP Basic and a segment of every path (impact-api §1.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AccountSid(String);

impl AccountSid {
    /// Wraps a SID that the configuration has checked.
    pub fn new(sid: impl Into<String>) -> Self {
        Self(sid.into())
    }

    /// The bare SID.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which side of the network a credential speaks for (impact-api §1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Persona {
    /// An advertiser.
    Brand,
    /// A publisher, also called media partner.
    Partner,
    /// A manager of several brands.
    Agency,
}

impl Persona {
    /// The word used in the configuration and in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Brand => "brand",
            Self::Partner => "partner",
            Self::Agency => "agency",
        }
    }
}

impl fmt::Display for Persona {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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
