//! Every answer that the real API might give, in a small world that is loaded, restated, refreshed, and refreshed once more
//! by an order that impact.com takes for an old one.

use futures_util::{StreamExt, stream};
use impact_mirror::app::SyncEnd;
use impact_mirror::sandbox::{Behaviours, Options};

use super::truth::assert_mirrored;
use super::world::{World, actions, days_ago, options};

/// Answers under which an export is not what was asked for, so that no client could mirror it.
const NO_MIRROR: [&str; 3] = ["end_date=exclusive", "filter_zone=utc", "max_rows=100"];

/// Questions that only a failure, a refusal or another client raises; the tests of those set them.
const NOT_MET: [&str; 10] = [
    "header_lies",
    "error_status",
    "duplicate_of_failed",
    "failed_replay_file",
    "foreign_job",
    "unknown_report",
    "error_in_200",
    "rejected_costs",
    "postbacks",
    "open_window",
];

/// Questions that matter where impact.com takes an order for an old one.
const ORDERED_TWICE: [&str; 5] = ["replay", "duplicate", "retention", "job_values", "stale_reads"];

/// So many worlds at a time.
const AT_ONCE: usize = 6;

fn small_world() -> String {
    let since = days_ago(2);
    actions(2)
        + &format!(
            "[exports.listing]\naccounts = [\"agency\"]\nreport = \"agency_action_listing\"\nsince = \"{since}\"\n\
             key = [\"ActionId\"]\ndate_column = \"ActionDate\"\n\
             [exports.clicks]\naccounts = [\"partner\"]\nclicks = true\nsince = \"{}\"\n",
            days_ago(1)
        )
}

async fn holds_under(setting: String) {
    let mut options = options();
    options.behaviours.set(&setting).unwrap();
    let world = World::with(options).await;
    let settings = world.settings(&small_world());
    let step = async |what: &str| {
        let report = world.sync(&settings).await;
        assert_eq!(report.end, SyncEnd::Done, "{setting}, {what}: {:#?}", world.jobs().await);
        assert_mirrored(&world, &settings).await;
        assert_eq!(world.throttled(), 0, "{setting}, {what}");
    };
    step("the first load").await;

    world.pass_days(10);
    world.request_refresh_of_all(&settings).await;
    step("a refresh").await;
    assert_eq!(world.calls("replay"), 3, "{setting}: known windows are replayed");

    if !ORDERED_TWICE.iter().any(|name| setting.starts_with(name)) {
        return;
    }
    world.pass_days(10);
    world.execute("update impact_mirror.remote_job set gone_at = now()").await;
    world.request_refresh_of_all(&settings).await;
    step("an order that was made before").await;
}

// A database is dropped with its world, and blocks a thread meanwhile that the other worlds need.
#[tokio::test(flavor = "multi_thread", worker_threads = 12)]
async fn the_mirror_is_right_under_every_answer_to_the_open_questions() {
    // All first answers make one world: the usual one.
    let usual = format!("{}={}", Behaviours::all()[0].name, Behaviours::all()[0].values[0]);
    let others = Behaviours::all()
        .iter()
        .filter(|behaviour| !NOT_MET.contains(&behaviour.name))
        .flat_map(|behaviour| behaviour.values[1..].iter().map(|value| format!("{}={value}", behaviour.name)))
        .filter(|setting| !NO_MIRROR.contains(&setting.as_str()));
    stream::iter(std::iter::once(usual).chain(others))
        .map(|setting| async move {
            let holding = tokio::spawn(holds_under(setting.clone()));
            assert!(holding.await.is_ok(), "the mirror is wrong under {setting}");
        })
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
}

#[tokio::test]
async fn rows_beyond_a_silent_cap_are_missing_and_nobody_can_tell() {
    let mut options = Options { actions_per_day: 80, ..options() };
    options.behaviours.set("max_rows=100").unwrap();
    let world = World::with(options).await;
    assert_eq!(world.sync(&world.settings(&actions(4))).await.end, SyncEnd::Done);
    assert_eq!(world.value("select count(*)::text from impact.actions").await, "100");
}
