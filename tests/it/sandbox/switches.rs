//! The switches that no other test turns: each answer differs from the default in the way it says.

use super::*;

const CLICKS: &str = "Programs/1000/ClickExport?Date=2026-04-01";

fn listing() -> String {
    format!("ReportExport/{LISTING}?{APRIL}")
}

async fn status(api: &Api, sid: &str, resource: &str) -> u16 {
    api.get(sid, resource).await.status().as_u16()
}

#[tokio::test]
async fn values_of_a_job_can_be_native_and_unset_dates_mixed() {
    let api = Api::behaving("job_values=native").await;
    api.sandbox.set_behaviour("unset_dates=mix").unwrap();
    let id = api.submit(BRAND, CLICKS).await;
    let job = api.ended(BRAND, &id).await;
    assert_eq!((&job["PercentageComplete"], &job["Replayable"]), (&100.into(), &true.into()));
    let object = job.as_object().unwrap();
    assert_eq!((object.get("CancelledDate"), object.get("FailedDate")), (None, Some(&Value::Null)));
    assert!(object.get("AbandonedDate").is_some_and(|unset| unset == ""));
}

#[tokio::test]
async fn an_early_download_can_be_200_and_a_late_one_the_file_itself() {
    let api = Api::behaving("early_download=200").await;
    api.sandbox.set_behaviour("inline_download=yes").unwrap();
    api.inject(Point::Submit, FaultKind::JobNeverEnds);
    let stuck = api.submit(BRAND, CLICKS).await;
    let early = api.get(BRAND, &format!("Jobs/{stuck}/Download")).await;
    assert_eq!(early.status(), StatusCode::OK);
    assert_eq!(early.json::<Value>().await.unwrap()["Id"], stuck.as_str());
    let id = api.submit(BRAND, "Programs/1000/ClickExport?Date=2026-04-02").await;
    api.ended(BRAND, &id).await;
    let file = api.get(BRAND, &format!("Jobs/{id}/Download")).await;
    assert_eq!((file.status(), &file.headers()["content-type"]), (StatusCode::OK, &"text/csv".parse().unwrap()));
}

#[tokio::test]
async fn refusals_can_come_in_a_200_or_as_another_status() {
    let unknown = format!("ReportExport/no_such_report?{APRIL}");
    let no_start = format!("ReportExport/{LISTING}?SUBAID=1000");
    let api = Api::start().await;
    assert_eq!([status(&api, BRAND, &unknown).await, status(&api, BRAND, &no_start).await], [404, 400]);
    api.sandbox.set_behaviour("unknown_report=error_in_200").unwrap();
    assert_eq!([status(&api, BRAND, &unknown).await, status(&api, BRAND, &no_start).await], [200, 400]);
    api.sandbox.set_behaviour("error_in_200=all").unwrap();
    assert_eq!(api.json(BRAND, &no_start).await["Status"], "ERROR");
    let id = api.submit(PARTNER, "ClickExport?Date=2026-04-01").await;
    api.sandbox.set_behaviour("foreign_job=403").unwrap();
    assert_eq!(status(&api, BRAND, &format!("Jobs/{id}")).await, 403);
}

#[tokio::test]
async fn failures_can_have_any_body() {
    for (value, start) in [("json", "{"), ("xml", "<?xml"), ("html", "<html>"), ("empty", "")] {
        let api = Api::behaving(&format!("failure_body={value}")).await;
        api.inject(Point::List, FaultKind::Http500);
        let url = format!("{}/Advertisers/{BRAND}/Jobs", api.sandbox.base_url());
        let reply = api.client.get(url).basic_auth(BRAND, Some("sandbox-brand-token")).send().await.unwrap();
        let text = reply.text().await.unwrap();
        assert!(text.starts_with(start) && text.is_empty() == start.is_empty(), "{value}: {text}");
    }
}

#[tokio::test]
async fn duplicates_can_be_free_forgotten_or_disguised() {
    let api = Api::behaving("quota_headers=daily").await;
    let submit = async || {
        let response = api.get(BRAND, &listing()).await;
        let remaining = response.headers()["x-ratelimit-remaining"].to_str().unwrap().to_owned();
        (remaining, response.json::<Value>().await.unwrap())
    };
    let (first, made) = submit().await;
    api.ended(BRAND, made["QueuedUri"].as_str().unwrap().rsplit('/').next().unwrap()).await;
    api.sandbox.set_behaviour("duplicate_costs=no").unwrap();
    api.sandbox.set_behaviour("duplicate_status=queued").unwrap();
    let (second, again) = submit().await;
    assert_eq!((&first, &made), (&second, &again));
    api.sandbox.set_behaviour("duplicate_memory=day").unwrap();
    assert_eq!(submit().await.1["QueuedUri"], made["QueuedUri"]);
    api.sandbox.advance(TimeDelta::days(1));
    assert_ne!(submit().await.1["QueuedUri"], made["QueuedUri"]);
}

