//! Each fault of the line between the daemon and Postgres, at each step of a job.

use std::time::{Duration, Instant};

use super::{LEASE, Stage, at_once, break_for_a_while, tell};
use crate::restart::quiet_for;
use crate::support::black_hole::BlackHole;
use crate::support::daemon::eventually;
use crate::support::proxy::Line;

const FAULTS: [Line; 8] = [
    Line::Refused,
    Line::Reset,
    Line::Closed,
    Line::Stalled,
    Line::Slow(2_000),
    Line::CutAfter(60_000),
    Line::ReplyLost,
    Line::CommitLost,
];

/// Breaks the line before an order goes out, while a remote job is followed, and just as results can be fetched.
async fn comes_back_after(fault: Line) -> Vec<Duration> {
    let stage = Stage::new().await;
    let mut took = Vec::new();
    for (during, loads) in [(None, 6), (Some("waiting"), 8), (Some("loading"), 10)] {
        if let Some(job_state) = during {
            stage.ask().await;
            stage.scene.until_job(&format!("state = '{job_state}'")).await;
            break_for_a_while(&stage.postgres, fault).await;
        } else {
            let asked = async {
                tokio::task::yield_now().await;
                stage.ask().await;
            };
            tokio::join!(break_for_a_while(&stage.postgres, fault), asked);
        }
        let began = Instant::now();
        stage.until_loaded(loads).await;
        took.push(began.elapsed());
        eprintln!("{fault:?}, {during:?}: {:.1} s", began.elapsed().as_secs_f64());
        stage.assert_recovered(&format!("{fault:?}, {during:?}"), loads).await;
    }
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn the_daemon_comes_back_from_every_fault_of_the_line_to_postgres() {
    let took = at_once(FAULTS, comes_back_after).await;
    tell("between the daemon and Postgres", &took);
    assert!(took.iter().all(|took| *took < 2 * LEASE), "a lease at most, and the work itself: {took:?}");
}

/// Nothing says that a notification was missed but the end of the connection that would have brought it.
#[tokio::test]
async fn a_request_made_while_the_daemon_was_cut_off_is_heard() {
    let stage = Stage::new().await;
    stage.scene.until(&quiet_for(2)).await; // nobody is about to plan anyway
    stage.postgres.set(Line::Closed);
    eventually("its connections are closed", async || stage.postgres.open().is_empty()).await;
    stage.postgres.set(Line::Refused);
    stage.ask().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stage.postgres.set(Line::Good);
    stage.until_loaded(6).await;
    stage.assert_recovered("cut off and asked", 6).await;
}

/// The machine of Postgres dies, and another takes its address: no connection is ever told of it.
#[tokio::test]
async fn connections_that_nobody_will_answer_are_given_up() {
    let stage = Stage::new().await;
    stage.ask().await;
    stage.scene.until_job("state = 'waiting'").await;
    let Some(_hole) = BlackHole::between(stage.postgres.port(), &stage.postgres.open()) else {
        eprintln!("only root may swallow what goes to a port, with iptables");
        return;
    };
    // The sessions die with their machine.
    let sessions = "select pg_terminate_backend(pid) from pg_stat_activity \
                    where datname = current_database() and application_name = 'impact-mirror'";
    stage.scene.execute(sessions).await;
    let began = Instant::now();
    // A statement under way finds out, or who asks for a connection and gets none that lives.
    eventually("a connection is given up", async || {
        let log = stage.daemon.log();
        log.contains("Connection timed out") || log.contains("pool timed out")
    })
    .await;
    stage.until_loaded(6).await;
    tell("a Postgres that fell silent", &[began.elapsed()]);
    stage.assert_recovered("silence", 6).await;
}
