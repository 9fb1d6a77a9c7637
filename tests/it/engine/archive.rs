//! Result files in the archive: kept, found again, pruned, late; and loaded again.

use std::fs;
use std::path::{Path, PathBuf};

use impact_mirror::app::{ReloadReport, ReloadRequest, SyncEnd, explain, reload};
use impact_mirror::config::Settings;
use impact_mirror::export::{ExportName, Program, Window};
use impact_mirror::sandbox::{Fault, FaultKind, Options, Point};
use impact_mirror::store::archive::{hex, late_count};
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use super::truth::assert_mirrored;
use super::world::{World, actions, clicks, days_ago, options};

fn dir(world: &World) -> PathBuf {
    world.state_dir().join("archive")
}

fn archive(world: &World) -> String {
    format!("\n[archive]\nurl = \"file://{}\"\nkeep = \"30d\"\n", dir(world).display())
}

/// All files under a directory, by their paths in it.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(place) = open.pop() {
        for entry in fs::read_dir(place).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

/// Rows with all that the files say, as text.
async fn rows(world: &World, table: &str) -> Vec<String> {
    let lineage = ["_row_hash", "_load_id", "_line", "_first_seen_at", "_changed_at"];
    let statement =
        format!("select (to_jsonb(t) - '{{{}}}'::text[])::text from {table} t order by 1", lineage.join(","));
    world.query(statement).await
}

async fn load_again(world: &World, settings: &Settings, from: u64, to: u64) -> ReloadReport {
    let request = ReloadRequest {
        export: ExportName::new("actions"),
        days: Window::new(days_ago(from), days_ago(to)).unwrap(),
        account: None,
        program: Some(Program::new("1000")),
    };
    reload(settings.clone(), world.database(), &request, CancellationToken::new(), |_| {}).await.unwrap()
}

/// Two overlapping windows, of which the older one is long: what the newer one says of its days differs.
async fn overlapping() -> (World, Settings) {
    overlapping_with("").await
}

/// The same, of an export with further settings.
async fn overlapping_with(lines: &str) -> (World, Settings) {
    // So many that some of a few days are sure to change, whichever days these are.
    let world = World::with(Options { actions_per_day: 60, ..options() }).await;
    let settings = world.settings(&(actions(20) + lines + &archive(&world)));
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    let before = rows(&world, "impact.actions").await;
    world.pass_days(4);
    // The long window cannot be replayed, and a new one is short.
    world.execute("delete from impact_mirror.remote_job").await;
    world.request_refresh("actions", days_ago(9), days_ago(5)).await;
    let short = world.settings(&(actions(20) + lines + "max_window = \"7d\"\n" + &archive(&world)));
    assert_eq!(world.sync(&short).await.end, SyncEnd::Done);
    assert_ne!(rows(&world, "impact.actions").await, before, "nothing was restated");
    (world, settings)
}

#[tokio::test]
async fn every_load_names_a_file_that_is_just_what_impact_com_gave() {
    let world = World::new().await;
    let settings = world.settings(&(actions(4) + &clicks(2) + &archive(&world)));
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    let loads = world
        .query("select concat_ws(' ', archive_key, encode(file_sha256, 'hex'), file_bytes, rows_read) from impact_mirror.load order by 1")
        .await;
    let mut expected = Vec::new();
    for load in &loads {
        let [key, sha256, bytes, rows_read] = load.split(' ').collect::<Vec<_>>()[..] else {
            panic!("no file: {load}")
        };
        let raw = zstd::decode_all(fs::File::open(dir(&world).join(key)).unwrap()).unwrap();
        assert_eq!(hex(&Sha256::digest(&raw)), sha256);
        assert_eq!(raw.len().to_string(), bytes);
        let manifest_key = key.replace(".csv.zst", ".json");
        let text = fs::read_to_string(dir(&world).join(&manifest_key)).unwrap();
        assert!(!text.contains("http") && !text.contains("token"), "{text}");
        let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(manifest["sha256"], sha256);
        assert_eq!(manifest["rows_read"].to_string(), rows_read);
        for known in ["request", "remote_job_id", "load_id", "committed_at", "from_day"] {
            assert!(!manifest[known].is_null(), "{known}: {text}");
        }
        expected.extend([key.to_owned(), manifest_key]);
    }
    expected.sort();
    assert_eq!(files(&dir(&world)), expected);
    let last = days_ago(1);
    assert!(
        expected.iter().any(|key| key.starts_with(&format!("brand/clicks/1000/{last}_{last}/job-"))),
        "{expected:?}"
    );

    // The same file again: no second copy.
    world.request_refresh_of_all(&settings).await;
    assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Done);
    let named =
        "select concat(count(*), ' ', count(distinct archive_key), ' ', count(archive_key)) from impact_mirror.load";
    assert_eq!(world.value(named).await, format!("{} {1} {0}", 2 * loads.len(), loads.len()));
    assert_eq!(files(&dir(&world)), expected);
}

