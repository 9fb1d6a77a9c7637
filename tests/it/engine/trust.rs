//! What is believed only as long as it is true: a charge, a file that was read before, a promise, a bucket.

use impact_mirror::app::SyncEnd;
use impact_mirror::config::Programs;

use super::truth::assert_mirrored;
use super::world::{World, actions, days_ago};

#[tokio::test]
async fn an_order_that_never_got_out_costs_nothing() {
    let world = World::new().await;
    let mut settings = world.settings(&actions(2));
    for account in settings.accounts.values_mut() {
        account.base_url = "http://127.0.0.1:9".parse().unwrap(); // nobody listens there
    }
    let engine = world.start(&settings).await;
    engine.keep_going();
    world.eventually("select (max(attempts) >= 2)::text from impact_mirror.job", "true").await;
    engine.stop(std::time::Duration::from_secs(5)).await;
    assert_eq!(world.value("select count(*)::text from impact_mirror.charge where bucket <> 'requests'").await, "0");

    let settings = world.settings(&actions(2));
    world.execute("update impact_mirror.job set run_at = now()").await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    assert_eq!(world.value("select count(*)::text from impact_mirror.charge where bucket <> 'requests'").await, "1");
}

#[tokio::test]
async fn the_same_file_is_loaded_again_where_its_rows_are_gone() {
    let world = World::new().await;
    let settings = world.settings(&actions(3));
    world.sync(&settings).await;
    for damage in ["drop table impact.actions cascade", "delete from impact.actions where _line = 2"] {
        world.execute(damage).await;
        world.request_refresh("actions", days_ago(3), days_ago(0)).await;
        assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{damage}");
        assert_mirrored(&world, &settings).await;
    }
}

#[tokio::test]
async fn an_export_whose_newest_days_are_missing_is_late_however_often_the_others_are_read() {
    let world = World::new().await;
    world.sync(&world.settings(&actions(6))).await;
    let is_stale = "select is_stale::text from impact_mirror.freshness";
    assert_eq!(world.value(is_stale).await, "false");
    world.execute("delete from impact_mirror.cell where day > current_date - 4").await;
    assert_eq!(world.value(is_stale).await, "true");
}

#[tokio::test]
async fn a_sync_does_not_wait_for_an_hourly_bucket() {
    let world = World::new().await;
    let mut settings = world.settings(&actions(2));
    for account in settings.accounts.values_mut() {
        account.quota.requests_per_hour = 1;
    }
    assert_eq!(world.sync(&settings).await.end, SyncEnd::WaitsForQuota);
    assert_eq!(world.count_jobs("loaded").await, 0);
}

#[tokio::test]
async fn a_sync_that_could_not_list_the_programs_has_failed() {
    let world = World::new().await;
    let mut settings = world.settings(&actions(2));
    for account in settings.accounts.values_mut() {
        account.programs = Programs::All;
        account.auth_token = "wrong".into();
    }
    let report = world.sync(&settings).await;
    assert_eq!(report.end, SyncEnd::Failed);
    assert_eq!(report.without_programs.len(), 1);
}
