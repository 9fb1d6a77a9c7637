//! Streams rows into Postgres: one thread reads and encodes the file while the connection sends what is ready.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc as std_mpsc;

use sqlx::PgConnection;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use super::csv::{Item, Reader};
use super::error::{Error, Place};
use super::rejects::{Rejects, Spill};
use super::rows::Rows;

/// How a binary COPY begins: its signature, no flags, no extension.
pub(super) const SIGNATURE: [u8; 19] = *b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// How it ends.
pub(super) const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

const CHUNK: usize = 128 << 10;
const CHUNKS_AHEAD: usize = 3;
const UNIQUE_VIOLATION: &str = "23505";

/// What to do with a value that does not fit its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnConflict {
    /// Stop: the column shall get another type first.
    Stop,
    /// Reject the row.
    Reject,
}

/// How the copy of a file ended.
pub(super) enum Copied {
    Whole(Counts),
    /// A value calls for another type.
    TypeConflict,
    /// A key stands in the table already, or twice in the file.
    KeyTaken,
}

/// What a file held.
pub(super) struct Counts {
    pub read: u64,
    pub copied: u64,
    pub outside: u64,
    pub rejects: Rejects,
}

/// Copies the records of a file with `statement`. After anything but `Whole` the transaction wants a rollback to a savepoint.
pub(super) async fn file(
    conn: &mut PgConnection,
    statement: &str,
    mut rows: Rows,
    mut rejects: Rejects,
    on_conflict: OnConflict,
    place: &Place,
) -> Result<Copied, Error> {
    let step = "copy the rows";
    let mut copy = conn.copy_in_raw(statement).await.map_err(place.database(step))?;
    let (full, mut to_send) = mpsc::channel::<Vec<u8>>(CHUNKS_AHEAD);
    let (sent, empty) = std_mpsc::channel::<Vec<u8>>();
    let path: PathBuf = place.file.clone();
    let feeder = tokio::task::spawn_blocking(move || {
        let end = feed(&path, &mut rows, &mut rejects, on_conflict, &full, &empty);
        end.map(|end| (end, rejects))
    });
    while let Some(chunk) = to_send.recv().await {
        copy.send(chunk.as_slice()).await.map_err(place.database(step))?;
        // The feeder may be gone already.
        let _ = sent.send(chunk);
    }
    let (end, rejects) = match finished(feeder.await) {
        Ok(end) => end,
        Err(error) => {
            copy.abort("the file cannot be read").await.map_err(place.database(step))?;
            return Err(place.file()(error));
        }
    };
    let Fed::Whole { read, copied, outside } = end else {
        copy.abort("a column needs another type").await.map_err(place.database(step))?;
        return Ok(Copied::TypeConflict);
    };
    match copy.finish().await {
        Ok(_) => Ok(Copied::Whole(Counts { read, copied, outside, rejects })),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNIQUE_VIOLATION) => Ok(Copied::KeyTaken),
        Err(error) => Err(place.database(step)(error)),
    }
}

/// Copies what was set aside.
pub(super) async fn spill(
    conn: &mut PgConnection,
    statement: &str,
    spill: &mut Spill,
    place: &Place,
) -> Result<(), Error> {
    let step = "copy the rejected rows";
    let (file, rest) = spill.finish().map_err(place.file())?;
    let mut copy = conn.copy_in_raw(statement).await.map_err(place.database(step))?;
    if let Some(file) = file {
        let mut file = tokio::fs::File::from_std(file);
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = file.read(&mut chunk).await.map_err(place.file())?;
            if read == 0 {
                break;
            }
            copy.send(&chunk[..read]).await.map_err(place.database(step))?;
        }
    }
    copy.send(rest).await.map_err(place.database(step))?;
    copy.finish().await.map_err(place.database(step))?;
    Ok(())
}

/// The result of a thread; its panic goes on here.
pub(super) fn finished<T>(result: Result<T, tokio::task::JoinError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

enum Fed {
    Whole { read: u64, copied: u64, outside: u64 },
    TypeConflict,
    NobodyListens,
}

fn feed(
    path: &Path,
    rows: &mut Rows,
    rejects: &mut Rejects,
    on_conflict: OnConflict,
    full: &mpsc::Sender<Vec<u8>>,
    empty: &std_mpsc::Receiver<Vec<u8>>,
) -> io::Result<Fed> {
    let mut reader = Reader::new(File::open(path)?);
    reader.next()?;
    reader.expect_fields(rows.rules.columns.len());

    let (mut read, mut copied, mut outside) = (0, 0, 0);
    let mut chunk = SIGNATURE.to_vec();
    while let Some(item) = reader.next()? {
        read += 1;
        match item {
            Item::Malformed { line, raw, reason } => rejects.malformed(line, raw, reason)?,
            Item::Record(record) => match rows.append(&record, &mut chunk) {
                Ok(placed) => {
                    copied += 1;
                    outside += u64::from(placed.outside);
                }
                Err(fault) if on_conflict == OnConflict::Stop && fault.reason.is_type_conflict() => {
                    return Ok(Fed::TypeConflict);
                }
                Err(fault) => rejects.faulty(&record, fault, &rows.rules)?,
            },
        }
        if chunk.len() >= CHUNK {
            let next = empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK + CHUNK / 8));
            if full.blocking_send(std::mem::replace(&mut chunk, next)).is_err() {
                return Ok(Fed::NobodyListens);
            }
            chunk.clear();
        }
    }
    chunk.extend_from_slice(&TRAILER);
    if full.blocking_send(chunk).is_err() {
        return Ok(Fed::NobodyListens);
    }
    Ok(Fed::Whole { read, copied, outside })
}
