//! Turns records into rows of `COPY … (format binary)`: the values, the lineage and the hash, or the reason why not.

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use memchr::memchr;
use xxhash_rust::xxh3::xxh3_128;

use super::csv::Record;
use super::layout::{Column, Layout};
use super::value::{is_missing, put_bigint, put_bytes, put_date, put_timestamp};
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
        if std::str::from_utf8(record.raw).is_err() {
            let column = record.fields().position(|field| std::str::from_utf8(field).is_err());
            return Err(Fault { column, reason: Reason::NotUtf8 });
        }
        if memchr(0, record.raw).is_some() {
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

    /// The key of a record that is rejected, as a row of the table of keys to keep; `false` where it cannot be read.
    pub fn put_key(&self, record: &Record<'_>, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        out.extend_from_slice(&field_count(self.key.len()));
        let mut key_bytes = 0;
        for &column in &self.key {
            let text = record.field(column);
            key_bytes += text.len();
            let good = std::str::from_utf8(text).is_ok()
                && memchr(0, text).is_none()
                && key_bytes <= MAX_KEY
                && self.columns[column].format.put(out, text, self.zone) == Ok(false);
            if !good {
                out.truncate(before);
                return false;
            }
        }
        !self.key.is_empty()
    }
}

/// Where rows are copied to: what follows the columns of the file.
#[derive(Debug, Clone)]
pub(super) enum Destination {
    /// The mirrored table: `LINEAGE`.
    Mirrored { account: String, program: String, load_id: i64, now: DateTime<Utc> },
    /// The table of rows to be merged: `STAGING`.
    Staged,
}

/// Makes rows of records.
pub(super) struct Rows {
    pub rules: Rules,
    destination: Destination,
    field_count: [u8; 2],
    /// The columns by name, so that their order in the file does not matter, with what is hashed before each value.
    hash_order: Vec<(usize, Vec<u8>)>,
    hashed: Vec<u8>,
}

impl Rows {
    pub fn new(rules: Rules, destination: Destination) -> Self {
        let lineage = match destination {
            Destination::Mirrored { .. } => super::header::LINEAGE.len(),
            Destination::Staged => super::table::STAGING.len(),
        };
        let mut hash_order: Vec<_> =
            rules.columns.iter().enumerate().map(|(index, column)| (index, hash_name(&column.name))).collect();
        hash_order.sort_by(|one, other| one.1.cmp(&other.1));
        let field_count = field_count(rules.columns.len() + lineage);
        Self { rules, destination, field_count, hash_order, hashed: Vec::new() }
    }

    /// Appends the row; `out` is left as it was where there is a fault.
    pub fn append(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<Placed, Fault> {
        let placed = self.rules.check(record)?;
        let before = out.len();
        out.extend_from_slice(&self.field_count);
        for (index, (text, column)) in record.fields().zip(&self.rules.columns).enumerate() {
            if column.format.put(out, text, self.rules.zone).is_err() {
                out.truncate(before);
                let reason = column.format.kind.map_or(Reason::UnknownType, Reason::DoesNotFit);
                return Err(Fault { column: Some(index), reason });
            }
        }
        let hash = self.hash(record);
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
            Destination::Staged => {
                put_date(out, placed.day);
                put_bytes(out, &hash);
                put_bigint(out, line);
                put_bigint(out, i64::try_from(record.offset).expect("a file is shorter than 2^63 bytes"));
                put_bigint(out, i64::try_from(record.raw.len()).expect("a record is shorter than 2^63 bytes"));
            }
        }
        Ok(placed)
    }

    /// The hash over the names and texts of what is not empty: no new empty column and no order changes it. No value holds
    /// a NUL, so that one between them keeps names and values apart.
    fn hash(&mut self, record: &Record<'_>) -> [u8; 16] {
        self.hashed.clear();
        for (column, name) in &self.hash_order {
            let text = record.field(*column);
            if !text.is_empty() {
                self.hashed.extend_from_slice(name);
                self.hashed.extend_from_slice(text);
                self.hashed.push(0);
            }
        }
        xxh3_128(&self.hashed).to_be_bytes()
    }
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
