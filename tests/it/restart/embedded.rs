//! With the embedded Postgres: it outlives a daemon that was killed, and the next one adopts it.

use impact_mirror::embedded::Embedded;
use impact_mirror::sandbox::Point;
use nix::sys::signal::Signal;
use sqlx::postgres::PgPoolOptions;

use super::{FOR_EVER, QUICK};
use crate::support::daemon::{Mirrored, Scene, Wishes, still};

#[tokio::test]
async fn the_postgres_of_a_killed_daemon_is_adopted_and_stopped_at_the_end() {
    let wishes = Wishes { exports: &[Mirrored::Actions], ..Wishes::default() };
    let nowhere = PgPoolOptions::new().connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap();
    let mut scene = Scene::on(still(QUICK), wishes, "embedded", nowhere).await;
    scene.inject(Point::Storage, FOR_EVER);
    let mut first = scene.run();
    scene.until_spooled(1).await;
    first.kill();
    let pid_file = scene.dir.path().join("postgres/data/postmaster.pid");
    let pid = || std::fs::read_to_string(&pid_file).unwrap().lines().next().unwrap().to_owned();
    let server = pid();

    let mut next = scene.run();
    next.until_says("running").await;
    assert_eq!(pid(), server, "the same server");
    let guest = Embedded::start(scene.dir.path()).await.unwrap();
    scene.pool = PgPoolOptions::new().connect(guest.url()).await.unwrap();
    scene.until_mirrored().await;
    scene.assert_mirrored().await;
    assert_eq!(scene.orders(), 1);

    scene.pool().close().await;
    guest.stop().await.unwrap();
    next.signal(Signal::SIGTERM);
    assert_eq!(next.exit_code().await, Some(0));
    assert!(!pid_file.exists(), "the last one stops the server");
}
