//! What to do next with a job, from what we know, what we saw and the time. Pure: workers carry it out.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::Job;
use crate::retry::{ErrorKind, backoff};

/// How long impact.com goes on by itself with a job in ERROR: five tries, 15 minutes apart, and a margin
/// (impact-api §3.1).
const ERROR_PATIENCE: TimeDelta = TimeDelta::minutes(90);
/// A job in ERROR is looked at this often.
const ERROR_POLL: TimeDelta = TimeDelta::minutes(2);
/// Whole seconds in `CreatedDate` and `Date`, and a little for the way (design §10).
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::seconds(2);
/// Where an answer says no `Date`, our clock stands for impact.com's: the two may be this far apart.
const CLOCKS_APART: TimeDelta = TimeDelta::hours(1);
/// Stale reads after a Replay are normal for a while (impact-api §9, 42); by then a job that did not move was not replayed.
const STALE_READS: u32 = 2;
/// The longest a request of ours can be under way before it reaches impact.com.
const REQUEST_TIME: TimeDelta = TimeDelta::seconds(65);
/// A job for whose result there is no room is tried again about so often, for as long as that takes.
const ROOM_PAUSE: Duration = Duration::from_mins(5);
/// However long such orders usually take, one is looked at after this time, unless pauses may be longer anyway.
const LATEST_FIRST_LOOK: Duration = Duration::from_mins(30);
/// Tries at one state before the job is given up.
pub const MAX_ATTEMPTS: u32 = 8;

/// How often to ask, and how long to wait at all.
#[derive(Debug, Clone, Copy)]
pub struct PollPolicy {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub cap: Duration,
    /// From the order on; then the job is given up.
    pub deadline: Duration,
}

impl PollPolicy {
    /// The pause after `polls` polls: grows by half each time.
    pub fn delay(&self, polls: u32, jitter: f64) -> TimeDelta {
        let factor = 1.5_f64.powi(i32::try_from(polls.min(30)).expect("at most 30"));
        let delay = self.first.mul_f64(factor).min(self.cap).mul_f64(0.8 + 0.4 * jitter);
        TimeDelta::from_std(delay).unwrap_or(TimeDelta::minutes(1))
    }

    /// The pause before the first look at an order, where such orders usually take so long. Where that is more than the
    /// longest pause between looks, the first comes earlier by as much, for about half of them end sooner.
    pub fn first_look(&self, usual: Option<Duration>) -> TimeDelta {
        let usual = usual.unwrap_or(self.first);
        let pause = usual.min(self.cap).max(usual.saturating_sub(self.cap).min(LATEST_FIRST_LOOK)).max(self.first);
        TimeDelta::from_std(pause).unwrap_or(TimeDelta::minutes(1))
    }

    /// The pause after a look, so long after the order: a quarter of that time at least, for a job that was first looked
    /// at when such jobs usually end is not to be asked after in haste.
    pub fn next_look(&self, job: &Job, since_order: TimeDelta) -> TimeDelta {
        let cap = TimeDelta::from_std(self.cap).unwrap_or(TimeDelta::hours(1));
        self.delay(job.polls, job.jitter()).max((since_order / 4).min(cap))
    }
}

/// A waiting job that the job list may tell of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listable {
    /// Which job of ours.
    pub id: i64,
    /// How many remote jobs the list tells of before it comes to the end of that day, this one included.
    pub listed_before: i64,
}

/// Jobs on a page of the list, as far as seen (impact-api §1.5).
const PAGE: i64 = 100;

/// Which of `jobs` to look up in one reading of the list: those for which the pages saved the most calls, the youngest
/// first. A same-id Replay keeps its first `CreatedDate` (impact-api §2.7), so one old job may lie many pages back. Empty
/// where single looks cost no more.
pub fn worth_listing(jobs: &[Listable]) -> Vec<i64> {
    let mut youngest_first: Vec<&Listable> = jobs.iter().collect();
    youngest_first.sort_by_key(|job| (job.listed_before, job.id));
    let mut best = (0, 0);
    for (looks, job) in (1_i64..).zip(&youngest_first) {
        let pages = (job.listed_before.max(looks) + PAGE - 1) / PAGE;
        if looks - pages > best.1 {
            best = (looks, looks - pages);
        }
    }
    let taken = usize::try_from(best.0).unwrap_or(0);
    youngest_first.into_iter().take(taken).map(|job| job.id).collect()
}

/// Whether a job stands where it stood before its Replay: a read from before that (design §10). A Replay that made a new job
/// (impact-api §9, 1) leaves nothing to be read from before, even where the new one ends in the second in which the old one did.
pub fn stands_where_it_stood(job: &Job, seen: &Seen) -> bool {
    let keeps_its_id = job.replay_of.is_some() && job.replay_of == job.remote_job_id;
    keeps_its_id && seen.status != SeenStatus::UnderWay && seen.done_at == job.remote_done_at
}

