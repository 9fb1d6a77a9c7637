//! Records that are no rows, and files that are nearly good.

use super::*;

#[tokio::test]
async fn malformed_records_are_kept_with_line_and_reason_and_the_rest_loads() {
    let mut mirror = Mirror::unkeyed().await;
    let mut file = b"A,B\n1,2\n3\n4,5,6\n\"7\"x,8\n9,\"10\n11,12\n".to_vec();
    file.extend_from_slice(b"13,\xff\n14,\0\n15,16\n");
    let report = mirror.load(file).await;
    assert_eq!(
        mirror.rejected().await,
        [
            "3|-|expected 2 fields, found 1",
            "4|-|expected 2 fields, found 3",
            "5|-|text after a closing quote",
            "6|-|a quote is never closed",
            "8|b|not UTF-8",
            "9|b|holds a NUL byte"
        ]
    );
    assert_eq!(counts(&report), [3, 0, 0, 0, 6]);
    assert_eq!(mirror.rows("a b _line").await, ["1|2|2", "11|12|7", "15|16|10"]);
    assert_eq!(
        mirror.query("select raw from impact_mirror.rejected_row order by line").await,
        ["3", "4,5,6", "\"7\"x,8", "9,\"10", "13,\u{fffd}", "14,\u{fffd}"]
    );
}

#[tokio::test]
async fn quoted_fields_may_hold_anything() {
    let mut mirror = Mirror::unkeyed().await;
    let report = mirror.load("A,B\n\"x,\"\"y\"\"\nz\",\"\"\n\"\r\n\",b\"c\n").await;
    assert_eq!(counts(&report), [2, 0, 0, 0, 0]);
    assert_eq!(mirror.rows("a b _line").await, ["x,\"y\"\nz|-|2", "\r\n|b\"c|4"]);
}

#[tokio::test]
async fn a_byte_order_mark_and_windows_lines_do_not_matter() {
    let mut mirror = Mirror::unkeyed().await;
    let report = mirror.load("\u{feff}A,B\r\n1,\"x\"\r\n\r\n2,y\r\n3,z").await;
    assert_eq!(counts(&report), [3, 0, 0, 0, 0]);
    assert_eq!(mirror.rows("a b _line").await, ["1|x|2", "2|y|4", "3|z|5"]);
}

#[tokio::test]
async fn a_stray_quote_costs_its_own_line_however_long_the_file() {
    use std::fmt::Write;
    let mut file = String::from("A,B\n1,\"stray\n");
    for row in 0..1_000_000 {
        writeln!(file, "{row},x").unwrap();
    }
    let mut mirror = Mirror::unkeyed().await;
    let report = mirror.load(file).await;
    assert_eq!(counts(&report), [1_000_000, 0, 0, 0, 1]);
}

#[tokio::test]
async fn a_field_too_long_is_rejected() {
    let long = "x".repeat((1 << 20) + 1);
    let huge = "y".repeat(9 << 20);
    let mut mirror = Mirror::unkeyed().await;
    let report = mirror.load(format!("A,B\n1,{long}\n2,\"{huge}\"\n3,{}\n", &long[1..])).await;
    assert_eq!(mirror.rejected().await, ["2|b|longer than 1 MiB", "3|-|the record is longer than 4 MiB"]);
    assert_eq!(counts(&report), [1, 0, 0, 0, 2]);
    assert_eq!(mirror.query("select length(raw)::text from impact_mirror.rejected_row").await, ["4096", "4096"]);
}

#[tokio::test]
async fn a_field_of_64_mib_is_rejected_and_not_held() {
    let file = [b"A,B\n1,\"".as_slice(), &vec![b'z'; 64 << 20], b"\"\n2,b\n"].concat();
    let mut mirror = Mirror::unkeyed().await;
    for _ in 0..2 {
        let report = mirror.load(&file).await;
        assert_eq!(mirror.rejected().await, ["2|-|the record is longer than 4 MiB"]);
        assert_eq!(report.rows_rejected, 1);
        assert_eq!(mirror.rows("a b _line").await, ["2|b|3"]);
    }
}

#[tokio::test]
async fn a_long_field_costs_its_record_and_not_the_lines_in_it() {
    // Lines that would be rows, quotes, and a quote that is cut in two wherever pieces of a file end.
    let text = "7,8\n\"\"a\"\",b\r\n".repeat(400_000);
    let lines = 800_000;
    let mut mirror = Mirror::unkeyed().await;
    let file = format!("A,B\n1,x\n2,\"{text}\"\n3,\"{text}\",\"{text}\"\r\n4,y\n");
    let report = mirror.load(&file).await;
    assert_eq!(counts(&report), [2, 0, 0, 0, 2]);
    assert_eq!(
        mirror.rejected().await,
        ["3|-|the record is longer than 4 MiB".to_owned(), format!("{}|-|the record is longer than 4 MiB", 4 + lines)]
    );
    assert_eq!(mirror.rows("a b _line").await, ["1|x|2".to_owned(), format!("4|y|{}", 5 + 3 * lines)]);

    // Never closed, or closed in mid field: then it was no field that goes on.
    let rows = "7,8\n".repeat(1_100_000);
    for (end, what) in [("", "unclosed"), ("9,\"x\n", "closed in mid field")] {
        let mut mirror = Mirror::unkeyed().await;
        let report = mirror.load(format!("A,B\n1,\"x\n{rows}{end}")).await;
        assert_eq!(mirror.rejected().await[0], "2|-|the record is longer than 4 MiB", "{what}");
        assert_eq!(report.rows_inserted, 1_100_000, "{what}");
    }
}

#[tokio::test]
async fn a_key_too_long_for_an_index_is_rejected() {
    let mut mirror = Mirror::keyed().await;
    let report = mirror.load(format!("Id,Day\n{},2026-05-01\n2,2026-05-01\n", "k".repeat(3000))).await;
    assert_eq!(counts(&report), [1, 0, 0, 0, 1]);
}

#[tokio::test]
async fn many_rejected_rows_are_all_kept() {
    use std::fmt::Write;
    let mut file = String::from("Id,Day\n");
    for row in 0..50_000 {
        writeln!(file, "{row},nonsense").unwrap();
    }
    let mut mirror = Mirror::keyed().await;
    mirror.load("Id,Day\n7,2026-05-01\n60000,2026-05-01\n").await;
    let report = mirror.load(&file).await;
    assert_eq!(counts(&report), [0, 0, 1, 0, 50_000]);
    assert_eq!(mirror.rows("id").await, ["7"]);
}
