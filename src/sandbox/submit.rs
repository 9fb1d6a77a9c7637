//! ReportExport and ClickExport: a new job, or the job that an identical submission led to before.

use std::sync::Arc;

use axum::http::StatusCode;
use chrono::{NaiveDate, TimeDelta};
use serde_json::json;

use super::catalogue;
use super::data::dice::Dice;
use super::data::request::{Bound, Feed, Statuses, Toggles};
use super::data::zone::day_of;
use super::envelope::{Refusal, Reply};
use super::fault::{Point, Stage};
use super::job::{Ask, Job, JobKind, JobStatus};
use super::options::{Account, Persona};
use super::params::Params;
use super::run;
use super::world::{World, statuses, toggles};

/// The last day that no clicks can be exported for.
const NO_CLICKS_UNTIL: NaiveDate = NaiveDate::from_ymd_opt(2024, 4, 9).expect("a date of the calendar");

/// What a submission was answered with.
#[derive(Debug)]
pub struct Submitted {
    /// The reply.
    pub reply: Reply,
    /// Whether the job was there already.
    pub duplicate: bool,
}

/// Schedules a report.
pub fn report(world: &Arc<World>, account: &Account, handle: &str, params: &Params, query: &str) -> Submitted {
    let ask = ask_for_report(world, account, handle, params);
    let key = format!(
        "{}|{}|{}",
        account.sid,
        handle.to_lowercase(),
        key_of(world, params, query, &[("ResultFormat", "CSV")])
    );
    submit(world, account, JobKind::ApiReport, ask, key)
}

/// Schedules a day of clicks.
pub fn clicks(world: &Arc<World>, account: &Account, program: Option<&str>, params: &Params, query: &str) -> Submitted {
    let today = day_of(account.time_zone, world.clock.now()).to_string();
    let ask = ask_for_clicks(account, program, params, &today);
    let defaults = [("ResultFormat", "CSV"), ("Date", today.as_str())];
    let key =
        format!("{}|clicks|{}|{}", account.sid, program.unwrap_or_default(), key_of(world, params, query, &defaults));
    submit(world, account, JobKind::ClickExport, ask, key)
}

fn key_of(world: &World, params: &Params, query: &str, defaults: &[(&str, &str)]) -> String {
    if world.is("duplicate_key", "raw") { query.to_owned() } else { params.meaning(defaults) }
}

fn submit(world: &Arc<World>, account: &Account, kind: JobKind, ask: Result<Ask, Refusal>, key: String) -> Submitted {
    let ask = match ask {
        Ok(ask) => ask,
        Err(refusal) => return Submitted { reply: refused(world, account, refusal), duplicate: false },
    };
    let now = world.clock.now();
    let behaviours = world.behaviours().clone();
    let mut jobs = world.jobs();
    let remembered = jobs.of_request(&key).filter(|(job, at)| {
        let fresh = match behaviours.get("duplicate_memory") {
            "90d" => now - *at <= TimeDelta::days(90),
            "day" => day_of(account.time_zone, now) == day_of(account.time_zone, *at),
            "none" => false,
            _ => true,
        };
        let failed = matches!(job.status, JobStatus::Failed | JobStatus::Cancelled);
        fresh && !(failed && behaviours.is("duplicate_of_failed", "new_job"))
    });
    if let Some((job, _)) = remembered {
        let status = if behaviours.is("duplicate_status", "queued") { JobStatus::Queued } else { job.status };
        return Submitted { reply: accepted(account.persona, job, status), duplicate: true };
    }
    let fault = world.fault(Some(Point::Submit), Stage::JobStart);
    let job = Job::new(new_id(world.options.seed, jobs.len()), &account.sid, kind, program_of(&ask), ask, now);
    let reply = accepted(account.persona, &job, JobStatus::Queued);
    let id = job.id.clone();
    jobs.remember(key, id.clone(), now);
    jobs.add(job);
    drop(jobs);
    run::start(world, &id, fault);
    Submitted { reply, duplicate: false }
}

fn program_of(ask: &Ask) -> String {
    match ask.programs.as_slice() {
        [program] => program.to_string(),
        _ => String::new(),
    }
}

/// The id of the job that is made as number `number`.
pub fn new_id(seed: u64, number: usize) -> String {
    let mut dice = Dice::new(&[seed, 0x6A6F_6273, number as u64]);
    let (high, low) = (dice.next(), dice.next());
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        high >> 32,
        high >> 16 & 0xFFFF,
        high & 0xFFF,
        low >> 48 & 0xFFF,
        low & 0xFFFF_FFFF_FFFF
    )
}

