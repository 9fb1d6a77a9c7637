//! What every caller meets: envelopes, personas, refusals, limits, control.

use super::*;

#[tokio::test]
async fn replies_are_xml_unless_json_is_asked_for() {
    let api = Api::start().await;
    let (persona, token) = Api::credentials(BRAND);
    let get = async |resource: &str| {
        let url = format!("{}/{}/{BRAND}/{resource}", api.sandbox.base_url(), persona.to_uppercase());
        api.client.get(url).basic_auth(BRAND, Some(token)).send().await.unwrap().text().await.unwrap()
    };
    let xml = get("CompanyInformation").await;
    assert!(xml.contains("<CompanyInformation><CompanyName>Sandbox Brand</CompanyName>"), "{xml}");
    assert!(get("Nothing").await.contains("<ImpactRadiusResponse><Message>"));
    assert!(get("Reports").await.contains("<Reports end=\"5\""));
    let json: Value = serde_json::from_str(&get("CompanyInformation.json").await).unwrap();
    assert_eq!(json["Timezone"], "(GMT -05:00) Eastern Time (US & Canada)");
}

#[tokio::test]
async fn each_persona_has_its_own_shapes() {
    let api = Api::start().await;
    let by_fast = "ReportExport/mp_action_listing_fast?START_DATE=2026-04-01&END_DATE=2026-04-02";
    let ids = [
        (BRAND, api.submit(BRAND, &format!("ReportExport/{LISTING}?{APRIL}")).await),
        (PARTNER, api.submit(PARTNER, by_fast).await),
        (AGENCY, api.submit(AGENCY, &format!("ReportExport/agency_action_listing?{APRIL}")).await),
    ];
    for (sid, id) in &ids {
        let job = api.ended(sid, id).await;
        assert_eq!((&job["Status"], &job["Type"]), (&"COMPLETED".into(), &"ApiReport".into()));
        assert_eq!(job["PercentageComplete"], "100");
        let unset = if *sid == BRAND { Value::Null } else { "".into() };
        assert_eq!(job["FailedDate"], unset, "{sid}");
        let foreign = if *sid == BRAND { PARTNER } else { BRAND };
        assert_eq!(api.get(foreign, &format!("Jobs/{id}")).await.status(), StatusCode::NOT_FOUND);
    }
    assert_eq!(api.json(BRAND, "Jobs").await["Jobs"][0]["Id"], ids[0].1.as_str());
    assert_eq!(api.json(AGENCY, "Jobs").await[0]["Id"], ids[2].1.as_str());
    let brands = api.json(AGENCY, "Advertisers").await;
    assert!(brands[0]["RestAccountURL"].as_str().unwrap().starts_with(BRAND));
    assert_eq!(api.json(PARTNER, "Campaigns").await["Campaigns"][0]["CampaignId"], "1000");
    assert_eq!(api.json(BRAND, "Campaigns").await["Campaigns"][0]["Id"], 1000);
}

