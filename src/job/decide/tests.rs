use super::*;
use crate::account::AccountName;
use crate::export::{Bucket, ExportName, ExportRequest, Program, Reason, ResultFormat, Source, Window};
use crate::job::{JobId, JobState};

const POLICY: PollPolicy =
    PollPolicy { first: Duration::from_secs(2), cap: Duration::from_mins(1), deadline: Duration::from_hours(6) };

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

fn job() -> Job {
    let day = "2026-05-01".parse().expect("a day");
    Job {
        id: JobId(7),
        lease: uuid::Uuid::nil(),
        state: JobState::Waiting,
        resumed: false,
        export: ExportName::new("clicks"),
        account: AccountName::new("acme"),
        program: Program::new("1000"),
        window: Window::day(day),
        reason: Reason::Fresh,
        bucket: Bucket::ClickExport,
        request: ExportRequest {
            source: Source::Clicks,
            program: Program::new("1000"),
            window: Window::day(day),
            params: std::collections::BTreeMap::new(),
            format: ResultFormat::Csv,
        },
        wanted_after: at("2026-05-02T04:00:00Z"),
        replay_of: None,
        remote_job_id: Some("r1".to_owned()),
        adopted: false,
        remote_done_at: None,
        replays: 0,
        resubmits: 0,
        polls: 0,
        attempts: 1,
        run_at: at("2026-05-02T10:00:30Z"),
        submitted_at: Some(at("2026-05-02T10:00:00Z")),
        submitted_remote_at: Some(at("2026-05-02T10:00:00Z")),
        as_of: None,
        records_processed: None,
        reload_of: None,
        compares: false,
        claimed_at: at("2026-05-02T10:00:30Z"),
    }
}

fn seen(status: SeenStatus) -> Seen {
    Seen {
        status,
        created_at: Some(at("2026-05-02T10:00:00Z")),
        started_at: Some(at("2026-05-02T10:00:01Z")),
        done_at: Some(at("2026-05-02T10:01:00Z")),
        message: String::new(),
    }
}

#[test]
fn a_completed_run_of_our_order_is_ready_as_of_the_order() {
    let next = after_poll(&job(), &seen(SeenStatus::Completed), at("2026-05-02T10:02:00Z"), &POLICY);
    assert_eq!(
        next,
        AfterPoll::Ready { as_of: at("2026-05-02T10:00:00Z"), completed_at: Some(at("2026-05-02T10:01:00Z")) }
    );
}

#[test]
fn an_old_run_that_answers_a_new_order_is_replayed_when_it_is_older_than_wanted() {
    let mut old = seen(SeenStatus::Completed);
    old.created_at = Some(at("2026-05-01T10:00:00Z"));
    old.started_at = old.created_at;
    let now = at("2026-05-02T10:02:00Z");
    assert!(matches!(after_poll(&job(), &old, now, &POLICY), AfterPoll::Replay { .. }));

    old.started_at = Some(at("2026-05-02T05:00:00Z"));
    assert!(
        matches!(after_poll(&job(), &old, now, &POLICY), AfterPoll::Ready { as_of, .. } if as_of == at("2026-05-02T05:00:00Z"))
    );
}

#[test]
fn the_age_of_an_old_run_is_told_by_the_clock_of_impact_com() {
    let mut job = job();
    job.submitted_remote_at = Some(at("2026-05-12T10:00:00Z")); // ten days ahead of us
    let mut old = seen(SeenStatus::Completed);
    old.created_at = Some(at("2026-05-11T10:00:00Z"));
    old.started_at = old.created_at;
    let next = after_poll(&job, &old, at("2026-05-02T10:02:00Z"), &POLICY);
    assert!(matches!(next, AfterPoll::Replay { .. }), "a day old, and a day is too old: {next:?}");
}

