//! Shares: nobody starves, nothing is left lying, and never a call too many.

use chrono::Datelike as _;
use proptest::prelude::*;

use super::*;

/// Each feed clicks of a program of its own.
fn programs(count: usize, since: &str) -> Vec<FeedState> {
    (0..count)
        .map(|n| {
            let mut state = clicks(since);
            state.feed.program = Program::new(format!("{}", 1000 + n));
            state
        })
        .collect()
}

fn plan_of(account: &AccountState, now: DateTime<Utc>) -> Plan {
    draft(account, now).spend(&HashMap::new(), now)
}

fn calls_for(plan: &Plan, reason: Reason) -> usize {
    plan.calls.iter().filter(|call| call.reason == reason).count()
}

/// Carries the calls of a plan out at once.
fn carry_out(account: &mut AccountState, plan: &Plan, now: DateTime<Utc>) {
    for call in &plan.calls {
        let budget = account.budgets.get_mut(&call.bucket).expect("a budget");
        budget.charges.push(Spent { at: now, reason: Some(call.reason) });
        let feed = account
            .feeds
            .iter_mut()
            .find(|state| state.feed.export == call.export && state.feed.program == call.request.program)
            .expect("its feed");
        call.window.days().for_each(|day| loaded(feed, day, now));
    }
}

#[test]
fn more_fresh_days_than_calls_leave_backfill_its_minimum() {
    let plan = plan_of(&account(programs(25, "2026-01-01"), 10), at(NOW));
    assert_eq!((calls_for(&plan, Reason::Fresh), calls_for(&plan, Reason::Backfill)), (8, 2));
    assert!(plan.waiting.iter().any(|one| one.reason == Reason::Fresh && one.because == Some(Because::Share)));
}

#[test]
fn a_minimum_without_work_goes_to_the_others() {
    let plan = plan_of(&account(programs(25, "2026-06-09"), 10), at(NOW));
    assert_eq!((calls_for(&plan, Reason::Fresh), plan.calls.len()), (10, 10));
}

#[test]
fn feeds_that_were_left_out_yesterday_go_first_today() {
    let mut account = account(programs(25, "2026-06-09"), 10);
    let mut turns: BTreeMap<String, u32> = BTreeMap::new();
    for n in 0..3 {
        let now = at(NOW) + TimeDelta::days(n);
        account.feeds.iter_mut().for_each(|state| state.tick_at = Some(now));
        let plan = plan_of(&account, now);
        for call in plan.calls.iter().filter(|call| call.reason == Reason::Fresh) {
            *turns.entry(call.request.program.to_string()).or_default() += 1;
        }
        carry_out(&mut account, &plan, now);
    }
    assert_eq!(turns.len(), 25, "everyone had a turn");
    assert!(turns.values().max() <= Some(&2), "and nobody a third before that: {turns:?}");
}

#[test]
fn so_many_programs_that_a_round_takes_weeks_all_have_their_turn() {
    let mut account = account(programs(200, "2026-06-09"), 10);
    let mut read: BTreeSet<String> = BTreeSet::new();
    for n in 0..30 {
        let now = at(NOW) + TimeDelta::days(n);
        account.feeds.iter_mut().for_each(|state| state.tick_at = Some(now));
        let plan = plan_of(&account, now);
        read.extend(plan.calls.iter().map(|call| call.request.program.to_string()));
        carry_out(&mut account, &plan, now);
    }
    assert_eq!(read.len(), 200, "eight new days are read a day, so a round takes 25 days");
}

#[test]
fn a_limit_of_zero_never_calls_and_headers_leave_less() {
    let nothing = plan_of(&account(programs(3, "2026-01-01"), 0), at(NOW));
    assert!(nothing.calls.is_empty());
    assert!(nothing.waiting.iter().all(|one| one.expected_at.is_none()));

    let mut others_spend_too = account(programs(3, "2026-06-01"), 10);
    let budget = others_spend_too.budgets.get_mut(&Bucket::ClickExport).expect("a budget");
    budget.at_most = Some(AtMost { left: 2, until: at("2026-06-10T15:00:00Z") });
    assert_eq!(plan_of(&others_spend_too, at(NOW)).calls.len(), 2);
}

