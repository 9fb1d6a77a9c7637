//! How remote jobs are looked at: together where that saves calls, and when such jobs usually end.

use std::time::Duration;

use impact_mirror::app::SyncEnd;
use impact_mirror::config::Settings;
use impact_mirror::sandbox::{Fault, FaultKind, Options, Point};

use super::truth::assert_mirrored;
use super::world::{World, days_ago, options};

/// An order for each of the five days before today, for there is no date column.
fn by_media() -> String {
    format!(
        "[exports.by_media]\naccounts = [\"brand\"]\nreport = \"att_adv_performance_by_media_pm_only\"\nsince = \"{}\"\n",
        days_ago(5)
    )
}

async fn with_jobs_of(job_duration: Duration) -> (World, Settings) {
    let world = World::with(Options { job_duration, ..options() }).await;
    let settings = world.settings(&by_media());
    (world, settings)
}

/// How often jobs were looked at, by whatever call.
async fn looks(world: &World) -> usize {
    world.value("select sum(polls + 1)::text from impact_mirror.job where state = 'loaded'").await.parse().unwrap()
}

#[tokio::test]
async fn jobs_in_flight_together_are_looked_at_together() {
    let (world, settings) = with_jobs_of(Duration::from_millis(1500)).await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    assert_mirrored(&world, &settings).await;
    let (looks, lists, polls) = (looks(&world).await, world.calls("list"), world.calls("poll"));
    eprintln!("{looks} looks took {lists} lists and {polls} polls");
    assert!(3 * (lists + polls) < 2 * looks, "{looks} looks took {lists} lists and {polls} polls");
    let charged = world.value("select count(*)::text from impact_mirror.charge where call in ('job', 'jobs')").await;
    assert_eq!(charged, (lists + polls).to_string(), "every call is charged");
}

#[tokio::test]
async fn a_list_that_fails_loses_nothing() {
    for kind in [
        FaultKind::Http500,
        FaultKind::Html502,
        FaultKind::Reset,
        FaultKind::ReplyLost,
        FaultKind::Empty200,
        FaultKind::Html200,
        FaultKind::ErrorObject200,
        FaultKind::Http403,
        FaultKind::Throttle429,
    ] {
        // Jobs that meet too seldom for two lists, on a busy machine, take longer the next time.
        let mut has_hit = false;
        for seconds in [0.3, 1.0, 3.0, 10.0] {
            let (world, settings) = with_jobs_of(Duration::from_secs_f64(seconds)).await;
            world.sandbox.inject(Fault { on: Point::List, kind, times: 2, skip: 0 });
            assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{kind:?}");
            assert_mirrored(&world, &settings).await;
            assert_eq!(world.orders(), 5, "{kind:?}");
            has_hit = world.sandbox.faults_left() == 0;
            if has_hit {
                break;
            }
        }
        assert!(has_hit, "{kind:?} has hit");
    }
}

/// We believe that the jobs were made later than impact.com says, so that its list begins after them.
#[tokio::test]
async fn jobs_that_the_list_does_not_tell_of_are_polled_singly() {
    let (world, settings) = with_jobs_of(Duration::from_millis(300)).await;
    world
        .execute(
            "create function later() returns trigger language plpgsql as
                 $$ begin new.created_at := now() + interval '3 days'; return new; end $$;
             create trigger later before insert on impact_mirror.remote_job for each row execute function later()",
        )
        .await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    assert_mirrored(&world, &settings).await;
    assert!(world.calls("list") > 0 && world.calls("poll") >= 5);
}

#[tokio::test]
async fn a_list_that_is_staler_than_the_jobs_is_not_believed_after_a_replay() {
    for replay_id in ["same", "new"] {
        let (world, settings) = with_jobs_of(Duration::from_millis(200)).await;
        world.sync(&settings).await;
        world.sandbox.set_behaviour("stale_reads_after_replay=2").unwrap();
        world.sandbox.set_behaviour(&format!("replay_id={replay_id}")).unwrap();
        world.pass_days(3);
        world.request_refresh_of_all(&settings).await;
        assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
        assert_mirrored(&world, &settings).await;
    }
}

#[tokio::test]
async fn the_first_look_comes_when_such_jobs_usually_end() {
    let (world, mut settings) = with_jobs_of(Duration::from_millis(20)).await;
    world.sync(&settings).await;
    world.execute("update impact_mirror.job set completed_at = submitted_remote_at + interval '30 seconds'").await;
    settings.workers.poll_max = Duration::from_mins(1);
    let polls = world.calls("poll") + world.calls("list");
    world.request_refresh_of_all(&settings).await;
    let engine = world.start(&settings).await;
    engine.planner().pass().await.unwrap();
    let waiting = "select count(*)::text from impact_mirror.job \
                   where state = 'waiting' and run_at - submitted_at between '29 seconds' and '50 seconds'";
    world.eventually(waiting, "5").await;
    engine.stop(Duration::ZERO).await;
    assert_eq!(
        world.calls("poll") + world.calls("list"),
        polls + 5,
        "a Replay reads its job first; nobody looked since"
    );
}

#[tokio::test]
async fn a_list_of_many_pages_costs_no_more_than_single_looks() {
    let world = World::with(Options { job_duration: Duration::from_millis(1500), ..options() }).await;
    world.sandbox.set_behaviour("job_list=pages_of_two").unwrap();
    let settings = world.settings(&by_media());
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    assert_mirrored(&world, &settings).await;
    let (looks, lists, polls) = (looks(&world).await, world.calls("list"), world.calls("poll"));
    eprintln!("{looks} looks took {lists} pages and {polls} polls");
    let pages = world.sandbox.calls().iter().filter(|call| call.query.contains("Page=2")).count();
    assert!(pages > 0, "it went on to the second page");
    assert!(lists + polls <= looks, "{looks} looks took {lists} pages and {polls} polls");
    let charged = world.value("select count(*)::text from impact_mirror.charge where call in ('job', 'jobs')").await;
    assert_eq!(charged, (lists + polls).to_string(), "every page is charged");
}
