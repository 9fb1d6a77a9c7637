//! A configuration that changes between two starts.

use impact_mirror::app::SyncEnd;
use impact_mirror::config::Programs;
use impact_mirror::export::Program;
use impact_mirror::sandbox::{FaultKind, Point};

use super::truth::assert_mirrored;
use super::world::{World, actions, clicks, days_ago};

#[tokio::test]
async fn an_export_that_is_removed_keeps_its_table_and_counts_for_nothing() {
    let world = World::new().await;
    world.inject(Point::Submit, FaultKind::JobNeverEnds);
    let both = world.settings(&(clicks(2) + &actions(3)));
    let engine = world.start(&both).await;
    engine.keep_going();
    world.eventually("select count(*)::text from impact_mirror.job where state = 'loaded'", "2").await;
    world.eventually("select count(*)::text from impact_mirror.job where state = 'waiting'", "1").await;
    engine.stop(std::time::Duration::from_secs(5)).await;
    let stuck = world.value("select export from impact_mirror.job where state = 'waiting'").await;
    let kept = world.settings(&if stuck == "actions" { clicks(2) } else { actions(3) });

    assert_eq!(world.sync(&kept).await.end, SyncEnd::Done);
    let job = world.query("select state from impact_mirror.job where finished_at is null").await;
    assert!(job.is_empty(), "nobody would bring it to an end: {job:?}");
    for view in ["freshness", "coverage"] {
        let rows = format!("select count(*)::text from impact_mirror.{view} where export = '{stuck}'");
        assert_eq!(world.value(rows).await, "0", "{view}");
    }
    let active = format!("select active::text from impact_mirror.export where name = '{stuck}'");
    assert_eq!(world.value(&active).await, "false");
    assert_mirrored(&world, &kept).await;

    // And back again, its table and its days with it.
    let engine = world.start(&both).await;
    engine.stop(std::time::Duration::from_secs(5)).await;
    assert_eq!(world.value(&active).await, "true");
    let days = format!("select count(*)::text from impact_mirror.coverage where export = '{stuck}'");
    assert_ne!(world.value(&days).await, "0");
}

#[tokio::test]
async fn new_refresh_rules_hold_for_what_is_loaded_already() {
    let world = World::new().await;
    world.sync(&world.settings(&actions(2))).await;
    let distance = "select distinct (next_refresh_at - as_of)::text from impact_mirror.cell where complete order by 1";
    assert_eq!(world.query(distance).await, ["06:00:00"]);
    let engine = world.start(&world.settings(&(actions(2) + "refresh = [{ age = \"35d\", every = \"2h\" }]\n"))).await;
    engine.stop(std::time::Duration::from_secs(5)).await;
    assert_eq!(world.query(distance).await, ["02:00:00"]);
    let engine = world.start(&world.settings(&(actions(2) + "refresh = []\n"))).await;
    engine.stop(std::time::Duration::from_secs(5)).await;
    assert_eq!(world.query(distance).await, ["NULL"], "settled");
    assert!(world.cell_states("actions").await.contains(&"settled".to_owned()));
}

#[tokio::test]
async fn a_program_that_is_added_is_loaded_and_one_that_is_removed_is_left_alone() {
    let world = World::new().await;
    let mut settings = world.settings(&actions(3));
    world.sync(&settings).await;
    let mut program = |ids: &[&str]| {
        for account in settings.accounts.values_mut() {
            account.programs = Programs::Listed(ids.iter().map(|id| Program::new(*id)).collect());
        }
        settings.clone()
    };
    let both = program(&["1000", "2000"]);
    assert_eq!(world.sync(&both).await.end, SyncEnd::Done);
    assert_eq!(world.orders(), 2);
    assert_mirrored(&world, &both).await;

    let one = program(&["2000"]);
    world.request_refresh("actions", days_ago(3), days_ago(0)).await;
    assert_eq!(world.sync(&one).await.end, SyncEnd::Done);
    assert_eq!((world.orders(), world.calls("replay")), (3, 1), "the removed one is not read again");
    assert_eq!(world.query("select distinct _program from impact.actions order by 1").await, ["1000", "2000"]);
}

#[tokio::test]
async fn another_time_zone_tells_anew_which_days_were_over() {
    let world = World::new().await;
    let mut settings = world.settings(&actions(3));
    world.sync(&settings).await;
    // Noon in UTC: in New York the day is not over then, on Kiritimati it has been for two hours.
    world.execute("update impact_mirror.cell set as_of = (day + time '12:00') at time zone 'UTC'").await;
    for (zone, complete) in [(chrono_tz::Pacific::Kiritimati, "true"), (chrono_tz::America::New_York, "false")] {
        for account in settings.accounts.values_mut() {
            account.time_zone = zone;
        }
        let engine = world.start(&settings).await;
        engine.stop(std::time::Duration::from_secs(5)).await;
        assert_eq!(world.query("select distinct complete::text from impact_mirror.cell").await, [complete], "{zone}");
    }
}
