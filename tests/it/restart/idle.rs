//! A daemon with nothing to do asks nobody anything.

use super::{QUICK, quiet_for};
use crate::support::daemon::{LEASE, Scene, still};

/// How many seconds it is watched.
const WATCHED: u32 = 10;

#[tokio::test]
async fn an_idle_daemon_asks_neither_impact_com_nor_postgres() {
    let scene = Scene::new(still(QUICK)).await;
    // It looks for leases of others that have run out as often as its own would.
    scene.edit_config(|text| text.replace(&format!("lease = \"{}s\"", LEASE.as_secs()), "lease = \"30s\""));
    let _daemon = scene.run();
    scene.until_mirrored().await;
    // Everybody looks once more after the last load.
    scene.until(&quiet_for(1)).await;
    let calls = scene.sandbox.calls().len();
    scene.until(&quiet_for(WATCHED)).await;
    eprintln!("no statement in {WATCHED} s");
    assert_eq!(scene.sandbox.calls().len(), calls, "calls to impact.com");
}
