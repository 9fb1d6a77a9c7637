//! The database goes away for a moment, in the middle of work.

use std::time::Duration;

use impact_mirror::sandbox::{Fault, FaultKind, Point};

use super::{QUICK, ask_again, ask_again_for};
use crate::support::daemon::{Scene, eventually, still};

/// Cuts every connection that a daemon has.
async fn cut(scene: &Scene) {
    let cut: i64 = scene
        .value(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity
             where datname = current_database() and application_name = 'impact-mirror'",
        )
        .await;
    assert!(cut > 0);
}

#[tokio::test]
async fn a_daemon_whose_connections_are_cut_goes_on_by_itself() {
    let scene = Scene::new(still(Duration::from_millis(800))).await;
    let _daemon = scene.run();
    scene.until_job("state = 'waiting'").await;
    cut(&scene).await;
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.orders(), 2);
    // It still hears commands.
    cut(&scene).await;
    scene.sandbox.set_behaviour("row_order=random").unwrap();
    ask_again(&scene).await;
    scene.until("(select count(*) = 4 from impact_mirror.load)").await;
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
}

#[tokio::test]
async fn no_outcome_is_lost_to_a_dead_connection() {
    let scene = Scene::new(still(QUICK)).await;
    scene.sandbox.inject(Fault { on: Point::Submit, kind: FaultKind::Stall(0.5), times: 2, skip: 0 });
    let _daemon = scene.run();
    scene.until_hit().await;
    cut(&scene).await;
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(takeovers(&scene).await, [""; 0]);
    assert_eq!(scene.orders(), 2);
}

#[tokio::test]
async fn a_long_step_keeps_its_lease_when_the_connections_are_cut() {
    let scene = Scene::new(still(QUICK)).await;
    scene.inject(Point::Storage, FaultKind::Stall(4.0));
    let _daemon = scene.run();
    scene.until("(select count(*) = 1 from impact_mirror.load)").await;
    eventually("the other file is in the spool", async || scene.spooled() == 1).await;
    cut(&scene).await;
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(takeovers(&scene).await, [""; 0]);
}

/// The outcome of a step cannot be written: the step is over, and its lease must run out although the process lives on and
/// is busy with something else.
#[tokio::test]
async fn a_step_whose_outcome_could_not_be_written_is_repeated_while_others_are_busy() {
    let scene = Scene::new(still(QUICK)).await;
    scene.inject(Point::Storage, FaultKind::Stall(12.0));
    let daemon = scene.run();
    scene.until("(select count(*) = 1 from impact_mirror.load)").await;
    eventually("the other file is in the spool", async || scene.spooled() == 1).await;

    scene
        .execute(
            "create function refuse() returns trigger language plpgsql as $$ begin raise 'refused'; end $$;
             create trigger refuse before update on impact_mirror.job
                 for each row when (new.state = 'waiting') execute function refuse()",
        )
        .await;
    let done: String = scene.value("select export from impact_mirror.load").await;
    ask_again_for(&scene, &done).await;
    daemon.until_says("cannot write the outcome of a step").await;
    scene.execute("drop trigger refuse on impact_mirror.job").await;
    scene.until("(select count(*) = 2 from impact_mirror.load)").await;
    assert_eq!(takeovers(&scene).await, ["submitting"]);
    let busy: i64 = scene.value("select count(*) from impact_mirror.job where state = 'loading'").await;
    assert_eq!(busy, 1, "the other step was under way all the time");
    assert_eq!(scene.calls(&["replay"]), 1);
}

/// The states in which jobs were taken over.
async fn takeovers(scene: &Scene) -> Vec<String> {
    sqlx::query_scalar("select from_state from impact_mirror.job_event where note like 'taken over%' order by id")
        .fetch_all(scene.pool())
        .await
        .unwrap()
}
