//! Replicas killed and frozen at random while everything is restated and asked for again, for `STORM_SECONDS`. What
//! happens when is told by `STORM_SEED`; the processes have a time of their own.

use std::time::{Duration, Instant, SystemTime};

use chrono::TimeDelta;
use impact_mirror::sandbox::{Limits, Options};
use nix::sys::signal::Signal;

use super::{Figures, QUICK, assert_done_once, assert_paid};
use crate::restart::ask_again;
use crate::support::daemon::{LEASE, Process, Scene, Wishes, eventually, still};

/// Where nobody says how many, by `STORM_REPLICAS`.
const REPLICAS: u64 = 3;
/// How long everything may take to become whole after the storm.
const CALM: Duration = Duration::from_mins(2);

/// A generator of numbers that a seed tells (splitmix64).
struct Dice(u64);

impl Dice {
    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

fn told(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|told| told.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Waits for the tables to become whole; says how long that took.
async fn until_calm(scene: &Scene) -> Duration {
    let began = Instant::now();
    loop {
        let is_calm = "select not exists (select 1 from impact_mirror.manual_request)
                          and not exists (select 1 from impact_mirror.job where finished_at is null)
                          and (select bool_and(state in ('loaded', 'settled')) from impact_mirror.coverage)";
        if scene.value::<bool>(is_calm).await {
            return began.elapsed();
        }
        assert!(began.elapsed() < CALM, "not whole within {CALM:?}");
        tokio::time::sleep(QUICK).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; make test-crash"]
async fn a_storm_of_kills_loses_nothing_and_doubles_nothing() {
    let length = Duration::from_secs(told("STORM_SECONDS").unwrap_or(180));
    let seed = told("STORM_SEED").unwrap_or_else(|| {
        u64::from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_micros())
    });
    println!("STORM_SEED={seed}, {length:?}");
    let mut dice = Dice(seed);
    let replica_count = usize::try_from(told("STORM_REPLICAS").unwrap_or(REPLICAS)).unwrap();
    let plenty = 1_000_000;
    let limits = Limits { report_export_per_day: plenty, click_export_per_day: plenty, requests_per_hour: plenty };
    let quota = format!(
        "quota = {{ report_export_per_day = {plenty}, click_export_per_day = {plenty}, requests_per_hour = {plenty} }}"
    );
    let wishes = Wishes { programs: "[1000, 2000]", account: &quota, ..Wishes::default() };
    let scene = Scene::with(Options { limits, ..still(QUICK) }, wishes).await;
    let mut replicas: Vec<Process> = (0..replica_count).map(|_| scene.run()).collect();
    scene.until_mirrored().await;

    let mut figures = Figures::default();
    let (mut freezes, mut restatements) = (0, 0);
    let began = Instant::now();
    while began.elapsed() < length {
        tokio::time::sleep(dice.millis(20, 900)).await;
        let chosen = usize::try_from(dice.below(replica_count as u64)).unwrap();
        match dice.below(10) {
            0..6 => {
                replicas[chosen].kill();
                figures.kills += 1;
                tokio::time::sleep(dice.millis(1, 600)).await;
                replicas[chosen] = scene.run();
            }
            6 => {
                replicas[chosen].signal(Signal::SIGSTOP);
                tokio::time::sleep(dice.millis(500, 2_000 * LEASE.as_secs())).await;
                replicas[chosen].signal(Signal::SIGCONT);
                freezes += 1;
            }
            _ => {
                scene.sandbox.advance(TimeDelta::minutes(i64::try_from(dice.below(600)).unwrap()));
                ask_again(&scene).await;
                restatements += 1;
            }
        }
        if figures.kills.is_multiple_of(20) && figures.recoveries.len() < figures.kills / 20 {
            // All at once: how long it takes from nothing.
            replicas.iter_mut().for_each(Process::kill);
            figures.kills += replica_count;
            let killed_at = Instant::now();
            replicas = (0..replica_count).map(|_| scene.run()).collect();
            until_calm(&scene).await;
            figures.recoveries.push(killed_at.elapsed());
        }
    }
    ask_again(&scene).await;
    until_calm(&scene).await;
    for process in &mut replicas {
        process.signal(Signal::SIGTERM);
        assert_eq!(process.exit_code().await, Some(0), "{}", process.log());
    }
    let last = scene.run();
    last.until_says("running; stop").await;
    eventually("the spool is swept", async || scene.spooled() == 0).await;

    figures.rows = scene.assert_mirrored().await;
    figures.orders = scene.orders();
    // Each job is one order, and one more for each that was to be made again.
    let wanted: i64 = scene
        .value("select count(*) + sum(replays + resubmits)::bigint from impact_mirror.job where state = 'loaded'")
        .await;
    let failed: Vec<String> = sqlx::query_scalar(
        "select concat_ws(' ', id, state, error_message) from impact_mirror.job
         where state = 'failed' or (state = 'cancelled' and submitted_at is not null)",
    )
    .fetch_all(scene.pool())
    .await
    .unwrap();
    assert_eq!(failed, [""; 0]);
    assert_eq!(i64::try_from(figures.orders).unwrap(), wanted, "orders");
    assert_paid(&scene).await;
    assert_done_once(&scene).await;
    let loads: i64 = scene.value("select count(*) from impact_mirror.load").await;
    println!("storm of {length:?}: {freezes} freezes, {restatements} restatements, {loads} loads");
    figures.print("storm");
}
