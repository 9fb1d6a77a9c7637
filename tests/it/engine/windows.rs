//! Windows that impact.com refuses or cuts for their length: asked for again in shorter ones, with few lost orders.

use impact_mirror::app::{self, SyncEnd};
use impact_mirror::config::Programs;
use impact_mirror::export::Program;
use impact_mirror::sandbox::{Fault, FaultKind, Options, Point};

use super::truth::assert_mirrored;
use super::world::{World, actions, days_ago, options};

async fn behaving(settings: &[&str], actions_per_day: u32) -> World {
    let mut options = Options { actions_per_day, ..options() };
    for setting in settings {
        options.behaviours.set(setting).unwrap();
    }
    World::with(options).await
}

/// Orders that led to nothing.
async fn lost(world: &World) -> usize {
    let statement = "select count(*)::text from impact_mirror.job where submitted_at is not null and state <> 'loaded'";
    world.value(statement).await.parse().unwrap()
}

const LIMIT: &str = "select concat_ws(' ', max_window_days, max_window_learned_at is not null) from impact_mirror.export_account \
                     where export = 'actions'";

#[tokio::test]
async fn a_longest_window_is_found_by_halving_and_kept() {
    for behaviour in [&["max_window=7d"][..], &["max_window=7d", "error_in_200=all"]] {
        let world = behaving(behaviour, 5).await;
        let settings = world.settings(&actions(60));
        assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
        assert_mirrored(&world, &settings).await;
        assert_eq!(world.count_jobs("failed").await, 0);
        // 31 days, by both submitters where the second was not told in time, then 16 and 8.
        assert!(lost(&world).await <= 4, "{:#?}", world.jobs().await);
        assert_eq!(world.value(LIMIT).await, "4 t");
        let told = "select note from impact_mirror.job_event where to_state = 'cancelled' and note like '%may not exceed%' \
                    order by id limit 1";
        let words = world.value(told).await;
        // Whichever of the two windows went first.
        let halves = [15, 16].map(|days| format!("; its days are ordered again in windows of at most {days} days"));
        assert!(halves.iter().any(|half| words.ends_with(half)), "{words}");

        // It is known from now on.
        let orders = world.orders();
        world.request_refresh("actions", days_ago(30), days_ago(20)).await;
        assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
        assert!(world.orders() - orders <= 5 && lost(&world).await <= 4, "{:#?}", world.jobs().await);
        assert_mirrored(&world, &settings).await;
        let lost_before = lost(&world).await;

        // After a quarter a longer window is tried once more.
        world
            .execute("update impact_mirror.export_account set max_window_learned_at = now() - interval '91 days'")
            .await;
        world.request_refresh("actions", days_ago(30), days_ago(20)).await;
        assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
        assert_eq!(lost(&world).await, lost_before + 1, "{:#?}", world.jobs().await);
        assert_eq!(world.value(LIMIT).await, "4 t");
    }
}

#[tokio::test]
async fn a_report_whose_runs_fail_for_their_length_is_asked_for_in_shorter_windows() {
    let world = World::new().await;
    let settings = world.settings(&actions(20));
    world.inject(Point::Submit, FaultKind::JobFails);
    world.inject(Point::Replay, FaultKind::JobFails);
    assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    assert_mirrored(&world, &settings).await;
    assert_eq!(world.calls("replay"), 1, "first the run is given another try");
    assert_eq!((lost(&world).await, world.count_jobs("cancelled").await), (1, 1));
    assert_eq!(world.value(LIMIT).await, "11 t");
}

#[tokio::test]
async fn a_cut_file_is_not_loaded_and_its_window_is_split() {
    let world = behaving(&["max_rows=100"], 15).await;
    let settings = world.settings(&(actions(40) + "max_rows = 100\n"));
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    assert_mirrored(&world, &settings).await;
    // Two are on their way before the first file is known to be cut; then one at a time, until a part loads. Others of its
    // length may be fuller and be cut all the same, a few at once.
    assert!(lost(&world).await <= 8, "{:#?}", world.jobs().await);
    let limit = world.value(LIMIT).await;
    assert!(["3 t", "4 t", "5 t", "6 t", "7 t"].contains(&limit.as_str()), "{limit}");
}