/// A remote job as read just now, reduced to what decisions need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Where it stands.
    pub status: SeenStatus,
    /// `CreatedDate`.
    pub created_at: Option<DateTime<Utc>>,
    /// `StartedDate`.
    pub started_at: Option<DateTime<Utc>>,
    /// `CompletedDate`, `FailedDate` or `CancelledDate`, whichever goes with the status.
    pub done_at: Option<DateTime<Utc>>,
    /// `StatusMessage`.
    pub message: String,
}

/// The statuses of a remote job by what they mean for us (impact-api §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeenStatus {
    /// Queued, running, or a word we do not know.
    UnderWay,
    /// ERROR: impact.com may run it again by itself.
    Trouble,
    /// The file can be fetched.
    Completed,
    /// FAILED or CANCELLED.
    Dead,
}

/// What a poll leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterPoll {
    /// Not done: ask again then.
    PollAgain {
        /// When.
        at: DateTime<Utc>,
    },
    /// The result can be fetched; its rows are at least as new as `as_of`.
    Ready {
        /// When the run that made it began.
        as_of: DateTime<Utc>,
        /// When the run ended, by impact.com's clock.
        completed_at: Option<DateTime<Utc>>,
    },
    /// Let impact.com run it again.
    Replay {
        /// For the job's history.
        why: String,
    },
    /// The end.
    GiveUp {
        /// The class.
        kind: ErrorKind,
        /// impact.com's words.
        message: String,
    },
}

/// Decides after a look at the remote job.
pub fn after_poll(job: &Job, seen: &Seen, now: DateTime<Utc>, policy: &PollPolicy) -> AfterPoll {
    let submitted_at = job.submitted_at.unwrap_or(now);
    let deadline = submitted_at + TimeDelta::from_std(policy.deadline).unwrap_or(TimeDelta::hours(6));
    let poll_again = |delay: TimeDelta| {
        if now >= deadline {
            AfterPoll::GiveUp {
                kind: ErrorKind::Remote,
                message: format!("the remote job did not end within {} (workers.job_deadline)", words(policy.deadline)),
            }
        } else {
            AfterPoll::PollAgain { at: now + delay }
        }
    };
    let delay = policy.next_look(job, now - submitted_at);
    // A read from before the replay: the remote job stands where it stood (design §10).
    let is_stale = stands_where_it_stood(job, seen) && (seen.done_at.is_some() || job.polls < STALE_READS);

    match seen.status {
        SeenStatus::UnderWay => poll_again(delay),
        SeenStatus::Trouble => {
            let since = seen.done_at.unwrap_or(submitted_at).max(submitted_at);
            if now - since > ERROR_PATIENCE { after_death(job, seen) } else { poll_again(delay.max(ERROR_POLL)) }
        }
        SeenStatus::Completed | SeenStatus::Dead if is_stale => poll_again(delay),
        SeenStatus::Dead => after_death(job, seen),
        SeenStatus::Completed => after_completion(job, seen, submitted_at),
    }
}

fn after_death(job: &Job, seen: &Seen) -> AfterPoll {
    let words = if seen.message.is_empty() { "no reason given" } else { &seen.message };
    if job.replays == 0 {
        return AfterPoll::Replay { why: format!("the remote job ended without a result: {words}") };
    }
    AfterPoll::GiveUp {
        kind: ErrorKind::Remote,
        message: format!("the remote job ended without a result, after a replay too: {words}"),
    }
}

fn after_completion(job: &Job, seen: &Seen, submitted_at: DateTime<Utc>) -> AfterPoll {
    if !is_deduplicated(job, seen) {
        return AfterPoll::Ready { as_of: job.as_of.unwrap_or(submitted_at), completed_at: seen.done_at };
    }
    // An earlier run answered. Its rows are as new as its beginning; how long before our order that was, one clock alone
    // can tell for sure: theirs. Where they did not say what it shows, ours has to do.
    let ordered_at = job.submitted_remote_at.unwrap_or(submitted_at);
    let age = seen.started_at.or(seen.created_at).map(|began| ordered_at - began);
    let run_at = submitted_at - age.unwrap_or_default().max(TimeDelta::zero());
    if run_at >= job.wanted_after {
        AfterPoll::Ready { as_of: run_at, completed_at: seen.done_at }
    } else if job.replays == 0 {
        AfterPoll::Replay { why: format!("impact.com answered with its run of {run_at}, older than wanted") }
    } else {
        AfterPoll::GiveUp {
            kind: ErrorKind::Remote,
            message: format!("impact.com still answers with its run of {run_at}, after a replay too"),
        }
    }
}

/// Whether the order was answered with a remote job from before it (impact-api §3.4).
pub fn is_deduplicated(job: &Job, seen: &Seen) -> bool {
    let ordered_after = match (job.submitted_remote_at, job.submitted_at) {
        (Some(ordered_at), _) => ordered_at - CLOCK_TOLERANCE,
        (None, Some(ordered_at)) => ordered_at - CLOCKS_APART,
        (None, None) => return false,
    };
    job.replay_of.is_none() && seen.created_at.is_some_and(|created_at| created_at < ordered_after)
}

