//! SIGKILL in each state of a job; a new process goes on.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use impact_mirror::sandbox::{Fault, FaultKind, Point};
use nix::sys::signal::Signal;
use sqlx::Connection;

use super::{FOR_EVER, QUICK, actions_alone, ask_again, loads_blocked};
use crate::support::daemon::{LEASE, Process, Scene, eventually, still};

/// Kills the daemon, starts another one and waits until it has claimed what the first one held.
async fn kill_and_take_over(scene: &Scene, daemon: &mut Process) -> Process {
    daemon.kill();
    let killed_at = Instant::now();
    let next = scene.run();
    scene.until("exists (select 1 from impact_mirror.job_event where note like 'taken over: the lease of %')").await;
    let took = killed_at.elapsed();
    eprintln!("taken over {:.1} s after the kill, with leases of {} s", took.as_secs_f64(), LEASE.as_secs());
    assert!(took < 2 * LEASE, "taken over after {took:?}");
    next
}

/// Nobody tells it that work has come and that its holder has died.
#[tokio::test]
async fn a_replica_that_was_idle_takes_over() {
    let scene = actions_alone(QUICK).await;
    let mut replicas = [scene.run(), scene.run()];
    scene.until_mirrored().await;
    scene.inject(Point::Storage, FOR_EVER);
    ask_again(&scene).await;
    scene.until_spooled(1).await;
    for replica in &mut replicas {
        if replica.holds_a_job(&scene).await {
            replica.kill();
        }
    }
    let killed_at = Instant::now();
    scene.until("exists (select 1 from impact_mirror.job_event where note like 'taken over: the lease of %')").await;
    let took = killed_at.elapsed();
    eprintln!("taken over {:.1} s after the kill, with leases of {} s", took.as_secs_f64(), LEASE.as_secs());
    assert!(took < 2 * LEASE, "taken over after {took:?}");
    scene.until("(select count(*) = 2 from impact_mirror.load)").await;
    scene.until_mirrored().await;
    assert_eq!(scene.orders(), 2);
}

#[tokio::test]
async fn a_job_killed_while_planned_is_ordered_by_the_next_process() {
    let scene = actions_alone(QUICK).await;
    scene.inject(Point::Submit, FaultKind::Throttle429);
    let mut daemon = scene.run();
    scene.until_job("state = 'planned' and error_kind = 'throttled'").await;
    daemon.kill();
    let _next = scene.run();
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.orders(), 2, "one was answered with 429");
}

#[tokio::test]
async fn an_order_that_never_arrived_is_made_once_by_the_next_process() {
    let scene = actions_alone(QUICK).await;
    scene.inject(Point::Submit, FOR_EVER);
    let mut daemon = scene.run();
    scene.until_hit().await;
    let _next = kill_and_take_over(&scene, &mut daemon).await;
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.orders(), 1);
}

/// Freezes the daemon while its order is on the way, lets it take effect, and kills: the reply was never read.
async fn killed_before_the_reply_was_read(scene: &Scene, daemon: &mut Process, point: Point) -> Process {
    let before = scene.orders();
    scene.inject(point, FaultKind::Stall(0.5));
    if point == Point::Replay {
        ask_again(scene).await;
    } else {
        *daemon = scene.run();
    }
    scene.until_hit().await;
    daemon.signal(Signal::SIGSTOP);
    eventually("the order takes effect", async || scene.orders() > before).await;
    kill_and_take_over(scene, daemon).await
}

#[tokio::test]
async fn an_order_whose_reply_was_not_read_is_adopted() {
    let scene = actions_alone(QUICK).await;
    let mut daemon = scene.start(&["migrate"]);
    daemon.ended().await;
    let _next = killed_before_the_reply_was_read(&scene, &mut daemon, Point::Submit).await;
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.orders(), 1);
    let charges: i64 = scene.value("select count(*) from impact_mirror.charge where bucket = 'report_export'").await;
    assert_eq!(charges, 1);
}

#[tokio::test]
async fn an_order_whose_reply_was_lost_is_adopted_after_a_kill() {
    let scene = actions_alone(QUICK).await;
    scene.inject(Point::Submit, FaultKind::ReplyLost);
    let mut daemon = scene.run();
    scene.until_job("state = 'submitting' and error_kind = 'transient'").await;
    daemon.kill();
    let _next = scene.run();
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.orders(), 1);
}

