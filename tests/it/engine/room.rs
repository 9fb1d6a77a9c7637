//! Disks that are full: jobs wait for room, as long as it takes, and nothing is ordered meanwhile.

use std::time::Duration;

use impact_mirror::app::SyncEnd;
use impact_mirror::config::Settings;
use impact_mirror::store;

use super::truth::assert_mirrored;
use super::world::{World, actions, clicks};
use crate::support::small_disk::SmallDisk;

/// Postgres has no room to end a load.
const FULL_AT_LOAD: &str = "
    create function full_disk() returns trigger language plpgsql as $$
    begin
        raise exception 'could not extend file \"base/1/2\": No space left on device' using errcode = 'disk_full';
    end $$;
    create trigger full_disk before update on impact_mirror.load for each row execute function full_disk();";

/// Nor to write down that it has none.
const FULL_FOR_ALL: &str = "
    create trigger full_disk before insert on impact_mirror.job_event for each row
    when (new.note like 'to be tried again%') execute function full_disk();";

const AGAIN: &str = "select count(*) from impact_mirror.job_event where note like 'to be tried again%'";

/// Many tries at a job whose result cannot be stored, and orders that wait for it.
async fn waits_for_room(world: &World, exports: &str, make_room: impl AsyncFnOnce()) {
    let few = world.settings(&format!("{}{exports}", actions(3)));
    let report = world.sync(&few).await;
    assert_eq!((report.end, report.progress.without_room), (SyncEnd::Failed, 1), "{:#?}", world.jobs().await);
    let standing = "select concat_ws(' ', state, attempts, error_kind) from impact_mirror.job where export = 'actions'";
    assert_eq!(world.value(standing).await, "ready 0 no_room");

    let engine = world.start(&few).await;
    engine.keep_going();
    for tries in 2..16 {
        world.execute("update impact_mirror.job set run_at = now() where lease_token is null").await;
        engine.context().wakes.all();
        world.eventually(&format!("select (({AGAIN}) >= {tries})::text"), "true").await;
    }
    engine.stop(Duration::from_secs(5)).await;
    assert_eq!(world.value(standing).await, "ready 0 no_room", "no try counts");
    assert_eq!(world.value("select to_regclass('impact.actions')::text").await, "NULL", "nothing is half loaded");

    let more = world.settings(&format!("{}{}{exports}", actions(3), clicks(3)));
    assert_eq!(world.sync(&more).await.end, SyncEnd::Failed);
    assert!(world.count_jobs("planned").await > 0);
    assert_eq!(world.orders(), 1, "what could not be stored is not paid for");
    let mut conn = world.pool().acquire().await.unwrap();
    assert_eq!(store::room::lacking(&mut conn).await.unwrap().map(|lacking| lacking.jobs), Some(1));
    drop(conn);

    make_room().await;
    assert_eq!(world.sync_in_a_hurry(&more).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    assert_loaded(world, &more).await;
}

async fn assert_loaded(world: &World, settings: &Settings) {
    assert_mirrored(world, settings).await;
    assert_eq!(world.calls("submit_report"), 1, "ordered once");
    let mut conn = world.pool().acquire().await.unwrap();
    assert!(store::room::lacking(&mut conn).await.unwrap().is_none());
}

#[tokio::test]
async fn a_result_waits_for_room_in_the_spool() {
    let Some(disk) = SmallDisk::mount(1 << 20) else {
        eprintln!("only root may mount the small disk of this test");
        return;
    };
    disk.fill();
    let world = World::new().await;
    let spool = format!("[spool]\ndir = \"{}\"\n", disk.path().display());
    waits_for_room(&world, &spool, async || disk.make_room()).await;
    assert_eq!(world.calls("storage"), 4, "while there is no room at all, nothing is fetched");
}

#[tokio::test]
async fn a_result_waits_for_room_in_the_database() {
    let world = World::new().await;
    world.execute(FULL_AT_LOAD).await;
    waits_for_room(&world, "", async || world.execute("drop function full_disk cascade").await).await;
}

#[tokio::test]
async fn a_job_whose_outcome_has_no_room_either_is_not_begun_again_and_again() {
    let world = World::new().await;
    world.execute(FULL_AT_LOAD).await;
    world.execute(FULL_FOR_ALL).await;
    let settings = world.settings(&actions(3));
    let engine = world.start(&settings).await;
    engine.keep_going();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while engine.pulse().no_room().is_none() {
        assert!(tokio::time::Instant::now() < deadline, "{:#?}", world.jobs().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(engine.pulse().no_room().unwrap().contains("No space left on device"));
    // Its lease, which lasts for two seconds, is renewed meanwhile.
    let lease = "select lease_expires_at::text from impact_mirror.job";
    for _ in 0..4 {
        let now = world.value(lease).await;
        world.eventually(&format!("select (({lease}) > '{now}')::text"), "true").await;
    }
    assert_eq!(world.value("select concat_ws(' ', state, attempts) from impact_mirror.job").await, "loading 1");
    assert_eq!(world.calls("storage"), 1);

    world.execute("drop function full_disk cascade").await;
    world
        .eventually("select concat_ws(' ', state, attempts, error_kind) from impact_mirror.job", "ready 0 no_room")
        .await;
    engine.stop(Duration::from_secs(5)).await;
    assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Done);
    assert_loaded(&world, &settings).await;
}
