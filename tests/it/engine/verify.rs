//! Windows that are ordered once more and compared with the table, and never loaded.

use impact_mirror::app::{SyncEnd, VerifyEnd, VerifyReport, VerifyRequest, verify};
use impact_mirror::config::Settings;
use impact_mirror::export::ExportName;
use impact_mirror::sandbox::{FaultKind, Options, Point};
use tokio_util::sync::CancellationToken;

use super::truth::assert_mirrored;
use super::world::{World, actions, clicks, options};

fn request(export: &str, calls: u32) -> VerifyRequest {
    let (export, actor) = (ExportName::new(export), "cli: ann".to_owned());
    VerifyRequest { export, account: None, from: None, to: None, calls, seed: 7, actor }
}

async fn ask(world: &World, settings: &Settings, request: &VerifyRequest) -> VerifyReport {
    let verifying = verify(settings.clone(), world.database(), request, CancellationToken::new(), |_| {});
    let report = tokio::time::timeout(std::time::Duration::from_mins(1), verifying).await;
    report.unwrap_or_else(|_| panic!("the comparison does not end")).unwrap()
}

fn verdicts(report: &VerifyReport) -> Vec<&str> {
    report
        .compared
        .iter()
        .map(|one| one.verdict.as_deref().or(one.error_message.as_deref()).unwrap_or("open"))
        .collect()
}

/// One window of actions, loaded.
async fn loaded() -> (World, Settings) {
    let world = World::with(Options { actions_per_day: 20, ..options() }).await;
    let settings = world.settings(&actions(6));
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    (world, settings)
}

async fn rows(world: &World) -> Vec<String> {
    world.query("select t.xmin::text || ' ' || to_jsonb(t)::text from impact.actions t order by 1").await
}

#[tokio::test]
async fn a_window_that_is_as_impact_com_gives_it_is_equal_and_nothing_is_loaded() {
    let (world, settings) = loaded().await;
    let cells = "select string_agg(to_jsonb(c)::text, ',' order by day) from impact_mirror.cell c";
    let (before, cells_before, orders) = (rows(&world).await, world.value(cells).await, world.orders());
    let report = ask(&world, &settings, &request("actions", 3)).await;
    assert_eq!((report.end, verdicts(&report)), (VerifyEnd::Done, vec!["equal"]), "{report:#?}");
    assert!(report.compared[0].is_replay, "the remote job was known");
    assert_eq!(report.compared[0].rows_equal, Some(i64::try_from(before.len()).unwrap()));
    assert_eq!(rows(&world).await, before, "no row was touched");
    assert_eq!(world.value(cells).await, cells_before, "and no day");
    assert_eq!(world.value("select count(*)::text from impact_mirror.load").await, "1");
    assert_eq!(world.orders(), orders + 1);
    let job = world.value("select concat_ws(' ', state, reason, load_id) from impact_mirror.job where compares").await;
    assert_eq!(job, "cancelled manual");
    let audit = world.value("select concat_ws(' ', actor, action, target) from impact_mirror.audit").await;
    assert_eq!(audit, "cli: ann verify export actions");
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    assert_eq!(world.orders(), orders + 1, "nothing is due for it");
}

#[tokio::test]
async fn a_row_that_somebody_changed_in_the_table_is_found_and_named() {
    let (world, settings) = loaded().await;
    let key = world.value("select min(action_id) from impact.actions").await;
    world.execute(&format!("update impact.actions set payout = 4711 where action_id = '{key}'")).await;
    let report = ask(&world, &settings, &request("actions", 1)).await;
    assert_eq!(verdicts(&report), ["altered"], "{report:#?}");
    let one = &report.compared[0];
    assert_eq!((one.rows_altered, one.rows_differing, one.rows_only_in_file), (Some(1), Some(0), Some(0)));
    let sample = &one.samples.as_ref().unwrap()[0];
    assert_eq!((&sample["kind"], &sample["key"]["action_id"]), (&"altered".into(), &key.clone().into()));
    assert_eq!(sample["columns"]["payout"]["table"], 4711);
    assert_eq!(sample["columns"].as_object().unwrap().len(), 1, "{sample}");

    // One that somebody deleted, and one that somebody put there.
    world.execute(&format!("delete from impact.actions where action_id = '{key}'")).await;
    let report = ask(&world, &settings, &request("actions", 1)).await;
    assert_eq!((verdicts(&report), report.compared[0].rows_only_in_file), (vec!["altered"], Some(1)), "{report:#?}");
    world
        .execute(
            "create temporary table one as select * from impact.actions limit 1; update one set action_id = 'mine'; \
             insert into impact.actions select * from one",
        )
        .await;
    let report = ask(&world, &settings, &request("actions", 1)).await;
    let one = &report.compared[0];
    assert_eq!((one.rows_only_in_file, one.rows_only_in_table), (Some(1), Some(1)), "{report:#?}");
    let samples = one.samples.as_ref().unwrap().as_array().unwrap();
    assert!(
        samples.iter().any(|one| one["kind"] == "only_in_table" && one["key"]["action_id"] == "mine"),
        "{samples:#?}"
    );
}

