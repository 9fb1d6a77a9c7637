use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use impact_mirror::sandbox::{Fault, FaultKind, Options, Point, Sandbox};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;

const BRAND: &str = "IRsandboxBrand0001";
const PARTNER: &str = "IRsandboxPartner0001";
const AGENCY: &str = "IRsandboxAgency0001";
const LISTING: &str = "adv_action_listing_pm_only";
const APRIL: &str = "START_DATE=2026-04-01&END_DATE=2026-04-30&SUBAID=1000";

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn options() -> Options {
    Options {
        start: "2026-05-15T16:00:00Z".parse::<DateTime<Utc>>().unwrap(),
        clock_speed: 0.0,
        job_duration: Duration::from_millis(20),
        ..Options::default()
    }
}

/// A sandbox whose clock stands still, and a client that follows no redirect.
struct Api {
    sandbox: Sandbox,
    client: Client,
}

impl Api {
    async fn start() -> Self {
        Self::with(options()).await
    }

    async fn behaving(setting: &str) -> Self {
        let mut options = options();
        options.behaviours.set(setting).unwrap();
        Self::with(options).await
    }

    async fn with(options: Options) -> Self {
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
        Self { sandbox: Sandbox::start(options).await.unwrap(), client }
    }

    fn credentials(sid: &str) -> (&'static str, &'static str) {
        match sid {
            BRAND => ("Advertisers", "sandbox-brand-token"),
            PARTNER => ("Mediapartners", "sandbox-partner-token"),
            AGENCY => ("Agencies", "sandbox-agency-token"),
            other => panic!("no account {other}"),
        }
    }

    async fn try_send(&self, method: Method, sid: &str, resource: &str) -> reqwest::Result<Response> {
        let (persona, token) = Self::credentials(sid);
        self.client
            .request(method, format!("{}/{persona}/{sid}/{resource}", self.sandbox.base_url()))
            .basic_auth(sid, Some(token))
            .header("accept", "application/json")
            .send()
            .await
    }

    async fn get(&self, sid: &str, resource: &str) -> Response {
        self.try_send(Method::GET, sid, resource).await.unwrap()
    }

    async fn json(&self, sid: &str, resource: &str) -> Value {
        self.get(sid, resource).await.json().await.unwrap()
    }

    async fn submit(&self, sid: &str, resource: &str) -> String {
        let reply = self.json(sid, resource).await;
        let uri = reply["QueuedUri"].as_str().unwrap_or_else(|| panic!("no job in {reply}"));
        uri.rsplit('/').next().unwrap().to_owned()
    }

