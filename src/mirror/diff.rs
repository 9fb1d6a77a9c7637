//! Finds what differs between a file and the window it belongs to, by hashes alone and in memory that does not grow with them.
//!
//! Both sides are dealt into parts by an identity: the hash of the key, or of the whole row where there is no key. What may
//! match then lies in the same part, and one part at a time is held. What differs is dealt once more, by its place, so that
//! the file and the table are gone through from front to back.

#![expect(clippy::cast_possible_truncation, reason = "halves of what was put together before")]
#![cfg_attr(test, expect(clippy::cast_possible_wrap, reason = "few rows"))]

mod words;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::dealt::{Dealt, PARTS};

/// What stands for a record or row in comparisons: a hash of its key, or of all of it.
pub(super) type Identity = u128;

/// A day as Postgres counts them.
pub(super) type PgDay = i32;

/// A record of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub identity: Identity,
    pub row_hash: u128,
    pub day: PgDay,
    pub at: Span,
}

/// The place of a record in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub line: u64,
    pub offset: u64,
    pub length: u32,
}

/// The place of a row in Postgres, while the transaction lasts that has seen it: the table or partition, block and tuple there,
/// and the day, which tells the partition. In a distributed table, the load and the line that wrote it stand for these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub table: u32,
    pub day: PgDay,
    pub tid: Tid,
}

/// A `tid`: block, and number within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tid {
    pub block: u32,
    pub number: u16,
}

/// A row of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// `None` where its key has no value: then it matches nothing.
    pub identity: Option<Identity>,
    pub row_hash: u128,
    pub place: Place,
}

/// A record to write, and the row that it takes the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub at: Span,
    pub old: Option<Place>,
}

/// A record whose key stands in the file before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Duplicate {
    pub at: Span,
    pub first_line: u64,
}

/// What a file holds, to be compared.
pub(super) struct FileSide {
    entries: Dealt<Entry, 7>,
    last_line: u64,
}

/// Identities of rejected records: the rows under them stay.
#[derive(Default)]
pub(super) struct Kept(Dealt<Identity, 2>);

/// What stands in the window, to be compared.
pub(super) struct TableSide {
    rows: Dealt<Standing, 6>,
    /// Rows that match nothing.
    lonely: Dealt<Place, 2>,
    per_day: BTreeMap<PgDay, i64>,
}

/// What differs.
pub(super) struct Differences {
    /// In parts that follow each other in the file.
    pub changes: Dealt<Change, 5>,
    pub duplicates: Dealt<Duplicate, 4>,
    pub gone: Dealt<Place, 2>,
    /// How many of the changes take no row's place.
    pub new: u64,
    /// For each day the rows once the differences are written, and whether one of them is.
    pub days: BTreeMap<PgDay, (i64, bool)>,
}

/// How sides are compared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// The identity is a key: one row has it, and may change. Else it is the row, and there may be several.
    pub keyed: bool,
    /// No row may go: a rejected record might be a new version of any.
    pub keeps_rows: bool,
    /// Rows are written that are as they were.
    pub writes_all: bool,
}

impl FileSide {
    pub fn new(path: &Path) -> Self {
        Self { entries: Dealt::new(path), last_line: 0 }
    }

    /// Takes a record; they come by ascending line.
    pub fn add(&mut self, entry: &Entry) -> io::Result<()> {
        self.last_line = entry.at.line;
        self.entries.deal(part_of(entry.identity), entry)
    }
}

impl Kept {
    pub fn new(path: &Path) -> Self {
        Self(Dealt::new(path))
    }

    /// Keeps what stands under the key of a rejected record.
    pub fn add(&mut self, identity: Identity) -> io::Result<()> {
        self.0.deal(part_of(identity), &identity)
    }
}

impl TableSide {
    pub fn new(path: &Path) -> Self {
        Self { rows: Dealt::new(path), lonely: Dealt::new(path), per_day: BTreeMap::new() }
    }

