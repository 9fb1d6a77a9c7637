//! JSON results, held against what CSV results make of the same rows.

use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use super::*;

fn records(records: &Value) -> String {
    json!({ "@page": "1", "Records": records, "@total": "9" }).to_string()
}

async fn unkeyed() -> Mirror {
    Mirror { format: ResultFormat::Json, ..Mirror::unkeyed().await }
}

async fn keyed() -> Mirror {
    Mirror { format: ResultFormat::Json, ..Mirror::keyed().await }
}

#[tokio::test]
async fn records_become_typed_rows_numbered_from_one() {
    let mut mirror = unkeyed().await;
    let report = mirror
        .load(
            r#"{"Records":[{"Id":1,"Amount":"21.990","Paid":true,"Note":"a\n\"b\" \ud83d\ude00","Extra":{"x":[1]}},
                {"Id":"2","Amount":-0.5,"Paid":"false","Note":null},{"Id":"3","Note":"","Later":"2026-05-01"}]}"#,
        )
        .await;
    assert_eq!(counts(&report), [3, 0, 0, 0, 0]);
    assert_eq!(
        mirror.rows("_line id amount paid note extra later").await,
        ["1|1|21.99|true|a\n\"b\" 😀|{\"x\":[1]}|-", "2|2|-0.5|false|-|-|-", "3|3|-|-|-|-|2026-05-01"]
    );
    let types = mirror.types().await.join(", ");
    assert!(types.starts_with("id bigint data, amount numeric data, paid boolean data, note text data"), "{types}");
}

