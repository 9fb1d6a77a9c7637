//! What re-reads teach: how often days still change, and which need not be read again.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use impact_mirror::app::SyncEnd;
use impact_mirror::config::Settings;
use impact_mirror::export::{ExportName, LockRule};

use super::truth::assert_mirrored;
use super::world::{World, actions, days_ago, options};

/// Rules under which every day of the test is read again daily.
const DAILY: &str = "locked = {}\nrefresh = [{ age = \"35d\", every = \"1d\" }]\n";

/// A day passes for the mirror, and perhaps at impact.com, and everything is due.
async fn read_again(world: &World, settings: &Settings) {
    world
        .execute(
            "update impact_mirror.cell set as_of = as_of - interval '1 day', next_refresh_at = now() - interval '1 day'; \
             update impact_mirror.feed_change_rate set updated_at = updated_at - interval '1 day'",
        )
        .await;
    assert_eq!(world.sync(settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
}

async fn day_set(world: &World, condition: &str) -> BTreeSet<String> {
    let statement = format!("select day::text from impact_mirror.cell where complete and {condition} order by 1");
    world.query(statement).await.into_iter().collect()
}

fn truth(world: &World, settings: &Settings, day: NaiveDate) -> Vec<u8> {
    let export = &settings.exports[&ExportName::new("actions")];
    let params: Vec<(&str, &str)> = export
        .params
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name.as_str(), value.as_str())))
        .collect();
    world.sandbox.truth("IRsandboxBrand0001", "adv_action_listing_pm_only", "1000", day, day, &params)
}

#[tokio::test]
async fn days_that_stopped_changing_are_read_less_often_than_those_that_change() {
    let world = World::new().await;
    let settings = world.settings(&(actions(30) + DAILY));
    world.sync(&settings).await;
    let pauses = "select distinct (next_refresh_at - as_of)::text from impact_mirror.cell \
                  where complete and day < current_date - 2 and day > current_date - 29 order by 1";
    assert_eq!(world.query(pauses).await, ["1 day"]);
    let days = day_set(&world, "true").await.len();

    for pause in ["2 days", "3 days", "4 days", "4 days"] {
        read_again(&world, &settings).await;
        assert_eq!(world.query(pauses).await, [pause]);
    }
    assert_eq!(day_set(&world, "unchanged_reads = 4 and changed_at is null").await.len(), days);
    // Four days of reading, fading a little; those of yesterday begin when it was over, which may be later in the day than now.
    let learned = format!(
        "select concat_ws(' ', round(sum(changed)::numeric, 3), round(sum(waited)::numeric) between {} and {}) \
         from impact_mirror.feed_change_rate, unnest(changes, days) as found (changed, waited)",
        days * 4 - 6,
        days * 4 - 2
    );
    assert_eq!(world.value(learned).await, "0.000 t");

    // Now some days change, and just they are due as often as the rule says.
    let before: Vec<_> = (1..=30).map(|ago| truth(&world, &settings, days_ago(ago))).collect();
    world.pass_days(5);
    let changed: BTreeSet<String> = (1..=30)
        .filter(|ago| truth(&world, &settings, days_ago(*ago)) != before[usize::try_from(*ago).unwrap() - 1])
        .map(|ago| days_ago(ago).to_string())
        .collect();
    assert!(!changed.is_empty() && changed.len() < days, "{changed:?} of {days}");
    read_again(&world, &settings).await;
    assert_eq!(day_set(&world, "unchanged_reads = 0").await, changed);
    assert_eq!(day_set(&world, "changed_at is not null").await, changed);
    assert_eq!(day_set(&world, "next_refresh_at - as_of = interval '1 day'").await, changed);
    let found = "select round(sum(changed))::text from impact_mirror.feed_change_rate, unnest(changes, days) as found (changed, waited)";
    assert_eq!(world.value(found).await, changed.len().to_string());
    assert_mirrored(&world, &settings).await;

    // A new start with other rules keeps what was learned.
    let other = world.settings(&(actions(30) + "locked = {}\nrefresh = [{ age = \"60d\", every = \"2h\" }]\n"));
    world.start(&other).await.stop(std::time::Duration::from_secs(5)).await;
    assert_eq!(day_set(&world, "next_refresh_at - as_of = interval '2 hours'").await, changed);
}

#[tokio::test]
async fn a_day_that_stopped_changing_is_read_once_more_where_its_rule_ends() {
    let world = World::new().await;
    let settings = world.settings(&(actions(34) + DAILY));
    world.sync(&settings).await;
    for _ in 0..3 {
        read_again(&world, &settings).await;
    }
    let at_the_end = "select bool_and(next_refresh_at = (day + 1)::timestamp at time zone 'America/New_York' + interval '840 hours')::text \
                      from impact_mirror.cell where day < current_date - 33";
    assert_eq!(world.value(at_the_end).await, "true");
    assert_eq!(world.value("select min(unchanged_reads)::text from impact_mirror.cell where complete").await, "3");
}