fn accepted(persona: Persona, job: &Job, status: JobStatus) -> Reply {
    let uri = job.uri(persona);
    let mut value = json!({
        "Status": status.word(),
        "QueuedUri": uri,
        "ResultUri": format!("{uri}/Download"),
    });
    if persona != Persona::Brand || job.kind == JobKind::ClickExport {
        value["ReplayUri"] = json!(format!("{uri}/Replay"));
    }
    Reply::ok(None, value)
}

/// Agency answers what is wrong with an export in a 200; the others may.
fn refused(world: &World, account: &Account, refusal: Refusal) -> Reply {
    let unknown_report = refusal.status == StatusCode::NOT_FOUND && account.persona == Persona::Brand;
    let in_200 = account.persona == Persona::Agency
        || world.is("error_in_200", "all")
        || (unknown_report && world.is("unknown_report", "error_in_200"));
    if in_200 {
        let message = match refusal.field {
            Some(field) => format!("{field}: {}", refusal.message),
            None => refusal.message,
        };
        return Reply::error(StatusCode::OK, &message);
    }
    refusal.into()
}

fn ask_for_report(world: &World, account: &Account, handle: &str, params: &Params) -> Result<Ask, Refusal> {
    let report = catalogue::find(account.persona, handle)
        .ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, format!("Not permitted to run report {handle}")))?;
    let from = params.bound("START_DATE", account.time_zone)?;
    let from = from.ok_or_else(|| Refusal::parameter("START_DATE", "Required"))?;
    let mut to = params.bound("END_DATE", account.time_zone)?;
    if to.is_none() && account.persona == Persona::Partner {
        return Err(Refusal::parameter("END_DATE", "Required"));
    }
    if to.is_none() && world.is("open_window", "fixed") {
        to = Some(Bound::Instant(world.clock.now()));
    }
    let day = |bound| match bound {
        Bound::Day(day) => day,
        Bound::Instant(at) => day_of(account.time_zone, at),
    };
    let last = to.map_or_else(|| day_of(account.time_zone, world.clock.now()), day);
    if last < day(from) {
        return Err(Refusal::parameter("END_DATE", "Before START_DATE"));
    }
    let days = (last - day(from)).num_days() + 1;
    let longest = world.behaviours().get("max_window").trim_end_matches('d').parse().unwrap_or(i64::MAX);
    if days > longest {
        return Err(Refusal::parameter("END_DATE", &format!("The date range may not exceed {longest} days")));
    }
    Ok(Ask {
        feed: report.feed,
        programs: programs(account, params.all("SUBAID").filter(|program| *program != "0"), "SUBAID")?,
        from,
        to,
        statuses: statuses(params),
        toggles: toggles(params),
        format: params.format()?,
    })
}

fn ask_for_clicks(account: &Account, program: Option<&str>, params: &Params, today: &str) -> Result<Ask, Refusal> {
    let not_found = || Refusal::new(StatusCode::NOT_FOUND, "The requested resource was not found");
    let programs = match program {
        Some(program) => programs(account, [program].into_iter(), "ProgramId").map_err(|_| not_found())?,
        None => programs(account, params.all("ProgramId"), "ProgramId")?,
    };
    let date: NaiveDate = params
        .get("Date")
        .unwrap_or(today)
        .parse()
        .map_err(|_| Refusal::parameter("Date", "Not a valid date (yyyy-MM-dd)"))?;
    if date <= NO_CLICKS_UNTIL {
        return Err(Refusal::parameter("Date", "Must be after 2024-04-09"));
    }
    Ok(Ask {
        feed: Feed::Clicks,
        programs,
        from: Bound::Day(date),
        to: Some(Bound::Day(date)),
        statuses: Statuses::default(),
        toggles: Toggles::default(),
        format: params.format()?,
    })
}

fn programs<'a>(account: &Account, asked: impl Iterator<Item = &'a str>, field: &str) -> Result<Vec<u64>, Refusal> {
    asked
        .map(|program| {
            let id = program.parse::<u64>().map_err(|_| Refusal::parameter(field, "Not a numeric value"))?;
            if account.programs.iter().any(|(known, _)| *known == id) {
                Ok(id)
            } else {
                Err(Refusal::parameter(field, "Not a program of this account"))
            }
        })
        .collect()
}
