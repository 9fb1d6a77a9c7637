//! Which run of which remote job answers an order: an old one, a new one, or one among those of other clients.

use chrono::Days;
use impact_mirror::account::AccountName;
use impact_mirror::app::{Engine, SyncEnd};
use impact_mirror::config::Settings;
use impact_mirror::export::{ExportName, ExportRequest, Program, ReportHandle, Source, Window};
use impact_mirror::sandbox::{FaultKind, Point};

use super::truth::assert_mirrored;
use super::world::{World, actions, days_ago, options};

/// Forgets all that was ever ordered; impact.com does not.
const FORGET: &str = "update impact_mirror.remote_job set gone_at = now()";

async fn remote_ids(world: &World) -> Vec<String> {
    world.query("select remote_job_id from impact_mirror.job order by id").await
}

#[tokio::test]
async fn an_old_run_that_answers_an_order_is_replayed_before_it_is_loaded() {
    let world = World::new().await;
    let settings = world.settings(&actions(4));
    world.sync(&settings).await;
    world.pass_days(3);
    world.execute(FORGET).await;
    world.request_refresh_of_all(&settings).await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    assert_eq!((world.calls("submit_report"), world.calls("replay")), (2, 1));
    assert_eq!(world.value("select count(*)::text from impact_mirror.load").await, "2", "the old run was not loaded");
    assert_mirrored(&world, &settings).await;
}

#[tokio::test]
async fn an_old_run_is_told_by_our_clock_where_impact_com_does_not_say_what_its_own_shows() {
    let world = World::new().await;
    world.sandbox.set_behaviour("date_header=empty").unwrap();
    world.pass_days(-3);
    let settings = world.settings(&(actions(6) + "include_today = false\n"));
    world.sync(&settings).await;
    world.pass_days(3);
    world.execute(FORGET).await;
    world.request_refresh_of_all(&settings).await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    assert_eq!(world.value("select count(*)::text from impact_mirror.load where job_id = 2").await, "1");
    assert_eq!(world.value("select replays::text from impact_mirror.job where id = 2").await, "1");
    assert_mirrored(&world, &settings).await;
}

#[tokio::test]
async fn a_run_that_is_new_enough_is_loaded_without_another() {
    let world = World::new().await;
    let settings = world.settings(&(actions(4) + "include_today = false\n"));
    world.sync(&settings).await;
    // A new database: the same order is answered with the run of a moment ago.
    world.execute("truncate impact_mirror.cell, impact_mirror.remote_job; drop table impact.actions cascade").await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    assert_eq!((world.calls("submit_report"), world.calls("replay")), (2, 0));
    let ids = remote_ids(&world).await;
    assert_eq!(ids[0], ids[1]);
    assert_mirrored(&world, &settings).await;
}

