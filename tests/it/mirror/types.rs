//! Types: told, found, widened.

use super::*;

fn kinds(kinds: &[(&str, ColumnKind)]) -> BTreeMap<String, ColumnKind> {
    kinds.iter().map(|&(name, kind)| (name.to_owned(), kind)).collect()
}

#[tokio::test]
async fn configuration_goes_before_metadata_before_data() {
    let mut mirror = Mirror::unkeyed().await;
    mirror.configured = kinds(&[("a", ColumnKind::Text)]);
    mirror.metadata = kinds(&[("A", ColumnKind::Numeric), ("b", ColumnKind::Numeric)]);
    mirror.load("A,B,C\n1,1,1\n").await;
    assert_eq!(mirror.types().await, ["a text configured", "b numeric metadata", "c bigint data"]);
}

#[tokio::test]
async fn values_are_read_in_every_rendering() {
    let mut mirror = Mirror::unkeyed().await;
    mirror.configured = kinds(&[("M", ColumnKind::Date)]);
    mirror
        .load(
            "N,T,M,B\n\"$1,234.50\",2026-05-29T04:33:50.123Z,2026-05,TRUE\n5.000000000000000000,2026-05-29 04:33:50,May 2026,false\n-0.00005,\"May 29, 2026\",,n/a\n12345678901234567890.1,null,NA,\n",
        )
        .await;
    assert_eq!(
        mirror.query("select concat_ws('|', n, t at time zone 'UTC', m, b) from impact.actions order by _line").await,
        [
            "1234.50|2026-05-29 04:33:50.123|2026-05-01|t",
            "5.00|2026-05-29 08:33:50|2026-05-01|f",
            "-0.00005|2026-05-29 04:00:00",
            "12345678901234567890.1"
        ]
    );
}

#[tokio::test]
async fn numbers_arrive_exactly() {
    let numbers = [
        "0",
        "1",
        "-1",
        "9999",
        "10000",
        "10001",
        "100000000",
        "0.0",
        "0.1",
        "0.0001",
        "0.00001",
        "-0.00000001",
        "1234567.89",
        "10000.0001",
        "99999999.99999999",
        "100000000.0001",
        "-5.25",
        "340282366920938463463374607431768211456",
        "0.10",
    ];
    let mut mirror = Mirror::unkeyed().await;
    mirror.configured = kinds(&[("N", ColumnKind::Numeric)]);
    mirror.load(format!("N\n{}\n", numbers.join("\n"))).await;
    assert_eq!(mirror.rows("n").await, numbers);
    assert_eq!(
        mirror.query("select sum(n)::text from impact.actions").await,
        mirror.query(&format!("select sum(n)::text from (values ({})) v (n)", numbers.join("),("))).await
    );
}

#[tokio::test]
async fn zeros_that_pad_a_decimal_beyond_cents_are_left_out() {
    let mut mirror = Mirror::unkeyed().await;
    mirror.configured = kinds(&[("N", ColumnKind::Numeric)]);
    mirror.load("N\n5.000000000000000000\n-1.250000000000000000\n0.5\n3.10\n0.001000\n0.000\n").await;
    assert_eq!(mirror.rows("n").await, ["5.00", "-1.25", "0.5", "3.10", "0.001", "0.00"]);
}

#[tokio::test]
async fn missing_words_stay_in_text_and_are_null_elsewhere() {
    let mut mirror = Mirror::unkeyed().await;
    mirror.load("Word,Number,OnlyMissing\nn/a,n/a,n/a\nx,1,null\nNA,null,\n").await;
    assert_eq!(mirror.types().await, ["word text data", "number bigint data", "only_missing text data"]);
    assert_eq!(mirror.rows("word number only_missing").await, ["n/a|-|n/a", "x|1|null", "NA|-|-"]);
}

