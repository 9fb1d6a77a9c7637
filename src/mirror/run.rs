//! Runs: encoded rows in the order of their keys. A unique index takes keys that lie close together faster than keys from all
//! over it, and a file comes in any order.
//!
//! Nothing but speed hangs on the order. That of the bytes in the file is near enough to the index's for random texts; keys that come
//! in the order of the index keep most of it, and no run is longer than some thousand rows.

use std::ops::Range;

use tokio::sync::{Semaphore, SemaphorePermit};

/// How many bytes of rows and keys make a run. The longer it is, the closer its keys lie: a million clicks with random keys take 0.99
/// of their time as they come with 1 MB, 0.86 with 4 MB, 0.85 with 8 MB and 0.82 with 16 MB.
const RUN_BYTES: usize = 4 << 20;

/// How many loads may hold a run at once; the rows of others are copied as they come. It bounds what the daemon holds in memory.
static TURNS: Semaphore = Semaphore::const_new(2);

/// A run under way.
pub(super) struct Run {
    rows: Vec<u8>,
    keys: Vec<u8>,
    order: Vec<Keyed>,
    _turn: SemaphorePermit<'static>,
}

/// Where the key of a row is, and the row.
struct Keyed {
    key: Range<u32>,
    row: Range<u32>,
}

impl Run {
    /// Begins the first one; `None` where as many loads as may hold one do.
    pub fn begin() -> Option<Self> {
        Self::begin_among(&TURNS)
    }

    fn begin_among(turns: &'static Semaphore) -> Option<Self> {
        let turn = turns.try_acquire().ok()?;
        Some(Self { rows: Vec::new(), keys: Vec::new(), order: Vec::new(), _turn: turn })
    }

    /// Where the next row is to be appended. It counts once its key is told.
    pub fn next_row(&mut self) -> &mut Vec<u8> {
        &mut self.rows
    }

    /// Takes what was appended for a row with this key, of one or several columns.
    pub fn end_row<'k>(&mut self, key: impl Iterator<Item = &'k [u8]>) {
        let (from, row_from) = (length(&self.keys), self.order.last().map_or(0, |last| last.row.end));
        for text in key {
            self.keys.extend_from_slice(text);
            self.keys.push(0); // no text holds it
        }
        self.order.push(Keyed { key: from..length(&self.keys), row: row_from..length(&self.rows) });
    }

    pub fn is_full(&self) -> bool {
        self.rows.len() + self.keys.len() >= RUN_BYTES
    }

    /// Puts the rows in order. What follows is `end_into`.
    pub fn sort(&mut self) {
        self.order.sort_unstable_by_key(|row| part(&self.keys, &row.key));
    }

    /// Appends the rows, and begins the next run.
    pub fn end_into(&mut self, out: &mut Vec<u8>) {
        out.reserve(self.rows.len());
        for Keyed { row, .. } in self.order.drain(..) {
            out.extend_from_slice(part(&self.rows, &row));
        }
        self.rows.clear();
        self.keys.clear();
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a run and one record are far below 4 GiB")
}

fn part<'a>(bytes: &'a [u8], range: &Range<u32>) -> &'a [u8] {
    &bytes[range.start as usize..range.end as usize]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A run beside those of loads.
    pub fn run() -> Run {
        static TURNS: Semaphore = Semaphore::const_new(Semaphore::MAX_PERMITS);
        Run::begin_among(&TURNS).unwrap()
    }

    pub fn add(run: &mut Run, key: &[&str], row: &str) {
        run.next_row().extend_from_slice(row.as_bytes());
        run.end_row(key.iter().map(|text| text.as_bytes()));
    }

    fn ended(run: &mut Run) -> String {
        let mut out = b">".to_vec();
        run.sort();
        run.end_into(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_run_has_its_rows_in_the_order_of_their_keys() {
        let mut run = run();
        for (key, row) in [("c", "third "), ("a", "first "), ("b", "")] {
            add(&mut run, &[key], row);
        }
        run.next_row().extend_from_slice(b"no row after all");
        let end = "third first ".len();
        run.next_row().truncate(end);
        add(&mut run, &["bb"], "second ");
        assert_eq!(ended(&mut run), ">first second third ");
        assert_eq!(ended(&mut run), ">");
        add(&mut run, &["z"], "last ");
        add(&mut run, &["y"], "last but one ");
        assert_eq!(ended(&mut run), ">last but one last ");
    }

    #[test]
    fn a_key_of_several_columns_is_ordered_column_by_column() {
        let mut run = run();
        for key in [["ab", "a"], ["a", "c"], ["a", "bz"], ["", "z"]] {
            add(&mut run, &key, &format!("{} ", key.join("/")));
        }
        assert_eq!(ended(&mut run), ">/z a/bz a/c ab/a ");
    }

    #[test]
    fn a_run_is_full_by_its_rows_and_keys() {
        let half = "x".repeat(RUN_BYTES / 2);
        let mut run = run();
        add(&mut run, &["key"], &half);
        assert!(!run.is_full());
        add(&mut run, &[&half], "");
        assert!(run.is_full());
        run.end_into(&mut Vec::new());
        assert!(!run.is_full());
    }

    #[test]
    fn a_third_load_at_once_goes_without_runs_until_another_ends() {
        static TURNS: Semaphore = Semaphore::const_new(2);
        let begin = || Run::begin_among(&TURNS);
        let (first, second) = (begin(), begin());
        assert!(first.is_some() && second.is_some() && begin().is_none());
        drop(first);
        assert!(begin().is_some());
    }
}
