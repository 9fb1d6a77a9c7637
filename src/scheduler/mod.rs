//! When things are looked at: each export's schedule in its account's zone, and the planner that its ticks wake.

mod cron;
mod planner;

pub use cron::{Cron, catch_up, run};
pub use planner::{Outlook, Pass, Planner, Waiting};
