//! The records of a file, whatever its format: `csv` and `json` cut them out, and what is behind reads fields.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use memchr::memchr;

pub(super) use input::{Input, MAX_RECORD, Pieces};

use super::json::Names;
use super::{csv, json};
use crate::export::ResultFormat;

mod input;

/// What is wrong with a record, apart from what stands in its fields.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("expected {expected} fields, found {found}")]
    FieldCount { expected: usize, found: usize },
    #[error("text after a closing quote")]
    TextAfterQuote,
    #[error("a quote is never closed")]
    UnclosedQuote,
    #[error("the record is longer than 4 MiB")]
    LongRecord,
    #[error("not UTF-8")]
    NotUtf8,
    #[error("not an object")]
    NotAnObject,
    #[error("not JSON: {0}")]
    NotJson(Box<str>),
}

/// One record, or what is left of one.
#[derive(Debug)]
pub(super) enum Item<'a> {
    Record(Record<'a>),
    Malformed { line: u64, raw: &'a [u8], reason: Malformed },
}

/// A well-formed record; its fields are as they are meant: unquoted, unescaped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    /// The physical line on which it starts, the first line of a file being 1; in JSON its number, from 1.
    pub line: u64,
    /// Where it starts in the file.
    pub offset: u64,
    /// As it stands in the file, without the end of line.
    pub raw: &'a [u8],
    pub(super) fields: &'a [Field],
    pub(super) unescaped: &'a [u8],
}

impl<'a> Record<'a> {
    pub fn field(&self, index: usize) -> &'a [u8] {
        self.text(self.fields[index])
    }

    pub fn fields(&self) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().map(|field| self.text(*field))
    }

    /// Whether all of it is UTF-8. Half a surrogate pair is none, escaped or not.
    pub fn is_utf8(&self) -> bool {
        std::str::from_utf8(self.raw).is_ok() && std::str::from_utf8(self.unescaped).is_ok()
    }

    /// Whether there is a NUL in it, escaped or not.
    pub fn holds_nul(&self) -> bool {
        memchr(0, self.raw).is_some() || memchr(0, self.unescaped).is_some()
    }

    fn text(&self, field: Field) -> &'a [u8] {
        let source = if field.unescaped { self.unescaped } else { self.raw };
        &source[field.from..field.to]
    }
}

/// A field by its place in the record, or among the unescaped texts where it held something escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    pub from: usize,
    pub to: usize,
    pub unescaped: bool,
}

/// What has to be known of a file to cut it into records of the same fields.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// A header, then records of so many fields.
    Csv { width: usize },
    /// Objects with some of these names.
    Json(Arc<Names>),
}

impl Shape {
    /// Of a file that was not looked into yet.
    pub fn unknown(format: ResultFormat) -> Self {
        match format {
            ResultFormat::Csv => Self::Csv { width: 0 },
            ResultFormat::Json => Self::Json(Arc::default()),
        }
    }

    pub fn format(&self) -> ResultFormat {
        match self {
            Self::Csv { .. } => ResultFormat::Csv,
            Self::Json(_) => ResultFormat::Json,
        }
    }
}

/// Reads the records of a file one after the other.
pub(super) enum Reader<R> {
    Csv(csv::Reader<R>),
    Json(json::Reader<R>),
}

impl<R: Read> Reader<R> {
    /// At the first record that is a row.
    pub fn new(source: R, shape: &Shape) -> io::Result<Self> {
        Ok(match shape {
            Shape::Csv { width } => {
                let mut reader = csv::Reader::new(source);
                reader.next()?;
                reader.expect_fields(*width);
                Self::Csv(reader)
            }
            Shape::Json(names) => Self::Json(json::Reader::new(source, Arc::clone(names))),
        })
    }

    /// Looks for the ends of long records in this file, which is the source's own.
    pub fn looking_ahead_in(mut self, file: File) -> Self {
        match &mut self {
            Self::Csv(reader) => reader.look_ahead_in(file),
            Self::Json(_) => {} // it finds them without
        }
        self
    }

    /// The next record; `None` at the end of the file.
    pub fn next(&mut self) -> io::Result<Option<Item<'_>>> {
        match self {
            Self::Csv(reader) => reader.next(),
            Self::Json(reader) => reader.next(),
        }
    }
}

/// Reads single records a second time, by their place in the file. Fast where the places ascend.
pub(super) enum Again {
    Csv(csv::Again),
    Json(json::Again),
}

impl Again {
    pub fn new(file: File, shape: &Shape) -> Self {
        match shape {
            Shape::Csv { .. } => Self::Csv(csv::Again::new(file)),
            Shape::Json(names) => Self::Json(json::Again::new(file, Arc::clone(names))),
        }
    }

    /// The record that was read from there before: its line, its offset and the length of its raw text.
    pub fn record(&mut self, line: u64, offset: u64, length: usize) -> io::Result<Record<'_>> {
        match self {
            Self::Csv(again) => again.record(line, offset, length),
            Self::Json(again) => again.record(line, offset, length),
        }
    }
}

/// A record read by its place is another than before.
pub(super) fn is_another() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a record is not what it was when read first")
}
