//! The endpoints that are the sandbox's own: pushing the clock, ordering faults, asking what was called and what is true.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::body::Body;
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use chrono::NaiveDate;
use serde_json::{Value, json};

use super::clock::parse_span;
use super::fault::{Fault, FaultKind};
use super::options::Persona;
use super::params::Params;
use super::world::World;

/// `GET /`: what this is.
pub fn help(world: &World) -> Response<Body> {
    let mut text = format!(
        "A local simulator of impact.com's REST API. It holds made-up data only.\n\nIts clock shows {}.\n\nAccounts:\n",
        world.clock.now()
    );
    for account in &world.options.accounts {
        let programs: Vec<String> = account.programs.iter().map(|(id, _)| id.to_string()).collect();
        let _ = writeln!(
            text,
            "  /{}/{}  token {}  zone {}  programs {}",
            account.persona.segment(),
            account.sid,
            account.token,
            account.time_zone,
            programs.join(", ")
        );
    }
    let _ = writeln!(
        text,
        "\nFaults:\n  on: submit, poll, list, download, storage, replay, any\n  kind: {}",
        FaultKind::NAMES.join(", ")
    );
    text.push_str(
        "\nControl:\n  \
         POST /_sandbox/advance?by=1d|6h|30m|90s\n  \
         POST /_sandbox/fault            {\"on\":\"download\",\"kind\":\"truncate\",\"times\":1,\"skip\":0}\n  \
         POST /_sandbox/behaviour?set=NAME=VALUE\n  \
         GET  /_sandbox/calls\n  \
         GET  /_sandbox/jobs\n  \
         GET  /_sandbox/truth?sid=&report=HANDLE|clicks&program=&from=&to=\n\n\
         Behaviours in force:\n",
    );
    for line in world.behaviours().to_string().lines() {
        let _ = writeln!(text, "  {line}");
    }
    respond(StatusCode::OK, "text/plain; charset=utf-8", text)
}

/// Everything below `/_sandbox/`.
pub fn handle(world: &World, method: &Method, what: &str, params: &Params, body: &[u8]) -> Response<Body> {
    let answer = match (method.as_str(), what) {
        ("POST", "advance") => advance(world, params),
        ("POST", "fault") => fault(world, body),
        ("POST", "behaviour") => behaviour(world, params),
        ("GET", "calls") => Ok(calls(world)),
        ("GET", "jobs") => Ok(jobs(world)),
        ("GET", "truth") => match truth(world, params) {
            Ok(csv) => return respond(StatusCode::OK, "text/csv", csv),
            Err(message) => Err(message),
        },
        _ => {
            return respond(StatusCode::NOT_FOUND, "text/plain", "the sandbox has no such control; GET / lists them\n");
        }
    };
    match answer {
        Ok(value) => respond(StatusCode::OK, "application/json", value.to_string()),
        Err(message) => respond(StatusCode::BAD_REQUEST, "text/plain", message + "\n"),
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn advance(world: &World, params: &Params) -> Result<Value, String> {
    let by = params.get("by").unwrap_or_default();
    let span = parse_span(by).ok_or_else(|| format!("by is {by:?}; it must be a span such as 1d, 6h, 30m or 90s"))?;
    world.clock.advance(span);
    Ok(json!({"now": world.clock.now()}))
}

fn fault(world: &World, body: &[u8]) -> Result<Value, String> {
    let fault: Fault = serde_json::from_slice(body).map_err(|error| format!("not a fault: {error}"))?;
    world.faults().add(fault);
    Ok(json!({"ordered": fault}))
}

fn behaviour(world: &World, params: &Params) -> Result<Value, String> {
    let setting = params.get("set").unwrap_or_default();
    world.behaviours().set(setting).map_err(|error| error.to_string())?;
    Ok(json!({"set": setting}))
}

fn calls(world: &World) -> Value {
    let calls = world.calls();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for call in calls.iter() {
        *counts.entry(call.kind).or_default() += 1;
    }
    json!({"counts": counts, "calls": calls.as_slice()})
}

fn jobs(world: &World) -> Value {
    let behaviours = world.behaviours().clone();
    let jobs: Vec<Value> = world
        .jobs()
        .iter()
        .map(|job| {
            let persona = world.account(&job.sid).map_or(Persona::Brand, |account| account.persona);
            job.to_json(persona, &behaviours)
        })
        .collect();
    json!({"jobs": jobs})
}

fn truth(world: &World, params: &Params) -> Result<Vec<u8>, String> {
    let day = |name: &str| {
        let text = params.get(name).unwrap_or_default();
        text.parse::<NaiveDate>().map_err(|_| format!("{name} is {text:?}; it must be a day such as 2026-01-31"))
    };
    let text = |name: &str| params.get(name).unwrap_or_default();
    world.truth(world.clock.now(), text("sid"), text("report"), text("program"), (day("from")?, day("to")?), params)
}
