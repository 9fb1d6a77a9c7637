//! Sends a request and reads a bounded answer; turns every status into a typed error.

use std::time::Duration;

use chrono::Utc;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::address::Address;
use super::error::{Call, Error, Refusal};
use super::limits::{Answer, Limits, server_date};
use super::message::Cleaner;
use super::redirect;
use super::resolver::{LeadsInside, Resolver};
use super::unpack::{ENCODINGS, Unpacked};
use super::wire::{Document, Fields};
use crate::account::AccountSid;
use crate::config;

/// The most decoded bytes of an envelope.
pub(super) const ENVELOPE_BYTES: u64 = 16 << 20;

/// The most bytes of an error body that are looked at.
const ERROR_BYTES: u64 = 64 << 10;

/// How long we wait for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For a connection.
    pub(super) connect: Duration,
    /// For a whole envelope.
    pub(super) envelope: Duration,
    /// For the next bytes of a file.
    pub(super) idle: Duration,
}

impl Patience {
    /// What we use in earnest.
    pub(super) const USUAL: Self =
        Self { connect: Duration::from_secs(10), envelope: Duration::from_mins(1), idle: Duration::from_mins(1) };
}

/// The HTTP client with one account's credential.
pub(super) struct Transport {
    http: reqwest::Client,
    resolver: Resolver,
    /// Where the API is; what it names on its own host is not looked at twice.
    api: Url,
    sid: AccountSid,
    token: SecretString,
    version: HeaderValue,
    pub(super) cleaner: Cleaner,
    pub(super) patience: Patience,
}

