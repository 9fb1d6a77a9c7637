//! What an operator reads in a terminal, from the real program: what is wrong, why, and the command that mends it.

use std::time::Duration;

use impact_mirror::sandbox::{FaultKind, Point};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::daemon::{Mirrored, Scene, Wishes, eventually, still};

/// What a command prints; it ends well.
async fn said(scene: &Scene, arguments: &[&str]) -> String {
    let mut command = scene.start(arguments);
    assert_eq!(command.exit_code().await, Some(0), "{arguments:?}: {}", command.log());
    command.log()
}

/// The same, however its lines are broken; those of `status` fit a terminal.
async fn status(scene: &Scene, arguments: &[&str]) -> String {
    let text = said(scene, &[&["status"], arguments].concat()).await;
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn scene(job_duration: Duration) -> Scene {
    let wishes = Wishes { exports: &[Mirrored::Actions], ..Wishes::default() };
    Scene::with(still(job_duration), wishes).await
}

#[tokio::test]
async fn why_an_export_is_late_is_said_by_one_command() {
    let scene = scene(Duration::from_mins(10)).await;
    scene.inject(Point::Submit, FaultKind::Http401);
    let mut daemon = scene.run();
    scene.until("exists (select 1 from impact_mirror.account where paused_since is not null)").await;
    let text = status(&scene, &["--export", "actions"]).await;
    assert!(text.starts_with("! account acme is paused since"), "{text}");
    assert!(text.contains("What it waits for: acme, program 1000: account acme is paused since"), "{text}");
    assert!(text.contains("impact-mirror accounts resume acme"), "{text}");
    let all = status(&scene, &[]).await;
    assert!(all.contains("! actions is late: some program has no complete day yet; account acme is paused"), "{all}");
    assert!(all.contains("impact-mirror status --export actions"), "{all}");

    said(&scene, &["accounts", "resume", "acme"]).await;
    scene.until_job("state = 'waiting' and remote_status is not null").await;
    let text = status(&scene, &["--export", "actions"]).await;
    assert!(
        text.contains("is in flight at impact.com since 20") && text.contains("impact-mirror jobs show 1"),
        "{text}"
    );
    let json: Value = serde_json::from_str(&said(&scene, &["--json", "status", "--export", "actions"]).await).unwrap();
    assert_eq!(json["why"][0]["programs"][0], "1000");
    assert_eq!(json["why"][0]["next"], "impact-mirror jobs show 1");
    let other = said(&scene, &["jobs", "show", "1"]).await;
    assert!(other.contains("To call it off: impact-mirror jobs cancel 1"), "{other}");
    daemon.kill();
}

#[tokio::test]
async fn what_waits_for_quota_says_until_when() {
    let scene = scene(Duration::from_millis(40)).await;
    scene.edit_config(|text| {
        text.replace("programs = [1000]\n", "programs = [1000, 2000]\nquota = { report_export_per_day = 1 }\n")
    });
    let mut sync = scene.start(&["sync"]);
    assert_eq!(sync.exit_code().await, Some(3), "{}", sync.log());
    let text = status(&scene, &["--export", "actions"]).await;
    assert!(text.contains("waits for quota until 20") && text.contains("the report_export calls are spent"), "{text}");
    assert!(text.contains("impact-mirror plan --export actions"), "{text}");
    assert!(text.contains("nothing is due: every day is loaded"), "the other program: {text}");
}

#[tokio::test]
async fn a_jobs_whole_story_is_told() {
    let scene = scene(Duration::from_millis(40)).await;
    let archive = format!("[archive]\nurl = \"file://{}\"\n\n[http]\n", scene.dir.path().join("archive").display());
    scene.edit_config(|text| text.replace("[http]\n", &archive));
    scene.inject(Point::Poll, FaultKind::Http500);
    said(&scene, &["sync"]).await;
    let text = said(&scene, &["jobs", "show", "1"]).await;
    for part in [
        "Job 1: actions ",
        "adv_action_listing_pm_only",
        "\nHistory:\n",
        "planned → submitting",
        "to be tried again: ",
        "loading → loaded",
        "\nCalls that the ledger remembers:\n",
        "submit, 1 of report_export",
        "\nLoad 1:\n",
        " inserted, ",
        "acme/actions/1000/",
        "\nIts days: impact-mirror status --export actions",
    ] {
        assert!(text.contains(part), "{part:?} is not told:\n{text}");
    }
    let json: Value = serde_json::from_str(&said(&scene, &["--json", "jobs", "show", "1"]).await).unwrap();
    assert!(json["story"]["load"]["rows_inserted"].as_i64().unwrap() > 0, "{json}");
    assert_eq!(json["story"]["calls"][0]["call"], "submit");
}

#[tokio::test]
async fn a_watch_goes_on_until_it_is_told_to_stop() {
    let scene = scene(Duration::from_millis(40)).await;
    said(&scene, &["sync"]).await;
    let mut watch = scene.start(&["status", "--watch"]);
    let rounds = || watch.log().matches("\nQuota:\n").count();
    eventually("it is shown again", async || rounds() >= 2).await;
    watch.signal(Signal::SIGINT);
    assert_eq!(watch.exit_code().await, Some(0), "{}", watch.log());
}
