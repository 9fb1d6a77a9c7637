//! The real process, killed at every named place and at random ones, alone and with other replicas. A sandbox in this
//! process is the witness: every window is ordered once, nothing goes unpaid, and at the end the tables hold its truth.

mod course;
mod matrix;
mod panicked;
mod places;
mod storm;

use std::time::Duration;

use crate::support::daemon::Scene;

/// Remote jobs that are done almost at once.
const QUICK: Duration = Duration::from_millis(40);

/// What a run came to, for `docs/reliability.md`.
#[derive(Default)]
struct Figures {
    kills: usize,
    orders: usize,
    rows: u64,
    /// From each kill to the tables being whole.
    recoveries: Vec<Duration>,
}

impl Figures {
    fn add(&mut self, other: Self) {
        self.kills += other.kills;
        self.orders += other.orders;
        self.rows += other.rows;
        self.recoveries.extend(other.recoveries);
    }

    /// Prints them; called where all assertions held.
    fn print(mut self, what: &str) {
        self.recoveries.sort();
        let seconds = |at: usize| self.recoveries.get(at).map_or(0.0, Duration::as_secs_f64);
        println!(
            "{what}: {} kills survived, {} orders, double orders 0, {} rows compared, rows wrong 0, \
             recovery {:.1} s (median), {:.1} s (worst)",
            self.kills,
            self.orders,
            self.rows,
            seconds(self.recoveries.len() / 2),
            seconds(self.recoveries.len().saturating_sub(1)),
        );
    }
}

/// Every call that impact.com counted was charged before it was made, so whatever died in between.
async fn assert_paid(scene: &Scene) {
    let orders = ["submit_report", "submit_clicks", "replay"];
    let requests = ["replay", "list", "poll", "download", "metadata", "company", "campaigns"];
    for (bucket, calls) in [("'report_export', 'click_export'", &orders[..]), ("'requests'", &requests[..])] {
        let charged: i64 = scene
            .value(&format!(
                "select coalesce(sum(cost), 0)::bigint from impact_mirror.charge where bucket in ({bucket})"
            ))
            .await;
        let made = i64::try_from(scene.calls(calls)).unwrap();
        assert!(charged >= made, "{charged} charges in {bucket} for {made} calls");
    }
}

/// No job has been loaded twice, and no order was made that no job asked for.
async fn assert_done_once(scene: &Scene) {
    let loads: (i64, i64) = sqlx::query_as(
        "select count(*), count(distinct job_id) filter (where state = 'loaded' and load_id = l.id)
         from impact_mirror.load l join impact_mirror.job j on j.id = l.job_id",
    )
    .fetch_one(scene.pool())
    .await
    .unwrap();
    assert_eq!(loads.0, loads.1, "a load is of one job, and a job has one");
}
