//! Why the days of a feed are not there yet, in words: the one answer that the terminal and the page give.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::JobState;
use super::mend::{Purpose, cause};
use crate::figures::moment;
use crate::retry::ErrorKind;

/// A failed day is due again after this long (design §10).
const RETRY_FAILED_AFTER: TimeDelta = TimeDelta::hours(1);

/// What is known of the newest day of a feed that is not as it should be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// The day; `None` where all is as it should be.
    pub day: Option<NaiveDate>,
    /// Why the account is paused, and since when, if it is.
    pub account_paused: Option<(DateTime<Utc>, String)>,
    /// Whether that is by hand.
    pub account_by_hand: bool,
    /// The same of the export on the account.
    pub export_paused: Option<(DateTime<Utc>, String)>,
    /// Whether that is by hand: of the export on all accounts.
    pub export_by_hand: bool,
    /// Whether a disk is full, so that nothing is ordered.
    pub no_room: bool,
    /// The job at work on the day.
    pub job: Option<OpenJob>,
    /// The job that failed on it.
    pub failed: Option<FailedJob>,
    /// Calls left in the bucket that pays for it.
    pub remaining: i32,
    /// When the next is free again.
    pub resets_at: Option<DateTime<Utc>>,
    /// The bucket.
    pub bucket: String,
}

/// A job that is not at its end.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenJob {
    /// Its id.
    pub id: i64,
    /// Where it stands.
    pub state: JobState,
    /// Not to be worked on before.
    pub run_at: DateTime<Utc>,
    /// When it was planned.
    pub created_at: DateTime<Utc>,
    /// When it was ordered.
    pub submitted_at: Option<DateTime<Utc>>,
    /// How far impact.com says that it is.
    pub remote: Option<String>,
    /// The last error.
    pub error: Option<String>,
    /// Whether somebody works on it now.
    pub is_held: bool,
}

/// A job that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct FailedJob {
    /// Its id.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Why.
    pub error: String,
    /// The class of that.
    pub kind: Option<ErrorKind>,
}

/// A reason, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Why {
    /// In words.
    pub because: String,
    /// The command that mends it or tells more; none where waiting does.
    pub next: Option<String>,
}

impl Why {
    fn new(because: String, next: impl Into<Option<String>>) -> Self {
        Self { because, next: next.into() }
    }
}

/// Why the newest day that is not as it should be is so. What holds up everything is said before what holds up the day.
pub fn why(export: &str, account: &str, known: &Known, now: DateTime<Utc>) -> Why {
    let resume = format!("impact-mirror accounts resume {account}");
    if let Some((since, reason)) = &known.account_paused {
        let mend = if known.account_by_hand {
            String::new()
        } else {
            format!("; give accounts.{account}.auth_token a valid token and reload the daemon's configuration, then:")
        };
        return Why::new(format!("account {account} is paused since {}: {reason}{mend}", moment(*since)), resume);
    }
    if let Some((since, reason)) = &known.export_paused {
        let (mend, resume) = if known.export_by_hand {
            ("", format!("impact-mirror exports resume {export}"))
        } else {
            ("; give the token the scope, then:", resume)
        };
        return Why::new(format!("{export} is paused on {account} since {}: {reason}{mend}", moment(*since)), resume);
    }
    let Some(day) = known.day else {
        return Why::new("nothing is due: every day is loaded".to_owned(), None);
    };
    if known.no_room && known.job.as_ref().is_none_or(|job| job.state == JobState::Planned) {
        let because = format!("{day} is not ordered while a disk is full");
        return Why::new(because, "impact-mirror status".to_owned());
    }
    if let Some(job) = &known.job {
        return of_job(day, job, known, now);
    }
    if let Some(failed) = &known.failed {
        let FailedJob { id, at, error, kind } = failed;
        let again = moment(*at + RETRY_FAILED_AFTER);
        let because = format!(
            "{day} failed at {}: {error}; {}; it is due again at {again}",
            moment(*at),
            cause(Purpose::Days, *kind)
        );
        return Why::new(because, format!("impact-mirror jobs retry {id}"));
    }
    if known.remaining <= 0 {
        return Why::new(format!("{day} {}", for_quota(known)), format!("impact-mirror plan --export {export}"));
    }
    let because =
        format!("{day} is due and not planned yet; the schedule's next tick plans it, if `impact-mirror run` runs");
    Why::new(because, format!("impact-mirror plan --export {export}"))
}