#[tokio::test]
async fn a_replay_whose_reply_was_not_read_is_adopted() {
    let scene = actions_alone(QUICK).await;
    let mut daemon = scene.run();
    scene.until_mirrored().await;
    scene.sandbox.advance(TimeDelta::hours(30));
    let _next = killed_before_the_reply_was_read(&scene, &mut daemon, Point::Replay).await;
    scene.until("(select count(*) = 2 from impact_mirror.load)").await;
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.calls(&["replay"]), 1);
    assert_eq!(scene.orders(), 2);
}

/// The remote job that is replayed never moves; its successor has to be found in the list.
#[tokio::test]
async fn a_replay_under_a_new_id_whose_reply_was_not_read_is_adopted() {
    let scene = actions_alone(QUICK).await;
    scene.sandbox.set_behaviour("replay_id=new").unwrap();
    let mut daemon = scene.run();
    scene.until_mirrored().await;
    scene.sandbox.advance(TimeDelta::minutes(20));
    let _next = killed_before_the_reply_was_read(&scene, &mut daemon, Point::Replay).await;
    scene.until("(select count(*) = 2 from impact_mirror.load)").await;
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.calls(&["replay"]), 1);
    assert_eq!(scene.orders(), 2);
}

#[tokio::test]
async fn a_replay_that_never_arrived_is_made_once() {
    let scene = actions_alone(QUICK).await;
    let mut daemon = scene.run();
    scene.until_mirrored().await;
    scene.sandbox.advance(TimeDelta::hours(30));
    scene.inject(Point::Replay, FOR_EVER);
    ask_again(&scene).await;
    scene.until_hit().await;
    let _next = kill_and_take_over(&scene, &mut daemon).await;
    scene.until("(select count(*) = 2 from impact_mirror.load)").await;
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.calls(&["replay"]), 1);
}

#[tokio::test]
async fn jobs_killed_while_waiting_are_polled_on() {
    let scene = Scene::new(still(Duration::from_millis(1500))).await;
    let mut daemon = scene.run();
    scene.until("(select count(*) = 2 from impact_mirror.job where state = 'waiting')").await;
    daemon.kill();
    let _next = scene.run();
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.orders(), 2);
    let failures: i64 =
        scene.value("select count(*) from impact_mirror.job_event where note like 'to be tried again%'").await;
    assert_eq!(failures, 0, "two first loads at once do not get in each other's way");
}

#[tokio::test]
async fn a_job_killed_while_ready_is_fetched() {
    let scene = actions_alone(QUICK).await;
    scene.inject(Point::Download, FaultKind::Http500);
    let mut daemon = scene.run();
    scene.until_job("state = 'ready' and error_kind = 'transient'").await;
    daemon.kill();
    let _next = scene.run();
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.orders(), 1);
}

#[tokio::test]
async fn downloads_killed_in_the_middle_are_made_again_and_their_files_swept() {
    let scene = Scene::new(still(QUICK)).await;
    scene.sandbox.inject(Fault { on: Point::Storage, kind: FOR_EVER, times: 2, skip: 0 });
    let mut daemon = scene.run();
    scene.until_spooled(2).await;
    let _next = kill_and_take_over(&scene, &mut daemon).await;
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.orders(), 2);
}

#[tokio::test]
async fn loads_killed_inside_postgres_leave_nothing_and_are_made_again() {
    let scene = Scene::new(still(QUICK)).await;
    let mut daemon = scene.run();
    scene.until_mirrored().await;
    scene.sandbox.set_behaviour("row_order=random").unwrap();
    let mut conn = scene.pool().acquire().await.unwrap();
    let mut lock = conn.begin().await.unwrap();
    sqlx::raw_sql("lock table impact.actions, impact.clicks in access exclusive mode")
        .execute(&mut *lock)
        .await
        .unwrap();
    ask_again(&scene).await;
    scene.until(&loads_blocked(2)).await;
    daemon.kill();
    let next = scene.run();
    next.until_says("running").await;
    lock.rollback().await.unwrap();
    scene.until("(select count(*) = 4 from impact_mirror.load)").await;
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.orders(), 4);
}
