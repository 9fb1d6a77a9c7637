//! The views that people build on: a row for everything, the right word in each situation, and a comment on each column.

use impact_mirror::app::SyncEnd;
use impact_mirror::sandbox::{FaultKind, Point};

use super::world::{World, actions, clicks, days_ago};

#[tokio::test]
async fn every_view_and_each_of_its_columns_carries_a_comment() {
    let world = World::new().await;
    let bare = "select c.relname || coalesce('.' || a.attname, '') from pg_class c \
                left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 \
                where c.relnamespace = 'impact_mirror'::regnamespace and c.relkind = 'v' \
                  and (obj_description(c.oid) is null or col_description(c.oid, a.attnum) is null) order by 1";
    assert_eq!(world.query(bare).await, Vec::<String>::new());
    let tables = "select c.relname::text from pg_class c where c.relnamespace = 'impact_mirror'::regnamespace \
                  and c.relkind = 'r' and obj_description(c.oid) is null and c.relname <> '_sqlx_migrations'";
    assert_eq!(world.query(tables).await, Vec::<String>::new());
}

#[tokio::test]
async fn coverage_has_a_row_for_every_day_and_says_how_it_stands() {
    let world = World::new().await;
    let settings = world.settings(&actions(9));
    let engine = world.start(&settings).await; // writes the configuration
    engine.stop(std::time::Duration::from_secs(5)).await;
    let states = "select state from impact_mirror.coverage where export = 'actions' order by day desc";
    assert_eq!(world.query(states).await, vec!["missing"; 10]);

    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    assert_eq!(world.query(states).await, vec!["loaded"; 10]);
    let job = |days_ago_: u64, state: &str| {
        let (remote, finished) = match state {
            "planned" => ("null, null", "null"),
            _ => ("now(), 'r'", "null"),
        };
        format!(
            "insert into impact_mirror.job (export, account, program, from_day, to_day, reason, state, priority, bucket, request, \
             wanted_after, run_at, created_at, submitted_at, remote_job_id, finished_at) values ('actions', 'brand', '1000', \
             '{0}', '{0}', 'fresh', '{state}', 0, 'report_export', '{{}}', now(), now(), now(), {remote}, {finished});",
            days_ago(days_ago_)
        )
    };
    let cell = |days_ago_: u64, set: &str| {
        format!("update impact_mirror.cell set {set} where day = '{}';", days_ago(days_ago_))
    };
    let situations = [
        job(1, "planned"),
        job(2, "waiting"),
        cell(3, "failed_at = now(), failed_job_id = 1"),
        cell(4, "next_refresh_at = now()"),
        cell(5, "next_refresh_at = null"),
        format!("delete from impact_mirror.cell where day = '{}';", days_ago(6)),
    ];
    world.execute(&situations.concat()).await;
    let expected =
        ["loaded", "planned", "in_flight", "failed", "stale", "settled", "missing", "loaded", "loaded", "loaded"];
    assert_eq!(world.query(states).await, expected);
    let counted =
        "select concat_ws(' ', missing_cells, failed_cells) from impact_mirror.freshness where export = 'actions'";
    assert_eq!(world.value(counted).await, "2 1", "a planned cell is not there yet");
}

#[tokio::test]
async fn freshness_tells_how_new_the_data_is_and_whether_the_promise_holds() {
    let world = World::new().await;
    let settings = world.settings(&actions(3));
    let engine = world.start(&settings).await;
    engine.stop(std::time::Duration::from_secs(5)).await;
    let fresh = "select concat_ws(' ', coalesce(latest_day::text, '-'), is_stale, missing_cells, promised, \
                 coalesce(age < interval '1 minute', false), loaded_at is not null) from impact_mirror.freshness";
    assert_eq!(world.value(fresh).await, "- t 4 26:00:00 f f");
    world.sync(&settings).await;
    assert_eq!(world.value(fresh).await, format!("{} f 0 26:00:00 t t", days_ago(1)), "today is not complete");
    world.execute("update impact_mirror.cell set as_of = as_of - interval '27 hours'").await;
    assert_eq!(world.value(fresh).await, format!("{} t 0 26:00:00 f t", days_ago(1)));
}

#[tokio::test]
async fn the_quota_adds_up_to_what_was_called() {
    let world = World::new().await;
    let settings = world.settings(&(actions(3) + &clicks(2)));
    world.sync(&settings).await;
    // Of the requests, one in fifty is kept for reading impact.com's clock.
    let used = async |bucket: &str| -> usize {
        let statement = format!(
            "select used::text from impact_mirror.quota where account = 'brand' and bucket = '{bucket}' \
             and remaining = \"limit\" - used - case when bucket = 'requests' then 20 else 0 end \
             and reserved = 0 and resets_at > now()"
        );
        world.value(statement).await.parse().unwrap()
    };
    assert_eq!(used("report_export").await, world.calls("submit_report"));
    assert_eq!(used("click_export").await, world.calls("submit_clicks"));
    let others = world.calls("poll") + world.calls("download") + world.calls("metadata") + world.calls("list");
    assert_eq!(used("requests").await, others, "storage is not impact.com's to count");

    world.inject(Point::Poll, FaultKind::Throttle429);
    world.request_refresh("clicks", days_ago(1), days_ago(1)).await;
    world.sync(&settings).await;
    let idle = "select concat_ws(' ', used, remaining, resets_at) from impact_mirror.quota \
                where account = 'agency' and bucket = 'click_export'";
    assert_eq!(world.value(idle).await, "0 10");
}
