//! Runs: encoded rows in the order of their keys. A unique index takes keys that lie close together faster than keys from all
//! over it, and a file comes in any order.
//!
//! Nothing but speed hangs on the order, so that of the bytes in the file does for every type and collation.

use std::ops::Range;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::records::Record;
use super::rows::{Fault, Placed, Rows};

/// How many bytes of rows make a run. The longer it is, the closer its keys lie: a million clicks with random keys take 0.99 of
/// their time as they come with 1 MB, 0.86 with 4 MB, 0.85 with 8 MB and 0.82 with 16 MB.
const RUN_BYTES: usize = 4 << 20;

/// How many loads may hold a run at once; the rows of others are copied as they come. It bounds what the daemon holds in memory.
static TURNS: Semaphore = Semaphore::const_new(2);

/// A run under way.
pub(super) struct Run {
    rows: Vec<u8>,
    keys: Vec<u8>,
    order: Vec<Entry>,
    _turn: SemaphorePermit<'static>,
}

/// Where the key of a row is, and the row.
struct Entry {
    key: Range<u32>,
    row: Range<u32>,
}

impl Run {
    /// Begins the first one; `None` where as many loads as may hold one do.
    pub fn begin() -> Option<Self> {
        let turn = TURNS.try_acquire().ok()?;
        Some(Self { rows: Vec::new(), keys: Vec::new(), order: Vec::new(), _turn: turn })
    }

    /// Adds the row of a record; its fault leaves the run as it was.
    pub fn add(&mut self, record: &Record<'_>, rows: &mut Rows) -> Result<Placed, Fault> {
        let (key, row) = (length(&self.keys), length(&self.rows));
        let placed = rows.append(record, &mut self.rows)?;
        for &column in &rows.rules.key {
            self.keys.extend_from_slice(record.field(column));
            self.keys.push(0); // no text holds it
        }
        self.order.push(Entry { key: key..length(&self.keys), row: row..length(&self.rows) });
        Ok(placed)
    }

    pub fn is_full(&self) -> bool {
        self.rows.len() >= RUN_BYTES
    }

    /// Appends the rows in order, and begins the next run.
    pub fn end_into(&mut self, out: &mut Vec<u8>) {
        self.order.sort_unstable_by_key(|entry| part(&self.keys, &entry.key));
        out.reserve(self.rows.len());
        for entry in self.order.drain(..) {
            out.extend_from_slice(part(&self.rows, &entry.row));
        }
        self.rows.clear();
        self.keys.clear();
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a run is as long as a run and one record, and holds each key in its row too")
}

fn part<'a>(bytes: &'a [u8], range: &Range<u32>) -> &'a [u8] {
    &bytes[range.start as usize..range.end as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_load_at_once_goes_without_runs_until_another_ends() {
        let (first, second) = (Run::begin(), Run::begin());
        assert!(first.is_some() && second.is_some() && Run::begin().is_none());
        drop(first);
        assert!(Run::begin().is_some());
    }
}