#[tokio::test]
async fn bad_requests_are_refused_in_the_way_of_the_persona() {
    let api = Api::start().await;
    let status = async |sid: &str, resource: &str| api.get(sid, resource).await.status().as_u16();
    assert_eq!(status(BRAND, &format!("ReportExport/no_such_report?{APRIL}")).await, 404);
    assert_eq!(status(BRAND, &format!("ReportExport/{LISTING}?SUBAID=1000")).await, 400);
    assert_eq!(status(BRAND, &format!("ReportExport/{LISTING}?START_DATE=2026-04-01T00:00:00.000Z")).await, 400);
    assert_eq!(status(PARTNER, "ReportExport/mp_action_listing_sku?START_DATE=2026-04-01").await, 400);
    assert_eq!(status(BRAND, "Programs/1000/ClickExport?Date=2024-04-09").await, 400);
    assert_eq!(status(BRAND, "Programs/77/ClickExport?Date=2026-04-09").await, 404);
    assert_eq!(status(AGENCY, "ReportExport/no_such_report?START_DATE=2026-04-01").await, 200);
    let agency = api.json(AGENCY, "ReportExport/no_such_report?START_DATE=2026-04-01").await;
    assert_eq!(agency["Status"], "ERROR");
    let url = format!("{}/Advertisers/{BRAND}/Jobs", api.sandbox.base_url());
    let wrong = api.client.get(url).basic_auth(BRAND, Some("wrong")).send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn limits_end_in_429_with_the_headers_of_the_persona() {
    let api = Api::start().await;
    for number in 1..=10 {
        api.submit(BRAND, &format!("Programs/1000/ClickExport?Date=2026-04-{number:02}")).await;
        api.submit(PARTNER, &format!("ClickExport?Date=2026-04-{number:02}")).await;
    }
    let brand = api.get(BRAND, "Programs/1000/ClickExport?Date=2026-04-11").await;
    assert_eq!(brand.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(brand.headers()["x-ratelimit-limit"], "10");
    assert_eq!(brand.headers()["x-ratelimit-remaining"], "0");
    assert_eq!(brand.headers()["x-ratelimit-reset"], "86400");
    assert!(!brand.headers().contains_key("retry-after"));
    let partner = api.get(PARTNER, "ClickExport?Date=2026-04-11").await;
    assert_eq!(partner.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(partner.headers()["x-ratelimit-limit-hour"], "10");
    assert_eq!(partner.headers()["ratelimit-reset"], "86400");
    assert_eq!(partner.headers()["retry-after"], "86400");
    let other = api.get(BRAND, "Jobs").await;
    assert_eq!((other.status(), &other.headers()["x-ratelimit-limit"]), (StatusCode::OK, &"1000".parse().unwrap()));
    api.sandbox.set_behaviour("reset_header=epoch").unwrap();
    let epoch = api.get(BRAND, "Programs/1000/ClickExport?Date=2026-04-11").await;
    let reset: i64 = epoch.headers()["x-ratelimit-reset"].to_str().unwrap().parse().unwrap();
    assert_eq!(reset, (api.sandbox.now() + TimeDelta::days(1)).timestamp());
    api.sandbox.advance(TimeDelta::days(1));
    assert_eq!(api.get(BRAND, "Programs/1000/ClickExport?Date=2026-04-11").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_replay_counts_like_a_submission_or_not() {
    for (setting, status) in [("replay_costs=yes", 429), ("replay_costs=no", 200)] {
        let api = Api::behaving(setting).await;
        let id = api.submit(BRAND, "Programs/1000/ClickExport?Date=2026-04-01").await;
        api.ended(BRAND, &id).await;
        for _ in 1..10 {
            api.submit(BRAND, "Programs/1000/ClickExport?Date=2026-04-01").await;
        }
        assert_eq!(api.replay(BRAND, &id).await.status().as_u16(), status, "{setting}");
    }
}

#[tokio::test]
async fn another_process_can_drive_it() {
    let api = Api::start().await;
    let base = api.sandbox.base_url();
    let post = async |path: &str, body: &'static str| {
        api.client.post(format!("{base}/_sandbox/{path}")).body(body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(post("advance?by=1d", "").await, 200);
    assert_eq!(api.sandbox.now(), options().start + TimeDelta::days(1));
    assert_eq!(post("advance?by=soon", "").await, 400);
    assert_eq!(post("fault", r#"{"on":"list","kind":"http_500"}"#).await, 200);
    assert_eq!(post("fault", r#"{"on":"list","kind":"fire"}"#).await, 400);
    assert_eq!(post("behaviour?set=agency_lists%3Dwrapped", "").await, 200);
    assert_eq!(api.get(AGENCY, "Jobs").await.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(api.json(AGENCY, "Jobs").await["Jobs"].is_array());
    let fetch = async |path: &str| api.client.get(format!("{base}{path}")).send().await.unwrap().text().await.unwrap();
    let calls: Value = serde_json::from_str(&fetch("/_sandbox/calls").await).unwrap();
    assert_eq!(calls["counts"]["list"], 2);
    assert_eq!(calls["calls"][0]["status"], 500);
    let truth =
        fetch(&format!("/_sandbox/truth?sid={BRAND}&report=clicks&program=1000&from=2026-04-01&to=2026-04-01")).await;
    assert_eq!(truth.as_bytes(), api.export(BRAND, "Programs/1000/ClickExport?Date=2026-04-01").await);
    assert!(fetch("/").await.contains("agency_lists=wrapped"));
}

#[tokio::test]
async fn a_stopped_sandbox_answers_no_more() {
    let api = Api::start().await;
    let id = api.submit(BRAND, "Programs/1000/ClickExport?Date=2026-04-01").await;
    api.ended(BRAND, &id).await;
    let url = api.sandbox.base_url();
    api.sandbox.stop().await;
    assert!(api.client.get(url).send().await.is_err());
}

#[tokio::test]
async fn the_server_lives_in_the_time_of_the_sandbox() {
    let api = Api::start().await;
    api.sandbox.advance(TimeDelta::hours(3));
    let response = api.get(BRAND, "Jobs").await;
    assert_eq!(response.headers()["date"], "Fri, 15 May 2026 19:00:00 GMT");
}

#[tokio::test]
async fn a_crowd_gets_no_more_than_the_quota() {
    let api = Api::start().await;
    let calls = (0..25).map(|_| api.get(BRAND, "Programs/1000/ClickExport?Date=2026-04-01"));
    let replies = futures_util::future::join_all(calls).await;
    assert_eq!(replies.iter().filter(|reply| reply.status() == StatusCode::OK).count(), 10);
    assert_eq!(api.json(BRAND, "Jobs").await["@total"], "1");
}
