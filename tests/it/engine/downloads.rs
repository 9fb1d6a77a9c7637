//! Results that do not arrive whole: the next try loads what is right, and the wrong file leaves nothing behind.

use impact_mirror::app::SyncEnd;
use impact_mirror::sandbox::{Fault, FaultKind, Point};

use super::truth::assert_mirrored;
use super::world::{World, actions};

/// One load, from a job whose first results arrive as the fault has it.
async fn survives(on: Point, kind: FaultKind) -> World {
    let world = World::new().await;
    let settings = world.settings(&actions(4));
    world.inject(on, kind);
    assert_eq!(
        world.sync_in_a_hurry(&settings).await.end,
        SyncEnd::Done,
        "{kind:?} on {on:?}: {:#?}",
        world.jobs().await
    );
    assert_mirrored(&world, &settings).await;
    assert_eq!(world.calls("submit_report"), 1, "{kind:?} on {on:?} is no reason to order again");
    let loads = world.value("select concat_ws(' ', count(*), sum(rows_rejected)) from impact_mirror.load").await;
    assert_eq!(loads, "1 0", "{kind:?} on {on:?}");
    world
}

#[tokio::test]
async fn a_file_that_breaks_off_loads_nothing_and_is_fetched_again() {
    for kind in [FaultKind::Truncate, FaultKind::WrongLength, FaultKind::ShortFile] {
        let world = survives(Point::Storage, kind).await;
        assert_eq!(world.calls("storage"), 2, "{kind:?}");
    }
}

#[tokio::test]
async fn what_is_no_file_loads_nothing_and_is_fetched_again() {
    for kind in [
        FaultKind::Html200,
        FaultKind::ErrorObject200,
        FaultKind::Empty200,
        FaultKind::Html502,
        FaultKind::Http500,
        FaultKind::Reset,
        FaultKind::ReplyLost,
    ] {
        survives(Point::Storage, kind).await;
    }
    survives(Point::Download, FaultKind::Empty200).await;
    survives(Point::Download, FaultKind::Http500).await;
}

#[tokio::test]
async fn an_empty_answer_does_not_empty_a_window_that_has_rows() {
    let world = World::new().await;
    let settings = world.settings(&actions(4));
    world.sync(&settings).await;
    world.request_refresh_of_all(&settings).await;
    world.inject(Point::Storage, FaultKind::Empty200);
    assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Done);
    assert_mirrored(&world, &settings).await;
    let deleted = world.value("select sum(rows_deleted)::text from impact_mirror.load").await;
    assert_eq!(deleted, "0", "the rows were never away");
}

#[tokio::test]
async fn a_file_that_stays_short_however_often_it_is_fetched_is_believed() {
    let world = World::new().await;
    let settings = world.settings(&actions(4));
    let short = Fault { times: 9, ..Fault::next(Point::Storage, FaultKind::ShortFile) };
    world.sandbox.inject(short);
    assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Done);
    assert_eq!(world.calls("storage"), 2, "impact.com may count otherwise than we do");
}

#[tokio::test]
async fn a_worker_that_waits_for_bytes_keeps_its_lease() {
    // Longer than a lease lasts.
    let world = survives(Point::Storage, FaultKind::Stall(4.0)).await;
    assert_eq!(world.calls("storage"), 1, "nobody took the job over");
}

#[tokio::test]
async fn rows_that_are_no_rows_are_kept_aside_and_the_others_load() {
    let world = World::new().await;
    let settings = world.settings(&actions(4));
    world.inject(Point::Storage, FaultKind::GarbageRows);
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    let load = world
        .value(
            "select concat_ws(' ', rows_rejected > 0, rows_read = rows_inserted + rows_rejected, \
                    rows_rejected = (select count(*) from impact_mirror.rejected_row r where r.load_id = l.id), \
                    rows_inserted = (select count(*) from impact.actions)) \
             from impact_mirror.load l",
        )
        .await;
    assert_eq!(load, "t t t t");
    let reasons = world.query("select distinct reason from impact_mirror.rejected_row").await;
    assert!(reasons.len() > 2 && reasons.iter().all(|reason| !reason.is_empty()), "{reasons:?}");

    // The same file once more: the newest load has the rejected rows too.
    world.request_refresh_of_all(&settings).await;
    world.inject(Point::Storage, FaultKind::GarbageRows);
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    let newest = world
        .query(
            "select concat_ws(' ', rows_inserted = 0 and rows_unchanged > 0, \
                    rows_rejected = (select count(*) from impact_mirror.rejected_row r where r.load_id = l.id)) \
             from impact_mirror.load l order by id",
        )
        .await;
    assert_eq!(newest, ["f t", "t t"]);

    // Read once more, without the garbage: nothing is rejected, nothing changes.
    world.request_refresh_of_all(&settings).await;
    world.sync(&settings).await;
    assert_mirrored(&world, &settings).await;
}

#[tokio::test]
async fn hostile_headers_become_harmless_columns() {
    let world = World::new().await;
    let settings = world.settings(&actions(4));
    world.inject(Point::Storage, FaultKind::HostileHeaders);
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    let columns = world
        .query("select column_name from information_schema.columns where table_schema = 'impact' and table_name = 'actions'")
        .await;
    let harmless = |name: &String| {
        name.len() <= 63 && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    assert!(columns.iter().all(harmless), "{columns:?}");
    let rows = world.value("select (count(*) > 0)::text from impact.actions").await;
    assert_eq!(rows, "true");
}
