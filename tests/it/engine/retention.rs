//! How long rows are kept, and in which partitions.

use chrono::{Datelike, Days, NaiveDate};
use impact_mirror::app::{SyncEnd, retention};
use impact_mirror::config::Settings;
use impact_mirror::export::ExportName;
use impact_mirror::store::coverage::database_now;

use super::truth::assert_mirrored;
use super::world::{World, actions, days_ago};

async fn foreseen(world: &World, settings: &Settings) -> Vec<retention::Drop> {
    let mut conn = world.pool().acquire().await.unwrap();
    let now = database_now(&mut conn).await.unwrap();
    let exports: Vec<ExportName> = settings.exports.keys().cloned().collect();
    retention::foresee(&mut conn, settings, &exports, now).await.unwrap()
}

/// Lets the day pass in which nothing is dropped after a change.
async fn pass_grace(world: &World) {
    world.execute("update impact_mirror.export set keep_changed_at = keep_changed_at - interval '25 hours'").await;
}

const COVERED: &str = "select concat_ws(' ', min(day), string_agg(distinct state, ',')) from impact_mirror.coverage";
const STANDING: &str = "select concat_ws(' ', (select count(*) from impact.actions where _day < '{day}'), \
                        (select count(*) from impact_mirror.cell where day < '{day}'))";

fn standing_before(day: NaiveDate) -> String {
    STANDING.replace("{day}", &day.to_string())
}

#[tokio::test]
async fn days_past_their_time_are_told_of_for_a_day_and_then_deleted() {
    let world = World::new().await;
    let all = world.settings(&actions(40));
    assert_eq!(world.sync(&all).await.end, SyncEnd::Done);
    let orders = world.orders();
    let before = world.value("select count(*)::text from impact.actions").await;

    let kept = world.settings(&(actions(40) + "keep = \"20d\"\nrefresh = []\n"));
    assert_eq!(world.sync(&kept).await.end, SyncEnd::Done);
    assert_eq!(world.value("select count(*)::text from impact.actions").await, before, "not before a day has passed");
    assert_eq!(world.value(COVERED).await, format!("{} loaded,settled", days_ago(20)), "but nobody counts them");
    let drops = foreseen(&world, &kept).await;
    assert_eq!(drops.len(), 2, "{drops:#?}");
    let rows = format!("select count(*)::text from impact.actions where _day < '{}'", days_ago(20));
    assert_eq!(drops[0].rows.to_string(), world.value(&rows).await);
    assert_eq!((drops[0].from_day, drops[0].to_day), (days_ago(40), days_ago(21)));
    let tomorrow = chrono::Utc::now() + chrono::TimeDelta::hours(23);
    assert!(drops.iter().all(|drop| drop.dropped_from > tomorrow), "{drops:#?}");
    assert_eq!((drops[1].from_day, drops[1].to_day), (days_ago(20), days_ago(0)));
    assert!(drops[1].dropped_by > tomorrow + chrono::TimeDelta::days(18), "{drops:#?}");

    pass_grace(&world).await;
    assert_eq!(world.sync(&kept).await.end, SyncEnd::Done);
    assert_eq!(world.value(standing_before(days_ago(20))).await, "0 0");
    assert_eq!(world.value(COVERED).await, format!("{} loaded,settled", days_ago(20)));
    let last = format!("select (count(*) > 0)::text from impact.actions where _day = '{}'", days_ago(20));
    assert_eq!(world.value(&last).await, "true", "the first day that is kept");
    assert_eq!(world.sync(&kept).await.end, SyncEnd::Done);
    assert_eq!(world.orders(), orders, "nothing that is gone is asked for");
    assert_eq!(foreseen(&world, &kept).await.len(), 1);

    // All is wanted again: what is gone is missing, and read again.
    assert_eq!(world.sync(&all).await.end, SyncEnd::Done);
    assert_mirrored(&world, &all).await;
}

