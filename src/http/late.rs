//! Why an export is late, in words, with what mends it. Pure: facts in, reasons out.

use chrono::{DateTime, Utc};

use super::answer::{days, place};
use super::snapshot::Snapshot;
use crate::figures::{ago, moment, sentence};
use crate::job::JobState;
use crate::store::behind::{Behind, Facts};
use crate::store::room::NoRoom;
use crate::store::status::JobLine;

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reason {
    pub words: String,
    /// The command that mends it, or that shows more.
    pub command: Option<String>,
    /// The job that it is about.
    pub job: Option<i64>,
}

impl Reason {
    fn new(words: String, command: Option<String>) -> Self {
        Self { words, command, job: None }
    }

    fn about(job: &JobLine, words: String, command: Option<String>) -> Self {
        Self { words, command, job: Some(job.id) }
    }
}

/// What stands in the way of an export, what holds most of it up first.
pub(super) fn why(
    export: &str,
    facts: &Facts,
    behind: &[Behind],
    jobs: &[JobLine],
    snapshot: &Snapshot,
) -> Vec<Reason> {
    let mut reasons = held_up(export, behind, snapshot);
    for feed in behind {
        let place = place(&feed.account, &feed.program);
        let job = |id: Option<i64>| id.and_then(|id| jobs.iter().find(|job| job.id == id));
        let failed = job(feed.failed_job).map(|job| failure(job, &place));
        let open = job(feed.open_job).map(|job| on_the_way(job, &place, facts, snapshot));
        let known = failed.is_some() || open.is_some();
        reasons.extend(failed);
        reasons.extend(open);
        if !known {
            let latest = feed.latest_day.map_or_else(|| "no day".to_owned(), |day| format!("nothing after {day}"));
            reasons.push(Reason::new(
                format!("{place}: {latest} is complete, and no job is planned yet. {}", tick(facts, snapshot.at)),
                Some(format!("impact-mirror plan --export {export}")),
            ));
        }
    }
    reasons
}

/// Pauses and full disks.
fn held_up(export: &str, behind: &[Behind], snapshot: &Snapshot) -> Vec<Reason> {
    let on = |account: &str| behind.iter().any(|feed| feed.account == account);
    let mut reasons = Vec::new();
    for one in &snapshot.by_hand {
        if (one.kind == "export" && one.name == export) || (one.kind == "account" && on(&one.name)) {
            let words =
                format!("{} {} was paused by hand at {}, by {}.", one.kind, one.name, moment(one.since), one.by);
            reasons.push(Reason::new(words, Some(format!("impact-mirror {}s resume {}", one.kind, one.name))));
        }
    }
    for one in snapshot.paused.iter().filter(|one| on(one.account.as_str())) {
        let (account, since) = (&one.account, moment(one.since));
        let words = format!(
            "Account {account} is paused since {since}: {}. Give accounts.{account}.auth_token a valid token and reload the daemon's \
             configuration, then:",
            one.reason
        );
        reasons.push(Reason::new(words, Some(format!("impact-mirror accounts resume {}", one.account))));
    }
    for one in snapshot.paused_exports.iter().filter(|one| one.export.as_str() == export) {
        let words = format!(
            "impact.com forbids it on account {} since {}: {}. Give the token the scope, then:",
            one.account,
            moment(one.since),
            one.reason
        );
        reasons.push(Reason::new(words, Some(format!("impact-mirror accounts resume {}", one.account))));
    }
    if let Some(one) = &snapshot.no_room {
        reasons.push(Reason::new(format!("{}: {}. {}.", one.words(), one.message, NoRoom::MEND), None));
    }
    reasons
}

fn failure(job: &JobLine, place: &str) -> Reason {
    let at = job.finished_at.map(|at| format!(" at {}", moment(at))).unwrap_or_default();
    let message = job.error_message.as_deref().unwrap_or("no reason was kept");
    let days = days(job.from_day, job.to_day);
    let words = format!("{place}: the last try for {days} failed{at}: {message}");
    match job.mend() {
        Some(mend) => Reason::about(job, format!("{words}. {}", sentence(mend.cause)), mend.command),
        None => Reason::about(job, words, None),
    }
}

fn on_the_way(job: &JobLine, place: &str, facts: &Facts, snapshot: &Snapshot) -> Reason {
    let days = days(job.from_day, job.to_day);
    let last_try = job.error_message.as_ref().map(|message| format!(" Its last try: {message}")).unwrap_or_default();
    if job.state != JobState::Planned.as_str() {
        let since = job.submitted_at.unwrap_or(job.created_at);
        let percent = job.remote_percent.map(|percent| format!(", {percent:.0} % by impact.com")).unwrap_or_default();
        let age = ago((snapshot.at - since).num_seconds());
        let words =
            format!("{place}: {days} is in flight since {} ({age}), {}{percent}.{last_try}", moment(since), job.state);
        return Reason::about(job, words, None);
    }
    let spent = snapshot
        .quota
        .iter()
        .find(|one| one.account == job.account && one.bucket == facts.bucket && one.remaining == 0);
    let planned = moment(job.created_at);
    match spent {
        Some(bucket) => {
            let until = bucket.resets_at.map(|at| format!(" until {}", moment(at))).unwrap_or_default();
            let words = format!(
                "{place}: {days} is planned since {planned} and waits for quota of {}{until}: {} of {} are spent.{last_try}",
                bucket.bucket, bucket.used, bucket.limit
            );
            Reason::about(job, words, Some(format!("impact-mirror plan --export {}", job.export)))
        }
        None if job.run_at > snapshot.at => {
            let words =
                format!("{place}: {days} is planned since {planned}, not before {}.{last_try}", moment(job.run_at));
            Reason::about(job, words, None)
        }
        None => {
            let words = format!("{place}: {days} is planned since {planned} and is ordered in its turn.{last_try}");
            Reason::about(job, words, Some(format!("impact-mirror plan --export {}", job.export)))
        }
    }
}

fn tick(facts: &Facts, now: DateTime<Utc>) -> String {
    facts.last_tick_at.map_or_else(
        || "Its schedule has not fired yet.".to_owned(),
        |at| format!("Its schedule fired last {} ago.", ago((now - at).num_seconds())),
    )
}