    /// Polls until the job is no longer at work.
    async fn ended(&self, sid: &str, id: &str) -> Value {
        for _ in 0..500 {
            let job = self.json(sid, &format!("Jobs/{id}")).await;
            if !matches!(job["Status"].as_str(), Some("QUEUED" | "RUNNING")) {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("job {id} does not end");
    }

    async fn download(&self, sid: &str, id: &str) -> Vec<u8> {
        let response = self.get(sid, &format!("Jobs/{id}/Download?Mode=Stream")).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.bytes().await.unwrap().to_vec()
    }

    async fn export(&self, sid: &str, resource: &str) -> Vec<u8> {
        let id = self.submit(sid, resource).await;
        let job = self.ended(sid, &id).await;
        assert_eq!(job["Status"], "COMPLETED", "{job}");
        self.download(sid, &id).await
    }

    async fn replay(&self, sid: &str, id: &str) -> Response {
        self.try_send(Method::PUT, sid, &format!("Jobs/{id}/Replay")).await.unwrap()
    }

    fn inject(&self, on: Point, kind: FaultKind) {
        self.sandbox.inject(Fault::next(on, kind));
    }
}

/// Reads CSV in the plainest way that understands quotes.
fn rows(csv: &[u8]) -> Vec<Vec<String>> {
    let text = String::from_utf8(csv.to_vec()).unwrap();
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => field.push(letters.next().unwrap()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            letter => field.push(letter),
        }
    }
    rows
}

/// The values of one column.
fn column(rows: &[Vec<String>], name: &str) -> Vec<String> {
    let index = rows[0].iter().position(|header| header == name).unwrap_or_else(|| panic!("no column {name}"));
    rows[1..].iter().map(|row| row[index].clone()).collect()
}

fn cents(amounts: &[String]) -> i64 {
    let cents = |amount: &String| {
        let (whole, rest) = amount.split_once('.').unwrap();
        format!("{whole}{}", &rest[..2]).parse::<i64>().unwrap()
    };
    amounts.iter().map(cents).sum()
}

#[tokio::test]
async fn the_data_depends_on_the_seed_and_the_clock_only() {
    let (one, two) = (Api::start().await, Api::start().await);
    let other = Api::with(Options { seed: 2, ..options() }).await;
    let listing = format!("ReportExport/{LISTING}?{APRIL}");
    let file = one.export(BRAND, &listing).await;
    assert!(rows(&file).len() > 500);
    assert_eq!(file, two.export(BRAND, &listing).await);
    assert_ne!(file, other.export(BRAND, &listing).await);
    let truth = one.sandbox.truth(BRAND, LISTING, "1000", day("2026-04-01"), day("2026-04-30"), &[]);
    assert_eq!(file, truth);
}

#[tokio::test]
async fn a_listing_restates_itself_as_the_clock_advances() {
    let api = Api::start().await;
    let truth = || {
        let all = [("SUPERSTATUS_MS", "APPROVED,PENDING,REVERSED,NA")];
        rows(&api.sandbox.truth(BRAND, LISTING, "1000", day("2026-05-12"), day("2026-05-14"), &all))
    };
    let early = truth();
    assert_eq!(early, truth());
    api.sandbox.advance(TimeDelta::days(90));
    let late = truth();
    assert!(late.len() > early.len(), "late actions have appeared");
    assert!(column(&early, "Status").iter().all(|status| status != "APPROVED"));
    assert!(column(&late, "Status").iter().all(|status| status != "PENDING"));
    assert!(column(&late, "Status").iter().any(|status| status == "REVERSED"));
    api.sandbox.advance(TimeDelta::days(90));
    assert_eq!(late, truth());
}

#[tokio::test]
async fn the_report_by_day_is_the_sum_of_the_listing_and_of_the_clicks() {
    let api = Api::start().await;
    let listing = rows(&api.export(BRAND, &format!("ReportExport/{LISTING}?{APRIL}")).await);
    let by_day = rows(&api.export(BRAND, &format!("ReportExport/att_adv_performance_by_day_pm_only?{APRIL}")).await);
    let by_media =
        rows(&api.export(BRAND, &format!("ReportExport/att_adv_performance_by_media_pm_only?{APRIL}")).await);
    assert_eq!(by_day.len(), 31);
    assert_eq!(by_day[1][0], "Apr 30, 2026");
    assert_eq!(cents(&column(&by_day, "Revenue")), cents(&column(&listing, "Sale_Amount")));
    assert_eq!(cents(&column(&by_day, "ActionCost")), cents(&column(&listing, "Payout")));
    assert_eq!(cents(&column(&by_media, "Revenue")), cents(&column(&by_day, "Revenue")));
    let sum = |values: Vec<String>| values.iter().map(|value| value.parse::<usize>().unwrap()).sum::<usize>();
    assert_eq!(sum(column(&by_day, "Actions")), listing.len() - 1);
    assert_eq!(sum(column(&by_day, "Clicks")), sum(column(&by_media, "Clicks")));
    let clicks = rows(&api.export(BRAND, "Programs/1000/ClickExport?Date=2026-04-30").await);
    assert_eq!(column(&by_day, "Clicks")[0], (clicks.len() - 1).to_string());
}

#[tokio::test]
async fn a_click_export_holds_one_day_of_the_accounts_zone() {
    let api = Api::start().await;
    let clicks = rows(&api.export(PARTNER, "ClickExport?Date=2026-03-08").await);
    assert_eq!(clicks[0].len(), 40);
    assert!(clicks.iter().all(|row| row.len() == 40));
    let dates = column(&clicks, "EventDate");
    assert!(dates.iter().all(|date| date.starts_with("2026-03-08T")), "{dates:?}");
    assert!(dates.iter().any(|date| date.ends_with("-05:00")) && dates.iter().any(|date| date.ends_with("-04:00")));
    let programs = column(&clicks, "ProgramId");
    assert!(programs.iter().any(|id| id == "1000") && programs.iter().any(|id| id == "2000"));
}

#[tokio::test]
async fn toggles_and_statuses_decide_columns_and_rows() {
    let api = Api::start().await;
    let plain = rows(&api.export(BRAND, &format!("ReportExport/{LISTING}?{APRIL}")).await);
    let full = format!(
        "ReportExport/{LISTING}?{APRIL}&SHOW_AD=1&SUPERSTATUS_MS=APPROVED&SUPERSTATUS_MS=PENDING&SUPERSTATUS_MS=REVERSED"
    );
    let full = rows(&api.export(BRAND, &full).await);
    assert!(!plain[0].contains(&"ad_id".to_owned()) && full[0].contains(&"ad_id".to_owned()));
    assert!(column(&plain, "Status").iter().all(|status| status != "REVERSED"));
    assert!(column(&full, "Status").iter().any(|status| status == "REVERSED"));
}

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
async fn files_come_in_the_dialect_of_the_switch() {
    let resource = "Programs/1000/ClickExport?Date=2026-04-01";
    let plain = Api::start().await.export(BRAND, resource).await;
    let bom = Api::behaving("csv_dialect=bom_crlf").await.export(BRAND, resource).await;
    assert!(bom.starts_with("\u{FEFF}Id,".as_bytes()) && bom.ends_with(b"\r\n"));
    let gzip = Api::behaving("csv_dialect=gzip").await;
    let id = gzip.submit(BRAND, resource).await;
    gzip.ended(BRAND, &id).await;
    assert_eq!(gzip.download(BRAND, &id).await, plain, "the client unpacks it");
    let random = Api::behaving("row_order=random").await.export(BRAND, resource).await;
    let sorted = |file: &[u8]| {
        let mut rows = rows(file);
        rows.sort_unstable();
        rows
    };
    assert_ne!(random, plain);
    assert_eq!(sorted(&random), sorted(&plain));
    let empty = "Programs/1000/ClickExport?Date=2027-01-01";
    assert_eq!(rows(&Api::start().await.export(BRAND, empty).await).len(), 1);
    assert!(Api::behaving("empty_result=zero_bytes").await.export(BRAND, empty).await.is_empty());
    let json = Api::start().await.export(BRAND, &format!("{resource}&ResultFormat=JSON")).await;
    let json: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["Clicks"].as_array().unwrap().len(), rows(&plain).len() - 1);
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
async fn the_meta_data_names_every_column_of_the_file() {
    let api = Api::start().await;
    let reports = api.json(BRAND, "Reports").await;
    let reports = reports["Reports"].as_array().unwrap();
    assert!(reports.iter().any(|report| report.get("Id").is_none()));
    for report in reports.iter().filter(|report| report["ApiAccessible"] == true) {
        let handle = report["Id"].as_str().unwrap();
        let meta = api.json(BRAND, &format!("Reports/{handle}/MetaData")).await;
        let names: Vec<&str> = meta["Attributes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|attribute| attribute["Name"].as_str().unwrap())
            .collect();
        let file = rows(&api.export(BRAND, &format!("ReportExport/{handle}?{APRIL}")).await);
        assert!(file[0].iter().all(|header| names.contains(&header.as_str())), "{handle}");
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