#[tokio::test]
async fn versions_of_days_past_their_time_are_told_of_and_go_with_them() {
    let world = World::new().await;
    let history = actions(40) + "history = true\n";
    let all = world.settings(&history);
    assert_eq!(world.sync(&all).await.end, SyncEnd::Done);
    world.pass_days(5);
    world.request_refresh_of_all(&all).await;
    assert_eq!(world.sync(&all).await.end, SyncEnd::Done);
    let kept = world.settings(&(history + "keep = \"20d\"\nrefresh = []\n"));
    assert_eq!(world.sync(&kept).await.end, SyncEnd::Done);
    let before = |bound: NaiveDate| format!("select count(*)::text from impact.actions_history where _day < '{bound}'");
    let (old, whole) = (world.value(before(days_ago(20))).await, world.value(before(days_ago(0))).await);
    assert!(old != "0" && old != whole, "{old} of {whole}");
    let drops = foreseen(&world, &kept).await;
    assert_eq!(drops[0].versions.to_string(), old);
    pass_grace(&world).await;
    assert_eq!(world.sync(&kept).await.end, SyncEnd::Done);
    assert_eq!(world.value(before(days_ago(20))).await, "0");
    assert_ne!(world.value(before(days_ago(0))).await, "0");
}

#[tokio::test]
async fn a_request_for_days_that_are_kept_no_longer_is_dropped() {
    let world = World::new().await;
    let settings = world.settings(&(actions(40) + "keep = \"7d\"\n"));
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    world.request_refresh("actions", days_ago(40), days_ago(20)).await;
    world.request_refresh("actions", days_ago(9), days_ago(5)).await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    assert_eq!(world.value("select count(*)::text from impact_mirror.manual_request").await, "0");
}

#[tokio::test]
async fn a_table_by_month_is_mirrored_exactly_and_kept_by_whole_months() {
    let world = World::new().await;
    let by_month = actions(75) + "partition = \"month\"\n";
    let settings = world.settings(&by_month);
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    assert_mirrored(&world, &settings).await;
    world.pass_days(3);
    world.request_refresh_of_all(&settings).await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    assert_mirrored(&world, &settings).await;
    let months = "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid \
                  where i.inhparent = 'impact.actions'::regclass order by 1";
    let next = days_ago(0).with_day(1).unwrap() + chrono::Months::new(1);
    let ahead = format!("actions_p{}", next.format("%Y_%m"));
    // On the last day of a month the one after stands too: some zone may be a day ahead.
    let made = world.query(months).await;
    assert!(made.contains(&ahead), "{ahead} is made ahead of need: {made:?}");

    let kept = world.settings(&(by_month + "keep = \"20d\"\nrefresh = []\n"));
    let first = days_ago(20).with_day(1).unwrap();
    assert_eq!(world.sync(&kept).await.end, SyncEnd::Done);
    assert!(world.value(COVERED).await.starts_with(&first.to_string()));
    assert_ne!(world.value(standing_before(first)).await, "0 0");
    let due = foreseen(&world, &kept).await.remove(0);
    assert_eq!((due.from_day, due.to_day), (days_ago(75), first - Days::new(1)));
    pass_grace(&world).await;
    assert_eq!(world.sync(&kept).await.end, SyncEnd::Done);
    assert_eq!(world.value(standing_before(first)).await, "0 0");
    assert_eq!(world.query(months).await.first(), Some(&format!("actions_p{}", first.format("%Y_%m"))));
    assert_ne!(world.value("select count(*)::text from impact.actions").await, "0");
    assert!(world.value(COVERED).await.ends_with(" loaded,settled"));
}

#[tokio::test]
async fn a_start_with_a_partition_setting_that_does_not_fit_the_table_is_refused() {
    let world = World::new().await;
    world.sync(&world.settings(&actions(2))).await;
    let settings = world.settings(&(actions(2) + "partition = \"month\"\n"));
    let error = world.try_start(&settings).await.err().unwrap().to_string();
    assert!(error.contains("exports.actions.partition is \"month\": set it to \"none\", or"), "{error}");
}

#[tokio::test]
async fn the_database_and_the_planner_agree_on_the_first_day() {
    let world = World::new().await;
    for lines in ["", "keep = \"30d\"\n", "keep = \"30d\"\npartition = \"month\"\n"] {
        let settings = world.settings(&(actions(400) + lines));
        let export = settings.exports.values().next().unwrap();
        for today in days_ago(430).iter_days().take(430) {
            if today.day() % 5 > 1 {
                continue;
            }
            let keep = export.keep_days.map_or("null".to_owned(), |days| days.to_string());
            let first = format!(
                "select impact_mirror.first_kept_day('{}', {keep}, {}, '{today}')::text",
                export.since,
                lines.contains("month")
            );
            assert_eq!(world.value(first).await, export.first_day(today).to_string(), "{lines} on {today}");
        }
    }
}