#[tokio::test]
async fn a_duplicate_of_a_failed_job_can_be_a_new_one() {
    let api = Api::start().await;
    api.inject(Point::Submit, FaultKind::JobFails);
    let failed = api.submit(BRAND, CLICKS).await;
    api.ended(BRAND, &failed).await;
    assert_eq!(api.submit(BRAND, CLICKS).await, failed);
    api.sandbox.set_behaviour("duplicate_of_failed=new_job").unwrap();
    assert_ne!(api.submit(BRAND, CLICKS).await, failed);
}

#[tokio::test]
async fn an_error_can_be_the_end() {
    let api = Api::behaving("error_status=terminal").await;
    api.inject(Point::Submit, FaultKind::JobErrorThenOk);
    let id = api.submit(BRAND, CLICKS).await;
    assert_eq!(api.ended(BRAND, &id).await["Status"], "ERROR");
    api.sandbox.advance(TimeDelta::hours(2));
    // In the serial queue a retry of the first job would be done before these two are.
    for date in ["2026-04-02", "2026-04-03"] {
        let next = api.submit(BRAND, &format!("Programs/1000/ClickExport?Date={date}")).await;
        api.ended(BRAND, &next).await;
    }
    assert_eq!(api.json(BRAND, &format!("Jobs/{id}")).await["Status"], "ERROR");
}

#[tokio::test]
async fn the_daily_quota_can_start_afresh_at_midnight() {
    // The clock starts at 16:00 UTC, which is noon in the zone of the account.
    for (value, hours, expected) in [
        ("rolling", 12, 429),
        ("utc_midnight", 7, 429),
        ("utc_midnight", 8, 200),
        ("account_midnight", 11, 429),
        ("account_midnight", 12, 200),
    ] {
        let api = Api::behaving(&format!("quota_day={value}")).await;
        for _ in 0..10 {
            api.submit(BRAND, CLICKS).await;
        }
        assert_eq!(status(&api, BRAND, CLICKS).await, 429);
        api.sandbox.advance(TimeDelta::hours(hours));
        assert_eq!(status(&api, BRAND, CLICKS).await, expected, "{value} after {hours} hours");
    }
}

#[tokio::test]
async fn rejected_calls_can_be_free() {
    for (value, expected) in [("yes", 429), ("no", 200)] {
        let api = Api::behaving(&format!("rejected_costs={value}")).await;
        for _ in 0..10 {
            assert_eq!(status(&api, BRAND, "Programs/1000/ClickExport?Date=never").await, 400);
        }
        assert_eq!(status(&api, BRAND, CLICKS).await, expected, "{value}");
    }
}

#[tokio::test]
async fn a_quota_can_belong_to_the_token() {
    for (value, expected) in [("account", 429), ("token", 200)] {
        let mut options = options();
        let mut other = options.accounts[0].clone();
        other.token = "another-token".into();
        options.accounts.push(other);
        options.behaviours.set(&format!("quota_scope={value}")).unwrap();
        let api = Api::with(options).await;
        for _ in 0..10 {
            api.submit(BRAND, CLICKS).await;
        }
        let url = format!("{}/Advertisers/{BRAND}/{CLICKS}", api.sandbox.base_url());
        let reply = api.client.get(url).basic_auth(BRAND, Some("another-token")).send().await.unwrap();
        assert_eq!(reply.status().as_u16(), expected, "{value}");
    }
}

#[tokio::test]
async fn filters_can_be_read_in_other_ways() {
    let dates = async |setting: &str, window: &str| {
        let api = Api::behaving(setting).await;
        let file = api.export(BRAND, &format!("ReportExport/{LISTING}?SUBAID=1000&{window}")).await;
        let dates = column(&rows(&file), "Action_Date");
        (dates.last().unwrap().clone(), dates.first().unwrap().clone())
    };
    let days = "START_DATE=2026-04-01&END_DATE=2026-04-03";
    let (first, last) = dates("end_date=inclusive", days).await;
    assert!(first.starts_with("2026-04-01T0") && last.starts_with("2026-04-03T2"), "{first} {last}");
    let (_, last) = dates("end_date=exclusive", days).await;
    assert!(last.starts_with("2026-04-02T2"), "{last}");
    let (first, _) = dates("filter_zone=utc", days).await;
    assert!(first.starts_with("2026-03-31T2"), "{first}");
    let times = "StartDate=2026-04-01T12:00:00-04:00&EndDate=2026-04-01T23:59:59-04:00";
    let (first, _) = dates("filter_time=honoured", times).await;
    assert!(first.as_str() >= "2026-04-01T12", "{first}");
    let (first, _) = dates("filter_time=truncated", times).await;
    assert!(first.as_str() < "2026-04-01T12", "{first}");
}

