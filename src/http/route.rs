//! Which address gives what, and what holds for every answer.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};

use super::answer::Message;
use super::{Face, action, answer, events, export_page, exposition, job_page, page, postback, probe, session};

/// How long an answer may take.
const LONGEST_ANSWER: Duration = Duration::from_secs(10);

/// How much the form of an action may hold.
const FORM_BYTES: usize = 4 * 1024;

/// Nothing may be loaded but our style sheet and our script, forms go to us alone, and nobody may put the page into a frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'self'; frame-ancestors 'none'";

/// The headers of every answer, unless it has its own.
const HEADERS: [(HeaderName, &str); 5] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "same-origin"), // with no-referrer, browsers hide from us where a form comes from
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (CACHE_CONTROL, "no-store"),
];

/// The router. What shows answers GET and HEAD, what acts POST, and nothing else; the address of postbacks GET and POST.
pub(super) fn router(face: Arc<Face>) -> Router {
    Router::new()
        .route("/", get(page::status))
        .route("/exports/{name}", get(export_page::export))
        .route("/exports/{name}/{what}", post(action::on_export))
        .route("/jobs/{id}", get(job_page::job))
        .route("/jobs/{id}/{what}", post(action::on_job))
        .route("/loads/{id}", get(job_page::load))
        .route("/accounts/{name}/{what}", post(action::on_account))
        .route("/audit", get(action::audit_page))
        .route("/login", get(session::login_page).post(session::login))
        .route("/logout", post(session::logout))
        .route("/events", get(events::events))
        .route("/style.css", get(style))
        .route("/script.js", get(script))
        .route("/healthz", get(probe::healthz))
        .route("/readyz", get(probe::readyz))
        .route("/metrics", get(metrics))
        .route("/postback/{secret}", any(postback::receive))
        .fallback(answer::not_found)
        .method_not_allowed_fallback(answer::not_allowed)
        .layer(DefaultBodyLimit::max(FORM_BYTES))
        .layer(middleware::from_fn_with_state(Arc::clone(&face), guard))
        .with_state(face)
}

async fn guard(State(face): State<Arc<Face>>, request: Request, next: Next) -> Response {
    // A proxy passes a postback on by whatever name it has; the secret in its path is enough.
    let is_known = request.uri().path().starts_with("/postback/") || face.names().know(request.headers());
    let answer = async { if is_known { next.run(request).await } else { misdirected() } };
    let answer = tokio::time::timeout(LONGEST_ANSWER, answer).await;
    let mut response =
        answer.unwrap_or_else(|_| (StatusCode::SERVICE_UNAVAILABLE, "the answer took too long\n").into_response());
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

fn misdirected() -> Response {
    let text = "The page does not answer to this name. If it should, add the name to http.hosts.";
    Message::new("Unknown name", text).answer(StatusCode::MISDIRECTED_REQUEST)
}

async fn script() -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, "text/javascript; charset=utf-8"), (CACHE_CONTROL, "max-age=3600")];
    (headers, include_str!("templates/script.js"))
}

async fn style() -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8"), (CACHE_CONTROL, "max-age=3600")];
    (headers, include_str!("templates/style.css"))
}

async fn metrics(State(face): State<Arc<Face>>) -> impl IntoResponse {
    let text = exposition::exposition(&face).await;
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
