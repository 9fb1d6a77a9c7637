//! The real process with a bug: a step, or a loop that plans, panics.

use crate::restart::actions_alone;
use crate::support::daemon::{Process, Scene, eventually};

use super::{QUICK, assert_done_once, assert_paid};

/// Starts a daemon that has a bug at a place, once.
fn run_with_bug(scene: &mut Scene, place: &str) -> Process {
    scene.env =
        vec![("IMPACT_MIRROR_FAILPOINT", place.to_owned()), ("IMPACT_MIRROR_FAILPOINT_PANICS", "yes".to_owned())];
    let daemon = scene.run();
    scene.env.clear();
    daemon
}

/// The step is tried again as after any failure, by the same process: what it did is neither lost nor doubled.
async fn survive(place: &str) {
    let mut scene = actions_alone(QUICK).await;
    let mut daemon = run_with_bug(&mut scene, place);
    daemon.until_says(&format!("a bug at {place}")).await;
    scene.until_mirrored_in_a_hurry().await;
    scene.assert_mirrored().await;
    assert!(daemon.try_ended().is_none(), "the process goes on");
    assert_eq!(scene.orders(), 1, "orders");
    assert_paid(&scene).await;
    assert_done_once(&scene).await;
    let told = "select exists (select 1 from impact_mirror.job_event where note like '%a bug: the step panicked%')";
    assert!(scene.value::<bool>(told).await, "the job's history says so");
    eventually("the spool is swept", async || scene.spooled() == 0).await;
}

#[tokio::test]
async fn a_bug_after_the_order_has_gone_out_orders_nothing_twice() {
    survive("submission-answered").await;
}

#[tokio::test]
async fn a_bug_in_a_look_at_the_remote_job_is_a_failed_attempt() {
    survive("poll-answered").await;
}

#[tokio::test]
async fn a_bug_between_file_and_load_is_a_failed_attempt() {
    survive("spool-complete").await;
}

#[tokio::test]
async fn a_bug_in_the_middle_of_a_load_takes_its_transaction_back() {
    survive("cells-written").await;
}

#[tokio::test]
async fn a_bug_in_the_planner_is_ill_health_so_that_the_process_is_replaced() {
    let mut scene = actions_alone(QUICK).await;
    let daemon = run_with_bug(&mut scene, "plan-written");
    let url = daemon.url().await;
    let ask = reqwest::Client::builder().no_proxy().build().unwrap();
    eventually("/healthz says that the planner has ended", async || {
        let answer = ask.get(format!("{url}healthz")).send().await.unwrap();
        answer.status().as_u16() == 503 && answer.text().await.unwrap().contains("planner")
    })
    .await;
    drop(daemon); // as a watchdog or a probe has it replaced
    let _next = scene.run();
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.orders(), 1, "orders");
}
