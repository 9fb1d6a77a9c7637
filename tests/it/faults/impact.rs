//! Each fault of the line between the daemon and impact.com, at each step of a job.

use std::time::{Duration, Instant};

use impact_mirror::sandbox::{FaultKind, Point};

use super::{LEASE, Stage, at_once, break_for_a_while, tell};
use crate::support::proxy::Line;

const FAULTS: [Line; 7] =
    [Line::Refused, Line::Reset, Line::Closed, Line::Stalled, Line::Slow(200), Line::CutAfter(9_000), Line::ReplyLost];

/// Breaks the line before an order goes out, while a remote job is followed, and while files are fetched.
async fn comes_back_after(fault: Line) -> Vec<Duration> {
    let stage = Stage::new().await;
    let mut took = Vec::new();
    for (step, loads) in [(Step::Order, 6), (Step::Follow, 8), (Step::Fetch, 10)] {
        match step {
            Step::Order => {
                let asked = async {
                    tokio::task::yield_now().await;
                    stage.ask().await;
                };
                tokio::join!(break_for_a_while(&stage.impact, fault), asked);
            }
            Step::Follow => {
                stage.ask().await;
                stage.scene.until_job("state = 'waiting'").await;
                break_for_a_while(&stage.impact, fault).await;
            }
            Step::Fetch => {
                stage.scene.inject(Point::Storage, FaultKind::Stall(0.3));
                stage.ask().await;
                stage.scene.until_hit().await;
                break_for_a_while(&stage.impact, fault).await;
            }
        }
        let began = Instant::now();
        stage.until_loaded(loads).await;
        took.push(began.elapsed());
        eprintln!("{fault:?}, {step:?}: {:.1} s", began.elapsed().as_secs_f64());
        stage.assert_recovered(&format!("{fault:?}, {step:?}"), loads).await;
    }
    took
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Order,
    Follow,
    Fetch,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn the_daemon_comes_back_from_every_fault_of_the_line_to_impact_com() {
    let took = at_once(FAULTS, comes_back_after).await;
    tell("between the daemon and impact.com", &took);
    assert!(took.iter().all(|took| *took < 2 * LEASE), "a lease at most, and the work itself: {took:?}");
}
