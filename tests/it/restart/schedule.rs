//! Ticks that nobody was there for.

use chrono::{TimeDelta, Timelike as _, Utc};

use super::{QUICK, quiet_for};
use crate::support::daemon::{Scene, Wishes, still};

const TICKS: &str = "select count(distinct last_tick_at) from impact_mirror.export_account";

/// Makes it look as if the schedules ticked last, and the cells were to be read again, at such times.
async fn pretend(scene: &Scene, last_tick_at: &str, next_refresh_at: &str) {
    scene
        .execute(&format!(
            "update impact_mirror.export_account set last_tick_at = {last_tick_at};
             update impact_mirror.cell set next_refresh_at = {next_refresh_at}"
        ))
        .await;
}

#[tokio::test]
async fn ticks_missed_while_down_are_caught_up_once_and_a_schedule_that_never_ticked_ticks_at_once() {
    // Half an hour from now, so that no tick comes while the test runs.
    let minute = (Utc::now().minute() + 30) % 60;
    let schedule = format!("0 {minute} * * * *");
    let hourly = Wishes { schedule: &schedule, ..Wishes::default() };
    let scene = Scene::with(still(QUICK), hourly).await;
    let mut first = scene.run();
    scene.until_mirrored().await;
    assert_eq!(scene.orders(), 2, "both ticked at their first start");
    first.kill();

    scene.sandbox.advance(TimeDelta::hours(30));
    pretend(&scene, "now() - interval '40 hours'", "now() - interval '2 days'").await;
    let mut second = scene.run();
    scene.until("(select count(*) = 4 from impact_mirror.load)").await;
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.orders(), 4, "40 missed ticks are one");
    scene
        .until(&format!(
            "(select bool_and(last_tick_at = date_trunc('hour', last_tick_at) + interval '{minute} min')
                from impact_mirror.export_account)"
        ))
        .await;
    assert_eq!(scene.value::<i64>(TICKS).await, 1);
    second.kill();

    // Due, but only by the next tick: the last one was seen.
    pretend(&scene, "now()", "now() + interval '5 seconds'").await;
    let third = scene.run();
    third.until_says("running").await;
    scene.until("(select bool_and(next_refresh_at < now()) from impact_mirror.cell)").await;
    scene.until(&quiet_for(1)).await;
    assert_eq!(scene.orders(), 4);
}
