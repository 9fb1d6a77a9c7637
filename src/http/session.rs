//! Who may act: somebody who entered the token and whose browser holds the cookie of a session for it.
//!
//! The cookie is `HttpOnly` and `SameSite=Strict`; every form carries the session's own form token besides, and a request that
//! changes anything has to come from our own origin. So another website can neither read the one nor guess the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::http::header::{COOKIE, HOST, HeaderMap, LOCATION, ORIGIN, SET_COOKIE};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::Face;
use super::answer::{Message, VERSION, html, not_found};

const COOKIE_NAME: &str = "impact_mirror_session";
/// How long a session lasts.
const LASTS: Duration = Duration::from_hours(12);
/// Sessions at a time; the oldest ends where there are more.
const MOST_SESSIONS: usize = 64;
/// Wrong tokens that are heard in a minute.
const MOST_GUESSES: u32 = 10;

/// The token and those who entered it.
#[derive(Debug)]
pub(super) struct Gate {
    token: SecretString,
    inside: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    /// By the hash of their cookie.
    sessions: HashMap<[u8; 32], Session>,
    guesses: u32,
    guesses_since: Instant,
}

#[derive(Debug, Clone)]
struct Session {
    began_at: Instant,
    form_token: String,
}

impl Gate {
    /// Opens to those who know `token`.
    pub fn new(token: SecretString) -> Self {
        let inside = Inside { sessions: HashMap::new(), guesses: 0, guesses_since: Instant::now() };
        Self { token, inside: Mutex::new(inside) }
    }

    /// Whether this is the token.
    pub fn opens_to(&self, token: &str) -> bool {
        same(self.token.expose_secret(), token)
    }

    fn inside(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets in who knows the token: the value of a cookie. `None` for a wrong one.
    fn enter(&self, told: &str, now: Instant) -> Option<String> {
        if !same(self.token.expose_secret(), told) {
            self.inside().guesses += 1;
            return None;
        }
        let mut inside = self.inside();
        inside.sessions.retain(|_, session| now.duration_since(session.began_at) < LASTS);
        if inside.sessions.len() >= MOST_SESSIONS {
            let oldest = inside.sessions.iter().min_by_key(|(_, session)| session.began_at).map(|(key, _)| *key);
            oldest.and_then(|key| inside.sessions.remove(&key));
        }
        let cookie = secret_text();
        inside.sessions.insert(hash(&cookie), Session { began_at: now, form_token: secret_text() });
        Some(cookie)
    }

    /// Whether another guess is heard.
    fn hears(&self, now: Instant) -> bool {
        let mut inside = self.inside();
        if now.duration_since(inside.guesses_since) >= Duration::from_mins(1) {
            (inside.guesses, inside.guesses_since) = (0, now);
        }
        inside.guesses < MOST_GUESSES
    }

    /// The form token of who holds the cookie of a session.
    fn form_token(&self, headers: &HeaderMap, now: Instant) -> Option<String> {
        let inside = self.inside();
        let session = inside.sessions.get(&hash(cookie(headers)?))?;
        (now.duration_since(session.began_at) < LASTS).then(|| session.form_token.clone())
    }

    fn leave(&self, headers: &HeaderMap) {
        if let Some(cookie) = cookie(headers) {
            self.inside().sessions.remove(&hash(cookie));
        }
    }
}

/// Who looks at a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Visitor {
    /// Nobody can act: no token is configured.
    ReadOnly,
    /// Could enter the token.
    Guest,
    /// Has entered it; forms carry this.
    Holder(String),
}

impl Visitor {
    pub fn of(face: &Face, headers: &HeaderMap) -> Self {
        let Some(gate) = face.gate.get() else { return Self::ReadOnly };
        gate.form_token(headers, Instant::now()).map_or(Self::Guest, Self::Holder)
    }

    /// What forms carry; for who may not act there are no forms.
    pub fn form_token(&self) -> Option<&str> {
        match self {
            Self::Holder(token) => Some(token),
            Self::ReadOnly | Self::Guest => None,
        }
    }

    pub fn is_guest(&self) -> bool {
        *self == Self::Guest
    }
}

/// Whether a request that changes something may: from our own origin, by who holds a session, with its form token.
pub(super) fn may_act(face: &Face, headers: &HeaderMap, told: &str) -> Result<(), Box<Response>> {
    if face.gate.get().is_none() {
        let text = "No token is configured, so the page only shows. Set http.token to act here.";
        return Err(Box::new(Message::new("Read only", text).answer(StatusCode::FORBIDDEN)));
    }
    if !is_from_here(headers) {
        return Err(Box::new(foreign()));
    }
    match Visitor::of(face, headers) {
        Visitor::Holder(token) if same(&token, told) => Ok(()),
        Visitor::Holder(_) => Err(Box::new(foreign())),
        Visitor::ReadOnly | Visitor::Guest => {
            let text = "Enter the token first; a session lasts for twelve hours, or until the daemon restarts.";
            Err(Box::new(Message::new("Not signed in", text).answer(StatusCode::FORBIDDEN)))
        }
    }
}

fn foreign() -> Response {
    let text = "The form did not come from this page, so nothing was done. Go back, reload the page and try again.";
    Message::new("Refused", text).answer(StatusCode::FORBIDDEN)
}

