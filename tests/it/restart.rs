//! Restarts of the real process: killed, stopped, frozen, cut off from its database. A sandbox in this process is the
//! witness: every window is ordered once, and at the end the tables hold its truth.

mod archive;
mod connections;
mod cut_off;
mod embedded;
mod frozen;
mod health;
mod idle;
mod killed;
mod reloaded;
mod schedule;
mod stopped;
mod supervised;
mod sync;
mod upgraded;
mod verify;

use std::time::Duration;

use impact_mirror::sandbox::FaultKind;
use sqlx::Connection as _;

use crate::support::daemon::{Mirrored, Scene, Wishes, still};

/// Longer than any test: who waits for it has to be stopped.
const FOR_EVER: FaultKind = FaultKind::Stall(120.0);
/// Remote jobs that are done almost at once.
const QUICK: Duration = Duration::from_millis(40);

/// One export, and so one job.
pub(crate) async fn actions_alone(job_duration: Duration) -> Scene {
    Scene::with(still(job_duration), Wishes { exports: &[Mirrored::Actions], ..Wishes::default() }).await
}

/// Asks by hand for everything to be read again; a running daemon does it by Replay.
pub(crate) async fn ask_again(scene: &Scene) {
    for export in &scene.exports {
        ask_again_for(scene, export.name()).await;
    }
}

/// The same for one export.
async fn ask_again_for(scene: &Scene, export: &str) {
    let (from, to) = covered(scene, export).await;
    let mut asking = scene.start(&["refresh", export, "--from", &from, "--to", &to]);
    assert_eq!(asking.exit_code().await, Some(0), "{}", asking.log());
}

/// The first and the last day of an export.
pub(crate) async fn covered(scene: &Scene, export: &str) -> (String, String) {
    let day = async |which: &str| {
        let query = format!("select {which}(day)::text from impact_mirror.coverage where export = '{export}'");
        scene.value::<String>(&query).await
    };
    (day("min").await, day("max").await)
}

/// As many loads wait for a lock inside Postgres.
fn blocked(loads: u32) -> String {
    format!(
        "(select count(*) = {loads} from pg_stat_activity
          where datname = current_database() and wait_event_type = 'Lock' and application_name = 'impact-mirror')"
    )
}

/// So many loads wait for a lock: they have entered their tables. Views that follow an earlier load may wait too.
fn loads_blocked(loads: u32) -> String {
    format!(
        "(select count(distinct a.pid) = {loads} from pg_stat_activity a
          join pg_locks l on l.pid = a.pid and l.locktype = 'advisory' and l.mode = 'ShareLock' and l.granted
          where a.datname = current_database() and a.wait_event_type = 'Lock' and a.application_name = 'impact-mirror')"
    )
}

/// No daemon has said anything to Postgres for so many seconds.
pub fn quiet_for(seconds: u32) -> String {
    format!(
        "(select max(state_change) < clock_timestamp() - interval '{seconds} s' from pg_stat_activity
          where datname = current_database() and application_name = 'impact-mirror')"
    )
}
