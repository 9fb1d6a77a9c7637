//! `jobs`: one job at a time.

mod story;

use clap::Subcommand;
use serde_json::json;

use super::table::Table;
use super::{Exit, Misuse, actor};
use crate::app::Database;
use crate::config::Settings;
use crate::figures::thousands;
use crate::job::{JobId, JobState};
use crate::store;
use crate::store::by_hand::{self, Action};
use crate::store::status::{self, JobFilter, JobLine};
use crate::telemetry::Form;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// The newest jobs
    List {
        /// Only jobs of this export
        #[arg(long, value_name = "NAME")]
        export: Option<String>,
        /// Only jobs in this state; may be repeated
        #[arg(long = "state", value_name = "STATE")]
        states: Vec<JobState>,
        /// Only jobs that are not at their end
        #[arg(long, conflicts_with = "states")]
        open: bool,
        /// At most so many
        #[arg(long, default_value_t = 30, value_name = "N")]
        limit: u32,
    },
    /// One job's whole story
    Show {
        /// Its id
        id: i64,
    },
    /// Make the days of a failed job due at once
    Retry {
        /// Its id
        id: i64,
    },
    /// Call a job off; days that are due are planned again
    Cancel {
        /// Its id
        id: i64,
    },
}

pub(super) async fn jobs(
    settings: &Settings,
    database: &Database,
    command: Command,
    form: Form,
) -> anyhow::Result<Exit> {
    let mut conn = database.pool().acquire().await?;
    match command {
        Command::List { export, states, open, limit } => {
            let states = if open { JobState::OPEN.to_vec() } else { states };
            let filter = JobFilter { states, export, id: None, limit: i64::from(limit) };
            let jobs = status::jobs(&mut conn, &filter).await?;
            if let (true, Some(name)) = (jobs.is_empty(), &filter.export) {
                super::export(settings, name)?; // one that was configured once may still have jobs
            }
            match form {
                Form::Json => say!("{:#}", json!(jobs)),
                Form::Text if jobs.is_empty() => say!("No such jobs."),
                Form::Text => say_as_is!("{}", jobs_table(&jobs)),
            }
            Ok(Exit::Done)
        }
        Command::Show { id } => {
            let job = status::jobs(&mut conn, &of(id)).await?.pop().ok_or_else(|| no_job(id))?;
            let events = status::job_events(&mut conn, JobId(id)).await?;
            let story = store::story::read(&mut conn, JobId(id)).await?;
            match form {
                Form::Json => say!("{:#}", json!({"job": job, "events": events, "story": story})),
                Form::Text => story::print(&job, &events, &story),
            }
            Ok(Exit::Done)
        }
        Command::Retry { id } => {
            if by_hand::act(&mut conn, &actor(), &Action::Retry(JobId(id))).await?.changed {
                say!(
                    "The failed days of job {id} are due now; a running daemon picks them up, else `impact-mirror sync`."
                );
                Ok(Exit::Done)
            } else {
                let job = status::jobs(&mut conn, &of(id)).await?.pop();
                let next = job
                    .and_then(|job| job.mend())
                    .map_or_else(|| "`impact-mirror status` lists failures".to_owned(), |mend| mend.line());
                Err(Misuse(format!("no day says that job {id} failed; {next}")).into())
            }
        }
        Command::Cancel { id } => {
            let outcome = by_hand::act(&mut conn, &actor(), &Action::Cancel(JobId(id))).await?;
            if outcome.changed {
                say!("{}", outcome.words);
                Ok(Exit::Done)
            } else {
                Err(no_job(id).into())
            }
        }
    }
}

fn of(id: i64) -> JobFilter {
    JobFilter { id: Some(JobId(id)), limit: 1, ..JobFilter::default() }
}

fn no_job(id: i64) -> Misuse {
    Misuse(format!("there is no such job {id}, or it is at its end; `impact-mirror jobs list` shows the newest"))
}

pub(super) fn jobs_table(jobs: &[JobLine]) -> Table {
    let mut table = Table::new(&[">id", "export", "account", "program", "days", "reason", "state", "remote", ">rows"]);
    for job in jobs {
        table.row(vec![
            job.id.to_string(),
            job.export.clone(),
            job.account.clone(),
            if job.program.is_empty() { "-".to_owned() } else { job.program.clone() },
            days(job),
            job.reason.clone(),
            job.state.clone(),
            remote(job),
            job.rows_read.map_or_else(|| "-".to_owned(), thousands),
        ]);
    }
    table
}

/// How far impact.com says that it is.
pub(super) fn remote(job: &JobLine) -> String {
    match (&job.remote_status, job.remote_percent) {
        (Some(status), Some(percent)) if job.finished_at.is_none() => format!("{status} {percent:.0}%"),
        (Some(status), _) => status.clone(),
        (None, _) => "-".to_owned(),
    }
}

pub(super) fn days(job: &JobLine) -> String {
    if job.from_day == job.to_day { job.from_day.to_string() } else { format!("{}..{}", job.from_day, job.to_day) }
}