#[tokio::test]
async fn malformed_records_are_kept_with_number_and_reason_and_the_rest_loads() {
    let mut mirror = keyed().await;
    mirror
        .load(records(&json!([{"Id": "7", "Day": "2026-05-01", "A": "old"}, {"Id": "8", "Day": "2026-05-01"}])))
        .await;
    let mut file = br#"[{"Id":"1","Day":"2026-05-01"},
        {"Id":"2","Day":"2026-05-01",},
        {"Id":"7","Day":"2026-05-01","A":"\ud800 half"},
        {"Id":"8","Day":"2026-05-01","A":"a \u0000 b"},
        "no object",
        {"Day":"2026-05-02"},
        {"Id":"3","Day":"someday"},
        {"Id":"1","Day":"2026-05-03"},
        {"Id":"9","Day":"2026-05-01","A":""#
        .to_vec();
    file.extend_from_slice(b"\xff\"}]");
    let report = mirror.load(file).await;
    assert_eq!(
        mirror.rejected().await,
        [
            "2|-|not JSON: trailing comma",
            "3|a|not UTF-8",
            "4|a|holds a NUL byte",
            "5|-|not an object",
            "6|id|key is empty",
            "7|day|not a day or a time",
            "8|-|duplicate key (record 1)",
            "9|-|not UTF-8"
        ]
    );
    assert_eq!((counts(&report), report.kept_deletions), ([1, 0, 0, 0, 8], true));
    assert_eq!(mirror.rows("id a").await, ["7|old", "8|-", "1|-"]);
    let raws = mirror.query("select raw from impact_mirror.rejected_row order by line").await;
    assert_eq!(raws[1], r#"{"Id":"7","Day":"2026-05-01","A":"\ud800 half"}"#);
    assert_eq!(raws[6], r#"{"Id":"1","Day":"2026-05-03"}"#, "a duplicate as it stands in the file");
}

#[tokio::test]
async fn a_field_of_64_mib_is_rejected_and_not_held() {
    let file = records(&json!([{"A": "1", "B": "z".repeat(64 << 20)}, {"A": "2", "B": "b"}]));
    let long = records(&json!([{"A": "1", "B": "z".repeat((1 << 20) + 1)}, {"A": "2", "B": "b"}]));
    let mut mirror = unkeyed().await;
    for _ in 0..2 {
        let report = mirror.load(&file).await;
        assert_eq!(mirror.rejected().await, ["1|-|the record is longer than 4 MiB"]);
        assert_eq!(report.rows_rejected, 1);
        mirror.load(&long).await;
        assert_eq!(mirror.rejected().await, ["1|b|longer than 1 MiB"]);
        assert_eq!(mirror.rows("a b _line").await, ["2|b|2"]);
    }
}

#[tokio::test]
async fn what_is_no_result_loads_nothing() {
    let mut mirror = unkeyed().await;
    mirror.load(r#"[{"A":"1"}]"#).await;
    for (file, problem) in [
        (r#"{"Records":[{"A":"2"},{"A":"#, "it is cut off after 27 bytes, behind 1 whole records"),
        (r#"[{"A":"2"}] and more"#, "byte 12 is 'a', where the end of the file should be"),
        (r#"{"Status":"ERROR","Message":"no"}"#, "it says that the export failed: no"),
        ("A\n2\n", "byte 0 is 'A', where the object or the list of a result should be"),
        ("[{}]", "none of its 1 records can be read, or has a name"),
    ] {
        let error = mirror.try_load(file).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadFile, "{error}");
        assert!(Chain(&error).to_string().ends_with(problem), "{}", Chain(&error));
        assert_eq!(mirror.rows("a").await, ["1"]);
    }
    let error = Mirror { key: vec!["Id".to_owned()], ..mirror }.try_load(r#"[{"A":"1"}]"#).await.unwrap_err();
    assert!(matches!(error, Error::MissingColumn { .. }), "{error}");
}

#[tokio::test]
async fn an_empty_list_empties_the_window() {
    for file in [r#"{"Records":[]}"#, "[]", "", "null", "{}"] {
        let mut mirror = keyed().await;
        assert_eq!(counts(&mirror.load(file).await), [0; 5], "no table, no rows");
        mirror.load(r#"[{"Id":"1","Day":"2026-05-01"}]"#).await;
        assert_eq!(counts(&mirror.load(file).await), [0, 0, 1, 0, 0], "{file}");
    }
}

#[tokio::test]
async fn a_value_that_does_not_fit_widens_or_is_quarantined() {
    for (on_type_conflict, expected) in
        [(OnTypeConflict::Widen, [1, 1, 0, 0, 0]), (OnTypeConflict::Quarantine, [0, 1, 0, 0, 1])]
    {
        let mut mirror = Mirror { on_type_conflict, ..keyed().await };
        mirror.load(r#"[{"Id":"1","Day":"2026-05-01","N":5}]"#).await;
        let second = r#"[{"Id":"1","Day":"2026-05-01","N":6},{"Id":"2","Day":"2026-05-01","N":"many"}]"#;
        assert_eq!(counts(&mirror.load(second).await), expected, "{on_type_conflict:?}");
    }
}

fn rows() -> impl Strategy<Value = Vec<[String; 3]>> {
    let day = prop_oneof![8 => "2026-05-0[1-3]", 1 => Just(String::new()), 1 => "2026-05-0[4-9]"];
    let text =
        prop_oneof![2 => Just(String::new()), 4 => "[a-c,\"\n\\\\ é\\t]{1,6}", 1 => any::<String>(), 1 => "n/a|\0x"];
    let number = prop_oneof![4 => "[0-9]{1,3}(\\.[0-9]{1,2})?", 1 => Just(String::new()), 1 => "x"];
    prop::collection::vec((day, text, number).prop_map(|(day, text, number)| [day, text, number]), 0..40)
}

fn as_csv(rows: &[[String; 3]]) -> String {
    let mut file = "Id,Day,Text,Number\n".to_owned();
    for (id, row) in rows.iter().enumerate() {
        let fields: Vec<_> = row.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))).collect();
        writeln!(file, "{id},{}", fields.join(",")).unwrap();
    }
    file
}

/// Each record in another form: names in another order, empty ones null or left out, numbers as such.
fn as_json(rows: &[[String; 3]]) -> String {
    let list = rows.iter().enumerate().map(|(id, [day, text, number])| {
        let mut record = Map::new();
        let mut put = |name: &str, value: &str| {
            let value = match value {
                "" if id % 3 == 1 => return,
                "" if id % 3 == 2 => Value::Null,
                _ => json!(value),
            };
            record.insert(name.to_owned(), value);
        };
        put("Text", text);
        put("Number", number);
        put("Day", day);
        record.insert("Id".to_owned(), json!(id));
        Value::Object(record)
    });
    records(&Value::Array(list.collect()))
}

#[tokio::test]
async fn the_same_rows_in_the_other_format_change_nothing() {
    let mut runner = TestRunner::deterministic();
    for has_key in [true, false] {
        let mut mirror = Mirror::keyed().await;
        if !has_key {
            mirror.key.clear();
        }
        for (name, kind) in [("Id", ColumnKind::Bigint), ("Day", ColumnKind::Date), ("Text", ColumnKind::Text)] {
            mirror.configured.insert(name.to_owned(), kind);
        }
        mirror.on_type_conflict = OnTypeConflict::Quarantine;
        mirror.configured.insert("Number".to_owned(), ColumnKind::Numeric);
        let all = "select (to_jsonb(t) - '{_load_id,_line,_first_seen_at,_changed_at}'::text[])::text from impact.actions t order by 1";
        for round in 0..12 {
            let rows = rows().new_tree(&mut runner).unwrap().current();
            let files = [(ResultFormat::Csv, as_csv(&rows)), (ResultFormat::Json, as_json(&rows))];
            let (one, other) = if round % 2 == 0 { (0, 1) } else { (1, 0) };
            mirror.format = files[one].0;
            let first = mirror.load(&files[one].1).await;
            let kept = mirror.query(all).await;
            for at in [other, one] {
                mirror.format = files[at].0;
                let again = mirror.load(&files[at].1).await;
                assert_eq!(counts(&again)[..3], [0, 0, 0], "{has_key} {round}: {rows:?}");
                assert_eq!((again.rows_read, again.rows_rejected), (first.rows_read, first.rows_rejected));
            }
            assert_eq!(mirror.query(all).await, kept, "hashes and all");
        }
    }
}

#[tokio::test]
async fn a_change_is_written_by_reading_its_record_again() {
    let mut mirror = keyed().await;
    let record = |id: u32, note: &str| json!({"Id": id, "Day": "2026-05-02", "Note": note, "Pad": "é\"".repeat(id as usize % 90)});
    let mut list: Vec<Value> = (0..3000).map(|id| record(id, "before")).collect();
    assert_eq!(mirror.load(records(&json!(list))).await.rows_inserted, 3000);
    for id in [0, 1, 1777, 2999] {
        list[id] = record(u32::try_from(id).unwrap(), "after\t\u{1f600}");
    }
    list.push(record(3000, "new"));
    let report = mirror.load(records(&json!(list))).await;
    assert_eq!(counts(&report), [1, 4, 0, 2996, 0]);
    let written = "select concat_ws(' ', id, _line, note) from impact.actions where note <> 'before' order by id";
    assert_eq!(
        mirror.query(written).await,
        ["0 1 after\t😀", "1 2 after\t😀", "1777 1778 after\t😀", "2999 3000 after\t😀", "3000 3001 new"]
    );
}
