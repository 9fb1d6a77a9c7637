//! Files whose number of rows is doubtful: loaded and told of, or not loaded.

use impact_mirror::app::SyncEnd;
use impact_mirror::doubt::Doubt;
use impact_mirror::job::JobId;
use impact_mirror::sandbox::{Fault, FaultKind, Options, Point};
use impact_mirror::store::status;
use impact_mirror::store::warning::{self, LoadWarning};

use super::truth::assert_mirrored;
use super::world::{World, actions, clicks, days_ago, options};

const LOADS: &str = "select concat_ws(' ', rows_read, records_processed > rows_read, array_to_string(warnings, ',')) \
                     from impact_mirror.load order by id";

/// The next result arrives so, and once more when it is fetched again.
fn twice(world: &World, kind: FaultKind) {
    world.sandbox.inject(Fault { times: 2, ..Fault::next(Point::Storage, kind) });
}

async fn warnings(world: &World) -> Vec<LoadWarning> {
    let mut conn = world.pool().acquire().await.unwrap();
    warning::current(&mut conn).await.unwrap()
}

#[tokio::test]
async fn a_file_that_is_short_however_often_it_is_fetched_warns_until_it_is_whole() {
    let world = World::new().await;
    let settings = world.settings(&actions(4));
    twice(&world, FaultKind::ShortFile);
    assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Done);
    let loads = world.query(LOADS).await;
    assert!(loads.len() == 1 && loads[0].ends_with(" t count_mismatch"), "{loads:?}");
    let found = warnings(&world).await;
    assert_eq!(found.len(), 1);
    assert!(found[0].words().contains("and impact.com speaks of"), "{}", found[0].words());

    world.request_refresh_of_all(&settings).await;
    assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Done);
    assert_mirrored(&world, &settings).await;
    let kept = "select concat_ws(' ', kind, is_current) from impact_mirror.load_warning";
    assert_eq!(world.value(kept).await, "count_mismatch f");
    assert!(warnings(&world).await.is_empty());
}