#[test]
fn the_window_that_gains_most_is_read_first() {
    let mut state = report("2026-01-01");
    state.feed.include_today = false;
    state.feed.max_window_days = 1;
    state.feed.rules = vec![RefreshRule { age: hours(200 * 24), every: hours(24) }];
    load_all(&mut state, at("2026-06-10T00:00:00Z"));
    for (old, as_of) in [("2026-05-01", "2026-06-08T00:00:00Z"), ("2026-06-05", "2026-06-09T00:00:00Z")] {
        loaded(&mut state, day(old), at(as_of));
    }
    let plan = plan_for(state.clone(), 100);
    let days: Vec<_> = plan.calls.iter().map(|call| call.window.from()).collect();
    assert_eq!(days, [day("2026-06-05"), day("2026-05-01")], "the younger day, though it was read later");

    // What earlier reads found counts more than the age alone.
    let seen = |changed| {
        let mut seen = Observed::default();
        for age in [35, 37, 39, 41, 43, 45, 47].map(TimeDelta::days) {
            for _ in 0..200 {
                seen.add(age, TimeDelta::days(2), changed);
            }
        }
        ChangeRates::learned(&seen, &Observed::default())
    };
    state.rates = seen(true);
    assert_eq!(plan_for(state.clone(), 100).calls[0].window.from(), day("2026-05-01"));

    state.rates = seen(false);
    assert_eq!(plan_for(state, 100).calls[0].window.from(), day("2026-06-05"));
}

#[test]
fn a_refresh_is_worth_no_more_for_days_of_the_backfill_in_its_window() {
    let mut state = report("2026-01-01");
    state.feed.include_today = false;
    state.feed.rules = vec![RefreshRule { age: hours(200 * 24), every: hours(24) }];
    load_all(&mut state, at("2026-06-10T11:00:00Z"));
    let april = || day("2026-04-01").iter_days().take(30);
    for one in april().chain([day("2026-03-15")]) {
        loaded(&mut state, one, at("2026-06-08T00:00:00Z"));
    }
    let is_missing = |one: NaiveDate| one.month() == 3 && one.day() != 15;
    state.cells.retain(|(one, _)| !is_missing(*one));
    let plan = plan_for(state, 100);
    let months: Vec<_> = plan.calls.iter().map(|call| (call.window.from().month(), call.reason)).collect();
    assert_eq!(months, [(4, Reason::Refresh), (3, Reason::Refresh)], "what may have changed before one such day");
}

#[test]
fn days_that_are_nearly_due_are_read_along_but_nothing_far_from_it() {
    let mut state = report("2026-01-01");
    state.feed.include_today = false;
    state.feed.max_window_days = 6; // no calendar unit but the day
    state.feed.rules = vec![RefreshRule { age: hours(200 * 24), every: hours(24) }];
    load_all(&mut state, at("2026-06-10T11:00:00Z"));
    loaded(&mut state, day("2026-06-05"), at("2026-06-09T11:00:00Z"));
    loaded(&mut state, day("2026-06-04"), at("2026-06-09T20:00:00Z"));
    loaded(&mut state, day("2026-06-02"), at("2026-06-09T20:00:00Z"));
    let plan = plan_for(state, 100);
    let windows: Vec<_> = plan.calls.iter().map(|call| call.window).collect();
    assert_eq!(windows, [Window::new(day("2026-06-04"), day("2026-06-05")).expect("in order")]);
}

#[derive(Debug, Clone)]
struct Account {
    programs: usize,
    limit: u32,
    tick_hour: u32,
    refreshes: bool,
    steps: Vec<i64>,
}

