//! What is in the files: determinism, restatement, sums, columns, dialects.

use async_compression::tokio::bufread::GzipDecoder;
use tokio::io::AsyncReadExt as _;

use super::*;

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
async fn programs_can_differ_in_size() {
    let ranked = ProgramSizes::Ranked;
    let api = Api::with(Options { actions_per_day: 60, clicks_per_day: 60, program_sizes: ranked, ..options() }).await;
    let (from, to) = (day("2026-02-01"), day("2026-03-31"));
    let count = |report: &str, program: &str| rows(&api.sandbox.truth(BRAND, report, program, from, to, &[])).len();
    for report in [LISTING, "clicks"] {
        let (first, second) = (count(report, "1000"), count(report, "2000"));
        assert!(second * 18 < first * 10 && second * 23 > first * 10, "{report}: {first} and {second}");
    }
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
async fn files_come_in_the_dialect_of_the_switch() {
    let resource = "Programs/1000/ClickExport?Date=2026-04-01";
    let plain = Api::start().await.export(BRAND, resource).await;
    let bom = Api::behaving("csv_dialect=bom_crlf").await.export(BRAND, resource).await;
    assert!(bom.starts_with("\u{FEFF}Id,".as_bytes()) && bom.ends_with(b"\r\n"));
    let gzip = Api::behaving("csv_dialect=gzip").await;
    let id = gzip.submit(BRAND, resource).await;
    gzip.ended(BRAND, &id).await;
    let packed = gzip.download(BRAND, &id).await;
    let mut unpacked = Vec::new();
    GzipDecoder::new(&packed[..]).read_to_end(&mut unpacked).await.unwrap();
    assert!(unpacked == plain, "{}", String::from_utf8_lossy(&unpacked));
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