impl Transport {
    /// A client that follows no redirects by itself and asks no proxy for loopback.
    pub(super) fn new(account: &config::Account, address: &Address, patience: Patience) -> Result<Self, Error> {
        let resolver = Resolver::default();
        let mut http = reqwest::Client::builder()
            .dns_resolver(resolver.clone())
            .user_agent(concat!("impact-mirror/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .default_headers([(ACCEPT_ENCODING, HeaderValue::from_static(ENCODINGS))].into_iter().collect())
            .connect_timeout(patience.connect)
            .read_timeout(patience.idle);
        if redirect::is_loopback(address.base()) {
            http = http.no_proxy();
        }
        Ok(Self {
            http: http.build().map_err(|source| Error::Setup { source })?,
            resolver,
            api: address.base().clone(),
            sid: account.sid.clone(),
            token: account.auth_token.clone(),
            version: address.version(),
            cleaner: Cleaner::new(&account.sid, &account.auth_token),
            patience,
        })
    }

    /// Asks for an envelope and reads it whole.
    pub(super) async fn envelope(&self, call: Call, method: Method, url: Url) -> Result<Answer<Document>, Error> {
        within(call, self.patience.envelope, async {
            let response = self.ask(call, method, url).await?;
            if !response.status().is_success() {
                return Err(self.refusal(call, response).await);
            }
            self.read_envelope(call, response).await
        })
        .await
    }

    /// Sends a request with the credential and waits for the head of the answer.
    pub(super) async fn ask(&self, call: Call, method: Method, url: Url) -> Result<Response, Error> {
        // A PUT without a body must say so, or gateways refuse it (impact-api §2.7).
        let length = (method == Method::PUT).then_some((CONTENT_LENGTH, HeaderValue::from_static("0")));
        let request = self
            .http
            .request(method, url)
            .headers(length.into_iter().collect())
            .basic_auth(self.sid.as_str(), Some(self.token.expose_secret()))
            .header(ACCEPT, "application/json")
            .header("IR-Version", self.version.clone());
        request.send().await.map_err(|error| unsent_or_unanswered(call, error))
    }

    /// Fetches from storage, without the credential: it would leak, and storage refuses a second one (impact-api §2.6).
    /// From an API elsewhere it leads to no address in a private network.
    pub(super) async fn fetch(&self, url: Url) -> Result<Response, Error> {
        if !redirect::is_loopback(&self.api) && url.host() != self.api.host() {
            self.resolver.watch(&url);
        }
        let target = redirect::shown(&url);
        let sent = self.http.get(url).send().await;
        if let Err(error) = &sent
            && is_inside(error)
        {
            return Err(Error::UnsafeRedirect { target, reason: "its name leads into a private network" });
        }
        sent.map_err(|error| unsent_or_unanswered(Call::Storage, error))
    }

    /// Reads a successful answer; one that says `Status: ERROR` is refused all the same (impact-api §5.2).
    pub(super) async fn read_envelope(&self, call: Call, response: Response) -> Result<Answer<Document>, Error> {
        let status = response.status();
        let server_date = server_date(response.headers());
        let limits = limits(response.headers());
        let body = read(call, response, ENVELOPE_BYTES).await?;
        let document = Document::read(&body);
        if document.fields().is_some_and(Fields::is_error_envelope) {
            let message = self.cleaner.of_body(&document, &body, "it gave no reason");
            return Err(Error::Refused(Refusal { call, status: status.as_u16(), message, limits }));
        }
        Ok(Answer { value: document, server_date, limits })
    }

    /// What an unsuccessful answer means (impact-api §5.2). A body that cannot be read costs only its words.
    pub(super) async fn refusal(&self, call: Call, response: Response) -> Error {
        let status = response.status();
        let limits = limits(response.headers());
        let reading = read_head(call, response, ERROR_BYTES);
        let body = tokio::time::timeout(self.patience.envelope, reading).await.unwrap_or_default();
        let fallback = status.canonical_reason().unwrap_or("it gave no reason");
        let message = self.cleaner.of_body(&Document::read(&body), &body, fallback);
        by_status(Refusal { call, status: status.as_u16(), message, limits }, status)
    }
}

fn by_status(refusal: Refusal, status: StatusCode) -> Error {
    let gone = matches!(status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE);
    match status.as_u16() {
        200..=399 => Error::Unreadable { call: refusal.call, problem: format!("unexpected status {status}") },
        408 | 425 => Error::Server(refusal),
        400..=499 if refusal.call == Call::Storage => match status.as_u16() {
            429 => Error::Server(refusal),
            _ => Error::Expired(refusal),
        },
        401 => Error::Credentials(refusal),
        403 | 404 | 410 if gone && refusal.call == Call::Download => Error::Expired(refusal),
        403 => Error::Forbidden(refusal),
        404 | 410 => Error::NotFound(refusal),
        429 => Error::Throttled(refusal),
        400..=499 => Error::Refused(refusal),
        _ => Error::Server(refusal),
    }
}

/// The limits that an answer's headers tell.
pub(super) fn limits(headers: &HeaderMap) -> Limits {
    Limits::read(headers, Utc::now())
}

/// Cuts off what takes too long.
pub(super) async fn within<T>(
    call: Call,
    limit: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(Error::TimedOut { call, limit }))
}

/// Whether a name was not connected to for where it leads.
fn is_inside(error: &reqwest::Error) -> bool {
    let mut causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.any(<dyn std::error::Error>::is::<LeadsInside>)
}

/// A failure before the head of the answer.
fn unsent_or_unanswered(call: Call, error: reqwest::Error) -> Error {
    let source = error.without_url();
    if source.is_connect() { Error::NoConnection { call, source } } else { Error::Transport { call, source } }
}

async fn read(call: Call, response: Response, limit_bytes: u64) -> Result<Vec<u8>, Error> {
    let mut answer = Unpacked::new(call, response).await?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if (body.len() + chunk.len()) as u64 > limit_bytes {
            return Err(Error::TooLarge { call, limit_bytes });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

async fn read_head(call: Call, response: Response, limit_bytes: u64) -> Vec<u8> {
    let mut body = Vec::new();
    let Ok(mut answer) = Unpacked::new(call, response).await else { return body };
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() as u64 >= limit_bytes {
            break;
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::account::{AccountName, Persona};
    use crate::config::{Account, Programs, Quota};

    /// A transport for an account whose API is elsewhere, or here.
    fn transport(base_url: &str) -> Transport {
        let account = Account {
            name: AccountName::new("acme"),
            persona: Persona::Brand,
            sid: AccountSid::new("IRx"),
            auth_token: SecretString::from("t"),
            base_url: base_url.parse().unwrap(),
            time_zone: chrono_tz::UTC,
            programs: Programs::All,
            quota: Quota {
                report_export_per_day: 1,
                click_export_per_day: 1,
                requests_per_hour: 1,
                share: 1.0,
                replay_cost: 1,
                duplicate_cost: 1,
                refused_cost: 1,
            },
        };
        Transport::new(&account, &Address::new(&account), Patience::USUAL).unwrap()
    }

    #[tokio::test]
    async fn a_redirect_by_name_into_a_private_network_is_refused_before_it_is_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url: Url = format!("http://localhost:{port}/f?signature=x").parse().unwrap();
        let error = transport("https://api.impact.com").fetch(url.clone()).await.unwrap_err();
        let said =
            "the download was redirected to http://localhost, which is refused: its name leads into a private network;";
        assert!(error.to_string().starts_with(said), "{error}");
        // The same from an API on this machine is what the simulator does.
        let local = transport("http://127.0.0.1:1");
        tokio::select! {
            accepted = listener.accept() => drop(accepted.unwrap()),
            answer = local.fetch(url) => panic!("{answer:?}"),
        }
    }
}
