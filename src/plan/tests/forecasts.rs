//! Forecasts with known answers.

use super::*;

fn foresee(state: AccountState) -> Forecast {
    forecast(state, &HashMap::new(), at(NOW), TimeDelta::hours(24))
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
