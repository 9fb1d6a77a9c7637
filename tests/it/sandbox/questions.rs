//! Every open question of the real API (impact-api §9) is a switch, and the answers that no other test turns.

use impact_mirror::sandbox::Behaviours;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const CLICKS: &str = "Programs/1000/ClickExport?Date=2026-04-01";

/// The switch of each question, by its number.
const QUESTIONS: [&str; 42] = [
    "replay_id",
    "replay_costs",
    "duplicate_costs",
    "duplicate_status",
    "duplicate_key",
    "duplicate_memory",
    "duplicate_of_failed",
    "error_status",
    "retention",
    "expired_download",
    "signed_url_life",
    "signed_url_auth",
    "early_download",
    "quota_day",
    "quota_scope",
    "reset_header",
    "retry_after",
    "quota_headers",
    "rejected_costs",
    "error_in_200",
    "failure_body",
    "agency_lists",
    "job_list",
    "job_values",
    "unset_dates",
    "filter_zone",
    "end_date",
    "filter_time",
    "max_window",
    "max_rows",
    "empty_result",
    "row_order",
    "csv_dialect",
    "columns",
    "postbacks",
    "queue",
    "open_window",
    "reversed_rows",
    "failed_replay_file",
    "foreign_job",
    "unknown_report",
    "stale_reads_after_replay",
];

#[test]
fn every_open_question_has_its_switch() {
    for (name, number) in QUESTIONS.iter().zip(1..) {
        let switch = Behaviours::all().iter().find(|behaviour| behaviour.name == *name);
        let switch = switch.unwrap_or_else(|| panic!("question {number} has no switch {name}"));
        assert!(switch.values.len() >= 2, "question {number} has one answer only");
    }
}

#[tokio::test]
async fn a_replay_keeps_its_id_or_not_by_persona() {
    // Whether a Replay of the brand's and of the agency's job has a new id.
    for (value, new) in
        [("persona", [false, true]), ("same", [false, false]), ("new", [true, true]), ("invert", [true, false])]
    {
        let api = Api::behaving(&format!("replay_id={value}")).await;
        let listing = format!("ReportExport/agency_action_listing?{APRIL}");
        for ((sid, order), is_new) in [(BRAND, CLICKS), (AGENCY, listing.as_str())].into_iter().zip(new) {
            let id = api.submit(sid, order).await;
            api.ended(sid, &id).await;
            let replayed: Value = api.replay(sid, &id).await.json().await.unwrap();
            assert_eq!(replayed["Id"] != id.as_str(), is_new, "{value} for {sid}");
        }
    }
}

#[tokio::test]
async fn earlier_submissions_are_remembered_for_a_time() {
    for (value, after_an_hour, after_91_days) in
        [("unlimited", true, true), ("90d", true, false), ("day", true, false), ("none", false, false)]
    {
        let api = Api::behaving(&format!("duplicate_memory={value}")).await;
        let id = api.submit(BRAND, CLICKS).await;
        api.sandbox.advance(TimeDelta::hours(1));
        let again = api.submit(BRAND, CLICKS).await;
        assert_eq!(again == id, after_an_hour, "{value}");
        api.sandbox.advance(TimeDelta::days(91));
        assert_eq!(api.submit(BRAND, CLICKS).await == again, after_91_days, "{value}");
    }
}

#[tokio::test]
async fn a_result_can_be_kept_for_ever() {
    for (value, expected) in [("90d", StatusCode::NOT_FOUND), ("unlimited", StatusCode::FOUND)] {
        let api = Api::behaving(&format!("retention={value}")).await;
        let id = api.submit(BRAND, CLICKS).await;
        api.ended(BRAND, &id).await;
        api.sandbox.advance(TimeDelta::days(91));
        assert_eq!(api.get(BRAND, &format!("Jobs/{id}/Download")).await.status(), expected, "{value}");
    }
}

#[tokio::test]
async fn a_signed_url_can_live_for_an_hour() {
    let api = Api::behaving("signed_url_life=1h").await;
    let id = api.submit(BRAND, CLICKS).await;
    api.ended(BRAND, &id).await;
    let redirect = api.get(BRAND, &format!("Jobs/{id}/Download")).await;
    let url = redirect.headers()["location"].to_str().unwrap().to_owned();
    for (minutes, expected) in [(59, StatusCode::OK), (2, StatusCode::FORBIDDEN)] {
        api.sandbox.advance(TimeDelta::minutes(minutes));
        assert_eq!(api.client.get(&url).send().await.unwrap().status(), expected);
    }
}

