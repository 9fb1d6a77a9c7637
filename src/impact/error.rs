//! What can go wrong between us and impact.com, and what class of failure it is.

use std::fmt;
use std::io;
use std::time::Duration;

use super::limits::Limits;
use crate::retry::ErrorKind;

/// A call to impact.com, as messages name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// ReportExport or ClickExport (impact-api §2.2, §2.3).
    Submit,
    /// One job (impact-api §2.5).
    Job,
    /// The list of jobs (impact-api §2.4).
    Jobs,
    /// Running a job again (impact-api §2.7).
    Replay,
    /// Asking impact.com for a result (impact-api §2.6).
    Download,
    /// Fetching a result from the storage that Download redirects to (impact-api §2.6).
    Storage,
    /// CompanyInformation (impact-api §2.10).
    Company,
    /// Campaigns or Advertisers (impact-api §2.10).
    Programs,
    /// The list of reports (impact-api §2.8).
    Reports,
    /// The MetaData of a report (impact-api §2.8).
    ReportColumns,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Submit => "the submission",
            Self::Job => "the request for the job",
            Self::Jobs => "the request for the job list",
            Self::Replay => "the replay",
            Self::Download => "the download",
            Self::Storage => "the fetch of the result file",
            Self::Company => "the request for the company information",
            Self::Programs => "the request for the program list",
            Self::Reports => "the request for the report list",
            Self::ReportColumns => "the request for the report's columns",
        })
    }
}

/// An answer that was not what we hoped for.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// What was asked.
    pub call: Call,
    /// The HTTP status.
    pub status: u16,
    /// impact.com's own words, without markup or secrets, at most 300 characters.
    pub message: String,
    /// What the headers said about quota.
    pub limits: Limits,
}

/// A failed call. Neither `Display` nor `Debug` holds a token, a SID or the query of a URL.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The HTTP client could not be built.
    #[error("the HTTP client for impact.com cannot be built")]
    Setup {
        /// Why.
        source: reqwest::Error,
    },
    /// The request makes no sense to impact.com; it was not sent.
    #[error("{call} was not sent: {reason}")]
    Unsupported {
        /// What would have been asked.
        call: Call,
        /// Why not.
        reason: &'static str,
    },
    /// Connecting failed; the request was not sent.
    #[error("no connection for {call}")]
    NoConnection {
        /// What would have been asked.
        call: Call,
        /// Why.
        source: reqwest::Error,
    },
    /// There was no budget for a further call; it was not sent.
    #[error("{call} was not made again: the hourly requests are spent")]
    Unpaid {
        /// What would have been asked.
        call: Call,
    },
    /// The request went out, and the answer did not come, or not whole.
    #[error("no whole answer to {call}")]
    Transport {
        /// What was asked.
        call: Call,
        /// Why.
        source: reqwest::Error,
    },
    /// The answer is not what its encoding says, or not all of it.
    #[error("the answer to {call} cannot be unpacked")]
    Packed {
        /// What was asked.
        call: Call,
        /// Why not.
        source: io::Error,
    },
    /// The answer came too slowly.
    #[error("the answer to {call} took longer than {} s", limit.as_secs())]
    TimedOut {
        /// What was asked.
        call: Call,
        /// How long we waited.
        limit: Duration,
    },
    /// A file of which hardly anything comes.
    #[error("the answer to {call} brought {bytes} bytes in {} s and was given up; nobody waits for a file that slow", waited.as_secs())]
    TooSlow {
        /// What was asked.
        call: Call,
        /// What came.
        bytes: u64,
        /// How long we waited for that.
        waited: Duration,
    },
    /// 5xx, 408, 425, or storage out of order.
    #[error("{} failed on the other side with status {}: {}", .0.call, .0.status, .0.message)]
    Server(Refusal),
    /// 429.
    #[error("impact.com throttles {}: {}", .0.call, .0.message)]
    Throttled(Refusal),
    /// 401.
    #[error("impact.com refused the credential for {}: {}", .0.call, .0.message)]
    Credentials(Refusal),
    /// 403, except on Download.
    #[error("impact.com forbids {}: {}", .0.call, .0.message)]
    Forbidden(Refusal),
    /// 404 and 410, except on Download.
    #[error("impact.com does not know what {} asks for: {}", .0.call, .0.message)]
    NotFound(Refusal),
    /// The result is gone: 403, 404 or 410 on Download, or storage that refuses a fresh URL.
    #[error("the result is no longer there, status {} to {}: {}", .0.status, .0.call, .0.message)]
    Expired(Refusal),
    /// 400, 402, 405 and other 4xx, or 200 with `Status: ERROR`.
    #[error("impact.com refused {}: {}", .0.call, .0.message)]
    Refused(Refusal),
    /// A success status with a body that is not what the call answers.
    #[error("the answer to {call} cannot be read: {problem}")]
    Unreadable {
        /// What was asked.
        call: Call,
        /// What is wrong with the body, in our words.
        problem: String,
    },
    /// A body that unpacks to many times of what any file of rows would.
    #[error(
        "the answer to {call} is a decompression bomb: {packed_bytes} bytes of it unpack to {unpacked_bytes} and more"
    )]
    Bomb {
        /// What was asked.
        call: Call,
        /// How many bytes had come.
        packed_bytes: u64,
        /// How many were made of them.
        unpacked_bytes: u64,
    },
    /// A body beyond all reason.
    #[error(
        "the answer to {call} is longer than {limit_bytes} bytes; of a download, a shorter exports.NAME.max_window makes less"
    )]
    TooLarge {
        /// What was asked.
        call: Call,
        /// The most decoded bytes we take.
        limit_bytes: u64,
    },
    /// Download redirected to a place that we do not go to.
    #[error(
        "the download was redirected to {target}, which is refused: {reason}; look at accounts.NAME.base_url and the proxy on the way (HTTPS_PROXY)"
    )]
    UnsafeRedirect {
        /// Scheme and host of the place, nothing more.
        target: String,
        /// Why not.
        reason: &'static str,
    },
    /// Download redirected without end.
    #[error(
        "the download was redirected more than {hops} times; look at accounts.NAME.base_url and the proxy on the way (HTTPS_PROXY)"
    )]
    TooManyRedirects {
        /// The most redirects we follow.
        hops: usize,
    },
    /// Download answered 200 with an error page.
    #[error("the download answered with an HTML page: {message}")]
    HtmlPage {
        /// The page's text, shortened.
        message: String,
    },
    /// Download answered 200 with an error envelope.
    #[error("the download answered with an error: {message}")]
    ErrorEnvelope {
        /// impact.com's own words, shortened.
        message: String,
    },
}