#[tokio::test]
async fn an_archive_that_fails_holds_no_load_up_and_gets_its_files_later() {
    let world = World::new().await;
    let settings = world.settings(&(actions(4) + &archive(&world)));
    fs::create_dir(dir(&world)).unwrap();
    fs::write(dir(&world).join("brand"), "in the way").unwrap();
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    assert_mirrored(&world, &settings).await;
    let named = "select concat(count(*), ' ', count(archive_key)) from impact_mirror.load";
    assert_eq!(world.value(named).await, "1 0");
    let spooled = || files(&world.state_dir().join("spool")).len();
    assert_eq!(spooled(), 1, "the file waits");
    world.execute("update impact_mirror.archived_file set created_at = now() - interval '10 minutes'").await;
    assert_eq!(late_count(&mut world.pool().acquire().await.unwrap()).await.unwrap(), 1);

    // A new start does not take it for a leftover.
    world.sync(&settings).await;
    assert_eq!((world.value(named).await.as_str(), spooled()), ("1 0", 1));

    fs::remove_file(dir(&world).join("brand")).unwrap();
    world.sync(&settings).await;
    assert_eq!((world.value(named).await.as_str(), spooled()), ("1 1", 0));
    assert_eq!(files(&dir(&world)).len(), 2, "with its manifest");
    assert_eq!(late_count(&mut world.pool().acquire().await.unwrap()).await.unwrap(), 0);
}

#[tokio::test]
async fn old_files_and_orphans_are_removed_and_nothing_else() {
    let world = World::new().await;
    let settings = world.settings(&(actions(4) + &clicks(3) + &archive(&world)));
    world.sync(&settings).await;
    let foreign = dir(&world).join("brand/actions/1000/job-9-00000000.csv.zst");
    fs::write(&foreign, "somebody else's").unwrap();
    assert_eq!(files(&dir(&world)).len(), 9);
    // One is too old, one was never loaded, one was refused, and one is as old but was read again yesterday.
    world
        .execute(
            "update impact_mirror.archived_file set created_at = now() - interval '40 days', used_at = now() - interval '40 days' \
             where export = 'actions'; \
             update impact_mirror.archived_file set created_at = now() - interval '40 days', used_at = now() - interval '25 hours' \
             where export = 'clicks'; \
             update impact_mirror.load set archive_key = null where id in ( \
                 select id from impact_mirror.load where export = 'clicks' order by id desc limit 2); \
             update impact_mirror.job set state = 'failed', load_id = null, error_kind = 'bad_file', error_message = 'refused' \
             where id = (select max(job_id) from impact_mirror.load where export = 'clicks')",
        )
        .await;
    world.sync(&settings).await;
    let left = "select concat(export, ' ', removed_at is not null) from impact_mirror.archived_file order by 1";
    assert_eq!(world.query(left).await, ["actions t", "clicks f", "clicks f", "clicks t"]);
    assert_eq!(files(&dir(&world)).len(), 5);
    assert!(foreign.exists());

    let explained = explained(&world, &settings, "actions", &["_program=1000"]).await;
    let today = chrono::Utc::now().format("%Y-%m-%d").to_string();
    let why = explained[0].no_raw.as_deref().unwrap();
    assert!(why.contains("pruned") && why.contains(&today), "{why}");
}

async fn explained(world: &World, settings: &Settings, export: &str, key: &[&str]) -> Vec<explain::Explained> {
    let mut conn = world.pool().acquire().await.unwrap();
    let key: Vec<String> = key.iter().map(|part| (*part).to_owned()).collect();
    explain::explain(&mut conn, settings, &settings.exports[&ExportName::new(export)], &key).await.unwrap()
}

