//! Postbacks over real HTTP: the sandbox sends them as impact.com would, others send what they like.

use std::sync::Arc;
use std::time::Duration;

use impact_mirror::http::Server;
use impact_mirror::pulse::Pulse;
use impact_mirror::sandbox::{FaultKind, Options, Point};
use impact_mirror::store;
use reqwest::{Method, RequestBuilder, StatusCode};
use secrecy::SecretString;

use crate::support::daemon::{Mirrored, Scene, Wishes, still};
use crate::support::database::{TestDatabase, database};

const SECRET: &str = "0123456789abcdef-test";
const QUICK: Duration = Duration::from_millis(300);

async fn server() -> Server {
    let server = Server::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    server.take_postbacks(SecretString::from(SECRET));
    server
}

/// One job, whose second look would come long after any test is over.
async fn scene(options: Options) -> Scene {
    let scene = Scene::with(options, Wishes { exports: &[Mirrored::Actions], ..Wishes::default() }).await;
    scene.edit_config(|text| {
        text.replace("poll_min = \"100ms\"\npoll_max = \"200ms\"", "poll_min = \"10min\"\npoll_max = \"1h\"")
    });
    scene
}

fn ask(method: Method, url: &str) -> RequestBuilder {
    reqwest::Client::builder().no_proxy().build().unwrap().request(method, url)
}

async fn status(request: RequestBuilder) -> StatusCode {
    request.send().await.unwrap().status()
}

/// The server stands for a replica that polls nothing: it hears the sandbox, and the daemon next to it is woken.
#[tokio::test]
async fn a_postback_to_one_replica_wakes_the_poller_of_another() {
    for postbacks in ["completion", "also_failures", "duplicates"] {
        let server = server().await;
        let url = format!("{}postback/{SECRET}?anything={{JobId}}", server.url());
        let scene = scene(Options { postback_url: Some(url), ..still(QUICK) }).await;
        scene.sandbox.set_behaviour(&format!("postbacks={postbacks}")).unwrap();
        if postbacks == "also_failures" {
            scene.inject(Point::Submit, FaultKind::JobFails);
        }
        let mut daemon = scene.start(&["migrate"]);
        daemon.ended().await;
        server.attach(scene.pool().clone(), Arc::new(Pulse::default()));
        let _daemon = scene.run();
        scene.until_mirrored().await;
        scene.assert_mirrored().await;
        let polls = scene.calls(&["poll"]);
        assert!(polls <= if postbacks == "completion" { 1 } else { 3 }, "{postbacks}: {polls} polls");
    }
}

#[tokio::test]
async fn a_daemon_takes_postbacks_and_keeps_their_secret() {
    for body in ["form", "json", "xml", "unknown"] {
        let scene = scene(still(QUICK)).await;
        let file = scene.dir.path().join("secret");
        std::fs::write(&file, format!("{SECRET}\n")).unwrap();
        scene.edit_config(|text| {
            text.replace("[http]\n", &format!("[http]\npostback_secret = {{ file = \"{}\" }}\n", file.display()))
        });
        let daemon = scene.run();
        let url = daemon.url().await;
        scene.until_job("state = 'waiting'").await;
        let id: String = scene.value("select remote_job_id from impact_mirror.job").await;
        let body = match body {
            "form" => format!("result=%2FJobs%2F{id}%2FDownload"),
            "json" => format!("{{\"a\":[\"{id}\"]}}"),
            "xml" => format!("<j><id>{id}</id></j>"),
            _ => "nothing=that+we+know".to_owned(),
        };
        // Too early: what it leads to is one look more than needed, and the next postback is as good.
        tokio::time::timeout(Duration::from_secs(30), async {
            while scene.value::<i64>("select count(*) from impact_mirror.load").await == 0 {
                let posted = ask(Method::POST, &format!("{url}postback/{SECRET}")).body(body.clone());
                assert_eq!(status(posted).await, StatusCode::NO_CONTENT);
                tokio::time::sleep(Duration::from_millis(600)).await;
            }
        })
        .await
        .unwrap();
        scene.until_mirrored().await;
        scene.assert_mirrored().await;
        let metrics = ask(Method::GET, &format!("{url}metrics")).send().await.unwrap().text().await.unwrap();
        let kept: String = scene.value("select coalesce(string_agg(j::text, ' '), '') || (select string_agg(e::text, ' ') from impact_mirror.job_event e) from impact_mirror.job j").await;
        for place in [&metrics, &daemon.log(), &kept] {
            assert!(!place.contains(SECRET) && !place.contains("that we know"), "{place}");
        }
    }
}

async fn with_database() -> (Server, TestDatabase) {
    let (server, database) = (server().await, database().await);
    let options = store::connect_options(&SecretString::from(database.url())).unwrap();
    store::migrate(&options).await.unwrap();
    server.attach(database.pool().clone(), Arc::new(Pulse::default()));
    (server, database)
}

#[tokio::test]
async fn who_does_not_know_the_secret_finds_nothing() {
    let (server, _database) = with_database().await;
    let deaf = Server::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::HEAD] {
        for path in ["postback/wrong", "postback/%FF", "postback/", "postback", "postback/0123456789abcdef-tes"] {
            let url = format!("{}{path}", server.url());
            assert_eq!(status(ask(method.clone(), &url)).await, StatusCode::NOT_FOUND, "{method} {path}");
        }
        let url = format!("{}postback/{SECRET}", deaf.url());
        assert_eq!(status(ask(method, &url)).await, StatusCode::NOT_FOUND, "without a secret");
    }
    let url = format!("{}postback/{SECRET}", server.url());
    assert_eq!(status(ask(Method::DELETE, &url)).await, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn hostile_postbacks_do_no_harm() {
    let (server, _database) = with_database().await;
    let url = format!("{}postback/{SECRET}", server.url());
    let post = |body: Vec<u8>| ask(Method::POST, &url).header("content-type", "application/json").body(body);
    assert_eq!(status(post(vec![b'a'; 64 * 1024])).await, StatusCode::NO_CONTENT);
    assert_eq!(status(post(vec![b'a'; 64 * 1024 + 1])).await, StatusCode::PAYLOAD_TOO_LARGE);
    let endless = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'['; 1024]));
    let chunked = ask(Method::POST, &url).body(reqwest::Body::wrap_stream(endless)).send().await;
    assert!(chunked.is_err() || chunked.is_ok_and(|answer| answer.status() == StatusCode::PAYLOAD_TOO_LARGE));
    for body in [vec![b'['; 60_000], vec![0xff; 1000], vec![0; 1000], b"%%%=%zz&&&==".to_vec(), Vec::new()] {
        assert_eq!(status(post(body)).await, StatusCode::NO_CONTENT);
    }
    assert_eq!(status(ask(Method::GET, &format!("{url}?a=%FF%00&b='; drop table x --"))).await, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn more_than_a_minute_may_bring_is_refused() {
    let (server, _database) = with_database().await;
    let url = format!("{}postback/{SECRET}", server.url());
    let mut answers = Vec::new();
    for _ in 0..150 {
        answers.push(status(ask(Method::GET, &url)).await);
    }
    assert!(answers[..60].iter().all(|answer| *answer == StatusCode::NO_CONTENT), "{answers:?}");
    assert!(answers.contains(&StatusCode::TOO_MANY_REQUESTS), "{answers:?}");
    assert_eq!(status(ask(Method::GET, &format!("{}healthz", server.url()))).await, StatusCode::OK, "the page goes on");
}
