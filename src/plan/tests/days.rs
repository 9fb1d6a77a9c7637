//! The days ahead, one after the other.

use super::*;

#[test]
fn days_go_on_where_the_one_before_ended() {
    // Ten days of clicks are missing, of which the newest is fresh; four calls a day.
    let mut state = report("2026-05-31");
    state.feed.source = Source::Clicks;
    state.feed.include_today = false;
    state.feed.max_window_days = 1;
    state.feed.rules = Vec::new();
    state.feed.ticks = once_a_day("2026-06-11T03:30:00Z");
    let ahead = days_ahead(account(vec![state], 4), at(NOW), 5);
    let cost: Vec<u32> =
        ahead.days.iter().map(|day| day.cost.get(&Bucket::ClickExport).copied().unwrap_or(0)).collect();
    assert_eq!(cost.iter().sum::<u32>(), 15, "ten days that were missing, and five that came: {cost:?}");
    assert!(cost.iter().all(|cost| *cost <= 5), "{cost:?}");
    assert_eq!(cost[4], 1, "at last there is but the day that is over: {cost:?}");
    let [end] = &ahead.backfills[..] else { panic!("{:?}", ahead.backfills) };
    assert!(end.done_on >= Some(day("2026-06-12")) && end.done_on <= Some(day("2026-06-14")), "{end:?}");
    assert!(ahead.days.iter().all(|day| day.late == 0));
}

#[test]
fn nothing_is_paid_for_twice() {
    let ahead = days_ahead(account(vec![report("2026-03-13")], 100), at(NOW), 3);
    // Three windows fill up ninety days; from then on there are the looks at young days.
    let first = ahead.days[0].by_export.values().sum::<u32>();
    let later: Vec<u32> = ahead.days[1..].iter().map(|day| day.by_export.values().sum()).collect();
    assert!(later.iter().all(|cost| *cost <= first), "{first}, {later:?}");
    assert!(later.iter().all(|cost| (4..=10).contains(cost)), "{later:?}");
}