#[tokio::test]
async fn a_time_in_a_changed_hour_is_read_as_documented() {
    let mut mirror = Mirror::keyed().await;
    mirror.window = Window::new(day("2026-03-01"), day("2026-11-30")).unwrap();
    mirror.load("Id,Day\n1,2026-03-08 02:30:00\n2,2026-11-01 01:30:00\n3,2026-11-01T01:30:00-05:00\n4,2026-11-01T04:59:59Z\n5,2026-11-01T03:59:59Z\n").await;
    assert_eq!(
        mirror.query("select concat_ws('|', id, day at time zone 'UTC', _day) from impact.actions order by id").await,
        [
            "1|2026-03-08 07:30:00|2026-03-08",
            "2|2026-11-01 05:30:00|2026-11-01",
            "3|2026-11-01 06:30:00|2026-11-01",
            "4|2026-11-01 04:59:59|2026-11-01",
            "5|2026-11-01 03:59:59|2026-10-31"
        ]
    );
}

#[tokio::test]
async fn a_value_that_does_not_fit_widens_its_column() {
    let mut mirror = Mirror::keyed().await;
    mirror.load("Id,Day,A,B,C,D,E\n1,2026-05-01,1,1,true,2026-05-01,2026-05-01T00:00:00Z\n").await;
    let report = mirror.load("Id,Day,A,B,C,D,E\n1,2026-05-01,1.5,x,maybe,2026-05-01 10:00:00,never\n2,2026-05-02,2,2,false,2026-05-02,2026-05-01T00:00:00Z\n").await;
    assert_eq!(counts(&report), [1, 1, 0, 0, 0]);
    let others = "; other windows have texts of its values until `reload` brings those of their files";
    assert_eq!(
        report.table_changes,
        [
            "changed column a from bigint to numeric".to_owned(),
            format!("changed column b from bigint to text{others}"),
            format!("changed column c from boolean to text{others}"),
            "changed column d from date to timestamptz".to_owned(),
            format!("changed column e from timestamptz to text{others}")
        ]
    );
    assert_eq!(
        mirror
            .query("select concat_ws('|', id, a, b, c, d at time zone 'UTC', e) from impact.actions order by id")
            .await,
        ["1|1.5|x|maybe|2026-05-01 14:00:00|never", "2|2|2|false|2026-05-02 04:00:00|2026-05-01T00:00:00Z"]
    );
    let report = mirror.load("Id,Day,A,B,C,D,E\n1,2026-05-01,y,2,true,z,2026-05-01T00:00:00Z\n").await;
    assert_eq!(counts(&report), [0, 1, 1, 0, 0]);
    assert_eq!(mirror.types().await[2..], ["a text data", "b text data", "c text data", "d text data", "e text data"]);
}

#[tokio::test]
async fn rows_that_stand_survive_a_widening() {
    let mut mirror = Mirror::keyed().await;
    mirror.load("Id,Day,A,B,C,D,E,F\n1,2026-05-01,1.50,17,true,2026-05-01,2026-05-01T00:00:00.5Z,2026-05-01\n").await;
    mirror.window = Window::day(day("2026-06-01"));
    mirror.load("Id,Day,A,B,C,D,E,F\n2,2026-06-01,x,x,x,x,x,2026-06-01T00:00:00Z\n").await;
    assert_eq!(mirror.rows("a b c d e").await, ["1.50|17|true|2026-05-01|2026-05-01T00:00:00.500000Z", "x|x|x|x|x"]);
    assert_eq!(
        mirror.query("select (f at time zone 'America/New_York')::text from impact.actions where id = 1").await,
        ["2026-05-01 00:00:00"],
        "a day begins in the zone of its account"
    );
}