impl Error {
    /// The class of the failure, on which the retry policy hangs (design §3).
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoConnection { .. }
            | Self::Transport { .. }
            | Self::Packed { .. }
            | Self::TimedOut { .. }
            | Self::TooSlow { .. }
            | Self::Server(_)
            | Self::Unreadable { .. }
            | Self::HtmlPage { .. } => ErrorKind::Transient,
            Self::Throttled(_) | Self::Unpaid { .. } => ErrorKind::Throttled,
            Self::Credentials(_) => ErrorKind::Credentials,
            Self::Forbidden(_) => ErrorKind::Forbidden,
            Self::NotFound(refusal) => match refusal.call {
                Call::Job | Call::Replay | Call::Download | Call::Storage => ErrorKind::Expired,
                Call::Submit | Call::Jobs | Call::Company | Call::Programs | Call::Reports | Call::ReportColumns => {
                    ErrorKind::Permanent
                }
            },
            Self::Expired(_) => ErrorKind::Expired,
            Self::Setup { .. } | Self::Unsupported { .. } | Self::Refused(_) => ErrorKind::Permanent,
            Self::Bomb { .. }
            | Self::TooLarge { .. }
            | Self::UnsafeRedirect { .. }
            | Self::TooManyRedirects { .. }
            | Self::ErrorEnvelope { .. } => ErrorKind::BadFile,
        }
    }

    /// The call that failed; none where no call was made.
    pub fn call(&self) -> Option<Call> {
        match self {
            Self::Setup { .. } => None,
            Self::Unsupported { call, .. }
            | Self::NoConnection { call, .. }
            | Self::Unpaid { call }
            | Self::Transport { call, .. }
            | Self::Packed { call, .. }
            | Self::TimedOut { call, .. }
            | Self::TooSlow { call, .. }
            | Self::Unreadable { call, .. }
            | Self::Bomb { call, .. }
            | Self::TooLarge { call, .. } => Some(*call),
            Self::Server(refusal)
            | Self::Throttled(refusal)
            | Self::Credentials(refusal)
            | Self::Forbidden(refusal)
            | Self::NotFound(refusal)
            | Self::Expired(refusal)
            | Self::Refused(refusal) => Some(refusal.call),
            Self::UnsafeRedirect { .. }
            | Self::TooManyRedirects { .. }
            | Self::HtmlPage { .. }
            | Self::ErrorEnvelope { .. } => Some(Call::Download),
        }
    }

    /// How long the other side asks us to wait, where it says so; only for failures that may pass by themselves.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled(refusal) => refusal.limits.reset_after,
            // Every answer carries the reset of a quota; a server in trouble is back long before.
            Self::Server(refusal) => refusal.limits.retry_after,
            Self::Setup { .. }
            | Self::Unsupported { .. }
            | Self::NoConnection { .. }
            | Self::Unpaid { .. }
            | Self::Transport { .. }
            | Self::Packed { .. }
            | Self::TimedOut { .. }
            | Self::TooSlow { .. }
            | Self::Credentials(_)
            | Self::Forbidden(_)
            | Self::NotFound(_)
            | Self::Expired(_)
            | Self::Refused(_)
            | Self::Unreadable { .. }
            | Self::Bomb { .. }
            | Self::TooLarge { .. }
            | Self::UnsafeRedirect { .. }
            | Self::TooManyRedirects { .. }
            | Self::HtmlPage { .. }
            | Self::ErrorEnvelope { .. } => None,
        }
    }

    /// What the answer's headers said about quota, where impact.com itself answered.
    pub fn limits(&self) -> Option<Limits> {
        match self {
            Self::Server(refusal)
            | Self::Throttled(refusal)
            | Self::Credentials(refusal)
            | Self::Forbidden(refusal)
            | Self::NotFound(refusal)
            | Self::Expired(refusal)
            | Self::Refused(refusal) => (refusal.call != Call::Storage).then_some(refusal.limits),
            Self::Setup { .. }
            | Self::Unsupported { .. }
            | Self::NoConnection { .. }
            | Self::Unpaid { .. }
            | Self::Transport { .. }
            | Self::Packed { .. }
            | Self::TimedOut { .. }
            | Self::TooSlow { .. }
            | Self::Unreadable { .. }
            | Self::Bomb { .. }
            | Self::TooLarge { .. }
            | Self::UnsafeRedirect { .. }
            | Self::TooManyRedirects { .. }
            | Self::HtmlPage { .. }
            | Self::ErrorEnvelope { .. } => None,
        }
    }

    /// Whether impact.com itself answered with 4xx, 429 excepted: what such a call costs is unknown (impact-api §9, 19).
    pub fn was_refused(&self) -> bool {
        match self {
            Self::Server(refusal)
            | Self::Credentials(refusal)
            | Self::Forbidden(refusal)
            | Self::NotFound(refusal)
            | Self::Expired(refusal)
            | Self::Refused(refusal) => refusal.call != Call::Storage && (400..500).contains(&refusal.status),
            Self::Throttled(_)
            | Self::Setup { .. }
            | Self::Unsupported { .. }
            | Self::NoConnection { .. }
            | Self::Unpaid { .. }
            | Self::Transport { .. }
            | Self::Packed { .. }
            | Self::TimedOut { .. }
            | Self::TooSlow { .. }
            | Self::Unreadable { .. }
            | Self::Bomb { .. }
            | Self::TooLarge { .. }
            | Self::UnsafeRedirect { .. }
            | Self::TooManyRedirects { .. }
            | Self::HtmlPage { .. }
            | Self::ErrorEnvelope { .. } => false,
        }
    }

    /// Whether the call got as far as impact.com; one that did not costs nothing.
    pub fn was_sent(&self) -> bool {
        match self {
            Self::Setup { .. } | Self::Unsupported { .. } | Self::NoConnection { .. } | Self::Unpaid { .. } => false,
            Self::Transport { .. }
            | Self::Packed { .. }
            | Self::TimedOut { .. }
            | Self::TooSlow { .. }
            | Self::Server(_)
            | Self::Unreadable { .. }
            | Self::Bomb { .. }
            | Self::TooLarge { .. }
            | Self::Throttled(_)
            | Self::Credentials(_)
            | Self::Forbidden(_)
            | Self::NotFound(_)
            | Self::Expired(_)
            | Self::Refused(_)
            | Self::UnsafeRedirect { .. }
            | Self::TooManyRedirects { .. }
            | Self::HtmlPage { .. }
            | Self::ErrorEnvelope { .. } => true,
        }
    }

    /// Whether a submission or a replay may have been carried out although it failed for us: the request may have
    /// reached impact.com and nothing says that it was refused. Never true of a call that changes nothing.
    pub fn may_have_taken_effect(&self) -> bool {
        let unanswered = match self {
            Self::Transport { .. }
            | Self::Packed { .. }
            | Self::TimedOut { .. }
            | Self::TooSlow { .. }
            | Self::Server(_)
            | Self::Unreadable { .. }
            | Self::Bomb { .. }
            | Self::TooLarge { .. } => true,
            Self::Setup { .. }
            | Self::Unsupported { .. }
            | Self::NoConnection { .. }
            | Self::Unpaid { .. }
            | Self::Throttled(_)
            | Self::Credentials(_)
            | Self::Forbidden(_)
            | Self::NotFound(_)
            | Self::Expired(_)
            | Self::Refused(_)
            | Self::UnsafeRedirect { .. }
            | Self::TooManyRedirects { .. }
            | Self::HtmlPage { .. }
            | Self::ErrorEnvelope { .. } => false,
        };
        unanswered && matches!(self.call(), Some(Call::Submit | Call::Replay))
    }
}
