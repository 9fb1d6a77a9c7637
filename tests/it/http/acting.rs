//! Who may act on the page, by plain requests: the token, the cookie, the form token, where a request comes from and by which
//! name. And that what is paused by hand orders nothing.

use futures_util::StreamExt as _;
use impact_mirror::config;
use reqwest::header::{COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use reqwest::redirect::Policy;

use super::*;

const TOKEN: &str = "0123456789abcdef-token";

/// A client that goes where it is sent by nobody.
async fn post(face: &Face, path: &str, body: &str, headers: &[(&'static str, &str)]) -> Response {
    let url = format!("{}{}", face.server.url(), path.trim_start_matches('/'));
    let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect();
    let request = client.post(url).headers(headers).header("content-type", "application/x-www-form-urlencoded");
    request.body(body.to_owned()).send().await.unwrap()
}

/// Signs in: the cookie as it is sent back, and the form token.
async fn sign_in(face: &Face) -> (String, String) {
    let answer = post(face, "/login", &format!("token={TOKEN}"), &[]).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let cookie = answer.headers()[SET_COOKIE].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let page = client.get(face.server.url()).header(COOKIE, &cookie).send().await.unwrap().text().await.unwrap();
    let (_, rest) = page.split_once("name=\"form\" value=\"").unwrap();
    (cookie, rest[..rest.find('"').unwrap()].to_owned())
}

async fn audited(face: &Face) -> i64 {
    sqlx::query_scalar("select count(*) from impact_mirror.audit").fetch_one(&face.pool).await.unwrap()
}

#[tokio::test]
async fn without_a_token_nothing_can_be_done() {
    let face = Face::new().await;
    face.run(SMALL_STATE).await;
    for path in ["/exports/actions/pause", "/accounts/acme/pause", "/jobs/2/cancel", "/logout"] {
        assert_eq!(post(&face, path, "form=", &[]).await.status(), StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(post(&face, "/login", "token=", &[]).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(face.get("/login").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(audited(&face).await, 0);
    let page = face.get("/exports/actions").await.text().await.unwrap();
    assert!(!page.contains("<form") && !page.contains("Sign in"), "{page}");
}

#[tokio::test]
async fn only_a_session_with_its_form_token_from_the_same_origin_acts() {
    let face = Face::new().await;
    face.run(SMALL_STATE).await;
    face.server.take_actions(SecretString::from(TOKEN));
    assert_eq!(post(&face, "/login", "token=0123456789abcdef", &[]).await.status(), StatusCode::FORBIDDEN);
    let (cookie, form) = sign_in(&face).await;
    let (_, other_form) = sign_in(&face).await;
    let (body, other_body) = (format!("form={form}"), format!("form={other_form}"));
    let pause = "/exports/actions/pause";
    for (what, body, headers) in [
        ("no cookie", body.as_str(), &[][..]),
        ("a made-up cookie", &body, &[("cookie", "impact_mirror_session=x")]),
        ("no form token", "form=", &[("cookie", &cookie)]),
        ("the form token of another session", &other_body, &[("cookie", &cookie)]),
        ("another site", &body, &[("cookie", &cookie), ("sec-fetch-site", "cross-site")]),
        ("another port", &body, &[("cookie", &cookie), ("sec-fetch-site", "same-site")]),
        ("another origin", &body, &[("cookie", &cookie), ("origin", "http://evil.example")]),
        ("a hidden origin", &body, &[("cookie", &cookie), ("origin", "null")]),
    ] {
        assert_eq!(post(&face, pause, body, headers).await.status(), StatusCode::FORBIDDEN, "{what}");
    }
    assert_eq!(audited(&face).await, 0);
    let done = post(&face, pause, &body, &[("cookie", &cookie), ("sec-fetch-site", "same-origin")]).await;
    assert_eq!(done.status(), StatusCode::SEE_OTHER);
    assert_eq!(done.headers()["location"], "/exports/actions?done=1");
    let page = face.get("/").await.text().await.unwrap();
    assert!(page.contains("Export actions is paused by hand since"), "{page}");
    assert_eq!(post(&face, "/logout", &body, &[("cookie", &cookie)]).await.status(), StatusCode::SEE_OTHER);
    assert_eq!(post(&face, pause, &body, &[("cookie", &cookie)]).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn after_ten_wrong_tokens_even_the_right_one_has_to_wait() {
    let face = Face::new().await;
    face.server.take_actions(SecretString::from(TOKEN));
    for guess in 0..10 {
        let answer = post(&face, "/login", &format!("token={guess}"), &[]).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{guess}");
    }
    let answer = post(&face, "/login", &format!("token={TOKEN}"), &[]).await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.text().await.unwrap().contains("try again in a minute"));
}

#[tokio::test]
async fn a_reload_ends_sessions_only_where_it_brings_another_token() {
    let face = Face::new().await;
    face.run(SMALL_STATE).await;
    let settings = |token: Option<&str>| config::Http {
        listen: "127.0.0.1:0".parse().unwrap(),
        postback_secret: None,
        token: token.map(SecretString::from),
        hosts: Vec::new(),
    };
    face.server.heed(&settings(Some(TOKEN)));
    let (cookie, form) = sign_in(&face).await;
    let pause = async || {
        let body = format!("form={form}");
        post(&face, "/exports/actions/pause", &body, &[("cookie", &cookie)]).await.status()
    };
    face.server.heed(&settings(Some(TOKEN)));
    assert_eq!(pause().await, StatusCode::SEE_OTHER);
    face.server.heed(&settings(Some("another-token-0123")));
    assert_eq!(pause().await, StatusCode::FORBIDDEN);
    face.server.heed(&settings(None));
    assert_eq!(face.get("/login").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn days_that_cannot_be_meant_are_refused_in_words() {
    let face = Face::new().await;
    face.run(SMALL_STATE).await;
    face.server.take_actions(SecretString::from(TOKEN));
    let (cookie, form) = sign_in(&face).await;
    for (path, days, words) in [
        ("/exports/actions/refresh", "from=2026-02-30&to=2026-03-01", "Both days are needed"),
        ("/exports/actions/refresh", "from=2001-01-01&to=2001-01-02", "is no time that actions has"),
        ("/exports/nothing/refresh", "from=2001-01-01&to=2001-01-02", "is not configured"),
    ] {
        let answer = post(&face, path, &format!("form={form}&{days}"), &[("cookie", &cookie)]).await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{days}");
        assert!(answer.text().await.unwrap().contains(words), "{days}");
    }
    let nowhere = post(&face, "/jobs/2/explode", &format!("form={form}"), &[("cookie", &cookie)]).await;
    assert_eq!(nowhere.status(), StatusCode::NOT_FOUND);
    assert_eq!(audited(&face).await, 0);
}

#[tokio::test]
async fn a_name_that_is_not_ours_is_not_answered() {
    let face = Face::new().await;
    face.server.also_known_as(vec!["mirror.example.com".to_owned()]);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for (host, status) in [
        ("evil.example", StatusCode::MISDIRECTED_REQUEST),
        ("evil.example:9464", StatusCode::MISDIRECTED_REQUEST),
        ("localhost:9464", StatusCode::OK),
        ("mirror.example.com", StatusCode::OK),
    ] {
        for path in ["", "metrics", "style.css"] {
            let url = format!("{}{path}", face.server.url());
            let answer = client.get(url).header("host", host).send().await.unwrap();
            assert_eq!(answer.status(), status, "{host} {path}");
        }
    }
}

#[tokio::test]
async fn an_open_page_is_told_of_a_change_and_of_nothing_else() {
    let face = Face::new().await;
    face.run(SMALL_STATE).await;
    let answer = face.get("/events").await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut told = answer.bytes_stream();
    let first = String::from_utf8(told.next().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(first.starts_with("event: changed\ndata: "), "{first}");
    face.run("update impact_mirror.job set remote_percent = 99 where id = 2").await;
    let next = tokio::time::timeout(Duration::from_secs(20), told.next()).await.unwrap().unwrap().unwrap();
    let next = String::from_utf8(next.to_vec()).unwrap();
    assert!(next.starts_with("event: changed\n") && next != first, "{next}");
    face.server.stop().await;
    assert!(!matches!(told.next().await, Some(Ok(_))), "a server that stops ends the conversation");
}

#[tokio::test]
async fn every_page_escapes_what_it_is_told() {
    let face = Face::new().await;
    let hostile =
        SMALL_STATE.replace("'actions'", "'<script>export</script>'").replace("'r-1'", "'<script>remote</script>'");
    sqlx::raw_sql(AssertSqlSafe(hostile)).execute(&face.pool).await.unwrap();
    for path in ["/exports/%3Cscript%3Eexport%3C%2Fscript%3E", "/jobs/2", "/jobs/1"] {
        let answer = face.get(path).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let page = answer.text().await.unwrap();
        assert!(!page.contains("<script>") && page.contains("href=\"/"), "{page}");
    }
    for path in ["/exports/nothing", "/jobs/99", "/loads/99"] {
        assert_eq!(face.get(path).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
}
