//! Reading jobs, listing them and running them again.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::behaviour::Behaviours;
use super::data::request::{Bound, Reading, Window};
use super::envelope::{Payload, Refusal, Reply};
use super::fault::{Point, Stage};
use super::job::{Job, JobStatus};
use super::options::{Account, Persona};
use super::params::Params;
use super::run;
use super::submit::new_id;
use super::world::World;

const PAGE_SIZE: usize = 100;

/// A job that the account may see.
pub fn find(world: &World, account: &Account, id: &str) -> Result<Job, Refusal> {
    let job = world.jobs().get(id).cloned();
    match job {
        Some(job) if job.sid == account.sid => Ok(job),
        Some(_) if world.is("foreign_job", "403") => Err(Refusal::new(StatusCode::FORBIDDEN, "Access Denied")),
        Some(_) | None => Err(not_found()),
    }
}

fn not_found() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "The requested resource was not found")
}

/// One job; for a while after a Replay perhaps as it was before.
pub fn get(world: &World, account: &Account, id: &str) -> Result<Reply, Refusal> {
    find(world, account, id)?;
    let behaviours = world.behaviours().clone();
    let mut jobs = world.jobs();
    let Some(job) = jobs.get_mut(id) else { return Err(not_found()) };
    let value = match job.stale.take() {
        Some((reads, old)) => {
            job.stale = (reads > 1).then(|| (reads - 1, old.clone()));
            old
        }
        None => job.to_json(account.persona, &behaviours),
    };
    Ok(Reply::ok(Some("Job"), value))
}

/// The jobs of the account, the newest first.
pub fn list(world: &World, account: &Account, params: &Params, path: &str) -> Result<Reply, Refusal> {
    let behaviours = world.behaviours().clone();
    let window = created_window(account, params, world.clock.now())?;
    let rows: Vec<Value> = world
        .jobs()
        .iter()
        .rev()
        .filter(|job| job.sid == account.sid && window.contains(job.created_at))
        .map(|job| match &job.stale {
            Some((_, old)) => old.clone(),
            None => job.to_json(account.persona, &behaviours),
        })
        .collect();
    let page = params.number("Page", 1).max(1);
    let shown = match behaviours.get("job_list") {
        "paged" => (page, params.number("PageSize", PAGE_SIZE).max(1)),
        "pages_of_two" => (page, 2),
        _ => (1, rows.len().max(1)),
    };
    Ok(page_of(account.persona, &behaviours, "Jobs", rows, shown, path, &params.0))
}

/// One page of a list, with the links to the others.
pub fn page_of(
    persona: Persona,
    behaviours: &Behaviours,
    list: &'static str,
    rows: Vec<Value>,
    (page, size): (usize, usize),
    path: &str,
    query: &[(String, String)],
) -> Reply {
    let (total, pages) = (rows.len(), rows.len().div_ceil(size).max(1));
    let start = (page - 1).saturating_mul(size).min(total);
    let shown: Vec<Value> = rows.into_iter().skip(start).take(size).collect();
    if persona == Persona::Agency && behaviours.is("agency_lists", "bare") {
        return Reply { status: StatusCode::OK, body: Payload::Bare { list, rows: shown } };
    }
    let link = |page: usize| {
        let mut uri = format!("{path}?Page={page}&PageSize={size}");
        for (name, value) in query {
            if !name.eq_ignore_ascii_case("Page") && !name.eq_ignore_ascii_case("PageSize") {
                let _ = write!(uri, "&{name}={}", value.replace(':', "%3A").replace('+', "%2B"));
            }
        }
        uri
    };
    let end = start + shown.len();
    let value = json!({
        "@page": page.to_string(),
        "@numpages": pages.to_string(),
        "@pagesize": size.to_string(),
        "@total": total.to_string(),
        "@start": start.to_string(),
        "@end": end.saturating_sub(1).to_string(),
        "@uri": link(page),
        "@firstpageuri": link(1),
        "@previouspageuri": if page > 1 { link(page - 1) } else { String::new() },
        "@nextpageuri": if page < pages { link(page + 1) } else { String::new() },
        "@lastpageuri": link(pages),
        list: shown,
    });
    Reply::ok(None, value)
}

/// The dates of making that a listing is narrowed to; both ends belong to it.
fn created_window(account: &Account, params: &Params, now: DateTime<Utc>) -> Result<Window, Refusal> {
    let reading = Reading { zone: account.time_zone, end_inclusive: true, truncate_times: false };
    let from = params.bound("CreatedAfter", account.time_zone)?;
    let to = params.bound("CreatedBefore", account.time_zone)?;
    Ok(Window::read(from.unwrap_or(Bound::Instant(DateTime::UNIX_EPOCH)), to, reading, now))
}

fn active() -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, "Job is queued or running and cannot be replayed.")
}

/// Runs a job again: the same job, or a new one with the same parameters.
pub fn replay(world: &Arc<World>, account: &Account, id: &str) -> Result<Reply, Refusal> {
    let old = find(world, account, id)?;
    let behaviours = world.behaviours().clone();
    if old.status.is_active() {
        return Err(active());
    }
    let agency = account.persona == Persona::Agency;
    let new_job = match behaviours.get("replay_id") {
        "same" => false,
        "new" => true,
        "invert" => !agency,
        _ => agency,
    };
    let fault = world.fault(Some(Point::Replay), Stage::JobStart);
    let now = world.clock.now();
    let mut jobs = world.jobs();
    let id = if new_job {
        let new = Job::new(new_id(world.options.seed, jobs.len()), &old.sid, old.kind, old.program, old.ask, now);
        let id = new.id.clone();
        jobs.succeed(&old.id, &id);
        jobs.add(new);
        id
    } else {
        old.id.clone()
    };
    let Some(job) = jobs.get_mut(&id) else { return Err(not_found()) };
    if !new_job {
        // Somebody else may have been faster since the job was looked up.
        if job.status.is_active() {
            return Err(active());
        }
        let stale_reads: u32 = behaviours.get("stale_reads_after_replay").parse().unwrap_or_default();
        job.stale = (stale_reads > 0).then(|| (stale_reads, job.to_json(account.persona, &behaviours)));
        job.status = JobStatus::Queued;
        job.message = String::new();
        (job.records, job.percent) = (0, 0);
        job.runs += 1;
    }
    let value = job.to_json(account.persona, &behaviours);
    drop(jobs);
    run::start(world, &id, fault);
    Ok(Reply::ok(Some("Job"), value))
}
