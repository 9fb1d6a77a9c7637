//! Two processes on one database, the first of them frozen in the middle of a step: the second takes over, and what the
//! first one writes late is refused.

use std::time::Instant;

use chrono::TimeDelta;
use impact_mirror::sandbox::{FaultKind, Point};
use nix::sys::signal::Signal;
use sqlx::Connection;

use super::{QUICK, actions_alone, ask_again, loads_blocked};
use crate::support::daemon::{LEASE, Process, Scene, eventually};

const LEASE_LOST: &str = "step dropped: somebody else has the job now";

async fn until_taken_over(scene: &Scene) {
    let frozen_at = Instant::now();
    scene.until("exists (select 1 from impact_mirror.job_event where note like 'taken over: the lease of %')").await;
    let took = frozen_at.elapsed();
    eprintln!("taken over {:.1} s after the freeze, with leases of {} s", took.as_secs_f64(), LEASE.as_secs());
    assert!(took < 2 * LEASE, "{took:?}");
}

/// Wakes the first process and waits until its late write is refused and it goes on as a good neighbour.
async fn wake(scene: &Scene, first: &mut Process) {
    wake_to(scene, first, &[LEASE_LOST]).await;
}

/// The same where it may say one of several things.
async fn wake_to(scene: &Scene, first: &mut Process, words: &[&str]) {
    first.signal(Signal::SIGCONT);
    eventually("its step is dropped", async || words.iter().any(|words| first.log().contains(words))).await;
    scene.assert_mirrored().await;
    first.signal(Signal::SIGTERM);
    assert_eq!(first.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_download_that_ends_too_late_loads_nothing() {
    let scene = actions_alone(QUICK).await;
    scene.inject(Point::Storage, FaultKind::Stall(1.0));
    let mut first = scene.run();
    scene.until_spooled(1).await;
    first.signal(Signal::SIGSTOP);
    let _second = scene.run();
    until_taken_over(&scene).await;
    scene.until_mirrored().await;
    wake(&scene, &mut first).await;
    assert_eq!(scene.value::<i64>("select count(*) from impact_mirror.load").await, 1);
    assert_eq!(scene.orders(), 1);
}

#[tokio::test]
async fn a_reply_that_is_read_too_late_changes_nothing() {
    let scene = actions_alone(QUICK).await;
    scene.inject(Point::Submit, FaultKind::Stall(0.5));
    let mut first = scene.run();
    scene.until_hit().await;
    first.signal(Signal::SIGSTOP);
    eventually("the order takes effect", async || scene.orders() == 1).await;
    let _second = scene.run();
    until_taken_over(&scene).await;
    scene.until_mirrored().await;
    wake_to(&scene, &mut first, &[LEASE_LOST, "gave an order up before its lease ran out"]).await;
    assert_eq!(scene.orders(), 1);
}

/// The frozen process holds a transaction open that has written to the table: its successor ends it.
#[tokio::test]
async fn a_load_frozen_inside_its_transaction_is_ended_and_made_again() {
    let scene = actions_alone(QUICK).await;
    let mut first = scene.run();
    scene.until_mirrored().await;
    scene.sandbox.advance(TimeDelta::hours(30)); // rows are changed, and so locked
    let mut conn = scene.pool().acquire().await.unwrap();
    let mut lock = conn.begin().await.unwrap();
    sqlx::raw_sql("lock table impact_mirror.cell in share mode").execute(&mut *lock).await.unwrap();
    ask_again(&scene).await;
    scene.until(&loads_blocked(1)).await; // its rows are merged, its cells are to be filled
    first.signal(Signal::SIGSTOP);
    lock.rollback().await.unwrap();
    let _second = scene.run();
    until_taken_over(&scene).await;
    scene.until("(select count(*) = 2 from impact_mirror.load)").await;
    scene.until_mirrored().await;
    wake(&scene, &mut first).await;
    assert_eq!(scene.calls(&["replay"]), 1);
}