#[tokio::test]
async fn what_was_learned_of_a_young_day_is_not_believed_of_an_old_one() {
    let world = World::new().await;
    let settings = world.settings(&(actions(30) + DAILY));
    world.sync(&settings).await;
    world.pass_days(5);
    read_again(&world, &settings).await;
    let mut conn = world.pool().acquire().await.unwrap();
    let rates = "select days from impact_mirror.feed_change_rate where account = 'brand'";
    let known: Vec<Vec<f64>> = sqlx::query_scalar(rates).fetch_all(&mut *conn).await.unwrap();
    assert!(!known.is_empty());
    for days in known {
        // Thirty days were read again: the ages up to ten are told apart by the day, those up to 36 by three, nothing is older.
        assert!(days[..10].iter().all(|days| (0.5..1.5).contains(days)), "{days:?}");
        assert!(days[10..16].iter().all(|days| (1.5..3.5).contains(days)), "{days:?}");
        assert!(days[19..].iter().all(|days| *days == 0.0), "{days:?}");
    }
}

/// Actions of program 1000 are locked after 45 days and say that they are paid after 65.
const PAID_AFTER: u64 = 68;

#[tokio::test]
async fn a_day_is_settled_once_all_its_rows_are_locked() {
    let world = World::with(options()).await;
    let lines = actions(80) + "refresh = [{ age = \"190d\", every = \"1d\" }]\n";
    let settings = world.settings(&lines);
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    let locked = "select count(*)::text from impact_mirror.cell where locked";
    let old = format!("day <= '{}'", days_ago(PAID_AFTER));
    let settled =
        format!("select bool_and(locked and next_refresh_at is null)::text from impact_mirror.cell where {old}");
    assert_eq!(world.value(&settled).await, "true");
    let young = format!(
        "select bool_or(locked or next_refresh_at is null)::text from impact_mirror.cell where day > '{}'",
        days_ago(60)
    );
    assert_eq!(world.value(&young).await, "false");
    let state = format!("select distinct state from impact_mirror.coverage where {old}");
    assert_eq!(world.query(&state).await, ["settled"]);

    // What is settled does not change any more, however long one waits.
    let at_first: Vec<_> = (PAID_AFTER..=80).map(|ago| truth(&world, &settings, days_ago(ago))).collect();
    world.pass_days(300);
    let later: Vec<_> = (PAID_AFTER..=80).map(|ago| truth(&world, &settings, days_ago(ago))).collect();
    assert!(at_first == later, "locked rows changed");

    // A person may read it again; and it stays settled, whatever the rules become.
    world.request_refresh("actions", days_ago(80), days_ago(79)).await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    assert_eq!(
        (world.calls("replay") + world.calls("submit_report"), world.value(&settled).await.as_str()),
        (4, "true")
    );
    let start = async |lines: String| {
        world.start(&world.settings(&lines)).await.stop(std::time::Duration::from_secs(5)).await;
    };
    start(actions(80) + "refresh = [{ age = \"190d\", every = \"2d\" }]\n").await;
    assert_eq!(world.value(&settled).await, "true");
    // Unless nobody knows any more what a lock is.
    start(actions(80) + "locked = {}\nrefresh = [{ age = \"190d\", every = \"2d\" }]\n").await;
    assert_eq!(world.value(locked).await, "0");
    assert_eq!(world.query(&state).await, ["loaded"]);
}

#[tokio::test]
async fn a_day_whose_rows_are_open_again_follows_the_rules_again() {
    let world = World::new().await;
    let settings = world.settings(&(actions(75) + "refresh = [{ age = \"190d\", every = \"1d\" }]\n"));
    world.sync(&settings).await;
    let is_locked = format!("select locked::text from impact_mirror.cell where day = '{}'", days_ago(75));
    assert_eq!(world.value(&is_locked).await, "true");
    world.pass_days(-40); // then they were pending
    world.request_refresh("actions", days_ago(75), days_ago(75)).await;
    assert_eq!(world.sync_in_a_hurry(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    assert_eq!(world.value(&is_locked).await, "false");
    let state = format!("select state from impact_mirror.coverage where day = '{}'", days_ago(75));
    assert_eq!(world.value(&state).await, "loaded");
}

#[tokio::test]
async fn a_day_is_not_taken_for_locked_where_the_file_has_no_status() {
    let world = World::new().await;
    let mut settings = world.settings(&actions(75));
    let export = settings.exports.get_mut(&ExportName::new("actions")).unwrap();
    export.locked = Some(LockRule {
        status_column: "No_Such_Column".to_owned(),
        open: vec!["PENDING".to_owned()],
        date_column: None,
        detail_column: None,
        open_details: Vec::new(),
    });
    world.sync(&settings).await;
    assert_eq!(world.value("select count(*)::text from impact_mirror.cell where locked").await, "0");
}
