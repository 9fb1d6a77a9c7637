//! Random files: nothing is lost, nothing panics, and it does not matter in which pieces a file is read.

use std::fmt::Write;

use proptest::prelude::*;

use super::super::fuzzing::Dripping;
use super::*;

type Owned = (u64, Vec<u8>, Result<Vec<Vec<u8>>, Malformed>);

fn read_all(file: &[u8], piece: usize, width: Option<usize>) -> Vec<Owned> {
    let mut reader = Reader::new(Dripping(file, piece));
    if let Some(width) = width {
        reader.expect_fields(width);
    }
    let mut items = Vec::new();
    while let Some(item) = reader.next().unwrap() {
        items.push(match item {
            Item::Record(record) => {
                let before = &file[..usize::try_from(record.offset).unwrap()];
                assert_eq!(record.line, 1 + memchr_iter(b'\n', before).count() as u64);
                (record.line, record.raw.to_vec(), Ok(record.fields().map(<[u8]>::to_vec).collect()))
            }
            Item::Malformed { line, raw, reason } => (line, raw.to_vec(), Err(reason)),
        });
    }
    items
}

fn encode(rows: &[Vec<String>], end_of_line: &str, quote_all: bool) -> String {
    let mut file = String::new();
    for row in rows {
        for (index, field) in row.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            let wants_quotes = field.contains([',', '"', '\n', '\r']) || (row.len() == 1 && field.is_empty());
            if quote_all || wants_quotes {
                write!(file, "{separator}\"{}\"", field.replace('"', "\"\"")).unwrap();
            } else {
                write!(file, "{separator}{field}").unwrap();
            }
        }
        file.push_str(end_of_line);
    }
    file
}

fn tables() -> impl Strategy<Value = Vec<Vec<String>>> {
    let field = prop_oneof!["[a-c,\"\n\r ]{0,6}", any::<String>()];
    (1_usize..5)
        .prop_flat_map(move |width| prop::collection::vec(prop::collection::vec(field.clone(), width..=width), 0..6))
}

/// Bytes among which the ones with a meaning are frequent.
pub(super) fn rubble() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b','), Just(b'"'), Just(b'\n'), Just(b'\r'), Just(b'a'), any::<u8>()];
    prop::collection::vec(byte, 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read(
        rows in tables(),
        windows in any::<bool>(),
        quote_all in any::<bool>(),
        marked in any::<bool>(),
        ends in any::<bool>(),
        piece in 1_usize..20,
    ) {
        // A file that begins with the mark itself wants another before it.
        prop_assume!(marked || rows.first().is_none_or(|row| quote_all || !row[0].starts_with('\u{feff}')));
        let end_of_line = if windows { "\r\n" } else { "\n" };
        let mut file = encode(&rows, end_of_line, quote_all);
        if ends && file.ends_with(end_of_line) {
            file.truncate(file.len() - end_of_line.len());
        }
        if marked {
            file.insert(0, '\u{feff}');
        }
        let read: Vec<_> = read_all(file.as_bytes(), piece, rows.first().map(Vec::len))
            .into_iter()
            .map(|(_, _, fields)| fields.map(|fields| fields.into_iter().map(|field| String::from_utf8(field).unwrap()).collect::<Vec<_>>()))
            .collect();
        prop_assert_eq!(read, rows.into_iter().map(Ok).collect::<Vec<_>>(), "{:?}", file);
    }

    #[test]
    fn any_bytes_are_read_alike_in_any_pieces(file in rubble(), piece in 1_usize..9, width in prop::option::of(1_usize..4)) {
        let whole = read_all(&file, usize::MAX, width);
        prop_assert_eq!(&read_all(&file, piece, width), &whole);
        prop_assert!(whole.is_sorted_by(|one, next| one.0 < next.0), "each record begins on a line of its own");
    }

    #[test]
    fn no_line_is_swallowed_unsaid(file in rubble()) {
        let file = &file[file.iter().take_while(|byte| BYTE_ORDER_MARK.contains(byte)).count()..];
        let items = read_all(file, usize::MAX, Some(2));
        let told: usize = items.iter().map(|(_, raw, _)| raw.len()).sum();
        let all = file.iter().filter(|byte| !b"\r\n".contains(byte)).count();
        prop_assert!(told >= all, "{told} of {all} bytes stand in a record");
    }
}

#[test]
fn a_stray_quote_costs_its_own_line() {
    let file = b"1,\"stray\n2,b\n3,c\n4,\"d\"\n5,\",\"\n";
    let items = read_all(file, usize::MAX, Some(2));
    let good: Vec<_> = items.iter().filter(|item| item.2.is_ok()).map(|item| item.0).collect();
    assert_eq!(good, [2, 3, 4, 5]);
    assert_eq!(items[0].1, b"1,\"stray");
}

#[test]
fn a_record_over_several_lines_with_too_few_fields_is_one() {
    let items = read_all(b"\"1\n2\n3\"\n4,5\n", usize::MAX, Some(2));
    assert_eq!(items.len(), 2);
    assert_eq!(items[0].2, Err(Malformed::FieldCount { expected: 2, found: 1 }));
}
