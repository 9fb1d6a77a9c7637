use std::time::Duration;

use std::collections::HashMap;

use super::*;
use crate::export::{Reason, ReportHandle, ResultFormat};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

fn day(text: &str) -> NaiveDate {
    text.parse().expect("a day")
}

fn hours(n: u64) -> Duration {
    Duration::from_hours(n)
}

fn rules() -> Vec<RefreshRule> {
    vec![RefreshRule { age: hours(3 * 24), every: hours(6) }, RefreshRule { age: hours(35 * 24), every: hours(24) }]
}

/// The ticks of the next 24 hours, every quarter of an hour.
fn every_quarter() -> Arc<[DateTime<Utc>]> {
    (1..=96).map(|n| at(NOW) + TimeDelta::minutes(15 * n)).collect()
}

fn once_a_day(text: &str) -> Arc<[DateTime<Utc>]> {
    Arc::new([at(text)])
}

fn report(since: &str) -> FeedState {
    FeedState {
        feed: Feed {
            export: ExportName::new("actions"),
            account: AccountName::new("acme"),
            program: Program::new("1000"),
            source: Source::Report(ReportHandle::new("adv_action_listing_pm_only")),
            params: BTreeMap::new(),
            format: ResultFormat::Csv,
            time_zone: chrono_tz::UTC,
            since: day(since),
            include_today: true,
            max_window_days: 31,
            rules: rules(),
            freshness: hours(26),
            ticks: every_quarter(),
        },
        tick_at: Some(at("2026-06-10T12:00:00Z")),
        paused: None,
        cells: Vec::new(),
        open: BTreeSet::new(),
        manual: Vec::new(),
        rates: ChangeRates::default(),
    }
}

fn account(feeds: Vec<FeedState>, limit: u32) -> AccountState {
    let state = BudgetState {
        limit,
        window: TimeDelta::hours(24),
        charges: Vec::new(),
        planned: Vec::new(),
        closed_until: None,
        at_most: None,
        replay_cost: 1,
    };
    let budgets =
        [Bucket::ReportExport, Bucket::ClickExport].into_iter().map(|bucket| (bucket, state.clone())).collect();
    AccountState { account: AccountName::new("acme"), feeds, budgets }
}

const NOW: &str = "2026-06-10T12:00:00Z";

fn plan_for(state: FeedState, limit: u32) -> Plan {
    draft(&account(vec![state], limit), at(NOW)).spend(&HashMap::new(), at(NOW))
}

fn loaded(state: &mut FeedState, day: NaiveDate, as_of: DateTime<Utc>) {
    let next_refresh_at = next_refresh_at(state.feed.time_zone, day, as_of, &state.feed.rules, 0);
    set(state, day, Cell { as_of: Some(as_of), next_refresh_at, failed_at: None });
}

fn set(state: &mut FeedState, day: NaiveDate, cell: Cell) {
    match state.cells.binary_search_by_key(&day, |(day, _)| *day) {
        Ok(index) => state.cells[index].1 = cell,
        Err(index) => state.cells.insert(index, (day, cell)),
    }
}

fn forget(state: &mut FeedState, day: NaiveDate) {
    state.cells.retain(|(other, _)| *other != day);
}

fn load_all(state: &mut FeedState, as_of: DateTime<Utc>) {
    let days: Vec<_> = state.feed.since.iter_days().take_while(|day| *day <= day_in(chrono_tz::UTC, as_of)).collect();
    for day in days {
        loaded(state, day, as_of);
    }
}

#[test]
fn ninety_missing_days_take_three_calls_and_the_newest_goes_first() {
    let plan = plan_for(report("2026-03-13"), 100);
    assert_eq!(plan.calls.len(), 3);
    assert_eq!(plan.calls[0].reason, Reason::Fresh);
    assert_eq!(plan.calls[0].window.to(), day("2026-06-10"));
    assert_eq!(plan.calls[1].reason, Reason::Backfill);
    let covered: BTreeSet<_> = plan.calls.iter().flat_map(|call| call.window.days()).collect();
    assert_eq!(covered.len(), 90);
}

