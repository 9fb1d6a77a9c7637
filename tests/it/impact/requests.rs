//! What is sent: paths, queries, headers.

use axum::http::Method;
use chrono::{DateTime, Utc};
use impact_mirror::account::Persona;
use impact_mirror::export::ReportHandle;
use impact_mirror::impact::RemoteJobId;
use impact_mirror::retry::ErrorKind;
use std::future::ready;

use super::fake::{BASIC, Fake, SID, TOKEN, clicks, reply, report};

const QUEUED: &str = r#"{"Status":"QUEUED","QueuedUri":"/Advertisers/IRtestSid0001/Jobs/j-1"}"#;
const MAY_1: [&str; 2] = ["2026-05-01", "2026-05-01"];

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[tokio::test]
async fn submissions_are_canonical_for_each_persona() {
    let statuses: &[(&str, &[&str])] =
        &[("SUPERSTATUS_MS", &["PENDING", "APPROVED"]), ("Z", &[]), ("SHOW_DATE", &["1"])];
    let overruled: &[(&str, &[&str])] =
        &[("start_date", &["1999-01-01"]), ("resultformat", &["XML"]), ("SubAid", &["7"]), ("Q", &["a b&c=d/é"])];
    for (persona, request, expected) in [
        (
            Persona::Brand,
            report("adv_x", "1000", statuses),
            "/Advertisers/IRtestSid0001/ReportExport/adv_x?END_DATE=2026-05-03&ResultFormat=CSV&SHOW_DATE=1&\
             START_DATE=2026-05-01&SUBAID=1000&SUPERSTATUS_MS=APPROVED&SUPERSTATUS_MS=PENDING",
        ),
        (
            Persona::Partner,
            report("mp_x", "", &[]),
            "/Mediapartners/IRtestSid0001/ReportExport/mp_x?END_DATE=2026-05-03&ResultFormat=CSV&START_DATE=2026-05-01",
        ),
        (
            Persona::Agency,
            report("agency_x", "5", overruled),
            "/Agencies/IRtestSid0001/ReportExport/agency_x?END_DATE=2026-05-03&Q=a+b%26c%3Dd%2F%C3%A9&ResultFormat=CSV&\
             START_DATE=2026-05-01&SUBAID=5",
        ),
        (
            Persona::Brand,
            report("../../Jobs?x#y", "", &[]),
            "/Advertisers/IRtestSid0001/ReportExport/..%2F..%2FJobs%3Fx%23y?END_DATE=2026-05-03&ResultFormat=CSV&\
             START_DATE=2026-05-01",
        ),
        (
            Persona::Brand,
            clicks("1000", MAY_1, &[("UniqueClick", &["true"])]),
            "/Advertisers/IRtestSid0001/Programs/1000/ClickExport?Date=2026-05-01&ResultFormat=CSV&UniqueClick=true",
        ),
        (
            Persona::Partner,
            clicks("", MAY_1, &[("ProgramId", &["2", "1"])]),
            "/Mediapartners/IRtestSid0001/ClickExport?Date=2026-05-01&ProgramId=1&ProgramId=2&ResultFormat=CSV",
        ),
        (
            Persona::Partner,
            clicks("9", MAY_1, &[]),
            "/Mediapartners/IRtestSid0001/ClickExport?Date=2026-05-01&ProgramId=9&ResultFormat=CSV",
        ),
    ] {
        let fake = Fake::start([reply(200, QUEUED)]).await;
        fake.client(persona).submit(&request).await.unwrap();
        let seen = fake.only();
        assert_eq!((seen.method, seen.target.as_str()), (Method::GET, expected));
    }
}

#[tokio::test]
async fn every_call_asks_for_json_in_a_pinned_version_with_the_credential_in_a_header() {
    for (persona, version) in [(Persona::Brand, "14"), (Persona::Partner, "16"), (Persona::Agency, "3")] {
        let fake = Fake::start([reply(200, "{}")]).await;
        fake.client(persona).company().await.unwrap();
        let seen = fake.only();
        assert_eq!(seen.header("ir-version"), Some(version));
        assert_eq!(seen.header("accept"), Some("application/json"));
        assert_eq!(seen.header("authorization"), Some(BASIC));
        assert_eq!(seen.header("user-agent"), Some(concat!("impact-mirror/", env!("CARGO_PKG_VERSION"))));
        assert!(!seen.target.contains(TOKEN));
        assert!(seen.target.contains(SID));
    }
}

