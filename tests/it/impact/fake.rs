//! A server that says what it is told and remembers what it was asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Response};
use impact_mirror::account::{AccountName, AccountSid, Persona};
use impact_mirror::config::{Account, Programs, Quota};
use impact_mirror::export::{ExportRequest, Program, ReportHandle, ResultFormat, Source, Window};
use impact_mirror::impact::Client;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// The Account SID of every test.
pub const SID: &str = "IRtestSid0001";
/// The token of every test.
pub const TOKEN: &str = "s3cretToken";
/// The `Authorization` that the two make.
pub const BASIC: &str = "Basic SVJ0ZXN0U2lkMDAwMTpzM2NyZXRUb2tlbg==";

/// One prepared answer.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    announce_length: bool,
}

/// An answer with a body.
pub fn reply(status: u16, body: impl AsRef<[u8]>) -> Reply {
    Reply { status, headers: Vec::new(), body: body.as_ref().to_vec(), announce_length: true }
}

/// A redirect.
pub fn redirect(status: u16, location: impl Into<String>) -> Reply {
    reply(status, "<html><a href=\"elsewhere\">moved</a></html>").header("location", location)
}

impl Reply {
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sent in chunks, without a Content-Length.
    pub fn chunked(mut self) -> Self {
        self.announce_length = false;
        self
    }
}

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

#[derive(Debug, Default)]
struct Script {
    replies: VecDeque<Reply>,
    seen: Vec<Seen>,
}

/// A server on loopback that gives its replies in order.
#[derive(Debug, Clone)]
pub struct Fake {
    pub origin: String,
    script: Arc<Mutex<Script>>,
}

impl Fake {
    pub async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let script = Arc::new(Mutex::new(Script { replies: replies.into_iter().collect(), seen: Vec::new() }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(answer).with_state(Arc::clone(&script));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { origin, script }
    }

    /// Adds replies, for those that need the origin.
    pub fn then(&self, replies: impl IntoIterator<Item = Reply>) {
        self.script.lock().unwrap().replies.extend(replies);
    }

    /// What was asked so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.script.lock().unwrap().seen.clone()
    }

    /// The one request that was made.
    pub fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.into_iter().next().unwrap()
    }

    pub fn client(&self, persona: Persona) -> Client {
        client(&self.origin, persona)
    }
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, request: Request) -> Response<Body> {
    let mut script = script.lock().unwrap();
    script.seen.push(Seen {
        method: request.method().clone(),
        target: request.uri().to_string(),
        headers: request.headers().clone(),
    });
    let reply = script.replies.pop_front().unwrap_or_else(|| reply(599, "the script has no more replies"));
    let mut response = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(*name, value);
    }
    let body = if reply.announce_length {
        Body::from(reply.body)
    } else {
        Body::from_stream(futures_util::stream::iter(
            reply.body.chunks(1 << 16).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect::<Vec<_>>(),
        ))
    };
    response.body(body).unwrap()
}

/// A server that reads one request, writes these bytes and closes, or resets, the connection; again and again.
pub async fn raw(bytes: &'static [u8], reset: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(bytes).await;
            let _ = socket.flush().await;
            if reset {
                socket.set_zero_linger().unwrap();
            }
        }
    });
    origin
}

/// An address that nobody listens on.
pub async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

pub fn client(origin: &str, persona: Persona) -> Client {
    Client::new(&account(origin, persona)).unwrap()
}

pub fn account(origin: &str, persona: Persona) -> Account {
    Account {
        name: AccountName::new("acme"),
        persona,
        sid: AccountSid::new(SID),
        auth_token: SecretString::from(TOKEN),
        base_url: origin.parse().unwrap(),
        time_zone: chrono_tz::America::New_York,
        programs: Programs::All,
        quota: Quota {
            report_export_per_day: 100,
            click_export_per_day: 10,
            requests_per_hour: 1000,
            share: 1.0,
            replay_cost: 1,
            duplicate_cost: 1,
            refused_cost: 1,
        },
    }
}

/// A request for a report over the first three days of May 2026.
pub fn report(handle: &str, program: &str, params: &[(&str, &[&str])]) -> ExportRequest {
    request(Source::Report(ReportHandle::new(handle)), program, ["2026-05-01", "2026-05-03"], params)
}

/// A request for the clicks of days.
pub fn clicks(program: &str, days: [&str; 2], params: &[(&str, &[&str])]) -> ExportRequest {
    request(Source::Clicks, program, days, params)
}

fn request(source: Source, program: &str, days: [&str; 2], params: &[(&str, &[&str])]) -> ExportRequest {
    let [from, to] = days.map(|day| day.parse().unwrap());
    let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    let params: BTreeMap<_, _> = params.iter().map(|(name, values)| ((*name).to_owned(), list(values))).collect();
    ExportRequest {
        source,
        program: Program::new(program),
        window: Window::new(from, to).unwrap(),
        params,
        format: ResultFormat::Csv,
    }
}