    /// Takes a row of the window.
    pub fn add(&mut self, row: &Standing) -> io::Result<()> {
        *self.per_day.entry(row.place.day).or_default() += 1;
        match row.identity {
            Some(identity) => self.rows.deal(part_of(identity), row),
            None => self.lonely.deal(row.place.part(), &row.place),
        }
    }
}

impl Differences {
    /// Compares. `path` is where what differs is put while it is too much for memory.
    pub fn find(
        mut file: FileSide,
        mut kept: Kept,
        mut table: TableSide,
        terms: Terms,
        path: &Path,
    ) -> io::Result<Self> {
        let mut found = Self {
            changes: Dealt::new(path),
            duplicates: Dealt::new(path),
            gone: Dealt::new(path),
            new: 0,
            days: std::mem::take(&mut table.per_day).into_iter().map(|(day, rows)| (day, (rows, false))).collect(),
        };
        let by_line = ByLine { lines: file.last_line + 1 };
        for part in 0..PARTS {
            let (mut entries, mut rows) = (file.entries.take(part)?, table.rows.take(part)?);
            let mut kept = kept.0.take(part)?;
            entries.sort_unstable_by_key(|entry| (entry.identity, entry.rank(terms), entry.at.line));
            rows.sort_unstable_by_key(|row| (row.identity, row.rank(terms), row.place));
            kept.sort_unstable();
            let (mut entries, mut rows) = (entries.as_slice(), rows.as_slice());
            while let Some(next) = next_group(entries, rows, terms) {
                let ours = entries.iter().take_while(|entry| (Some(entry.identity), entry.rank(terms)) == next).count();
                let theirs = rows.iter().take_while(|row| (row.identity, row.rank(terms)) == next).count();
                let (same, of_table);
                (same, entries) = entries.split_at(ours);
                (of_table, rows) = rows.split_at(theirs);
                let is_kept = next.0.is_some_and(|identity| kept.binary_search(&identity).is_ok());
                found.group(same, of_table, terms, is_kept, by_line)?;
            }
        }
        for part in 0..PARTS {
            for place in table.lonely.take(part)? {
                found.goes(place, terms)?;
            }
        }
        Ok(found)
    }

    /// Compares the records and rows of one identity.
    fn group(
        &mut self,
        entries: &[Entry],
        rows: &[Standing],
        terms: Terms,
        is_kept: bool,
        by_line: ByLine,
    ) -> io::Result<()> {
        let candidates = if terms.keyed {
            let (first, rest) = entries.split_at(entries.len().min(1));
            for duplicate in rest {
                let duplicate = Duplicate { at: duplicate.at, first_line: first[0].at.line };
                self.duplicates.deal(by_line.part(duplicate.at.line), &duplicate)?;
            }
            first
        } else {
            entries
        };
        let matched = candidates.len().min(rows.len());
        for (entry, row) in candidates.iter().zip(rows) {
            if terms.writes_all || entry.row_hash != row.row_hash || entry.day != row.place.day {
                self.leaves(row.place.day);
                self.comes(entry, Some(row.place), by_line)?;
            }
        }
        for entry in &candidates[matched..] {
            self.new += 1;
            self.comes(entry, None, by_line)?;
        }
        if !is_kept || matched > 0 {
            for row in &rows[matched..] {
                self.goes(row.place, terms)?;
            }
        }
        Ok(())
    }

    fn comes(&mut self, entry: &Entry, old: Option<Place>, by_line: ByLine) -> io::Result<()> {
        let (rows, is_written) = self.days.entry(entry.day).or_default();
        *rows += 1;
        *is_written = true;
        self.changes.deal(by_line.part(entry.at.line), &Change { at: entry.at, old })
    }

    fn goes(&mut self, place: Place, terms: Terms) -> io::Result<()> {
        if terms.keeps_rows {
            return Ok(());
        }
        self.leaves(place.day);
        self.gone.deal(place.part(), &place)
    }

    fn leaves(&mut self, day: PgDay) {
        self.days.entry(day).or_default().0 -= 1;
    }
}