fn any_account() -> impl Strategy<Value = Account> {
    (1_usize..14, 0_u32..25, 0_u32..24, any::<bool>(), prop::collection::vec(5_i64..300, 20..60)).prop_map(
        |(programs, limit, tick_hour, refreshes, steps)| Account { programs, limit, tick_hour, refreshes, steps },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn no_moment_has_more_calls_than_the_limit_and_each_class_gets_its_minimum(world in any_account()) {
        let mut feeds = programs(world.programs, "2026-04-20");
        for state in &mut feeds {
            if world.refreshes {
                state.feed.rules = vec![RefreshRule { age: hours(20 * 24), every: hours(24) }];
                for n in 30..40 {
                    loaded(state, day("2026-04-20") + chrono::Days::new(n), at("2026-06-01T00:00:00Z"));
                }
            }
        }
        let mut account = account(feeds, world.limit);
        let window = TimeDelta::hours(24);
        let mut now = at(NOW);
        // Since when a class has had work without a break, and its calls.
        let mut hungry: BTreeMap<Reason, DateTime<Utc>> = BTreeMap::new();
        let mut calls: Vec<(DateTime<Utc>, Reason)> = Vec::new();
        for step in world.steps {
            now += TimeDelta::minutes(step);
            let tick = now.date_naive().and_hms_opt(world.tick_hour, 0, 0).expect("a time").and_utc();
            let last = if tick <= now { tick } else { tick - window };
            for state in &mut account.feeds {
                state.tick_at = Some(last);
                state.feed.ticks = Arc::new([last + window]);
            }
            let plan = plan_of(&account, now);
            carry_out(&mut account, &plan, now);
            calls.extend(plan.calls.iter().map(|call| (now, call.reason)));
            let counting = calls.iter().filter(|(at, _)| *at + window > now).count();
            prop_assert!(counting <= world.limit as usize, "{counting} of {}", world.limit);

            let waits = |reason| plan.waiting.iter().any(|one| one.reason == reason);
            // Refused backfill means a spent bucket, or that what is left is kept for fresh days and refreshes to come.
            let kept = draft(&account, now).demanded(Bucket::ClickExport);
            if waits(Reason::Backfill) {
                prop_assert!(counting + kept >= world.limit as usize, "{counting} and {kept} of {}", world.limit);
            }
            if waits(Reason::Fresh) {
                prop_assert_eq!(counting, world.limit as usize, "a fresh day waits beside a free call");
            }
            for reason in [Reason::Refresh, Reason::Backfill] {
                if waits(reason) {
                    let since = *hungry.entry(reason).or_insert(now);
                    let minimum = crate::plan::budget::guaranteed(reason, world.limit) as usize;
                    let had = calls.iter().filter(|(at, of)| *of == reason && *at + window > now).count();
                    let is_fair = now - since < window || world.limit < 3 || had >= minimum;
                    prop_assert!(is_fair, "{reason} had {had} of {}", world.limit);
                } else {
                    hungry.remove(&reason);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    /// Yesterday's fresh calls, made some time after their tick, still count at today's, and so leave no room for today's: that
    /// is no reason to refuse backfill, for they will be free soon enough.
    #[test]
    fn shares_never_leave_budget_unspent_while_work_waits(
        programs_count in 1_usize..14,
        limit in 2_u32..25,
        tick_hour in 0_i64..24,
        steps in prop::collection::vec(5_i64..=35, 200..220),
    ) {
        let mut account = account(programs(programs_count, "2026-04-20"), limit);
        let window = TimeDelta::hours(24);
        // Turned on at a tick: else it takes days to move into the rhythm of the ticks, and keeps calls for that.
        let start = at("2026-06-10T00:00:00Z") + TimeDelta::hours(tick_hour);
        let mut now = start;
        let mut calls: Vec<DateTime<Utc>> = Vec::new();
        for step in steps {
            now += TimeDelta::minutes(step);
            let last = start + TimeDelta::days((now - start).num_days());
            for state in &mut account.feeds {
                state.tick_at = Some(last);
                state.feed.ticks = Arc::new([last + window]);
            }
            let plan = plan_of(&account, now);
            carry_out(&mut account, &plan, now);
            calls.extend(plan.calls.iter().map(|_| now));
            if !plan.waiting.is_empty() {
                let counting = calls.iter().filter(|at| **at + window > now).count();
                prop_assert_eq!(counting, limit as usize, "work waits beside a free call at {}", now);
            }
        }
    }
}

/// Jobs that were planned before, and count.
fn with_planned(mut state: AccountState, planned: &[(Reason, usize)]) -> AccountState {
    for budget in state.budgets.values_mut() {
        budget.planned = planned.iter().flat_map(|(reason, jobs)| vec![*reason; *jobs]).collect();
    }
    state
}

fn asked_for(state: &mut FeedState, text: &str) {
    let window = Window::day(day(text));
    state.manual.push(ManualRequest { window, requested_at: at(NOW), rereads: true });
}

#[test]
fn what_a_person_asks_for_has_the_least_wanted_planned_jobs_called_off() {
    let mut feeds = programs(1, "2026-06-10");
    asked_for(&mut feeds[0], "2026-06-01");
    asked_for(&mut feeds[0], "2026-06-03");
    feeds[0].feed.since = day("2026-06-01");
    feeds[0].tick_at = None;
    let full = with_planned(account(feeds, 10), &[(Reason::Refresh, 8), (Reason::Backfill, 1)]);
    let plan = plan_of(&full, at(NOW));
    assert_eq!(calls_for(&plan, Reason::Manual), 2);
    assert_eq!(plan.called_off, BTreeMap::from([((Bucket::ClickExport, Reason::Backfill), 1)]), "one call was left");
}

#[test]
fn a_fresh_day_leaves_planned_jobs_their_minimum() {
    let full = with_planned(account(programs(25, "2026-06-09"), 10), &[(Reason::Refresh, 5), (Reason::Backfill, 5)]);
    let plan = plan_of(&full, at(NOW));
    let called_off =
        [(Reason::Refresh, 2), (Reason::Backfill, 3)].map(|(reason, jobs)| ((Bucket::ClickExport, reason), jobs));
    assert_eq!((calls_for(&plan, Reason::Fresh), plan.called_off), (5, BTreeMap::from(called_off)));
}
