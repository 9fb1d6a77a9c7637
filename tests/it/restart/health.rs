//! What the probes of the real daemon say while its engine is stuck, and after.

use std::path::Path;

use impact_mirror::embedded::Embedded;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Client;
use sqlx::postgres::PgPoolOptions;

use super::*;
use crate::support::daemon::{Process, eventually};
use crate::support::state_dir::StateDir;

/// The status and the words of a probe.
async fn probe(url: &str, path: &str) -> (u16, String) {
    let client = Client::builder().no_proxy().build().unwrap();
    let answer = client.get(format!("{url}{path}")).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn until_probe(url: &str, path: &str, status: u16, words: &str) {
    let took = eventually(&format!("/{path} says {status} and {words:?}"), async || {
        let (told, text) = probe(url, path).await;
        told == status && text.contains(words)
    })
    .await;
    eprintln!("/{path} said {status}, {words:?}, after {:.1} s", took.as_secs_f64());
}

/// The daemon goes on.
async fn works(scene: &Scene, loads: u32) {
    scene.sandbox.set_behaviour("row_order=random").unwrap();
    ask_again(scene).await;
    scene.until(&format!("(select count(*) >= {loads} from impact_mirror.load)")).await;
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
}

#[tokio::test]
async fn a_lock_that_holds_the_engine_up_is_ill_health_until_it_is_gone() {
    let scene = actions_alone(QUICK).await;
    let daemon = scene.run();
    let url = daemon.url().await;
    scene.until_mirrored().await;
    assert_eq!(probe(&url, "healthz").await, (200, "ok\n".to_owned()));
    let mut conn = scene.pool().acquire().await.unwrap();
    let mut lock = conn.begin().await.unwrap();
    sqlx::raw_sql("lock table impact_mirror.job in access exclusive mode").execute(&mut *lock).await.unwrap();
    scene.execute("select pg_notify('impact_mirror_wake', '')").await;
    until_probe(&url, "healthz", 503, "not back for").await;
    lock.rollback().await.unwrap();
    until_probe(&url, "healthz", 200, "ok").await;
    works(&scene, 2).await;
}

#[tokio::test]
async fn an_engine_all_of_whose_rounds_fail_is_ill_health_until_one_does_not() {
    let scene = actions_alone(QUICK).await;
    let daemon = scene.run();
    let url = daemon.url().await;
    scene.until_mirrored().await;
    scene.execute("alter table impact_mirror.job rename to job_that_was").await;
    scene.execute("select pg_notify('impact_mirror_wake', '')").await;
    until_probe(&url, "healthz", 503, "every round has failed for").await;
    scene.execute("alter table impact_mirror.job_that_was rename to job").await;
    until_probe(&url, "healthz", 200, "ok").await;
    works(&scene, 2).await;
}

/// The postmaster of a cluster and its children.
fn processes(state_dir: &Path) -> Vec<Pid> {
    let file = std::fs::read_to_string(state_dir.join("postgres/data/postmaster.pid")).unwrap();
    let postmaster = file.lines().next().unwrap().to_owned();
    let is_child = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        after_name.split(' ').nth(1) == Some(postmaster.as_str())
    };
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let children = all.filter(is_child).map(Pid::from_raw);
    std::iter::once(Pid::from_raw(postmaster.parse().unwrap())).chain(children).collect()
}

/// A cluster that is frozen as long as this value lives.
struct Frozen(Vec<Pid>);

impl Frozen {
    fn new(state_dir: &Path) -> Self {
        let frozen = Self(processes(state_dir));
        assert!(frozen.0.len() > 5, "{:?}", frozen.0);
        frozen.signal(Signal::SIGSTOP);
        frozen
    }

    fn signal(&self, signal: Signal) {
        for process in &self.0 {
            let _ = kill(*process, signal);
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.signal(Signal::SIGCONT);
    }
}

async fn with_a_server_of_its_own(server: &Embedded) -> (Scene, Process, String) {
    let pool = PgPoolOptions::new().connect(server.url()).await.unwrap();
    let wishes = Wishes { exports: &[Mirrored::Actions], ..Wishes::default() };
    let scene = Scene::on(still(QUICK), wishes, server.url(), pool).await;
    let daemon = scene.run();
    let url = daemon.url().await;
    scene.until_mirrored().await;
    assert_eq!(probe(&url, "healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(probe(&url, "readyz").await, (200, "ready\n".to_owned()));
    (scene, daemon, url)
}

#[tokio::test]
async fn a_frozen_postgres_is_ill_health_until_it_thaws() {
    let state = StateDir::new();
    let server = Embedded::start(state.path()).await.unwrap();
    let (scene, mut daemon, url) = with_a_server_of_its_own(&server).await;
    scene.execute("select pg_notify('impact_mirror_wake', '')").await;
    let frozen = Frozen::new(state.path());
    until_probe(&url, "healthz", 503, ": ").await;
    assert_eq!(probe(&url, "readyz").await.0, 503);
    drop(frozen);
    until_probe(&url, "healthz", 200, "ok").await;
    until_probe(&url, "readyz", 200, "ready").await;
    works(&scene, 2).await;
    daemon.kill();
    scene.pool().close().await;
    server.stop().await.unwrap();
}

/// A restart of the daemon would bring back no database, so that this is for `readyz` to tell.
#[tokio::test]
async fn a_postgres_that_is_away_is_no_ill_health() {
    let state = StateDir::new();
    let server = Embedded::start(state.path()).await.unwrap();
    let (scene, daemon, url) = with_a_server_of_its_own(&server).await;
    scene.execute("select pg_notify('impact_mirror_wake', '')").await;
    scene.pool().close().await;
    server.stop().await.unwrap();
    until_probe(&url, "readyz", 503, "").await;
    until_probe(&url, "healthz", 200, "the database is away").await;

    let server = Embedded::start(state.path()).await.unwrap();
    until_probe(&url, "readyz", 200, "ready").await;
    until_probe(&url, "healthz", 200, "ok").await;
    drop(daemon);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_start_that_waits_for_a_frozen_postgres_can_be_stopped() {
    let state = StateDir::new();
    let server = Embedded::start(state.path()).await.unwrap();
    let pool = PgPoolOptions::new().connect_lazy(server.url()).unwrap();
    let scene = Scene::on(still(QUICK), Wishes::default(), server.url(), pool).await;
    let frozen = Frozen::new(state.path());
    let mut daemon = scene.run();
    daemon.until_says("waiting for it").await;
    tokio::time::sleep(Duration::from_secs(2)).await; // into the next try, which takes 10 s
    daemon.signal(Signal::SIGTERM);
    let (status, took) = daemon.ended().await;
    drop(frozen);
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    assert!(took < Duration::from_secs(5), "{took:?}");
    server.stop().await.unwrap();
}
