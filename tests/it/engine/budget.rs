//! Quota is a budget: replicas on one database never order more than it holds, and never the same twice.

use std::time::Duration;

use chrono::TimeDelta;
use impact_mirror::app::{self, Engine, Scope, SyncEnd};
use impact_mirror::config::Settings;
use impact_mirror::export::ExportName;
use impact_mirror::sandbox::{Fault, FaultKind, Limits, Options, Point};
use impact_mirror::scheduler::Planner;

use super::truth::assert_mirrored;
use super::world::{World, actions, clicks, days_ago, options};

/// A brand's partners day by day, for there is no date column: an order for each day.
fn by_media(since_days_ago: u64) -> String {
    format!(
        "[exports.by_media]\naccounts = [\"brand\"]\nreport = \"att_adv_performance_by_media_pm_only\"\nsince = \"{}\"\n",
        days_ago(since_days_ago)
    )
}

async fn with_quota(reports: u32, requests: u32, exports: &str) -> (World, Settings) {
    let limits = Limits { report_export_per_day: reports, requests_per_hour: requests, ..Limits::default() };
    let world = World::with(Options { limits, ..options() }).await;
    let mut settings = world.settings(exports);
    for account in settings.accounts.values_mut() {
        account.quota.report_export_per_day = reports;
        account.quota.requests_per_hour = requests;
    }
    (world, settings)
}

#[tokio::test]
async fn two_replicas_never_order_more_than_the_quota() {
    let (world, settings) = with_quota(5, 1000, &by_media(12)).await;
    let (one, other) = (world.start(&settings).await, world.start(&settings).await);
    let (one, other) = tokio::join!(world.finish(one), world.finish(other));
    assert_eq!((one.end, other.end), (SyncEnd::WaitsForQuota, SyncEnd::WaitsForQuota));
    let orders = world.orders();
    assert!(ALL_OR_ALL_BUT_ONE.contains(&orders), "{orders}");
    assert_eq!(world.throttled(), 0);
    assert_mirrored(&world, &settings).await;
    let quota = "select concat_ws(' ', \"limit\", used, remaining) from impact_mirror.quota \
                 where account = 'brand' and bucket = 'report_export'";
    assert_eq!(world.value(quota).await, format!("5 {orders} {}", 5 - orders));

    // A day later there is room again, and not before.
    assert_eq!(world.sync(&settings).await.end, SyncEnd::WaitsForQuota);
    assert_eq!(world.orders(), orders);
    world.pass_quota_time(TimeDelta::hours(25)).await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::WaitsForQuota);
    let orders = world.orders();
    assert!((5..=9).contains(&orders), "{orders}: some are kept for the day that ends tonight and for refreshes");
    assert_eq!(world.throttled(), 0);
}

