//! Download: a redirect to a signed URL, the bytes themselves, or the job while there is nothing yet; and the storage behind it.

use std::fmt::Write as _;

use axum::http::StatusCode;
use chrono::TimeDelta;
use sha2::{Digest as _, Sha256};

use super::content::Content;
use super::envelope::{Payload, Refusal, Reply};
use super::fault::{Point, Stage};
use super::job::{Job, JobStatus, ResultFile};
use super::jobs;
use super::options::Account;
use super::params::Params;
use super::world::World;

/// Answers Download.
pub async fn download(
    world: &World,
    account: &Account,
    id: &str,
    params: &Params,
    origin: &str,
) -> Result<Reply, Refusal> {
    let job = jobs::find(world, account, id)?;
    let behaviours = world.behaviours().clone();
    let ended_badly = matches!(job.status, JobStatus::Failed | JobStatus::Error | JobStatus::Cancelled);
    let old_file_serves = ended_badly && job.file.is_some() && behaviours.is("failed_replay_file", "kept");
    if job.status != JobStatus::Completed && !old_file_serves {
        let early = behaviours.is("early_download", "202");
        let mut reply = Reply::ok(Some("Job"), job.to_json(account.persona, &behaviours));
        reply.status = if early { StatusCode::ACCEPTED } else { StatusCode::OK };
        return Ok(reply);
    }
    if world.fault(Some(Point::Download), Stage::Result).is_some()
        && let Some(job) = world.jobs().get_mut(id)
    {
        job.expired = true;
    }
    let is_gone = world.jobs().get(id).is_some_and(|job| job.is_expired(&behaviours, world.clock.now()));
    let Some(file) = job.file.as_ref().filter(|_| !is_gone) else {
        let status = match behaviours.get("expired_download") {
            "410" => StatusCode::GONE,
            "403" => StatusCode::FORBIDDEN,
            _ => StatusCode::NOT_FOUND,
        };
        return Err(Refusal::new(status, "The result of this job is no longer available"));
    };
    let in_stream_mode = params.get("Mode").is_some_and(|mode| mode.eq_ignore_ascii_case("stream"));
    if in_stream_mode || behaviours.is("inline_download", "yes") {
        let content = open(world, file, Point::Download).await?;
        let content = if in_stream_mode { content.into_stream() } else { content };
        return Ok(Reply { status: StatusCode::OK, body: Payload::File(Box::new(content)) });
    }
    let life = match behaviours.get("signed_url_life") {
        "1h" => TimeDelta::hours(1),
        "seconds" => TimeDelta::seconds(2),
        _ => TimeDelta::minutes(5),
    };
    let name = object_name(&job, file);
    let expires = (world.clock.now() + life).timestamp();
    let signature = sign(world, &name, expires);
    let target = format!("{origin}/storage/{name}?expires={expires}&signature={signature}");
    Ok(Reply { status: StatusCode::FOUND, body: Payload::Redirect(target) })
}

/// Answers the signed URL, as an object store does: it knows nothing of accounts and refuses a second way of signing in.
pub async fn storage(world: &World, name: &str, params: &Params, has_authorization: bool) -> Reply {
    let refuse = |status: StatusCode, code: &str| {
        let text = format!("<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code></Error>");
        Reply::raw(status, "application/xml", text)
    };
    if has_authorization && world.is("signed_url_auth", "refused") {
        return refuse(StatusCode::BAD_REQUEST, "InvalidArgument");
    }
    let expires: i64 = params.get("expires").and_then(|text| text.parse().ok()).unwrap_or_default();
    if params.get("signature") != Some(sign(world, name, expires).as_str()) {
        return refuse(StatusCode::FORBIDDEN, "SignatureDoesNotMatch");
    }
    if world.clock.now().timestamp() > expires {
        return refuse(StatusCode::FORBIDDEN, "ExpiredToken");
    }
    let file = world.jobs().iter().find_map(|job| job.file.clone().filter(|file| object_name(job, file) == name));
    let Some(file) = file else { return refuse(StatusCode::NOT_FOUND, "NoSuchKey") };
    match open(world, &file, Point::Storage).await {
        Ok(content) => Reply { status: StatusCode::OK, body: Payload::File(Box::new(content)) },
        Err(_) => refuse(StatusCode::NOT_FOUND, "NoSuchKey"),
    }
}

async fn open(world: &World, file: &ResultFile, point: Point) -> Result<Content, Refusal> {
    let fault = world.fault(Some(point), Stage::File);
    Content::open(&file.path, file.format, file.gzip, fault)
        .await
        .map_err(|_| Refusal::new(StatusCode::NOT_FOUND, "The result of this job is no longer available"))
}

fn object_name(job: &Job, file: &ResultFile) -> String {
    format!("{}-{}", job.id, file.run)
}

fn sign(world: &World, name: &str, expires: i64) -> String {
    let digest = Sha256::digest(format!("{}|{name}|{expires}", world.options.seed));
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
