//! The harness: a sandbox whose clock stands still and a plain HTTP client.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod data;
mod door;
mod faults;
mod jobs;
mod questions;
mod switches;

use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use impact_mirror::sandbox::{Fault, FaultKind, Options, Point, ProgramSizes, Sandbox};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;

const BRAND: &str = "IRsandboxBrand0001";
const PARTNER: &str = "IRsandboxPartner0001";
const AGENCY: &str = "IRsandboxAgency0001";
const LISTING: &str = "adv_action_listing_pm_only";
const APRIL: &str = "START_DATE=2026-04-01&END_DATE=2026-04-30&SUBAID=1000";

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn options() -> Options {
    Options {
        start: "2026-05-15T16:00:00Z".parse::<DateTime<Utc>>().unwrap(),
        clock_speed: 0.0,
        job_duration: Duration::from_millis(20),
        ..Options::default()
    }
}

/// A sandbox whose clock stands still, and a client that follows no redirect.
struct Api {
    sandbox: Sandbox,
    client: Client,
}

impl Api {
    async fn start() -> Self {
        Self::with(options()).await
    }

    async fn behaving(setting: &str) -> Self {
        let mut options = options();
        options.behaviours.set(setting).unwrap();
        Self::with(options).await
    }

    async fn with(options: Options) -> Self {
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
        Self { sandbox: Sandbox::start(options).await.unwrap(), client }
    }

    fn credentials(sid: &str) -> (&'static str, &'static str) {
        match sid {
            BRAND => ("Advertisers", "sandbox-brand-token"),
            PARTNER => ("Mediapartners", "sandbox-partner-token"),
            AGENCY => ("Agencies", "sandbox-agency-token"),
            other => panic!("no account {other}"),
        }
    }

    async fn try_send(&self, method: Method, sid: &str, resource: &str) -> reqwest::Result<Response> {
        let (persona, token) = Self::credentials(sid);
        self.client
            .request(method, format!("{}/{persona}/{sid}/{resource}", self.sandbox.base_url()))
            .basic_auth(sid, Some(token))
            .header("accept", "application/json")
            .send()
            .await
    }

    async fn get(&self, sid: &str, resource: &str) -> Response {
        self.try_send(Method::GET, sid, resource).await.unwrap()
    }

    async fn json(&self, sid: &str, resource: &str) -> Value {
        self.get(sid, resource).await.json().await.unwrap()
    }

    async fn submit(&self, sid: &str, resource: &str) -> String {
        let reply = self.json(sid, resource).await;
        let uri = reply["QueuedUri"].as_str().unwrap_or_else(|| panic!("no job in {reply}"));
        uri.rsplit('/').next().unwrap().to_owned()
    }

    /// Polls until the job is no longer at work.
    async fn ended(&self, sid: &str, id: &str) -> Value {
        for _ in 0..500 {
            let job = self.json(sid, &format!("Jobs/{id}")).await;
            if !matches!(job["Status"].as_str(), Some("QUEUED" | "RUNNING")) {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("job {id} does not end");
    }

    async fn download(&self, sid: &str, id: &str) -> Vec<u8> {
        let response = self.get(sid, &format!("Jobs/{id}/Download?Mode=Stream")).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.bytes().await.unwrap().to_vec()
    }

    async fn export(&self, sid: &str, resource: &str) -> Vec<u8> {
        let id = self.submit(sid, resource).await;
        let job = self.ended(sid, &id).await;
        assert_eq!(job["Status"], "COMPLETED", "{job}");
        self.download(sid, &id).await
    }

    async fn replay(&self, sid: &str, id: &str) -> Response {
        self.try_send(Method::PUT, sid, &format!("Jobs/{id}/Replay")).await.unwrap()
    }

    fn inject(&self, on: Point, kind: FaultKind) {
        self.sandbox.inject(Fault::next(on, kind));
    }
}

/// Reads CSV in the plainest way that understands quotes.
fn rows(csv: &[u8]) -> Vec<Vec<String>> {
    let text = String::from_utf8(csv.to_vec()).unwrap();
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => field.push(letters.next().unwrap()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            letter => field.push(letter),
        }
    }
    rows
}

/// The values of one column.
fn column(rows: &[Vec<String>], name: &str) -> Vec<String> {
    let index = rows[0].iter().position(|header| header == name).unwrap_or_else(|| panic!("no column {name}"));
    rows[1..].iter().map(|row| row[index].clone()).collect()
}

fn cents(amounts: &[String]) -> i64 {
    let cents = |amount: &String| {
        let (whole, rest) = amount.split_once('.').unwrap();
        format!("{whole}{}", &rest[..2]).parse::<i64>().unwrap()
    };
    amounts.iter().map(cents).sum()
}