#[tokio::test]
async fn a_column_that_becomes_text_has_the_texts_of_the_file_in_the_whole_window() {
    const FIRST: &str = "Id,Day,A\n1,2026-05-01,n/a\n2,2026-05-01,$5.00\n3,2026-05-02,7\n";
    for (key, history) in [("Id", false), ("Id", true), ("", false)] {
        let key = Some(key.to_owned()).filter(|key| !key.is_empty()).into_iter().collect();
        let mut mirror = Mirror { key, history, ..Mirror::keyed().await };
        mirror.load(FIRST).await;
        let report = mirror.load(FIRST.replace(",7", ",seven")).await;
        assert!(report.table_changes[0].starts_with("changed column a from numeric to text; "), "{report:?}");
        assert_eq!(mirror.rows("id a").await, ["1|n/a", "2|$5.00", "3|seven"]);
        assert_eq!(report.rows_unchanged, 0);
        let report = mirror.load(FIRST.replace(",7", ",eight")).await;
        assert_eq!(report.rows_unchanged, 2, "only for the load that changes it");
    }
}

#[tokio::test]
async fn a_key_that_does_not_fit_widens_too() {
    let mut mirror = Mirror::keyed().await;
    mirror.configured = kinds(&[("Id", ColumnKind::Bigint)]);
    mirror.load("Id,Day\n1,2026-05-01\n").await;
    let report = mirror.load("Id,Day\n1,2026-05-01\n1.2.3,2026-05-01\n").await;
    assert_eq!(counts(&report), [1, 1, 0, 0, 0]);
    assert_eq!(mirror.rows("id").await, ["1", "1.2.3"]);
}

#[tokio::test]
async fn a_rejected_row_widens_nothing() {
    let mut mirror = Mirror::keyed().await;
    let report = mirror.load("Id,Day,A\n1,2026-05-01,1\n,2026-05-01,x\n2,someday,x\n3,2026-05-01,x,y\n").await;
    assert_eq!(counts(&report), [1, 0, 0, 0, 3]);
    let report =
        mirror.load("Id,Day,A\n1,2026-05-01,2\n,2026-05-01,x\n2,someday,x\n3,2026-05-01,x,y\n4,2026-05-01,2.5\n").await;
    assert_eq!(counts(&report), [1, 1, 0, 0, 3]);
    assert_eq!(mirror.types().await, ["id bigint data", "day date data", "a numeric data"]);
    assert_eq!(
        mirror.rejected().await,
        ["3|id|key is empty", "4|day|not a day or a time", "5|-|expected 3 fields, found 4"]
    );
}

#[tokio::test]
async fn quarantine_keeps_the_type_and_rejects_the_row() {
    let mut mirror = Mirror::keyed().await;
    mirror.on_type_conflict = OnTypeConflict::Quarantine;
    mirror.load("Id,Day,A,E\n1,2026-05-01,1,\n").await;
    let report = mirror.load("Id,Day,A,E,F\n1,2026-05-01,1,2,5\n2,2026-05-01,x,y,z\n").await;
    assert_eq!(counts(&report), [0, 1, 0, 0, 1]);
    assert_eq!(
        mirror.types().await,
        ["id bigint data", "day date data", "a bigint data", "e bigint data", "f bigint data"]
    );
    assert_eq!(mirror.rejected().await, ["3|a|not a bigint"]);
    assert_eq!(
        mirror.query("select concat_ws('|', value, raw) from impact_mirror.rejected_row").await,
        ["x|2,2026-05-01,x,y,z"]
    );
}

#[tokio::test]
async fn an_empty_column_gets_its_type_from_the_first_value() {
    let mut mirror = Mirror::keyed().await;
    mirror.load("Id,Day,A,B\n1,2026-05-01,,\n").await;
    mirror.load("Id,Day,A,B\n1,2026-05-01,,\n").await;
    assert_eq!(mirror.types().await[2..], ["a text empty", "b text empty"]);
    let report = mirror.load("Id,Day,A,B\n1,2026-05-01,5,\n2,2026-05-01,,\n").await;
    assert_eq!(report.table_changes, ["changed column a from text to bigint"]);
    assert_eq!(mirror.types().await[2..], ["a bigint data", "b text empty"]);
}

#[tokio::test]
async fn a_wider_configuration_changes_the_column() {
    let mut mirror = Mirror::unkeyed().await;
    mirror.load("A,B\n1,x\n").await;
    mirror.configured = kinds(&[("A", ColumnKind::Text), ("B", ColumnKind::Bigint)]);
    mirror.load("A,B\n007,5\n").await;
    assert_eq!(mirror.types().await, ["a text configured", "b text data"]);
    assert_eq!(mirror.rows("a b").await, ["007|5"]);
}

