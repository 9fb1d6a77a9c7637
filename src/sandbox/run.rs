//! Runs jobs: QUEUED, RUNNING, then a file on disk and COMPLETED, or one of the ends that a fault has ordered.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::data::request::DataRequest;
use super::data::{self, table::Dialect};
use super::fault::FaultKind;
use super::job::{Job, JobStatus, ResultFile};
use super::postback;
use super::world::World;

/// Tries before an ERROR becomes FAILED, and the pause between them.
const TRIES: u32 = 5;
const PAUSE: TimeDelta = TimeDelta::minutes(15);

/// Starts the current run of a job; `fault` says how it ends.
pub fn start(world: &Arc<World>, id: &str, fault: Option<FaultKind>) {
    let (owned, id) = (Arc::clone(world), id.to_owned());
    world.tasks.spawn(async move {
        let stop = owned.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = run(&owned, &id, fault) => {}
        }
    });
}

async fn run(world: &Arc<World>, id: &str, fault: Option<FaultKind>) {
    let Some((sid, number)) = world.jobs().get(id).map(|job| (job.sid.clone(), job.runs)) else { return };
    let queue = world.queue(&sid);
    let mut fault = fault;
    for attempt in 1..=TRIES {
        // A job that never ends would keep all others waiting, so it does not take a place in line.
        let waits = world.is("queue", "serial") && fault != Some(FaultKind::JobNeverEnds);
        let place = if waits { queue.acquire().await.ok() } else { None };
        tokio::time::sleep(world.options.job_duration / 4).await;
        change(world, id, number, |job, now| {
            job.status = JobStatus::Running;
            job.started_at = Some(now);
            job.progress_at = Some(now);
            (job.records, job.percent) = (0, 0);
        });
        let end = work(world, id, number, fault).await;
        drop(place);
        match end {
            End::Unsettled => return,
            End::Final => break,
            End::TryAgain if attempt == TRIES => {
                finish(world, id, number, JobStatus::Failed, "Job failed after 5 attempts.");
            }
            End::TryAgain => {
                let again_at = world.clock.now() + PAUSE;
                world.clock.sleep_until(again_at).await;
                // A Replay in the meantime has taken over.
                if world.jobs().get(id).is_none_or(|job| job.runs != number) {
                    return;
                }
                fault = fault.filter(|fault| *fault != FaultKind::JobErrorThenOk);
            }
        }
    }
    postback::send(world, id).await;
}

/// How a try ended.
enum End {
    /// It has not.
    Unsettled,
    /// Nothing more will happen by itself.
    Final,
    /// The job is in ERROR and will be tried again.
    TryAgain,
}

async fn work(world: &Arc<World>, id: &str, number: u32, fault: Option<FaultKind>) -> End {
    let left = world.options.job_duration.mul_f32(0.75);
    match fault {
        Some(FaultKind::JobNeverEnds) => {
            change(world, id, number, |job, _| job.percent = 42);
            return End::Unsettled;
        }
        Some(FaultKind::JobFails) => {
            tokio::time::sleep(left).await;
            finish(world, id, number, JobStatus::Failed, "Job failed after 5 attempts.");
            return End::Final;
        }
        Some(FaultKind::JobCancelled) => {
            tokio::time::sleep(left).await;
            finish(world, id, number, JobStatus::Cancelled, "Job was cancelled by an administrator.");
            return End::Final;
        }
        Some(FaultKind::JobErrorThenOk) => {
            tokio::time::sleep(left).await;
            return error(world, id, number);
        }
        _ => {}
    }
    let Some(order) = Order::of(world, id, number) else { return End::Unsettled };
    let Ok(Ok(rows)) = tokio::task::spawn_blocking(move || order.carry_out()).await else {
        return error(world, id, number);
    };
    for step in 1..4 {
        tokio::time::sleep(left / 4).await;
        change(world, id, number, |job, now| {
            (job.records, job.percent) = (rows * u64::from(step) / 4, step * 25);
            job.progress_at = Some(now);
        });
    }
    tokio::time::sleep(left / 4).await;
    complete(world, id, number, rows, fault == Some(FaultKind::ExpireResult));
    End::Final
}

fn error(world: &World, id: &str, number: u32) -> End {
    finish(world, id, number, JobStatus::Error, "An error occurred while running the report.");
    if world.is("error_status", "terminal") { End::Final } else { End::TryAgain }
}

/// Changes a job, unless it has been started anew since.
fn change(world: &World, id: &str, number: u32, change: impl FnOnce(&mut Job, DateTime<Utc>)) {
    let now = world.clock.now();
    if let Some(job) = world.jobs().get_mut(id).filter(|job| job.runs == number) {
        change(job, now);
    }
}

fn finish(world: &World, id: &str, number: u32, status: JobStatus, message: &str) {
    change(world, id, number, |job, now| {
        job.status = status;
        message.clone_into(&mut job.message);
        job.progress_at = Some(now);
        let at = Some(later(now, job.last_end()));
        if status == JobStatus::Cancelled {
            job.cancelled_at = at;
        } else {
            job.failed_at = at;
        }
    });
}

fn complete(world: &World, id: &str, number: u32, rows: u64, expired: bool) {
    let (path, gzip) = (world.result_path(id, number), world.is("csv_dialect", "gzip"));
    change(world, id, number, |job, now| {
        job.status = JobStatus::Completed;
        "Job processing completed successfully.".clone_into(&mut job.message);
        (job.records, job.percent) = (rows, 100);
        job.completed_at = Some(later(now, job.last_end()));
        job.progress_at = job.completed_at;
        job.expired = expired;
        let file = ResultFile { path, run: number, format: job.ask.format, gzip };
        if let Some(old) = job.file.replace(file) {
            let _ = std::fs::remove_file(old.path);
        }
    });
}

/// The time of an end: always another than that of the last one, good or bad, which is how a client tells the two apart.
fn later(now: DateTime<Utc>, last: Option<DateTime<Utc>>) -> DateTime<Utc> {
    last.map_or(now, |last| now.max(last + TimeDelta::seconds(1)))
}

/// A file to be written.
struct Order {
    request: DataRequest,
    dialect: Dialect,
    path: PathBuf,
    gzip: bool,
}

impl Order {
    fn of(world: &World, id: &str, number: u32) -> Option<Self> {
        let now = world.clock.now();
        let (sid, ask) = world.jobs().get(id).map(|job| (job.sid.clone(), job.ask.clone()))?;
        Some(Self {
            request: world.data_request(world.account(&sid)?, &ask, now),
            dialect: world.dialect(ask.format, now),
            path: world.result_path(id, number),
            gzip: world.is("csv_dialect", "gzip"),
        })
    }

    fn carry_out(&self) -> std::io::Result<u64> {
        let file = BufWriter::new(File::create(&self.path)?);
        if self.gzip {
            let out = GzEncoder::new(file, Compression::fast());
            let (out, rows) = data::render(&self.request, self.dialect, out)?;
            out.finish()?.flush()?;
            Ok(rows)
        } else {
            let (mut out, rows) = data::render(&self.request, self.dialect, file)?;
            out.flush()?;
            Ok(rows)
        }
    }
}
