//! The listing of actions against the report by day.

use impact_mirror::app::SyncEnd;
use impact_mirror::sandbox::Options;

use super::world::{World, actions, days_ago, options};

const VERDICTS: &str = "select string_agg(distinct verdict, ' ' order by verdict) from impact.reconciliation";

fn both(days: u64) -> String {
    let by_day = format!(
        "[exports.by_day]\naccounts = [\"brand\"]\nreport = \"att_adv_performance_by_day_pm_only\"\nsince = \"{}\"\n",
        days_ago(days)
    );
    actions(days) + &by_day
}

async fn world(days: u64) -> World {
    let world = World::with(Options { actions_per_day: 20, ..options() }).await;
    assert_eq!(world.sync(&world.settings(&both(days))).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    world.keep_views().await;
    world
}

#[tokio::test]
async fn listing_and_report_agree_until_one_of_them_loses_rows() {
    let world = world(6).await;
    assert_eq!(world.value(VERDICTS).await, "agrees incomplete", "today goes on");
    let days = "select (count(*) >= 6)::text from impact.reconciliation where listing_actions > 0 and listing_sale > 0 and listing_cost > 0";
    assert_eq!(world.value(days).await, "true", "but for today perhaps");
    // A day that lost half of its rows.
    world.execute(&format!("delete from impact.actions where _day = '{}' and _line % 2 = 0", days_ago(3))).await;
    let differs = format!("select verdict from impact.reconciliation where day = '{}'", days_ago(3));
    assert_eq!(world.value(&differs).await, "differs");
    // And one that lost all.
    world.execute(&format!("delete from impact.actions where _day = '{}'", days_ago(3))).await;
    let lost = format!(
        "select concat_ws(' ', verdict, listing_actions, listing_sale) from impact.reconciliation where day = '{}'",
        days_ago(3)
    );
    assert_eq!(world.value(&lost).await, "differs 0 0");
}

#[tokio::test]
async fn the_view_lives_through_wider_columns_of_either_side_and_does_without_missing_ones() {
    let world = world(3).await;
    let retyped = both(3)
        + "[exports.by_day.types]\nActions = \"text\"\nRevenue = \"text\"\n[exports.actions.types]\nPayout = \"text\"\n";
    let settings = world.settings(&retyped);
    world.request_refresh_of_all(&settings).await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    let types = "select count(*)::text from pg_attribute where atttypid = 'text'::regtype and \
                 (attrelid = 'impact.by_day'::regclass and attname in ('actions', 'revenue') \
                  or attrelid = 'impact.actions'::regclass and attname = 'payout')";
    assert_eq!(world.value(types).await, "3");
    assert_eq!(world.value(VERDICTS).await, "agrees incomplete");

    world.execute("alter table impact.by_day drop column revenue cascade, drop column actions cascade").await;
    world.keep_views().await;
    assert_eq!(world.value(VERDICTS).await, "agrees incomplete");
    assert_eq!(world.value("select count(report_actions)::text from impact.reconciliation").await, "0");
    world.execute("drop view impact.reconciliation; create view impact.reconciliation as select 1 as mine").await;
    world.keep_views().await;
    assert_eq!(world.value("select mine::text from impact.reconciliation").await, "1", "it is somebody else's");
}
