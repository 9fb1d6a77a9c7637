//! Quota is a budget: replicas on one database never order more than it holds, and never the same twice.

use impact_mirror::app::SyncEnd;
use impact_mirror::config::Settings;
use impact_mirror::sandbox::{Limits, Options};

use super::truth::assert_mirrored;
use super::world::{World, clicks, days_ago, options};

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
    assert_eq!((world.orders(), world.throttled()), (4, 0), "one is kept for the day that ends tonight");
    assert_mirrored(&world, &settings).await;
    let quota = "select concat_ws(' ', \"limit\", used, remaining) from impact_mirror.quota \
                 where account = 'brand' and bucket = 'report_export'";
    assert_eq!(world.value(quota).await, "5 4 1");

    // A day later there is room again, and not before.
    assert_eq!(world.sync(&settings).await.end, SyncEnd::WaitsForQuota);
    assert_eq!(world.orders(), 4);
    world.execute("update impact_mirror.charge set at = at - interval '24 hours'").await;
    world.pass_days(1);
    assert_eq!(world.sync(&settings).await.end, SyncEnd::WaitsForQuota);
    let orders = world.orders();
    assert!((5..=8).contains(&orders), "{orders}: some are kept for the day that ends tonight and for refreshes");
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
    let (world, settings) = with_quota(100, 12, &by_media(6)).await;
    let engine = world.start(&settings).await;
    engine.keep_going();
    let spent = "select used::text from impact_mirror.quota where account = 'brand' and bucket = 'requests'";
    world.eventually(spent, "12").await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await; // time to overstep
    assert_eq!(world.throttled(), 0);
    assert_eq!(world.value(spent).await, "12");

    // Hours later everything is loaded, and no wait for quota was taken for a failure.
    let hours = async {
        loop {
            world.sandbox.advance(chrono::TimeDelta::hours(1));
            world
                .execute(
                    "update impact_mirror.charge set at = at - interval '1 hour' where bucket = 'requests'; \
                     update impact_mirror.job set run_at = now() where finished_at is null and lease_token is null",
                )
                .await;
            engine.context().wakes.all();
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
    };
    tokio::select! {
        () = world.eventually("select count(*)::text from impact_mirror.load", "6") => {}
        () = hours => unreachable!("it goes on for ever"),
    }
    engine.stop(std::time::Duration::from_secs(5)).await;
    assert_eq!((world.throttled(), world.count_jobs("failed").await), (0, 0));
}
