//! The page, the probes and the metrics: a real server on a port of its own, a real database, a plain client.

mod acting;
mod limits;

use std::sync::Arc;
use std::time::Duration;

use impact_mirror::http::Server;
use impact_mirror::metrics;
use impact_mirror::pulse::Pulse;
use impact_mirror::store;
use reqwest::{Method, Response, StatusCode};
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::database::{TestDatabase, database};

/// A server with an engine that we play, on our schema.
struct Face {
    server: Server,
    pool: PgPool,
    pulse: Arc<Pulse>,
    _database: TestDatabase,
}

impl Face {
    async fn new() -> Self {
        let database = database().await;
        let options = store::connect_options(&SecretString::from(database.url())).unwrap();
        store::migrate(&options).await.unwrap();
        let pool = store::connect(options, 4).await.unwrap();
        let server = start().await;
        let pulse = Arc::new(Pulse::default());
        server.attach(pool.clone(), Arc::clone(&pulse));
        Self { server, pool, pulse, _database: database }
    }

    async fn run(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.pool).await.unwrap();
    }

    async fn get(&self, path: &str) -> Response {
        ask(&self.server, Method::GET, path).await
    }
}

async fn start() -> Server {
    Server::start("127.0.0.1:0".parse().unwrap()).await.unwrap()
}

async fn ask(server: &Server, method: Method, path: &str) -> Response {
    let url = format!("{}{}", server.url(), path.trim_start_matches('/'));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client.request(method, url).send().await.unwrap()
}

/// Two accounts and two exports: one fresh, with a load and a job in flight; one that failed on a paused account.
const SMALL_STATE: &str = include_str!("http/small_state.sql");

/// What differs from run to run: times of the clock, and days counted from today.
fn steady(page: &str) -> String {
    let ago = |days| (chrono::Utc::now() - chrono::TimeDelta::days(days)).date_naive().to_string();
    let mut text = page.replace(&ago(1), "YESTERDAY").replace(&ago(90), "FIRST");
    text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    if let Some((before, after)) = text.clone().split_once("data-live=\"") {
        text = format!("{before}data-live=\"MARK{}", &after[16..]);
    }
    for before in ["datetime=\"", ">"] {
        let mut rest = std::mem::take(&mut text);
        while let Some(at) = rest.find(&format!("{before}20")) {
            let from = at + before.len();
            let moment = &rest[from..];
            let length = moment.find(['"', '<']).unwrap();
            text.push_str(&rest[..from]);
            text.push_str(if moment[..length].ends_with('Z') { "MOMENT" } else { &moment[..length] });
            rest = rest[from + length..].to_owned();
        }
        text.push_str(&rest);
    }
    (0..60).fold(text, |text, seconds| text.replace(&format!(">{seconds}s ago<"), ">NOW<"))
}

#[tokio::test]
async fn the_page_of_a_small_state() {
    let face = Face::new().await;
    face.run(SMALL_STATE).await;
    let page = face.get("/").await.text().await.unwrap();
    insta::assert_snapshot!(steady(&page));
}

#[tokio::test]
async fn an_empty_mirror_has_a_page() {
    let face = Face::new().await;
    let response = face.get("/").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    assert!(response.text().await.unwrap().contains("No export is configured."));
}

#[tokio::test]
async fn names_and_words_are_text_on_the_page_whatever_they_are() {
    let face = Face::new().await;
    let hostile = SMALL_STATE
        .replace("'acme'", "'<script>account</script>'")
        .replace("'1000'", "'<script>program</script>'")
        .replace("'actions'", "'<script>export</script>'")
        .replace("impact.payouts", "<script>table</script>")
        .replace("<report> & \"reason\"", "<script>error</script>\" onload=\"x")
        .replace("token revoked", "<script>paused</script>")
        .replace("'RUNNING'", "'<script>status</script>'");
    sqlx::raw_sql(AssertSqlSafe(hostile)).execute(&face.pool).await.unwrap();
    let page = face.get("/").await.text().await.unwrap();
    assert!(!page.contains("<script>") && !page.contains("\" onload"), "{page}");
    for what in ["account", "program", "export", "error", "paused"] {
        assert!(page.contains(&format!("&#60;script&#62;{what}&#60;/script&#62;")), "{what}: {page}");
    }
    let metrics = face.get("/metrics").await.text().await.unwrap();
    assert!(samples(&metrics).len() > 20);
    let lost = ask(&face.server, Method::GET, "/<script>alert(1)</script>").await.text().await.unwrap();
    assert!(!lost.contains("alert"), "{lost}");
}

