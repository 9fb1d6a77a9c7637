//! What a person sees and does on the status page, in a real browser, on a real database. `make test-browser` runs these; they
//! want Chromium, so the plain tests leave them out.

mod driver;

use std::sync::Arc;

use impact_mirror::http::Server;
use impact_mirror::pulse::Pulse;
use impact_mirror::store;
use secrecy::SecretString;
use serde_json::Value;
use sqlx::PgPool;

use crate::support::database::{TestDatabase, database};
use driver::{Browser, ENTER, TAB};

const TOKEN: &str = "token-of-the-tests-0123456789";

/// A server on a filled database, and a browser.
struct Scene {
    server: Server,
    pool: PgPool,
    browser: Browser,
    _database: TestDatabase,
}

impl Scene {
    async fn new() -> Self {
        let database = database().await;
        let options = store::connect_options(&SecretString::from(database.url())).unwrap();
        store::migrate(&options).await.unwrap();
        let pool = store::connect(options, 4).await.unwrap();
        sqlx::raw_sql(include_str!("browser/state.sql")).execute(&pool).await.unwrap();
        let server = Server::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        server.take_actions(SecretString::from(TOKEN));
        server.attach(pool.clone(), Arc::new(Pulse::default()));
        Self { server, pool, browser: Browser::open().await, _database: database }
    }

    async fn go(&self, path: &str) {
        self.browser.go(&format!("{}{}", self.server.url(), path.trim_start_matches('/'))).await;
    }

    async fn sign_in(&self) {
        self.go("/login").await;
        self.browser.fill("#token", TOKEN).await;
        self.browser.click("main button").await;
        self.browser.wait_for("As of").await;
    }

    /// The audit, oldest first: who, did what, to what.
    async fn audit(&self) -> Vec<(String, String, String)> {
        sqlx::query_as("select actor, action, target from impact_mirror.audit order by id")
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }
}

/// What axe-core, the checker of accessibility, objects to on the page that is shown.
async fn barriers(browser: &Browser) -> Vec<String> {
    let path = std::env::var("AXE").expect("AXE names axe.min.js; `make test-browser` does that");
    let axe = std::fs::read_to_string(path).unwrap();
    let script =
        "const tell = arguments[arguments.length - 1]; axe.run().then((found) => tell(found.violations.map((one) =>
        `${one.id}: ${one.help}: ${one.nodes.map((node) => node.html.slice(0, 200)).slice(0, 3).join(' | ')}`)));";
    browser.run(&axe).await;
    let found = browser.run_until_told(script).await;
    found.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