#[tokio::test]
async fn a_row_leads_to_its_line() {
    let world = World::new().await;
    let settings = world.settings(&(actions(4) + &clicks(1) + &archive(&world)));
    world.sync(&settings).await;
    for line in world.query("select concat_ws(' ', action_id, _line, _load_id) from impact.actions").await {
        let [id, line, load_id] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let found = explained(&world, &settings, "actions", &[id]).await;
        assert_eq!(found.len(), 1);
        assert!(found[0].raw.as_deref().unwrap().contains(id), "{:?}", found[0]);
        let origin = found[0].origin.as_ref().unwrap();
        assert_eq!((found[0].line.to_string().as_str(), origin.load_id.to_string().as_str()), (line, load_id));
        assert!(origin.remote_job_id.is_some() && origin.request.is_object());
    }
    // Without a key, by load and line.
    let click = world
        .value("select concat_ws(' ', _load_id || ':' || _line, id) from impact.clicks order by _line limit 1")
        .await;
    let (place, id) = click.split_once(' ').unwrap();
    let found = explained(&world, &settings, "clicks", &[place]).await;
    assert!(found[0].raw.as_deref().unwrap().contains(id), "{found:?}");
    // A line that is no row.
    let header = explained(&world, &settings, "clicks", &[&format!("{}:1", place.split_once(':').unwrap().0)]).await;
    assert!(header[0].no_row.is_some() && header[0].raw.as_deref().unwrap().contains("Id,"), "{header:?}");
    assert!(explained(&world, &settings, "clicks", &["9999:2"]).await.is_empty());

    // Without an archive, and for what was loaded without one.
    let bare = world.settings(&actions(4));
    let why = explained(&world, &bare, "actions", &["_program=1000"]).await.remove(0).no_raw.unwrap();
    assert!(why.contains("no [archive]"), "{why}");
    world.execute("update impact_mirror.load set archive_key = null; delete from impact_mirror.archived_file").await;
    let why = explained(&world, &settings, "actions", &["_program=1000"]).await.remove(0).no_raw.unwrap();
    assert!(why.contains("before there was an archive"), "{why}");
}

/// How often this connection went through mirrored tables, and how often it looked something up in their indexes.
async fn scans(conn: &mut PgConnection) -> (i64, i64) {
    sqlx::query_as(
        "select sum(seq_scan)::bigint, sum(idx_scan)::bigint from pg_stat_xact_user_tables where schemaname = 'impact'",
    )
    .fetch_one(conn)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_row_is_found_by_an_index_also_in_a_table_by_month() {
    for partition in ["none", "month"] {
        let world = World::new().await;
        let lines = format!("partition = \"{partition}\"\n");
        let settings = world.settings(&(actions(40) + &lines + &clicks(1) + &lines + &archive(&world)));
        world.sync(&settings).await;
        let place = "concat_ws(' ', _load_id || ':' || _line, ";
        let action =
            world.value(&format!("select {place} action_id) from impact.actions order by _line limit 1")).await;
        let click = world.value(&format!("select {place} id) from impact.clicks order by _line limit 1")).await;
        let (action_place, action) = action.split_once(' ').unwrap();
        let (click_place, click) = click.split_once(' ').unwrap();

        let mut tx = world.pool().begin().await.unwrap();
        // The tables are small.
        sqlx::raw_sql("set local enable_seqscan = off").execute(&mut *tx).await.unwrap();
        // What the connection did before may be counted still.
        let before = scans(&mut tx).await;
        for (export, key, expected) in
            [("actions", action, action), ("actions", action_place, action), ("clicks", click_place, click)]
        {
            let export = &settings.exports[&ExportName::new(export)];
            let found = explain::explain(&mut tx, &settings, export, &[key.to_owned()]).await.unwrap();
            assert_eq!(found.len(), 1, "{key}");
            assert!(found[0].raw.as_deref().unwrap().contains(expected), "{found:?}");
        }
        let after = scans(&mut tx).await;
        assert!(after.0 == before.0 && after.1 >= before.1 + 3, "{partition}: {before:?} {after:?}");
    }
}

#[tokio::test]
async fn a_line_that_was_rejected_is_explained_also_where_there_is_a_key() {
    let world = World::new().await;
    let lines = "types = { Sale_Amount = \"bigint\" }\non_type_conflict = \"quarantine\"\n";
    let settings = world.settings(&(actions(4) + lines + &archive(&world)));
    world.sync(&settings).await;
    let line = world
        .value(
            "select concat_ws(' ', load_id || ':' || line, raw) from impact_mirror.rejected_row order by line limit 1",
        )
        .await;
    let (place, raw) = line.split_once(' ').unwrap();
    let found = explained(&world, &settings, "actions", &[place]).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].no_row.as_deref(), Some("it was rejected: sale_amount: not a bigint"));
    assert_eq!(found[0].raw.as_deref(), Some(raw));
    assert!(explained(&world, &settings, "actions", &["9999:2"]).await.is_empty());
}

