//! Turns records into rows of `COPY … (format binary)`: the values, the lineage and the hash, or the reason why not.

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use memchr::memchr;
use xxhash_rust::xxh3::xxh3_128;

use super::diff::{Entry, Identity, Span};
use super::identity::KeyHasher;
use super::layout::{Column, Layout};
use super::records::Record;
use super::table::merge::CHANGED_LINEAGE;
use super::value::{is_missing, pg_day, put_bigint, put_bytes, put_date, put_timestamp};
use super::{Target, time};
use crate::column::ColumnKind;
use crate::export::Window;

/// The longest field that is loaded.
const MAX_FIELD: usize = 1 << 20;

/// The longest key that surely goes into an index.
const MAX_KEY: usize = 2000;

/// Why a record is no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub column: Option<usize>,
    pub reason: Reason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Reason {
    #[error("not UTF-8")]
    NotUtf8,
    #[error("holds a NUL byte")]
    NulByte,
    #[error("longer than 1 MiB")]
    LongField,
    #[error("key is empty")]
    EmptyKey,
    #[error("key is longer than 2000 bytes")]
    LongKey,
    #[error("not a day or a time")]
    NoDay,
    #[error("not a {0}")]
    DoesNotFit(ColumnKind),
    /// The first value that a column has ever held.
    #[error("its column has no type yet")]
    UnknownType,
}

impl Reason {
    /// Whether another type for the column would help.
    pub fn is_type_conflict(self) -> bool {
        match self {
            Self::DoesNotFit(_) | Self::UnknownType => true,
            Self::NotUtf8 | Self::NulByte | Self::LongField | Self::EmptyKey | Self::LongKey | Self::NoDay => false,
        }
    }
}

/// The day under which a row is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    pub day: NaiveDate,
    pub outside: bool,
}

/// What a row needs whatever the types of its columns are.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub columns: Vec<Column>,
    pub key: Vec<usize>,
    date: Option<usize>,
    window: Window,
    pub zone: Tz,
}

impl Rules {
    pub fn new(layout: &Layout, target: &Target<'_>) -> Self {
        Self {
            columns: layout.columns.clone(),
            key: layout.key.clone(),
            date: layout.date,
            window: target.window,
            zone: target.time_zone,
        }
    }

    /// Places a record, or says what rejects it whatever its columns' types become.
    pub fn check(&self, record: &Record<'_>) -> Result<Placed, Fault> {
        if !record.is_utf8() {
            let column = record.fields().position(|field| std::str::from_utf8(field).is_err());
            return Err(Fault { column, reason: Reason::NotUtf8 });
        }
        if record.holds_nul() {
            let column = record.fields().position(|field| memchr(0, field).is_some());
            return Err(Fault { column, reason: Reason::NulByte });
        }
        if record.raw.len() > MAX_FIELD
            && let Some(column) = record.fields().position(|field| field.len() > MAX_FIELD)
        {
            return Err(Fault { column: Some(column), reason: Reason::LongField });
        }
        let mut key_bytes = 0;
        for &column in &self.key {
            let text = record.field(column);
            let is_text = matches!(self.columns[column].format.kind, None | Some(ColumnKind::Text));
            if text.is_empty() || (!is_text && is_missing(text)) {
                return Err(Fault { column: Some(column), reason: Reason::EmptyKey });
            }
            key_bytes += text.len();
            if key_bytes > MAX_KEY {
                return Err(Fault { column: Some(column), reason: Reason::LongKey });
            }
        }
        self.place(record)
    }

    fn place(&self, record: &Record<'_>) -> Result<Placed, Fault> {
        let Some(column) = self.date else { return Ok(Placed { day: self.window.from(), outside: false }) };
        let text = record.field(column);
        if is_missing(text) {
            return Ok(Placed { day: self.window.from(), outside: true });
        }
        match time::day(text, self.zone) {
            Some(day) => Ok(Placed { day: self.window.nearest(day), outside: !self.window.contains(day) }),
            None => Err(Fault { column: Some(column), reason: Reason::NoDay }),
        }
    }

    /// The identity of a record by its key; `None` where there is no key, or a value of it cannot be read.
    pub fn identity(&self, record: &Record<'_>, hasher: &mut KeyHasher) -> Option<Identity> {
        hasher.begin();
        let mut key_bytes = 0;
        for &column in &self.key {
            let text = record.field(column);
            key_bytes += text.len();
            let good = std::str::from_utf8(text).is_ok()
                && memchr(0, text).is_none()
                && key_bytes <= MAX_KEY
                && hasher.add_text(self.columns[column].format, text, self.zone);
            if !good {
                return None;
            }
        }
        (!self.key.is_empty()).then(|| hasher.finish())
    }
}

