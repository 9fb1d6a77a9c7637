//! Reads single records a second time, by their place in the file.

use std::fs::File;
use std::io;

use super::super::records::{Field, Pieces, Record, is_another};
use super::{Split, split};

/// A file of which records are read by place.
pub(in crate::mirror) struct Again {
    pieces: Pieces,
    record: Vec<u8>,
    fields: Vec<Field>,
    unescaped: Vec<u8>,
}

impl Again {
    pub fn new(file: File) -> Self {
        Self { pieces: Pieces::new(file), record: Vec::new(), fields: Vec::new(), unescaped: Vec::new() }
    }

    /// The record that was read from there before: its line, its offset and the length of its raw text.
    pub fn record(&mut self, line: u64, offset: u64, length: usize) -> io::Result<Record<'_>> {
        self.record.clear();
        self.record.extend_from_slice(self.pieces.piece(offset, length)?);
        // An end of line of two bytes: a carriage return that belongs to the record is not taken for a part of it.
        self.record.extend_from_slice(b"\r\n");
        match split(&self.record, true, &mut self.fields, &mut self.unescaped) {
            Split::Record { content, .. } if content == length => Ok(Record {
                line,
                offset,
                raw: &self.record[..length],
                fields: &self.fields,
                unescaped: &self.unescaped,
            }),
            Split::End | Split::More | Split::Broken(_) | Split::Blank { .. } | Split::Record { .. } => {
                Err(is_another())
            }
        }
    }
}
