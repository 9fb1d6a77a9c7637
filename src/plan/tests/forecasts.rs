//! Forecasts with known answers.

use super::*;

fn foresee(state: AccountState) -> Forecast {
    forecast(state, Vec::new(), &HashMap::new(), at(NOW), TimeDelta::hours(24))
}

/// The same beside jobs that were planned for some days of the first feed.
fn foresee_planned(mut state: AccountState, reason: Reason, days: &[&str]) -> Forecast {
    let feed = &mut state.feeds[0];
    let job = |text: &&str| {
        let window = Window::day(day(text));
        Wanted {
            export: feed.feed.export.clone(),
            account: feed.feed.account.clone(),
            window,
            reason,
            priority: 3_000,
            bucket: feed.feed.source.bucket(),
            request: feed.feed.request(window),
            replay_of: None,
            cost: 1,
            wanted_after: at("2026-01-01T00:00:00Z"),
            expected_at: None,
            because: None,
        }
    };
    let planned: Vec<Wanted> = days.iter().map(job).collect();
    feed.open = days.iter().map(|text| day(text)).collect();
    for budget in state.budgets.values_mut() {
        budget.planned = vec![reason; days.len()];
    }
    forecast(state, planned, &HashMap::new(), at(NOW), TimeDelta::hours(24))
}

/// Clicks of three days, of which the newest is read.
fn two_days_short() -> FeedState {
    let mut state = nightly("2026-06-07", "1000");
    loaded(&mut state, day("2026-06-09"), at("2026-06-10T03:30:00Z"));
    state
}

/// Clicks whose schedule fires at 03:30.
fn nightly(since: &str, program: &str) -> FeedState {
    let mut state = clicks(since);
    state.feed.program = Program::new(program);
    state.feed.ticks = once_a_day("2026-06-11T03:30:00Z");
    state.tick_at = Some(at("2026-06-10T03:30:00Z"));
    state
}

#[test]
fn a_backfill_of_clicks_ends_on_the_day_that_its_steady_rate_gives() {
    // 731 days to yesterday: yesterday is fresh, 730 are backfill; nine calls a day are left for them.
    let forecast = foresee(account(vec![nightly("2024-06-09", "1000")], 10));
    let [end] = &forecast.backfills[..] else { panic!("{:?}", forecast.backfills) };
    assert_eq!((end.calls_left, end.calls_per_day), (730, 9));
    // Eight today, for one call is kept for tonight; the other 722 take 80 days and a bit from tomorrow on.
    assert_eq!(forecast.calls.len(), 10);
    assert_eq!(end.done_on, Some(day("2026-06-11") + chrono::Days::new(80)));
    assert!(forecast.late.is_empty());
}

#[test]
fn calls_come_in_the_order_of_their_time_with_the_tick_that_brings_them() {
    let forecast = foresee(account(vec![nightly("2026-06-07", "1000")], 10));
    let calls: Vec<_> = forecast.calls.iter().map(|call| (call.expected_at, call.reason)).collect();
    let (now, night) = (Some(at(NOW)), Some(at("2026-06-11T03:30:00Z")));
    assert_eq!(calls, [(now, Reason::Fresh), (now, Reason::Backfill), (now, Reason::Backfill), (night, Reason::Fresh)]);
    assert_eq!(forecast.calls[3].window, Window::day(day("2026-06-10")));
    assert!(forecast.waiting.is_empty());
    assert_eq!(forecast.backfills[0].done_on, Some(day("2026-06-10")));
}

#[test]
fn what_a_call_read_is_read_again_when_its_rule_says_and_then_by_replay() {
    let mut state = report("2026-06-10");
    state.feed.rules = vec![RefreshRule { age: hours(72), every: hours(6) }];
    let forecast = foresee(account(vec![state], 100));
    let first: Vec<_> = forecast.calls.iter().take(3).map(|call| (call.expected_at, call.action())).collect();
    assert_eq!(
        first,
        [
            (Some(at(NOW)), Action::Submit),
            (Some(at("2026-06-10T17:45:00Z")), Action::Replay),
            (Some(at("2026-06-10T23:30:00Z")), Action::Replay)
        ]
    );
}

