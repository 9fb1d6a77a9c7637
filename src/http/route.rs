//! Which address gives what, and what holds for every answer.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};

use super::{Face, exposition, page, postback, probe};

/// How long an answer may take.
const LONGEST_ANSWER: Duration = Duration::from_secs(10);

/// Nothing may be loaded but our style sheet, and nobody may put the page into a frame.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The headers of every answer, unless it has its own.
const HEADERS: [(HeaderName, &str); 5] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (CACHE_CONTROL, "no-store"),
];

/// The router. Every address answers GET and HEAD, and nothing else; that of postbacks GET and POST.
pub(super) fn router(face: Arc<Face>) -> Router {
    Router::new()
        .route("/", get(page::status))
        .route("/style.css", get(style))
        .route("/healthz", get(probe::healthz))
        .route("/readyz", get(probe::readyz))
        .route("/metrics", get(metrics))
        .route("/postback/{secret}", any(postback::receive))
        .fallback(page::not_found)
        .method_not_allowed_fallback(page::not_allowed)
        .layer(middleware::from_fn(guard))
        .with_state(face)
}

async fn guard(request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(LONGEST_ANSWER, next.run(request)).await;
    let mut response =
        answer.unwrap_or_else(|_| (StatusCode::SERVICE_UNAVAILABLE, "the answer took too long\n").into_response());
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

async fn style() -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8"), (CACHE_CONTROL, "max-age=3600")];
    (headers, include_str!("templates/style.css"))
}

async fn metrics(State(face): State<Arc<Face>>) -> impl IntoResponse {
    let text = exposition::exposition(&face).await;
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
