//! Random files: nothing is lost, nothing panics, and it does not matter in which pieces a file is read.

use std::fmt::Write as _;
use std::io::Write as _;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::super::fuzzing::Dripping;
use super::*;

/// A record: its number, its raw text, and its fields.
type Owned = (u64, Vec<u8>, Result<Vec<Vec<u8>>, Malformed>);

/// The names and the records of a file; an error in words where it is no result.
fn read_all(file: &[u8], piece: usize) -> Result<(Vec<String>, Vec<Owned>), String> {
    let names = Names::read(Dripping(file, piece)).map_err(|error| error.to_string())?;
    let names = Arc::new(names.unwrap_or_default());
    let mut on_disk = tempfile::tempfile().unwrap();
    on_disk.write_all(file).unwrap();
    let mut again = Again::new(on_disk, Arc::clone(&names));
    let mut reader = Reader::new(Dripping(file, piece), Arc::clone(&names));
    let mut items = Vec::new();
    while let Some(item) = reader.next().unwrap() {
        items.push(match item {
            Item::Record(record) => {
                let from = usize::try_from(record.offset).unwrap();
                assert_eq!(record.raw, &file[from..from + record.raw.len()]);
                let second = again.record(record.line, record.offset, record.raw.len()).unwrap();
                assert!(record.fields().eq(second.fields()), "read again by its place");
                (record.line, record.raw.to_vec(), Ok(record.fields().map(<[u8]>::to_vec).collect()))
            }
            Item::Malformed { line, raw, reason } => (line, raw.to_vec(), Err(reason)),
        });
    }
    Ok((names.sources(), items))
}

/// The texts of the records, by name; none may be malformed.
fn texts(file: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let (names, items) = read_all(file.as_bytes(), usize::MAX).unwrap();
    let rows = items.into_iter().map(|(_, _, fields)| {
        fields.unwrap().into_iter().map(|field| String::from_utf8(field).unwrap()).collect::<Vec<_>>()
    });
    (names, rows.collect())
}

fn reasons(file: &[u8]) -> Vec<(u64, String)> {
    let (_, items) = read_all(file, usize::MAX).unwrap();
    items.into_iter().filter_map(|(line, _, fields)| Some((line, fields.err()?.to_string()))).collect()
}

/// Every character as an escape, beyond the first plane as two.
fn escaped(text: &str) -> String {
    text.encode_utf16().fold(String::new(), |mut escaped, unit| {
        write!(escaped, "\\u{unit:04x}").unwrap();
        escaped
    })
}

/// How a file is written.
#[derive(Debug, Clone, Copy)]
struct Style {
    escapes: bool,
    leaves_out_empty: bool,
    blanks: &'static str,
    frame: (&'static str, &'static str),
}

fn styles() -> impl Strategy<Value = Style> {
    let frames = [
        ("[", "]"),
        ("{\"Records\":[", "]}"),
        ("\u{feff}{\"@page\":\"1\",\"@x\":{\"a\":[1]},\"Records\":[", "],\"@total\":2}\r\n"),
        (" {\"clicks\" : [ ", " ] } "),
    ];
    (any::<bool>(), any::<bool>(), select(&["", " ", "\r\n", "\t\n "][..]), select(frames.to_vec()))
        .prop_map(|(escapes, leaves_out_empty, blanks, frame)| Style { escapes, leaves_out_empty, blanks, frame })
}

fn encode(names: &[String], rows: &[Vec<String>], style: Style) -> String {
    let blanks = style.blanks;
    let text = |text: &str| {
        if style.escapes { format!("\"{}\"", escaped(text)) } else { serde_json::to_string(text).unwrap() }
    };
    let records = rows.iter().enumerate().map(|(number, row)| {
        let fields = names.iter().zip(row).enumerate().filter_map(|(column, (name, value))| {
            // The first record has all names, so that their order is known.
            let value = match (value.as_str(), column % 2) {
                ("", _) if style.leaves_out_empty && number > 0 => return None,
                ("", 0) => "null".to_owned(),
                _ => text(value),
            };
            Some(format!("{blanks}{}{blanks}:{blanks}{value}{blanks}", text(name)))
        });
        let fields = fields.collect::<Vec<_>>().join(",");
        format!("{blanks}{{{fields}{blanks}}}{blanks}")
    });
    let (before, after) = style.frame;
    format!("{before}{}{after}", records.collect::<Vec<_>>().join(","))
}