#[tokio::test]
async fn a_short_file_that_is_refused_loads_nothing_and_says_how_to_go_on() {
    let world = World::new().await;
    let refusing = world.settings(&(actions(4) + "on_count_mismatch = \"refuse\"\n"));
    twice(&world, FaultKind::ShortFile);
    assert_eq!(world.sync_in_a_hurry(&refusing).await.end, SyncEnd::Failed);
    assert_eq!(world.query(LOADS).await, Vec::<String>::new());
    assert_eq!(world.calls("storage"), 2, "what came the same twice is not fetched again");
    assert_eq!(world.value("select to_regclass('impact.actions')::text").await, "NULL");
    let failed = "select concat_ws(' ', id, error_kind, error_message) from impact_mirror.job";
    let job = world.value(failed).await;
    assert!(job.starts_with("1 bad_file the file has "), "{job}");
    for words in ["exports.actions.on_count_mismatch is \"refuse\"", "`impact-mirror jobs retry 1`", "\"warn\""] {
        assert!(job.contains(words), "{job}");
    }

    let mut conn = world.pool().acquire().await.unwrap();
    assert!(status::retry(&mut conn, JobId(1)).await.unwrap());
    drop(conn);
    twice(&world, FaultKind::ShortFile);
    let warning = world.settings(&(actions(4) + "on_count_mismatch = \"warn\"\n"));
    assert_eq!(world.sync_in_a_hurry(&warning).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    let loads = world.query(LOADS).await;
    assert!(loads.len() == 1 && loads[0].ends_with(" t count_mismatch"), "{loads:?}");
}

#[tokio::test]
async fn no_rows_where_there_were_some_warn_or_are_refused() {
    for (policy, end, left, warned) in
        [("warn", SyncEnd::Done, 0, "0 t count_mismatch,unexpected_zero"), ("refuse", SyncEnd::Failed, 6, "")]
    {
        let world = World::new().await;
        let settings = world.settings(&(clicks(1) + &format!("on_unexpected_zero = \"{policy}\"\n")));
        world.sync(&settings).await;
        let rows = "select count(*)::text from impact.clicks";
        assert_ne!(world.value(rows).await, "0");
        let before = world.value(rows).await;
        world.request_refresh("clicks", days_ago(1), days_ago(1)).await;
        twice(&world, FaultKind::Empty200);
        assert_eq!(world.sync_in_a_hurry(&settings).await.end, end, "{policy}: {:#?}", world.jobs().await);
        let left = if left == 0 { "0".to_owned() } else { before };
        assert_eq!(world.value(rows).await, left, "{policy}");
        let loads = world.query(LOADS).await;
        assert_eq!(loads.get(1).map_or("", String::as_str), warned, "{policy}");
        let said: Vec<String> = warnings(&world).await.iter().map(LoadWarning::words).collect();
        assert_eq!(said.iter().any(|words| words.starts_with("the file has no rows")), policy == "warn", "{said:?}");
    }
}

#[tokio::test]
async fn a_window_emptied_in_doubt_is_doubtful_until_it_has_rows_again() {
    let world = World::new().await;
    let settings = world.settings(&clicks(1));
    world.sync(&settings).await;
    let kinds = async || warnings(&world).await.iter().map(|one| one.kind).collect::<Vec<Doubt>>();
    let rows = world.value("select count(*)::text from impact.clicks").await;
    // The file that empties the window, the same file again, and the same read in another way.
    let other_way = world.settings(&(clicks(1) + "on_type_conflict = \"quarantine\"\n"));
    for (settings, deleted) in [(&settings, rows.as_str()), (&settings, "0"), (&other_way, "0")] {
        world.request_refresh("clicks", days_ago(1), days_ago(1)).await;
        twice(&world, FaultKind::Empty200);
        assert_eq!(world.sync_in_a_hurry(settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
        let last = "select rows_deleted::text from impact_mirror.load order by id desc limit 1";
        assert_eq!(world.value(last).await, deleted);
        assert_eq!(kinds().await, [Doubt::CountMismatch, Doubt::UnexpectedZero]);
    }
    let said = warnings(&world).await[1].words();
    assert_eq!(said, "the file still has no rows, and its window once had some");

    world.request_refresh("clicks", days_ago(1), days_ago(1)).await;
    assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Done);
    assert_eq!(kinds().await, []);
}

#[tokio::test]
async fn rows_that_could_not_be_deleted_warn_until_every_row_can_be_read() {
    let world = World::new().await;
    let settings = world.settings(&clicks(1));
    world.sync(&settings).await;
    let not_in_file = "select ((select count(*) from impact.clicks) - rows_read + rows_rejected)::text \
                       from impact_mirror.load order by id desc limit 1";
    // A row that stands is not the one of the file: it cannot be deleted while others have no key.
    world.execute("update impact.clicks set _row_hash = gen_random_uuid() where _line = (select min(_line) from impact.clicks)").await;
    let read_again = async || {
        world.request_refresh("clicks", days_ago(1), days_ago(1)).await;
        assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
        warnings(&world).await
    };
    for _ in 0..2 {
        world.inject(Point::Storage, FaultKind::GarbageRows);
        let found = read_again().await;
        assert_eq!(world.value(not_in_file).await, "1");
        let stale = found.iter().find(|one| one.kind == Doubt::KeptDeletions).expect("a warning");
        assert!(stale.words().contains("older versions of rows stand beside newer ones"), "{}", stale.words());
    }
    assert!(read_again().await.is_empty());
    assert_eq!(world.value(not_in_file).await, "0");
}

#[tokio::test]
async fn a_day_that_is_cut_warns_is_refused_or_is_no_matter() {
    for (policy, end, loads) in [
        ("warn", SyncEnd::Done, &["100 f truncated"][..]),
        ("ignore", SyncEnd::Done, &["100 f"]),
        ("refuse", SyncEnd::Failed, &[]),
    ] {
        let mut options = Options { actions_per_day: 200, ..options() };
        options.behaviours.set("max_rows=100").unwrap();
        let world = World::with(options).await;
        let exports = format!("{}include_today = false\nmax_rows = 100\non_truncation = \"{policy}\"\n", actions(1));
        assert_eq!(world.sync(&world.settings(&exports)).await.end, end, "{policy}");
        let found: Vec<String> = world.query(LOADS).await;
        assert_eq!(found.iter().map(|load| load.trim_end()).collect::<Vec<_>>(), loads, "{policy}");
    }
}