#[tokio::test]
async fn a_429_says_when_to_come_again_or_not() {
    for (value, expected) in [("persona", [false, true]), ("always", [true, true]), ("never", [false, false])] {
        let api = Api::behaving(&format!("retry_after={value}")).await;
        for (sid, says_when) in [BRAND, PARTNER].into_iter().zip(expected) {
            api.inject(Point::List, FaultKind::Throttle429);
            let refused = api.get(sid, "Jobs").await;
            assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(refused.headers().contains_key("retry-after"), says_when, "{value} for {sid}");
        }
    }
}

#[tokio::test]
async fn headers_tell_of_quota_in_many_ways() {
    let told = async |setting: &str| {
        let api = Api::behaving(setting).await;
        let reply = api.get(BRAND, CLICKS).await;
        let header = |name: &str| reply.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"].map(|name| header(name).unwrap_or_default())
    };
    assert_eq!(told("quota_headers=none").await, ["", "", ""]);
    assert_eq!(told("quota_headers=hourly").await[..2], ["1000", "1000"]);
    assert_eq!(told("quota_headers=daily").await, ["10", "9", "86400"]);
    assert_eq!(told("header_lies=remaining_high").await[1], "10000");
    assert_eq!(told("header_lies=remaining_zero").await[1], "0");
    assert_eq!(told("header_lies=negative").await[1], "-1");
    assert_eq!(told("header_lies=text").await, ["plenty", "enough", "soon"]);
    assert_eq!(told("header_lies=reset_past").await[2], "1487332519");
    assert_eq!(told("header_lies=reset_2099").await[2], "4085000000");
    let api = Api::behaving("header_lies=contradiction").await;
    let reply = api.get(BRAND, CLICKS).await;
    assert_ne!(reply.headers()["x-ratelimit-limit"], reply.headers()["x-ratelimit-limit-hour"]);
}

#[tokio::test]
async fn the_job_list_can_be_of_one_piece_or_of_many() {
    for (value, pages) in [("paged", "3"), ("unpaged", "1"), ("pages_of_two", "2")] {
        let api = Api::behaving(&format!("job_list={value}")).await;
        for date in ["2026-04-01", "2026-04-02", "2026-04-03"] {
            api.submit(BRAND, &format!("Programs/1000/ClickExport?Date={date}")).await;
        }
        assert_eq!(api.json(BRAND, "Jobs?PageSize=1").await["@numpages"], pages, "{value}");
    }
}

#[tokio::test]
async fn the_longest_window_can_be_a_year() {
    let api = Api::behaving("max_window=366d").await;
    for (from, expected) in [("2025-04-01", StatusCode::BAD_REQUEST), ("2025-05-01", StatusCode::OK)] {
        let order = format!("ReportExport/{LISTING}?START_DATE={from}&END_DATE=2026-05-01&SUBAID=1000");
        assert_eq!(api.get(BRAND, &order).await.status(), expected, "{from}");
    }
}

#[tokio::test]
async fn columns_can_come_in_lower_case() {
    let api = Api::behaving("columns=lower_case").await;
    let file = rows(&api.export(BRAND, CLICKS).await);
    assert!(file[0].iter().all(|name| *name == name.to_lowercase()), "{:?}", file[0]);
}

#[tokio::test]
async fn failures_are_posted_back_and_postbacks_come_twice_where_the_switch_says_so() {
    for (value, expected) in [
        ("completion", ["COMPLETED"].as_slice()),
        ("also_failures", &["FAILED", "COMPLETED"]),
        ("duplicates", &["COMPLETED", "COMPLETED"]),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/{{Status}}", listener.local_addr().unwrap());
        let mut options = Options { postback_url: Some(url), ..options() };
        options.behaviours.set(&format!("postbacks={value}")).unwrap();
        let api = Api::with(options).await;
        api.inject(Point::Submit, FaultKind::JobFails);
        for date in ["2026-04-01", "2026-04-02"] {
            api.submit(BRAND, &format!("Programs/1000/ClickExport?Date={date}")).await;
        }
        for status in expected {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            assert!(request.starts_with(&format!("GET /{status} ")), "{value}: {request}");
            stream.write_all(b"HTTP/1.1 204 Yes\r\n\r\n").await.unwrap();
        }
    }
}
