//! Finds a record as it stands in a result file: by its line in CSV, by its number in JSON.

use super::MAX_RECORD;
use super::line::LineFinder;
use crate::export::ResultFormat;
use crate::json::{Scanner, Step};

/// Takes a file piece by piece until it has the record.
#[derive(Debug)]
pub struct RecordFinder(Finder);

#[derive(Debug)]
enum Finder {
    Csv(LineFinder),
    Json(NumberFinder),
}

impl RecordFinder {
    /// Looks for the record with this `_line`.
    pub fn new(format: ResultFormat, line: u64) -> Self {
        Self(match format {
            ResultFormat::Csv => Finder::Csv(LineFinder::new(line)),
            ResultFormat::Json => Finder::Json(NumberFinder {
                records_before: line,
                scanner: Scanner::default(),
                record: Vec::new(),
                has_ended: false,
            }),
        })
    }

    /// Takes the next piece of the file; says whether it has seen enough.
    pub fn take(&mut self, piece: &[u8]) -> bool {
        match &mut self.0 {
            Finder::Csv(finder) => finder.take(piece),
            Finder::Json(finder) => finder.take(piece),
        }
    }

    /// The record; `None` where the file has no such. Of one that is longer than a row may be, the beginning.
    pub fn found(self) -> Option<Vec<u8>> {
        match self.0 {
            Finder::Csv(finder) => finder.found(),
            Finder::Json(finder) => (!finder.record.is_empty()).then_some(finder.record),
        }
    }
}

#[derive(Debug)]
struct NumberFinder {
    /// Records still to begin, ours included.
    records_before: u64,
    scanner: Scanner,
    record: Vec<u8>,
    has_ended: bool,
}

impl NumberFinder {
    fn take(&mut self, mut piece: &[u8]) -> bool {
        while !self.has_ended {
            // The file was good when it was loaded.
            let Ok((taken, step)) = self.scanner.step(piece) else { return true };
            if self.records_before == 0 {
                self.record.extend_from_slice(&piece[..taken]);
            }
            match step {
                Step::More => break,
                Step::Begin => self.records_before = self.records_before.saturating_sub(1),
                Step::End => self.has_ended = self.records_before == 0,
            }
            piece = &piece[taken..];
        }
        self.has_ended || self.record.len() > MAX_RECORD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found in one piece, and the same byte by byte.
    fn find(file: &str, number: u64) -> Option<String> {
        let new = || RecordFinder::new(ResultFormat::Json, number);
        let (mut whole, mut bytes) = (new(), new());
        whole.take(file.as_bytes());
        let _ = file.as_bytes().chunks(1).any(|piece| bytes.take(piece));
        let (whole, bytes) = (whole.found(), bytes.found());
        assert_eq!(whole, bytes, "record {number}");
        whole.map(|record| String::from_utf8(record).expect("text"))
    }

    #[test]
    fn a_record_of_json_is_found_by_its_number() {
        let file = "{\"@total\":3,\"Records\":[\n{\"Id\":\"]},{\"} ,\n{\"Id\":2,\n \"N\":null},7]}";
        assert_eq!(find(file, 1).as_deref(), Some("{\"Id\":\"]},{\"}"));
        assert_eq!(find(file, 2).as_deref(), Some("{\"Id\":2,\n \"N\":null}"));
        assert_eq!(find(file, 3).as_deref(), Some("7"));
        assert_eq!(find(file, 4), None);
        assert_eq!(find("", 1), None);
    }
}
