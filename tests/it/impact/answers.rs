//! What is read from answers.

use std::future::ready;
use std::time::Duration;

use chrono::{DateTime, Utc};
use impact_mirror::account::Persona;
use impact_mirror::column::ColumnKind;
use impact_mirror::export::{Program, ReportHandle};
use impact_mirror::impact::{Limits, RemoteJobId, RemoteStatus};
use impact_mirror::retry::ErrorKind;

use super::fake::{Fake, TOKEN, reply, report};

const GZIPPED: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\x56\x72\xce\xcf\x2d\x48\xcc\xab\xf4\x4b\xcc\x4d\x55\xb2\x52\x72\x4c\x06\x52\xb5\x00\x91\x1d\x09\xa2\x16\x00\x00\x00";

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn id() -> RemoteJobId {
    RemoteJobId::new("j-1")
}

#[tokio::test]
async fn a_submission_gives_the_job_whatever_its_status() {
    for (body, expected) in [
        (r#"{"Status":"QUEUED","QueuedUri":"/Advertisers/IRx/Jobs/18edc7d5-0000"}"#, RemoteStatus::Queued),
        (r#"{"Status":"completed","QueuedUri":"https://elsewhere/Jobs/18edc7d5-0000/?a=b"}"#, RemoteStatus::Completed),
        (
            r#"{"Status":"ERROR","QueuedUri":"/Advertisers/IRx/Jobs/18edc7d5-0000","Message":"old"}"#,
            RemoteStatus::Error,
        ),
        (r#"{"Status":"SHINY","QueuedUri":"/x/Jobs/18edc7d5-0000","New":[1]}"#, RemoteStatus::Unknown),
        (r#"{"QueuedUri":"/x/Jobs/18edc7d5-0000"}"#, RemoteStatus::Unknown),
        (
            "<ImpactRadiusResponse><Status>QUEUED</Status><QueuedUri>/x/Jobs/18edc7d5-0000</QueuedUri></ImpactRadiusResponse>",
            RemoteStatus::Queued,
        ),
    ] {
        let fake = Fake::start([reply(200, body)]).await;
        let submitted = fake.client(Persona::Brand).submit(&report("r", "", &[])).await.unwrap().value;
        assert_eq!((submitted.id.as_str(), submitted.status), ("18edc7d5-0000", expected), "{body}");
    }
}

#[tokio::test]
async fn a_submission_without_a_plausible_job_may_have_taken_effect() {
    for body in
        ["", "{}", "[]", "null", "<html>ok</html>", "{\"Status\":", r#"{"Status":"QUEUED","QueuedUri":"/Jobs/a%20b"}"#]
    {
        let fake = Fake::start([reply(200, body)]).await;
        let error = fake.client(Persona::Brand).submit(&report("r", "", &[])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{body}");
        assert!(error.may_have_taken_effect(), "{body}");
    }
}

#[tokio::test]
async fn a_job_is_read_with_native_values_with_texts_and_from_xml() {
    for body in [
        r#"{"Id":"j-1","Type":"ApiReport","ProgramId":3629,"CreatedDate":"2026-05-29T04:33:50-05:00",
            "StartedDate":"2026-05-29T04:33:55-0500","CompletedDate":"2026-05-29T09:35:12.000Z","FailedDate":null,
            "Status":"COMPLETED","StatusMessage":"Done.","RecordsProcessed":250,"PercentageComplete":100,"Replayable":true}"#,
        r#"{"Id":"j-1","Type":"ApiReport","ProgramId":"3629","CreatedDate":"2026-05-29 05:33:50",
            "StartedDate":"2026-05-29T04:33:55-05:00","CompletedDate":"2026-05-29T09:35:12Z","FailedDate":"","CancelledDate":"",
            "Status":"Completed","StatusMessage":" Done. ","RecordsProcessed":"250","PercentageComplete":"100","Replayable":"true"}"#,
        "<ImpactRadiusResponse><Job><Id>j-1</Id><Type>ApiReport</Type><ProgramId>3629</ProgramId>\
         <CreatedDate>2026-05-29T04:33:50-05:00</CreatedDate><StartedDate>2026-05-29T04:33:55-05:00</StartedDate>\
         <CompletedDate>2026-05-29T04:35:12-05:00</CompletedDate><FailedDate/><Status>COMPLETED</Status>\
         <StatusMessage>Done.</StatusMessage><RecordsProcessed>250</RecordsProcessed>\
         <PercentageComplete>100</PercentageComplete><Replayable>true</Replayable></Job></ImpactRadiusResponse>",
    ] {
        let fake = Fake::start([reply(200, body)]).await;
        let job = fake.client(Persona::Brand).job(&id()).await.unwrap().value;
        assert_eq!(job.id, id());
        assert_eq!(job.job_type.as_deref(), Some("ApiReport"));
        assert_eq!(job.program, Program::new("3629"));
        assert_eq!(job.created_at, Some(time("2026-05-29T09:33:50Z")));
        assert_eq!(job.started_at, Some(time("2026-05-29T09:33:55Z")));
        assert_eq!(job.completed_at, Some(time("2026-05-29T09:35:12Z")));
        assert_eq!((job.failed_at, job.cancelled_at), (None, None));
        assert_eq!(job.status, RemoteStatus::Completed);
        assert_eq!(job.status_text.to_ascii_uppercase(), "COMPLETED");
        assert_eq!(job.message, "Done.");
        assert_eq!((job.records_processed, job.percent, job.replayable), (Some(250), Some(100.0), Some(true)));
    }
}

#[tokio::test]
async fn a_job_in_error_is_a_job() {
    let fake = Fake::start([reply(200, r#"{"Id":"j-1","Status":"ERROR","StatusMessage":"<b>Try</b> later"}"#)]).await;
    let job = fake.client(Persona::Agency).job(&id()).await.unwrap().value;
    assert_eq!((job.status, job.message.as_str()), (RemoteStatus::Error, "Try later"));
    assert!(job.program.is_none());
}

#[tokio::test]
async fn all_pages_of_the_job_list_are_read_once() {
    let page = |ids: &str, next: &str| {
        let ids: Vec<_> = ids.split(' ').map(|id| format!(r#"{{"Id":"{id}","Status":"QUEUED"}}"#)).collect();
        reply(200, format!(r#"{{"@page":"1","@total":"0","@nextpageuri":"{next}","Jobs":[{}]}}"#, ids.join(",")))
    };
    let fake = Fake::start([
        page("a b", "/Advertisers/IRtestSid0001/Jobs?Page=2").header("x-ratelimit-remaining", "9"),
        page("b c", "http://evil.example/Advertisers/IRtestSid0001/Jobs?Page=3"),
        page("d", "/Advertisers/IRtestSid0001/Jobs?Page=3").header("x-ratelimit-remaining", "7"),
    ])
    .await;
    let now = Utc::now();
    let answer = fake.client(Persona::Brand).jobs(now, now, |_| ready(true)).await.unwrap();
    let ids: Vec<_> = answer.value.iter().map(|job| job.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c", "d"]);
    assert_eq!(answer.limits.remaining, Some(7));
    let targets: Vec<_> = fake.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets[1..], ["/Advertisers/IRtestSid0001/Jobs?Page=2", "/Advertisers/IRtestSid0001/Jobs?Page=3"]);
}

#[tokio::test]
async fn a_list_ends_at_its_last_page_an_empty_page_or_a_repeated_one() {
    for (first, requests) in [
        (r#"{"@page":"3","@numpages":"3","@nextpageuri":"/x?Page=4","Jobs":[{"Id":"a"}]}"#, 1),
        (r#"{"@nextpageuri":"","Jobs":[{"Id":"a"}]}"#, 1),
        (r#"{"@nextpageuri":null,"Jobs":[{"Id":"a"}]}"#, 1),
        (r#"[{"Id":"a"},{"no":"id"},7]"#, 1),
        (r#"{"@nextpageuri":"/x?Page=2","Jobs":[{"Id":"a"}]}"#, 2),
    ] {
        let empty = reply(200, r#"{"@nextpageuri":"/x?Page=3","Jobs":{}}"#);
        let fake = Fake::start([reply(200, first), empty]).await;
        let now = Utc::now();
        let jobs = fake.client(Persona::Brand).jobs(now, now, |_| ready(true)).await.unwrap().value;
        assert_eq!((jobs.len(), fake.seen().len()), (1, requests), "{first}");
    }
}

#[tokio::test]
async fn a_list_without_end_is_refused() {
    let pages = (0..300).map(|n| reply(200, format!(r#"{{"@nextpageuri":"/x?Page={n}","Reports":[{{"Name":"a"}}]}}"#)));
    let fake = Fake::start(pages).await;
    let error = fake.client(Persona::Brand).reports(|_| ready(true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    assert_eq!(fake.seen().len(), 200);
}

#[tokio::test]
async fn headers_tell_the_servers_time_and_the_quota() {
    let fake = Fake::start([reply(200, "{}")
        .header("date", "Fri, 29 May 2026 09:33:50 GMT")
        .header("X-RateLimit-Limit-hour", "1000")
        .header("X-RateLimit-Remaining-hour", "999")
        .header("RateLimit-Reset", "700")])
    .await;
    let answer = fake.client(Persona::Partner).company().await.unwrap();
    assert_eq!(answer.server_date, Some(time("2026-05-29T09:33:50Z")));
    let reset_after = Some(Duration::from_secs(700));
    assert_eq!(
        answer.limits,
        Limits {
            server_date: answer.server_date,
            limit: Some(1000),
            remaining: Some(999),
            reset_after,
            is_hourly: true,
            ..Limits::default()
        }
    );
}

#[tokio::test]
async fn a_compressed_envelope_is_read() {
    let fake = Fake::start([reply(200, GZIPPED).header("content-encoding", "gzip")]).await;
    assert_eq!(fake.client(Persona::Brand).company().await.unwrap().value.name, "Acme");
    assert_eq!(fake.only().header("accept-encoding"), Some("gzip, zstd"));
}

#[tokio::test]
async fn an_endless_envelope_is_refused() {
    let fake = Fake::start([reply(200, vec![b' '; (16 << 20) + 1]).chunked()]).await;
    let error = fake.client(Persona::Brand).company().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadFile, "{error}");
}

#[tokio::test]
async fn the_company_and_the_programs_of_each_persona_are_read() {
    let company = r#"{"CompanyName":"Acme","Timezone":"(GMT -08:00) Pacific Time","Currency":"USD","Contacts":[]}"#;
    let brand = r#"{"Campaigns":[{"Id":1000,"Name":"One","State":"ACTIVE"},{"Name":"no id"}]}"#;
    let partner =
        r#"{"Campaigns":[{"CampaignId":"7","CampaignName":"Seven","AdvertiserId":"1","ContractStatus":"Active"}]}"#;
    let agency = format!(r#"[{{"Id":"5","Name":"Five","State":"ACTIVE","RestAccountURL":"IRx:{TOKEN}@host/x"}}]"#);
    let fake = Fake::start([reply(200, company), reply(200, brand), reply(200, partner), reply(200, agency)]).await;

    let company = fake.client(Persona::Brand).company().await.unwrap().value;
    assert_eq!(company.name, "Acme");
    assert_eq!(company.time_zone.as_deref(), Some("(GMT -08:00) Pacific Time"));
    assert_eq!(company.currency.as_deref(), Some("USD"));
    for (persona, id, name, state) in [
        (Persona::Brand, "1000", "One", "ACTIVE"),
        (Persona::Partner, "7", "Seven", "Active"),
        (Persona::Agency, "5", "Five", "ACTIVE"),
    ] {
        let programs = fake.client(persona).programs(|_| ready(true)).await.unwrap().value;
        assert_eq!(programs.len(), 1);
        assert_eq!((programs[0].id.as_str(), programs[0].name.as_str()), (id, name));
        assert_eq!(programs[0].state.as_deref(), Some(state));
        assert!(!format!("{programs:?}").contains(TOKEN));
    }
}

#[tokio::test]
async fn reports_and_their_columns_are_read() {
    let reports = r#"{"@page":"1","@numpages":"1","Reports":[
        {"Name":"Action Listing","Id":"mp_x","Category":"Listing","Description":"d","ApiAccessible":true},
        {"Name":"Numbered","Id":4222,"ApiAccessible":"true","Category":""},
        {"Name":"Web only","RunUri":"/secure/x","ApiAccessible":false}]}"#;
    let columns = r#"{"Name":"Action Listing","Filters":[{"Name":"Action Status","DataType":"String","Format":""}],
        "Attributes":[{"Name":"Sale_Amount","DataType":"Decimal","Description":""},{"Name":"Odd","DataType":"Hologram"},{}]}"#;
    let fake = Fake::start([reply(200, reports), reply(200, columns)]).await;
    let client = fake.client(Persona::Partner);

    let reports = client.reports(|_| ready(true)).await.unwrap().value;
    let handles: Vec<_> = reports.iter().map(|report| report.handle.as_ref().map(ReportHandle::as_str)).collect();
    assert_eq!(handles, [Some("mp_x"), Some("4222"), None]);
    assert_eq!(reports.iter().map(|report| report.api_accessible).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(reports[1].category, None);

    let columns = client.report_columns(&ReportHandle::new("mp_x")).await.unwrap().value;
    assert_eq!(columns.filters[0].parameter, "ACTION_STATUS");
    let names: Vec<_> = columns.attributes.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["Sale_Amount", "Odd"]);
    assert_eq!(columns.kinds().into_iter().collect::<Vec<_>>(), [("Sale_Amount".to_owned(), ColumnKind::Numeric)]);
}
