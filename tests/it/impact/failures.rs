//! What failures become: their class, their words, and nothing secret.

use std::time::Duration;

use impact_mirror::account::Persona;
use impact_mirror::error_chain::Chain;
use impact_mirror::impact::{Call, Client, Error, RemoteJobId};
use impact_mirror::retry::ErrorKind;

use super::fake::{BASIC, Fake, Reply, SID, TOKEN, client, nobody, raw, reply, report};

async fn submit(client: &Client) -> Error {
    client.submit(&report("r", "1", &[])).await.unwrap_err()
}

fn assert_keeps_secrets(error: &Error) {
    let told = format!("{error} {error:?} {error:#?} {}", Chain(error));
    for secret in [SID, TOKEN, BASIC.trim_start_matches("Basic "), "START_DATE", "2026-05"] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}

#[tokio::test]
async fn every_status_of_a_submission_has_its_class_and_its_words() {
    let envelope = r#"{"Status":"ERROR","Message":"In own words"}"#;
    let xml = "<ImpactRadiusResponse><Status>ERROR</Status><Message>In own words</Message></ImpactRadiusResponse>";
    let html = "<html><head><script>x</script></head><body><h1>In own words</h1></body></html>";
    let gateway = r#"{"title":"In own words","request_id":"1"}"#;
    for (status, kind, may_have_taken_effect) in [
        (200, ErrorKind::Permanent, false),
        (400, ErrorKind::Permanent, false),
        (401, ErrorKind::Credentials, false),
        (402, ErrorKind::Permanent, false),
        (403, ErrorKind::Forbidden, false),
        (404, ErrorKind::Permanent, false),
        (405, ErrorKind::Permanent, false),
        (408, ErrorKind::Transient, true),
        (410, ErrorKind::Permanent, false),
        (418, ErrorKind::Permanent, false),
        (429, ErrorKind::Throttled, false),
        (500, ErrorKind::Transient, true),
        (502, ErrorKind::Transient, true),
        (503, ErrorKind::Transient, true),
        (504, ErrorKind::Transient, true),
        (520, ErrorKind::Transient, true),
        (524, ErrorKind::Transient, true),
        (599, ErrorKind::Transient, true),
    ] {
        for body in [envelope, xml, html, gateway] {
            if status == 200 && (body == html || body == gateway) {
                continue;
            }
            let fake = Fake::start([reply(status, body)]).await;
            let error = submit(&fake.client(Persona::Brand)).await;
            assert_eq!(error.kind(), kind, "{status} {body}");
            assert_eq!(error.may_have_taken_effect(), may_have_taken_effect, "{status} {body}");
            assert!(error.to_string().ends_with(": In own words"), "{status} {body}: {error}");
            assert_eq!(error.call(), Some(Call::Submit));
            assert_keeps_secrets(&error);
        }
        if status != 200 {
            for body in ["", "\u{0}\u{1}", "{", "<", "[]", "null"] {
                let fake = Fake::start([reply(status, body)]).await;
                assert_eq!(submit(&fake.client(Persona::Brand)).await.kind(), kind, "{status} {body:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_redirect_of_a_submission_is_not_followed() {
    let fake = Fake::start([]).await;
    fake.then([reply(302, "").header("location", format!("{}/elsewhere", fake.origin))]);
    let error = submit(&fake.client(Persona::Brand)).await;
    assert!(matches!(error, Error::Unreadable { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn a_throttled_call_says_when_to_come_back() {
    let throttled = |name, value: &str| reply(429, "").header(name, value);
    for (answer, seconds) in [
        (throttled("retry-after", "42"), Some(42)),
        (throttled("x-ratelimit-reset", "90"), Some(90)),
        (throttled("ratelimit-reset", "700").header("retry-after", "nonsense"), Some(700)),
        (reply(429, ""), None),
        (reply(503, "").header("retry-after", "5"), Some(5)),
        (reply(503, "").header("x-ratelimit-reset", "3600"), None),
        (reply(400, "").header("retry-after", "5"), None),
    ] {
        let fake = Fake::start([answer.clone().header("x-ratelimit-remaining", "0")]).await;
        let error = submit(&fake.client(Persona::Brand)).await;
        assert_eq!(error.retry_after(), seconds.map(Duration::from_secs), "{answer:?}");
        assert_eq!(error.limits().unwrap().remaining, Some(0));
    }
}

#[tokio::test]
async fn a_refused_replay_can_be_told_from_a_missing_scope() {
    let refused = reply(403, r#"{"Status":"ERROR","Message":"Job is running"}"#);
    let fake = Fake::start([refused.clone(), refused]).await;
    let client = fake.client(Persona::Brand);
    let error = client.replay(&RemoteJobId::new("j")).await.unwrap_err();
    assert!(
        matches!(&error, Error::Forbidden(refusal) if refusal.call == Call::Replay && refusal.message == "Job is running")
    );
    assert!(!error.may_have_taken_effect());
    assert_eq!(submit(&client).await.call(), Some(Call::Submit));
}

#[tokio::test]
async fn a_job_that_is_not_there_is_expired() {
    for status in [404, 410] {
        let fake = Fake::start([reply(status, ""), reply(status, "")]).await;
        let client = fake.client(Persona::Brand);
        let id = RemoteJobId::new("j");
        assert_eq!(client.job(&id).await.unwrap_err().kind(), ErrorKind::Expired);
        assert_eq!(client.replay(&id).await.unwrap_err().kind(), ErrorKind::Expired);
    }
}

#[tokio::test]
async fn a_failed_read_never_took_effect() {
    let fake = Fake::start([reply(500, "")]).await;
    let error = fake.client(Persona::Brand).company().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(!error.may_have_taken_effect());
}

#[tokio::test]
async fn lost_connections_are_transient_and_may_have_taken_effect_once_the_request_was_out() {
    const CUT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"Status\":\"QUEUED\"";
    const CUT_CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"Status\"";
    let refused = nobody().await;
    for (origin, may_have_taken_effect) in [
        (refused, false),
        (raw(b"no TLS here", false).await.replace("http:", "https:"), false),
        (raw(b"", false).await, true),
        (raw(b"", true).await, true),
        (raw(CUT, false).await, true),
        (raw(CUT, true).await, true),
        (raw(CUT_CHUNKED, false).await, true),
        (raw(b"not http at all\r\n\r\n", false).await, true),
        (raw(b"HTTP/1.1 500 X\r\nContent-Length: 500\r\n\r\n{", false).await, true),
    ] {
        let client = client(&origin, Persona::Brand);
        for error in [submit(&client).await, client.replay(&RemoteJobId::new("j")).await.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Transient, "{}", Chain(&error));
            assert_eq!(error.may_have_taken_effect(), may_have_taken_effect, "{}", Chain(&error));
            assert_keeps_secrets(&error);
        }
    }
}

#[tokio::test]
async fn a_body_that_echoes_the_secrets_does_not_give_them_away() {
    let echo = format!(
        "GET /Advertisers/{SID}/ReportExport/r?START_DATE=2026-05-01 Authorization: {BASIC} as {SID}:{TOKEN} failed"
    );
    let json = serde_json::json!({"Status": "ERROR", "Message": echo}).to_string();
    for body in [echo.clone(), json, format!("<html><body>{echo}</body></html>")] {
        for status in [400, 401, 403, 404, 429, 500] {
            let fake = Fake::start([reply(status, &body)]).await;
            assert_keeps_secrets(&submit(&fake.client(Persona::Brand)).await);
        }
    }
    let job = serde_json::json!({"Id": "j", "Status": "FAILED", "StatusMessage": echo}).to_string();
    let fake = Fake::start([reply(200, job)]).await;
    let job = fake.client(Persona::Brand).job(&RemoteJobId::new("j")).await.unwrap();
    assert!(!format!("{job:?}").contains(SID) && !format!("{job:?}").contains(TOKEN));
    assert!(!format!("{:?}", fake.client(Persona::Brand)).contains(TOKEN));
}

#[tokio::test]
async fn a_long_message_is_shortened() {
    let fake = Fake::start([reply(400, "x".repeat(200_000))]).await;
    let error = submit(&fake.client(Persona::Brand)).await;
    assert!(error.to_string().chars().count() < 400);
    let endless: Reply = reply(500, vec![b'x'; 1 << 20]).chunked();
    let fake = Fake::start([endless]).await;
    assert_eq!(submit(&fake.client(Persona::Brand)).await.kind(), ErrorKind::Transient);
}