#[test]
fn nothing_is_due_before_the_first_tick_and_nothing_twice() {
    let mut never = report("2026-06-01");
    never.tick_at = None;
    assert!(plan_for(never, 100).calls.is_empty());

    let mut done = report("2026-06-01");
    load_all(&mut done, at(NOW));
    assert!(plan_for(done, 100).calls.is_empty());
}

#[test]
fn cells_are_read_again_by_the_rule_of_their_age() {
    let mut state = report("2026-05-01");
    load_all(&mut state, at("2026-06-10T05:59:00Z"));
    let plan = plan_for(state, 100);
    // Six hours have passed: only today and the days up to three days old are due. They lie in two weeks but in one
    // month, so one call does.
    let windows: Vec<_> = plan.calls.iter().map(|call| call.window).collect();
    assert_eq!(windows, [Window::new(day("2026-06-01"), day("2026-06-10")).expect("in order")]);
}

#[test]
fn a_day_read_before_its_end_is_fresh_work_once_it_is_over() {
    let mut state = report("2026-06-08");
    state.feed.rules = Vec::new();
    loaded(&mut state, day("2026-06-08"), at("2026-06-09T01:00:00Z"));
    loaded(&mut state, day("2026-06-09"), at("2026-06-09T23:00:00Z"));
    loaded(&mut state, day("2026-06-10"), at("2026-06-10T01:00:00Z"));
    let plan = plan_for(state, 100);
    assert_eq!(plan.calls.len(), 1);
    assert_eq!(plan.calls[0].window, Window::day(day("2026-06-09")));
    assert_eq!(plan.calls[0].reason, Reason::Fresh);
}

#[test]
fn a_cell_past_the_last_rule_is_settled() {
    let end = at("2026-01-02T00:00:00Z");
    let rules = rules();
    let next = |as_of| next_refresh_at(chrono_tz::UTC, day("2026-01-01"), as_of, &rules, 0);
    assert_eq!(next(end + TimeDelta::hours(1)), Some(end + TimeDelta::hours(7)));
    assert_eq!(next(end + TimeDelta::days(10)), Some(end + TimeDelta::days(11)));
    assert_eq!(next(end + TimeDelta::days(35)), None);
}

#[test]
fn days_of_open_jobs_are_left_out_of_every_window() {
    let mut state = report("2026-06-01");
    state.open.insert(day("2026-06-05"));
    let plan = plan_for(state, 100);
    assert_eq!(plan.calls.len(), 2);
    assert!(plan.calls.iter().all(|call| !call.window.contains(day("2026-06-05"))));
}

fn clicks(since: &str) -> FeedState {
    let mut state = report(since);
    state.feed.export = ExportName::new("clicks");
    state.feed.source = Source::Clicks;
    state.feed.include_today = false;
    state.feed.max_window_days = 1;
    state.feed.rules = Vec::new();
    state
}

#[test]
fn clicks_take_a_call_a_day_and_keep_one_for_the_day_that_ends_before_any_call_is_free_again() {
    let plan = plan_for(clicks("2026-05-01"), 10);
    // One call for yesterday, and one is kept for today, which is over at midnight.
    assert_eq!(plan.calls.len(), 9);
    assert_eq!(plan.calls.iter().filter(|call| call.reason == Reason::Backfill).count(), 8);
    assert_eq!(plan.calls[0].window, Window::day(day("2026-06-09")));
    assert_eq!(plan.waiting.len(), 31);
    assert_eq!(plan.waiting[0].because, Some(Because::Share));
    assert_eq!(plan.waiting[0].expected_at, Some(at("2026-06-11T12:00:00Z")));
    assert_eq!(plan.wake_at, Some(at("2026-06-11T12:00:00Z")));
}

#[test]
fn what_is_free_again_by_then_is_not_kept_for_a_coming_tick() {
    let mut state = clicks("2026-05-01");
    state.feed.ticks = once_a_day("2026-06-11T12:00:00Z");
    assert_eq!(plan_for(state, 10).calls.len(), 10, "today's call is free again when tomorrow's is due");
}

