//! The door: every request to the API or the storage comes in here, meets its fault, its limit and its endpoint, and is recorded.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, Method, Response, StatusCode, header};

use chrono::TimeDelta;

use super::admin;
use super::auth;
use super::connection::Line;
use super::envelope::{Payload, Refusal, Reply};
use super::fault::{FaultKind, Point, Stage};
use super::limits;
use super::options::Account;
use super::params::Params;
use super::quota::{Bucket, Standing};
use super::route::{Route, persona_of};
use super::world::{Call, World};
use super::{directory, download, jobs, submit};

/// How long a 429 that was ordered says it will last.
const THROTTLE: TimeDelta = TimeDelta::seconds(1);

/// Calls that are remembered before the older half is forgotten.
const CALLS_KEPT: usize = 100_000;

const BODY_BYTES_MAX: usize = 64 * 1024;

/// A request, taken apart.
struct Incoming {
    method: Method,
    path: String,
    query: String,
    params: Params,
    authorization: Option<String>,
    origin: String,
    wants_json: bool,
}

impl Incoming {
    fn of(world: &World, request: &Request) -> Self {
        let text = |name: header::HeaderName| {
            request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let query = request.uri().query().unwrap_or_default().to_owned();
        let params = Params::of_query(&query);
        let tunnelled = params.get("_method").and_then(|method| method.to_uppercase().parse().ok());
        let is_post = request.method() == Method::POST;
        let (path, has_json_suffix) = match request.uri().path().strip_suffix(".json") {
            Some(path) => (path, true),
            None => (request.uri().path(), false),
        };
        let host = text(header::HOST).unwrap_or_else(|| world.addr.to_string());
        Self {
            method: tunnelled.filter(|_| is_post).unwrap_or_else(|| request.method().clone()),
            path: path.to_owned(),
            query,
            params,
            authorization: text(header::AUTHORIZATION),
            origin: format!("http://{host}"),
            wants_json: has_json_suffix || text(header::ACCEPT).is_some_and(|accept| accept.contains("json")),
        }
    }
}

/// What a request came to, before it is written.
struct Outcome {
    reply: Reply,
    exhausted: Option<Standing>,
}

impl Outcome {
    fn of(reply: impl Into<Reply>) -> Self {
        Self { reply: reply.into(), exhausted: None }
    }
}

/// Answers a request.
pub async fn handle(
    State(world): State<Arc<World>>,
    ConnectInfo(line): ConnectInfo<Line>,
    request: Request,
) -> Response<Body> {
    let incoming = Incoming::of(&world, &request);
    let path = incoming.path.clone();
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    match segments.as_slice() {
        [] => admin::help(&world),
        ["_sandbox", what] => {
            let body = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX).await.unwrap_or_default();
            admin::handle(&world, &incoming.method, what, &incoming.params, &body)
        }
        ["storage", name] => with_date(&world, from_storage(&world, &line, &incoming, name).await),
        segments => with_date(&world, from_api(&world, &line, &incoming, segments).await),
    }
}

async fn from_storage(world: &Arc<World>, line: &Line, incoming: &Incoming, name: &str) -> Response<Body> {
    let fault = world.fault(Some(Point::Storage), Stage::Arrival);
    let reply = match before_work(world, line, fault, None, Point::Storage).await {
        Some(outcome) => outcome.reply,
        None => download::storage(world, name, &incoming.params, incoming.authorization.is_some()).await,
    };
    let reply = stall_file(reply, fault);
    if fault == Some(FaultKind::ReplyLost) {
        line.cut();
    }
    record(world, incoming, None, "storage", fault, reply.status);
    reply.into_response(false)
}