#[tokio::test]
async fn a_type_guessed_from_the_beginning_is_mended_by_the_rest() {
    use std::fmt::Write;
    let mut file = String::from("Number,Late,Word,LastTime\n");
    for row in 0..120_000 {
        writeln!(file, "{row},,n/a,2026-05-01T10:20:30.123456-04:00").unwrap();
    }
    file.push_str("1.5,2026-05-01,5,\n");
    let mut mirror = Mirror::unkeyed().await;
    let report = mirror.load(file).await;
    assert_eq!(report.rows_inserted, 120_001);
    assert_eq!(
        mirror.types().await,
        ["number numeric data", "late date data", "word bigint data", "last_time timestamp with time zone data"]
    );
    assert_eq!(report.table_changes, ["created table \"impact\".\"actions\" with 4 columns"]);
}

#[tokio::test]
async fn a_value_cut_in_two_by_the_end_of_the_sample_has_no_say() {
    let mut mirror = Mirror::unkeyed().await;
    mirror.load(format!("Header\n{}", "2026-05-01T10:20:30Z\n".repeat(200_000))).await;
    assert_eq!(mirror.types().await, ["header timestamp with time zone data"]);
}

#[tokio::test]
async fn every_rendering_that_is_known_of_impact_com_is_read() {
    use ColumnKind::{Date, Numeric, Timestamptz};
    // impact-api §7.5, row by row: the type it is given, the type found without, and what stands in the table.
    let renderings = [
        ("2026-05-29T04:33:50-05:00", Timestamptz, "timestamp with time zone", "2026-05-29 09:33:50+00"),
        ("2026-05-29T04:33:50-0600", Timestamptz, "timestamp with time zone", "2026-05-29 10:33:50+00"),
        ("2026-05-29T04:33:50.123Z", Timestamptz, "timestamp with time zone", "2026-05-29 04:33:50.123+00"),
        ("2026-05-29 04:33:50", Timestamptz, "timestamp with time zone", "2026-05-29 08:33:50+00"),
        ("2026-05-29T04:33:50", Timestamptz, "timestamp with time zone", "2026-05-29 08:33:50+00"),
        ("May 29, 2026", Date, "date", "2026-05-29"),
        ("2026-05", Date, "text", "2026-05-01"),
        ("May 2026", Date, "text", "2026-05-01"),
        ("5.000000000000000000", Numeric, "numeric", "5.00"),
        ("5.0", Numeric, "numeric", "5.0"),
        ("21.99", Numeric, "numeric", "21.99"),
        ("-21.99", Numeric, "numeric", "-21.99"),
        ("$1,234.50", Numeric, "numeric", "1234.50"),
        ("-$1,234.50", Numeric, "numeric", "-1234.50"),
        ("1,234", Numeric, "numeric", "1234"),
    ];
    let header: Vec<_> = (1..=renderings.len()).map(|n| format!("told{n},found{n}")).collect();
    let row: Vec<_> = renderings.iter().map(|(text, ..)| format!("\"{text}\",\"{text}\"")).collect();
    let mut mirror = Mirror::unkeyed().await;
    mirror.configured = (1..).zip(&renderings).map(|(n, (_, kind, ..))| (format!("told{n}"), *kind)).collect();
    mirror.load(format!("{}\n{}\n", header.join(","), row.join(","))).await;
    let types = mirror.types().await;
    for (index, (text, told, found, stored)) in renderings.iter().enumerate() {
        let number = index + 1;
        let value = format!(
            "select told{number}::text from (select set_config('timezone', 'UTC', false)) zone, impact.actions"
        );
        assert_eq!(mirror.query(&value).await, [*stored], "{text} as {told}");
        assert_eq!(types[index * 2 + 1], format!("found{number} {found} data"), "{text}");
    }
}