#[tokio::test]
async fn what_impact_com_restated_since_the_load_is_told_and_not_taken_for_a_fault_of_the_mirror() {
    let (world, settings) = loaded().await;
    world.pass_days(4);
    let before = rows(&world).await;
    let report = ask(&world, &settings, &request("actions", 1)).await;
    assert_eq!(verdicts(&report), ["restated"], "{report:#?}");
    let one = &report.compared[0];
    assert!(one.rows_differing > Some(0) && one.rows_altered == Some(0), "{one:#?}");
    assert!(one.next_refresh_at.is_some(), "it is due again by itself");
    assert_eq!(rows(&world).await, before);
    // Once it is read again, it is equal.
    world.request_refresh_of_all(&settings).await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    assert_mirrored(&world, &settings).await;
    assert_eq!(verdicts(&ask(&world, &settings, &request("actions", 1)).await), ["equal"]);
}

#[tokio::test]
async fn clicks_are_compared_as_a_multiset() {
    let world = World::new().await;
    let settings = world.settings(&clicks(3));
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    let all = ask(&world, &settings, &request("clicks", 3)).await;
    assert_eq!(verdicts(&all), ["equal"; 3], "{all:#?}");
    // A second one of the same: as many rows are too many.
    world.execute("insert into impact.clicks select * from impact.clicks where _day = (select min(_day) from impact.clicks) limit 1").await;
    let mut found = verdicts(&ask(&world, &settings, &request("clicks", 3)).await)
        .join(" ")
        .split(' ')
        .map(str::to_owned)
        .collect::<Vec<_>>();
    found.sort();
    assert_eq!(found, ["altered", "equal", "equal"]);
}

#[tokio::test]
async fn no_more_is_ordered_than_was_allowed() {
    let world = World::new().await;
    let settings = world.settings(&clicks(3));
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    let orders = world.orders();
    let report = ask(&world, &settings, &request("clicks", 2)).await;
    assert_eq!((report.compared.len(), world.orders()), (2, orders + 2));
    let again = ask(&world, &settings, &request("clicks", 2)).await;
    let days = |report: &VerifyReport| report.compared.iter().map(|one| one.from_day).collect::<Vec<_>>();
    assert_eq!(days(&again), days(&report), "the same seed, the same sample");

    // A result that is gone is not ordered again, and its days stand.
    let orders = world.orders();
    world.inject(Point::Replay, FaultKind::JobFails);
    let failed = ask(&world, &settings, &request("clicks", 1)).await;
    assert_eq!(failed.end, VerifyEnd::Done);
    assert!(verdicts(&failed)[0].contains("ordered once"), "{failed:#?}");
    assert_eq!(world.orders(), orders + 1);
    assert_eq!(world.cell_states("clicks").await.iter().filter(|state| *state == "failed").count(), 0);
}

#[tokio::test]
async fn a_column_that_the_table_lacks_is_told() {
    let (world, settings) = loaded().await;
    world.execute("alter table impact.actions drop column payout cascade").await;
    let report = ask(&world, &settings, &request("actions", 1)).await;
    assert_eq!(verdicts(&report), ["equal"], "{report:#?}");
    assert!(report.compared[0].note.as_deref().unwrap().contains("Payout"), "{report:#?}");
}