#[tokio::test]
async fn the_id_in_the_reply_to_a_replay_is_followed_and_replayed_the_next_time() {
    let mut options = options();
    options.behaviours.set("replay_id=new").unwrap();
    let world = World::with(options).await;
    let settings = world.settings(&actions(4));
    for _ in 0..3 {
        world.request_refresh_of_all(&settings).await;
        assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
        assert_mirrored(&world, &settings).await;
        world.pass_days(2);
    }
    let ids = remote_ids(&world).await;
    assert!(ids.len() == 3 && ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
    let replayed = world.query("select replay_of from impact_mirror.job order by id").await;
    assert_eq!(replayed, ["NULL", ids[0].as_str(), ids[1].as_str()]);
}

/// A running engine whose first order was taken and whose reply was lost.
async fn reply_lost(world: &World, settings: &Settings) -> Engine {
    world.inject(Point::Submit, FaultKind::ReplyLost);
    let engine = world.start(settings).await;
    engine.keep_going();
    world
        .eventually(
            "select count(*)::text from impact_mirror.job where state = 'submitting' and error_kind = 'transient'",
            "1",
        )
        .await;
    engine
}

/// What another client of the account orders meanwhile.
async fn order_from_elsewhere(engine: &Engine, settings: &Settings, program: &str, source: Option<Source>) -> String {
    let brand = AccountName::new("brand");
    let export = &settings.exports[&ExportName::new("actions")];
    let window = Window::day(days_ago(0) - Days::new(40));
    let request = ExportRequest {
        source: source.unwrap_or_else(|| export.source.clone()),
        program: Program::new(program),
        window,
        params: export.params.clone(),
        format: export.result_format,
    };
    let answer = engine.context().clients[&brand].submit(&request).await.unwrap();
    answer.value.id.as_str().to_owned()
}

#[tokio::test]
async fn a_lost_reply_is_matched_by_type_and_program() {
    let world = World::new().await;
    let settings = world.settings(&actions(4));
    let engine = reply_lost(&world, &settings).await;
    let others = [
        order_from_elsewhere(&engine, &settings, "2000", None).await,
        order_from_elsewhere(&engine, &settings, "1000", Some(Source::Clicks)).await,
    ];
    world.eventually("select count(*)::text from impact_mirror.load", "1").await;
    engine.stop(std::time::Duration::from_secs(5)).await;
    assert_eq!((world.calls("submit_report"), world.calls("submit_clicks")), (2, 1), "ours once, and theirs");
    assert!(!others.contains(&remote_ids(&world).await[0]));
    assert_mirrored(&world, &settings).await;
}

#[tokio::test]
async fn a_lost_reply_is_matched_by_time() {
    let world = World::new().await;
    let settings = world.settings(&actions(4));
    // An order of another client from an hour before.
    let before = world.start(&settings).await;
    order_from_elsewhere(&before, &settings, "1000", None).await;
    before.stop(std::time::Duration::from_secs(5)).await;
    world.sandbox.advance(chrono::TimeDelta::hours(1));
    let engine = reply_lost(&world, &settings).await;
    world.eventually("select count(*)::text from impact_mirror.load", "1").await;
    engine.stop(std::time::Duration::from_secs(5)).await;
    assert_eq!(world.calls("submit_report"), 2, "theirs, and ours once");
    assert_mirrored(&world, &settings).await;
}

#[tokio::test]
async fn where_two_orders_could_be_ours_the_order_is_made_again_and_answered_with_its_own_job() {
    let world = World::new().await;
    let settings = world.settings(&actions(4));
    let engine = reply_lost(&world, &settings).await;
    let other = order_from_elsewhere(&engine, &settings, "1000", None).await;
    world.eventually("select count(*)::text from impact_mirror.load", "1").await;
    engine.stop(std::time::Duration::from_secs(5)).await;
    assert_eq!(world.calls("submit_report"), 3, "theirs, and ours twice");
    assert_ne!(remote_ids(&world).await, [other]);
    assert_mirrored(&world, &settings).await;
}

/// The order of another client is the only one there is, for ours never arrived.
async fn told_by_its_file(source: Option<Source>) {
    let world = World::new().await;
    let settings = world.settings(&actions(4));
    world.inject(Point::Submit, FaultKind::Reset);
    let engine = world.start(&settings).await;
    engine.keep_going();
    world
        .eventually(
            "select count(*)::text from impact_mirror.job where state = 'submitting' and error_kind = 'transient'",
            "1",
        )
        .await;
    let other = order_from_elsewhere(&engine, &settings, "1000", source).await;
    world.eventually("select count(*)::text from impact_mirror.load", "1").await;
    engine.stop(std::time::Duration::from_secs(5)).await;
    let adopted =
        format!("select count(*)::text from impact_mirror.remote_job where id = '{other}' and gone_at is not null");
    assert_eq!(world.value(&adopted).await, "1", "it was taken for ours, and is not replayed");
    assert_ne!(remote_ids(&world).await, [other]);
    let ends = "select concat_ws(' ', state, adopted, resubmits) from impact_mirror.job";
    assert_eq!(world.query(ends).await, ["loaded f 1"], "{:#?}", world.jobs().await);
    assert_mirrored(&world, &settings).await;
}

#[tokio::test]
async fn an_order_of_another_client_is_told_by_columns_that_its_file_lacks() {
    told_by_its_file(Some(Source::Report(ReportHandle::new("att_adv_performance_by_media_pm_only")))).await;
}

#[tokio::test]
async fn an_order_of_another_client_is_told_by_rows_of_other_days() {
    told_by_its_file(None).await;
}

#[tokio::test]
async fn a_lost_reply_is_found_on_a_later_page_of_the_list() {
    let world = World::new().await;
    world.sandbox.set_behaviour("job_list=pages_of_two").unwrap();
    let settings = world.settings(&actions(4));
    let engine = reply_lost(&world, &settings).await;
    // The newest come first: ours is on the second page.
    for (program, source) in [("2000", None), ("1000", Some(Source::Clicks)), ("2000", Some(Source::Clicks))] {
        order_from_elsewhere(&engine, &settings, program, source).await;
    }
    world.eventually("select count(*)::text from impact_mirror.load", "1").await;
    engine.stop(std::time::Duration::from_secs(5)).await;
    assert_eq!(world.calls("submit_report"), 2, "theirs, and ours once");
    assert!(world.calls("list") >= 2);
    // One whose own answer was not heard is dated later, by that of the next.
    let dated = "select count(distinct remote_at)::text from impact_mirror.charge where call = 'jobs'";
    assert_eq!(world.value(dated).await, "1", "every page was heard");
    assert_mirrored(&world, &settings).await;
}
