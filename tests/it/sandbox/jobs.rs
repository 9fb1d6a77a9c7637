//! The life of a job: submission, duplicates, replay, listing, download, expiry.

use super::*;

#[tokio::test]
async fn an_identical_submission_is_answered_with_the_same_job_and_counts() {
    let api = Api::start().await;
    let first = api.submit(BRAND, &format!("ReportExport/{LISTING}?{APRIL}")).await;
    api.ended(BRAND, &first).await;
    api.sandbox.set_behaviour("quota_headers=daily").unwrap();
    let again = "StartDate=2026-04-01&subaid=1000&ResultFormat=CSV&EndDate=2026-04-30";
    let reply = api.get(BRAND, &format!("ReportExport/{LISTING}?{again}")).await;
    assert_eq!(reply.headers()["x-ratelimit-remaining"], "98");
    let reply: Value = reply.json().await.unwrap();
    assert!(reply["QueuedUri"].as_str().unwrap().ends_with(&first));
    assert_eq!(reply["Status"], "COMPLETED");
    assert_ne!(first, api.submit(BRAND, &format!("ReportExport/{LISTING}?{APRIL}&SHOW_AD=1")).await);
    api.sandbox.set_behaviour("duplicate_key=raw").unwrap();
    assert_ne!(first, api.submit(BRAND, &format!("ReportExport/{LISTING}?{again}")).await);
}