/// Whether a browser says that the request comes from our own origin. A client that says nothing is no browser, and has no cookie
/// but its own.
fn is_from_here(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = text(HeaderName::from_static("sec-fetch-site")) {
        return site == "same-origin";
    }
    match (text(ORIGIN), text(HOST)) {
        (None, _) => true,
        (Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, from)| from.eq_ignore_ascii_case(host)),
        (Some(_), None) => false,
    }
}

#[derive(Template)]
#[template(path = "login.html", config = "src/http/askama.toml")]
struct LoginPage {
    wrong: &'static str,
    visitor: Visitor,
}

impl LoginPage {
    fn answer(wrong: &'static str, status: StatusCode) -> Response {
        html(status, &Self { wrong, visitor: Visitor::ReadOnly })
    }
}

/// The page that asks for the token.
pub(super) async fn login_page(State(face): State<Arc<Face>>) -> Response {
    if face.gate.get().is_none() { not_found().await } else { LoginPage::answer("", StatusCode::OK) }
}

#[derive(Deserialize)]
pub(super) struct Login {
    token: String,
}

/// Takes the token.
pub(super) async fn login(State(face): State<Arc<Face>>, headers: HeaderMap, Form(form): Form<Login>) -> Response {
    let Some(gate) = face.gate.get() else { return not_found().await };
    if !is_from_here(&headers) {
        return foreign();
    }
    let now = Instant::now();
    if !gate.hears(now) {
        return LoginPage::answer("Too many wrong tokens; try again in a minute.", StatusCode::TOO_MANY_REQUESTS);
    }
    let Some(cookie) = gate.enter(form.token.trim(), now) else {
        tracing::warn!("a wrong token was entered on the status page");
        return LoginPage::answer(
            "That is not the token. It is the one that http.token names in the daemon's configuration.",
            StatusCode::FORBIDDEN,
        );
    };
    let is_https = headers.get("x-forwarded-proto").is_some_and(|value| value.as_bytes() == b"https");
    let secure = if is_https { "; Secure" } else { "" };
    let seconds = LASTS.as_secs();
    let cookie = format!("{COOKIE_NAME}={cookie}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    (StatusCode::SEE_OTHER, [(SET_COOKIE, cookie), (LOCATION, "/".to_owned())]).into_response()
}

#[derive(Deserialize)]
pub(super) struct Logout {
    form: String,
}

/// Ends the session.
pub(super) async fn logout(State(face): State<Arc<Face>>, headers: HeaderMap, Form(form): Form<Logout>) -> Response {
    if let Err(refused) = may_act(&face, &headers, &form.form) {
        return *refused;
    }
    if let Some(gate) = face.gate.get() {
        gate.leave(&headers);
    }
    let cookie = format!("{COOKIE_NAME}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");
    (StatusCode::SEE_OTHER, [(SET_COOKIE, cookie), (LOCATION, "/".to_owned())]).into_response()
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('=')).find(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value)
}

/// Takes as long for a good guess as for a bad one: hashes are compared, and whole.
fn same(ours: &str, told: &str) -> bool {
    hash(ours).iter().zip(hash(told)).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// 244 bits that nobody can guess.
fn secret_text() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value"))).collect()
    }

    #[test]
    fn only_our_own_origin_may_change_anything() {
        for ours in [
            &[("sec-fetch-site", "same-origin"), ("host", "a:1"), ("origin", "http://a:1")][..],
            &[("host", "a:1"), ("origin", "http://a:1")],
            &[("host", "a:1")],
        ] {
            assert!(is_from_here(&headers(ours)), "{ours:?}");
        }
        for foreign in [
            &[("sec-fetch-site", "cross-site"), ("host", "a:1"), ("origin", "http://a:1")][..],
            &[("sec-fetch-site", "same-site"), ("host", "a:1")],
            &[("host", "a:1"), ("origin", "http://a:2")],
            &[("host", "a:1"), ("origin", "null")],
            &[("origin", "http://a:1")],
        ] {
            assert!(!is_from_here(&headers(foreign)), "{foreign:?}");
        }
    }

    #[test]
    fn a_session_is_held_by_its_cookie_and_ends() {
        let gate = Gate::new(SecretString::from("0123456789abcdef"));
        let now = Instant::now();
        assert!(gate.enter("0123456789abcdeF", now).is_none());
        let cookie = gate.enter("0123456789abcdef", now).expect("a session");
        let holds = |cookie: &str, at| gate.form_token(&headers(&[("cookie", cookie)]), at).is_some();
        let sent = format!("other=1; {COOKIE_NAME}={cookie}");
        assert!(holds(&sent, now) && holds(&sent, now + LASTS / 2));
        assert!(!holds(&sent, now + LASTS) && !holds(&format!("{COOKIE_NAME}=x"), now) && !holds("", now));
        gate.leave(&headers(&[("cookie", &sent)]));
        assert!(!holds(&sent, now));
    }

    #[test]
    fn guesses_are_few_and_the_oldest_session_makes_room() {
        let gate = Gate::new(SecretString::from("0123456789abcdef"));
        let now = Instant::now();
        for _ in 0..MOST_GUESSES {
            assert!(gate.hears(now) && gate.enter("wrong", now).is_none());
        }
        assert!(!gate.hears(now) && gate.hears(now + Duration::from_mins(1)));
        for _ in 0..MOST_SESSIONS + 5 {
            assert!(gate.enter("0123456789abcdef", now).is_some());
        }
        assert_eq!(gate.inside().sessions.len(), MOST_SESSIONS);
    }
}
