//! Reads the two sides of a comparison: the file on a thread of its own, and meanwhile the window from Postgres.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use futures_util::TryStreamExt as _;
use sqlx::PgConnection;
use tokio::task::JoinHandle;

use super::diff::{self, FileSide, Standing, TableSide, Tid};
use super::error::{Error, Place};
use super::identity::KeyHasher;
use super::load::Load;
use super::pass::{Counts, NobodyListens, OnConflict, Passed, Takes, pass};
use super::records::{Record, Shape};
use super::rejects::{Rejects, beside};
use super::rows::{Entries, Fault, Placed, Rules};
use super::table::place::PlaceFormat;
use crate::column::ColumnKind;
use crate::thread::finished;

const STEP: &str = "read the rows of the window";

/// How reading a file ended.
pub(super) enum Read {
    Whole(Counts, Box<Rejects>, FileSide),
    /// A value calls for another type.
    TypeConflict,
}

/// A file that is being read.
pub(super) struct Reading {
    thread: JoinHandle<io::Result<Read>>,
    /// The thread stops where this is gone.
    _listener: Arc<()>,
}

impl Reading {
    pub fn start(path: PathBuf, shape: Shape, rules: Rules, load_id: i64, on_conflict: OnConflict) -> Self {
        let listener = Arc::new(());
        let listens = Arc::downgrade(&listener);
        let thread = tokio::task::spawn_blocking(move || {
            let mut rejects = Rejects::new(&path, load_id);
            let side = FileSide::new(&beside(&path, "compared"));
            let mut taker = Compared { entries: Entries::new(rules), side, listens };
            Ok(match pass(&path, &shape, &mut taker, &mut rejects, on_conflict)? {
                Passed::Whole(counts) => Read::Whole(counts, Box::new(rejects), taker.side),
                // Nobody hears the difference.
                Passed::TypeConflict | Passed::NobodyListens => Read::TypeConflict,
            })
        });
        Self { thread, _listener: listener }
    }

    pub async fn end(self, place: &Place) -> Result<Read, Error> {
        finished(self.thread).await.map_err(place.file())
    }
}

struct Compared {
    entries: Entries,
    side: FileSide,
    listens: Weak<()>,
}

impl Takes for Compared {
    fn rules(&self) -> &Rules {
        &self.entries.rules
    }

    fn take(&mut self, record: &Record<'_>) -> io::Result<Result<Placed, Fault>> {
        Ok(match self.entries.entry(record) {
            Ok((placed, entry)) => {
                self.side.add(&entry)?;
                Ok(placed)
            }
            Err(fault) => Err(fault),
        })
    }

    fn go_on(&mut self) -> Result<(), NobodyListens> {
        if self.listens.strong_count() > 0 { Ok(()) } else { Err(NobodyListens) }
    }
}

/// Reads the window with a `statement` that gives the key, whose columns have such types, and the hash and place of each row.
pub(super) async fn window(
    load: &Load<'_>,
    conn: &mut PgConnection,
    statement: &str,
    key: &[ColumnKind],
) -> Result<TableSide, Error> {
    let place = &load.place;
    let mut side = TableSide::new(&beside(&place.file, "standing"));
    let mut hasher = KeyHasher::default();
    let mut sent = conn.copy_out_raw(statement).await.map_err(place.database(STEP))?;
    let mut tuples = Tuples::of(load.table.place_format());
    while let Some(bytes) = sent.try_next().await.map_err(place.database(STEP))? {
        tuples.sent.extend_from_slice(&bytes);
        while let Some(row) = tuples.next(key, &mut hasher).map_err(place.database(STEP))? {
            side.add(&row).map_err(place.file())?;
        }
    }
    Ok(side)
}

/// Cuts what a binary `COPY … TO` sends into rows.
struct Tuples {
    places: PlaceFormat,
    sent: Vec<u8>,
    taken: usize,
    began: bool,
}

impl Tuples {
    fn of(places: PlaceFormat) -> Self {
        Self { places, sent: Vec::new(), taken: 0, began: false }
    }

    /// The next row that has come whole.
    fn next(&mut self, key: &[ColumnKind], hasher: &mut KeyHasher) -> Result<Option<Standing>, sqlx::Error> {
        const HEADER: usize = super::copy::SIGNATURE.len();
        let mut rest = Bytes(&self.sent[self.taken..]);
        if !self.began {
            if rest.take(HEADER).is_none() {
                return Ok(None);
            }
            self.began = true;
            self.taken += HEADER;
        }
        let before = rest.0.len();
        let row = match rest.array().map(i16::from_be_bytes) {
            None | Some(-1) => None,
            Some(fields) if usize::try_from(fields) == Ok(key.len() + 4) => rest.row(key, self.places, hasher)?,
            Some(fields) => return Err(unreadable(&format!("a row of {fields} fields"))),
        };
        if row.is_some() {
            self.taken += before - rest.0.len();
        } else {
            self.sent.drain(..self.taken);
            self.taken = 0;
        }
        Ok(row)
    }
}

/// A field of a row.
enum Field<'a> {
    Null,
    Value(&'a [u8]),
}

/// What is left to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// A field; `None` where its end has not come.
    fn field(&mut self) -> Option<Field<'a>> {
        let length = i32::from_be_bytes(self.array()?);
        match usize::try_from(length) {
            Ok(length) => self.take(length).map(Field::Value),
            Err(_) => Some(Field::Null),
        }
    }

    /// A row behind the number of its fields; `None` where its end has not come.
    fn row(
        &mut self,
        key: &[ColumnKind],
        places: PlaceFormat,
        hasher: &mut KeyHasher,
    ) -> Result<Option<Standing>, sqlx::Error> {
        hasher.begin();
        let mut has_key = true;
        for kind in key {
            match self.field() {
                None => return Ok(None),
                Some(Field::Value(value)) => hasher.add(*kind, value),
                Some(Field::Null) => has_key = false,
            }
        }
        let mut fields = [&[][..]; 4];
        for field in &mut fields {
            match self.field() {
                None => return Ok(None),
                Some(Field::Value(value)) => *field = value,
                Some(Field::Null) => return Err(unreadable("a row without lineage")),
            }
        }
        let [row_hash, day, table, tid] = fields;
        let row_hash = u128::from_be_bytes(sized(row_hash)?);
        let identity = if key.is_empty() { Some(row_hash) } else { has_key.then(|| hasher.finish()) };
        let day = i32::from_be_bytes(sized(day)?);
        let place = match places {
            PlaceFormat::Tuple => {
                diff::Place { table: u32::from_be_bytes(sized(table)?), day, tid: Tid::of_bytes(sized(tid)?) }
            }
            PlaceFormat::Lineage => {
                let (load_id, line) = (u64::from_be_bytes(sized(table)?), u64::from_be_bytes(sized(tid)?));
                let (Ok(table), Some(tid)) = (u32::try_from(load_id), Tid::of_line(line)) else {
                    return Err(unreadable(&format!("line {line} of load {load_id}")));
                };
                diff::Place { table, day, tid }
            }
        };
        Ok(Some(Standing { identity, row_hash, place }))
    }
}

fn sized<const N: usize>(field: &[u8]) -> Result<[u8; N], sqlx::Error> {
    field.try_into().map_err(|_| unreadable("a field of another length"))
}

fn unreadable(what: &str) -> sqlx::Error {
    sqlx::Error::Protocol(format!("Postgres sent {what}"))
}
