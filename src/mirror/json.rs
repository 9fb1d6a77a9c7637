//! Reads the records of a JSON result in bounded memory, each by itself. A value is its text; a number or a boolean is the
//! text it is written as, and so is an object or a list within a record. Null, "" and nothing are all empty.
//!
//! What cannot be read as JSON costs the record that it stands in. Where the records cannot be told apart, the file is
//! no result at all.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use memchr::memchr;
use serde::Deserialize;
use serde::de::{self, Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::records::{Field, Input, Item, MAX_RECORD, Malformed, Pieces, Record, is_another};
use crate::json::{Scanner, Step};

pub use names::NotAResult;
pub(super) use names::{Names, Walk};

mod names;

/// A record as it stands in the file.
struct Cutting<'a> {
    /// Which it is; the first is 1.
    number: u64,
    offset: u64,
    /// Only its beginning, where it is too long.
    raw: &'a [u8],
    is_whole: bool,
}

/// Cuts a file into records.
struct Cutter<R> {
    input: Input<R>,
    scanner: Scanner,
    /// How much of the input went through the scanner.
    scanned: usize,
    is_within: bool,
    /// Whether the record we are in was too long, and was told.
    is_told: bool,
    /// What the last record took, dropped by the next call.
    taken: usize,
    number: u64,
}

impl<R: Read> Cutter<R> {
    fn new(source: R) -> Self {
        let (input, scanner) = (Input::new(source), Scanner::default());
        Self { input, scanner, scanned: 0, is_within: false, is_told: false, taken: 0, number: 0 }
    }

    /// The next record; `None` where what was read has no more.
    fn next(&mut self) -> io::Result<Option<Cutting<'_>>> {
        self.input.drop(std::mem::take(&mut self.taken));
        loop {
            let (scanned, step) =
                self.scanner.step(&self.input.data()[self.scanned..]).map_err(NotAResult::NoResult).map_err(wrong)?;
            self.scanned += scanned;
            match step {
                Step::Begin => {
                    self.is_within = true;
                    self.drop_scanned();
                }
                Step::End => {
                    self.is_within = false;
                    if std::mem::take(&mut self.is_told) {
                        self.drop_scanned();
                        continue;
                    }
                    self.taken = std::mem::take(&mut self.scanned);
                    return Ok(Some(self.cutting(true)));
                }
                Step::More => {
                    if !self.is_within || self.is_told {
                        self.drop_scanned();
                    } else if self.scanned >= MAX_RECORD {
                        self.is_told = true;
                        self.taken = std::mem::take(&mut self.scanned);
                        return Ok(Some(self.cutting(false)));
                    }
                    if self.input.ended {
                        return Ok(None);
                    }
                    self.input.fill()?;
                }
            }
        }
    }

    /// Says whether the file is whole, once all of it was read.
    fn finish(&mut self) -> io::Result<()> {
        self.scanner.finish().map_err(NotAResult::NoResult).map_err(wrong)
    }

    fn drop_scanned(&mut self) {
        self.input.drop(std::mem::take(&mut self.scanned));
    }

    fn cutting(&mut self, is_whole: bool) -> Cutting<'_> {
        self.number += 1;
        Cutting { number: self.number, offset: self.input.offset, raw: &self.input.data()[..self.taken], is_whole }
    }
}

/// Reads records one after the other.
pub(super) struct Reader<R> {
    cutter: Cutter<R>,
    parser: Parser,
}

impl<R: Read> Reader<R> {
    pub fn new(source: R, names: Arc<Names>) -> Self {
        Self { cutter: Cutter::new(source), parser: Parser::new(names) }
    }

    /// The next record; `None` at the end of the file.
    pub fn next(&mut self) -> io::Result<Option<Item<'_>>> {
        let Some(Cutting { number: line, offset, raw, is_whole }) = self.cutter.next()? else { return Ok(None) };
        let parsed = if is_whole { self.parser.parse(raw) } else { Err(Malformed::LongRecord) };
        Ok(Some(match parsed {
            Ok(()) => Item::Record(self.parser.record(line, offset, raw)),
            Err(reason) => Item::Malformed { line, raw, reason },
        }))
    }
}

/// A file of which records are read by place.
pub(super) struct Again {
    pieces: Pieces,
    parser: Parser,
}

