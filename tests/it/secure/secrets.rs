//! Lives of the real process, with every line that it can be made to log. Afterwards nothing that it wrote, said or showed
//! holds a secret.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;
use impact_mirror::sandbox::{Fault, FaultKind, Point};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use reqwest::Client;
use reqwest::redirect::Policy;
use serde_json::json;
use sqlx::AssertSqlSafe;
use tokio::net::TcpListener;
use url::Url;

use crate::support::daemon::{BRAND, Mirrored, Process, Scene, Wishes, eventually, still};

const POSTBACK: &str = "postback-s3cret-0123456789";
/// What lets people act on the page.
const PAGE: &str = "page-s3cret-0123456789";
/// What messages are signed with, and what the address of their receiver holds.
const SIGNING: &str = "signing-s3cret-0123456789";
const RECEIVER: &str = "receiver-s3cret-0123456789";
/// Of an archive elsewhere; the process has it in its environment.
const STORAGE: &str = "storage-s3cret-0123456789";
/// What a signed URL of the sandbox, and one of the hostile server, is known by.
const SIGNATURES: [&str; 2] = ["signature=", "s1gnature"];
/// The SID and the token of the sandbox's brand as `Authorization` has them.
const BASIC: &str = "SVJzYW5kYm94QnJhbmQwMDAxOnNhbmRib3gtYnJhbmQtdG9rZW4=";

/// A scene with a secret of every kind.
struct Life {
    scene: Scene,
    role: String,
    password: String,
    /// Of the session of who signed in on the page: its cookie, and the token of its forms.
    session: Vec<String>,
    /// What was said so far, each with its origin.
    said: Vec<(String, String)>,
}