#[tokio::test]
async fn a_reload_brings_back_a_lost_table_in_order_and_calls_nobody() {
    let (world, settings) = overlapping().await;
    let before = rows(&world, "impact.actions").await;
    let cells = "select concat_ws(' ', day, rows, as_of, complete, locked, unchanged_reads) from impact_mirror.cell order by day";
    let rates = "select concat_ws(' ', band, changes, days) from impact_mirror.change_rate order by 1";
    let (cells_before, rates_before) = (world.query(cells).await, world.query(rates).await);
    world.execute("drop table impact.actions cascade").await;
    let called = world.sandbox.calls().len();
    let report = load_again(&world, &settings, 30, 0).await;
    assert!(report.failed.is_empty() && report.impossible.is_empty(), "{report:?}");
    assert_eq!(rows(&world, "impact.actions").await, before);
    assert_eq!(world.query(cells).await, cells_before, "what the days are worth has not changed");
    assert_eq!(world.query(rates).await, rates_before, "nothing is learned from it");
    assert_eq!(world.sandbox.calls().len(), called);
    let honest = "select bool_and(l.archive_key is not null and l.rows_read > 0 and j.state = 'loaded')::text \
                  from impact_mirror.load l join impact_mirror.job j on j.id = l.job_id where j.reload_of is not null";
    assert_eq!(world.value(honest).await, "true");
    // The lines are the same, found through the new loads.
    let id = world.value("select action_id from impact.actions limit 1").await;
    let found = explained(&world, &settings, "actions", &[&id]).await.remove(0);
    assert!(found.raw.unwrap().contains(&id) && found.origin.unwrap().reload_of.is_some());
}

#[tokio::test]
async fn a_table_by_month_is_loaded_again_whether_it_stands_or_is_lost() {
    let (world, settings) = overlapping_with("partition = \"month\"\n").await;
    let before = rows(&world, "impact.actions").await;
    for lost in ["", "drop table impact.actions cascade"] {
        world.execute(lost).await;
        let report = load_again(&world, &settings, 30, 0).await;
        assert!(report.failed.is_empty() && report.impossible.is_empty() && report.progress.files >= 2, "{report:?}");
        assert_eq!(rows(&world, "impact.actions").await, before, "{lost}");
    }
    let kind = "select relkind::text from pg_class where oid = 'impact.actions'::regclass";
    assert_eq!(world.value(kind).await, "p");
}

#[tokio::test]
async fn a_reload_tells_again_what_is_doubtful_and_is_not_refused_for_it() {
    let world = World::new().await;
    let settings = world.settings(&(actions(4) + &archive(&world)));
    // It comes short again when it is fetched once more.
    world.sandbox.inject(Fault { times: 2, ..Fault::next(Point::Storage, FaultKind::ShortFile) });
    assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Done);
    let before = rows(&world, "impact.actions").await;
    let called = world.sandbox.calls().len();
    for (policy, told) in [("refuse", "count_mismatch"), ("warn", "count_mismatch"), ("ignore", "")] {
        let lines = format!("on_count_mismatch = \"{policy}\"\n");
        let settings = world.settings(&(actions(4) + &lines + &archive(&world)));
        let report = load_again(&world, &settings, 4, 0).await;
        assert_eq!((report.progress.files, report.failed.len()), (1, 0), "{policy}: {report:?}");
        let last = "select concat_ws(' ', records_processed > rows_read, array_to_string(warnings, ',')) \
                    from impact_mirror.load order by id desc limit 1";
        assert_eq!(world.value(last).await, format!("t {told}"), "{policy}");
    }
    assert_eq!(rows(&world, "impact.actions").await, before);
    assert_eq!(world.sandbox.calls().len(), called, "there is nothing to fetch again");
}

