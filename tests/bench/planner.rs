//! How well the budget is spent: our planner beside two simple strategies, for a brand with 25 programs and 6 exports
//! that has just turned the mirror on, over 60 simulated days. `planner/brand.toml` is its configuration.
//!
//! `cargo bench --bench planner -- [SEED] [DAYS] [MAX_WINDOW_DAYS] [equal]`. The rows are those of the sandbox, which restates them as
//! time goes by; the calls take effect at once. Each strategy looks once an hour and has the same budget. The largest program has
//! 100 actions on an average day, the second half as many, the third a third and so on; with `equal` each has 40.

#![expect(clippy::unwrap_used, reason = "a measurement stops at the first thing that goes wrong")]

#[path = "planner/brand.rs"]
mod brand;
#[path = "planner/mirror.rs"]
mod mirror;
#[path = "planner/ours.rs"]
mod ours;
#[path = "planner/score.rs"]
mod score;
#[path = "planner/simple.rs"]
mod simple;
#[path = "planner/truth.rs"]
mod truth;

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};

use brand::Brand;
use impact_mirror::sandbox::ProgramSizes;
use mirror::Mirror;
use ours::Ours;
use score::Score;
use simple::{LookBack, first_come_first_served};
use truth::Truth;

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u32>().ok());
    let seed = numbers.next().unwrap_or(1);
    let days = numbers.next().unwrap_or(60);
    let max_window_days = numbers.next().unwrap_or(31);
    let sizes =
        if std::env::args().any(|argument| argument == "equal") { ProgramSizes::Equal } else { ProgramSizes::Ranked };
    let begun = Instant::now();
    let brand = Brand::new(seed.into(), days.into(), max_window_days, sizes).await;
    let truth = Truth::new(&brand);
    println!(
        "seed {seed}, {days} days, windows of up to {max_window_days} days, sizes of programs {sizes:?}; the truth took {:.0} s\n",
        begun.elapsed().as_secs_f64()
    );

    let mut ours = Ours::new(&brand);
    let mut look_back = LookBack::default();
    let scores = std::thread::scope(|scope| {
        let served = scope.spawn(|| run(&brand, &truth, first_come_first_served));
        let looked = scope.spawn(|| run(&brand, &truth, |mirror, now| look_back.step(mirror, now)));
        let planned = run(&brand, &truth, |mirror, now| ours.step(mirror, now));
        [
            ("impact-mirror", planned),
            ("first come, first served", served.join().unwrap()),
            ("last 30 days every day", looked.join().unwrap()),
        ]
    });
    score::print(&scores, brand.start);
    score::print_details(&scores);
    println!("\n{:.0} s", begun.elapsed().as_secs_f64());
    brand.sandbox.stop().await;
}

/// Lets a strategy spend its budget, hour by hour.
fn run(brand: &Brand, truth: &Truth<'_>, mut step: impl FnMut(&mut Mirror<'_>, DateTime<Utc>)) -> Score {
    let mut mirror = Mirror::new(brand, truth);
    let mut now = brand.start;
    while now < brand.end {
        step(&mut mirror, now);
        mirror.look(now);
        now += TimeDelta::hours(1);
    }
    mirror.finish()
}