fn tables() -> impl Strategy<Value = (Vec<String>, Vec<Vec<String>>)> {
    let field = prop_oneof!["[a-c,\"\\\\/{}\\[\\]\n\r \0]{0,6}", any::<String>()];
    let names = prop::collection::btree_set("[a-z\"\\\\ é]{0,4}", 1..5);
    names.prop_flat_map(move |names| {
        let width = names.len();
        let rows = prop::collection::vec(prop::collection::vec(field.clone(), width..=width), 1..6);
        (Just(names.into_iter().collect::<Vec<_>>()).prop_shuffle(), rows)
    })
}

/// Bytes among which the ones with a meaning are frequent.
fn rubble() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        4 => select(&["{", "}", "[", "]", ",", ":", "\"", "\\", "{\"A\":\"b\"}", "\"Records\":[", " ", "null", "1", "\\u00"][..])
            .prop_map(|token| token.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

/// A good file with bytes cut out, put in and doubled.
fn broken() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![select(b",\"\n\0{}[]:\\u\xff".to_vec()), any::<u8>()];
    let change = (any::<Index>(), 0_usize..4, prop::collection::vec(byte, 0..4));
    let seed =
        "{\"@page\":\"1\",\"Records\":[{\"Id\":\"1\",\"Note\":\"S\\u00e3o \\\"x\\\"\"},{\"Id\":2,\"Amount\":1.50},{}]}";
    prop::collection::vec(change, 0..4).prop_map(move |changes| {
        let mut bytes = seed.as_bytes().to_vec();
        for (at, cut, put) in changes {
            let from = at.index(bytes.len() + 1);
            let to = (from + cut).min(bytes.len());
            bytes.splice(from..to, put);
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read((names, rows) in tables(), style in styles(), piece in 1_usize..20) {
        let file = encode(&names, &rows, style);
        let (read_names, items) = read_all(file.as_bytes(), piece).unwrap();
        prop_assert_eq!(&read_names, &names, "{}", file);
        let read: Vec<_> = items.into_iter()
            .map(|(_, _, fields)| fields.map(|fields| fields.into_iter().map(|field| String::from_utf8(field).unwrap()).collect::<Vec<_>>()))
            .collect();
        prop_assert_eq!(read, rows.into_iter().map(Ok).collect::<Vec<_>>(), "{}", file);
    }

    #[test]
    fn any_bytes_are_read_alike_in_any_pieces(file in prop_oneof![rubble(), broken()], piece in 1_usize..9) {
        let whole = read_all(&file, usize::MAX);
        prop_assert_eq!(&read_all(&file, piece), &whole);
        if let Ok((_, items)) = whole {
            prop_assert!(items.iter().zip(1..).all(|(item, number)| item.0 == number), "numbered without a gap");
        }
    }

    #[test]
    fn what_any_reader_of_json_takes_is_taken(file in broken()) {
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(&file) else { return Ok(()) };
        let Some(records) = value.get("Records").and_then(|records| records.as_array()) else { return Ok(()) };
        let Ok((_, items)) = read_all(&file, usize::MAX) else { return Ok(()) };
        prop_assert_eq!(items.len(), records.len());
        for (item, record) in items.iter().zip(records) {
            prop_assert_eq!(item.2.is_ok(), record.is_object(), "{:?}", item);
        }
    }
}

#[test]
fn values_are_texts_and_others_are_as_they_are_written() {
    let file =
        r#"[{"A":"x","B":12,"C":1.50e3,"D":true,"E":null,"F":"","G":{"a": [1, "}"]},"H":[ ],"I":"null","J":-0}]"#;
    let (names, rows) = texts(file);
    assert_eq!(names.concat(), "ABCDEFGHIJ");
    assert_eq!(rows, [["x", "12", "1.50e3", "true", "", "", r#"{"a": [1, "}"]}"#, "[ ]", "null", "-0"]]);
}

#[test]
fn columns_are_the_names_of_all_records_in_order_of_first_sight() {
    let (names, rows) = texts(r#"[{"B":1},{"A":2,"B":3},{},{"C":4,"A":5},{"b":6}]"#);
    assert_eq!(names, ["B", "A", "C"]);
    assert_eq!(rows, [["1", "", ""], ["3", "2", ""], ["", "", ""], ["", "5", "4"], ["6", "", ""]]);
}

#[test]
fn a_name_twice_in_a_record_is_two_columns_as_in_a_header() {
    let (names, rows) = texts(r#"[{"Day":1,"X":2,"day":3},{"DAY":4},{"Day":5,"Day":6,"X":7}]"#);
    assert_eq!(names, ["Day", "X", "day"]);
    assert_eq!(rows, [["1", "2", "3"], ["4", "", ""], ["5", "7", "6"]]);
}

#[test]
fn a_record_that_is_no_json_costs_itself_alone() {
    let mut file =
        b"[{\"A\":\"x\"},{\"A\":\"\\x\"},{\"A\":\"\n\"},{\"A\" 1},{\"A\":1 2},{\"A\":01},7,\"t\",[{\"A\":1}],null,\
        {\"A\":tru},{\"A\":[1}},{\"A\":\"\\u12\"},{\"A\":\"\\ud800\"},{\"A\":\""
            .to_vec();
    file.extend_from_slice(b"\xff\"},{\"New\":1,},{\"A\":\"y\"}]");
    let told: Vec<_> = reasons(&file);
    let of = |number: u64| told.iter().find(|(line, _)| *line == number).map(|(_, reason)| reason.as_str());
    assert_eq!(told.len(), 14, "{told:?}");
    assert_eq!((of(1), of(14), of(17)), (None, None, None), "half a surrogate pair is found out by its column");
    assert_eq!(of(2), Some("not JSON: invalid escape"));
    assert_eq!(of(3), Some("not JSON: control character (\\u0000-\\u001F) found while parsing a string"));
    assert!([7, 8, 9, 10].iter().all(|number| of(*number) == Some("not an object")), "{told:?}");
    assert_eq!(of(15), Some("not UTF-8"));
    assert_eq!(read_all(&file, 7).unwrap().0, ["A"], "a name of a malformed record is not believed");
}

#[test]
fn a_record_too_long_is_told_and_not_held() {
    let long = "z".repeat(64 << 20);
    let file = format!("{{\"Records\":[{{\"A\":\"{long}\",\"New\":1}},{{\"A\":\"b\"}}]}}");
    let mut reader = Reader::new(file.as_bytes(), Arc::new(Names::read(file.as_bytes()).unwrap().unwrap()));
    let Some(Item::Malformed { line: 1, raw, reason: Malformed::LongRecord }) = reader.next().unwrap() else {
        panic!("it is held");
    };
    assert!(raw.len() <= MAX_RECORD && raw.starts_with(b"{\"A\":\"zzz"));
    let Some(Item::Record(record)) = reader.next().unwrap() else { panic!("the next one is lost") };
    assert_eq!((record.line, record.fields().collect::<Vec<_>>()), (2, vec![&b"b"[..]]));
    assert!(reader.next().unwrap().is_none());
}

#[test]
fn a_file_without_names_or_with_too_many_is_no_result() {
    let told = |file: &str| read_all(file.as_bytes(), usize::MAX).unwrap_err();
    assert_eq!(told("[{},{}]"), "none of its 2 records can be read, or has a name");
    assert_eq!(told("[7]"), "none of its 1 records can be read, or has a name");
    assert!(told("[{\"A\":1},{\"A\":1}").starts_with("it is cut off"), "cut between records");
    let many = |from: usize| (from..from + 900).map(|n| format!("\"n{n}\":1")).collect::<Vec<_>>().join(",");
    let file = format!("[{{{}}},{{{}}}]", many(0), many(900));
    assert_eq!(told(&file), "its records up to number 2 have more names, or longer ones, than a table can hold");
    assert_eq!(read_all(b"{\"Records\":[]}", 1).unwrap().1, []);
}
