//! The embedded Postgres, with the programs of this machine.

use std::path::Path;
use std::time::Duration;

use impact_mirror::embedded::Embedded;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection, PgConnection};

use crate::support::state_dir::StateDir;

fn pid_file(state_dir: &Path) -> std::path::PathBuf {
    state_dir.join("postgres/data/postmaster.pid")
}

fn pid(state_dir: &Path) -> Pid {
    let text = std::fs::read_to_string(pid_file(state_dir)).unwrap();
    Pid::from_raw(text.lines().next().unwrap().parse().unwrap())
}

async fn count(url: &str) -> i64 {
    let mut conn = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar("select count(*) from kept").fetch_one(&mut conn).await.unwrap()
}

async fn keep_a_row(url: &str) {
    let mut conn = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql("create table kept (n int); insert into kept values (1)").execute(&mut conn).await.unwrap();
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart_at_the_same_address() {
    let state = StateDir::new();
    let embedded = Embedded::start(state.path()).await.unwrap();
    let url = embedded.url().to_owned();
    assert!(url.contains("/impact_mirror?host=/"), "{url}");
    assert_eq!(embedded.psql_line(), format!("psql '{url}'"));
    keep_a_row(&url).await;
    embedded.stop().await.unwrap();
    assert!(!pid_file(state.path()).exists());
    assert!(PgConnection::connect(&url).await.is_err());

    let embedded = Embedded::start(state.path()).await.unwrap();
    assert_eq!(embedded.url(), url);
    assert_eq!(count(&url).await, 1);
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn two_users_share_one_server_and_the_last_one_stops_it() {
    let state = StateDir::new();
    let (first, second) = tokio::join!(Embedded::start(state.path()), Embedded::start(state.path()));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.url(), second.url());
    let server = pid(state.path());
    first.stop().await.unwrap();
    assert_eq!(pid(state.path()), server);
    PgConnection::connect(second.url()).await.unwrap();
    second.stop().await.unwrap();
    assert!(!pid_file(state.path()).exists());
}

#[tokio::test]
async fn a_server_that_was_killed_recovers_at_the_next_start() {
    let state = StateDir::new();
    let first = Embedded::start(state.path()).await.unwrap();
    keep_a_row(first.url()).await;
    kill(pid(state.path()), Signal::SIGKILL).unwrap();
    // The dead server's own processes notice within moments; until then Postgres itself would refuse to start.
    tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            if let Ok(second) = Embedded::start(state.path()).await {
                assert_eq!(count(second.url()).await, 1);
                break second.stop().await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await
    .unwrap();
    first.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_going_down_is_waited_for() {
    let state = StateDir::new();
    drop(Embedded::start(state.path()).await.unwrap());
    let again = Embedded::start(state.path()).await.unwrap();
    PgConnection::connect(again.url()).await.unwrap();
    again.stop().await.unwrap();
}

#[tokio::test]
async fn a_pid_file_that_names_a_stranger_is_no_obstacle() {
    let state = StateDir::new();
    Embedded::start(state.path()).await.unwrap().stop().await.unwrap();
    let stranger = format!("{}\n/elsewhere\n1\n1\n/nowhere\n127.0.0.1\n1 1\nready   \n", std::process::id());
    std::fs::write(pid_file(state.path()), stranger).unwrap();
    let embedded = Embedded::start(state.path()).await.unwrap();
    PgConnection::connect(embedded.url()).await.unwrap();
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn loopback_asks_for_the_password() {
    let state = StateDir::new();
    let embedded = Embedded::start(state.path()).await.unwrap();
    let home = state.path().join("postgres");
    let port = std::fs::read_to_string(home.join("port")).unwrap();
    let password = std::fs::read_to_string(home.join("password")).unwrap();
    let url = |password: &str| format!("postgres://mirror:{password}@127.0.0.1:{}/impact_mirror", port.trim());
    assert!(PgConnection::connect(&url("guess")).await.is_err());
    PgConnection::connect(&url(&password)).await.unwrap();
    embedded.stop().await.unwrap();
}
