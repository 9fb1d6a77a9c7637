//! What people pause orders nothing new, what is in flight ends, and the audit says who did it.

use std::time::Duration;

use impact_mirror::account::AccountName;
use impact_mirror::app::SyncEnd;
use impact_mirror::export::ExportName;
use impact_mirror::sandbox::Options;
use impact_mirror::store::by_hand::{Action, act, paused};

use super::truth::assert_mirrored;
use super::world::{World, actions, options};

async fn do_it(world: &World, action: Action) {
    let mut conn = world.pool().acquire().await.unwrap();
    let outcome = act(&mut conn, "cli: ann", &action).await.unwrap();
    assert!(outcome.changed, "{}", outcome.words);
}

#[tokio::test]
async fn what_is_paused_by_hand_orders_nothing_until_it_is_resumed() {
    let (export, account) = (ExportName::new("actions"), AccountName::new("brand"));
    for (pause, resume, name) in [
        (Action::PauseExport(export.clone()), Action::ResumeExport(export), "actions"),
        (Action::PauseAccount(account.clone()), Action::ResumeAccount(account), "brand"),
    ] {
        let world = World::new().await;
        let settings = world.settings(&actions(4));
        world.start(&settings).await.stop(Duration::from_secs(5)).await; // writes the configuration down
        world.execute("delete from impact_mirror.job").await;
        let before = world.orders();
        do_it(&world, pause).await;
        assert_eq!(world.sync(&settings).await.end, SyncEnd::Failed, "days are due, and nobody goes for them");
        assert_eq!(world.orders(), before);
        let told = paused(&mut world.pool().acquire().await.unwrap()).await.unwrap();
        assert_eq!(
            told.iter().map(|one| (one.name.as_str(), one.by.as_str())).collect::<Vec<_>>(),
            [(name, "cli: ann")]
        );
        do_it(&world, resume).await;
        assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
        assert_mirrored(&world, &settings).await;
        let audit =
            "select string_agg(actor || ' ' || action || ' ' || target, ', ' order by id) from impact_mirror.audit";
        let kind = if name == "brand" { "account" } else { "export" };
        assert_eq!(world.value(audit).await, format!("cli: ann pause {kind} {name}, cli: ann resume {kind} {name}"));
    }
}

#[tokio::test]
async fn what_is_in_flight_when_it_is_paused_ends_and_what_was_planned_stays() {
    let world = World::with(Options { job_duration: Duration::from_secs(2), ..options() }).await;
    let settings = world.settings(&actions(4));
    let engine = world.start(&settings).await;
    let pause = async {
        while !world.jobs().await.iter().any(|job| job.contains("waiting")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        do_it(&world, Action::PauseExport(ExportName::new("actions"))).await;
    };
    let (report, ()) = tokio::join!(world.finish(engine), pause);
    assert_eq!(report.progress.loaded, 1, "{:#?}", world.jobs().await);
    world
        .execute(
            "insert into impact_mirror.job (export, account, program, from_day, to_day, reason, priority, bucket, request, wanted_after,
                 run_at, created_at)
             select export, account, program, from_day, to_day, 'manual', 0, bucket, request, now(), now(), now() from impact_mirror.job",
        )
        .await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Failed);
    assert_eq!(world.orders(), 1);
    assert_eq!(world.value("select state from impact_mirror.job order by id desc limit 1").await, "planned");
}
