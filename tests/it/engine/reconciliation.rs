//! The listing of actions against the report by day.

use impact_mirror::account::AccountName;
use impact_mirror::app::SyncEnd;
use impact_mirror::export::ExportName;
use impact_mirror::mirror::reconciliation::{Pair, ensure, take_away};
use impact_mirror::sandbox::Options;
use sqlx::Connection as _;

use super::world::{World, actions, days_ago, options};

const VERDICTS: &str = "select string_agg(distinct verdict, ' ' order by verdict) from impact.reconciliation";

fn pair() -> [Pair; 1] {
    let name = ExportName::new;
    [Pair { account: AccountName::new("brand"), listing: name("actions"), by_day: name("by_day") }]
}

async fn world(days: u64) -> World {
    let world = World::with(Options { actions_per_day: 20, ..options() }).await;
    let by_day = format!(
        "[exports.by_day]\naccounts = [\"brand\"]\nreport = \"att_adv_performance_by_day_pm_only\"\nsince = \"{}\"\n",
        days_ago(days)
    );
    let settings = world.settings(&(actions(days) + &by_day));
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    world
}

#[tokio::test]
async fn listing_and_report_agree_until_one_of_them_is_read_again_and_a_lost_row_shows() {
    let world = world(6).await;
    let mut conn = world.pool().acquire().await.unwrap();
    ensure(&mut conn, "impact", &pair()).await.unwrap();
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
async fn the_view_survives_wider_columns_and_does_without_missing_ones() {
    let world = world(3).await;
    let mut conn = world.pool().acquire().await.unwrap();
    ensure(&mut conn, "impact", &pair()).await.unwrap();
    let widen = "alter table impact.actions alter column payout type text";
    assert!(sqlx::raw_sql(widen).execute(&mut *conn).await.is_err(), "a view reads it");
    let mut tx = conn.begin().await.unwrap();
    take_away(&mut tx, "impact").await.unwrap();
    sqlx::raw_sql(widen).execute(&mut *tx).await.unwrap();
    ensure(&mut tx, "impact", &pair()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.value(VERDICTS).await, "agrees incomplete");
    assert_eq!(
        world.value("select count(listing_cost)::text from impact.reconciliation").await,
        "0",
        "a text is no cost"
    );

    take_away(&mut conn, "impact").await.unwrap();
    world.execute("alter table impact.by_day drop column revenue, drop column actions").await;
    ensure(&mut conn, "impact", &pair()).await.unwrap();
    assert_eq!(world.value(VERDICTS).await, "agrees incomplete");
    world.execute("drop view impact.reconciliation; create view impact.reconciliation as select 1 as mine").await;
    ensure(&mut conn, "impact", &pair()).await.unwrap();
    assert_eq!(world.value("select mine::text from impact.reconciliation").await, "1", "it is somebody else's");
}
