//! A configuration that changes while the real daemon runs: SIGHUP, and files that change. The process stays the same, and every
//! window is ordered once.

use std::os::unix::fs::symlink;
use std::time::Instant;

use impact_mirror::embedded::Embedded;
use impact_mirror::sandbox::Point;
use nix::sys::signal::Signal;
use reqwest::Client;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::support::daemon::{Process, eventually};
use crate::support::state_dir::StateDir;

/// What the log says once a reload is over.
const RELOADED: &str = "the configuration was reloaded";
const REFUSED: &str = "the configuration was not reloaded";

/// Asks for a path; the status and the text.
async fn ask(url: &str, path: &str) -> (u16, String) {
    let client = Client::builder().no_proxy().build().unwrap();
    let answer = client.get(format!("{}/{path}", url.trim_end_matches('/'))).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// The value of a metric.
async fn metric(url: &str, series: &str) -> f64 {
    let (_, text) = ask(url, "metrics").await;
    let line = text.lines().find(|line| line.starts_with(&format!("{series} ")));
    line.unwrap_or_else(|| panic!("{series} is not told:\n{text}")).rsplit(' ').next().unwrap().parse().unwrap()
}

/// Has the daemon read its configuration anew, and waits until it has said so once more.
async fn reload(daemon: &Process, says: &str) -> Duration {
    let before = daemon.log().matches(says).count();
    daemon.signal(Signal::SIGHUP);
    eventually(&format!("the log says {says:?} once more"), async || daemon.log().matches(says).count() > before).await
}

/// Takes the section of clicks, the last one, out of the configuration; gives it.
fn cut_clicks(scene: &mut Scene) -> String {
    let mut cut = String::new();
    scene.edit_config(|text| {
        let at = text.find("[exports.clicks]").unwrap();
        text[at..].clone_into(&mut cut);
        text[..at].to_owned()
    });
    scene.exports = vec![Mirrored::Actions];
    cut
}

fn set_workers(scene: &Scene, load: usize) {
    scene.edit_config(|text| {
        let kept = text.lines().filter(|line| !line.starts_with("load = "));
        let lines: Vec<&str> = kept.collect();
        lines.join("\n").replace("[workers]\n", &format!("[workers]\nload = {load}\n")) + "\n"
    });
}

/// Looks at both probes all the time until told to stop; what they said that was not well, and how often they were asked.
async fn probe_until(url: String, over: CancellationToken) -> (Vec<String>, usize) {
    let (mut ill, mut asked) = (Vec::new(), 0);
    while !over.is_cancelled() {
        for path in ["healthz", "readyz"] {
            let (status, text) = ask(&url, path).await;
            asked += 1;
            if status != 200 {
                ill.push(format!("{path}: {status} {text}"));
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (ill, asked)
}

#[tokio::test]
async fn an_export_that_is_added_is_mirrored_by_the_same_process() {
    let mut scene = Scene::new(still(QUICK)).await;
    let clicks = cut_clicks(&mut scene);
    let mut daemon = scene.run();
    let url = daemon.url().await;
    scene.until_mirrored().await;
    let (pid, over) = (daemon.id(), CancellationToken::new());
    let probing = tokio::spawn(probe_until(url.clone(), over.clone()));
    scene.edit_config(|text| text + &clicks);
    let took = reload(&daemon, RELOADED).await;
    assert!(daemon.log().contains("configuration: exports.clicks is new"), "{}", daemon.log());
    scene.exports.push(Mirrored::Clicks);
    scene.until_mirrored().await;
    over.cancel();
    let (ill, asked) = probing.await.unwrap();
    assert_eq!(ill, Vec::<String>::new());
    let rows = scene.assert_mirrored().await;
    eprintln!("reloaded in {:.2} s; {asked} probes were well; {rows} rows compared", took.as_secs_f64());
    assert_eq!((daemon.id(), daemon.try_ended()), (pid, None));
    assert_eq!(scene.orders(), 2, "each window once");
    assert!(metric(&url, "impact_mirror_config_reloads_total{result=\"applied\"}").await > 0.5);
    assert!(metric(&url, "impact_mirror_loads_total{export=\"actions\"}").await > 0.5, "counts go on");
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_is_said() {
    let scene = actions_alone(QUICK).await;
    scene.inject(Point::Storage, FaultKind::Stall(1.5));
    let mut daemon = scene.run();
    let url = daemon.url().await;
    scene.until_spooled(1).await;
    let limits = "select string_agg(\"limit\"::text, ' ' order by bucket) from impact_mirror.bucket";
    let before: String = scene.value(limits).await;
    let good = std::fs::read_to_string(scene.dir.path().join("impact-mirror.toml")).unwrap();
    scene.edit_config(|text| {
        text.replace("schedule = \"", "schedul = \"").replace("lease = \"2s\"", "lease = \"soon\"")
            + "[accounts.acme.quota]\nshare = 0.1\n"
    });
    reload(&daemon, REFUSED).await;
    let log = daemon.log();
    for words in
        ["exports.actions.schedul", "did you mean `schedule`?", "workers.lease holds \"soon\"", "impact-mirror check"]
    {
        assert!(log.contains(words), "{words}: {log}");
    }
    assert_eq!(log.matches("ERROR").count(), 1, "{log}");
    assert!(metric(&url, "impact_mirror_config_reloads_total{result=\"refused\"}").await > 0.5);
    assert!(metric(&url, "impact_mirror_config_last_reload_successful").await < 0.5);
    let (status, words) = ask(&url, "healthz").await;
    assert!(status == 200 && words.starts_with("ok; ") && words.contains("refused"), "{words}");
    let (_, page) = ask(&url, "").await;
    assert!(page.contains("The configuration was refused") && page.contains("workers.lease"), "{page}");

    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.orders(), 1);
    assert_eq!(scene.value::<String>(limits).await, before);
    let cut: i64 = scene.value("select count(*) from impact_mirror.job_event where note like 'handed back%'").await;
    assert_eq!((cut, daemon.try_ended()), (0, None), "nobody was disturbed");

    scene.edit_config(|_| good);
    reload(&daemon, RELOADED).await;
    assert!(metric(&url, "impact_mirror_config_last_reload_successful").await > 0.5);
    assert_eq!(ask(&url, "healthz").await, (200, "ok\n".to_owned()));
}

#[tokio::test]
async fn changed_settings_are_in_force() {
    let scene = actions_alone(QUICK).await;
    let daemon = scene.run();
    let url = daemon.url().await;
    scene.until_mirrored().await;
    assert!((metric(&url, "impact_mirror_pool_connections{state=\"max\"}").await - 13.0).abs() < 0.5);
    let ticked: String = scene.value("select last_tick_at::text from impact_mirror.export_account").await;
    set_workers(&scene, 5);
    scene.edit_config(|text| {
        text.replace(
            "schedule = \"0 0 0 1 1 *\"",
            "schedule = \"* * * * * *\"\nrefresh = [{ age = \"35d\", every = \"2h\" }]",
        ) + "[accounts.acme.quota]\nshare = 0.5\n"
    });
    reload(&daemon, RELOADED).await;
    for change in [
        "workers.load: 2 -> 5",
        "accounts.acme.quota.share: 1 -> 0.5",
        "exports.actions.schedule: 0 0 0 1 1 * -> * * * * * *",
        "exports.actions.refresh: [",
    ] {
        assert!(daemon.log().contains(change), "{change}: {}", daemon.log());
    }
    assert!((metric(&url, "impact_mirror_pool_connections{state=\"max\"}").await - 16.0).abs() < 0.5);
    let limit: i32 = scene
        .value("select \"limit\" from impact_mirror.bucket where bucket = 'report_export' and account = 'acme'")
        .await;
    assert_eq!(limit, 50);
    scene
        .until("(select bool_and(next_refresh_at - as_of = interval '2 hours') from impact_mirror.cell where complete)")
        .await;
    scene.until(&format!("(select last_tick_at > '{ticked}' from impact_mirror.export_account)")).await;
    let second: String = scene.value("select last_tick_at::text from impact_mirror.export_account").await;
    scene.until(&format!("(select last_tick_at > '{second}' from impact_mirror.export_account)")).await;
    set_workers(&scene, 1);
    reload(&daemon, RELOADED).await;
    assert!((metric(&url, "impact_mirror_pool_connections{state=\"max\"}").await - 12.0).abs() < 0.5);
}

#[tokio::test]
async fn an_export_that_is_removed_is_ordered_no_more() {
    let wishes = Wishes { schedule: "* * * * * *", ..Wishes::default() };
    let mut scene = Scene::with(still(QUICK), wishes).await;
    let daemon = scene.run();
    daemon.url().await;
    scene.until_mirrored().await;
    cut_clicks(&mut scene);
    reload(&daemon, RELOADED).await;
    assert!(daemon.log().contains("configuration: exports.clicks is gone"), "{}", daemon.log());
    let made = "select count(*) from impact_mirror.job where export = ";
    let clicks: i64 = scene.value(&format!("{made}'clicks'")).await;
    scene.execute("update impact_mirror.cell set next_refresh_at = now() - interval '2 days'").await;
    scene.until(&format!("({made}'actions' and state = 'loaded') > 1")).await;
    scene.until("not exists (select 1 from impact_mirror.job where finished_at is null)").await;
    assert_eq!(scene.value::<i64>(&format!("{made}'clicks'")).await, clicks);
    assert_eq!(scene.calls(&["submit_clicks"]), 1);
    assert!(scene.value::<i64>("select count(*) from impact.clicks").await > 0, "its table stays");
}

#[tokio::test]
async fn a_key_that_needs_a_restart_is_named_and_the_rest_is_applied() {
    let scene = actions_alone(QUICK).await;
    let daemon = scene.run();
    let url = daemon.url().await;
    let config = scene.dir.path().join("impact-mirror.toml");
    let as_it_was = std::fs::read_to_string(config).unwrap();
    set_workers(&scene, 3);
    scene.edit_config(|text| {
        text.replace("listen = \"127.0.0.1:0\"", "listen = \"127.0.0.1:1\"")
            .replace("postgres://", "postgres://secret@")
    });
    reload(&daemon, RELOADED).await;
    let log = daemon.log();
    assert!(log.contains("workers.load: 2 -> 3"), "{log}");
    for key in ["database.url", "http.listen"] {
        assert!(log.contains(&format!("the new {key} needs a restart")), "{log}");
    }
    assert!(!log.contains("secret@"), "{log}");
    assert!((metric(&url, "impact_mirror_config_restart_keys").await - 2.0).abs() < 0.5);
    assert_eq!(ask(&url, "healthz").await.1, "ok; a restart is needed for the new database.url, http.listen\n");
    let (_, page) = ask(&url, "").await;
    assert!(page.contains("waits for a restart"), "{page}");
    scene.until_mirrored().await;
    scene.edit_config(|_| as_it_was);
    reload(&daemon, RELOADED).await;
    assert_eq!(ask(&url, "healthz").await.1, "ok\n");
}

/// Replaces the files of a mounted ConfigMap or Secret as the kubelet does: a link to a directory is put in another's place.
fn mount(dir: &std::path::Path, version: &str, files: &[(&str, &str)]) {
    let data = dir.join(version);
    std::fs::create_dir(&data).unwrap();
    for (name, text) in files {
        std::fs::write(data.join(name), text).unwrap();
        let _ = std::fs::remove_file(dir.join(name));
        symlink(format!("..data/{name}"), dir.join(name)).unwrap();
    }
    symlink(version, dir.join("..data_tmp")).unwrap();
    std::fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
}

#[tokio::test]
async fn a_mounted_file_that_changes_is_picked_up_without_a_signal() {
    let mut scene = Scene::new(still(QUICK)).await;
    scene.env.push(("KUBERNETES_SERVICE_HOST", "10.0.0.1".to_owned()));
    let clicks = cut_clicks(&mut scene);
    let dir = scene.dir.path().to_owned();
    let token = format!("auth_token = {{ file = \"{}\" }}", dir.join("token").display());
    scene.edit_config(|text| text.replace("auth_token = { env = \"SANDBOX_TOKEN\" }", &token));
    let text = std::fs::read_to_string(dir.join("impact-mirror.toml")).unwrap();
    mount(&dir, "..1", &[("impact-mirror.toml", &text), ("token", "token-from-yesterday")]);
    let daemon = scene.run();
    daemon.until_says("account paused: its credential is refused").await;

    mount(&dir, "..2", &[("impact-mirror.toml", &text), ("token", "sandbox-brand-token")]);
    daemon.until_says("accounts.acme.auth_token is another secret").await;
    scene.until_mirrored().await;
    mount(&dir, "..3", &[("impact-mirror.toml", &(text + &clicks)), ("token", "sandbox-brand-token")]);
    let took = daemon.until_says("exports.clicks is new").await;
    eprintln!("picked up after {:.1} s", took.as_secs_f64());
    scene.exports.push(Mirrored::Clicks);
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    let log = daemon.log();
    assert!(!log.contains("token-from-yesterday") && !log.contains("sandbox-brand-token"), "{log}");
    assert_eq!(log.matches(RELOADED).count(), 2, "each change once: {log}");
}

#[tokio::test]
async fn a_file_that_changes_elsewhere_waits_for_a_signal() {
    let scene = actions_alone(QUICK).await;
    let daemon = scene.run();
    scene.until_mirrored().await;
    set_workers(&scene, 3);
    tokio::time::sleep(Duration::from_secs(12)).await; // longer than two looks
    assert!(!daemon.log().contains(RELOADED), "{}", daemon.log());
    reload(&daemon, "workers.load: 2 -> 3").await;
}

#[tokio::test]
async fn downloads_under_way_are_handed_back_and_ordered_no_second_time() {
    let scene = Scene::new(still(QUICK)).await;
    scene.inject(Point::Storage, FOR_EVER);
    scene.inject(Point::Storage, FOR_EVER);
    let mut daemon = scene.run();
    let url = daemon.url().await;
    scene.until_spooled(2).await;
    let over = CancellationToken::new();
    let probing = tokio::spawn(probe_until(url, over.clone()));
    set_workers(&scene, 3);
    let took = reload(&daemon, RELOADED).await;
    scene.until_mirrored().await;
    over.cancel();
    let (ill, asked) = probing.await.unwrap();
    assert_eq!(ill, Vec::<String>::new());
    eprintln!("reloaded in {:.1} s with two downloads under way; {asked} probes were well", took.as_secs_f64());
    scene.assert_mirrored().await;
    assert_eq!(scene.orders(), 2);
    let count = async |what: &str| scene.value::<i64>(&format!("select count(*) from impact_mirror.{what}")).await;
    assert_eq!(count("load").await, 2);
    assert_eq!(count("job").await, 2);
    assert_eq!(count("job_event where note like 'handed back%'").await, 2);
    assert_eq!(count("job_event where note like 'taken over%'").await, 0, "nobody had to wait for a lease");
    assert_eq!(count("job where attempts > 1").await, 0, "a reload is no attempt");
    assert_eq!(daemon.try_ended(), None);
}

#[tokio::test]
async fn an_order_under_way_is_waited_for() {
    let scene = actions_alone(QUICK).await;
    scene.inject(Point::Submit, FaultKind::Stall(1.0));
    let daemon = scene.run();
    scene.until_hit().await;
    set_workers(&scene, 3);
    reload(&daemon, RELOADED).await;
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.orders(), 1);
    assert_eq!(scene.calls(&["list"]), 0, "nobody had to look for a lost order");
}

#[tokio::test]
async fn many_reloads_while_jobs_go_through_lose_and_double_nothing() {
    let scene = Scene::new(still(Duration::from_secs(2))).await;
    let mut daemon = scene.run();
    daemon.url().await;
    let began = Instant::now();
    for round in 0..12 {
        set_workers(&scene, 1 + round % 4);
        reload(&daemon, RELOADED).await;
    }
    eprintln!("12 reloads took {:.1} s", began.elapsed().as_secs_f64());
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.orders(), 2);
    assert_eq!(daemon.try_ended(), None);
}

#[tokio::test]
async fn a_signal_during_the_start_does_not_end_the_process() {
    let scene = actions_alone(QUICK).await;
    scene.edit_config(|text| text.replace("postgres://", "postgres://nobody@127.0.0.1:1/none?unused="));
    let mut daemon = scene.run();
    daemon.until_says("waiting for it").await;
    daemon.signal(Signal::SIGHUP);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.exit_code().await, Some(0), "{}", daemon.log());
}

#[tokio::test]
async fn a_stop_during_a_reload_ends_the_process() {
    let scene = actions_alone(QUICK).await;
    scene.inject(Point::Storage, FOR_EVER);
    let mut daemon = scene.run();
    scene.until_spooled(1).await;
    set_workers(&scene, 3);
    daemon.signal(Signal::SIGHUP);
    tokio::time::sleep(Duration::from_millis(500)).await; // into the wait for the download
    daemon.signal(Signal::SIGTERM);
    let (status, took) = daemon.ended().await;
    eprintln!("ended {:.1} s after SIGTERM", took.as_secs_f64());
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    let _next = scene.run();
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.orders(), 1);
}

#[tokio::test]
async fn a_reload_without_a_database_is_tried_again_by_itself() {
    let state = StateDir::new();
    let server = Embedded::start(state.path()).await.unwrap();
    let pool = sqlx::postgres::PgPoolOptions::new().connect(server.url()).await.unwrap();
    let wishes = Wishes { exports: &[Mirrored::Actions], ..Wishes::default() };
    let scene = Scene::on(still(QUICK), wishes, server.url(), pool).await;
    let daemon = scene.run();
    let url = daemon.url().await;
    scene.until_mirrored().await;
    scene.pool().close().await;
    server.stop().await.unwrap();
    set_workers(&scene, 3);
    reload(&daemon, REFUSED).await;
    assert!(daemon.log().contains("it is tried again by itself"), "{}", daemon.log());
    let server = Embedded::start(state.path()).await.unwrap();
    daemon.until_says("the configuration was reloaded: another try").await;
    assert!((metric(&url, "impact_mirror_pool_connections{state=\"max\"}").await - 14.0).abs() < 0.5);
    drop(daemon);
    server.stop().await.unwrap();
}
