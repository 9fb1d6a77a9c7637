//! What hints may cost: one look for many of them, none where requests are short, and none is lost.

use std::time::Duration;

use impact_mirror::app::Engine;
use impact_mirror::sandbox::{FaultKind, Options, Point};
use impact_mirror::store;

use super::truth::assert_mirrored;
use super::world::{World, actions, days_ago, options};

/// A running engine that looks at its jobs ten minutes after their order, if nobody hints.
async fn patient(job_duration: Duration, exports: &str) -> (World, Engine) {
    let world = World::with(Options { job_duration, ..options() }).await;
    let mut settings = world.settings(exports);
    settings.workers.poll_min = Duration::from_mins(10);
    settings.workers.poll_max = Duration::from_hours(1);
    let engine = world.start(&settings).await;
    engine.keep_going();
    (world, engine)
}

/// A hint at all jobs, as a postback that names none of ours.
async fn hint(world: &World, engine: &Engine) -> u64 {
    let jobs: Vec<i64> =
        world.query("select id::text from impact_mirror.job").await.iter().map(|id| id.parse().unwrap()).collect();
    let mut conn = world.pool().acquire().await.unwrap();
    let hurried = store::hint::hurry(&mut conn, &jobs).await.unwrap();
    engine.context().wakes.all();
    hurried
}

#[tokio::test]
async fn a_hint_that_comes_during_a_look_leads_to_another() {
    let (world, engine) = patient(Duration::from_millis(1800), &actions(0)).await;
    world.eventually("select state from impact_mirror.job", "waiting").await;
    world.inject(Point::Poll, FaultKind::Stall(0.5));
    assert_eq!(hint(&world, &engine).await, 1);
    world
        .eventually("select (lease_token is not null)::text from impact_mirror.job where state = 'waiting'", "true")
        .await;
    // The look is under way, and will find the job running.
    assert_eq!(hint(&world, &engine).await, 1);
    world.eventually("select count(*)::text from impact_mirror.load", "1").await;
    engine.stop(Duration::from_secs(5)).await;
    assert!(world.calls("poll") <= 2);
}

#[tokio::test]
async fn many_hints_lead_to_one_look() {
    let exports = format!(
        "[exports.by_media]\naccounts = [\"brand\"]\nreport = \"att_adv_performance_by_media_pm_only\"\nsince = \"{}\"\n",
        days_ago(5)
    );
    let (world, engine) = patient(Duration::from_millis(20), &exports).await;
    world.eventually("select count(*)::text from impact_mirror.job where state = 'waiting'", "5").await;
    // The account was looked at a moment ago.
    world
        .execute(
            "insert into impact_mirror.charge (account, bucket, at, cost, call) values ('brand', 'requests', now(), 1, 'job')",
        )
        .await;
    for _ in 0..20 {
        hint(&world, &engine).await;
    }
    let later = "select distinct (run_at > now() + interval '500 milliseconds')::text from impact_mirror.job \
                 where state = 'waiting'";
    assert_eq!(world.query(later).await, ["true"], "not at once");
    world.eventually("select count(*)::text from impact_mirror.load", "5").await;
    engine.stop(Duration::from_secs(5)).await;
    let looks = (world.calls("list"), world.calls("poll"));
    assert!(looks.0 + looks.1 <= 3, "{looks:?} for twenty hints at five jobs");
}

#[tokio::test]
async fn hints_are_ignored_where_less_than_half_of_the_hour_is_left() {
    let (world, engine) = patient(Duration::from_millis(20), &actions(0)).await;
    world.eventually("select state from impact_mirror.job", "waiting").await;
    world
        .execute(
            "insert into impact_mirror.charge (account, bucket, at, cost, call) \
             values ('brand', 'requests', now() - interval '10 minutes', 501, 'test')",
        )
        .await;
    assert_eq!(hint(&world, &engine).await, 0);
    world.execute("update impact_mirror.charge set cost = 300 where call = 'test'").await;
    assert_eq!(hint(&world, &engine).await, 1);
    world.eventually("select count(*)::text from impact_mirror.load", "1").await;
    engine.stop(Duration::from_secs(5)).await;
    let settings = world.settings(&actions(0));
    assert_mirrored(&world, &settings).await;
}