#[test]
fn backfill_leaves_room_for_the_fresh_days_of_the_next_hours() {
    let mut state = report("2026-01-01");
    state.feed.max_window_days = 1;
    let plan = plan_for(state, 10);
    // Two fresh days now. Until ten, after which a call may wait for those of now: today at 17:45 and 23:30, two days at
    // midnight, and today at 5:45.
    assert_eq!(plan.calls.iter().filter(|call| call.reason == Reason::Fresh).count(), 2);
    assert_eq!(plan.calls.iter().filter(|call| call.reason == Reason::Backfill).count(), 3);
}

#[test]
fn no_more_is_kept_for_fresh_days_than_the_schedule_can_use() {
    let mut state = report("2026-01-01");
    state.feed.max_window_days = 1;
    state.feed.ticks = once_a_day("2026-06-11T06:00:00Z");
    let plan = plan_for(state, 10);
    assert_eq!(plan.calls.iter().filter(|call| call.reason == Reason::Backfill).count(), 6, "beside two fresh ones");
}

mod budgets;
mod days;
mod forecasts;

#[test]
fn a_closed_bucket_waits_until_it_opens() {
    let mut account = account(vec![report("2026-06-09")], 10);
    for state in account.budgets.values_mut() {
        state.closed_until = Some(at("2026-06-10T13:00:00Z"));
    }
    let plan = draft(&account, at(NOW)).spend(&HashMap::new(), at(NOW));
    assert!(plan.calls.is_empty());
    assert_eq!(plan.wake_at, Some(at("2026-06-10T13:00:00Z")));
}

#[test]
fn a_window_that_impact_com_already_ran_is_replayed() {
    let state = report("2026-06-09");
    let request = state.feed.request(Window::new(day("2026-06-09"), day("2026-06-10")).expect("in order"));
    let known = HashMap::from([(request, "r1".to_owned())]);
    let plan = draft(&account(vec![state], 10), at(NOW)).spend(&known, at(NOW));
    assert_eq!(plan.calls[0].replay_of.as_deref(), Some("r1"));
    assert_eq!(plan.calls[0].action(), Action::Replay);
}

#[test]
fn what_a_person_asks_for_goes_first_and_needs_no_tick() {
    let mut state = report("2026-01-01");
    load_all(&mut state, at("2026-06-10T11:00:00Z"));
    state.tick_at = None;
    state.manual.push(ManualRequest {
        window: Window::new(day("2026-02-03"), day("2026-02-04")).expect("in order"),
        requested_at: at(NOW),
        rereads: true,
    });
    let plan = plan_for(state.clone(), 10);
    assert_eq!(plan.calls.len(), 1);
    assert_eq!(plan.calls[0].reason, Reason::Manual);
    assert!(plan.calls[0].wanted_after >= at(NOW), "an answer from before the request is too old");

    state.manual[0].rereads = false;
    assert!(plan_for(state, 10).calls.is_empty(), "a backfill of loaded days asks for nothing");
}

#[test]
fn a_failed_cell_is_due_again_after_an_hour() {
    let mut state = report("2026-06-10");
    let failed = |failed_at| Cell { as_of: None, next_refresh_at: None, failed_at: Some(failed_at) };
    set(&mut state, day("2026-06-10"), failed(at("2026-06-10T11:30:00Z")));
    let plan = plan_for(state.clone(), 10);
    assert!(plan.calls.is_empty());
    assert_eq!(plan.wake_at, Some(at("2026-06-10T12:30:00Z")));
    set(&mut state, day("2026-06-10"), failed(at("2026-06-10T11:00:00Z")));
    assert_eq!(plan_for(state, 10).calls.len(), 1);
}

#[test]
fn a_paused_feed_waits_and_says_why() {
    let mut state = report("2026-06-09");
    state.paused = Some("credentials refused".to_owned());
    let plan = plan_for(state, 10);
    assert!(plan.calls.is_empty());
    assert_eq!(plan.waiting[0].because, Some(Because::Paused("credentials refused".to_owned())));
}

mod cover {
    use proptest::prelude::*;

    use super::*;

    fn days(offsets: &BTreeSet<u16>) -> Vec<NaiveDate> {
        offsets.iter().map(|n| day("2026-01-01") + chrono::Days::new(u64::from(*n))).collect()
    }

