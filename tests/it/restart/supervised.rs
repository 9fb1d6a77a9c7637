//! What the real daemon tells its service manager, over the socket that systemd would give it.

use std::os::unix::net::UnixDatagram;

use nix::sys::signal::Signal;

use super::*;
use crate::support::daemon::{Process, eventually};

/// How long the manager waits for a sign of life.
const WATCHDOG: Duration = Duration::from_millis(900);

/// A manager that listens.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn of(scene: &mut Scene) -> Self {
        let path = scene.dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        scene.env.push(("NOTIFY_SOCKET", path.display().to_string()));
        scene.env.push(("WATCHDOG_USEC", WATCHDOG.as_micros().to_string()));
        Self { socket }
    }

    /// What it was told since it was asked last.
    fn told(&self) -> Vec<String> {
        let mut told = Vec::new();
        let mut message = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut message) {
            told.push(String::from_utf8(message[..length].to_vec()).unwrap());
        }
        told
    }

    async fn until_told(&self, words: &str) {
        let what = format!("the manager is told {words:?}");
        eventually(&what, async || self.told().iter().any(|message| message.contains(words))).await;
    }
}

fn healthcheck(scene: &Scene) -> Process {
    scene.start(&["healthcheck"])
}

#[tokio::test]
async fn a_manager_hears_of_the_start_of_life_and_of_the_end() {
    let mut scene = actions_alone(QUICK).await;
    let manager = Manager::of(&mut scene);
    let mut daemon = scene.run();
    manager.until_told("READY=1\n").await;
    manager.until_told("WATCHDOG=1\nSTATUS=ok").await;
    daemon.signal(Signal::SIGTERM);
    manager.until_told("STOPPING=1\n").await;
    assert_eq!(daemon.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_manager_hears_when_a_reload_begins_and_that_it_is_over() {
    let mut scene = actions_alone(QUICK).await;
    let manager = Manager::of(&mut scene);
    let daemon = scene.run();
    manager.until_told("READY=1\n").await;
    scene.edit_config(|text| text.replace("[workers]\n", "[workers]\nload = 3\n"));
    daemon.signal(Signal::SIGHUP);
    let mut told = Vec::new();
    eventually("a reload that is over", async || {
        told.extend(manager.told());
        told.iter().any(|message| message.starts_with("READY=1\nSTATUS=ok"))
    })
    .await;
    let began = told.iter().find_map(|message| message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=")).unwrap();
    let since_boot: u128 = began.split('\n').next().unwrap().parse().unwrap();
    assert!(since_boot > 1_000_000, "{told:?}");
    scene.edit_config(|text| text.replace("load = 3", "load = 0"));
    daemon.signal(Signal::SIGHUP);
    manager.until_told("READY=1\nSTATUS=ok; the configuration is the one from before").await;
}

#[tokio::test]
async fn a_start_without_a_database_asks_for_more_time_and_gives_no_sign_of_life() {
    let mut scene = actions_alone(QUICK).await;
    let manager = Manager::of(&mut scene);
    scene.edit_config(|text| text.replace("url = \"postgres://", "url = \"postgres://nobody@127.0.0.1:9/none?was="));
    let _daemon = scene.run();
    let mut told = Vec::new();
    eventually("three messages", async || {
        told.extend(manager.told());
        told.len() >= 3
    })
    .await;
    assert!(
        told.iter().all(|message| message.starts_with("EXTEND_TIMEOUT_USEC=60000000\nSTATUS=starting")),
        "{told:?}"
    );
}

#[tokio::test]
async fn an_engine_that_is_stuck_gives_no_sign_of_life_until_it_goes_on() {
    let mut scene = actions_alone(QUICK).await;
    let manager = Manager::of(&mut scene);
    let _daemon = scene.run();
    scene.until_mirrored().await;
    let mut conn = scene.pool().acquire().await.unwrap();
    let mut lock = conn.begin().await.unwrap();
    sqlx::raw_sql("lock table impact_mirror.job in access exclusive mode").execute(&mut *lock).await.unwrap();
    scene.execute("select pg_notify('impact_mirror_wake', '')").await;
    manager.until_told("STATUS=").await;
    eventually("a status that says who is late", async || {
        manager.told().iter().any(|message| message.contains("not back for"))
    })
    .await;
    let mut later = Vec::new();
    eventually("two further messages", async || {
        later.extend(manager.told());
        later.len() >= 2
    })
    .await;
    assert!(later.iter().all(|message| !message.contains("WATCHDOG=1")), "{later:?}");
    lock.rollback().await.unwrap();
    manager.until_told("WATCHDOG=1\nSTATUS=ok").await;
}

#[tokio::test]
async fn the_health_of_a_daemon_is_asked_for_by_the_program_itself() {
    let scene = actions_alone(QUICK).await;
    assert_eq!(healthcheck(&scene).exit_code().await, Some(1), "nobody listens");
    let daemon = scene.run();
    let url = daemon.url().await;
    scene.edit_config(|text| {
        text.replace(
            "listen = \"127.0.0.1:0\"",
            &format!("listen = \"{}\"", url["http://".len()..].trim_end_matches('/')),
        )
    });
    let mut asking = healthcheck(&scene);
    assert_eq!(asking.exit_code().await, Some(0));
    assert_eq!(asking.log(), "ok\n");
}