#[tokio::test]
async fn two_replicas_order_and_load_every_window_once() {
    let (world, settings) = with_quota(100, 1000, &(by_media(8) + &clicks(2))).await;
    let (one, other) = (world.start(&settings).await, world.start(&settings).await);
    let bells = [std::sync::Arc::clone(&one.context().wakes), std::sync::Arc::clone(&other.context().wakes)];
    let ring = async {
        loop {
            for bells in &bells {
                bells.all();
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let (one, other) = tokio::select! {
        both = async { tokio::join!(world.finish(one), world.finish(other)) } => both,
        () = ring => unreachable!("it goes on for ever"),
    };
    assert_eq!((one.end, other.end), (SyncEnd::Done, SyncEnd::Done));
    assert_mirrored(&world, &settings).await;
    assert_eq!((world.orders(), world.calls("replay")), (10, 0));
    assert_eq!(world.value("select count(*)::text from impact_mirror.load").await, "10");
    let holders = "select count(distinct holder)::text from impact_mirror.job_event where to_state = 'loading'";
    assert_eq!(world.value(holders).await, "2", "both worked");
}

/// Plans what is due at a tick.
async fn plan(world: &World, planner: &Planner) {
    world.execute("update impact_mirror.export_account set last_tick_at = now()").await;
    assert!(planner.pass().await.unwrap().planned > 0);
}

#[tokio::test]
async fn orders_of_an_export_that_is_left_out_are_followed_so_that_others_have_their_turn() {
    let world = World::with(Options { job_duration: Duration::from_secs(1), ..options() }).await;
    let settings = world.settings(&(by_media(9) + &actions(2)));
    let only = |name| Scope::Only(vec![ExportName::new(name)]);
    let interrupted = Engine::start(settings.clone(), world.database(), only("by_media")).await.unwrap();
    plan(&world, interrupted.planner()).await;
    world.eventually("select count(*)::text from impact_mirror.job where state = 'waiting'", "5").await;
    interrupted.stop(Duration::ZERO).await;

    let engine = Engine::start(settings.clone(), world.database(), only("actions")).await.unwrap();
    assert_eq!(world.finish(engine).await.end, SyncEnd::Done);
    let loaded = "select distinct export from impact_mirror.load";
    assert_eq!(world.query(loaded).await, ["actions"], "the others are left where they can be fetched");
}

#[tokio::test]
async fn orders_of_a_paused_export_keep_no_other_from_its_turn() {
    let world = World::new().await;
    let settings = world.settings(&(by_media(9) + &actions(2)));
    world.sandbox.inject(Fault { times: 5, ..Fault::next(Point::Submit, FaultKind::JobNeverEnds) });
    let engine = world.start(&settings).await;
    let by_media = app::planner(world.pool(), &settings, Scope::Only(vec![ExportName::new("by_media")]));
    plan(&world, &by_media).await;
    engine.context().wakes.all();
    world.eventually("select count(*)::text from impact_mirror.job where state = 'waiting'", "5").await;
    world.inject(Point::List, FaultKind::Http403);
    world.inject(Point::Poll, FaultKind::Http403);
    world
        .eventually("select count(*)::text from impact_mirror.export_account where paused_since is not null", "1")
        .await;

    plan(&world, engine.planner()).await;
    world.eventually("select distinct export from impact_mirror.load", "actions").await;
    assert_eq!(world.count_jobs("waiting").await, 5);
    engine.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_sync_ends_where_all_that_is_left_stands_behind_an_order_of_a_paused_export() {
    let world = World::new().await;
    let settings = world.settings(&(by_media(1) + &actions(2)));
    app::write_configuration(world.pool(), &settings).await.unwrap();
    plan(&world, &app::planner(world.pool(), &settings, Scope::All)).await;
    world
        .execute(
            "update impact_mirror.job set state = 'submitting', submitted_at = now(), run_at = now() + interval '1 hour' \
             where id = (select min(id) from impact_mirror.job where export = 'by_media')",
        )
        .await;
    let engine = Engine::start(settings.clone(), world.database(), Scope::Only(vec![ExportName::new("actions")]));
    let engine = engine.await.unwrap();
    world
        .execute(
            "update impact_mirror.export_account set paused_since = now(), paused_reason = 'x' where export = 'by_media'",
        )
        .await;
    assert_eq!(world.finish(engine).await.end, SyncEnd::WaitsForQuota);
    assert_eq!(world.orders(), 0);
}

#[tokio::test]
async fn replays_are_charged_like_orders() {
    let (world, settings) = with_quota(5, 1000, &by_media(3)).await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    world.request_refresh_of_all(&settings).await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::WaitsForQuota);
    assert_eq!((world.orders(), world.calls("replay"), world.throttled()), (5, 2, 0));
}

#[tokio::test]
async fn the_hourly_requests_are_kept_too() {
    // Each takes a download at least, however many are polled together.
    let (world, settings) = with_quota(100, 12, &by_media(14)).await;
    let engine = world.start(&settings).await;
    engine.keep_going();
    let spent = "select used::text from impact_mirror.quota where account = 'brand' and bucket = 'requests'";
    // One is kept for reading impact.com's clock.
    world.eventually(spent, "11").await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await; // time to overstep
    assert_eq!(world.throttled(), 0);
    assert_eq!(world.value(spent).await, "11");

    // Hours later everything is loaded, and no wait for quota was taken for a failure.
    let hours = async {
        loop {
            world.pass_quota_time(TimeDelta::hours(2)).await;
            world
                .execute(
                    "update impact_mirror.job set run_at = now() where finished_at is null and lease_token is null",
                )
                .await;
            engine.context().wakes.all();
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
    };
    tokio::select! {
        () = world.eventually("select count(*)::text from impact_mirror.load", "14") => {}
        () = hours => unreachable!("it goes on for ever"),
    }
    engine.stop(std::time::Duration::from_secs(5)).await;
    assert_eq!((world.throttled(), world.count_jobs("failed").await), (0, 0));
}

/// Of a limit of five: one call may be kept for the day that ends tonight.
const ALL_OR_ALL_BUT_ONE: std::ops::RangeInclusive<usize> = 4..=5;

/// An account whose limits are these, and which says of some calls that they cost nothing.
async fn with_free(
    setting: &str,
    free: impl Fn(&mut impact_mirror::config::Quota),
    exports: &str,
) -> (World, Settings) {
    let limits = Limits { report_export_per_day: 5, ..Limits::default() };
    let mut options = Options { limits, ..options() };
    options.behaviours.set(setting).unwrap();
    let world = World::with(options).await;
    let mut settings = world.settings(exports);
    for account in settings.accounts.values_mut() {
        account.quota.report_export_per_day = 5;
        free(&mut account.quota);
    }
    (world, settings)
}

fn submissions(world: &World) -> usize {
    world.calls("submit_report")
}

#[tokio::test]
async fn replays_that_cost_nothing_leave_the_day_to_orders() {
    let (world, settings) = with_free("replay_costs=no", |quota| quota.replay_cost = 0, &by_media(3)).await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    for _ in 0..2 {
        world.request_refresh_of_all(&settings).await;
        assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    }
    let more = world.settings(&by_media(8));
    let settings = Settings { accounts: settings.accounts, ..more };
    assert_eq!(world.sync(&settings).await.end, SyncEnd::WaitsForQuota);
    assert!(ALL_OR_ALL_BUT_ONE.contains(&submissions(&world)), "{:#?}", world.jobs().await);
    assert_eq!((world.calls("replay"), world.throttled()), (6, 0));
}

#[tokio::test]
async fn refused_calls_that_cost_nothing_leave_the_day_to_others() {
    let refused = format!(
        "[exports.nothing]\naccounts = [\"agency\"]\nreport = \"none_of_an_agency\"\nsince = \"{}\"\n",
        days_ago(0)
    );
    let free = |quota: &mut impact_mirror::config::Quota| quota.refused_cost = 0;
    let (world, settings) = with_free("rejected_costs=no", free, &(by_media(8) + &refused)).await;
    world.inject(Point::Submit, FaultKind::Http403);
    world.sync(&settings).await;
    world.sync(&settings).await;
    let costing =
        world.sandbox.calls().iter().filter(|call| call.kind == "submit_report" && call.status == Some(200)).count();
    let charged =
        "select sum(cost)::text from impact_mirror.charge where bucket = 'report_export' and account = 'brand'";
    assert_eq!(world.value(charged).await, costing.to_string(), "{:#?}", world.jobs().await);
    assert!(ALL_OR_ALL_BUT_ONE.contains(&costing), "{costing}");
    assert_eq!(world.throttled(), 0);
}

#[tokio::test]
async fn answers_from_before_that_cost_nothing_leave_the_day_to_orders() {
    let (world, settings) = with_free("duplicate_costs=no", |quota| quota.duplicate_cost = 0, &by_media(3)).await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    // What we know of remote jobs is gone, so that the same orders are made again.
    world.sandbox.advance(TimeDelta::seconds(10));
    world.execute("update impact_mirror.remote_job set gone_at = now()").await;
    for (name, from, to) in [("by_media", 3, 1)] {
        let statement = format!(
            "insert into impact_mirror.manual_request (export, account, program, from_day, to_day, kind, requested_at) \
             select export, account, program, '{}', '{}', 'refresh', now() - interval '1 hour' from impact_mirror.feed \
             where export = '{name}'; \
             update impact_mirror.cell set as_of = as_of - interval '2 hours'",
            days_ago(from),
            days_ago(to)
        );
        world.execute(&statement).await;
    }
    world.sync(&settings).await;
    let charged = "select sum(cost)::text from impact_mirror.charge where bucket = 'report_export'";
    let jobs = world.jobs().await;
    assert_eq!((world.throttled(), submissions(&world) > 5), (0, true), "{jobs:#?}");
    assert!(world.value(charged).await.parse::<usize>().unwrap() <= 5, "{jobs:#?}");
}

#[tokio::test]
async fn headers_that_lie_are_told_of_once_and_change_nothing() {
    for lie in ["remaining_high", "negative", "text", "reset_past", "reset_2099", "contradiction", "remaining_zero"] {
        let limits = Limits { report_export_per_day: 5, ..Limits::default() };
        let mut options = Options { limits, ..options() };
        options.behaviours.set(&format!("header_lies={lie}")).unwrap();
        let world = World::with(options).await;
        let mut settings = world.settings(&by_media(12));
        settings.accounts.values_mut().for_each(|account| account.quota.report_export_per_day = 5);
        let engine = world.start(&settings).await;
        engine.keep_going();
        // A report of nothing left is believed for a while, and then one call at a time is made all the same.
        let (pool, wakes) = (world.pool().clone(), std::sync::Arc::clone(&engine.context().wakes));
        let minutes = async {
            loop {
                // In the daemon's order, which takes the account first.
                let pass = "select from impact_mirror.account for no key update; \
                            update impact_mirror.bucket set seen_at = seen_at - interval '1 hour', \
                            seen_resets_at = seen_resets_at - interval '1 hour' where seen_remaining = 0; \
                            update impact_mirror.job set run_at = now() where finished_at is null and lease_token is null";
                sqlx::raw_sql(pass).execute(&pool).await.unwrap();
                wakes.all();
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = world.eventually("select (count(*) >= 4)::text from impact_mirror.load", "true") => {}
            () = minutes => unreachable!("it goes on for ever"),
        }
        engine.stop(std::time::Duration::from_secs(5)).await;
        assert!(ALL_OR_ALL_BUT_ONE.contains(&world.orders()), "{lie}");
        assert_eq!(world.throttled(), 0, "{lie}");
        let told =
            world.value("select (doubted_at is not null)::text from impact_mirror.account where name = 'brand'").await;
        assert_eq!(told, (lie != "remaining_zero").to_string(), "{lie}");
    }
}

#[tokio::test]
async fn what_others_spend_is_seen_in_the_headers() {
    let limits = Limits { report_export_per_day: 6, ..Limits::default() };
    let mut options = Options { limits, ..options() };
    options.behaviours.set("quota_headers=daily").unwrap();
    let world = World::with(options).await;
    // Another tool of the same account has made three orders; our own limit is six.
    let http = reqwest::Client::new();
    for day in 1..=3 {
        let url = format!(
            "{}/Advertisers/IRsandboxBrand0001/ReportExport/adv_action_listing_pm_only?SUBAID=1000&START_DATE={1}&END_DATE={1}",
            world.sandbox.base_url().as_str().trim_end_matches('/'),
            days_ago(day + 100)
        );
        let answer = http.get(url).basic_auth("IRsandboxBrand0001", Some("sandbox-brand-token")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    let mut settings = world.settings(&by_media(12));
    settings.accounts.values_mut().for_each(|account| account.quota.report_export_per_day = 6);
    settings.accounts.values_mut().for_each(|account| account.quota.requests_per_hour = 900);
    assert_eq!(world.sync(&settings).await.end, SyncEnd::WaitsForQuota);
    assert_eq!((world.throttled(), submissions(&world)), (0, 6), "three of theirs and three of ours");
}

/// A planner, once the jobs of a first start fill the bucket and nothing is ordered yet.
async fn fully_planned() -> (World, Settings, impact_mirror::scheduler::Planner) {
    let (world, settings) = with_quota(5, 1000, &by_media(12)).await;
    let engine = world.start(&settings).await;
    let planner = engine.planner().clone();
    engine.stop(std::time::Duration::from_secs(5)).await;
    world.execute("update impact_mirror.export_account set last_tick_at = now()").await;
    let jobs = planner.pass().await.unwrap().planned;
    assert!(ALL_OR_ALL_BUT_ONE.contains(&jobs), "{jobs}");
    (world, settings, planner)
}

#[tokio::test]
async fn what_a_person_asks_for_does_not_wait_behind_jobs_that_were_never_ordered() {
    let (world, settings, planner) = fully_planned().await;
    let asked = [days_ago(12), days_ago(11), days_ago(2)];
    for day in asked {
        world.request_refresh("by_media", day, day).await;
    }
    let pass = planner.pass().await.unwrap();
    assert_eq!(pass.planned, 3, "{:#?}", world.jobs().await);
    let open = "select count(*)::text from impact_mirror.job where state = 'planned'";
    assert_eq!(world.value(open).await, "5");
    assert_eq!(planner.pass().await.unwrap().planned, 0, "and that is that");

    assert_eq!(world.sync(&settings).await.end, SyncEnd::WaitsForQuota);
    let ordered = "select reason from impact_mirror.job where submitted_at is not null order by submitted_at limit 3";
    assert_eq!(world.query(ordered).await, ["manual"; 3], "{:#?}", world.jobs().await);
    let loaded = "select day::text from impact_mirror.cell where loaded_at is not null";
    let days = world.query(loaded).await;
    assert!(asked.iter().all(|day| days.contains(&day.to_string())), "{days:?}");
    assert_eq!((world.orders(), world.throttled()), (5, 0));
    assert_mirrored(&world, &settings).await;
}

#[tokio::test]
async fn a_plan_tells_of_calls_that_are_planned_and_not_made() {
    let (world, _settings, planner) = fully_planned().await;
    let mut conn = world.pool().acquire().await.unwrap();
    let outlook = planner.outlook(&mut conn).await.unwrap();
    let (now, forecasts) = (outlook.now, outlook.forecasts());
    let calls =
        forecasts.iter().flat_map(|forecast| &forecast.calls).filter(|call| call.expected_at == Some(now)).count();
    assert_eq!(calls, world.count_jobs("planned").await);

    world.execute("update impact_mirror.bucket set closed_until = now() + interval '2 days'").await;
    let forecasts = planner.outlook(&mut conn).await.unwrap().forecasts();
    let waiting = forecasts.iter().map(|forecast| (forecast.calls.len(), forecast.waiting.len())).collect::<Vec<_>>();
    assert!(waiting.iter().all(|(calls, waiting)| *calls == 0 && *waiting >= 13), "{waiting:?}");
}
