//! What is told without being asked, to a real listener of Postgres and to a real HTTP server: new rows, troubles and their end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use hmac::{Hmac, KeyInit as _, Mac as _};
use impact_mirror::account::AccountName;
use impact_mirror::app::SyncEnd;
use impact_mirror::config::{Alerts, MessageFormat, Receiver, Settings};
use impact_mirror::sandbox::{FaultKind, Point};
use serde_json::Value;
use sha2::Sha256;
use sqlx::postgres::PgListener;
use tokio::net::TcpListener;

use crate::engine::world::{World, actions, days_ago};
use crate::support::daemon::eventually;

const SECRET: &str = "a-s3cret-of-the-receiver";

/// A message as it arrived.
#[derive(Debug, Clone)]
struct Heard {
    delivery: String,
    signature: String,
    text: String,
}

impl Heard {
    fn body(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    fn word(&self, name: &str) -> String {
        self.body()[name].as_str().unwrap_or_default().to_owned()
    }

    /// Whether the signature is that of `SECRET` over time and body.
    fn is_signed(&self) -> bool {
        let (at, hex) = self.signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(format!("{at}.{}", self.text).as_bytes());
        let told: Vec<u8> =
            (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect();
        mac.verify_slice(&told).is_ok()
    }
}

#[derive(Default)]
struct Inbox {
    heard: Mutex<Vec<Heard>>,
    refusals: Mutex<Vec<StatusCode>>,
    is_dead: Mutex<bool>,
}

/// A receiver that listens.
struct Ear {
    inbox: Arc<Inbox>,
    url: String,
}

impl Ear {
    async fn new() -> Self {
        let inbox = Arc::new(Inbox::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook/s3cret-path", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(hear).with_state(Arc::clone(&inbox));
        tokio::spawn(async { axum::serve(listener, app).await });
        Self { inbox, url }
    }

    fn receiver(&self) -> Receiver {
        Receiver { url: self.url.as_str().into(), format: MessageFormat::Json, secret: Some(SECRET.into()) }
    }

    fn alerts(&self) -> Alerts {
        Alerts { receiver: self.receiver(), repeat: Duration::from_hours(24), every: Duration::from_millis(300) }
    }

    fn heard(&self) -> Vec<Heard> {
        self.inbox.heard.lock().unwrap().clone()
    }

    /// What was heard of a kind of alert, in order.
    fn statuses(&self, kind: &str) -> Vec<String> {
        self.heard().iter().filter(|one| one.word("kind") == kind).map(|one| one.word("status")).collect()
    }
}

async fn hear(State(inbox): State<Arc<Inbox>>, request: Request) -> StatusCode {
    if *inbox.is_dead.lock().unwrap() {
        std::future::pending::<()>().await;
    }
    let (parts, body) = request.into_parts();
    let text = axum::body::to_bytes(body, 100_000).await.unwrap();
    if let Some(status) = inbox.refusals.lock().unwrap().pop() {
        return status;
    }
    let header =
        |name: &str| parts.headers.get(name).map_or_else(String::new, |value| value.to_str().unwrap().to_owned());
    inbox.heard.lock().unwrap().push(Heard {
        delivery: header("impact-mirror-delivery"),
        signature: header("impact-mirror-signature"),
        text: String::from_utf8(text.to_vec()).unwrap(),
    });
    StatusCode::NO_CONTENT
}

async fn next_payload(listener: &mut PgListener) -> Value {
    let heard = tokio::time::timeout(Duration::from_secs(10), listener.recv()).await.unwrap().unwrap();
    serde_json::from_str(heard.payload()).unwrap()
}

#[tokio::test]
async fn who_listens_hears_of_a_load_once_it_is_committed_and_whether_it_changed_anything() {
    let world = World::new().await;
    let settings = world.settings(&actions(2));
    let mut listener = PgListener::connect(world.database_url()).await.unwrap();
    listener.listen("impact_mirror_loaded").await.unwrap();
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    let said = next_payload(&mut listener).await;
    let told = |name: &str| said[name].as_str().unwrap().to_owned();
    assert_eq!([told("export"), told("account"), told("program")], ["actions", "brand", "1000"]);
    assert_eq!([told("from"), told("to")], [days_ago(2).to_string(), days_ago(0).to_string()]);
    assert_eq!(said["changed"], true);
    let rows = world.value("select count(*)::text from impact.actions").await;
    assert_eq!(said["rows_inserted"].to_string(), rows);
    assert_eq!(said["load_id"].to_string(), world.value("select max(id)::text from impact_mirror.load").await);

    world.request_refresh_of_all(&settings).await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    assert_eq!(next_payload(&mut listener).await["changed"], false, "the same file again");
    assert_eq!(world.value("select count(*)::text from impact_mirror.outbox").await, "0", "nobody is configured");
}

#[tokio::test]
async fn a_receiver_hears_of_every_load_in_order_signed_and_again_where_it_refused() {
    let (world, ear) = (World::new().await, Ear::new().await);
    let settings = Settings { downstream: Some(ear.receiver()), ..world.settings(&actions(2)) };
    ear.inbox.refusals.lock().unwrap().extend([StatusCode::SERVICE_UNAVAILABLE, StatusCode::NOT_FOUND]);
    let engine = world.start(&settings).await;
    engine.keep_going();
    eventually("the load is told of", async || !ear.heard().is_empty()).await;
    world.request_refresh_of_all(&settings).await;
    let mut conn = world.pool().acquire().await.unwrap();
    impact_mirror::store::wake::notify(&mut conn).await.unwrap();
    drop(conn);
    eventually("both loads are told of", async || ear.heard().len() >= 2).await;
    world.eventually("select count(*)::text from impact_mirror.outbox", "0").await;
    engine.stop(Duration::from_secs(5)).await;

    let heard = ear.heard();
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(heard.iter().all(Heard::is_signed), "{heard:?}");
    for one in &heard {
        assert_eq!((one.word("event"), one.body()["id"].to_string()), ("loaded".to_owned(), one.delivery.clone()));
    }
    let changed: Vec<bool> = heard.iter().map(|one| one.body()["changed"].as_bool().unwrap()).collect();
    assert_eq!(changed, [true, false]);
    assert!(heard[0].body()["load_id"].as_i64() < heard[1].body()["load_id"].as_i64());
}

#[tokio::test]
async fn a_receiver_that_never_answers_holds_up_no_load_and_is_told_in_the_end() {
    let (world, ear) = (World::new().await, Ear::new().await);
    *ear.inbox.is_dead.lock().unwrap() = true;
    let settings = Settings { downstream: Some(ear.receiver()), ..world.settings(&actions(2)) };
    let engine = world.start(&settings).await;
    engine.keep_going();
    world.eventually("select count(*)::text from impact_mirror.load", "1").await;
    engine.stop(Duration::from_secs(5)).await;
    assert_eq!(world.value("select count(*)::text from impact_mirror.outbox").await, "1");

    *ear.inbox.is_dead.lock().unwrap() = false;
    // The try that was cut off is given up after a minute; that minute is over.
    world.execute("update impact_mirror.outbox set run_at = now()").await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "a sync sends what is left too");
    assert_eq!(ear.heard().len(), 1);
    assert_eq!(world.value("select count(*)::text from impact_mirror.outbox").await, "0");
}

#[tokio::test]
async fn a_paused_account_is_told_of_once_by_two_replicas_and_again_when_it_goes_on() {
    let (world, ear) = (World::new().await, Ear::new().await);
    let settings = Settings { alerts: Some(ear.alerts()), ..world.settings(&actions(2)) };
    world.inject(Point::Submit, FaultKind::Http401);
    let (one, two) = (world.start(&settings).await, world.start(&settings).await);
    one.keep_going();
    two.keep_going();
    eventually("the pause is told of", async || !ear.statuses("paused_account").is_empty()).await;
    let alert = ear.heard().into_iter().find(|one| one.word("kind") == "paused_account").unwrap();
    assert!(alert.is_signed());
    assert_eq!(alert.word("subject"), "brand");
    assert!(alert.word("summary").contains("Authentication failed"), "{}", alert.text);
    assert!(alert.word("mend").starts_with("give accounts.brand.auth_token a valid token"), "{}", alert.text);
    assert!(alert.word("mend").ends_with("then: impact-mirror accounts resume brand"), "{}", alert.text);
    assert_eq!(alert.word("runbook"), "docs/runbook.md#paused_account");
    // Several rounds of both, in which nothing is new.
    world.execute("update impact_mirror.alert set told_at = now() - interval '23 hours'").await;
    tokio::time::sleep(4 * ear.alerts().every).await;
    assert_eq!(ear.statuses("paused_account"), ["firing"]);

    let mut conn = world.pool().acquire().await.unwrap();
    impact_mirror::store::account::resume(&mut conn, &AccountName::new("brand")).await.unwrap();
    impact_mirror::store::wake::notify(&mut conn).await.unwrap();
    drop(conn);
    eventually("the end is told of", async || ear.statuses("paused_account").len() > 1).await;
    eventually("the export is fresh again", async || {
        ear.statuses("stale_export").last().is_none_or(|one| one == "resolved")
    })
    .await;
    one.stop(Duration::from_secs(5)).await;
    two.stop(Duration::from_secs(5)).await;
    assert_eq!(ear.statuses("paused_account"), ["firing", "resolved"]);
    assert_eq!(world.value("select count(*)::text from impact_mirror.alert").await, "0");
}

#[tokio::test]
async fn every_kind_of_trouble_is_found() {
    let (world, ear) = (World::new().await, Ear::new().await);
    let mut settings = Settings { alerts: Some(ear.alerts()), ..world.settings(&actions(2)) };
    settings.accounts.get_mut(&AccountName::new("brand")).unwrap().quota.report_export_per_day = 1;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    assert!(ear.heard().is_empty(), "{:?}", ear.heard());

    // All that troubles are read from, as other tests show that it comes about.
    world
        .execute(
            "update impact_mirror.cell set as_of = as_of - interval '9 days', next_refresh_at = now() - interval '1 minute';
             update impact_mirror.mirrored_column set first_seen_at = now() + interval '1 second' where column_name = 'payout';
             update impact_mirror.load set records_processed = 4711, warnings = '{count_mismatch,unexpected_zero}';
             update impact_mirror.export_account set paused_since = now(), paused_reason = 'no scope',
                 probe_at = now() + interval '6 hours' where export = 'actions';
             update impact_mirror.cell set failed_at = now(), failed_job_id = job_id where day = (select min(day) from impact_mirror.cell);",
        )
        .await;
    let engine = world.start(&settings).await;
    // The start lets paused exports try again.
    world
        .execute(
            "update impact_mirror.export_account set paused_since = now(), paused_reason = 'no scope',
                 probe_at = now() + interval '6 hours' where export = 'actions'",
        )
        .await;
    engine.tell().await;
    engine.stop(Duration::from_secs(5)).await;
    let mut kinds: Vec<String> = ear.heard().iter().map(|one| one.word("kind")).collect();
    kinds.sort();
    let all = [
        "count_mismatch",
        "failed_job",
        "paused_export",
        "schema_drift",
        "spent_budget",
        "stale_export",
        "unexpected_zero",
    ];
    assert_eq!(kinds, all, "{:#?}", ear.heard().iter().map(|one| one.text.clone()).collect::<Vec<_>>());
    let drift = ear.heard().into_iter().find(|one| one.word("kind") == "schema_drift").unwrap();
    assert!(drift.word("summary").ends_with("payout is new"), "{}", drift.text);
}

#[tokio::test]
async fn slack_hears_a_text() {
    let (world, ear) = (World::new().await, Ear::new().await);
    let mut alerts = ear.alerts();
    alerts.receiver.format = MessageFormat::Slack;
    let settings = Settings { alerts: Some(alerts), ..world.settings(&actions(2)) };
    world.inject(Point::Submit, FaultKind::Http403);
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Failed);
    let heard = ear.heard();
    let texts: Vec<String> = heard.iter().map(|one| one.word("text")).collect();
    let of_pause = texts.iter().find(|text| text.contains("actions on brand is paused since"));
    assert!(
        of_pause.is_some_and(|text| text
            .contains("give the token the scope in impact.com's settings, then: impact-mirror accounts resume brand")),
        "{texts:?}"
    );
}