#[tokio::test]
async fn files_of_days_that_are_kept_no_longer_are_not_loaded_again() {
    for partition in ["none", "month"] {
        let world = World::new().await;
        let lines = format!("max_window = \"7d\"\npartition = \"{partition}\"\n");
        let all = world.settings(&(actions(70) + &lines + &archive(&world)));
        assert_eq!(world.sync(&all).await.end, SyncEnd::Done);
        let files = world.value("select count(*)::text from impact_mirror.load").await.parse::<u64>().unwrap();
        let kept = world.settings(&(actions(70) + &lines + "keep = \"10d\"\n" + &archive(&world)));
        assert_eq!(world.sync(&kept).await.end, SyncEnd::Done);
        world.execute("update impact_mirror.export set keep_changed_at = keep_changed_at - interval '25 hours'").await;
        assert_eq!(world.sync(&kept).await.end, SyncEnd::Done);
        let before = rows(&world, "impact.actions").await;
        let cells = "select concat_ws(' ', day, rows) from impact_mirror.cell order by day";
        let cells_before = world.query(cells).await;

        let first = kept.exports[&ExportName::new("actions")].kept_from(days_ago(0)).unwrap();
        let report = load_again(&world, &kept, 70, 0).await;
        assert!(report.failed.is_empty() && report.impossible.is_empty(), "{report:?}");
        assert_eq!(report.kept_from, Some(first));
        assert!(report.progress.files > 0 && report.progress.files < files, "of {files}: {report:?}");
        assert_eq!(rows(&world, "impact.actions").await, before, "what a file brought back beside is gone again");
        assert_eq!(world.query(cells).await, cells_before);
        assert_eq!(load_again(&world, &kept, 5, 0).await.kept_from, None);
    }
}

#[tokio::test]
async fn a_reload_of_a_few_days_takes_none_of_the_others_back() {
    let (world, settings) = overlapping().await;
    let before = rows(&world, "impact.actions").await;
    let report = load_again(&world, &settings, 15, 15).await;
    assert!(report.progress.files >= 2, "{report:?}");
    assert_eq!(rows(&world, "impact.actions").await, before);
}

#[tokio::test]
async fn days_whose_files_cannot_all_be_had_stay_as_they_are() {
    let (world, settings) = overlapping().await;
    let before = rows(&world, "impact.actions").await;
    world
        .execute(
            "update impact_mirror.archived_file set dropped_at = now() \
             where key = (select archive_key from impact_mirror.load order by id desc limit 1)",
        )
        .await;
    let report = load_again(&world, &settings, 30, 0).await;
    assert!(!report.impossible.is_empty(), "{report:?}");
    assert_eq!(rows(&world, "impact.actions").await, before);
}

#[tokio::test]
async fn rows_that_were_rejected_for_a_wrong_type_are_loaded_once_it_is_right() {
    let world = World::new().await;
    let wrong =
        actions(4) + "types = { Sale_Amount = \"bigint\" }\non_type_conflict = \"quarantine\"\n" + &archive(&world);
    let settings = world.settings(&wrong);
    world.sync(&settings).await;
    let rejected = "select rows_rejected::text from impact_mirror.load order by id desc limit 1";
    assert_ne!(world.value(rejected).await, "0");
    let settings = world.settings(&(actions(4) + "types = { Sale_Amount = \"numeric\" }\n" + &archive(&world)));
    let report = load_again(&world, &settings, 4, 0).await;
    assert_eq!((report.progress.files, report.progress.rejected), (1, 0), "{report:?}");
    assert_mirrored(&world, &settings).await;

    // To text: as the file has it, not as the number looked.
    world.execute("update impact.actions set sale_amount = sale_amount + 0.000").await;
    let settings = world.settings(&(actions(4) + "types = { Sale_Amount = \"text\" }\n" + &archive(&world)));
    load_again(&world, &settings, 4, 0).await;
    assert_mirrored(&world, &settings).await;
    let seen_before = "select bool_and(_first_seen_at < _changed_at)::text from impact.actions";
    assert_eq!(world.value(seen_before).await, "true", "a row that is written anew is not seen anew");
}

#[tokio::test]
async fn a_planned_job_makes_way_and_its_days_are_planned_again() {
    let (world, settings) = overlapping().await;
    world
        .execute(
            "insert into impact_mirror.job (export, account, program, from_day, to_day, reason, priority, bucket, request, \
                 wanted_after, run_at, created_at) \
             select export, account, program, from_day, to_day, 'refresh', 3, bucket, request, now(), now() + interval '1 hour', now() \
             from impact_mirror.job order by id limit 1",
        )
        .await;
    let report = load_again(&world, &settings, 30, 0).await;
    assert!(report.failed.is_empty(), "{report:?}");
    assert_eq!(world.count_jobs("cancelled").await, 1);
}

