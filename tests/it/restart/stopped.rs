//! SIGTERM: while a step is under way, twice, while idle, while something else hangs.

use std::time::Duration;

use impact_mirror::sandbox::{FaultKind, Point};
use nix::sys::signal::Signal;
use sqlx::Connection;

use super::{FOR_EVER, QUICK, actions_alone, ask_again};
use crate::support::daemon::{Mirrored, Process, Scene, Wishes, still};

/// How long a stop may take at most.
const STOP: Duration = Duration::from_secs(10);

/// Ends the daemon in peace and says how long that took.
async fn terminate(daemon: &mut Process) -> Duration {
    daemon.signal(Signal::SIGTERM);
    let (status, took) = daemon.ended().await;
    eprintln!("ended {:.1} s after SIGTERM", took.as_secs_f64());
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    assert!(took < STOP, "{took:?}");
    took
}

/// A daemon in the middle of a download that does not go on.
async fn downloading(scene: &Scene) -> Process {
    scene.inject(Point::Storage, FOR_EVER);
    let daemon = scene.run();
    scene.until_spooled(1).await;
    daemon
}

#[tokio::test]
async fn a_step_cut_short_is_handed_back_and_goes_on_at_once() {
    let scene = actions_alone(QUICK).await;
    let mut daemon = downloading(&scene).await;
    terminate(&mut daemon).await;
    let handed_back = "lease_token is null and attempts = 0 and state = 'loading'";
    let is_handed_back: bool = scene.value(&format!("select {handed_back} from impact_mirror.job")).await;
    assert!(is_handed_back);
    let note: String = scene.value("select note from impact_mirror.job_event order by id desc limit 1").await;
    assert_eq!(note, "handed back at shutdown or reload");
    assert_eq!(scene.spooled(), 0);

    let _next = scene.run();
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    let takeovers: i64 =
        scene.value("select count(*) from impact_mirror.job_event where note like 'taken over%'").await;
    assert_eq!(takeovers, 0, "nobody had to wait for a lease");
    assert_eq!(scene.orders(), 1);
}

#[tokio::test]
async fn a_step_that_ends_in_time_is_waited_for() {
    let scene = actions_alone(QUICK).await;
    scene.inject(Point::Storage, FaultKind::Stall(1.0));
    let mut daemon = scene.run();
    scene.until_spooled(1).await;
    terminate(&mut daemon).await;
    scene.assert_mirrored().await;
}

/// A daemon whose order impact.com has in its hands for so many seconds.
async fn ordering(scene: &Scene, seconds: f64) -> Process {
    scene.inject(Point::Submit, FaultKind::Stall(seconds));
    let daemon = scene.run();
    scene.until_hit().await;
    daemon
}

#[tokio::test]
async fn an_order_that_is_answered_in_time_is_waited_for() {
    let scene = actions_alone(QUICK).await;
    let mut daemon = ordering(&scene, 1.0).await;
    terminate(&mut daemon).await;
    let state: String = scene.value("select state::text from impact_mirror.job").await;
    assert_eq!(state, "waiting");
    let _next = scene.run();
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.orders(), 1);
}

/// Nobody knows whether it was taken: the next one looks for it before it orders.
#[tokio::test]
async fn an_order_that_is_not_answered_is_handed_back_and_looked_for() {
    let scene = actions_alone(QUICK).await;
    let mut daemon = ordering(&scene, 120.0).await;
    terminate(&mut daemon).await;
    let is_handed_back = "select lease_token is null and state = 'submitting' from impact_mirror.job";
    assert!(scene.value::<bool>(is_handed_back).await);
    let _next = scene.run();
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    let notes = "select string_agg(note, '; ' order by id) from impact_mirror.job_event where note <> ''";
    let notes: String = scene.value(notes).await;
    assert!(notes.contains("handed back at shutdown") && notes.contains("no trace of the order"), "{notes}");
    assert_eq!(scene.sandbox.runs(), 1);
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let scene = actions_alone(QUICK).await;
    let mut daemon = downloading(&scene).await;
    daemon.signal(Signal::SIGTERM);
    daemon.until_says("stopping").await;
    daemon.signal(Signal::SIGTERM);
    let (status, took) = daemon.ended().await;
    assert_eq!(status.code(), Some(1));
    assert!(took < Duration::from_secs(1), "{took:?}");
    let _next = scene.run();
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
}

#[tokio::test]
async fn an_idle_daemon_ends_promptly() {
    let scene = Scene::new(still(QUICK)).await;
    let mut daemon = scene.run();
    scene.until_mirrored().await;
    let took = terminate(&mut daemon).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_load_that_waits_inside_postgres_does_not_hold_up_the_end() {
    let scene = actions_alone(QUICK).await;
    let mut daemon = scene.run();
    scene.until_mirrored().await;
    scene.sandbox.set_behaviour("row_order=random").unwrap();
    let mut conn = scene.pool().acquire().await.unwrap();
    let mut lock = conn.begin().await.unwrap();
    sqlx::raw_sql("lock table impact.actions in access exclusive mode").execute(&mut *lock).await.unwrap();
    ask_again(&scene).await;
    scene.until_job("state = 'loading'").await;
    scene.until(&super::loads_blocked(1)).await;
    terminate(&mut daemon).await;
    scene.until("not exists (select 1 from impact_mirror.job where lease_token is not null)").await;
    lock.rollback().await.unwrap();
    let _next = scene.run();
    scene.until("(select count(*) = 2 from impact_mirror.load)").await;
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
}

#[tokio::test]
async fn an_impact_com_that_hangs_at_the_start_does_not_hold_up_the_end() {
    let wishes = Wishes { exports: &[Mirrored::Actions], programs: "\"all\"", ..Wishes::default() };
    let scene = Scene::with(still(QUICK), wishes).await;
    scene.inject(Point::Any, FOR_EVER);
    let mut daemon = scene.run();
    scene.until("exists (select 1 from impact_mirror.charge where call = 'programs')").await;
    terminate(&mut daemon).await;
}

#[tokio::test]
async fn a_database_that_is_away_does_not_hold_up_the_end() {
    let scene = actions_alone(QUICK).await;
    scene.edit_config(|text| text.replace("postgres://", "postgres://nobody@127.0.0.1:1/none?unused="));
    let mut daemon = scene.run();
    daemon.until_says("waiting for it").await;
    terminate(&mut daemon).await;
}
