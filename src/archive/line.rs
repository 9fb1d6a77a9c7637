//! Finds the record that begins on a line of a CSV file, as it stands there.

use memchr::{memchr, memchr_iter};

use super::MAX_RECORD;

/// Takes a file piece by piece until it has the record.
#[derive(Debug)]
pub(super) struct LineFinder {
    /// Ends of lines still to come before the record.
    lines_before: u64,
    place: Place,
    record: Vec<u8>,
}

/// Where in a record we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    FieldStart,
    Plain,
    Quoted,
    /// Behind a quote within quotes: its double or the end of the field.
    Quote,
    End,
}

impl LineFinder {
    /// Looks for the record on this physical line; the first is 1.
    pub fn new(line: u64) -> Self {
        Self { lines_before: line.saturating_sub(1), place: Place::FieldStart, record: Vec::new() }
    }

    /// Takes the next piece of the file; says whether it has seen enough.
    pub fn take(&mut self, piece: &[u8]) -> bool {
        let mut rest = piece;
        let ends = memchr_iter(b'\n', piece).take(usize::try_from(self.lines_before).unwrap_or(usize::MAX));
        for end in ends {
            self.lines_before -= 1;
            rest = &piece[end + 1..];
        }
        if self.lines_before > 0 {
            return false;
        }
        for (at, byte) in rest.iter().enumerate() {
            self.place = match (self.place, byte) {
                (Place::Quoted, b'"') => Place::Quote,
                (Place::FieldStart | Place::Quote, b'"') | (Place::Quoted, _) => Place::Quoted,
                (_, b'\n') => Place::End,
                (_, b',') => Place::FieldStart,
                (_, _) => Place::Plain,
            };
            if self.place == Place::End {
                self.record.extend_from_slice(&rest[..at]);
                return true;
            }
        }
        self.record.extend_from_slice(rest);
        self.record.len() > MAX_RECORD
    }

    /// The record without the end of its last line; `None` where the file has no such line. One that never ends, for a
    /// stray quote, is its first line.
    pub fn found(mut self) -> Option<Vec<u8>> {
        if self.lines_before > 0 || (self.record.is_empty() && self.place != Place::End) {
            return None;
        }
        if matches!(self.place, Place::Quoted) {
            let end = memchr(b'\n', &self.record).unwrap_or(self.record.len());
            self.record.truncate(end);
        }
        if self.record.ends_with(b"\r") {
            self.record.pop();
        }
        Some(self.record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found in one piece, and the same byte by byte.
    fn find(file: &str, line: u64) -> Option<String> {
        let (mut whole, mut bytes) = (LineFinder::new(line), LineFinder::new(line));
        whole.take(file.as_bytes());
        let _ = file.as_bytes().chunks(1).any(|piece| bytes.take(piece));
        let (whole, bytes) = (whole.found(), bytes.found());
        assert_eq!(whole, bytes, "line {line}");
        whole.map(|record| String::from_utf8(record).expect("text"))
    }

    #[test]
    fn a_record_is_found_by_the_line_it_starts_on() {
        let file = "a,b\r\n1,\"two\nlines, and \"\"quotes\"\"\"\r\n3,x\"y\n4,z";
        assert_eq!(find(file, 1).as_deref(), Some("a,b"));
        assert_eq!(find(file, 2).as_deref(), Some("1,\"two\nlines, and \"\"quotes\"\"\""));
        assert_eq!(find(file, 4).as_deref(), Some("3,x\"y"), "a quote within a field is text");
        assert_eq!(find(file, 5).as_deref(), Some("4,z"));
        assert_eq!(find(file, 6), None);
        assert_eq!(find("", 1), None);
    }

    #[test]
    fn a_quote_that_is_never_closed_costs_its_own_line() {
        assert_eq!(find("a,b\n1,\"x\n2,y\n", 2).as_deref(), Some("1,\"x"));
    }
}