#[tokio::test]
async fn a_reload_that_finds_its_file_broken_fails_and_changes_nothing() {
    let (world, settings) = overlapping().await;
    let before = rows(&world, "impact.actions").await;
    let key = world.value("select archive_key from impact_mirror.load order by id limit 1").await;
    let raw = zstd::encode_all(&b"Action_Id,Action_Date\n1,2026-01-01\n"[..], 3).unwrap();
    fs::write(dir(&world).join(&key), raw).unwrap();
    let report = tokio::select! {
        report = load_again(&world, &settings, 30, 0) => report,
        () = hurry(&world) => unreachable!("it goes on for ever"),
    };
    assert_eq!(report.failed.len(), 1, "{report:?}");
    assert_eq!(rows(&world, "impact.actions").await, before);
    assert_eq!(world.value("select count(*)::text from impact_mirror.cell where failed_at is not null").await, "0");
}

#[tokio::test]
async fn days_that_a_broken_file_leaves_with_an_older_one_are_read_from_impact_com() {
    let (world, settings) = overlapping().await;
    let before = rows(&world, "impact.actions").await;
    // As if all were settled.
    world.execute("update impact_mirror.cell set next_refresh_at = null").await;
    let newest = "(select * from impact_mirror.load where archive_key is not null order by id desc limit 1)";
    let key = world.value(&format!("select archive_key from {newest} l")).await;
    let whole = fs::read(dir(&world).join(&key)).unwrap();
    fs::write(dir(&world).join(&key), zstd::encode_all(&b"Action_Id,Action_Date\n1,2026-01-01\n"[..], 3).unwrap())
        .unwrap();
    let days = world.value(&format!("select string_agg(day::date::text, ' ' order by day) from {newest} l, generate_series(from_day, to_day, interval '1 day') day")).await;
    let due = "select string_agg(day::text, ' ' order by day) from impact_mirror.cell where next_refresh_at <= now()";
    // The last days are asked for by nobody, and are loaded again only to follow what takes them back.
    let report = tokio::select! {
        report = load_again(&world, &settings, 30, 20) => report,
        () = hurry(&world) => unreachable!("it goes on for ever"),
    };
    assert_eq!((report.progress.files, report.failed.len()), (1, 1), "{report:?}");
    let told: Vec<String> = report.outdated.iter().flat_map(|(_, days)| days).map(ToString::to_string).collect();
    assert_eq!(told.join(" "), days);
    assert_ne!(rows(&world, "impact.actions").await, before, "an older file is in");
    assert_eq!(world.value(due).await, days);

    // The file is missing, and an older one is in already.
    world.execute("update impact_mirror.cell set next_refresh_at = null; update impact_mirror.archived_file f set dropped_at = now() where f.key = (select archive_key from impact_mirror.load where id = (select max(reload_of) from impact_mirror.job))").await;
    let report = load_again(&world, &settings, 30, 20).await;
    assert_eq!((report.progress.files, report.failed.len(), report.outdated.len()), (0, 0, 1), "{report:?}");
    assert_eq!(world.value(due).await, days);

    fs::write(dir(&world).join(&key), whole).unwrap();
    assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Done);
    assert_mirrored(&world, &settings).await;
    assert!(load_again(&world, &settings, 30, 20).await.outdated.is_empty());
}

#[tokio::test]
async fn files_that_an_open_reload_needs_are_not_pruned() {
    let world = World::new().await;
    let settings = world.settings(&(actions(4) + &archive(&world)));
    world.sync(&settings).await;
    world.execute("update impact_mirror.archived_file set used_at = now() - interval '40 days'").await;
    world
        .execute(
            "insert into impact_mirror.reload (export, account, program, from_day, to_day, since_load_id, started_at) \
             select export, account, program, from_day, to_day, id, now() from impact_mirror.load",
        )
        .await;
    let dropped = "select count(*)::text from impact_mirror.archived_file where dropped_at is not null";
    world.sync(&settings).await;
    assert_eq!(world.value(dropped).await, "0");
    world.execute("update impact_mirror.reload set started_at = now() - interval '8 days'").await;
    world.sync(&settings).await;
    assert_eq!(world.value(dropped).await, "1", "it was left lying for more than a week");
}

/// Cuts every pause of a job short.
async fn hurry(world: &World) {
    loop {
        world.execute("update impact_mirror.job set run_at = now() where lease_token is null and run_at > now()").await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
