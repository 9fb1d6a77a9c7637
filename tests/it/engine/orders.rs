//! Orders whose reply is lost, remote jobs that die, results that are gone: what is ordered again, and how often.

use impact_mirror::app::SyncEnd;
use impact_mirror::sandbox::{Fault, FaultKind, Point};
use impact_mirror::store::status;

use super::truth::assert_mirrored;
use super::world::{World, actions, options};

async fn behaving(settings: &[&str]) -> World {
    let mut options = options();
    for setting in settings {
        options.behaviours.set(setting).unwrap();
    }
    World::with(options).await
}

async fn last_job(world: &World) -> String {
    world.jobs().await.pop().unwrap()
}

#[tokio::test]
async fn an_order_whose_reply_was_lost_is_adopted_and_not_paid_twice() {
    let world = World::new().await;
    let settings = world.settings(&actions(4));
    world.inject(Point::Submit, FaultKind::ReplyLost);
    assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Done);
    assert_mirrored(&world, &settings).await;
    assert_eq!((world.orders(), world.calls("list")), (1, 1));
    let charged = "select sum(cost)::text from impact_mirror.charge where bucket = 'report_export'";
    assert_eq!(world.value(charged).await, "1");
}

#[tokio::test]
async fn an_order_that_never_arrived_is_sent_again() {
    for kind in [FaultKind::Reset, FaultKind::Http500, FaultKind::Html502, FaultKind::Html200, FaultKind::Empty200] {
        let world = World::new().await;
        let settings = world.settings(&actions(4));
        world.inject(Point::Submit, kind);
        assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Done, "{kind:?} {:#?}", world.jobs().await);
        assert_mirrored(&world, &settings).await;
        assert_eq!(world.calls("submit_report"), 2, "{kind:?}");
        assert_eq!(world.value("select count(*)::text from impact_mirror.job").await, "1", "{kind:?}");
    }
}

#[tokio::test]
async fn a_replay_whose_reply_was_lost_is_followed_and_not_made_twice() {
    for replay_id in ["same", "new"] {
        for (stale, failing) in [("0", 0), ("2", 0), ("2", 2)] {
            let world =
                behaving(&[&format!("replay_id={replay_id}"), &format!("stale_reads_after_replay={stale}")]).await;
            let settings = world.settings(&actions(4));
            world.sync(&settings).await;
            world.pass_days(10);
            world.request_refresh_of_all(&settings).await;
            world.inject(Point::Replay, FaultKind::ReplyLost);
            // The first look is for the job that is to be replayed; what fails after that tells nothing.
            if failing > 0 {
                let fault = Fault::next(Point::Poll, FaultKind::Http500);
                world.sandbox.inject(Fault { times: failing, skip: 1, ..fault });
            }
            assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
            assert_mirrored(&world, &settings).await;
            let calls = (world.calls("submit_report"), world.calls("replay"));
            assert_eq!(calls, (1, 1), "{replay_id}, {stale} stale, {failing} failing");
        }
    }
}

#[tokio::test]
async fn a_dead_job_is_replayed_once_and_loads() {
    for kind in [FaultKind::JobFails, FaultKind::JobCancelled] {
        let world = World::new().await;
        let settings = world.settings(&actions(4));
        world.inject(Point::Submit, kind);
        assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Done, "{kind:?}");
        assert_mirrored(&world, &settings).await;
        assert_eq!((world.calls("submit_report"), world.calls("replay")), (1, 1), "{kind:?}");
    }
}

#[tokio::test]
async fn a_job_that_always_fails_ends_with_the_words_of_impact_com_until_somebody_retries() {
    let world = World::new().await;
    let settings = world.settings(&actions(0));
    world.inject(Point::Submit, FaultKind::JobFails);
    world.inject(Point::Replay, FaultKind::JobFails);
    assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Failed);
    let words = last_job(&world).await;
    assert!(words.contains("failed remote") && words.contains("Job failed after 5 attempts."), "{words}");
    assert_eq!(world.cell_states("actions").await, ["failed"]);
    assert_eq!((world.calls("submit_report"), world.calls("replay")), (1, 1));

    // Not due again before an hour has passed.
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Failed);
    assert_eq!(world.orders(), 2);

    let id: i64 = world.value("select max(id)::text from impact_mirror.job").await.parse().unwrap();
    let mut conn = world.pool().acquire().await.unwrap();
    assert!(status::retry(&mut conn, impact_mirror::job::JobId(id)).await.unwrap());
    drop(conn);
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    assert_mirrored(&world, &settings).await;
    assert_eq!((world.calls("submit_report"), world.calls("replay")), (1, 2), "the dead job was replayed");
}

#[tokio::test]
async fn a_failed_cell_is_due_again_after_an_hour() {
    let world = World::new().await;
    let settings = world.settings(&actions(0));
    world.inject(Point::Submit, FaultKind::JobFails);
    world.inject(Point::Replay, FaultKind::JobFails);
    world.sync_in_a_hurry(&settings).await;
    world.execute("update impact_mirror.cell set failed_at = failed_at - interval '61 minutes'").await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    assert_mirrored(&world, &settings).await;
}

#[tokio::test]
async fn an_error_that_impact_com_mends_by_itself_is_waited_out() {
    let world = World::new().await;
    let settings = world.settings(&actions(4));
    world.inject(Point::Submit, FaultKind::JobErrorThenOk);
    let time_passes = async {
        while !world.jobs().await.iter().any(|job| job.contains("waiting")) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        loop {
            world.sandbox.advance(chrono::TimeDelta::minutes(15));
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    let report = tokio::select! {
        report = world.sync_in_a_hurry(&settings) => report,
        () = time_passes => unreachable!("it goes on for ever"),
    };
    assert_eq!(report.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    assert_eq!(world.orders(), 1, "impact.com did it by itself");
}

#[tokio::test]
async fn a_job_that_never_ends_is_given_up_at_its_deadline() {
    let world = World::new().await;
    let mut settings = world.settings(&actions(4));
    settings.workers.job_deadline = std::time::Duration::from_secs(1);
    world.inject(Point::Submit, FaultKind::JobNeverEnds);
    assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Failed);
    let words = last_job(&world).await;
    assert!(words.ends_with("the remote job did not end within 1s (workers.job_deadline)"), "{words}");
}

#[tokio::test]
async fn an_expired_result_is_replayed_then_submitted_then_given_up_each_once() {
    for status in ["404", "410", "403"] {
        let world = behaving(&[&format!("expired_download={status}")]).await;
        let settings = world.settings(&actions(4));
        world.sandbox.inject(Fault { times: 9, ..Fault::next(Point::Download, FaultKind::ExpireResult) });
        assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Failed);
        let words = last_job(&world).await;
        assert!(words.contains("no longer available"), "{words}");
        assert_eq!((world.calls("submit_report"), world.calls("replay")), (2, 1), "{status}");
    }
}

#[tokio::test]
async fn an_expired_result_is_there_again_after_a_replay() {
    let world = World::new().await;
    let settings = world.settings(&actions(4));
    world.inject(Point::Submit, FaultKind::ExpireResult);
    assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Done);
    assert_mirrored(&world, &settings).await;
    assert_eq!((world.calls("submit_report"), world.calls("replay")), (1, 1));
}