#[ignore = "wants a browser; see make test-browser"]
async fn no_page_has_a_barrier_in_any_theme_or_width() {
    let scene = Scene::new().await;
    let pages = [
        "/login",
        "/",
        "/exports/clicks",
        "/exports/actions?program=2000",
        "/jobs/3",
        "/jobs/2",
        "/jobs/1",
        "/loads/1",
        "/audit",
    ];
    let mut found = Vec::new();
    for signed_in in [false, true] {
        if signed_in {
            scene.sign_in().await;
        }
        for theme in ["light", "dark"] {
            scene.browser.prefer(theme).await;
            for width in [1280, 390] {
                scene.browser.widen(width).await;
                for page in pages {
                    scene.go(page).await;
                    let place = format!("{page} {theme} {width} {}", if signed_in { "signed in" } else { "" });
                    let objections = barriers(&scene.browser).await;
                    found.extend(objections.into_iter().map(|what| format!("{place}: {what}")));
                    let script = "return document.documentElement.scrollWidth - window.innerWidth";
                    let too_wide = scene.browser.run(script).await.as_i64().unwrap();
                    if too_wide > 0 {
                        found.push(format!("{place}: {too_wide} px wider than the screen"));
                    }
                    let file: String = page.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
                    let who = if signed_in { "holder" } else { "guest" };
                    scene.browser.picture(&format!("{who}{file}-{theme}-{width}")).await;
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test]
#[ignore = "wants a browser; see make test-browser"]
async fn why_an_export_is_late_is_a_click_away() {
    let scene = Scene::new().await;
    scene.go("/").await;
    assert!(scene.browser.text("h1").await.contains("wrong"));
    scene.browser.click_words("Why clicks?").await;
    scene.browser.wait_for("Why clicks is late").await;
    let why = scene.browser.text("section.wrong").await;
    for words in [
        "waits for quota of click_export until",
        "10 of 10 are spent",
        "the last try for",
        "impact.com refused: the <export> is too \"large\"",
        "impact-mirror jobs retry 2",
        "impact-mirror plan --export clicks",
    ] {
        assert!(why.contains(words), "{words}: {why}");
    }
    scene.browser.click_words("Job 2").await;
    scene.browser.wait_for("Why it failed").await;
    // And the programs of an export, one by one.
    scene.go("/exports/actions").await;
    scene.browser.click_words("acme / 2000").await;
    scene.browser.wait_for("Coverage of acme / 2000").await;
    let days = scene.browser.text("#calendar ~ .hint").await;
    assert!(days.contains("missing 10") && days.contains("in flight 21") && days.contains("settled 290"), "{days}");
}

#[tokio::test]
#[ignore = "wants a browser; see make test-browser"]
async fn the_page_of_a_load_and_of_a_job_tell_their_story() {
    let scene = Scene::new().await;
    scene.go("/jobs/3").await;
    for words in ["impact.com took the order", "RUNNING, 42 %", "adv_action_listing_pm_only", "+1min"] {
        scene.browser.wait_for(words).await;
    }
    scene.go("/jobs/1").await;
    scene.browser.wait_for("Restatement").await;
    scene.browser.click("#load a").await;
    for words in ["Load 1", "848", "not a number", "98.25", "123,456 bytes", "00ff"] {
        scene.browser.wait_for(words).await;
    }
    assert!(!scene.browser.text("main").await.contains("a,b,x"), "what rows held stays in the database");
}

#[tokio::test]
#[ignore = "wants a browser; see make test-browser"]
async fn all_is_done_with_the_keyboard() {
    let scene = Scene::new().await;
    scene.sign_in().await;
    for page in ["/", "/exports/clicks", "/jobs/2"] {
        scene.go(page).await;
        let count = "const all = [...document.querySelectorAll('a[href], button, summary, input:not([type=hidden])')];
            all.forEach((one) => { one.dataset.seen = 'no'; }); return all.length;";
        let count = scene.browser.run(count).await.as_u64().unwrap();
        for step in 0..count * 3 {
            scene.browser.press(TAB).await;
            let at = scene
                .browser
                .run("document.activeElement.dataset.seen = 'yes'; return document.activeElement.className")
                .await;
            assert!(step > 0 || at == "skip", "the first is the way past the header: {at}");
        }
        let left = "return [...document.querySelectorAll('[data-seen=no]')].map((one) => one.outerHTML)";
        assert_eq!(scene.browser.run(left).await, Value::Array(Vec::new()), "{page}");
    }
    scene.go("/jobs/2").await;
    scene.browser.run("document.querySelector('main form button').focus()").await;
    scene.browser.press(ENTER).await;
    scene.browser.wait_for("The failed days of job 2 are due now.").await;
}

#[tokio::test]
#[ignore = "wants a browser; see make test-browser"]
async fn a_change_is_seen_without_a_reload_and_the_focus_stays() {
    let scene = Scene::new().await;
    scene.go("/").await;
    scene.browser.run("window.notLoadedAnew = true; document.querySelector('main a[href=\"/jobs/3\"]').focus()").await;
    scene.browser.run("window.scrollTo(0, 200)").await;
    sqlx::raw_sql("update impact_mirror.job set remote_percent = 87 where id = 3").execute(&scene.pool).await.unwrap();
    scene.browser.wait_for("87 %").await;
    assert_eq!(scene.browser.run("return window.notLoadedAnew").await, true);
    assert_eq!(scene.browser.run("return document.activeElement.getAttribute('href')").await, "/jobs/3");
    assert_eq!(scene.browser.run("return window.scrollY").await, 200);
}

#[tokio::test]
#[ignore = "wants a browser; see make test-browser"]
async fn without_scripts_all_is_there() {
    let scene = Scene::new().await;
    scene.browser.run_no_scripts().await;
    scene.go("/").await;
    scene.browser.click_words("Why clicks?").await;
    scene.browser.wait_for("Why clicks is late").await;
    scene.sign_in().await;
    scene.go("/exports/clicks").await;
    scene.browser.click_words("Pause clicks").await;
    scene.browser.wait_for("Export clicks is paused: nothing new is ordered").await;
    assert_eq!(scene.audit().await.len(), 1);
}

#[tokio::test]
#[ignore = "wants a browser; see make test-browser"]
async fn who_holds_the_token_acts_and_the_audit_says_so() {
    let scene = Scene::new().await;
    scene.go("/exports/clicks").await;
    assert_eq!(
        scene.browser.run("return document.querySelectorAll('main form').length").await,
        0,
        "a guest only reads"
    );
    scene.go("/login").await;
    scene.browser.fill("#token", "not-the-token-0123456789").await;
    scene.browser.click("main button").await;
    scene.browser.wait_for("That is not the token. It is the one that http.token names").await;
    scene.sign_in().await;
    let say = async |page: &str, words: &str, answer: &str| {
        scene.go(page).await;
        scene.browser.click_words(words).await;
        scene.browser.wait_for(answer).await;
    };
    say("/exports/clicks", "Refresh these days", "of clicks, for 3 programs or accounts, ahead of everything else.")
        .await;
    say("/exports/clicks", "Pause clicks", "Export clicks is paused").await;
    say("/exports/clicks", "Resume clicks", "Export clicks goes on.").await;
    say("/", "Pause account acme", "Account acme is paused").await;
    say("/", "Resume account acme", "Account acme goes on.").await;
    say("/jobs/2", "Retry job 2", "The failed days of job 2 are due now.").await;
    scene.go("/jobs/3").await;
    scene.browser.click_words("Cancel this job …").await;
    scene.browser.click_words("Cancel job 3").await;
    scene.browser.wait_for("Job 3 is cancelled.").await;
    let line = |action: &str, target: &str| ("page: 127.0.0.1".to_owned(), action.to_owned(), target.to_owned());
    assert_eq!(
        scene.audit().await,
        [
            line("refresh", "export clicks"),
            line("pause", "export clicks"),
            line("resume", "export clicks"),
            line("pause", "account acme"),
            line("resume", "account acme"),
            line("retry", "job 2"),
            line("cancel", "job 3"),
        ]
    );
    let asked: i64 = sqlx::query_scalar("select count(*) from impact_mirror.manual_request where export = 'clicks'")
        .fetch_one(&scene.pool)
        .await
        .unwrap();
    assert_eq!(asked, 4, "three programs, and the failed day");
    let state: String =
        sqlx::query_scalar("select state from impact_mirror.job where id = 3").fetch_one(&scene.pool).await.unwrap();
    assert_eq!(state, "cancelled");
    scene.go("/").await;
    scene.browser.click_words("Sign out").await;
    scene.browser.wait_for("As of").await;
    assert_eq!(scene.browser.run("return document.querySelectorAll('main form').length").await, 0);
}

#[tokio::test]
#[ignore = "wants a browser; see make test-browser"]
async fn a_form_of_another_website_does_nothing() {
    let scene = Scene::new().await;
    scene.sign_in().await;
    // Another origin, and another site: `localhost` is not `127.0.0.1`.
    let target = format!("{}exports/clicks/pause", scene.server.url());
    let page = format!(
        "<!doctype html><title>Prizes</title><main>Prizes</main><form method=post action=\"{target}\"><input name=form value=x>\
         <button>Win</button></form>"
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = axum::routing::get(move || async move { axum::response::Html(page) });
    let website = tokio::spawn(axum::serve(listener, axum::Router::new().route("/", answer)).into_future());
    scene.browser.go(&format!("http://localhost:{port}/")).await;
    scene.browser.click_words("Win").await;
    scene.browser.wait_for("nothing was done").await;
    assert!(scene.browser.url().await.ends_with("/exports/clicks/pause"));
    assert_eq!(scene.audit().await, []);
    let paused: bool =
        sqlx::query_scalar("select ordering_paused_since is not null from impact_mirror.export where name = 'clicks'")
            .fetch_one(&scene.pool)
            .await
            .unwrap();
    assert!(!paused);
    website.abort();
}