#[test]
fn days_that_the_budget_cannot_read_in_time_are_late_and_say_since_when() {
    let feeds = (0..25).map(|n| {
        let mut state = nightly("2026-06-05", &format!("{}", 1000 + n));
        for old in ["2026-06-05", "2026-06-06", "2026-06-07", "2026-06-08"] {
            loaded(&mut state, day(old), at("2026-06-09T04:00:00Z"));
        }
        state
    });
    let forecast = foresee(account(feeds.collect(), 10));
    let late: Vec<_> = forecast.late.iter().filter(|one| one.day == day("2026-06-09")).collect();
    assert_eq!(late.len(), 15, "ten are read now, the others compete with tomorrow's");
    assert!(late.iter().all(|one| one.behind_since == at("2026-06-10T00:00:00Z")));
    assert!(forecast.backfills.iter().all(|end| end.done_on.is_none()), "more comes in than is read");
}

#[test]
fn a_paused_account_calls_nothing_and_its_backfill_never_ends() {
    let mut state = nightly("2026-06-01", "1000");
    state.paused = Some("credentials refused".to_owned());
    let forecast = foresee(account(vec![state], 10));
    assert!(forecast.calls.is_empty());
    assert_eq!(forecast.backfills[0].done_on, None);
    assert_eq!(forecast.late.len(), 2);
}

#[test]
fn a_failed_day_is_tried_again_within_the_forecast() {
    let mut state = nightly("2026-06-09", "1000");
    set(
        &mut state,
        day("2026-06-09"),
        Cell { as_of: None, next_refresh_at: None, failed_at: Some(at("2026-06-10T11:30:00Z")) },
    );
    let forecast = foresee(account(vec![state], 10));
    assert_eq!(forecast.calls[0].expected_at, Some(at("2026-06-10T12:30:00Z")));
}

#[test]
fn planned_jobs_are_calls_that_are_still_to_be_made() {
    let forecast =
        foresee_planned(account(vec![two_days_short()], 10), Reason::Backfill, &["2026-06-07", "2026-06-08"]);
    let calls: Vec<_> = forecast.calls.iter().map(|call| (call.expected_at, call.window.from())).collect();
    let now = Some(at(NOW));
    assert_eq!(
        calls,
        [(now, day("2026-06-08")), (now, day("2026-06-07")), (Some(at("2026-06-11T03:30:00Z")), day("2026-06-10"))]
    );
    assert_eq!(forecast.backfills[0].calls_left, 2);
}

#[test]
fn planned_jobs_wait_where_their_export_is_paused_or_their_bucket_is_closed() {
    let days = ["2026-06-07", "2026-06-08"];
    let mut paused = two_days_short();
    paused.paused = Some("forbidden".to_owned());
    let forecast = foresee_planned(account(vec![paused], 10), Reason::Backfill, &days);
    assert_eq!((forecast.calls.len(), forecast.waiting.len()), (0, 3), "{:?}", forecast.waiting);
    assert!(forecast.waiting.iter().all(|one| one.because == Some(Because::Paused("forbidden".to_owned()))));

    let mut closed = account(vec![two_days_short()], 10);
    closed.budgets.values_mut().for_each(|budget| budget.closed_until = Some(at(NOW) + TimeDelta::days(2)));
    let forecast = foresee_planned(closed, Reason::Backfill, &days);
    assert_eq!((forecast.calls.len(), forecast.waiting.len()), (0, 3));
    assert!(forecast.waiting.iter().all(|one| one.because == Some(Because::Quota)));
}

#[test]
fn the_end_of_a_backfill_leaves_room_for_reading_again_what_it_loads() {
    let mut one = nightly("2024-06-09", "1000");
    one.feed.rules = vec![RefreshRule { age: hours(24 * 800), every: hours(24) }];
    let mut other = one.clone();
    other.feed.export = ExportName::new("more_clicks");
    let forecast = foresee(account(vec![one, other], 10));
    let ends: Vec<_> = forecast.backfills.iter().map(|end| (end.calls_per_day, end.shared_by)).collect();
    assert_eq!(ends, [(2, 2), (2, 2)], "ten a day less two new days and what was loaded, or the minimum");
}

#[test]
fn days_that_have_room_once_todays_calls_end_are_not_late() {
    let feed = |n: u32| FeedState { tick_at: Some(at(NOW)), ..nightly("2026-06-01", &n.to_string()) };
    let forecast = foresee(account((1..=8).map(feed).collect(), 10));
    assert_eq!(forecast.calls.len(), 10, "what the bucket holds until tomorrow noon");
    let tomorrows = forecast.waiting.iter().filter(|one| one.window == Window::day(day("2026-06-10")));
    let expected: Vec<_> = tomorrows.map(|one| one.expected_at).collect();
    assert_eq!(expected, [Some(at("2026-06-11T12:00:00Z")); 8]);
    assert!(forecast.late.is_empty(), "{:?}", forecast.late);
}
