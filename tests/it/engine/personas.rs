//! What lands, persona by persona, and what restates it.

use std::collections::BTreeMap;

use impact_mirror::app::SyncEnd;
use impact_mirror::config::Programs;
use impact_mirror::export::Program;

use super::truth::assert_mirrored;
use super::world::{World, actions, clicks, days_ago, options};

fn report(name: &str, account: &str, handle: &str, since_days_ago: u64, more: &str) -> String {
    let since = days_ago(since_days_ago);
    format!("[exports.{name}]\naccounts = [\"{account}\"]\nreport = \"{handle}\"\nsince = \"{since}\"\n{more}\n")
}

/// Loads, restates and refreshes, and holds the tables against the truth each time.
async fn mirrors_and_restates(exports: &str, first_orders: usize) -> World {
    let world = World::new().await;
    let settings = world.settings(exports);
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    assert_mirrored(&world, &settings).await;
    assert_eq!((world.orders(), world.calls("replay")), (first_orders, 0));

    world.pass_days(3);
    world.request_refresh_of_all(&settings).await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    assert_mirrored(&world, &settings).await;
    assert_eq!((world.orders(), world.calls("replay")), (2 * first_orders, first_orders), "known windows are replayed");
    assert_eq!(world.throttled(), 0);
    world
}

#[tokio::test]
async fn a_brand_is_mirrored_program_by_program() {
    let exports = [
        actions(4),
        report("by_day", "brand", "att_adv_performance_by_day_pm_only", 4, ""),
        report("by_media", "brand", "att_adv_performance_by_media_pm_only", 2, ""),
        clicks(2),
    ];
    // One window each for the reports with a date, a day each for the others.
    mirrors_and_restates(&exports.concat(), 1 + 1 + 2 + 2).await;
}

#[tokio::test]
async fn the_programs_of_a_brand_are_discovered() {
    let world = World::new().await;
    let mut settings = world.settings(&actions(2));
    for account in settings.accounts.values_mut() {
        account.programs = Programs::All;
    }
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    assert_mirrored(&world, &settings).await;
    assert_eq!(world.query("select distinct _program from impact.actions order by 1").await, ["1000", "2000"]);
}

#[tokio::test]
async fn an_export_can_be_of_some_programs_of_the_account() {
    let world = World::new().await;
    let of = |exports: &str, program: &str| {
        let mut settings = world.settings(exports);
        settings.accounts.values_mut().for_each(|account| account.programs = Programs::All);
        let export = settings.exports.values_mut().find(|export| export.name.as_str() == "actions").unwrap();
        export.programs = Programs::Listed(vec![Program::new(program)]);
        settings
    };
    let settings = of(&actions(2), "2000");
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    let found = "select distinct _program from impact.actions order by 1";
    assert_eq!(world.query(found).await, ["2000"]);
    assert_eq!(world.calls("programs"), 0, "there is nothing to discover");
    assert_eq!(world.sync(&of(&(actions(2) + &clicks(1)), "1000")).await.end, SyncEnd::Done);
    assert_eq!(world.query(found).await, ["1000", "2000"], "what was mirrored stays");
    let days = "select distinct export || ' ' || program from impact_mirror.coverage order by 1";
    assert_eq!(world.query(days).await, ["actions 1000", "clicks 1000", "clicks 2000"], "the others are discovered");
}

#[tokio::test]
async fn a_partner_is_mirrored_over_all_programs_at_once() {
    let exports = [
        report("listing", "partner", "mp_action_listing_sku", 4, ""),
        report("fast", "partner", "mp_action_listing_fast", 4, ""),
        "[exports.clicks]\naccounts = [\"partner\"]\nclicks = true\n".to_owned()
            + &format!("since = \"{}\"\n", days_ago(2)),
    ];
    let world = mirrors_and_restates(&exports.concat(), 1 + 1 + 2).await;
    assert_eq!(world.value("select count(distinct program_id)::text from impact.clicks").await, "2");
}

#[tokio::test]
async fn an_agency_is_mirrored() {
    let more = "key = [\"ActionId\"]\ndate_column = \"ActionDate\"\n";
    mirrors_and_restates(&report("listing", "agency", "agency_action_listing", 4, more), 1).await;
}

#[tokio::test]
async fn a_restatement_touches_only_the_rows_that_changed_and_is_kept() {
    let world = World::new().await;
    let settings = world.settings(&actions(6));
    world.sync(&settings).await;
    let rows = async || -> BTreeMap<String, (String, String)> {
        let rows: Vec<(String, String, String)> =
            sqlx::query_as("select action_id, _row_hash::text, xmin::text from impact.actions")
                .fetch_all(world.pool())
                .await
                .unwrap();
        rows.into_iter().map(|(id, hash, xmin)| (id, (hash, xmin))).collect()
    };
    let before = rows().await;
    let sum_before = world.value("select sum(payout)::text from impact.actions").await;
    world.pass_days(20);
    world.request_refresh_of_all(&settings).await;
    world.sync(&settings).await;
    assert_mirrored(&world, &settings).await;

    let after = rows().await;
    let (mut same, mut changed) = (0, 0);
    for (id, (hash, xmin)) in &before {
        match after.get(id) {
            Some((new_hash, new_xmin)) if new_hash == hash => {
                assert_eq!(xmin, new_xmin, "{id} did not change and was written all the same");
                same += 1;
            }
            Some((_, new_xmin)) => {
                assert_ne!(xmin, new_xmin);
                changed += 1;
            }
            None => {}
        }
    }
    assert!(same > 0 && changed > 0, "{same} rows stayed and {changed} changed: the test proves nothing");
    let load = world
        .value("select concat_ws(' ', rows_updated, rows_unchanged) from impact_mirror.load order by id desc limit 1")
        .await;
    assert_eq!(load, format!("{changed} {same}"));
    let payout = world
        .value(
            "select concat_ws(' ', rows_changed > 0, sum_before = round(sum_before, 10) and sum_before is not null, sum_after) \
             from impact_mirror.restatement where column_name = 'payout'",
        )
        .await;
    let sum_after = world.value("select sum(payout)::text from impact.actions").await;
    assert_ne!(sum_before, sum_after);
    assert_eq!(payout, format!("t t {sum_after}"));
}

#[tokio::test]
async fn a_refresh_without_a_change_loads_nothing() {
    let world = World::new().await;
    let settings = world.settings(&clicks(2));
    world.sync(&settings).await;
    let before = world.query("select xmin::text from impact.clicks order by id").await;
    world.request_refresh_of_all(&settings).await;
    world.sync(&settings).await;
    assert_eq!(world.calls("replay"), 2);
    assert_eq!(world.query("select xmin::text from impact.clicks order by id").await, before);
    let written = "select sum(rows_inserted + rows_updated + rows_deleted)::text from impact_mirror.load where id > 2";
    assert_eq!(world.value(written).await, "0");
}

#[tokio::test]
async fn a_read_from_before_a_replay_is_not_taken_for_its_end() {
    for reads in [1, 2] {
        let mut options = options();
        options.behaviours.set(&format!("stale_reads_after_replay={reads}")).unwrap();
        options.job_duration = std::time::Duration::from_millis(600); // the stale reads come while it runs
        let world = World::with(options).await;
        let settings = world.settings(&actions(3));
        world.sync(&settings).await;
        world.pass_days(10);
        world.request_refresh_of_all(&settings).await;
        assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
        assert_mirrored(&world, &settings).await;
        assert_eq!(world.calls("replay"), 1, "a stale read is no reason for another replay");
        assert_eq!(world.calls("download"), 2, "the old result was not fetched");
    }
}