impl Life {
    async fn new() -> Self {
        // Where the machine allows core dumps, a process of ours inherits that.
        let (_, most) = getrlimit(Resource::RLIMIT_CORE).unwrap();
        setrlimit(Resource::RLIMIT_CORE, most, most).unwrap();
        let wishes = Wishes { exports: &[Mirrored::Actions], ..Wishes::default() };
        let mut scene = Scene::with(still(Duration::from_millis(40)), wishes).await;
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let (role, password) = (format!("impact_mirror_test_{unique}"), format!("passw0rd-{unique}"));
        scene.execute(&format!("create role {role} superuser login password '{password}'")).await;
        let mut url = Url::parse(scene.database.as_ref().unwrap().url()).unwrap();
        let before = url.to_string();
        url.set_username(&role).unwrap();
        url.set_password(Some(&password)).unwrap();
        let dir = scene.dir.path().to_owned();
        fs::write(dir.join("postback"), POSTBACK).unwrap();
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        scene.edit_config(|text| {
            let archive = format!("[archive]\nurl = \"file://{}\"\n\n", dir.join("archive").display());
            let secret = format!(
                "[http]\ntoken = {{ env = \"PAGE_TOKEN\" }}\npostback_secret = {{ file = \"{}\" }}\n",
                dir.join("postback").display()
            );
            let receiver = "url = { env = \"RECEIVER\" }\nsecret = { env = \"SIGNING\" }\n";
            let receivers = format!("[alerts]\n{receiver}[downstream]\n{receiver}\n");
            text.replace(&before, url.as_str()).replace("[http]\n", &(archive + &receivers + &secret))
        });
        for (name, value) in [
            ("RUST_LOG", "trace".to_owned()),
            ("PAGE_TOKEN", PAGE.to_owned()),
            ("RECEIVER", format!("http://{nobody}/hook/{RECEIVER}")),
            ("SIGNING", SIGNING.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", STORAGE.to_owned()),
        ] {
            scene.env.push((name, value));
        }
        Self { scene, role, password, session: Vec::new(), said: Vec::new() }
    }

    /// What a daemon shows and what the system shows of it.
    async fn look_at(&mut self, daemon: &Process) {
        let url = daemon.url().await;
        let client = Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
        let answer = client
            .post(format!("{url}login"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("token={PAGE}"))
            .send()
            .await
            .unwrap();
        let cookie = answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        self.said.push(("/login".to_owned(), answer.text().await.unwrap()));
        let (job, load): (i64, Option<i64>) =
            sqlx::query_as("select max(j.id), (select max(id) from impact_mirror.load) from impact_mirror.job j")
                .fetch_one(self.scene.pool())
                .await
                .unwrap();
        for path in [
            "",
            "exports/actions",
            &format!("jobs/{job}"),
            &format!("loads/{}", load.unwrap_or_default()),
            "audit",
            "login",
            "metrics",
            "healthz",
            "readyz",
            &format!("postback/{POSTBACK}?id=1"),
            "postback/wrong",
        ] {
            let text = client.get(format!("{url}{path}")).header("cookie", &cookie).send().await.unwrap();
            let mut text = text.text().await.unwrap();
            // The forms of who signed in carry the token of the session.
            if let Some((_, rest)) = text.split_once("name=\"form\" value=\"") {
                let form = rest.split('"').next().unwrap().to_owned();
                text = text.replace(&form, "…");
                self.session.push(form);
            }
            self.said.push((format!("/{path}").replace(POSTBACK, "…"), text));
        }
        assert!(!self.session.is_empty(), "somebody signed in");
        self.session.push(cookie.split_once('=').unwrap().1.to_owned());
        let proc = Path::new("/proc").join(daemon.id().to_string());
        if let Ok(line) = fs::read(proc.join("cmdline")) {
            self.said.push(("the process's arguments".to_owned(), String::from_utf8_lossy(&line).into_owned()));
            let limits = fs::read_to_string(proc.join("limits")).unwrap();
            let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
            assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
        }
    }

    /// What the commands print.
    async fn ask(&mut self) {
        let id: i64 = self.scene.value("select max(id) from impact_mirror.job").await;
        let id = id.to_string();
        for arguments in [
            &["status"][..],
            &["status", "--json"],
            &["plan", "--all"],
            &["check"],
            &["jobs", "list"],
            &["jobs", "show", &id],
            &["jobs", "retry", &id],
            &["explain", "actions", "x"],
            &["reports"],
            &["reload", "actions", "--from", "2000-01-01", "--to", "2000-01-02"],
        ] {
            let mut command = self.scene.start(arguments);
            command.exit_code().await;
            self.said.push((arguments.join(" "), command.log()));
        }
    }

    /// Every row of every table, and what Postgres shows of the daemon's statements.
    async fn dump(&mut self) {
        let tables: Vec<String> = sqlx::query_scalar(
            "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where c.relkind in ('r', 'p') and n.nspname in ('impact', 'impact_mirror')",
        )
        .fetch_all(self.scene.pool())
        .await
        .unwrap();
        assert!(tables.len() > 20, "{tables:?}");
        for table in tables.iter().map(String::as_str).chain(["pg_stat_activity"]) {
            let query = format!("select coalesce(string_agg(t::text, ' '), '') from {table} t");
            let rows: String = sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(self.scene.pool()).await.unwrap();
            self.said.push((table.to_owned(), rows));
        }
    }

    /// Files that a daemon wrote.
    fn read_files(&mut self) {
        let mut open = vec![self.scene.dir.path().join("archive"), self.scene.dir.path().join("spool")];
        while let Some(path) = open.pop() {
            let shown = path.display().to_string();
            if let Ok(entries) = fs::read_dir(&path) {
                open.extend(entries.map(|entry| entry.unwrap().path()));
            } else if let Ok(bytes) = fs::read(&path) {
                let bytes = zstd::decode_all(bytes.as_slice()).unwrap_or(bytes);
                self.said.push((shown.clone(), String::from_utf8_lossy(&bytes).into_owned()));
            }
            self.said.push(("a file's name".to_owned(), shown));
        }
    }

    /// No secret anywhere.
    async fn assert_silent(mut self, mut daemon: Process) {
        self.ask().await;
        self.dump().await;
        self.read_files();
        self.said.push(("the log".to_owned(), daemon.log()));
        let secrets = ["sandbox-brand-token", BRAND, BASIC, POSTBACK, PAGE, SIGNING, RECEIVER, STORAGE, &self.password];
        let of_session = self.session.iter().map(String::as_str);
        for secret in secrets.into_iter().chain(of_session).chain(SIGNATURES) {
            for (place, text) in &self.said {
                let at = text.find(secret);
                let around = at.map(|at| {
                    let (from, to) = (at.saturating_sub(200), (at + 100).min(text.len()));
                    &text[text.floor_char_boundary(from)..text.ceil_char_boundary(to)]
                });
                assert_eq!(around, None, "{secret} in {place}");
            }
        }
        daemon.kill();
        let role = &self.role;
        self.scene.execute(&format!("drop owned by {role} cascade; drop role {role}")).await;
    }
}

#[tokio::test]
async fn an_honest_life_tells_no_secret() {
    let mut life = Life::new().await;
    for (on, kind) in [
        (Point::Submit, FaultKind::Http500),
        (Point::Download, FaultKind::Reset),
        (Point::Storage, FaultKind::Html502),
        (Point::Storage, FaultKind::Truncate),
    ] {
        life.scene.sandbox.inject(Fault::next(on, kind));
    }
    let daemon = life.scene.run();
    life.scene.until_mirrored_in_a_hurry().await;
    life.scene.assert_mirrored().await;
    life.look_at(&daemon).await;
    assert!(daemon.log().contains("TRACE") && daemon.log().contains("DEBUG"), "everything is logged");
    life.assert_silent(daemon).await;
}

/// An impact.com that gives back all it was sent, sends downloads astray and at last refuses the token.
struct Hostile {
    orders: AtomicUsize,
    is_angry: AtomicBool,
}

async fn answer(State(hostile): State<Arc<Hostile>>, request: Request) -> Response<Body> {
    let echo = format!("you sent {} {} with {:?}", request.method(), request.uri(), request.headers());
    let path = request.uri().path();
    let (status, body) = if path.ends_with("/Download") {
        (302, String::new())
    } else if path.ends_with("/Jobs") {
        (200, json!({"Jobs": []}).to_string())
    } else if path.ends_with("/Jobs/J1") {
        (200, json!({"Id": "J1", "Status": "COMPLETED", "StatusMessage": echo}).to_string())
    } else if hostile.is_angry.load(Ordering::Relaxed) {
        (401, json!({"Status": "ERROR", "Message": echo}).to_string())
    } else if !path.contains("/ReportExport/") {
        (403, echo)
    } else if hostile.orders.fetch_add(1, Ordering::Relaxed) == 0 {
        (500, format!("<html>{echo}</html>"))
    } else {
        (200, json!({"Status": "QUEUED", "QueuedUri": format!("{path}/Jobs/J1")}).to_string())
    };
    Response::builder()
        .status(status)
        .header("location", "http://storage.example/file?s1gnature=0123456789abcdef")
        .body(body.into())
        .unwrap()
}

#[tokio::test]
async fn a_hostile_impact_com_gets_no_secret_into_anything() {
    let mut life = Life::new().await;
    let hostile = Arc::new(Hostile { orders: AtomicUsize::new(0), is_angry: AtomicBool::new(false) });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let app = axum::Router::new().fallback(answer).with_state(Arc::clone(&hostile));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let base = life.scene.sandbox.base_url().clone();
    life.scene.edit_config(|text| text.replace(base.trim_end_matches('/'), &origin));

    let daemon = life.scene.run();
    let hurry = async |condition: &'static str| {
        eventually(condition, async || {
            life.scene.hurry().await;
            let holds: Result<bool, _> =
                sqlx::query_scalar(AssertSqlSafe(format!("select {condition}"))).fetch_one(life.scene.pool()).await;
            holds.unwrap_or(false)
        })
        .await
    };
    hurry("exists (select from impact_mirror.job where state = 'failed' and error_kind = 'bad_file')").await;
    hostile.is_angry.store(true, Ordering::Relaxed);
    let day: String = life.scene.value("select max(to_day)::text from impact_mirror.job").await;
    let mut asking = life.scene.start(&["refresh", "actions", "--from", &day, "--to", &day]);
    asking.exit_code().await;
    hurry("exists (select from impact_mirror.account where paused_since is not null)").await;
    life.look_at(&daemon).await;
    let log = daemon.log();
    assert!(log.contains("[hidden]") && log.contains("storage.example"), "its words were heard");
    life.assert_silent(daemon).await;
}