#[tokio::test]
async fn a_replay_keeps_the_id_and_refreshes_the_data() {
    let api = Api::start().await;
    let id = api.submit(BRAND, &format!("ReportExport/{LISTING}?{APRIL}")).await;
    let before = api.ended(BRAND, &id).await;
    let old = api.download(BRAND, &id).await;
    api.sandbox.advance(TimeDelta::days(10));
    assert_eq!(old, api.download(BRAND, &id).await, "a result is a snapshot");
    let replayed: Value = api.replay(BRAND, &id).await.json().await.unwrap();
    assert_eq!((&replayed["Id"], &replayed["Status"]), (&before["Id"], &"QUEUED".into()));
    assert_eq!(api.replay(BRAND, &id).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(api.get(BRAND, &format!("Jobs/{id}/Download")).await.status(), StatusCode::ACCEPTED);
    let after = api.ended(BRAND, &id).await;
    assert_ne!(before["CompletedDate"], after["CompletedDate"]);
    assert_eq!(before["CreatedDate"], after["CreatedDate"]);
    assert_ne!(old, api.download(BRAND, &id).await);
}

#[tokio::test]
async fn a_second_end_never_has_the_time_of_the_first() {
    let api = Api::start().await;
    let id = api.submit(BRAND, &format!("ReportExport/{LISTING}?{APRIL}")).await;
    let before = api.ended(BRAND, &id).await;
    api.replay(BRAND, &id).await;
    assert_ne!(before["CompletedDate"], api.ended(BRAND, &id).await["CompletedDate"]);
}

#[tokio::test]
async fn a_replay_can_make_a_new_job() {
    for (api, sid, report) in
        [(Api::behaving("replay_id=new").await, BRAND, LISTING), (Api::start().await, AGENCY, "agency_action_listing")]
    {
        let resource = format!("ReportExport/{report}?{APRIL}");
        let id = api.submit(sid, &resource).await;
        api.ended(sid, &id).await;
        let new: Value = api.replay(sid, &id).await.json().await.unwrap();
        let new = new["Id"].as_str().unwrap();
        assert_ne!(id, new);
        assert_eq!(api.ended(sid, new).await["Status"], "COMPLETED");
        assert_eq!(api.json(sid, &format!("Jobs/{id}")).await["Status"], "COMPLETED");
        assert_eq!(api.submit(sid, &resource).await, new);
    }
}

#[tokio::test]
async fn reads_after_a_replay_can_be_stale() {
    let api = Api::behaving("stale_reads_after_replay=2").await;
    let id = api.submit(BRAND, &format!("ReportExport/{LISTING}?{APRIL}")).await;
    let before = api.ended(BRAND, &id).await;
    api.replay(BRAND, &id).await;
    assert_eq!(before, api.json(BRAND, &format!("Jobs/{id}")).await);
    assert_eq!(before, api.json(BRAND, &format!("Jobs/{id}")).await);
    assert_ne!(before, api.ended(BRAND, &id).await);
}

#[tokio::test]
async fn a_list_has_pages_and_can_be_narrowed_to_dates() {
    let api = Api::start().await;
    let mut ids = Vec::new();
    for date in ["2026-04-01", "2026-04-02", "2026-04-03"] {
        ids.push(api.submit(BRAND, &format!("Programs/1000/ClickExport?Date={date}")).await);
        api.sandbox.advance(TimeDelta::days(1));
    }
    let first = api.json(BRAND, "Jobs?PageSize=2").await;
    assert_eq!((&first["@total"], &first["@numpages"]), (&"3".into(), &"2".into()));
    let next = first["@nextpageuri"].as_str().unwrap().trim_start_matches(&format!("/Advertisers/{BRAND}/")).to_owned();
    let second = api.json(BRAND, &next).await;
    let seen: Vec<&str> = [&first, &second]
        .iter()
        .flat_map(|page| page["Jobs"].as_array().unwrap())
        .map(|job| job["Id"].as_str().unwrap())
        .collect();
    assert_eq!(seen, [&ids[2], &ids[1], &ids[0]]);
    assert_eq!(second["@nextpageuri"], "");
    let window = "Jobs?CreatedAfter=2026-05-16T00:00:00Z&CreatedBefore=2026-05-17T00:00:00Z";
    let narrowed = api.json(BRAND, window).await;
    assert_eq!(narrowed["Jobs"].as_array().unwrap().len(), 1);
    assert_eq!(narrowed["Jobs"][0]["Id"], ids[1].as_str());
}

#[tokio::test]
async fn a_download_redirects_to_a_signed_url_that_takes_no_token_and_expires() {
    let api = Api::start().await;
    let id = api.submit(BRAND, "Programs/1000/ClickExport?Date=2026-04-01").await;
    api.ended(BRAND, &id).await;
    let redirect = api.get(BRAND, &format!("Jobs/{id}/Download")).await;
    assert_eq!(redirect.status(), StatusCode::FOUND);
    let url = redirect.headers()["location"].to_str().unwrap().to_owned();
    let file = api.client.get(&url).send().await.unwrap();
    assert_eq!(file.status(), StatusCode::OK);
    let length = file.content_length().unwrap();
    let bytes = file.bytes().await.unwrap();
    assert_eq!(bytes.len() as u64, length);
    assert_eq!(bytes, api.download(BRAND, &id).await);
    let with_token = api.client.get(&url).basic_auth(BRAND, Some("sandbox-brand-token")).send().await.unwrap();
    assert_eq!(with_token.status(), StatusCode::BAD_REQUEST);
    let forged = api.client.get(url.replace("signature=", "signature=0")).send().await.unwrap();
    assert_eq!(forged.status(), StatusCode::FORBIDDEN);
    api.sandbox.advance(TimeDelta::minutes(6));
    assert_eq!(api.client.get(&url).send().await.unwrap().status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_old_result_expires_and_a_replay_brings_it_back() {
    for status in [404, 410, 403] {
        let api = Api::behaving(&format!("expired_download={status}")).await;
        let id = api.submit(BRAND, "Programs/1000/ClickExport?Date=2026-04-01").await;
        api.ended(BRAND, &id).await;
        api.sandbox.advance(TimeDelta::days(91));
        assert_eq!(api.get(BRAND, &format!("Jobs/{id}/Download")).await.status().as_u16(), status);
        api.replay(BRAND, &id).await;
        api.ended(BRAND, &id).await;
        assert_eq!(api.get(BRAND, &format!("Jobs/{id}/Download")).await.status(), StatusCode::FOUND);
    }
}

#[tokio::test]
async fn a_failed_replay_takes_the_old_file_with_it_or_not() {
    for (setting, status) in [("failed_replay_file=gone", 202), ("failed_replay_file=kept", 302)] {
        let api = Api::behaving(setting).await;
        let id = api.submit(BRAND, "Programs/1000/ClickExport?Date=2026-04-01").await;
        api.ended(BRAND, &id).await;
        api.inject(Point::Replay, FaultKind::JobFails);
        api.replay(BRAND, &id).await;
        assert_eq!(api.ended(BRAND, &id).await["Status"], "FAILED");
        assert_eq!(api.get(BRAND, &format!("Jobs/{id}/Download")).await.status().as_u16(), status, "{setting}");
    }
}

#[tokio::test]
async fn an_ended_job_is_posted_back_until_somebody_says_yes() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?job={{JobId}}&status={{Status}}", listener.local_addr().unwrap());
    let api = Api::with(Options { postback_url: Some(url), ..options() }).await;
    let id = api.submit(BRAND, "Programs/1000/ClickExport?Date=2026-04-01").await;
    for reply in ["HTTP/1.1 500 No\r\n\r\n", "HTTP/1.1 204 Yes\r\n\r\n"] {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 1024];
        let read = stream.read(&mut request).await.unwrap();
        let request = String::from_utf8_lossy(&request[..read]).into_owned();
        assert!(request.starts_with(&format!("GET /hook?job={id}&status=COMPLETED ")), "{request}");
        stream.write_all(reply.as_bytes()).await.unwrap();
    }
}
