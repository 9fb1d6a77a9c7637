//! Exports with `result_format = "json"`: what lands, what is refused, and what a switch of the format does.

use std::fs;

use impact_mirror::app::{ReloadRequest, SyncEnd, explain, reload};
use impact_mirror::config::Settings;
use impact_mirror::export::{ExportName, Window};
use impact_mirror::sandbox::{FaultKind, Point};
use tokio_util::sync::CancellationToken;

use super::truth::assert_mirrored;
use super::world::{World, actions, clicks, days_ago};

const JSON: &str = "result_format = \"json\"\n";

/// All rows with all they hold, their lineage included.
async fn rows(world: &World) -> Vec<String> {
    world.query("select t::text from impact.actions t order by 1").await
}

/// What the orders asked for, without repeats.
fn formats(world: &World) -> Vec<String> {
    let orders = world.sandbox.calls().into_iter().filter(|call| call.kind.starts_with("submit"));
    let mut formats: Vec<String> = orders
        .flat_map(|call| call.query.split('&').map(str::to_owned).collect::<Vec<_>>())
        .filter(|pair| pair.starts_with("ResultFormat"))
        .collect();
    formats.dedup();
    formats
}

async fn sync(world: &World, settings: &Settings) {
    assert_eq!(world.sync(settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
}

/// Rows read, inserted, updated, deleted and rejected by the last load.
async fn last_load(world: &World) -> String {
    let counts = "select concat_ws(' ', rows_read > 0, rows_inserted, rows_updated, rows_deleted, rows_rejected) \
                  from impact_mirror.load order by id desc limit 1";
    world.value(counts).await
}

#[tokio::test]
async fn what_lands_from_json_of_any_shape_is_the_truth_restated_and_replayed() {
    for shape in ["object", "paged", "bare", "sparse"] {
        let world = World::new().await;
        world.sandbox.set_behaviour(&format!("json_shape={shape}")).unwrap();
        let settings = world.settings(&(actions(30) + JSON + &clicks(2) + JSON));
        sync(&world, &settings).await;
        assert_mirrored(&world, &settings).await;
        assert_eq!(formats(&world), ["ResultFormat=JSON"]);
        let submitted = world.calls("submit_report") + world.calls("submit_clicks");

        world.pass_days(5);
        world.request_refresh_of_all(&settings).await;
        sync(&world, &settings).await;
        assert_mirrored(&world, &settings).await;
        assert_eq!(world.calls("submit_report") + world.calls("submit_clicks"), submitted, "read again by Replay");
        assert!(world.calls("replay") > 0);
        let changed = "select (sum(rows_updated) > 0 and sum(rows_unchanged) > 0 and sum(rows_rejected) = 0)::text \
                       from impact_mirror.load where export = 'actions'";
        assert_eq!(world.value(changed).await, "true", "{shape}");
    }
}

#[tokio::test]
async fn a_json_result_that_is_none_loads_nothing_and_is_fetched_again() {
    for kind in [
        FaultKind::Truncate,
        FaultKind::WrongLength,
        FaultKind::ShortFile,
        FaultKind::Html200,
        FaultKind::ErrorObject200,
        FaultKind::Empty200,
    ] {
        let world = World::new().await;
        let settings = world.settings(&(actions(4) + JSON));
        world.inject(Point::Storage, kind);
        assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Done, "{kind:?}: {:#?}", world.jobs().await);
        assert_mirrored(&world, &settings).await;
        assert_eq!((world.calls("submit_report"), world.calls("storage")), (1, 2), "{kind:?}");
        assert_eq!(world.value("select count(*)::text from impact_mirror.load").await, "1", "{kind:?}");
    }
}

#[tokio::test]
async fn records_that_are_no_rows_are_kept_aside_and_the_others_load() {
    let world = World::new().await;
    let settings = world.settings(&(actions(4) + JSON));
    world.inject(Point::Storage, FaultKind::GarbageRows);
    sync(&world, &settings).await;
    assert!(last_load(&world).await.ends_with(" 0 0 5"), "{}", last_load(&world).await);
    let rejected =
        world.query("select concat_ws(' ', line, reason) from impact_mirror.rejected_row order by line").await;
    assert_eq!(
        rejected,
        ["2 not an object", "3 not JSON: expected `:`", "4 key is empty", "5 not UTF-8", "6 not UTF-8"]
    );
    world.request_refresh_of_all(&settings).await;
    sync(&world, &settings).await;
    assert_mirrored(&world, &settings).await;
}

#[tokio::test]
async fn a_switch_of_the_format_and_back_restates_nothing() {
    let world = World::new().await;
    let [csv, json] = ["", JSON].map(|line| world.settings(&(actions(20) + line)));
    sync(&world, &csv).await;
    let before = rows(&world).await;
    let count = before.len();

    // What impact.com ran as CSV is not replayed for JSON.
    world.request_refresh_of_all(&json).await;
    sync(&world, &json).await;
    assert_eq!((world.calls("submit_report"), world.calls("replay")), (2, 0));
    assert_eq!(formats(&world), ["ResultFormat=CSV", "ResultFormat=JSON"]);
    assert_eq!(last_load(&world).await, "t 0 0 0 0");
    assert_eq!(rows(&world).await, before, "lineage and all");

    // And back: the CSV of then is there to be replayed.
    world.request_refresh_of_all(&csv).await;
    sync(&world, &csv).await;
    assert_eq!((world.calls("submit_report"), world.calls("replay")), (2, 1));
    assert_eq!(last_load(&world).await, "t 0 0 0 0");
    assert_eq!(rows(&world).await, before, "{count} rows");
    assert_eq!(world.value("select count(*)::text from impact_mirror.restatement").await, "0");
    let asked = world.query("select request ->> 'format' from impact_mirror.job order by id").await;
    assert_eq!(asked, ["NULL", "json", "NULL"]);
}

#[tokio::test]
async fn an_order_from_before_the_switch_ends_in_the_format_it_asked_for() {
    let world = World::new().await;
    let [csv, json] = ["", JSON].map(|line| world.settings(&(actions(6) + line)));
    // Two orders whose replies are lost, one on each side of the switch: each finds its own job again.
    for (settings, other) in [(&csv, &json), (&json, &csv)] {
        world.inject(Point::Submit, FaultKind::ReplyLost);
        let engine = world.start(settings).await;
        engine.keep_going();
        world.eventually("select count(*)::text from impact_mirror.job where state = 'submitting'", "1").await;
        engine.stop(std::time::Duration::from_secs(5)).await;
        assert_eq!(world.sync_in_a_hurry(other).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
        assert_mirrored(&world, settings).await;
        world.request_refresh_of_all(settings).await;
    }
    assert_eq!((world.calls("submit_report"), world.count_jobs("failed").await), (2, 0), "{:#?}", world.jobs().await);
}

#[tokio::test]
async fn a_remote_job_of_the_other_format_is_not_replayed_for_ever() {
    let world = World::new().await;
    let [csv, json] = ["", JSON].map(|line| world.settings(&(actions(6) + line)));
    sync(&world, &csv).await;
    let before = rows(&world).await;
    // As if an order of JSON had been taken for it when its reply was lost.
    world.execute("update impact_mirror.remote_job set request = request || '{\"format\": \"json\"}'").await;
    world.request_refresh_of_all(&json).await;
    assert_eq!(world.sync_in_a_hurry(&json).await.end, SyncEnd::Failed);
    let told = world.value("select error_message from impact_mirror.job order by id desc limit 1").await;
    assert!(
        told.starts_with("the result file is CSV or another text and not JSON; it begins \"Action_Date,"),
        "{told}"
    );
    assert_eq!(rows(&world).await, before);

    world.request_refresh_of_all(&json).await;
    assert_eq!(world.sync_in_a_hurry(&json).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    assert_eq!((world.calls("submit_report"), world.calls("replay")), (2, 1));
    assert_eq!(last_load(&world).await, "t 0 0 0 0");
}

#[tokio::test]
async fn a_row_is_explained_and_loaded_again_from_a_file_of_either_format() {
    let world = World::new().await;
    let archive = format!("\n[archive]\nurl = \"file://{}\"\n", world.state_dir().join("archive").display());
    let settings = |line: &str| world.settings(&(actions(20) + line + &archive));
    sync(&world, &settings(JSON)).await;
    world.pass_days(3);
    world.request_refresh_of_all(&settings("")).await;
    sync(&world, &settings("")).await;
    assert_mirrored(&world, &settings("")).await;
    let keys = world.query("select archive_key from impact_mirror.load order by id").await;
    assert!(keys[0].ends_with(".json.zst") && keys[1].ends_with(".csv.zst"), "{keys:?}");
    for (key, format) in keys.iter().zip(["json", "csv"]) {
        let manifest = key.replace(&format!(".{format}.zst"), ".json");
        let text = fs::read_to_string(world.state_dir().join("archive").join(manifest)).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(manifest["format"], format);
        assert!(manifest["file"].as_str().is_some_and(|file| file.ends_with(&format!(".{format}.zst"))), "{text}");
    }

    // A row of each file, down to the record itself.
    let export = &settings("").exports[&ExportName::new("actions")];
    for (load, begins) in [("min", "{\"Action_Date\":"), ("max", "20")] {
        let statement = format!(
            "select concat_ws(' ', action_id, _line) from impact.actions \
             where _load_id = (select {load}(id) from impact_mirror.load) order by _line desc limit 1"
        );
        let place = world.value(statement).await;
        let (id, line) = place.split_once(' ').unwrap();
        let mut conn = world.pool().acquire().await.unwrap();
        let found = explain::explain(&mut conn, &settings(""), export, &[id.to_owned()]).await.unwrap();
        let raw = found[0].raw.clone().unwrap_or_else(|| panic!("{:?}", found[0].no_raw));
        assert!(raw.starts_with(begins) && raw.contains(id), "{raw}");
        assert_eq!(found[0].line.to_string(), line);
        if load == "min" {
            let record: serde_json::Value = serde_json::from_str(&raw).unwrap();
            assert_eq!(record["Action_Id"], id);
        }
    }

    // Both files once more, whatever the setting says now.
    let texts = "select (to_jsonb(t) - '{_load_id,_line,_changed_at,_first_seen_at}'::text[])::text \
                 from impact.actions t order by 1";
    let before = world.query(texts).await;
    let request = ReloadRequest {
        export: ExportName::new("actions"),
        days: Window::new(days_ago(30), days_ago(0)).unwrap(),
        account: None,
        program: None,
    };
    for line in [JSON, ""] {
        let again = reload(settings(line), world.database(), &request, CancellationToken::new(), |_| {}).await.unwrap();
        assert!(again.failed.is_empty() && again.progress.rejected == 0, "{again:?}");
        assert!(again.progress.files > 0, "{again:?}");
        assert_eq!(world.query(texts).await, before);
    }
}
