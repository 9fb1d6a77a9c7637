//! `sandbox`: the simulator of impact.com on a port.

use std::net::SocketAddr;

use anyhow::Context as _;
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{Exit, Misuse};
use crate::sandbox::{self, Behaviours, ProgramSizes, Sandbox};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// What the data is made from
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// An answer to a question that the real API leaves open, as in replay_id=new; may be repeated; `list` shows all
    #[arg(long = "behaviour", value_name = "NAME=VALUE")]
    behaviours: Vec<String>,
    /// How fast its clock runs: 1 is real time, 60 makes a minute a second
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    clock_speed: f64,
    /// How many milliseconds a job takes
    #[arg(long, default_value_t = 2000, value_name = "MS")]
    job_ms: u64,
    /// Actions per program and day
    #[arg(long, default_value_t = 40, value_name = "N")]
    actions_per_day: u32,
    /// Clicks per program and day
    #[arg(long, default_value_t = 120, value_name = "N")]
    clicks_per_day: u32,
    /// Programs differ in size, as they mostly do: the second has half of the first's actions and clicks, the third a third, …
    #[arg(long)]
    ranked_programs: bool,
    /// Report exports a day
    #[arg(long, default_value_t = 100, value_name = "N")]
    report_exports: u32,
    /// Click exports a day
    #[arg(long, default_value_t = 10, value_name = "N")]
    click_exports: u32,
    /// Other calls an hour
    #[arg(long, default_value_t = 1000, value_name = "N")]
    requests: u32,
}

pub(super) async fn sandbox(options: Options, stop: CancellationToken) -> anyhow::Result<Exit> {
    if options.behaviours.iter().any(|setting| setting == "list") {
        for known in Behaviours::all() {
            say!("{}={}\n    {}", known.name, known.values.join("|"), known.doc);
        }
        return Ok(Exit::Done);
    }
    if !(options.clock_speed >= 0.0 && options.clock_speed.is_finite()) {
        return Err(Misuse("--clock-speed takes a number from 0 on".to_owned()).into());
    }
    let mut behaviours = Behaviours::default();
    for setting in &options.behaviours {
        behaviours.set(setting).map_err(|error| Misuse(error.to_string()))?;
    }
    let sandbox = Sandbox::start(sandbox::Options {
        listen: options.listen,
        seed: options.seed,
        behaviours,
        clock_speed: options.clock_speed,
        job_duration: std::time::Duration::from_millis(options.job_ms),
        actions_per_day: options.actions_per_day,
        clicks_per_day: options.clicks_per_day,
        program_sizes: if options.ranked_programs { ProgramSizes::Ranked } else { ProgramSizes::Equal },
        limits: sandbox::Limits {
            report_export_per_day: options.report_exports,
            click_export_per_day: options.click_exports,
            requests_per_hour: options.requests,
        },
        ..sandbox::Options::default()
    })
    .await
    .with_context(|| format!("cannot listen on {}", options.listen))?;
    say!(
        "A made-up impact.com listens on {}; `curl {}/` tells who may come in.",
        sandbox.base_url(),
        sandbox.base_url()
    );
    say!("In a configuration: base_url = \"{}\"", sandbox.base_url());
    stop.cancelled().await;
    sandbox.stop().await;
    Ok(Exit::Done)
}