#[tokio::test]
async fn what_impact_com_cannot_do_is_not_sent() {
    for (persona, request) in [
        (Persona::Agency, clicks("1", MAY_1, &[])),
        (Persona::Brand, clicks("", MAY_1, &[])),
        (Persona::Brand, clicks("1", ["2026-05-01", "2026-05-02"], &[])),
        (Persona::Brand, clicks("..", MAY_1, &[])),
        (Persona::Brand, report("..", "", &[])),
        (Persona::Brand, report("", "", &[])),
    ] {
        let fake = Fake::start([]).await;
        let error = fake.client(persona).submit(&request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permanent, "{error}");
        assert!(!error.may_have_taken_effect());
        assert!(fake.seen().is_empty());
    }
    let fake = Fake::start([]).await;
    let client = fake.client(Persona::Brand);
    client.job(&RemoteJobId::new("..")).await.unwrap_err();
    client.download(&RemoteJobId::new("."), |_| ready(true)).await.result.unwrap_err();
    client.replay(&RemoteJobId::new("")).await.unwrap_err();
    client.report_columns(&ReportHandle::new("..")).await.unwrap_err();
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn the_job_list_is_narrowed_by_times_or_widened_to_days() {
    for (persona, expected) in [
        (
            Persona::Brand,
            "/Advertisers/IRtestSid0001/Jobs?CreatedAfter=2026-05-01T10%3A00%3A00Z&CreatedBefore=2026-05-01T11%3A00%3A01Z",
        ),
        (Persona::Partner, "/Mediapartners/IRtestSid0001/Jobs?CreatedAfter=2026-04-30&CreatedBefore=2026-05-02"),
        (Persona::Agency, "/Agencies/IRtestSid0001/Jobs?CreatedAfter=2026-04-30&CreatedBefore=2026-05-02"),
    ] {
        let fake = Fake::start([reply(200, "[]")]).await;
        let client = fake.client(persona);
        client.jobs(time("2026-05-01T10:00:00.9Z"), time("2026-05-01T11:00:00.001Z"), |_| ready(true)).await.unwrap();
        assert_eq!(fake.only().target, expected);
    }
}

#[tokio::test]
async fn a_replay_is_an_empty_put() {
    let fake = Fake::start([reply(200, r#"{"Id":"j-2","Status":"QUEUED"}"#)]).await;
    let answer = fake.client(Persona::Agency).replay(&RemoteJobId::new("j/1")).await.unwrap();
    assert_eq!(answer.value.id, RemoteJobId::new("j-2"));
    let seen = fake.only();
    assert_eq!((seen.method.clone(), seen.target.as_str()), (Method::PUT, "/Agencies/IRtestSid0001/Jobs/j%2F1/Replay"));
    assert_eq!(seen.header("content-length"), Some("0"));
}

#[tokio::test]
async fn the_other_calls_go_to_their_places() {
    let fake = Fake::start([reply(200, "{}"), reply(200, "{}"), reply(200, "{}"), reply(200, "{}")]).await;
    let client = fake.client(Persona::Partner);
    client.programs(|_| ready(true)).await.unwrap();
    client.reports(|_| ready(true)).await.unwrap();
    client.report_columns(&ReportHandle::new("a b")).await.unwrap();
    fake.client(Persona::Agency).programs(|_| ready(true)).await.unwrap();
    let targets: Vec<_> = fake.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(
        targets,
        [
            "/Mediapartners/IRtestSid0001/Campaigns",
            "/Mediapartners/IRtestSid0001/Reports",
            "/Mediapartners/IRtestSid0001/Reports/a%20b/MetaData",
            "/Agencies/IRtestSid0001/Advertisers",
        ]
    );
}
