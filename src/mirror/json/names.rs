//! The names in the records of a file: its columns, in order of first sight. A record need not have them all.
//!
//! As in the header of a CSV file, letter case tells no columns apart, and a name that a record has twice is two columns.

use std::collections::HashMap;
use std::io::{self, Read};

use super::super::header::folded;
use super::super::layout::MAX_COLUMNS;
use super::super::records::MAX_RECORD;
use super::{Cutter, each_field, wrong};
use crate::json::NoResult;

/// Why a file has no records to be read.
#[derive(Debug, thiserror::Error)]
pub enum NotAResult {
    /// Its records cannot be told apart.
    #[error(transparent)]
    NoResult(NoResult),
    /// Its records have too many names.
    #[error("its records up to number {number} have more names, or longer ones, than a table can hold")]
    TooManyNames {
        /// The record with the first name too many.
        number: u64,
    },
    /// Its records have no names at all.
    #[error("none of its {records} records can be read, or has a name")]
    NoNames {
        /// How many there are.
        records: u64,
    },
}

/// The columns of a file, by name.
#[derive(Debug, Default)]
pub(in crate::mirror) struct Names {
    columns: Vec<Column>,
    /// The columns of one name, in the order of a record that has it so often.
    groups: Vec<Vec<usize>>,
    /// Groups by every spelling that occurs.
    spellings: HashMap<String, usize>,
    bytes: usize,
}

#[derive(Debug)]
struct Column {
    name: String,
    group: usize,
}

/// How far a record is read.
#[derive(Debug, Default)]
pub(in crate::mirror) struct Walk {
    /// The column that should come next.
    next: usize,
    /// How often each group has come.
    counts: Vec<usize>,
}

impl Walk {
    /// At the beginning of a record.
    pub fn begin(&mut self, names: &Names) {
        self.next = 0;
        self.counts.clear();
        self.counts.resize(names.groups.len(), 0);
    }
}

impl Names {
    /// Reads through a file; `None` where it has no records.
    pub fn read(source: impl Read) -> io::Result<Option<Self>> {
        let (mut cutter, mut names, mut walk) = (Cutter::new(source), Self::default(), Walk::default());
        let mut groups_by_folded = HashMap::new();
        while let Some(record) = cutter.next()? {
            walk.begin(&names);
            if !record.is_whole {
                continue;
            }
            let mut has_new = false;
            let read = each_field(record.raw, |name, _| {
                has_new |= names.column(name, &mut walk).is_none();
                Ok(())
            });
            // What is malformed is told when it is read as a row; its names are not believed.
            if !has_new || read.is_err() {
                continue;
            }
            walk.begin(&names);
            let _ = each_field(record.raw, |name, _| {
                if names.column(name, &mut walk).is_none() && !names.is_full() {
                    names.add(name, &mut groups_by_folded, &mut walk);
                }
                Ok(())
            });
            if names.is_full() {
                return Err(wrong(NotAResult::TooManyNames { number: record.number }));
            }
        }
        cutter.finish()?;
        match (cutter.number, names.columns.is_empty()) {
            (0, _) => Ok(None),
            (records, true) => Err(wrong(NotAResult::NoNames { records })),
            (_, false) => Ok(Some(names)),
        }
    }

    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// The names as those of columns.
    pub fn sources(&self) -> Vec<String> {
        self.columns.iter().map(|column| column.name.replace('\0', "\u{fffd}")).collect()
    }

    /// The column of a name that comes next in a record.
    pub fn column(&self, name: &str, walk: &mut Walk) -> Option<usize> {
        let group = match self.columns.get(walk.next) {
            Some(column) if column.name == name => column.group,
            Some(_) | None => *self.spellings.get(name)?,
        };
        let column = *self.groups[group].get(walk.counts[group])?;
        walk.counts[group] += 1;
        walk.next = column + 1;
        Some(column)
    }

    fn is_full(&self) -> bool {
        self.columns.len() > MAX_COLUMNS || self.bytes > MAX_RECORD
    }

    fn add(&mut self, name: &str, groups_by_folded: &mut HashMap<String, usize>, walk: &mut Walk) {
        let groups = &mut self.groups;
        let group = *groups_by_folded.entry(folded(name)).or_insert_with(|| {
            groups.push(Vec::new());
            walk.counts.push(0);
            groups.len() - 1
        });
        self.bytes += name.len();
        self.spellings.insert(name.to_owned(), group);
        if self.column(name, walk).is_none() {
            self.groups[group].push(self.columns.len());
            self.columns.push(Column { name: name.to_owned(), group });
            walk.counts[group] += 1;
            walk.next = self.columns.len();
        }
    }
}