/// What a failed call or file leads to, in any state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterError {
    /// Try the same again then.
    TryAgain {
        /// When.
        at: DateTime<Utc>,
    },
    /// Order the result again: by Replay, or by a new submission where that was tried.
    OrderAgain {
        /// How.
        by: OrderBy,
    },
    /// Nobody may call for this account.
    PauseAccount,
    /// Nobody may order this export of this account.
    PauseExport,
    /// The end.
    GiveUp,
}

/// The two ways to have a window exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderBy {
    /// Replay of the remote job we know.
    Replay,
    /// A new submission.
    Submission,
}

/// Decides after an error of `kind` (design §3); `retry_after` is what impact.com asked for, if it did.
pub fn after_error(job: &Job, kind: ErrorKind, retry_after: Option<Duration>, now: DateTime<Utc>) -> AfterError {
    let pause = retry_after
        .unwrap_or_else(|| backoff(job.attempts, Duration::from_secs(2), Duration::from_mins(5), job.jitter()));
    let at = now + TimeDelta::from_std(pause).unwrap_or(TimeDelta::hours(1));
    match kind {
        ErrorKind::Throttled => AfterError::TryAgain { at },
        ErrorKind::NoRoom => AfterError::TryAgain { at: when_there_may_be_room(job, now) },
        ErrorKind::Transient | ErrorKind::Database | ErrorKind::BadFile | ErrorKind::Internal
            if job.attempts < MAX_ATTEMPTS =>
        {
            AfterError::TryAgain { at }
        }
        ErrorKind::Expired if job.replays == 0 => AfterError::OrderAgain { by: OrderBy::Replay },
        ErrorKind::Expired if job.resubmits == 0 => AfterError::OrderAgain { by: OrderBy::Submission },
        ErrorKind::Credentials => AfterError::PauseAccount,
        ErrorKind::Forbidden => AfterError::PauseExport,
        ErrorKind::Transient
        | ErrorKind::Database
        | ErrorKind::BadFile
        | ErrorKind::Internal
        | ErrorKind::Expired
        | ErrorKind::Remote
        | ErrorKind::Permanent => AfterError::GiveUp,
    }
}

/// When to try again what there was no room for.
pub fn when_there_may_be_room(job: &Job, now: DateTime<Utc>) -> DateTime<Utc> {
    let pause = backoff(1, ROOM_PAUSE, ROOM_PAUSE, job.jitter());
    now + TimeDelta::from_std(pause).expect("minutes")
}

/// What a look after an unknown end of an order leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterLookup {
    /// The order is there, under this id.
    Adopt(String),
    /// Look again then: a replay may not show at once.
    LookAgain {
        /// When.
        at: DateTime<Utc>,
    },
    /// It is not there: order again.
    OrderAgain,
}

/// Decides whether one of `listed` remote jobs is the submission whose reply was lost. `skew` is impact.com's clock
/// minus ours; `listed` holds only jobs of our type and program whose ids we do not know.
///
/// With several candidates none is taken: an identical submission is answered with the right one (impact-api §3.4).
pub fn adopt_submission(job: &Job, listed: &[(String, Option<DateTime<Utc>>)], skew: TimeDelta) -> AfterLookup {
    let Some(submitted_at) = job.submitted_at else { return AfterLookup::OrderAgain };
    let earliest = submitted_at + skew - CLOCK_TOLERANCE;
    let latest = submitted_at + skew + REQUEST_TIME;
    let mut candidates =
        listed.iter().filter(|(_, created_at)| created_at.is_some_and(|at| earliest <= at && at <= latest));
    match (candidates.next(), candidates.next()) {
        (Some((id, _)), None) => AfterLookup::Adopt(id.clone()),
        (Some(_), Some(_)) | (None, _) => AfterLookup::OrderAgain,
    }
}

/// Decides whether a Replay whose reply was lost took effect: something moved, or nothing did.
pub fn adopt_replay(job: &Job, replayed: &str, seen: &Seen, now: DateTime<Utc>) -> AfterLookup {
    let moved = match seen.status {
        SeenStatus::UnderWay => true,
        SeenStatus::Trouble | SeenStatus::Completed | SeenStatus::Dead => seen.done_at != job.remote_done_at,
    };
    if moved {
        AfterLookup::Adopt(replayed.to_owned())
    } else if job.polls < STALE_READS {
        // Looks that were answered; tries that were not tell nothing.
        AfterLookup::LookAgain { at: now + TimeDelta::seconds(3) }
    } else {
        AfterLookup::OrderAgain
    }
}

/// A duration as settings write it.
fn words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        s if s > 0 && s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s > 0 && s % 3_600 == 0 => format!("{}h", s / 3_600),
        s if s > 0 && s % 60 == 0 => format!("{}min", s / 60),
        s => format!("{s}s"),
    }
}

#[cfg(test)]
mod tests;