fn of_job(day: NaiveDate, job: &OpenJob, known: &Known, now: DateTime<Utc>) -> Why {
    let show = format!("impact-mirror jobs show {}", job.id);
    let since = moment(job.submitted_at.unwrap_or(job.created_at));
    if let (Some(error), false) = (&job.error, job.is_held) {
        let again = if job.run_at > now { format!("at {}", moment(job.run_at)) } else { "now".to_owned() };
        return Why::new(format!("{day}: the last try of job {} failed: {error}; the next is {again}", job.id), show);
    }
    let because = match job.state {
        JobState::Planned if job.run_at > now => {
            format!("{day} is planned, not before {} (job {})", moment(job.run_at), job.id)
        }
        JobState::Planned if known.remaining <= 0 => format!("{day} {} (job {})", for_quota(known), job.id),
        JobState::Planned => {
            format!("{day} is planned since {} and ordered next (job {})", moment(job.created_at), job.id)
        }
        JobState::Submitting => format!("{day} is being ordered (job {})", job.id),
        JobState::Waiting => {
            let remote = job.remote.as_deref().unwrap_or("not looked at yet");
            format!("{day} is in flight at impact.com since {since}: {remote} (job {})", job.id)
        }
        JobState::Ready => format!("{day} is done at impact.com and fetched next; ordered at {since} (job {})", job.id),
        JobState::Loading => format!("{day} is being loaded; ordered at {since} (job {})", job.id),
        JobState::Loaded | JobState::Failed | JobState::Cancelled => format!("job {} of {day} has just ended", job.id),
    };
    Why::new(because, show)
}

fn for_quota(known: &Known) -> String {
    let until = known.resets_at.map_or_else(String::new, |at| format!(" until {}", moment(at)));
    format!("waits for quota{until}: the {} calls are spent", known.bucket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    fn due() -> Known {
        let day = NaiveDate::from_ymd_opt(2026, 5, 1);
        Known { day, remaining: 3, bucket: "report_export".to_owned(), ..Known::default() }
    }

    fn job(state: JobState) -> OpenJob {
        OpenJob {
            id: 7,
            state,
            run_at: at("2026-05-02T09:00:00Z"),
            created_at: at("2026-05-02T08:00:00Z"),
            submitted_at: None,
            remote: None,
            error: None,
            is_held: false,
        }
    }

    fn words(known: &Known) -> String {
        why("actions", "acme", known, at("2026-05-02T10:00:00Z")).because
    }

    #[test]
    fn a_pause_is_said_before_all_else() {
        let paused = Some((at("2026-05-01T00:00:00Z"), "401".to_owned()));
        let known = Known { account_paused: paused, account_by_hand: true, job: Some(job(JobState::Waiting)), ..due() };
        let why = why("actions", "acme", &known, at("2026-05-02T10:00:00Z"));
        assert_eq!(why.because, "account acme is paused since 2026-05-01 00:00:00Z: 401");
        assert_eq!(why.next.as_deref(), Some("impact-mirror accounts resume acme"));
    }

    #[test]
    fn what_waits_for_quota_says_until_when() {
        let spent = Known { remaining: 0, resets_at: Some(at("2026-05-02T12:00:00Z")), ..due() };
        let said = "2026-05-01 waits for quota until 2026-05-02 12:00:00Z: the report_export calls are spent";
        assert_eq!(words(&spent), said);
        assert_eq!(words(&Known { job: Some(job(JobState::Planned)), ..spent }), format!("{said} (job 7)"));
    }

    #[test]
    fn a_job_in_flight_says_since_when_and_how_far_it_is() {
        let waiting = OpenJob { remote: Some("RUNNING 40%".to_owned()), ..job(JobState::Waiting) };
        let said = "2026-05-01 is in flight at impact.com since 2026-05-02 08:00:00Z: RUNNING 40% (job 7)";
        assert_eq!(words(&Known { job: Some(waiting), ..due() }), said);
    }

    #[test]
    fn a_try_that_failed_is_said_unless_another_is_under_way() {
        let failed = OpenJob { error: Some("502".to_owned()), ..job(JobState::Ready) };
        let known = Known { job: Some(failed.clone()), ..due() };
        assert_eq!(words(&known), "2026-05-01: the last try of job 7 failed: 502; the next is now");
        let held = OpenJob { is_held: true, ..failed };
        assert!(words(&Known { job: Some(held), ..due() }).contains("fetched next"));
    }

    #[test]
    fn a_failed_day_says_when_it_is_due_again() {
        let kind = Some(ErrorKind::Forbidden);
        let failed = FailedJob { id: 3, at: at("2026-05-02T09:30:00Z"), error: "no such report".to_owned(), kind };
        let said = "2026-05-01 failed at 2026-05-02 09:30:00Z: no such report; give the token the scope it lacks in impact.com's \
                    settings; it is due again at 2026-05-02 10:30:00Z";
        assert_eq!(words(&Known { failed: Some(failed), ..due() }), said);
    }

    #[test]
    fn a_feed_whose_days_are_all_there_has_nothing_due() {
        assert_eq!(words(&Known::default()), "nothing is due: every day is loaded");
    }
}
