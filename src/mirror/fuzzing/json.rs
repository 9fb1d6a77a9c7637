//! What is true of the JSON reader, whatever file it is given.

use std::collections::BTreeMap;
use std::sync::Arc;

use memchr::{memchr_iter, memmem};
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::json::{self, Names};
use super::super::layout::MAX_COLUMNS;
use super::super::records::{Reader, Shape};
use super::{Dripping, Kept, read_again, read_all as read_items};

#[derive(Debug, PartialEq)]
struct Whole {
    names: Vec<String>,
    items: Vec<Kept>,
}

/// Holds the reader to all of it.
pub fn check(file: &[u8]) {
    let whole = read_all(file, usize::MAX);
    for piece in [1, 7] {
        assert_eq!(read_all(file, piece), whole, "in pieces of {piece}");
    }
    let good = raw_records(file);
    match whole {
        Ok(Whole { names, items }) => {
            assert!(names.len() <= MAX_COLUMNS, "there are {} columns", names.len());
            assert!(items.iter().zip(1..).all(|(item, number)| item.line == number), "numbered with a gap");
            lie_in_the_file(file, &items);
            for item in &items {
                agrees_with_another_reader(&names, item);
            }
            if let Some(good) = good {
                assert_eq!(items.len(), good.len(), "records are lost, or made up");
                assert!(items.iter().zip(good).all(|(item, raw)| is_of(raw, item)), "a record is another");
            }
        }
        Err(problem) => {
            assert!(good.is_none() || !problem.starts_with("it is cut off"), "good JSON is taken for cut off");
        }
    }
}

/// Everything that is in a file; in words why it is no result.
fn read_all(file: &[u8], piece: usize) -> Result<Whole, String> {
    let source = || Dripping(file, piece);
    let names = match Names::read(source()) {
        Ok(names) => Arc::new(names.unwrap_or_default()),
        Err(error) => {
            // Nobody reads such a file any further. Reading it would end as well.
            let _ = read_items(Reader::Json(json::Reader::new(source(), Arc::default())));
            return Err(error.to_string());
        }
    };
    let shape = Shape::Json(Arc::clone(&names));
    let items = read_items(Reader::new(source(), &shape).expect("there is nothing to skip"));
    let items = items.expect("its names were read");
    read_again(file, &shape, &items);
    Ok(Whole { names: names.sources(), items })
}

/// Items stand one behind the other, and between them is nothing but a comma.
fn lie_in_the_file(file: &[u8], items: &[Kept]) {
    let is_between = |byte: &&u8| b" \t\r\n,".contains(byte);
    let mut known_to = None;
    for item in items {
        let next = known_to.map(|to: usize| {
            let gap = file[to..].iter().take_while(is_between).count();
            assert_eq!(memchr_iter(b',', &file[to..to + gap]).count(), 1, "before record {}", item.line);
            to + gap
        });
        let told = item.content.as_ref().ok().map(|content| content.offset);
        assert!(next.is_none() || told.is_none() || next == told, "record {} is elsewhere", item.line);
        let from = next.or(told);
        match from {
            Some(from) => assert!(file[from..].starts_with(&item.raw), "record {} is another", item.line),
            None => assert!(memmem::find(file, &item.raw).is_some(), "record {} is made up", item.line),
        }
        known_to = from.filter(|_| !item.is_cut()).map(|from| from + item.raw.len());
    }
}

/// A record that others read is good, and its fields have the values that others find.
fn agrees_with_another_reader(names: &[String], item: &Kept) {
    let Ok(values) = serde_json::from_slice::<BTreeMap<String, Value>>(&item.raw) else { return };
    if item.is_cut() {
        return;
    }
    let fields = &item.content.as_ref().expect("others can read it").fields;
    for (name, value) in values {
        let mut columns = names.iter().zip(fields).filter(|(column, _)| column.to_lowercase() == name.to_lowercase());
        // A name that a record has twice is two columns here, and one value to others.
        let (Some((_, field)), None) = (columns.next(), columns.next()) else { continue };
        match value {
            Value::Null => assert!(field.is_empty(), "null is not empty"),
            Value::String(text) => assert_eq!(text.as_bytes(), field),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                assert_eq!(serde_json::from_slice::<Value>(field).ok(), Some(value));
            }
        }
    }
}

/// The records of a file that is good JSON, as another reader finds them; `None` where it has no one list of them.
fn raw_records(file: &[u8]) -> Option<Vec<&RawValue>> {
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    if let Ok(list) = serde_json::from_slice(file) {
        return Some(list);
    }
    // A name with an escape in it cannot be borrowed: then nobody says which list is meant.
    let document: BTreeMap<&str, &RawValue> = serde_json::from_slice(file).ok()?;
    let mut lists = document.iter().filter(|(name, _)| ["records", "clicks"].contains(&&*name.to_ascii_lowercase()));
    match (lists.next(), lists.next()) {
        (Some((_, list)), None) => serde_json::from_str(list.get()).ok(),
        _ => None,
    }
}

fn is_of(raw: &RawValue, item: &Kept) -> bool {
    let raw = raw.get().as_bytes();
    if item.is_cut() { raw.starts_with(&item.raw) } else { raw == item.raw }
}
