//! One pass over a file: its records go to who takes them, the others are set aside.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use chrono::NaiveDate;

use super::records::{Item, Reader, Record, Shape};
use super::rejects::Rejects;
use super::rows::{Fault, Placed, Rules};

/// What to do with a value that does not fit its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnConflict {
    /// Stop: the column shall get another type first.
    Stop,
    /// Reject the row.
    Reject,
}

/// What a file held, besides what was rejected.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub read: u64,
    pub taken: u64,
    pub outside: u64,
    /// The rows taken for each day.
    pub days: BTreeMap<NaiveDate, u64>,
}

/// How a pass ended.
pub(super) enum Passed {
    Whole(Counts),
    /// A value calls for another type.
    TypeConflict,
    NobodyListens,
}

/// Nobody takes the rows any more: the load was given up.
pub(super) struct NobodyListens;

/// Who takes records.
pub(super) trait Takes {
    fn rules(&self) -> &Rules;

    /// Takes a record, or says why it is no row.
    fn take(&mut self, record: &Record<'_>) -> io::Result<Result<Placed, Fault>>;

    /// Asked behind each record.
    fn go_on(&mut self) -> Result<(), NobodyListens>;
}

/// Goes through a file. Blocks while it reads.
pub(super) fn pass(
    path: &Path,
    shape: &Shape,
    taker: &mut impl Takes,
    rejects: &mut Rejects,
    on_conflict: OnConflict,
) -> io::Result<Passed> {
    let mut reader = Reader::new(File::open(path)?, shape)?.looking_ahead_in(File::open(path)?);

    let mut counts = Counts::default();
    let mut days = Days::default();
    while let Some(item) = reader.next()? {
        counts.read += 1;
        match item {
            Item::Malformed { line, raw, reason } => rejects.malformed(line, raw, &reason)?,
            Item::Record(record) => match taker.take(&record)? {
                Ok(placed) => {
                    counts.taken += 1;
                    counts.outside += u64::from(placed.outside);
                    days.count(placed.day);
                }
                Err(fault) if on_conflict == OnConflict::Stop && fault.reason.is_type_conflict() => {
                    return Ok(Passed::TypeConflict);
                }
                Err(fault) => rejects.faulty(&record, fault, taker.rules())?,
            },
        }
        if taker.go_on().is_err() {
            return Ok(Passed::NobodyListens);
        }
    }
    counts.days = days.counted();
    Ok(Passed::Whole(counts))
}

/// Counts rows by day. Rows of one day mostly come together.
#[derive(Default)]
struct Days {
    counted: BTreeMap<NaiveDate, u64>,
    current: Option<(NaiveDate, u64)>,
}

impl Days {
    fn count(&mut self, day: NaiveDate) {
        match &mut self.current {
            Some((current, rows)) if *current == day => *rows += 1,
            _ => {
                self.put_away();
                self.current = Some((day, 1));
            }
        }
    }

    fn put_away(&mut self) {
        if let Some((day, rows)) = self.current.take() {
            *self.counted.entry(day).or_default() += rows;
        }
    }

    fn counted(mut self) -> BTreeMap<NaiveDate, u64> {
        self.put_away();
        self.counted
    }
}
