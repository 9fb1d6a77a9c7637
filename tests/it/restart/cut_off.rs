//! Two processes on one database, the first of them cut off from it while its order is on the way: it gives the order up before
//! the second one looks for it.

use chrono::TimeDelta;
use impact_mirror::sandbox::{FaultKind, Point};
use nix::sys::signal::Signal;

use super::{QUICK, actions_alone, ask_again};
use crate::support::daemon::{LEASE, Scene};
use crate::support::proxy::{Line, Proxy};

/// Cuts a process off while impact.com takes two leases to look at its order; another one makes the order meanwhile, so that
/// there are so many loads in the end.
async fn cut_off_while_ordering(scene: &Scene, order: Point, loads: usize) {
    let direct = scene.database.as_ref().unwrap().url().to_owned();
    let line = Proxy::to_postgres(&direct);
    let through = line.postgres_url(&direct);
    scene.inject(order, FaultKind::Stall(2.0 * LEASE.as_secs_f64()));
    scene.edit_config(|text| text.replace(&direct, &through));
    let mut first = scene.run();
    first.until_says("running").await;
    scene.edit_config(|text| text.replace(&through, &direct));
    if loads > 1 {
        scene.until_mirrored().await;
        scene.sandbox.advance(TimeDelta::hours(30));
        ask_again(scene).await;
    }
    scene.until_hit().await;
    line.set(Line::Refused);
    let _second = scene.run();
    scene.until(&format!("(select count(*) = {loads} from impact_mirror.load)")).await;
    tokio::time::sleep(2 * LEASE).await; // by now the order would have been taken
    line.set(Line::Good);
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.sandbox.runs(), loads, "runs that impact.com made");
    assert!(first.log().contains("gave an order up before its lease ran out"), "{}", first.log());
    first.signal(Signal::SIGTERM);
    assert_eq!(first.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_submission_on_its_way_is_given_up_before_somebody_else_orders_it() {
    let scene = actions_alone(QUICK).await;
    // What was ordered before is no help then.
    scene.sandbox.set_behaviour("duplicate_memory=none").unwrap();
    cut_off_while_ordering(&scene, Point::Submit, 1).await;
}

#[tokio::test]
async fn a_replay_on_its_way_is_given_up_before_somebody_else_orders_it() {
    let scene = actions_alone(QUICK).await;
    cut_off_while_ordering(&scene, Point::Replay, 2).await;
}
