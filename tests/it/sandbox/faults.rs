//! Each fault does what it says.

use super::*;

#[tokio::test]
async fn a_reply_can_be_lost_before_or_after_the_effect() {
    let api = Api::start().await;
    let resource = format!("ReportExport/{LISTING}?{APRIL}");
    api.inject(Point::Submit, FaultKind::Reset);
    assert!(api.try_send(Method::GET, BRAND, &resource).await.is_err());
    assert!(api.json(BRAND, "Jobs").await["Jobs"].as_array().unwrap().is_empty());
    api.inject(Point::Submit, FaultKind::ReplyLost);
    assert!(api.try_send(Method::GET, BRAND, &resource).await.is_err());
    let jobs = api.json(BRAND, "Jobs").await;
    assert_eq!(jobs["Jobs"].as_array().unwrap().len(), 1);
    assert_eq!(api.submit(BRAND, &resource).await, jobs["Jobs"][0]["Id"].as_str().unwrap());
    let lost = api.sandbox.calls().into_iter().filter(|call| call.status.is_none()).count();
    assert_eq!(lost, 2);
}

#[tokio::test]
async fn wrong_answers_can_be_ordered() {
    let api = Api::start().await;
    for (kind, status, body) in [
        (FaultKind::Http500, 500, "{\"Message\":\"Unknown error\",\"Status\":\"ERROR\"}"),
        (FaultKind::Html502, 502, "<html>"),
        (FaultKind::Html200, 200, "<html>"),
        (FaultKind::ErrorObject200, 200, "{\"Message\":\"Unknown error\",\"Status\":\"ERROR\"}"),
        (FaultKind::Empty200, 200, ""),
        (FaultKind::Http401, 401, "{"),
        (FaultKind::Http403, 403, "{"),
        (FaultKind::Throttle429, 429, "{"),
    ] {
        api.inject(Point::List, kind);
        let response = api.get(BRAND, "Jobs").await;
        assert_eq!(response.status().as_u16(), status);
        let text = response.text().await.unwrap();
        assert!(text.starts_with(body) && (text.is_empty() == body.is_empty()), "{kind:?}: {text}");
        assert_eq!(api.get(BRAND, "Jobs").await.status(), StatusCode::OK, "{kind:?} happens once");
    }
}

#[tokio::test]
async fn files_can_be_damaged_on_their_way() {
    let api = Api::start().await;
    let id = api.submit(BRAND, "Programs/1000/ClickExport?Date=2026-04-01").await;
    api.ended(BRAND, &id).await;
    let whole = api.download(BRAND, &id).await;
    let damaged = async |kind| {
        let redirect = api.get(BRAND, &format!("Jobs/{id}/Download")).await;
        let url = redirect.headers()["location"].to_str().unwrap().to_owned();
        api.inject(Point::Storage, kind);
        let response = api.client.get(url).send().await.unwrap();
        (response.content_length(), response.bytes().await)
    };
    let (length, bytes) = damaged(FaultKind::Truncate).await;
    assert_eq!(length, Some(whole.len() as u64));
    assert!(bytes.is_err());
    let (length, bytes) = damaged(FaultKind::ShortFile).await;
    assert_eq!(length, None);
    let short = bytes.unwrap();
    assert!(short.len() < whole.len() && whole.starts_with(&short) && short.ends_with(b"\n"));
    assert!(rows(&short).len() > 10);
    let (length, bytes) = damaged(FaultKind::WrongLength).await;
    let cut = bytes.unwrap();
    assert!(length == Some(cut.len() as u64) && whole.starts_with(&cut) && !cut.ends_with(b"\n"));
    let (_, bytes) = damaged(FaultKind::GarbageRows).await;
    let garbage = bytes.unwrap();
    assert!(garbage.len() > whole.len() && std::str::from_utf8(&garbage).is_err());
    let (_, bytes) = damaged(FaultKind::HostileHeaders).await;
    let hostile = bytes.unwrap();
    let after_header = |file: &[u8]| file[file.iter().position(|byte| *byte == b'\n').unwrap()..].to_vec();
    assert_eq!(after_header(&hostile), after_header(&whole));
    assert_ne!(hostile, whole);
    let (_, bytes) = damaged(FaultKind::Stall(0.05)).await;
    assert_eq!(bytes.unwrap(), whole);
}

#[tokio::test]
async fn jobs_can_end_badly_or_not_at_all() {
    let api = Api::start().await;
    let ends =
        [(FaultKind::JobFails, "FAILED"), (FaultKind::JobCancelled, "CANCELLED"), (FaultKind::JobErrorThenOk, "ERROR")];
    let mut in_error = String::new();
    for (index, (kind, status)) in ends.into_iter().enumerate() {
        api.inject(Point::Submit, kind);
        let id = api.submit(BRAND, &format!("Programs/1000/ClickExport?Date=2026-04-0{}", index + 1)).await;
        assert_eq!(api.ended(BRAND, &id).await["Status"], status);
        in_error = id;
    }
    while api.json(BRAND, &format!("Jobs/{in_error}")).await["Status"] != "COMPLETED" {
        api.sandbox.advance(TimeDelta::minutes(15));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    api.inject(Point::Submit, FaultKind::JobNeverEnds);
    let stuck = api.submit(BRAND, "Programs/1000/ClickExport?Date=2026-04-05").await;
    let other = api.submit(BRAND, "Programs/1000/ClickExport?Date=2026-04-06").await;
    assert_eq!(api.ended(BRAND, &other).await["Status"], "COMPLETED");
    assert_eq!(api.json(BRAND, &format!("Jobs/{stuck}")).await["Status"], "RUNNING");
    api.inject(Point::Download, FaultKind::ExpireResult);
    assert_eq!(api.get(BRAND, &format!("Jobs/{other}/Download")).await.status(), StatusCode::NOT_FOUND);
}