#[tokio::test]
async fn every_answer_carries_the_headers_that_protect_it() {
    let face = Face::new().await;
    let gets = [
        "/",
        "/style.css",
        "/script.js",
        "/exports/x",
        "/jobs/1",
        "/loads/1",
        "/audit",
        "/login",
        "/healthz",
        "/readyz",
        "/metrics",
        "/nowhere",
        "/postback/none",
    ];
    let posts = ["/login", "/logout", "/exports/x/pause", "/jobs/1/retry", "/accounts/x/pause", "/postback/none"];
    let asked = gets.map(|path| (Method::GET, path)).into_iter().chain(posts.map(|path| (Method::POST, path)));
    for (method, path) in asked {
        let response = ask(&face.server, method, path).await;
        let policy = response.headers()["content-security-policy"].to_str().unwrap();
        for part in [
            "default-src 'none'",
            "style-src 'self'",
            "script-src 'self';",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert_eq!(response.headers()["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(response.headers()["referrer-policy"], "same-origin", "{path}");
        assert_eq!(response.headers()["cross-origin-resource-policy"], "same-origin", "{path}");
        let caching = if path.ends_with("css") || path.ends_with("js") { "max-age=3600" } else { "no-store" };
        assert_eq!(response.headers()["cache-control"], caching, "{path}");
    }
}

#[tokio::test]
async fn only_get_and_head_are_answered() {
    let face = Face::new().await;
    for path in ["/", "/style.css", "/healthz", "/readyz", "/metrics"] {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let response = ask(&face.server, method, path).await;
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
            assert_eq!(response.headers()["allow"], "GET,HEAD", "{path}");
        }
        let response = ask(&face.server, Method::HEAD, path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.text().await.unwrap(), "", "{path}");
    }
}

#[tokio::test]
async fn an_address_that_does_not_exist_says_so() {
    let face = Face::new().await;
    let response = face.get("/nowhere").await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert!(response.text().await.unwrap().contains("There is nothing at this address: no such export, job or load"));
}

#[tokio::test]
async fn a_daemon_that_starts_is_alive_but_not_ready() {
    let server = start().await;
    for (path, status) in [
        ("/healthz", StatusCode::OK),
        ("/readyz", StatusCode::SERVICE_UNAVAILABLE),
        ("/", StatusCode::SERVICE_UNAVAILABLE),
        ("/metrics", StatusCode::OK),
    ] {
        assert_eq!(ask(&server, Method::GET, path).await.status(), status, "{path}");
    }
    let metrics = ask(&server, Method::GET, "/metrics").await.text().await.unwrap();
    assert!(metrics.contains("\nimpact_mirror_database_up 0\n"), "{metrics}");
}

#[tokio::test]
async fn a_loop_that_does_not_come_back_is_ill_health() {
    let face = Face::new().await;
    face.pulse.begin("planner").round(Duration::from_mins(1));
    assert_eq!(face.get("/healthz").await.status(), StatusCode::OK);
    let died = tokio::spawn({
        let beat = face.pulse.begin_silent("schedules");
        async move {
            let _beat = beat;
            panic!("on purpose");
        }
    });
    assert!(died.await.unwrap_err().is_panic());
    let response = face.get("/healthz").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.text().await.unwrap(), "schedules: ended\n");
    let page = face.get("/").await.text().await.unwrap();
    assert!(page.contains("The engine does not go round"), "{page}");
}

#[tokio::test]
async fn without_its_database_the_daemon_is_alive_but_not_ready() {
    let face = Face::new().await;
    assert_eq!(face.get("/readyz").await.status(), StatusCode::OK);
    face.pool.close().await;
    assert_eq!(face.get("/healthz").await.status(), StatusCode::OK);
    assert_eq!(face.get("/readyz").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    let page = face.get("/").await;
    assert_eq!(page.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(page.text().await.unwrap().contains("What is mirrored cannot be told"));
    let metrics = face.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("\nimpact_mirror_database_up 0\n"), "{metrics}");
}

#[tokio::test]
async fn a_database_that_lacks_a_migration_is_not_ready() {
    let face = Face::new().await;
    face.run("delete from impact_mirror._sqlx_migrations where version = 2").await;
    let response = face.get("/readyz").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        response.text().await.unwrap(),
        "the database lacks 1 migrations of this version; `impact-mirror migrate` applies them\n"
    );
}

/// The samples of a text in Prometheus' format, each with its family announced once before.
fn samples(text: &str) -> Vec<(String, f64)> {
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.is_empty();
    let mut families = Vec::new();
    let mut samples = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(is_name(name) && ["counter", "gauge"].contains(&kind), "{line}");
            assert!(!families.contains(&name), "announced twice: {line}");
            families.push(name);
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            assert_eq!(families.last(), Some(&name), "not under its family: {line}");
            assert!(labels.ends_with('}'), "{line}");
            samples.push((series.to_owned(), value.parse().unwrap()));
        }
    }
    assert!(text.ends_with('\n'));
    samples
}

