//! The words for what to do after a failure: its class, and whether another try makes sense.

use std::fmt;
use std::io;
use std::time::Duration;

/// The class of a failure, as kept in `job.error_kind`; the retry policy hangs on it (design §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum ErrorKind {
    /// Network, 5xx, a truncated body: worth another try soon.
    Transient,
    /// 429: the bucket sleeps until its reset.
    Throttled,
    /// The remote job ended FAILED or CANCELLED, or did not end at all.
    Remote,
    /// The result is gone (403, 404, 410 on Download).
    Expired,
    /// impact.com will never accept this request.
    Permanent,
    /// 401: the account's credential is refused.
    Credentials,
    /// 403: the credential lacks a scope.
    Forbidden,
    /// The result is not a plausible file.
    BadFile,
    /// Our own Postgres refused or failed.
    Database,
    /// A disk is full, ours or that of Postgres: worth another try until somebody makes room.
    NoRoom,
    /// A bug of ours.
    Internal,
}

impl ErrorKind {
    /// Whether a try that ended so is one of the few that a job has. A quota that is spent, or what a person has to mend, says
    /// nothing about the job.
    pub const fn counts(self) -> bool {
        match self {
            Self::Throttled | Self::Credentials | Self::Forbidden | Self::NoRoom => false,
            Self::Transient
            | Self::Remote
            | Self::Expired
            | Self::Permanent
            | Self::BadFile
            | Self::Database
            | Self::Internal => true,
        }
    }

    /// The name in tables, metrics and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::Remote => "remote",
            Self::Expired => "expired",
            Self::Permanent => "permanent",
            Self::Credentials => "credentials",
            Self::Forbidden => "forbidden",
            Self::BadFile => "bad_file",
            Self::Database => "database",
            Self::NoRoom => "no_room",
            Self::Internal => "internal",
        }
    }
}

impl From<&sqlx::Error> for ErrorKind {
    fn from(error: &sqlx::Error) -> Self {
        const DISK_FULL: &str = "53100";
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        if code.as_deref() == Some(DISK_FULL) { Self::NoRoom } else { Self::Database }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether the system refused to write because the disk, or our part of it, is full.
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// How long to wait before try number `attempts` + 1: doubles from `first`, at most `cap`, spread by `jitter` in
/// 0.0..=1.0 over the upper half so that replicas do not march in step.
pub fn backoff(attempts: u32, first: Duration, cap: Duration, jitter: f64) -> Duration {
    let doubled = first.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1).min(20)));
    doubled.min(cap).mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_cap() {
        let first = Duration::from_secs(2);
        let cap = Duration::from_mins(1);
        assert_eq!(backoff(1, first, cap, 1.0), Duration::from_secs(2));
        assert_eq!(backoff(3, first, cap, 1.0), Duration::from_secs(8));
        assert_eq!(backoff(30, first, cap, 1.0), cap);
        assert_eq!(backoff(1, first, cap, 0.0), Duration::from_secs(1));
    }
}