async fn from_api(world: &Arc<World>, line: &Line, incoming: &Incoming, segments: &[&str]) -> Response<Body> {
    let found = match segments {
        [persona, sid, resource @ ..] => persona_of(persona).map(|persona| (persona, *sid, resource)),
        _ => None,
    };
    let Some((persona, sid, resource)) = found else {
        record(world, incoming, None, "unknown", None, StatusCode::NOT_FOUND);
        return Reply::error(StatusCode::NOT_FOUND, "Not found").into_response(incoming.wants_json);
    };
    let Some(account) = auth::account_of(&world.options.accounts, incoming.authorization.as_deref()) else {
        record(world, incoming, None, "unauthorised", None, StatusCode::UNAUTHORIZED);
        let reply = Reply::error(StatusCode::UNAUTHORIZED, "Authentication failed");
        let mut response = reply.into_response(incoming.wants_json);
        let challenge = HeaderValue::from_static("Basic realm=\"impact.com sandbox\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        return response;
    };
    let route = Route::parse(&incoming.method, persona, resource);
    let point = route.point();
    let fault = world.fault(point, Stage::Arrival);
    let outcome =
        match before_work(world, line, fault, Some((account, route.bucket())), point.unwrap_or(Point::Any)).await {
            Some(outcome) => outcome,
            None if account.sid != sid || account.persona != persona => {
                Outcome::of(Refusal::new(StatusCode::FORBIDDEN, "Access Denied"))
            }
            None => limited(world, account, &route, incoming).await,
        };
    if fault == Some(FaultKind::ReplyLost) {
        line.cut();
    }
    let exhausted = outcome.exhausted;
    let reply = stall_file(failure_body(world, outcome.reply), fault);
    record(world, incoming, Some(account), route.kind(), fault, reply.status);
    let mut response = reply.into_response(incoming.wants_json);
    limits::add_headers(world, account, route.bucket(), exhausted, &mut response);
    response
}

/// What a fault makes of a call before any work is done; nothing where the work goes on.
async fn before_work(
    world: &World,
    line: &Line,
    fault: Option<FaultKind>,
    charged: Option<(&Account, Bucket)>,
    point: Point,
) -> Option<Outcome> {
    const PAGE: &str = "<html><head><title>Error</title></head><body><h1>Something went wrong</h1></body></html>";
    let outcome = match fault? {
        FaultKind::Reset => {
            line.cut();
            Outcome::of(Reply::raw(StatusCode::OK, "text/plain", ""))
        }
        FaultKind::Http500 => Outcome::of(Reply::error(StatusCode::INTERNAL_SERVER_ERROR, "Unknown error")),
        FaultKind::Html502 => Outcome::of(Reply::raw(StatusCode::BAD_GATEWAY, "text/html", PAGE)),
        FaultKind::Html200 => Outcome::of(Reply::raw(StatusCode::OK, "text/html", PAGE)),
        FaultKind::ErrorObject200 => Outcome::of(Reply::error(StatusCode::OK, "Unknown error")),
        FaultKind::Empty200 => Outcome::of(Reply::raw(StatusCode::OK, "text/plain", "")),
        FaultKind::Http401 => Outcome::of(Reply::error(StatusCode::UNAUTHORIZED, "Authentication failed")),
        FaultKind::Http403 => Outcome::of(Reply::error(StatusCode::FORBIDDEN, "Access Denied")),
        FaultKind::Throttle429 => {
            let now = world.clock.now();
            let standing = charged.map(|(account, bucket)| limits::standing(world, account, bucket, now));
            Outcome {
                reply: Reply::error(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests"),
                exhausted: standing.map(|standing| Standing { remaining: 0, resets_at: now + THROTTLE, ..standing }),
            }
        }
        FaultKind::Stall(seconds) if !matches!(point, Point::Storage | Point::Download) => {
            tokio::time::sleep(Duration::try_from_secs_f64(seconds).unwrap_or_default()).await;
            return None;
        }
        _ => return None,
    };
    Some(outcome)
}

/// Charges the call, does it, and gives the charge back where the switches say so.
async fn limited(world: &Arc<World>, account: &Account, route: &Route, incoming: &Incoming) -> Outcome {
    let bucket = match route {
        Route::Replay(id) if world.is("replay_costs", "yes") => replay_bucket(world, id),
        _ => route.bucket(),
    };
    let charge = match limits::charge(world, account, bucket) {
        Ok(charge) => charge,
        Err(standing) => {
            let reply = Reply::error(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests");
            return Outcome { reply, exhausted: Some(standing) };
        }
    };
    let (reply, duplicate) = work(world, account, route, incoming).await;
    let free_duplicate = duplicate && world.is("duplicate_costs", "no");
    let free_rejection = reply.status.is_client_error() && world.is("rejected_costs", "no");
    if free_duplicate || free_rejection {
        limits::refund(world, &charge);
    }
    Outcome::of(reply)
}

/// A Replay counts like the submission that it repeats.
fn replay_bucket(world: &World, id: &str) -> Bucket {
    use super::job::JobKind;
    match world.jobs().get(id).map(|job| job.kind) {
        Some(JobKind::ApiReport) => Bucket::ReportExport,
        Some(JobKind::ClickExport) => Bucket::ClickExport,
        None => Bucket::Requests,
    }
}

async fn work(world: &Arc<World>, account: &Account, route: &Route, incoming: &Incoming) -> (Reply, bool) {
    let (params, query, path) = (&incoming.params, incoming.query.as_str(), incoming.path.as_str());
    let result = match route {
        Route::ReportExport(handle) => {
            let submitted = submit::report(world, account, handle, params, query);
            return (submitted.reply, submitted.duplicate);
        }
        Route::ClickExport(program) => {
            let submitted = submit::clicks(world, account, program.as_deref(), params, query);
            return (submitted.reply, submitted.duplicate);
        }
        Route::Jobs => jobs::list(world, account, params, path),
        Route::Job(id) => jobs::get(world, account, id),
        Route::Download(id) => download::download(world, account, id, params, &incoming.origin).await,
        Route::Replay(id) => jobs::replay(world, account, id),
        Route::Reports => Ok(directory::reports(world, account, params, path)),
        Route::MetaData(id) => directory::meta_data(account, id),
        Route::CompanyInformation => Ok(directory::company(account)),
        Route::Campaigns => Ok(directory::campaigns(world, account, params, path)),
        Route::Advertisers => Ok(directory::advertisers(world, account, params, path)),
        Route::WrongMethod => Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")),
        Route::Unknown => Err(Refusal::new(StatusCode::NOT_FOUND, "The requested resource was not found")),
    };
    (result.unwrap_or_else(Reply::from), false)
}

/// The body of 429 and 5xx, as the switch says.
fn failure_body(world: &World, reply: Reply) -> Reply {
    let fails = reply.status == StatusCode::TOO_MANY_REQUESTS || reply.status.is_server_error();
    if !fails || !matches!(reply.body, Payload::Envelope { .. }) {
        return reply;
    }
    match world.behaviours().get("failure_body") {
        "html" => Reply::raw(reply.status, "text/html", "<html><body><h1>Sorry</h1></body></html>"),
        "empty" => Reply::raw(reply.status, "text/plain", ""),
        "json" => match &reply.body {
            Payload::Envelope { value, .. } => Reply::raw(reply.status, "application/json", value.to_string()),
            _ => reply,
        },
        _ => reply,
    }
}

/// A file that is to stall does so in its middle.
fn stall_file(mut reply: Reply, fault: Option<FaultKind>) -> Reply {
    if let (Payload::File(content), Some(FaultKind::Stall(seconds))) = (&mut reply.body, fault) {
        content.stall_for(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    }
    reply
}

/// The server's own `Date` is that of the sandbox clock, for clients that compare job dates with it. Without any, the
/// server would put its own clock's there.
fn with_date(world: &World, mut response: Response<Body>) -> Response<Body> {
    if world.behaviours().is("date_header", "empty") {
        response.headers_mut().insert(header::DATE, HeaderValue::from_static(""));
        return response;
    }
    let date = world.clock.now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(date) = HeaderValue::from_str(&date) {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

fn record(
    world: &World,
    incoming: &Incoming,
    account: Option<&Account>,
    kind: &'static str,
    fault: Option<FaultKind>,
    status: StatusCode,
) {
    let lost = matches!(fault, Some(FaultKind::Reset | FaultKind::ReplyLost));
    tracing::debug!(kind, status = status.as_u16(), lost, "sandbox answered {kind}");
    let mut calls = world.calls();
    if calls.len() >= CALLS_KEPT {
        calls.drain(..CALLS_KEPT / 2);
    }
    calls.push(Call {
        at: world.clock.now(),
        account: account.map(|account| account.sid.clone()),
        method: incoming.method.to_string(),
        path: incoming.path.clone(),
        query: incoming.query.clone(),
        kind,
        status: (!lost).then_some(status.as_u16()),
    });
}