#[tokio::test]
async fn the_metrics_say_what_the_views_say() {
    let face = Face::new().await;
    face.run(SMALL_STATE).await;
    face.pulse.begin("planner").round(Duration::from_mins(1));
    let response = face.get("/metrics").await;
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let samples = samples(&response.text().await.unwrap());
    let value = |series: &str| samples.iter().find(|(known, _)| known == series).map(|(_, value)| *value);
    for (series, expected) in [
        ("impact_mirror_database_up", Some(1.0)),
        ("impact_mirror_engine_late_loops", Some(0.0)),
        ("impact_mirror_engine_rounds_total{part=\"planner\"}", Some(1.0)),
        ("impact_mirror_export_is_stale{export=\"actions\"}", Some(0.0)),
        ("impact_mirror_export_is_stale{export=\"payouts\"}", Some(1.0)),
        ("impact_mirror_export_age_seconds{export=\"payouts\"}", None),
        ("impact_mirror_export_promised_seconds{export=\"actions\"}", Some(93_600.0)),
        ("impact_mirror_cells_failed{export=\"payouts\"}", Some(1.0)),
        ("impact_mirror_load_warnings{export=\"actions\",kind=\"truncated\"}", Some(0.0)),
        ("impact_mirror_jobs{state=\"waiting\"}", Some(1.0)),
        ("impact_mirror_jobs{state=\"loaded\"}", Some(0.0)),
        ("impact_mirror_account_is_paused{account=\"blog\"}", Some(1.0)),
        ("impact_mirror_quota_limit{account=\"acme\",bucket=\"click_export\"}", Some(10.0)),
        ("impact_mirror_quota_remaining{account=\"acme\",bucket=\"click_export\"}", Some(0.0)),
    ] {
        assert_eq!(value(series), expected, "{series}");
    }
    assert!(value("impact_mirror_export_age_seconds{export=\"actions\"}").is_some_and(|age| age < 60.0));
    assert!(value(metrics::PROCESS_START.name).is_some_and(|at| at > 1_700_000_000.0));
}

#[tokio::test]
async fn a_doubtful_load_is_told_while_its_rows_stand() {
    const DOUBTFUL: &str = "
        insert into impact_mirror.load (job_id, export, account, program, from_day, to_day, file_sha256, file_bytes, target_hash,
            rows_read, rows_inserted, records_processed, warnings, started_at, committed_at)
        values (2, 'actions', 'acme', '1000', (now() at time zone 'utc')::date - 1, (now() at time zone 'utc')::date - 1, '', 0,
            gen_random_uuid(), 7, 7, 9, array['count_mismatch'], now(), now())";
    let face = Face::new().await;
    face.run(SMALL_STATE).await;
    face.run(DOUBTFUL).await;
    let page = steady(&face.get("/").await.text().await.unwrap());
    for words in [
        "4 things are wrong",
        "The rows of actions of YESTERDAY may not be all",
        "Load 1: the file has 7 rows, and impact.com speaks of 9.",
        "impact-mirror refresh actions --from YESTERDAY --to YESTERDAY",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    let metrics = face.get("/metrics").await.text().await.unwrap();
    assert!(
        metrics.contains("\nimpact_mirror_load_warnings{export=\"actions\",kind=\"count_mismatch\"} 1\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_full_disk_is_told_as_long_as_a_job_waits_for_room() {
    const FULL: &str = "
        update impact_mirror.job
        set state = 'ready', error_kind = 'no_room', error_message = 'no room left in the spool directory /spool'
        where id = 2";
    let face = Face::new().await;
    face.run(SMALL_STATE).await;
    face.run(FULL).await;
    let page = face.get("/").await.text().await.unwrap();
    for words in
        ["A disk is full: 1 job waits for room", "no room left in the spool directory /spool", "Make room there"]
    {
        assert!(page.contains(words), "{words}: {page}");
    }
    let metrics = face.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("\nimpact_mirror_no_room 1\n"), "{metrics}");
}

#[tokio::test]
async fn a_database_that_cannot_be_written_for_want_of_room_is_told_all_the_same() {
    let face = Face::new().await;
    face.run(SMALL_STATE).await;
    assert!(face.pulse.lacks_room("load", "could not extend file: No space left on device"));
    let page = face.get("/").await.text().await.unwrap();
    for words in ["The database cannot be written, for its disk is full", "could not extend file"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    let metrics = face.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("\nimpact_mirror_no_room 1\n"), "{metrics}");
}

#[tokio::test]
async fn however_many_ask_the_database_is_read_once() {
    let face = Face::new().await;
    let before = face.get("/metrics").await.text().await.unwrap();
    assert!(!before.contains("payouts"));
    face.run(SMALL_STATE).await;
    let at_once = face.get("/metrics").await.text().await.unwrap();
    assert!(!at_once.contains("payouts"), "kept for 5 s");
}

#[tokio::test]
async fn a_port_that_is_taken_names_the_setting() {
    let server = start().await;
    let addr = server.url().trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    let error = Server::start(addr).await.unwrap_err();
    assert!(error.is_taken());
    assert!(error.to_string().contains("http.listen"), "{error}");
}

#[tokio::test]
async fn a_stopped_server_answers_no_more() {
    let face = Face::new().await;
    let url = face.server.url();
    assert_eq!(face.get("/healthz").await.status(), StatusCode::OK);
    face.server.stop().await;
    assert!(reqwest::get(url).await.is_err());
}
