//! Sets rejected rows aside while a file is read, in memory first and then beside the file, as `COPY` will want them.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::copy::{SIGNATURE, TRAILER};
use super::dealt::unnamed;
use super::diff::Kept;
use super::identity::KeyHasher;
use super::records::{Malformed, Record};
use super::rows::{Fault, Rules, field_count};
use super::value::{put_bigint, put_bytes, put_null};

/// How much of a rejected record is kept, in bytes.
pub(super) const MAX_RAW: usize = 4096;

const MAX_VALUE: usize = 1024;
const IN_MEMORY: usize = 1 << 20;

/// The rows of a file that were rejected, and their keys.
pub(super) struct Rejects {
    load_id: i64,
    pub rows: Spill,
    /// Keys of rejected rows: what was loaded under them stays.
    kept: Kept,
    hasher: KeyHasher,
    pub count: u64,
    /// Rejected rows without a key that can be read.
    pub without_key: u64,
}

impl Rejects {
    pub fn new(file: &Path, load_id: i64) -> Self {
        Self {
            load_id,
            rows: Spill::new(beside(file, "rejected")),
            kept: Kept::new(&beside(file, "kept")),
            hasher: KeyHasher::default(),
            count: 0,
            without_key: 0,
        }
    }

    /// Gives the keys away. No more come: the file is read.
    pub fn take_kept(&mut self) -> Kept {
        std::mem::take(&mut self.kept)
    }

    /// Sets a record aside that is not well-formed.
    pub fn malformed(&mut self, line: u64, raw: &[u8], reason: &Malformed) -> io::Result<()> {
        self.without_key += 1;
        self.row(line, None, &reason.to_string(), raw)
    }

    /// Sets a record aside that is no row.
    pub fn faulty(&mut self, record: &Record<'_>, fault: Fault, rules: &Rules) -> io::Result<()> {
        match rules.identity(record, &mut self.hasher) {
            Some(identity) => self.kept.add(identity)?,
            None => self.without_key += 1,
        }
        let cell = fault.column.map(|column| (rules.columns[column].name.as_str(), record.field(column)));
        self.row(record.line, cell, &fault.reason.to_string(), record.raw)
    }

    fn row(&mut self, line: u64, cell: Option<(&str, &[u8])>, reason: &str, raw: &[u8]) -> io::Result<()> {
        self.count += 1;
        let out = &mut self.rows.buffer;
        out.extend_from_slice(&field_count(6));
        put_bigint(out, self.load_id);
        put_bigint(out, i64::try_from(line).expect("a file has fewer lines than 2^63"));
        if let Some((column, value)) = cell {
            put_bytes(out, column.as_bytes());
            put_bytes(out, readable(value, MAX_VALUE).as_bytes());
        } else {
            put_null(out);
            put_null(out);
        }
        put_bytes(out, reason.as_bytes());
        put_bytes(out, readable(raw, MAX_RAW).as_bytes());
        self.rows.make_room()
    }
}

/// What Postgres can hold of a text: the beginning, without bytes that are not UTF-8 and without NUL.
pub(super) fn readable(raw: &[u8], max_bytes: usize) -> String {
    let cut = &raw[..raw.len().min(max_bytes)];
    String::from_utf8_lossy(cut).replace('\0', "\u{fffd}")
}

/// A name for what belongs to a spooled file.
pub(super) fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

/// Rows of a binary COPY: in memory while they are few, then in a file without a name.
pub(super) struct Spill {
    buffer: Vec<u8>,
    path: PathBuf,
    file: Option<File>,
}

impl Spill {
    fn new(path: PathBuf) -> Self {
        Self { buffer: SIGNATURE.to_vec(), path, file: None }
    }

    fn make_room(&mut self) -> io::Result<()> {
        if self.buffer.len() < IN_MEMORY {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(unnamed(&self.path)?),
        };
        file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// What lies in the file, from its beginning, and the rest with the end of the COPY.
    pub fn finish(&mut self) -> io::Result<(Option<File>, Vec<u8>)> {
        self.buffer.extend_from_slice(&TRAILER);
        let file = match &self.file {
            Some(file) => {
                let mut file = file.try_clone()?;
                file.seek(SeekFrom::Start(0))?;
                Some(file)
            }
            None => None,
        };
        Ok((file, std::mem::take(&mut self.buffer)))
    }
}
