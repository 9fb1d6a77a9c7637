//! What the buttons of the page do: the same as the commands, written into the audit with the address that asked.

use std::net::SocketAddr;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderMap, LOCATION};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Form};
use chrono::NaiveDate;
use serde::Deserialize;
use sqlx::PgPool;

use super::answer::{Message, Time, VERSION, html, no_database, not_found, starting};
use super::session::{Visitor, may_act};
use super::{Face, Mirror};
use crate::account::AccountName;
use crate::error_chain::Chain;
use crate::export::{ExportName, Window};
use crate::job::JobId;
use crate::store::audit::{self, Entry};
use crate::store::by_hand::{self, Action};
use crate::store::{self};

/// Lines of the audit shown.
const SHOWN: i64 = 200;

/// Who asks, by the address of the connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub SocketAddr);

/// What forms carry.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    form: String,
    from: Option<String>,
    to: Option<String>,
}

/// `/exports/{name}/{what}`: refresh, backfill, pause, resume.
pub(super) async fn on_export(
    State(face): State<Arc<Face>>,
    Path((name, what)): Path<(String, String)>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Form(asked): Form<Asked>,
) -> Response {
    if let Err(refused) = may_act(&face, &headers, &asked.form) {
        return *refused;
    }
    let Some(Mirror { pool, .. }) = face.mirror.get() else { return starting() };
    let export = ExportName::new(&name);
    let action = match what.as_str() {
        "pause" => Action::PauseExport(export),
        "resume" => Action::ResumeExport(export),
        "refresh" | "backfill" => match window(&pool, &export, &asked).await {
            Ok(Ok(window)) if what == "refresh" => Action::Refresh(export, window),
            Ok(Ok(window)) => Action::Backfill(export, window),
            Ok(Err(wrong)) => return Message::new("Not asked for", &wrong).answer(StatusCode::UNPROCESSABLE_ENTITY),
            Err(error) => return no_database(Chain(&error)),
        },
        _ => return not_found().await,
    };
    carry_out(&face, &pool, peer, &action, &format!("/exports/{}", encoded(&name))).await
}

/// `/jobs/{id}/{what}`: retry, cancel.
pub(super) async fn on_job(
    State(face): State<Arc<Face>>,
    Path((id, what)): Path<(i64, String)>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Form(asked): Form<Asked>,
) -> Response {
    if let Err(refused) = may_act(&face, &headers, &asked.form) {
        return *refused;
    }
    let Some(Mirror { pool, .. }) = face.mirror.get() else { return starting() };
    let action = match what.as_str() {
        "retry" => Action::Retry(JobId(id)),
        "cancel" => Action::Cancel(JobId(id)),
        _ => return not_found().await,
    };
    carry_out(&face, &pool, peer, &action, &format!("/jobs/{id}")).await
}

/// `/accounts/{name}/{what}`: pause, resume.
pub(super) async fn on_account(
    State(face): State<Arc<Face>>,
    Path((name, what)): Path<(String, String)>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Form(asked): Form<Asked>,
) -> Response {
    if let Err(refused) = may_act(&face, &headers, &asked.form) {
        return *refused;
    }
    let Some(Mirror { pool, .. }) = face.mirror.get() else { return starting() };
    let account = AccountName::new(&name);
    let action = match what.as_str() {
        "pause" => Action::PauseAccount(account),
        "resume" => Action::ResumeAccount(account),
        _ => return not_found().await,
    };
    carry_out(&face, &pool, peer, &action, "/audit").await
}

async fn carry_out(face: &Face, pool: &PgPool, Peer(peer): Peer, action: &Action, page: &str) -> Response {
    let done = async {
        let mut conn = pool.acquire().await.map_err(store::failed("get a connection"))?;
        by_hand::act(&mut conn, &format!("page: {}", peer.ip()), action).await
    };
    match done.await {
        Ok(outcome) => {
            tracing::info!(%peer, "by hand, on the status page: {}", outcome.words);
            face.snapshots.forget();
            let to = format!("{page}?done={}", outcome.audit_id);
            (StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response()
        }
        Err(error) => no_database(Chain(&error)),
    }
}

/// The days asked for, those that the export has; or why there are none.
async fn window(pool: &PgPool, export: &ExportName, asked: &Asked) -> Result<Result<Window, String>, store::Error> {
    let mut conn = pool.acquire().await.map_err(store::failed("get a connection"))?;
    let Some((first, last)) = by_hand::askable(&mut conn, export).await? else {
        return Ok(Err(format!("Export {export} is not configured, or its programs are not known yet.")));
    };
    let day = |text: &Option<String>| text.as_deref().and_then(|text| text.trim().parse::<NaiveDate>().ok());
    let (Some(from), Some(to)) = (day(&asked.from), day(&asked.to)) else {
        return Ok(Err("Both days are needed, each written as in 2026-01-31.".to_owned()));
    };
    let window = if from > to { None } else { Window::new(from.max(first), to.min(last)) };
    Ok(window.ok_or_else(|| format!("{from} to {to} is no time that {export} has; it has {first} to {last}.")))
}

fn encoded(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

#[derive(Template)]
#[template(path = "audit.html", config = "src/http/askama.toml")]
struct AuditPage {
    lines: Vec<Line>,
    visitor: Visitor,
}

struct Line {
    at: Time,
    entry: Entry,
}

/// What was done by hand.
pub(super) async fn audit_page(State(face): State<Arc<Face>>, headers: HeaderMap) -> Response {
    let Some(Mirror { pool, .. }) = face.mirror.get() else { return starting() };
    let read = async {
        let mut conn = pool.acquire().await.map_err(store::failed("get a connection"))?;
        audit::newest(&mut conn, SHOWN).await
    };
    match read.await {
        Ok(entries) => {
            let lines = entries.into_iter().map(|entry| Line { at: Time(entry.at), entry }).collect();
            html(StatusCode::OK, &AuditPage { lines, visitor: Visitor::of(&face, &headers) })
        }
        Err(error) => no_database(Chain(&error)),
    }
}