/// Where rows are copied to: which columns of the file, and what follows them.
#[derive(Debug, Clone)]
pub(super) enum Destination {
    /// The mirrored table: all columns and `LINEAGE`.
    Mirrored { account: String, program: String, load_id: i64, now: DateTime<Utc> },
    /// The table of rows that differ: all columns and `CHANGED_LINEAGE`, of which the caller adds what the row replaces.
    Changed,
}

/// Makes rows of records.
pub(super) struct Rows {
    pub rules: Rules,
    destination: Destination,
    field_count: [u8; 2],
    hasher: RowHasher,
}

impl Rows {
    pub fn new(rules: Rules, destination: Destination) -> Self {
        let fields = match destination {
            Destination::Mirrored { .. } => rules.columns.len() + super::header::LINEAGE.len(),
            Destination::Changed => rules.columns.len() + CHANGED_LINEAGE.len(),
        };
        let hasher = RowHasher::new(&rules.columns);
        Self { rules, destination, field_count: field_count(fields), hasher }
    }

    /// Appends the row; `out` is left as it was where there is a fault.
    pub fn append(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<Placed, Fault> {
        let placed = self.rules.check(record)?;
        let before = out.len();
        out.extend_from_slice(&self.field_count);
        if let Err(fault) = self.put_values(record, out) {
            out.truncate(before);
            return Err(fault);
        }
        let hash = self.hasher.hash(record).to_be_bytes();
        let line = i64::try_from(record.line).expect("a file has fewer lines than 2^63");
        match &self.destination {
            Destination::Mirrored { account, program, load_id, now } => {
                put_bytes(out, account.as_bytes());
                put_bytes(out, program.as_bytes());
                put_date(out, placed.day);
                put_bytes(out, &hash);
                put_bigint(out, *load_id);
                put_bigint(out, line);
                put_timestamp(out, now.naive_utc());
                put_timestamp(out, now.naive_utc());
            }
            Destination::Changed => {
                put_date(out, placed.day);
                put_bytes(out, &hash);
                put_bigint(out, line);
            }
        }
        Ok(placed)
    }

    /// Appends all values.
    fn put_values(&self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        for (index, (text, column)) in record.fields().zip(&self.rules.columns).enumerate() {
            column.format.put(out, text, self.rules.zone).map_err(|_| unfit(index, column))?;
        }
        Ok(())
    }
}

/// Makes of records what they are compared by.
pub(super) struct Entries {
    pub rules: Rules,
    row_hasher: RowHasher,
    key_hasher: KeyHasher,
}

impl Entries {
    pub fn new(rules: Rules) -> Self {
        Self { row_hasher: RowHasher::new(&rules.columns), rules, key_hasher: KeyHasher::default() }
    }

    /// What stands for a record that every column takes.
    pub fn entry(&mut self, record: &Record<'_>) -> Result<(Placed, Entry), Fault> {
        let placed = self.rules.check(record)?;
        for (index, (text, column)) in record.fields().zip(&self.rules.columns).enumerate() {
            if !column.format.takes(text, self.rules.zone) {
                return Err(unfit(index, column));
            }
        }
        let row_hash = self.row_hasher.hash(record);
        let identity = if self.rules.key.is_empty() {
            row_hash
        } else {
            let identity = self.rules.identity(record, &mut self.key_hasher);
            identity.ok_or(Fault { column: None, reason: Reason::EmptyKey })?
        };
        let length = u32::try_from(record.raw.len()).expect("a record is held in memory");
        let at = Span { line: record.line, offset: record.offset, length };
        Ok((placed, Entry { identity, row_hash, day: pg_day(placed.day), at }))
    }
}

/// The hash over the names and texts of what is not empty: no new empty column and no order changes it. No value holds
/// a NUL, so that one between them keeps names and values apart.
struct RowHasher {
    /// The columns by name, so that their order in the file does not matter, with what is hashed before each value.
    order: Vec<(usize, Vec<u8>)>,
    hashed: Vec<u8>,
}

impl RowHasher {
    fn new(columns: &[Column]) -> Self {
        let mut order: Vec<_> =
            columns.iter().enumerate().map(|(index, column)| (index, hash_name(&column.name))).collect();
        order.sort_by(|one, other| one.1.cmp(&other.1));
        Self { order, hashed: Vec::new() }
    }

    fn hash(&mut self, record: &Record<'_>) -> u128 {
        self.hashed.clear();
        for (column, name) in &self.order {
            let text = record.field(*column);
            if !text.is_empty() {
                self.hashed.extend_from_slice(name);
                self.hashed.extend_from_slice(text);
                self.hashed.push(0);
            }
        }
        xxh3_128(&self.hashed)
    }
}

fn unfit(index: usize, column: &Column) -> Fault {
    let reason = column.format.kind.map_or(Reason::UnknownType, Reason::DoesNotFit);
    Fault { column: Some(index), reason }
}

fn hash_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// How each row of a binary COPY begins.
pub(super) fn field_count(fields: usize) -> [u8; 2] {
    i16::try_from(fields).expect("a table has at most 1600 columns").to_be_bytes()
}