#[tokio::test]
async fn windows_and_files_can_have_a_limit() {
    let api = Api::behaving("max_window=45d").await;
    let long = format!("ReportExport/{LISTING}?START_DATE=2026-03-01&END_DATE=2026-04-30");
    assert_eq!(status(&api, BRAND, &long).await, 400);
    assert_eq!(status(&api, BRAND, &listing()).await, 200);
    let capped = Api::behaving("max_rows=100").await;
    assert_eq!(rows(&capped.export(BRAND, &listing()).await).len(), 101);
}

#[tokio::test]
async fn a_window_without_an_end_grows_with_a_replay_or_not() {
    for (value, growth) in [("extends", 3), ("fixed", 0)] {
        let api = Api::behaving(&format!("open_window={value}")).await;
        let id = api.submit(BRAND, "ReportExport/att_adv_performance_by_day_pm_only?START_DATE=2026-05-01").await;
        api.ended(BRAND, &id).await;
        let before = rows(&api.download(BRAND, &id).await).len();
        api.sandbox.advance(TimeDelta::days(3));
        api.replay(BRAND, &id).await;
        api.ended(BRAND, &id).await;
        assert_eq!(rows(&api.download(BRAND, &id).await).len(), before + growth, "{value}");
    }
}

#[tokio::test]
async fn columns_can_drift_and_reversed_rows_can_be_included() {
    let api = Api::behaving("columns=extra_after_a_day").await;
    let extra = "New_Column".to_owned();
    let id = api.submit(BRAND, &listing()).await;
    api.ended(BRAND, &id).await;
    assert!(!rows(&api.download(BRAND, &id).await)[0].contains(&extra));
    api.sandbox.advance(TimeDelta::days(1));
    api.replay(BRAND, &id).await;
    api.ended(BRAND, &id).await;
    assert!(rows(&api.download(BRAND, &id).await)[0].contains(&extra));
    let all = rows(&Api::behaving("reversed_rows=included").await.export(BRAND, &listing()).await);
    assert!(column(&all, "Status").contains(&"REVERSED".to_owned()));
}

#[tokio::test]
async fn a_result_can_live_for_an_hour_and_its_url_for_seconds() {
    let api = Api::behaving("retention=short").await;
    api.sandbox.set_behaviour("signed_url_life=seconds").unwrap();
    api.sandbox.set_behaviour("signed_url_auth=ignored").unwrap();
    let id = api.submit(BRAND, CLICKS).await;
    api.ended(BRAND, &id).await;
    let redirect = api.get(BRAND, &format!("Jobs/{id}/Download")).await;
    let url = redirect.headers()["location"].to_str().unwrap().to_owned();
    let fetch = async || api.client.get(&url).basic_auth("a", Some("b")).send().await.unwrap().status().as_u16();
    assert_eq!(fetch().await, 200);
    api.sandbox.advance(TimeDelta::seconds(3));
    assert_eq!(fetch().await, 403);
    api.sandbox.advance(TimeDelta::minutes(61));
    assert_eq!(status(&api, BRAND, &format!("Jobs/{id}/Download")).await, 404);
}

#[tokio::test]
async fn jobs_of_an_account_wait_for_each_other_or_not() {
    for (value, expected) in [("serial", "QUEUED"), ("parallel", "RUNNING")] {
        let mut options = Options { job_duration: Duration::from_secs(8), ..options() };
        options.behaviours.set(&format!("queue={value}")).unwrap();
        let api = Api::with(options).await;
        let first = api.submit(BRAND, CLICKS).await;
        let second = api.submit(BRAND, "Programs/1000/ClickExport?Date=2026-04-02").await;
        while api.json(BRAND, &format!("Jobs/{first}")).await["Status"] == "QUEUED" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(api.json(BRAND, &format!("Jobs/{second}")).await["Status"], expected);
    }
}