#[test]
fn a_stale_read_after_a_replay_is_not_taken_for_its_end() {
    let mut replayed = job();
    replayed.replay_of = Some("r1".to_owned());
    replayed.remote_done_at = Some(at("2026-05-02T10:01:00Z"));
    let now = at("2026-05-02T10:02:00Z");
    let next = after_poll(&replayed, &seen(SeenStatus::Completed), now, &POLICY);
    assert!(matches!(next, AfterPoll::PollAgain { .. }));

    replayed.remote_done_at = Some(at("2026-05-01T10:01:00Z"));
    let next = after_poll(&replayed, &seen(SeenStatus::Completed), now, &POLICY);
    assert!(matches!(next, AfterPoll::Ready { .. }));
}

#[test]
fn a_new_job_made_by_a_replay_has_ended_whenever_the_old_one_did() {
    let mut replayed = job();
    replayed.replay_of = Some("r0".to_owned());
    replayed.remote_done_at = Some(at("2026-05-02T10:01:00Z"));
    let now = at("2026-05-02T10:02:00Z");
    let next = after_poll(&replayed, &seen(SeenStatus::Completed), now, &POLICY);
    assert!(matches!(next, AfterPoll::Ready { .. }), "{next:?}");
}

#[test]
fn a_dead_remote_job_is_replayed_once_and_then_given_up_with_its_words() {
    let mut dead = seen(SeenStatus::Dead);
    dead.message = "Report too large".to_owned();
    let now = at("2026-05-02T10:02:00Z");
    assert!(matches!(after_poll(&job(), &dead, now, &POLICY), AfterPoll::Replay { .. }));
    let mut replayed = job();
    replayed.replays = 1;
    let AfterPoll::GiveUp { kind, message } = after_poll(&replayed, &dead, now, &POLICY) else {
        panic!("not given up")
    };
    assert_eq!(kind, ErrorKind::Remote);
    assert!(message.contains("Report too large"));
}

#[test]
fn an_error_is_waited_out_for_ninety_minutes() {
    let trouble = Seen { done_at: None, ..seen(SeenStatus::Trouble) };
    let next = after_poll(&job(), &trouble, at("2026-05-02T11:00:00Z"), &POLICY);
    assert_eq!(next, AfterPoll::PollAgain { at: at("2026-05-02T11:02:00Z") });
    let next = after_poll(&job(), &trouble, at("2026-05-02T11:31:00Z"), &POLICY);
    assert!(matches!(next, AfterPoll::Replay { .. }));
}

#[test]
fn a_job_that_never_ends_is_given_up_at_its_deadline() {
    let running = Seen { done_at: None, ..seen(SeenStatus::UnderWay) };
    let next = after_poll(&job(), &running, at("2026-05-02T16:00:00Z"), &POLICY);
    assert!(matches!(next, AfterPoll::GiveUp { ref message, .. } if message.contains("within 6h")), "{next:?}");
}

#[test]
fn an_expired_result_is_replayed_once_then_submitted_once_then_given_up() {
    let now = at("2026-05-02T10:02:00Z");
    let mut job = job();
    let expired = |job: &Job| after_error(job, ErrorKind::Expired, None, now);
    assert_eq!(expired(&job), AfterError::OrderAgain { by: OrderBy::Replay });
    job.replays = 1;
    assert_eq!(expired(&job), AfterError::OrderAgain { by: OrderBy::Submission });
    job.resubmits = 1;
    assert_eq!(expired(&job), AfterError::GiveUp);
}

#[test]
fn a_lost_submission_is_adopted_only_when_there_is_one_candidate() {
    let ours = ("new".to_owned(), Some(at("2026-05-02T10:00:03Z")));
    let other = ("other".to_owned(), Some(at("2026-05-02T10:00:30Z")));
    let before = ("before".to_owned(), Some(at("2026-05-02T09:59:00Z")));
    let zero = TimeDelta::zero();
    assert_eq!(adopt_submission(&job(), &[before.clone(), ours.clone()], zero), AfterLookup::Adopt("new".to_owned()));
    assert_eq!(adopt_submission(&job(), &[ours.clone(), other], zero), AfterLookup::OrderAgain);
    assert_eq!(adopt_submission(&job(), &[before], zero), AfterLookup::OrderAgain);
    // Their clock is a minute ahead: the same job lies before our order.
    assert_eq!(adopt_submission(&job(), &[ours], TimeDelta::minutes(1)), AfterLookup::OrderAgain);
}