#[tokio::test]
async fn a_single_day_that_is_cut_is_loaded_all_the_same() {
    let world = behaving(&["max_rows=100"], 200).await;
    let settings = world.settings(&(actions(3) + "include_today = false\nmax_rows = 100\n"));
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    let rows = "select distinct rows::text from impact_mirror.coverage";
    assert_eq!(world.query(rows).await, ["100"]);
    assert_eq!(world.value(LIMIT).await, "1 t");
}

#[tokio::test]
async fn a_refusal_of_a_program_is_not_about_the_length() {
    let world = World::new().await;
    let mut settings = world.settings(&actions(30));
    for account in settings.accounts.values_mut() {
        account.programs = Programs::Listed(vec![Program::new("9999")]);
    }
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Failed);
    assert_eq!(world.orders(), 1, "{:#?}", world.jobs().await);
}

#[tokio::test]
async fn a_refusal_that_meets_a_single_day_too_was_not_about_the_length() {
    let world = World::new().await;
    let settings = world.settings(&actions(30));
    world.sandbox.inject(Fault { times: 99, ..Fault::next(Point::Submit, FaultKind::ErrorObject200) });
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Failed);
    // 31, 16, 8, 4, 2 and 1 day, and the rest in the words that are known by now.
    assert_eq!(world.orders(), 7, "{:#?}", world.jobs().await);
    assert_eq!(world.cell_states("actions").await, ["failed"]);
    let job = world.query("select distinct error_message from impact_mirror.job where state = 'failed'").await;
    assert!(job.len() == 1 && job[0].contains("Unknown error"), "{job:?}");
    assert_eq!(world.value(LIMIT).await, "t", "no limit is left");

    // The next try of them costs one order.
    world.execute("update impact_mirror.cell set failed_at = failed_at - interval '61 minutes'").await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Failed);
    assert_eq!(world.orders(), 8, "{:#?}", world.jobs().await);
    assert_eq!(world.cell_states("actions").await, ["failed"]);
}

#[tokio::test]
async fn two_replicas_narrow_together() {
    let world = behaving(&["max_window=7d"], 5).await;
    let settings = world.settings(&actions(60));
    let (one, other) = (world.start(&settings).await, world.start(&settings).await);
    let (one, other) = tokio::join!(world.finish(one), world.finish(other));
    assert_eq!((one.end, other.end), (SyncEnd::Done, SyncEnd::Done), "{:#?}", world.jobs().await);
    assert_mirrored(&world, &settings).await;
    assert_eq!((world.value(LIMIT).await.as_str(), world.count_jobs("failed").await), ("4 t", 0));
    // One at a time is submitted of an account's program, so that the second is told in time mostly.
    assert!(lost(&world).await <= 5, "{:#?}", world.jobs().await);
    let twice = "select count(*)::text from impact_mirror.load a join impact_mirror.load b on a.id < b.id \
                 and a.from_day <= b.to_day and a.to_day >= b.from_day";
    assert_eq!(world.value(twice).await, "0", "no day was loaded twice");
}

#[tokio::test]
async fn a_trial_that_nothing_proves_ends_after_a_week() {
    let world = World::new().await;
    let settings = world.settings(&actions(30));
    let planner = app::planner(world.pool(), &settings, app::Scope::All);
    let engine = world.start(&settings).await;
    engine.stop(std::time::Duration::ZERO).await;
    let on_trial = async |since: &str| {
        let statement = format!(
            "update impact_mirror.export_account set max_window_days = 1, max_window_why = 'too long', \
             max_window_tried_at = {since}"
        );
        world.execute(&statement).await;
        planner.pass().await.unwrap();
        world
            .value(
                "select concat_ws(' ', max_window_days, max_window_tried_at > now() - interval '1 minute') \
                     from impact_mirror.export_account where export = 'actions'",
            )
            .await
    };
    assert_eq!(on_trial("now() - interval '6 days'").await, "1 f");
    assert_eq!(on_trial("null").await, "1 t", "what an older version began has its week from here");
    assert_eq!(on_trial("now() - interval '8 days'").await, "");
}