    fn year() -> Window {
        Window::new(day("2026-01-01"), day("2026-04-30")).expect("in order")
    }

    proptest! {
        #[test]
        fn every_due_day_is_covered_once_and_no_blocked_day_is_touched(
            due in prop::collection::btree_set(0_u16..120, 0..40),
            soon in prop::collection::btree_set(0_u16..120, 0..60),
            blocked in prop::collection::btree_set(0_u16..120, 0..6),
            max_days in 1_u32..40,
        ) {
            let due: BTreeSet<u16> = due.difference(&blocked).copied().collect();
            let soon: BTreeSet<u16> = soon.difference(&blocked).filter(|day| !due.contains(day)).copied().collect();
            let blocked: BTreeSet<NaiveDate> = days(&blocked).into_iter().collect();
            let (due, soon) = (days(&due), days(&soon));
            let windows = super::super::windows::cover(&due, &soon, &blocked, year(), max_days);
            for due_day in &due {
                prop_assert_eq!(windows.iter().filter(|window| window.contains(*due_day)).count(), 1);
            }
            for window in &windows {
                prop_assert!(window.len_days() <= max_days);
                prop_assert!(window.from() >= year().from() && window.to() <= year().to());
                prop_assert!(blocked.iter().all(|day| !window.contains(*day)));
            }
            let without = super::super::windows::cover(&due, &[], &blocked, year(), max_days);
            prop_assert_eq!(windows.len(), without.len(), "reading along costs a call");
            let all: Vec<NaiveDate> = windows.iter().flat_map(|window| window.days()).collect();
            let distinct: BTreeSet<NaiveDate> = all.iter().copied().collect();
            prop_assert_eq!(all.len(), distinct.len(), "windows overlap");
        }
    }
}

#[test]
fn a_day_to_be_read_at_every_tick_is_not_missed_by_the_seconds_that_an_order_takes() {
    let mut state = report("2026-06-01");
    state.feed.rules = vec![RefreshRule { age: hours(35 * 24), every: hours(24) }];
    state.feed.include_today = false;
    load_all(&mut state, at("2026-06-09T12:00:02Z"));
    forget(&mut state, day("2026-06-09"));
    loaded(&mut state, day("2026-06-09"), at("2026-06-10T11:00:00Z"));
    let plan = plan_for(state, 10);
    let covered: BTreeSet<_> = plan.calls.iter().flat_map(|call| call.window.days()).collect();
    assert!(covered.contains(&day("2026-06-08")), "{covered:?}");
}

#[test]
fn an_answer_may_not_be_older_than_what_the_days_read_along_hold() {
    let mut state = report("2026-06-01");
    load_all(&mut state, at("2026-06-10T11:59:00Z"));
    forget(&mut state, day("2026-06-05"));
    let plan = plan_for(state, 10);
    assert_eq!(plan.calls.len(), 1);
    let read_along = plan.calls[0].window.len_days() > 1;
    assert!(!read_along || plan.calls[0].wanted_after >= at("2026-06-10T11:59:00Z"));
}

#[test]
fn a_day_that_stopped_changing_is_read_less_often_but_not_past_its_rule() {
    let rules =
        [RefreshRule { age: hours(10 * 24), every: hours(24) }, RefreshRule { age: hours(50 * 24), every: hours(48) }];
    let next = |as_of, unchanged| next_refresh_at(chrono_tz::UTC, day("2026-01-01"), at(as_of), &rules, unchanged);
    let young = "2026-01-02T00:00:00Z";
    assert_eq!(next(young, 0), Some(at("2026-01-03T00:00:00Z")));
    assert_eq!(next(young, 1), Some(at("2026-01-04T00:00:00Z")));
    assert_eq!(next(young, 99), Some(at("2026-01-06T00:00:00Z")));
    let ten_days_old = Some(at("2026-01-12T00:00:00Z"));
    assert_eq!(next("2026-01-10T00:00:00Z", 3), ten_days_old);
    let fifty_days_old = Some(at("2026-02-21T00:00:00Z"));
    assert_eq!(next("2026-02-18T00:00:00Z", 3), fifty_days_old);
    assert_eq!(next("2026-02-20T00:00:00Z", 3), None);
}
