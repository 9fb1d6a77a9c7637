//! `sync` as cron would run it: again and again, and what its exit codes say.

use std::time::Duration;

use impact_mirror::sandbox::{Fault, FaultKind, Point};

use super::{QUICK, actions_alone};
use crate::support::daemon::{Mirrored, Scene, Wishes, still};

/// Runs `sync` and gives its exit code.
async fn sync(scene: &Scene) -> Option<i32> {
    scene.start(&["sync"]).exit_code().await
}

#[tokio::test]
async fn a_second_sync_has_nothing_to_do() {
    let scene = Scene::new(still(QUICK)).await;
    assert_eq!(sync(&scene).await, Some(0));
    scene.assert_mirrored().await;
    let calls = scene.sandbox.calls().len();
    assert_eq!(sync(&scene).await, Some(0));
    assert_eq!(scene.sandbox.calls().len(), calls);
}

#[tokio::test]
async fn a_sync_that_was_killed_is_finished_by_the_next() {
    let scene = Scene::new(still(QUICK)).await;
    scene.inject(Point::Storage, FaultKind::Stall(60.0));
    let mut first = scene.start(&["sync"]);
    scene.until("(select count(*) = 1 from impact_mirror.load)").await;
    first.kill();
    assert_eq!(sync(&scene).await, Some(0));
    scene.assert_mirrored().await;
    assert_eq!(scene.orders(), 2);
}

#[tokio::test]
async fn too_small_a_quota_ends_with_3() {
    let wishes = Wishes {
        exports: &[Mirrored::Clicks],
        account: "quota = { click_export_per_day = 1 }",
        programs: "[1000, 2000]",
        ..Wishes::default()
    };
    let scene = Scene::with(still(QUICK), wishes).await;
    assert_eq!(sync(&scene).await, Some(3));
    assert_eq!(scene.orders(), 1);
    assert_eq!(sync(&scene).await, Some(3));
    assert_eq!(scene.orders(), 1);
}

#[tokio::test]
async fn a_job_that_fails_twice_ends_with_4() {
    // A single day: a longer window would be tried again in halves.
    let wishes = Wishes { exports: &[Mirrored::Clicks], ..Wishes::default() };
    let scene = Scene::with(still(QUICK), wishes).await;
    scene.sandbox.inject(Fault { on: Point::Submit, kind: FaultKind::JobFails, times: 1, skip: 0 });
    scene.sandbox.inject(Fault { on: Point::Replay, kind: FaultKind::JobFails, times: 1, skip: 0 });
    assert_eq!(sync(&scene).await, Some(4));
    assert_eq!(scene.orders(), 2);
    assert_eq!(sync(&scene).await, Some(4), "it says so until the cell is due again");
    assert_eq!(scene.orders(), 2);
}

#[tokio::test]
async fn an_unreachable_database_ends_with_1() {
    let scene = actions_alone(QUICK).await;
    scene.edit_config(|text| text.replace("postgres://", "postgres://nobody@127.0.0.1:1/none?unused="));
    let mut sync = scene.start(&["sync"]);
    let (status, took) = sync.ended().await;
    assert_eq!(status.code(), Some(1), "{}", sync.log());
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[tokio::test]
async fn a_bad_configuration_ends_with_2() {
    let scene = actions_alone(QUICK).await;
    scene.edit_config(|text| text.replace("poll_min", "pol_min"));
    let mut sync = scene.start(&["sync"]);
    assert_eq!(sync.exit_code().await, Some(2));
    assert!(sync.log().contains("workers.pol_min"), "{}", sync.log());
}
