//! Kills while files go into the archive and come back from it.

use super::*;

/// One export, and an archive in the state directory.
async fn archived() -> Scene {
    let scene = actions_alone(QUICK).await;
    let url = format!("file://{}", scene.dir.path().join("archive").display());
    scene.edit_config(|text| format!("{text}[archive]\nurl = \"{url}\"\n"));
    scene
}

/// Every load names a file that is whole in the archive.
async fn assert_archived(scene: &Scene) {
    let keys: Vec<Option<String>> =
        sqlx::query_scalar("select archive_key from impact_mirror.load").fetch_all(scene.pool()).await.unwrap();
    assert!(!keys.is_empty());
    for key in keys {
        let path = scene.dir.path().join("archive").join(key.unwrap());
        zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
    }
}

const ALL_DAYS: [&str; 6] = ["reload", "actions", "--from", "2000-01-01", "--to", "2100-01-01"];

#[tokio::test]
async fn a_kill_between_archive_and_commit_leaves_no_load_without_its_file() {
    let scene = archived().await;
    let mut daemon = scene.run();
    scene.until_mirrored().await;
    scene.sandbox.set_behaviour("row_order=random").unwrap();
    let mut conn = scene.pool().acquire().await.unwrap();
    let mut lock = conn.begin().await.unwrap();
    sqlx::raw_sql("lock table impact.actions in access exclusive mode").execute(&mut *lock).await.unwrap();
    ask_again(&scene).await;
    scene.until(&loads_blocked(1)).await;
    assert_eq!(
        scene.value::<i64>("select count(*) from impact_mirror.archived_file where stored_at is not null").await,
        2
    );
    daemon.kill();
    let _next = scene.run();
    lock.rollback().await.unwrap();
    scene.until("(select count(*) = 2 from impact_mirror.load)").await;
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_archived(&scene).await;
    assert_eq!(scene.orders(), 2);
}

#[tokio::test]
async fn a_reload_that_was_killed_goes_on() {
    let scene = archived().await;
    let mut sync = scene.start(&["sync"]);
    assert_eq!(sync.exit_code().await, Some(0));
    let calls = scene.sandbox.calls().len();
    let mut conn = scene.pool().acquire().await.unwrap();
    let mut lock = conn.begin().await.unwrap();
    sqlx::raw_sql("lock table impact.actions in access exclusive mode").execute(&mut *lock).await.unwrap();
    let mut reload = scene.start(&ALL_DAYS);
    scene.until(&loads_blocked(1)).await;
    reload.kill();
    lock.rollback().await.unwrap();
    let mut again = scene.start(&ALL_DAYS);
    assert_eq!(again.exit_code().await, Some(0), "{}", again.log());
    let done: bool = scene
        .value(
            "select count(*) = 1 and bool_and(state = 'loaded') and bool_and(attempts = 0) from impact_mirror.job \
             where reload_of is not null",
        )
        .await;
    assert!(done, "the same job is taken over and brought to its end");
    scene.assert_mirrored().await;
    assert_archived(&scene).await;
    assert_eq!(scene.sandbox.calls().len(), calls);
}

#[tokio::test]
async fn a_daemon_finishes_what_a_killed_reload_left_and_asks_nobody_for_it() {
    let scene = archived().await;
    let mut sync = scene.start(&["sync"]);
    assert_eq!(sync.exit_code().await, Some(0));
    let mut conn = scene.pool().acquire().await.unwrap();
    let mut lock = conn.begin().await.unwrap();
    sqlx::raw_sql("lock table impact.actions in access exclusive mode").execute(&mut *lock).await.unwrap();
    let mut reload = scene.start(&ALL_DAYS);
    scene.until(&loads_blocked(1)).await;
    reload.kill();
    lock.rollback().await.unwrap();
    let _daemon = scene.run();
    scene.until_job("reload_of is not null and state = 'loaded'").await;
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.calls(&["download"]), 1);
    assert_eq!(scene.orders(), 1);
}

#[tokio::test]
async fn a_reload_and_a_daemon_that_wants_the_same_days_take_turns() {
    let scene = archived().await;
    let _daemon = scene.run();
    scene.until_mirrored().await;
    for _ in 0..3 {
        // A run that the clock is set forward in takes 30 hours, and the daemon would look at the next one as late as that.
        scene.until("not exists (select 1 from impact_mirror.job where state in ('submitting', 'waiting'))").await;
        scene.sandbox.advance(chrono::TimeDelta::hours(30));
        let mut reload = scene.start(&ALL_DAYS);
        ask_again(&scene).await;
        assert_eq!(reload.exit_code().await, Some(0), "{}", reload.log());
    }
    scene.until("not exists (select 1 from impact_mirror.manual_request)").await;
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_archived(&scene).await;
}