impl Again {
    pub fn new(file: File, names: Arc<Names>) -> Self {
        Self { pieces: Pieces::new(file), parser: Parser::new(names) }
    }

    /// The record that was read from there before: its number, its offset and the length of its raw text.
    pub fn record(&mut self, line: u64, offset: u64, length: usize) -> io::Result<Record<'_>> {
        let raw = self.pieces.piece(offset, length)?;
        self.parser.parse(raw).map_err(|_| is_another())?;
        Ok(self.parser.record(line, offset, raw))
    }
}

/// Finds the fields of a record, in the order of the columns.
struct Parser {
    names: Arc<Names>,
    walk: Walk,
    fields: Vec<Field>,
    unescaped: Vec<u8>,
}

const EMPTY: Field = Field { from: 0, to: 0, unescaped: false };

impl Parser {
    fn new(names: Arc<Names>) -> Self {
        Self { names, walk: Walk::default(), fields: Vec::new(), unescaped: Vec::new() }
    }

    fn parse(&mut self, raw: &[u8]) -> Result<(), Malformed> {
        let Self { names, walk, fields, unescaped } = self;
        walk.begin(names);
        unescaped.clear();
        fields.clear();
        fields.resize(names.len(), EMPTY);
        let mut is_strange = false;
        each_field(raw, |name, value| {
            match names.column(name, walk) {
                Some(column) => fields[column] = field(raw, value, unescaped)?,
                // All names are known, but for those of records that are malformed.
                None => is_strange = true,
            }
            Ok(())
        })?;
        if is_strange { Err(Malformed::NotJson("it has a name that was not there before".into())) } else { Ok(()) }
    }

    fn record<'a>(&'a self, line: u64, offset: u64, raw: &'a [u8]) -> Record<'a> {
        Record { line, offset, raw, fields: &self.fields, unescaped: &self.unescaped }
    }
}

/// Where the text of a value stands, which is a part of `raw`.
fn field(raw: &[u8], value: &str, unescaped: &mut Vec<u8>) -> Result<Field, Cow<'static, str>> {
    let from = value.as_ptr().addr() - raw.as_ptr().addr();
    let to = from + value.len();
    match value.as_bytes() {
        b"null" => Ok(EMPTY),
        [b'"', text @ .., b'"'] if memchr(b'\\', text).is_none() => {
            Ok(Field { from: from + 1, to: to - 1, unescaped: false })
        }
        [b'"', ..] => {
            let from = unescaped.len();
            // As bytes, so that half a surrogate pair is found out where its column is known.
            let read = serde_json::Deserializer::from_str(value).deserialize_bytes(Append(unescaped));
            read.map_err(|error| Cow::from(problem(&error)))?;
            Ok(Field { from, to: unescaped.len(), unescaped: true })
        }
        _ => Ok(Field { from, to, unescaped: false }),
    }
}

/// Goes through the names and values of a record, in their order.
fn each_field<'r>(
    raw: &'r [u8],
    visit: impl FnMut(&str, &'r str) -> Result<(), Cow<'static, str>>,
) -> Result<(), Malformed> {
    let text = std::str::from_utf8(raw).map_err(|_| Malformed::NotUtf8)?;
    if !text.starts_with('{') {
        return Err(Malformed::NotAnObject);
    }
    let mut source = serde_json::Deserializer::from_str(text);
    let read = source.deserialize_map(Fields(visit)).and_then(|()| source.end());
    read.map_err(|error| Malformed::NotJson(problem(&error).into()))
}

/// What is wrong, without the place: that is within the record.
fn problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split_once(" at line ").map_or(text.as_str(), |(problem, _)| problem).to_owned()
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct Fields<F>(F);

impl<'de, F: FnMut(&str, &'de str) -> Result<(), Cow<'static, str>>> Visitor<'de> for Fields<F> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<(), A::Error> {
        while let Some((Name(name), value)) = fields.next_entry::<Name<'de>, &'de RawValue>()? {
            (self.0)(&name, value.get()).map_err(de::Error::custom)?;
        }
        Ok(())
    }
}

struct Append<'a>(&'a mut Vec<u8>);

impl Visitor<'_> for Append<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a text")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<(), E> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

fn wrong(problem: NotAResult) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests;