#[test]
fn a_lost_replay_is_looked_for_three_times_before_it_is_made_again() {
    let mut job = job();
    job.remote_done_at = Some(at("2026-05-02T10:01:00Z"));
    let now = at("2026-05-02T10:05:00Z");
    let still = seen(SeenStatus::Completed);
    job.attempts = 9; // most of them were not answered
    for polls in 0..=1 {
        job.polls = polls;
        assert!(matches!(adopt_replay(&job, "r1", &still, now), AfterLookup::LookAgain { .. }));
    }
    job.polls = 2;
    assert_eq!(adopt_replay(&job, "r1", &still, now), AfterLookup::OrderAgain);
    let running = Seen { done_at: None, ..seen(SeenStatus::UnderWay) };
    assert_eq!(adopt_replay(&job, "r1", &running, now), AfterLookup::Adopt("r1".to_owned()));
}

fn listable(id: i64, listed_before: i64) -> Listable {
    Listable { id, listed_before }
}

#[test]
fn jobs_on_the_first_page_are_looked_up_together() {
    let jobs: Vec<Listable> = (1..=5).map(|id| listable(id, 5)).collect();
    assert_eq!(worth_listing(&jobs), [1, 2, 3, 4, 5]);
    assert_eq!(worth_listing(&jobs[..1]), [0; 0], "one look costs as much as a page");
    assert_eq!(worth_listing(&[]), [0; 0]);
}

#[test]
fn a_replay_of_an_old_job_is_left_out_where_its_pages_cost_more() {
    let jobs = [listable(1, 900), listable(2, 3), listable(3, 1), listable(4, 250)];
    assert_eq!(worth_listing(&jobs), [3, 2], "two looks for a page; three pages for three looks save nothing more");
    assert_eq!(worth_listing(&[listable(1, 201), listable(2, 202)]), [0; 0]);
}

#[test]
fn old_jobs_enough_are_worth_their_pages() {
    let jobs: Vec<Listable> = (1..=50).map(|id| listable(id, 250 + id)).collect();
    assert_eq!(worth_listing(&jobs).len(), 50);
}

#[test]
fn the_first_look_comes_at_the_usual_time_within_bounds() {
    let first = |seconds| POLICY.first_look(Some(Duration::from_secs(seconds))).num_seconds();
    assert_eq!([first(0), first(30), first(60)], [2, 30, 60]);
    assert_eq!(
        [first(90), first(20 * 60), first(3600)],
        [60, 19 * 60, 30 * 60],
        "a longest pause before the usual time"
    );
    assert_eq!(POLICY.first_look(None).num_seconds(), 2);
}

#[test]
fn pauses_grow_with_the_time_since_the_order() {
    let pause = |since| POLICY.next_look(&job(), TimeDelta::seconds(since)).num_seconds();
    assert!(pause(1) < 3);
    assert_eq!([pause(40), pause(4000)], [10, 60]);
}

#[test]
fn without_their_date_an_old_run_is_told_by_our_clock_with_an_hour_to_spare() {
    let mut job = job();
    job.submitted_remote_at = None;
    let submitted_at = job.submitted_at.expect("it was ordered");
    let run = |before: TimeDelta| Seen {
        status: SeenStatus::Completed,
        created_at: Some(submitted_at - before),
        started_at: Some(submitted_at - before),
        done_at: Some(submitted_at - before + TimeDelta::minutes(1)),
        message: String::new(),
    };
    job.wanted_after = submitted_at - TimeDelta::minutes(30);
    let after = |seen: &Seen| after_poll(&job, seen, submitted_at + TimeDelta::minutes(5), &POLICY);
    let old = run(TimeDelta::hours(2));
    assert!(is_deduplicated(&job, &old));
    assert!(matches!(after(&old), AfterPoll::Replay { .. }));
    let new = run(TimeDelta::minutes(50));
    assert!(!is_deduplicated(&job, &new), "the clocks may be so far apart");
    assert!(matches!(after(&new), AfterPoll::Ready { .. }));
}
