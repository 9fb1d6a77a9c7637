//! What a person does about a job that failed for good: the cause by its class, and the command that has its days tried again.

use chrono::NaiveDate;

use crate::figures::sentence;
use crate::retry::ErrorKind;

/// A failed job, as far as its mend goes by it.
#[derive(Debug, Clone, Copy)]
pub struct Failed<'a> {
    /// Its id.
    pub id: i64,
    /// The export.
    pub export: &'a str,
    /// The account.
    pub account: &'a str,
    /// Its first and its last day.
    pub days: (NaiveDate, NaiveDate),
    /// The class of its last error; `None` where none was kept.
    pub kind: Option<ErrorKind>,
    /// What it was for.
    pub purpose: Purpose,
}

/// What a failed job leaves to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Some of its days are failed.
    Days,
    /// It loaded an archived file again.
    Reload,
    /// It compared a window with impact.com.
    Comparison,
    /// None of its days is failed any more: another job loaded them.
    Over,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mend {
    /// About the cause: without a capital, without a full stop.
    pub cause: &'static str,
    /// The command after that; `None` where there is nothing left to do.
    pub command: Option<String>,
}

impl Mend {
    /// In a line of text: about the cause, then the command.
    pub fn line(&self) -> String {
        match &self.command {
            Some(command) => format!("{}; to try again: {command}", self.cause),
            None => self.cause.to_owned(),
        }
    }

    /// About the cause as a sentence, which goes on with the command where there is one.
    pub fn sentence(&self) -> String {
        if self.command.is_some() { sentence(self.cause) + " To try again:" } else { sentence(self.cause) }
    }
}

/// What a person does about a failed job.
pub fn mend(job: Failed<'_>) -> Mend {
    let Failed { id, export, account, days: (from, to), kind, purpose } = job;
    let cause = cause(purpose, kind);
    match purpose {
        Purpose::Days => Mend { cause, command: Some(format!("impact-mirror jobs retry {id}")) },
        Purpose::Reload => {
            let command = format!("impact-mirror reload {export} --from {from} --to {to} --account {account}");
            Mend { cause, command: Some(command) }
        }
        Purpose::Comparison => Mend { cause, command: Some(format!("impact-mirror verify {export}")) },
        Purpose::Over => Mend { cause: "nothing is left to do: none of its days is failed any more", command: None },
    }
}

/// What to do about the cause alone.
pub(super) fn cause(purpose: Purpose, kind: Option<ErrorKind>) -> &'static str {
    match (purpose, kind) {
        (_, None) => "mend what its last event says",
        (Purpose::Reload, Some(ErrorKind::Permanent)) => {
            "let archive.url name the archive that has the file, or have the days read anew by `impact-mirror refresh`"
        }
        (Purpose::Reload, Some(ErrorKind::Transient)) => {
            "look at archive.url, its credentials and the way to it (`impact-mirror check` tries it), or at spool.dir"
        }
        (_, Some(kind)) => about(kind),
    }
}

/// What to do about a cause, by its class.
const fn about(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Transient => {
            "look at what these words name: impact.com (status.impact.com) and the way to it, or the spool (spool.dir)"
        }
        ErrorKind::Throttled => "wait until impact.com's limits open again (`impact-mirror plan` says when)",
        ErrorKind::Remote => {
            "should impact.com end the job itself once more, give their support the id of the remote job"
        }
        ErrorKind::Expired => "have it ordered anew, for the result was gone before it could be fetched",
        ErrorKind::Permanent => {
            "correct what impact.com will not take in the export's settings (`impact-mirror reports describe HANDLE` shows what \
             the report takes), and reload the daemon's configuration"
        }
        ErrorKind::Credentials => "give the account a valid auth_token and reload the daemon's configuration",
        ErrorKind::Forbidden => "give the token the scope it lacks in impact.com's settings",
        ErrorKind::BadFile => "correct what these words name: a setting of the export, or the report at impact.com",
        ErrorKind::Database => "mend what Postgres says, as its owner",
        ErrorKind::NoRoom => "free room on the disk",
        ErrorKind::Internal => "look into the daemon's log, and report the fault with these words",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(kind: Option<ErrorKind>, purpose: Purpose) -> String {
        let day = NaiveDate::from_ymd_opt(2026, 5, 1).expect("a day");
        mend(Failed { id: 7, export: "actions", account: "acme", days: (day, day), kind, purpose }).line()
    }

    #[test]
    fn each_class_has_its_own_mend_and_each_purpose_its_command() {
        let refused = said(Some(ErrorKind::Permanent), Purpose::Days);
        assert!(
            refused.contains("`impact-mirror reports describe HANDLE`")
                && refused.ends_with("to try again: impact-mirror jobs retry 7")
        );
        assert!(said(Some(ErrorKind::Forbidden), Purpose::Days).starts_with("give the token the scope"));
        assert!(said(None, Purpose::Days).starts_with("mend what its last event says"));
        assert!(said(Some(ErrorKind::Remote), Purpose::Comparison).ends_with("impact-mirror verify actions"));
        assert!(
            said(Some(ErrorKind::BadFile), Purpose::Reload)
                .contains("reload actions --from 2026-05-01 --to 2026-05-01")
        );
        assert!(said(Some(ErrorKind::Permanent), Purpose::Reload).starts_with("let archive.url name"));
        assert!(!said(Some(ErrorKind::BadFile), Purpose::Over).contains("retry"));
    }
}