impl Tid {
    /// As binary COPY has it.
    pub fn to_bytes(self) -> [u8; 6] {
        let mut bytes = [0; 6];
        bytes[..4].copy_from_slice(&self.block.to_be_bytes());
        bytes[4..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    pub fn of_bytes([block @ .., high, low]: [u8; 6]) -> Self {
        Self { block: u32::from_be_bytes(block), number: u16::from_be_bytes([high, low]) }
    }

    /// A line that stands for it; none where it is beyond 2^48. Lines that follow each other are blocks that do.
    pub fn of_line(line: u64) -> Option<Self> {
        Some(Self { block: line as u32, number: u16::try_from(line >> 32).ok()? })
    }

    pub fn line(self) -> u64 {
        u64::from(self.number) << 32 | u64::from(self.block)
    }
}

impl Place {
    /// A megabyte of the table together, beside the next.
    fn part(self) -> usize {
        (self.tid.block >> 7) as usize % PARTS
    }
}

impl Entry {
    /// What besides the identity must be equal in a match.
    fn rank(&self, terms: Terms) -> Option<PgDay> {
        (!terms.keyed).then_some(self.day)
    }
}

impl Standing {
    fn rank(&self, terms: Terms) -> Option<PgDay> {
        (!terms.keyed).then_some(self.place.day)
    }
}

/// The identity and rank that come next on either side.
fn next_group(entries: &[Entry], rows: &[Standing], terms: Terms) -> Option<(Option<Identity>, Option<PgDay>)> {
    let ours = entries.first().map(|entry| (Some(entry.identity), entry.rank(terms)));
    let theirs = rows.first().map(|row| (row.identity, row.rank(terms)));
    ours.into_iter().chain(theirs).min()
}

/// Parts that follow each other in the file.
#[derive(Debug, Clone, Copy)]
struct ByLine {
    lines: u64,
}

impl ByLine {
    fn part(self, line: u64) -> usize {
        let part = u128::from(line) * PARTS as u128 / u128::from(self.lines);
        usize::try_from(part).expect("a line lies before the end")
    }
}

fn part_of(identity: Identity) -> usize {
    usize::from(identity.to_le_bytes()[0])
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::mirror::dealt::Words;

    const PATH: &str = "no-file-is-made-of-so-few";

    fn entries(raw: &[(u8, u8, i8)], keyed: bool) -> Vec<Entry> {
        let place = |(index, &(identity, row_hash, day)): (usize, &(u8, u8, i8))| {
            let line = 2 + index as u64;
            let row_hash = 1 + u128::from(row_hash);
            let identity = if keyed { spread(identity) } else { row_hash };
            Entry { identity, row_hash, day: day.into(), at: Span { line, offset: line * 100, length: 50 } }
        };
        raw.iter().enumerate().map(place).collect()
    }

    fn standing(raw: &[(u8, u8, i8)], keyed: bool) -> Vec<Standing> {
        let mut rows: Vec<Standing> = Vec::new();
        for (index, &(identity, row_hash, day)) in raw.iter().enumerate() {
            let row_hash = u128::from(row_hash);
            let identity = match (keyed, identity) {
                (true, 11) => None,
                (true, _) => Some(spread(identity)),
                (false, _) => Some(row_hash),
            };
            let tid = Tid { block: index as u32 * 50, number: 1 };
            // An index sees to it that a key stands once.
            if !keyed || identity.is_none() || rows.iter().all(|row| row.identity != identity) {
                rows.push(Standing { identity, row_hash, place: Place { table: 7, day: day.into(), tid } });
            }
        }
        rows
    }

    /// So that few keys lie in few parts, some of them together.
    fn spread(identity: u8) -> Identity {
        Identity::from(identity / 2) | Identity::from(identity) << 100
    }

    fn all<T: Words<N>, const N: usize>(mut dealt: Dealt<T, N>) -> Vec<T> {
        (0..PARTS).flat_map(|part| dealt.take(part).unwrap()).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_and_deleted_makes_the_window_what_the_file_says(
            file in vec((0_u8..12, 0_u8..4, -1_i8..2), 0..30),
            table in vec((0_u8..12, 0_u8..5, -1_i8..2), 0..30),
            kept in vec(0_u8..12, 0..4),
            keyed: bool,
            keeps_rows: bool,
            writes_all: bool,
        ) {
            let (entries, rows) = (entries(&file, keyed), standing(&table, keyed));
            let (mut of_file, mut of_table, mut of_rejected) =
                (FileSide::new(PATH.as_ref()), TableSide::new(PATH.as_ref()), Kept::default());
            for entry in &entries {
                of_file.add(entry).unwrap();
            }
            for row in &rows {
                of_table.add(row).unwrap();
            }
            let kept: Vec<_> = kept.into_iter().filter(|_| keyed).map(spread).collect();
            for identity in &kept {
                of_rejected.add(*identity).unwrap();
            }

            let terms = Terms { keyed, keeps_rows, writes_all };
            let found = Differences::find(of_file, of_rejected, of_table, terms, PATH.as_ref()).unwrap();
            let (new, days) = (found.new, found.days);
            let (changes, gone, duplicates) = (all(found.changes), all(found.gone), all(found.duplicates));
            prop_assert!(changes.is_sorted_by_key(|change: &Change| change.at.line / 30));
            prop_assert_eq!(changes.iter().filter(|change| change.old.is_none()).count() as u64, new);

            // The window once they are written.
            let mut window: Vec<_> = rows.clone();
            for place in gone.iter().chain(changes.iter().filter_map(|change| change.old.as_ref())) {
                let at = window.iter().position(|row| row.place == *place).expect("it stands, and goes once");
                window.swap_remove(at);
            }
            let mut after: Vec<_> = window.iter().map(|row| (row.identity, row.row_hash, row.place.day)).collect();
            let of = |at: Span| entries.iter().find(|entry| entry.at == at).copied().unwrap();
            after.extend(changes.iter().map(|change| of(change.at)).map(|new| (Some(new.identity), new.row_hash, new.day)));
            after.sort_unstable();

            // The first record of a key stands; the rest are told with its line.
            let mut first: HashMap<Identity, u64> = HashMap::new();
            let mut expected: Vec<_> = Vec::new();
            let mut doubled = Vec::new();
            for entry in &entries {
                match first.get(&entry.identity) {
                    Some(&first_line) if keyed => doubled.push(Duplicate { at: entry.at, first_line }),
                    _ => {
                        first.insert(entry.identity, entry.at.line);
                        expected.push((Some(entry.identity), entry.row_hash, entry.day));
                    }
                }
            }
            let mut told = duplicates;
            told.sort_unstable_by_key(|duplicate: &Duplicate| duplicate.at.line);
            let told_count = told.len();
            prop_assert_eq!(told, doubled);
            let mut left = expected.clone();
            for row in &rows {
                let matched = left.iter().position(|wanted| {
                    wanted.0 == row.identity && (keyed || (wanted.1, wanted.2) == (row.row_hash, row.place.day))
                });
                let is_kept = row.identity.is_some_and(|identity| kept.contains(&identity));
                match matched {
                    Some(at) => drop(left.swap_remove(at)),
                    None if keeps_rows || is_kept => expected.push((row.identity, row.row_hash, row.place.day)),
                    None => {}
                }
            }
            expected.sort_unstable();
            prop_assert_eq!(&after, &expected);

            // What is as it was is not touched, unless all is; and each day is counted.
            if writes_all {
                prop_assert_eq!(changes.len(), entries.len() - told_count);
            }
            for change in &changes {
                if let Some(old) = change.old.filter(|_| !writes_all) {
                    let row = rows.iter().find(|row| row.place == old).unwrap();
                    let entry = of(change.at);
                    prop_assert_ne!((row.row_hash, row.place.day), (entry.row_hash, entry.day));
                }
            }
            for (day, (count, is_written)) in days {
                prop_assert_eq!(count, after.iter().filter(|row| row.2 == day).count() as i64, "day {}", day);
                prop_assert_eq!(is_written, changes.iter().any(|change| of(change.at).day == day));
            }
        }
    }
}
