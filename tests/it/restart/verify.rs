//! `verify`, killed and called again.

use impact_mirror::sandbox::{FaultKind, Point};

use super::{QUICK, actions_alone};

#[tokio::test]
async fn a_verify_that_was_killed_is_finished_by_the_next_and_ordered_once() {
    let scene = actions_alone(QUICK).await;
    assert_eq!(scene.start(&["sync"]).exit_code().await, Some(0));
    assert_eq!(scene.orders(), 1);
    scene.inject(Point::Storage, FaultKind::Stall(60.0));
    let mut first = scene.start(&["verify", "actions"]);
    scene.until_job("compares and state = 'loading'").await;
    scene.until_spooled(1).await;
    first.kill();
    let mut next = scene.start(&["verify", "actions", "--calls", "1"]);
    assert_eq!(next.exit_code().await, Some(0), "{}", next.log());
    assert_eq!(scene.orders(), 2);
    assert_eq!(scene.value::<String>("select string_agg(verdict, ' ') from impact_mirror.comparison").await, "equal");
    assert_eq!(scene.value::<i64>("select count(*) from impact_mirror.load").await, 1);

    // A row changed by hand: the exit code says so.
    scene.execute("update impact.actions set payout = payout + 1 where _line = 2").await;
    assert_eq!(scene.start(&["verify", "actions"]).exit_code().await, Some(1));
}

#[tokio::test]
async fn a_running_daemon_finishes_a_verify_that_was_killed() {
    let scene = actions_alone(QUICK).await;
    assert_eq!(scene.start(&["sync"]).exit_code().await, Some(0));
    scene.inject(Point::Storage, FaultKind::Stall(60.0));
    let mut verify = scene.start(&["verify", "actions"]);
    scene.until_job("compares and state = 'loading'").await;
    scene.until_spooled(1).await;
    verify.kill();
    let _daemon = scene.run();
    scene.until("exists (select 1 from impact_mirror.comparison where verdict = 'equal')").await;
    assert_eq!(scene.orders(), 2);
}
