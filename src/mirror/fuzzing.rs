//! What is true of any bytes: properties of the readers of files and of values, for `make fuzz` and for tests.
//!
//! Each is a function that panics where something is not true. Where it can, it finds out what is right by other means than
//! the code that it looks at: by another reader, or by writing the value back as text.

pub mod csv;
pub mod json;
#[cfg(test)]
mod tests;
pub mod value;

use std::fs::File;
use std::io::{self, Read, Write as _};

use super::records::{Again, Item, MAX_RECORD, Malformed, Reader, Shape};

/// A file that comes so many bytes at a time, to a reader that has no more room than for one record.
pub(super) struct Dripping<'a>(pub &'a [u8], pub usize);

impl Read for Dripping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(buffer.len() <= MAX_RECORD, "there is room for {} bytes", buffer.len());
        let length = self.1.min(self.0.len()).min(buffer.len());
        buffer[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }
}

/// An item as it was read.
#[derive(Debug, PartialEq)]
struct Kept {
    line: u64,
    raw: Vec<u8>,
    content: Result<Content, Malformed>,
}

#[derive(Debug, PartialEq)]
struct Content {
    offset: usize,
    fields: Vec<Vec<u8>>,
}

impl Kept {
    fn new(item: Item<'_>) -> Self {
        match item {
            Item::Record(record) => Self {
                line: record.line,
                raw: record.raw.to_vec(),
                content: Ok(Content {
                    offset: usize::try_from(record.offset).expect("the file is in memory"),
                    fields: record.fields().map(<[u8]>::to_vec).collect(),
                }),
            },
            Item::Malformed { line, raw, reason } => Self { line, raw: raw.to_vec(), content: Err(reason) },
        }
    }

    /// Whether perhaps only its beginning was kept. Of a line that is broken as well as too long, the first thing is told.
    fn is_cut(&self) -> bool {
        let end_of_line = 1;
        self.content.is_err() && self.raw.len() + end_of_line >= MAX_RECORD
    }
}

fn read_all<R: Read>(mut reader: Reader<R>) -> io::Result<Vec<Kept>> {
    let mut items = Vec::new();
    while let Some(item) = reader.next()? {
        items.push(Kept::new(item));
    }
    assert!(items.iter().all(|item| item.raw.len() <= MAX_RECORD), "a record is longer than what is held of one");
    Ok(items)
}

/// A record that is read by its place is the one that was read there before.
fn read_again(file: &[u8], shape: &Shape, items: &[Kept]) {
    let mut on_disk = tempfile::tempfile().expect("there is room for a file");
    on_disk.write_all(file).expect("there is room for a file");
    let mut ascending = Again::new(File::try_clone(&on_disk).expect("one more handle"), shape);
    let mut descending = Again::new(on_disk, shape);
    let read = |again: &mut Again, item: &Kept| {
        let Ok(content) = &item.content else { return };
        let second = again.record(item.line, content.offset as u64, item.raw.len()).expect("it is there");
        assert_eq!(&Kept::new(Item::Record(second)), item, "read again by its place");
    };
    for (item, from_behind) in items.iter().zip(items.iter().rev()) {
        read(&mut ascending, item);
        read(&mut descending, from_behind);
    }
}
